"""The end of a stage: what lies beside a checkpoint is derived from it, and made again where a kill came between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, Interrupted
from medcoss_cli.pretraining import setup
from medcoss_cli.store import plain
from tests.pretraining_runs import StopAfter, options, resume, train, write_demo

DERIVED = ("stages/2-xray/encoder.safetensors", "retention.json", "retention.png")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("done")
    data = write_demo(folder / "data", report=40, xray=40)
    train(folder, data, "train.epochs=0.5", "train.warmup=0")
    return folder, data


@pytest.mark.parametrize("missing", DERIVED)
def test_what_is_missing_is_made_again_to_the_same_bytes(done: tuple[Path, Path], missing: str) -> None:
    folder, data = done
    path = folder / "runs" / "run" / missing
    before = path.read_bytes()
    path.unlink()
    resume(folder, data)
    assert path.read_bytes() == before


def test_what_is_older_than_the_checkpoint_is_made_again(done: tuple[Path, Path]) -> None:
    folder, data = done
    path = folder / "runs" / "run" / "retention.json"
    before = path.read_bytes()
    path.write_text("of the stage before")
    (folder / "runs" / "run" / "ckpt.pt").touch()
    resume(folder, data)
    assert path.read_bytes() == before


def test_a_resume_file_of_a_stage_that_is_done_is_removed(done: tuple[Path, Path]) -> None:
    folder, data = done
    job = setup.resume(folder / "runs" / "run", options(folder, data), Screen())
    job.run.save_resume({"stage": 2})
    job.run.close()
    resume(folder, data)
    assert not (folder / "runs" / "run" / "resume.pt").exists()


def test_a_resume_file_of_no_stage_is_left_where_all_are_done(done: tuple[Path, Path]) -> None:
    folder, data = done
    job = setup.resume(folder / "runs" / "run", options(folder, data), Screen())
    job.run.save_resume({"stage": torch.ones(2)})
    job.run.close()
    resume(folder, data)
    (folder / "runs" / "run" / "resume.pt").unlink()


@pytest.mark.parametrize(
    "change",
    [*({"step": step} for step in (-1, 0.5, 10**6, "1", None)), {"stage": torch.ones(2)}, {"stage": "1"}],
)
def test_a_step_or_stage_that_the_run_does_not_have_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    data = write_demo(tmp_path / "data", report=40, xray=40)
    with pytest.raises(Interrupted):
        train(tmp_path, data, "train.epochs=0.5", "train.warmup=0", screen=StopAfter(2))
    place = tmp_path / "runs" / "run" / "resume.pt"
    plain.save(plain.load(place) | change, place)
    with pytest.raises(CheckpointError, match="damaged"):
        resume(tmp_path, data)
