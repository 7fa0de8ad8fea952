"""Samples that an export is verified on: the user's, else those the checkpoint holds, else the plugin's demo set."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medcoss_cli.console import Screen
from medcoss_cli.data.affine import affine_of
from medcoss_cli.data.batches import StoredSamples
from medcoss_cli.data.labelled import LABEL
from medcoss_cli.data.read import encode, listed, read_checked
from medcoss_cli.data.recordings import group_of
from medcoss_cli.errors import DataError, ExportError, UsageError
from medcoss_cli.finetuning.dataset import find_cases
from medcoss_cli.kit.manifest import manifest_of, rows_of
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality, Record

LEAST, MOST = 16, 64


@dataclass(frozen=True)
class VerificationSamples:
    """Inputs as the network sees them (n, C, *size), or ids (n, L); labels and groups where a manifest has labels."""

    inputs: Array
    labels: list[str] | None
    origin: str
    groups: list[str] | None = None


def gather(
    modality: CompleteModality, folder: Path | None, stored: StoredSamples | None, screen: Screen
) -> VerificationSamples:
    """At least 16 samples, repeated where there are fewer. Raises: DataError, UsageError."""
    labels = groups = None
    if folder is not None:
        inputs, labels, groups = _of_folder(modality, folder, screen)
        origin = f"{len(inputs)} samples of a folder"
    elif stored is not None and len(stored.integers):
        first = slice(0, MOST)
        inputs = _decoded(modality, stored.integers[first], stored.scale[first], stored.offset[first])
        origin = f"{len(inputs)} samples that the checkpoint holds"
    elif modality.demo is not None:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "demo"
            modality.demo(place, LEAST, 0)
            inputs, *_ = _of_folder(modality, place, screen)
        origin = f"{len(inputs)} samples of the plugin's demo set"
    else:
        raise UsageError(
            f"the {modality.name} plugin brings no demo set to verify the export with", fix="give --samples DIR"
        )
    enough = np.resize(np.arange(len(inputs)), max(LEAST, len(inputs)))
    return VerificationSamples(inputs[enough], labels, origin, groups)


def of_size(inputs: Array, size: tuple[int, ...]) -> Array:
    """The same samples (n, C, *size) at another size: cut, or repeated at the end."""
    missing = [(0, 0), (0, 0), *((0, max(0, s - n)) for s, n in zip(size, inputs.shape[2:], strict=True))]
    wrapped = np.pad(inputs, missing, mode="wrap")
    return np.ascontiguousarray(wrapped[(slice(None), slice(None), *(slice(0, s) for s in size))])


def rule_of(modality: CompleteModality) -> dict[str, Any] | None:
    """How stored integers become inputs, as a factor and a shift; None for words.

    Raises: ExportError for a rule that is not of this form, which nothing but its plugin could carry out.
    """
    if modality.text_tokenizer is not None:
        return None
    rule, intensity = affine_of(modality), modality.intensity
    if rule is None:
        raise ExportError(
            f"the intensity rule of {modality.name} is no factor and shift of what is stored",
            fix="report to its plugin's author that `Intensity.decode` has to be (integers * scale + offset) * a + b",
        )
    numbers = {k: v for k, v in vars(intensity).items() if isinstance(v, int | float | bool | str)}
    return {"rule": type(intensity).__name__, **numbers, "factor": rule[0], "shift": rule[1]}


def _of_folder(
    modality: CompleteModality, folder: Path, screen: Screen
) -> tuple[Array, list[str] | None, list[str] | None]:
    """Up to 64 samples, evenly taken; with labels and groups where the folder's manifest has labels for all."""
    labelled = _labelled(modality, folder, screen)
    unlabelled = [(item, None) for item in listed(modality, folder, "all") if isinstance(item, Record)]
    candidates = labelled or unlabelled
    decoded, labels, groups = [], [], list[str]()
    for place in np.linspace(0, len(candidates) - 1, min(MOST, len(candidates))).round().astype(int):
        record, label = candidates[place]
        try:
            integers, scale, offset = encode(modality, read_checked(modality, record))
        except DataError:
            continue  # broken files are for `medcoss data check`
        decoded.append(
            _decoded(modality, torch.from_numpy(integers)[None], torch.tensor([scale]), torch.tensor([offset]))
        )
        labels.append(label)
        groups.append(group_of(record))
    if not decoded:
        raise DataError(f"no readable data for {modality.title}", where=folder)
    return np.concatenate(decoded), *(([str(label) for label in labels], groups) if labelled else (None, None))


def _labelled(modality: CompleteModality, folder: Path, screen: Screen) -> list[tuple[Record, str | None]]:
    """Records with labels, where the folder has a manifest with a column of them."""
    manifest = manifest_of(folder)
    if manifest is None or not any("label" in row for _, row in rows_of(manifest)):
        return []
    cases, _ = find_cases(modality, folder, LABEL, screen=screen)
    return [(case.record, case.label) for case in cases if case.record is not None]


def _decoded(modality: CompleteModality, integers: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> Array:
    inputs: Array = modality.intensity.decode(integers, scale, offset).numpy()
    return inputs
