"""What of a checkpoint may be shared: encoder and tokenizers, without a sample, a file name, a path or a person.

`strip` writes such a file; `unstripped` makes a checkpoint of it again: everything but decoders, samples and anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.networks import AtMost
from medcoss_cli.plugin import TokenizerSpec
from medcoss_cli.pretraining.state import State, weights_for
from medcoss_cli.registry.configure import fit, said_by
from medcoss_cli.registry.discovery import load_modality
from medcoss_cli.registry.fingerprint import check_unchanged
from medcoss_cli.store import atomic, checkpoint, plain
from medcoss_cli.store.shareable import read, shareable


def strip(source: Path, out: Path) -> int:
    """Write the shareable part of a checkpoint as safetensors; returns its size in bytes.

    Vocabulary, specs and history are JSON text in the file's metadata.

    Raises: UsageError if `out` is no name for such a file, CheckpointError, ResourceError.
    """
    if out.suffix != ".safetensors":  # so that no checkpoint is ever overwritten by what is left of one
        raise UsageError("the file to write is a .safetensors file", where=out, fix=f"name it {out.stem}.safetensors")
    data = shareable(checkpoint.load(source))
    atomic.write(out, data)
    return len(data)


def unstripped(path: Path, names: Sequence[str] = (), screen: Screen | None = None) -> tuple[State, list[str]]:
    """A state with its encoder, tokenizers and history, and the names of what is random: decoders.

    Args:
        names: modalities to take; none are all. Only their plugins are needed.

    Raises: CheckpointError for damage or a plugin that reads otherwise, PluginError where one is missing, UsageError for a
        modality that the file does not know.
    """
    content = read(path)
    weights, about = content.weights, vars(content)
    try:
        encoder = dict(about["encoder"])
        model = Model(
            EncoderShape(**{k: v for k, v in encoder.items() if k not in ("seed", "masking")}), encoder["seed"]
        )
        unknown = [name for name in names if name not in about["modalities"]]
        if unknown:
            raise UsageError(
                f"the file does not know {', '.join(unknown)}",
                where="--modality",
                fix=f"it knows {', '.join(about['modalities'])}",
            )
        for name in names or about["modalities"]:
            facts = about["modalities"][name]
            key = facts["tokenizer"]
            modality, words = load_modality(name), about["vocabularies"].get(key)
            spec, size = TokenizerSpec.from_plain(about["tokenizers"][key]), tuple(facts["size"])
            with said_by(path):
                modality = fit(modality, tokenizer=key, spec=spec, size=size, vocabulary=words)
            check_unchanged(facts.get("fingerprint"), modality, screen or Screen(), where=path)
            with said_by(path), AtMost(weights):
                model.add(modality)
        missing = model.load_state_dict(weights_for(model, weights), strict=False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError("its metadata and its weights do not fit", where=path, fix=plain.AGAIN) from error
    random = [name for name in missing.missing_keys if name.startswith("decoders.")]
    if missing.unexpected_keys or len(random) < len(missing.missing_keys):
        raise CheckpointError("its metadata and its weights do not fit", where=path, fix=plain.AGAIN)
    history = [{**entry, "retention": {}} for entry in about["history"] if entry["modality"] in model.modalities]
    return State(model, history=history), random
