"""What a file says of its networks is compared with its tensors before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.errors import CheckpointError
from medcoss_cli.store import checkpoint, weighed
from tests.store.example import example


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("encoder", "width", 2**31, "2147483648 wide, its weights are 8 wide"),
        ("encoder", "depth", 10**6, "1000000 blocks, its weights have 1"),
        ("encoder", "heads", 3, "cannot be cut into 3 heads"),
        ("encoder", "mlp_ratio", 1e9, "mlp_ratio"),
        ("encoder", "layer_scale", -1, "no such factors"),
        ("modality", "size", [2**14, 2**14], "tokens"),
        ("modality", "decoder", {"width": 2**31}, "the decoder of xray"),
        ("modality", "decoder", {"depth": 10**6}, "the decoder of xray"),
        ("tokenizer", "patch", [2**20, 4], "the tokenizer patch2d-4"),
    ],
)
def test_numbers_that_the_tensors_do_not_bear_out(tmp_path: Path, part: str, key: str, value: Any, said: str) -> None:
    known = example()
    places = {
        "encoder": known.encoder,
        "modality": known.modalities["xray"],
        "tokenizer": known.tokenizers["patch2d-4"],
    }
    places[part][key] = value
    checkpoint.save(known, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="damaged") as refused:
        checkpoint.load(tmp_path / "ckpt.pt")
    assert said in refused.value.what


def test_sizes_of_real_scans_are_sizes() -> None:
    assert weighed.size_fault([512, 512, 512], [16, 16, 16]) is None
    assert weighed.size_fault([2048, 2048], [16, 16]) is None
    assert weighed.size_fault([4096], None) is None
    assert weighed.size_fault([0, 4], [2, 2]) is not None


def test_a_part_is_compared_with_its_own_tensors() -> None:
    weights = {"head.weight": torch.zeros(3, 4)}
    assert weighed.part_fault("the head", {"layers": 1, "features": 12}, "head.", weights) is None
    assert weighed.part_fault("the head", {"layers": 2}, "head.", weights) is not None
    assert weighed.part_fault("the head", {"patch": [1, 13]}, "head.", weights) is not None
    assert weighed.part_fault("the head", {"extra": {"rate": 44_100}, "rate": 44_100}, "head.", weights) is None
    assert weighed.part_fault("the head", {"layers": 2**31}, "other.", weights) is None  # stripped
