"""The verb `report`: where the page is, and what the user is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.report.test_page import finetune_run, pretrain_run


def test_it_says_where_the_page_is_and_that_it_may_be_shared(command_line: CommandLine, tmp_path: Path) -> None:
    run = pretrain_run(tmp_path / "run")
    answer = command_line("report", str(run))
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"shareable: {run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_several_runs_make_one_page_here(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pretrain_run(tmp_path / "a")
    finetune_run(tmp_path / "b")
    assert command_line("report", "a", "b").err == "shareable: report.html\n"
    assert command_line("report", "a", "b", "-o", "pages/both.html").err == "shareable: pages/both.html\n"
    assert (tmp_path / "report.html").read_bytes() == (tmp_path / "pages" / "both.html").read_bytes()


def test_samples_are_announced(command_line: CommandLine, tmp_path: Path) -> None:
    plain, shows = finetune_run(tmp_path / "a"), finetune_run(tmp_path / "b", pictures=["best-1"])
    assert "note: there are no pictures of samples here" in command_line("report", str(plain), "--with-samples").err
    assert command_line("report", str(shows), "--with-samples").err.startswith("private: holds samples: ")


def test_faults_have_their_exit_codes(command_line: CommandLine, tmp_path: Path) -> None:
    answer = command_line("report", str(tmp_path))
    assert answer.code == 2
    assert "this is not a run's folder; name a folder under runs/" in answer.err
    assert command_line("report").code == 2
    run = finetune_run(tmp_path / "run")
    (run / "results.json").write_text("{")
    assert command_line("report", str(run)).code == 4
