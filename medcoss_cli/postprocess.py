"""What is done to predicted labels after the network."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SMALL = 50
"""Voxels; a tumour component of at most so many is removed."""


def largest_organ(labels: Array) -> Array:
    """The largest organ alone, tumours only inside it, and no tiny ones (LiTS; METHOD, section 6).

    Args:
        labels: (D, H, W) or (H, W): 1 the organ, 2 the tumour, which counts as organ too.

    Returns: the same shape; a tumour that is removed becomes organ. Neighbours touch by a face or an edge (18 in space).
    """
    from scipy import ndimage

    touching = ndimage.generate_binary_structure(labels.ndim, 2)
    parts, count = ndimage.label(labels >= 1, touching)
    if count == 0:
        return labels
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    organ = parts == sizes.argmax()
    tumours, _ = ndimage.label((labels == 2) & organ, touching)
    large = np.bincount(tumours.ravel()) > SMALL
    large[0] = False
    cleaned: Array = organ.astype(labels.dtype)
    cleaned[large[tumours]] = 2
    return cleaned
