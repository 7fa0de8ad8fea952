"""A linear model without an encoder: what a task is worth if pixels, colours or words alone tell the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medcoss_cli.console import Screen
from medcoss_cli.finetuning.setup import settle
from medcoss_cli.model.outputs import Array
from medcoss_cli.recipe.comparison import SCRATCH
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.tasks.pooled import PooledTask
from medcoss_cli.training.runs import Options

GRID = {1: (1024,), 2: (16, 16), 3: (4, 8, 8)}
"""What inputs are averaged to, by dims: so many means of pixels a channel, or bins that words are counted in."""
PENALTIES = (1.0, 0.1, 0.01, 1e-3)
"""Of the squared weights; the one that is best on validation is taken."""


def simple(recipe: FinetuneRecipe, options: Options, screen: Screen) -> dict[str, Any]:
    """Metrics on the test and the validation samples of a linear model on averaged pixels, their mean and std, or word counts.

    Returns: {} for a kind of task that has more than one target a sample.
    """
    kind, spec, _, _, labelled, _ = settle(recipe, SCRATCH, options, screen)
    if not isinstance(kind, PooledTask):
        return {}
    data = kind.data(spec, labelled, "none", balance=False)
    dims = labelled.modality.dims
    rows = {split: data.rows(split) for split in ("train", "val", "test")}
    inputs = {split: features(data.inputs(numbers), dims) for split, numbers in rows.items() if len(numbers)}
    mean, std = inputs["train"].mean(0), inputs["train"].std(0).clamp(min=1e-6)
    inputs = {split: ((x - mean) / std).clamp(-10, 10) for split, x in inputs.items()}
    targets = {split: data.targets[numbers] for split, numbers in rows.items()}
    models = [_fitted(kind, inputs["train"], targets["train"], kind.width(spec), penalty) for penalty in PENALTIES]

    def score(model: nn.Linear, split: str) -> dict[str, float]:
        with torch.no_grad():
            outputs: Array = model(inputs[split]).numpy()
        parts = data.parts(rows[split])
        first = [places[0] for places in parts]
        return kind.score(kind.average(kind.finish(outputs), parts), targets[split][first])

    chosen_on = "val" if "val" in inputs else "train"
    scores = [score(model, chosen_on) for model in models]
    best = int(np.argmax([kind.criterion({**one, "loss": 0.0}) for one in scores]))
    return {
        "kind": kind.name,
        "features": int(inputs["train"].shape[1]),
        "validation": scores[best],
        "metrics": score(models[best], "test") if "test" in inputs else None,
    }


def features(inputs: Tensor, dims: int) -> Tensor:
    """(N, k) of images or volumes (N, C, *size): means over a coarse grid, mean and std of each channel; of ids (N, L) counts."""
    if dims == 1:
        bins = inputs % GRID[1][0]
        return torch.zeros(len(inputs), GRID[1][0]).scatter_add_(1, bins, (inputs > 0).float())
    size = [min(a, b) for a, b in zip(GRID[dims], inputs.shape[2:], strict=True)]
    pool = nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d
    coarse: Tensor = pool(tuple(size))(inputs).flatten(1)
    flat = inputs.flatten(2)
    return torch.cat([coarse, flat.mean(2), flat.std(2)], dim=1)


def _fitted(kind: PooledTask, inputs: Tensor, targets: Array, width: int, penalty: float) -> nn.Linear:
    """The linear model of the least loss plus penalty; convex, so that its start does not matter."""
    model = nn.Linear(inputs.shape[1], width)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    truth = torch.from_numpy(targets)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = kind.loss(model(inputs), truth) + penalty * model.weight.square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return model
