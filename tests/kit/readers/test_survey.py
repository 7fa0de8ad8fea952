"""The survey of a folder of broken files, and of real ones where they are at hand."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
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
