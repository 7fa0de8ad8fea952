"""Which modalities, strategies and tasks are installed: names from metadata alone, each plugin loaded behind a guard."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, distributions, entry_points, requires
from typing import TYPE_CHECKING, Any

import pluggy

from medcoss_cli import plugin
from medcoss_cli.errors import PluginError, UsageError
from medcoss_cli.plugin import PLUGIN_API, CompleteModality, Modality
from medcoss_cli.registry.validate import Broken, Clash, OtherApi, blame, blamed, check, check_strategy, guarded

if TYPE_CHECKING:
    from medcoss_cli.tasks import TaskKind

GROUP = "medcoss"
STRATEGIES, TASKS, FORMATS = f"{GROUP}.strategies", f"{GROUP}.tasks", f"{GROUP}.formats"


@dataclass(frozen=True)
class Status:
    """What became of one entry point: "ok", or "broken: ...", "clash: ..." or "API 2, this medcoss speaks 1"."""

    name: str
    distribution: str
    version: str
    status: str
    modality: CompleteModality | None = None


@lru_cache
def points(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of a group: medcoss's own first, then by distribution and name.

    A distribution that lies on the path twice counts once, as for every import: the first.
    """
    try:
        listed = list(entry_points(group=group))
    except Exception:  # noqa: BLE001 - one distribution's unreadable metadata must not hide all others
        listed = _readable_points(group)
    return tuple(sorted(listed, key=lambda point: (_dist(point)[0] != GROUP, *_dist(point), point.name)))


def _readable_points(group: str) -> list[EntryPoint]:
    by_distribution: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        with contextlib.suppress(Exception):
            points = [point for point in distribution.entry_points if point.group == group]
            # the first on the path counts, as in importlib.metadata
            by_distribution.setdefault(distribution.name, points)
    return [point for points in by_distribution.values() for point in points]


def _dist(point: EntryPoint) -> tuple[str, str]:
    distribution = point.dist
    return (
        (distribution.name or "unknown", distribution.version or "0") if distribution is not None else ("unknown", "0")
    )


def source_of(point: EntryPoint) -> str:
    """The distribution that an entry point comes from, and its version, as in "medcoss-ultrasound 0.1.0"."""
    return " ".join(_dist(point))


def claim(group: str, kind: str, name: str) -> EntryPoint | None:
    """The entry point of a name, None if there is none. Medcoss's own names are never replaced.

    Args:
        kind: what it is, for the error: "modality".

    Raises: PluginError where several distributions bring the name, naming them.
    """
    claims = [point for point in points(group) if point.name == name]
    if len(claims) < 2 or _dist(claims[0])[0] == GROUP:
        return claims[0] if claims else None
    raise PluginError(
        f"{' and '.join(map(source_of, claims))} both bring a {kind} {name!r}",
        fix=f"uninstall one of them: pip uninstall {_dist(claims[0])[0]}",
    )


def clash(point: EntryPoint) -> Clash | None:
    """Why an entry point's name cannot be used by it: others bring the same name."""
    others = [other for other in points(point.group) if other.name == point.name and other is not point]
    if not others or _dist(point)[0] == GROUP:
        return None
    if _dist(others[0])[0] == GROUP:
        return Clash(f"the name {point.name} is taken by {source_of(others[0])}")
    return Clash(f"{' and '.join(map(source_of, others))} brings the name {point.name} as well")


def owners() -> dict[str, str]:
    """Top-level package of every installed plugin but medcoss's own, and what to call it: "ecg (medcoss-ecg 1.0)"."""
    sources: dict[str, dict[str, str]] = {}
    for point in (point for group in (GROUP, STRATEGIES, TASKS, FORMATS) for point in points(group)):
        if _dist(point)[0] != GROUP:
            sources.setdefault(point.module.partition(".")[0], {})[point.name] = source_of(point)
    return {package: f"{', '.join(names)} ({next(iter(names.values()))})" for package, names in sources.items()}


def forget() -> None:
    """Look again: what is installed has changed (tests, or a session that installs a plugin)."""
    for cached in (points, load_modality):
        cached.cache_clear()


def names() -> list[str]:
    """Names of the installed modalities, working or not; nothing is imported."""
    return list(dict.fromkeys(point.name for point in points(GROUP)))


def own_names() -> list[str]:
    """Names of the modalities that medcoss's own distribution brings."""
    return [point.name for point in points(GROUP) if _dist(point)[0] == GROUP]


def distribution_of(name: str) -> str:
    """The distribution that brings a modality, and its version, as in "medcoss-ultrasound 0.1.0"."""
    return source_of(_point(name))


def _point(name: str) -> EntryPoint:
    point = claim(GROUP, "modality", name)
    if point is not None:
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
    maintained = _maintained()
    if name in maintained:
        return f"pip install {maintained[name]}"
    candidates = difflib.get_close_matches(name, [*installed, *maintained], 1, 0.6)
    return (
        f"did you mean {candidates[0]}? " if candidates else ""
    ) + "install the plugin that brings it; `medcoss plugins new` makes one"


