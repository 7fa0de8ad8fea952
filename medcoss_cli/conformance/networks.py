"""The part of the conformance suite that builds networks: what becomes of samples on their way to a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from medcoss_cli.data.affine import affine_of
from medcoss_cli.data.read import encode
from medcoss_cli.data.resize import resize
from medcoss_cli.errors import RecipeError
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape, initialise
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.networks import faults
from medcoss_cli.plugin import CompleteModality, DecoderNetwork, PatchNetwork, Sample, TextNetwork
from medcoss_cli.randomness import generator
from medcoss_cli.registry.validate import key_fault

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
        text = self.modality.text_tokenizer
        if text is None or text.vocabulary is not None:
            return self.modality
        return self.modality.with_vocabulary(text.learn([s.array for s in self.samples], [None] * len(self.samples)))

    @cached_property
    def inputs(self) -> Any:
        """What the encoder sees, (N, C, *size) float32 or (N, L) ids."""
        return self.ready.intensity.decode(*self.stored)

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
                largest = self.inputs.abs().max()
                yield f"what its intensity decodes is not finite or far from the range of ±1 ({largest:.3g})"
            for sample, shown in zip(self.samples, self.inputs.numpy(), strict=True):
                correlation = np.corrcoef(resize(sample.array, size).ravel(), shown.ravel())[0, 1]
                if not correlation >= LIKENESS:
                    yield f"what the encoder sees has a correlation of {correlation:.2f} with what was read"
                    break
            if affine_of(self.ready) is None:
                yield "its intensity's decode is not (integers * scale + offset) * factor + shift, which exported files need"

    def augment(self) -> Iterator[str]:
        """The same generator gives the same view; shape and type stay."""
        sample: Any = self.stored[0][:1].clone()
        views = [self.ready.augment(sample, generator(0, "check")) for _ in range(2)]
        if not torch.equal(*views):
            yield "its augmentation gives another view with the same generator"
        if views[0].shape != sample.shape or views[0].dtype != sample.dtype:
            yield f"its augmentation turns {tuple(sample.shape)} {sample.dtype} into {tuple(views[0].shape)} {views[0].dtype}"
        if not torch.equal(sample, self.stored[0][:1]):
            yield "its augmentation changes the sample it is given"

    def keys(self) -> Iterator[str]:
        """Another key is taken, or refused as a recipe's error; never ignored."""
        part = self.ready.tokenizer
        patches = [f"patch{self.ready.dims}d-32"] if self.ready.text_tokenizer is None else []
        for key in (f"{part.key}-other", *patches):
            try:
                fault = key_fault(part.with_key(key), key)
            except RecipeError:
                continue
            if fault is not None:
                yield f"its tokenizer takes the key {key} and ignores it: {fault}"
                return

    @cached_property
    def network(self) -> Any:
        """The tokenizer's network, its weights drawn as for training; None where it is not what the core calls."""
        network = self.ready.tokenizer.build(WIDTH)
        if faults("tokenizer", network, self._protocol) is not None:
            return None
        initialise(network, generator(0, "check"))  # type: ignore[arg-type]  # a torch module, as faults has seen
        return network

    @property
    def _protocol(self) -> type:
        return PatchNetwork if self.ready.text_tokenizer is None else TextNetwork

    @cached_property
    def length(self) -> int:
        """Tokens of a sample."""
        size = tuple(self.ready.size)
        return math.prod(size if self.ready.text_tokenizer is not None else self.network.grid(size))

    def tokenizer(self) -> Iterator[str]:
        """The tokenizer builds a torch module with all that the core calls."""
        fault = faults("tokenizer", self.ready.tokenizer.build(WIDTH), self._protocol)
        if fault is not None:
            yield fault

    def grid(self) -> Iterator[str]:
        """Tokens per axis: the size over the patch."""
        spec, size = self.ready.tokenizer.spec, tuple(self.ready.size)
        if self.network is None or spec.patch is None:
            return
        grid, expected = self.network.grid(size), tuple(s // p for s, p in zip(size, spec.patch, strict=True))
        if tuple(grid) != expected:
            yield f"its tokenizer's grid of {size} is {grid}, not {expected}, the size over the patch {spec.patch}"

    @torch.no_grad()
    def embed(self) -> Iterator[str]:
        """Tokens of the right shape, one sample's independent of the others', kept ones as in the whole."""
        if self.network is None:
            return
        tokens, expected = self.network.embed(self.inputs), (len(self.inputs), self.length, WIDTH)
        if tuple(tokens.shape) != expected:
            yield f"its tokenizer's embed gives {tuple(tokens.shape)}, not {expected}"
            return
        if not torch.allclose(self.network.embed(self.inputs[:1]), tokens[:1], atol=1e-4):
            yield "its tokens depend on the other samples of the batch"
        if self.ready.text_tokenizer is None:
            keep = torch.arange(0, self.length, 3).flip(0).expand(len(self.inputs), -1)
            embedded, selected = self.network.embed(self.inputs, keep), tokens[:, keep[0]]
            if embedded.shape != selected.shape:
                yield f"its tokenizer's embed gives {tuple(embedded.shape)} of kept patches, not {tuple(selected.shape)}"
            elif not torch.allclose(embedded, selected, atol=1e-4):
                yield "its tokens of kept patches are not those of the whole at the same places"

    def valid(self) -> Iterator[str]:
        """Which tokens are real: (N, L) bool with one at least in each sample, or None."""
        if self.network is None:
            return
        valid, expected = self.network.valid(self.inputs), (len(self.inputs), self.length)
        if valid is None:
            return
        if not isinstance(valid, torch.Tensor):
            yield f"its tokenizer's valid gives {type(valid).__name__}, not a tensor or None"
        elif tuple(valid.shape) != expected or valid.dtype != torch.bool:
            yield f"its tokenizer's valid gives {tuple(valid.shape)} {valid.dtype}, not {expected} torch.bool"
        elif not valid.any(1).all():
            yield "its tokenizer's valid says of a sample that none of its tokens is real"

    def hide(self) -> Iterator[str]:
        """Hidden ids and targets: of the batch's shape, repeatable, and only targets are changed."""
        if self.network is None or self.ready.text_tokenizer is None:
            return
        ids = self.inputs
        draws = [torch.rand(ids.shape, generator=generator(0, "check", name)) for name in ("order", "action", "word")]
        first, second = (self.network.hide(ids.clone(), *draws, 0.15) for _ in range(2))
        if not isinstance(first, tuple) or len(first) != 2:
            yield f"its tokenizer's hide gives {type(first).__name__}, not (ids, targets)"
            return
        hidden, targets = first
        if hidden.shape != ids.shape or hidden.dtype != ids.dtype:
            yield f"its tokenizer's hide gives ids {tuple(hidden.shape)} {hidden.dtype}, not {tuple(ids.shape)} {ids.dtype}"
        elif targets.shape != ids.shape or targets.dtype != torch.bool:
            yield f"its tokenizer's hide gives targets {tuple(targets.shape)} {targets.dtype}, not {tuple(ids.shape)} torch.bool"
        elif not (torch.equal(hidden, second[0]) and torch.equal(targets, second[1])):
            yield "its tokenizer's hide gives another result with the same draws"
        elif (hidden != ids)[~targets].any():
            yield "its tokenizer's hide changes ids that are no targets"
        elif not targets.any(1).all():
            yield "its tokenizer's hide leaves a sample without a target"
        else:
            valid = self.network.valid(ids)
            if valid is not None and (targets & ~valid).any():
                yield "its tokenizer's hide makes padding a target"

    @cached_property
    def model(self) -> Model | None:
        """A small model with this modality; None where a network of it is not what the core calls."""
        if self.network is None or faults("decoder", self.ready.decoder.build(WIDTH, self.ready), DecoderNetwork):
            return None
        model = Model(EncoderShape(width=WIDTH, depth=1, heads=2), seed=0)
        model.add(self.ready)
        return model

    @property
    def batch(self) -> Batch:
        """All samples, as a step of pre-training sees them."""
        n = len(self.inputs)
        return Batch(self.ready.name, True, self.inputs, None, slice(0, n), n, (0, "check"))

    def decoder(self) -> Iterator[str]:
        """The decoder builds a torch module with all that the core calls."""
        fault = faults("decoder", self.ready.decoder.build(WIDTH, self.ready), DecoderNetwork)
        if fault is not None:
            yield fault

    def loss(self) -> Iterator[str]:
        """The pretext's loss through a small encoder: finite, additive over samples, with a gradient everywhere."""
        model, n = self.model, len(self.inputs)
        if model is None:
            return
        hidden, keep, targets = model.hide(self.batch)
        features = model.encode(self.ready.name, hidden, keep)
        head = model.decoder(self.ready.name)
        value, count = head.loss(features, targets, self.inputs)
        if not (math.isfinite(value.item()) and float(count) > 0):
            yield f"its loss is {value.item()} over {float(count)}"
            return
        parts = [head.loss(features[i : i + 1], targets[i : i + 1], self.inputs[i : i + 1]) for i in range(n)]
        total = sum(part[0].item() for part in parts), sum(float(part[1]) for part in parts)
        if not (math.isclose(total[0], value.item(), rel_tol=1e-3) and total[1] == float(count)):
            yield f"its loss of {n} samples, {value.item():.6g} over {float(count):g}, is not the sum of theirs, {total}"
        value.backward()  # type: ignore[no-untyped-call]  # torch's
        still = [name for name, p in model.named_parameters() if p.grad is None and not name.startswith("encoder.cls")]
        if still:
            yield f"no gradient reaches {', '.join(still[:3])}"
        pooled = model.pooled(self.ready.name, self.inputs)
        if pooled.shape != (n, WIDTH):
            yield f"pooled features are {tuple(pooled.shape)}, not {(n, WIDTH)}"

    @torch.no_grad()
    def baseline(self) -> Iterator[str]:
        """The loss of predicting without looking is a number."""
        if self.model is None:
            return
        value = self.model.decoder(self.ready.name).baseline(self.inputs)
        if not isinstance(value, float) or not math.isfinite(value):
            yield f"its decoder's baseline is {value!r}, not a finite number"

    def reconstruct(self) -> Iterator[str]:
        """What previews show: seen and predicted, both shaped like the inputs."""
        if self.model is None:
            return
        pictures = self.model.reconstruct(self.batch)
        channels = self.ready.tokenizer.spec.channels
        text = self.ready.text_tokenizer is not None
        expected = (len(self.inputs), *(() if text else (channels,)), *self.ready.size)
        for name, picture in zip(("is seen", "is predicted"), pictures, strict=True):
            if tuple(picture.shape) != expected:
                yield f"its decoder's reconstruct gives {tuple(picture.shape)} for what {name}, not {expected}"
