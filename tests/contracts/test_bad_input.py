"""What a user does wrong gets one sentence, an exit code, no traceback, and loses nothing; through the command line."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medcoss_cli.plugin import Record, Sample
from medcoss_cli.registry import discovery
from medcoss_cli.store import checkpoint
from tests.conftest import CommandLine
from tests.finetuning_runs import CLASSES
from tests.pretraining_runs import RECIPE, train, write_demo


@pytest.fixture
def medcoss(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command_line


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40, ct=1)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("start")
    train(folder, data, "train.epochs=0.2", "train.warmup=0")
    return folder / "runs" / "run" / "ckpt.pt"


def test_a_missing_folder(medcoss: CommandLine, start: Path) -> None:
    answer = medcoss("extend", "--modality", "ultrasound", "--from", str(start))
    assert answer.code == 4
    assert "--data DIR" in answer.err
    assert "medcoss data demo ultrasound" in answer.err
    assert medcoss("data", "check", "nowhere").code == 4


LONG = "a" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "check", LONG),
        ("checkpoint", "show", LONG),
        ("pretrain", "--resume", LONG),
        ("finetune", LONG),
        ("embed", LONG, "x", "--modality", "xray", "-o", "f.npz"),
        ("data", "demo", "xray", LONG),
        ("recipes", "show", LONG),
    ],
)
def test_a_name_that_no_file_can_have(medcoss: CommandLine, arguments: tuple[str, ...]) -> None:
    answer = medcoss(*arguments)
    assert answer.code == 2
    assert "no file can have this name" in answer.err
    assert LONG not in answer.err


def test_a_run_without_a_name(medcoss: CommandLine, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", "--name", "", "--data-root", str(data))
    assert answer.code == 2
    assert "not a valid name" in answer.err


def test_an_empty_folder(medcoss: CommandLine, start: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = medcoss("extend", "--modality", "xray", "--from", str(start), "--data", "empty")
    assert answer.code == 4
    assert "folder is empty" in answer.err


def test_a_folder_of_another_modality(medcoss: CommandLine, data: Path) -> None:
    for folder, modality in (("xray", "ct"), ("ct", "xray"), ("report", "xray"), ("xray", "report")):
        answer = medcoss("data", "prepare", str(data / folder), "--modality", modality)
        assert answer.code == 4, answer.err
        assert "left out" in answer.err


def test_volumes_where_images_are_meant(medcoss: CommandLine, tmp_path: Path) -> None:
    write_demo(tmp_path, mri=1)
    answer = medcoss("data", "prepare", "mri", "--modality", "ultrasound")
    assert answer.code == 4
    assert "3D" in answer.err or "volume" in answer.err


def test_one_broken_file_among_good_ones_goes_to_quarantine(medcoss: CommandLine, tmp_path: Path) -> None:
    write_demo(tmp_path, xray=40)
    (tmp_path / "xray" / "manifest.csv").unlink()
    images = sorted((tmp_path / "xray" / "images").glob("*.png"))
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:500])
    answer = medcoss("data", "prepare", "xray/images", "--modality", "xray", "--size", "32x32")
    assert answer.code == 0, answer.err
    quarantine = next((tmp_path / "prepared").glob("*/quarantine.csv")).read_text()
    assert images[0].name in quarantine
    assert images[1].name in quarantine
    for image in images[2:6]:
        image.write_bytes(b"")
    answer = medcoss("data", "prepare", "xray/images", "--modality", "xray", "--size", "32x32")
    assert answer.code == 4
    assert "are allowed" in answer.err
    assert "quarantine.csv" in answer.err


def test_an_unknown_modality(medcoss: CommandLine, start: Path) -> None:
    answer = medcoss("extend", "--modality", "ultrasond", "--from", str(start))
    assert answer.code == 3
    for part in ("xray", "pathology", "did you mean ultrasound?"):
        assert part in answer.err
    assert "pip install" not in answer.err


def test_an_unknown_modality_is_told_before_a_missing_checkpoint(medcoss: CommandLine) -> None:
    answer = medcoss("extend", "--modality", "ultrasond")
    assert answer.code == 3
    assert "did you mean ultrasound?" in answer.err


def test_the_folders_of_all_stages_are_looked_for_before_the_first(medcoss: CommandLine, tmp_path: Path) -> None:
    write_demo(tmp_path / "data", report=4)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml")
    assert answer.code == 4
    assert answer.err.startswith("error: data/xray: the folder does not exist; ")
    assert not (tmp_path / "runs").exists()
    answer = medcoss("pretrain", "tiny.yaml", "data.root=nowhere")
    assert "nowhere/report, nowhere/xray: these folders do not exist" in answer.err


def test_the_sizes_of_all_stages_are_tried_before_the_first(medcoss: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", "stages.1.size=[36, 32]")
    assert answer.code == 2
    assert "size (36, 32) is not a multiple of the patch (8, 8)" in answer.err


@dataclass(frozen=True)
class Failing:
    """A loader of a plugin with a bug in it."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record]:
        yield Record(root / "a")
        raise KeyError("spacing")

    def read(self, record: Record) -> Sample:
        raise NotImplementedError  # not reached: find fails before anything is read


