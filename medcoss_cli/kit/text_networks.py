"""The networks of the word tokenizer and the word decoder. N samples, L tokens, D width, M target positions."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcoss_cli.kit.vocabulary import Codec
from medcoss_cli.model.losses import masked_words
from medcoss_cli.model.masking import choose_words, hide_words
from medcoss_cli.model.positions import sincos
from medcoss_cli.plugin import TokenizerSpec


class WordEmbedding(nn.Module):
    """Embedding, position, LayerNorm; knows which ids are special and where words begin."""

    def __init__(self, spec: TokenizerSpec, codec: Codec, length: int, width: int) -> None:
        super().__init__()
        self.used, self.pad, self.mask = codec.used, codec.pad, codec.mask
        self.specials = (codec.pad, codec.cls, codec.sep)
        self.embedding = nn.Embedding(codec.size, width)
        self.norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.register_buffer("starts", torch.from_numpy(codec.starts_word()), persistent=False)
        self.table = nn.Parameter(torch.zeros(spec.rows, width)) if spec.rows else None
        self.register_buffer("positions", sincos((length,), width), persistent=False)

    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids (N, L) to (N, L, D). Words are hidden, not dropped, so keep must be None."""
        if self.table is not None:
            return cast(Tensor, self.norm(self.embedding(batch) + self.table[: batch.shape[1]]))
        positions = self.get_buffer("positions")
        if batch.shape[1] != len(positions):
            positions = sincos((batch.shape[1],), positions.shape[1]).to(batch.device)
        return cast(Tensor, self.norm(self.embedding(batch) + positions))

    def valid(self, batch: Tensor) -> Tensor:
        """(N, L) bool, False at padding."""
        return batch.ne(self.pad)

    def hide(
        self, batch: Tensor, order: Tensor, action: Tensor, substitute: Tensor, ratio: float
    ) -> tuple[Tensor, Tensor]:
        """Whole-word masking of ids (N, L) with three uniform draws (N, L): the ids with hidden words, and which ones."""
        real = torch.ones_like(batch, dtype=torch.bool)
        for special in self.specials:
            real &= batch != special
        starts = self.get_buffer("starts")[batch] | ~real
        word = starts.long().cumsum(1) - starts[:, :1].long()
        targets = choose_words(word, real, order, ratio)
        first = max(self.specials) + 1
        if first >= self.used:  # a vocabulary that ends with them
            first = 0
        random_ids = (substitute * (self.used - first)).long() + first
        return hide_words(batch, targets, action, random_ids, self.mask), targets


class WordHead(nn.Module):
    """BERT's head; logits only at target positions, which gives the same loss as computing them everywhere."""

    def __init__(self, width: int, codec: Codec) -> None:
        super().__init__()
        self.specials = [codec.pad, codec.unknown, codec.cls, codec.sep, codec.mask]
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.predict = nn.Linear(width, codec.size)

    def logits(self, features: Tensor) -> Tensor:
        """(M, D) to (M, words)."""
        return cast(Tensor, self.predict(self.norm(F.gelu(self.dense(features)))))

    def loss(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, int]:
        """Sum of cross-entropies at the target positions `keep` (N, L) bool of the true ids (N, L), and their number."""
        return masked_words(self.logits(features[keep]), batch[keep])

    def baseline(self, batch: Tensor) -> float:
        """The loss of always predicting the words' frequencies: the entropy of the real pieces of the batch, in nats."""
        counts = torch.bincount(batch.flatten(), minlength=self.predict.out_features).double()
        counts[self.specials] = 0  # special pieces are never targets
        share = counts[counts > 0] / counts.sum()
        return float(-(share * share.log()).sum())

    def reconstruct(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The ids as they were, and with the likeliest word at the target positions `keep` (N, L) bool."""
        predicted = batch.clone()
        predicted[keep] = self.logits(features[keep]).argmax(-1)
        return batch, predicted
