"""X-ray: radiographs as DICOM, PNG, JPEG, TIFF or BMP, in folders of any depth."""

from pathlib import Path

from medcoss_cli.kit import ImageFolder, Patches
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` simulated chest radiographs (PNG and DICOM) with lung masks under `root`."""
    from medcoss_xray.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="xray",
            title="X-ray",
            dims=2,
            size=(224, 224),
            channels=1,
            loader=ImageFolder(grey=True, dicom=("CR", "DX", "RG", "RF")),
            tokenizer=Patches(key="patch2d-16"),  # grey is repeated to its 3 channels
            demo=write_demo,
        )
    ]
