"""What `strip` writes: encoder and tokenizers with their description, and nothing that is private."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from medcoss_cli.errors import CheckpointError, ResourceError, UsageError
from medcoss_cli.importers.shareable import strip
from medcoss_cli.store import checkpoint
from tests.store.example import example

SECRET = b"Zuckerbrodt_1962"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint with a secret in its samples and wherever something unexpected could stand."""
    known = example()
    pixels = torch.frombuffer(bytearray(SECRET * 4), dtype=torch.uint8).view(1, 1, 8, 8)
    for part in (known.buffer, known.anchors):
        part["xray"]["integers"] = pixels.expand(len(part["xray"]["scale"]), 1, 8, 8)
    known.weights["decoders.xray.weight"] = pixels.float()
    known.memory["der"] = {"views": {"xray": pixels}, "secret": SECRET.decode()}  # der and derpp keep samples
    for entry in known.history:
        entry["title"] = entry["data_hash"] = entry["root"] = SECRET.decode()
        entry["recipe"] |= {"title": SECRET.decode(), "data": {"root": f"/{SECRET.decode()}"}}
        entry["recipe"]["stages"][0]["data"] = SECRET.decode()
    for facts in known.modalities.values():
        facts["source"] = SECRET.decode()
    checkpoint.save(known, tmp_path / "ckpt.pt")
    assert SECRET in (tmp_path / "ckpt.pt").read_bytes()
    return tmp_path / "ckpt.pt"


def test_it_holds_encoder_and_tokenizers_and_their_description(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "encoder.safetensors"
    size = strip(path, out)
    assert size == out.stat().st_size
    with safe_open(out, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        about = file.metadata()
    known = checkpoint.load(path)
    assert set(weights) == {"encoder.cls", "encoder.blocks.0.mlp.fc1.weight", "tokenizers.patch2d-4.weight"}
    assert all(torch.equal(weights[name], known.weights[name]) for name in weights)
    assert (about["format"], about["schema"]) == ("medcoss-encoder", "1")
    assert json.loads(about["encoder"]) == known.encoder
    assert json.loads(about["tokenizers"]) == known.tokenizers
    assert json.loads(about["vocabularies"]) == known.vocabularies
    assert json.loads(about["modalities"])["xray"]["size"] == [8, 8]
    assert [entry["modality"] for entry in json.loads(about["history"])] == ["xray", "pathology"]


def test_nothing_private_is_in_it(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder.safetensors"
    strip(path, out)
    content = out.read_bytes()
    assert SECRET not in content
    for part in (
        SECRET.decode().encode("utf-16-le"),
        str(tmp_path).encode(),
        torch.tensor(list(SECRET)).float().numpy(),
    ):
        assert bytes(part) not in content


def test_the_file_is_the_same_for_the_same_checkpoint(path: Path, tmp_path: Path) -> None:
    strip(path, tmp_path / "a.safetensors")
    strip(path, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_checkpoint_is_never_overwritten_by_what_is_left_of_it(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"name it ckpt\.safetensors"):
        strip(path, path)
    assert path.read_bytes() == before


def test_what_cannot_be_read_or_written_is_told(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError):
        strip(tmp_path / "missing.pt", tmp_path / "a.safetensors")

    def read_only(handle: int) -> None:
        raise OSError(30, "Read-only file system")

    (tmp_path / "a.safetensors").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", read_only)
    with pytest.raises(ResourceError, match="permission denied when writing"):
        strip(path, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == b"old"
