"""A modality of a test, installed for that test as a distribution of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from medcoss_cli.registry import discovery

MODULE = """\
from {module} import {name} as modality
from medcoss_cli.plugin import hookimpl
PLUGIN_API = 1
@hookimpl
def medcoss_modalities():
    return [modality]
"""


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, modality: str, module: str, name: str) -> None:
    """Install `name` of the module as a modality; `discovery.forget` when the patch is undone."""
    about = folder / f"toy_{modality}-0.1.dist-info"
    about.mkdir(parents=True)
    (folder / f"toy_{modality}.py").write_text(MODULE.format(module=module, name=name))
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-{modality}\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(f"[medcoss]\n{modality} = toy_{modality}\n")
    monkeypatch.syspath_prepend(str(folder))
    discovery.forget()
