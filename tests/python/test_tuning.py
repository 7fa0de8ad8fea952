"""`finetune` on a table: a manifest of links, results, a network that predicts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcoss_cli import finetune, load
from medcoss_cli.errors import MedcossError, RecipeError, UsageError
from medcoss_cli.python.tuning import write_table
from tests.pretraining_runs import write_demo

pandas = pytest.importorskip("pandas")

SMALL: dict[str, Any] = {
    "task": "classification",
    "modality": "xray",
    "from": "scratch",
    "encoder": {"width": 32, "depth": 2, "heads": 2},
    "tokenizer": "patch2d-8",
    "data": {"folder": "-"},
    "input": {"size": [32, 32]},
    "train": {"lr": 1e-3, "batch": 8, "steps": 8},
}


def table_of(folder: Path) -> Any:
    """The manifest of a folder with paths that can be read from anywhere."""
    table = pandas.read_csv(folder / "manifest.csv").drop(columns="mask")
    return table.assign(path=[str(folder / path) for path in table["path"]])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared sets lie in the current folder."""
    monkeypatch.chdir(tmp_path)


def test_a_table_is_fine_tuned_on_and_the_run_predicts(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", xray=30)
    table = table_of(data / "xray")
    result = finetune(SMALL, data=table, runs=tmp_path / "runs", name="mine", train={"steps": 4})
    assert result.run == tmp_path / "runs" / "mine"
    assert result.results["seeds"][0]["steps"] == 4
    assert 0 <= result.metrics["accuracy"] <= 1
    (manifest,) = (tmp_path / "runs" / "tables").glob("*/manifest.csv")
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [str(label) for label in table["label"]]
    links = [manifest.parent / row["path"] for row in rows]
    assert all(link.is_symlink() for link in links), "originals are not copied"
    files = [path for path in table["path"] if path.endswith(".png") and Image.open(path).mode == "L"][:3]
    predicted = load(result.run).predict(files)
    again = result.load().predict([np.asarray(Image.open(path)) for path in files])
    assert [row["predicted"] for row in predicted] == [row["predicted"] for row in again]
    assert predicted[0]["p_normal"] == pytest.approx(again[0]["p_normal"], abs=1e-6)
    same = finetune(SMALL, data=data / "xray", runs=tmp_path / "runs", name="folder", train={"steps": 4})
    assert same.metrics == pytest.approx(result.metrics), "a table gives what its folder gives"


def test_tables_of_every_kind_give_one_manifest(tmp_path: Path) -> None:
    texts = ["the lungs are clear", "a nodule, see above", float("nan")][:2]
    rows = [{"text": text, "label": label, "group": None} for text, label in zip(texts, ("a", "b"), strict=True)]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    folders = {write_table(given, tmp_path) for given in (rows, columns, pandas.DataFrame(rows))}
    assert len(folders) == 1
    folder = folders.pop()
    assert (folder / "manifest.csv").read_text().splitlines() == [
        "path,index,label",
        "texts.jsonl,0,a",
        "texts.jsonl,1,b",
    ]
    assert len((folder / "texts.jsonl").read_text().splitlines()) == 2


def test_what_is_no_table_or_recipe(tmp_path: Path) -> None:
    for given, said in (
        (7, "int is no table"),
        ([], "no rows"),
        ([{"file": "a", "label": "b"}], "no column 'path' or 'text'; found: file, label"),
        ([{"path": "missing.png", "label": "b"}], "path of row 0 does not exist"),
        ([{"path": None, "label": "b"}], "row 0 has no path"),
    ):
        with pytest.raises(UsageError, match=said):
            write_table(given, tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        finetune(SMALL, data=tmp_path / "missing", runs=tmp_path)
    with pytest.raises(RecipeError, match="stepz"):
        finetune(SMALL, runs=tmp_path, train={"stepz": 4})
    with pytest.raises(MedcossError):
        finetune("no-such-recipe", runs=tmp_path)
