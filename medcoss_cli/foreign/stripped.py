"""What `checkpoint strip` wrote, as a checkpoint again: everything but decoders, samples and probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from medcoss_cli.discovery import load_modality
from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.fit import fit
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.model import Model
from medcoss_cli.state import State
from medcoss_cli.store import plain
from medcoss_cli.store.strip import FORMAT


def is_stripped(path: Path) -> bool:
    """Does its metadata say so?"""
    return plain.is_safetensors(path) and _metadata(path).get("format") == FORMAT


def unstripped(path: Path) -> tuple[State, list[str]]:
    """A state with its encoder, tokenizers and history, and the names of what is random: decoders.

    Raises: CheckpointError for damage, PluginError where a plugin is missing.
    """
    weights = plain.load_safetensors(path)
    try:
        about: dict[str, Any] = {key: json.loads(_metadata(path)[key]) for key in _PARTS}
        encoder = dict(about["encoder"])
        model = Model(
            EncoderShape(**{k: v for k, v in encoder.items() if k not in ("seed", "masking")}), encoder["seed"]
        )
        for name, facts in about["modalities"].items():
            key = facts["tokenizer"]
            known, words = load_modality(name), about["vocabularies"].get(key)
            spec, size = about["tokenizers"][key], tuple(facts["size"])
            model.add(fit(known, tokenizer=key, spec=spec, size=size, vocabulary=words))
        missing = model.load_state_dict(weights, strict=False)
    except PluginError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError("its metadata and its weights do not fit", where=path, fix=plain.AGAIN) from error
    random = [name for name in missing.missing_keys if name.startswith("decoders.")]
    if missing.unexpected_keys or len(random) < len(missing.missing_keys):
        raise CheckpointError("its metadata and its weights do not fit", where=path, fix=plain.AGAIN)
    history = [{**entry, "retention": {}} for entry in about["history"]]
    return State(model, history=history), random


_PARTS = ("encoder", "tokenizers", "modalities", "vocabularies", "history")


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        return {}
