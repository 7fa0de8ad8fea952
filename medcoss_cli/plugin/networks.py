"""What the networks of a plugin's tokenizer and decoder have, and the spec that rebuilds a tokenizer's.

N samples, C channels, L tokens, K kept tokens, D width; *size is (L,), (H, W) or (D, H, W).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from medcoss_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenizerSpec:
    """What rebuilds a tokenizer's network from a checkpoint; modalities that share a key must agree on all of it.

    Raises: ValueError for a value of another type, or one that no network can be built with.
    """

    kind: str
    """Which network: "patches" and "words" are the kit's, another network has another name. Weights fit one kind only."""
    patch: tuple[int, ...] | None = None
    """Edges of a patch, one per axis: a size is a multiple of them. None for text."""
    channels: int = 0
    """Channels that the network works on: `embed` repeats samples that have one. 0 for text."""
    cls: bool = True
    """The encoder puts its cls token in front of the tokens. False for text, whose ids begin with their own."""
    causal: bool = False
    """Each token attends only to itself and those before it (imported text weights)."""
    positions: str = "sincos"
    """"sincos": computed for any grid; "table": learned, one for each place of `grid` or of `rows` (imported weights)."""
    norm_eps: float = 1e-5
    """Epsilon of the norm behind the projection."""
    grid: tuple[int, ...] | None = None
    """Patches per axis for which a table was learned, or that sine-cosine positions were trained on, where a task has more."""
    rows: int | None = None
    """Places of a text for which a table was learned; a text is no longer."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Values of the author's own: text, numbers, lists and mappings of them."""

    def __post_init__(self) -> None:
        types: dict[str, Any] = {"kind": str, "positions": str, "channels": int, "cls": bool, "causal": bool}
        types |= {
            "norm_eps": int | float,
            "rows": int | None,
            "patch": tuple | list | None,
            "grid": tuple | list | None,
        }
        for name, kind in (types | {"extra": Mapping}).items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(f"{name} is {value!r}")
            if name in ("patch", "grid") and value is not None:
                if not value or not all(isinstance(n, int) and n > 0 for n in value):
                    raise ValueError(f"{name} is {value!r}, not positive whole numbers")
                object.__setattr__(self, name, tuple(value))
        if self.patch is not None and self.grid is not None and len(self.grid) != len(self.patch):
            raise ValueError(f"grid has {len(self.grid)} axes, patch has {len(self.patch)}")
        if self.kind == "patches" and self.positions == "table" and self.grid is None:
            raise ValueError("positions is 'table', and there is no grid that it is of")
        if not 0 < self.norm_eps < 1:
            raise ValueError("norm_eps is not between 0 and 1")
        object.__setattr__(self, "extra", _plain(dict(self.extra)))

    def to_plain(self) -> dict[str, Any]:
        """As a checkpoint holds it: numbers, texts, lists; what is None or empty is left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None and v != {}}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> TokenizerSpec:
        """What `to_plain` wrote. Raises: CheckpointError for anything else."""
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"its description of a tokenizer cannot be used ({error})") from error


def _plain(value: Any) -> Any:
    """The same with lists for tuples. Raises: ValueError for what a checkpoint cannot hold without code."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{value!r} is no plain value")


class TokenNetwork(Protocol):
    """What every tokenizer's network has; it is a torch `nn.Module`."""

    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        """Inputs (N, C, *size), or ids (N, L), to tokens (N, L, D); with `keep` (N, K) those patches alone (N, K, D).

        A sample's tokens depend on that sample only. Texts never get `keep`: their words are hidden, not dropped.
        """
        ...

    def valid(self, batch: Tensor) -> Tensor | None:
        """(N, L) bool, False at padding, which no token attends to; None if every token is real."""
        ...


class PatchNetwork(TokenNetwork, Protocol):
    """The network of a PatchTokenizer."""

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens per axis for a size, L their product. Raises ValueError if the size is no multiple of the patch."""
        ...


class TextNetwork(TokenNetwork, Protocol):
    """The network of a TextTokenizer."""

    def hide(
        self, batch: Tensor, order: Tensor, action: Tensor, substitute: Tensor, ratio: float
    ) -> tuple[Tensor, Tensor]:
        """Ids (N, L) with hidden words, and which places are targets, (N, L) bool: `ratio` of the real ones, at least one.

        All chance is in the draws (N, L), uniform in [0, 1): `order` chooses words, `action` and `substitute` what each
        target becomes. Other places stay as they are, and padding is never a target.
        """
        ...


class DecoderNetwork(Protocol):
    """The network of a Decoder, a torch `nn.Module`.

    `features` is (N, 1 + K, D), the cls token first, where `spec.cls`, else (N, K, D); `keep` is (N, K) kept patches, or
    for text (N, L) bool, True at targets; `batch` is what was to be seen, nothing hidden.
    """

    def loss(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, Tensor | int]:
        """Sum and count: the sums of parts of a batch add up to the sum of all."""
        ...

    def baseline(self, batch: Tensor) -> float:
        """The loss of predicting without looking, such as the mean, so that losses can be compared; 1.0 if unknown."""
        ...

    def reconstruct(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """What was seen and what is predicted, both (N, C, *size) with the tokenizer's channels, or ids (N, L)."""
        ...


def lacking(part: object, protocol: type) -> list[str]:
    """Names of the members that a protocol asks for and `part` lacks, or has but cannot be called."""
    members: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if base not in (object, Protocol):
            members |= {n: v for n, v in vars(base).items() if n == "__call__" or not n.startswith("_")}
    return [
        n
        for n, v in members.items()
        if not hasattr(part, n) or (inspect.isfunction(v) and not callable(getattr(part, n)))
    ]
