"""Every draw comes from a generator keyed by what it is for, never from global state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of its key alone, for example (seed, stage, step, "mask").

    Two different keys give unrelated streams; the same key gives the same stream on every rank, in every worker and
    after every resume.
    """
    import torch

    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """The number that a key stands for, for what takes a seed instead of a generator."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Inside, torch's global generators are a function of the key (libraries draw from them); outside, as before."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed_of(*key))
        yield
