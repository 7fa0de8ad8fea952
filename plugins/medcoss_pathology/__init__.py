"""Pathology: colour tiles of stained tissue as PNG, JPEG, TIFF or BMP, in folders of any depth."""

from pathlib import Path

from medcoss_cli.kit import ImageFolder, Patches
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` simulated H&E tiles (PNG, JPEG, TIFF) with gland masks under `root`."""
    from medcoss_pathology.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="pathology",
            title="Pathology (stained tissue)",
            dims=2,
            size=(224, 224),
            channels=3,
            loader=ImageFolder(grey=False),
            tokenizer=Patches(key="patch2d-16"),
            demo=write_demo,
        )
    ]
