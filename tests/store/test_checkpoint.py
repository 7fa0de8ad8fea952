"""The checkpoint: what is written comes back; what is no checkpoint is refused in one sentence, and never executed."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medcoss_cli.errors import CheckpointError, ResourceError
from medcoss_cli.store import checkpoint, plain
from medcoss_cli.store.checkpoint import Checkpoint
from tests.store.example import example


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good checkpoint."""
    checkpoint.save(example(), tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and type(a) is type(b)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_what_is_saved_is_loaded(path: Path) -> None:
    known, before = checkpoint.load(path), example()
    for field in dataclasses.fields(Checkpoint):
        assert same(getattr(before, field.name), getattr(known, field.name)), field.name


def test_saving_over_a_file_that_is_mapped_and_growing_by_nothing(path: Path) -> None:
    size = path.stat().st_size
    for _ in range(3):
        known = checkpoint.load(path)
        checkpoint.save(known, path)  # its tensors are views of the file that is being replaced
        assert same(known.weights, example().weights)
    assert abs(path.stat().st_size - size) < 1000
    assert same(checkpoint.load(path).buffer, example().buffer)


def test_a_view_is_stored_without_what_it_is_a_view_of(tmp_path: Path) -> None:
    everything = torch.full((1000, 1, 8, 8), 77, dtype=torch.uint8)
    everything[0] = 5
    mapped = torch.from_numpy(np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (1000, 64)))
    mapped[:] = 77
    plain.save(
        {"part": everything[:1], "turned": everything[:2, 0].transpose(1, 2), "mapped": mapped[:2]}, tmp_path / "x"
    )
    assert (tmp_path / "x").stat().st_size < 5000
    back = plain.load(tmp_path / "x")
    assert torch.equal(back["part"], everything[:1])
    assert torch.equal(back["turned"], everything[:2, 0].transpose(1, 2))


