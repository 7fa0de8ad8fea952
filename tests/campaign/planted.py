"""Sixty identifiers, planted in data, names and surroundings; and the search for them in whatever form a file may hold them."""

from __future__ import annotations

import base64
import csv
import gzip
import html
import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pydicom

SYLLABLES = ("qua", "zor", "bix", "wul", "jor", "vex", "kyz", "fom", "hux", "dral", "nyx", "gob")


@dataclass(frozen=True)
class Identifier:
    """A name or a number that is nobody's, and where it is planted."""

    kind: str
    place: str
    value: str


def named(rng: np.random.Generator, number: int) -> str:
    """A word that stands nowhere else."""
    return (
        "".join(str(part) for part in rng.choice(SYLLABLES, 4)).capitalize() + "abcdefghijklmnopqrstuvwxyz"[number % 26]
    )


TAGS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments", "PatientTelephoneNumbers"),
    *("InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName"),
    *("StationName", "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("DeviceSerialNumber", "ImageComments", "private tag", "private creator", "preamble", "AE title"),
)
PNG, JPEG = ("tEXt", "zTXt", "iTXt", "eXIf"), ("EXIF Artist", "EXIF ImageDescription", "COM", "XMP")
TIFF = {"ImageDescription": 270, "Artist": 315, "HostComputer": 316, "DocumentName": 269}
NIFTI, NRRD, MHA = ("descrip", "aux_file", "db_name", "extension"), ("key", "content"), ("Comment", "PatientName")
COLUMNS = (
    "group",
    "another column",
    "name of a file",
    "name of a folder",
    "name of a mask",
    "name of a patient's folder",
)
REPORTS = ("id", "another column", "name in a text", "name of a table")
AROUND = (
    "home folder",
    "user",
    "host",
    "working folder",
    "data root",
    "folder of prepared sets",
    "folder of the recipe",
)


def drawn(seed: int) -> list[Identifier]:
    """All of them, in the order of their places."""
    rng = np.random.default_rng((seed, 1))
    places = [("DICOM", place) for place in TAGS] + [("PNG", place) for place in PNG] + [("JPEG", p) for p in JPEG]
    places += [("TIFF", place) for place in TIFF] + [("NIfTI", place) for place in NIFTI] + [("NRRD", p) for p in NRRD]
    places += [("MHA", place) for place in MHA] + [("manifest", p) for p in COLUMNS] + [("reports", p) for p in REPORTS]
    places += [("surroundings", place) for place in AROUND]
    return [Identifier(kind, place, named(rng, number)) for number, (kind, place) in enumerate(places)]


def plant(identifiers: list[Identifier], data: Path) -> None:
    """Write them into demo sets of xray, pathology, ct and report, which are trained on."""
    of: dict[str, dict[str, str]] = {}
    for identifier in identifiers:
        of.setdefault(identifier.kind, {})[identifier.place] = identifier.value
    for path in sorted((data / "xray" / "images").glob("*.dcm")):
        _dicom(path, of["DICOM"])
    for kind, suffix, write in (("PNG", "png", _png), ("JPEG", "jpg", _jpeg), ("TIFF", "tif", _tiff)):
        for path in sorted((data / "pathology" / "images").glob(f"*.{suffix}")):
            write(path, of[kind])
    _volumes(data / "ct", of)
    _manifest(data / "xray", of["manifest"])
    _reports(data / "report", of["reports"])


def _dicom(path: Path, values: dict[str, str]) -> None:
    data = pydicom.dcmread(path)
    for tag, value in values.items():
        if tag == "PatientName" or tag.endswith(("PhysicianName", "OperatorsName")):
            setattr(data, tag, f"{value}^Maria")
        elif tag.startswith("private"):
            data.private_block(0x0029, values["private creator"], create=True).add_new(
                0x10, "LO", values["private tag"]
            )
        elif tag == "preamble":
            data.preamble = value.encode().ljust(128, b"\0")
        elif tag == "AE title":
            data.file_meta.SourceApplicationEntityTitle = value[:16]
        else:
            setattr(data, tag, value[:16])
    data.save_as(path)


def _png(path: Path, values: dict[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    with Image.open(path) as picture:
        picture.load()
        info, exif = PngImagePlugin.PngInfo(), picture.getexif()
        info.add_text("Author", values["tEXt"])
        info.add_text("Comment", values["zTXt"], zip=True)
        info.add_itxt("Title", values["iTXt"])
        exif[315] = values["eXIf"]
        picture.save(path, pnginfo=info, exif=exif)


def _jpeg(path: Path, values: dict[str, str]) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        exif = picture.getexif()
        exif[315], exif[270] = values["EXIF Artist"], values["EXIF ImageDescription"]
        xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{values['XMP']}</x:xmpmeta>".encode()
        picture.save(path, exif=exif, comment=values["COM"].encode(), xmp=xmp, quality=95)


def _tiff(path: Path, values: dict[str, str]) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        picture.save(path, tiffinfo={TIFF[name]: value for name, value in values.items()})


def _volumes(root: Path, of: dict[str, dict[str, str]]) -> None:
    """Beside the series: one volume of each format, trained on."""
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813

    values = np.random.default_rng(0).integers(-900, 900, (40, 64, 64)).astype(np.int16)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])  # of axes to the right and to the back, as the others have them
    image = nib.Nifti1Image(values.T, affine)
    image.header["descrip"], image.header["aux_file"] = of["NIfTI"]["descrip"], of["NIfTI"]["aux_file"]
    image.header["db_name"] = of["NIfTI"]["db_name"][:18]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", of["NIfTI"]["extension"].encode()))
    image.to_filename(root / "images" / "a.nii.gz")
    volume: Any = sitk.GetImageFromArray(values)
    volume.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(volume, str(root / "images" / "b.nrrd"))
    text = (root / "images" / "b.nrrd").read_bytes().split(b"\n\n", 1)
    header = text[0] + f"\ncontent: {of['NRRD']['content']}\npatient:={of['NRRD']['key']}".encode()
    (root / "images" / "b.nrrd").write_bytes(header + b"\n\n" + text[1])
    for key, value in of["MHA"].items():
        volume.SetMetaData(key, value)
    sitk.WriteImage(volume, str(root / "images" / "c.mha"))
    mask: Any = sitk.GetImageFromArray((values > 700).astype(np.uint8))
    mask.SetSpacing((2.0, 2.0, 2.0))
    rows = list(csv.DictReader((root / "manifest.csv").open(newline="")))
    for name in ("a.nii.gz", "b.nrrd", "c.mha"):
        sitk.WriteImage(mask, str(root / "masks" / f"{name[0]}.nii.gz"))
        row = {"path": f"images/{name}", "split": "train", "group": name[0], "label": "none"}
        rows.append({**row, "mask": f"masks/{name[0]}.nii.gz"})
    _table(root / "manifest.csv", rows)