def fail(root: Path, count: int, seed: int) -> None:
    """A demo of a plugin with a bug in it."""
    raise KeyError("spacing")


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "demo", "xray", "new"],
        ["data", "check", ".", "--modality", "xray"],
        ["data", "prepare", ".", "--modality", "xray"],
    ],
)
def test_a_bug_of_a_plugin_is_not_called_one_of_medcoss(
    medcoss: CommandLine, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    broken = replace(discovery.load_modality("xray"), loader=Failing(), demo=fail)
    monkeypatch.setattr(discovery, "load_modality", lambda name: broken)
    answer = medcoss(*arguments)
    assert answer.code == 3, answer.err
    assert "xray plugin fails" in answer.err
    assert "(KeyError: 'spacing')" in answer.err


def test_three_faults_of_a_recipe_at_once(medcoss: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        RECIPE.replace("rehearsal:", "rehersal:").replace("epochs: 2", "epochs: many") + "colour: red\n"
    )
    answer = medcoss("recipes", "validate", "bad.yaml")
    assert answer.code == 2
    assert "3 faults" in answer.err
    assert "bad.yaml:5: rehersal: unknown key; did you mean rehearsal?" in answer.err
    assert "bad.yaml:4: train.epochs: 'many'" in answer.err
    assert "bad.yaml:9: colour: unknown key" in answer.err


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "noise", "other", "newer", "damaged"])
def test_a_file_that_is_no_checkpoint(medcoss: CommandLine, start: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "some.pt"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(start.read_bytes()[:-2000])
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "other":
        torch.save({"state_dict": {"w": torch.zeros(2)}}, path)
    elif kind in ("newer", "damaged"):
        content = torch.load(start, weights_only=True)
        content["medcoss"]["schema"] += kind == "newer"
        content["history"] = {} if kind == "damaged" else content["history"]
        torch.save(content, path)
    answer = medcoss("checkpoint", "show", "some.pt")
    assert answer.code == 5, answer.err
    assert "some.pt" in answer.err
    if kind == "newer":
        assert "schema 2" in answer.err
        assert "pip install --upgrade medcoss" in answer.err


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("executed",))


def test_a_pickle_payload_is_refused_and_not_executed(medcoss: CommandLine, tmp_path: Path) -> None:
    torch.save({"medcoss": {"schema": 1}, "weights": Evil()}, tmp_path / "evil.pt")
    for arguments in (
        ["checkpoint", "show", "evil.pt"],
        ["extend", "--modality", "xray", "--from", "evil.pt", "--data", "."],
    ):
        answer = medcoss(*arguments)
        assert answer.code == 5
        assert "nothing was executed" in answer.err
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_needs_a_missing_plugin(
    medcoss: CommandLine, start: Path, tmp_path: Path, data: Path
) -> None:
    content = torch.load(start, weights_only=True)
    sonar = copy.deepcopy(content["modalities"]["xray"])
    content["modalities"]["sonar"] = {**sonar, "distribution": "medcoss-sonar 2.0"}
    torch.save(content, tmp_path / "needs.pt")
    answer = medcoss("extend", "--modality", "xray", "--from", "needs.pt", "--data", str(data / "xray"))
    assert answer.code == 3
    assert "sonar (of medcoss-sonar 2.0)" in answer.err
    assert "pip install" not in answer.err


