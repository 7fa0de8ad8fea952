"""What the names in a container say: which are masks, whose a sample is, and what is known of each sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.mask_names import MASK

if TYPE_CHECKING:
    from medcoss_cli.kit.sources import Item, Source

_MASK = re.compile(r"(^|[_/.\- ])(mask|label|seg|segmentation|gt|target|annotation)s?([_/.\- ]|$)", re.IGNORECASE)
"""Names of arrays are their author's names for what they hold: these are what images are compared with."""
_GROUP = re.compile(r"(.*[_.\- /])?(patient|subject|group|pid|case)s?[_ ]?(id|no|nr|number|name|key)?s?", re.IGNORECASE)
_LABELS = re.compile(r"(.*[_.\- /])?(y|labels?|targets?|class(es)?|diagnos[ei]s|findings?|split|fold)", re.IGNORECASE)
_MOST = 10**7
"""Entries of an array that names samples; a longer one is none."""


def names_groups(name: str) -> bool:
    """Is this the name of an array, attribute or column that says whose a sample is?"""
    return _GROUP.fullmatch(name.rpartition("/")[2]) is not None


def group_in(attributes: Mapping[str, Any]) -> str | None:
    """The patient in the attributes of an array, where one says so."""
    for name in sorted(attributes):
        value = attributes[name]
        if names_groups(name) and np.ndim(value) == 0 and as_text(value):
            return as_text(value)
    return None


def as_text(value: Any) -> str:
    """An entry of an array or a column in words; "" where it is empty. Whole numbers without a point."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    if isinstance(value, np.ndarray):
        return as_text(value.item()) if value.size == 1 else ""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    if isinstance(value, float | np.floating) and value == int(value):
        return str(int(value))
    return str(value).strip()


def entries_of(array: Any) -> dict[int, str]:
    """The entries of an array (n,), (n, 1) or () as text, by their numbers. Raises: DataError for another shape."""
    values = np.atleast_1d(np.asarray(array))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.size > _MOST:
        raise DataError(f"an array of {' x '.join(map(str, values.shape))} where one entry a sample is expected")
    return {n: as_text(value) for n, value in enumerate(values.tolist())}


def lists(item: Item) -> bool:
    """Could an array hold one entry a sample?"""
    shape = item.shape
    return shape is not None and (len(shape) < 2 or (len(shape) == 2 and shape[1] == 1)) and item.kind not in "OcV"


def masks(path: Path, items: Sequence[Item], kind: str) -> dict[str, str]:
    """The keys of masks, and why: by the names of arrays and columns; of files in it, and folders, as of those on a disk."""
    if kind == "parquet":  # column/row
        return {item.key: _reason(item.key) for item in items if _MASK.search(item.key.rpartition("/")[0])}
    layout = layout_of(path, [_place(path, item.key) for item in items])
    found = {
        item.key: _reason(item.key) for item in items if (layout.reason(_place(path, item.key)) or "").startswith(MASK)
    }
    if kind != "tar":
        last = (item.key for item in items if _MASK.search(item.key.rpartition("/")[2]))
        return found | {key: _reason(key) for key in last}
    endings: dict[str, list[str]] = {}
    for item in items:
        endings.setdefault(sample_of(item.key), []).append(item.key)
    for keys in endings.values():  # 001.png and 001.target.png are one sample
        named = {key for key in keys if _MASK.search(key.rpartition("/")[2].partition(".")[2])}
        found |= {key: _reason(key) for key in named if len(named) < len(keys)}
    return found


def _place(path: Path, key: str) -> Path:
    """Where a layout sees an array or a file of a container: one array of a file has no name."""
    return path / (key or "array")


def _alike(name: str, other: str) -> int:
    """How many letters two names begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def _reason(key: str) -> str:
    return f"named as a mask or a label ({key})"


