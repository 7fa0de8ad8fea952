"""A run's folder: one owner, names that are never taken twice, files that survive a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import CheckpointError, DataError, ResourceError, UsageError
from medcoss_cli.store import atomic
from medcoss_cli.store.run import Run, facts_of, without_paths

RECIPE = {"kind": "pretrain", "title": "Röntgen", "train": {"epochs": 3}}


def create(folder: Path, name: str = "a", *, overwrite: bool = False, exact: bool = True) -> Run:
    facts = {"kind": "pretrain", "data_root": "/data", "prepared": "/prepared"}
    return Run.create(folder / "runs", name, recipe=RECIPE, facts=facts, overwrite=overwrite, exact=exact)


def rows(run: Run) -> list[Any]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    run = create(tmp_path)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts == run.facts
    assert facts["kind"] == "pretrain"
    assert facts["finished"] is None
    assert facts["started"]
    assert facts["command"] == sys.argv[1:]
    assert set(facts["versions"]) == {"medcoss", "torch", "python"}
    assert yaml.safe_load(run.recipe.read_text(encoding="utf-8")) == RECIPE
    assert run.checkpoint == tmp_path / "runs" / "a" / "ckpt.pt"
    run.finish()
    assert json.loads((run.folder / "run.json").read_text())["finished"]
    run.close()


def test_a_taken_name_gets_a_number_unless_it_was_asked_for(tmp_path: Path) -> None:
    runs = [create(tmp_path, exact=False) for _ in range(3)]
    assert [run.folder.name for run in runs] == ["a", "a-2", "a-3"]
    with pytest.raises(UsageError, match=r"already exists; --resume .*runs/a, --overwrite, or another --name"):
        create(tmp_path)
    for run in runs:
        run.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../data"])
def test_a_name_is_not_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not a valid name for a run"):
        create(tmp_path, name, overwrite=True)
    assert (tmp_path / "ckpt.pt").read_bytes() == b"mine"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").write_bytes(b"")
    with pytest.raises(UsageError, match="a file of this name"):
        create(tmp_path, overwrite=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "runs").write_bytes(b"")
    with pytest.raises(UsageError, match="a file of this name"):
        create(tmp_path / "b", exact=False)


def test_overwriting_removes_what_medcoss_made_and_nothing_else(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.log("a line")
    run.metric({"stage": 1, "step": 1})
    run.save_resume({"stage": 1})
    atomic.write(run.encoder(1, "xray"), b"weights")
    atomic.write(run.encoder(2, "ct"), b"weights")
    run.checkpoint.write_bytes(b"old")
    (run.folder / "notes.md").write_text("mine")
    (run.folder / "stages" / "2-ct" / "notes.md").write_text("mine")
    run.close()
    again = create(tmp_path, overwrite=True)
    left = sorted(str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file())
    assert left == [".lock", "notes.md", "recipe.yaml", "run.json", "stages/2-ct/notes.md"]
    assert not (run.folder / "stages" / "1-xray").exists()
    assert again.load_resume() is None
    again.close()


def test_a_run_that_is_at_work_is_not_overwritten(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.checkpoint.write_bytes(b"precious")
    with pytest.raises(ResourceError, match=rf"another run is using this folder \(process {os.getpid()} on ") as e:
        create(tmp_path, overwrite=True)
    assert e.value.exit_code == 6
    with pytest.raises(ResourceError):
        Run.resume(run.folder)
    assert run.checkpoint.read_bytes() == b"precious"
    assert Run.resume(run.folder, writes=False).facts == run.facts  # other ranks read it
    run.close()
    Run.resume(run.folder).close()


OWNER = """
import os, sys, time
from pathlib import Path
from medcoss_cli.store.run import Run
run = Run.create(Path(sys.argv[1]), "a", recipe={}, facts={"data_root": "d", "prepared": "p"}, overwrite=False, exact=True)
child = os.fork() if sys.argv[2] == "forks" else None
if child == 0:  # as a DataLoader's worker would
    time.sleep(60)
