"""What a folder's names say: patients, and masks beside images; and what they do not say."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medcoss_cli.data.labelled import read_manifest
from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, VolumeFolder
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.plugin import Record, Skipped


def files(root: Path, *names: str) -> list[Path]:
    return [root / name for name in names]


def patients(*names: str) -> tuple[str | None, dict[str, str | None]]:
    root = Path("/data")
    layout = layout_of(root, files(root, *names))
    return layout.rule, {name: layout.patient(root / name) for name in names}


def masks(*names: str) -> set[str]:
    root = Path("/data")
    layout = layout_of(root, files(root, *names))
    return {name for name in names if layout.reason(root / name)}


@pytest.mark.parametrize(
    ("names", "rule", "expected"),
    [
        (
            ["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01/ses-2/anat/x.nii.gz", "sub-02/anat/y.nii.gz"],
            "sub-* (BIDS)",
            ["sub-01", "sub-01", "sub-02"],
        ),
        (["sub-01_T1w.nii", "sub-01_T2w.nii", "sub-2_T1w.nii"], "sub-* (BIDS)", ["sub-01", "sub-01", "sub-2"]),
        (
            ["imagesTr/liver_0001_0000.nii.gz", "imagesTr/liver_0001_0001.nii.gz", "imagesTs/liver_2_0000.nii.gz"],
            "case of imagesTr (nnU-Net)",
            ["liver_0001", "liver_0001", "liver_2"],
        ),
        (
            ["imagesTr/la_003.nii.gz", "imagesTr/la_004.nii.gz"],
            "case of imagesTr (Medical Segmentation Decathlon)",
            ["la_003", "la_004"],
        ),
        (["p1/a.png", "p1/b.png", "p2/a.png"], "folder (p1, p2, …)", ["p1", "p1", "p2"]),
        (["train/Patient 1/a.png", "test/Patient 2/x/b.png"], "folder (Patient 1, Patient 2, …)", ["Patient 1", "Patient 2"]),
        (["all/10034/1/a.png", "all/10077/1/a.png"], "folder (10034, 10077, …)", ["10034", "10077"]),
        (["LIDC-IDRI-0001/1.2.3.4.5.6.7/a", "LIDC-IDRI-0002/1.2/b"], "folder (LIDC-IDRI-0001, LIDC-IDRI-0002, …)",
         ["LIDC-IDRI-0001", "LIDC-IDRI-0002"]),
        (["benign/p001/a.png", "benign/p002/a.png", "malignant/p003/a.png", "malignant/p001/a.png"],
         "folder below benign, malignant (p001, p002, …)", ["p001", "p002", "p003", "p001"]),
        (["train/benign/p1/a.png", "train/malignant/p2/a.png", "test/benign/p3/b.png"],
         "folder below benign, malignant (p1, p2, …)", ["p1", "p2", "p3"]),
        (["siteA/p1/a.png", "siteA/p2/a.png", "siteB/p1/a.png", "siteB/p2/b.png"],
         "folder below siteA, siteB (p1, p2, …)", ["siteA/p1", "siteA/p2", "siteB/p1", "siteB/p2"]),
        (["2019/p1/a.png", "2020/p2/a.png"], "folder below 2019, 2020 (p1, p2, …)", ["p1", "p2"]),
        (["imagesTr/la_003.nii.gz", "mine/p0/a.png", "mine/p1/a.png", "mine/p1/b.png"],
         "folder below mine (p0, p1, …)", [None, "p0", "p1", "p1"]),
        (["P001/a.png", "P001/b.png"], "folder (P001)", ["P001"] * 2),
        (["train/case_7/a.png", "test/case_7/b.png"], "folder (case_7)", ["case_7"] * 2),
        (["200101/a.png", "200102/a.png"], "folder (200101, 200102, …)", ["200101", "200102"]),
        (["20013901/a.png", "20014502/a.png"], "folder (20013901, 20014502, …)", ["20013901", "20014502"]),
        ([f"202001{n:02d}/a.png" for n in range(1, 20)], "folder (20200101, 20200102, …)",
         [f"202001{n:02d}" for n in range(1, 20)]),
    ],
)  # fmt: skip
def test_patients_are_told_by_names(names: list[str], rule: str, expected: list[str]) -> None:
    assert patients(*names) == (rule, dict(zip(names, expected, strict=True)))


@pytest.mark.parametrize(
    "names",
    [
        ["normal/a.png", "abnormal/b.png"],  # a folder per class
        ["grade1/a.png", "grade2/b.png", "grade3/c.png"],
        ["0/a.png", "1/b.png"],
        [f"{n}/a.png" for n in range(12)],
        [f"train/{n}/a.png" for n in range(10)],
        ["20200103/a.png", "20200217/b.png"],
        ["Smith/s1/a.png", "Smith/s2/a.png", "Doe/s1/a.png", "Jones/s2/b.png"],  # visits
        ["2019/a.png", "2020/b.png"],
        ["2020-01-03/a.png", "2020-02-04/b.png"],
        ["1.2.840.113619.2.55.3/a", "1.2.840.113619.2.55.4/b"],  # studies or series
        ["train/a.png", "test/b.png"],
        ["img_0000.png", "img_0001.png"],
        ["a.png"],
        ["images/a.png", "images/b.png"],
        ["scan1/a.png", "scan1/b.png"],
        ["2024/a.png", "2024/b.png"],
    ],
)
def test_other_folders_are_no_patients(names: list[str]) -> None:
    assert patients(*names) == (None, dict.fromkeys(names))


@pytest.mark.parametrize(
    ("images", "of_masks"),
    [
        (["imagesTr/a_0000.nii.gz", "dataset.json"], ["labelsTr/a.nii.gz", "labelsTs/b.nii.gz"]),
        (["images/a.png", "images/b.png"], ["masks/x1.png", "masks/x2.png"]),
        (["p1/ct.nii.gz", "p2/ct.nii.gz"], ["p1/segmentations/liver.nii.gz", "p2/segmentations/liver.nii.gz"]),
        (["scan/a.png", "scan/b.png"], ["seg/a.png", "seg/b_mask.png"]),
        (["p1_t1.nii.gz", "p1_t2.nii.gz"], ["p1_seg.nii.gz"]),
        (["p1.png", "p2.png"], ["p1_mask.png", "mask_p2.png"]),
        (["p1/image.nii.gz"], ["p1/label.nii.gz"]),
        (["CT.nrrd"], ["Segmentation.seg.nrrd", "Liver-label.nrrd"]),
        (
            ["sub-01/anat/sub-01_T1w.nii.gz"],
            ["derivatives/lesions/sub-01/anat/sub-01_T1w.nii.gz", "sourcedata/sub-01/1.dcm"],
        ),
        (["rawdata/sub-01/anat/sub-01_T1w.nii.gz"], ["derivatives/fs/sub-01/a.nii.gz", "sourcedata/1.dcm"]),
        (["sub-1/anat/sub-1_space-MNI_T1w.nii.gz"], ["sub-1/anat/sub-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz"]),
        (["volume-0.nii", "volume-1.nii"], ["segmentation-0.nii", "segmentation-1.nii"]),
        (["benign (1).png"], ["benign (1)_mask.png", "benign (1)_mask_1.png"]),
        (["image_7.png"], ["mask_7.png"]),
        (["Original/1.png", "Original/2.png"], ["Ground Truth/1.png", "Ground Truth/2.png"]),
    ],
)
def test_masks_beside_images_are_no_samples(images: list[str], of_masks: list[str]) -> None:
    assert masks(*images, *of_masks) == set(of_masks)


@pytest.mark.parametrize(
    "names",
    [
        ["mask/a.png", "no_mask/b.png"],  # classes
        ["masks/a.png", "masks/b.png"],  # nothing beside them
        ["labels/a.png", "other/b.png", "other/c.png"],
        ["p1_seg.nii.gz", "p2_seg.nii.gz"],
        ["p1_seg.nii.gz", "p10.nii.gz"],  # of another patient
        ["derivatives/a.nii.gz", "x/b.nii.gz"],
        ["label_free.png", "a.png"],
        ["mask/mask1.png", "nomask/nomask1.png", "classes.yaml"],
        ["seg/1.png", "band/1.png", "eos/1.png"],  # kinds of cells
        ["mask_1.png", "nomask_1.png"],
    ],
)
def test_names_alone_lose_no_image(names: list[str]) -> None:
    assert masks(*names) == set()


def test_a_nifti_label_map_is_a_mask_by_its_header(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    for name, intent, kind in (
        ("a.nii.gz", "none", nib.Nifti1Image),
        ("b.nii.gz", "label", nib.Nifti1Image),
        ("c.nii", "label", nib.Nifti2Image),
    ):
        image = kind(values, np.eye(4))
        image.header.set_intent(intent)
        nib.save(image, tmp_path / name)
    items = list(VolumeFolder().find(tmp_path))
    assert [item.source.name for item in items if isinstance(item, Record)] == ["a.nii.gz"]
    reasons = {item.source.name: item.reason for item in items if isinstance(item, Skipped)}
    assert reasons == dict.fromkeys(("b.nii.gz", "c.nii"), "a mask (NIfTI label map)")


def test_a_manifest_says_more_than_names_and_names_more_than_nothing(tmp_path: Path) -> None:
    for name in ("p1/a.png", "p1/b.png", "p2/c.png", "p2/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / name)
    lines = ["path,group,label,split", "p1/a.png,x,1,train", "p1/b.png,,1,train", "p2/c.png,,0,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    groups = {
        record.source.name: record.group for record in ImageFolder().find(tmp_path, "all") if isinstance(record, Record)
    }
    assert groups == {"a.png": "x", "b.png": "p1", "c.png": "p2"}
    assert [case.group for case in read_manifest(tmp_path)] == ["x", "p1", "p2"]
    (tmp_path / "manifest.csv").write_text("\n".join([*lines, "p2/d.png,,0,train"]))
    with pytest.raises(DataError, match="'p2' in test"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        ([f"amos_{n:04d}" for n in range(1, 7)], 6),  # numbers of cases
        ([f"case_{n:04d}" for n in range(8)], 8),
        ([f"BRATS_{n:03d}_{c:04d}" for n in range(3) for c in range(4)], 3),  # channels of a case
        ([f"one_{c:04d}" for c in range(2)], 1),
    ],
)
def test_a_number_at_the_end_is_a_case_or_a_channel(tmp_path: Path, names: list[str], patients: int) -> None:
    (tmp_path / "imagesTr").mkdir()
    files = [tmp_path / "imagesTr" / f"{name}.nii.gz" for name in names]
    for path in files:
        path.write_bytes(b"x")
    layout = layout_of(tmp_path, files)
    assert len({layout.patient(path) for path in files}) == patients


def picture(path: Path, seed: int = 0, *, mask: bool = False) -> None:
    """An image with many values, or a mask of two; as a volume where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_volume = path.name.endswith((".nii", ".nii.gz"))
    size = (8, 32, 32) if is_volume else (32, 32)
    values = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    values = np.where(np.indices(size).sum(0) > 30 + seed % 5, 255, 0).astype(np.uint8) if mask else values
    if is_volume:
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    else:
        Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("images", "of_masks"),
    [
        (["p1/ct.nii.gz", "p2/ct.nii.gz"], ["p1/liver_mask.nii.gz", "p2/liver_mask.nii.gz"]),
        (
            ["p1/CT/1.png", "p1/CT/2.png", "p2/CT/1.png"],
            ["p1/segmentation/liver.nii.gz", "p2/segmentation/liver.nii.gz"],
        ),
        (["Original/1.png", "Original/2.png"], ["lung_masks/x.png", "lung_masks/y.png"]),
        (["a/1.jpg", "a/2.jpg"], ["masks/m1.jpg", "masks/m2.jpg"]),
        (["t1/1.png", "t2/1.png"], ["seg/1.png"]),
        (["mask/1.png", "mask/2.png", "no_mask/1.png", "no_mask/2.png"], []),  # classes, whose files are numbered alike
        (["seg/1.png", "band/1.png", "eos/1.png"], []),
        (["a_mask.png", "a_nomask.png", "b_mask.png", "b_nomask.png"], []),  # classes by the names of files
    ],
)
def test_values_tell_masks_from_classes_that_are_called_so(
    tmp_path: Path, images: list[str], of_masks: list[str]
) -> None:
    for n, name in enumerate(images):
        picture(tmp_path / name, n)
    for n, name in enumerate(of_masks):
        picture(tmp_path / name, n, mask=True)
    layout = layout_of(tmp_path, files(tmp_path, *images, *of_masks))
    assert set(layout.masks) == set(files(tmp_path, *of_masks))
    assert all(reason.startswith("a mask") for reason in layout.masks.values())


def test_ten_thousand_pairs_in_one_folder_take_a_second() -> None:
    names = [f"img_{n:05}{end}.png" for n in range(10_000) for end in ("", "_mask")]
    start = time.process_time()
    assert len(masks(*names)) == 10_000
    assert time.process_time() - start < 3  # 0.5 s; with a search of all images for each mask a hundred
