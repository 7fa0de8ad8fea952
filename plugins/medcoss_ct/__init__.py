"""CT: DICOM series, NIfTI, NRRD or MetaImage volumes in Hounsfield units, cut into windows of slices."""

from pathlib import Path

from medcoss_cli.kit import Hounsfield, Patches, VolumeFolder
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` simulated abdominal DICOM series with lesion masks (NIfTI) under `root`."""
    from medcoss_ct.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="ct",
            title="CT",
            dims=3,
            size=(16, 192, 192),
            channels=1,
            # spacing in mm, window and stride in slices of that spacing, crop_above in pixels
            loader=VolumeFolder(dicom=("CT",), window=24, stride=12, spacing=1.0, crop_above=320, hounsfield=True),
            intensity=Hounsfield(),
            tokenizer=Patches(key="patch3d-16"),
            demo=write_demo,
        )
    ]
