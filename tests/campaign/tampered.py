"""medcoss' own files, changed by somebody: each verb that reads one goes on, or says in a sentence which file is damaged."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.campaign import artefacts, verbs
from tests.campaign.attempts import Attempt, turns

SECONDS, MEMORY = 20.0, 1024.0
"""What reading a tampered file may take: seconds of a core, MiB beyond the artefacts."""
Values = Callable[[np.random.Generator], Any]
HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2**14,
        2**31,
        2**63,
        -(2**63),
        1e308,
        float("nan"),
        0.5,
        "",
        "x",
        "../../x",
        "\0",
        "a" * 5000,
    ),
    *([], {}, [[]], [None], {"": None}, [2**31] * 3, "\ud800", "1e9999", [1] * 70, {"a": {"a": {"a": 1}}}),
)


def changed(tree: Any, rng: np.random.Generator) -> Any:
    """A tree of plain values with one place removed, replaced, doubled or nested."""
    tree = copy.copy(tree)
    if not isinstance(tree, dict | list) or not tree:
        return hostile(tree, rng)
    places = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    at = places[int(rng.integers(len(places)))]
    if isinstance(tree[at], dict | list) and tree[at] and rng.random() < 0.75:
        tree[at] = changed(tree[at], rng)
    elif rng.random() < 0.3:
        del tree[at]
    else:
        tree[at] = hostile(tree[at], rng)
    return tree


def hostile(value: Any, rng: np.random.Generator) -> Any:
    """Something in place of a value."""
    kind = int(rng.integers(8))
    if kind == 0:
        for _ in range(int(rng.integers(1, 60))):
            value = [value]
        return value
    if kind == 1:
        return [value, value]
    if kind == 2 and isinstance(value, int | float):
        return value * int(rng.choice([-1, 2, 1000, 10**6]))
    if kind == 3 and isinstance(value, torch.Tensor):
        return value.flatten()[: value.numel() // 2]
    return HOSTILE[int(rng.integers(len(HOSTILE)))]


def change_json(path: Path, rng: np.random.Generator) -> None:
    """A JSON file or, of .jsonl, one line of it; now and then one that is no JSON, or nested too deeply."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    at = int(rng.integers(len(lines)))
    kind = rng.random()
    if kind < 0.05:
        lines[at] = lines[at][: len(lines[at]) // 2]
    elif kind < 0.1:
        lines[at] = "[" * 100_000 + "]" * 100_000
    elif kind < 0.15:
        lines[at] = lines[at].replace(":", ": [", 1)
    else:
        lines[at] = json.dumps(changed(json.loads(lines[at]), rng))
    path.write_text("\n".join(lines), encoding="utf-8")


def change_one(folder: Path, pattern: str, rng: np.random.Generator) -> None:
    """One of the JSON files below a folder."""
    paths = sorted(folder.glob(pattern))
    change_json(paths[int(rng.integers(len(paths)))], rng)


def change_tensors(path: Path, rng: np.random.Generator) -> None:
    """A file in torch's format."""
    content = torch.load(path, weights_only=True)
    try:
        torch.save(changed(content, rng), path)
    except UnicodeEncodeError:  # half of a surrogate pair
        path.write_bytes(path.read_bytes()[:100])


def change_safetensors(path: Path, rng: np.random.Generator) -> None:
    """The header of a safetensors file, or one of the JSON texts in its metadata."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    about = header["__metadata__"]
    key = list(about)[int(rng.integers(len(about)))]
    if about[key][:1] in "{[" and rng.random() < 0.9:
        about[key] = json.dumps(changed(json.loads(about[key]), rng))
    else:
        header = changed(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def change_onnx(path: Path, rng: np.random.Generator) -> None:
    """What an ONNX file says of itself."""
    import onnx

    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == "medcoss":
            entry.value = json.dumps(changed(json.loads(entry.value), rng))
    onnx.save(model, str(path))


@dataclass(frozen=True)
class Case:
    """A file, how it is changed, and the verbs that read it."""

    file: str
    change: Callable[[Path, np.random.Generator], None]
    verbs: Sequence[Sequence[str]]


PICTURES = "data/xray"
_EXTEND = ("extend", "--modality", "pathology", "--dry-run", "size=[32,32]", "tokenizer=patch2d-8")
CASES = (
    Case(
        "runs/a/run.json",
        change_json,
        (("pretrain", "--resume", "runs/a"), ("report", "runs/a"), ("checkpoint", "show", "runs/a")),
    ),
    Case(
        "runs/c/run.json",
        change_json,
        (("finetune", "--resume", "runs/c"), ("evaluate", "runs/c"), ("report", "runs/c")),
    ),
    Case("runs/a/retention.json", change_json, (("report", "runs/a"),)),
    Case("runs/a/metrics.jsonl", change_json, (("report", "runs/a"), ("pretrain", "--resume", "runs/a"))),
    Case("runs/c/results.json", change_json, (("report", "runs/c"),)),
    Case("runs/c/seed-0/result.json", change_json, (("finetune", "--resume", "runs/c"), ("report", "runs/c"))),
    Case("runs/c/training-data.json", change_json, (("evaluate", "runs/c"),)),
    Case(
        "runs/c/seed-0/model.pt",
        change_tensors,
        (
            ("predict", "runs/c", PICTURES, "-o", "p"),
            ("export", "--run", "runs/c", "-o", "n.onnx"),
            ("evaluate", "runs/c"),
        ),
    ),
    Case(
        "runs/m/seed-0/model.pt", change_tensors, (("predict", "runs/m", "data/ct", "-o", "p"), ("evaluate", "runs/m"))
    ),
    Case(
        "runs/o/seed-0/model.pt",
        change_tensors,
        (("predict", "runs/o", PICTURES, "-o", "p"), ("export", "--run", "runs/o", "-o", "n.onnx")),
    ),
    Case("runs/c/start.pt", change_tensors, (("finetune", "--resume", "runs/c"),)),
    Case(
        "runs/a/ckpt.pt",
        change_tensors,
        (
            ("checkpoint", "show", "runs/a/ckpt.pt"),
            ("embed", "runs/a/ckpt.pt", PICTURES, "--modality", "xray", "-o", "f.npz"),
            (*_EXTEND, "--from", "runs/a/ckpt.pt"),
            ("finetune", "classes.yaml", "--from", "runs/a/ckpt.pt", "--dry-run"),
            ("checkpoint", "strip", "runs/a/ckpt.pt", "s2.safetensors"),
            ("pretrain", "--resume", "runs/a"),
        ),
    ),
    Case("runs/stopped/resume.pt", change_tensors, (("pretrain", "--resume", "runs/stopped"),)),
    Case(
        "s.safetensors",
        change_safetensors,
        (
            ("checkpoint", "show", "s.safetensors"),
            ("finetune", "classes.yaml", "--from", "s.safetensors", "--dry-run"),
            ("embed", "s.safetensors", PICTURES, "--modality", "xray", "-o", "f.npz"),
        ),
    ),
    Case("x.onnx", change_onnx, (("embed", "x.onnx", PICTURES, "-o", "f.npz"),)),
    Case("c.onnx", change_onnx, (("predict", "c.onnx", PICTURES, "-o", "p"),)),
    Case(
        "prepared",
        lambda path, rng: change_one(path, "*/index.json", rng),
        (
            ("pretrain", "tiny.yaml", "--name", "z"),
            ("data", "prepare", PICTURES, "--modality", "xray"),
            ("finetune", "masks.yaml", "--name", "z"),
        ),
    ),
    Case(
        "runs/compared/cells",
        lambda path, rng: change_one(path, "*.json", rng),
        (artefacts.COMPARE, (*artefacts.COMPARE, "--dry-run"), (*artefacts.COMPARE, "--only", "tiles")),
    ),
)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each file in turn, changed at a place that is drawn, and read by one of its verbs."""
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = artefacts.make_data(folder / "data")
        begun = artefacts.make_runs(folder / "begun", data)
        artefacts.make_comparison(begun, data)
        for number, case, rng in turns(CASES, count, seed, kinds, attrgetter("file")):
            verb = case.verbs[number // len(CASES) % len(case.verbs)]
            place = folder / "try"
            shutil.copytree(begun, place, symlinks=True)
            yield attempt(case, verb, place, rng, number)
            shutil.rmtree(place)


def attempt(case: Case, verb: Sequence[str], place: Path, rng: np.random.Generator, number: int) -> Attempt:
    """One file changed and read."""
    case.change(place / case.file, rng)
    environment = artefacts.environment((place / "data").resolve()) | {"MEDCOSS_PREPARED": str(place / "prepared")}
    ended = verbs.run(*verb, folder=place, environment=environment, seconds=verbs.HANG)
    kind = f"{case.file}"
    typed = f"medcoss {' '.join(verb)}: {ended.said[-500:]}"
    if ended.is_fault:
        return Attempt(kind, number, ended.outcome, typed, fine=False)
    if ended.seconds > SECONDS:
        return Attempt(kind, number, "too long", f"{ended.seconds:.0f} s; {typed}", fine=False)
    if ended.peak > MEMORY:
        return Attempt(kind, number, "too much memory", f"{ended.peak:.0f} MiB; {typed}", fine=False)
    return Attempt(kind, number, "goes on" if ended.code == 0 else f"exit {ended.code}", typed)


def plant() -> None:
    """medcoss' own files are believed: what is of a wrong type there is passed on."""
    from medcoss_cli.errors import MedcossError
    from medcoss_cli.store import typed

    right = typed.checked

    def wrong(kind: Any, content: Any, *place: Any, **words: Any) -> Any:
        try:
            return right(kind, content, *place, **words)
        except MedcossError:
            return kind.model_construct(**content) if hasattr(kind, "model_construct") else content

    typed.checked = wrong
