"""Bombs: files that would grow without end are refused with the number that they pass, or read, in bounded time and memory."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.campaign import artefacts, bomb_files, verbs
from tests.campaign.attempts import Attempt, turns

SECONDS, MEMORY = 10.0, 1024.0
"""What one verb may take on one file: seconds of a core; MiB beyond what it has at first."""
READABLE, REFUSED, EITHER = "read", "refused", ""
Make = Callable[[Path, np.random.Generator], None]


@dataclass(frozen=True)
class Bomb:
    """A file.

    Args:
        file: its name.
        make: writes it, of a size drawn from the generator.
        modality: as which it is prepared as well; "": it is only checked.
        ends: what has to become of it; EITHER: refused with a number, or read.
        embeds: an encoder reads it, too.
    """

    name: str
    file: str
    make: Make
    modality: str = ""
    ends: str = REFUSED
    embeds: bool = False


def _about(rng: np.random.Generator, number: int) -> int:
    """A number, or one that is a little larger."""
    return number + int(rng.integers(number // 100 + 1))


def _cube(write: Callable[..., None], *more: object) -> Make:
    return lambda path, rng: write(path, (_about(rng, 1000), 1000, 1000), *more)


def _deep(write: Callable[..., None], slices: int, *more: object) -> Make:
    """A scan of 512 x 512, of at most so many slices."""
    return lambda path, rng: write(path, (512, 512, slices - int(rng.integers(slices // 100 + 1))), *more)


def _square(write: Callable[..., None], side: int = 13_300, **more: object) -> Make:
    return lambda path, rng: write(path, _about(rng, side), **more)


def _plain(write: Callable[..., None], *more: object, **options: object) -> Make:
    return lambda path, rng: write(path, *more, **options)


_files = bomb_files
BOMBS = (
    Bomb("nrrd raw 1000^3", "a.nrrd", _cube(_files.nrrd, "double", "raw"), "ct"),
    Bomb("nrrd gzip 1000^3", "a.nrrd", _cube(_files.nrrd, "double", "gzip"), "ct"),
    Bomb("nrrd hex 1000^3", "a.nrrd", _cube(_files.nrrd, "double", "hex")),
    Bomb("nrrd ascii 1000^3", "a.nrrd", _cube(_files.nrrd, "double", "ascii")),
    Bomb("mha deflate 1000^3", "a.mha", _cube(_files.metaimage), "ct"),
    Bomb("nifti gzip 1000^3", "a.nii.gz", _cube(_files.nifti, "<f8", True), "ct"),
    Bomb("nifti raw 1000^3", "a.nii", _cube(_files.nifti, "<f8", False)),
    Bomb("nifti gzip 1500 slices int16", "a.nii.gz", _deep(_files.nifti, 1500, "<i2", True), "ct", READABLE),
    Bomb("nifti raw 1500 slices scaled", "a.nii", _deep(_files.nifti, 1500, "<i2", False, 0.5), "ct", EITHER),
    Bomb("nifti gzip 2047 slices int16", "a.nii.gz", _deep(_files.nifti, 2047, "<i2", True), "ct", EITHER),
    Bomb("nifti gzip 767 slices float64", "a.nii.gz", _deep(_files.nifti, 767, "<f8", True), "ct", READABLE),
    Bomb("nifti gzip 4D", "a.nii.gz", _plain(_files.nifti, (64, 64, 64, 2000), "<i2", True), "", READABLE),
    Bomb("nifti gzip 4D of 9,999", "a.nii.gz", _plain(_files.nifti, (8, 8, 8, 9_999), "<i2", True), "", EITHER),
    Bomb("nifti gzip 4D of many", "a.nii.gz", _plain(_files.nifti, (8, 8, 8, 32_000), "<i2", True), "", EITHER),
    Bomb("nrrd raw 1500 slices int16", "a.nrrd", _deep(_files.nrrd, 1500, "int16", "raw"), "ct", READABLE),
    Bomb("nrrd gzip 767 slices float64", "a.nrrd", _deep(_files.nrrd, 767, "double", "gzip"), "", READABLE),
    Bomb("nrrd raw 2047 slices float32", "a.nrrd", _deep(_files.nrrd, 2047, "float", "raw"), "ct", EITHER),
    Bomb("nrrd ascii at its limit", "a.nrrd", _plain(_files.nrrd, (512, 512, 63), "double", "ascii"), "", EITHER),
    Bomb("nrrd hex at its limit", "a.nrrd", _plain(_files.nrrd, (512, 512, 1023), "int16", "hex"), "", EITHER),
    Bomb("mha deflate 2047 slices", "a.mha", _deep(_files.metaimage, 2047, "MET_SHORT"), "ct", EITHER),
    Bomb("png 13300^2", "a.png", _square(_files.png), "xray", embeds=True),
    Bomb("png 8000^2 of 16-bit colour", "a.png", _plain(_files.png, 8000, 16, 6), "pathology", EITHER),
    Bomb("png 8000^2", "a.png", _plain(_files.png, 8000), "xray", READABLE, True),
    Bomb("bmp 13300^2", "a.bmp", _square(_files.bmp), "xray"),
    Bomb("bmp 8000^2", "a.bmp", _plain(_files.bmp, 8000), "xray", EITHER),
    Bomb("jpeg 13300^2", "a.jpg", _square(_files.jpeg, scans=10), "xray"),
    Bomb("jpeg of 10,000 scans", "a.jpg", _plain(_files.jpeg, 2000, 10_000), "xray"),
    Bomb("jpeg 8000^2 of 99 scans", "a.jpg", _plain(_files.jpeg, 8000, 99), "xray", EITHER),
    Bomb("tiff 13300^2", "a.tif", lambda path, rng: _files.tiff(path, 1, _about(rng, 13_300)), "xray"),
    Bomb("tiff of 20,000 pages", "a.tif", lambda path, rng: _files.tiff(path, _about(rng, 20_001), 64), "xray"),
    Bomb("tiff of 9,999 pages", "a.tif", _plain(_files.tiff, 9_999, 64), "", EITHER),
    Bomb("tiff of 9,999 large pages", "a.tif", _plain(_files.tiff, 9_999, 4000), "xray", EITHER),
    Bomb("tiff 8000^2 of 16-bit colour", "a.tif", _plain(_files.tiff, 1, 8000, 16, 3), "pathology", EITHER),
    Bomb("dicom of 2^31 frames", "a.dcm", _plain(_files.dicom, "", NumberOfFrames=2**31 - 1), "ct"),
    Bomb("dicom 65535^2", "a.dcm", _plain(_files.dicom, "", Rows=65535, Columns=65535), "ct"),
    Bomb("dicom deflated", "a.dcm", _plain(_files.dicom, "deflated"), "ct"),
    Bomb("dicom rle 8191^2", "a.dcm", _plain(_files.dicom, "rle", Rows=8191, Columns=8191), "ct"),
    Bomb("dicom jpeg2000 8191^2", "a.dcm", _plain(_files.dicom, "jpeg2000", Rows=8191, Columns=8191), "ct"),
    Bomb("dicom rle of many frames", "a.dcm", _plain(_files.dicom, "rle", NumberOfFrames=2**20), "ct", EITHER),
    Bomb("npy 10^12", "a.npy", _plain(_files.npz, (10**4, 10**4, 10**4)), "ct"),
    Bomb("npy 8 GiB", "a.npy", _plain(_files.npz, (1, 1024, 1024, 1024), held=2**33), "ct"),
    Bomb("npy of 3 GiB in one signal", "a.npy", _plain(_files.npz, (3 * 2**27,), held=3 * 2**30)),
    Bomb("npz 10^12", "a.npz", _plain(_files.npz, (10**4, 10**4, 10**4)), "ct"),
    Bomb("npz 2 GiB", "a.npz", _plain(_files.npz, (512, 512, 1023), held=2**31 - 2**21), "ct", EITHER),
    Bomb("npz of images, 1 GiB", "a.npz", _plain(_files.npz, (2**11, 256, 256), held=2**30), "xray", EITHER),
    Bomb("hdf5 10^12", "a.h5", _plain(_files.hdf5, (10**4, 10**4, 10**4)), "xray"),
    Bomb("hdf5 2000 slices", "a.h5", _plain(_files.hdf5, (2000, 512, 512)), "ct", EITHER),
    Bomb("zarr 10^12", "a.zarr", _plain(_files.zarr, (10**4, 10**4, 10**4)), "xray"),
    Bomb("zarr 2000 slices", "a.zarr", _plain(_files.zarr, (2000, 512, 512)), "ct", EITHER),
    Bomb("tar of a scan of 6 GiB", "a.tar", _plain(_files.tar, 6 * 2**30), "ct"),
    Bomb("parquet of 10 GiB text", "a.parquet", _plain(_files.parquet, 100_000, 10**5), "report"),
    Bomb("csv of one line of 1 GiB", "a.csv", _plain(_files.table, 2**30, "line"), "report", embeds=True),
    Bomb("csv of 2 GiB", "a.csv", _plain(_files.table, 2**31, "line"), "report"),
    Bomb("csv of 200 MiB commas", "a.csv", _plain(_files.table, 200 * 2**20, "commas"), "report"),
    Bomb("csv of 200 MiB short rows", "a.csv", _plain(_files.table, 200 * 2**20, "rows"), "report", EITHER),
    Bomb("jsonl of open brackets", "a.jsonl", _plain(_files.table, 200 * 2**20, "json"), "report"),
    Bomb("workbook of 2 GiB", "a.xlsx", _plain(_files.workbook, 2**31), "report"),
    Bomb("zip archive", "a.zip", _plain(_files.archive, 2**31)),
)
"""Those without a modality are of kinds that no loader reads."""


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each bomb in turn, or those named."""
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder: list[Path] = []
        for number, bomb, rng in turns(BOMBS, count, seed, kinds):
            if bomb.embeds and not encoder:
                encoder.append(_encoder(folder / "encoder"))
            yield _attempt(bomb, folder / "try", encoder, rng, number)
            shutil.rmtree(folder / "try")


