"""Whole slide images: tiles of tissue at a set number of microns per pixel, from SVS, NDPI, pyramidal TIFF and DICOM."""

from pathlib import Path

from medcoss_cli.kit import Patches
from medcoss_cli.plugin import Modality, hookimpl
from medcoss_slides.loader import SlideFolder

PLUGIN_API = 1

__all__ = ["PLUGIN_API", "SlideFolder", "medcoss_modalities", "write_demo"]


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` synthetic slides (pyramidal TIFF, H&E-like, 0.5 microns per pixel) under `root`."""
    from medcoss_slides.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="slides",
            title="Whole slide images",
            dims=2,
            size=(224, 224),
            channels=3,
            loader=SlideFolder(),
            tokenizer=Patches(key="patch2d-16"),  # shares the patch embedding of tiles in single files
            demo=write_demo,
        )
    ]
