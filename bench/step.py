"""One training step of ViT-B: plain and rehearsal, text, 2D and 3D, against a naive reference timed in the same run.

The naive reference is what one writes first with timm: fp32, every patch embedded before any is dropped, pixels of all
patches predicted, logits of all words at all places, AdamW as it comes. Shapes, batch and vocabulary are the same.

    python bench/step.py            # medians of 5 steps after 2 of warming up
    python bench/step.py --steps 3 --only 2d
    python bench/step.py --batch 512 --only 2d        # on a GPU
    python bench/step.py --tiny     # does it run? seconds on a CPU
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

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from medcoss_cli.kit import PixelDecoder
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.patches import patchify
from medcoss_cli.plugin import CompleteModality, Modality
from medcoss_cli.registry.complete import complete
from medcoss_cli.strategies import StageInfo
from medcoss_cli.strategies.medcoss import MedCoSS
from medcoss_cli.training.distributed import Devices, has_bf16
from medcoss_cli.training.optim import adamw, decay_on_matrices, set_rate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Scale:
    """Dimensions of the network; `words` is the size of the vocabulary."""

    encoder: EncoderShape
    decoder: PixelDecoder
    words: int


PAPER = Scale(EncoderShape(), PixelDecoder(), 49_411)
SMALL = Scale(EncoderShape(48, 2, 3), PixelDecoder(32, 1, 2), 300)


@dataclass(frozen=True)
class StepCase:
    """A kind of data: `size` is what the encoder sees, `target` the ratio of a plain step to the naive one to reach."""

    name: str
    size: tuple[int, ...]
    batch: int
    target: float
    scale: Scale = PAPER

    @property
    def channels(self) -> int:
        """Of a sample; 0 for text."""
        return {"text": 0, "2d": 3, "3d": 1}[self.name]

    @property
    def values(self) -> int:
        """Numbers of a patch."""
        return self.channels * 16 ** len(self.size)

    @property
    def patches(self) -> int:
        """Patches of a sample."""
        return math.prod(s // 16 for s in self.size)


CASES = (StepCase("2d", (224, 224), 8, 0.6), StepCase("3d", (16, 192, 192), 2, 0.6), StepCase("text", (112,), 16, 0.35))
TINY = (
    StepCase("2d", (64, 64), 4, 0.6, SMALL),
    StepCase("3d", (16, 64, 64), 2, 0.6, SMALL),
    StepCase("text", (16,), 4, 0.35, SMALL),
)


def modality(case: StepCase) -> CompleteModality:
    """A modality of this shape, of the kit's parts; there are no files, so it has no loader."""
    plain = Modality(case.name, case.name, len(case.size), case.size, case.channels or 1, None)  # type: ignore[arg-type]
    if case.name == "text":
        return complete(replace(plain, pretext="masked_words")).with_vocabulary(vocabulary(case.scale.words))
    return complete(replace(plain, decoder=case.scale.decoder))


