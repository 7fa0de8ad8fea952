"""Mutated files: each is read as another reader reads it, or refused with a reason; in bounded time."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from medcoss_cli.errors import MedcossError
from tests.campaign.attempts import Attempt, turns
from tests.campaign.kinds import KINDS, Kind

SECONDS = 20.0
"""For one file, other reader included."""
HEADER = 700
"""Bytes at the beginning in which half of the mutations lie."""
CLOSE = 2.0
"""Grey levels by which decoders of lossy compression may differ; others by rounding alone."""
FINE = ("read", "refused", "refused by the other reader", "noted")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one fault, or two to four, as transfers, discs and programs make them."""
    data = bytearray(content)
    for _ in range(1 if rng.random() < 0.6 else int(rng.integers(2, 5))):
        if not data:
            break
        end = min(len(data), HEADER) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(end))
        size = int(rng.integers(1, 17))
        match int(rng.integers(7)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + size] = rng.integers(0, 256, size, np.uint8).tobytes()
            case 2:
                data[at : at + size] = bytes(size)
            case 3:
                data[at : at + size] = b"\xff" * size
            case 4:
                del data[at : at + size]
            case 5:
                data[at:at] = bytes(data[at : at + size])
            case 6:
                del data[int(rng.integers(len(data) // 2, len(data) + 1)) :]
    return bytes(data)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Read `count` mutated files, in turns of all kinds, in a process that is killed where it hangs."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        ours, process = _start(context, folder, seed)
        try:
            for number, kind, _ in turns(KINDS, count, seed, kinds):
                ours.send((number, KINDS.index(kind)))
                if ours.poll(SECONDS):
                    try:
                        yield _ended(kind, number, *ours.recv())
                        continue
                    except EOFError:
                        yield _ended(kind, number, "died", f"exit code {process.exitcode}")
                else:
                    yield _ended(kind, number, "hangs", f"more than {SECONDS:g} s")
                process.kill()
                process.join()
                ours, process = _start(context, folder, seed)
        finally:
            process.kill()
            process.join()


def _ended(kind: Kind, number: int, outcome: str, detail: str) -> Attempt:
    return Attempt(kind.name, number, outcome, detail, fine=outcome in FINE)


def _start(
    context: multiprocessing.context.ForkContext, folder: str, seed: int
) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, folder, seed), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _serve(pipe: Connection, folder: str, seed: int) -> None:
    while True:
        number, at = pipe.recv()
        kind = KINDS[at]
        path = Path(folder) / f"{number}-{kind.name}"
        rng = np.random.default_rng((seed, number))
        path.write_bytes(mutated(kind.make(rng), rng))
        try:
            pipe.send(attempt(kind, path))
        except BaseException:
            pipe.send(("traceback", traceback.format_exc()[-1500:]))
        path.unlink(missing_ok=True)


def attempt(kind: Kind, path: Path) -> tuple[str, str]:
    """(outcome, detail) of one file."""
    try:
        values, notes = kind.read(path)
    except MedcossError as error:
        return "refused", error.what
    if kind.other is None:
        return "read", ""
    try:
        theirs = kind.other(path)
    except BaseException as error:  # decoders raise anything
        return "refused by the other reader", f"{type(error).__name__}: {error}"[:200]
    values, theirs = np.squeeze(values), np.squeeze(theirs) * (255 if theirs.dtype == bool else 1)
    with np.errstate(over="ignore"):
        theirs = theirs.astype(np.float32) if theirs.dtype == np.float64 else theirs  # as samples are
    if theirs.ndim == values.ndim + 1 and (theirs == theirs[..., :1]).all():  # grey, given in colour
        theirs = theirs[..., 0]
    if values.shape == theirs.shape:
        apart = np.abs(values.astype(float) - theirs.astype(float))
        scale = max(1.0, float(np.abs(np.nan_to_num(theirs.astype(float), posinf=0, neginf=0)).max()))
        bound = CLOSE if kind.name.endswith("jpg") else 1e-5 * scale
        same = (apart <= bound) | (np.isnan(values.astype(float)) & np.isnan(theirs.astype(float))) | (values == theirs)
        if same.all():
            return "read", ""
        detail = f"{int((~same).sum())} of {same.size} values differ, by up to {np.nanmax(apart):g}"
    else:
        detail = f"shapes {values.shape} and {theirs.shape}"
    if notes or _is_doubled(path):
        return "noted", f"{detail}; {'; '.join(notes) or 'an attribute stands twice in it'}"
    return "differs", detail


_PIXELS = tuple(bytes.fromhex(tag) for tag in ("0200", "1000", "1100", "0001", "0101", "0201", "0301", "5210", "5310"))
"""Elements of group 0028: samples, rows, columns, bits, sign, intercept, slope."""


def _is_doubled(path: Path) -> bool:
    """True for a DICOM file in which an attribute of its pixels stands twice: pydicom takes the last, GDCM the first."""
    content = path.read_bytes()
    return path.suffix == ".dcm" and any(content.count(b"\x28\0" + tag) > 1 for tag in _PIXELS)


def plant() -> None:
    """What a decoder raises of a damaged volume is not turned into a sentence."""
    from contextlib import nullcontext

    from medcoss_cli.kit.readers import voxels

    voxels.plainly = nullcontext  # type: ignore[assignment]
