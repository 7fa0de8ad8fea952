"""Masks as DICOM Segmentations, which name the slices they belong to; by the optional library highdicom."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli import __version__, plugin
from medcoss_cli.data.masks.placed import to_index
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.readers import attributes, plainly
from medcoss_cli.kit.readers.volume import restored
from medcoss_cli.plugin import Record
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]

_STUDY = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def files_of(record: Record) -> tuple[Path, ...]:
    """The DICOM files of a record of `VolumeFolder`, in order of position: slices, or one file of many frames.

    Empty for a record of another kind. Raises DataError where they have changed since it was found.
    """
    from medcoss_cli.kit.readers import series

    part = record.part or ()
    return series.open_series(record.source, str(part[1]), record.files).files if part[:1] == ("series",) else ()


def write_segmentation(
    labels: Array, stored: plugin.Grid, files: Sequence[Path], classes: Sequence[str], path: Path
) -> tuple[str, ...]:
    """Write labels (D, H, W) as a DICOM Segmentation of the series they belong to, one binary segment for each class.

    Patient and study are those of the series.

    Args:
        stored: the grid of the series.
        files: its files, as `files_of` gives them.
        classes: names of the labels 1, 2, ….

    Returns: what a user should know of it.

    Raises: UsageError without highdicom, DataError for a series that lacks what the standard demands, ResourceError.
    """
    with _highdicom() as hd:
        if stored.origin is None or stored.direction is None or stored.spacing is None:
            raise DataError(
                "the slices do not say where they lie, which a DICOM Segmentation needs",
                where=files[0].parent,
                fix="write the mask as NIfTI",
            )
        frames = _frames(files)
        sources, notes = _sources(files, stored)
        if frames and len(frames) != int(sources[0].get("NumberOfFrames") or 1):
            raise DataError(
                "the file holds several volumes, which one DICOM Segmentation cannot name",
                where=files[0],
                fix="write the mask as NIfTI",
            )
        # DICOM pairs planes with slices, or with frames, by the order of the files and of the frames in the file
        places = [(data, frame) for data in sources for frame in range(max(1, len(frames)))]
        positions = [attributes.numbers(data, "ImagePositionPatient", 3, frame) for data, frame in places]
        planes = _on_slices(restored(labels, stored), stored, positions)
        if not labels.any():
            notes = (*notes, "the mask is empty: nothing was found")
        try:
            out = io.BytesIO()
            _segmentation(hd, sources, planes.astype(np.uint8, copy=False), classes).save_as(out)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            lacks = (
                f" ({error.name})" if isinstance(error, AttributeError) else ""
            )  # others may hold a patient's values
            raise DataError(
                f"the series lacks what a DICOM Segmentation needs{lacks}",
                where=files[0].parent,
                fix="write the mask as NIfTI",
            ) from error
    atomic.write(path, out.getvalue())
    return notes


@contextmanager
def _highdicom() -> Iterator[Any]:
    """The library, its warnings and pydicom's kept quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import highdicom
            import highdicom.seg

            logging.getLogger("highdicom").addHandler(logging.NullHandler())  # its warnings may hold a patient's name
            yield highdicom
    except ModuleNotFoundError as error:
        raise UsageError(
            f"DICOM Segmentations are written by highdicom ({error.name} is not installed)",
            fix='pip install "medcoss[dicom]"',
        ) from error


def _frames(files: Sequence[Path]) -> tuple[int, ...]:
    """Frames of the one file in order of position; none where each file is a slice."""
    from medcoss_cli.kit.readers import series

    if len(files) > 1:
        return ()
    return next((item.frames for item in series.find(files, None) if isinstance(item, series.Series)), ())