@lru_cache
def _maintained() -> dict[str, str]:
    """Modality and distribution of the plugins that medcoss's authors maintain: extras of the main distribution."""
    matches = (re.fullmatch(rf"({GROUP}-[a-z0-9-]+).*extra == .(\w+).", line) for line in requires(GROUP) or [])
    return {match[2]: match[1] for match in matches if match}


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
            f"the plugin {name} ({source_of(point)}) cannot be used: {error.prefix}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def _repair(point: EntryPoint, error: Broken) -> str:
    prefix = f"{GROUP} " if isinstance(error, OtherApi) and _dist(point)[0] != GROUP else ""
    return f"pip install --upgrade {prefix}{_dist(point)[0]}, or report it to its author"


def statuses() -> list[Status]:
    """Every entry point of a modality loaded, one after another, each behind its own guard."""
    listed: list[Status] = []
    for point in points(GROUP):
        status, modality = "ok", None
        try:
            if (refusal := clash(point)) is not None:
                raise refusal
            modality = _load(point)
        except Broken as error:
            status = f"{error.prefix}{error}"
        listed.append(Status(point.name, *_dist(point), status, modality))
    return [_beside(status, listed) for status in listed]


def _beside(status: Status, others: Sequence[Status]) -> Status:
    """A status beside the others: two of one tokenizer key and of different specs cannot be in one model."""
    if status.modality is None or status.distribution == GROUP:
        return status
    key, spec = status.modality.tokenizer.key, status.modality.tokenizer.spec
    defaults = [
        o for o in others if o.distribution == GROUP and o.modality is not None and o.modality.tokenizer.key == key
    ]
    for other in defaults or others:
        part = other.modality.tokenizer if other.modality is not None else None
        if part is not None and part.key == key and part.spec != spec:
            reason = Clash(
                f"its tokenizer {key} differs from that of {other.name} ({other.distribution} {other.version}); "
                f"one of its own needs a key of its own, as in {key}-{status.name}"
            )
            return replace(status, status=f"{reason.prefix}{reason}", modality=None)
    return status


def _load(point: EntryPoint) -> CompleteModality:
    """Import, check the API version, call the hook, check every part. Raises: Broken with the reason."""
    modalities = hook_results(point, "medcoss_modalities")
    wrong = next((m for m in modalities if not isinstance(m, Modality)), None)
    if wrong is not None:
        raise Broken(f"its hook medcoss_modalities returns {type(wrong).__name__}, not Modality")
    for modality in modalities:
        if modality.name == point.name:
            return check(modality)
    raise Broken(f"it brings {', '.join(str(m.name) for m in modalities)}, but its entry point is called {point.name}")


def hook_results(point: EntryPoint, hook: str) -> list[Any]:
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
    results = guarded(getattr(manager.hook, hook), f"its hook {hook} fails")
    things = [thing for some in results for thing in (some if isinstance(some, list | tuple) else [some])]
    if not things:
        raise Broken(f"its hook {hook} is missing or returns nothing")
    return things


def strategy_names() -> list[str]:
    """Names of the installed strategies; nothing is imported."""
    return list(dict.fromkeys(point.name for point in points(STRATEGIES)))


def distribution_of_strategy(name: str) -> str:
    """The distribution that brings a strategy, and its version. Raises: UsageError, PluginError for a clash."""
    return source_of(_strategy_point(name))


def _strategy_point(name: str) -> EntryPoint:
    point = claim(STRATEGIES, "strategy", name)
    if point is None:
        raise UsageError(f"there is no strategy {name!r}", fix=f"installed are {', '.join(strategy_names())}")
    return point


