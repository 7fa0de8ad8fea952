"""Tiles of stained tissue, to pre-train on: seven projects of TCGA."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from random import Random

from medcoss_cli.datasets.rows import ManifestRow, Request, compare, is_complete
from medcoss_cli.errors import DataError
from medcoss_cli.kit.manifest import is_junk

PROJECTS = ("TCGA-BRCA", "TCGA-MESO", "TCGA-OV", "TCGA-THCA", "TCGA-THYM", "TCGA-UCEC", "TCGA-UVM")
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif")
PATIENT = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}")
"""The part of a barcode that names a person: TCGA-3G-AB0O of TCGA-3G-AB0O-01Z-00-DX1."""
EDGE = 512
"""Pixels of a tile."""
MOST = 100
"""Tiles of one patient."""
PAPER = {"tiles": 217_452}


def tcga(request: Request) -> list[ManifestRow]:
    """PROJECT/…/TILE, where a tile's own name or a folder above it holds the patient's barcode; at most 100 a patient.

    A tile is an image of 512 x 512 pixels, cut from a slide without overlap; the paper does not say at which magnification.
    Slides themselves are not cut here. Which 100 are drawn depends on the seed and on the names, not on the disk's order, so
    both profiles draw alike.

    Raises: DataError where there is no project, no tile, or no patient in a name.
    """
    below = sorted(path for path in request.root.iterdir() if path.is_dir() and not is_junk(path))
    places = (request.root, *below)
    place = next((place for place in places if any((place / name).is_dir() for name in PROJECTS)), None)
    if place is None:
        raise DataError(
            "no folder of a TCGA project is here",
            where=request.root,
            fix=f"expected: PROJECT/PATIENT/*.png, where PROJECT is {', '.join(PROJECTS)}",
        )
    tiles: dict[str, list[Path]] = defaultdict(list)
    nameless, slides = [], []
    projects = [name for name in PROJECTS if (place / name).is_dir()]
    for path in (path for name in projects for path in sorted((place / name).rglob("*"))):
        ending = path.suffix.lower()
        if ending in SLIDES:
            slides.append(path)
        elif ending in ENDINGS and not is_junk(path):
            barcode = PATIENT.search(path.relative_to(place).as_posix().partition("/")[2].upper())
            if barcode is None:
                nameless.append(path)
            else:
                tiles[barcode[0]].append(path)
    if not tiles and not nameless:
        cut = f"cut them into tiles of {EDGE} x {EDGE}, as QuPath or openslide do, and put these below PROJECT/PATIENT"
        raise DataError(
            f"{len(slides)} slides, which are not cut here, and no tile"
            if slides
            else "the projects' folders have no tile",
            where=place,
            fix=cut if slides else "expected: PROJECT/PATIENT/*.png",
        )
    if not tiles:
        raise DataError(
            f"none of {len(nameless)} tiles names its patient, such as {nameless[0].name}",
            where=place,
            fix="put tiles into folders called as the patient's barcode: TCGA-UVM/TCGA-V3-A9ZX/*.png",
        )
    request.skipped(nameless, "tiles do not name their patient")
    request.skipped(slides, "slides are not cut here")
    drawn = {patient: _drawn(request, patient, paths) for patient, paths in sorted(tiles.items())}
    rows = [ManifestRow(path, "train", patient) for patient, paths in drawn.items() for path in paths]
    _check_sizes(request, [row.path for row in rows])
    total = sum(map(len, tiles.values()))
    request.screen.say(f"{request.name}: {len(rows):,} of {total:,} tiles of {len(tiles):,} patients")
    if is_complete(request, len(projects), len(PROJECTS), "projects"):
        compare(request, {"tiles": len(rows)}, PAPER)
    return rows


def _drawn(request: Request, patient: str, paths: list[Path]) -> list[Path]:
    return Random(f"{request.seed} {request.name} {patient}").sample(paths, min(MOST, len(paths)))


def _check_sizes(request: Request, paths: list[Path]) -> None:
    """Say how many tiles have another size; unreadable tiles are listed when the set is prepared."""
    from medcoss_cli.kit.readers import image

    others = []
    with request.screen.progress("looking at tiles", len(paths)) as bar:
        for path in paths:
            bar.advance()
            try:
                header = image.read_header(path)
            except DataError:
                continue
            if (header.width, header.height) != (EDGE, EDGE):
                others.append(f"{header.width} x {header.height}")
    if others:
        request.warn(
            f"{len(others)} of {len(paths)} tiles are not {EDGE} x {EDGE} as the paper's, the first {others[0]}"
        )
