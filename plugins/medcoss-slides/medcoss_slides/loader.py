"""From a folder of slides to tiles of tissue: listing reads headers and a small level, a tile is read by itself."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcoss_cli.errors import DataError
from medcoss_cli.kit import Entry, entries
from medcoss_cli.plugin import Record, Sample, Skipped

if TYPE_CHECKING:
    from medcoss_slides.dicom import Instance
    from medcoss_slides.slide import Slide

CASE = 20
"""A folder of at most so many slides is one patient's; of more, such as one class or one hospital, each slide is its own."""
COARSEST = 3.0
"""Pixels along a tile in the picture that tissue is found in, at least."""
LARGEST = 2**24
"""Pixels of that picture, at most."""
UPSAMPLED = 1.1
"""A slide may be so much coarser than `mpp`, since scanners' nominal values differ; beyond, detail is lacking."""
_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A slide that was found: its file (of DICOM the largest level), the files of other levels, its patient."""

    path: Path
    files: tuple[Path, ...]
    group: str


@dataclass(frozen=True)
class SlideFolder:
    """Whole slides: SVS, NDPI, SCN, Philips and other tiled TIFF, and DICOM (VL Whole Slide Microscopy).

    Samples are (3, tile, tile) uint8 RGB, tiles of tissue on a grid, resampled to `mpp` from the next finer level; their
    spacing is in mm. A slide's label and its macro picture are never read.
    """

    tile: int = 224
    """Pixels along a tile's sides. Another `size` of the encoder wants the same number here, else tiles are resized to it."""
    mpp: float = 0.5
    """Microns per pixel of what is read; 0.5 is what is called 20x."""
    assume_mpp: float | None = None
    """Microns per pixel of the finest level, of slides that do not say; None: they are refused."""
    tissue: float = 0.5
    """Share of a tile that is tissue, at least."""
    per_slide: int = 256
    """Tiles of a slide, at most; they are spread over its tissue."""
    per_patient: int = 1024
    """Tiles of a patient, at most, divided among the patient's slides."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each tile that is taken of each slide under `root`; see Loader.find.

        The patient is the manifest's group; else a TCGA barcode in the name, DICOM's PatientID, the folder of one case (at
        most 20 slides, below `root`), or the file's name, in this order; only a hash of these is kept.
        """
        items: list[Record | Skipped] = []
        candidates: list[_Candidate] = []
        for item in _candidates(root, split):
            if isinstance(item, Skipped):
                items.append(item)
            elif isinstance(reason := self._usable(item), Skipped):
                items.append(reason)
            else:
                candidates.append(item)
        slides = Counter(candidate.group for candidate in candidates)
        taken: Counter[str] = Counter()
        for candidate in sorted(candidates, key=lambda candidate: candidate.path.parts):
            number, count = taken[candidate.group], slides[candidate.group]
            taken[candidate.group] += 1
            # whole numbers that add up to per_patient
            limit = self.per_patient * (number + 1) // count - self.per_patient * number // count
            items.extend(self._tiles(candidate, min(limit, self.per_slide)))
        yield from sorted(items, key=lambda item: item.source.parts)  # stable: tiles of one slide stay in order

    def _usable(self, candidate: _Candidate) -> Skipped | None:
        """Why a slide gives no tiles, by its header."""
        from medcoss_slides.slide import open_slide

        try:
            self._scale(open_slide(candidate.path, candidate.files))
        except DataError as error:
            return Skipped(candidate.path, _sentence(error), bad=not _ANOTHER.search(error.what))
        return None

    def _tiles(self, candidate: _Candidate, limit: int) -> Iterator[Record | Skipped]:
        if limit < 1:
            yield Skipped(candidate.path, f"{self.per_patient} tiles are taken of the patient's other slides")
            return
        stamp = candidate.path.stat()
        try:
            places = _tissue_tiles(self, candidate.path, candidate.files, (stamp.st_mtime_ns, stamp.st_size), limit)
        except DataError as error:
            yield Skipped(candidate.path, _sentence(error), bad=True)
            return
        if not places:
            yield Skipped(candidate.path, f"no tile of which {self.tissue:.0%} is tissue")
        for x, y in places:
            yield Record(candidate.path, ("tile", x, y), candidate.group, candidate.files)

    def read(self, record: Record) -> Sample:
        """One tile. Raises DataError."""
        import numpy as np
        from PIL import Image

        from medcoss_slides.slide import open_slide

        slide = open_slide(record.source, record.files)
        x, y = (int(number) for number in (record.part or ())[1:])
        width, height = self._scale(slide)
        # the coarsest level that is as fine as `mpp`, or the finest of all
        number = max(
            (i for i, level in enumerate(slide.levels) if max(level.down) * self.tile <= min(width, height) * 1.001),
            default=0,
        )
        level = slide.levels[number]
        box = [x / level.down[0], y / level.down[1], (x + width) / level.down[0], (y + height) / level.down[1]]
        box = [round(edge, 6) for edge in box]
        # a margin, so that the filter of the resampling sees what lies beside the tile
        margin = int(2 * max(box[2] - box[0], box[3] - box[1]) / self.tile) + 2
        left, top = max(0, int(box[0]) - margin), max(0, int(box[1]) - margin)
        right, bottom = min(level.width, int(box[2]) + 1 + margin), min(level.height, int(box[3]) + 1 + margin)
        pixels = Image.fromarray(slide.region(number, left, top, right - left, bottom - top))
        inside = (box[0] - left, box[1] - top, min(box[2], right) - left, min(box[3], bottom) - top)
        tile = pixels.resize((self.tile, self.tile), Image.Resampling.HAMMING, box=inside)
        notes = (
            () if slide.mpp is not None else (f"microns per pixel are not in the file: {self.assume_mpp:g} assumed",)
        )
        side = self.mpp / 1000
        return Sample(np.moveaxis(np.asarray(tile), -1, 0), spacing=(side, side), notes=notes)

    def _scale(self, slide: Slide) -> tuple[float, float]:
        """Width and height of a tile in pixels of level 0. Raises DataError where the scale is not known, or too coarse."""
        mpp = slide.mpp or (None if self.assume_mpp is None else (self.assume_mpp, self.assume_mpp))
        if mpp is None:
            raise DataError(
                "the file does not say its microns per pixel",
                where=slide.path,
                fix="give it: data.loader.slides.assume_mpp=0.25, or --loader assume_mpp=0.25",
            )
        if max(mpp) > self.mpp * UPSAMPLED:
            raise DataError(
                f"{max(mpp):.3g} microns per pixel are coarser than the {self.mpp:g} that are read", where=slide.path
            )
        return self.tile * self.mpp / mpp[0], self.tile * self.mpp / mpp[1]


