"""B-mode stills of the breast: layers and a lesion in beam coordinates, Rayleigh speckle, scan conversion to a fan."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from medcoss_cli.kit.phantoms import Array, Case, blur, cases, dicom, noise, row, save_dicom, write_manifest

CLASSES = ("normal", "cyst", "mass")
US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
HEIGHT, WIDTH = 264, 320
PIXEL_MM = 0.28
BEAMS, DEPTHS = 176, 352
NEAR, FAR, HALF_ANGLE = 42.0, 108.0, 0.41  # radii of the probe and of the deepest echo in mm; radians
ENDINGS = ("png", "jpg", "png", "dcm")


@lru_cache(maxsize=1)
def fan() -> tuple[Array, Array, Array]:
    """For each pixel of the still its (depth, beam) as fractions of the polar grid, and whether the fan covers it."""
    y = (np.arange(HEIGHT, dtype=np.float32)[:, None] - 10) * PIXEL_MM + NEAR * np.cos(HALF_ANGLE)
    x = (np.arange(WIDTH, dtype=np.float32)[None, :] - (WIDTH - 1) / 2) * PIXEL_MM
    depth = (np.hypot(x, y) - NEAR) / (FAR - NEAR)
    beam = (np.arctan2(x, y) / HALF_ANGLE + 1) / 2
    covered = (depth >= 0) & (depth < 1) & (beam >= 0) & (beam < 1)
    return depth, beam, covered


def convert(polar: Array) -> Array:
    """(DEPTHS, BEAMS) to (HEIGHT, WIDTH), bilinear; 0 outside the fan."""
    depth, beam, covered = fan()
    r, b = depth[covered] * (DEPTHS - 1), beam[covered] * (BEAMS - 1)
    i, j = r.astype(int), b.astype(int)
    u, v = r - i, b - j
    i1, j1 = np.minimum(i + 1, DEPTHS - 1), np.minimum(j + 1, BEAMS - 1)
    values = (polar[i, j] * (1 - v) + polar[i, j1] * v) * (1 - u) + (polar[i1, j] * (1 - v) + polar[i1, j1] * v) * u
    image = np.zeros((HEIGHT, WIDTH), np.float32)
    image[covered] = values
    return image


def scatterers(case: Case) -> tuple[Array, Array, Array]:
    """Echo strength in dB, gain or loss along the beam in dB, lesion mask: each (DEPTHS, BEAMS), by depth and beam."""
    body, rng = case.anatomy, case.rng
    shape = (DEPTHS, BEAMS)
    radius = NEAR + (FAR - NEAR) * np.linspace(0, 1, DEPTHS, dtype=np.float32)[:, None]
    angle = HALF_ANGLE * np.linspace(-1, 1, BEAMS, dtype=np.float32)[None, :]
    depth = radius - NEAR + np.zeros_like(angle)  # mm below the probe
    wave = 1.6 * noise(rng, shape, (60, 22)) + 0.8 * noise(rng, shape, (24, 10))

    skin, fat = 2.2, body.uniform(9, 14)
    gland = fat + body.uniform(17, 24)
    muscle = gland + body.uniform(7, 10)
    d = depth + wave * np.clip(depth / 8, 0.15, 1.4)
    level = np.full(shape, -13.0, np.float32)  # gland
    streaks = noise(rng, shape, (3.2, 13))
    level += 4.2 * streaks + 2.5 * noise(rng, shape, (12, 14))
    level = np.where(d < fat, -22 + 2.2 * noise(rng, shape, (6, 16)), level)
    lobule = np.abs(noise(rng, shape, (13, 15)))
    level = np.where((d < fat) & (lobule < 0.11), -11, level)  # septa between lobules of fat
    level = np.where((d > gland) & (d < muscle), -21 + 6 * np.maximum(noise(rng, shape, (1.8, 30)), 0), level)
    level = np.where(d > muscle, -36 - 0.3 * (d - muscle), level)  # chest wall: noise, fading
    for border, width, gain in ((fat, 0.45, 9), (gland, 0.6, 13), (muscle, 0.75, 17)):
        level += gain * np.exp(-(((d - border) / width) ** 2)) * (0.65 + 0.35 * noise(rng, shape, (40, 12)))
    level = np.where(depth < skin, -6, level) + 8 * np.exp(-(((depth - skin) / 0.3) ** 2))

    shade = 2.0 * noise(rng, (1, BEAMS), (0, 9)) + np.zeros(shape, np.float32)  # bad contact, ribs of fat
    lesion = np.zeros(shape, bool)
    if case.label != "normal":
        centre = NEAR + rng.uniform(fat + 5, gland - 3)
        where = rng.uniform(-0.22, 0.22)
        size = rng.uniform(5, 11)
        flat = rng.uniform(0.62, 0.85) if case.label == "cyst" else rng.uniform(0.75, 1.15)
        x, y = radius * np.sin(angle - where), radius * np.cos(angle - where) - centre
        around = np.arctan2(y, x)
        edge = 1 + 0.02 * np.sin(2 * around)
        if case.label == "mass":  # lobulated and spiculated
            edge = 1 + 0.09 * np.sin(3 * around + rng.uniform(0, 6)) + 0.06 * np.sin(7 * around + rng.uniform(0, 6))
            edge = edge + 0.07 * noise(rng, shape, (5, 4))
        r = np.hypot(x / size, y / (size * flat)) / edge
        lesion = r < 1
        below = (np.abs(x) < size * 0.92) & (y > 0) & ~lesion
        fade = np.exp(-np.maximum(y - size * flat, 0) / 26) / (
            1 + np.exp(np.minimum((np.abs(x) / size - 0.86) * 16, 30))
        )
        if case.label == "cyst":
            level = np.where(lesion, -60, level)
            level += (
                10 * np.exp(-(((r - 1.03) / 0.05) ** 2)) * (np.abs(np.sin(around)) ** 2)
            )  # bright where met head-on
            shade += 9.0 * below * fade
            shade -= 7.0 * np.exp(-(((np.abs(x) - size) / 0.8) ** 2)) * (y > 0)  # shadows from the edges
        else:
            level = np.where(lesion, -30 + 3.0 * noise(rng, shape, (5, 5)), level)
            level += 6 * np.exp(-(((r - 1.12) / 0.10) ** 2))  # echogenic halo
            level = np.where(lesion & (rng.random(shape, dtype=np.float32) > 0.9965), -2, level)  # specks of calcium
            shade -= 13.0 * below * fade
    return level, shade, lesion


def still(case: Case) -> tuple[Array, Array]:
    """(image (H, W) uint8, lesion mask (H, W) bool)."""
    level, shade, lesion = scatterers(case)
    rng = case.rng
    depth = np.linspace(0, 1, DEPTHS, dtype=np.float32)[:, None]
    amplitude = 10 ** ((level + shade - rng.uniform(6, 13) * depth**1.5) / 20)
    # a beam is narrow at its focus and wide beyond; two speckle fields blended along depth stand for that
    focus = np.exp(-(((depth - 0.42) / 0.30) ** 2))
    waves = rng.standard_normal((2, DEPTHS, BEAMS), dtype=np.float32) * amplitude  # in phase and in quadrature
    tight = [blur(part, (1.1, 0.75)) for part in waves]
    wide = [blur(part, (1.3, 1.7)) * 1.6 for part in waves]
    echo = np.hypot(*(t * focus + w * (1 - focus) for t, w in zip(tight, wide, strict=True)))
    echo += 0.0004 * (1 + 3 * depth) * np.abs(rng.standard_normal(echo.shape, dtype=np.float32))
    span = rng.uniform(50, 60)
    decibel = 20 * np.log10(echo + 1e-6) + 10 + rng.uniform(-2, 2)
    grey = np.clip((decibel + span) / span, 0, 1) ** 1.15
    image = convert(np.asarray(grey, np.float32)) * 255
    ruler(image)
    return np.rint(image).astype(np.uint8), convert(lesion.astype(np.float32)) > 0.5


def ruler(image: Array) -> None:
    """The depth scale at the side, a tick each centimetre, and the wedge of grey levels."""
    for centimetre in range(int(HEIGHT * PIXEL_MM / 10)):
        line = round(17 + 10 * centimetre / PIXEL_MM)
        if line < HEIGHT:
            image[line, -14 if centimetre % 5 else -18 : -9] = 190
    image[20:120, 6:13] = np.linspace(255, 0, 100)[:, None]


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` stills as PNG, JPEG and 8-bit DICOM, with lesion masks as PNG (empty where there is none)."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases(count, seed, CLASSES):
        image, lesion = still(case)
        name = f"images/{case.stem}.{ENDINGS[case.index % len(ENDINGS)]}"
        if name.endswith("dcm"):
            data = dicom(case, US_IMAGE, "US", BodyPartExamined="BREAST", BurnedInAnnotation="NO")
            save_dicom(data, root / name, image, bits=8, photometric="MONOCHROME2")
        else:
            quality = {"quality": 93} if name.endswith("jpg") else {}
            Image.fromarray(image).save(root / name, **quality)
        mask = f"masks/{case.stem}.png"
        Image.fromarray(lesion.astype(np.uint8) * 255).save(root / mask)
        rows.append(row(case, name, mask=mask))
    write_manifest(root, rows)
