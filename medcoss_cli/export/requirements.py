"""Which distributions using an exported file needs: found by using its modality in a process without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from medcoss_cli.data.read import encode, read_checked
from medcoss_cli.plugin import Record
from medcoss_cli.registry.discovery import distribution_of, load_modality, load_task, task_distribution

BASE = ("numpy", "onnxruntime")
_ASKED = """
import json, sys
for name in ("torch", "torchvision", "timm", "monai"):
    sys.modules[name] = None  # so that importing it fails
import medcoss_cli.cli.app, medcoss_cli.cli.predict, medcoss_cli.predict, medcoss_cli.export.runtime
from medcoss_cli.export.requirements import used
print(json.dumps(used(*sys.argv[1:])))
"""


def needed(modality: str, task: str | None = None) -> list[str]:
    """Distributions to install beside medcoss and the plugins; with torch where a plugin needs it.

    Args:
        task: its kind; None: an encoder without a head.
    """
    extras = load_task(task).packages if task else ()
    names = [modality, task] if task else [modality]
    process = subprocess.run([sys.executable, "-c", _ASKED, *names], capture_output=True, text=True, check=False)
    if process.returncode:
        return sorted({*BASE, *extras, "torch"})
    return sorted({*json.loads(process.stdout.splitlines()[-1]), *extras})


def used(modality: str, task: str | None = None) -> list[str]:
    """Read a demo sample as `predict` would, and list what medcoss and the plugins require that is imported by now.

    Raises: ImportError where torch is asked for.
    """
    plugins = {"medcoss", distribution_of(modality).split()[0]}
    if task is not None:
        load_task(task)
        plugins.add(task_distribution(task).split()[0])
    part = load_modality(modality)
    if part.demo is not None:
        with tempfile.TemporaryDirectory() as scratch:
            part.demo(Path(scratch) / "demo", 1, 0)
            record = next(item for item in part.loader.find(Path(scratch) / "demo", "all") if isinstance(item, Record))
            sample = read_checked(part, record)
            text = part.text_tokenizer
            if text is not None:
                part = part.with_vocabulary(text.learn([sample.array], [None]))
            encode(part, sample)
    modules = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    packages = packages_distributions()
    imported = {_name(distribution) for module in modules for distribution in packages.get(module, [])}
    required = {name for plugin in plugins for name in _requires(plugin)}
    return sorted((imported & required) | set(BASE))


def _requires(distribution: str) -> set[str]:
    """Names of what a distribution needs in any case."""
    lines = [line for line in requires(distribution) or [] if "extra ==" not in line]
    return {_name(re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]) for line in lines} - {"medcoss"}


def _name(distribution: str) -> str:
    """As the package index compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
