"""What is done to predicted labels after the network."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SMALL = 50
"""Voxels; a tumour component of at most so many is removed."""


def largest_organ(labels: Array, organ: int = 1, tumour: int = 2) -> Array:
    """The largest organ alone, tumours only inside it, and no tiny ones (LiTS).

    Args:
        labels: (D, H, W) or (H, W), 0 is background; every other label counts as organ, the tumour too.
        organ: its label.
        tumour: its label.

    Returns: the same shape and type; a tumour that is removed becomes organ. Neighbours touch by a face or an edge (18 in
    space). Of two components as large the first in scanning order is kept.
    """
    from scipy import ndimage

    touching = ndimage.generate_binary_structure(labels.ndim, 2)
    parts, count = ndimage.label(labels > 0, touching)
    if count == 0:
        return labels
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    inside = parts == sizes.argmax()
    tumours, _ = ndimage.label((labels == tumour) & inside, touching)
    large = np.bincount(tumours.ravel()) > SMALL
    large[0] = False
    cleaned: Array = np.where(inside, organ, 0).astype(labels.dtype)
    cleaned[large[tumours]] = tumour
    return cleaned
