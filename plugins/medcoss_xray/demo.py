"""Chest radiographs: the Beer-Lambert law along each ray through a chest made of ellipsoids and tubes.

Coordinates in mm: x to the image's right (the patient's left), z downwards, the ray along y. The path of a ray through
an ellipsoid or a tube is a formula, so that a film costs no sampling along the ray.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from medcoss_cli.kit.phantoms import Array, Case, blur, cases, dicom, grid, noise, row, save_dicom, write_manifest

CLASSES = ("normal", "effusion", "nodule")
SIDE = 256
PIXEL_MM = 1.38
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
TISSUE, LUNG, BONE = 0.0195, 0.0055, 0.046  # attenuation per mm at about 80 keV; lung and bone as a whole


def ray(x: Array, z: Array, centre: tuple[float, float], radii: tuple[float, float, float], turn: float = 0.0) -> Array:
    """Path length in mm through an ellipsoid with radii (x, y, z), turned in the plane of the image."""
    dx, dz = x - np.float32(centre[0]), z - np.float32(centre[1])
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    inside = 1 - ((dx * c + dz * s) / radii[0]) ** 2 - ((dz * c - dx * s) / radii[2]) ** 2
    return np.asarray(2 * radii[1] * np.sqrt(np.maximum(inside, 0)), np.float32)


def tube(across: Array, radius: float, obliquity: Array | float = 1.0) -> Array:
    """Path length through a bone's cortex: most at its edges, as `across` mm from its axis."""
    outer = np.sqrt(np.maximum(radius**2 - across**2, 0))
    inner = np.sqrt(np.maximum((0.72 * radius) ** 2 - across**2, 0))
    return np.asarray(2 * (outer - 0.65 * inner) * obliquity, np.float32)


def ribs(x: Array, z: Array, half_width: float, top: float, droop: float) -> Array:
    """Path length through eleven pairs of ribs: behind they fall gently to the side, in front steeply to the middle."""
    total = np.zeros(x.shape, np.float32)
    middle = SIDE // 2
    for n in range(11):
        level = top + 20.5 * n - 0.35 * n * n
        rows = slice(
            max(0, middle + int((level - 32) / PIXEL_MM)), max(0, middle + int((level + droop + 80) / PIXEL_MM))
        )
        across, down = np.abs(x[rows]), z[rows]
        width = half_width * min(1.0, 0.50 + 0.15 * n, 1.24 - 0.03 * n)
        u = np.minimum(across / width, 1)
        side = np.sqrt(1 - u**2)  # 1 in the middle, 0 where the rib turns from the back to the front
        turn = 1 / np.maximum(side, 0.3)
        oblique = np.minimum(turn, 2.4) * ((across <= width) & (across > 14))
        slope = np.minimum(22 * droop / width * u * turn, 2.5)
        behind = level + droop * (0.55 * (1 - side) + 0.25 * u)
        total[rows] += tube((down - behind) / np.sqrt(1 + slope**2), 4.6, 0.66 * oblique)
        if n < 8:  # the front ends in cartilage, which hardly shows
            front = level + 0.80 * droop + (34 + 3.0 * n) * side
            end = 1 / (1 + np.exp((0.42 + 0.01 * n - u) * 26))
            total[rows] += tube((down - front) / np.sqrt(1 + (0.6 * u * turn) ** 2), 5.0, 0.46 * oblique * end)
    return total


def vessels(rng: np.random.Generator, hila: list[tuple[float, float]]) -> Array:
    """Path length through arteries and veins that branch from the hila into the lungs."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)

    def pixel(x: float, z: float) -> tuple[float, float]:
        return x / PIXEL_MM + SIDE / 2, z / PIXEL_MM + SIDE / 2

    def grow(x: float, z: float, angle: float, width: float) -> None:
        length = rng.uniform(13, 24)
        end = x + length * np.cos(angle), z + length * np.sin(angle)
        draw.line([pixel(x, z), pixel(*end)], fill=int(28 * width), width=max(1, round(width / PIXEL_MM)))
        if width > 1.1:
            for turn in (rng.uniform(0.1, 0.55), -rng.uniform(0.1, 0.55)):
                grow(*end, angle + turn, width * rng.uniform(0.66, 0.82))

    for x, z in hila:
        for angle in (-1.15, -0.6, 0.0, 0.45, 0.85, 1.25):
            grow(x, z, angle + rng.uniform(-0.15, 0.15) if x > 0 else np.pi - angle, rng.uniform(3.4, 5.2))
    return np.asarray(image, np.float32) / 28


@lru_cache(maxsize=1)
def screen() -> tuple[Array, Array]:
    """Heights and widths (mm) of the detector's pixels."""
    z, x = grid((SIDE, SIDE), (PIXEL_MM, PIXEL_MM))
    return np.asarray(z), np.asarray(x)


