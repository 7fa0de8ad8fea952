"""What fine-tuning puts on the encoder: an MLP for classes, a convolutional decoder for masks (appendix A of the paper).

N samples, D width, c classes; *size is (H, W) or (D, H, W).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medcoss_cli.errors import CheckpointError


@dataclass(frozen=True)
class Head:
    """What a kind of task puts on the encoder.

    Args:
        module: takes the pooled feature (N, D); with `blocks`, the inputs (N, C, *size) and a list of hidden states
            (N, D, *grid).
        blocks: after which blocks, counted from 1, hidden states are taken; None: the pooled feature is.
    """

    module: nn.Module
    blocks: tuple[int, ...] | None = None


TAPS = (4, 7, 10)
"""Blocks of a 12-block encoder whose outputs the segmentation decoder sees beside the last (A.2)."""


class ClassHead(nn.Sequential):
    """Pooled features (N, D) to logits (N, c): one layer, or two with LayerNorm and GELU between (A.1).

    Args:
        norm: what comes first. "layer" for images and "none" for texts, as the authors do; "batch" for a frozen
            encoder: features of masked modelling have a large mean and small deviations, which nothing else would
            bring to one scale (He et al. 2022, appendix A.1).
    """

    def __init__(self, width: int, classes: int, *, layers: int, norm: str) -> None:
        parts: list[nn.Module] = []
        if norm == "batch":
            parts.append(nn.BatchNorm1d(width, eps=1e-6, affine=False))
        elif norm == "layer":
            parts.append(nn.LayerNorm(width, eps=1e-6))
        if layers == 2:
            parts += [nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()]
        super().__init__(*parts, nn.Linear(width, classes))


def halvings(patch: Sequence[int] | None) -> tuple[tuple[int, ...], ...]:
    """Strides along the axes, finest first, whose product is the patch.

    Of 4 x 16 x 16 these are (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2). A shorter edge is an axis of coarse voxels (thick
    slices), so it is halved only where the other axes have become as coarse.

    Raises: ValueError for an edge that is no power of two, or for no patch.
    """
    counts = [edge.bit_length() - 1 for edge in patch or ()]
    if max(counts, default=0) < 1 or any(2**count != edge for count, edge in zip(counts, patch or (), strict=True)):
        edges = " x ".join(map(str, patch or ())) or "none"
        raise ValueError(f"the mask decoder takes patches whose edges are powers of two, not {edges}")
    deepest = max(counts)
    return tuple(tuple(2 if deepest - count <= step else 1 for count in counts) for step in range(deepest))


def taps_of(depth: int, count: int) -> tuple[int, ...]:
    """Blocks, counted from 1, whose outputs are used, the last one included: 4, 7, 10, 12 of 12 for 4 halvings.

    Each of `count` halvings of the grid but the last gets a tap, the deepest ones where there are fewer.
    """
    taps = [TAPS[0]] * max(0, count - 1 - len(TAPS)) + list(TAPS[max(0, len(TAPS) - count + 1) :])
    return (*(max(1, round(depth * tap / 12)) for tap in taps), depth)


class Side(nn.Module):
    """UNETR's way of a tap up to a finer grid: a transposed convolution, then pairs of another one and a residual block.

    As MONAI's UnetrPrUpBlock, with names and draws in its order, but with strides of each step's own.

    Args:
        strides: of each step and axis, the coarsest first.
    """

    def __init__(self, dims: int, width: int, features: int, strides: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        from monai.networks.blocks.dynunet_block import UnetResBlock, get_conv_layer

        def up(channels: int, stride: tuple[int, ...]) -> nn.Module:
            layer: nn.Module = get_conv_layer(
                dims, channels, features, kernel_size=stride, stride=stride, conv_only=True, is_transposed=True
            )
            return layer

        self.transp_conv_init = up(width, strides[0])
        self.blocks = nn.ModuleList(
            nn.Sequential(
                up(features, stride),
                UnetResBlock(dims, features, features, kernel_size=3, stride=1, norm_name="instance"),
            )
            for stride in strides[1:]
        )

    def forward(self, tap: Tensor) -> Tensor:
        """(N, D, *grid) to (N, features, *finer)."""
        tap = self.transp_conv_init(tap)
        for block in self.blocks:
            tap = block(tap)
        return tap


class MaskDecoder(nn.Module):
    """UNETR's decoder: encoder features at several depths and the image itself, to logits at full resolution.

    Source: appendix A.2 and Fig. 6; Hatamizadeh et al. 2022. Blocks are MONAI's.

    Args:
        width: D of the encoder.
        features: channels at full resolution, doubled with every halving.
        strides: of each halving and axis, the finest first; the first tap belongs to the finest grid but the image's.
    """

    def __init__(
        self, dims: int, channels: int, width: int, features: int, strides: Sequence[tuple[int, ...]], classes: int
    ) -> None:
        super().__init__()
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock

        common: dict[str, Any] = {"spatial_dims": dims, "kernel_size": 3, "norm_name": "instance", "res_block": True}
        self.image = UnetrBasicBlock(in_channels=channels, out_channels=features, stride=1, **common)
        self.sides = nn.ModuleList(
            Side(dims, width, features * 2**level, tuple(reversed(strides[level:]))) for level in range(1, len(strides))
        )
        widths = [width, *(features * 2**level for level in reversed(range(len(strides))))]
        self.ups = nn.ModuleList(
            UnetrUpBlock(in_channels=a, out_channels=b, upsample_kernel_size=stride, **common)
            for (a, b), stride in zip(itertools.pairwise(widths), reversed(strides), strict=True)
        )
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.out = conv(features, classes, 1)

    def forward(self, inputs: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """Inputs (N, C, *size) and features (N, D, *grid) per tap, the last one deepest: logits (N, c, *size)."""
        skips = [self.image(inputs), *(side(tap) for side, tap in zip(self.sides, hidden, strict=False))]
        merged = hidden[-1]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            merged = up(merged, skip)
        logits: Tensor = self.out(merged)
        return logits


class ResUNet(nn.Module):
    """A residual U-Net: the convolutional network of appendix D alone (Table 7, DeSD).

    It is MONAI's FlexibleUNet, whose residual encoder has the customary names (`layer1.0.conv1.weight`).

    Args:
        depth: layers of the residual encoder: 10, 18, 34 or 50.
    """

    def __init__(self, dims: int, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        from monai.networks.nets.flexible_unet import FlexibleUNet

        self.net = FlexibleUNet(channels, classes, f"resnet{depth}", spatial_dims=dims, is_pad=False)

    def deepest(self, grid: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """What the decoder begins with, from the encoder's coarsest grid (N, c, *grid)."""
        return grid

    def forward(self, inputs: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """As MaskDecoder; *size is padded at the end to multiples of 32."""
        size = inputs.shape[2:]
        padding = [n for side in reversed(size) for n in (0, -side % 32)]
        grids = self.net.encoder(F.pad(inputs, padding))
        grids[-1] = self.deepest(grids[-1], hidden)
        logits: Tensor = self.net.segmentation_head(self.net.decoder(grids, self.net.skip_connect))
        return logits[(slice(None), slice(None), *(slice(0, side) for side in size))]

    def take_cnn(self, weights: Mapping[str, Tensor]) -> str:
        """Start the residual network from other weights, where names and shapes fit; returns what was taken, in words.

        Raises: CheckpointError where nothing fits.
        """
        state = self.net.encoder.state_dict()
        merged = {n: state[n] for n in state}
        count = 0
        for theirs, weight in weights.items():
            name = re.sub(
                r"\bnorm(?=\d\.)", "bn", theirs
            )  # DeSD's norms have no running statistics, but scale and shift
            ending = next(
                (e for e in (name, name.partition(".")[2]) if e in state and state[e].shape == weight.shape), None
            )
            if ending is not None:
                merged[ending] = weight
                count += 1
        if not count:
            raise CheckpointError(
                "no tensor of the file fits the residual network", fix="check head.hybrid.depth, or give another file"
            )
        self.net.encoder.load_state_dict(merged)
        return f"residual network: {count} of {len(state)} tensors taken, {len(weights) - count} left"


class HybridDecoder(ResUNet):
    """A learnable residual U-Net with the frozen encoder's features fused into its deepest grid (appendix D, Fig. 7).

    The figure gives no numbers: features are resized to that grid, concatenated and projected back, as in nnSAM. Of the
    hidden states only the last one is used.
    """

    def __init__(self, dims: int, channels: int, width: int, depth: int, classes: int) -> None:
        super().__init__(dims, channels, depth, classes)
        deepest = 2048 if depth == 50 else 512
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.fuse = conv(deepest + width, deepest, 1)

    def deepest(self, grid: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        mode = "bilinear" if grid.ndim == 4 else "trilinear"
        features = F.interpolate(hidden[-1], grid.shape[2:], mode=mode, align_corners=False)
        fused: Tensor = self.fuse(torch.cat([grid, features], dim=1))
        return fused


def expect(decoder: nn.Module, shares: Sequence[float]) -> None:
    """Let a decoder begin with each class as likely as its share of all voxels, by the bias of its last convolution.

    From one half, hundreds of steps pass until small organs are more than background (Lin et al. 2017, section 3.3).
    """
    last: Any = decoder.net.segmentation_head[0] if isinstance(decoder, ResUNet) else decoder.out
    with torch.no_grad():
        last.bias.copy_(torch.logit(torch.tensor(shares).clamp(1e-4, 0.5)))
