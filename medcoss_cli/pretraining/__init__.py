"""Pre-training: from a recipe to stages, steps, rehearsal and retention."""
