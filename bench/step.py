"""One training step of ViT-B: plain and rehearsal, 1D, 2D and 3D, against a naive reference timed in the same run.

The naive reference is what one writes first with timm: fp32, every patch embedded before any is dropped, pixels of all
patches predicted, logits of all words at all places, AdamW as it comes. Shapes, batch and vocabulary are the same.

    python bench/step.py            # medians of 5 steps after 2 of warming up
    python bench/step.py --steps 3 --only 2d
    python bench/step.py --batch 512 --only 2d        # on a GPU
"""

from __future__ import annotations

import argparse
import math
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medcoss_cli.kit import Patches, Words
from medcoss_cli.kit.decoders import PixelDecoder
from medcoss_cli.kit.words import WordEmbedding, WordHead
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import Modality
from medcoss_cli.strategies import StageInfo
from medcoss_cli.strategies.medcoss import MedCoSS
from medcoss_cli.training.distributed import Devices, has_bf16
from medcoss_cli.training.optim import adamw, decay_on_matrices

WORDS = 49_411  # the authors' vocabulary
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Case:
    name: str
    size: tuple[int, ...]
    batch: int
    target: float


CASES = [Case("2d", (224, 224), 8, 0.6), Case("3d", (16, 192, 192), 2, 0.6), Case("text", (112,), 16, 0.35)]


class Vocabulary(SimpleNamespace):
    """Stands in for a learned vocabulary of the authors' size."""

    size, pad, unknown, cls, sep, mask = WORDS, 0, 1, 2, 3, 4

    def starts_word(self) -> np.ndarray:
        return np.arange(WORDS) % 3 != 1


@dataclass(frozen=True)
class BenchWords(Words):
    def build(self, width: int) -> nn.Module:
        return WordEmbedding(self, Vocabulary(), width)  # type: ignore[arg-type]  # a stand-in


@dataclass(frozen=True)
class BenchWordDecoder:
    def build(self, width: int, tokenizer: object, size: tuple[int, ...]) -> nn.Module:
        return WordHead(width, WORDS)


def modality(case: Case) -> Modality:
    plain = Modality(case.name, case.name, len(case.size), case.size, 1, None)  # type: ignore[arg-type]  # no files here
    if case.name == "text":
        words = BenchWords()
        return replace(plain, pretext="masked_words", tokenizer=words, decoder=BenchWordDecoder())
    return replace(plain, tokenizer=Patches(f"patch{case.name}-16"), decoder=PixelDecoder())


def inputs(case: Case) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    if case.name == "text":
        ids = torch.randint(5, WORDS, (case.batch, 112), generator=draw)
        ids[:, 0], ids[:, -1] = 2, 3
        return ids.to(DEVICE)
    return torch.rand(case.batch, 3 if case.name == "2d" else 1, *case.size, generator=draw).to(DEVICE)


