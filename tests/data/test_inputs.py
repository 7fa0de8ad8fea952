"""Names of results: every input its own, whatever the inputs are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records, names_of
from medcoss_cli.registry.discovery import load_modality


def pictures(root: Path, *names: str) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(path, "png")
    return paths


def names(*inputs: Path) -> list[str]:
    records, bad = list_records(load_modality("xray"), inputs, Screen())
    assert not bad
    return [name.as_posix() for _, name in names_of(records)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["1.2.276.0.1", "1.2.276.0.2"], ["1.2.276.0.1", "1.2.276.0.2"]),  # UIDs without an ending
        (["a/scan.png", "b/scan.png"], ["a/scan.png", "b/scan.png"]),
        (["a/scan.png", "a/scan.jpg"], ["scan.png", "scan.jpg"]),
        (["p1/s/t1.png", "p2/s/t1.png"], ["p1/s/t1.png", "p2/s/t1.png"]),  # patients/*/s/t1.png
        (["p1/a.png", "p2/b.png"], ["a", "b"]),
        (["Scan.png", "scan.jpg"], ["Scan.png", "scan.jpg"]),  # one file where capital letters are none
        (["a.png", "a-overlay.png"], ["a.png", "a-overlay.png"]),  # the picture of one, the mask of the other
    ],
)
def test_no_two_inputs_share_a_name(tmp_path: Path, files: list[str], expected: list[str]) -> None:
    assert names(*pictures(tmp_path, *files)) == expected


def test_a_folder_keeps_its_places(tmp_path: Path) -> None:
    pictures(tmp_path, "p0/t1.png", "p1/t1.png", "p1/t1.jpg", "p2")
    assert sorted(names(tmp_path)) == ["p0/t1", "p1/t1.jpg", "p1/t1.png", "p2"]


def test_pages_do_not_take_the_name_of_another_file(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.arange(n, n + 100, dtype=np.uint8).reshape(10, 10)) for n in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pictures(tmp_path, "a-page-1.png")
    assert len(set(names(tmp_path))) == 3
