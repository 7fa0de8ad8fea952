"""Patches: how images, volumes and signals become tokens. A plain description; its network is built on demand."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from medcoss_cli.errors import RecipeError
from medcoss_cli.plugin import TokenizerSpec

if TYPE_CHECKING:
    from medcoss_cli.kit.patch_networks import PatchEmbedding

_KEY = re.compile(r"patch([123])d-([1-9]\d*(?:x[1-9]\d*)*)(-[a-z0-9_-]+)?")


def patch_of(key: str) -> tuple[int, ...] | None:
    """Edges of a patch, one per axis, as a key says: (16, 16) of "patch2d-16"; None for a key of another form.

    Raises: RecipeError for a key of this form whose edges do not fit its dimensions.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    dims, edges = int(match[1]), tuple(int(edge) for edge in match[2].split("x"))
    if len(edges) == 1:
        return edges * dims
    if len(edges) != dims:
        raise RecipeError(f"tokenizer key {key!r} has {len(edges)} edges for {dims} dimensions")
    if len(set(edges)) == 1:  # one patch, one key: else two modalities would not share their network
        form = f"patch{dims}d-{edges[0]}{match[3] or ''}"
        raise RecipeError(f"tokenizer key {key!r} is written {form}", fix=f"write {form}")
    return edges


@dataclass(frozen=True)
class Patches:
    """Patches of a signal, image or volume, linearly embedded (ViT, MAE).

    Args:
        key: "patch2d-16": two dimensions, patches of 16 x 16; "patch3d-4x16x16": other edges along other axes, depth first.
            Modalities with the same key share one network; a word behind it, as in "patch1d-16-ecg", gives a modality
            its own network, of other channels for example.
        channels: of the projection; grey samples are repeated to them. Default: 3 in two dimensions, else 1.
        positions: "sincos", or "table": learned, one for each place of `grid`.
        grid: also of "sincos": what the encoder was trained on, where a task's samples are larger.

    Raises: RecipeError for a key of another form.
    """

    key: str
    channels: int = 0
    positions: str = "sincos"
    norm_eps: float = 1e-5
    grid: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        patch = patch_of(self.key)
        if patch is None:
            raise RecipeError(
                f"tokenizer key {self.key!r} is not of the form patch<dims>d-<edge>",
                fix="for example patch2d-16, patch3d-4x16x16, or patch2d-16-mine for one of your own",
            )
        object.__setattr__(self, "channels", self.channels or (3 if len(patch) == 2 else 1))

    @property
    def patch(self) -> tuple[int, ...]:
        """Edges of a patch, one per axis."""
        patch = patch_of(self.key)
        assert patch is not None  # checked when it was made
        return patch

    @property
    def spec(self) -> TokenizerSpec:
        """As a checkpoint keeps it."""
        return TokenizerSpec(
            "patches",
            patch=self.patch,
            channels=self.channels,
            positions=self.positions,
            norm_eps=self.norm_eps,
            grid=self.grid,
        )

    def with_spec(self, spec: TokenizerSpec) -> Self:
        """The same with a checkpoint's positions, grid and epsilon; patch and channels are the plugin's own."""
        return replace(self, positions=spec.positions, norm_eps=spec.norm_eps, grid=spec.grid)

    def with_key(self, key: str) -> Self:
        """The same under another key, and so with another patch. Raises: RecipeError for other dimensions."""
        renamed = replace(self, key=key)
        if len(renamed.patch) != len(self.patch):
            raise RecipeError(
                f"tokenizer {key!r} has {len(renamed.patch)} dimensions where {len(self.patch)} are needed"
            )
        return renamed

    def build(self, width: int) -> PatchEmbedding:
        """Its network, for tokens of this width."""
        from medcoss_cli.kit.patch_networks import PatchEmbedding

        return PatchEmbedding(self.spec, width)
