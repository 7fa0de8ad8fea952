"""`medcoss compare` as a user runs it: stopped, killed, with cells that fail, and once more."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medcoss_cli.tasks.classification import Classification
from tests.comparisons import METHODS, write
from tests.conftest import CommandLine
from tests.pretraining_runs import write_demo
from tests.toy_plugins import install

FAULTY = """
import os, signal
from medcoss_cli.strategies import Strategy
class Killed(Strategy):
    plain_first_stage = True
    def loss(self, model, batch):
        os.kill(os.getpid(), signal.SIGKILL)
class Greedy(Strategy):
    plain_first_stage = True
    def loss(self, model, batch):
        raise MemoryError
"""


FAILING = "  - {name: killed, strategy: killed}\n  - {name: greedy, strategy: greedy}\n"


def command(folder: Path, data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "medcoss_cli", "compare", "tiny.yaml", "--data-root", str(data), *arguments]


def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "MEDCOSS_PREPARED": str(site / "prepared")}


def compare(folder: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, data, *arguments),
        cwd=folder,
        env=environment(data),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_demo(tmp_path_factory.mktemp("data"), report=12, pathology=20)
    for name in ("Killed", "Greedy"):
        install(folder, name.lower(), FAULTY, group="medcoss.strategies")
        info = next(folder.glob(f"medcoss_x_{name.lower()}-*.dist-info"))
        (info / "entry_points.txt").write_text(
            f"[medcoss.strategies]\n{name.lower()} = medcoss_x_{name.lower()}:{name}\n"
        )
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A comparison in which two methods fail; the folder it was run in."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder, methods=METHODS + FAILING, more="labels: [1]\nreference: medcoss")
    answer = compare(folder, data)
    (folder / "code").write_text(str(answer.returncode))
    (folder / "err").write_text(answer.stderr)
    (folder / "out").write_text(answer.stdout)
    return folder


@pytest.fixture
def here(whole: Path, data: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in that folder, in this process: for calls that make no cell."""
    monkeypatch.chdir(whole)
    monkeypatch.setenv("MEDCOSS_DATA", str(data))
    return command_line


def test_cells_that_fail_stop_no_other(whole: Path) -> None:
    assert (whole / "code").read_text() == "10"
    err = (whole / "err").read_text()
    assert "killed, seed 0: pre-training failed: its process was ended by signal 9, possibly for want of memory" in err
    assert "greedy, seed 0: pre-training failed: there is not enough memory" in err
    assert "cells failed, the others are done" in err
    assert "Traceback" not in err
    states = [json.loads(path.read_text())["status"] for path in (whole / "runs/compare-tiny/cells").glob("*.json")]
    assert states.count("failed") == 2
    assert states.count("done") > 12


def test_a_failed_cell_is_shown_as_failed(whole: Path) -> None:
    page = (whole / "runs/compare-tiny/tables.html").read_text()
    assert page.count(">failed<") >= 2
    [tiles] = [line for line in page.split("<tr>") if "kept by the recipe" in line or ">counts<" in line]
    assert re.search(r">\d+</td><td[^>]*>\d+</td><td[^>]*>0\.\d+</td>", tiles), tiles  # trained on, tested on, trivial
    [own] = [line for line in page.split("<tr>") if "pathology alone" in line]  # of the method `single`
    assert re.search(r"0: [0-9a-f]{7}", own)
    out = (whole / "out").read_text()
    assert any(line.startswith("killed") and "failed" in line for line in out.splitlines())


def test_an_earlier_failure_is_not_taken_for_a_new_one(whole: Path, data: Path) -> None:
    for path in (whole / "runs/compare-tiny/cells").glob("*.json"):
        if "signal 9" in path.read_text():
            path.write_text(json.dumps({"status": "failed", "error": "an earlier reason"}))
    answer = compare(whole, data, "--only", "killed")
    assert answer.returncode == 10
    assert "signal 9" in answer.stderr
    assert "an earlier reason" not in answer.stderr


def test_the_page_is_shareable(whole: Path, data: Path) -> None:
    files = [whole / "runs/compare-tiny/tables.html", *(whole / "runs/compare-tiny/tables").iterdir()]
    assert len(files) >= 6
    for path in files:
        text = path.read_text()
        assert str(data) not in text
        assert str(whole) not in text
        assert "pathology-" not in text  # as the files are called
        assert "<script" not in text
        assert "http://" not in text.replace("http://www.w3.org", "")