def _on_slices(planes: Array, stored: plugin.Grid, positions: Sequence[Any]) -> Array:
    """Masks (z, y, x) on the grid `stored` as they lie on slices, which may be shifted or unevenly spaced against it.

    Args:
        positions: of the slices' first voxels, mm.
    """
    index = to_index(stored)
    height, width = planes.shape[1:]
    result = np.zeros((len(positions), height, width), planes.dtype)
    for number, position in enumerate(positions):
        across, down, depth = (int(n) for n in np.rint(index([position])[0]))
        plane = planes[min(max(depth, 0), len(planes) - 1)]
        rows = slice(max(0, -down), min(height, height - down))
        columns = slice(max(0, -across), min(width, width - across))
        result[number, rows, columns] = plane[
            rows.start + down : rows.stop + down, columns.start + across : columns.stop + across
        ]
    return result


def _sources(files: Sequence[Path], stored: plugin.Grid) -> tuple[list[Any], tuple[str, ...]]:
    """The headers of the slices, completed where the standard demands an attribute that they lack, and notes."""
    import pydicom
    from pydicom.uid import generate_uid

    sources = []
    for path in files:
        with plainly(path):
            data = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            data.decode()  # by what the file says of its characters, which may be "Not Supplied"
            data.SpecificCharacterSet = "ISO_IR 192"
            sources.append(data)
    first = sources[0]
    missing = [name for name in _STUDY if not first.get(name)]
    uids = {name: generate_uid() for name in missing}
    unnamed = 0
    for data in sources:
        for name in _STUDY:
            setattr(data, name, uids.get(name) or first.get(name))
        _empty_where_unreadable(data)
        data.SOPClassUID = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")
        data.SOPInstanceUID = data.get("SOPInstanceUID") or data.file_meta.get("MediaStorageSOPInstanceUID") or ""
        if not data.SOPInstanceUID:
            data.SOPInstanceUID = generate_uid()
            unnamed += 1
        _complete(data, first, stored)
    notes: tuple[str, ...] = ()
    if missing:
        notes = (
            f"the series has no {', '.join(missing)}: new ones were made, so a viewer may not show the mask over it",
        )
    if unnamed:
        notes = (*notes, f"{unnamed} slices have no SOPInstanceUID: new ones were made")
    return sources, notes


def _empty_where_unreadable(data: Any) -> None:
    """What the standard demands but allows to be empty: absent, or not as it demands (an anonymised date, 19540000)."""
    from pydicom.valuerep import DA, TM

    dates = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
    for name in ("PatientID", "PatientName", "PatientSex", "AccessionNumber", "StudyID", *dates):
        value = data.get(name) or ""
        try:
            dates.get(name, str)(value)
        except ValueError:
            value = ""
        setattr(data, name, value if name != "PatientSex" or value in ("M", "F", "O") else "")


def _complete(data: Any, first: Any, stored: plugin.Grid) -> None:
    """Spacing and orientation where highdicom looks for them."""
    assert stored.spacing is not None
    groups = data.get("SharedFunctionalGroupsSequence")
    if groups:
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if name not in groups[0]:
                setattr(groups[0], name, [attributes.group_of(data, 0, name)])
        return
    data.SpacingBetweenSlices = round(stored.spacing[2], 6)  # measured: headers have it wrong, or not at all
    if not data.get("SliceThickness"):
        data.SliceThickness = data.SpacingBetweenSlices
    data.ImageOrientationPatient = first.ImageOrientationPatient  # theirs may differ in the last digits


def _segmentation(hd: Any, sources: list[Any], planes: Array, classes: Sequence[str]) -> Any:
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name="medcoss", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name.replace("\\", "/")[:64],
            segmented_property_category=codes.SCT.Tissue,  # what it is, the label says: no code list knows every class
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(classes, 1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="medcoss",
        manufacturer_model_name="medcoss",
        software_versions=__version__,
        device_serial_number="none",
        series_description="Segmentation by medcoss",
        content_label="SEGMENTATION",
        omit_empty_frames=bool(planes.any()),
    )
    segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: names of classes in any script
    return segmentation
