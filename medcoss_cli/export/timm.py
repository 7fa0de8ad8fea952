"""A 2D encoder as a safetensors file that timm's own VisionTransformer loads, and then computes the same features.

timm's nearest relative is the image tower of CLIP: a norm before the blocks, LayerNorm's epsilon 1e-5. Three things differ.
Its patches have no bias: that is added to the positions. It has positions for patches alone (no_embed_class) and no last
norm (final_norm), as here. But its first norm also takes the cls token, which here has none: see `_before_norm`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import save
from torch import Tensor

from medcoss_cli.errors import ExportError
from medcoss_cli.export import Format, metadata
from medcoss_cli.export.metadata import Description
from medcoss_cli.export.target import Exportable
from medcoss_cli.export.verify import Run
from medcoss_cli.kit.patch_networks import PatchEmbedding
from medcoss_cli.model.outputs import Array
from medcoss_cli.store import atomic

NAME = "vit_base_patch16_clip_224"
EPSILON = 1e-5
"""Of every norm of that model."""


class Timm(Format):
    """One `.safetensors` file for `timm.create_model`."""

    name = "timm"
    suffix = ".safetensors"
    library = "timm"
    packages = ("timm",)
    kinds = ("features",)

    def write(self, item: Exportable, path: Path, about: Description) -> Description:
        """timm's names and tensors. Raises: ExportError for what is no image of square patches in three channels."""
        arguments(item)
        tensors, _ = weights(item)
        about = replace(about, sizes=["any", 3, *item.size])
        atomic.write(path, save(tensors, {metadata.KEY: about.to_text()}))
        return about

    def run(self, item: Exportable, path: Path) -> Run:
        """In plain timm, grey repeated, the cls token's features raised by what they lack."""
        network = timm.create_model(NAME, checkpoint_path=str(path), **arguments(item)).eval()
        _, lower = weights(item)

        @torch.no_grad()
        def run(inputs: Array) -> list[Array]:
            images = torch.from_numpy(inputs).expand(-1, 3, -1, -1)  # as our tokenizer repeats grey
            tokens = network.forward_features(images)
            tokens[:, 0] += lower
            return [tokens.numpy(), network(images).numpy()]

        return run

    def usage(self, item: Exportable, about: Description, name: str) -> list[str]:
        """The call of timm with its arguments, and what differs."""
        keywords = ", ".join(f"{key}={value!r}" for key, value in arguments(item).items())
        _, lower = weights(item)
        return [
            "```python",
            "import timm",
            f'model = timm.create_model("{NAME}", checkpoint_path="{name}", {keywords})',
            "pooled = model.eval()(images)  # (N, 3, H, W), grey repeated, values as above, to the pooled feature (N, D)",
            "tokens = model.forward_features(images)  # (N, 1 + L, D), the cls token first",
            "```",
            "",
            f"All is as medcoss gives it, but the cls token's features: they lack {lower:.3g} in every value alike.",
        ]


def arguments(item: Exportable) -> dict[str, Any]:
    """What `timm.create_model(NAME, ...)` is given. Raises: ExportError for what is no image of square patches."""
    assert item.modality is not None
    spec, shape = item.modality.tokenizer.spec, item.about["encoder"]
    square = len(item.size) == 2 and spec.patch is not None and len(set(spec.patch)) == 1
    if spec.patch is None or not square or spec.kind != "patches" or spec.channels != 3 or spec.norm_eps != EPSILON:
        raise ExportError(
            f"{item.about['modality']} cannot be a ViT of timm, which takes images in square patches of three channels",
            fix="leave --format out: ONNX takes every modality",
        )
    return {
        "img_size": item.size,
        "patch_size": spec.patch[0],
        "embed_dim": shape["width"],
        "depth": shape["depth"],
        "num_heads": shape["heads"],
        "mlp_ratio": shape["mlp_ratio"],
        **({"init_values": 1.0} if shape["layer_scale"] is not None else {}),
        "no_embed_class": True,
        "final_norm": False,
        "global_pool": "avg",
        "pool_include_prefix": True,
        "num_classes": shape["width"],
    }


@torch.no_grad()
def weights(item: Exportable) -> tuple[dict[str, Tensor], float]:
    """timm's names and tensors, and by how much the cls token's features are lower there, in every value alike.

    The head is the identity with that much, over the number of tokens, as its bias: the output is the pooled feature.
    """
    network: Any = item.network
    tokenizer = cast(PatchEmbedding, network.tokenizer)  # of the kind "patches"
    encoder, width, norm, linear = network.encoder, item.about["encoder"]["width"], tokenizer.norm, tokenizer.projection
    places = tokenizer.positions(tokenizer.grid(item.size), linear.weight.device)
    token, lower = _before_norm(encoder.cls[0, 0], norm.weight, norm.bias)
    tensors = {
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
    return {name: tensor.detach().cpu().float().contiguous().clone() for name, tensor in tensors.items()}, lower


def _before_norm(cls: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, float]:
    """A vector that LayerNorm turns into the cls token less a constant, and the constant.

    What LayerNorm gives before its weight has mean 0 and a variance below 1. The mean is brought about by the constant,
    which no block sees, since each begins with a norm; any variance below 1 by the length of the vector, against epsilon.
    Raises: ExportError where the variance is larger.
    """
    cls, weight, bias = cls.double(), weight.double(), bias.double()
    constant = ((cls - bias) / weight).mean() / (1 / weight).mean()
    normed = (cls - constant - bias) / weight
    variance = normed.square().mean()
    if not variance < 1:
        raise ExportError(
            "the cls token of this encoder is larger than timm's first norm lets through", fix="leave --format out"
        )
    return (normed * (EPSILON / (1 - variance)).sqrt()).float(), float(constant)
