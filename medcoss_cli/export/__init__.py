"""Export of a checkpoint or a fine-tuned run, verified before it gets its name."""
