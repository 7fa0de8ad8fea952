"""What a fine-tuned network needs beside its weights to be used again: the task, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from medcoss_cli.data.geometry import Layout
from medcoss_cli.data.segmented import Values
from medcoss_cli.errors import CheckpointError
from medcoss_cli.kit.intensity import Fixed, ZScore
from medcoss_cli.plugin import CompleteModality, TokenizerSpec
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit

if TYPE_CHECKING:
    from medcoss_cli.model.finetuned import Tuned


@dataclass(frozen=True)
class Task:
    """Plain values only; holds no sample, name or path.

    Args:
        kind: classification or segmentation.
        classes: names in order; of a segmentation label 1 is the first, 0 the background.
        values: of a segmentation, the mask values of each class.
        size: what the network sees: an image, a text's length, or a patch of a volume.
        spacing, crop: how volumes are brought to the network's grid; see Layout.
        intensity: None: the modality's own; else how values are normalised: {"zscore": true} or the numbers of `Fixed`.
        predict: overlap, mirror, pad, postprocess of the recipe.
        encoder, head: dimensions.
    """

    kind: str
    title: str
    modality: str
    classes: list[str]
    values: Values | None
    tokenizer: str
    tokenizer_spec: dict[str, Any]
    vocabulary: str | None
    size: list[int]
    spacing: list[float] | None
    crop: bool
    intensity: dict[str, Any] | None
    predict: dict[str, Any]
    encoder: dict[str, Any]
    head: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def layout(self) -> Layout:
        """How samples are brought to the network's grid: images to its size, volumes to a spacing."""
        if len(self.size) < 3:
            return Layout(tuple(self.size), None, self.crop)
        return Layout(None, tuple(self.spacing) if self.spacing else None, self.crop)

    def load_modality(self) -> CompleteModality:
        """The installed plugin's modality, reading whole cases, with this task's tokenizer, size and intensity.

        Raises: PluginError if it is not installed, CheckpointError if its tokenizer has changed since.
        """
        spec = TokenizerSpec.from_plain(self.tokenizer_spec)
        modality = for_task(
            fit(discovery.load_modality(self.modality), tokenizer=self.tokenizer, spec=spec),
            self.tokenizer,
            tuple(self.size),
            self.vocabulary,
            self.intensity,
        )
        if modality.tokenizer.spec != spec:
            raise CheckpointError(
                f"the tokenizer {self.tokenizer} of the installed {self.modality} plugin differs from the one trained",
                fix="install the version the run names in results.json",
            )
        return modality

    def build(self, modality: CompleteModality, weights: Mapping[str, Any]) -> Tuned:
        """The network with these weights, in eval mode. Raises: CheckpointError where they do not fit."""
        from medcoss_cli.model.encoder import EncoderShape
        from medcoss_cli.model.finetuned import HeadShape, Tuned

        network = Tuned(modality, EncoderShape(**self.encoder), HeadShape(**self.head))
        try:
            network.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise CheckpointError("the weights do not fit the task that is stored with them") from error
        return network.eval()


def for_task(
    modality: CompleteModality,
    tokenizer: str,
    size: tuple[int, ...],
    vocabulary: str | None,
    intensity: Mapping[str, Any] | None,
) -> CompleteModality:
    """A modality that reads whole cases, seen as a task sees it."""
    modality = fit(modality, tokenizer=tokenizer, size=size, vocabulary=vocabulary)
    loader: Any = modality.loader
    if hasattr(loader, "whole"):
        modality = replace(modality, loader=loader.whole())
    if intensity is None:
        return modality
    rule = ZScore(0.0, 100.0, by_channel=True) if "zscore" in intensity else Fixed(**intensity)
    return replace(modality, intensity=rule)