def _encoder(folder: Path) -> Path:
    """A checkpoint of all modalities that are embedded."""
    folder.mkdir()
    data = artefacts.make_data(folder / "data")
    artefacts.write_recipes(folder)
    artefacts.must("pretrain", "tiny.yaml", "--name", "a", folder=folder, data=data)
    return folder / "runs" / "a" / "ckpt.pt"


def _attempt(bomb: Bomb, folder: Path, encoder: Sequence[Path], rng: np.random.Generator, number: int) -> Attempt:
    place = folder / "data"
    place.mkdir(parents=True)
    bomb.make(place / bomb.file, rng)
    source = str(place / bomb.file) if bomb.file.endswith(".zip") else str(place)
    typed = [("data", "check", source, "--json")]
    if bomb.modality:
        options = ("--modality", bomb.modality, "--prepared", "prepared", "--bad-share", "1", "--workers", "1")
        typed.append(("data", "prepare", source, *options))
    if bomb.embeds:
        typed.append(("embed", str(encoder[0]), source, "--modality", bomb.modality, "-o", "out.npz"))
    faults, seconds, peak, ends = [], 0.0, 0.0, []
    environment = {"MEDCOSS_CACHE": str(folder / "cache"), "TMPDIR": str(folder), "NO_COLOR": "1"}
    for verb in typed:
        ended = verbs.run(*verb, folder=folder, environment=environment, seconds=verbs.HANG)
        seconds, peak = max(seconds, ended.seconds), max(peak, ended.peak)
        fault, end = _judged(bomb, ended, verb[1] == "check")
        ends.append(f"{verb[0]} {end} {ended.seconds:.1f} s {ended.peak:.0f} MiB")
        if fault:
            faults.append(f"medcoss {' '.join(verb)}: {fault}: {ended.said[-300:]}")
    outcome = "fails" if faults else "fine"
    return Attempt(bomb.name, number, outcome, " | ".join(faults) or "; ".join(ends), fine=not faults)


