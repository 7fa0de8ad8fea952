"""Augmentation for fine-tuning, the authors' values; MONAI and torchvision do the work.

Every result is a function of its key: libraries that draw from global generators are seeded inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from medcoss_cli.randomness import seed_of, seeded

Key = tuple[int | str, ...]
Augment = Callable[[Tensor, Key], Tensor]
"""A batch of inputs and the key of its randomness to the same, augmented."""


def of_batches(name: str | None) -> Augment | None:
    """What the recipe's `input.augment` names, for samples without masks; None is the modality's own augmentation."""
    augmentations: dict[str, Augment] = {
        "none": nothing,
        "colour": colour,
        "elastic": elastic_images,
    }
    return None if name in (None, "modality") else augmentations[name]


def nothing(inputs: Tensor, key: Key) -> Tensor:
    """The same."""
    return inputs


def colour(inputs: Tensor, key: Key) -> Tensor:
    """Images (N, C, H, W) in [0, 1]: colour jitter, grey, blur, horizontal flip (ChestXR, NCH)."""
    transform = _colour()
    if inputs.shape[1] == 1:
        inputs = inputs.expand(-1, 3, -1, -1)
    augmented = []
    for place, image in enumerate(inputs):
        with seeded(*key, "view", place):
            augmented.append(transform(image))
    return torch.stack(augmented)


@cache
def _colour() -> Any:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], p=0.5),
            v2.RandomHorizontalFlip(0.5),
        ]
    )


def elastic(image: Tensor, labels: Tensor, key: Key) -> tuple[Tensor, Tensor]:
    """An image (C, *size) and its labels (1, *size): turned, scaled, bent, mirrored, then brightness, gamma, noise, blur.

    Beyond the border lies 0, in both.
    """
    transform = _elastic(image.ndim - 1)
    transform.set_random_state(seed=seed_of(*key, "view") % 2**32)
    transformed = transform({"image": image, "labels": labels})
    return transformed["image"].as_tensor(), transformed["labels"].as_tensor().to(labels.dtype)


def elastic_images(inputs: Tensor, key: Key) -> Tensor:
    """The same for a batch (N, C, *size) without masks (RICORD)."""
    blank = torch.zeros_like(inputs[0, :1])
    return torch.stack([elastic(image, blank, (*key, place))[0] for place, image in enumerate(inputs)])


@cache
def _elastic(dims: int) -> Any:
    mt: Any = import_module("monai.transforms")  # MONAI does not say what it exports

    keys, image = ["image", "labels"], ["image"]
    modes = ("bilinear", "nearest")
    turn = 15 / 180 * torch.pi
    # std of noise: uniform from 0 to what batchgenerators, the authors' library, calls a variance and takes for the std
    if dims == 2:
        shape = [
            mt.RandAffined(keys, prob=0.1, rotate_range=turn, mode=modes, padding_mode="zeros"),
            mt.RandAffined(keys, prob=0.1, scale_range=(-0.25, 0.25), mode=modes, padding_mode="zeros"),
            mt.Rand2DElasticd(keys, (24, 24), (0, 1.5), prob=0.1, mode=modes, padding_mode="zeros"),
        ]
        shade = [
            mt.RandScaleIntensityd(image, (-0.3, 0.5), prob=0.15, channel_wise=True),
            mt.RandAdjustContrastd(image, prob=0.15, gamma=(0.5, 2.0), invert_image=True),
            mt.RandGaussianNoised(image, prob=0.15, std=0.05),
            mt.RandGaussianSmoothd(image, (0.5, 1.5), (0.5, 1.5), prob=0.15),
        ]
    else:
        shape = [
            mt.RandAffined(keys, prob=0.2, rotate_range=(turn, turn, turn), mode=modes, padding_mode="zeros"),
            mt.RandAffined(keys, prob=0.2, scale_range=((-0.15, 0.25),) * 3, mode=modes, padding_mode="zeros"),
            mt.Rand3DElasticd(keys, (9, 13), (0, 900), prob=0.2, mode=modes, padding_mode="zeros"),
        ]
        shade = [
            mt.RandGaussianNoised(image, prob=0.1, std=0.1),
            mt.RandGaussianSmoothd(image, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.2),
            mt.RandScaleIntensityd(image, (-0.25, 0.25), prob=0.15),
            mt.RandStdShiftIntensityd(image, (-0.1, 0.1), prob=0.15),
            mt.RandScaleIntensityFixedMeand(image, (-0.25, 0.25), preserve_range=True, prob=0.15),  # contrast
            mt.RandSimulateLowResolutiond(image, prob=0.25, zoom_range=(0.5, 1.0)),
            mt.RandAdjustContrastd(image, prob=0.15, gamma=(0.7, 1.5), retain_stats=True),
        ]
    mirror = [mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(dims)]
    return mt.Compose([*shape, *shade, *mirror]).flatten()
