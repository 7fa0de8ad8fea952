"""Zip archives: unpacked once, and never beyond their own folder, size or number."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit.sources import archive
from tests.conftest import CommandLine


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDCOSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packed(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "/"), content)
    return path


def test_an_archive_is_read_as_the_folder_in_it(tmp_path: Path, command_line: CommandLine) -> None:
    for n in range(3):
        (tmp_path / f"p{n}").mkdir()
        picture = np.random.default_rng(n).integers(0, 250, (40, 40)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"p{n}" / "a.png")
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as file:
        for n in range(3):
            file.write(tmp_path / f"p{n}" / "a.png", f"scans\\p{n}/a.png")  # as Windows has written them
    checked = command_line("data", "check", str(tmp_path / "scans.zip"), "--modality", "xray")
    assert checked.code == 0, checked.err
    assert "3 read" in checked.out + checked.err
    sets = ["--modality", "xray", "--prepared", str(tmp_path / "set")]
    prepared = command_line("data", "prepare", str(tmp_path / "scans.zip"), *sets)
    assert prepared.code == 0, prepared.err
    assert "unpacking" not in prepared.err + prepared.out  # the files are those of before


def test_it_is_unpacked_again_after_it_has_changed(tmp_path: Path) -> None:
    first = archive.unpacked(packed(tmp_path / "a.zip", one__a=b"1"))
    assert (first / "one" / "a").read_bytes() == b"1"
    assert archive.unpacked(tmp_path / "a.zip") == first
    second = archive.unpacked(packed(tmp_path / "a.zip", one__a=b"23"))
    assert (second != first, (second / "one" / "a").read_bytes()) == (True, b"23")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "..\\out", "C:\\out"])
def test_a_name_outside_is_refused_and_nothing_written(tmp_path: Path, cache: Path, name: str) -> None:
    with pytest.raises(DataError, match="names a file outside of itself"):
        archive.unpacked(packed(tmp_path / "a.zip", good=b"1", **{name: b"2"}))
    assert not list(cache.rglob("*good*"))
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="unpacks to 300,000,000 bytes, more than 200 times its size"):
        archive.unpacked(packed(tmp_path / "a.zip", bomb=bytes(300_000_000)))
    assert not list((cache / "remote").iterdir())


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    path = packed(tmp_path / "a.zip", one=np.random.default_rng(0).bytes(5000), two=b"2")
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        archive.unpacked(path)
    assert not list(cache.rglob("one"))


def test_a_damaged_stream_two_of_one_name_and_a_damaged_list(tmp_path: Path, cache: Path) -> None:
    path = packed(tmp_path / "a.zip", one=b"a" * 4000, two=np.random.default_rng(0).bytes(4000))
    content = bytearray(path.read_bytes())
    content[35:45] = b"\xff" * 10
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        archive.unpacked(tmp_path / "b.zip")
    with pytest.raises(DataError, match="two files of the archive have one name"):
        archive.unpacked(packed(tmp_path / "c.zip", a__b=b"1", **{"a\\b": b"2"}))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") : content.rindex(b"PK\x01\x02") + 4] = b"XXXX"
    (tmp_path / "d.zip").write_bytes(content)
    assert archive.is_archive(tmp_path / "d.zip")
    with pytest.raises(DataError, match="cannot be unpacked"):
        archive.unpacked(tmp_path / "d.zip")
    assert not list((cache / "remote").iterdir())
    assert stat.S_IMODE(archive.unpacked(path).stat().st_mode) == 0o700


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, str(tmp_path / "secret"))
    folder = archive.unpacked(tmp_path / "a.zip")
    assert not (folder / "link").is_symlink()
    assert (folder / "link").read_text() == str(tmp_path / "secret")


def test_a_spreadsheet_is_no_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("[Content_Types].xml", b"<Types/>")
    assert not archive.is_archive(tmp_path / "a.zip")
    assert not archive.is_archive(tmp_path)


def test_names_in_utf_8_without_the_flag_that_says_so(tmp_path: Path) -> None:
    """As macOS and many servers write them; what is no UTF-8 is of code page 437."""
    path = packed(tmp_path / "a.zip", MXXller=b"1", ZXhne=b"2")
    content = path.read_bytes().replace(b"MXXller", "Müller".encode()).replace(b"ZXhne", "Zähne".encode("cp437"))
    path.write_bytes(content.replace("Z\x84hne".encode("latin-1"), "Z\x84hne".encode("latin-1")))
    assert sorted(file.name for file in archive.unpacked(path).iterdir()) == ["Müller", "Zähne"]
