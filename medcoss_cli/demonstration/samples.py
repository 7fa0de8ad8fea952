"""Samples for the picture: hidden and reconstructed ones, and test images with what a head says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import LabelledSet
from medcoss_cli.data.preview import cells, read_some, reconstructions, stored
from medcoss_cli.data.read import find, read_checked
from medcoss_cli.demonstration.picture import Prediction, Strip
from medcoss_cli.errors import DataError
from medcoss_cli.finetuning.checkpoints import best_seed, renewed
from medcoss_cli.finetuning.dataset import find_cases, for_test
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.outputs import log_softmax


def strips(model: Model, data: Path) -> list[Strip]:
    """An image of the first modality of images and a slice of the first of volumes: test data where there is any."""
    shown = []
    for dims in (2, 3):
        name = next((name for name, modality in model.modalities.items() if modality.dims == dims), None)
        if name is None:
            continue
        modality = model.modalities[name]
        try:
            found = find(modality, data / name, "test")
        except DataError:  # a dozen volumes may have none
            found = find(modality, data / name, "all")
        [shown_sample] = read_some(modality, found, 1)
        views = reconstructions(model, name, [shown_sample.sample], 0)
        flat: dict[str, Any] = {}
        for title, batch in views.items():
            slices = cells(modality, batch)
            flat[title] = slices[len(slices) // 2]
        shown.append(Strip(modality.title.partition(" (")[0], **flat))
    return shown


def accuracy(run: Path, model: Model, checkpoint: Path, folder: Path, prepared: Path) -> float:
    """Accuracy of a run's head on its test images under a newer encoder: `medcoss evaluate --encoder` without intervals."""
    head, screen = best_seed(run, None, Screen()), Screen()
    cases, _ = find_cases(head.modality, folder, head.kind.target, screen=screen)
    labelled = LabelledSet(head.modality, folder, for_test(cases, screen), prepared, 1, 0.05, screen)
    newer = replace(head, network=renewed(head, checkpoint, screen))
    result = head.kind.evaluate(newer.predictor(model.encoder.cls.device), labelled, head.seed).result
    share: float = result["metrics"]["accuracy"]
    return share


def first_of_each(run: Path, folder: Path) -> list[Prediction]:
    """The first test image of each class, in the order of the manifest, with the prediction of a run's head."""
    head = best_seed(run, None, Screen())
    cases, _ = find_cases(head.modality, folder, head.kind.target, screen=Screen())
    predictor = head.predictor(torch.device("cpu"))
    predictions = []
    for label in head.spec.classes:
        case = next((case for case in cases if case.split == "test" and case.label == label), None)
        if case is None or case.record is None:
            continue
        sample = read_checked(head.modality, case.record)
        scores = np.exp(log_softmax(predictor.outputs(sample)))
        seen = head.modality.intensity.decode(*stored(head.modality, [sample]))
        likely = int(scores.argmax())
        image = cells(head.modality, seen)[0]
        predictions.append(Prediction(image, label, head.spec.classes[likely], float(scores[likely])))
    return predictions
