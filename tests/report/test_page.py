"""The page of a run: what it says, what it never says, and that nothing in a run's folder breaks it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medcoss_cli.errors import CheckpointError, DataError, UsageError
from medcoss_cli.report import write
from medcoss_cli.report.comparison import starts
from medcoss_cli.report.page import duration, shown, table
from medcoss_cli.report.runs import Finetuning, read

PLANTED = ("Mustermann", "secret-host", "/home/someone", "patient_0815.dcm", "annotated-by-Maier", "weights.pth")
LABELS = ("tumour", "stroma", "fat")


class Page(HTMLParser):
    """What a reader of the page sees: words, tables as cells, banners, and what a browser would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.banners: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name, value in attrs if value and name in ("src", "href", "xlink:href", "srcset")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if "note" in (values.get("class") or "").split():
            self.banners.append("")
            tag = "note"
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        if "note" in self.open:
            self.banners[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, *columns: str) -> dict[str, list[str]]:
        """The rows, by their first cell, of the table whose head has these columns."""
        [found] = [table for table in self.tables if table and set(columns) <= set(table[0])]
        return {row[0]: row[1:] for row in found[1:]}


def pretrain_run(folder: Path, *, strategy: str = "medcoss", finished: bool = True, forgets: float = 0.01) -> Path:
    """A run's folder as pretrain leaves it, without a checkpoint; names that must not be told are all over it."""
    folder.mkdir(parents=True)
    names = ["alpha", "beta", "gamma"]
    facts = {
        "kind": "pretrain",
        "data_root": PLANTED[2],
        "host": PLANTED[1],
        "command": ["pretrain", "mini", f"data.root={PLANTED[2]}/{PLANTED[0]}"],
        "versions": {"medcoss": "0.1.0", "torch": "2.10.0"},
        "started": "2026-01-02T03:04:05+0000",
        "finished": "2026-01-02T04:04:05+0000" if finished else None,
    }
    recipe = {
        "schema": 1,
        "kind": "pretrain",
        "title": f"for {PLANTED[0]}",
        "data": {"root": PLANTED[2], "prepared": f"{PLANTED[2]}/p", "split": "train"},
        "train": {"epochs": 2.0, "lr": 0.001},
        "strategy": strategy,
        "encoder": {"width": 128, "depth": 4, "heads": 4},
        "stages": [{"modality": name, "data": f"{name}/{PLANTED[3]}", "size": [16, 64]} for name in names],
    }
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "log.txt").write_text(f"reading {PLANTED[3]} of {PLANTED[0]}")
    stages = []
    with (folder / "metrics.jsonl").open("w") as file:
        for stage, name in enumerate(names, 1):
            for step in range(1, 41):
                new = stage == 1 or step % 4 > 0
                row = {"stage": stage, "step": step, "modality": name if new else names[0], "new": new}
                row |= {"loss": 2 / step, "lr": 0.001, "seconds": 0.5, "samples": 8}
                file.write(json.dumps(row | ({"relative": 1.2 if step < 10 else 0.5} if new else {})) + "\n")
            measured = {
                m: {
                    "cka": 1 - forgets * (stage - i),
                    "cosine": 1.0,
                    "shift": 0.5 * (stage - i),
                    "loss": 2.0,
                    "loss_then": 1.9,
                    "anchors": 16.0,
                }
                for i, m in enumerate(names[:stage], 1)
            }
            stages.append({"stage": stage, "modality": name, "retention": measured})
    (folder / "retention.json").write_text(json.dumps({"stages": stages[: 3 if finished else 1], "lowest": None}))
    return folder