def test_a_missing_vocabulary(medcoss: CommandLine, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", "stages.0.vocabulary=words.json", f"data.root={data}")
    assert answer.code == 2
    assert "words.json" in answer.err
    (tmp_path / "words.json").write_text('{"model": 1}')
    assert medcoss("pretrain", "tiny.yaml", "stages.0.vocabulary=words.json", f"data.root={data}").code == 2


def test_read_only_output_leaves_the_old_checkpoint(
    medcoss: CommandLine, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    known, before = checkpoint.load(start), start.read_bytes()
    for code in (errno.ENOSPC, errno.EROFS, errno.EACCES):

        def refuse(handle: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(Exception, match=r"space left|permission denied") as refused:
            checkpoint.save(known, start)
        assert refused.value.exit_code == 6  # type: ignore[attr-defined]
        monkeypatch.undo()
        assert start.read_bytes() == before
        assert not list(start.parent.glob(".unfinished-*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told(tmp_path: Path, start: Path) -> None:
    """A file size limit stands in for a full disk: the operating system itself refuses to write."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.argv = ['medcoss', 'checkpoint', 'strip', sys.argv[1], sys.argv[2]]\n"
        "from medcoss_cli.cli.app import main; main()"
    )
    out = tmp_path / "encoder.safetensors"
    out.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(start), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6, done.stderr
    assert "space" in done.stderr
    assert out.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc/self/statm on this system")
@pytest.mark.parametrize(
    ("verb", "recipe", "fix"),
    [
        (
            "pretrain",
            RECIPE.replace("  - {modality: report, data: report, size: [32], vocabulary_size: 300}\n", ""),
            "raise train.accumulate",
        ),
        ("finetune", CLASSES, "train.batch=16"),
    ],
    ids=["pretrain", "finetune"],
)
def test_too_little_memory_says_what_to_try(tmp_path: Path, data: Path, verb: str, recipe: str, fix: str) -> None:
    """The operating system refuses more than half a GiB beyond what the program itself takes."""
    code = (
        "import resource, sys\n"
        "import medcoss_cli.cli.training, medcoss_cli.finetune, medcoss_cli.pretrain, sklearn.cluster\n"
        "from medcoss_cli.cli.app import main\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, taken + 2**29))\n"
        "sys.argv = ['medcoss', *sys.argv[1:]]; main()"
    )
    (tmp_path / "big.yaml").write_text(recipe.replace("size: [32, 32]", "size: [1024, 1024]"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            verb,
            "big.yaml",
            f"data.root={data}" if verb == "pretrain" else f"--data-root={data}",
            "train.batch=32",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 6, done.stderr
    assert "not enough memory" in done.stderr
    assert fix in done.stderr
    assert "Traceback" not in done.stderr


def test_a_read_only_data_folder_is_enough(medcoss: CommandLine, tmp_path: Path) -> None:
    write_demo(tmp_path, xray=8)
    everything = [tmp_path / "xray", *(tmp_path / "xray").rglob("*")]
    before = sorted(map(str, everything))
    for path in reversed(everything):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        answer = medcoss("data", "prepare", "xray", "--modality", "xray", "--size", "32x32")
        assert answer.code == 0, answer.err
        assert sorted(map(str, [tmp_path / "xray", *(tmp_path / "xray").rglob("*")])) == before
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_below_the_asked_retention_exits_with_9_and_keeps_everything(
    medcoss: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss(
        "pretrain", "tiny.yaml", "strategy=sequential", f"data.root={data}", "train.epochs=6", "--min-retention", "1"
    )
    assert answer.code == 9, answer.err
    assert "nothing was learned of " in answer.err.splitlines()[-2] + answer.err.splitlines()[-1], (
        "six epochs of few samples"
    )
    assert (tmp_path / "runs" / "tiny" / "ckpt.pt").exists()


def test_a_stage_that_is_all_warm_up_is_said(medcoss: CommandLine, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", f"data.root={data}", "train.epochs=1", "stages.1.warmup=0.1")
    assert answer.code == 0
    told = [line for line in answer.err.splitlines() if "warm-up" in line]
    assert told == ["note: stage 1 report: the warm-up takes 1 of 1 epochs; set warmup to a tenth of them"]


def test_a_batch_that_cannot_be_cut(medcoss: CommandLine, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", "train.accumulate=9", f"data.root={data}")
    assert answer.code == 2
    assert "train.batch" in answer.err
    answer = medcoss("pretrain", "tiny.yaml", "stages.1.size=[33, 32]", f"data.root={data}", "--name", "other")
    assert answer.code == 2
    assert "33" in answer.err


def test_a_dry_run_writes_nothing(medcoss: CommandLine, data: Path, tmp_path: Path, start: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = medcoss("pretrain", "tiny.yaml", f"data.root={data}", "--dry-run")
    assert answer.code == 0, answer.err
    assert "patch2d-8" in answer.out
    steps = []
    for strategy in ("medcoss", "sequential"):
        ways = ["--from", str(start), "--data", str(data / "ct"), f"strategy={strategy}"]
        answer = medcoss("extend", "--modality", "ct", *ways, "--dry-run")
        assert answer.code == 0, answer.err
        steps += [int(line.split()[-1]) for line in answer.out.splitlines() if "patch3d" in line]
    assert steps[0] > steps[1], "rehearsal takes steps"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
