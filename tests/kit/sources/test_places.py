"""`data` of a recipe names a folder, a zip archive or a URL: what is read is the same."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from medcoss_cli.console import Screen
from medcoss_cli.errors import DataError
from medcoss_cli.finetuning import setup
from medcoss_cli.kit.sources.places import local
from tests.finetuning_runs import CLASSES, recipe_of
from tests.pretraining_runs import options, train, write_demo


class Kept(Screen):
    """Keeps the rows of tables."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def table(self, title: str, columns: object, rows: object) -> None:
        self.rows += rows  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled set as a folder, as an archive of that folder, and at a URL."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("MEDCOSS_CACHE", str(tmp_path / "cache"))
    root = write_demo(tmp_path / "data", xray=24)
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for file in sorted((root / "xray").rglob("*")):
            archive.write(file, Path("a set") / file.relative_to(root / "xray"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.put(str(root / "set.zip"), "/bucket/set.zip")
    system.put(str(root / "xray"), "/bucket/xray", recursive=True)
    return root


PLACES = ("set.zip", "memory://bucket/set.zip", "memory://bucket/xray")


def test_a_head_is_trained_on_an_archive_or_a_url(tmp_path: Path, data: Path) -> None:
    plans = []
    for place in ("xray", *PLACES):
        screen = Kept()
        recipe = recipe_of(tmp_path, CLASSES, f"data.folder={place}")
        setup.outlook(recipe, None, options(tmp_path, data), screen)
        plans.append(screen.rows)
    assert plans[0]
    assert all(plan == plans[0] for plan in plans)


def test_a_stage_reads_an_archive_or_a_url(tmp_path: Path, data: Path) -> None:
    text = (
        "kind: pretrain\nencoder: {width: 32, depth: 2, heads: 2}\ndecoder: {width: 16, depth: 1, heads: 2}\n"
        "train: {epochs: 1, warmup: 0.5, batch: 8, lr: 1e-3, precision: fp32}\n"
        "stages: [{modality: xray, data: PLACE, size: [32, 32], tokenizer: patch2d-8}]\n"
    )
    hashes = {
        train(tmp_path, data, name=f"run{n}", text=text.replace("PLACE", f"'{place}'")).history[0]["data_hash"]
        for n, place in enumerate(("xray", *PLACES))
    }
    assert len(hashes) == 1


def test_what_is_not_there_is_one_sentence(tmp_path: Path, data: Path) -> None:
    recipe = recipe_of(tmp_path, CLASSES, "data.folder=memory://bucket/nowhere")
    with pytest.raises(DataError, match="nothing is there; check the address"):
        setup.outlook(recipe, None, options(tmp_path, data), Screen())
    assert local("nowhere.zip", data) == data / "nowhere.zip"
