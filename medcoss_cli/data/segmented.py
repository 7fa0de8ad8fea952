"""A prepared set of images with masks: each case once on the network's grid, as integers, in memory-mapped files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from medcoss_cli.console import Screen
from medcoss_cli.data.geometry import Layout
from medcoss_cli.data.identity import source_of
from medcoss_cli.data.labelled import Case
from medcoss_cli.data.masks import check_on, grid_of, read_mask, read_placed
from medcoss_cli.data.prepare import locked, settings, stamp
from medcoss_cli.data.prepared import HEX, NAME, again
from medcoss_cli.data.read import read_checked
from medcoss_cli.data.workers import blamed, readers
from medcoss_cli.errors import DataError, MedcossError, PluginError, shortage
from medcoss_cli.kit.readers import kind_of
from medcoss_cli.kit.readers.nifti import sidecars
from medcoss_cli.plugin import CompleteModality, MaskLoader, Sample
from medcoss_cli.store import atomic, typed
from medcoss_cli.store.arrays import open_array

Array = np.ndarray[Any, Any]
LAYOUT = 2  # of this kind of prepared set; part of its key
POINTS = 2000  # places remembered of each class, for crops that have it in them
Values = Mapping[str, Sequence[int] | str]
"""Of each class the mask values that are it, or "any" for all but 0. `labels_of` says which is seen where two overlap."""


class _Facts(BaseModel, strict=True, allow_inf_nan=False):
    """What `_case` notes of a case."""

    file: NAME
    case: Annotated[int, Field(ge=0)]
    split: Literal["train", "val", "test"]
    group: str
    scale: float
    offset: float
    hash: HEX
    voxels: list[Annotated[int, Field(ge=0, le=2**53)]]  # so that a sum of them is exact in float64


class _Index(BaseModel, strict=True):
    data_hash: HEX
    cases: list[_Facts]


@dataclass(frozen=True)
class SegmentedSet:
    """What `prepare_masks` wrote. Private: it holds the user's samples."""

    folder: Path
    index: dict[str, Any]

    def __len__(self) -> int:
        return len(self.index["cases"])

    @property
    def data_hash(self) -> str:
        """Hash of the stored integers and masks; says nothing of names or paths."""
        return str(self.index["data_hash"])

    def rows(self, split: str) -> Array:
        """Numbers of the cases of a split."""
        return np.array([i for i, case in enumerate(self.index["cases"]) if case["split"] == split], dtype=np.int64)

    def image(self, row: int) -> tuple[Array, float, float]:
        """Integers (C, *after), mapped, with scale and offset."""
        case, axes = self.index["cases"][row], self._points[row].shape[1] - 1
        opened = self._open(f"{case['file']}.image.npy", lambda shape: len(shape) == 1 + axes)
        return opened, float(case["scale"]), float(case["offset"])  # JSON has whole numbers, too

    def mask(self, row: int) -> Array:
        """Labels (*after) uint8, mapped: 0 background, 1 the first class."""
        size = self.image(row)[0].shape[1:]
        return self._open(f"{self.index['cases'][row]['file']}.mask.npy", lambda shape: shape == size)

    def points(self, row: int) -> Array:
        """(n, 1 + axes): the label and the place of some voxels of each class."""
        return self._points[row]

    @cached_property
    def _points(self) -> dict[int, Array]:
        return {
            i: np.array(self._open(f"{case['file']}.points.npy", lambda shape: len(shape) == 2 and shape[1] > 1))
            for i, case in enumerate(self.index["cases"])
        }

    def _open(self, name: str, shaped: Callable[[tuple[int, ...]], bool]) -> Array:
        what = "a part of the prepared set"
        return open_array(self.folder / name, shaped, "iu", fix=again(self.folder), error=DataError, what=what)


def read_case(modality: CompleteModality, case: Case, values: Values) -> tuple[Sample, Array]:
    """A case's image and its labels (*size) uint8 on the same grid. Raises: DataError, also for an unknown mask value."""
    assert case.record is not None
    sample = read_checked(modality, case.record)
    return sample, read_labels(modality, case, sample, values)


def read_labels(modality: CompleteModality, case: Case, sample: Sample, values: Values) -> Array:
    """A case's labels (*size) uint8. Raises: DataError where the mask is not on the sample's grid."""
    return labels_of(read_numbers(modality, case, sample), values, case.where)


def read_numbers(modality: CompleteModality, case: Case, sample: Sample) -> Array:
    """The numbers (*size) of a case's mask file, read by the modality's loader where it has a way of its own.

    Raises: DataError where it is not on the sample's grid, PluginError where the loader gives something else.
    """
    assert case.mask is not None
    if isinstance(modality.loader, MaskLoader):
        return _own_mask(modality.loader, modality.name, case.mask, sample, case.where)
    if modality.dims == 3 and kind_of(case.mask) == "dicom":
        assert case.record is not None
        return read_placed(case.mask, sample, next(iter(case.record.files), case.record.source))
    mask, grid = read_mask(case.mask, modality.dims)
    check_on(mask.shape, grid, sample, case.where)
    return mask


