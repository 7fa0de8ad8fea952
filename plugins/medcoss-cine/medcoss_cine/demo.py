"""Synthetic echocardiograms: a ventricle that beats in a fan of speckle; as DICOM, AVI and 4D NIfTI in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.kit.phantoms import Array, Case, blur, cases, dicom, noise, row, uid, write_manifest

CLASSES = ("normal", "reduced")
HEIGHT, WIDTH, FRAMES = 144, 192, 32
STEP_MS = 40.0
PIXEL_MM = 0.9
SLICES = 2
US_CLIP = "1.2.840.10008.5.1.4.1.1.3.1"
ENDINGS = ("dcm", "avi", "nii.gz")


def beat(case: Case, frames: int = FRAMES) -> Array:
    """(T, H, W) uint8: a dark chamber within a bright wall; it empties by half, or (reduced) hardly."""
    body, rng = case.anatomy, case.rng
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    depth, angle = np.hypot(y, x - WIDTH / 2), np.arctan2(x - WIDTH / 2, y)
    fan = (np.abs(angle) < 0.62) & (depth > 12) & (depth < HEIGHT - 6)
    cy, cx = body.uniform(62, 78), WIDTH / 2 + body.uniform(-8, 8)
    long, wide = body.uniform(34, 42), body.uniform(19, 25)
    emptied = body.uniform(0.1, 0.16) if case.label == "reduced" else body.uniform(0.3, 0.4)
    rate = body.uniform(0.9, 1.4)  # beats a second
    texture, drift = noise(rng, (2, HEIGHT, WIDTH), (0, 1.3, 2.0)), rng.uniform(0, 2 * np.pi)
    clip = np.empty((frames, HEIGHT, WIDTH), np.uint8)
    for number in range(frames):
        phase = 2 * np.pi * rate * number * STEP_MS / 1000 + drift
        size = 1 - emptied * (0.5 - 0.5 * np.cos(phase))
        r = np.hypot((y - cy) / (long * (0.6 + 0.4 * size)), (x - cx) / (wide * size))
        wall = np.exp(-(((r - 1.15) / 0.16) ** 2))
        echo = 0.10 + 0.75 * wall + 0.28 * (r > 1.35)
        speckle = np.hypot(texture[0] + 0.25 * np.cos(phase), texture[1] + 0.25 * np.sin(phase))
        image = np.where(fan, echo * (0.35 + 0.65 * speckle) * (1.15 - 0.5 * depth / HEIGHT), 0)
        clip[number] = np.clip(190 * blur(image, 0.7) ** 0.8, 0, 255) * fan
    return clip


def with_text(clip: Array) -> Array:
    """The same with letters in a corner, as machines burn them in."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).text((3, 2), "DEMO 0000", fill=230)
    return np.asarray(np.maximum(clip, np.asarray(picture)[None]))


def save_dicom(case: Case, path: Path, clip: Array) -> None:
    """An ultrasound clip with the region of its image."""
    from pydicom.dataset import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 12
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = WIDTH - 1, HEIGHT - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = PIXEL_MM / 10
    data = dicom(case, US_CLIP, "US", FrameTime=STEP_MS, SequenceOfUltrasoundRegions=[region])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid(data.SeriesInstanceUID, 1)
    data.NumberOfFrames, data.Rows, data.Columns = clip.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = clip.tobytes()
    data["PixelData"].VR = "OB"
    data.save_as(path, enforce_file_format=True)


def save_video(path: Path, clip: Array, codec: str = "mjpeg", rate: int = 25, **options: str) -> None:
    """AVI or MP4, by the path's ending, of (T, H, W) or (T, H, W, 3)."""
    import av

    av.logging.set_level(None)
    flags = {"fflags": "+bitexact"}  # without the time and the version of the library
    with av.open(str(path), "w", options=flags) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "mjpeg":
            stream.codec_context.bit_rate = 8_000_000
        for image in clip:
            frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def save_nifti(path: Path, clips: Array, spacing: tuple[float, float, float, float]) -> None:
    """(Z, T, H, W) as x, y, z, t; spacing in mm, mm, mm and seconds."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.moveaxis(clips, 1, 0), isVector=False)
    image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` recordings and manifest.csv; two of a patient."""
    (root / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases(count, seed, CLASSES):
        name = f"clips/{case.stem}.{ENDINGS[case.index % len(ENDINGS)]}"
        clip = beat(case)
        if name.endswith("dcm"):
            save_dicom(case, root / name, with_text(clip))
        elif name.endswith("avi"):
            save_video(root / name, with_text(clip))
        else:
            half = clip[:, ::2, ::2].astype(np.int16)
            stack = np.stack([half * (4 + number) for number in range(SLICES)])
            save_nifti(root / name, stack, (PIXEL_MM * 2, PIXEL_MM * 2, 8.0, STEP_MS / 1000))
        rows.append(row(case, name))
    write_manifest(root, rows)
