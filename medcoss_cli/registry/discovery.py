"""Which modalities, strategies and recipes are installed: names from metadata alone, each plugin loaded behind a guard."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, distributions, entry_points, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from medcoss_cli import plugin
from medcoss_cli.errors import PluginError, UsageError
from medcoss_cli.plugin import PLUGIN_API, CompleteModality, Modality, TokenizerSpec
from medcoss_cli.registry.validate import Broken, OtherApi, blame, blamed, check, check_strategy, guarded

if TYPE_CHECKING:
    from medcoss_cli.tasks import TaskKind

GROUP = "medcoss"
STRATEGIES, TASKS, RECIPES = f"{GROUP}.strategies", f"{GROUP}.tasks", f"{GROUP}.recipes"


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
    point = next((point for point in _points(STRATEGIES) if point.name == name), None)
    if point is None:
        raise UsageError(f"there is no strategy {name!r}", fix=f"installed are {', '.join(strategy_names())}")
    try:
        return _strategy(point)
    except Broken as error:
        raise PluginError(
            f"the strategy {name} ({' '.join(_dist(point))}) cannot be used: {error.told}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def make_strategy(name: str, settings: Any) -> Any:
    """A strategy object; what a plugin's members raise later is told as the plugin's fault (PluginError)."""
    cls, point = load_strategy(name), next(point for point in _points(STRATEGIES) if point.name == name)
    if _dist(point)[0] == GROUP:
        return cls(settings)
    who = f"the strategy {name} ({' '.join(_dist(point))})"
    with blame(who, "__init__"):
        strategy = cls(settings)
    return blamed(strategy, who)


def _strategy(point: EntryPoint) -> Any:
    """The class that an entry point names, or that the hook of the plugin it names brings."""
    named = guarded(point.load, "it cannot be imported")
    classes = [named] if inspect.isclass(named) else _brought(point, "medcoss_strategies")
    for cls in classes:
        guarded(partial(check_strategy, cls), "it cannot be looked at")
    called = {getattr(c, "name", c.__name__.lower()): c for c in classes}
    if not inspect.isclass(named) and point.name not in called:
        raise Broken(f"it brings {', '.join(called)}, but its entry point is called {point.name}")
    return named if inspect.isclass(named) else called[point.name]


def task_names() -> list[str]:
    """Names of the installed kinds of task; nothing is imported."""
    return list(dict.fromkeys(point.name for point in _points(TASKS)))


def task_distribution(name: str) -> str:
    """The distribution that brings a kind of task, and its version. Raises: UsageError if there is none."""
    return " ".join(_dist(_task_point(name)))


def load_task(name: str) -> type[TaskKind]:
    """The class of a kind of task. Raises: UsageError if there is none, PluginError if it is broken."""
    point = _task_point(name)
    try:
        return _task(point)
    except Broken as error:
        raise PluginError(
            f"the task {name} ({' '.join(_dist(point))}) cannot be used: {error.told}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def make_task(name: str, settings: Mapping[str, Any]) -> TaskKind:
    """A kind of task with its settings. Raises: UsageError for settings that it refuses, and as `load_task`."""
    found = load_task(name)
    try:
        return found(settings)
    except ValueError as error:
        raise UsageError(f"the settings of the task {name} are not valid: {_faults(error)}") from error


def _task_point(name: str) -> EntryPoint:
    point = next((point for point in _points(TASKS) if point.name == name), None)
    if point is None:
        installed = task_names()
        near = difflib.get_close_matches(name, installed, 1, 0.6)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"there is no task {name!r}; installed are {', '.join(installed) or 'none'}",
            fix=f"{meant}install the plugin that brings it; `medcoss plugins new --task` makes one",
        )
    return point


def _task(point: EntryPoint) -> type[TaskKind]:
    """The class that an entry point names, with the members that every kind has."""
    from medcoss_cli.tasks import TaskKind

    found = guarded(point.load, "it cannot be imported")
    if not (inspect.isclass(found) and issubclass(found, TaskKind)):
        raise Broken(f"{getattr(found, '__name__', repr(found))} is no subclass of medcoss_cli.tasks.TaskKind")
    if found.__abstractmethods__:
        raise Broken(f"it lacks {', '.join(sorted(found.__abstractmethods__))}")
    missing = [member for member in ("name", "metrics", "main", "baseline") if not hasattr(found, member)]
    if missing:
        raise Broken(f"it lacks {', '.join(missing)}")
    if found.name != point.name:
        raise Broken(f"its name is {found.name!r}, but its entry point is called {point.name}")
    return found


def _faults(error: ValueError) -> str:
    """What a pydantic model refuses, in one line; of any other ValueError its words."""
    listed: Any = getattr(error, "errors", None)
    if listed is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in listed())


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