def load_strategy(name: str) -> Any:
    """The Strategy class of this name. Raises: UsageError if there is none, PluginError if it is broken."""
    point = _strategy_point(name)
    try:
        return _strategy(point)
    except Broken as error:
        raise PluginError(
            f"the strategy {name} ({source_of(point)}) cannot be used: {error.prefix}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def make_strategy(name: str, settings: Any) -> Any:
    """A strategy object; what a plugin's members raise later becomes a PluginError that names the plugin."""
    cls, point = load_strategy(name), _strategy_point(name)
    if _dist(point)[0] == GROUP:
        return cls(settings)
    who = f"the strategy {name} ({source_of(point)})"
    with blame(who, "__init__"):
        strategy = cls(settings)
    return blamed(strategy, who)


def _strategy(point: EntryPoint) -> Any:
    """The class that an entry point names, or that the hook of the plugin it names brings."""
    loaded = guarded(point.load, "it cannot be imported")
    classes = [loaded] if inspect.isclass(loaded) else hook_results(point, "medcoss_strategies")
    for cls in classes:
        guarded(partial(check_strategy, cls), "it cannot be looked at")
    called = {getattr(c, "name", c.__name__.lower()): c for c in classes}
    if not inspect.isclass(loaded) and point.name not in called:
        raise Broken(f"it brings {', '.join(called)}, but its entry point is called {point.name}")
    return loaded if inspect.isclass(loaded) else called[point.name]


def load_class(group: str, name: str, contract: type) -> Any:
    """The class that an entry point of a group names.

    Args:
        contract: the class it is a subclass of; errors call it by its name.

    Raises: UsageError if there is none of this name, PluginError if it is broken.
    """
    kind = contract.__name__.lower()
    point = claim(group, kind, name)
    if point is None:
        installed = ", ".join(dict.fromkeys(point.name for point in points(group)))
        raise UsageError(f"there is no {kind} {name!r}", fix=f"installed are {installed}")
    try:
        loaded = guarded(point.load, "it cannot be imported")
        if not (inspect.isclass(loaded) and issubclass(loaded, contract)):
            place = f"{contract.__module__}.{contract.__name__}"
            raise Broken(f"{getattr(loaded, '__name__', repr(loaded))} is no subclass of {place}")
    except Broken as error:
        raise PluginError(
            f"the {kind} {name} ({source_of(point)}) cannot be used: {error.prefix}{error}",
            fix=_repair(point, error),
        ) from error.__cause__
    return loaded


def task_names() -> list[str]:
    """Names of the installed kinds of task; nothing is imported."""
    return list(dict.fromkeys(point.name for point in points(TASKS)))


def task_distribution(name: str) -> str:
    """The distribution that brings a kind of task, and its version. Raises: UsageError if there is none."""
    return source_of(_task_point(name))


def load_task(name: str) -> type[TaskKind]:
    """The class of a kind of task. Raises: UsageError if there is none, PluginError if it is broken."""
    point = _task_point(name)
    try:
        return _task(point)
    except Broken as error:
        raise PluginError(
            f"the task {name} ({source_of(point)}) cannot be used: {error.prefix}{error}",
            fix=_repair(point, error),
        ) from error.__cause__


def make_task(name: str, settings: Mapping[str, Any]) -> TaskKind:
    """A kind of task with its settings. Raises: UsageError for settings that it refuses, and as `load_task`."""
    kind = load_task(name)
    try:
        return kind(settings)
    except ValueError as error:
        allowed = ", ".join(kind.Settings.model_fields) if kind.Settings is not None else ""
        raise UsageError(
            f"the settings of the task {name} are not valid: {_faults(error)}",
            fix=f"its settings are {allowed}" if allowed else f"write task: {name}",
        ) from error


def _task_point(name: str) -> EntryPoint:
    point = claim(TASKS, "task", name)
    if point is None:
        installed = task_names()
        candidates = difflib.get_close_matches(name, installed, 1, 0.6)
        meant = f"did you mean {candidates[0]}? " if candidates else ""
        raise UsageError(
            f"there is no task {name!r}; installed are {', '.join(installed) or 'none'}",
            fix=f"{meant}install the plugin that brings it; `medcoss plugins new --task` makes one",
        )
    return point


def _task(point: EntryPoint) -> type[TaskKind]:
    """The class that an entry point names, with the members that every kind has."""
    from medcoss_cli.tasks import TaskKind

    loaded = guarded(point.load, "it cannot be imported")
    if not (inspect.isclass(loaded) and issubclass(loaded, TaskKind)):
        raise Broken(f"{getattr(loaded, '__name__', repr(loaded))} is no subclass of medcoss_cli.tasks.TaskKind")
    if loaded.__abstractmethods__:
        raise Broken(f"it lacks {', '.join(sorted(loaded.__abstractmethods__))}")
    missing = [member for member in ("name", "metrics", "main", "baseline") if not hasattr(loaded, member)]
    if missing:
        raise Broken(f"it lacks {', '.join(missing)}")
    if loaded.name != point.name:
        raise Broken(f"its name is {loaded.name!r}, but its entry point is called {point.name}")
    return loaded


def _faults(error: ValueError) -> str:
    """What a pydantic model refuses, in one line; of any other ValueError its words."""
    listed: Any = getattr(error, "errors", None)
    if listed is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in listed())


def strategy_statuses() -> list[Status]:
    """What became of every entry point of a strategy; medcoss's own are not loaded, which would import torch."""
    return _loaded(STRATEGIES, _strategy)


def task_statuses() -> list[Status]:
    """What became of every entry point of a kind of task."""
    return _loaded(TASKS, _task)


def _loaded(group: str, load: Callable[[EntryPoint], Any]) -> list[Status]:
    listed = []
    for point in points(group):
        status = "ok"
        try:
            if (refusal := clash(point)) is not None:
                raise refusal
            if _dist(point)[0] != GROUP:
                load(point)
        except Broken as error:
            status = f"{error.prefix}{error}"
        listed.append(Status(point.name, *_dist(point), status))
    return listed
