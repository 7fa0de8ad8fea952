"""What the tests of plugins share: distributions written into a folder as pip leaves them, and medcoss run beside them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

from medcoss_cli.registry import discovery

MODALITY = """
from medcoss_cli.kit import ImageFolder, Patches
from medcoss_cli.plugin import Modality, hookimpl
PLUGIN_API = {api}
@hookimpl
def medcoss_modalities():
    {body}
"""


def modality(name: str, **parts: str) -> str:
    """The body of a hook that returns one modality of small grey images; `parts` are Python text."""
    given = {"title": repr(name), "dims": "2", "size": "(32, 32)", "channels": "1", "loader": "ImageFolder()", **parts}
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    return f"return [Modality(name={name!r}, {arguments})]"


def install(
    site: Path, name: str, code: str | None, group: str = "medcoss", called: str | None = None, version: str = "1.0"
) -> None:
    """What pip install leaves: metadata with one entry point, and a module (None: forgotten). Another version replaces it."""
    for old in site.glob(f"medcoss_x_{name}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    info = site / f"medcoss_x_{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medcoss-x-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{called or name} = medcoss_x_{name}\n")
    if code is not None:
        (site / f"medcoss_x_{name}.py").write_text(code)


def code_of(module: str, name: str) -> str:
    """A plugin's code that brings a modality which a test's module has under this name."""
    return f"""
from {module} import {name} as modality
from medcoss_cli.plugin import hookimpl
PLUGIN_API = 1
@hookimpl
def medcoss_modalities():
    return [modality]
"""


def put(site: Path, name: str, code: str, version: str = "1.0") -> None:
    """Install it for this process, in place of another version of it; `site` is on sys.path."""
    install(site, name, code, version=version)
    sys.modules.pop(f"medcoss_x_{name}", None)
    importlib.invalidate_caches()
    discovery.forget()


def medcoss(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`medcoss ...` in a process of its own that sees what is installed in `site`, which is also where it runs."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "medcoss_cli", *arguments]
    return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, check=False)
