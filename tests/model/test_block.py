"""The block is timm's: the same names, the same bits forward and backward, and fast to import."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block as TimmBlock

from medcoss_cli.model.block import Block, drop_path


@pytest.mark.parametrize("layer_scale", [None, 1e-3])
@pytest.mark.parametrize("masked", [False, True])
def test_it_computes_what_timm_does_to_the_bit(layer_scale: float | None, masked: bool) -> None:
    torch.manual_seed(0)
    ours = Block(48, 3, 4.0, layer_scale=layer_scale, norm_eps=1e-6)
    torch.manual_seed(0)
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    theirs = TimmBlock(48, 3, 4.0, qkv_bias=True, init_values=layer_scale, norm_layer=norm)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)), "same draws"
    tokens = torch.randn(5, 17, 48)
    mask = (torch.rand(5, 1, 1, 17) > 0.3).logical_or(torch.eye(17)[:1].bool()) if masked else None
    results = [block(tokens, attn_mask=mask) for block in (ours, theirs)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad), name


def test_a_dropped_path_is_dropped_as_in_timm() -> None:
    """Of timm's block both branches of a sample are left out or scaled up; ours does the same, given the same factors."""
    torch.manual_seed(0)
    ours = Block(48, 3, 4.0)
    theirs = TimmBlock(48, 3, 4.0, qkv_bias=True, drop_path=0.4, norm_layer=partial(torch.nn.LayerNorm, eps=1e-5))
    theirs.load_state_dict(ours.state_dict())
    tokens, ones = torch.randn(64, 5, 48), torch.ones(64, 1, 1)
    torch.manual_seed(1)
    expected = theirs(tokens)
    torch.manual_seed(1)
    factors = torch.cat([drop(ones) for drop in (theirs.drop_path1, theirs.drop_path2)], dim=1)[..., 0]
    torch.testing.assert_close(ours(tokens, factors=factors), expected)
    assert torch.equal(factors.unique(), drop_path(torch.rand(500, 1, 2), 0.4).unique())
    assert drop_path(torch.rand(4000, 2, 2), 0.4).eq(0).float().mean().item() == pytest.approx(0.4, abs=0.02)


def test_a_model_is_built_without_the_libraries_that_are_slow_to_import() -> None:
    code = "import sys, medcoss_cli.pretrain, medcoss_cli.finetune, medcoss_cli.embed; "
    code += (
        "print(sorted({'timm', 'torchvision', 'torch._dynamo', 'monai', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
