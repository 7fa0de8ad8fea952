"""The part of the conformance suite that builds networks: what becomes of samples on their way to a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from medcoss_cli.data.read import encode
from medcoss_cli.data.resize import resize
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.randomness import generator

WIDTH = 48  # of the small networks that are built
LIKENESS = 0.8  # least correlation of what the encoder sees with what was read


class Networks:
    """Each step yields what is wrong with a modality, tried on samples of its own demo set."""

    def __init__(self, modality: CompleteModality, samples: Sequence[Sample]) -> None:
        self.modality, self.samples = modality, samples

    @cached_property
    def stored(self) -> Any:
        """(integers (N, C, *size), scale (N,), offset (N,)) of the samples as torch tensors."""
        rows = [encode(self.ready, sample) for sample in self.samples]
        integers = torch.from_numpy(np.stack([row[0] for row in rows]))
        return integers, *(torch.tensor([row[i] for row in rows], dtype=torch.float32) for i in (1, 2))

    @cached_property
    def ready(self) -> CompleteModality:
        """The modality, its vocabulary learned."""
        tokenizer: Any = self.modality.tokenizer
        if not hasattr(tokenizer, "learn"):
            return self.modality
        learned = tokenizer.learn([s.array for s in self.samples], [None] * len(self.samples))
        return self.modality.with_vocabulary(learned)

    @cached_property
    def inputs(self) -> Any:
        """What the encoder sees, (N, C, *size) float32 or (N, L) ids."""
        part: Any = self.ready.intensity
        return part.decode(*self.stored)

    def intensity(self) -> Iterator[str]:
        """Integers of the right shape, and what is decoded from them still shows what was read."""
        integers = self.stored[0]
        if integers.is_floating_point():
            yield f"its intensity encodes to {integers.dtype}, not to integers"
        size = tuple(self.ready.size)
        text = isinstance(self.samples[0].array, str)
        expected = (len(self.samples), *(size if text else (self.ready.channels, *size)))
        if tuple(integers.shape) != expected or tuple(self.inputs.shape) != expected:
            yield f"its intensity makes {tuple(integers.shape)} and {tuple(self.inputs.shape)} of {expected}"
        elif text and self.inputs.is_floating_point():
            yield f"its ids decode to {self.inputs.dtype}"
        elif not text:
            if not (self.inputs.isfinite().all() and self.inputs.abs().max() < 100):
                most = self.inputs.abs().max()
                yield f"what its intensity decodes is not finite or far from the range of ±1 ({most:.3g})"
            for sample, seen in zip(self.samples, self.inputs.numpy(), strict=True):
                alike = np.corrcoef(resize(sample.array, size).ravel(), seen.ravel())[0, 1]
                if not alike >= LIKENESS:
                    yield f"what the encoder sees has a correlation of {alike:.2f} with what was read"
                    break

    def augment(self) -> Iterator[str]:
        """The same generator gives the same view; shape and type stay."""
        one: Any = self.stored[0][:1].clone()
        part: Any = self.ready.augment
        views = [part(one, generator(0, "check")) for _ in range(2)]
        if not torch.equal(*views):
            yield "its augmentation gives another view with the same generator"
        if views[0].shape != one.shape or views[0].dtype != one.dtype:
            yield f"its augmentation turns {tuple(one.shape)} {one.dtype} into {tuple(views[0].shape)} {views[0].dtype}"
        if not torch.equal(one, self.stored[0][:1]):
            yield "its augmentation changes the sample it is given"

    def tokenizer(self) -> Iterator[str]:
        """Tokens of the right shape, one sample's independent of the others', kept ones as in the whole."""
        part: Any = self.ready.tokenizer
        unsaid = {"cls", "causal"} - set(part.spec)
        if unsaid:
            yield f"its tokenizer's spec does not say {', '.join(sorted(unsaid))}"
        module = part.build(WIDTH)
        length = math.prod(module.grid(tuple(self.ready.size)))
        with torch.no_grad():
            tokens = module.embed(self.inputs, None)
            if tokens.shape != (len(self.inputs), length, WIDTH):
                yield f"its tokenizer makes {tuple(tokens.shape)}, not {(len(self.inputs), length, WIDTH)}"
                return
            if not torch.allclose(module.embed(self.inputs[:1], None), tokens[:1], atol=1e-4):
                yield "its tokens depend on the other samples of the batch"
            if self.ready.pretext == "masked_patches":
                keep = torch.arange(0, length, 3).expand(len(self.inputs), -1)
                if not torch.allclose(module.embed(self.inputs, keep), tokens[:, ::3], atol=1e-4):
                    yield "its tokens of kept patches are not those of the whole at the same places"

    def decoder(self) -> Iterator[str]:
        """The pretext's loss through a small encoder: finite, additive over samples, with a gradient everywhere."""
        model = Model(EncoderShape(width=WIDTH, depth=1, heads=2), seed=0)
        model.add(self.ready)
        n = len(self.inputs)
        batch = Batch(self.ready.name, True, self.inputs, None, slice(0, n), n, (0, "check"))
        hidden, keep, asked = model.hide(batch)
        features = model.encode(self.ready.name, hidden, keep)
        head: Any = model.decoders[self.ready.name]
        value, count = head.loss(features, asked, self.inputs)
        if not (math.isfinite(value.item()) and float(count) > 0):
            yield f"its loss is {value.item()} over {float(count)}"
            return
        pieces = [head.loss(features[i : i + 1], asked[i : i + 1], self.inputs[i : i + 1]) for i in range(n)]
        total = sum(piece[0].item() for piece in pieces), sum(float(piece[1]) for piece in pieces)
        if not (math.isclose(total[0], value.item(), rel_tol=1e-3) and total[1] == float(count)):
            yield f"its loss of {n} samples, {value.item():.6g} over {float(count):g}, is not the sum of theirs, {total}"
        value.backward()
        still = [name for name, p in model.named_parameters() if p.grad is None and not name.startswith("encoder.cls")]
        if still:
            yield f"no gradient reaches {', '.join(still[:3])}"
        pooled = model.pooled(self.ready.name, self.inputs)
        if pooled.shape != (n, WIDTH):
            yield f"pooled features are {tuple(pooled.shape)}, not {(n, WIDTH)}"
