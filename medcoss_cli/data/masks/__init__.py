"""Masks: read from the user's files, written back on the grid of the image they belong to, and drawn over it.

Labels are whole numbers, 0 is the background. Arrays are (H, W), or (D, H, W) with axes turned to L, P, S as
`VolumeFolder.whole()` turns images; files keep the axes they have.
"""

from medcoss_cli.data.masks.dicom import files_of, write_segmentation
from medcoss_cli.data.masks.picture import overlay, portrait
from medcoss_cli.data.masks.placed import read_placed
from medcoss_cli.data.masks.read import check_on, grid_of, read_mask
from medcoss_cli.data.masks.write import write_png, write_volume

__all__ = [
    "check_on",
    "files_of",
    "grid_of",
    "overlay",
    "portrait",
    "read_mask",
    "read_placed",
    "write_png",
    "write_segmentation",
    "write_volume",
]
