"""Files as others write them, small, with weights drawn at random; and the authors' network in torch's own parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, DEPTH, HEADS, SMALL, WORDS = 128, 2, 2, 32, 300


def official(width: int = WIDTH, depth: int = DEPTH, small: int = SMALL, words: int = WORDS) -> dict[str, Tensor]:
    """Every name of the authors' published checkpoint, in small."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, small),
        "decoder_pos_embed_2D": (1, 197, small),
        "decoder_pos_embed_3D": (1, 145, small),
        "decoder_pos_embed_1D.weight": (2, width),
        "token_embed.embeddings.weight": (words, width),
        "token_embed.embeddings_pos.position_embeddings.weight": (512, width),
        "token_embed.embeddings_token_type.weight": (2, width),
        "video_embed.embeddings_pos.position_embeddings.weight": (1600, width),
        "video_embed.embeddings_type.weight": (1, width),
        "video_embed.embeddings.weight": (width, 3, 16, 16),
        "video_embed.embeddings.bias": (width,),
        "video_embed.embeddings_3D.weight": (width, 1, 16, 16, 16),
        "video_embed.embeddings_3D.bias": (width,),
        "mlm_head.bias": (words,),
        "mlm_head.decoder.weight": (words, width),
    }
    for dims, rows in ((2, 1024), (3, 4096)):
        part = f"video_embed.embeddings_st_pos_{dims}D"
        shapes |= {f"{part}.spatial_pos_embed.weight": (rows, width), f"{part}.temporal_pos_embed.weight": (8, width)}
    for number in range(depth):
        layer = f"fused_encoder.layers.{number}"
        shapes |= {f"{layer}.gamma_1": (width,), f"{layer}.gamma_2": (width,)}
        shapes |= {f"{layer}.self_attn.in_proj_weight": (3 * width, width)}
        shapes |= {f"{layer}.self_attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{layer}.self_attn.out_proj", width, width)
        shapes |= linear(f"{layer}.linear1", 4 * width, width) | linear(f"{layer}.linear2", width, 4 * width)
        shapes |= norm(f"{layer}.norm1", width) | norm(f"{layer}.norm2", width)
    for name in ("token_embed.embeddings_norm", "video_embed.embeddings_norm", "mlm_head.transform.LayerNorm"):
        shapes |= norm(name, width)
    shapes |= linear("mlm_head.transform.dense", width, width)
    shapes |= linear("decoder_embed", small, width) | norm("decoder_norm", small)
    shapes |= linear("decoder_pred_2D", 768, small) | linear("decoder_pred_3D", 4096, small)
    shapes |= blocks("decoder_blocks", 1, small)
    return drawn(shapes)


def vit(width: int = WIDTH, depth: int = DEPTH, edge: int = 16, side: int = 14) -> dict[str, Tensor]:
    """Every name of a plain ViT of timm."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side * side + 1, width),
        "patch_embed.proj.weight": (width, 3, edge, edge),
        "patch_embed.proj.bias": (width,),
        "head.weight": (10, width),
        "head.bias": (10,),
    }
    return drawn(shapes | blocks("blocks", depth, width) | norm("norm", width))


def of_volume(rows: Tensor, grid: tuple[int, ...], axis: int = 1) -> Tensor:
    """Tokens of our volume (z, y, x) in the order that its tokens have in the authors' axes (z, x, y), and back."""
    places = torch.arange(rows.shape[axis]).reshape(*grid, -1).transpose(1, 2).flatten()
    return rows.index_select(axis, places)


def linear(name: str, out: int, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def blocks(prefix: str, count: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(count):
        block = f"{prefix}.{number}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(f"{block}.mlp.fc2", width, 4 * width)
    return shapes


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * (0.02 if len(shape) == 1 else shape[-1] ** -0.5)
        + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.3 if "gamma" in name else 0.0)
        for name, shape in shapes.items()
    }