def sample_of(member: str) -> str:
    """What members of a tar file that belong together have in common: the name up to its first point."""
    folder, slash, name = member.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def grouped(path: Path, items: Sequence[Item], kind: str, source: Source) -> Iterator[Item]:
    """The items with the patients that the container names: by folders, by attributes, by an array with one for each sample."""
    if kind == "tar":
        layout = layout_of(path, [_place(path, item.key) for item in items])
        for item in items:
            yield replace(item, group=layout.patient(_place(path, item.key)))
        return
    lists_of = {
        item.key: source.values(path, item.key)
        for item in items
        if item.shape is not None and lists(item) and names_groups(item.key)
    }
    said = {item.key: item.shape[0] for item in items if item.shape and lists(item) and _tells(item.key)}
    folders = (
        layout_of(path, [_place(path, item.key) for item in items if not lists(item)]) if kind != "parquet" else None
    )
    for item in items:
        if not item.shape or lists(item):
            yield item
            continue
        folder, count = item.key.rpartition("/")[0], item.shape[0]
        per_sample = (n for key, n in said.items() if key.rpartition("/")[0] in (folder, ""))
        item = replace(item, stacked=count > 1 and count in per_sample)
        if item.group is not None:
            yield item
            continue
        near = {key: values for key, values in lists_of.items() if key.rpartition("/")[0] in (folder, "")}
        fitting = [key for key, values in near.items() if len(values) == count]
        alone = [values[0] for values in near.values() if len(values) == 1]
        if fitting:  # train_patients is that of train_images
            best = max(fitting, key=lambda key: _alike(key, item.key))
            yield replace(item, groups=tuple(near[best].values()))
        else:
            patient = folders.patient(_place(path, item.key)) if folders is not None else None
            yield replace(item, group=(alone[0] if alone else None) or patient)


def _tells(name: str) -> bool:
    """Is this what an array with an entry for each sample is called?"""
    return names_groups(name) or bool(_LABELS.fullmatch(name))


def _stack_of(path: Path, source: Source, label: str, count: int) -> str | None:
    """The array whose samples the labels are of: the one with as many, or of several the one that is called alike.

    None where the container holds files, or one sample. Raises: DataError where it is not certain.
    """
    items = list(source.items(path))
    stacks = [item.key for item in items if item.shape is not None and len(item.shape) > 2 and item.kind in "uif"]
    stacks = [key for key in stacks if not _MASK.search(key.rpartition("/")[2])]
    if not stacks or count == 1:
        return None
    fitting = [item.key for item in items if item.key in stacks and item.shape and item.shape[0] == count]
    if not fitting:
        raise DataError(f"{label!r} has {count} entries, and no array of images has as many", where=path)
    ranked = sorted(fitting, key=lambda key: _alike(key, label), reverse=True)
    if len(ranked) > 1 and _alike(ranked[0], label) == _alike(ranked[1], label):
        raise DataError(
            f"the arrays {_list(sorted(fitting))} have {count} samples each, and {label!r} says not of which it is",
            where=path,
            fix="keep one of them in the file, or call the labels as their array, as in train_images and train_labels",
        )
    return ranked[0]


def rows(path: Path, source: Source, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """What is known of each sample, as the rows of a manifest: path, index, label, and where it is known group and split.

    Args:
        columns: key, column or ending that has the label, group or split.

    Raises: DataError without a label's key, for one that is not there, and for keys of different lengths.
    """
    keys = source.keys(path)
    if "label" not in columns:
        raise DataError(
            "the labels of samples in a container are one of its keys (an array, a column, or an ending in a tar file)",
            where=path,
            fix=f"name it: --columns label=KEY, or data.columns.label=KEY in a recipe; its keys: {_list(keys)}",
        )
    if absent := [key for key in columns.values() if key not in keys]:
        raise DataError(f"there is no {absent[0]!r} with an entry a sample in it; keys: {_list(keys)}", where=path)
    known = {name: source.values(path, key) for name, key in columns.items() if name in ("label", "group", "split")}
    if "group" not in known:
        found = [key for key in keys if names_groups(key) and key not in columns.values()]
        fitting = [values for key in found if len(values := source.values(path, key)) == len(known["label"])]
        known |= {"group": fitting[0]} if fitting else {}
    for name, values in known.items():
        if len(values) != len(known["label"]):
            raise DataError(
                f"{len(values)} entries in {columns[name]!r} and {len(known['label'])} in {columns['label']!r}",
                where=path,
            )
    stack = _stack_of(path, source, columns["label"], len(known["label"]))
    of = {} if stack is None else {"key": stack}
    return [
        {"path": path.name, "index": str(n), **of, **{name: values.get(n, "") for name, values in known.items()}}
        for n in known["label"]
    ]


def _list(keys: Sequence[str]) -> str:
    return ", ".join(keys[:20]) or "none"
