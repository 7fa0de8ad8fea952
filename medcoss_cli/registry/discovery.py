"""Which modalities, strategies and recipes are installed: names from metadata alone, each plugin loaded behind a guard."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, distributions, entry_points, requires
from pathlib import Path
from typing import Any

import pluggy

from medcoss_cli import plugin
from medcoss_cli.errors import PluginError, UsageError
from medcoss_cli.plugin import PLUGIN_API, CompleteModality, Modality, TokenizerSpec
from medcoss_cli.registry.validate import Broken, OtherApi, check, guarded

GROUP = "medcoss"
STRATEGIES, RECIPES = f"{GROUP}.strategies", f"{GROUP}.recipes"


@dataclass(frozen=True)
class Status:
    """What became of one entry point: "ok", "broken: ..." with the reason, or "API 2, this medcoss speaks 1"."""

    name: str
    distribution: str
    version: str
    status: str
    modality: CompleteModality | None = None


@lru_cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of a group: medcoss's own first, then by distribution and name."""
    try:
        points = list(entry_points(group=group))
    except Exception:  # noqa: BLE001 - one distribution's unreadable metadata must not hide all others
        points = _readable_points(group)
    return tuple(sorted(points, key=lambda point: (_dist(point)[0] != GROUP, *_dist(point), point.name)))


def _readable_points(group: str) -> list[EntryPoint]:
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        with contextlib.suppress(Exception):
            points = [point for point in distribution.entry_points if point.group == group]
            found.setdefault(distribution.name, points)  # the first on the path counts, as in importlib.metadata
    return [point for points in found.values() for point in points]


def _dist(point: EntryPoint) -> tuple[str, str]:
    found = point.dist
    return (found.name or "unknown", found.version or "0") if found is not None else ("unknown", "0")


def forget() -> None:
    """Look again: what is installed has changed (tests, or a session that installs a plugin)."""
    for cached in (_points, load_modality):
        cached.cache_clear()


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
    raise PluginError(
        f"there is no modality {name!r}; installed are {', '.join(installed) or 'none'}",
        fix=how_to_get(name, installed),
    )


def how_to_get(name: str, installed: Sequence[str]) -> str:
    """What to do where no installed plugin brings a modality.

    Only distributions that medcoss knows are named in a command: a name that a user or a file gives could be anybody's
    package on an index.
    """
    known = _maintained()
    if name in known:
        return f"pip install {known[name]}"
    near = difflib.get_close_matches(name, [*installed, *known], 1, 0.6)
    return (
        f"did you mean {near[0]}? " if near else ""
    ) + "install the plugin that brings it; `medcoss plugins new` makes one"


@lru_cache
def _maintained() -> dict[str, str]:
    """Modality and distribution of the plugins that medcoss's authors maintain: extras of the main distribution."""
    wanted = (re.fullmatch(rf"({GROUP}-[a-z0-9-]+).*extra == .(\w+).", line) for line in requires(GROUP) or [])
    return {found[2]: found[1] for found in wanted if found}


