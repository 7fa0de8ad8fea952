"""What all loaders have in common."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, SignalFolder, TextFolder, VolumeFolder
from medcoss_cli.plugin import Loader, Record, Skipped
from medcoss_cli.plugin.networks import lacking

LOADERS = [ImageFolder(), ImageFolder(grey=False), VolumeFolder(spacing=None), TextFolder(), SignalFolder()]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    return path


def volume(path: Path) -> Path:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """One good file of each kind, broken ones, and what operating systems leave behind."""
    picture(tmp_path / "b" / "image.png")
    volume(tmp_path / "a.nii.gz")
    (tmp_path / "c.txt").write_text("No acute disease.")
    np.save(tmp_path / "d.npy", np.zeros((2, 9)))
    for name in ("._c.txt", ".DS_Store", "b/Thumbs.db", "LICENSE.txt", "README.md", "licences.csv"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / ".hidden").mkdir()
    picture(tmp_path / ".hidden" / "image.png")
    (tmp_path / "e.bin").write_bytes(bytes(range(256)))
    (tmp_path / "z.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: type(loader).__name__)
def test_a_loader_fulfils_the_contract(loader: Any, mixed: Path) -> None:
    assert lacking(loader, Loader) == []
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301 - its own bytes: workers get loaders this way
    assert again == loader
    items = list(again.find(mixed))
    sources = [item.source for item in items]
    assert sources == sorted(sources, key=lambda path: path.parts)
    names = {path.relative_to(mixed).as_posix() for path in sources}
    assert names == {"a.nii.gz", "b/image.png", "c.txt", "d.npy", "e.bin", "z.png"}
    assert [(item.reason, item.bad) for item in items if item.source.name == "z.png" and isinstance(item, Skipped)]
    for record in (item for item in items if isinstance(item, Record)):
        loader.read(record)


@pytest.mark.parametrize("loader", LOADERS[:4], ids=lambda loader: type(loader).__name__)
def test_files_of_another_modality_are_left_out_with_a_reason(loader: Any, mixed: Path) -> None:
    items = {item.source.name: item for item in loader.find(mixed)}
    others = [item for item in items.values() if isinstance(item, Skipped)]
    assert len(others) >= 5
    assert [item.source.name for item in others if item.bad] == ["z.png"]
    kind = {ImageFolder: "an image", VolumeFolder: "a volume", TextFolder: "text"}[type(loader)]
    assert f"where {kind} is expected" in items["e.bin"].reason
    if type(loader) is not VolumeFolder:
        assert items["a.nii.gz"].reason == f"a volume (3D, NIfTI) where {kind} is expected"


def test_one_file_as_root_works(mixed: Path) -> None:
    (record,) = ImageFolder().find(mixed / "b" / "image.png")
    assert isinstance(record, Record)
    assert record == Record(mixed / "b" / "image.png")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for loader in LOADERS:
        with pytest.raises(DataError, match="does not exist"):
            list(loader.find(tmp_path / "nowhere"))


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    assert [list(loader.find(tmp_path)) for loader in LOADERS] == [[]] * len(LOADERS)


def test_a_linked_folder_is_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert len(list(ImageFolder().find(tmp_path / "data"))) == 1


def test_an_unreadable_file_is_bad_and_the_rest_goes_on(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    good, broken = ImageFolder().find(tmp_path)
    assert isinstance(good, Record)
    assert isinstance(broken, Skipped)
    assert broken.bad
    if os.geteuid() != 0:  # root may read everything
        (tmp_path / "a.png").chmod(0)
        (item, _) = ImageFolder().find(tmp_path)
        assert "permission" in getattr(item, "reason", "").lower()


def test_patterns_choose_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.PNG")
    picture(tmp_path / "b.bmp")
    items = list(ImageFolder(patterns=("*.png",)).find(tmp_path))
    assert isinstance(items[0], Record)
    assert getattr(items[1], "reason", "") == "the name matches none of *.png"


def test_importing_the_kit_loads_no_reader() -> None:
    heavy = "('torch', 'numpy', 'pydicom', 'SimpleITK', 'PIL')"
    code = f"import sys, medcoss_cli.kit; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
