"""H&E tiles of glandular tissue: two dyes per pixel, mixed as optical densities; glands, nuclei and wavy stroma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from medcoss_cli.kit.phantoms import Array, Case, blur, cases, grid, noise, row, write_manifest

CLASSES = ("benign", "malignant")
SIDE = 224  # pixels of about 0.5 micrometres
HAEMATOXYLIN, EOSIN = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)  # Ruifrok and Johnston 2001
ENDINGS = ("png", "jpg", "tif")


class Dye:
    """Where nuclei are, drawn as polygons at twice the size and then softened."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.image = Image.new("L", (2 * SIDE, 2 * SIDE))
        self.draw = ImageDraw.Draw(self.image)

    def nuclei(self, x: Array, y: Array, long: Array, short: Array, turn: Array, dark: Array) -> None:
        """Slightly irregular ellipses with dark rims; half axes in pixels, one entry a nucleus."""
        t = np.arange(10) * (np.pi / 5)
        r = 1 + 0.09 * self.rng.standard_normal((len(x), 10))
        u, v = long[:, None] * r * np.cos(t), short[:, None] * r * np.sin(t)
        c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
        points = 2 * np.stack([x[:, None] + u * c - v * s, y[:, None] + u * s + v * c], 2).reshape(len(x), 20)
        for corners, shade in zip(points.tolist(), dark.tolist(), strict=True):
            self.draw.polygon(corners, fill=int(185 * shade), outline=int(245 * shade), width=2)

    def amount(self) -> Array:
        small = self.image.resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.5))
        return np.asarray(small, np.float32) / 255


def contour(rng: np.random.Generator, wild: float) -> tuple[Array, Array]:
    """Amplitudes and phases of a gland's outline, r(angle) = 1 + sum of a few waves."""
    waves = np.arange(2, 7)
    return wild * rng.standard_normal(5) / waves**0.9, rng.uniform(0, 2 * np.pi, 5)


def outline(shape: tuple[Array, Array], angle: Array) -> Array:
    """Radius at each angle of a wavy closed line, relative to a circle's."""
    amplitude, phase = shape
    return np.asarray(sum(a * np.cos(k * angle + p) for k, a, p in zip(range(2, 7), amplitude, phase, strict=True)) + 1)


def places(rng: np.random.Generator, gap: float, tries: int) -> list[tuple[float, float, float]]:
    """Glands (x, y, radius) that do not overlap, some cut by the border."""
    glands: list[tuple[float, float, float]] = []
    for _ in range(tries):
        x, y = rng.uniform(-15, SIDE + 15, 2)
        radius = rng.uniform(26, 52)
        if all(np.hypot(x - a, y - b) > radius + r + gap for a, b, r in glands):
            glands.append((float(x), float(y), float(radius)))
    return glands


def tissue(case: Case) -> tuple[Array, Array, Array]:
    """Haematoxylin and eosin amounts (H, W) and the gland mask (H, W) bool."""
    rng, malignant = case.rng, case.label == "malignant"
    y, x = (axis + SIDE / 2 for axis in grid((SIDE, SIDE), (1, 1)))
    dye = Dye(rng)

    # stroma: fibres that flow around, with spindle nuclei along them
    flow = noise(rng, (SIDE, SIDE), 34)
    heading = rng.uniform(0, np.pi)
    along = x * np.sin(heading) - y * np.cos(heading)
    fibre = np.sin(2 * np.pi * (along / 9 + 2.6 * flow) + 0.9 * noise(rng, (SIDE, SIDE), 3))
    cleft = noise(rng, (SIDE, SIDE), (5, 5)) + 0.6 * fibre
    eosin = 0.62 + 0.17 * fibre + 0.10 * noise(rng, (SIDE, SIDE), 6)
    eosin = np.where(cleft > 1.75, 0.05, eosin)
    blue = 0.05 + 0.03 * noise(rng, (SIDE, SIDE), 8)
    slope_y, slope_x = np.gradient(along / 9 + 2.6 * flow)
    glands = places(rng, 2 if malignant else 9, 90 if malignant else 60)
    px, py = rng.uniform(0, SIDE - 1, (2, 130 if malignant else 90))
    free = np.all([np.hypot(px - a, py - b) > r * 1.12 for a, b, r in glands] or [px >= 0], axis=0)
    px, py = px[free], py[free]
    turn = np.arctan2(slope_x[py.astype(int), px.astype(int)], -slope_y[py.astype(int), px.astype(int)])
    spindle = rng.random(len(px)) < 0.72  # fibroblasts; the others are lymphocytes
    long = np.where(spindle, rng.uniform(5, 8.5, len(px)), 3.1)
    short = np.where(spindle, rng.uniform(1.3, 2.2, len(px)), 2.9)
    dye.nuclei(px, py, long, short, turn, np.where(spindle, rng.uniform(0.7, 0.95, len(px)), 1.0))

    mask = np.zeros((SIDE, SIDE), bool)
    lumen_all = np.zeros((SIDE, SIDE), bool)
    for gx, gy, radius in glands:
        shape = contour(rng, 0.16 if malignant else 0.07)
        dx, dy = x - gx, y - gy
        box = np.s_[
            max(0, int(gy - 1.7 * radius)) : int(gy + 1.7 * radius) + 1,
            max(0, int(gx - 1.7 * radius)) : int(gx + 1.7 * radius) + 1,
        ]
        dx, dy = dx[:, box[1]], dy[box[0]]
        if not dx.size or not dy.size:
            continue
        distance = np.hypot(dx, dy) / outline(shape, np.arctan2(dy, dx)) / radius
        inside = distance < 1
        hollow = rng.uniform(0.22, 0.42) if malignant else rng.uniform(0.32, 0.55)
        lumen = distance < hollow
        mask[box] |= inside
        lumen_all[box] |= lumen
        pale = 0.30 + 0.12 * np.clip((distance - hollow) / (1 - hollow), 0, 1)  # mucin towards the lumen
        eosin[box] = np.where(inside, (pale + 0.16 if malignant else pale), eosin[box])
        eosin[box] = np.where(np.abs(distance - 1.02) < 0.03, 0.85, eosin[box])  # basement membrane
        blue[box] = np.where(inside, 0.20 if malignant else 0.10, blue[box])
        rim(dye, (gx, gy, radius), shape, hollow, malignant)
    debris = lumen_all & (noise(rng, (SIDE, SIDE), 3) > 1.5)
    eosin = np.where(lumen_all, np.where(debris, 0.25, 0.015), eosin)
    blue = np.where(lumen_all, 0.01, blue)

    nuclei = dye.amount()
    chromatin = 1 + 0.22 * noise(rng, (SIDE, SIDE), 0.9)
    haematoxylin = np.maximum(blue, 0) + nuclei * chromatin * (1.12 if malignant else 1.2)
    eosin = np.maximum(eosin, 0) * (1 - 0.55 * nuclei) * (1 + 0.05 * noise(rng, (SIDE, SIDE), 0.8))
    return blur(haematoxylin, 0.55), blur(eosin, 0.6), mask


