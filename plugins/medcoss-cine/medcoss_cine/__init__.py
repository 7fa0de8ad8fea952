"""Clips: images over time from DICOM multi-frame files, AVI, MP4 and 4D NIfTI, as volumes of frames, rows and columns."""

from pathlib import Path

from medcoss_cine.augment import SamePlane
from medcoss_cine.loader import ClipFolder
from medcoss_cine.tokenizer import ClipPatches
from medcoss_cli.kit import Grey8
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1

__all__ = ["PLUGIN_API", "ClipFolder", "ClipPatches", "SamePlane", "medcoss_modalities", "write_demo"]


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` synthetic echocardiograms (DICOM, AVI, 4D NIfTI) under `root`."""
    from medcoss_cine.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="cine",
            title="Clips (2D over time)",
            dims=3,
            size=(16, 112, 112),
            channels=1,
            loader=ClipFolder(),
            intensity=Grey8(),
            augment=SamePlane(),
            tokenizer=ClipPatches("patch3d-2x16x16-cine"),
            demo=write_demo,
        )
    ]
