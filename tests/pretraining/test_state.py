"""A checkpoint and the plugins that it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medcoss_cli.errors import CheckpointError, DataError, PluginError
from medcoss_cli.model import networks
from medcoss_cli.pretraining.state import read_state, require_plugins
from medcoss_cli.registry import discovery
from medcoss_cli.store import checkpoint
from medcoss_cli.store.checkpoint import Checkpoint
from tests.pretraining_runs import train, write_demo
from tests.store.example import example


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder, write_demo(folder / "data", report=12, xray=12))
    return folder / "runs" / "run" / "ckpt.pt"


def wide(content: Checkpoint) -> None:
    content.modalities["xray"]["decoder"]["width"] = 6000


def decoderless(content: Checkpoint) -> None:
    wide(content)
    for name in [name for name in content.weights if name.startswith("decoders.xray.")]:
        del content.weights[name]


def large_table(content: Checkpoint) -> None:
    content.tokenizers["patch2d-8"] |= {"positions": "table", "grid": [4000, 4000]}
    content.modalities["xray"]["fingerprint"] = None


@pytest.mark.parametrize("change", [wide, decoderless, large_table])
def test_networks_of_more_values_than_the_file_has_are_not_built(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Checkpoint], None]
) -> None:
    monkeypatch.setattr(networks, "ROOM", 2**20)
    content = checkpoint.load(trained)
    change(content)
    checkpoint.save(content, tmp_path / "ckpt.pt")
    told = r"it describes networks far larger than the [\d,]+ values that it holds"
    with pytest.raises(CheckpointError, match=told) as refused:
        read_state(tmp_path / "ckpt.pt")
    assert refused.value.where == str(tmp_path / "ckpt.pt")


def test_a_size_that_no_plugin_takes_is_a_fault_of_the_file(trained: Path, tmp_path: Path) -> None:
    content = checkpoint.load(trained)
    content.modalities["xray"]["size"] = [32, 33]
    checkpoint.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="33") as refused:
        read_state(tmp_path / "ckpt.pt")
    assert refused.value.where == str(tmp_path / "ckpt.pt")


def test_missing_plugins_are_all_named_and_none_of_an_unknown_name_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "names", lambda: ["xray"])
    require_plugins(example(xray="medcoss 0.1.0"))
    known = example(xray="medcoss 0.1.0", sonar="medcoss-sonar 2.0", lidar="", evil="x --index-url http://elsewhere")
    with pytest.raises(PluginError) as refused:
        require_plugins(known)
    assert "sonar (of medcoss-sonar 2.0), lidar, evil, but" in refused.value.what
    assert "pip" not in (refused.value.fix or "")
    with pytest.raises(PluginError) as refused:
        require_plugins(example(ultrasound="evil-package 0.1.0"))
    assert refused.value.fix == "pip install medcoss-ultrasound"


def test_ids_that_no_vocabulary_has_are_refused_wherever_they_are_stored(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=40, xray=20)
    train(tmp_path, data)
    path = tmp_path / "runs" / "run" / "ckpt.pt"
    for part, number in (("buffer", 10**6), ("anchors", -1)):
        stored = torch.load(path, weights_only=True)
        stored[part]["report"]["integers"][0, 0] = number
        torch.save(stored, changed := tmp_path / "changed.pt")
        with pytest.raises(
            CheckpointError, match=rf"a text of report has the id {number}, its vocabulary the ids 0 to"
        ):
            read_state(changed)
    stored = torch.load(path, weights_only=True)
    stored["buffer"]["xray"]["integers"] = stored["buffer"]["xray"]["integers"].int() - 1000
    torch.save(stored, changed)
    read_state(changed)  # every number is a value of an image
    for shard in (data / "prepared").glob("report*/shard-*.npy"):
        np.save(shard, np.full_like(np.load(shard), 10**6))
    for workers in (0, 1):
        with pytest.raises(DataError, match="a text of report has the id 1000000") as refused:
            train(tmp_path, data, f"train.workers={workers}", name=f"run{workers}")
        assert "prepared" in str(refused.value)
        assert "\n" not in str(refused.value)
