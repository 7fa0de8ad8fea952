"""The model card that lies beside an exported file, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medcoss_cli.export.metadata import Description

_WHAT = {
    "encoder": "the shared encoder alone: tokens and which of them are real, to features",
    "features": "inputs of one modality to features of every token, and one pooled feature a sample",
    "task": "inputs of one modality to the outputs of a fine-tuned head",
}


def write(about: Description, facts: Mapping[str, Any], name: str, use: Sequence[str]) -> str:
    """A card of what is in the file, how it was verified, and how it is used (lines of Markdown)."""
    lines = [
        f"# {name}",
        "",
        f"medcoss {about.versions['medcoss']}: {_WHAT[about.kind]}.",
        "",
        f"**{about.intended_use}**",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in _facts(about, facts)),
        "",
        "## Verification",
        "",
        f"{facts['against']} against torch in fp32, on {facts['samples']}. The difference is the largest of all outputs, "
        "absolute and in std of the output; the cosine is the smallest of a sample's pooled output.",
        "",
        "| batch | size | difference | in std | cosine |",
        "| ---: | --- | ---: | ---: | ---: |",
        *(
            f"| {row['batch']} | {' x '.join(map(str, row['size']))} | {row['difference']:.2g} | {row['relative']:.2g} "
            f"| {row['cosine']:.6f} |"
            for row in facts["rows"]
        ),
        "",
        *_neighbours(facts),
        "## Use",
        "",
        *use,
    ]
    return "\n".join(lines) + "\n"


def _facts(about: Description, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape = about.encoder
    rows = [
        ("input", ", ".join(f"{axis} {_size(size)}" for axis, size in zip(about.axes, about.sizes, strict=True))),
        (
            "precision",
            f"{about.precision}{f', opset {about.opset}' if about.opset else ''}, {facts['bytes'] / 2**20:.1f} MiB",
        ),
        ("network", str(shape["title"]))
        if "network" in shape
        else ("encoder", f"width {shape['width']}, depth {shape['depth']}, {shape['heads']} heads"),
    ]
    if about.modality is not None:
        rows.append(("modality", f"{about.title} ({about.modality}, {about.distribution})"))
    if about.value_range is not None:
        rows.append(("values seen", f"{about.value_range[0]:.3g} to {about.value_range[1]:.3g}, {about.unit}"))
    if about.intensity is not None:
        rows.append(("intensity", ", ".join(f"{key} {value}" for key, value in about.intensity.items())))
    if about.spacing is not None:
        rows.append(("spacing", " x ".join(f"{mm:g}" for mm in about.spacing) + " mm"))
    if about.vocabulary is not None:
        rows.append(("tokenizer", f"lies beside, SHA-256 {about.vocabulary}"))
    if about.classes is not None:
        rows.append(("classes", ", ".join(about.classes)))
    return [
        *rows,
        ("licence of the weights", about.licence),
        ("made from", f"SHA-256 {about.checkpoint}"),
        ("SHA-256", str(facts["sha256"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in about.versions.items())),
    ]


def _size(size: Any) -> str:
    return f"a multiple of {size['step']}" if isinstance(size, dict) else "any" if size == "any" else str(size)


def _neighbours(facts: Mapping[str, Any]) -> list[str]:
    if facts["neighbours"] is None:
        return []
    shares = facts["neighbours"]
    from_file = next(share for name, share in shares.items() if name != "torch")
    return [f"Nearest-neighbour accuracy: torch {shares['torch']:.3f}, this file {from_file:.3f}.", ""]