def _judged(bomb: Bomb, ended: verbs.Ended, is_check: bool) -> tuple[str, str]:
    """What is wrong with how a verb ended, "" where nothing is; and whether the bomb was read or refused."""
    reasons = _reasons(ended.said) if is_check else [ended.said] if ended.code else []
    end = REFUSED if ended.code else READABLE
    if ended.is_fault:
        return ended.outcome, end
    if ended.seconds > SECONDS:
        return f"{ended.seconds:.0f} s", end
    if ended.peak > MEMORY:
        return f"{ended.peak:.0f} MiB", end
    if bomb.ends and end != bomb.ends:
        return f"{end}, not {bomb.ends}", end
    if end == REFUSED and not any(re.search(r"\d", reason) for reason in reasons):
        return "refused without a number", end
    return "", end


def _reasons(said: str) -> list[str]:
    """Why files were not read, by the JSON that `data check` prints; of one that printed none, all that it printed."""
    if "\n[" not in f"\n{said}":
        return [said]
    found, _ = json.JSONDecoder().raw_decode(said, said.index("["))
    return [verdict["reason"] for verdict in found if verdict["verdict"] != "read"]


def plant() -> None:
    """The pages of a TIFF are decoded however many they are."""
    from medcoss_cli.kit.readers import tiff

    tiff.MOST, tiff.MOST_BYTES = 10**6, 10**15
