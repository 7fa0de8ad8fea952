"""The survey of a folder of broken files, and of real ones where they are at hand."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import sources
from medcoss_cli.kit.readers.survey import survey

DATA = Path(os.environ.get("MEDCOSS_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
DIFFERENT = {
    "dicom/DICOMDIR": "an index is no fault of the folder: it is left out",
    "dicom/no_meta.dcm": "it begins with a stray byte, so that no DICOM reader finds an element in it",
    "dicom/JPEG-lossy.dcm": "JPEG of 12 bits, which GDCM decodes",
    "nifti/zero_spacing.nii.gz": "read by its sform with a note, which its proposal allows too",
}
"""Where the verdict differs from the proposal, and why."""


def test_each_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    Image.new("L", (16, 16)).save(tmp_path / "b.png")
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    values[0, 0, 0, 0] = np.inf
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "c.nii")
    (tmp_path / "d.txt").write_text("No acute disease.")
    (tmp_path / "e.csv").write_text("time,value\n1,2\n2,3\n")
    (tmp_path / "f.jpg").write_bytes(b"%PDF-1.7")
    (tmp_path / "g.json").write_text("{}")
    got = {verdict.path: (verdict.kind, verdict.verdict) for verdict in survey(tmp_path)}
    assert got == {
        "a.png": ("image", "read"),
        "b.png": ("image", "quarantine"),
        "c.nii": ("volume", "read"),
        "d.txt": ("text", "read"),
        "e.csv": ("signal", "read"),
        "f.jpg": ("other", "quarantine"),
        "g.json": ("other", "ignored"),
    }
    notes = next(verdict.notes for verdict in survey(tmp_path) if verdict.path == "c.nii")
    assert notes == ("NaN or infinite values", "2 volumes (4D)")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        list(survey(tmp_path / "nowhere"))


def test_every_case_of_the_messy_set_is_read_or_refused_as_expected() -> None:
    root = DATA / "messy"
    if not (root / "manifest.csv").is_file():
        pytest.skip(f"the messy set is not there ({root}); set MEDCOSS_TEST_DATA")
    got = defaultdict(list)
    for verdict in survey(root):
        got[verdict.path].append(verdict)
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        cases = {row["file"]: row["expected"] for row in csv.DictReader(file)}
    wrong = {}
    for name, expected in cases.items():
        verdicts = {verdict.verdict for verdict in got[name]}
        no_decoder = any("no decoder is installed" in verdict.reason for verdict in got[name])
        if verdicts != {expected} and not no_decoder and name not in DIFFERENT:
            wrong[name] = verdicts
    assert not wrong
    assert len(cases) == 79
    assert [len(got[f"series/{name}"]) for name in ("two_series_mixed", "stray_file")] == [2, 1]


def test_samples_in_containers_are_counted_and_read(tmp_path: Path) -> None:
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stack = np.random.default_rng(0).integers(0, 255, (5, 20, 24)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(stack[0]).save(png, "PNG")
    np.save(tmp_path / "a.npy", stack)
    np.save(tmp_path / "ecg.npy", np.random.default_rng(0).normal(size=(12, 400)))
    blank = np.concatenate([stack, np.zeros((2, 20, 24), np.uint8)])
    np.savez(tmp_path / "b.npz", images=blank, masks=stack > 9, patient=list("aabbccc"))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("scan", data=stack[:, :9].astype("f4")).attrs["spacing"] = (3, 1, 1)
        file["four"] = np.stack([stack] * 2)
    zarr.create_array(str(tmp_path / "d.zarr"), data=stack[0])
    pq.write_table(pa.table({"image": [png.getvalue()] * 3}), tmp_path / "e.parquet")
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "f.parquet")
    with tarfile.open(tmp_path / "g.tar", "w") as archive:
        for name, content in {"1.png": png.getvalue(), "1.cls": b"3", "2.png": png.getvalue()[:99]}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "h.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:300])
    got = [(v.path, v.kind, v.verdict, v.parts, v.shape, v.group) for v in survey(tmp_path)]
    assert sorted(entry for entry in got if entry[2] == "read") == [
        ("a.npy", "image", "read", 5, (1, 20, 24), None),
        ("b.npz", "image", "read", 1, (1, 20, 24), "c"),
        ("b.npz", "image", "read", 2, (1, 20, 24), "a"),
        ("b.npz", "image", "read", 2, (1, 20, 24), "b"),
        ("c.h5", "volume", "read", 1, (1, 5, 9, 24), None),
        ("c.h5", "volume", "read", 2, (1, 5, 20, 24), None),
        ("d.zarr", "image", "read", 1, (1, 20, 24), None),
        ("e.parquet", "image", "read", 3, (1, 20, 24), None),
        ("ecg.npy", "signal", "read", 1, (12, 400), None),
        ("f.parquet", "text", "read", 2, (), None),
        ("g.tar", "image", "read", 1, (1, 20, 24), "1"),
    ]
    rest = {(v.path, v.verdict, v.reason, v.parts) for v in survey(tmp_path) if v.verdict != "read"}
    assert ("b.npz", "quarantine", "no content: all values are the same", 2) in rest
    assert ("b.npz", "ignored", "named as a mask or a label (masks)", 1) in rest
    assert {(path, verdict) for path, verdict, _, _ in rest} >= {("g.tar", "quarantine"), ("h.npz", "quarantine")}
    assert sum(v.files for v in survey(tmp_path)) == 9
    assert sources.STACK in next(v.notes for v in survey(tmp_path) if v.path == "a.npy")
