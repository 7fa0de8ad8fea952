"""Networks of others, each built from plain values: images or volumes (N, C, *size) to one feature a sample (N, D).

The values are the keyword arguments of the builder that `family` names, beside `dims` and `channels`, the axes and channels
it takes. They are kept with a fine-tuned model, so that it is rebuilt without the file it began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from medcoss_cli.randomness import seeded

STAGES = (1, 2, 3, 4)
UNET = "resunet"
"""The family of a residual U-Net, which is not built here: it is the head of a task of masks."""
UNETS = {
    (False, (1, 1, 1, 1)): 10,
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
}
"""Layers of a residual network by its blocks, bottlenecks or not: those that the residual U-Net can have."""


def build(network: Mapping[str, Any]) -> nn.Module:
    """The network with random weights, drawn from torch's global generator."""
    values = {key: value for key, value in network.items() if key not in ("family", "dims")}
    module: nn.Module = BUILDERS[network["family"]](**values)
    return module


def outline(network: Mapping[str, Any]) -> nn.Module:
    """The network without numbers, on the meta device, for its names, shapes and width."""
    try:
        with torch.device("meta"):
            return build(network)
    except RuntimeError:  # an older timm reads numbers while it makes some of its networks
        with seeded(0, "outline"):
            return build(network).to("meta")


def width_of(network: Mapping[str, Any], size: Sequence[int]) -> int:
    """D for inputs of a size, found without computing anything. Raises: ValueError where it does not take them."""
    module, inputs = outline(network).eval(), torch.zeros(1, network["channels"], *size, device="meta")
    try:
        with torch.no_grad():
            feature: Tensor = module(inputs)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__) from error
    if feature.ndim != 2:
        raise ValueError(f"it gives {feature.ndim} axes where one feature a sample is expected")
    return int(feature.shape[1])


def named(name: str, channels: int) -> nn.Module:
    """An architecture of timm without its classifier, pooled as timm pools."""
    import timm

    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    return module


def vision_transformer(
    patch: int, width: int, depth: int, heads: int, hidden: int, side: int, channels: int, scaled: bool, pool: str
) -> nn.Module:
    """A plain ViT of timm; its positions are resized where inputs are not of `side` x `side` pixels."""
    from timm.models.vision_transformer import VisionTransformer

    module: nn.Module = VisionTransformer(
        img_size=side,
        patch_size=patch,
        in_chans=channels,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=hidden / width,
        init_values=1e-5 if scaled else None,
        global_pool=cast(Any, pool),
        dynamic_img_size=True,
    )
    return module


