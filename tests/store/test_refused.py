"""A whole file that the machine does not let us read is not called damaged, and nobody is asked to remove it."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcoss_cli.errors import CheckpointError, ResourceError
from medcoss_cli.store import arrays, plain, typed


def _open(path: Path) -> object:
    return arrays.open_array(path, lambda shape: True, "f", fix="", error=CheckpointError, what="it")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.npz", arrays.load_arrays),
        ("x.npy", _open),
        ("x.json", lambda path: typed.read_json(dict, path, fix="", error=CheckpointError, what="it")),
        ("x.pt", plain.load),
    ],
)
def test_what_the_machine_refuses_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Path], object], code: int
) -> None:
    path = tmp_path / name
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.json").write_text("{}")
    plain.save({"a": 1}, tmp_path / "x.pt")
    read(path)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    for place in ("torch.load", "mmap.mmap"):  # the checkpoint's, after it was looked into
        monkeypatch.setattr(place, refuse)
    if name == "x.pt":
        with pytest.raises(OSError, match=os.strerror(code)):
            read(path)
    for place in ("builtins.open", "io.open"):
        monkeypatch.setattr(place, refuse)
    with pytest.raises((OSError, ResourceError), match=os.strerror(code)):
        read(path)


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_nor_is_a_file_that_could_be_opened_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: int
) -> None:
    plain.save({"a": 1}, tmp_path / "x.pt")
    io_open, times = io.open, [0]

    def refuse(*arguments: Any, **options: Any) -> Any:
        times[0] += 1
        if times[0] > opened:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return io_open(*arguments, **options)

    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        plain.load(tmp_path / "x.pt")
