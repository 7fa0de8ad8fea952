"""Decoders of compressed DICOM pixels: pydicom's, and GDCM, which SimpleITK brings, for what those do not decode."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import bounds

Array = np.ndarray[Any, Any]

_BY_GDCM = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless)
DECODER_DEPENDENCIES = dict.fromkeys(_BY_GDCM, ("SimpleITK",))
"""Syntaxes that pydicom decodes only with packages that are not installed with medcoss; GDCM decodes them. (pydicom's name.)"""


_NOISY = (uid.JPEGExtended12Bit, uid.RLELossless)
"""Of which decoders print to the screen: that 12 bits are not 8, before they are read; a panic, in front of its exception."""


def is_available(syntax: str) -> bool:
    """What pydicom asks of a plugin: is a syntax decoded here?"""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytearray:
    """One compressed frame to its stored values, as pydicom asks for them (a `DecodeRunner`).

    GDCM reads files only: the frame is written to a temporary one, with nothing else of the object in it.
    """
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    data = _object(UID(runner.transfer_syntax), src, runner.rows, runner.columns, runner.bits_stored)
    data.BitsAllocated, data.PixelRepresentation = runner.bits_allocated, runner.pixel_representation
    data.SamplesPerPixel = runner.samples_per_pixel
    if runner.samples_per_pixel > 1:
        data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
    with tempfile.TemporaryDirectory(prefix="medcoss-") as folder:
        path = Path(folder) / "frame.dcm"
        data.save_as(path, enforce_file_format=True)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        values = np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    runner.set_option("planar_configuration", 0)
    kind = f"{'<i' if runner.pixel_representation else '<u'}{runner.bits_allocated // 8}"
    return bytearray(np.ascontiguousarray(values).astype(kind).tobytes())


def decoded(data: Any, frame: int | None) -> Array:
    """Stored values of one frame, or of all for None, in colour as RGB; bits are left as they are in the file.

    Raises: DataError, among others, for a frame that would grow beyond what is declared (`bounds`).
    """
    for number in range(int(data.get("NumberOfFrames") or 1)) if frame is None else (frame,):
        bounds.check_frame(data, number)
    with _silenced_stderr() if data.file_meta.TransferSyntaxUID in _NOISY else contextlib.nullcontext():
        return np.asarray(pixel_array(data, index=frame, correct_unused_bits=False))


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """What C code prints goes nowhere inside the block."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


for _syntax in DECODER_DEPENDENCIES:
    with contextlib.suppress(ValueError):  # imported twice
        get_decoder(_syntax).add_plugin("simpleitk", (__name__, "decode_frame"))


def check_decoder(syntax: UID, path: Path) -> None:
    """Raise DataError for a compressed syntax that cannot be decoded here, naming it."""
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise DataError(
            f"its transfer syntax {syntax} is not of the DICOM standard",
            where=path,
            fix="export it again as Explicit VR Little Endian",
        )
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:  # what pydicom raises for a syntax it has never heard of, such as a video's
        available = False
    if not available:
        raise DataError(
            f"compressed as {syntax.name}, which has no decoder here",
            where=path,
            fix="export it again as Explicit VR Little Endian",
        )


def _object(syntax: UID, frame: bytes, rows: int, columns: int, bits: int) -> Dataset:
    """A DICOM object with one compressed grey frame, and no more than decoding needs."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    data.BitsAllocated = 8 if bits <= 8 else 16
    data.PixelData = encapsulate([bytes(frame)])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def decoders() -> dict[str, str]:
    """By kind of compression: "yes" where a picture of 8 x 8 pixels comes out as it went in, else the reason."""
    return {name: _state(*sample) for name, sample in _samples().items()}


def _state(syntax: UID, frame: bytes, bits: int, tolerance: int) -> str:
    data = _object(syntax, frame, 8, 8, bits)
    truth = RAMP if bits > 8 else RAMP >> 4
    try:
        off = int(np.abs(decoded(data, None).astype(int) - truth).max())
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything
        return f"no ({type(error).__name__})"
    return "yes" if off <= tolerance else f"no (decoded values are off by {off})"


RAMP = np.arange(64).reshape(8, 8) * 61 + 100
"""What the samples below hold, 12 bits; of 8 bits a sixteenth of it."""


def _samples() -> dict[str, tuple[UID, bytes, int, int]]:
    """(syntax, frame, bits, tolerance) of a picture compressed in each way."""
    from PIL import Image

    jpeg = io.BytesIO()
    Image.fromarray((RAMP >> 4).astype(np.uint8)).save(jpeg, "JPEG", quality=95)
    rle = bytes([2, *bytes(3), 64, *bytes(3), 130, *bytes(55)])  # two segments, of high and of low bytes, as literals
    for plane in (RAMP >> 8, RAMP & 255):
        rle += b"\x3f" + plane.astype(np.uint8).tobytes() + b"\0"
    samples: dict[str, tuple[UID, bytes, int, int]] = {
        "DICOM JPEG": (uid.JPEGBaseline8Bit, jpeg.getvalue(), 8, 8),
        "DICOM RLE": (uid.RLELossless, rle, 12, 0),
    }
    for name, (syntax, text, tolerance) in _ENCODED.items():
        samples[name] = syntax, base64.b64decode(text), 12, tolerance
    return samples


_ENCODED: dict[str, tuple[UID, str, int]] = {
    "DICOM JPEG, 12 bits": (
        uid.JPEGExtended12Bit,
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoK"
        "BggLDAsKDAkKCgr/wQALDAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAB//EABwQAAAGAwAAAAAAAAAAAAAAAAALDio2SFRkcv/a"
        "AAgBAQAAPwAVLp06hQVi7jV051R//9k=",
        64,
    ),
    "DICOM JPEG lossless": (
        uid.JPEGLosslessSV1,
        "/9j/xAAXAAEBAQEAAAAAAAAAAAAAAAAICQYL/8MACwwACAAIAQARAP/aAAgBAAAGAADgx73e73e73e729D0ej0ej0ej0vQ9Ho9Ho9Ho9"
        "L0PR6PR6PR6PS9D0ej0ej0ej0vQ9Ho9Ho9Ho9L0PR6PR6PR6PS9D0ej0ej0ej0D/2Q==",
        0,
    ),
    "DICOM JPEG-LS": (
        uid.JPEGLSLossless,
        "/9j/9wALDAAIAAgBAREA/9oACAEBAAAAAAjvLu6vLu6uYAAoPTw7Ojk4PQAAoNzY1NDMyPDzmJgXlxaWHZ5isqKSgnJjo8pKSEZEQkBy"
        "eR++evHbo4PG5cuHDdsbgP/Z",
        0,
    ),
    "DICOM JPEG 2000": (
        uid.JPEG2000Lossless,
        "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABCwEB/1IADAAAAAEAAAQEAAH/XAAEQGD/ZAAlAAFDcmVhdGVk"
        "IGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAABsAAH/k8/lbBDcQjzmV0PjwOL8bqfAeUwXc5GuWYpPYCZW/aDyuYq2Uuhz"
        "A9d15xPx9g7t/I9mVYylagUBNFi7AxRInBp+sXEBHiG4bDX0rjuxHVtLm2c6TrgHDYbDYbDYbD//2Q==",
        0,
    ),
    "DICOM HTJ2K": (
        uid.HTJ2KLossless,
        "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQ"
        "kJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFoAAf+TwAAmbfUFB3QAAADAABNAABMAKv4CB3QAZPED"
        "h3QAwAATQAATgBAQAYJ0AJIoiQDDVADAACogABVgOI7jqnCCdQDOO3fu/MBCAey2AP/Z",
        0,
    ),
}
