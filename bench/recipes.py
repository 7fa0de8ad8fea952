"""Memory and seconds of one training step of each of the paper's nine recipes, ViT-B at full size, batch and precision.

The sets are small and synthetic, laid out as the real ones were published; `data manifest`, `recipes validate`,
`--dry-run` and `finetune` are called as a user calls them.

    python bench/recipes.py              # all nine
    python bench/recipes.py lits glas
    STEPS=3 python bench/recipes.py # on a GPU the first step is slow
    python bench/recipes.py --tiny # does it run? two recipes on a small network
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the layouts are those of the tests

import torch
from step import PAPER, vocabulary
from torch import Tensor, nn

from medcoss_cli.console import Screen
from medcoss_cli.datasets import LABELLED
from medcoss_cli.finetuning.setup import spec_of
from medcoss_cli.finetuning.spec import build, for_task
from medcoss_cli.finetuning.trainer import Training, parameters_of
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.finetuned import FinetunedNetwork
from medcoss_cli.plugin import Modality
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.registry.configure import for_stage
from medcoss_cli.store.progress import Progress
from medcoss_cli.tasks import TaskKind
from medcoss_cli.tasks.pooled import PooledTask
from medcoss_cli.tasks.segmentation_data import masks_loss
from medcoss_cli.tasks.spec import TaskSpec
from medcoss_cli.training.distributed import Devices

NAMES = [name for name in LABELLED if name != "folder"]  # that one is for sets of one's own
STEPS = int(os.environ.get("STEPS", "1"))
SMALL = EncoderShape(32, 2, 2)


def medcoss(folder: Path, *words: str) -> str:
    """What a verb printed that was called in `folder`. Raises: SystemExit with it where the verb failed."""
    command = [sys.executable, "-m", "medcoss_cli", *words]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"medcoss {' '.join(words)}: exit {process.returncode}\n{process.stdout}{process.stderr}")
    return process.stdout + process.stderr


def recipe_of(name: str) -> FinetuneRecipe:
    """A recipe of the paper, or of a run."""
    recipe = read_recipe(name, [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    return recipe


def small_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """A size of as many axes for a first try."""
    return tuple(min(side, 32) for side in size)


class RandomSamples:
    """Noise of a recipe's shape, with targets; the loss is the real one (see `medcoss_cli.tasks.TaskData`)."""

    data_hash = ""

    def __init__(self, inputs: Tensor, spec: TaskSpec, kind: TaskKind) -> None:
        self.inputs, self.cases = inputs, len(inputs)
        if isinstance(kind, PooledTask):
            self.targets = torch.arange(len(inputs), device=inputs.device) % len(spec.classes)
            self.loss: Callable[[Tensor, Tensor], Tensor] = kind.loss
        else:
            self.targets = (inputs[:, :1] > inputs.mean()).to(torch.uint8) * len(spec.classes)
            self.loss = partial(masks_loss, values=spec.target["values"], weight=torch.ones(len(spec.classes)))

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The same at every step."""
        return self.inputs, self.targets

    def validate(self, network: FinetunedNetwork, device: torch.device) -> None:
        """There is nothing to validate on."""

    def initialise(self, head: nn.Module) -> None:
        """Nothing is known of the targets."""


def random_steps(name: str, devices: Devices, steps: int, *, tiny: bool) -> dict[str, Any]:
    """Steps of a recipe's network on noise of its shape, batch and precision; no file is read.

    Returns: batch, size, parameters (millions), seconds (the median of the steps after the first, if there are any).
    """
    recipe = recipe_of(name)
    fitted = for_stage(recipe.modality, {}, Screen(), tokenizer=recipe.tokenizer)
    size, batch = tuple(recipe.input.size or fitted.size), recipe.train.batch
    if tiny:
        size, batch = small_size(size), 2
    words = 300 if tiny else PAPER.words
    text = fitted.pretext == "masked_words"
    modality = for_task(fitted, fitted.tokenizer.key, size, vocabulary(words) if text else None, None)
    kind, classes = recipe.task_kind(), list(recipe.classes or "12")
    target = {"values": recipe.classes, "shares": [1 / len(classes)] * len(classes)}
    spec = spec_of(recipe, kind, modality, asdict(SMALL if tiny else EncoderShape()), classes, target, None)
    network = build(spec, modality, drop_path=recipe.head.drop_path)
    tune = recipe.train.model_copy(update={"steps": steps, "batch": batch, "validate_every": None})
    data = RandomSamples(noise(modality, batch, words).to(devices.device), spec, kind)
    with tempfile.TemporaryDirectory() as scratch:
        Training(network, kind, data, tune, 0, Progress(Path(scratch)), devices, Screen()).run()
        rows = [json.loads(line) for line in (Path(scratch) / "metrics.jsonl").read_text().splitlines()]
    took = [row["seconds"] for row in rows if "seconds" in row]
    return {
        "batch": batch,
        "size": "x".join(map(str, size)),
        "parameters": parameters_of(network)["weights"] / 1e6,
        "seconds": statistics.median(took[1:] or took),
    }


def noise(modality: Modality, batch: int, words: int) -> Tensor:
    """(batch, C, *size) in [0, 1), or ids (batch, L)."""
    draw = torch.Generator().manual_seed(0)
    if modality.pretext == "masked_words":
        return torch.randint(5, words, (batch, *modality.size), generator=draw)
    return torch.rand(batch, modality.channels, *modality.size, generator=draw)


def main() -> None:
    """One row a recipe; the time is that of the step alone, reading and the test that follows left out."""
    from tests.datasets.layouts import write

    tiny, names = "--tiny" in sys.argv, [name for name in sys.argv[1:] if name != "--tiny"]
    print(f"{'recipe':10} {'batch':>5} {'input':>14} {'weights':>9} {'step':>8} {'memory':>9}  dry run", flush=True)
    for name in names or (["pubmed20k", "qata"] if tiny else NAMES):
        recipe, overrides = recipe_of(name), [f"train.steps={STEPS}", "predict.mirror=false"]
        if tiny:
            side = ",".join(map(str, small_size(tuple(recipe.input.size or (32, 32)))))
            overrides += [f"input.size=[{side}]", "train.batch=2", "encoder={width: 32, depth: 2, heads: 2}"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            root = write(name, folder / "data" / recipe.data.folder)
            medcoss(folder, "data", "manifest", name, "--root", str(root))
            medcoss(folder, "recipes", "validate", name)
            common = ["finetune", name, "--from", "scratch", "--data-root", "data"]
            dry = medcoss(folder, *common, "--dry-run").strip().splitlines()[-1]
            medcoss(folder, *common, "--name", "steps", *overrides)
            run = folder / "runs" / "steps"
            tuned = recipe_of(str(run / "recipe.yaml"))
            step = json.loads((run / f"seed-{recipe.seed}" / "metrics.jsonl").read_text().splitlines()[STEPS - 1])
            seed = json.loads((run / "results.json").read_text())["seeds"][0]
        gpu = f"{seed['peak_gpu_memory_gib']:5.1f} GiB of the GPU's" if "peak_gpu_memory_gib" in seed else ""
        size = "x".join(map(str, tuned.input.size or ["default"]))
        print(
            f"{name:10} {tuned.train.batch:5} {size:>14} {seed['weights']['weights'] / 1e6:7.1f} M {step['seconds']:6.1f} s "
            f"{seed['peak_memory_gib']:5.1f} GiB {gpu} {dry}",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
