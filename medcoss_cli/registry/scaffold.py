"""`plugins new`: a distribution for a new plugin that passes its own tests as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from medcoss_cli.errors import UsageError
from medcoss_cli.registry import discovery
from medcoss_cli.store import atomic

TEMPLATES = Path(__file__).parents[1] / "template"

_DIMS = {
    1: {
        "size": "(512,)",
        "loader": "SignalFolder()",
        "tokenizer": "patch1d-16",
        "imports": "Patches, SignalFolder",
        "what": "signals as CSV (a column per channel)",
        "hint": 'of 12 leads: channels=12 and Patches(key="patch1d-16-$name", channels=12)',
    },
    2: {
        "size": "(224, 224)",
        "loader": "ImageFolder()",
        "tokenizer": "patch2d-16",
        "imports": "ImageFolder, Patches",
        "what": "grey images as PNG, JPEG, TIFF or BMP",
        "hint": 'colour: channels=3 and ImageFolder(grey=False); DICOM: ImageFolder(dicom=("US",))',
    },
    3: {
        "size": "(16, 192, 192)",
        "loader": "VolumeFolder(dicom=(), spacing=None)",
        "tokenizer": "patch3d-16",
        "imports": "Patches, VolumeFolder",
        "what": "volumes as NIfTI, NRRD or MHA",
        "hint": 'DICOM series: VolumeFolder(dicom=("PT",), spacing=None)',
    },
}


_INSTALLED = {"modality": discovery.names, "strategy": discovery.strategy_names, "task": discovery.task_names}
"""Names that are taken, by kind of plugin; each kind has a folder of templates of its name."""


def new_plugin(kind: str, name: str, where: Path, *, dims: int = 2) -> Path:
    """Write `where/medcoss-<name>` from the folder of templates of this kind; returns its folder.

    Args:
        kind: "modality", or another key of `_INSTALLED`.
        dims: of a modality.

    Raises: UsageError for a name that is no identifier or is taken, or a folder that is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} cannot name a {kind}", fix="use lower-case letters, digits and underscores: ecg")
    if name in _INSTALLED[kind]():
        raise UsageError(f"the name {name} is taken by an installed {kind}", fix="choose another")
    folder = where / f"medcoss-{name}"
    if folder.exists():
        raise UsageError(
            "the folder is there already", where=folder, fix="remove it, or choose another place with --where"
        )
    words = {"name": name, "title": _title(name), "class_name": name.title().replace("_", "")}
    if kind == "modality":
        words |= {"dims": str(dims), **_DIMS[dims]}
        words["hint"] = Template(words["hint"]).substitute(name=name)
    templates = TEMPLATES / kind
    for source in sorted(templates.rglob("*.txt")):
        path = source.relative_to(templates).with_suffix("")
        if path.name.startswith("demo") and path.name != f"demo{dims}.py":
            continue
        target = folder / str(path).replace("NAME", name).replace(f"demo{dims}.py", "demo.py")
        atomic.write(target, Template(source.read_text(encoding="utf-8")).substitute(words).encode())
    return folder


def _title(name: str) -> str:
    """As in "ECG" or "Slit lamp": short names are mostly abbreviations."""
    return name.upper() if len(name) <= 3 else name.replace("_", " ").capitalize()
