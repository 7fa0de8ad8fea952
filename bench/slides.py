"""Tiles per second of a whole slide, and the memory it takes: python bench/slides.py [--size 20000x16000]

Writes a synthetic Aperio SVS (JPEG, tile by tile), then lists its tiles of tissue and reads them one after another at 0.5 and
at 1.0 microns per pixel. With --tiny it only shows that it runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tifffile
from medcoss_slides import SlideFolder

from medcoss_cli.plugin import Record

TILE = 240  # as Aperio scanners write
MPP = 0.25


def tiles(width: int, height: int, factor: int) -> Iterator[Any]:
    """Tiles of a level, row by row: tissue in two ellipses, glass elsewhere; drawn as they are written."""
    rng = np.random.default_rng(factor)
    grain = rng.integers(-25, 25, (TILE * 4, TILE * 4, 1))
    for top in range(0, height // factor, TILE):
        for left in range(0, width // factor, TILE):
            y = (np.arange(top, top + TILE)[:, None] * factor) / height
            x = (np.arange(left, left + TILE)[None, :] * factor) / width
            inside = np.zeros((TILE, TILE, 1), bool)
            for cy, cx, ry, rx in ((0.4, 0.3, 0.3, 0.2), (0.6, 0.72, 0.28, 0.2)):
                inside[..., 0] |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
            at = rng.integers(0, TILE * 3, 2)
            noise = grain[at[0] : at[0] + TILE, at[1] : at[1] + TILE]
            yield np.where(inside, np.clip(np.array((200, 110, 175)) + noise, 0, 255), 243).astype(np.uint8)


def write(path: Path, width: int, height: int) -> None:
    """Level 0, a thumbnail, levels of a quarter and a sixteenth, label and macro."""
    about = f"Aperio Image Library v12.0.15\r\n{width}x{height} ({TILE}x{TILE}) JPEG/RGB Q=80|AppMag = 40|MPP = {MPP}"
    options: dict[str, Any] = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    options |= {"compressionargs": {"level": 80}, "dtype": "uint8", "software": False, "description": about}
    small: dict[str, Any] = {"photometric": "rgb", "rowsperstrip": 16, "metadata": None, "description": about}
    mark = np.full((400, 400, 3), 90, np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in (1, 4, 16):
            writer.write(tiles(width, height, factor), shape=(height // factor, width // factor, 3), **options)
            if factor == 1:
                writer.write(mark, **small)
        writer.write(mark, subfiletype=1, **small)
        writer.write(mark, subfiletype=9, **small)


def megabytes() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="20000x16000", help="width and height of level 0")
    parser.add_argument("--count", type=int, default=512, help="tiles to read")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    width, height = (int(side) for side in ("2400x1920" if options.tiny else options.size).split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.svs"
        began = time.perf_counter()
        write(path, width, height)
        took = time.perf_counter() - began
        print(f"{width} x {height} at {MPP} microns: {path.stat().st_size / 2**20:.0f} MB, written in {took:.0f} s")
        print(f"memory before reading: {megabytes():.0f} MB")
        for mpp in (0.5, 1.0):
            loader = SlideFolder(
                tile=64 if options.tiny else 224,
                mpp=mpp,
                per_slide=8 if options.tiny else options.count,
                per_patient=10**6,
            )
            began = time.perf_counter()
            records = [item for item in loader.find(path) if isinstance(item, Record)]
            listed = time.perf_counter() - began
            began = time.perf_counter()
            for record in records:
                loader.read(record)
            rate = len(records) / (time.perf_counter() - began)
            print(
                f"{mpp} microns: {len(records)} tiles listed in {listed:.2f} s, {rate:.0f} tiles/s, {megabytes():.0f} MB at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
