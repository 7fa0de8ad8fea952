"""Ultrasound: B-mode stills as DICOM, PNG, JPEG, TIFF or BMP, in folders of any depth; clips are not read yet."""

from pathlib import Path

from medcoss_cli.kit import ImageFolder, Patches
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` simulated B-mode stills (PNG, JPEG and DICOM) with lesion masks under `root`."""
    from medcoss_ultrasound.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="ultrasound",
            title="Ultrasound (B-mode)",
            dims=2,
            size=(224, 224),
            channels=1,
            loader=ImageFolder(grey=True, dicom=("US",)),
            tokenizer=Patches(key="patch2d-16"),  # shares the X-ray patch embedding
            demo=write_demo,
        )
    ]