def chest(case: Case) -> tuple[Array, Array]:
    """Optical path (H, W) without unit and lung mask (H, W) bool of a patient, standing and breathing as on the day."""
    body, rng = case.anatomy, case.rng
    z, x = screen()
    z = z + rng.uniform(-8, 8) + 2.5 * noise(rng, (SIDE, SIDE), 45)
    x = x + rng.uniform(-6, 6) + 2.5 * noise(rng, (SIDE, SIDE), 45)
    lean = np.float32(rng.normal(0, 0.02))
    x, z = x + lean * z, z - lean * x

    wide, deep = body.uniform(132, 152), body.uniform(95, 120)
    breath = rng.uniform(-10, 8)
    heart = body.uniform(50, 62)

    # soft tissue: one outline from the neck over the shoulders, which leave the film, to the waist
    shoulder, armpit = 1 / (1 + np.exp(-(z + 136) / 7)), 1 / (1 + np.exp(-(z + 66) / 11))
    half = 54 + (wide + 22) * shoulder - 60 * armpit
    thick = 58 + (deep - 58) * shoulder * (0.72 + 0.28 * armpit)
    soft = 2 * thick * np.sqrt(np.maximum(1 - np.abs(x / half) ** 2.6, 0))

    # lungs: an egg on each side, less diaphragm and heart
    lungs = np.zeros_like(soft)
    domes = {}
    for sign, share in ((-1, 0.485), (1, 0.47)):
        centre = sign * wide * 0.50
        narrowing = 1 - 0.36 / (1 + np.exp((z + 62) / 20))  # towards the apex
        across = (x - centre * (1 - 0.22 / (1 + np.exp((z + 62) / 20)))) / (wide * share * narrowing)
        along = (z + 8) / (118.0 if sign < 0 else 121.0)
        egg = np.sqrt(np.maximum(1 - np.abs(across) ** 2.7 - np.abs(along) ** 3.4, 0))
        height = 78 + breath + (0 if sign < 0 else 9)
        dome = height + 40 * (1 - np.sqrt(np.maximum(1 - ((x - centre * 0.98) / (wide * 0.56)) ** 2, 0)))
        domes[sign] = dome
        lungs = np.maximum(lungs, 1.55 * deep * egg / (1 + np.exp((z - dome) / 1.6)))
    shadows = (
        ray(x, z, (24, 40), (heart * 1.02, 62, heart * 0.78), 0.60),  # left ventricle
        ray(x, z, (-12, 36), (heart * 0.56, 52, heart * 0.90)),  # right atrium
        ray(x, z, (13, 4), (heart * 0.58, 52, heart * 0.72)),  # left auricle, filling the waist
        ray(x, z, (19, -48), (15, 32, 17)),  # aortic knob
        ray(x, z, (22, -18), (19, 34, 28)),  # pulmonary trunk
        ray(x, z, (2, -60), (26, 50, 118)),  # great vessels
    )
    silhouette = np.sqrt(sum(shadow**2 for shadow in shadows))  # the sum of squares rounds the corners between them
    hidden = 1 / (1 + np.exp(np.clip((silhouette - 34) / 6, -30, 30)))
    lungs = lungs * (0.16 + 0.84 * hidden)
    mask = (lungs * hidden > 0.30 * deep) & (lungs > 18)

    # what lies in the lungs
    air = np.float32(lungs / lungs.max())
    marks = vessels(rng, [(-36, -4), (40, -10)])
    extra = 3.2 * blur(marks, 0.9) * air + 5.5 * air * np.maximum(noise(rng, x.shape, 5), 0)
    extra += ray(x, z, (-37, 0), (12, 15, 21), 0.3) * 0.5 + ray(x, z, (42, -6), (11, 15, 19), -0.3) * 0.5
    sign = int(rng.choice([-1, 1]))
    if case.label == "effusion":
        level = domes[sign].min() - rng.uniform(4, 48)
        outer = np.clip(sign * x / wide, 0, 1)
        surface = level - 52 * np.maximum(outer - 0.62, 0) ** 1.2 * 2.2 - 26 * np.maximum(0.22 - outer, 0)
        fluid = np.float32(1 / (1 + np.exp((surface - z) / 3.2))) * (sign * x > 0)
        mask &= fluid < 0.5
        lungs = lungs * (1 - fluid * 0.93)
    elif case.label == "nodule":
        rows, columns = np.nonzero(mask & (np.abs(x) > 45))
        at = int(rng.integers(len(rows)))
        where = float(x[rows[at], columns[at]]), float(z[rows[at], columns[at]])
        size = rng.uniform(8, 17)
        wobble = 1 + 0.10 * noise(rng, x.shape, 4)
        extra += 1.9 * ray(x * 1.0, z, where, (size, size, size * rng.uniform(0.8, 1.1))) * wobble
    path = TISSUE * np.maximum(soft - lungs, 0.08 * soft) + LUNG * lungs + (TISSUE - LUNG) * extra

    # airway and stomach bubble
    trachea = ray(x - 0.03 * z, z, (0, -104), (8.5, 11, 70)) + 0.6 * ray(x, z, (-19, -26), (6, 7, 22), -0.9)
    trachea += 0.6 * ray(x, z, (21, -24), (5.5, 7, 24), 1.05)
    path -= 0.55 * TISSUE * trachea
    path -= TISSUE * 0.75 * ray(x, z, (wide * 0.42, 112 + breath), (24, 22, 11)) * body.uniform(0.2, 1.0)

    # bones
    cage = ribs(x, z, wide * 0.985, -122, body.uniform(30, 44))
    level = (z + 7) % 23.5
    beat = 0.62 + 0.38 * np.tanh(np.minimum(level, 23.5 - level) * 0.7)  # vertebral bodies and discs
    spine = 15 * np.exp(-((np.abs(x) / 18.5) ** 6)) * beat
    spine += 7 * np.exp(-(((np.abs(x) - 10) / 2.6) ** 2 + ((level - 9) / 4.5) ** 2))  # pedicles
    spine += 5 * np.exp(-((x / 2.8) ** 2 + ((level - 17) / 5.0) ** 2))  # spinous processes
    far = np.clip((np.abs(x) - 16) / (wide * 0.86), 0, 1)
    rise = tube(z + 100 - 15 * np.cos(far * np.pi) + 10 * far, 6.6, 1.15)
    collar = rise / (1 + np.exp((np.abs(x) - wide * 0.98) / 3)) * (np.abs(x) > 16)
    edge = (np.abs(x) - wide * 0.93) * 0.94 + (z + 60) * 0.33
    blade = (z > -100) & (z < 12)
    scapula = (5 * np.exp(-((edge / 2.6) ** 2)) + 2.2 / (1 + np.exp(-edge / 2))) * blade
    arm = ray(np.abs(x), z, (wide + 34, -98), (23, 20, 25)) + ray(np.abs(x), z, (wide + 60, -40), (17, 16, 90), -0.25)
    path += (BONE - TISSUE) * (1.25 * cage + spine + collar + scapula + 0.5 * arm)
    return np.asarray(np.maximum(path, 0), np.float32), np.asarray(mask)


