"""Every draw comes from a generator keyed by what it is for, never from global state."""

from __future__ import annotations

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of its key alone, for example (seed, stage, step, "mask").

    Two different keys give unrelated streams; the same key gives the same stream on every rank, in every worker and
    after every resume.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
