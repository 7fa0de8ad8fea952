"""Loaders: what lies in a folder, and one sample of it. The content of a file decides what it is, never its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medcoss_cli.errors import DataError
from medcoss_cli.kit.manifest import Entry, entries
from medcoss_cli.kit.readers import IMAGES, SOURCES, VOLUMES, WHAT, kind_of
from medcoss_cli.kit.readers.rows import SPREADSHEETS
from medcoss_cli.plugin import Record, Sample, Skipped

if TYPE_CHECKING:
    from medcoss_cli.kit.readers.volume import VolumePlan

EVERY = ("*",)


def _kind_or_skip(entry: Entry, patterns: tuple[str, ...] = EVERY) -> str | Skipped:
    """The kind of a file, or why it is not looked at."""
    if not any(fnmatchcase(entry.path.name.lower(), pattern) for pattern in patterns):
        return Skipped(entry.path, f"the name matches none of {', '.join(patterns)}")
    try:
        kind = kind_of(entry.path)
    except DataError as error:
        return Skipped(entry.path, error.what, bad=True)
    return Skipped(entry.path, "the file is empty", bad=True) if kind == "empty" else kind


def _what(path: Path, kind: str) -> str:
    """What a file is; a spreadsheet is a zip archive by its content."""
    return "a spreadsheet" if kind == "zip" and path.suffix.lower() in SPREADSHEETS else WHAT[kind]


@dataclass(frozen=True)
class ImageFolder:
    """2D images: PNG, JPEG, TIFF (each page) and BMP, DICOM (each frame), and those in containers (`kit.sources`).

    Samples are (1, H, W) or (3, H, W) with values 0..255: uint8 as stored, or, where a file is deeper than 8 bits,
    float32 stretched from the image's 0.5th to its 99.5th percentile.
    """

    patterns: tuple[str, ...] = EVERY
    """File names that are looked at, lower case."""
    grey: bool = True
    """Read grey images, also ones stored as colour, and refuse coloured ones; False: the reverse."""
    dicom: tuple[str, ...] = ()
    """DICOM modality codes that are read; none: no DICOM."""
    allow: tuple[str, ...] = ()
    """Kinds of DICOM objects that may show a name and are read all the same: secondary-capture, burned-in."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each image, page or frame under `root`; see Loader.find."""
        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
                continue
            kind = _kind_or_skip(entry, self.patterns)
            if isinstance(kind, Skipped):
                yield kind
            elif kind in IMAGES:
                yield from self._image(entry)
            elif kind == "dicom" and self.dicom:
                yield from self._dicom(entry)
            elif kind in SOURCES:
                from medcoss_cli.kit import sources

                yield from sources.images(entry.path, kind, entry.patient)
            else:
                yield Skipped(entry.path, f"{_what(entry.path, kind)} where an image is expected")

    def _image(self, entry: Entry) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit.readers import image

        try:
            header = image.read_header(entry.path)
        except DataError as error:
            yield Skipped(entry.path, error.what, bad="where an image is expected" not in error.what)
            return
        if header.grey and not self.grey:
            yield Skipped(entry.path, "a grey image where colour is expected")
        elif header.pages == 1:
            yield Record(entry.path, None, entry.group)
        else:
            yield from (Record(entry.path, ("page", page), entry.group) for page in range(header.pages))

    def _dicom(self, entry: Entry) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit.readers import dicom

        try:
            header = dicom.read_header(entry.path)
        except DataError as error:
            yield Skipped(entry.path, error.what, bad=True)
            return
        reason = header.not_an_image or header.not_of(self.dicom) or header.not_allowed(self.allow)
        if reason is None and header.grey and not self.grey:
            reason = "a grey image where colour is expected"
        if reason is not None:
            yield Skipped(entry.path, reason)
            return
        group = entry.patient(header.patient)
        if header.frames == 1:
            yield Record(entry.path, None, group)
        else:
            yield from (Record(entry.path, ("frame", frame), group) for frame in range(header.frames))

    def read(self, record: Record) -> Sample:
        """One image. Raises DataError, also for colour where grey is read and the reverse."""
        from medcoss_cli.kit import sources
        from medcoss_cli.kit.readers import image, pixels

        spacing: tuple[float, ...] | None = None
        kept = record.part is not None and record.part[0] == "key"
        number = 0 if record.part is None or kept else int(record.part[1])
        if kept:
            array, notes = sources.read_image(record)
        elif kind_of(record.source) == "dicom":
            array, spacing, notes = pixels.read_frame(record.source, number)
        else:
            array, notes = image.read(record.source, number)
        array = image.as_grey(array, record.source) if self.grey else image.as_colour(array, record.source)
        return Sample(image.as_eight_bits(array), spacing=spacing, notes=notes)