def film(case: Case) -> tuple[Array, Array]:
    """Image (H, W) in [0, 1], dense is white, and lung mask (H, W) bool: photons counted, then the look-up curve."""
    path, mask = chest(case)
    rng = case.rng
    primary = np.exp(-blur(path, 0.5))
    scatter = 0.30 * blur(primary, 24) + 0.008
    photons = rng.uniform(1e5, 2.5e5)
    counts = (primary + scatter) * photons
    counts += np.sqrt(counts) * rng.standard_normal(counts.shape, dtype=np.float32)
    density = -np.log(np.maximum(counts, 1) / photons)
    crisp = (
        density + 0.55 * (density - blur(density, 5)) - 0.40 * blur(density, 22)
    )  # as every detector's software does
    low, middle, high = np.percentile(crisp[mask], 50), np.percentile(crisp, 62), np.percentile(crisp, 99)
    black = low - 0.75 * (middle - low)
    curve = np.clip((crisp - black) / (high - black), 0, 1.2)
    return np.asarray(np.clip(curve / (1 + 0.05 * curve**4), 0, 1) ** rng.uniform(0.9, 1.15), np.float32), mask


def marker(image: Array) -> None:
    """The letter that tells left from right, burnt into the corner."""
    stamp = Image.new("L", (20, 20))
    ImageDraw.Draw(stamp).text((4, 2), "L", fill=255, font_size=17)
    corner = image[10:30, SIDE - 32 : SIDE - 12]
    np.maximum(corner, np.asarray(stamp, np.float32) / 255 * 0.97, out=corner)


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` films: every fourth a 12-bit DICOM file (MONOCHROME1 and 2 in turn), the others 8-bit PNG."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases(count, seed, CLASSES):
        image, lungs = film(case)
        marker(image)
        if case.index % 4 == 3:
            name = f"images/{case.stem}.dcm"
            inverse = case.index % 8 == 7
            kind = "MONOCHROME1" if inverse else "MONOCHROME2"
            stored = np.rint((1 - image if inverse else image) * 4095).astype(np.uint16)
            data = dicom(
                case,
                DX_FOR_PRESENTATION,
                "DX",
                BodyPartExamined="CHEST",
                ViewPosition="PA",
                PatientOrientation=["L", "F"],
                PresentationIntentType="FOR PRESENTATION",
                PresentationLUTShape="INVERSE" if inverse else "IDENTITY",
                ImagerPixelSpacing=[PIXEL_MM, PIXEL_MM],
                RescaleIntercept=0,
                RescaleSlope=1,
                RescaleType="US",
            )
            save_dicom(data, root / name, stored, bits=12, photometric=kind)
        else:
            name = f"images/{case.stem}.png"
            Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(root / name, compress_level=1)
        mask = f"masks/{case.stem}.png"
        Image.fromarray(lungs.astype(np.uint8) * 255).save(root / mask, compress_level=1)
        rows.append(row(case, name, mask=mask))
    write_manifest(root, rows)
