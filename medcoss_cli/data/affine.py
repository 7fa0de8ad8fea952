"""The rule by which stored integers become inputs, as numbers that need no plugin."""

from __future__ import annotations

import torch

from medcoss_cli.plugin import CompleteModality


def affine_of(modality: CompleteModality) -> tuple[float, float] | None:
    """(factor, shift) of `decode`, which is (integers * scale + offset) * factor + shift; None where it is not.

    Exported files carry these two numbers, so that they are used without the plugin's torch code.
    """
    decode = modality.intensity.decode
    shape = (1, max(1, modality.channels), *modality.size)
    zeros, ones = torch.zeros(1), torch.ones(1)
    shift = float(decode(torch.zeros(shape, dtype=torch.int16), zeros, zeros).flatten()[0])
    factor = float(decode(torch.zeros(shape, dtype=torch.int16), ones, ones).flatten()[0]) - shift
    integers = torch.randint(0, 120, shape, generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    expected = (integers.float() * 0.37 + 2.5) * factor + shift
    decoded = decode(integers, torch.tensor([0.37]), torch.tensor([2.5]))
    affine = decoded.shape == expected.shape and torch.allclose(decoded, expected, rtol=1e-5, atol=1e-5)
    return (factor, shift) if affine else None
