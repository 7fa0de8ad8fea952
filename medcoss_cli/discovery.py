"""Which modalities, strategies and recipes are installed: names from metadata alone, each plugin loaded behind a guard."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from medcoss_cli import plugin
from medcoss_cli.errors import MedcossError, PluginError, UsageError
from medcoss_cli.kit.defaults import complete
from medcoss_cli.plugin import PLUGIN_API, Augment, Decoder, Intensity, Loader, Modality, Tokenizer

GROUP = "medcoss"
_PARTS = {"loader": Loader, "intensity": Intensity, "augment": Augment, "tokenizer": Tokenizer, "decoder": Decoder}


@dataclass(frozen=True)
class Status:
    """What became of one entry point. `status` is "ok", or "broken: ..." with the reason."""

    name: str
    distribution: str
    version: str
    status: str
    modality: Modality | None = None


class _Broken(Exception):  # noqa: N818 - a reason on its way to a Status
    """Why a plugin cannot be used."""


def _points(group: str) -> list[EntryPoint]:
    """Entry points of a group: medcoss's own first, then by distribution and name."""
    points = list(entry_points(group=group))
    return sorted(points, key=lambda p: (_dist(p)[0] != "medcoss", *_dist(p), p.name))


def _dist(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "0")


def names() -> list[str]:
    """Names of the installed modalities, working or not; nothing is imported."""
    return list(dict.fromkeys(point.name for point in _points(GROUP)))


def distribution_of(name: str) -> str:
    """The distribution that brings a modality, and its version, as in "medcoss-ultrasound 0.1.0"."""
    return " ".join(_dist(_point(name)))


def _point(name: str) -> EntryPoint:
    for point in _points(GROUP):
        if point.name == name:
            return point
    installed = names()
    near = difflib.get_close_matches(name, installed, 1, 0.6)
    raise PluginError(
        f"there is no modality {name!r}; installed are {', '.join(installed) or 'none'}",
        fix=(f"did you mean {near[0]}? Else: " if near else "") + f"pip install medcoss-{name}",
    )


@lru_cache
def load_modality(name: str) -> Modality:
    """The modality of this name, complete. Only its own plugin is imported.

    Raises: PluginError if it is not installed, or broken.
    """
    point = _point(name)
    try:
        modality = _load(point)
    except _Broken as error:
        raise PluginError(
            f"the plugin {name} ({' '.join(_dist(point))}) is broken: {error}",
            fix=f"repair it, or pip install --upgrade {_dist(point)[0]}; `medcoss plugins check {name}` tells more",
        ) from error.__cause__
    return modality


def statuses() -> list[Status]:
    """Every entry point loaded, one after another, each behind its own guard."""
    found: list[Status] = []
    specs: dict[str, tuple[str, Any]] = {}
    for point in _points(GROUP):
        status, modality = "ok", None
        taken = next((s for s in found if s.name == point.name), None)
        try:
            if taken is not None:
                raise _Broken(f"the name is taken by {taken.distribution}")
            modality = _load(point)
            tokenizer: Any = modality.tokenizer
            first, spec = specs.setdefault(tokenizer.key, (point.name, dict(tokenizer.spec)))
            if dict(tokenizer.spec) != spec:
                raise _Broken(f"its tokenizer {tokenizer.key} differs from that of {first}")
        except _Broken as error:
            status, modality = f"broken: {error}", None
        found.append(Status(point.name, *_dist(point), status, modality))
    return found


def _load(point: EntryPoint) -> Modality:
    """Import, check the API version, call the hook, check every part. Raises: _Broken with the reason."""
    module = _guarded(point.load, "it cannot be imported")
    api = getattr(module, "PLUGIN_API", None)
    if api is None:
        raise _Broken("it does not say PLUGIN_API = 1")
    if not isinstance(api, int) or api != PLUGIN_API:
        raise _Broken(f"it speaks plugin API {api}, this medcoss speaks {PLUGIN_API}")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(plugin)
    _guarded(lambda: manager.register(module, point.name), "it cannot be registered")
    brought = _guarded(manager.hook.medcoss_modalities, "its hook medcoss_modalities fails")
    modalities = [m for some in brought for m in (some if isinstance(some, list) else [some])]
    if not modalities:
        raise _Broken("its hook medcoss_modalities returns nothing")
    wrong = next((m for m in modalities if not isinstance(m, Modality)), None)
    if wrong is not None:
        raise _Broken(f"its hook medcoss_modalities returns {type(wrong).__name__}, not Modality")
    for modality in modalities:
        if modality.name == point.name:
            return check(modality)
    raise _Broken(f"it brings {', '.join(m.name for m in modalities)}, but its entry point is called {point.name}")


