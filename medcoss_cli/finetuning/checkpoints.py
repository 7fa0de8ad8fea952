"""The networks that a run of fine-tuning left: found, rebuilt, and made ready for samples as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.finetuning.spec import load_kind, load_modality, restore, stored_spec
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.state import rebuild, shape_of
from medcoss_cli.registry.configure import said_by
from medcoss_cli.store import finetuned, shareable
from medcoss_cli.tasks import TaskKind
from medcoss_cli.tasks.predictor import Decode, Predictor
from medcoss_cli.tasks.spec import TaskSpec


@dataclass(frozen=True)
class TrainedSeed:
    """One seed's network, ready to be used."""

    seed: int
    kind: TaskKind
    spec: TaskSpec
    modality: CompleteModality
    network: TaskNetwork
    facts: dict[str, Any]

    def predictor(self, device: torch.device) -> Predictor:
        """For samples as they are read."""
        return predictor_of(self.kind, self.spec, self.modality, self.network, device)


def trained_seeds(run: Path, screen: Screen, seed: int | None = None) -> Iterator[TrainedSeed]:
    """The networks of a run, seed by seed.

    Raises: UsageError where there are none, CheckpointError where the plugin reads otherwise than when they were trained.
    """
    files = sorted(
        (int(path.parent.name[5:]), path) for path in run.glob("seed-*/model.pt") if path.parent.name[5:].isdecimal()
    )
    if not files:
        raise UsageError(
            "there is no fine-tuned model here", where=run, fix="name a folder that `medcoss finetune` left"
        )
    if seed is not None and seed not in dict(files):
        raise UsageError(
            f"there is no seed {seed} in this run", where=run, fix=f"it has {', '.join(str(s) for s, _ in files)}"
        )
    for number, path in files:
        if seed in (None, number):
            stored = finetuned.load(path)
            if not stored.weights:
                raise CheckpointError("it holds no weights", where=path, fix="use another copy of it, or train again")
            spec = stored_spec(stored, path)
            kind, modality = load_kind(spec), load_modality(spec, screen, path)
            screen = Screen()  # a note on the plugin is printed once
            with said_by(path):
                network = restore(spec, modality, stored.weights)
            yield TrainedSeed(number, kind, spec, modality, network, stored.facts)


def best_seed(run: Path, seed: int | None, screen: Screen) -> TrainedSeed:
    """The network of a seed, or of the one that is best on validation, which is printed where there are several."""
    trained = list(trained_seeds(run, screen, seed))
    if len(trained) == 1:
        return trained[0]
    scores = {item.seed: _score(item, run) for item in trained}
    best = max(trained, key=lambda item: (scores[item.seed], -item.seed))
    screen.say(f"seed {best.seed} of {len(trained)}, the best on validation; --seed N takes another")
    return best


def _score(trained: TrainedSeed, run: Path) -> float:
    validation = trained.facts.get("validation")
    try:
        return float(trained.kind.criterion(validation)) if validation else 0.0
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"the validation scores of seed {trained.seed} are damaged", where=run, fix="name a seed with --seed N"
        ) from error


def renewed(trained: TrainedSeed, source: Path, screen: Screen) -> TaskNetwork:
    """The same head on the encoder and tokenizer of a newer checkpoint; no plugin but the task's own is needed.

    Raises: UsageError for a head that was trained together with its encoder, CheckpointError for an encoder of another kind,
        or one that was trained with another plugin than the installed one.
    """
    spec = trained.spec
    if "network" in spec.encoder:
        raise UsageError(
            f"this run's network is {spec.encoder['title']}, which has no newer encoder",
            where="--encoder",
            fix="name a run on a checkpoint of medcoss",
        )
    if not spec.head["frozen"]:
        raise UsageError(
            "this head was trained together with its encoder, so a newer one does not fit it",
            where="--encoder",
            fix="fine-tune with head.probe=true or head.freeze=true",
        )
    newer = shareable.read(source)
    if spec.modality in newer.modalities:
        with said_by(source):
            rebuild(spec.modality, newer, screen)
    key, shape = spec.tokenizer, shape_of(newer)
    if key not in newer.tokenizers or vars(shape) != spec.encoder:
        raise CheckpointError(
            f"its encoder (width {shape.width}, depth {shape.depth}; tokenizers {', '.join(newer.tokenizers)}) "
            f"is not of the kind the head was trained on (width {spec.encoder['width']}, "
            f"depth {spec.encoder['depth']}; {key})",
            where=source,
        )
    network = restore(spec, trained.modality, trained.network.state_dict())
    network.take(newer.weights, key)
    return network


def predictor_of(
    kind: TaskKind, spec: TaskSpec, modality: CompleteModality, network: TaskNetwork, device: torch.device
) -> Predictor:
    """The network on a device, with the modality's own rule for what it sees."""
    return Predictor(kind, spec, modality, network.on(device), decoder(modality))


def decoder(modality: CompleteModality) -> Decode:
    """The modality's own rule from stored integers to what a network sees."""
    intensity = modality.intensity
    assert intensity is not None

    def decode(integers: Array, scale: float, offset: float) -> Array:
        rows = len(integers)
        scales, offsets = torch.full((rows,), scale), torch.full((rows,), offset)
        normalised: Array = intensity.decode(torch.from_numpy(integers), scales, offsets).numpy()
        return normalised

    return decode