def test_values_that_only_look_plain_are_stored_as_plain_ones(tmp_path: Path) -> None:
    """np.float64 is a float to isinstance, yet a file that holds one cannot be read again."""
    odd = {"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True), "d": (1, 2), "e": np.float32(0.25)}
    plain.save(odd, tmp_path / "x")
    assert same(plain.load(tmp_path / "x"), {"a": 0.5, "b": 3, "c": True, "d": [1, 2], "e": 0.25})
    with pytest.raises(TypeError, match="Path"):
        plain.save({"path": Path("secret")}, tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    """Of equal strings some are one object in memory, others after a file was read; pickle writes those differently."""
    word = "medcoss"
    plain.save({"a": word, "b": word}, tmp_path / "x")
    plain.save({"a": word, "b": "".join(list(word))}, tmp_path / "y")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: p.unlink(), "does not exist"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "folder"),
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "one byte": (lambda p: p.write_bytes(b"P"), "not a checkpoint"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-500]), "truncated"),
    "half": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "truncated"),
    "beheaded": (lambda p: p.write_bytes(p.read_bytes()[500:]), "damaged"),
    "noise": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)), "not a checkpoint"),
    "safetensors": (lambda p: save_file({"w": torch.zeros(2)}, p), "safetensors"),
    "other zip": (lambda p: zipped(p, {"word/document.xml": b"x"}), "this zip file is not a checkpoint"),
    "flat zip": (lambda p: zipped(p, {"data.pkl": b"x"}), "this zip file is not a checkpoint"),
    "garbled": (lambda p: zipped(p, {"a/data.pkl": b"garbage garbage", "a/version": b"3"}), "damaged"),
    "inflating": (lambda p: zipped(p, {"a/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED), "compressed"),
    "twice": (lambda p: doubled(p), "a name stands twice"),
    "cut storage": (lambda p: cut(p), "its tensors are not as long as its entries"),
    "state dict": (lambda p: torch.save({"encoder.weight": torch.zeros(2)}, p), "not a medcoss checkpoint"),
    "tensor": (lambda p: torch.save(torch.zeros(2), p), "not a medcoss checkpoint"),
    "old torch": (lambda p: torch.save({}, p, _use_new_zipfile_serialization=False), "nothing was executed"),
    "newer": (lambda p: rewrite(p, lambda c: c["medcoss"].update(schema=2)), r"newer medcoss \(schema 2.*pip install"),
    "schema 0": (lambda p: rewrite(p, lambda c: c["medcoss"].update(schema=0)), "schema 0 is unknown"),
    "schema text": (lambda p: rewrite(p, lambda c: c["medcoss"].update(schema="1")), "not a medcoss checkpoint"),
    "header": (lambda p: rewrite(p, lambda c: c.update(medcoss=1)), "not a medcoss checkpoint"),
    "resume": (lambda p: rewrite(p, lambda c: c["medcoss"].update(file="resume")), "another kind"),
    "weight": (lambda p: rewrite(p, lambda c: c["weights"].update(w=1)), r"damaged \(weights.w"),
    "facts": (lambda p: rewrite(p, lambda c: c["modalities"]["xray"].pop("size")), r"damaged \(modalities.xray.size"),
    "buffer": (lambda p: rewrite(p, lambda c: c["buffer"]["xray"].pop("scale")), r"damaged \(buffer.xray.scale"),
    "short buffer": (lambda p: rewrite(p, lambda c: c["buffer"]["xray"].update(scale=torch.ones(1))), "buffer"),
    "anchors": (lambda p: rewrite(p, lambda c: c["anchors"]["xray"].update(loss="x")), r"damaged \(anchors.xray.loss"),
    "history": (lambda p: rewrite(p, lambda c: c.update(history=[1])), r"damaged \(history.0"),
    "recipe": (
        lambda p: rewrite(p, lambda c: c["history"][0]["recipe"].update(train=1)),
        r"damaged \(history.0.recipe",
    ),
    "half of a character": (lambda p: rewrite(p, lambda c: c["history"][0].update(title="\ud800")), "half of a char"),
    "half of one in a name": (lambda p: rewrite(p, lambda c: c["history"][0].update({"\ud800": 1})), "half of a char"),
    "tokenizer": (lambda p: rewrite(p, lambda c: c.update(tokenizers={})), r"damaged \(.*tokenizers: there is none of"),
}


def zipped(path: Path, entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def doubled(path: Path) -> None:
    """Its last entry once more."""
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[-1], b"other")


def cut(path: Path) -> None:
    """The same with three bytes of one storage: torch would read its neighbours' as well."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, {name: content[:3] if name.endswith("/data/0") else content for name, content in entries.items()})


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_checkpoint_is_told_in_one_sentence(path: Path, kind: str) -> None:
    spoil, said = BAD[kind]
    spoil(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=said) as refused:
            checkpoint.load(path)
    assert refused.value.exit_code == 5
    assert refused.value.where == str(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Checkpoint)])
@pytest.mark.parametrize("wrong", [None, 3, "text"])
def test_a_part_that_is_missing_or_of_another_type_is_named(path: Path, field: str, wrong: object) -> None:
    rewrite(path, lambda c: c.pop(field) if wrong is None else c.update({field: wrong}))
    with pytest.raises(CheckpointError, match=rf"damaged \({field}"):
        checkpoint.load(path)


def test_bytes_flipped_anywhere_never_end_in_another_error(path: Path) -> None:
    good, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        at = chance.randrange(len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ chance.randrange(1, 256)]) + good[at + 1 :])
        try:
            checkpoint.load(path)
        except CheckpointError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("where", ["weights", "history", "top", "bare"])
def test_a_pickle_payload_is_refused_and_not_executed(path: Path, tmp_path: Path, where: str) -> None:
    evil = Evil(tmp_path / "executed")
    content = torch.load(path, weights_only=True)
    if where == "weights":
        content["weights"]["w"] = evil
    elif where == "history":
        content["history"].append(evil)
    out = io.BytesIO()
    torch.save(evil if where in ("top", "bare") else content, out, _use_new_zipfile_serialization=where != "bare")
    path.write_bytes(out.getvalue())
    with pytest.raises(CheckpointError, match="nothing was executed") as refused:
        checkpoint.load(path)
    assert "weights_only" not in str(refused.value)  # torch's advice to switch the protection off is not passed on
    assert not evil.marker.exists()
    torch.load(path, weights_only=False)  # the payload would have worked
    assert evil.marker.exists()


def test_a_file_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ResourceError, match="cannot be read"):
        checkpoint.load(path)


FULL = """
import resource, signal, sys
from pathlib import Path
from medcoss_cli.store import checkpoint
from medcoss_cli.errors import MedcossError
known = checkpoint.load(Path(sys.argv[1]))
known.weights["big"] = __import__("torch").ones(1000, 1000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))
try:
    checkpoint.save(known, Path(sys.argv[1]))
except MedcossError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_is_full_in_the_midst_of_writing_keeps_the_old_checkpoint(path: Path) -> None:
    """The system itself refuses; torch's zip writer turns that into a RuntimeError of its own."""
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "larger than the file system" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["ckpt.pt"]


def make_run(name: str, *, done: bool | None, resume: bool = False, ckpt: bool = True) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    if done is not None:
        (folder / "run.json").write_text('{"finished": %s}' % ('"2026"' if done else "null"))
    if resume:
        (folder / "resume.pt").write_bytes(b"x")
    if ckpt:
        (folder / "ckpt.pt").write_bytes(b"x")
    return folder / "ckpt.pt"


def test_the_checkpoint_is_the_named_one_the_one_here_or_the_only_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint was found"):
        checkpoint.find_checkpoint(None)
    stopped = make_run("stopped", done=False)  # between two stages: it has a checkpoint and no resume.pt
    make_run("begun", done=False, ckpt=False)
    make_run("copied", done=None, resume=True)
    with pytest.raises(CheckpointError, match=r"no run in ./runs is finished \(runs/copied, runs/stopped\).*--resume"):
        checkpoint.find_checkpoint(None)
    first = make_run("first", done=True)
    found, said = checkpoint.find_checkpoint(None)
    assert found == first
    assert said is not None
    assert "runs/first/ckpt.pt" in said
    second = make_run("second", done=None)
    with pytest.raises(CheckpointError, match=r"several.*runs/first/ckpt.pt \| runs/second/ckpt.pt") as several:
        checkpoint.find_checkpoint(None)
    assert several.value.exit_code == 5
    assert checkpoint.find_checkpoint(second) == (second, None)
    assert checkpoint.find_checkpoint(str(second)) == (second, None)
    assert checkpoint.find_checkpoint(stopped.parent) == (stopped, None)
    with pytest.raises(CheckpointError, match=r"no ckpt\.pt in this folder"):
        checkpoint.find_checkpoint(Path("runs/begun"))
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.find_checkpoint(Path("runs/nowhere/ckpt.pt"))
    Path("ckpt.pt").write_bytes(b"x")
    assert checkpoint.find_checkpoint(None) == (Path("ckpt.pt"), None)


@pytest.mark.parametrize("name", ["ckpt.pt", "encoder.safetensors"])
def test_a_pipe_is_no_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="a pipe, a socket or a device"):
        checkpoint.load(tmp_path / name)
    assert not checkpoint.is_own(tmp_path / name)
