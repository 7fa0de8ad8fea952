"""Masks as they are read, and compared with the grid of their image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medcoss_cli.data.masks import check_on, read_mask
from medcoss_cli.errors import DataError
from medcoss_cli.plugin import Grid
from tests.mask_files import found, nifti, sample


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_labels_of_an_image_are_what_is_stored(tmp_path: Path, ending: str) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 16)).astype(np.uint8)
    grey, palette = Image.fromarray(labels), Image.fromarray(labels)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pictures = [grey, palette, Image.merge("RGB", [grey] * 3), Image.fromarray(labels > 0)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"a.{ending}")
        read, grid = read_mask(tmp_path / f"a.{ending}", 2)
        assert grid is None
        assert read.dtype == np.uint8
        assert np.array_equal(read, labels > 0 if number == 3 else labels)


def test_deep_labels_of_an_image(tmp_path: Path) -> None:
    for top, kind in ((300, np.int16), (65535, np.uint16)):
        labels = np.full((9, 9), top, np.uint16)
        Image.fromarray(labels).save(tmp_path / "a.png")
        read, _ = read_mask(tmp_path / "a.png", 2)
        assert read.dtype == kind
        assert np.array_equal(read, labels)


def test_refused_masks_of_images(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(noise[..., 0]).save(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "colour.png")
    tifffile.imwrite(tmp_path / "deep.tif", noise.astype(np.uint16) * 200, photometric="rgb")
    Image.fromarray(np.full((9, 9), 0.4, np.float32)).save(tmp_path / "soft.tif")
    page = Image.fromarray(noise[..., 0])
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), np.eye(4))
    (tmp_path / "cut.png").write_bytes((tmp_path / "colour.png").read_bytes()[:200])
    for name, reason in {
        "a.jpg": "a JPEG, which does not keep labels exactly",
        "deep.tif": "a colour image where a mask is expected",
        "soft.tif": "the mask has the value 0.4; labels are whole numbers",
        "pages.tif": "3 pages in one file where one mask is expected",
        "a.nii": r"a volume \(3D, NIfTI\) where the mask of an image is expected",
        "cut.png": "truncated",
    }.items():
        with pytest.raises(DataError, match=reason):
            read_mask(tmp_path / name, 2)


def test_refused_masks_of_volumes(tmp_path: Path) -> None:
    for name, array in {
        "soft": np.full((3, 4, 5), 0.5, np.float32),
        "nan": np.full((3, 4, 5), np.nan, np.float32),
        "many": np.zeros((3, 4, 5, 2), np.uint8),
        "large": np.full((3, 4, 5), 70000, np.int32),
    }.items():
        nifti(tmp_path / f"{name}.nii", array, np.eye(4))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    for name, reason in {
        "soft.nii": "the mask has the value 0.5; labels are whole numbers",
        "nan.nii": "the mask has the value nan",
        "many.nii": r"2 volumes in one file \(4D\)",
        "large.nii": "values from 70000 to 70000 are more than a mask's 16 bits hold",
        "a.png": r"an image \(2D, PNG\) where the mask of a volume is expected",
    }.items():
        with pytest.raises(DataError, match=reason):
            read_mask(tmp_path / name, 3)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 4, 5))
    image = nib.Nifti1Image(labels.astype(np.float64), np.eye(4))
    image.header.set_data_dtype(np.int16)  # nibabel scales: 1 comes back as 1.00002
    nib.save(image, tmp_path / "a.nii")
    read, _ = read_mask(tmp_path / "a.nii", 3)
    assert read.dtype == np.uint8
    assert np.array_equal(
        read, sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "a.nii")), "LPS"))
    )


EYE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PLACED = {"spacing": (3.0, 2.0, 1.0), "origin": (5.0, 6.0, 7.0), "direction": EYE}


def test_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"the mask is 3 x 4 x 5 voxels, the image 3 x 4 x 6"):
        check_on((5, 4, 3), None, sample((6, 4, 3)), "row 7")
    with pytest.raises(DataError, match=r"row 7: the mask is 3 x 4 pixels, the image 4 x 3"):
        check_on((4, 3), None, sample((3, 4)), "row 7")
    check_on((4, 3), None, sample((4, 3)), "row 7")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"spacing": (1.0, 2.0, 3.5)}, "the voxels of the mask are 1 x 2 x 3.5 mm, of the image 1 x 2 x 3 mm"),
        ({"origin": (5.0, 6.0, 10.0)}, r"the mask begins at \(5, 6, 10\) mm, the image at \(5, 6, 7\) mm"),
        (
            {"direction": (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)},
            r"the axes of the mask lie along \(0.8, 0.6, 0\) \(-0.6, 0.8, 0\)",
        ),
        ({"spacing": (1.0, 2.0, 3.002), "origin": (5.4, 6.9, 8.4)}, None),
        ({"spacing": None}, None),
        ({"origin": None}, None),
        ({"direction": None}, None),
    ],
)
def test_geometry_is_compared_where_both_say_it(other: dict[str, Any], said: str | None) -> None:
    grid = Grid((3, 4, 5), **{"spacing": (1.0, 2.0, 3.0), "origin": (5.0, 6.0, 7.0), "direction": EYE, **other})
    image = sample((5, 4, 3), **PLACED, stored=Grid((3, 4, 5), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), EYE))
    if said is None:
        check_on((5, 4, 3), grid, image, "here")
        check_on((5, 4, 3), grid, sample((5, 4, 3), stored=Grid((3, 4, 5))), "here")
    else:
        with pytest.raises(DataError, match=said):
            check_on((5, 4, 3), grid, image, "here")


def test_a_mask_of_other_axes_lies_on_its_image_once_both_are_turned(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    read = found(nifti(tmp_path / "image.nii", values, np.diag([2.0, 3, 4, 1])))[1]
    other = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "image.nii")), "PIR")
    sitk.WriteImage(other > 30, str(tmp_path / "mask.nrrd"))
    labels, grid = read_mask(tmp_path / "mask.nrrd", 3)
    check_on(labels.shape, grid, read, "here")
    assert np.array_equal(labels, read.array[0] > 30)


def test_axes_that_only_one_file_tells_cannot_be_matched(tmp_path: Path) -> None:
    """The image would be taken as stored, and the mask mirrored to LPS."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(values, None), tmp_path / "plain.nii")
    nifti(tmp_path / "placed.nii", values, np.eye(4))
    for image, mask in (("plain", "placed"), ("placed", "plain")):
        labels, grid = read_mask(tmp_path / f"{mask}.nii", 3)
        with pytest.raises(DataError, match=r"says how its axes lie and the .* does not"):
            check_on(labels.shape, grid, found(tmp_path / f"{image}.nii")[1], "here")
