"""Two stages of pre-training on synthetic images in memory, through the engine that real runs use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import Plan, Pool, StoredSamples, batches
from medcoss_cli.errors import Interrupted
from medcoss_cli.kit import ImageFolder, Patches, PixelDecoder
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, Modality
from medcoss_cli.pretraining.engine import Engine
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import PretrainRecipe
from medcoss_cli.recipe.strategy import StrategyChoice
from medcoss_cli.registry.complete import complete
from medcoss_cli.store.run import Run
from medcoss_cli.strategies import Losses, StageInfo, Strategy
from medcoss_cli.training.distributed import Devices

NAMES = ("first", "second")
SAMPLES, KEPT, BATCH, EPOCHS = 24, 8, 8, 3.0


class ToyRun:
    """One encoder, two modalities of 8 x 8 pixels, one strategy object."""

    def __init__(self, cls: type[Strategy], settings: Strategy.Settings, folder: Path) -> None:
        self.model = Model(EncoderShape(width=16, depth=2, heads=2), seed=0)
        self.strategy = cls(settings)
        train = {"batch": BATCH, "epochs": EPOCHS, "warmup": 1.0, "lr": 1e-2, "precision": "fp32", "workers": 0}
        self.names = NAMES[:1] if cls.single_stage else NAMES
        stages = [{"modality": name, "data": name} for name in self.names]
        recipe = PretrainRecipe.model_validate(
            {
                "kind": "pretrain",
                "strategy": StrategyChoice(cls.__name__, settings, cls),
                "train": train,
                "stages": stages,
            }
        )
        run = Run.create(folder.parent, folder.name, recipe={}, facts={}, overwrite=True, exact=True)
        devices = Devices(torch.device("cpu"))
        self.job = Job(recipe, recipe.stages, 0, State(self.model), run, folder, folder, devices, Screen())
        self.pools = [Pool(_modality(name), _samples(number), np.arange(SAMPLES)) for number, name in enumerate(NAMES)]

    def add(self, number: int) -> None:
        """Add the parts of stage `number` to the model, unless they are in it."""
        if NAMES[number - 1] not in self.model.modalities:
            self.model.add(self.pools[number - 1].modality)

    def begin(self, number: int) -> Strategy:
        """The model with the parts of stage `number`, and the strategy at its beginning."""
        self.add(number)
        name = NAMES[number - 1]
        self.info = StageInfo(number, len(self.names), (name,), (name,), KEPT)
        old = [Pool(pool.modality, pool.source, pool.rows[:KEPT]) for pool in self.pools[: number - 1]]
        self.plan = Plan.make(
            0, number, BATCH, EPOCHS, 0.25, [self.pools[number - 1]], old if self.strategy.rehearses else []
        )
        self.strategy.begin_stage(self.model, self.info)
        return self.strategy

    def stage(self, number: int, stop_after: int | None = None) -> Iterator[Losses]:
        """Train a stage from where its resume.pt stands; yields the losses before they are used.

        Args:
            stop_after: a step after which the stage is interrupted as by a signal.

        Raises: NonFiniteError for a loss that is not finite.
        """
        self.begin(number)
        recipe = self.job.recipe
        arguments = self.plan, self.job, recipe.stages[number - 1], self.info, "toy", {NAMES[number - 1]: 1.0}  # type: ignore[union-attr]  # it is a PretrainRecipe
        with Engine(self.model, self.strategy, *arguments) as engine:
            for batch in engine.batches():
                loss = self.strategy.loss(self.model, batch)
                yield loss
                engine.interruption.requested = engine.at + 1 == stop_after
                engine.step(batch, loss)
        engine.end_stage()
        self.job.run.drop_resume()
        self.starts = [start for start in engine.starts if start < self.plan.steps]

    def finish_stage(self, number: int, stop_after: int | None = None) -> None:
        """Train a stage to its end, or to where it is interrupted."""
        try:
            for _ in self.stage(number, stop_after):
                pass
        except Interrupted:
            return

    def restart(self, weights: dict[str, Tensor], strategy: Strategy) -> None:
        """As after a restart: the model as the stage before left it, a new strategy object."""
        self.model = Model(self.model.shape, seed=0)
        for pool in self.pools[: sum(f"decoders.{name}." in "".join(weights) for name in NAMES)]:
            self.model.add(pool.modality)
        self.model.load_state_dict(weights)
        self.strategy = strategy

    def steps_within_phases(self) -> list[int]:
        """A step in each phase of the last stage, the first of them and the one that ends a phase among them."""
        ends = [*self.starts[1:], self.plan.steps - 1]
        return sorted({1, *ends, *((a + b + 1) // 2 for a, b in zip(self.starts, ends, strict=True))} - {0})

    def whole_batches(self) -> Iterator[Batch]:
        """The first batch of new and of old data of the stage that has begun."""
        modalities = {pool.modality.name: pool.modality for pool in self.pools}
        kinds = set()
        for batch in batches(
            self.plan,
            modalities,
            start=0,
            partners=self.strategy.partners,
            accumulate=1,
            rank=0,
            ranks=1,
            workers=0,
            device=torch.device("cpu"),
        ):
            if batch.new not in kinds:
                kinds.add(batch.new)
                yield batch


def _modality(name: str) -> CompleteModality:
    return complete(
        Modality(
            name=name,
            title=name,
            dims=2,
            size=(8, 8),
            channels=1,
            loader=ImageFolder(),
            tokenizer=Patches(key="patch2d-2"),
            decoder=PixelDecoder(width=8, depth=1, heads=2),
        )
    )


def _samples(number: int) -> StoredSamples:
    """Bright squares (0) or rows (1) at random places."""
    rng = np.random.default_rng(number)
    images = rng.integers(0, 60, (SAMPLES, 1, 8, 8))
    for image in images:
        y, x = rng.integers(0, 5, 2)
        image[0, y : y + 3, slice(x, x + 3) if number == 0 else slice(None)] += 150
    return StoredSamples(torch.from_numpy(images.astype(np.uint8)), torch.ones(SAMPLES), torch.zeros(SAMPLES))