def finetune_run(
    folder: Path,
    *,
    task: str = "classification",
    title: str = "Colon tissue",
    start: str = "medcoss",
    mean: float = 0.9,
    pictures: Sequence[str] = (),
) -> Path:
    """A run's folder as finetune leaves it, two seeds."""
    folder.mkdir(parents=True)
    recipe = {
        "kind": "finetune",
        "task": task,
        "modality": "gamma",
        "from": f"{PLANTED[2]}/ckpt.pt",
        "data": {"folder": PLANTED[0], "root": PLANTED[2], "split": "train"},
        "head": {"layers": 1, "hybrid": {"cnn": PLANTED[5], "depth": 50}},
        "official": {"list": f"C:\\{PLANTED[0]}"},
        "train": {"lr": 0.01, "steps": 60},
    }
    facts = {"kind": "finetune", "command": ["finetune", PLANTED[2]], "host": PLANTED[1], "started": "2026-01-02"}
    (folder / "run.json").write_text(json.dumps(facts | {"finished": "2026-01-03T00:00:00"}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "cases.csv").write_text(f"case,dice\n{PLANTED[0]},0.5\n{PLANTED[4]},0.9\n")
    main = "accuracy" if task == "classification" else "dice"
    seeds = []
    for seed in (0, 1):
        value = mean + 0.01 * (2 * seed - 1)
        place = folder / f"seed-{seed}"
        place.mkdir()
        with (place / "metrics.jsonl").open("w") as file:
            for step in range(1, 61):
                row: dict[str, Any] = {"step": step, "loss": 1 / step, "lr": 0.01, "seconds": 0.2}
                file.write(json.dumps(row) + "\n")
                if step % 10 == 0:
                    measured = {main: value - 0.2 / step, "loss": 0.3}
                    file.write(json.dumps({"step": step, "validation": measured}) + "\n")
        test: dict[str, Any] = {"metrics": {main: value}, "intervals": {main: [value - 0.05, value + 0.04]}}
        test["baseline"] = {main: 0.4}
        if task == "classification":
            test["metrics"] |= {"auc_ovo": 0.97, "auc_ovr": math.nan, "f1": None, "f1_macro": 0.88}
            test["confusion"] = [[40, 2, 1 + seed], [5, 30, 0], [0, 0, 7]]
        else:
            test["metrics"] |= {f"{m}_{c}": 0.5 for m in ("dice", "dice_paper", "hd95", "hd95_mm") for c in LABELS}
            test["metrics"] |= {f"missed_{c}": 2 for c in LABELS}
            test["cases"] = [
                {f"dice_{c}": 0.6 + 0.03 * k + 0.1 * i for i, c in enumerate(LABELS)}
                | {"dice_fat": math.nan, "hd95_fat": 3.0}
                for k in range(8)
            ]
        entry = {"seed": seed, "steps": 60, "best_step": 50, "seconds": 75.0, "peak_memory_gib": 1.5}
        seeds.append(entry | {"validation": {main: value}, "test": test})
        for name in pictures:
            (place / "cases").mkdir(exist_ok=True)
            Image.new("RGB", (24, 24), (200, 20 * seed, 30)).save(place / "cases" / f"{name}.png")
    data = {
        name: {"samples": n, "groups": n // 2, "classes": dict.fromkeys(LABELS, n // 3)}
        for name, n in (("train", 1200), ("val", 150), ("test", 85))
    }
    summary = {main: {"mean": mean, "sd": 0.0141}}
    results = {"kind": "finetune", "task": task, "title": title, "modality": "gamma", "dims": 2}
    results["start"] = (
        {"from": "scratch"}
        if start == "scratch"
        else {
            "from": "checkpoint",
            "sha256": hashlib.sha256(start.encode()).hexdigest(),
            "strategy": start,
            "stages": ["alpha", "gamma"],
            "title": "",
        }
    )
    results |= {"recipe": recipe, "classes": LABELS, "data": data, "versions": {"medcoss": "0.1.0"}}
    (folder / "results.json").write_text(json.dumps(results | {"seeds": seeds, "summary": summary}))
    return folder


def made(*folders: Path, with_samples: bool = False) -> Page:
    """The page of these runs."""
    written = write(folders, folders[0].parent / "page.html", with_samples=with_samples)
    return Page(written.path)


def test_a_pretraining_shows_curves_retention_stages_recipe_and_versions(tmp_path: Path) -> None:
    page = made(pretrain_run(tmp_path / "run"))
    assert page.banners == ["Shareable: holds no sample, name or path"]
    assert page.tags.count("svg") == 2
    assert "alpha → beta → gamma" in page.text
    cka, shift, loss = [t for t in page.tables if t[0][0] == "anchors of"]
    assert cka[1:] == [["alpha", "1.000", "0.990", "0.980"], ["beta", "", "1.000", "0.990"], ["gamma", "", "", "1.000"]]
    assert shift[1] == ["alpha", "0.000", "0.500", "1.000"]
    assert loss[1] == ["alpha", "2.000", "2.000", "2.000"]
    assert page.table("of them rehearsal")["2"] == ["beta", "medcoss", "–", "–", "40", "10", "0.500", "20.0 s"]
    assert page.table("version")["torch"] == ["2.10.0"]
    assert "least remembered alpha, 0.980" in page.text
    assert "epochs: 2.0" in page.text
    assert "Not a medical device. Made by medcoss" in page.text


def test_a_classification_shows_every_seed_beside_mean_and_baseline(tmp_path: Path) -> None:
    page = made(finetune_run(tmp_path / "run"))
    rows = page.table("metric", "baseline", "seed 0", "seed 1")
    assert rows["Accuracy"] == ["0.900 ± 0.014", "0.400", "0.890 [0.840, 0.930]", "0.910 [0.860, 0.950]"]
    assert rows["AUC, one against the rest"] == ["–", "–", "–", "–"]  # NaN
    assert rows["F1"] == ["–", "–", "–", "–"]  # null
    confusion = page.table("true \\ predicted")
    assert confusion["tumour"] == ["40 93 %", "2 5 %", "1 2 %"]  # of seed 0
    assert confusion["fat"] == ["0 0 %", "0 0 %", "7 100 %"]
    assert page.table("split", "fat")["train"] == ["1\u202f200", "600", "400", "400", "400"]
    assert page.table("best step")["0"] == ["60", "50", "1 min 15 s", "1.5 GiB", "0.890"]
    assert page.tags.count("svg") == 1


def test_a_segmentation_shows_a_strip_of_every_class(tmp_path: Path) -> None:
    page = made(finetune_run(tmp_path / "run", task="segmentation", title="Colon"))
    rows = page.table("metric", "baseline")
    assert next(iter(rows)) == "Dice"
    assert {
        "Dice: tumour",
        "Dice as in the paper: fat",
        "HD95 in voxels ↓: fat",
        "HD95 in mm ↓: fat",
        "nothing of it found, cases ↓: fat",
    } <= set(rows)
    assert page.tags.count("svg") == 2
    assert page.text.count("16 values") == 2  # the third class has no number in any case


def test_nothing_that_was_planted_is_on_a_page(tmp_path: Path) -> None:
    runs = [
        pretrain_run(tmp_path / PLANTED[0]),
        finetune_run(tmp_path / f"a-{PLANTED[0]}", pictures=[PLANTED[0]]),
        finetune_run(tmp_path / f"b-{PLANTED[0]}", task="segmentation"),
    ]
    for folders in ([runs[0]], [runs[1]], [runs[2]], runs):
        page = made(*folders)
        for word in (*PLANTED, str(tmp_path), "cases.csv", "ckpt.pt"):
            assert word not in page.source, word
        assert page.banners[0].startswith("Shareable")


def test_a_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    runs = [pretrain_run(tmp_path / "a"), finetune_run(tmp_path / "b", pictures=["best-1"])]
    page = made(*runs, with_samples=True)
    assert page.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link|\son\w+=", page.source)


def test_what_a_user_wrote_is_shown_as_text(tmp_path: Path) -> None:
    run = finetune_run(tmp_path / "run", task="segmentation", title="<script>alert('$x')</script> & Söhne")
    results = json.loads((run / "results.json").read_text())
    results["classes"] = ["</text><script>", "$a_{$"]
    results["seeds"][0]["test"]["cases"] = [{"dice_</text><script>": 0.5, "dice_$a_{$": 0.7}]
    results["versions"] = {"<img>": "<img>"}
    results["data"]["test"]["classes"] = {"<img src=x>": 3}
    (run / "results.json").write_text(json.dumps(results))
    page = made(run)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "<script>alert('$x')</script> & Söhne" in page.text
    assert "$a_{$" in page.text


def test_pictures_of_samples_make_a_page_private(tmp_path: Path) -> None:
    run = finetune_run(tmp_path / "run", pictures=["worst-1", "best-10", "best-2"])
    assert "img" not in made(run).tags
    page = made(run, with_samples=True)
    assert page.banners == ["Private: holds pictures of samples"]
    assert page.tags.count("img") == 6
    assert re.findall(r"<figcaption>([BW].*?)<", page.source)[:3] == [
        "Best 2 (seed 0)",
        "Best 10 (seed 0)",
        "Worst 1 (seed 0)",
    ]


def test_a_run_without_pictures_says_so_and_stays_shareable(tmp_path: Path) -> None:
    page = made(finetune_run(tmp_path / "run"), with_samples=True)
    assert "This run holds no pictures of samples." in page.text
    assert page.banners[0].startswith("Shareable")


def test_an_unfinished_run_shows_what_there_is(tmp_path: Path) -> None:
    run = pretrain_run(tmp_path / "run", finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"stage": 3, "st')  # torn by a kill
    page = made(run)
    assert page.banners[1] == "Unfinished: 1 of 3 stages are done."
    assert page.table("of them rehearsal")["3"][4] == "40"
    for name in ("metrics.jsonl", "retention.json"):
        (run / name).unlink()
    page = made(run)
    assert "no stage has begun" in page.text
    assert "epochs: 2.0" in page.text

    run = finetune_run(tmp_path / "tuned")
    (run / "results.json").unlink()
    page = made(run)
    assert page.banners[1].startswith("Unfinished")
    assert "Classification of gamma" in page.text
    assert page.tags.count("svg") == 1  # the curves so far


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


def test_a_modality_that_was_not_learned_is_called_so_on_the_page(tmp_path: Path) -> None:
    run = pretrain_run(tmp_path / "run")
    content = json.loads((run / "retention.json").read_text())
    for stage in content["stages"]:
        for name, row in stage["retention"].items():
            row["relative_then"] = 1.138 if name == "beta" else 0.4
    (run / "retention.json").write_text(json.dumps(content))
    page = made(run)
    assert "learned nothing of beta" in page.text
    features, shift, loss = (table for table in page.tables if table[0][0] == "anchors of")
    for lines in (features, shift, loss):
        assert [line[0] for line in lines[1:]] == ["alpha", "beta (learned nothing)", "gamma"]
    assert page.source.count("beta (learned nothing)") > 3  # three tables, and the picture's legend


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


def test_a_page_lies_in_the_run_or_beside_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [pretrain_run(tmp_path / "a"), pretrain_run(tmp_path / "b")]
    assert write(runs[:1]).path == tmp_path / "a" / "report.html"
    assert write(runs).path == Path("report.html")
    first = (tmp_path / "a" / "report.html").read_bytes()
    write(runs[:1])
    assert (tmp_path / "a" / "report.html").read_bytes() == first


def test_what_is_no_run_and_what_is_damaged_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is not a run's folder"):
        write([tmp_path])
    for name, content, error in (
        ("run.json", "{", DataError),
        ("run.json", "[]", DataError),
        ("run.json", '{"kind": "other"}', DataError),
        ("recipe.yaml", "a: [", DataError),
        ("retention.json", '{"stages": [{"stage": "x"}]}', DataError),
        ("retention.json", "\ufffd", DataError),
        ("metrics.jsonl", "{\n{}\n", DataError),
        ("ckpt.pt", "not a checkpoint", CheckpointError),
    ):
        run = pretrain_run(tmp_path / f"{name}-{abs(hash(content))}")
        (run / name).write_text(content)
        with pytest.raises(error, match=re.escape(str(run / name))):
            write([run])
        assert not (run / "report.html").exists()
    run = finetune_run(tmp_path / "tuned")
    (run / "results.json").write_text('{"kind":')
    with pytest.raises(DataError, match=r"results\.json: this file of the run is damaged"):
        write([run])


def _paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where something stands in a JSON document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, entry in inside for path in ((*at, key), *_paths(entry, (*at, key)))]


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_may_lack_anything(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any key of results.json may be absent, null or of another type."""
    task = data.draw(st.sampled_from(["classification", "segmentation"]))
    run = finetune_run(tmp_path_factory.mktemp("any") / "run", task=task)
    results = json.loads((run / "results.json").read_text())
    strange: st.SearchStrategy[Any] = st.sampled_from([None, math.nan, "<b>", [], {}, 1e400, -3, [[1, 2]], True])
    for path in data.draw(st.lists(st.sampled_from(_paths(results)), max_size=6)):
        value = results
        try:
            for key in path[:-1]:
                value = value[key]
            if data.draw(st.booleans()):
                del value[path[-1]]
            else:
                value[path[-1]] = data.draw(strange)
        except (KeyError, IndexError, TypeError):  # an earlier one took it away
            continue
    (run / "results.json").write_text(json.dumps(results))
    page = made(run)
    assert "Not a medical device" in page.text
    assert "<b>" not in page.source
    assert isinstance(read(run)[0], Finetuning)


def test_numbers_are_written_for_readers() -> None:
    assert [shown(x) for x in (None, math.nan, "7", True, 12345, 0.5, 1e-5, 0.0, 250.25, 10**400)] == (
        ["–", "–", "–", "–", "12\u202f345", "0.500", "1.0e-05", "0.000", "250.2", "–"]
    )
    assert [duration(x) for x in (None, 5.25, 75, 3720)] == ["–", "5.2 s", "1 min 15 s", "1 h 02 min"]
    assert table(["a"], []) == ""


def test_the_planted_names_are_in_the_folders(tmp_path: Path) -> None:
    """Else the test above would find nothing whatever happened."""
    runs = [pretrain_run(tmp_path / "a"), finetune_run(tmp_path / "b")]
    files = [path for run in runs for path in run.rglob("*") if path.suffix in (".json", ".yaml", ".csv", ".txt")]
    everything = " ".join(path.read_text() for path in files)
    assert all(word in everything for word in PLANTED)
    assert list(csv.reader((tmp_path / "b" / "cases.csv").open()))[1][0] == PLANTED[0]