@dataclass(frozen=True)
class VolumeFolder:
    """3D volumes: DICOM, NIfTI, NRRD and MetaImage, and those in containers (`kit.sources`), cut into windows of slices.

    Samples are (1, D, H, W) float32 in physical units; each is a window along D. The axes point to superior, posterior and left;
    with slices "acquired", D is the axis of the acquisition's slices, and in the plane H points to inferior of sagittal and
    coronal slices, W to posterior or left.
    """

    dicom: tuple[str, ...] = ("CT",)
    """DICOM modality codes that are read; none: no DICOM."""
    window: int = 24
    """Slices of a sample; a shallower volume is one sample of all its slices."""
    stride: int = 12
    """Slices from one window to the next."""
    spacing: float | None = 1.0
    """Resample to voxels of so many mm on every side; None: as scanned."""
    trim: float = 0.0
    """Share of the slices left out at either end."""
    crop_above: int | None = None
    """Of a volume with more pixels in-plane the middle 80 % is kept (CT scans of a wide field of view); None: all of any."""
    slices: Literal["axial", "acquired"] = "axial"
    """Cut windows of axial slices, or along the axis of the largest spacing (the last stored one where spacings are equal)."""
    split_4d: bool = False
    """Read every volume of a 4D file; False: refuse it."""
    hounsfield: bool = False
    """Refuse a volume without air (no voxel below -200): its values are not Hounsfield units."""
    placed: bool = False
    """Refuse a DICOM series whose slices do not lie where an even grid says (uneven steps, tilted gantry)."""
    tilt: Literal["keep", "correct"] = "keep"
    """correct: resample such a series to an even grid with slices at right angles, which no mask then misses."""
    allow: tuple[str, ...] = ()
    """As in `ImageFolder`."""

    def __post_init__(self) -> None:
        """Raises: ValueError for a number that no volume can be cut or resampled with."""
        if min(self.window, self.stride) < 1:
            raise ValueError(f"window {self.window} and stride {self.stride} are numbers of slices, at least 1")
        if self.spacing is not None and not 0 < self.spacing < 1e4:
            raise ValueError(f"a spacing of {self.spacing:g} mm is impossible")
        if not 0 <= self.trim < 0.5:
            raise ValueError(f"trim {self.trim:g} is a share of the slices at either end, from 0 to below 0.5")
        if self.crop_above is not None and self.crop_above < 1:
            raise ValueError(f"crop_above {self.crop_above} is a number of pixels, at least 1")

    def whole(self) -> VolumeFolder:
        """The same files, each volume one sample as it was scanned, its axes turned: for masks and whole-volume labels."""
        deepest = 2**30
        return replace(
            self,
            window=deepest,
            stride=deepest,
            spacing=None,
            trim=0.0,
            crop_above=None,
            slices="axial",
            placed=True,
        )

    @property
    def _plan(self) -> VolumePlan:
        from medcoss_cli.kit.readers.volume import VolumePlan

        return VolumePlan(self.spacing, self.crop_above, self.trim, self.slices)

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each window of each volume under `root`; see Loader.find."""
        items: list[Record | Skipped] = []
        slices: list[Entry] = []
        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                items.append(entry)
                continue
            kind = _kind_or_skip(entry)
            if isinstance(kind, Skipped):
                items.append(kind)
            elif kind in VOLUMES:
                items.extend(self._file(entry))
            elif kind == "dicom" and self.dicom:
                slices.append(entry)
            elif kind in SOURCES:
                items.extend(self._contained(entry, kind))
            else:
                items.append(Skipped(entry.path, f"{_what(entry.path, kind)} where a volume is expected"))
        items.extend(self._series(slices))
        # stable: windows of one volume stay in order
        yield from sorted(items, key=lambda item: item.source.parts)

    def _file(self, entry: Entry) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit.readers import nifti
        from medcoss_cli.kit.readers.volume import windows

        try:
            grid, files = nifti.read_header(entry.path), nifti.sidecars(entry.path)
            depth = self._plan.depth(grid, entry.path)
        except DataError as error:
            yield Skipped(entry.path, error.what, bad="where a volume is expected" not in error.what)
            return
        if grid.labels:
            yield Skipped(entry.path, "a label map (a mask) where a volume is expected")
            return
        if grid.volumes > 1 and not self.split_4d:
            yield Skipped(entry.path, f"{grid.volumes} volumes in one file (4D) where one is expected")
            return
        for volume in range(grid.volumes):
            part = ("volume", volume) if grid.volumes > 1 else ()
            for first, end in windows(depth, self.window, self.stride):
                yield Record(entry.path, (*part, "window", first, end), entry.group, files)

    def _contained(self, entry: Entry, kind: str) -> Iterator[Record | Skipped]:
        """The windows of each volume in a container."""
        from medcoss_cli.kit import sources
        from medcoss_cli.kit.readers.volume import windows

        for item in sources.volumes(entry.path, kind, entry.patient):
            if isinstance(item, Skipped):
                yield item
                continue
            record, grid = item
            if grid.labels or grid.volumes > 1:
                what = "a label map (a mask)" if grid.labels else f"{grid.volumes} volumes in one file (4D)"
                yield Skipped(entry.path, f"{what} in it where a volume is expected")
                continue
            try:
                depth = self._plan.depth(grid.check(entry.path), entry.path)
            except DataError as error:
                yield Skipped(entry.path, error.what, bad=True)
                continue
            for first, end in windows(depth, self.window, self.stride):
                yield replace(record, part=(*(record.part or ()), "window", first, end))

    def _series(self, slices: list[Entry]) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit.readers import ordering, series
        from medcoss_cli.kit.readers.volume import windows

        if not slices:
            return
        owners = {entry.path: entry for entry in slices}
        patients = {entry.path: None if entry.inferred else entry.group for entry in slices}
        for item in series.find(list(owners), self.dicom, patients=patients, allow=self.allow):
            if isinstance(item, Skipped):
                yield item
                continue
            if self.tilt == "correct":
                item = item.straight()
            grid_notes = [note for note in item.grid.notes if note in (ordering.UNEVEN, ordering.TILTED)]
            if self.placed and grid_notes:
                yield Skipped(
                    item.source,
                    f"{grid_notes[0].partition(':')[0]}: data.tilt=correct (--tilt correct) resamples it to an even grid",
                    bad=True,
                )
                continue
            try:
                depth = self._plan.depth(item.grid, item.source)
            except DataError as error:
                yield Skipped(item.source, error.what, bad=True)
                continue
            group = owners[item.files[0]].patient(item.patient)
            for first, end in windows(depth, self.window, self.stride):
                files = item.files if len(item.files) > 1 else ()
                yield Record(item.source, ("series", item.key, "window", first, end), group, files, item.notes)

    def read(self, record: Record) -> Sample:
        """One window of one volume. Raises DataError."""
        from medcoss_cli.kit.readers.stack import read_window

        return read_window(record, self._plan, self.hounsfield, self.tilt == "correct")


@dataclass(frozen=True)
class TextFolder:
    """Text: each .txt file is a document, and each row of a .csv, .tsv or .jsonl file with the named column."""

    column: str = "text"
    """The column (or JSON key) that holds the text."""
    group: str | None = "id"
    """The column (or JSON key) that tells which patient or document a row belongs to, where there is one."""
    encoding: str | None = None
    """Of all files, as Python calls it (shift_jis, gb18030); None: UTF-8, UTF-16 with its mark, or Windows-1252."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each document or row under `root`; see Loader.find. Tables are read whole."""
        from medcoss_cli.kit.readers import table

        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
                continue
            kind = _kind_or_skip(entry)
            ending = entry.path.suffix.lower()
            if isinstance(kind, Skipped):
                yield kind
            elif kind == "parquet":
                yield from self._parquet(entry)
            elif kind == "zip" and ending in SPREADSHEETS:
                yield from self._rows(entry)
            elif kind == "unknown" and ending in (".txt", *table.TABLES):
                yield Skipped(entry.path, "not text", bad=True)
            elif kind != "text":
                yield Skipped(entry.path, f"{WHAT[kind]} where text is expected")
            elif ending in table.TABLES:
                yield from self._rows(entry)
            elif ending in table.DOCUMENTS:
                yield Record(entry.path, None, entry.group)
            else:
                yield Skipped(entry.path, "text, but neither .txt nor .csv, .tsv or .jsonl")

    def _rows(self, entry: Entry) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit.readers import table

        try:
            content = table.read_table(entry.path, self.column, self.group, self.encoding)
        except DataError as error:
            yield Skipped(entry.path, error.what, bad=True)
            return
        for row in content.rows:
            if entry.rows is None:
                yield Record(entry.path, ("row", row.index), entry.patient(row.group))
            elif row.index in entry.rows:
                yield Record(entry.path, ("row", row.index), entry.rows[row.index] or row.group)
        if entry.rows is not None and (beyond := sum(index >= content.count for index in entry.rows)):
            yield Skipped(entry.path, f"{beyond} rows listed in the manifest do not exist", bad=True)
        yield from (Skipped(entry.path, reason, bad=True) for reason in content.broken)
        if content.empty:
            yield Skipped(entry.path, f"{content.empty} rows without text")

    def _parquet(self, entry: Entry) -> Iterator[Record | Skipped]:
        from medcoss_cli.kit import sources

        try:
            rows = sources.texts(entry.path, self.column, self.group)
        except DataError as error:
            yield Skipped(entry.path, error.what, bad="no column" not in error.what)
            return
        listed = range(len(rows)) if entry.rows is None else entry.rows
        for row in listed:
            if row >= len(rows):
                yield Skipped(entry.path, "a row listed in the manifest does not exist", bad=True)
            elif not (rows[row][0] or "").strip():
                yield Skipped(entry.path, "a row without text")
            else:
                group = None if entry.rows is None else entry.rows[row]
                yield Record(entry.path, ("row", row), group or entry.group or rows[row][1])

    def read(self, record: Record) -> Sample:
        """One text as a str. Raises DataError."""
        from medcoss_cli.kit.readers import table

        if record.part is not None and kind_of(record.source) == "parquet":
            from medcoss_cli.kit import sources

            rows, number = sources.texts(record.source, self.column, self.group), int(record.part[1])
            if number >= len(rows):
                raise DataError(f"row {number} no longer exists", where=record.source)
            return Sample(rows[number][0] or "")
        if record.part is None:
            text, notes = table.read_document(record.source, self.encoding)
            return Sample(text, notes=notes)
        content = table.read_table(record.source, self.column, self.group, self.encoding)
        row = content.row(int(record.part[1]))
        if row is None:
            raise DataError(f"row {record.part[1]} no longer exists", where=record.source)
        return Sample(row.text, notes=(*content.notes, *row.notes))


@dataclass(frozen=True)
class SignalFolder:
    """1D signals: the numeric columns of .csv files are channels and their rows time; .npy arrays are (C, L)."""

    patterns: tuple[str, ...] = ("*.csv", "*.npy")
    """File names that are looked at, lower case."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each file under `root`; see Loader.find."""
        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
                continue
            kind = _kind_or_skip(entry, self.patterns)
            if isinstance(kind, Skipped):
                yield kind
            elif kind in ("text", "npy"):
                yield Record(entry.path, None, entry.group)
            else:
                yield Skipped(entry.path, f"{WHAT[kind]} where a signal is expected")

    def read(self, record: Record) -> Sample:
        """(C, L) float32. Raises DataError."""
        from medcoss_cli.kit.readers import table

        array, notes = table.read_signal(record.source)
        return Sample(array, notes=notes)
