"""Metrics of fine-tuning, as the paper has them and exact beside them."""

from medcoss_cli.metrics.classes import classification, confusion
from medcoss_cli.metrics.intervals import bootstrap, group_numbers
from medcoss_cli.metrics.masks import (
    EMPTY_PENALTY,
    OF,
    dice,
    dice_paper,
    hd95,
    hd95_directed,
    mask_case,
    mask_summary,
    object_f1,
)

__all__ = [
    "EMPTY_PENALTY",
    "OF",
    "bootstrap",
    "classification",
    "confusion",
    "dice",
    "dice_paper",
    "group_numbers",
    "hd95",
    "hd95_directed",
    "mask_case",
    "mask_summary",
    "object_f1",
]