def vocabulary(size: int) -> str:
    """A vocabulary of so many pieces, every third of them the end of a word."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = special + [f"{'##' if i % 3 == 1 else ''}w{i}" for i in range(len(special), size)]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    return str(Tokenizer(models.WordPiece(numbers, unk_token="[UNK]")).to_str())


def inputs(case: StepCase) -> Tensor:
    """A batch as the encoder sees it, on the device."""
    draw = torch.Generator().manual_seed(0)
    if case.name == "text":
        ids = torch.randint(5, case.scale.words, (case.batch, *case.size), generator=draw)
        ids[:, 0], ids[:, -1] = 2, 3
        return ids.to(DEVICE)
    return torch.rand(case.batch, case.channels, *case.size, generator=draw).to(DEVICE)


class Trained:
    """The model of one case with MedCoSS and AdamW, stepped as the engine does, on data that lies on the device."""

    def __init__(self, case: StepCase, precision: str = "auto") -> None:
        self.case, self.precision, self.devices = case, precision, Devices(DEVICE)
        self.model = Model(case.scale.encoder, seed=0).to(DEVICE)
        self.model.add(modality(case))
        self.strategy = MedCoSS(MedCoSS.Settings())
        self.strategy.begin_stage(self.model, StageInfo(1, None, (case.name,), ()))
        groups = decay_on_matrices(self.strategy.parameters(self.model), 0.05)
        self.optimiser = adamw(groups, 0.95, fused=True)
        set_rate(self.optimiser, 1e-4)
        self.steps = 0

    def step(self, x: Tensor, *, new: bool) -> None:
        """A plain step on x (N, ...), or a rehearsal step with x as its own partners."""
        partner = None if new else x.roll(1, 0)
        batch = Batch(self.case.name, new, x, partner, slice(0, len(x)), len(x), (0, 1, self.steps))
        self.steps += 1
        self.optimiser.zero_grad(set_to_none=True)
        with self.devices.autocast(self.precision, self.model.shape.width):
            value, count = self.strategy.loss(self.model, batch)
        value.backward()
        value.item()  # the engine checks that every loss is finite
        self.devices.add_up_gradients(self.model.parameters(), float(count))
        self.optimiser.step()


class Naive(nn.Module):
    """The same network without a thought for speed."""

    def __init__(self, case: StepCase) -> None:
        super().__init__()
        shape, decoder = case.scale.encoder, case.scale.decoder
        self.case, width, self.inner = case, shape.width, decoder.width
        self.blocks = nn.ModuleList(
            Block(width, shape.heads, 4.0, qkv_bias=True, init_values=1e-3) for _ in range(shape.depth)
        )
        if case.name == "text":
            self.words, self.dense = nn.Embedding(case.scale.words, width), nn.Linear(width, width)
            self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, case.scale.words)
            return
        convolution = nn.Conv2d if case.name == "2d" else nn.Conv3d
        self.embed = convolution(case.channels, width, 16, 16)
        self.cls, self.hole = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, self.inner))
        self.down, self.norm = nn.Linear(width, self.inner), nn.LayerNorm(self.inner)
        self.decoder = nn.ModuleList(Block(self.inner, decoder.heads, 4.0, qkv_bias=True) for _ in range(decoder.depth))
        self.out = nn.Linear(self.inner, case.values)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        if self.case.name == "text":
            targets = torch.rand(x.shape, device=x.device) < 0.15
            tokens = self.words(torch.where(targets, 4, x))
            for block in self.blocks:
                tokens = block(tokens)
            logits = self.out(self.norm(F.gelu(self.dense(tokens))))
            return F.cross_entropy(logits.flatten(0, 1), torch.where(targets, x, -100).flatten(), ignore_index=-100)
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        n, length, width = tokens.shape
        order = torch.rand(n, length, device=x.device).argsort(1)
        keep, back = order[:, : length // 4], order.argsort(1)
        tokens = torch.cat([self.cls.expand(n, -1, -1), tokens.gather(1, keep[..., None].expand(-1, -1, width))], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.down(tokens)
        full = torch.cat([tokens[:, 1:], self.hole.expand(n, length - keep.shape[1], -1)], 1)
        tokens = torch.cat([tokens[:, :1], full.gather(1, back[..., None].expand(-1, -1, self.inner))], 1)
        for block in self.decoder:
            tokens = block(tokens)
        pred = self.out(self.norm(tokens))[:, 1:]
        target = patchify(x, (16,) * len(self.case.size), x.shape[1])
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        removed = torch.ones(n, length, device=x.device).scatter(1, keep, 0.0)
        return ((pred - target).square().mean(-1) * removed).sum() / removed.sum()


def block_flops(tokens: int, width: int) -> float:
    """Of one block on one sample: four matrices of width^2 and an MLP of 8 width^2, and attention."""
    return 2.0 * tokens * 12 * width * width + 4.0 * tokens * tokens * width


def flops(case: StepCase, *, rehearsal: bool) -> float:
    """Floating-point operations of one step: encoder on visible tokens, decoder on all; backward is twice forward.

    A rehearsal step is the student forward and backward and the teacher forward, without a decoder.
    """
    width, inner, deep = case.scale.encoder.width, case.scale.decoder.width, case.scale.decoder.depth
    if case.name == "text":
        tokens, embed = case.size[0], 0.0
        head = 2.0 * 0.15 * tokens * (width * width + width * case.scale.words)
    else:
        visible = case.patches // 4
        tokens, embed = visible + 1, 2.0 * visible * case.values * width
        head = 2.0 * tokens * width * inner + deep * block_flops(case.patches + 1, inner)
        head += 2.0 * (case.patches - visible) * inner * case.values
    body = case.scale.encoder.depth * block_flops(tokens, width) + embed
    return case.batch * (body * 4 if rehearsal else (body + head) * 3)


def matmul_rate(dtype: torch.dtype, side: int | None = None) -> float:
    """FLOP/s of a large matrix product on this machine, the best of five."""
    n = side or (8192 if DEVICE.type == "cuda" else 2048)
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2.0 * n**3 / min(seconds(lambda: a @ b) for _ in range(6))


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, the GPU's queue emptied before and after."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def device_name() -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()


def main() -> None:
    """A row a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a small network on small samples")
    options = parser.parse_args()
    kinds = [torch.float32]
    if has_bf16(DEVICE):  # without hardware for it bf16 takes minutes
        kinds.append(torch.bfloat16)
    rates = {kind: matmul_rate(kind, 256 if options.tiny else None) for kind in kinds}
    print(f"{device_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("matrix product: " + ", ".join(f"{str(k)[6:]} {rate / 1e9:.0f} GFLOP/s" for k, rate in rates.items()))
    print(
        f"{'case':<6}{'batch':>6}{'naive s':>10}{'plain s':>10}{'ratio':>8}{'target':>8}"
        f"{'rehearsal s':>13}{'to plain':>10}{f'of {str(kinds[-1])[6:]}':>14}"
    )
    for case in TINY if options.tiny else CASES:
        if options.only in (None, case.name):
            case = replace(case, batch=options.batch or case.batch)
            measure(case, 1 if options.tiny else options.steps, options.precision, rates[kinds[-1]])
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def measure(case: StepCase, steps: int, precision: str, rate: float) -> None:
    """Print a case's row."""
    x, naive, trained = inputs(case), Naive(case).to(DEVICE), Trained(case, precision)
    naive_adam = torch.optim.AdamW(naive.parameters(), lr=1e-4, betas=(0.9, 0.95))

    def step_naive() -> None:
        naive_adam.zero_grad()
        naive(x).backward()
        naive_adam.step()

    works = {
        "naive": step_naive,
        "plain": lambda: trained.step(x, new=True),
        "rehearsal": lambda: trained.step(x, new=False),
    }
    times: dict[str, list[float]] = {kind: [] for kind in works}
    for _ in range(steps + 2):  # in turn, so that a machine that slows down slows all three
        for kind, work in works.items():
            times[kind].append(seconds(work))
    naive_s, plain_s, rehearsal_s = (statistics.median(times[kind][2:]) for kind in works)
    ratio = statistics.median(p / n for p, n in zip(times["plain"][2:], times["naive"][2:], strict=True))
    share = statistics.median(r / p for r, p in zip(times["rehearsal"][2:], times["plain"][2:], strict=True))
    reached = flops(case, rehearsal=False) / plain_s / rate
    print(
        f"{case.name:<6}{case.batch:>6}{naive_s:>10.3f}{plain_s:>10.3f}{ratio:>8.2f}{case.target:>8.2f}"
        f"{rehearsal_s:>13.3f}{share:>10.2f}{100 * reached:>12.0f} %",
        flush=True,
    )


if __name__ == "__main__":
    main()
