"""Files that are small, or look small, and grow without end while they are read; each is written a little at a time."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.dicom_files import make

CHUNK = 2**22
"""Bytes that are compressed once and written over and over: what they unpack to is no matter of time then."""


def zeros(count: int, first: bytes = b"", chunk: bytes = bytes(CHUNK)) -> Iterator[bytes]:
    """`count` bytes as gzip, in members of CHUNK bytes: `first`, then `chunk` over and over, which is nothing but zeros."""
    if first:
        yield gzip.compress(first, mtime=0)
        count -= len(first)
    whole = gzip.compress(chunk, mtime=0)
    for _ in range(count // CHUNK):
        yield whole
    yield gzip.compress(chunk[: count % CHUNK], mtime=0)


def _write(path: Path, *parts: bytes | Iterator[bytes], size: int = 0) -> None:
    """Write parts one after another; `size` bytes in all, what is missing as a hole in the file."""
    with path.open("wb") as file:
        for part in parts:
            for piece in (part,) if isinstance(part, bytes) else part:
                file.write(piece)
        if size:
            file.truncate(size)


def _ramp(dtype: str, count: int = 2**16) -> bytes:
    """Values that differ, so that a volume is not refused for having no content."""
    return (np.arange(count) % 1500 - 1000).astype(dtype).tobytes()


def nrrd(path: Path, size: tuple[int, int, int], kind: str, encoding: str) -> None:
    """A volume whose voxels are behind its header: as a hole, as gzip members, or as digits."""
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\nsizes: {' '.join(map(str, size))}\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nkinds: domain domain domain\n"
        f"endian: little\nencoding: {encoding}\n\n"
    ).encode()
    dtype = {"int16": "<i2", "float": "<f4", "double": "<f8"}[kind]
    held = int(np.prod(size)) * np.dtype(dtype).itemsize
    if encoding == "raw":
        _write(path, header, _ramp(dtype), size=len(header) + held)
    elif encoding == "gzip":
        _write(path, header, zeros(held, _ramp(dtype)))
    elif encoding == "hex":
        held = min(held, 2**29)
        _write(
            path,
            header,
            itertools.repeat(_ramp(dtype, 2**18).hex().encode(), held // np.dtype(dtype).itemsize // 2**18),
        )
    else:
        _write(path, header, (b"0 1 " * 2**18 for _ in range(2**8)))


def metaimage(path: Path, size: tuple[int, int, int], kind: str = "MET_DOUBLE") -> None:
    """A compressed volume."""
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\n"
        f"DimSize = {' '.join(map(str, size))}\nElementType = {kind}\nElementDataFile = LOCAL\n"
    ).encode()
    dtype = {"MET_DOUBLE": "<f8", "MET_SHORT": "<i2"}[kind]
    _write(path, header, zeros(int(np.prod(size)) * np.dtype(dtype).itemsize, _ramp(dtype)))


def nifti(path: Path, size: tuple[int, ...], dtype: str, zipped: bool, slope: float = 1.0) -> None:
    """A volume, or several of them."""
    code = {"<i2": 4, "<f4": 16, "<f8": 64}[dtype]
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(size), *size, *(1,) * (7 - len(size)))
    struct.pack_into("<hh", head, 70, code, 8 * np.dtype(dtype).itemsize)
    struct.pack_into("<8f", head, 76, 1, *(1.0,) * 7)
    struct.pack_into("<3f", head, 108, 352, slope, 0)
    struct.pack_into("<2h", head, 252, 0, 1)
    struct.pack_into("<12f", head, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    head[123], head[344:348] = 2, b"n+1\0"
    held = 352 + int(np.prod(size, dtype=np.int64)) * np.dtype(dtype).itemsize
    if zipped:
        every = _ramp(dtype, CHUNK // np.dtype(dtype).itemsize) if len(size) > 3 else bytes(CHUNK)
        _write(path, zeros(held, bytes(head) + _ramp(dtype), every))
    else:
        _write(path, bytes(head), _ramp(dtype), size=held)


def png(path: Path, side: int, depth: int = 8, colour: int = 0) -> None:
    """A square of one colour, but for its first row."""

    def part(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    row = bytes(1 + side * {0: 1, 2: 3, 4: 2, 6: 4}[colour] * depth // 8)
    packer = zlib.compressobj(1)
    packed = packer.compress(b"\0" + bytes(range(250)).ljust(len(row) - 1, b"\7"))
    packed += b"".join(packer.compress(row) for _ in range(side - 1)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    _write(path, b"\x89PNG\r\n\x1a\n", part(b"IHDR", head), part(b"IDAT", packed), part(b"IEND", b""))


def bmp(path: Path, side: int) -> None:
    """A square of grey levels, as a hole in the file."""
    row = -(-side // 4) * 4
    head = struct.pack("<2sIHHI", b"BM", 54 + row * side, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 3 * row * side, 0, 0, 0, 0)
    _write(path, head, bytes(range(250)), size=54 + 3 * row * side)


def jpeg(path: Path, side: int, scans: int) -> None:
    """A progressive picture whose last scan is there many times."""
    from PIL import Image

    out = io.BytesIO()
    small = Image.fromarray((np.indices((64, 64)).sum(0) * 2).astype(np.uint8))
    small.save(out, "JPEG", progressive=True)
    data = bytearray(out.getvalue())
    frame = data.index(b"\xff\xc2")
    struct.pack_into(">HH", data, frame + 5, side, side)
    begins = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    last = bytes(data[begins[-1] : -2])
    _write(path, bytes(data[:-2]), (last for _ in range(scans - len(begins))), b"\xff\xd9")


def tiff(path: Path, pages: int, side: int, bits: int = 8, samples: int = 1) -> None:
    """Pages that all have the same compressed pixels."""
    packer = zlib.compressobj(1)
    row = bytes(side * samples * bits // 8)
    strip = packer.compress(bytes(range(250)).ljust(len(row), b"\7")[: len(row)])
    strip += b"".join(packer.compress(row) for _ in range(side - 1)) + packer.flush()
    tags = [(256, side), (257, side), (258, bits), (259, 8), (262, 2 if samples == 3 else 1), (273, 0), (277, samples)]
    tags += [(278, side), (279, len(strip))]
    first, size = 8 + len(strip) + len(strip) % 2, 2 + 12 * len(tags) + 4

    def directories() -> Iterator[bytes]:
        for page in range(pages):
            entries = b"".join(struct.pack("<HHII", t, 4, 1, 8 if t == 273 else v) for t, v in tags)
            following = 0 if page == pages - 1 else first + (page + 1) * size
            yield struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)

    _write(path, b"II*\0" + struct.pack("<I", first), strip, b"\0" * (len(strip) % 2), directories())


def dicom(path: Path, syntax: str, **elements: Any) -> None:
    """A small frame, and a header that says something else."""
    data = make((np.indices((64, 64)).sum(0)).astype(np.uint16), "CT")
    if syntax == "rle":
        data.compress("1.2.840.10008.1.2.5")
    elif syntax == "jpeg2000":
        data.compress("1.2.840.10008.1.2.4.90")
    elif syntax == "deflated":
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        data.ImageComments = "0" * 2**10
        data.add_new(0x00091001, "OB", bytes(2**20))
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    if syntax == "deflated":
        # the deflated part again, of as many zeros as CHUNK over and over within one stream
        content = path.read_bytes()
        end = 144 + int.from_bytes(content[140:144], "little")
        packer = zlib.compressobj(9, wbits=-15)
        head = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 2**31)
        packed = packer.compress(head) + b"".join(packer.compress(bytes(CHUNK)) for _ in range(2**29 // CHUNK))
        _write(path, content[:end], packed + packer.flush())


def npz(path: Path, shape: tuple[int, ...], dtype: str = "<f8", held: int = 0) -> None:
    """An array whose header declares `shape`, with `held` bytes of zeros behind it."""
    text = str({"descr": dtype, "fortran_order": False, "shape": shape})
    head = b"\x93NUMPY\1\0" + (118).to_bytes(2, "little") + text.encode().ljust(117) + b"\n"
    if path.suffix == ".npy":
        _write(path, head, _ramp(dtype), size=len(head) + held)
        return
    _zip(path, "volume.npy", head, _ramp(dtype, 2**21), *(bytes(CHUNK),) * (held // CHUNK))


def archive(path: Path, held: int) -> None:
    """A zip archive of one picture and a file of zeros."""
    _zip(path, "scans/a.nii", *(bytes(CHUNK),) * (held // CHUNK))


def tar(path: Path, held: int) -> None:
    """A member of `held` bytes that is a NIfTI file by its first bytes, the others a hole."""
    volume = path.parent / "inner.nii"
    nifti(volume, (512, 512, held // 2**18 // 2), "<i2", zipped=False)
    size = volume.stat().st_size
    member = tarfile.TarInfo("a.nii")
    member.size = size
    with path.open("wb") as file, volume.open("rb") as source:
        file.write(member.tobuf())
        file.write(source.read(2**18))
        file.truncate(512 + -(-size // 512) * 512 + 1024)
    volume.unlink()


def hdf5(path: Path, shape: tuple[int, ...], dtype: str = "f8") -> None:
    """A data set of which no chunk was ever written: the fill value everywhere."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("scan", shape, dtype, chunks=(1, *shape[1:]) if len(shape) > 2 else True)