def check(modality: Modality) -> Modality:
    """The modality, completed, if every part is what the contract asks for. Raises: an exception with the reason."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", modality.name):
        raise _Broken(f"the name {modality.name!r} is not lower-case letters, digits and underscores")
    if modality.dims not in (1, 2, 3):
        raise _Broken(f"dims is {modality.dims!r}, not 1, 2 or 3")
    if modality.pretext not in ("masked_patches", "masked_words"):
        raise _Broken(f"pretext is {modality.pretext!r}, not masked_patches or masked_words")
    size: Any = modality.size
    if not isinstance(size, tuple) or len(size) != modality.dims or not all(isinstance(n, int) and n > 0 for n in size):
        raise _Broken(f"size is {size!r}, not {modality.dims} positive whole numbers")
    if not isinstance(modality.channels, int) or modality.channels < (modality.pretext == "masked_patches"):
        raise _Broken(f"channels is {modality.channels!r}, not a positive whole number")
    modality = _guarded(lambda: complete(modality), "its parts do not fit together")
    for name, protocol in _PARTS.items():
        part = getattr(modality, name)
        if inspect.isclass(part) or not isinstance(part, protocol):
            raise _Broken(f"its {name} is {type(part).__name__}, which lacks a part of {protocol.__name__}")
    tokenizer: Any = modality.tokenizer
    if not isinstance(tokenizer.key, str) or "." in tokenizer.key:
        raise _Broken(f"its tokenizer's key {tokenizer.key!r} is not a text without a dot")
    if modality.demo is not None and not callable(modality.demo):
        raise _Broken("its demo cannot be called")
    return modality


def _guarded(call: Any, what: str) -> Any:
    """Call a stranger's code: whatever it raises becomes a reason, except Ctrl-C."""
    try:
        return call()
    except (_Broken, KeyboardInterrupt):
        raise
    except MedcossError as error:
        raise _Broken(f"{what} ({error})") from error
    except BaseException as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise _Broken(f"{what} ({type(error).__name__}: {text})") from error


@lru_cache
def strategy_names() -> list[str]:
    """Names of the installed strategies; nothing is imported."""
    return list(dict.fromkeys(point.name for point in _points(f"{GROUP}.strategies")))


def load_strategy(name: str) -> Any:
    """The Strategy class of this name. Raises: UsageError if there is none, PluginError if it is broken."""
    from medcoss_cli.strategies import Strategy

    for point in _points(f"{GROUP}.strategies"):
        if point.name == name:
            try:
                found = _guarded(point.load, "it cannot be imported")
                if not (inspect.isclass(found) and issubclass(found, Strategy)):
                    raise _Broken("it is no subclass of medcoss_cli.strategies.Strategy")
            except _Broken as error:
                raise PluginError(f"the strategy {name} ({' '.join(_dist(point))}) is broken: {error}") from error
            return found
    raise UsageError(f"there is no strategy {name!r}", fix=f"installed are {', '.join(strategy_names())}")


def plugin_recipes() -> dict[str, Path]:
    """Recipes that plugins bring (entry points in medcoss.recipes naming a folder-returning function); broken ones are
    passed over, `plugins list` tells of them."""
    found: dict[str, Path] = {}
    for point in _points(f"{GROUP}.recipes"):
        try:
            brought = _guarded(point.load, "it cannot be imported")
            paths = _guarded(brought, "it fails") if callable(brought) else brought
            found |= {Path(path).stem: Path(path) for path in paths}
        except (_Broken, TypeError):
            continue
    return found
