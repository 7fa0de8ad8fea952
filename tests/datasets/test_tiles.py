"""TCGA's tiles: at most a hundred a patient, drawn by the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.data import read
from medcoss_cli.datasets import build, tiles
from medcoss_cli.errors import DataError
from medcoss_cli.registry.discovery import load_modality
from tests.datasets.layouts import picture, save
from tests.datasets.test_published import Listening, rows


def projects(root: Path, edge: int = 512) -> Path:
    """A patient by the folder's name, one by the tile's."""
    rng = np.random.default_rng(0)
    for n in range(7):
        save(root / "TCGA-UVM/TCGA-V3-A9ZX-01Z-00-DX1" / f"{n}_0.png", picture(rng, (edge, edge), 1), colour=True)
    for n in range(3):
        save(root / "TCGA-OV" / f"TCGA-04-1331-01A-01-BS1_{n}.jpg", picture(rng, (edge, edge), 1), colour=True)
    return root


def test_so_many_tiles_of_each_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MOST", 5)
    root, screen = projects(tmp_path), Listening()
    listed = rows(build("tcga", root, screen=screen))
    assert Counter(row["group"] for row in listed) == {"TCGA-V3-A9ZX": 5, "TCGA-04-1331": 3}
    assert {row["split"] for row in listed} == {"train"}
    again = rows(build("tcga", root, overwrite=True))
    others = [rows(build("tcga", root, seed=seed, overwrite=True)) for seed in (1, 2, 3)]
    assert again == listed
    assert any(other != listed for other in others)
    pathology = load_modality("pathology")
    records = read.find(pathology, root).records
    assert len(records) == len(listed)
    assert read.read_checked(pathology, records[0]).array.shape == (3, 512, 512)
    assert any("2 projects where the full set has 7" in line for line in screen.said)


def test_counts_of_all_projects_are_compared_with_the_papers(tmp_path: Path) -> None:
    root, screen = projects(tmp_path), Listening()
    for name in tiles.PROJECTS:
        (root / name).mkdir(exist_ok=True)
    build("tcga", root, screen=screen)
    assert any("10 tiles where the paper has 217,452" in line for line in screen.said)


def test_tiles_of_another_size_are_counted(tmp_path: Path) -> None:
    screen = Listening()
    build("tcga", projects(tmp_path, 64), screen=screen)
    assert any("10 of 10 tiles are not 512 x 512 as the paper's, the first 64 x 64" in line for line in screen.said)


def test_what_is_no_tile_of_a_patient_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of a TCGA project is here"):
        build("tcga", tmp_path)
    folder = tmp_path / "TCGA-UVM/2b6a2d4e"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match="the projects' folders have no tile"):
        build("tcga", tmp_path)
    (folder / "TCGA-V3-A9ZX-01Z-00-DX1.svs").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"1 slides, .* and no tile; cut them into tiles of 512 x 512"):
        build("tcga", tmp_path)
    save(folder / "tile.png", np.zeros((8, 8)))
    with pytest.raises(DataError, match=r"none of 1 tiles names its patient, such as tile\.png"):
        build("tcga", tmp_path)
