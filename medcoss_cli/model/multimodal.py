"""The model: one encoder, tokenizers by key, and the last decoder of every modality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import Encoder, EncoderShape, initialise
from medcoss_cli.model.masking import random_keep
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.randomness import generator


class Model(nn.Module):
    """T, phi and psi of the paper: tokenizers, encoder, decoders.

    Args:
        shape: dimensions of the encoder.
        seed: all weights are drawn from generators keyed by it.
        masking: share of patches removed and of words hidden.
    """

    def __init__(self, shape: EncoderShape, seed: int, masking: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.shape, self.seed = shape, seed
        self.masking = dict(masking or {"patches": 0.75, "words": 0.15})
        self.modalities: dict[str, CompleteModality] = {}
        self.offered: dict[str, CompleteModality] = {}
        self._given: dict[str, dict[str, Tensor]] = {}
        self.encoder = Encoder(shape)
        self.tokenizers = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        initialise(self.encoder, generator(seed, "weights", "encoder"))

    def offer(self, other: Model) -> None:
        """Tokenizers of another model, each taken up by the first modality that has its key."""
        self.offered = dict(other.modalities)
        self._given = {key: dict(part.state_dict()) for key, part in other.tokenizers.items()}

    def add(self, modality: CompleteModality) -> None:
        """Make room for a modality: its tokenizer if the key is new, and a fresh decoder (psi_i)."""
        device = self.encoder.cls.device
        key = modality.tokenizer.key
        if key not in self.tokenizers:
            tokenizer = modality.tokenizer.build(self.shape.width)
            initialise(tokenizer, generator(self.seed, "weights", "tokenizer", key))
            if key in self._given:
                tokenizer.load_state_dict(self._given.pop(key))
            self.tokenizers[key] = tokenizer.to(device)
        decoder = modality.decoder.build(self.shape.width, modality.tokenizer, modality.size)
        initialise(decoder, generator(self.seed, "weights", "decoder", modality.name))
        self.decoders[modality.name] = decoder.to(device)
        self.modalities[modality.name] = modality

    def tokenizer(self, modality: str) -> Any:
        """The network part that embeds this modality."""
        part = self.modalities[modality].tokenizer
        assert part is not None
        return self.tokenizers[part.key]

    def encode(self, modality: str, inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        """Inputs to features of the tokens in `keep`, or of all: (N, 1 + K, D) with cls first, or (N, L, D) for words."""
        tokenizer = self.tokenizer(modality)
        tokens, valid = tokenizer.embed(inputs, keep), tokenizer.valid(inputs)
        spec = self.modalities[modality].tokenizer.spec
        return cast(Tensor, self.encoder(tokens, valid, cls=spec["cls"], causal=spec["causal"]))

    def hide(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """The pretext's masking of a batch: what the encoder gets, the patches it keeps, and what the decoder is asked.

        Drawn from the batch's key, so that student and teacher, and every rank, hide the same.
        """
        tokenizer = self.tokenizer(batch.modality)
        if self.modalities[batch.modality].pretext == "masked_words":
            length = batch.inputs.shape[1]
            draws = (batch.draw(purpose, length) for purpose in ("words", "action", "substitute"))
            hidden, asked = tokenizer.hide(batch.inputs, *draws, self.masking["words"])
            return hidden, None, asked
        patches = math.prod(tokenizer.grid(tuple(batch.inputs.shape[2:])))
        keep = random_keep(batch.draw("mask", patches), self.masking["patches"])
        return batch.inputs, keep, keep

    def masked_loss(self, batch: Batch, decoder: nn.Module | None = None) -> tuple[Tensor, Tensor | int]:
        """L_mim of a batch: sum and count, with the modality's own decoder unless another is given."""
        inputs, keep, asked = self.hide(batch)
        head: Any = self.decoders[batch.modality] if decoder is None else decoder
        features = self.encode(batch.modality, inputs, keep)
        return cast("tuple[Tensor, Tensor | int]", head.loss(features, asked, batch.inputs))

    def features(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Features of a batch under its mask (N, tokens, D), and which of them are real (N, tokens), None if all are."""
        inputs, keep, _ = self.hide(batch)
        return self.encode(batch.modality, inputs, keep), self.tokenizer(batch.modality).valid(inputs)

    def pooled(self, modality: str, inputs: Tensor) -> Tensor:
        """One feature a sample (N, D): the mean over all real tokens, nothing masked."""
        features = self.encode(modality, inputs).float()
        valid = self.tokenizer(modality).valid(inputs)
        if valid is None:
            return features.mean(1)
        weight = valid.unsqueeze(-1)
        return torch.div((features * weight).sum(1), weight.sum(1))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder saw of a batch under its mask, and what the decoder makes of it; for previews."""
        inputs, keep, asked = self.hide(batch)
        head = cast(Any, self.decoders[batch.modality])
        seen, made = head.reconstruct(self.encode(batch.modality, inputs, keep), asked, batch.inputs)
        return (inputs if keep is None else seen), made
