"""Files made to harm whoever reads them, at every place where a file is read: nothing is executed, nothing hangs or swells.

Each is refused with a sentence; data, and entries that nobody reads, may also be passed over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign import artefacts, hostile_data, hostile_weights, verbs
from tests.campaign.attempts import Attempt
from tests.campaign.hostile_weights import MARKER, Made, Rng

SECONDS, MEMORY = 20.0, 1024.0
"""What reading a hostile file may take: seconds of a core, MiB beyond the artefacts."""
REFUSED = (2, 3, 4, 5)
"""Exit codes of recipes, plugins, data and checkpoints."""


@dataclass(frozen=True)
class Kind:
    """Hostile files of one kind.

    Args:
        make: writes the number-th below a folder.
        passed: going on is as good as refusing.
    """

    name: str
    make: Callable[[Path, int, Rng], Made]
    passed: bool = False


KINDS = (
    Kind("pickles from anywhere", hostile_weights.foreign_pickle),
    Kind("pickles as own files", hostile_weights.own_pickle),
    Kind("pickles from anywhere", hostile_weights.foreign_pickle),
    Kind("archives", hostile_weights.zip_header),
    Kind("safetensors", hostile_weights.safetensors),
    Kind("ONNX", hostile_weights.onnx),
    Kind("pickles from anywhere", hostile_weights.foreign_pickle),
    Kind("YAML", hostile_data.yaml_bomb, passed=True),
    Kind("JSON", hostile_data.json_bomb, passed=True),
    Kind("arrays", hostile_data.arrays, passed=True),
    Kind("containers", hostile_data.containers, passed=True),
    Kind("prepared sets", hostile_data.prepared, passed=True),
)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each kind in turn; within a kind, the next of its files, from one that the seed chooses."""
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = artefacts.make_data(folder / "data")
        begun = artefacts.make_runs(folder / "begun", data)
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            if kinds and kind.name not in kinds:
                continue
            place = folder / "try"
            shutil.copytree(begun, place, symlinks=True)
            before = sum(other.name == kind.name for other in KINDS[: number % len(KINDS)])
            each = sum(other.name == kind.name for other in KINDS)
            turn = seed + each * (number // len(KINDS)) + before
            yield attempt(kind, place, data, turn, np.random.default_rng((seed, number)), number)
            shutil.rmtree(place)


def plant() -> None:
    """Let weights be read as torch did before it was careful."""
    import pickle
    import zipfile

    from medcoss_cli.store import plain

    def load(path: Path, *more: Any, **options: Any) -> dict[str, Any]:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        else:
            content = path.read_bytes()
        unpickled: dict[str, Any] = pickle.loads(content)  # noqa: S301 - this is the fault
        return unpickled

    careful = plain.load

    def trusting(path: Path, *more: Any, **options: Any) -> dict[str, Any]:
        try:
            return careful(path, *more, **options)
        except Exception:
            return load(path)

    plain.load = trusting


def attempt(kind: Kind, place: Path, data: Path, turn: int, rng: Rng, number: int) -> Attempt:
    """One file, read by one verb."""
    verb, what = kind.make(place, turn, rng)
    environment = artefacts.environment(data) | {"MEDCOSS_PREPARED": str(place / "prepared")}
    ended = verbs.run(*verb, folder=place, environment=environment, seconds=verbs.HANG)
    typed = f"{what}; medcoss {' '.join(verb)}: {ended.said[-600:]}"
    outcome = "goes on" if ended.code == 0 else f"exit {ended.code}"
    fine = ended.code in REFUSED or (kind.passed and ended.code == 0)
    if (place / MARKER).exists():
        outcome, fine = "executed", False
    elif ended.is_fault:
        outcome, fine = ended.outcome, False
    elif ended.seconds > SECONDS:
        outcome, fine = "too long", False
        typed = f"{ended.seconds:.0f} s; {typed}"
    elif ended.peak > MEMORY:
        outcome, fine = "too much memory", False
        typed = f"{ended.peak:.0f} MiB; {typed}"
    return Attempt(kind.name, number, outcome, typed, fine)