class Naive(nn.Module):
    """The same network without a thought for speed."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, width = case, 768
        self.blocks = nn.ModuleList(Block(width, 12, 4.0, qkv_bias=True, init_values=1e-3) for _ in range(12))
        if case.name == "text":
            self.words, self.dense, self.norm = nn.Embedding(WORDS, width), nn.Linear(width, width), nn.LayerNorm(width)
            self.out = nn.Linear(width, WORDS)
            return
        channels, convolution = (3, nn.Conv2d) if case.name == "2d" else (1, nn.Conv3d)
        self.embed = convolution(channels, width, 16, 16)
        self.cls, self.hole = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, 512))
        self.down, self.norm = nn.Linear(width, 512), nn.LayerNorm(512)
        self.decoder = nn.ModuleList(Block(512, 16, 4.0, qkv_bias=True) for _ in range(8))
        self.out = nn.Linear(512, 768 if case.name == "2d" else 4096)

    def forward(self, x: Tensor) -> Tensor:
        if self.case.name == "text":
            asked = torch.rand(x.shape, device=x.device) < 0.15
            tokens = self.words(torch.where(asked, 4, x))
            for block in self.blocks:
                tokens = block(tokens)
            logits = self.out(self.norm(F.gelu(self.dense(tokens))))
            return F.cross_entropy(logits.flatten(0, 1), torch.where(asked, x, -100).flatten(), ignore_index=-100)
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        n, length, width = tokens.shape
        order = torch.rand(n, length, device=x.device).argsort(1)
        keep, back = order[:, : length // 4], order.argsort(1)
        tokens = torch.cat([self.cls.expand(n, -1, -1), tokens.gather(1, keep[..., None].expand(-1, -1, width))], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.down(tokens)
        full = torch.cat([tokens[:, 1:], self.hole.expand(n, length - keep.shape[1], -1)], 1)
        tokens = torch.cat([tokens[:, :1], full.gather(1, back[..., None].expand(-1, -1, 512))], 1)
        for block in self.decoder:
            tokens = block(tokens)
        pred = self.out(self.norm(tokens))[:, 1:]
        patch = (16,) * len(self.case.size)
        from medcoss_cli.model.patches import patchify

        target = patchify(x, patch, x.shape[1])
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        gone = torch.ones(n, length, device=x.device).scatter(1, keep, 0.0)
        return ((pred - target).square().mean(-1) * gone).sum() / gone.sum()


def block_flops(tokens: int, width: int) -> float:
    return 2.0 * tokens * 12 * width * width + 4.0 * tokens * tokens * width


def flops(case: Case, rehearsal: bool) -> float:
    """Floating-point operations of one step: encoder on visible tokens, decoder on all; backward is twice forward."""
    if case.name == "text":
        seen, head = 112, 2.0 * 0.15 * 112 * (768 * 768 + 768 * WORDS)
    else:
        patches = math.prod(s // 16 for s in case.size)
        values = 768 if case.name == "2d" else 4096
        seen = patches // 4 + 1
        head = (
            2.0 * seen * 768 * 512 + 8 * block_flops(patches + 1, 512) + 2.0 * (patches - patches // 4) * 512 * values
        )
        head += 2.0 * (patches // 4) * values * 768
    body = 12 * block_flops(seen, 768)
    return case.batch * (body * 4 if rehearsal else (body + head) * 3)


def matmul_rate(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on this machine, the best of five."""
    n = 8192 if DEVICE.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2.0 * n**3 / min(seconds(lambda: a @ b) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    kinds = [
        torch.float32,
        *([torch.bfloat16] if has_bf16(DEVICE) else []),
    ]  # without hardware for it bf16 takes minutes
    rates = {kind: matmul_rate(kind) for kind in kinds}
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("matrix product: " + ", ".join(f"{str(k)[6:]} {rate / 1e9:.0f} GFLOP/s" for k, rate in rates.items()))
    print(
        f"{'case':<6}{'batch':>6}{'naive s':>10}{'plain s':>10}{'ratio':>8}{'target':>8}"
        f"{'rehearsal s':>13}{'to plain':>10}{f'of {str(kinds[-1])[6:]}':>14}"
    )
    for case in CASES:
        if options.only in (None, case.name):
            measure(
                replace(case, batch=options.batch or case.batch),
                options.steps,
                options.precision,
                rates[kinds[-1]],
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def measure(case: Case, steps: int, precision: str, rate: float) -> None:
    x = inputs(case)
    naive = Naive(case).to(DEVICE)
    naive_adam = torch.optim.AdamW(naive.parameters(), lr=1e-4, betas=(0.9, 0.95))
    model = Model(EncoderShape(), seed=0).to(DEVICE)
    model.add(modality(case))
    strategy = MedCoSS(MedCoSS.Settings())
    strategy.begin_stage(model, StageInfo(1, None, (case.name,), ()))
    adam = adamw(decay_on_matrices(strategy.parameters(model), 0.05), 0.95, fused=True)
    devices = Devices(DEVICE)

    def step_naive() -> None:
        naive_adam.zero_grad()
        naive(x).backward()
        naive_adam.step()

    def step(new: bool, number: int) -> None:
        partner = None if new else x.roll(1, 0)
        batch = Batch(case.name, new, x, partner, slice(0, case.batch), case.batch, (0, 1, number))
        adam.zero_grad(set_to_none=True)
        with devices.autocast(precision, 768):
            value, count = strategy.loss(model, batch)
        value.backward()
        devices.add_up_gradients(model.parameters(), float(count))
        adam.step()

    times: dict[str, list[float]] = {"naive": [], "plain": [], "rehearsal": []}
    for number in range(steps + 2):  # in turn, so that a machine that slows down slows all three
        for kind, work in (
            ("naive", step_naive),
            ("plain", lambda n=number: step(True, n)),
            ("rehearsal", lambda n=number: step(False, n)),
        ):
            times[kind].append(seconds(work))
    naive_s, plain_s, rehearsal_s = (statistics.median(times[kind][2:]) for kind in ("naive", "plain", "rehearsal"))
    ratio = statistics.median(p / n for p, n in zip(times["plain"][2:], times["naive"][2:], strict=True))
    share = statistics.median(r / p for r, p in zip(times["rehearsal"][2:], times["plain"][2:], strict=True))
    reached = flops(case, False) / plain_s / rate
    print(
        f"{case.name:<6}{case.batch:>6}{naive_s:>10.3f}{plain_s:>10.3f}{ratio:>8.2f}{case.target:>8.2f}"
        f"{rehearsal_s:>13.3f}{share:>10.2f}{100 * reached:>12.0f} %"
    )


if __name__ == "__main__":
    main()