def zarr(path: Path, shape: tuple[int, ...], dtype: str = "<f8") -> None:
    """A store without a chunk."""
    path.mkdir()
    about = {"zarr_format": 2, "shape": shape, "chunks": [1, *shape[1:]], "dtype": dtype, "compressor": None}
    about |= {"fill_value": 0, "filters": None, "order": "C"}
    (path / ".zarray").write_text(json.dumps(about))


def parquet(path: Path, rows: int, length: int) -> None:
    """A column in which one long text is meant by every row: a dictionary of one entry."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.array(["a" * length, "b" * length])
    with pq.ParquetWriter(path, pa.schema([("text", pa.dictionary(pa.int32(), pa.string()))])) as writer:
        for _ in range(rows // 10_000):
            numbers = pa.array(np.arange(10_000, dtype=np.int32) % 2)
            writer.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(numbers, kind)}))


def table(path: Path, held: int, form: str) -> None:
    """Text: one line of a hole; a header of commas; rows that are short and many; gzip of one character."""
    if form == "line":
        _write(path, b"id,text\n1," + b"No acute disease. " * 2**12, size=held)
    elif form == "commas":
        _write(path, b"text\n", (b"," * 2**20 for _ in range(held // 2**20)))
    elif form == "rows":
        _write(path, b"text\n", (b"a\n" * 2**19 for _ in range(held // 2**20)))
    elif form == "json":
        _write(path, (b"[" * 2**20 for _ in range(held // 2**20)))
    else:
        line = gzip.compress(b'{"text": "' + b"a" * 2**20 + b'"}\n', mtime=0)
        _write(path, (line for _ in range(held // 2**20)))


def workbook(path: Path, held: int) -> None:
    """A spreadsheet whose sheet is blank space."""
    _zip(path, "xl/worksheets/sheet1.xml", *(b" " * CHUNK,) * (held // CHUNK))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("[Content_Types].xml", "<Types/>")


def _zip(path: Path, name: str, *parts: bytes) -> None:
    """An archive of one file."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for part in parts:
            file.write(part)
