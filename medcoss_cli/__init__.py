"""medcoss: one encoder, many kinds of medical data, one kind after another, without forgetting."""

__version__ = "0.1.0"
