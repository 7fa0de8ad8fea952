"""Folders at a URL: fetched once, and again where they changed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.sources import remote
from tests.conftest import CommandLine

fsspec = pytest.importorskip("fsspec")
STACK = np.random.default_rng(0).integers(0, 255, (5, 48, 48)).astype(np.uint8)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system in memory, and a cache of its own."""
    monkeypatch.setenv("MEDCOSS_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def put(system: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    with system.open(name, "wb") as file:
        np.save(file, array)


def test_only_what_changed_is_fetched_again(memory: Any) -> None:
    said: list[str] = []
    for n in range(3):
        put(memory, f"/bucket/scans/sub/{n}.npy", STACK[n])
    folder = remote.fetched("memory://bucket/scans", said.append)
    assert sorted(path.name for path in folder.rglob("*.npy")) == ["0.npy", "1.npy", "2.npy"]
    assert np.array_equal(np.load(folder / "sub" / "1.npy"), STACK[1])
    assert remote.fetched("memory://bucket/scans", said.append) == folder
    assert len(said) == 1
    put(memory, "/bucket/scans/sub/1.npy", STACK[4])  # of the same size
    memory.rm("/bucket/scans/sub/2.npy")
    remote.fetched("memory://bucket/scans", said.append)
    assert said[1].startswith("fetching 1 of 2 files")
    assert np.array_equal(np.load(folder / "sub" / "1.npy"), STACK[4])
    assert not (folder / "sub" / "2.npy").exists()


def test_one_file(memory: Any) -> None:
    put(memory, "/bucket/one.npy", STACK[0])
    path = remote.fetched("memory://bucket/one.npy")
    assert path.name == "one.npy"
    assert np.array_equal(np.load(path), STACK[0])


def test_nothing_there_and_names_that_leave_the_folder(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nothing is there"):
        remote.fetched("memory://bucket/nowhere")
    put(memory, "/bucket/x/a.npy", STACK[0])
    found = {"/bucket/x/../../evil.npy": {"size": 3}}
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: found)
    with pytest.raises(DataError, match="leaves the folder"):
        remote.fetched("memory://bucket/x")


def test_a_file_that_arrives_in_part_is_not_kept(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(memory, "/bucket/y/a.npy", STACK[0])
    whole = memory.find("/bucket/y", detail=True)
    for info in whole.values():
        info["size"] += 7
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: whole)
    with pytest.raises(DataError, match="bytes arrived of"):
        remote.fetched("memory://bucket/y")
    assert not list(remote.cache().rglob("*.npy"))


def test_an_unknown_scheme_says_so() -> None:
    with pytest.raises((UsageError, DataError)) as raised:
        remote.fetched("nosuch://bucket/x")
    assert "nosuch" in str(raised.value)


def test_a_url_stands_for_a_folder_of_data(memory: Any, tmp_path: Path, command_line: CommandLine) -> None:
    for n in range(5):
        put(memory, f"/bucket/scans/{n}.npy", STACK[n])
    prepared = ["--size", "32x32", "--prepared", str(tmp_path / "p"), "--json"]
    answer = command_line("data", "prepare", "--modality", "xray", "memory://bucket/scans", *prepared)
    assert answer.code == 0, answer.err
    assert '"rows": 5' in answer.out
    answer = command_line("data", "check", "--modality", "xray", "memory://bucket/scans")
    assert "5 read" in answer.out + answer.err


def test_what_is_fetched_is_for_its_owner_alone(memory: Any, tmp_path: Path) -> None:
    put(memory, "/bucket/scans/sub/a.npy", STACK[0])
    put(memory, "/bucket/scans/b.npy", STACK[1])
    folder = remote.fetched("memory://bucket/scans")
    modes = {path.is_dir(): {stat.S_IMODE(path.stat().st_mode)} for path in sorted((tmp_path / "cache").rglob("*"))}
    assert modes == {True: {0o700}, False: {0o600}}
    assert all(stat.S_IMODE(path.stat().st_mode) in (0o700, 0o600) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["../precious", "a/../../precious", "/PRECIOUS", "x"])
def test_a_list_that_was_tampered_with_removes_nothing_elsewhere(memory: Any, name: str) -> None:
    for n in range(2):
        put(memory, f"/bucket/scans/{n}.npy", STACK[n])
    folder = remote.fetched("memory://bucket/scans")
    precious = folder.parent / "precious"
    precious.write_text("here")
    listed = {name.replace("/PRECIOUS", str(precious)): [1, 2] if name == "x" else [1, ""]}
    (folder / remote.LIST).write_text(json.dumps(listed))
    (folder / "x").write_text("mine")
    remote.fetched("memory://bucket/scans")
    assert precious.read_text() == "here"
    assert (folder / "x").exists()  # of a list that is damaged nothing is believed