def rim(
    dye: Dye, gland: tuple[float, float, float], shape: tuple[Array, Array], hollow: float, malignant: bool
) -> None:
    """Nuclei of the epithelium: one tidy row at the base, or crowded, large and in several rows."""
    rng, (gx, gy, radius) = dye.rng, gland
    layers = [0.84, 0.66, 0.50] if malignant else [0.83]
    for level in layers:
        if level < hollow + 0.08:
            continue
        a = np.arange(0, 2 * np.pi, (6.6 if malignant else 5.6) / (radius * level))
        a += rng.normal(0, 0.12 if malignant else 0.04, len(a))
        r = radius * outline(shape, a) * (level + rng.normal(0, 0.05 if malignant else 0.015, len(a)))
        x, y = gx + r * np.cos(a), gy + r * np.sin(a)
        visible = (np.minimum(x, y) > -8) & (np.maximum(x, y) < SIDE + 8)
        x, y, a = x[visible], y[visible], a[visible]
        if malignant:
            size = rng.uniform(3.4, 5.6, len(x))
            turn, long, short = a + rng.normal(0, 0.5, len(x)), size * rng.uniform(1.0, 1.5, len(x)), 0.85 * size
        else:
            turn, long = a + rng.normal(0, 0.1, len(x)), rng.uniform(4.2, 5.4, len(x))
            short = rng.uniform(2.1, 2.7, len(x))
        dye.nuclei(x, y, long, short, turn, rng.uniform(0.6 if malignant else 0.8, 1, len(x)))


def stain(case: Case, haematoxylin: Array, eosin: Array) -> Array:
    """RGB (H, W, 3) uint8: Beer-Lambert with the dyes of this patient's slide; strength and hue differ between labs."""
    slide, rng = case.anatomy, case.rng
    vectors = np.array([HAEMATOXYLIN, EOSIN]) + slide.normal(0, 0.035, (2, 3))
    vectors = np.clip(vectors, 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = slide.uniform(0.85, 1.2, 2)
    density = haematoxylin[..., None] * (1.55 * strength[0] * vectors[0]) + eosin[..., None] * (
        0.85 * strength[1] * vectors[1]
    )
    light = 243 * np.exp(-density) + rng.normal(0, 1.6, density.shape)
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` tiles as PNG, JPEG and TIFF in turn, with gland masks as PNG."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases(count, seed, CLASSES):
        haematoxylin, eosin, glands = tissue(case)
        image = f"images/{case.stem}.{ENDINGS[case.index % len(ENDINGS)]}"
        mask = f"masks/{case.stem}.png"
        quality: dict[str, Any] = {"quality": 92} if image.endswith("jpg") else {}
        Image.fromarray(stain(case, haematoxylin, eosin)).save(root / image, **quality)
        Image.fromarray(glands.astype(np.uint8) * 255).save(root / mask)
        rows.append(row(case, image, mask=mask))
    write_manifest(root, rows)