def _own_mask(loader: MaskLoader, name: str, path: Path, sample: Sample, where: str) -> Array:
    try:
        mask = np.asarray(loader.read_mask(path, sample))
    except MedcossError:
        raise
    except Exception as error:
        raise shortage(error, path) or DataError(
            f"the mask cannot be read ({type(error).__name__}: {error})", where=path
        ) from error
    if mask.dtype.kind not in "biu":
        raise PluginError(f"read_mask of the {name} plugin gives {mask.dtype}, not whole numbers", where=where)
    check_on(mask.shape, None, sample, where)
    return mask.astype(np.uint8) if mask.dtype.kind == "b" else mask


def check_grid(modality: CompleteModality, cases: Sequence[Case]) -> None:
    """See from one case, before anything is trained, that masks can be compared with and written on a grid.

    Raises: PluginError where the loader of a modality of volumes does not say on which grid they lie.
    """
    for case in cases if modality.dims == 3 else ():
        assert case.record is not None
        try:
            sample = read_checked(modality, case.record)
        except DataError:
            continue  # reported when the set is prepared
        grid_of(sample, f"the {modality.name} plugin")
        return


def labels_of(mask: Array, values: Values, where: str) -> Array:
    """Mask values to labels 1, 2, ... of the classes; one inside another is painted over it, else the later over earlier ones."""
    labels = np.zeros(mask.shape, np.uint8)
    numbers = [value for listed in values.values() if listed != "any" for value in listed]
    present = {int(value) for value in np.unique(mask)} - {0}
    unknown = sorted(present - set(map(int, numbers))) if "any" not in values.values() else []
    if unknown:
        named = "#{:06x}".format if mask.dtype == np.int32 else str  # of colours
        raise DataError(
            f"the mask has the value {named(unknown[0])}, the recipe's classes have "
            f"{', '.join(map(named, sorted(set(map(int, numbers)))))}",
            where=where,
            fix="name every value under `classes`, or correct the mask",
        )
    levels = levels_of(values)
    for number, listed in sorted(enumerate(values.values(), 1), key=lambda entry: levels[entry[0] - 1]):
        labels[mask != 0 if listed == "any" else np.isin(mask, listed)] = number
    return labels


def targets_of(labels: Any, values: Values) -> list[Any]:
    """For each class where it is: nested classes (organ 1 and 2, tumour 2) hold the labels of those inside them."""
    names = list(values)
    inside = {name: _inside(values, name) for name in names}
    return [sum(labels == names.index(inner) + 1 for inner in inside[name]) > 0 for name in names]


def levels_of(values: Values) -> list[int]:
    """For each class how many others hold it: 0 and 1 of an organ and its tumour, 0 of organs beside each other."""
    return [sum(name in _inside(values, other) for other in values if other != name) for name in values]


def _inside(values: Values, name: str) -> list[str]:
    numbers = values[name]
    if numbers == "any":
        return list(values)
    return [n for n, listed in values.items() if n == name or (listed != "any" and set(listed) <= set(numbers))]


def prepare_masks(
    modality: CompleteModality,
    cases: Sequence[Case],
    values: Values,
    layout: Layout,
    where: Path,
    *,
    workers: int | None,
    bad_share: float,
    screen: Screen,
) -> SegmentedSet:
    """The prepared set of these cases under `where`, written now or taken as it is there; goes on where it stopped.

    Raises: DataError for the first bad mask, or for more unreadable images than are allowed.
    """
    folder = where / _key(modality, cases, values, layout)
    if not (folder / "index.json").exists():
        with locked(folder, screen):
            if not (folder / "index.json").exists():  # another process may have written it while we waited
                count = workers or len(os.sched_getaffinity(0))
                _write(modality, cases, values, layout, folder, count, bad_share, screen)
    what = "the index of the prepared set"
    index = typed.read_plain(_Index, folder / "index.json", fix=again(folder), error=DataError, what=what)
    if any(len(facts["voxels"]) != len(values) for facts in index["cases"]):
        raise DataError(
            f"{what} is damaged (voxels: of another number of classes)", where=folder / "index.json", fix=again(folder)
        )
    return SegmentedSet(folder, index)


def _write(
    modality: CompleteModality,
    cases: Sequence[Case],
    values: Values,
    layout: Layout,
    folder: Path,
    workers: int,
    bad_share: float,
    screen: Screen,
) -> None:
    prepare_case = partial(_case, modality, values, layout, folder)
    outcomes = []
    with contextlib.ExitStack() as open_:
        bar = open_.enter_context(screen.progress(f"preparing {modality.name} and masks", len(cases)))
        mapper: Callable[..., Any] = map
        if workers > 1 and len(cases) >= 16:
            pool = open_.enter_context(readers(workers, modality, cases[0].where.rpartition(":")[0]))
            mapper = partial(pool.map, chunksize=1)
        for facts in mapper(prepare_case, range(len(cases)), cases):
            outcomes.append(facts)
            bar.advance()
    usable = [facts for facts in outcomes if "reason" not in facts]
    for facts in outcomes:
        if "reason" in facts:
            screen.warn(facts["reason"])
    if len(outcomes) - len(usable) > bad_share * len(outcomes):
        raise DataError(
            f"{len(outcomes) - len(usable)} of {len(outcomes)} images cannot be used",
            where=cases[0].where.rpartition(":")[0],
            fix="repair or remove them, or raise the limit with data.bad_share=0.2",
        )
    digest = hashlib.sha256("".join(facts["hash"] for facts in usable).encode()).hexdigest()
    atomic.write(folder / "index.json", json.dumps({"data_hash": digest, "cases": usable}, indent=1).encode())


