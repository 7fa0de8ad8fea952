"""Heads on features as they come from an encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from medcoss_cli.model.heads import ClassHead, HybridDecoder, MaskDecoder, Side, expect, halvings, taps_of


def accuracy_after(norm: str, *, steps: int = 200) -> float:
    """Of a head trained on features with a large mean each and small deviations, as masked modelling leaves them."""
    torch.manual_seed(0)
    labels = torch.arange(200) % 2
    features = 10 * torch.randn(64) + 0.1 * torch.randn(200, 64)
    features[:, :8] += 0.15 * labels[:, None]
    head = ClassHead(64, 2, layers=1, norm=norm)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for step in range(steps):
        rows = torch.arange(step * 20, step * 20 + 20) % 100
        optimiser.zero_grad()
        F.cross_entropy(head(features[rows]), labels[rows]).backward()
        optimiser.step()
    head.eval()
    return (head(features[100:]).argmax(1) == labels[100:]).float().mean().item()


def test_a_head_on_a_frozen_encoder_learns_from_small_deviations() -> None:
    assert accuracy_after("batch") >= 0.85
    assert accuracy_after("layer") < 0.75, "what it is there for"


@pytest.mark.parametrize(
    "make", [lambda: MaskDecoder(3, 1, 16, 4, halvings((8, 8, 8)), 2), lambda: HybridDecoder(3, 1, 16, 10, 2)]
)
def test_a_decoder_begins_with_what_is_usual(make: Callable[[], MaskDecoder | HybridDecoder]) -> None:
    torch.manual_seed(0)
    decoder = make()

    def found() -> list[float]:
        torch.manual_seed(0)
        inputs, taps = torch.randn(2, 1, 32, 32, 32), [torch.randn(2, 16, 4, 4, 4)] * 3
        with torch.no_grad():
            return decoder.train()(inputs, taps).sigmoid().median(-1).values.mean((0, 2, 3)).tolist()  # type: ignore[no-any-return]

    expect(decoder, [0.2, 0.001])
    assert found() == pytest.approx([0.2, 0.001], rel=0.8)


def test_a_short_edge_is_halved_where_the_others_have_become_as_coarse() -> None:
    assert halvings((16, 16)) == ((2, 2),) * 4
    assert halvings((4, 16, 16)) == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert halvings((1, 4)) == ((1, 2), (1, 2))
    assert taps_of(12, 4) == (4, 7, 10, 12)
    for patch in ((12, 16), (1, 1), None):
        with pytest.raises(ValueError, match="edges are powers of two"):
            halvings(patch)


@pytest.mark.parametrize("patch", [(2, 8, 8), (8, 2, 4), (4, 4, 4)])
def test_masks_come_out_at_full_resolution_whatever_the_patch(patch: tuple[int, ...]) -> None:
    steps = halvings(patch)
    decoder = MaskDecoder(3, 1, 16, 2, steps, 2)
    size = tuple(4 * edge for edge in patch)
    taps = [torch.randn(1, 16, 4, 4, 4) for _ in steps]
    assert decoder(torch.randn(1, 1, *size), taps).shape == (1, 2, *size)


def test_sides_are_monais() -> None:
    """Names, draws and numbers: weights of version 0.1 stay what they are."""
    from monai.networks.blocks.unetr_block import UnetrPrUpBlock

    torch.manual_seed(0)
    ours = Side(3, 16, 8, ((2, 2, 2),) * 3)
    torch.manual_seed(0)
    theirs = UnetrPrUpBlock(3, 16, 8, 2, 3, 1, 2, "instance", conv_block=True, res_block=True)
    assert {n: w.tolist() for n, w in ours.state_dict().items()} == {
        n: w.tolist() for n, w in theirs.state_dict().items()
    }
    tap = torch.randn(1, 16, 2, 2, 2)
    assert torch.equal(ours(tap), theirs(tap))
