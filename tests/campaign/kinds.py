"""Small good files of the kinds that are read, how medcoss reads them, and how somebody else's reader does."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from medcoss_cli.kit import SignalFolder, TextFolder, VolumeFolder
from medcoss_cli.kit.readers import codecs, image, kind_of, pixels
from medcoss_cli.plugin import Record
from tests.dicom_files import enhanced, make

Array = np.ndarray[Any, Any]
Reading = tuple[Array, tuple[str, ...]]
"""Values, and notes on them."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        name: of the file; its ending matters to text alone.
        make: its content, from a random generator.
        read: by medcoss; raises DataError for what it refuses.
        other: by another reader; raises anything. None: there is none to compare with.
    """

    name: str
    make: Callable[[np.random.Generator], bytes]
    read: Callable[[Path], Reading]
    other: Callable[[Path], Array] | None = None


def _first(loader: Any, path: Path) -> Reading:
    from medcoss_cli.errors import DataError

    items = list(loader.find(path))
    records = [item for item in items if isinstance(item, Record)]
    if not records:
        raise DataError("; ".join(item.reason for item in items) or "nothing")
    samples = [loader.read(record) for record in records]
    notes = tuple(dict.fromkeys(note for s, r in zip(samples, records, strict=True) for note in (*r.notes, *s.notes)))
    if isinstance(samples[0].array, str):
        return np.array([sample.array for sample in samples]), notes
    return samples[0].array[0], notes


def _volume(path: Path) -> Reading:
    return _first(VolumeFolder(dicom=("CT", "MR")).whole(), path)


def _slice(path: Path) -> Reading:
    array, _, notes = pixels.read_frame(path)
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), notes


def _picture(path: Path) -> Reading:
    from medcoss_cli.errors import DataError

    if kind_of(path) not in ("png", "jpeg", "tiff", "bmp"):
        raise DataError("not a picture")
    array, notes = image.read(path)
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), notes


def _text(path: Path) -> Reading:
    return _first(TextFolder(), path)


def _signal(path: Path) -> Reading:
    return _first(SignalFolder(), path)


def _by_simpleitk(path: Path) -> Array:
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    read = sitk.ReadImage(str(path))
    if read.GetDimension() == 3 and read.GetSize()[2] > 1:
        read = sitk.DICOMOrient(read, "LPS")
    return np.squeeze(np.asarray(sitk.GetArrayFromImage(read)))


def _by_nibabel(path: Path) -> Array:
    import nibabel as nib

    read = nib.as_closest_canonical(nib.load(path))
    return np.asarray(read.get_fdata())[::-1, ::-1].transpose(2, 1, 0)


def _by_imagecodecs(path: Path) -> Array:
    import imagecodecs

    return np.asarray(imagecodecs.imread(path.read_bytes()))


def _by_tifffile(path: Path) -> Array:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if 0 in page.databytecounts:  # it gives zeros then, libtiff what stands there
            raise ValueError("a strip of no length")
        values = np.asarray(page.asarray())
        photometric = page.tags.get("PhotometricInterpretation")  # type: ignore[union-attr] - where it is absent, 0 is no word of the file
        is_white_zero = photometric is not None and photometric.value == tifffile.PHOTOMETRIC.MINISWHITE
        return np.iinfo(values.dtype).max - values if is_white_zero else values


def _by_numpy(path: Path) -> Array:
    return np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float32)[0]


def _grey(rng: np.random.Generator, dtype: Any = np.uint16, top: int = 4096) -> Array:
    rows, columns = np.mgrid[:40, :32]
    return np.asarray((rows * 17 + columns * 5 + rng.integers(0, 40, (40, 32))) % top, dtype)


def _dicom(rng: np.random.Generator, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    data = make(
        _grey(rng),
        "CT",
        BitsStored=12,
        HighBit=11,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        PixelSpacing=[0.5, 0.5],
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
    if syntax in (RLELossless, JPEG2000Lossless):
        data.compress(syntax)
    if syntax == JPEGLosslessSV1:
        frame = codecs._samples()["DICOM JPEG lossless"][1]
        data.Rows = data.Columns = 8
        data.PixelData = pydicom.encaps.encapsulate([frame])
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    pydicom.dcmwrite(
        out, data, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
    )
    return out.getvalue()


def _enhanced(rng: np.random.Generator) -> bytes:
    data = enhanced(5)
    data.PixelData = rng.integers(0, 2000, (5, 8, 8)).astype(np.uint16).tobytes()
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _nifti(rng: np.random.Generator, dtype: Any = np.int16, version: int = 1, zipped: bool = False) -> bytes:
    import nibabel as nib

    values = rng.integers(-900, 1500, (9, 10, 11)).astype(dtype)
    affine = np.diag([0.8, 0.9, 2.5, 1])
    affine[:3, 3] = rng.integers(-50, 50, 3)
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    content = kind(values, affine).to_bytes()
    return gzip.compress(content, mtime=0) if zipped else content


def _nrrd(rng: np.random.Generator, encoding: str = "raw") -> bytes:
    values = rng.integers(0, 3000, (9, 10, 11)).astype("<i2").tobytes()
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 11 10 9\n"
        "space directions: (0.8,0,0) (0,0.9,0) (0,0,2.5)\nspace origin: (1,2,3)\nkinds: domain domain domain\n"
        f"endian: little\nencoding: {encoding}\n\n"
    )
    return header.encode() + (gzip.compress(values, mtime=0) if encoding == "gzip" else values)


def _mha(rng: np.random.Generator) -> bytes:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 0.8 0.9 2.5\nDimSize = 11 10 9\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return header.encode() + rng.integers(0, 3000, (9, 10, 11)).astype("<i2").tobytes()


def _pillow(rng: np.random.Generator, form: str, deep: bool = False, colour: bool = False, **options: Any) -> bytes:
    from PIL import Image

    picture = _grey(rng, np.uint16 if deep else np.uint8, 65000 if deep else 250)
    if colour:
        picture = np.stack([picture, picture[::-1], picture[:, ::-1]], -1)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, form, **options)
    return out.getvalue()


def _table(rng: np.random.Generator) -> bytes:
    rows = [f'p{n},"No acute disease, case {rng.integers(1000)}; stable."' for n in range(30)]
    return "\r\n".join(["id,text", *rows, ""]).encode()


def _lines(rng: np.random.Generator) -> bytes:
    return "\n".join(json.dumps({"id": n, "text": f"Finding {rng.integers(1000)} é"}) for n in range(30)).encode()


def _npy(rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    np.save(out, rng.normal(size=(1, 200)).astype(np.float32))
    return out.getvalue()


def _bmp(rng: np.random.Generator) -> bytes:
    content = bytearray(_pillow(rng, "BMP"))
    struct.pack_into("<HH", content, 6, 0, 0)
    return bytes(content)


KINDS = (
    Kind("explicit.dcm", _dicom, _slice, _by_simpleitk),
    Kind("implicit.dcm", lambda rng: _dicom(rng, ImplicitVRLittleEndian), _slice, _by_simpleitk),
    Kind("rle.dcm", lambda rng: _dicom(rng, RLELossless), _slice, _by_simpleitk),
    Kind("jpeg2000.dcm", lambda rng: _dicom(rng, JPEG2000Lossless), _slice, _by_simpleitk),
    Kind("lossless.dcm", lambda rng: _dicom(rng, JPEGLosslessSV1), _slice, _by_simpleitk),
    Kind("enhanced.dcm", _enhanced, _volume),
    Kind("int16.nii", _nifti, _volume, _by_nibabel),
    Kind("float32.nii", lambda rng: _nifti(rng, np.float32), _volume, _by_nibabel),
    Kind("two.nii", lambda rng: _nifti(rng, version=2), _volume, _by_nibabel),
    Kind("zipped.nii.gz", lambda rng: _nifti(rng, zipped=True), _volume, _by_nibabel),
    Kind("raw.nrrd", _nrrd, _volume, _by_simpleitk),
    Kind("gzip.nrrd", lambda rng: _nrrd(rng, "gzip"), _volume, _by_simpleitk),
    Kind("local.mha", _mha, _volume, _by_simpleitk),
    Kind("grey.png", lambda rng: _pillow(rng, "PNG"), _picture, _by_imagecodecs),
    Kind("deep.png", lambda rng: _pillow(rng, "PNG", deep=True), _picture, _by_imagecodecs),
    Kind("colour.jpg", lambda rng: _pillow(rng, "JPEG", colour=True), _picture, _by_imagecodecs),
    Kind("deep.tif", lambda rng: _pillow(rng, "TIFF", deep=True), _picture, _by_tifffile),
    Kind("lzw.tif", lambda rng: _pillow(rng, "TIFF", colour=True, compression="tiff_lzw"), _picture, _by_tifffile),
    Kind("grey.bmp", _bmp, _picture, _by_imagecodecs),
    Kind("rows.csv", _table, _text),
    Kind("rows.jsonl", _lines, _text),
    Kind("signal.npy", _npy, _signal, _by_numpy),
)
