"""Every verb through the command line, on small synthetic data: what it prints, writes and returns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from tests.conftest import CommandLine
from tests.pretraining_runs import RECIPE, write_demo

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and one finished run."""
    folder = tmp_path_factory.mktemp("place")
    write_demo(folder / "data", report=40, xray=40, ct=1, ultrasound=30)
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def medcoss(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, place: Path) -> Run:
    """The command line in that folder; what it printed on standard output and standard error."""
    monkeypatch.chdir(place)

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        answer = command_line(*arguments)
        assert answer.code == code, answer.err
        return answer.out, answer.err

    return run


@pytest.fixture
def run_folder(medcoss: Run, place: Path) -> Path:
    if not (place / "runs" / "tiny" / "ckpt.pt").exists():
        medcoss("pretrain", "tiny.yaml")
    return place / "runs" / "tiny"


def test_pretrain_prints_the_table_and_says_where_all_lies(medcoss: Run, place: Path) -> None:
    out, err = medcoss("pretrain", "tiny.yaml", "--name", "printed")
    assert "Retention (medcoss)" in out
    assert re.search(r"^report .* 1\.\d{3} +1\.\d{3}$", out, re.MULTILINE)  # its loss; two epochs teach nothing
    assert "report (learned nothing)" in out
    assert "nothing was learned that could be forgotten" in err
    assert "checkpoint (private: holds samples): runs/printed/ckpt.pt" in err
    assert "stage 2 xray" in err
    _, err = medcoss("pretrain", "tiny.yaml", "--name", "printed", code=2)
    assert "--overwrite" in err
    medcoss("pretrain", "tiny.yaml", "--name", "printed", "--overwrite", "train.epochs=1")
    assert yaml.safe_load((place / "runs" / "printed" / "recipe.yaml").read_text())["train"]["epochs"] == 1


def test_a_taken_name_gets_a_number_and_says_so(medcoss: Run, run_folder: Path) -> None:
    _, err = medcoss("pretrain", "tiny.yaml", "train.epochs=0.2", "train.warmup=0")
    assert "runs/tiny already exists; this run is runs/tiny-2" in err


def test_json_is_all_that_is_on_standard_output(medcoss: Run, run_folder: Path) -> None:
    for arguments in (
        ["pretrain", "tiny.yaml", "train.epochs=0.2", "train.warmup=0", "--json"],
        ["plugins", "list", "--json"],
        ["plugins", "info", "ct", "--json"],
        ["recipes", "list", "--json"],
        ["recipes", "validate", "tiny.yaml", "--json"],
        ["recipes", "schema"],
        ["checkpoint", "show", "runs/tiny", "--json"],
        ["data", "check", "data/xray", "--modality", "xray", "--json"],
        ["data", "check", "data/xray", "--json"],
        ["data", "prepare", "data/xray", "--modality", "xray", "--size", "32x32", "--json"],
        ["doctor", "--json"],
    ):
        out, _ = medcoss(*arguments)
        assert json.loads(out), arguments


def test_checkpoint_show_says_first_what_is_private(medcoss: Run, run_folder: Path) -> None:
    out, _ = medcoss("checkpoint", "show", "runs/tiny/ckpt.pt")
    assert out.startswith("Private: ")
    assert "patch2d-8" in out


def test_checkpoint_strip_writes_weights_and_metadata(medcoss: Run, run_folder: Path, place: Path) -> None:
    medcoss("checkpoint", "strip", "runs/tiny", "encoder.safetensors")
    with safe_open(place / "encoder.safetensors", "pt") as file:
        assert file.metadata()["format"] == "medcoss-encoder"
        assert [entry["modality"] for entry in json.loads(file.metadata()["history"])] == ["report", "xray"]
        assert all(name.split(".")[0] in ("encoder", "tokenizers") for name in file.keys())  # noqa: SIM118 - no mapping


def test_extend_names_its_run_and_knows_the_newest_checkpoint(medcoss: Run, run_folder: Path, place: Path) -> None:
    arguments = [
        "extend",
        "--modality",
        "ultrasound",
        "--from",
        "runs/tiny",
        "train.epochs=1",
        "train.warmup=0",
        "train.batch=8",
    ]
    out, err = medcoss(*arguments)
    assert "shares the tokenizer patch2d-8 of xray" in err
    assert "3 ultrasound" in out
    assert (place / "runs" / "extend-ultrasound" / "ckpt.pt").exists()
    _, err = medcoss("extend", "--modality", "ultrasound", code=5)
    assert "several finished runs" in err


def test_data_demo_refuses_a_folder_that_is_not_empty(medcoss: Run, place: Path) -> None:
    _, err = medcoss("data", "demo", "xray", "data", code=2)
    assert "not empty" in err
    medcoss("data", "demo", "pathology", "tiles", "--count", "3")
    assert len(list((place / "tiles" / "images").iterdir())) == 3


def test_data_check_tells_read_refused_and_left_out(medcoss: Run, place: Path) -> None:
    out, err = medcoss("data", "check", "data/ct", "--modality", "ct")
    assert "read" in out
    out, err = medcoss("data", "check", "data/ct", "--modality", "xray", code=4)
    assert "left out" in out
    assert "nothing here can be read" in err


@pytest.mark.parametrize("modality", ["report", "xray", "ct"])
def test_data_preview_draws(medcoss: Run, place: Path, modality: str) -> None:
    medcoss("data", "preview", f"data/{modality}", "--modality", modality, "--out", "plain.png", "--count", "2")
    with Image.open(place / "plain.png") as picture:
        assert picture.size[0] > 200
        assert len(picture.convert("L").getcolors() or range(256)) > 20


def test_data_preview_with_a_checkpoint_draws_three_lines(medcoss: Run, run_folder: Path, place: Path) -> None:
    heights = []
    for name, more in (("plain.png", []), ("made.png", ["--from", "runs/tiny"])):
        medcoss("data", "preview", "data/xray", "--modality", "xray", "--out", name, "--count", "3", *more)
        with Image.open(place / name) as picture:
            heights.append(picture.size[1])
    assert heights[1] > 1.3 * heights[0]
    medcoss("data", "preview", "data/report", "--modality", "report", "--from", "runs/tiny", "--out", "words.png")
    _, err = medcoss("data", "preview", "data/ct", "--modality", "ct", "--from", "runs/tiny", code=5)
    assert "not ct" in err


def test_an_unknown_verb_or_option_is_usage(medcoss: Run) -> None:
    _, err = medcoss("pretrian", code=2)
    assert "did you mean pretrain?" in err
    medcoss("pretrain", "--no-such-option", code=2)
    out, _ = medcoss("--version")
    assert out.startswith("medcoss ")


def test_resume_takes_no_other_settings(medcoss: Run, run_folder: Path) -> None:
    _, err = medcoss("pretrain", "mini", "--resume", "runs/tiny", code=2)
    assert "medcoss pretrain --resume runs/tiny" in err
    _, err = medcoss("pretrain", "--resume", "data", code=2)
    assert "not a run's folder" in err
    out, _ = medcoss("pretrain", "--resume", "runs/tiny")  # finished: it says what there is
    assert "Retention" in out
