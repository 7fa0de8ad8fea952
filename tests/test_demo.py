"""The verb `demo`, in a tiny setting: the whole way, stopped and gone on with, and what it leaves behind."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.demo import demo
from medcoss_cli.errors import Interrupted, UsageError
from medcoss_cli.store import checkpoint
from tests.pretraining_runs import StopAfter

COUNTS = {1: 40, 2: 40, 3: 2}
RECIPE = """\
kind: pretrain
title: Tiny
encoder: {width: 32, depth: 2, heads: 2}
decoder: {width: 16, depth: 1, heads: 2}
data: {workers: 1}
train: {epochs: 2, warmup: 1, batch: 8, lr: 1e-3, precision: fp32, save_minutes: 1000}
rehearsal: {ratio: 0.2, share: 0.25}
stages:
  - {modality: pathology, data: pathology, size: [32, 32], tokenizer: patch2d-8}
  - {modality: ct, data: ct, size: [16, 32, 32], tokenizer: patch3d-8}
"""


def run(folder: Path, screen: StopAfter) -> dict[str, Any]:
    recipe = folder.parent / "tiny.yaml"
    recipe.write_text(RECIPE)
    return demo(folder, 0, screen, recipe=str(recipe), counts=COUNTS)


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    """Of all four checkpoints."""
    paths = sorted((folder / "runs").glob("*/ckpt.pt"))
    assert len(paths) == 4
    return {f"{p.parent.name}/{n}": w for p in paths for n, w in checkpoint.load(p).weights.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StopAfter, dict[str, Any]]:
    folder, screen = tmp_path_factory.mktemp("demo") / "whole", StopAfter(-1)
    return folder, screen, run(folder, screen)


def test_it_leaves_a_picture_a_page_and_the_accuracy_of_heads(
    whole: tuple[Path, StopAfter, dict[str, Any]],
) -> None:
    folder, screen, result = whole
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert b"Comparison of 2 runs" in (folder / "report.html").read_bytes()
    heads = {label: heads["pathology"] for label, heads in result["heads"].items()}
    assert set(heads) == {"with rehearsal", "without rehearsal"}
    for head in heads.values():
        assert list(head.accuracy) == ["pathology", "ct", "ultrasound"]  # the last is one that others brought
        assert all(0 <= value <= 1 for value in head.accuracy.values())
        assert head.guessing == 0.5
    first = [next(iter(head.accuracy.values())) for head in heads.values()]
    assert first[0] == first[1]  # the first stage has nothing to rehearse
    text = "\n".join(screen.said)
    assert all(f"part {number} of 4: " in text for number in (1, 2, 3, 4))
    assert "left in all" in text
    commands = [line.split() for line in screen.said if line.startswith("  medcoss ")]
    assert {words[1] for words in commands} >= {"embed", "finetune"}
    for words in commands:  # the paths in what to type next exist
        assert all(Path(word).exists() for word in words if word.startswith(str(folder)))


def test_stopped_and_gone_on_with_it_ends_with_the_same_weights(
    whole: tuple[Path, StopAfter, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    for steps in (3, 6, 6):  # in the first stage, behind its head, later
        with pytest.raises(Interrupted, match=f"medcoss demo {folder} goes on"):
            run(folder, StopAfter(steps, signal.SIGINT))
    again = run(folder, StopAfter(-1))
    uninterrupted, resumed = weights(whole[0]), weights(folder)
    assert set(uninterrupted) == set(resumed)
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in resumed)
    assert again["heads"] == whole[2]["heads"]


def test_a_finished_one_is_shown_again_and_another_seed_is_refused(
    whole: tuple[Path, StopAfter, dict[str, Any]],
) -> None:
    assert run(whole[0], StopAfter(1))["heads"] == whole[2]["heads"]  # no step of training
    with pytest.raises(UsageError, match="begun with seed 0, not 1"):
        demo(whole[0], 1, StopAfter(-1))
