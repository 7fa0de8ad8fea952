"""Recipes that plugins bring, by the name of their file; medcoss's own names are never replaced."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

from medcoss_cli.errors import PluginError
from medcoss_cli.registry.discovery import GROUP, Status, hook_results, points, source_of
from medcoss_cli.registry.validate import Broken, Clash, guarded

RECIPES = f"{GROUP}.recipes"


@dataclass(frozen=True)
class Brought:
    """A recipe's file, and the entry point that brings it."""

    path: Path
    point: EntryPoint


def own_recipes() -> dict[str, Path]:
    """Recipes of medcoss itself by name, as in "mini" or "compare/mini": inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside, beside = package / "recipes", package.parent / "recipes"
    folder = inside if inside.is_dir() else beside
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def plugin_recipes() -> dict[str, Path]:
    """Recipes of plugins by name, without names that medcoss has or that two plugins bring; broken plugins are skipped."""
    claims, shipped = _claims(), own_recipes()
    return {
        name: claimants[0].path
        for name, claimants in claims.items()
        if name not in shipped and not _clash(name, claimants)
    }


def refuse_clash(name: str) -> None:
    """Raises: PluginError where two plugins bring a recipe of this name, naming them."""
    claimants = _claims().get(name, [])
    if _clash(name, claimants):
        sources = dict.fromkeys(source_of(claim.point) for claim in claimants)
        raise PluginError(
            f"{' and '.join(sources)} both bring a recipe {name!r}", fix="uninstall one of them, or name the file"
        )


def recipe_statuses() -> list[Status]:
    """Every recipe of a plugin, or its entry point where that is broken; as `discovery.statuses`, without a modality."""
    statuses, claims, shipped = [], _claims(), own_recipes()
    for point, paths in _points():
        distribution, _, version = source_of(point).rpartition(" ")
        if isinstance(paths, Broken):
            statuses.append(Status(point.name, distribution, version, f"{paths.prefix}{paths}"))
            continue
        for path in paths:
            reason = None
            rivals = [claim for claim in claims[path.stem] if source_of(claim.point) != source_of(point)]
            if path.stem in shipped:
                reason = Clash(f"the name {path.stem} is taken by medcoss")
            elif rivals:
                reason = Clash(f"{source_of(rivals[0].point)} brings the name {path.stem} as well")
            statuses.append(Status(path.stem, distribution, version, f"{reason.prefix}{reason}" if reason else "ok"))
    return statuses


def _claims() -> dict[str, list[Brought]]:
    claims: dict[str, list[Brought]] = {}
    for point, paths in _points():
        for path in [] if isinstance(paths, Broken) else paths:
            claims.setdefault(path.stem, []).append(Brought(path, point))
    return claims


def _clash(name: str, claimants: list[Brought]) -> bool:
    return name not in own_recipes() and len({source_of(claim.point) for claim in claimants}) > 1


def _points() -> list[tuple[EntryPoint, list[Path] | Broken]]:
    listed: list[tuple[EntryPoint, list[Path] | Broken]] = []
    for point in points(RECIPES):
        try:
            target = guarded(point.load, "it cannot be imported")
            if inspect.isfunction(target):  # the entry point may as well name a function that returns paths
                things = guarded(lambda call=target: list(call()), "it fails")  # type: ignore[misc]  # bound at once
            else:
                things = hook_results(point, "medcoss_recipes")
            paths = guarded(lambda these=things: [Path(path) for path in these], "it does not bring paths")  # type: ignore[misc]  # bound at once
            missing = next((path.name for path in paths if not path.is_file()), None)
            if missing is not None:
                raise Broken(f"its recipe {missing} is not there")
            listed.append((point, paths))
        except Broken as error:
            listed.append((point, error))
    return listed