def image_features(w: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """The authors' tokens and encoder for images (N, 3, 224, 224) or volumes (N, 1, 16, 192, 192): (N, 1 + L, D)."""
    dims = image.ndim - 2
    mark, convolve = ("", F.conv2d) if dims == 2 else ("_3D", F.conv3d)
    tokens = convolve(image, w[f"video_embed.embeddings{mark}.weight"], w[f"video_embed.embeddings{mark}.bias"], 16)
    tokens = tokens.flatten(2).transpose(1, 2)
    part = f"video_embed.embeddings_st_pos_{dims}D"
    tokens = (
        tokens + w[f"{part}.spatial_pos_embed.weight"][: tokens.shape[1]] + w[f"{part}.temporal_pos_embed.weight"][0]
    )
    tokens = normed(w, "video_embed.embeddings_norm", tokens)
    return encoder(w, torch.cat([w["cls_token"].expand(len(image), -1, -1), tokens], 1), None)


def pixels(w: Mapping[str, Tensor], features: Tensor, dims: int) -> Tensor:
    """The authors' decoder on features (N, 1 + L, D) of all patches: (N, L, values of a patch)."""
    x = F.linear(features, w["decoder_embed.weight"], w["decoder_embed.bias"]) + w[f"decoder_pos_embed_{dims}D"]
    name, (n, length, width), heads = "decoder_blocks.0", x.shape, 16
    y = F.layer_norm(x, x.shape[-1:], w[f"{name}.norm1.weight"], w[f"{name}.norm1.bias"], 1e-6)
    qkv = F.linear(y, w[f"{name}.attn.qkv.weight"], w[f"{name}.attn.qkv.bias"])
    q, k, v = qkv.reshape(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    y = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(-1) @ v
    y = y.transpose(1, 2).flatten(2)
    x = x + F.linear(y, w[f"{name}.attn.proj.weight"], w[f"{name}.attn.proj.bias"])
    y = F.layer_norm(x, x.shape[-1:], w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"], 1e-6)
    y = F.gelu(F.linear(y, w[f"{name}.mlp.fc1.weight"], w[f"{name}.mlp.fc1.bias"]))
    x = x + F.linear(y, w[f"{name}.mlp.fc2.weight"], w[f"{name}.mlp.fc2.bias"])
    x = F.layer_norm(x, x.shape[-1:], w["decoder_norm.weight"], w["decoder_norm.bias"], 1e-6)
    return F.linear(x[:, 1:], w[f"decoder_pred_{dims}D.weight"], w[f"decoder_pred_{dims}D.bias"])


def word_features(w: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """The authors' tokens and causal encoder for ids (1, L) without padding: (1, L, D)."""
    tokens = F.embedding(ids, w["token_embed.embeddings.weight"])
    tokens = tokens + w["token_embed.embeddings_pos.position_embeddings.weight"][: ids.shape[1]]
    tokens = normed(w, "token_embed.embeddings_norm", tokens + w["token_embed.embeddings_token_type.weight"][0])
    return encoder(w, tokens, torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1))


def encoder(w: Mapping[str, Tensor], x: Tensor, hidden: Tensor | None) -> Tensor:
    for number in range(DEPTH):
        layer = f"fused_encoder.layers.{number}"
        y = normed(w, f"{layer}.norm1", x).transpose(0, 1)
        a = f"{layer}.self_attn"
        weights = (w[f"{a}.in_proj_weight"], w[f"{a}.in_proj_bias"], None, None, False, 0.0)
        out = (w[f"{a}.out_proj.weight"], w[f"{a}.out_proj.bias"])
        y = F.multi_head_attention_forward(
            y, y, y, WIDTH, HEADS, *weights, *out, training=False, need_weights=False, attn_mask=hidden
        )[0]
        x = x + w[f"{layer}.gamma_1"] * y.transpose(0, 1)
        y = normed(w, f"{layer}.norm2", x)
        y = F.gelu(F.linear(y, w[f"{layer}.linear1.weight"], w[f"{layer}.linear1.bias"]))
        x = x + w[f"{layer}.gamma_2"] * F.linear(y, w[f"{layer}.linear2.weight"], w[f"{layer}.linear2.bias"])
    return x


def normed(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])
