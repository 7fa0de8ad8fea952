"""The kit: ready-made parts from which a plugin composes its modality. Importing it imports neither torch nor numpy."""

from medcoss_cli.kit.augment import CropAndFlip, Mirror, Unchanged
from medcoss_cli.kit.decoders import PixelDecoder, WordDecoder
from medcoss_cli.kit.intensity import Colour8, Grey8, Hounsfield, ZScore
from medcoss_cli.kit.loaders import ImageFolder, SignalFolder, TextFolder, VolumeFolder
from medcoss_cli.kit.manifest import Entry, entries
from medcoss_cli.kit.patches import Patches
from medcoss_cli.kit.text import Words

READING = 5
"""What parts of the kit read: raised where a loader or an intensity rule gives other values for the same file. Prepared sets
are then made anew, and what was trained before says so; a release that reads as before leaves it."""

__all__ = [
    "Colour8",
    "CropAndFlip",
    "Entry",
    "Grey8",
    "Hounsfield",
    "ImageFolder",
    "Mirror",
    "Patches",
    "PixelDecoder",
    "SignalFolder",
    "TextFolder",
    "Unchanged",
    "VolumeFolder",
    "WordDecoder",
    "Words",
    "ZScore",
    "entries",
]
