"""MRI: DICOM series, NIfTI, NRRD or MetaImage volumes of any sequence, cut into windows of slices."""

from pathlib import Path

from medcoss_cli.kit import Patches, VolumeFolder, ZScore
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` simulated T1-weighted head volumes with tumour masks (both NIfTI) under `root`."""
    from medcoss_mri.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="mri",
            title="MRI",
            dims=3,
            size=(16, 192, 192),
            channels=1,
            # slices are kept as they were scanned (no resampling, no turning); a tenth is cut off at either end of the volume
            loader=VolumeFolder(dicom=("MR",), window=16, stride=8, spacing=None, trim=0.1, slices="acquired"),
            intensity=ZScore(),
            tokenizer=Patches(key="patch3d-16"),
            demo=write_demo,
        )
    ]
