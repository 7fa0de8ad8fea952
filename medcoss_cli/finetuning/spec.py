"""From a stored task to what it names: its kind, the installed modality, the network. torch only where a network is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, RecipeError, UsageError
from medcoss_cli.kit.intensity import Fixed, ZScore
from medcoss_cli.plugin import CompleteModality, TokenizerSpec, WholeLoader
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit, reading, said_by
from medcoss_cli.registry.fingerprint import check_unchanged
from medcoss_cli.tasks import TaskKind
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from medcoss_cli.model.finetuned import TaskNetwork
    from medcoss_cli.store.finetuned import StoredTask


def stored_spec(stored: StoredTask, where: Path) -> TaskSpec:
    """The task of a file, after it was compared with the weights in it. Raises: CheckpointError."""
    from medcoss_cli.store import weighed

    spec = TaskSpec.from_plain(stored.task, where)
    tokenizer = TokenizerSpec.from_plain(spec.tokenizer_spec)
    faults = [weighed.size_fault(spec.size, tokenizer.patch), load_kind(spec).fault(spec)]
    if network := spec.encoder.get("network"):
        faults.append(
            _name_fault(network)
            or weighed.foreign_fault(network, spec.encoder["width"], stored.weights)
            or _shape_fault(network, stored.weights)
        )
    elif stored.weights:
        faults.append(weighed.encoder_fault(spec.encoder, stored.weights))
    faults.append(weighed.part_fault("the head", spec.head, "head.", stored.weights))
    faults.append(weighed.part_fault("the tokenizer", spec.tokenizer_spec, "tokenizer.", stored.weights))
    for fault in filter(None, faults):
        raise CheckpointError(f"the stored task is damaged: {fault}", where=where, fix="use another copy of it")
    return spec


def _name_fault(network: Mapping[str, Any]) -> str | None:
    """Is an architecture of timm one that timm itself holds? It would look for others on the network."""
    if network["family"] != "timm":
        return None
    import timm

    return None if timm.is_model(network["name"]) else f"timm knows no architecture {network['name'][:40]!r}"


def _shape_fault(network: Mapping[str, Any], weights: Mapping[str, Any]) -> str | None:
    """Has a network of others the shapes of its tensors? They begin with "backbone." once a head was trained on them."""
    from medcoss_cli.model import foreign
    from medcoss_cli.model.networks import within

    if network["family"] == foreign.UNET:  # all head, and it takes what fits
        return None
    tensors = within("backbone.", weights) or weights
    for name, value in foreign.outline(network).state_dict().items():
        if value.is_floating_point() and (name not in tensors or tensors[name].shape != value.shape):
            is_named = network["family"] == "timm"
            made = f"timm {version('timm')} builds {network['name']}" if is_named else "its network is built"
            return f"{made} with a tensor {name} that the file lacks or has in another shape"
    return None


def load_kind(spec: TaskSpec) -> TaskKind:
    """The installed kind with the stored settings. Raises: PluginError if it is not installed or refuses them."""
    return discovery.make_task(spec.kind, spec.settings)


def load_modality(spec: TaskSpec, screen: Screen, where: Path, *, decodes: bool = True) -> CompleteModality:
    """The installed plugin's modality, reading whole cases, with this task's tokenizer, size and intensity.

    Args:
        where: the file that the task is from.
        decodes: False: stored integers are decoded by an exported file, not by the plugin.

    Raises: PluginError if it is not installed, CheckpointError if it reads otherwise than when it was trained.
    """
    tokenizer = TokenizerSpec.from_plain(spec.tokenizer_spec)
    with said_by(where):
        installed = fit(discovery.load_modality(spec.modality), tokenizer=spec.tokenizer, spec=tokenizer)
        if spec.intensity is not None and installed.text_tokenizer is not None:
            raise CheckpointError(
                "the stored task is damaged: it has an intensity for a text", fix="use another copy of it"
            )
        modality = for_task(
            reading(installed, spec.reading), spec.tokenizer, tuple(spec.size), spec.vocabulary, spec.intensity
        )
        check_unchanged(spec.plugin, modality, screen, where=where, decodes=decodes)
        if modality.tokenizer.spec != tokenizer:
            raise CheckpointError(
                f"the tokenizer {spec.tokenizer} of the installed {spec.modality} plugin differs from the one trained",
                fix="install the version the run names in results.json",
            )
    return modality


def for_task(
    modality: CompleteModality,
    tokenizer: str,
    size: tuple[int, ...],
    vocabulary: str | None,
    intensity: Mapping[str, Any] | None,
) -> CompleteModality:
    """A modality that reads whole cases, seen as a task sees it. Raises: RecipeError for an intensity of text."""
    modality = fit(modality, tokenizer=tokenizer, size=size, vocabulary=vocabulary)
    if isinstance(modality.loader, WholeLoader):
        modality = replace(modality, loader=modality.loader.whole())
    if intensity is None:
        return modality
    if modality.text_tokenizer is not None:
        raise RecipeError(
            f"{modality.name} is text, which has no intensity but its own",
            where="input.intensity",
            fix="leave the key out",
        )
    rule = ZScore(0.0, 100.0, by_channel=True) if "zscore" in intensity else Fixed(**intensity)
    return replace(modality, intensity=rule)


def build(spec: TaskSpec, modality: CompleteModality, seed: int = 0, drop_path: float = 0.0) -> TaskNetwork:
    """A task's network with parameters drawn from the seed.

    Raises: UsageError where the kind of task needs more of a network of others than its feature.
    """
    from medcoss_cli.model.encoder import EncoderShape
    from medcoss_cli.model.finetuned import FinetunedNetwork, ForeignNetwork
    from medcoss_cli.model.foreign import UNET
    from medcoss_cli.randomness import seeded

    with seeded(seed, "weights", "head"):  # MONAI draws its parameters from the global generator
        head = load_kind(spec).head(spec, modality)
    if "network" in spec.encoder:
        network, frozen = spec.encoder["network"], spec.head["frozen"]
        if head.blocks is not None and network["family"] != UNET:
            raise UsageError(
                f"a {spec.kind} task needs hidden states, and a network of others gives one feature a sample"
            )
        return ForeignNetwork(network, spec.encoder["width"], head, frozen=frozen, seed=seed)
    return FinetunedNetwork(
        modality,
        EncoderShape(**spec.encoder),
        head,
        pool=spec.head["pool"],
        frozen=spec.head["frozen"],
        seed=seed,
        drop_path=drop_path,
    )


def restore(spec: TaskSpec, modality: CompleteModality, weights: Mapping[str, Any]) -> TaskNetwork:
    """The network with these parameters, in eval mode. Raises: CheckpointError where they do not fit."""
    from medcoss_cli.model.networks import AtMost

    with AtMost(weights):
        network = build(spec, modality)
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(
            "the weights do not fit the task that is stored with them", fix="use another copy of it, or train again"
        ) from error
    return network.eval()
