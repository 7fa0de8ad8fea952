"""T1-weighted MRI of the head: nested shells, a cortex folded along the zero lines of a smooth field, bias and noise.

Coordinates in mm, LPS: z to the crown, y to the back, x to the patient's left; arrays are (z, y, x).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medcoss_cli.kit.phantoms import (
    Array,
    Case,
    blur,
    cases,
    ellipsoid,
    grid,
    noise,
    paint,
    row,
    save_nifti,
    write_manifest,
)

CLASSES = ("none", "tumour")
SHAPE = (40, 128, 128)
SPACING = (3.6, 1.8, 1.8)
AIR, BONE, MARROW, FAT, MUSCLE, CSF, GREY, WHITE, ENHANCING = 0, 60, 330, 900, 400, 150, 480, 700, 950


def head(case: Case) -> tuple[Array, Array]:
    """(signal (D, H, W) float32, tumour mask (D, H, W) bool) from the skull base to the crown."""
    body, rng = case.anatomy, case.rng
    z, y, x = axes = grid(SHAPE, SPACING)
    tilt = np.float32(rng.normal(0, 0.03))
    axes = (z, y + tilt * z, x + np.float32(rng.normal(0, 0.03)) * z)
    z, y, x = axes
    signal = np.zeros(SHAPE, np.float32)
    wide, long, high = body.uniform(66, 72), body.uniform(82, 90), body.uniform(76, 82)
    floor = body.uniform(-12, -6)

    # radius of the skull's inside as one number; 1 at the dura. Flatter below: the base of the brain
    low = np.where(z < floor, 1 + ((floor - z) / 95) ** 2, 1).astype(np.float32)
    u = np.sqrt(ellipsoid((z, y, x), (floor, 4, 0), (high, long, wide))) * low
    u = np.asarray(u + 0.010 * noise(body, SHAPE, (4, 10, 10)), np.float32)
    face = ellipsoid((z, y, x), (-66, -34, 0), (60, 56, 58)) < 1
    neck = (ellipsoid(axes[1:], (26, 0), (58, 56)) < 1) & (z < -30)
    signal[(u < 1.235) | face | neck] = 520  # skin
    signal[u < 1.215] = FAT
    signal[(face | neck) & (u >= 1.2)] = 560
    inner = (ellipsoid((z, y, x), (-66, -34, 0), (57, 52, 53)) < 1) | (
        (ellipsoid(axes[1:], (26, 0), (53, 51)) < 1) & (z < -30)
    )
    patchy = noise(body, SHAPE, (2, 4, 4))
    signal[inner & (u >= 1.1)] = MUSCLE
    signal[inner & (u >= 1.1) & (patchy > 0.8)] = FAT * 0.8
    signal[u < 1.145] = BONE
    signal[np.abs(u - 1.085) < 0.016] = MARROW
    signal[u < 1.05] = CSF

    # brain: grey where the folding field is near zero or the surface near, white below
    fold = noise(body, SHAPE, (1.15, 2.7, 2.7))
    depth = np.maximum(1.0 - u, 0) * 70  # mm, about
    apart = ellipsoid((z, y), (0, 4), (26, 44)) > 1  # the halves of the brain, around what joins them
    split = (np.abs(x) < 1.3) & apart
    reach = np.clip(1 - depth / 32, 0, 1)
    brain = (u < 1) & (z > floor - 48)
    sulcus = brain & (np.abs(fold) < 0.17 * reach) & (reach > 0.2)
    cortex = brain & (
        (np.abs(fold) < 0.17 * reach + 0.8 * np.sqrt(reach)) | (depth < 3.4) | ((np.abs(x) < 4.8) & apart)
    )
    signal[brain] = WHITE
    signal[cortex] = GREY
    signal[sulcus | (brain & split)] = CSF + 40

    def put(
        value: float, centre: tuple[float, float, float], radii: tuple[float, float, float], turn: float = 0
    ) -> None:
        """Paint on both sides."""
        for side in (-1, 1):
            paint(signal, grid(SHAPE, SPACING), (centre[0], centre[1], side * centre[2]), radii, value, side * turn)

    # deep grey matter, ventricles
    age = body.uniform(0.75, 1.5)
    put(WHITE, (2, 8, 16), (24, 42, 18))
    put(GREY + 40, (2, 14, 11), (10, 15, 9), 0.35)  # thalamus
    put(GREY + 20, (4, -8, 22), (11, 16, 6), -0.3)  # putamen
    put(GREY + 10, (12, -18, 13), (10, 9, 5))  # caudate
    put(CSF, (16, -16, 7.5), (8, 15, 4.2 * age), -0.35)  # frontal horns
    put(CSF, (20, 8, 9), (7, 24, 4.4 * age), 0.12)  # bodies
    put(CSF, (10, 36, 17), (9, 14, 5.2 * age), 0.45)  # occipital horns
    put(CSF, (-14, 10, 31), (5, 18, 2.6 * age), -0.15)  # temporal horns
    put(CSF, (2, 8, 0), (13, 14, 1.9 * age))  # third ventricle
    put(WHITE + 30, (22, -30, 0), (3.5, 7, 14))  # corpus callosum, front
    put(WHITE + 30, (20, 40, 0), (4, 7, 14))

    # hind brain: brainstem, fourth ventricle, cerebellum with its leaves
    folia = np.sin(2 * np.pi * (np.sqrt((y - 20) ** 2 + (z + 20) ** 2 * 0.6) / 6.5 + 0.5 * fold[::-1]))
    cerebellum = ellipsoid((z, y, x), (-46, 48, 0), (26, 32, 50)) < 1
    tent = ellipsoid((z, y, x), (-46, 48, 0), (29, 35, 53)) < 1
    signal[tent & (u < 1.04)] = CSF
    signal[cerebellum & (u < 1.02)] = np.where(folia > 0.1, GREY + 20, WHITE - 60)[cerebellum & (u < 1.02)]
    signal[cerebellum & (folia > 0.88) & (u < 1.02)] = CSF + 80
    stem = np.clip(-z, 0, 80) * 0.1
    column = (((y - 12 - stem) / 14) ** 2 + (x / 15) ** 2 < 1) & (z < -14) & (z > -200)
    cistern = (((y - 10 - stem) / 19) ** 2 + (x / 23) ** 2 < 1) & (z < -18)
    signal[cistern & ~cerebellum] = CSF
    signal[column] = WHITE - 50
    paint(signal, grid(SHAPE, SPACING), (-44, 29, 0), (11, 5, 7), CSF)

    # eyes, air in the sinuses, orbit fat
    put(FAT, (-40, -64, 31), (17, 24, 19))
    put(MUSCLE, (-40, -58, 24), (4, 20, 3.5), 0.35)
    put(CSF + 30, (-40, -72, 31), (12.5, 12.5, 12.5))
    put(GREY, (-40, -81, 31), (5, 3, 5))
    put(AIR, (-56, -62, 9), (26, 22, 7))
    put(AIR, (-66, -54, 31), (14, 18, 13))
    put(AIR, (-36, -34, 6), (9, 10, 7))
    paint(signal, grid(SHAPE, SPACING), (-30, -88, 0), (9, 6, 15), AIR)  # frontal sinus
    put(AIR, (-54, 22, 58), (11, 12, 7))  # mastoid
    put(MUSCLE + 120, (-52, -78, 0), (28, 15, 2))  # septum

    tumour = np.zeros(SHAPE, bool)
    if case.label == "tumour":
        signal, tumour = grow(signal, axes, rng, u)
    return signal, tumour


def grow(signal: Array, axes: tuple[Array, ...], rng: np.random.Generator, u: Array) -> tuple[Array, Array]:
    """A glioma: swelling, an enhancing rim, a dark core."""
    side = rng.choice([-1, 1])
    at = (rng.uniform(0, 36), rng.uniform(-42, 46), side * rng.uniform(18, 38))
    size = rng.uniform(10, 20)
    rough = noise(rng, SHAPE, (1.6, 3.5, 3.5))
    r = np.sqrt(ellipsoid(axes, at, (size, size, size * rng.uniform(0.8, 1.2)))) + 0.12 * rough
    inside = u < 0.97
    swelling = np.exp(-((np.maximum(r - 1, 0) / 0.55) ** 2)) * inside * (signal > GREY - 60)
    signal = signal - 170 * swelling
    signal[(r < 1) & inside] = ENHANCING
    core = (r < 0.74) & inside
    signal[core] = 300 + 60 * rough[core]
    return signal, (r < 1) & inside


def scanned(signal: Array, case: Case) -> Array:
    """Bias field of the coil, point spread, a gain of its own, and the Rician noise of a magnitude image; int16."""
    rng = case.rng
    tissue = 1 + 0.035 * noise(rng, SHAPE, (0.8, 1.5, 1.5))
    bias = np.exp(0.16 * noise(rng, SHAPE, (14, 34, 34)))
    image = blur(signal * tissue, (0.3, 0.48, 0.48)) * bias
    spread = rng.uniform(14, 30)
    real = image + spread * rng.standard_normal(SHAPE, dtype=np.float32)
    imaginary = spread * rng.standard_normal(SHAPE, dtype=np.float32)
    magnitude = np.sqrt(real**2 + imaginary**2)
    return np.asarray(np.rint(magnitude * rng.uniform(0.4, 1.8)), np.int16)  # MR has no unit: scanners scale freely


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` volumes as .nii.gz, tumour masks beside them."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(reversed(SHAPE), reversed(SPACING), strict=True))
    rows = []
    for case in cases(count, seed, CLASSES):
        signal, tumour = head(case)
        image, mask = f"images/{case.stem}.nii.gz", f"masks/{case.stem}.nii.gz"
        save_nifti(root / image, scanned(signal, case), SPACING, origin)
        save_nifti(root / mask, tumour.astype(np.uint8), SPACING, origin)
        rows.append(row(case, image, mask=mask))
    write_manifest(root, rows)
