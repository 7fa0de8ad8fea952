"""DICOM Segmentations and RT Structure Sets as masks on the grid of the series they were made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medcoss_cli.data.labelled import Case
from medcoss_cli.data.masks import files_of, read_placed, write_segmentation
from medcoss_cli.data.masks.placed import inside_of
from medcoss_cli.data.segmented import read_labels
from medcoss_cli.errors import DataError
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.plugin import Record, Sample
from medcoss_cli.registry.discovery import load_modality
from tests.dicom_files import make, save

WHOLE = VolumeFolder(dicom=("CT",)).whole()
FRAME_OF_REFERENCE = generate_uid()
TURN = np.array([[0.0, 1, 0], [0, 0, -1]])  # sagittal: rows run to the back, columns to the feet
SPACING, STEP, ORIGIN, SIZE = (0.8, 0.5), 3.0, np.array([10.0, -20, 40]), (12, 20, 16)  # of slices, rows, columns


def series(folder: Path) -> tuple[Record, Sample]:
    """A sagittal series, its record and its sample."""
    rng = np.random.default_rng(1)
    for n in range(SIZE[0]):
        position = ORIGIN + np.cross(TURN[0], TURN[1]) * STEP * n
        data = make(
            rng.integers(0, 2000, SIZE[1:]).astype(np.uint16),
            RescaleIntercept=-1000,
            RescaleSlope=1,
            PixelSpacing=list(SPACING),
            ImageOrientationPatient=TURN.flatten().tolist(),
            ImagePositionPatient=position.tolist(),
            FrameOfReferenceUID=FRAME_OF_REFERENCE,
            StudyInstanceUID="1.2.9",
            InstanceNumber=n + 1,
        )
        save(data, folder / f"{(7 * n) % SIZE[0]:02d}")
    (record,) = (item for item in WHOLE.find(folder) if isinstance(item, Record))
    return record, WHOLE.read(record)


def point(depth: float, row: float, column: float) -> Any:
    """mm, LPS."""
    return (
        ORIGIN + np.cross(TURN[0], TURN[1]) * STEP * depth + TURN[1] * SPACING[0] * row + TURN[0] * SPACING[1] * column
    )


def turned(labels: Any, record: Record, folder: Path) -> Any:
    """Labels (slices, rows, columns) of the series as they lie in its sample: by writing them where pixels were and reading."""
    paths = [path for path, _ in sorted(((p, p.name) for p in record.files), key=lambda pair: pair[1])]
    for path in paths:
        data = pydicom.dcmread(path)
        data.PixelData = labels[data.InstanceNumber - 1].astype(np.uint16).tobytes()
        data.RescaleIntercept = 0
        save(data, folder / path.name)
    (again,) = (item for item in WHOLE.find(folder) if isinstance(item, Record))
    return WHOLE.read(again).array[0]


def objects(kind: str, **elements: Any) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.FrameOfReferenceUID = FRAME_OF_REFERENCE
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def structures(path: Path, contours: list[tuple[int, list[Any]]], **elements: Any) -> Path:
    """(ROI number, corners (depth, row, column)) of each contour."""
    rois: dict[int, list[Dataset]] = {}
    for number, corners in contours:
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
        contour.ContourData = [f"{x:.4f}" for corner in corners for x in point(*corner)]
        rois.setdefault(number, []).append(contour)
    items = []
    for number, group in rois.items():
        item = Dataset()
        item.ReferencedROINumber, item.ContourSequence = number, Sequence(group)
        items.append(item)
    data = objects("1.2.840.10008.5.1.4.1.1.481.3", ROIContourSequence=Sequence(items), **elements)
    return save(data, path)


def segmentation(path: Path, frames: list[tuple[int, int, Any]], flip: bool = False, **elements: Any) -> Path:
    """(segment, depth, (rows, columns) bool) of each frame; flipped: rows stored from the last to the first."""
    groups = []
    for segment, depth, _ in frames:
        place, measures, turn, of = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{x:.4f}" for x in point(depth, SIZE[1] - 1 if flip else 0, 0)]
        measures.PixelSpacing = list(SPACING)
        turn.ImageOrientationPatient = [*TURN[0], *(TURN[1] * (-1 if flip else 1))]
        of.ReferencedSegmentNumber = segment
        group = Dataset()
        group.PlanePositionSequence, group.PixelMeasuresSequence = Sequence([place]), Sequence([measures])
        group.PlaneOrientationSequence, group.SegmentIdentificationSequence = Sequence([turn]), Sequence([of])
        groups.append(group)
    stack = np.stack([frame[::-1] if flip else frame for _, _, frame in frames]).astype(np.uint8)
    settings = {"SegmentationType": "BINARY", "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, **elements}
    data = objects("1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG", **settings)
    data.Rows, data.Columns, data.NumberOfFrames = *SIZE[1:], len(frames)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    if settings["BitsAllocated"] == 1:
        packed = np.packbits(stack.ravel(), bitorder="little").tobytes()
        data.PixelData = packed + bytes(len(packed) % 2)
    else:
        data.PixelData = stack.tobytes()
    data["PixelData"].VR = "OB"
    return save(data, path)


def blobs() -> Any:
    """Labels (slices, rows, columns): an organ 1, in it a tumour 2, and apart from both 5."""
    labels = np.zeros(SIZE, int)
    labels[2:9, 4:15, 3:12] = 1
    labels[4:6, 6:10, 5:8] = 2
    labels[10, 16:19, 1:4] = 5
    return labels


def frames_of(labels: Any) -> list[tuple[int, int, Any]]:
    present = [(s, d) for s in (2, 1, 5) for d in reversed(range(SIZE[0])) if (labels[d] == s).any()]
    return [(s, d, labels[d] == s) for s, d in present]


@pytest.mark.parametrize("flip", [False, True])
def test_a_segmentation_lies_where_its_frames_say(tmp_path: Path, flip: bool) -> None:
    record, sample = series(tmp_path / "ct")
    path = segmentation(tmp_path / "seg.dcm", frames_of(blobs()), flip=flip)
    assert np.array_equal(read_placed(path, sample, record.files[0]), turned(blobs(), record, tmp_path / "truth"))


def test_what_highdicom_writes_of_labels_is_read_as_these(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    record, sample = series(tmp_path / "ct")
    labels = turned(np.where(blobs() == 5, 3, blobs()), record, tmp_path / "truth").astype(np.uint8)
    assert sample.stored is not None
    write_segmentation(labels, sample.stored, files_of(record), ["organ", "tumour", "node"], tmp_path / "seg.dcm")
    assert np.array_equal(read_placed(tmp_path / "seg.dcm", sample), labels)


def test_a_fractional_segmentation_is_cut_at_half(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    shares = np.zeros(SIZE, int)
    shares[3, 2:10, 2:10], shares[3, 4:6, 4:6] = 127, 200
    path = segmentation(
        tmp_path / "seg.dcm",
        [(1, 3, shares[3])],
        SegmentationType="FRACTIONAL",
        MaximumFractionalValue=255,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    assert np.array_equal(read_placed(path, sample), turned(shares > 127, record, tmp_path / "truth"))


def rectangle(depth: int, rows: tuple[float, float], columns: tuple[float, float]) -> list[Any]:
    return [
        (depth, rows[0], columns[0]),
        (depth, rows[0], columns[1]),
        (depth, rows[1], columns[1]),
        (depth, rows[1], columns[0]),
    ]


def test_contours_fill_the_pixels_whose_centres_they_hold_and_leave_holes(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    contours = [(1, rectangle(d, (3.5, 14.5), (2.5, 11.5))) for d in range(2, 9)]
    contours += [(1, rectangle(3, (5.5, 8.5), (5.5, 8.5))), (2, rectangle(5, (5.5, 9.5), (4.5, 7.5)))]
    truth = np.zeros(SIZE, int)
    truth[2:9, 4:15, 3:12] = 1
    truth[3, 6:9, 6:9] = 0
    truth[5, 6:10, 5:8] = 2
    path = structures(tmp_path / "rt.dcm", contours)
    assert np.array_equal(read_placed(path, sample, record.files[0]), turned(truth, record, tmp_path / "truth"))


def test_pixels_whose_centre_a_contour_runs_through_belong_to_it(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    truth = np.zeros(SIZE, int)
    truth[4, 4:15, 3:12] = 1
    truth[4, 7:10, 6:9] = 0
    contours = [
        (1, rectangle(4, (6, 10), (5, 9))),
        (1, rectangle(4, (4, 14), (3, 11))),
    ]  # the hole's, then the outer one
    path = structures(tmp_path / "rt.dcm", contours)
    assert np.array_equal(read_placed(path, sample, record.files[0]), turned(truth, record, tmp_path / "truth"))


def test_a_polygon_is_filled_as_another_library_fills_it() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :50]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        corners = np.column_stack(
            [25 + rng.uniform(5, 24, 12) * np.cos(angles), 20 + rng.uniform(4, 30, 12) * np.sin(angles)]
        )
        theirs = Polygon(corners).contains_points(centres).reshape(40, 50)
        assert np.array_equal(inside_of(corners, (40, 50)), theirs)


def test_a_contour_stored_twice_is_no_hole_and_a_roi_may_come_in_parts(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    truth = np.zeros(SIZE, int)
    truth[4, 4:15, 3:12] = 1
    truth[6, 4:15, 3:12] = 1
    path = structures(tmp_path / "rt.dcm", [(1, rectangle(d, (3.5, 14.5), (2.5, 11.5))) for d in (4, 4, 6)])
    data = pydicom.dcmread(path)
    first, second = data.ROIContourSequence[0], pydicom.Dataset()
    second.ReferencedROINumber, second.ContourSequence = 1, [first.ContourSequence.pop()]
    data.ROIContourSequence.append(second)
    save(data, path)
    assert np.array_equal(read_placed(path, sample), turned(truth, record, tmp_path / "truth"))
    del second.ReferencedROINumber
    save(data, path)
    with pytest.raises(DataError, match="the number 0 of a segment is not from 1 to 65535"):
        read_placed(path, sample)
    first.ContourSequence[0].ContourData = ["1", "2"]
    save(data, path)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_placed(path, sample)


def test_a_segmentation_of_a_finer_grid_is_refused(tmp_path: Path) -> None:
    _, sample = series(tmp_path / "ct")
    path = segmentation(tmp_path / "seg.dcm", frames_of(blobs()))
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence[0].PixelSpacing = [SPACING[0] / 2, SPACING[1] / 2]
    data.Rows, data.Columns = 39, 31
    data.PixelData = np.packbits(np.ones(39 * 31 * int(data.NumberOfFrames), np.uint8), bitorder="little").tobytes()
    save(data, path)
    with pytest.raises(DataError, match="do not lie on those of the image"):
        read_placed(path, sample)


@pytest.mark.parametrize(
    ("contours", "elements", "reason"),
    [
        ([(1, rectangle(30, (3, 9), (3, 9)))], {}, "reaches beyond the image"),
        ([(1, [(2.5, r, c) for _, r, c in rectangle(2, (3, 9), (3, 9))])], {}, "between two slices"),
        ([(1, rectangle(2, (3, 9), (3, 9)))], {"FrameOfReferenceUID": "1.2.3.4"}, "another frame of reference"),
        ([(1, rectangle(2, (2, 9), (2, 9))), (3, rectangle(2, (5, 12), (2, 9)))], {}, "segments 1 and 3 overlap"),
        ([], {}, "no segment with an inside"),
    ],
)
def test_a_mask_that_does_not_lie_on_its_image_is_refused(
    tmp_path: Path, contours: Any, elements: Any, reason: str
) -> None:
    record, sample = series(tmp_path / "ct")
    with pytest.raises(DataError, match=reason):
        read_placed(structures(tmp_path / "rt.dcm", contours, **elements), sample, record.files[0])


def test_a_segmentation_of_another_grid_is_refused(tmp_path: Path) -> None:
    _, sample = series(tmp_path / "ct")
    path = segmentation(tmp_path / "seg.dcm", frames_of(blobs()))
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence[0].PixelSpacing = [0.7, 0.5]
    save(data, path)
    with pytest.raises(DataError, match="do not lie on those of the image"):
        read_placed(path, sample)
    with pytest.raises(DataError, match="a DICOM image where the mask of a volume is expected"):
        read_placed(next((tmp_path / "ct").iterdir()), sample)


def test_a_case_may_name_a_dicom_mask(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    path = structures(tmp_path / "rt.dcm", [(4, rectangle(5, (5.5, 9.5), (4.5, 7.5)))])
    case = Case(tmp_path / "ct", "train", "p", "manifest.csv:2", record=record, mask=path)
    labels = read_labels(load_modality("ct"), case, sample, {"lesion": [4]})
    assert labels.sum() == 4 * 3


def test_lines_and_points_have_no_inside(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    path = structures(tmp_path / "rt.dcm", [(1, rectangle(4, (3, 9), (3, 9))), (2, rectangle(5, (3, 9), (3, 9)))])
    data = pydicom.dcmread(path)
    for item, kind in zip(data.ROIContourSequence, ("OPEN_PLANAR", "POINT"), strict=True):
        item.ContourSequence[0].ContourGeometricType = kind
    with pytest.raises(DataError, match="the mask has no segment with an inside"):
        read_placed(save(data, path), sample, record.files[0])


def test_nested_segments_are_painted_from_large_to_small_in_any_order_of_frames(tmp_path: Path) -> None:
    record, sample = series(tmp_path / "ct")
    truth = np.zeros(SIZE, int)
    frames = []
    for number, inset in ((7, 0), (3, 2), (9, 4)):
        inside = np.zeros(SIZE, bool)
        inside[2 + inset // 2 : 9 - inset // 2, 2 + inset : 18 - inset, 2 + inset : 14 - inset] = True
        truth[inside] = number
        frames += [(number, depth, inside[depth]) for depth in range(SIZE[0]) if inside[depth].any()]
    order = np.random.default_rng(2).permutation(len(frames))
    path = segmentation(tmp_path / "seg.dcm", [frames[n] for n in order] + frames[:2])  # two of them twice
    assert np.array_equal(read_placed(path, sample), turned(truth, record, tmp_path / "truth"))


def test_all_frames_of_a_segmentation_are_never_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medcoss_cli.kit.readers import codecs

    _, sample = series(tmp_path / "ct")
    asked = []
    decode = codecs.pixel_array
    monkeypatch.setattr(
        codecs, "pixel_array", lambda *a, index, **k: asked.append(index) or decode(*a, index=index, **k)
    )
    frames = frames_of(blobs())
    read_placed(segmentation(tmp_path / "seg.dcm", frames), sample)
    assert asked == list(range(len(frames)))
