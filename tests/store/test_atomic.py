"""Atomic writing: the old or the new file, whole, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import MedcossError, ResourceError
from medcoss_cli.store import atomic


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f"{atomic.PREFIX}*"))


@settings(max_examples=20)
@given(first=st.binary(max_size=200), second=st.binary(max_size=200))
def test_the_last_content_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    path = tmp_path_factory.mktemp("atomic") / "new" / "file"
    atomic.write(path, first)
    assert path.read_bytes() == first
    atomic.write(path, lambda file: file.write(second))
    assert path.read_bytes() == second
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), RuntimeError("no")])
def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    atomic.write(path, b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic.write(path, fail)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_every_refusal_of_the_system_is_a_resource_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    path = tmp_path / "file"
    atomic.write(path, b"old")

    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", refuse)
        elif step != "write":
            patch.setattr(os, step, refuse)
        with pytest.raises(ResourceError) as refused:
            atomic.write(path, refuse if step == "write" else b"new")
    assert refused.value.exit_code == 6
    assert refused.value.fix
    assert refused.value.where == str(path)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_no_space_says_how_much_is_needed_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"no space left.*3\.0 MiB needed, .* free") as refused:
        atomic.write(tmp_path / "file", bytes(3 * 2**20))
    assert "the old file is kept" in str(refused.value)


def test_a_refusal_behind_another_error_is_found() -> None:
    """As torch does: its zip writer raises RuntimeError while it handles the system's own error."""
    hidden = RuntimeError("unexpected pos 704 vs 598")
    hidden.__context__ = OSError(errno.ENOSPC, "full")
    assert isinstance(atomic.user_error(hidden, Path("file")), ResourceError)
    plain = RuntimeError("something else")
    assert atomic.user_error(plain, Path("file")) is plain


def test_a_folder_where_a_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(ResourceError, match="cannot be written"):
        atomic.write(tmp_path / "file", b"x")
    (tmp_path / "plain").write_bytes(b"old")
    with pytest.raises(MedcossError):
        atomic.write(tmp_path / "plain" / "file", b"x")
    assert leftovers(tmp_path) == []


WRITER = """
import sys, time
from pathlib import Path
from medcoss_cli.store import atomic
def slow(file):
    file.write(b"half"); file.flush()
    print("writing", flush=True)
    time.sleep(60)
atomic.write(Path(sys.argv[1]), slow)
"""


def test_what_a_killed_writer_leaves_goes_with_the_next_write_and_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"writing\n"
        atomic.write(path, b"new")
        assert len(leftovers(tmp_path)) == 1  # the other one is still at it
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_bytes() == b"new"
    atomic.write(tmp_path / "other", b"x")
    assert len(leftovers(tmp_path)) == 1  # it belongs to another file
    atomic.write(path, b"newer")
    assert leftovers(tmp_path) == []
    assert path.read_bytes() == b"newer"


def test_sweeping_a_folder_removes_what_is_unfinished_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.PREFIX}a-1").write_bytes(b"x")
    (tmp_path / f"{atomic.PREFIX}b-1").write_bytes(b"x")
    (tmp_path / "mine").write_bytes(b"x")
    atomic.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


HAMMER = """
import sys
from pathlib import Path
from medcoss_cli.store import atomic
for i in range(100000):
    atomic.write(Path(sys.argv[1]), bytes([i % 256]) * 200000)
"""


def test_two_writers_and_a_kill_never_show_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\0" * 200000)
    both = [subprocess.Popen([sys.executable, "-c", HAMMER, str(path)]) for _ in range(2)]
    try:
        end = time.monotonic() + 2
        seen = set()
        while time.monotonic() < end:
            content = path.read_bytes()
            assert len(content) == 200000
            assert len(set(content)) == 1
            seen.add(content[0])
        assert len(seen) > 3
        assert all(process.poll() is None for process in both)  # neither swept the other's file away
    finally:
        for process in both:
            process.kill()
            process.wait()
    atomic.write(path, b"done")
    assert leftovers(tmp_path) == []
