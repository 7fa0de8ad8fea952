"""Patches with other edges along other axes, from the key to pixels and masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medcoss_cli.errors import RecipeError
from medcoss_cli.kit import Patches, PixelDecoder
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.finetuned import FinetunedNetwork
from medcoss_cli.model.heads import Head, MaskDecoder, halvings, taps_of
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.registry.configure import fit
from medcoss_cli.registry.discovery import load_modality

SHAPE = EncoderShape(width=48, depth=2, heads=2)


@pytest.fixture
def thick() -> CompleteModality:
    """Volumes of thick slices: 8 x 32 x 32 in patches of 2 x 8 x 8."""
    modality = fit(load_modality("ct"), tokenizer="patch3d-2x8x8", size=(8, 32, 32))
    return replace(modality, decoder=PixelDecoder(width=32, depth=1, heads=2))


def test_the_pretext_works_on_them(thick: CompleteModality) -> None:
    model = Model(SHAPE, seed=0)
    model.add(thick)
    inputs = torch.randn(2, 1, 8, 32, 32)
    batch = Batch("ct", True, inputs, None, slice(0, 2), 2, (0, "test"))
    value, count = model.masked_loss(batch)
    assert torch.isfinite(value)
    assert count == 2 * 48  # three quarters of 4 x 4 x 4 patches
    assert [picture.shape for picture in model.reconstruct(batch)] == [inputs.shape] * 2


def test_masks_of_them_are_as_large_as_the_volume(thick: CompleteModality) -> None:
    steps = halvings(thick.tokenizer.spec.patch)
    head = Head(MaskDecoder(3, 1, 48, 4, steps, 2), taps_of(2, len(steps)))
    network = FinetunedNetwork(thick, SHAPE, head)
    assert network(torch.randn(1, 1, 8, 32, 32)).shape == (1, 2, 8, 32, 32)


def test_a_key_of_other_dimensions_is_refused() -> None:
    with pytest.raises(RecipeError, match="'patch3d-2x8x8' has 3 dimensions where 2 are needed"):
        Patches("patch2d-16").with_key("patch3d-2x8x8")