def residual(blocks: Sequence[int], bottleneck: bool, channels: int) -> nn.Module:
    """A plain residual network of images, as in torchvision and timm."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    block = Bottleneck if bottleneck else BasicBlock
    module: nn.Module = ResNet(block, tuple(blocks), in_chans=channels, num_classes=0)
    return module


class _Block(nn.Module):
    """A residual block of volumes: two convolutions of 3, or one between two of 1."""

    def __init__(
        self, channels: int, planes: int, stride: int, *, bottleneck: bool, projected: bool, desd: bool
    ) -> None:
        super().__init__()
        out = 4 * planes if bottleneck else planes
        # kernel, stride and channels of each convolution
        plan = ((1, 1, planes), (3, stride, planes), (1, 1, out)) if bottleneck else ((3, stride, out), (3, 1, out))
        self.desd, self.count, norm = desd, len(plan), "norm" if desd else "bn"
        for number, (kernel, step, width) in enumerate(plan, 1):
            conv = nn.Conv3d(channels, width, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"{norm}{number}", _norm(width, desd))
            channels = width
        first = self.get_submodule("conv1").in_channels
        self.downsample = (
            nn.Sequential(nn.Conv3d(cast(int, first), out, 1, stride, bias=False), _norm(out, desd))
            if projected
            else nn.Identity()
        )
        self.act = _act(desd)

    def forward(self, inputs: Tensor) -> Tensor:
        values, norm = inputs, "norm" if self.desd else "bn"
        for number in range(1, self.count + 1):
            values = self.get_submodule(f"{norm}{number}")(self.get_submodule(f"conv{number}")(values))
            # DeSD's bottleneck has nothing between its first two convolutions but the norm
            if number < self.count and not (self.desd and self.count == 3 and number == 1):
                values = self.act(values)
        return cast(Tensor, self.act(values + self.downsample(inputs)))


class Residual3d(nn.Module):
    """A residual network of volumes.

    Args:
        planes: channels of each of the four stages, before a bottleneck's factor of 4.
        projected: of each stage, whether its first block has a convolution beside.
        desd: as in DeSD: instance norms, leaky ReLU, a stem that halves the plane alone, parts called `norm`. Else batch norms
            called `bn`, ReLU, a stem that halves all axes, as is usual.
    """

    def __init__(
        self,
        stem: int,
        planes: Sequence[int],
        blocks: Sequence[int],
        bottleneck: bool,
        projected: Sequence[bool],
        desd: bool,
        channels: int,
    ) -> None:
        super().__init__()
        self.desd = desd
        self.conv1 = nn.Conv3d(channels, stem, 7, (1, 2, 2) if desd else 2, 3, bias=False)
        self.add_module("norm1" if desd else "bn1", _norm(stem, desd))
        self.act, self.maxpool = _act(desd), nn.MaxPool3d(3, 2, 1)
        width = stem
        for stage in STAGES:
            layers = []
            for number in range(blocks[stage - 1]):
                stride = 2 if stage > 1 and number == 0 else 1
                beside = number == 0 and projected[stage - 1]
                plane = planes[stage - 1]
                layers.append(_Block(width, plane, stride, bottleneck=bottleneck, projected=beside, desd=desd))
                width = 4 * plane if bottleneck else plane
            self.add_module(f"layer{stage}", nn.Sequential(*layers))

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, D, H, W) to (N, width of the last stage)."""
        values = self.get_submodule("norm1" if self.desd else "bn1")(self.conv1(inputs))
        values = self.maxpool(self.act(values))
        for stage in STAGES:
            values = self.get_submodule(f"layer{stage}")(values)
        return cast(Tensor, values.mean((2, 3, 4)))


class Contracting3d(nn.Module):
    """The contracting half of PCRLv2's U-Net of volumes: pairs of convolutions, between them the maximum of 2 x 2 x 2.

    Args:
        widths: channels after each convolution, pair by pair.
    """

    def __init__(self, widths: Sequence[Sequence[int]], channels: int) -> None:
        super().__init__()
        self.names = [f"down_tr{pair[1]}" for pair in widths]
        for name, pair in zip(self.names, widths, strict=True):
            layers = []
            for width in pair:
                parts = {"conv1": nn.Conv3d(channels, width, 3, padding=1), "bn1": nn.BatchNorm3d(width)}
                layer = nn.Sequential()
                for part, module in parts.items():
                    layer.add_module(part, module)
                layer.add_module("activation", nn.ReLU())
                layers.append(layer)
                channels = width
            step = nn.Module()
            step.add_module("ops", nn.Sequential(*layers))
            self.add_module(name, step)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, D, H, W) to (N, width of the last pair)."""
        values = inputs
        for number, name in enumerate(self.names):
            values = values if number == 0 else nn.functional.max_pool3d(values, 2)
            values = self.get_submodule(f"{name}.ops")(values)
        return values.mean((2, 3, 4))


def _norm(width: int, desd: bool) -> nn.Module:
    return nn.InstanceNorm3d(width, affine=True) if desd else nn.BatchNorm3d(width)


def _act(desd: bool) -> nn.Module:
    return nn.LeakyReLU(0.01) if desd else nn.ReLU()


BUILDERS: dict[str, Any] = {
    "timm": named,
    "vit": vision_transformer,
    "resnet": residual,
    "resnet3d": Residual3d,
    "pcrlv2": Contracting3d,
}
