"""Masks as training sees them: patches of images and volumes, Dice and cross-entropy on independent channels; torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcoss_cli.data.segmented import SegmentedSet, Values, levels_of, targets_of
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.model.heads import expect
from medcoss_cli.model.sliding_window import predict_labels
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.randomness import generator
from medcoss_cli.tasks import Scores
from medcoss_cli.tasks.augmentation import Key
from medcoss_cli.tasks.samples import order

Augment = Callable[[Tensor, Tensor, Key], tuple[Tensor, Tensor]]


class MaskData:
    """Training and validation cases with their masks; see `TaskData`.

    Args:
        size: of a patch; whole images have it already.
        augment: of an image and its labels alike; None: as they are.
        predict: overlap and pad of the recipe; validation never mirrors.
        foreground: share of patches that are cut around a voxel of a class.

    Of each class, `shares` is its part of the training voxels.
    """

    def __init__(
        self,
        modality: CompleteModality,
        prepared: SegmentedSet,
        values: Values,
        size: tuple[int, ...],
        augment: Augment | None,
        predict: Mapping[str, Any],
        *,
        balance: bool,
        foreground: float = 0.5,
    ) -> None:
        self.modality, self.prepared, self.values, self.size, self.augment = modality, prepared, values, size, augment
        self.foreground = foreground
        self.predict = {key: predict[key] for key in ("overlap", "pad")}
        self.train, self.val = prepared.rows("train"), prepared.rows("val")
        self.cases, self.data_hash = len(self.train), prepared.data_hash
        counts = [prepared.index["cases"][row]["voxels"] for row in self.train]
        voxels = np.array(counts, dtype=float).reshape(self.cases, len(values)).sum(0)  # 0 where no case is left
        total = sum(prepared.mask(row).size for row in self.train)
        inside = targets_of(np.arange(1, len(values) + 1), values)  # of each class, the labels that are it
        self.shares = [float(voxels[labels].sum()) / max(1, total) for labels in inside]
        rare = voxels.max() / np.maximum(voxels, 1) if balance else np.ones(len(values))
        self.weight = torch.tensor(rare, dtype=torch.float32).clamp(max=20)

    def decoded(self, row: int, device: torch.device, part: tuple[slice, ...] = ()) -> Tensor:
        """An image (C, *size), or a part of it, as the network sees it."""
        integers, scale, offset = self.prepared.image(row)
        stored = np.array(integers[(slice(None), *part)])
        return _decode(self.modality, stored, scale, offset, device)

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Patches (N, C, *size) and labels (N, 1, *size) uint8."""
        images, labels = [], []
        for place, row in enumerate(self.train[order(seed, size, step, self.cases)]):
            part = self.crop(int(row), (seed, step, place))
            image, mask = (
                self.decoded(int(row), device, part),
                torch.from_numpy(np.array(self.prepared.mask(int(row))[part])),
            )
            missing = [
                n for s, side in zip(reversed(self.size), reversed(mask.shape), strict=True) for n in (0, s - side)
            ]
            image, mask = F.pad(image, missing), F.pad(mask, missing).to(device)[None]
            if self.augment is not None:
                image, mask = self.augment(image, mask, (seed, step, place))
            images.append(image)
            labels.append(mask)
        return torch.stack(images), torch.stack(labels)

    def crop(self, row: int, key: Key) -> tuple[slice, ...]:
        """Where a patch is cut: around a voxel of a class chosen at random, or anywhere."""
        shape, points = self.prepared.mask(row).shape, self.prepared.points(row)
        draws = torch.rand(3 + len(shape), generator=generator(*key, "crop")).tolist()
        room = [max(0, n - s) for n, s in zip(shape, self.size, strict=True)]
        first = [round(draw * free) for draw, free in zip(draws[3:], room, strict=True)]
        if draws[0] < self.foreground and len(points):
            present = np.unique(points[:, 0])
            class_points = points[points[:, 0] == present[int(draws[1] * len(present))]]
            middle = class_points[int(draws[2] * len(class_points)), 1:]
            first = [min(max(0, int(m) - s // 2), free) for m, s, free in zip(middle, self.size, room, strict=True)]
        return tuple(slice(f, f + min(s, n)) for f, s, n in zip(first, self.size, shape, strict=True))

    def initialise(self, head: nn.Module) -> None:
        """Each class begins as likely as its share of the training voxels."""
        expect(head, self.shares)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `masks_loss`."""
        return masks_loss(logits, targets, self.values, self.weight)

    @torch.no_grad()
    def validate(self, network: TaskNetwork, device: torch.device) -> Scores | None:
        """Mean Dice over classes and cases on the network's grid; a class that is neither there nor found counts 1."""
        if not len(self.val):
            return None
        run, cpu = network.on(device), torch.device("cpu")
        dices: dict[str, list[float]] = {name: [] for name in self.values}
        for row in map(int, self.val):
            truth = np.array(self.prepared.mask(row))
            labels = predict_labels(
                run,
                lambda first, end, row=row: self.decoded(row, cpu, (slice(first, end),)).numpy(),  # type: ignore[misc]
                truth.shape,
                self.size,
                levels=levels_of(self.values),
                mirror=False,
                **self.predict,
            )
            pairs = zip(targets_of(labels, self.values), targets_of(truth, self.values), strict=True)
            for name, (predicted, expected) in zip(dices, pairs, strict=True):
                overlap, total = int((predicted & expected).sum()), int(predicted.sum() + expected.sum())
                dices[name].append(2 * overlap / total if total else 1.0)
        scores = {f"dice_{name}": float(np.mean(values)) for name, values in dices.items()}
        return {"dice": float(np.mean(list(scores.values()))), **scores}


def masks_loss(logits: Tensor, labels: Tensor, values: Values, weight: Tensor) -> Tensor:
    """Dice + binary cross-entropy over independent channels, 1 : 1 (Table 5).

    Args:
        logits: (N, c, *size).
        labels: (N, 1, *size) uint8.
        weight: (c,), of the positive voxels of each class.

    Returns: a scalar; Dice is 1 - 2 sum(p g) / (sum p + sum g + 1), the mean over samples and channels.
    """
    from monai.losses.dice import DiceLoss

    truth = torch.stack(targets_of(labels[:, 0], values), dim=1).float()
    weight = weight.to(logits.device).view(-1, *(1,) * (logits.ndim - 2))
    entropy = F.binary_cross_entropy_with_logits(logits.float(), truth, pos_weight=weight)
    dice: Tensor = DiceLoss(sigmoid=True, smooth_nr=0.0, smooth_dr=1.0)(logits.float(), truth)
    return dice + entropy


def _decode(modality: CompleteModality, integers: Any, scale: float, offset: float, device: torch.device) -> Tensor:
    stored = torch.from_numpy(integers).to(device)[None]
    return modality.intensity.decode(
        stored, torch.tensor([scale], device=device), torch.tensor([offset], device=device)
    )[0]