print(child or 0, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "forks"])
def test_a_second_process_is_refused_and_kill_9_leaves_no_lock_behind(tmp_path: Path, how: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), how], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(ResourceError, match=rf"process {process.pid} on "):
            Run.resume(tmp_path / "a")
        process.send_signal(signal.SIGKILL)
        process.wait()
        if child:
            os.kill(child, 0)  # the worker still lives, and does not hold the folder
        Run.resume(tmp_path / "a").close()
    finally:
        process.kill()
        if child:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_closes_the_run_closes_nothing_else(tmp_path: Path) -> None:
    code = OWNER[: OWNER.index("child =")] + (
        "child = os.fork()\n"
        "if child == 0:\n"
        "    files = [open(os.devnull) for _ in range(5)]  # one of them gets the number that the lock had\n"
        "    run.close()\n"
        "    [os.fstat(file.fileno()) for file in files]\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_that_begin_at_once_get_two_folders(tmp_path: Path) -> None:
    code = OWNER.replace("exact=True", "exact=False").replace("print(child or 0", "print(run.folder.name")
    command = [sys.executable, "-c", code, str(tmp_path), "alone"]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    try:
        names = [process.stdout.readline().strip() for process in several if process.stdout]
    finally:
        for process in several:
            process.kill()
            process.wait()
    assert sorted(names) == [b"a", b"a-2", b"a-3", b"a-4"]


def test_a_folder_that_cannot_be_locked_or_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    run = create(tmp_path)
    run.close()

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(ResourceError, match="no locks"):
            Run.resume(run.folder)
    Run.resume(run.folder).close()

    def denied(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ResourceError, match="permission denied when writing"):
        create(tmp_path, "b")


def test_a_run_whose_folder_cannot_be_filled_lets_go_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="no space left"):
            create(tmp_path)
    create(tmp_path, overwrite=True).close()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"a": 1}', '{"started": 1}'])
def test_a_folder_that_is_no_run_is_not_resumed(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match="not a run's folder"):
        Run.resume(tmp_path)
    with pytest.raises(UsageError, match="not a run's folder"):
        Run.resume(tmp_path / "nowhere")
    assert not (tmp_path / ".lock").exists()


@settings(max_examples=30)
@given(steps=st.lists(st.integers(1, 6), max_size=3), stage=st.integers(1, 4), step=st.integers(0, 7))
def test_metrics_are_cut_where_the_run_goes_on(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], stage: int, step: int
) -> None:
    run = create(tmp_path_factory.mktemp("metrics"))
    written = [{"stage": s, "step": i + 1} for s, count in enumerate(steps, 1) for i in range(count)]
    for row in written:
        run.metric(row)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": 1, "st')  # a kill in the midst of a line
    run.truncate_metrics(stage=stage, step=step)
    expected = [r for r in written if r["stage"] < stage or (r["stage"] == stage and r["step"] <= step)]
    assert rows(run) == expected
    run.metric({"stage": stage, "step": step + 1})
    assert rows(run) == [*expected, {"stage": stage, "step": step + 1}]
    run.close()


def test_the_resume_file_comes_back_and_goes(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.load_resume() is None
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.95), "params": [0]}]}
    run.save_resume({"stage": 2, "step": 7, "optimiser": optimiser})
    state = run.load_resume()
    assert state is not None
    assert set(state) == {"stage", "step", "optimiser"}
    assert state["optimiser"]["state"][0]["step"] == 3  # keys stay numbers
    assert state["optimiser"]["param_groups"][0]["betas"] == [0.9, 0.95]
    run.drop_resume()
    assert run.load_resume() is None
    run.drop_resume()
    run.close()


@pytest.mark.parametrize("kind", ["noise", "foreign", "newer", "checkpoint"])
def test_a_resume_file_that_is_not_ours_is_refused(tmp_path: Path, kind: str) -> None:
    run = create(tmp_path)
    path = run.folder / "resume.pt"
    if kind == "noise":
        path.write_bytes(b"noise")
    elif kind == "foreign":
        torch.save({"stage": 1}, path)
    elif kind == "newer":
        torch.save({"medcoss": {"schema": 2, "file": "resume"}}, path)
    else:
        torch.save({"medcoss": {"schema": 1}}, path)
    with pytest.raises(CheckpointError) as refused:
        run.load_resume()
    assert refused.value.where == str(path)
    assert refused.value.fix == (
        "pip install --upgrade medcoss" if kind == "newer" else "remove it; the stage then starts again"
    )
    run.close()


