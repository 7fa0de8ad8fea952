"""What the suite finds in loaders of labelled data: windows, grids, masks; and a user's own data."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcoss_cli import conformance
from medcoss_cli.kit import ImageFolder, PixelDecoder, entries
from medcoss_cli.kit.readers.volume import whole_volume
from medcoss_cli.plugin import Grid, LeftOut, Modality, Record, Sample

TURNED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""A file whose first axis runs to the right."""


@dataclass(frozen=True)
class Cine:
    """Films (frames, height, width) in .npy files whose x runs to the right."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | LeftOut]:
        for entry in entries(root, split):
            if isinstance(entry, LeftOut):
                yield entry
            elif not entry.path.stat().st_size or entry.path.suffix != ".npy":
                yield LeftOut(entry.path, "empty, or no film", bad=True)
            else:
                yield from self.records(entry.path, entry.group)

    def records(self, path: Path, group: str | None) -> Iterator[Record]:
        yield Record(path, None, group)

    def read(self, record: Record) -> Sample:
        array = np.load(record.source, allow_pickle=False)
        return whole_volume(array, Grid(array.shape[::-1], (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), TURNED))

    def read_mask(self, path: Path, sample: Sample) -> Any:
        return np.load(path, allow_pickle=False)[:, :, ::-1]  # on the axes of the array, which was turned


class NoGrid(Cine):
    def read(self, record: Record) -> Sample:
        return replace(super().read(record), stored=None)


class NotTurned(Cine):
    def read(self, record: Record) -> Sample:
        array = np.load(record.source, allow_pickle=False)
        return replace(super().read(record), array=array[None], direction=TURNED)


class OtherGrid(Cine):
    def read(self, record: Record) -> Sample:
        return replace(super().read(record), stored=Grid((9, 9, 9)))


class FloatMask(Cine):
    def read_mask(self, path: Path, sample: Sample) -> Any:
        return np.load(path, allow_pickle=False) * 0.5


class SmallMask(Cine):
    def read_mask(self, path: Path, sample: Sample) -> Any:
        return np.load(path, allow_pickle=False)[1:]


class Cut(Cine):
    def records(self, path: Path, group: str | None) -> Iterator[Record]:
        yield from (Record(path, ("window", i), group) for i in range(2))


class Regrouped(Cine):
    def records(self, path: Path, group: str | None) -> Iterator[Record]:
        yield from (Record(path, ("window", i), f"{group} {i}") for i in range(2))


class StillCut(Cut):
    def whole(self) -> Cut:
        return Cut()


class Loses(Cine):
    def whole(self) -> ImageFolder:
        return ImageFolder()


class NoLoader(Cine):
    def whole(self) -> str:
        return "whole"


def write(root: Path, count: int, seed: int) -> None:
    (root / "masks").mkdir(parents=True)
    rows = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        z, y, x = np.mgrid[0:16, 0:40, 0:36] / rng.uniform(4, 9, (3, 1, 1, 1))
        np.save(root / f"{i}.npy", (127 + 90 * np.sin(x) * np.cos(y) * np.cos(z)).astype(np.float32))
        np.save(root / "masks" / f"{i}.npy", np.uint8(x > 2))
        rows.append([f"{i}.npy", "train", f"p{i}", f"masks/{i}.npy"])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "group", "mask"], *rows])


def without_masks(root: Path, count: int, seed: int) -> None:
    write(root, count, seed)
    text = (root / "manifest.csv").read_text()
    (root / "manifest.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in text.splitlines()))
    for path in (root / "masks").iterdir():
        path.unlink()


SMALL: dict[str, Any] = {"width": 32, "depth": 1, "heads": 2}
FILM = Modality("film", "Film", 3, (16, 32, 32), 1, Cine(), decoder=PixelDecoder(**SMALL), demo=write)
FUNDUS = Modality("fundus", "Fundus", dims=2, size=(224, 224), channels=3, loader=ImageFolder(grey=False))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcoss_cli.conformance.modality.imported_by", lambda modules: {})


@pytest.mark.parametrize("parts", [{}, {"demo": without_masks}, {"loader": NoGrid(), "demo": without_masks}])
def test_volumes_with_masks_of_their_own_kind_conform(tmp_path: Path, parts: dict[str, Any]) -> None:
    assert conformance.check(replace(FILM, **parts), tmp_path) == []


@pytest.mark.parametrize(
    ("loader", "demo", "fault"),
    [
        (NoGrid(), write, "the loader gives no grid (Sample.stored)"),
        (NotTurned(), write, "the loader gives an array with axes along (-1, 0, 0)"),
        (NotTurned(), without_masks, "its samples do not lie on the grid they name"),
        (OtherGrid(), write, "the loader gives 36 x 40 x 16 voxels on a grid (Sample.stored) of 9 x 9 x 9"),
        (FloatMask(), write, "read_mask of the film plugin gives float64, not whole numbers"),
        (SmallMask(), write, "the mask is 36 x 40 x 15 voxels, the image 36 x 40 x 16"),
        (Cut(), write, "several images in one case that has one mask"),
        (Regrouped(), without_masks, "puts the parts of one recording into different groups (6 recordings"),
        (StillCut(), without_masks, "its loader's whole() still gives several records of one recording"),
        (Loses(), without_masks, "its loader's whole() does not find 6 recordings"),
        (NoLoader(), without_masks, "its loader's whole() gives str, which has not find and read"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_each_fault_is_found(tmp_path: Path, loader: Cine, demo: Any, fault: str) -> None:
    assert fault in "\n".join(conformance.check(replace(FILM, loader=loader, demo=demo), tmp_path))


def colour(root: Path, count: int = 8) -> Path:
    """Smooth colour images, as a camera gives them."""
    root.mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        y, x = np.mgrid[0:240, 0:260] / rng.uniform(20, 60, (2, 1, 1))
        channels = [127 + 100 * np.sin(x + phase) * np.cos(y) for phase in rng.uniform(0, 3, 3)]
        Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(root / f"{i}.png")
    return root


def test_the_ten_lines_of_the_readme_conform_on_a_users_data(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    code = text.split("## A modality in ten lines")[1].split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(code, scope)  # what the README tells its readers to write
    [modality] = scope["medcoss_modalities"]()
    data = colour(tmp_path / "eyes")
    assert conformance.check(modality, tmp_path / "empty", data) == []
    assert not (tmp_path / "empty" / "first").exists()
    [fault] = conformance.check(modality, tmp_path / "none")
    assert fault.startswith("it has no demo")
    assert "medcoss plugins check fundus --data DIR" in fault


def test_a_users_broken_files_are_not_the_plugins_fault(tmp_path: Path) -> None:
    data = colour(tmp_path / "eyes", 4)
    (data / "0.png").write_bytes((data / "1.png").read_bytes()[:200])
    (data / "manifest.csv").write_text(
        "path,split\n" + "".join(f"{i}.png,{'test' if i else 'train'}\n" for i in range(4))
    )
    assert conformance.check(FUNDUS, tmp_path / "empty", data) == []
    grey = conformance.check(replace(FUNDUS, loader=ImageFolder()), tmp_path / "other", data)
    assert "samples of this data are refused" in grey[0] or "finds nothing in this data" in grey[0]
