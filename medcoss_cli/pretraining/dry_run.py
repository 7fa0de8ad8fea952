"""What a run would do, from headers alone: --dry-run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medcoss_cli.console import Screen
from medcoss_cli.data.read import find
from medcoss_cli.pretraining.job import Recipe
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import Stage
from medcoss_cli.registry.configure import for_stage
from medcoss_cli.registry.discovery import load_strategy
from medcoss_cli.training.runs import Options, folders


def outlook(recipe: Recipe, stages: Sequence[Stage], state: State, options: Options, screen: Screen) -> None:
    """Find every stage's records and show size, tokenizer and about how many steps; nothing is written.

    Raises what the run itself would raise for recipe, plugins, folders and sizes.
    """
    root, _ = folders(recipe, options)
    rehearses = load_strategy(recipe.strategy).rehearses
    kept = float(sum(len(samples) for samples in state.buffer.values()))
    known = dict(state.model.modalities)
    rows = []
    for number, stage in enumerate(stages, len(state.history) + 1):
        decoder = recipe.decoder.model_dump() if recipe.decoder else None
        modality = for_stage(
            stage.modality, known, screen, decoder=decoder, offered=state.model.offered, **stage.parts()
        )
        known[modality.name] = modality
        found = find(modality, root / stage.data, recipe.data.split, screen)
        share = recipe.rehearsal.share
        part = 0.0
        if kept and rehearses:
            part = max(kept / (kept + len(found.records)), 0.0 if share == "proportional" else float(share))
        new = math.ceil(
            (stage.epochs or recipe.train.epochs) * len(found.records) / (stage.batch or recipe.train.batch)
        )
        size = " x ".join(map(str, modality.size))
        rows.append(
            [
                str(number),
                modality.name,
                str(len(found.records)),
                size,
                modality.tokenizer.key,
                f"{new / (1 - part):.0f}",
            ]
        )
        kept += recipe.rehearsal.ratio * len(found.records)
    screen.table("What would be done", ["stage", "modality", "records", "size", "tokenizer", "about steps"], rows)
    weights = sum(p.numel() for p in state.model.encoder.parameters())
    screen.say(f"encoder of {weights / 1e6:.1f} million weights; nothing was written")
