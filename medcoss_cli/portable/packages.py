"""Which distributions using an exported file needs: found by using its modality in a process without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from medcoss_cli.discovery import distribution_of

ABSENT = ("torch", "torchvision", "timm", "monai")
BASE = ("numpy", "onnxruntime")


def needed(modality: str) -> list[str]:
    """Distributions to install beside medcoss and the plugin; with torch where the plugin's reader needs it."""
    asked = "import sys, json; from medcoss_cli.portable import packages; print(json.dumps(packages.used(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", asked, modality], capture_output=True, text=True, check=False)
    if done.returncode:
        return sorted({*BASE, "torch"})
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def used(modality: str) -> list[str]:
    """Read a demo sample as `predict` would, torch forbidden, and list the distributions that were imported for it.

    Those that another of the list brings along are left out. Raises: ImportError where torch is asked for.
    """
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]  # so that importing it fails
    import medcoss_cli.cli.app
    import medcoss_cli.cli.predict
    import medcoss_cli.predict  # noqa: F401 - as the verb does
    from medcoss_cli.data.read import encode, read_checked
    from medcoss_cli.discovery import load_modality
    from medcoss_cli.plugin import Record
    from medcoss_cli.portable import session  # noqa: F401

    known = load_modality(modality)
    if known.demo is not None:
        with tempfile.TemporaryDirectory() as scratch:
            known.demo(Path(scratch) / "demo", 1, 0)
            record = next(item for item in known.loader.find(Path(scratch) / "demo", "all") if isinstance(item, Record))
            sample = read_checked(known, record)
            if known.channels:
                encode(known, sample)
    modules = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    brought = packages_distributions()
    own = {"medcoss", distribution_of(modality).split()[0]}
    found = {dist for name in modules for dist in brought.get(name, [])} - own | set(BASE)
    implied = {name for dist in found for name in _requires(dist)}
    return sorted(found - implied | set(BASE))


def _requires(distribution: str) -> set[str]:
    """Names of what a distribution needs in any case."""
    said = [line for line in requires(distribution) or [] if "extra ==" not in line]
    return {re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0] for line in said}
