"""Files of tensors and plain values (torch's zip format): written atomically, read without executing anything."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from medcoss_cli.errors import CheckpointError, ResourceError, is_of_the_machine
from medcoss_cli.store import atomic, typed

AGAIN = "copy it again, or use an earlier one"
EXPORTED = "this is an exported network, not a checkpoint"
_FOREIGN = ("global", "reduce for", "can only", "persistent")  # what torch says of other than plain values


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write it atomically; only the bytes of a view are stored, not what it is a view of.

    Raises: ResourceError without space or permission (the old file is then as it was), TypeError for a value that
    `load` would refuse.
    """
    values = plain(content)

    def write(file: BinaryIO) -> None:
        torch.save(values, file)

    atomic.write(path, write, needed=_bytes(values))


def load(path: Path, fix: str = AGAIN, allowed: Sequence[type] = ()) -> dict[str, Any]:
    """Read it, its tensors mapped into memory, not copied; a file that holds anything else is refused, unexecuted.

    Args:
        fix: what to do about a damaged file.
        allowed: classes beyond plain values that a foreign file may hold; they are made, but no code of theirs is run.

    Raises: CheckpointError, ResourceError if the file may not be read.
    """
    what = _fault(path)
    if what is not None:
        if what == EXPORTED:
            fix = f"give the checkpoint that it was made from; {path.stem}.md beside it says more"
        elif is_safetensors(path):
            fix = f"medcoss checkpoint import {path.name} -o ckpt.pt"
        raise CheckpointError(what, where=path, fix=fix)
    sizes = list[int]()

    def on_cpu(storage: Any, location: str) -> Any:
        sizes.append(storage.nbytes())
        return storage

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")
            content = torch.load(path, weights_only=True, mmap=True, map_location=on_cpu)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        message = str(error).lower()
        if "weights only load failed" in message and any(word in message.split("error:")[-1] for word in _FOREIGN):
            raise CheckpointError(
                "the file holds more than tensors and plain values; it was refused, nothing was executed",
                where=path,
                fix="if it is your own network, save its tensors alone: torch.save(model.state_dict(), FILE)",
            ) from None
        raise CheckpointError("the file is damaged, or it is not a checkpoint", where=path, fix=fix) from error
    # torch maps as many bytes as the pickle says, also where the entry is shorter: they are then those of its neighbours
    if sorted(sizes) != _stored(path):
        raise CheckpointError("the file is damaged: its tensors are not as long as its entries", where=path, fix=fix)
    if not isinstance(content, dict):
        raise CheckpointError("this file is not a medcoss checkpoint, though torch can read it", where=path)
    if not allowed and (odd := _oddity(content)) is not None:  # what others write may share and view
        raise CheckpointError(f"the file is damaged: {odd}", where=path, fix=fix)
    return content


def _oddity(content: dict[str, Any]) -> str | None:
    """What no file that medcoss wrote holds: a part of many parts that stands in two places, a tensor larger than its bytes,
    half of a character.
    """
    met: set[int] = set()
    level: list[Any] = [content]
    for _ in range(typed.DEEPEST):
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, Tensor):
                if entry.layout != torch.strided or entry.is_quantized or entry.device.type != "cpu":
                    return "one of its tensors is of another kind"
                if entry.numel() * entry.element_size() > entry.untyped_storage().nbytes():
                    return "one of its tensors has more values than bytes"
            elif isinstance(entry, str):
                if not typed.is_whole(entry):
                    return typed.HALF
            elif isinstance(entry, dict | list | tuple):
                if isinstance(entry, dict):
                    if not all(isinstance(key, str | int) for key in entry):
                        return "a key in it is no name"
                    below += [key for key in entry if isinstance(key, str)]
                parts = list(entry.values() if isinstance(entry, dict) else entry)
                if id(entry) in met and any(isinstance(part, dict | list | tuple) for part in parts):
                    return "a part of it stands in two places"  # few such parts can stand for billions
                met.add(id(entry))
                below += parts
        level = below
    return "it is nested too deeply" if level else None


def is_safetensors(path: Path) -> bool:
    """By its first bytes; False for what cannot be read, or is no regular file."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(16)[8:10] == b'{"'
    except OSError:
        return False


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises: CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError("the file is truncated or damaged", where=path, fix=AGAIN) from error
    return tensors


def _fault(path: Path) -> str | None:
    """What is wrong with a file, as far as can be told before torch reads it."""
    if path.is_dir():
        return "this is a folder, not a checkpoint"
    if not path.is_file():
        return "this is no file: a pipe, a socket or a device" if path.exists() else "the file does not exist"
    try:
        with path.open("rb") as file:
            head, is_zip = file.read(16), zipfile.is_zipfile(file)  # of a path, it takes every refusal for a no
    except PermissionError as error:
        raise ResourceError(
            f"it cannot be read ({error.strerror})", where=path, fix="change its permissions"
        ) from error
    if not head:
        return "the file is empty"
    if not is_zip:
        if head.startswith(b"PK\x03\x04"):
            return "the file is truncated"
        if head[8:10] == b'{"':
            return "this is a safetensors file: weights without what is needed to go on training"
        if head[0] == 0x80:  # the opcode with which a pickle begins
            return "this is a bare pickle, or a file of torch before 1.6; it was not opened, nothing was executed"
        if path.suffix == ".onnx":
            return EXPORTED
        return "the file is truncated, or it is not a checkpoint"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:  # the last: a later version of zip
        if is_of_the_machine(error):
            raise
        return "the file is damaged, or it is not a checkpoint"
    names = [entry.filename.partition("/")[2] for entry in entries]
    if len({entry.filename for entry in entries}) < len(entries):  # readers differ in which of two they take
        return "the file is damaged: a name stands twice in its directory"
    if names.count("data.pkl") != 1:
        return "this zip file is not a checkpoint"
    if "constants.pkl" in names:
        return "this is a TorchScript archive, not a checkpoint"
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):  # nothing is ever inflated into memory
        return "this is not a checkpoint: its entries are compressed, which torch never writes"
    return None


def _stored(path: Path) -> list[int]:
    """Bytes of each storage in the archive, sorted."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename.partition("/")[2], entry.file_size) for entry in archive.infolist()]
    return sorted(size for name, size in entries if name.startswith("data/"))


def plain(value: Any) -> Any:
    """The same with CPU tensors that own all of their memory, equal strings as one, and exactly the types that `load` accepts.

    Raises: TypeError for anything else.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        compact = value.untyped_storage().nbytes() == value.numel() * value.element_size() and value.is_contiguous()
        return value if compact else value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, str):
        return sys.intern(str(value))  # pickle writes one string once: equal content is equal bytes then
    if value is None or type(value) in (bool, int, float):
        return value
    for kind in (bool, int, float):
        if isinstance(value, kind):  # np.float64 is a float, but unpickling it needs numpy, which load refuses
            return kind(value)
    item = getattr(value, "item", None)  # other scalars of numpy
    if callable(item):
        return plain(item())
    raise TypeError(f"{type(value).__name__} is neither a tensor nor a plain value")


def _bytes(value: Any) -> int:
    """About how much room a value takes on disk."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list):
        return sum(map(_bytes, value))
    return len(value) if isinstance(value, str) else 8
