"""The kind of task segmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medcoss_cli.tasks.segmentation import Segmentation, values_of
from medcoss_cli.tasks.spec import TaskSpec


def test_values_are_in_the_classes_order_whatever_order_a_file_keeps() -> None:
    """An exported file's JSON has sorted keys, while the network's channels are in the classes' order."""
    empty: dict[str, Any] = dict.fromkeys(TaskSpec.__dataclass_fields__)
    spec = replace(TaskSpec(**empty), classes=["organ", "lesion"], target={"values": {"lesion": [2], "organ": [1, 2]}})
    assert list(values_of(spec)) == ["organ", "lesion"]


def test_a_row_without_the_dice_of_a_class_is_a_fault() -> None:
    empty: dict[str, Any] = dict.fromkeys(TaskSpec.__dataclass_fields__)
    spec = replace(TaskSpec(**empty), classes=["organ", "lesion"])
    assert Segmentation({}).row_fault(spec, {"dice_organ": 1.0, "dice_lesion": 0.5}) is None
    assert Segmentation({}).row_fault(spec, {"dice_organ": 1.0}) == "there is no number in a column dice_lesion"
