"""Ranks and devices: the same command on one CPU, or under torchrun on many nodes."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medcoss_cli.errors import ResourceError


@dataclass(frozen=True)
class Devices:
    """Where this process computes, and how it speaks with the others."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Only rank 0 writes files and speaks."""
        return self.rank == 0

    def add_up(self, numbers: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.ranks > 1:
            dist.all_reduce(numbers)
        return numbers

    def add_up_gradients(self, parameters: Iterable[nn.Parameter], count: float) -> None:
        """Gradients that exist become their sum over ranks divided by `count`: one flat all-reduce.

        Every rank trains the same modality at the same step, so the same gradients exist everywhere.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.ranks == 1:
            torch._foreach_div_(gradients, count)
            return
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= count
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def from_first(self, numbers: Tensor) -> Tensor:
        """What rank 0 has, on every rank; all bring a tensor of the same shape."""
        if self.ranks > 1:
            numbers = numbers.to(self.device)
            dist.broadcast(numbers, src=0)
        return numbers.cpu()

    def text_from_first(self, text: str) -> str:
        """Rank 0's text (at most 4,096 bytes), on every rank."""
        data = torch.zeros(4096, dtype=torch.uint8)
        encoded = os.fsencode(text)
        data[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        return os.fsdecode(bytes(self.from_first(data).tolist()).rstrip(b"\0"))

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.ranks > 1:
            dist.barrier()

    def autocast(self, precision: str, width: int) -> AbstractContextManager[Any]:
        """bf16 where the recipe asks for it, or where `auto` finds that the device gains by it.

        On a CPU bf16 pays from about ViT-S on (bench/step.py); below that casting costs more than it saves.
        """
        if precision == "fp32":
            return nullcontext()
        if precision == "auto" and self.device.type == "cpu" and (width < 384 or not has_bf16(self.device)):
            return nullcontext()
        if precision == "auto" and not has_bf16(self.device):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def peak_memory() -> dict[str, float]:
    """GiB that this process took at its largest: of main memory, and of the GPU's where it has one."""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # ru_maxrss is bytes on macOS, KiB on Linux
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    if torch.cuda.is_available():
        peak["peak_gpu_memory_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return {name: round(gib, 2) for name, gib in peak.items()}


def memory_text(peak: Mapping[str, Any]) -> str:
    """`peak_memory`'s numbers, for a reader."""
    gpu = peak.get("peak_gpu_memory_gib")
    return f"{peak['peak_memory_gib']:.1f} GiB of memory" + (f", {gpu:.1f} GiB of the GPU's" if gpu is not None else "")


def join() -> Devices:
    """This process's place: under torchrun (RANK, WORLD_SIZE, LOCAL_RANK) one of many, else alone on GPU 0 or the CPU."""
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and local >= torch.cuda.device_count():
        raise ResourceError(
            f"this node has {torch.cuda.device_count()} GPUs, but process {local + 1} was started on it",
            fix="lower --nproc-per-node",
        )
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Devices(device)
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if cuda else "gloo", timeout=timedelta(days=1)
        )  # rank 0 may prepare data for hours
    return Devices(device, dist.get_rank(), dist.get_world_size())
