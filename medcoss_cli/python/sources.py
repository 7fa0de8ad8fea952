"""`load`: what lies at a path decides what is loaded."""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.python.loaded import Loaded, Network
from medcoss_cli.tasks.predictor import Decode


class Notes(Screen):
    """What a user should know, as warnings of Python."""

    def warn(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


def load(source: str | os.PathLike[str], *, seed: int | None = None) -> Loaded:
    """A checkpoint, a pre-training run's folder, a stripped encoder, a fine-tuned run's folder or an exported ONNX file.

    Example: load("runs/mine").embed(["a.png", "b.png"], modality="xray")

    Args:
        seed: of a fine-tuned run, whose network; None: the one that validated best.

    Raises: CheckpointError for what is none of these, PluginError where a plugin is missing.
    """
    path = Path(source)
    if not path.exists():
        raise CheckpointError("the file or folder does not exist", where=path, fix="check the path")
    if path.suffix == ".onnx":
        return _exported(path)
    if path.is_dir() and not (path / "ckpt.pt").exists() and any(path.glob("seed-*/model.pt")):
        return _fine_tuned(path, seed)
    return _pretrained(path)


def _exported(path: Path) -> Loaded:
    from medcoss_cli.export import runtime

    file = runtime.load(path)
    modality = file.modality(Notes())
    modalities = {modality.name: modality}
    if file.about.kind == "task":
        predictor = file.predictor(Notes())
        modalities = {modality.name: predictor.modality}
        return Loaded(str(path), modalities, tuple(predictor.spec.classes), None, predictor)

    def network(inputs: object) -> object:
        return tuple(file.run(inputs))  # type: ignore[arg-type]  # arrays

    return Loaded(str(path), modalities, (), lambda name: (network, file.decode))  # type: ignore[arg-type,return-value]  # two outputs


def _pretrained(path: Path) -> Loaded:
    from medcoss_cli.export.checkpoint import in_numpy
    from medcoss_cli.export.networks import Features
    from medcoss_cli.finetuning.checkpoints import decoder
    from medcoss_cli.importers.shareable import unstripped
    from medcoss_cli.pretraining.state import read_state
    from medcoss_cli.store.checkpoint import find_checkpoint
    from medcoss_cli.store.shareable import is_stripped

    if path.suffix == ".safetensors":
        if not is_stripped(path):
            fix = "load the run's ckpt.pt, or what `medcoss checkpoint strip` writes"
            raise CheckpointError("these are weights without what is needed to use them", where=path, fix=fix)
        model = unstripped(path, screen=Notes())[0].model
    else:
        model = read_state(find_checkpoint(path)[0], Notes()).model

    @cache
    def networks(name: str) -> tuple[Network, Decode]:
        return in_numpy(Features.of(model, name)), decoder(model.modalities[name])

    return Loaded(str(path), dict(model.modalities), (), networks)


def _fine_tuned(path: Path, seed: int | None) -> Loaded:
    from medcoss_cli.export.checkpoint import in_numpy
    from medcoss_cli.export.networks import Features
    from medcoss_cli.finetuning.checkpoints import best_seed, decoder
    from medcoss_cli.finetuning.setup import one_device
    from medcoss_cli.model.finetuned import FinetunedNetwork

    trained = best_seed(path, seed, Notes())
    predictor = trained.predictor(one_device().device)

    @cache
    def networks(name: str) -> tuple[Network, Decode]:
        if not isinstance(trained.network, FinetunedNetwork):
            title = trained.spec.encoder["title"]
            raise UsageError(f"features are of medcoss's encoder, and this run's network is {title}", where=path)
        features = Features(trained.network.tokenizer, trained.network.encoder, trained.modality)
        return in_numpy(features), decoder(trained.modality)

    classes = tuple(trained.spec.classes)
    return Loaded(str(path), {trained.modality.name: trained.modality}, classes, networks, predictor)
