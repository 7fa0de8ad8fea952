"""The Python door: `load` a checkpoint, a fine-tuned run or an exported file, and `finetune` on a table or a folder."""

from medcoss_cli.python.loaded import Loaded
from medcoss_cli.python.sources import load
from medcoss_cli.python.tuning import Result, finetune

__all__ = ["Loaded", "Result", "finetune", "load"]
