"""The colours of classes, the same in every picture."""

from __future__ import annotations

COLOURS = (
    (230, 25, 45),
    (40, 175, 75),
    (60, 110, 240),
    (255, 205, 30),
    (0, 190, 210),
    (225, 70, 225),
    (245, 130, 50),
    (150, 80, 200),
    (165, 225, 80),
    (165, 100, 40),
)
"""RGB of the first class, the second, and so on, beginning again after the last. Organs red, tumours green (Fig. 8)."""


def colour(label: int) -> tuple[int, int, int]:
    """RGB of a label, 1 being the first class; the background is black."""
    return COLOURS[(label - 1) % len(COLOURS)] if label else (0, 0, 0)
