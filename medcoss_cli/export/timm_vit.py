"""A 2D encoder as weights of timm's own VisionTransformer, which then computes the same features.

timm's nearest relative is the image tower of CLIP: a norm before the blocks, LayerNorm's epsilon 1e-5. Three things differ.
Its patches have no bias: that is added to the positions. It has positions for patches alone (no_embed_class) and no last
norm (final_norm), as here. But its first norm also takes the cls token, which here has none: see `_before_norm`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from medcoss_cli.errors import ExportError
from medcoss_cli.kit.patch_networks import PatchEmbedding
from medcoss_cli.model.multimodal import Model

NAME = "vit_base_patch16_clip_224"
EPSILON = 1e-5  # of every norm of that model


def arguments(model: Model, modality: str) -> dict[str, Any]:
    """What `timm.create_model(NAME, ...)` is given. Raises: ExportError for what is no image of square patches."""
    known, shape = model.modalities[modality], model.shape
    spec = known.tokenizer.spec
    square = known.dims == 2 and spec.patch is not None and len(set(spec.patch)) == 1
    if spec.patch is None or not square or spec.kind != "patches" or spec.channels != 3 or spec.norm_eps != EPSILON:
        raise ExportError(
            f"{modality} cannot be a ViT of timm, which takes images in square patches of three channels",
            fix="leave --format out: ONNX takes every modality",
        )
    return {
        "img_size": known.size,
        "patch_size": spec.patch[0],
        "embed_dim": shape.width,
        "depth": shape.depth,
        "num_heads": shape.heads,
        "mlp_ratio": shape.mlp_ratio,
        **({"init_values": 1.0} if shape.layer_scale is not None else {}),
        "no_embed_class": True,
        "final_norm": False,
        "global_pool": "avg",
        "pool_include_prefix": True,
        "num_classes": shape.width,
    }


@torch.no_grad()
def weights(model: Model, modality: str) -> tuple[dict[str, Tensor], float]:
    """timm's names and tensors, and by how much the cls token's features are lower there, in every value alike.

    The head is the identity with that much, over the number of tokens, as its bias: the output is the pooled feature.
    """
    tokenizer = cast(PatchEmbedding, model.tokenizer(modality))  # of the kind "patches"
    encoder, width, norm, linear = model.encoder, model.shape.width, tokenizer.norm, tokenizer.projection
    places = tokenizer.positions(tokenizer.grid(model.modalities[modality].size), linear.weight.device)
    token, lower = _before_norm(encoder.cls[0, 0], norm.weight, norm.bias)
    ours = {
        "cls_token": token[None, None],
        "pos_embed": (places + linear.bias)[None],
        "patch_embed.proj.weight": linear.weight.reshape(width, *tokenizer.patch, tokenizer.spec.channels).movedim(
            -1, 1
        ),
        "norm_pre.weight": norm.weight,
        "norm_pre.bias": norm.bias,
        **{f"blocks.{name}": tensor for name, tensor in encoder.blocks.state_dict().items()},
        "head.weight": torch.eye(width),
        "head.bias": torch.full((width,), lower / (1 + len(places))),
    }
    return {name: tensor.detach().cpu().float().contiguous().clone() for name, tensor in ours.items()}, lower


def _before_norm(cls: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, float]:
    """A vector that LayerNorm turns into the cls token less a constant, and the constant.

    What LayerNorm gives before its weight has mean 0 and a variance below 1. The mean is brought about by the constant,
    which no block sees, since each begins with a norm; any variance below 1 by the length of the vector, against epsilon.
    Raises: ExportError where the variance is larger.
    """
    cls, weight, bias = cls.double(), weight.double(), bias.double()
    constant = ((cls - bias) / weight).mean() / (1 / weight).mean()
    wanted = (cls - constant - bias) / weight
    variance = wanted.square().mean()
    if not variance < 1:
        raise ExportError(
            "the cls token of this encoder is larger than timm's first norm lets through", fix="leave --format out"
        )
    return (wanted * (EPSILON / (1 - variance)).sqrt()).float(), float(constant)
