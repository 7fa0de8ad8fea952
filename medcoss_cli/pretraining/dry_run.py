"""What a run would do, from headers alone: --dry-run."""

from __future__ import annotations

from collections.abc import Sequence

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import turns_of
from medcoss_cli.data.read import find
from medcoss_cli.kit.sources.places import local
from medcoss_cli.pretraining.job import Recipe
from medcoss_cli.pretraining.rehearsal import buffer_size
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import AnyStage
from medcoss_cli.registry.configure import for_stage, reading
from medcoss_cli.registry.discovery import load_strategy
from medcoss_cli.training.runs import Options, folders


def outlook(recipe: Recipe, stages: Sequence[AnyStage], state: State, options: Options, screen: Screen) -> None:
    """Find every stage's records and show size, tokenizer and about how many steps; nothing is written.

    Raises what the run itself would raise for recipe, plugins, folders and sizes.
    """
    root, _ = folders(recipe, options)
    rehearses = load_strategy(recipe.strategy.name).rehearses
    buffered = sum(len(samples) for samples in state.buffer.values())
    modalities = dict(state.model.modalities)
    rows = []
    for number, stage in enumerate(stages, len(state.history) + 1):
        counts, lines = [], []
        for member in stage.members:
            decoder = recipe.decoder.model_dump() if recipe.decoder else None
            modality = for_stage(
                member.modality,
                modalities,
                screen,
                decoder=decoder,
                offered=state.model.offered,
                positions=recipe.positions,
                **member.parts(),
            )
            modalities[modality.name] = modality
            part = reading(modality, recipe.data.reading)
            listing = find(
                part, local(member.data, root, screen.say), recipe.data.split, screen, columns=member.columns
            )
            counts.append(len(listing.records))
            size = " x ".join(map(str, modality.size))
            lines.append([str(number), modality.name, str(counts[-1]), size, modality.tokenizer.key])
        train, share = recipe.train, recipe.rehearsal.share
        mix = train.accumulate if train.mix else 1
        turns, _ = turns_of(
            sum(counts),
            buffered if rehearses else 0,
            (stage.batch or train.batch) // mix,
            stage.epochs or train.epochs,
            None if share == "proportional" else float(share),
            mix,
        )
        # steps are those of the whole stage: on its first line alone
        rows += [[*line, str(turns // mix) if line is lines[0] else ""] for line in lines]
        buffered += sum(buffer_size(count, recipe.rehearsal.ratio) for count in counts)
    screen.table("Plan", ["stage", "modality", "records", "size", "tokenizer", "about steps"], rows)
    weights = sum(p.numel() for p in state.model.encoder.parameters())
    screen.say(f"encoder of {weights / 1e6:.1f} million parameters; nothing was written")
