"""medcoss: one encoder, many kinds of medical data, one kind after another, without forgetting.

In Python: `from medcoss_cli import load, finetune`. Importing this imports neither torch nor numpy.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# onnxruntime from 1.29 on sends facts on each model that is opened to its vendor, and keeps an id of the machine in the
# home folder. It looks at this once, when it is imported, so it is set before anything of medcoss can do so; for the
# same reason a 0 of the user's is not kept: nothing leaves the machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_DOOR = ("load", "finetune")
"""What is imported from `medcoss_cli.python` when it is first asked for; their types stand in __init__.pyi."""


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(import_module("medcoss_cli.python"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOOR])


class _Package(ModuleType):
    """Python binds an imported submodule to its package: that of the verb `finetune` must not hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _DOOR and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
