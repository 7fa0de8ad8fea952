"""How often a frozen head is right: just after its own stage, and under the encoder after every later one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import UsageError
from medcoss_cli.store import atomic, typed

ABOVE = 0.15
"""A head counts if it validates this much better than guessing: what was never learned cannot be forgotten."""


@dataclass
class Head:
    """One modality's linear head on the frozen encoder, tested on images of which neither was trained.

    Args:
        title: of the modality, for people.
        cases: test images.
        guessing: accuracy of naming the most frequent class every time.
        validation: accuracy by which the head was chosen; the test set is not looked at for that.
        accuracy: on the test images, by the modality that was learned last; the first entry is the head's own stage.
    """

    title: str
    cases: int
    guessing: float
    validation: float
    accuracy: dict[str, float] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Is there something to forget?"""
        return self.validation >= self.guessing + ABOVE


@dataclass(frozen=True)
class _Kept:
    """accuracy.json."""

    seed: int
    heads: dict[str, dict[str, Head]]


class Accuracies:
    """All heads by label ("with rehearsal", "without") and modality, kept in accuracy.json from one call to the next.

    Raises: UsageError where the folder holds a demonstration with another seed, CheckpointError where it is damaged.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.path, self.seed = folder / "accuracy.json", seed
        self.heads: dict[str, dict[str, Head]] = {}
        if self.path.exists():
            fix = "remove the folder; the demonstration then begins again"
            kept = typed.read_json(_Kept, self.path, fix=fix, what="what is known of the heads")
            if kept.seed != seed:
                raise UsageError(
                    f"this demonstration was begun with seed {kept.seed}, not {seed}",
                    where=folder,
                    fix=f"medcoss demo {folder} --seed {kept.seed}, or another folder",
                )
            self.heads = kept.heads

    def write(self) -> None:
        """Keep what is known so far."""
        heads = {label: {name: asdict(head) for name, head in heads.items()} for label, heads in self.heads.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(self.path, json.dumps({"seed": self.seed, "heads": heads}, indent=1).encode())

    def shown(self) -> str | None:
        """The modality with the longest way since its own stage among those that every label learned."""
        labels = list(self.heads.values())
        names = [name for name in labels[0] if all(name in heads and heads[name].learned for heads in labels)]
        return max(names, key=lambda name: len(labels[0][name].accuracy), default=None)

    def table(self, screen: Screen) -> None:
        """Before and after, with rehearsal and without, beside guessing."""
        columns = ["head", "test images", "guessing"]
        columns += [f"{label}: {when}" for label in self.heads for when in ("own stage", "at the end")]
        rows = []
        for name, first in next(iter(self.heads.values())).items():
            then: Sequence[Head] = [heads[name] for heads in self.heads.values()]
            cells = [f"{value:.2f}" for head in then for value in ends(head.accuracy)]
            note = "" if all(head.learned for head in then) else " (not learned)"
            rows.append([name + note, str(first.cases), f"{first.guessing:.2f}", *cells])
        screen.table("Accuracy of a head that was trained once, right after its own stage", columns, rows)


def ends(accuracy: Mapping[str, float]) -> tuple[float, float]:
    """The first and the last accuracy."""
    values = list(accuracy.values())
    return values[0], values[-1]
