"""CT of the upper abdomen: ellipsoid organs in Hounsfield units, blurred by the scanner, with noise and a table.

Coordinates in mm, LPS: z to the head, y to the back, x to the patient's left; arrays are (z, y, x).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medcoss_cli.kit.phantoms import (
    Array,
    Case,
    blur,
    cases,
    dicom,
    ellipsoid,
    grid,
    noise,
    paint,
    row,
    save_dicom,
    save_nifti,
    write_manifest,
)

CLASSES = ("none", "lesion")
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SHAPE = (36, 128, 128)
SPACING = (2.5, 2.8, 2.8)
AIR, LUNG, FAT, MUSCLE, MARROW, CORTEX = -1000, -840, -100, 55, 190, 620
BLOOD, LIVER, SPLEEN, KIDNEY, STOMACH = 150, 108, 118, 175, 25  # portal venous phase


def abdomen(case: Case) -> tuple[Array, Array]:
    """(HU (D, H, W) float32, lesion mask (D, H, W) bool) from the lung bases down to the kidneys."""
    body, rng = case.anatomy, case.rng
    z, y, x = axes = grid(SHAPE, SPACING)
    hu = np.full(SHAPE, AIR, np.float32)
    wide, deep = body.uniform(138, 160), body.uniform(98, 116)
    fat = body.uniform(9, 24)
    top = rng.uniform(4, 18)  # how far the lung bases reach down

    def put(
        value: float, centre: tuple[float, float, float], radii: tuple[float, float, float], turn: float = 0
    ) -> None:
        paint(hu, axes, centre, radii, value, turn)

    # trunk: skin, fat, muscle wall, fat inside; a rounded box rather than an ellipse
    def outline(shrink: float) -> Array:
        return np.asarray((np.abs(x) / (wide - shrink)) ** 2.5 + (np.abs(y) / (deep - shrink)) ** 2.3)

    wobble = 0.03 * noise(rng, SHAPE, (6, 14, 14))
    hu[outline(0) + wobble * 0.4 < 1] = 10
    hu[outline(2.5) + wobble * 0.4 < 1] = FAT
    hu[outline(fat) + wobble < 1] = MUSCLE
    inside = outline(fat + 11) + wobble < 1
    hu[inside] = FAT + 5
    put(MUSCLE, (0, 62, -34), (400, 26, 27), 0)  # muscles beside the spine
    put(MUSCLE, (0, 62, 34), (400, 26, 27), 0)

    # ribs cut obliquely: spots along the wall that move from slice to slice
    for n in range(10):
        angle = 0.35 + 0.30 * n
        for side in (-1, 1):
            at = (rng.uniform(-3, 3), -np.cos(angle) * (deep - fat - 6), side * np.sin(angle) * (wide - fat - 6))
            turn = side * np.arctan2((deep - fat) * np.sin(angle), (wide - fat) * np.cos(angle))
            for level in (-42, -12, 18, 48):
                spot = (level + at[0] + 6 * n % 17, at[1], at[2])
                put(CORTEX, spot, (13, 5.5, 13), turn)
                put(MARROW, spot, (11, 3, 10.5), turn)
    # organs
    texture = noise(rng, SHAPE, (3, 7, 7))
    organs = np.zeros(SHAPE, np.float32)
    liver = (ellipsoid(axes, (10, -8, -62), (78, 70, 68)) + 0.12 * texture < 1) | (
        ellipsoid(axes, (22, -44, -6), (48, 32, 68), 0.25) + 0.12 * texture < 1
    )
    organs[liver] = LIVER
    hu[liver & inside] = LIVER
    spleen = (ellipsoid(axes, (8, 36, 92), (42, 40, 26), -0.5) + 0.1 * texture < 1) & inside
    hu[spleen] = SPLEEN
    put(70, (-4, -38, 66), (46, 33, 36), 0.3)  # stomach wall
    put(STOMACH, (-4, -38, 66), (42, 28, 31), 0.3)
    put(AIR + 30, (4, -55, 64), (24, 11, 20))
    for side in (-1, 1):
        depth = -34 if side < 0 else -26
        put(KIDNEY, (depth, 44, side * 62), (40, 22, 27), side * 0.7)
        put(FAT, (depth, 40, side * 53), (16, 7, 11), side * 0.7)
        put(80, (6, 32, side * 40), (12, 5, 14), side * 0.6)  # adrenal
    put(95, (-22, -4, 20), (11, 12, 46), 0.15)  # pancreas
    put(12, (-20, -30, -46), (22, 14, 12))  # gallbladder
    for _ in range(9):  # bowel at the lower end
        at = (-45 + rng.uniform(-8, 6), rng.uniform(-62, 4), rng.uniform(-75, 80))
        size = rng.uniform(10, 16)
        put(60, at, (14, size, size * 1.2))
        put(rng.choice([20, 35, AIR + 60]), at, (11, size - 3.5, size * 1.2 - 3.5))

    # spine, with canal
    put(CORTEX - 250, (0, 52, 0), (400, 19, 23))
    hu[np.broadcast_to(ellipsoid(axes[1:], (52, 0), (16, 20)) < 1, SHAPE)] = MARROW
    disc = np.abs((z + 200 + body.uniform(0, 30)) % 31 - 15) < 3.5
    hu[np.broadcast_to((ellipsoid(axes[1:], (52, 0), (18, 22)) < 1) & disc, SHAPE)] = 85
    put(CORTEX - 150, (0, 80, 0), (400, 13, 14))
    put(15, (0, 78, 0), (400, 8.5, 9.5))
    put(CORTEX - 100, (0, 97, 0), (400, 13, 3.5))
    for side in (-1, 1):
        put(CORTEX - 150, (0, 79, side * 27), (400, 4, 17), side * 0.25)

    # vessels
    put(BLOOD + 20, (0, 24, 10), (400, 11, 11))
    put(BLOOD, (0, 18, -24), (400, 11, 13))
    put(BLOOD, (2, -8, -32), (7, 7, 36), 0.3)
    for _ in range(14):
        at = (rng.uniform(-35, 45), rng.uniform(-45, 30), rng.uniform(-105, -25))
        put(BLOOD + 10, at, (rng.uniform(4, 14), rng.uniform(2.5, 4.5), rng.uniform(6, 16)), rng.uniform(-1.5, 1.5))

    # lungs over the dome of the diaphragm
    for side in (-1, 1):
        space = (ellipsoid(axes, (60, 8, side * 72), (75, deep - fat - 12, 62)) < 1) & inside
        dome = ellipsoid(axes, (-64 + (top if side < 0 else top - 6), 0, side * 66), (100, 88, 74)) > 1
        hu[space & dome & (np.abs(x) > 22)] = LUNG
    lung = hu == LUNG
    hu[lung] += 55 * noise(rng, SHAPE, 1.2)[lung] + 60 * (texture[lung] > 1.9)

    lesions = np.zeros(SHAPE, bool)
    if case.label == "lesion":
        for _ in range(int(rng.integers(1, 5))):
            at = (rng.uniform(-34, 26), rng.uniform(-50, 32), rng.uniform(-100, -35))
            size = rng.uniform(7, 19)
            lesion = (ellipsoid(axes, at, (size, size, size * rng.uniform(0.8, 1.2))) + 0.25 * texture < 1) & liver
            lesion &= inside & ~lung
            lesions |= lesion
            hu[lesion] = rng.uniform(35, 65)
    return scanned(hu, wide, deep, rng), lesions


def scanned(hu: Array, wide: float, deep: float, rng: np.random.Generator) -> Array:
    """What the scanner makes of it: table, blur of the kernel, noise that grows towards the middle, air of -1000."""
    _, y, x = axes = grid(SHAPE, SPACING)
    bed = np.sqrt(np.maximum(1 - (x / 230) ** 2, 0)) * 26
    sheet = np.abs(y - deep - 3 - 14 + bed - 12 + 12) < 2.2
    hu[np.broadcast_to(sheet & (np.abs(x) < 200), SHAPE) & (hu < -900)] = -350
    image = blur(hu, (0.35, 0.62, 0.62))
    inner = np.exp(-ellipsoid(axes[1:], (0, 0), (deep, wide)))
    grain = noise(rng, SHAPE, (0.3, 0.55, 0.55)) * (5 + 16 * inner)
    return np.asarray(np.clip(np.rint(image + grain), -1024, 3071), np.float32)


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` series, one folder of DICOM slices each (names in no order), lesion masks as NIfTI."""
    (root / "masks").mkdir(parents=True, exist_ok=True)
    rows = []
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(reversed(SHAPE), reversed(SPACING), strict=True))
    for case in cases(count, seed, CLASSES):
        hu, lesions = abdomen(case)
        folder = root / "images" / case.stem
        folder.mkdir(parents=True, exist_ok=True)
        data = dicom(
            case,
            CT_IMAGE,
            "CT",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            BodyPartExamined="ABDOMEN",
            PatientPosition="HFS",
            KVP=120,
            SliceThickness=SPACING[0],
            PixelSpacing=[SPACING[1], SPACING[2]],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            RescaleIntercept=-1024,
            RescaleSlope=1,
            RescaleType="HU",
            WindowCenter=50,
            WindowWidth=400,
        )
        stored = (hu + 1024).astype(np.int16)
        names = case.rng.permutation(len(stored))  # slices are ordered by position, never by name
        for n, pixels in enumerate(stored):
            data.ImagePositionPatient = [origin[0], origin[1], origin[2] + n * SPACING[0]]
            data.SliceLocation = origin[2] + n * SPACING[0]
            save_dicom(data, folder / f"{names[n]:03d}.dcm", pixels, bits=12, instance=n + 1, photometric="MONOCHROME2")
        mask = f"masks/{case.stem}.nii.gz"
        save_nifti(root / mask, lesions.astype(np.uint8), SPACING, origin)
        rows.append(row(case, f"images/{case.stem}", mask=mask))
    write_manifest(root, rows)
