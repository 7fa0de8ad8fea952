"""Arrays and tensors as a user gives them: turned into samples, or refused where axes, channels or unit cannot be right.

A file says what its values are; an array does not, and a wrong unit gives features all the same. What can be seen to be
wrong is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medcoss_cli.data.read import checked
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.registry.discovery import load_modality

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def sample_of(modality: CompleteModality, values: Any, spacing: Sequence[float] | None, where: str) -> Sample:
    """One array, with or without its axis of channels, as a sample.

    Args:
        values: (*size) or (C, *size), colour also (*size, C), in the unit that the modality's files are read in.
        spacing: mm per axis of *size; None: unknown.
        where: what errors name.

    Raises: DataError for what cannot be right.
    """
    if modality.text_tokenizer is not None:
        raise DataError(f"an array where {modality.title} is text", where=where, fix="give strings, or paths")
    array = _with_channels(modality, as_array(values, where), where)
    if not array.size:
        raise DataError(f"an array of shape {array.shape}, which is empty", where=where, fix="leave it out")
    _check_finite(array, where)
    low, high = float(array.min()), float(array.max())
    # the plugin's own rule: a task may normalise in its own way, the unit of the files stays
    misfit = getattr(load_modality(modality.name).intensity, "misfit", None)
    if misfit is not None and (advice := misfit(low, high)) is not None:
        expected, fix = advice
        raise DataError(f"values from {low:g} to {high:g} where {expected} are expected", where=where, fix=fix)
    steps = None if spacing is None else tuple(float(step) for step in spacing)
    if steps is not None and len(steps) != modality.dims:
        raise UsageError(f"a spacing of {len(steps)} numbers where the array has {modality.dims} axes", where=where)
    return checked(modality, Sample(array, spacing=steps), where)


def as_array(values: Any, where: str) -> Array:
    """numpy's view of an array or tensor. Raises: DataError where it holds no numbers."""
    detached = values.detach().cpu() if hasattr(values, "detach") else values
    try:
        array: Array = np.asarray(detached)
    except (TypeError, ValueError) as error:
        raise DataError(f"{type(values).__name__} is no array", where=where, fix="give a numpy array") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array of {array.dtype} where numbers are expected", where=where, fix="give a numpy array")
    return array


def _with_channels(modality: CompleteModality, array: Array, where: str) -> Array:
    """(C, *size). Raises: DataError for another number of axes or channels."""
    dims, channels, shape = modality.dims, modality.channels, array.shape
    if len(shape) == dims and channels == 1:
        return array[None]
    if len(shape) == dims + 1 and shape[0] == channels:
        return array
    if len(shape) == dims + 1 and shape[-1] == channels and channels > 1:
        return np.ascontiguousarray(np.moveaxis(array, -1, 0))
    axes = ", ".join(AXES[dims])
    expected = f"({axes})" if channels == 1 else f"({channels}, {axes})"
    mismatch = f"an array of shape {shape} where {modality.title} is {expected}"
    if len(shape) == dims + 1 and (shape[-1] in (3, 4) or shape[0] in (3, 4)):
        last = shape[-1] in (3, 4)
        colour = f"{shape[-1] if last else shape[0]} channels"
        take = "array[..., :3]" if channels == 3 else f"array.mean({-1 if last else 0})"
        raise DataError(f"{mismatch}: {colour} where {channels} is expected", where=where, fix=f"give {take}")
    if len(shape) == dims and channels > 1:
        raise DataError(f"{mismatch}: one channel where {channels} are expected", where=where, fix="give all channels")
    if len(shape) == dims + 1:
        raise DataError(mismatch, where=where, fix="for several samples give a list of arrays, as in list(array)")
    raise DataError(
        mismatch, where=where, fix=f"give one sample with {dims} axes, or with {dims + 1}, its channels first"
    )


def _check_finite(array: Array, where: str) -> None:
    count = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
    if count:
        fix = "replace them, as in numpy.nan_to_num(array, nan=array[numpy.isfinite(array)].min())"
        raise DataError(f"{count} of {array.size} values are NaN or infinite", where=where, fix=fix)


def inputs_of(modality: CompleteModality, tensor: Any) -> Array:
    """A batch as the encoder sees it, (N, C, *size) or ids (N, L). Raises: UsageError for another shape or range."""
    where = ".features"
    array = as_array(tensor, where)
    size = tuple(modality.size)
    expected = size if modality.text_tokenizer is not None else (modality.channels, *size)
    if array.ndim != len(expected) + 1 or array.shape[1:] != expected:
        text = f"(N, {', '.join(map(str, expected))})"
        fix = "give arrays or files to .embed, which brings them to the size, channels and range of the encoder"
        raise UsageError(f"a tensor of shape {array.shape} where {text} is expected", where=where, fix=fix)
    if modality.text_tokenizer is not None:
        if array.dtype.kind not in "iu":
            raise UsageError(f"a tensor of {array.dtype} where ids are expected", where=where, fix="give int64")
        return array.astype(np.int64)
    _check_finite(array, where)
    bounds = getattr(modality.intensity, "seen", None)
    if bounds is not None and array.size:
        low, high, slack = float(array.min()), float(array.max()), 1e-3 * math.dist(bounds[:1], bounds[1:])
        if low < bounds[0] - slack or high > bounds[1] + slack:
            raise UsageError(
                f"values from {low:g} to {high:g} where the encoder sees {bounds[0]:g} to {bounds[1]:g}",
                where=where,
                fix="give arrays or files to .embed, which brings them to that range",
            )
    return array.astype(np.float32)