_ANOTHER = re.compile("where colour is expected|are coarser than|not stored in tiles")
"""Reasons of files that are sound, and not what is read."""


def _sentence(error: DataError) -> str:
    return error.what + (f"; {error.fix}" if error.fix else "")


@functools.lru_cache(maxsize=4096)  # a folder is listed several times: for splits, for several modalities
def _tissue_tiles(
    loader: SlideFolder, path: Path, files: tuple[Path, ...], stamp: tuple[int, int], limit: int
) -> tuple[tuple[int, int], ...]:
    """Upper left corners of tiles in pixels of level 0, sorted."""
    from medcoss_slides.slide import open_slide
    from medcoss_slides.tissue import find_tissue, grid_of_tiles, spread

    slide = open_slide(path, files)
    width, height = loader._scale(slide)
    fitting = [i for i, level in enumerate(slide.levels) if min(width, height) / max(level.down) >= COARSEST]
    number = max(fitting, default=0)
    level = slide.levels[number]
    if level.width * level.height > LARGEST:
        raise DataError(
            f"its smallest level of {level.width} x {level.height} pixels is too large to find tissue in",
            where=path,
            fix="convert it: vips tiffsave IN OUT --tile --pyramid",
        )
    picture = slide.region(number, 0, 0, level.width, level.height)
    across = width / level.down[0], height / level.down[1]
    mask = find_tissue(picture, smallest=across[0] * across[1])
    places = spread(grid_of_tiles(mask, level.down, (width, height), loader.tissue), limit)
    first = slide.levels[0]
    corners = ((round(column * width), round(row * height)) for column, row in places)
    # the mask's last pixel may stand for less than a whole one of its level
    return tuple(sorted((x, y) for x, y in corners if x + width <= first.width + 1 and y + height <= first.height + 1))


def _candidates(root: Path, split: str) -> Iterator[_Candidate | Skipped]:
    from medcoss_cli.kit.readers import WHAT, kind_of
    from medcoss_slides import dicom

    tiffs: list[Entry] = []
    levels: dict[tuple[Path, str], list[tuple[Entry, Instance]]] = defaultdict(list)
    for entry in entries(root, split):
        if isinstance(entry, Skipped):
            yield entry
            continue
        try:
            kind = kind_of(entry.path)
            found: Any = dicom.read_instance(entry.path) if kind == "dicom" else None
        except DataError as error:
            yield Skipped(entry.path, error.what, bad=True)
            continue
        if kind == "tiff":
            tiffs.append(entry)
        elif isinstance(found, dicom.Instance):
            levels[entry.path.parent, found.series].append((entry, found))
        elif kind == "empty":
            yield Skipped(entry.path, "the file is empty", bad=True)
        else:
            yield Skipped(entry.path, found or f"{WHAT[kind]} where a slide is expected")
    in_folder = Counter(
        path.parent for path in [entry.path for entry in tiffs] + [folder / "x" for folder, _ in levels]
    )
    for entry in tiffs:
        yield _Candidate(entry.path, (), entry.group or _hash(_patient(entry.path, root, in_folder)))
    for members in levels.values():
        try:
            ordered = dicom.pyramid([instance for _, instance in members])
        except DataError as error:
            yield Skipped(members[0][0].path, error.what, bad=True)
            continue
        first, *others = ordered
        listed = next((entry.group for entry, _ in members if entry.group), None)
        group = listed or first.patient or _hash(_patient(first.path, root, in_folder))
        yield _Candidate(first.path, tuple(other.path for other in others), group)


def _patient(path: Path, root: Path, in_folder: Counter[Path]) -> str:
    """Whose slide it is, by its name or folder."""
    if barcode := _TCGA.search(path.name):
        return barcode[0]
    folder = path.parent
    is_case = root.is_dir() and folder != root and in_folder[folder] <= CASE
    return str(folder.relative_to(root)) if is_case else path.name.partition(".")[0]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
