"""Networks of others compute what theirs do."""

from __future__ import annotations

from typing import Any

import monai
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medcoss_cli.model import foreign
from medcoss_cli.randomness import seeded

VOLUMES: dict[str, Any] = {
    "family": "resnet3d",
    "dims": 3,
    "channels": 1,
    "stem": 64,
    "planes": [64, 128, 256, 512],
    "projected": [True, True, True, True],
    "bottleneck": True,
    "blocks": [3, 4, 6, 3],
}


def randomised(network: nn.Module) -> nn.Module:
    """With norms that do something."""
    with seeded(0, "norms"), torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name or "weight" in name else -0.5))
    return network.eval()


@torch.no_grad()
def test_a_residual_network_of_volumes_is_monais() -> None:
    theirs = randomised(
        monai.networks.nets.resnet50(n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=False)
    )
    ours = foreign.build(VOLUMES | {"desd": False}).eval()
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(2, 1, 33, 40, 48)
    torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)


def desd(weights: dict[str, Tensor], inputs: Tensor, blocks: list[int]) -> Tensor:
    """DeSD's forward pass, written down once more from its names."""

    def conv(name: str, values: Tensor, **how: Any) -> Tensor:
        return F.conv3d(values, weights[f"{name}.weight"], **how)

    def norm(name: str, values: Tensor) -> Tensor:
        return F.instance_norm(values, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])

    values = F.leaky_relu(norm("norm1", conv("conv1", inputs, stride=(1, 2, 2), padding=3)), 0.01)
    values = F.max_pool3d(values, 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for number in range(count):
            name, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            beside = values
            if f"{name}.downsample.0.weight" in weights:
                beside = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", values, stride=stride))
            if f"{name}.conv3.weight" in weights:
                values = norm(f"{name}.norm1", conv(f"{name}.conv1", values))
                values = norm(f"{name}.norm2", conv(f"{name}.conv2", values, stride=stride, padding=1))
                values = norm(f"{name}.norm3", conv(f"{name}.conv3", F.leaky_relu(values, 0.01)))
            else:
                values = norm(f"{name}.norm1", conv(f"{name}.conv1", values, stride=stride, padding=1))
                values = norm(f"{name}.norm2", conv(f"{name}.conv2", F.leaky_relu(values, 0.01), padding=1))
            values = F.leaky_relu(values + beside, 0.01)
    return values.flatten(2).mean(2)


@torch.no_grad()
@pytest.mark.parametrize(("bottleneck", "blocks"), [(True, [1, 2, 1, 1]), (False, [2, 2, 2, 2])])
def test_desds_network_of_volumes(bottleneck: bool, blocks: list[int]) -> None:
    plan = {"bottleneck": bottleneck, "blocks": blocks, "planes": [8, 16, 32, 64], "stem": 8, "desd": True}
    ours = randomised(foreign.build(VOLUMES | plan))
    inputs = torch.randn(2, 1, 32, 64, 64)
    wanted = desd(ours.state_dict(), inputs, blocks)
    torch.testing.assert_close(ours(inputs), wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 1e-2


@torch.no_grad()
def test_pcrlv2s_network_of_volumes() -> None:
    widths = [[4, 8], [8, 16], [16, 32], [32, 64]]
    ours = randomised(foreign.build({"family": "pcrlv2", "dims": 3, "channels": 1, "widths": widths}))
    weights, inputs = ours.state_dict(), torch.randn(2, 1, 16, 24, 24)
    values = inputs
    for number, name in enumerate(f"down_tr{pair[1]}" for pair in widths):
        values = values if number == 0 else F.max_pool3d(values, 2)
        for half in (0, 1):
            at = f"{name}.ops.{half}"
            values = F.conv3d(values, weights[f"{at}.conv1.weight"], weights[f"{at}.conv1.bias"], padding=1)
            stats = [weights[f"{at}.bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
            values = F.relu(F.batch_norm(values, *stats))
    torch.testing.assert_close(ours(inputs), values.flatten(2).mean(2), rtol=1e-5, atol=1e-5)


def test_the_feature_is_known_before_anything_is_computed() -> None:
    assert foreign.width_of(VOLUMES | {"desd": True}, [64, 192, 192]) == 2048
    swin = {"family": "timm", "dims": 2, "channels": 3, "name": "swin_tiny_patch4_window7_224"}
    assert foreign.width_of(swin, [224, 224]) == 768
    with pytest.raises(ValueError, match="256"):
        foreign.width_of(swin, [256, 256])
