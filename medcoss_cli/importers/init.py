"""What a recipe's `init` names, as the state that stage 1 begins with."""

from __future__ import annotations

from pathlib import Path

from medcoss_cli.errors import RecipeError
from medcoss_cli.importers.convert import convert
from medcoss_cli.pretraining.state import State, read_state
from medcoss_cli.recipe.schema import PretrainRecipe
from medcoss_cli.store import checkpoint


def read_init(recipe: PretrainRecipe) -> tuple[State | None, list[str]]:
    """The state in `init` and what to print about it; `init` is a checkpoint, a run folder or a foreign file."""
    if recipe.init is None:
        return None, []
    path = Path(recipe.init)
    if path.is_dir() or checkpoint.is_own(path):
        state = read_state(checkpoint.find_checkpoint(path)[0])
        if any(member.vocabulary for member in recipe.members) and state.vocabularies:
            raise RecipeError("the checkpoint in init has a vocabulary", where="vocabulary", fix="leave the key out")
        return state, [f"starts from the encoder of {recipe.init}"]
    words = next((Path(member.vocabulary) for member in recipe.members if member.vocabulary), None)
    converted = convert(recipe.init, vocabulary=words, heads=recipe.encoder.heads, seed=recipe.seed)
    tensors = {name for names in converted.taken.values() for name in names}
    return converted.state, [
        f"starts from {converted.origin}: {len(tensors)} tensors taken, {len(converted.dropped)} dropped",
        *converted.notes,
    ]