def _case(
    modality: CompleteModality, values: Values, layout: Layout, folder: Path, number: int, case: Case
) -> dict[str, Any]:
    name = f"case-{number:05d}"
    facts_path = folder / f"{name}.json"
    if facts_path.exists():
        what = "what was noted of a case of the prepared set"
        facts = typed.read_plain(_Facts, facts_path, fix=again(folder), error=DataError, what=what)
        if len(facts["voxels"]) != len(values):
            raise DataError(
                f"{what} is damaged (voxels: of another number of classes)", where=facts_path, fix=again(folder)
            )
        return facts
    assert case.record is not None
    with blamed(modality):
        try:
            sample = read_checked(modality, case.record)
            layout.frame(sample)
        except DataError as error:
            return {"reason": str(error), "hash": ""}
        labels = read_labels(modality, case, sample, values)
        integers, scale, offset, mask = on_grid(modality, layout, sample, labels)
    assert mask is not None
    for part, array in (("image", integers), ("mask", mask), ("points", _points(mask, number))):
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        atomic.write(folder / f"{name}.{part}.npy", stream.getvalue())
    facts = {
        "file": name,
        "case": number,
        "split": case.split,
        "group": hashlib.sha256(case.group.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "scale": scale,
        "offset": offset,
        "hash": hashlib.sha256(integers.tobytes() + mask.tobytes()).hexdigest(),
        "voxels": [int((mask == label).sum()) for label in range(1, len(values) + 1)],
    }
    atomic.write(facts_path, json.dumps(facts).encode())
    return facts


def on_grid(
    modality: CompleteModality, layout: Layout, sample: Sample, labels: Array | None = None
) -> tuple[Array, float, float, Array | None]:
    """A sample on the network's grid: integers (C, *after), scale, offset, and its labels there (*after)."""
    frame = layout.frame(sample)
    image = replace(sample, array=frame.image(sample.array))
    integers, scale, offset = modality.intensity.encode(image)
    return integers, scale, offset, None if labels is None else frame.labels(labels)


def foreground(
    modality: CompleteModality, cases: Sequence[Case], values: Values, screen: Screen
) -> tuple[float, float, float, float]:
    """(0.5th percentile, 99.5th percentile, mean, std) of the values inside the training masks (nnU-Net's CT rule).

    Up to 100,000 voxels of each case.
    """
    samples = []
    train = [case for case in cases if case.split == "train"]
    with screen.progress("intensities inside the masks", len(train)) as bar:
        for number, case in enumerate(train):
            sample, labels = read_case(modality, case, values)
            inside = sample.array[:, labels > 0].ravel()
            if len(inside) > 100_000:
                inside = np.random.default_rng(number).choice(inside, 100_000, replace=False)
            samples.append(inside)
            bar.advance()
    values_inside = np.concatenate(samples) if samples else np.zeros(0)
    if len(values_inside) == 0 or values_inside.std() == 0:
        raise DataError(
            "the training masks are empty, so intensities cannot be measured", fix="set input.intensity=zscore"
        )
    low, high = np.percentile(values_inside, (0.5, 99.5))
    inside = np.clip(values_inside, low, high)
    return float(low), float(high), float(inside.mean()), float(inside.std())


def _points(mask: Array, number: int) -> Array:
    generator = np.random.default_rng(number)
    rows = []
    for label in np.unique(mask[mask > 0]):
        places = np.argwhere(mask == label)
        if len(places) > POINTS:
            places = places[generator.choice(len(places), POINTS, replace=False)]
        rows.append(np.column_stack([np.full(len(places), label), places]))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 1 + mask.ndim), np.int32)


def _key(modality: CompleteModality, cases: Sequence[Case], values: Values, layout: Layout) -> str:
    digest = hashlib.sha256(
        f"{LAYOUT} {layout} {values} {settings(modality.loader)} {settings(modality.intensity)}".encode(
            "utf-8", "surrogateescape"
        )
    )
    digest.update(source_of(modality.loader, modality.intensity).encode())
    for case in cases:
        assert case.record is not None
        assert case.mask is not None
        stamps = [stamp(path) for path in (case.record.source, *case.record.files, case.mask, *sidecars(case.mask))]
        digest.update(
            repr((str(case.path), case.split, case.group, case.record.part, str(case.mask), stamps)).encode(
                "utf-8", "surrogateescape"
            )
        )
    return f"{modality.name}-masks-{digest.hexdigest()[:16]}"