def test_a_run_has_its_name_when_it_can_be_resumed(tmp_path: Path) -> None:
    seen: list[bool] = []

    def begin(folder: Path) -> None:
        seen.append((tmp_path / "runs" / "a").exists())
        (folder / "init.pt").write_bytes(b"weights")

    arguments: dict[str, Any] = {"recipe": RECIPE, "facts": {"kind": "pretrain"}, "overwrite": False, "exact": True}
    run = Run.create(tmp_path / "runs", "a", **arguments, begin=begin)
    assert seen == [False]
    assert run.init.read_bytes() == b"weights"
    run.close()

    def fail(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run.create(tmp_path / "runs", "b", **arguments, begin=fail)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_what_a_killed_beginning_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "runs" / f"{atomic.PREFIX}a-123456"
    left.mkdir(parents=True)
    (left / ".lock").write_text("process 1")
    (left / "init.pt").write_bytes(b"half")
    create(tmp_path).close()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_resuming_clears_what_a_kill_left_unfinished(tmp_path: Path) -> None:
    run = create(tmp_path)
    atomic.write(run.encoder(1, "xray"), b"weights")
    for place in (run.folder, run.folder / "stages" / "1-xray"):
        (place / f"{atomic.PREFIX}ckpt.pt-1").write_bytes(b"half")
    run.close()
    Run.resume(run.folder).close()
    assert list(run.folder.rglob(f"{atomic.PREFIX}*")) == []


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    first = create(tmp_path)
    first.metric({"stage": 1, "step": 5})
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    other = Run.resume(first.folder, writes=False)
    other.log("x")
    other.metric({"stage": 1, "step": 6})
    other.truncate_metrics(stage=1, step=0)
    other.save_resume({})
    other.drop_resume()
    other.finish()
    other.close()
    assert {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")} == before
    first.close()


HEADER = "file,part,bad,reason\n"


@pytest.fixture
def short_fields() -> Iterator[None]:
    before = csv.field_size_limit(2**17)  # a reader of tables raises it for the whole process
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("short_fields")
@pytest.mark.parametrize("content", ["", "\n\n", f"{HEADER}{'x' * 200_000},,no,blank\n", None])
def test_a_damaged_table_of_unused_files_is_a_sentence(tmp_path: Path, content: str | None) -> None:
    run, table = create(tmp_path), tmp_path / "set" / "quarantine.csv"
    table.parent.mkdir()
    if content is not None:
        table.write_text(content)
    with pytest.raises(DataError, match="prepare again") as refused:
        run.quarantine(1, [table])
    assert refused.value.where == str(table)
    table.write_text(f"{HEADER}a,,no,blank\n")
    if content is not None:
        (run.folder / "quarantine.csv").write_text(content)
        with pytest.raises(CheckpointError, match="delete it") as refused_again:
            run.quarantine(1, [table])
        assert refused_again.value.where == str(run.folder / "quarantine.csv")
    run.close()


def test_a_blank_line_among_unused_files_is_no_row(tmp_path: Path) -> None:
    run, table = create(tmp_path), tmp_path / "quarantine.csv"
    table.write_text(f"{HEADER}\nb,,no,blank\n")
    kept = run.folder / "quarantine.csv"
    kept.write_text(f"stage,{HEADER}\n1,a,,no,blank\n")
    run.quarantine(2, [table])
    assert kept.read_text() == f"stage,{HEADER}1,a,,no,blank\n2,b,,no,blank\n"
    run.close()


def test_a_log_line_has_the_time_and_may_hold_any_file_name(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.log("gelesen: Größe\udcff.png")
    assert b"Gr\xc3\xb6\xc3\x9fe\xff.png\n" in (run.folder / "log.txt").read_bytes()
    time.strptime((run.folder / "log.txt").read_bytes()[:8].decode(), "%H:%M:%S")
    run.close()


def test_a_recipe_without_its_paths() -> None:
    recipe = {
        "kind": "pretrain",
        "title": "SECRET",
        "data": {"root": "/SECRET", "prepared": "/SECRET", "split": "train"},
        "from": "/SECRET/ckpt.pt",
        "stages": [{"modality": "xray", "data": "SECRET", "vocabulary": "/SECRET.json", "size": [8, 8]}],
        "vocabulary": "/SECRET",
        "seed": 0,
    }
    kept = without_paths(recipe)
    assert "SECRET" not in json.dumps(kept)
    assert kept == {
        "kind": "pretrain",
        "data": {"split": "train"},
        "stages": [{"modality": "xray", "size": [8, 8]}],
        "seed": 0,
    }
    assert recipe["title"] == "SECRET"  # the recipe itself is as it was


def test_two_that_begin_while_others_sweep_get_whole_folders(tmp_path: Path) -> None:
    """Each new folder is made while others remove what killed processes left: nobody's folder is taken away."""
    program = """
import sys
from pathlib import Path
from medcoss_cli.store.run import Run
for _ in range(10):
    facts = {"data_root": "d", "prepared": "p"}
    run = Run.create(Path(sys.argv[1]), "a", recipe={}, facts=facts, overwrite=False, exact=False)
    assert (run.folder / "run.json").exists()
    run.close()
"""
    begun = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "runs")]) for _ in range(3)]
    assert [process.wait(120) for process in begun] == [0, 0, 0]
    assert len(list((tmp_path / "runs").iterdir())) == 30


def test_a_folder_that_was_killed_before_its_lock_is_removed(tmp_path: Path) -> None:
    (tmp_path / "runs" / f"{atomic.PREFIX}a-123456").mkdir(parents=True)
    create(tmp_path).close()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_a_fine_tuning_without_a_seed_is_damaged(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.close()
    path = run.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "finetune", "seeds": []}))
    with pytest.raises(CheckpointError, match="it names no seed"):
        facts_of(run.folder)
