"""The verbs `recipes list|show|validate|schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import PluginError, RecipeError

app = typer.Typer(
    add_completion=False, help="List, show and validate recipes (YAML).\n\nExample: medcoss recipes show mini"
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a shipped recipe.")]


@app.command(name="list")
def list_recipes(as_json: options.Json = False) -> None:
    """List the recipes of medcoss and of plugins.

    Example: medcoss recipes list
    """
    from medcoss_cli.recipe.read import read_recipe, shipped_recipes

    screen = terminal.screen(as_json)
    entries = []
    for name, path in shipped_recipes().items():
        try:
            recipe = read_recipe(str(path))
        except RecipeError as error:  # a plugin's recipe, written for another version perhaps
            screen.warn(f"the recipe {name} is passed over: {error}")
            continue
        entries.append({"name": name, "kind": recipe.kind, "title": recipe.title})
    if as_json:
        terminal.result_json(entries)
        return
    rows = [[entry["name"], f"medcoss {entry['kind']}", entry["title"]] for entry in entries]
    screen.table("", ["recipe", "verb", "title"], rows)


@app.command(name="show")
def show_recipe(recipe: Recipe) -> None:
    """Print a recipe.

    Example: medcoss recipes show mini
    """
    from medcoss_cli.recipe.read import find_recipe

    terminal.result(find_recipe(recipe).read_text(encoding="utf-8").rstrip())


@app.command()
def validate(recipe: Recipe, overrides: options.Overrides = None, as_json: options.Json = False) -> None:
    """Validate a recipe and list all its faults; --json prints it with all defaults.

    Example: medcoss recipes validate my.yaml train.epochs=3
    """
    from medcoss_cli.recipe.finetuning import FinetuneRecipe
    from medcoss_cli.recipe.parts import OPEN
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.registry.discovery import distribution_of

    read = read_recipe(recipe, overrides or [])
    members = [read] if isinstance(read, FinetuneRecipe) else getattr(read, "members", [])
    for part in members:
        if part.modality == OPEN:
            continue
        try:
            distribution_of(part.modality)
        except PluginError as error:  # the recipe may be right all the same, on another machine
            terminal.screen(as_json).warn(str(error))
    if as_json:
        terminal.result_json(read.model_dump(mode="json"))
    else:
        terminal.screen().say(f"{recipe} is a valid recipe to {read.kind}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    Example: medcoss recipes schema
    """
    from medcoss_cli.recipe.read import json_schema

    terminal.result_json(json_schema())