@lru_cache
def load_modality(name: str) -> CompleteModality:
    """The modality of this name, complete. Only its own plugin is imported.

    Raises: PluginError if it is not installed, or broken, or written for another plugin API.
    """
    point = _point(name)
    try:
        return _load(point)
    except Broken as error:
        raise PluginError(
            f"the plugin {name} ({' '.join(_dist(point))}) cannot be used: {error.told}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def _repair(point: EntryPoint, error: Broken) -> str:
    both = f"{GROUP} " if isinstance(error, OtherApi) and _dist(point)[0] != GROUP else ""
    return f"pip install --upgrade {both}{_dist(point)[0]}, or tell its author"


def statuses() -> list[Status]:
    """Every entry point of a modality loaded, one after another, each behind its own guard."""
    found: list[Status] = []
    specs: dict[str, tuple[str, TokenizerSpec]] = {}
    for point in _points(GROUP):
        status, modality = "ok", None
        taken = next((s for s in found if s.name == point.name), None)
        try:
            if taken is not None:
                raise Broken(f"the name is taken by {taken.distribution}")
            modality = _load(point)
            tokenizer = modality.tokenizer
            first, spec = specs.setdefault(tokenizer.key, (point.name, tokenizer.spec))
            if tokenizer.spec != spec:
                raise Broken(
                    f"its tokenizer {tokenizer.key} differs from that of {first}; "
                    f"one of its own needs a key of its own, as in {tokenizer.key}-{point.name}"
                )
        except Broken as error:
            status, modality = f"{error.told}{error}", None
        found.append(Status(point.name, *_dist(point), status, modality))
    return found


def _load(point: EntryPoint) -> CompleteModality:
    """Import, check the API version, call the hook, check every part. Raises: Broken with the reason."""
    modalities = _brought(point, "medcoss_modalities")
    wrong = next((m for m in modalities if not isinstance(m, Modality)), None)
    if wrong is not None:
        raise Broken(f"its hook medcoss_modalities returns {type(wrong).__name__}, not Modality")
    for modality in modalities:
        if modality.name == point.name:
            return check(modality)
    raise Broken(f"it brings {', '.join(str(m.name) for m in modalities)}, but its entry point is called {point.name}")


def _brought(point: EntryPoint, hook: str) -> list[Any]:
    """What a plugin's hook returns, as one list that is not empty."""
    module = guarded(point.load, "it cannot be imported")
    api = getattr(module, "PLUGIN_API", None)
    if api is None:
        raise Broken(f"it does not say PLUGIN_API = {PLUGIN_API}")
    if str(api).partition(".")[0] != str(PLUGIN_API):
        raise OtherApi(f"API {api}, this medcoss speaks {PLUGIN_API}")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(plugin)
    guarded(lambda: manager.register(module, point.name), "it cannot be registered")
    brought = guarded(getattr(manager.hook, hook), f"its hook {hook} fails")
    things = [thing for some in brought for thing in (some if isinstance(some, list | tuple) else [some])]
    if not things:
        raise Broken(f"its hook {hook} is missing or returns nothing")
    return things


def strategy_names() -> list[str]:
    """Names of the installed strategies; nothing is imported."""
    return list(dict.fromkeys(point.name for point in _points(STRATEGIES)))


def load_strategy(name: str) -> Any:
    """The Strategy class of this name. Raises: UsageError if there is none, PluginError if it is broken."""
    from medcoss_cli.strategies import Strategy

    return load_class(STRATEGIES, name, Strategy, "medcoss_strategies")


def load_class(group: str, name: str, contract: type, hook: str | None = None) -> Any:
    """The class that an entry point of a group names, or that the hook of the plugin it names brings.

    Args:
        contract: the class it is a subclass of.

    Raises: UsageError if there is none of this name, PluginError if it is broken.
    """
    kind = contract.__name__.lower()
    point = next((point for point in _points(group) if point.name == name), None)
    if point is None:
        installed = dict.fromkeys(point.name for point in _points(group))
        raise UsageError(f"there is no {kind} {name!r}", fix=f"installed are {', '.join(installed)}")
    try:
        return _class(point, contract, hook)
    except Broken as error:
        raise PluginError(
            f"the {kind} {name} ({' '.join(_dist(point))}) cannot be used: {error.told}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def _class(point: EntryPoint, contract: type, hook: str | None) -> Any:
    named = guarded(point.load, "it cannot be imported")
    classes = [named] if hook is None or inspect.isclass(named) else _brought(point, hook)
    wrong = next((c for c in classes if not (inspect.isclass(c) and issubclass(c, contract))), None)
    if wrong is not None:
        place = f"{contract.__module__}.{contract.__name__}"
        raise Broken(f"{getattr(wrong, '__name__', repr(wrong))} is no subclass of {place}")
    called = {getattr(c, "name", c.__name__.lower()): c for c in classes}
    if not inspect.isclass(named) and point.name not in called:
        raise Broken(f"it brings {', '.join(called)}, but its entry point is called {point.name}")
    return named if inspect.isclass(named) else called[point.name]


def plugin_recipes() -> dict[str, Path]:
    """Recipes that plugins bring, by name; the first to bring a name has it. Broken plugins are passed over."""
    found: dict[str, Path] = {}
    for _, paths in _recipe_points():
        for path in paths if isinstance(paths, list) else []:
            found.setdefault(path.stem, path)
    return found


def recipe_statuses() -> list[Status]:
    """What became of every plugin that brings recipes; as `statuses`, without a modality."""
    found = []
    for point, paths in _recipe_points():
        status = "ok" if isinstance(paths, list) else f"{paths.told}{paths}"
        found.append(Status(point.name, *_dist(point), status))
    return found


def _recipe_points() -> list[tuple[EntryPoint, list[Path] | Broken]]:
    found: list[tuple[EntryPoint, list[Path] | Broken]] = []
    for point in _points(RECIPES):
        try:
            named = guarded(point.load, "it cannot be imported")
            if inspect.isfunction(named):  # the entry point may as well name a function that returns paths
                brought = guarded(lambda call=named: list(call()), "it fails")  # type: ignore[misc]  # bound at once
            else:
                brought = _brought(point, "medcoss_recipes")
            paths = guarded(lambda these=brought: [Path(path) for path in these], "it does not bring paths")  # type: ignore[misc]  # bound at once
            missing = next((path.name for path in paths if not path.is_file()), None)
            if missing is not None:
                raise Broken(f"its recipe {missing} is not there")
            found.append((point, paths))
        except Broken as error:
            found.append((point, error))
    return found
