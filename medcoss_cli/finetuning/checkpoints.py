"""The networks that a run of fine-tuning left: found, rebuilt, and made ready for samples as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.finetuning.predictor import Applied, Decode
from medcoss_cli.finetuning.spec import Task
from medcoss_cli.model.finetuned import Tuned
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.store import finetuned
from medcoss_cli.tasks.lesson import criterion


@dataclass(frozen=True)
class Trained:
    """One seed's network, ready to be used."""

    seed: int
    task: Task
    modality: CompleteModality
    network: Tuned
    facts: dict[str, Any]


def trained(run: Path, seed: int | None = None) -> Iterator[Trained]:
    """The networks of a run, seed by seed. Raises: UsageError where there are none."""
    found = sorted(
        (int(path.parent.name[5:]), path) for path in run.glob("seed-*/model.pt") if path.parent.name[5:].isdecimal()
    )
    if not found:
        raise UsageError(
            "there is no fine-tuned model here", where=run, fix="name a folder that `medcoss finetune` left"
        )
    if seed is not None and seed not in dict(found):
        raise UsageError(
            f"there is no seed {seed} in this run", where=run, fix=f"it has {', '.join(str(s) for s, _ in found)}"
        )
    for number, path in found:
        if seed in (None, number):
            stored = finetuned.load(path)
            try:
                task = Task(**stored.task)
            except TypeError as error:
                raise CheckpointError("the model's task is damaged", where=path) from error
            modality = task.load_modality()
            yield Trained(number, task, modality, task.build(modality, stored.weights), stored.facts)


def best(run: Path, seed: int | None, screen: Screen) -> Trained:
    """The network of a seed, or of the one that validated best, said aloud where there are several."""
    known = list(trained(run, seed))
    scores = {one.seed: criterion(one.facts["validation"]) if one.facts.get("validation") else 0.0 for one in known}
    one = max(known, key=lambda one: (scores[one.seed], -one.seed))
    if len(known) > 1:
        screen.say(f"seed {one.seed} of {len(known)}, the best on validation; --seed N takes another")
    return one


def renewed(one: Trained, model: Model, source: Path) -> Tuned:
    """The same head on the encoder and tokenizer of a newer model.

    Args:
        source: the checkpoint that the model comes from, for messages.

    Raises: UsageError for a head that was trained together with its encoder, CheckpointError for an encoder of another kind.
    """
    if not one.task.head["frozen"]:
        raise UsageError(
            "this head was trained together with its encoder, so a newer one does not fit it",
            where="--encoder",
            fix="fine-tune with head.probe=true or head.freeze=true",
        )
    key = one.task.tokenizer
    if key not in model.tokenizers or vars(model.shape) != one.task.encoder:
        raise CheckpointError(
            f"its encoder (width {model.shape.width}, depth {model.shape.depth}; tokenizers {', '.join(model.tokenizers)}) "
            f"is not of the kind the head was trained on (width {one.task.encoder['width']}, "
            f"depth {one.task.encoder['depth']}; {key})",
            where=source,
        )
    network = one.task.build(one.modality, one.network.state_dict())
    network.take(model.state_dict(), key)
    return network


def applied(task: Task, modality: CompleteModality, network: Tuned, device: torch.device) -> Applied:
    """The network on a device, with the modality's own rule for what it sees."""
    return Applied(task, modality, network.on(device), decoder(modality))


def decoder(modality: CompleteModality) -> Decode:
    """The modality's own rule from stored integers to what a network sees."""
    intensity = modality.intensity
    assert intensity is not None

    def decode(integers: Array, scale: float, offset: float) -> Array:
        rows = len(integers)
        scales, offsets = torch.full((rows,), scale), torch.full((rows,), offset)
        seen: Array = intensity.decode(torch.from_numpy(integers), scales, offsets).numpy()
        return seen

    return decode
