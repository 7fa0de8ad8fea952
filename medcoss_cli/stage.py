"""The data of one stage: from a folder of files to rows that may be trained on and rows set aside as probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.data.read import find, learn_vocabulary
from medcoss_cli.discovery import load_modality
from medcoss_cli.errors import RecipeError
from medcoss_cli.fit import fit, resized
from medcoss_cli.kit.vocabulary import read_vocabulary
from medcoss_cli.plugin import Modality
from medcoss_cli.retention import choose_probes
from medcoss_cli.screen import Screen

if TYPE_CHECKING:
    from medcoss_cli.job import Job
    from medcoss_cli.recipe.schema import Stage


@dataclass(frozen=True)
class StageData:
    """A prepared set and its division: `train` and `probes` are row numbers; no group is in both."""

    modality: Modality
    prepared: PreparedSet
    train: np.ndarray[Any, Any]
    probes: np.ndarray[Any, Any]
    facts: dict[str, Any]


def prepare_stage(job: Job, number: int, stage: Stage) -> StageData:
    """Find, learn a vocabulary if one is needed and none is there, prepare, and set probes aside by patient or document.

    Raises: DataError for a missing or unusable folder, RecipeError for a size or tokenizer that does not fit.
    """
    recipe, screen = job.recipe, job.screen
    model, decoder = job.state.model, recipe.decoder.model_dump() if recipe.decoder else None
    modality = for_stage(model.modalities, stage, decoder, screen, model.offered)
    root = job.data_root / stage.data
    screen.say(f"stage {number} of {job.before + len(job.stages)}: {modality.title} from {root}")
    if not job.devices.first:
        job.devices.wait()  # rank 0 prepares, the others then open what is there
    found = find(modality, root, recipe.data.split, screen)
    part: Any = modality.tokenizer
    if hasattr(part, "learn") and part.vocabulary is None:
        modality = modality.with_vocabulary(learn_vocabulary(modality, found, screen))
    rows = prepare(
        modality, found, job.prepared, workers=recipe.data.workers, bad_share=recipe.data.bad_share, screen=screen
    )
    job.run.quarantine(number, rows.quarantine)
    if job.devices.first:
        job.devices.wait()
    probes = choose_probes(rows.groups, (recipe.seed, number))
    if len(probes) == 0:
        screen.warn(f"{modality.name}: too few patients or documents to set any aside, so retention is not measured")
    train = np.setdiff1d(np.arange(len(rows)), probes)
    facts = {
        "samples": len(rows),
        "train": len(train),
        "probes": len(probes),
        "groups": len(np.unique(rows.groups)),
        "data_hash": rows.data_hash,
    }
    return StageData(modality, rows, train, probes, facts)


def for_stage(
    known: Mapping[str, Modality],
    stage: Stage,
    decoder: Mapping[str, int] | None,
    screen: Screen,
    offered: Mapping[str, Modality] | None = None,
) -> Modality:
    """The plugin's modality as this stage will train it.

    What the stage does not say is taken from what is `known` from earlier stages: the tokenizer that modalities of the
    same kind share (said aloud where it is not the plugin's own), and with it their size, decoder and vocabulary. What is
    `offered` by the weights that a recipe begins from comes after that.

    Raises: RecipeError for what does not fit, PluginError for a plugin that cannot be used.
    """
    modality = load_modality(stage.modality)
    own: Any = modality.tokenizer
    alike = {
        m.tokenizer.key: m
        for m in (*(offered or {}).values(), *known.values())
        if (m.dims, m.pretext) == (modality.dims, modality.pretext) and m.tokenizer and _fits(own, m.tokenizer)
    }
    key = stage.tokenizer
    if key is None and own.key not in alike and len(alike) == 1:
        key = next(iter(alike))
        screen.warn(
            f"{modality.name} shares the tokenizer {key} of {alike[key].name}; tokenizer={own.key} gives it its own"
        )
    key = key or own.key
    relative = alike.get(key)
    before = known.get(modality.name)
    if before is not None and stage.size is not None and tuple(stage.size) != before.size:
        raise RecipeError(
            f"the checkpoint's {modality.name} samples are of size {list(before.size)}, not {list(stage.size)}",
            where="size",
            fix="leave the key out",
        )
    nearest = before or relative
    size = stage.size or (nearest.size if nearest else None)
    if decoder is None:  # as large as those the checkpoint has
        alike_decoders = [m.decoder for m in known.values() if type(m.decoder) is type(modality.decoder)]
        sizes = vars(alike_decoders[-1]) if alike_decoders else {}  # not its positions: a new one has its own
        decoder = {key: size for key, size in sizes.items() if isinstance(size, int)} or None
    vocabulary = getattr(relative.tokenizer, "vocabulary", None) if relative else None
    if stage.vocabulary is not None:
        if vocabulary is not None and any(relative is m for m in known.values()):
            raise RecipeError(
                f"the checkpoint already has a vocabulary for {key}", where="vocabulary", fix="leave the key out"
            )
        vocabulary = vocabulary or read_vocabulary(Path(stage.vocabulary))
    modality = fit(
        modality,
        tokenizer=key,
        spec=relative.tokenizer.spec if relative and relative.tokenizer else None,
        size=tuple(size) if size else None,
        decoder=decoder,
        vocabulary=vocabulary,
        vocabulary_size=stage.vocabulary_size,
    )
    if note := resized(modality):
        screen.warn(note)
    for other in known.values():
        if other.tokenizer and other.tokenizer.key == key and not _fits(modality.tokenizer, other.tokenizer):
            raise RecipeError(
                f"the tokenizer {key} of {modality.name} differs from the one that {other.name} has under this key",
                where="tokenizer",
                fix=f"tokenizer={key}-{modality.name} gives it its own",
            )
    return modality


def _fits(own: Any, other: Any) -> bool:
    """Can a modality with the tokenizer `own` take the network that another one has?"""
    try:
        same = own if own.key == other.key or not hasattr(own, "with_key") else own.with_key(other.key)
        if other.spec.get("positions") == "table" and hasattr(
            same, "with_spec"
        ):  # imported weights are taken as they are
            same = same.with_spec(other.spec)
    except RecipeError:  # a key of another form
        return False
    return bool(same.key == other.key and dict(same.spec) == dict(other.spec))
