"""Weights that were trained elsewhere, read without executing anything and put under medcoss's own names."""
