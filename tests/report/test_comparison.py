"""The page of several runs: every value in the column of its start or strategy."""

from __future__ import annotations

import json
from pathlib import Path

from medcoss_cli.report.comparison import starts
from medcoss_cli.report.runs import Finetuning, read
from tests.report_pages import finetune_run, made, pretrain_run


def test_several_fine_tunings_are_compared_task_by_task(tmp_path: Path) -> None:
    runs = [
        finetune_run(tmp_path / f"{start}-{i}", title=f"Task {i}", task=task, start=start, mean=mean - 0.1 * i)
        for start, mean in (("medcoss", 0.9), ("scratch", 0.7))
        for i, task in enumerate(("classification", "segmentation", "classification"))
    ]
    page = made(*runs)
    rows = page.table("task", "medcoss: alpha, gamma", "scratch")
    assert rows["Task 0"] == ["gamma", "Accuracy", "0.900 ± 0.014", "0.700 ± 0.014"]
    assert rows["Task 1"] == ["gamma", "Dice", "0.800 ± 0.014", "0.600 ± 0.014"]
    assert page.tags.count("svg") == 1
    page = made(*runs[:2], runs[0])  # two tasks: no radar; the same start twice: a column each
    assert page.tags.count("svg") == 0
    assert page.table("task", "medcoss: alpha, gamma 2")["Task 1"][2:] == ["0.800 ± 0.014", "–"]


def test_columns_are_starts_whatever_the_order_of_the_runs(tmp_path: Path) -> None:
    """Two strategies on two tasks, given in another order for the second task: no value may change its column."""
    runs = {
        (start, task): finetune_run(tmp_path / f"{start}-{task}", title=task, start=start, mean=mean)
        for task in ("One", "Two")
        for start, mean in (("medcoss", 0.9), ("sequential", 0.5))
    }
    order = [("medcoss", "One"), ("sequential", "One"), ("sequential", "Two"), ("medcoss", "Two")]
    rows = made(*(runs[key] for key in order)).table("task", "medcoss: alpha, gamma", "sequential: alpha, gamma")
    for task in ("One", "Two"):
        assert rows[task][2:] == ["0.900 ± 0.014", "0.500 ± 0.014"]


def test_starts_that_are_called_alike_have_title_or_hash(tmp_path: Path) -> None:
    folders = [finetune_run(tmp_path / str(i), start="medcoss") for i in range(3)]
    for digest, title, folder in zip("abc", ("", "long", "long"), folders, strict=True):
        results = json.loads((folder / "results.json").read_text())
        results["start"] |= {"sha256": 64 * digest, "title": title}
        (folder / "results.json").write_text(json.dumps(results))
    tuned = [run for folder in folders for run in read(folder) if isinstance(run, Finetuning)]
    words = [f"medcoss: alpha, gamma{more}" for more in ("", " (long) bbbbbbb", " (long) ccccccc")]
    assert sorted(starts(tuned).values()) == sorted(words)


def test_a_test_with_two_encoders_is_a_comparison(tmp_path: Path) -> None:
    """What `evaluate --encoder -o` leaves: no run.json, a summary for each encoder."""
    out = finetune_run(tmp_path / "out")
    results = json.loads((out / "results.json").read_text())
    for path in out.iterdir():
        if path.is_file() and path.name != "results.json":
            path.unlink()
    labels = {"as trained": 0.9, "newer encoder": 0.6}
    results |= {
        "kind": "evaluate",
        "tested": "2026-02-03",
        "seeds": [entry | {"encoder": label} for label in labels for entry in results["seeds"]],
        "summary": {label: {"accuracy": {"mean": mean, "sd": None}} for label, mean in labels.items()},
        "overlap": {"groups": 2, "samples": 0, "allowed": True},
        "left_out": {"unreadable": 3, "without a target": 0},
    }
    (out / "results.json").write_text(json.dumps(results))
    page = made(out)
    starts = ("medcoss: alpha, gamma", "medcoss: alpha, gamma, newer encoder")
    assert page.table("task", *starts)["Colon tissue"][2:] == ["0.900", "0.600"]
    del results["summary"]["newer encoder"]
    (out / "results.json").write_text(json.dumps(results))
    page = made(out)
    assert "left out 3 unreadable" in page.text
    assert "trained on, of these 2 patients" in page.text
    assert "finished 2026-02-03" in page.text


def test_several_pretrainings_are_compared_by_strategy(tmp_path: Path) -> None:
    runs = [
        pretrain_run(tmp_path / "a"),
        pretrain_run(tmp_path / "b", strategy="sequential", forgets=0.2),
        finetune_run(tmp_path / "c"),
    ]
    page = made(*runs)
    assert page.table("anchors of", "medcoss", "sequential")["alpha"] == ["0.980", "0.600"]
    assert page.table("", "medcoss", "sequential")["least remembered"] == ["alpha, 0.980", "alpha, 0.600"]
    assert page.table("task", "medcoss: alpha, gamma")["Colon tissue"][2] == "0.900 ± 0.014"
    assert page.tags.count("svg") == 1
