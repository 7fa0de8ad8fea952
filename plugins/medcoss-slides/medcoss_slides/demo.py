"""Synthetic slides: pieces of stained tissue on glass as a pyramidal TIFF, drawn and written piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.kit.phantoms import Array, Case, blur, cases, noise, row, write_manifest

CLASSES = ("sparse", "dense")
SIDE = (768, 1024)
"""Height and width of level 0 in pixels."""
MPP = 0.5
TILE = 256
LEVELS = (1, 2, 4, 8, 16)


def draw(case: Case, size: tuple[int, int] = SIDE) -> Array:
    """(H, W, 3) uint8: two or three pieces of tissue with nuclei, few or many by the label; stain and outline by patient."""
    height, width = size
    small = (height // 16, width // 16)
    rng, body = case.rng, case.anatomy
    y, x = np.mgrid[0 : small[0], 0 : small[1]].astype(np.float32)
    tissue = np.zeros(small, np.float32)
    for _ in range(int(body.integers(2, 4))):
        cy, cx = body.uniform(0.25, 0.75) * small[0], body.uniform(0.2, 0.8) * small[1]
        ry, rx = body.uniform(0.13, 0.28) * small[0], body.uniform(0.12, 0.25) * small[1]
        tissue = np.maximum(tissue, 1.25 - np.hypot((y - cy) / ry, (x - cx) / rx) + 0.12 * noise(body, small, 5))
    shape = _enlarge(np.clip(tissue * 6, 0, 1), size)
    fibre = _enlarge(noise(rng, (height // 4, width // 4), (2, 5)), size)
    count = height * width // (420 if case.label == "dense" else 1500)
    dots = np.zeros(size, np.float32)
    np.add.at(dots, (rng.integers(0, height, count), rng.integers(0, width, count)), 1)
    nuclei = np.clip(blur(dots, 2.6) * 38, 0, 1.15) * shape
    stain = body.uniform(0.85, 1.15, 2)
    haematoxylin = nuclei * 1.25 * stain[0] + 0.07 * shape
    eosin = shape * (0.62 + 0.13 * fibre) * stain[1] * (1 - 0.5 * np.clip(nuclei, 0, 1))
    # Ruifrok and Johnston 2001
    blue, red = (np.array(dye, np.float32) for dye in ((0.650, 0.704, 0.286), (0.058, 0.792, 0.084)))
    density = haematoxylin[..., None] * blue + np.maximum(eosin, 0)[..., None] * red
    light = 242 * np.exp(-density) + 1.5 * rng.standard_normal((*size, 1), dtype=np.float32)
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)


def _enlarge(array: Array, size: tuple[int, int]) -> Array:
    from PIL import Image

    return np.asarray(Image.fromarray(np.asarray(array, np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))


def reduced(picture: Array, factor: int) -> Array:
    """The mean of blocks of factor x factor pixels; what is left over at the right and below is cut off."""
    from PIL import Image

    height, width = (side // factor for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).reduce(factor))[:height, :width]


def tiles(picture: Array, tile: int) -> Iterator[Array]:
    """The tiles of a picture, row by row, filled up with white."""
    height, width = picture.shape[:2]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = picture[top : top + tile, left : left + tile]
            pad = (0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)
            yield np.pad(part, pad, constant_values=255) if part.shape[:2] != (tile, tile) else part


def write_slide(path: Path, picture: Array, mpp: float | None = MPP, compression: str = "jpeg") -> None:
    """Write a pyramidal TIFF of RGB (H, W, 3), levels of half the size one after another."""
    import tifffile

    options: dict[str, Any] = {"photometric": "rgb", "tile": (TILE, TILE), "compression": compression, "metadata": None}
    if compression == "jpeg":
        options["compressionargs"] = {"level": 90}
    if mpp is not None:
        options |= {"resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=False) as writer:
        for factor in LEVELS:
            level = reduced(picture, factor) if factor > 1 else picture
            if mpp is not None:
                options["resolution"] = (1e4 / (mpp * factor),) * 2
            writer.write(
                tiles(level, TILE),
                shape=level.shape,
                dtype=level.dtype,
                subfiletype=int(factor > 1),
                software=False,
                **options,
            )


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` slides and manifest.csv; two slides a patient."""
    (root / "slides").mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases(count, seed, CLASSES):
        name = f"slides/{case.stem}.tif"
        write_slide(root / name, draw(case))
        rows.append(row(case, name))
    write_manifest(root, rows)
