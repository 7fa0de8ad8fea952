"""What a part of a plugin is: its settings, its source, and what an intensity rule makes of a fixed sample."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from medcoss_cli.kit import READING
from medcoss_cli.plugin import CompleteModality, Sample

OWN = __name__.partition(".")[0]
_ROOTED = re.compile(r"[/\\~]|[A-Za-z]:[/\\]")
LONGEST = 60
"""Letters of a text that is kept as it is; of a longer one, such as a vocabulary, its hash."""


def described(part: Any) -> dict[str, Any]:
    """A part's name and settings as plain values: no path, no object's address, nothing of the user's."""
    module, name = _home(part)
    name = name if module.partition(".")[0] in (OWN, "builtins") else f"{module.partition('.')[0]}.{name}"
    return {"part": name, **{key: _plain(value) for key, value in _settings(part).items()}}


def defaults_of(part: Any) -> set[str]:
    """Names of the settings that are at their default."""
    if not dataclasses.is_dataclass(part):
        return set()
    return {f.name for f in dataclasses.fields(part) if repr(getattr(part, f.name)) == repr(f.default)}


def source_of(*parts: Any) -> str:
    """Hash of the modules that define these parts and of those beside them in their packages.

    Parts of the kit count by `kit.READING`, so that a release of medcoss that reads the same values is the same source.
    """
    modules = {module for part in parts for module in _modules(part)}
    kit = [f"kit {READING}"] if any(module.partition(".")[0] == OWN for module in modules) else []
    files = {file for module in modules if module.partition(".")[0] != OWN for file in _files(module)}
    if not files:
        return " ".join(kit)
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: (file.parent.name, file.name)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return " ".join([*kit, digest.hexdigest()[:16]])


def stored_values(modality: CompleteModality) -> list[float] | None:
    """What the intensity rule stores of two fixed samples, as numbers; None where it takes no such samples (text)."""
    return _same_twice(lambda: [value for *_, values in _encoded(modality) for value in _some_values(values)])


def seen_values(modality: CompleteModality) -> list[float] | None:
    """What the encoder sees of the same samples; imports torch."""
    import torch

    def values() -> list[float]:
        numbers = []
        for integers, scale, offset, _ in _encoded(modality):
            stored = torch.from_numpy(np.ascontiguousarray(integers))[None]
            numbers += _some_values(
                modality.intensity.decode(stored, torch.tensor([scale]), torch.tensor([offset])).numpy()
            )
        return numbers

    return _same_twice(values)


def _encoded(modality: CompleteModality) -> Iterator[tuple[Any, float, float, Any]]:
    shape = (modality.channels, *(min(n, 16) for n in modality.size))
    count = int(np.prod(shape))
    ramps = (np.arange(count) * 255 // max(1, count - 1), np.linspace(-1000, 3000, count))
    for ramp, kind in zip(ramps, (np.uint8, np.float32), strict=True):
        integers, scale, offset = modality.intensity.encode(Sample(ramp.astype(kind).reshape(shape)))
        yield integers, float(scale), float(offset), np.asarray(integers) * float(scale) + float(offset)


def _some_values(values: Any) -> list[float]:
    flat = np.asarray(values, dtype=np.float64).ravel()
    places = np.linspace(0, flat.size - 1, 16).round().astype(int)
    return [float(f"{value:.6g}") for value in flat[places]]


def _same_twice(values: Any) -> list[float] | None:
    """A rule that is refused its sample, or draws at random, has no such values."""
    try:
        first: list[float] = values()
        return first if first and np.isfinite(first).all() and values() == first else None
    except Exception:  # noqa: BLE001 - a stranger's rule may raise anything; conformance says what is wrong with it
        return None


def _home(part: Any) -> tuple[str, str]:
    owner = part if inspect.isroutine(part) or inspect.isclass(part) else type(part)
    return str(owner.__module__), str(owner.__qualname__).rpartition("<locals>.")[2]


def _modules(part: Any) -> set[str]:
    if inspect.isroutine(part):
        return {_home(part)[0]}
    return {kind.__module__ for kind in type(part).__mro__ if kind.__module__ not in ("builtins", "typing", "abc")}


def _files(module: str) -> list[Path]:
    imported = sys.modules.get(module)
    file = getattr(imported, "__file__", None)
    if file is None or not Path(file).is_file():
        return []
    return (
        sorted(Path(file).parent.glob("*.py")) or [Path(file)] if getattr(imported, "__package__", "") else [Path(file)]
    )


def _settings(part: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if inspect.isroutine(part):
        return {}
    return {key: value for key, value in sorted(getattr(part, "__dict__", {}).items()) if not key.startswith("_")}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, PurePath) or (isinstance(value, str) and _ROOTED.match(value)):
        return "a path"
    if isinstance(value, str | bytes):
        is_short = isinstance(value, str) and len(value) <= LONGEST and value.isprintable()
        return value if is_short else _hash(value.encode() if isinstance(value, str) else value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(_plain, value)))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _hash(str(value.dtype).encode() + value.tobytes())
    return described(value)


def _hash(content: bytes) -> str:
    return f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"