def test_every_number_has_its_line(whole: Path) -> None:
    rows = list(csv.DictReader((whole / "runs/compare-tiny/tables/numbers.csv").open()))
    frozen = {
        (row["method"], row["stages_seen"]): float(row["value"])
        for row in rows
        if (row["measure"], row["metric"]) == ("frozen", "accuracy") and row["value"]
    }
    assert {("medcoss", "1"), ("medcoss", "2"), ("sequential", "2"), ("single", "1"), ("scratch", "0")} <= frozen.keys()
    assert frozen["medcoss", "1"] == frozen["sequential", "1"] == frozen["single", "1"]  # one head on one first stage


def test_a_number_is_the_run_s_own(whole: Path) -> None:
    rows = csv.DictReader((whole / "runs/compare-tiny/tables/numbers.csv").open())
    row = next(r for r in rows if (r["method"], r["measure"], r["metric"]) == ("medcoss", "full", "auc_ovo"))
    results = json.loads((whole / "runs/compare-tiny/runs" / row["cell"] / "results.json").read_text())
    assert float(row["value"]) == results["seeds"][0]["test"]["metrics"]["auc_ovo"]


def test_what_is_done_is_not_done_again(whole: Path, here: CommandLine) -> None:
    cells = whole / "runs/compare-tiny/cells"
    before = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json") if "failed" not in path.read_text()}
    write(whole, more="labels: [1]")  # without the faulty ones
    answer = here("compare", "tiny.yaml", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["dropped"] == []
    assert {name: (cells / name).stat().st_mtime_ns for name in before} == before
    differences, draws = (whole / "runs/compare-tiny/tables/differences.csv"), (whole / "runs/compare-tiny/draws")
    told, kept = differences.read_bytes(), {path: path.stat().st_mtime_ns for path in draws.iterdir()}
    assert kept
    assert here("compare", "tiny.yaml").code == 0
    assert (differences.read_bytes(), {path: path.stat().st_mtime_ns for path in draws.iterdir()}) == (told, kept)


def test_a_folder_of_another_comparison_is_refused(whole: Path, here: CommandLine) -> None:
    write(whole, more="seeds: [7]")
    answer = here("compare", "tiny.yaml")
    assert answer.code == 2
    assert "no cell in it belongs to this recipe; choose another --name" in answer.err


def test_the_folder_of_a_run_is_refused(whole: Path, here: CommandLine) -> None:
    write(whole)
    [run, *_] = sorted(
        path for path in (whole / "runs/compare-tiny/runs").glob("pretrain-*") if (path / "ckpt.pt").exists()
    )
    other = whole / "runs" / "a-run"
    other.mkdir()
    for name in ("run.json", "recipe.yaml"):
        (other / name).write_bytes((run / name).read_bytes())
    answer = here("compare", "tiny.yaml", "--name", "a-run")
    assert answer.code == 2
    assert "this folder is of another run or comparison" in answer.err
    assert (other / "recipe.yaml").read_bytes() == (run / "recipe.yaml").read_bytes()
    answer = here("compare", "tiny.yaml", "--name", "../evil")
    assert (answer.code, "not a valid name for a run" in answer.err) == (2, True)


def test_cells_of_other_data_are_made_again_and_said(whole: Path, data: Path, here: CommandLine) -> None:
    write(whole, more="labels: [1]")
    assert here("compare", "tiny.yaml", "--dry-run").code == 0
    note = data / "pathology" / "note.csv"
    note.write_text("a\n")
    try:
        answer = here("compare", "tiny.yaml", "--dry-run")
    finally:
        note.unlink()
    assert answer.code == 0, answer.err
    assert "cells in the folder were made with other settings, data or plugins and are not used" in answer.err
    assert {line.split()[-3] for line in answer.out.splitlines()[2:6]} == {"0"}  # none is done


def test_the_plan_writes_nothing(whole: Path, here: CommandLine) -> None:
    write(whole)
    answer = here("compare", "tiny.yaml", "--dry-run", "--name", "other")
    assert answer.code == 0, answer.err
    first = [line.split()[0] for line in answer.out.splitlines()[2:]]
    assert first == ["pre-trainings", "fine-tunings", "tests", "linear", "in"]
    assert not (whole / "runs/other").exists()


def test_an_unknown_name_is_refused(whole: Path, here: CommandLine) -> None:
    write(whole)
    answer = here("compare", "tiny.yaml", "--only", "nobody")
    assert answer.code == 2
    assert "there is no such method or task; there are scratch, single, sequential, medcoss, tiles" in answer.err


def test_stopped_it_gives_the_same_numbers(whole: Path, data: Path, tmp_path: Path) -> None:
    """Killed: `kills` in tests/campaign."""
    write(tmp_path, methods="  - {name: sequential, strategy: sequential}\n", more="measures: [frozen]")
    cells = tmp_path / "runs/compare-tiny/cells"
    process = subprocess.Popen(
        command(tmp_path, data),
        cwd=tmp_path,
        env=environment(data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    began = time.monotonic()
    while not list(cells.glob("*.json")) and time.monotonic() - began < 120:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert len(list(cells.glob("*.json"))) < 6
    for path in (whole / "runs/compare-tiny/cells").glob("tune-*.json"):
        if not (cells / path.name).exists():  # as if it had been killed at its very beginning
            shutil.rmtree(tmp_path / "runs/compare-tiny/runs" / path.stem, ignore_errors=True)
            (tmp_path / "runs/compare-tiny/runs" / path.stem).mkdir(parents=True)
    answer = compare(tmp_path, data)
    assert answer.returncode == 0, answer.stderr
    ours = _numbers(tmp_path)
    assert len(ours) > 8
    assert ours == {key: value for key, value in _numbers(whole).items() if key in ours}


def _numbers(folder: Path) -> dict[tuple[str, ...], str]:
    rows = csv.DictReader((folder / "runs/compare-tiny/tables/numbers.csv").open())
    return {(row["cell"], row["stages_seen"], row["metric"]): row["value"] for row in rows if row["value"]}


def test_the_same_cases_are_drawn_under_every_method(whole: Path, here: CommandLine) -> None:
    write(whole, more="labels: [1]")
    answer = here("compare", "tiny.yaml", "--cases", "2")
    assert answer.code == 0, answer.err
    assert "cases (private: shows samples)" in answer.err
    page = (whole / "runs/compare-tiny/cases.html").read_text()
    assert "Private" in page
    assert page.count("<img") == 2 * 4
    assert [page.count(f"<figcaption>{name}<") for name in ("scratch", "single", "sequential", "medcoss")] == [2] * 4


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda text: text.replace("where,", "who,", 1), "there is no column where"),
        (lambda text: text.replace(",log_p_", ",log_q_", 1), "there is no number in a column log_p_"),
        (lambda text: text.replace(",0.", ",zero.", 1), "there is no number in a column"),
        (lambda text: text.rpartition(",")[0] + "\n", "a row of another length"),
        (lambda text: text.replace(".csv:", ".csv:9999", 1), "the data has no case"),
    ],
    ids=["no where", "no column", "no number", "short", "no case"],
)
def test_a_damaged_table_of_cases_is_named(
    whole: Path, here: CommandLine, harm: Callable[[str], str], said: str
) -> None:
    write(whole, more="labels: [1]")
    tables = {path: path.read_text() for path in whole.glob("runs/compare-tiny/**/seed-*/cases.csv")}
    try:
        for path, text in tables.items():
            path.write_text(harm(text))
        answer = here("compare", "tiny.yaml", "--cases", "2")
    finally:
        for path, text in tables.items():
            path.write_text(text)
    assert answer.code == 5, answer.err
    assert f"the table of test cases is damaged ({said}" in answer.err


def test_cases_are_drawn_where_the_data_was_moved(whole: Path, here: CommandLine) -> None:
    write(whole, more="labels: [1]")
    tables = {path: path.read_text() for path in whole.glob("runs/compare-tiny/**/seed-*/cases.csv")}
    try:
        for path, text in tables.items():
            path.write_text(re.sub(r"[^\n,]*(?=manifest\.csv:)", "/elsewhere/", text))
        assert "/elsewhere/" in path.read_text()
        answer = here("compare", "tiny.yaml", "--cases", "2")
    finally:
        for path, text in tables.items():
            path.write_text(text)
    assert answer.code == 0, answer.err


def test_a_fault_in_the_drawing_is_not_called_damage(
    whole: Path, here: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*arguments: object) -> None:
        raise KeyError("a fault of our own")

    write(whole, more="labels: [1]")
    monkeypatch.setattr(Classification, "draw", draw)
    answer = here("compare", "tiny.yaml", "--cases", "2")
    assert answer.code == 1
    assert "damaged" not in answer.err
