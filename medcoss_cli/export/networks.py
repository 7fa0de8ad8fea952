"""What is exported: modules with one way in. N samples, L tokens, D width; *size is (L,), (H, W) or (D, H, W)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from medcoss_cli.model import pooling
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, TokenNetwork


class EncoderAlone(nn.Module):
    """Tokens (N, L, D) and which of them are real (N, L) to features (N, L, D); a cls token comes with the tokens."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        features: Tensor = self.encoder(tokens, valid, cls=False)
        return features


class Features(nn.Module):
    """A modality's normalised inputs (N, C, *size), or ids (N, L), to token features and pooled features (N, D).

    Token features have the cls token first where the modality has one; the pooled are the mean over all real tokens.
    """

    def __init__(self, tokenizer: nn.Module, encoder: nn.Module, modality: CompleteModality) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.spec = modality.tokenizer.spec

    @classmethod
    def of(cls, model: Model, modality: str) -> Features:
        """Those of one modality of a model."""
        return cls(model.tokenizer(modality), model.encoder, model.modalities[modality])

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        tokenizer = cast(TokenNetwork, self.tokenizer)
        tokens, valid = tokenizer.embed(inputs), tokenizer.valid(inputs)
        features: Tensor = self.encoder(tokens, valid, cls=self.spec.cls, causal=self.spec.causal)
        return features, pooling.mean(features, pooling.with_cls(valid, self.spec.cls))