def _manifest(root: Path, values: dict[str, str]) -> None:
    """Names of files and folders, and columns of the manifest."""
    rows = list(csv.DictReader((root / "manifest.csv").open(newline="")))
    for number, row in enumerate(rows):
        old = root / row["path"]
        folder, of_patient, name = (values[f"name of a {part}"] for part in ("folder", "patient's folder", "file"))
        row["path"] = f"{folder}/{of_patient}-{number}/{name}{old.suffix}"
        (root / row["path"]).parent.mkdir(parents=True)
        old.rename(root / row["path"])
        mask = root / row["mask"]
        row["mask"] = f"masks/{values['name of a mask']}-{number}{mask.suffix}"
        mask.rename(root / row["mask"])
        row["group"], row["referred by"] = f"{values['group']}-{row['group']}", values["another column"]
    _table(root / "manifest.csv", rows)


def _reports(root: Path, values: dict[str, str]) -> None:
    for path in list(root.rglob("*.csv")):
        if path.name == "manifest.csv":
            continue
        rows = list(csv.DictReader(path.open(newline="")))
        for number, row in enumerate(rows):
            row["id"], row["ward"] = f"{values['id']}-{number}", values["another column"]
        rows[0]["text"] += f" Seen by Dr {values['name in a text']}."
        _table(path, rows)
    table = root / f"{values['name of a table']}.csv"
    (root / "reports.csv").rename(table)
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("reports.csv,", f"{table.name},"))


def _table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows(rows)


def forms(value: str) -> list[tuple[str, bytes, bool]]:
    """(what it is, its bytes, whether upper and lower case differ)."""
    found = [("as it is", value.encode(), False), ("UTF-16 LE", value.encode("utf-16-le"), False)]
    found += [("UTF-16 BE", value.encode("utf-16-be"), False), ("hexadecimal", value.encode().hex().encode(), False)]
    found += [("URL-quoted", quote(value).encode(), False), ("JSON", json.dumps(value)[1:-1].encode(), False)]
    found += [("HTML", html.escape(value).encode(), False), ("backwards", value[::-1].encode(), False)]
    for word in (value, value.lower(), value.upper()):
        for shift in range(3):  # the letters of base64 depend on where it begins; the outermost also on what is beside
            coded = base64.b64encode(b"\0" * shift + word.encode() + b"\0" * (-(len(word) + shift) % 3))
            begin = (shift * 8 + 5) // 6
            end = len(coded) if (len(word) + shift) % 3 == 0 else (shift + len(word)) * 8 // 6
            found.append((f"base64 from {shift}", coded[begin:end], True))
    return found


def layers(content: bytes, depth: int = 4) -> Iterator[bytes]:
    """A file's bytes, and what is packed in them."""
    yield content
    if depth == 0:
        return
    for unpack in (_zip, _gzip, _tar, _chunks, _data_urls):
        with suppress(
            OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, tarfile.TarError, struct.error
        ):
            for inner in unpack(content):
                yield from layers(inner, depth - 1)


def _zip(content: bytes) -> Iterator[bytes]:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield "\n".join(archive.namelist()).encode()
            for name in archive.namelist():
                yield archive.read(name)


def _gzip(content: bytes) -> Iterator[bytes]:
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)


def _tar(content: bytes) -> Iterator[bytes]:
    if content[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for entry in archive:
                if file := archive.extractfile(entry):
                    yield file.read()


def _chunks(content: bytes) -> Iterator[bytes]:
    """Of a PNG, inflated where they are deflated."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return
    at = 8
    pixels = b""
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        pixels += body if name == b"IDAT" else b""
        if name in (b"zTXt", b"iTXt", b"iCCP") and b"x\x9c" in body:
            yield zlib.decompress(body[body.index(b"x\x9c") :])
        at += 12 + length
    yield zlib.decompress(pixels)


def _data_urls(content: bytes) -> Iterator[bytes]:
    for match in re.finditer(rb"data:[\w/+.-]*;base64,([A-Za-z0-9+/=]+)", content):
        yield base64.b64decode(match[1])


def search(value: str, unpacked: list[tuple[bytes, bytes]]) -> str | None:
    """The form in which a value stands in a file; the layers come with their bytes in lower case."""
    for name, needle, exact in forms(value):
        if any((needle if exact else needle.lower()) in (content if exact else lower) for content, lower in unpacked):
            return name
    return None


def unpacked(path: Path) -> list[tuple[bytes, bytes]]:
    """All layers of a file, and the same in lower case."""
    return [(layer, layer.lower()) for layer in layers(path.read_bytes())]
