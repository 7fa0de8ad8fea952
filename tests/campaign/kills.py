"""kill -9 at chosen file operations: a run is resumed, or typed again, and ends with what an uninterrupted one leaves."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medcoss_cli.store import plain
from tests.campaign import artefacts, faults, verbs
from tests.campaign.attempts import Attempt


@dataclass(frozen=True)
class Case:
    """A verb that is killed.

    Args:
        needs: verbs that are run before, uninterrupted.
        verb: what is killed; then `resume` where its run is there, else the verb again.
        leaves: the folder, in which it changes files, that is compared.
        again: what is added where the verb is typed again.
    """

    name: str
    needs: Sequence[Sequence[str]]
    verb: Sequence[str]
    leaves: str
    resume: Sequence[str] | None = None
    again: Sequence[str] = ()


PRETRAIN = ("pretrain", "tiny.yaml", "--name", "a")
EXTEND = ("extend", "--modality", "pathology", "--from", "runs/a/ckpt.pt", "--name", "b")
SHORT = ("size=[32,32]", "tokenizer=patch2d-8", "train.epochs=0.5", "train.batch=8", "train.warmup=0")
EXTEND_NOW = (*EXTEND, *SHORT, "train.save_minutes=1e-9")
CASES = (
    Case("pretrain", (), PRETRAIN, "runs/a", ("pretrain", "--resume", "runs/a")),
    Case("extend", (PRETRAIN,), EXTEND_NOW, "runs/b", ("extend", "--resume", "runs/b")),
    Case(
        "pretrain with init",
        (PRETRAIN,),
        ("pretrain", "tiny.yaml", "init=runs/a/ckpt.pt", "--name", "b"),
        "runs/b",
        ("pretrain", "--resume", "runs/b"),
    ),
    Case(
        "finetune classes",
        (),
        ("finetune", "classes.yaml", "--name", "c", "--seeds", "0,1"),
        "runs/c",
        ("finetune", "--resume", "runs/c"),
    ),
    Case("finetune masks", (), ("finetune", "masks.yaml", "--name", "m"), "runs/m", ("finetune", "--resume", "runs/m")),
    Case(
        "export",
        (PRETRAIN,),
        ("export", "runs/a/ckpt.pt", "--modality", "xray", "-o", "out/x.onnx"),
        "out",
        again=("--overwrite",),
    ),
    Case("prepare", (), ("data", "prepare", "data/xray", "--modality", "xray"), "prepared"),
)
TIMES = {"started", "finished", "seconds", "waited", "command", "peak_memory_gib", "step_seconds", "tested", "prepared"}
"""What of a file may differ from run to run."""


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Kill each case, or those named, at places drawn from all of its file operations."""
    cases = [case for case in CASES if not kinds or case.name in kinds]
    rng = np.random.default_rng((seed, 1))
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = artefacts.make_data(folder / "data")
        prepared: dict[str, tuple[Path, dict[str, Any], int]] = {}
        for number in range(count):
            case = cases[number % len(cases)]
            if case.name not in prepared:
                prepared[case.name] = _reference(case, folder / f"{CASES.index(case)}", data)
            begun, whole, operations = prepared[case.name]
            at = int(rng.integers(1, operations + 1))
            yield _kill(case, begun, folder / "try", data, whole, at, number)
            shutil.rmtree(folder / "try")


def _reference(case: Case, folder: Path, data: Path) -> tuple[Path, dict[str, Any], int]:
    """The folder before the verb, what an uninterrupted one leaves, and its number of file operations."""
    begun, place = folder / "begun", folder / "whole"
    begun.mkdir(parents=True)
    artefacts.write_recipes(begun)
    (begun / "data").symlink_to(data)
    for verb in case.needs:
        artefacts.must(*verb, folder=begun, data=data)
    shutil.copytree(begun, place, symlinks=True)
    ended = verbs.run(
        *case.verb,
        folder=place,
        environment=_environment(data, place),
        before=partial(faults.install, place, 0, faults.kill),
        seconds=300,
    )
    if ended.code != 0:
        raise RuntimeError(f"{case.name}: {ended.outcome}\n{ended.said}")
    return begun, left_in(place / case.leaves), faults.calls(folder / ".calls-whole")


def _environment(data: Path, place: Path) -> dict[str, str]:
    return artefacts.environment(data) | {"MEDCOSS_PREPARED": str(place / "prepared")}


def _kill(case: Case, begun: Path, place: Path, data: Path, whole: dict[str, Any], at: int, number: int) -> Attempt:
    shutil.copytree(begun, place, symlinks=True)
    environment = _environment(data, place)
    killed = verbs.run(
        *case.verb,
        folder=place,
        environment=environment,
        before=partial(faults.install, place, at, faults.kill),
        seconds=120,
    )
    if killed.code != -9:
        return Attempt(case.name, number, "was not killed", killed.said[-300:], fine=killed.code == 0)
    verb = case.resume if case.resume is not None and (place / case.leaves).exists() else case.verb
    last = verbs.run(*verb, folder=place, environment=environment, seconds=120)
    if last.code == 2 and case.again:
        verb = (*verb, *case.again)
        last = verbs.run(*verb, folder=place, environment=environment, seconds=120)
    typed = f"killed at operation {at}, then medcoss {' '.join(verb)}: "
    if last.code != 0:
        return Attempt(case.name, number, f"ends with {last.code}", typed + last.said[-400:], fine=False)
    faults_found = differences(whole, left_in(place / case.leaves))
    if case.leaves.startswith("runs/"):
        faults_found += [f"{path.name} is left in runs" for path in (place / "runs").glob(".unfinished*")]
    if faults_found:
        return Attempt(case.name, number, "differs", typed + "; ".join(faults_found[:5]), fine=False)
    return Attempt(case.name, number, "the same")


def left_in(folder: Path) -> dict[str, Any]:
    """All files below a folder, by name, as values that are the same from run to run."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: _content(folder / name) for name in names if not name.endswith((".lock", "log.txt"))}


def _content(path: Path) -> Any:
    if path.name == "training-data.json":  # hashes with a salt of their own
        return sorted(json.loads(path.read_text()))
    if path.suffix == ".pt":
        return plain.load(path)
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [_timeless(json.loads(line)) for line in lines]
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry) for key, entry in value.items() if key not in TIMES}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def differences(expected: Any, found: Any, at: str = "") -> list[str]:
    """Where two values differ; tensors bit by bit."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{at}/{key} is missing" for key in expected if key not in found]
        lines += [f"{at}/{key} is left over" for key in found if key not in expected]
        return lines + [
            line for k in expected if k in found for line in differences(expected[k], found[k], f"{at}/{k}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for i, (a, b) in enumerate(zip(expected, found, strict=True))
            for line in differences(a, b, f"{at}/{i}")
        ]
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        same = expected.shape == found.shape and expected.dtype == found.dtype and torch.equal(expected, found)
        return [] if same else [f"{at} differs"]
    return [] if type(expected) is type(found) and (expected == found or expected != expected) else [f"{at} differs"]
