"""What the encoder may see: a quarter of the patches, or a sentence with hidden words.

N samples, L tokens, K kept tokens. Random numbers come in as arguments, so that a rank can be given its part of the
draws made for the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_keep(noise: Tensor, ratio: float) -> Tensor:
    """Choose the patches the encoder sees: the K = int(L (1 - ratio)) with the smallest noise, at least one.

    Args:
        noise: (N, L) uniform in [0, 1).
        ratio: share of patches to remove, 0.75 in the paper.

    Returns: (N, K) int64 indices in the order of their noise.
    Source: He et al. 2022; Ye et al. 2024, sec. 3.2.
    """
    # 1 - 0.9 is a hair below 0.1: int alone would lose a patch
    count = max(1, int(noise.shape[1] * (1 - ratio) + 1e-6))
    return noise.argsort(dim=1)[:, :count]


def removed(keep: Tensor, length: int) -> Tensor:
    """(N, L) bool, True at the patches that are not in `keep` (N, K)."""
    mask = torch.ones(keep.shape[0], length, dtype=torch.bool, device=keep.device)
    return mask.scatter(1, keep, False)


def choose_words(word: Tensor, real: Tensor, noise: Tensor, ratio: float) -> Tensor:
    """Whole-word choice: words are taken in random order while the total of their tokens stays within the budget.

    The budget is `ratio` of the real tokens, at least one; a word that would exceed it is skipped, and where every word
    is longer than the budget the first one is taken, so that every sample asks something.

    Args:
        word: (N, L) int64, the number of the word each token belongs to, counting up from 0 along the sample.
        real: (N, L) bool, False at special tokens and padding, which are never chosen.
        noise: (N, L) uniform in [0, 1); the first entries order the words.
        ratio: 0.15 in the paper.

    Returns: (N, L) bool, True at tokens to be predicted.
    Source: BERT's whole-word masking.
    """
    lengths = torch.zeros_like(word).scatter_add(1, word, real.long())
    budget = (real.sum(1) * ratio).round().long().clamp(min=1)
    # noise is below 1, so words without a real token come last
    order = noise.masked_fill(lengths == 0, 2.0).argsort(dim=1)
    ordered = lengths.gather(1, order)
    taken = torch.zeros_like(ordered, dtype=torch.bool)
    total = torch.zeros_like(budget)
    for j in range(int((ordered > 0).sum(1).max()) if len(ordered) else 0):
        fits = (ordered[:, j] > 0) & (total + ordered[:, j] <= budget)
        taken[:, j] = fits
        total = total + ordered[:, j] * fits
    taken[:, 0] |= (total == 0) & (ordered[:, 0] > 0)
    by_word = torch.zeros_like(taken).scatter(1, order, taken)
    return by_word.gather(1, word) & real


def hide_words(ids: Tensor, targets: Tensor, action: Tensor, substitute: Tensor, mask_id: int) -> Tensor:
    """Of the chosen tokens 80 % become the mask, 10 % a random word, 10 % stay as they are.

    Args:
        ids: (N, L) int64.
        targets: (N, L) bool.
        action: (N, L) uniform in [0, 1).
        substitute: (N, L) int64 random ids.

    Returns: (N, L) int64. Source: BERT.
    """
    hidden = torch.where(targets & (action < 0.8), torch.full_like(ids, mask_id), ids)
    return torch.where(targets & (action >= 0.8) & (action < 0.9), substitute, hidden)
