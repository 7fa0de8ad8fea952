"""The kind of task classification."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medcoss_cli.data.recordings import averaged
from medcoss_cli.tasks.classification import Classification
from medcoss_cli.tasks.spec import TaskSpec

EMPTY: dict[str, Any] = dict.fromkeys(TaskSpec.__dataclass_fields__)
SPEC = replace(TaskSpec(**EMPTY), classes=["a", "b", "c"], target={"shares": [0.2, 0.5, 0.3]})


def test_the_baseline_is_what_training_saw_most() -> None:
    kind = Classification()
    outputs = np.repeat(kind.trivial(SPEC)[None], 4, axis=0)
    assert kind.score(outputs, np.array([1, 1, 0, 2]))["accuracy"] == 0.5
    row = kind.row(SPEC, outputs[0])
    assert row.items() >= {"predicted": "b", "p_a": 0.2, "p_b": 0.5, "p_c": 0.3}.items()
    assert [row[f"log_p_{name}"] for name in "abc"] == pytest.approx([math.log(x) for x in (0.2, 0.5, 0.3)])


def test_sure_predictions_are_ranked_in_scores_and_in_what_is_written() -> None:
    """Logits 30 to 60 apart: all probabilities are 1 or 0, and the order of the cases is still known."""
    kind, two = Classification(), replace(SPEC, classes=["a", "b"])
    truth = np.array([0, 0, 0, 1, 1, 1])
    outputs = kind.finish(np.stack([-np.array([30, 40, 45, 50, 55, 60.0]), np.zeros(6)], axis=1).astype(np.float32))
    assert kind.score(outputs, truth)["auc_ovo"] == 1.0  # 0.5 of probabilities
    rows = [kind.row(two, output) for output in outputs]
    assert {row["p_b"] for row in rows} == {1.0}
    assert [row["log_p_a"] for row in rows] == pytest.approx([-30, -40, -45, -50, -55, -60])


def test_recordings_have_the_mean_of_their_parts_probabilities() -> None:
    kind, logits = Classification(), np.random.default_rng(0).normal(size=(5, 3))
    parts = [[0, 3], [1], [2, 4]]
    averages = kind.average(kind.finish(logits), parts)
    assert np.exp(averages) == pytest.approx(averaged(np.exp(kind.finish(logits)), parts))
    assert np.array_equal(averages[1], kind.finish(logits)[1])


def test_the_f1_of_two_classes_names_its_class() -> None:
    scores = {"accuracy": 0.5, "f1": 0.5, "f1_macro": 0.5}
    assert Classification().headings(["healthy", "ill"], scores)["f1"] == "F1 of ill"
    assert Classification().headings(["a", "b", "c"], scores)["f1"] == "F1"


def test_rare_classes_weigh_more() -> None:
    kind, targets = Classification(), torch.tensor([0, 0, 0, 1])
    weight = kind.weights(replace(SPEC, classes=["a", "b"]), targets.numpy())
    assert weight.tolist() == pytest.approx([4 / 6, 2.0])
    logits = torch.tensor([[2.0, 0.0]] * 4)
    assert kind.loss(logits, targets, weight) > kind.loss(logits, targets)


def test_a_score_that_is_not_a_number_does_not_choose() -> None:
    scores = {"accuracy": 0.5, "auc_ovo": math.nan, "f1": 0.25}
    assert Classification().criterion(scores) == 0.75


def test_a_confusion_is_one_seeds_and_damage_is_passed_over() -> None:
    kind, table = Classification(), [[1, 2], [3, 4]]
    [drawn] = kind.figures([(3, {"confusion": table}), (5, {"confusion": [[4, 3], [2, 1]]}), (7, {})], ["a", "b"])
    assert drawn.counts == table  # type: ignore[union-attr]
    assert "of seed 3 alone" in drawn.about
    assert kind.figures([(0, {"confusion": [[1, 2], "damaged"]}), (1, {"confusion": 3})], ["a", "b"]) == []
