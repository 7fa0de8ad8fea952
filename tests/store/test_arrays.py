"""Archives of arrays: what medcoss wrote comes back, and no archive takes more memory than it has bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.errors import CheckpointError
from medcoss_cli.store.arrays import load_arrays, save_arrays


def _claiming(shape: tuple[int, ...], dtype: str, held: bytes) -> bytes:
    """An .npy file whose header says what it likes."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue() + held


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    written = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "texts": np.array(["", "é"]),
        "one": np.array(3),
        "none": np.zeros(0),
    }
    save_arrays(tmp_path / "x.npz", written)
    for found in (load_arrays(tmp_path / "x.npz"), load_arrays(tmp_path / "x.npz", written.keys())):
        assert found.keys() == written.keys()
        for name, array in written.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    with pytest.raises(CheckpointError, match=r"damaged \(.*no item named 'b.npy'"):
        load_arrays(tmp_path / "x.npz", ["b"])


def test_a_compressed_array_is_not_inflated(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(10**6))
    with pytest.raises(CheckpointError, match=r"damaged \(a.npy is compressed"):
        load_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [(10**12,), (10**5,), (2**62, 4), (1,)])
@pytest.mark.parametrize("dtype", ["<f8", "|V0", "<U0", "|O"])
def test_an_array_of_other_values_than_there_are_bytes_is_damage(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    """numpy would say of some that memory is short, and make others without looking."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", _claiming(shape, dtype, b"\0" * 100))
    with pytest.raises(CheckpointError, match=r"damaged \(a.npy has 100 bytes for "):
        load_arrays(tmp_path / "x.npz")
