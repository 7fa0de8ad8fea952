"""The two kinds of task that fine-tuning knows: what they are trained on, how they are tested and applied."""
