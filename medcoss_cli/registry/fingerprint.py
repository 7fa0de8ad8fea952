"""Which plugin a modality came from, and how it read: kept with everything trained, compared before it is used again.

A fingerprint is plain values, holds no path and nothing of the user's, and lies in checkpoints, fine-tuned models, runs and
exported files. A difference that changes what the network sees is refused; another version or source that reads a fixed
sample as before is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from medcoss_cli.console import Screen
from medcoss_cli.data.identity import defaults_of, described, seen_values, source_of, stored_values
from medcoss_cli.errors import CheckpointError
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.registry.discovery import GROUP, distribution_of
from medcoss_cli.store import typed

TOLERANCE = 1e-3  # of the largest value: stored integers are rounded, and libraries differ in the last digits
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!]{0,30}")


class _Compared(BaseModel, strict=True, extra="ignore", allow_inf_nan=False):
    """What of a fingerprint is taken apart; the rest is compared as it is."""

    loader: dict[str, Any] | None = None
    intensity: dict[str, Any] | None = None
    stored: list[float] | None = None
    seen: list[float] | None = None


def fingerprint(modality: CompleteModality, *, decodes: bool = True) -> dict[str, Any]:
    """A modality as it is used now: its plugin's distribution and version, its parts, and what they make of a fixed sample.

    Args:
        decodes: False: without what the encoder sees, which needs torch; an exported file decodes by itself.
    """
    distribution, _, version = distribution_of(modality.name).rpartition(" ")
    parts = (modality.loader, modality.intensity, modality.augment, modality.tokenizer, modality.decoder)
    return {
        "distribution": distribution,
        "version": version,
        "source": source_of(*parts),
        "loader": described(modality.loader),
        "intensity": _intensity(modality),
        "augment": described(modality.augment),
        "size": list(modality.size),
        "channels": modality.channels,
        "tokenizer": {"key": modality.tokenizer.key, **modality.tokenizer.spec.to_plain()},
        "stored": stored_values(modality),
        **({"seen": seen_values(modality)} if decodes else {}),
    }


def _intensity(modality: CompleteModality) -> dict[str, Any]:
    """The rule; of words, which are the tokenizer itself, its name: the rest is the tokenizer's spec and a vocabulary."""
    rule = described(modality.intensity)
    same: Any = modality.tokenizer
    return {"part": rule["part"]} if modality.intensity is same else rule


def check_unchanged(
    trained: Mapping[str, Any] | None,
    modality: CompleteModality,
    screen: Screen,
    *,
    where: object = None,
    decodes: bool = True,
) -> None:
    """Compare a modality with the fingerprint it had when something was trained; None: it has none, nothing is compared.

    Prints a note where another version or source reads the same. Raises: CheckpointError that names what differs,
    or what of the fingerprint is damaged.
    """
    if not trained:
        return
    typed.checked(_Compared, trained, where, fix="use another copy of it", what="what is known of its plugin")
    installed = fingerprint(modality, decodes=decodes)
    version_trained = source_line(trained)
    if reasons := list(_differences(trained, installed, modality)):
        same_source = version_trained == source_line(installed)
        raise CheckpointError(
            f"the installed {modality.name} plugin is another one than in training: {'; '.join(reasons)}",
            where=where,
            fix="bring its source back to what it was, or train again" if same_source else f"install {version_trained}",
        )
    notes = []
    if trained.get("augment") != installed["augment"]:
        notes.append(f"augment was {_text(trained.get('augment'))}, is now {_text(installed['augment'])}")
    if trained.get("source") != installed["source"]:
        notes.append("its source has changed")
    if version_trained != source_line(installed) and (notes or installed["distribution"] != GROUP):
        notes.insert(0, f"it was {version_trained}, is now {source_line(installed)}")
    if notes:
        screen.warn(f"the {modality.name} plugin: {'; '.join(notes)}")


def source_line(facts: Mapping[str, Any]) -> str:
    """Distribution and version as a file states them; a stranger's file gets to name nothing but that."""
    distribution, version = str(facts.get("distribution", "")), str(facts.get("version", ""))
    if not _DISTRIBUTION.fullmatch(distribution) or not _VERSION.fullmatch(version):
        return "the version it was trained with"
    return f"{distribution} {version}"


def _differences(trained: Mapping[str, Any], installed: Mapping[str, Any], modality: CompleteModality) -> Iterator[str]:
    """What changes numbers, each by its name, as it was and as it is."""
    described_alike = True
    for name, part in (("loader", modality.loader), ("intensity", modality.intensity)):
        old, new = dict(trained.get(name) or {}), dict(installed[name])
        for key in defaults_of(part) - old.keys():  # a setting that is new, at the value that is as before
            new.pop(key, None)
        if old != new:
            described_alike = False
            yield f"{name} was {_text(old, new)}, is now {_text(new, old)}"
    for name in ("size", "channels", "tokenizer"):
        if trained.get(name) != installed[name]:
            yield f"{name} was {_text(trained.get(name), installed[name])}, is now {_text(installed[name], trained.get(name))}"
    for name, verb in (("stored", "stores"), ("seen", "shows the encoder")):
        old_values, new_values = trained.get(name), installed.get(name)
        if described_alike and old_values and new_values and (at := _furthest(old_values, new_values)) is not None:
            described_alike = False
            yield f"of a fixed sample its intensity {verb} {new_values[at]:.4g} where it was {old_values[at]:.4g}"


def _furthest(was: list[float], new: list[float]) -> int | None:
    """Where two lists of values differ most; None where they agree."""
    if len(was) != len(new):
        return 0
    apart = np.abs(np.array(was) - np.array(new))
    return int(apart.argmax()) if apart.max() > TOLERANCE * max(1e-6, np.abs(was).max()) else None


def _text(value: Any, other: Any = None) -> str:
    """As a person would write it: ZScore(low=0.2); of two of one kind only the settings that differ."""
    if not isinstance(value, Mapping):
        return str(value)
    name = value.get("part", "")
    same_part = isinstance(other, Mapping) and other.get("part", "") == name
    shown = [
        f"{key}={_text(inner)}"
        for key, inner in sorted(value.items())
        if key != "part" and not (same_part and key in other and other[key] == inner)
    ]
    return f"{name}({', '.join(shown)})" if name else ", ".join(shown)
