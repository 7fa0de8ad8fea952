"""The page of a run: what it says, what it never says, and that nothing in a run's folder breaks it."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import CheckpointError, DataError, UsageError
from medcoss_cli.report import write
from medcoss_cli.report.page import duration, shown, table
from medcoss_cli.report.runs import Finetuning, read
from tests.report_pages import PLANTED, finetune_run, made, pretrain_run


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
