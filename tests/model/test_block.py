"""The block is timm's: the same names, the same bits forward and backward, and fast to import."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from timm.layers import DropPath as TimmDropPath
from timm.models.vision_transformer import Block as TimmBlock

from medcoss_cli.model.block import Block, DropPath


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
    branch = torch.randn(64, 3, 4)
    for training in (True, False):
        torch.manual_seed(1)
        ours = DropPath(0.4).train(training)(branch)
        torch.manual_seed(1)
        theirs = TimmDropPath(0.4).train(training)(branch)
        assert torch.equal(ours, theirs)


def test_a_model_is_built_without_the_libraries_that_are_slow_to_import() -> None:
    code = "import sys, medcoss_cli.pretrain, medcoss_cli.finetune, medcoss_cli.embed; "
    code += (
        "print(sorted({'timm', 'torchvision', 'torch._dynamo', 'monai', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
