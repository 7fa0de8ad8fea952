"""All that a plugin author imports: the parts of a modality, and the hooks by which medcoss finds them.

A modality is composed of parts, not inherited from a base class. Parts are plain frozen dataclasses that describe what
to do; torch, numpy, pydicom and SimpleITK are imported inside their methods, so that importing a plugin costs nothing.

Shapes: N samples, C channels, L tokens, K kept tokens, D width; *size is (L,), (H, W) or (D, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, cast, runtime_checkable

import pluggy

from medcoss_cli.plugin.networks import DecoderNetwork, PatchNetwork, TextNetwork, TokenizerSpec, TokenNetwork, lacking

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

__all__ = [
    "PLUGIN_API",
    "Augment",
    "CompleteModality",
    "Decoder",
    "DecoderNetwork",
    "Grid",
    "Intensity",
    "Loader",
    "Modality",
    "PatchNetwork",
    "PatchTokenizer",
    "Record",
    "Sample",
    "Skipped",
    "TextNetwork",
    "TextTokenizer",
    "TokenNetwork",
    "Tokenizer",
    "TokenizerSpec",
    "hookimpl",
    "hookspec",
    "lacking",
    "medcoss_modalities",
    "medcoss_recipes",
    "medcoss_strategies",
]

PLUGIN_API = 1
"""The version of this contract. A plugin says `PLUGIN_API = 1`; another major version is refused."""

hookspec = pluggy.HookspecMarker("medcoss")
hookimpl = pluggy.HookimplMarker("medcoss")

Pretext = Literal["masked_patches", "masked_words"]


@dataclass(frozen=True, slots=True)
class Record:
    """Where one sample lies in the user's files, before it is read. Private: never written to anything shareable."""

    source: Path
    """A file, or the folder of a DICOM series."""
    part: tuple[str | int, ...] | None = None
    """What of it: ("row", 17), ("window", 0, 24), ("series", uid, "window", 0, 24); None for all of it.

    A leading "row", "series", "volume", "key" or "index" with its value names a recording of its own; what follows is a
    part of it.
    """
    group: str | None = None
    """Patient or document. None: the recording is its own group."""
    files: tuple[Path, ...] = ()
    """Other files that reading the source needs, such as the `.dat` of a `.hea`, or the slices of a series in a folder:
    part of its fingerprint."""
    notes: tuple[str, ...] = ()
    """What finding it has shown that a user should know ("one of 2 volumes of its series"); joins the notes of its sample."""

    @property
    def recording(self) -> tuple[Path, tuple[str | int, ...]]:
        """What one label and one prediction belong to; records that share it are parts whose probabilities are averaged."""
        part, end = self.part or (), 0
        while part[end : end + 1] in (("row",), ("series",), ("volume",), ("key",), ("index",)):
            end += 2
        return self.source, part[:end]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that `Loader.find` saw and gives no record for."""

    source: Path
    reason: str
    bad: bool = False
    """True: a broken file of this modality (counts as bad, goes to quarantine.csv). False: not meant to be read."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Size and place of a volume, as its file says; what it does not say is None."""

    size: tuple[int, int, int]
    """Voxels along the axes x, y, z of the file, x running fastest in memory."""
    spacing: tuple[float, float, float] | None = None
    """mm along x, y, z of the grid."""
    origin: tuple[float, float, float] | None = None
    """Position of the first voxel in mm, LPS."""
    direction: tuple[float, ...] | None = None
    """Row-major 3 x 3; column a is the direction of grid axis a in LPS."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What reading a record gives: one array in physical units, with geometry where the file has it."""

    array: Any
    """(C, *size) numpy array in physical units (grey levels, HU, …), or a str for text."""
    spacing: tuple[float, ...] | None = None
    """mm per axis of *size (ms of an axis that is time), in the array's axis order; None where the file does not say."""
    origin: tuple[float, ...] | None = None
    """Position (x, y, z) of the first voxel in mm, LPS; None where the file does not say."""
    direction: tuple[float, ...] | None = None
    """Row-major 3 x 3 direction cosines, LPS, columns in (x, y, z) order; None where the file does not say."""
    notes: tuple[str, ...] = ()
    """What was done to read it that a user should know ("first of 2 volumes"). No names, no paths."""
    stored: Grid | None = None
    """The whole volume's grid in its file, before its axes were turned.

    Segmentation of volumes needs it: masks are compared with it and written on it. Where it has a direction, a whole array's
    axes (D, H, W) point to superior, posterior and left; a file that says nothing gives `Grid(size=(W, H, D))`.
    """


class Loader(Protocol):
    """Finds records in a folder, and reads one."""

    def find(self, root: Path, split: str = "train") -> Iterable[Record | Skipped]:
        """List what lies under `root` (a folder, or one file), sorted, reading headers, or a thumbnail where they do not do.

        Where a folder holds a `manifest.csv`, only its `path` column is taken, rows of `split` or of no split, never
        `mask`; its `group` column is the group. `split="all"` takes every row.
        """
        ...

    def read(self, record: Record) -> Sample:
        """Read one record. Raises DataError with a reason for what cannot be read."""
        ...


@runtime_checkable
class WholeLoader(Loader, Protocol):
    """A loader that cuts its recordings into parts and can also read them whole; optional."""

    def whole(self) -> Loader:
        """The same files, one record for each recording, neither cut nor resampled; labelled data is read with it.

        Without it a recording's label is the label of every part, and the probabilities of its parts are averaged.
        """
        ...


@runtime_checkable
class MaskLoader(Loader, Protocol):
    """A loader that reads the masks of its samples itself, from files of its own kind; optional."""

    def read_mask(self, path: Path, sample: Sample) -> np.ndarray[Any, Any]:
        """Labels (*size), whole numbers with 0 for background, on the axes of `sample.array`.

        Raises DataError with a reason for a mask that cannot be read or does not lie on the sample.
        """
        ...


class Intensity(Protocol):
    """How physical units become small integers on disk, and the numbers the encoder sees."""

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(integers (C, *size), scale, offset); for text (ids (L,), 1, 0)."""
        ...

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Integers (N, C, *size) with scale and offset (N,) to float32 in the encoder's range; ids stay int64."""
        ...


class Augment(Protocol):
    """Random views of stored integers; the same generator gives the same view."""

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        """Integers (N, C, *size) to integers (N, C, *size). The core calls it with one sample at a time (N = 1)."""
        ...


class Tokenizer(Protocol):
    """Describes the network that turns inputs into tokens; modalities with the same key share one network.

    A frozen dataclass of plain values; all members are required.
    """

    @property
    def key(self) -> str:
        """Such as "patch2d-16"; without a dot. A key of that form says what the patch is."""
        ...

    @property
    def spec(self) -> TokenizerSpec:
        """What the network is like, apart from its weights."""
        ...

    def with_key(self, key: str) -> Self:
        """The same under another key (`tokenizer: patch2d-8` in a recipe), and so perhaps with another patch.

        Raises RecipeError for a key that it has no form for.
        """
        ...

    def with_spec(self, spec: TokenizerSpec) -> Self:
        """The same with a checkpoint's positions, grid, rows, epsilon and order, as far as it can have them.

        What still differs afterwards is refused by medcoss, so returning itself is right for a tokenizer of one form.
        """
        ...

    def build(self, width: int) -> TokenNetwork:
        """The network for tokens of this width, a torch `nn.Module`."""
        ...


class PatchTokenizer(Tokenizer, Protocol):
    """The tokenizer of images, volumes and signals (pretext masked_patches); `spec.patch` is not None."""

    def build(self, width: int) -> PatchNetwork:
        """The network for tokens of this width, a torch `nn.Module`."""
        ...


class TextTokenizer(Tokenizer, Intensity, Protocol):
    """The tokenizer of text (pretext masked_words), and its intensity: what is stored of a text are ids."""

    @property
    def vocabulary(self) -> str | None:
        """The vocabulary as text; None before one is learned or given."""
        ...

    def learn(self, texts: Iterable[str], groups: Iterable[str | None]) -> str:
        """A vocabulary learned from texts and their groups; called where `vocabulary` is None."""
        ...

    def with_vocabulary(self, vocabulary: str) -> Self:
        """The same, reading and writing with this vocabulary."""
        ...

    def with_vocabulary_size(self, size: int) -> Self:
        """The same, learning at most so many pieces (`vocabulary_size` in a recipe)."""
        ...

    def with_size(self, size: tuple[int, ...]) -> Self:
        """The same for texts of (L,) tokens; longer ones are cut."""
        ...

    def notes(self, sample: Sample) -> tuple[str, ...]:
        """What becomes of a sample that a user should know ("cut after 112 pieces"); () if nothing."""
        ...

    def text(self, ids: Iterable[int]) -> list[str]:
        """The pieces of one sample without padding, for previews."""
        ...

    def build(self, width: int) -> TextNetwork:
        """The network for tokens of this width, a torch `nn.Module`; called with a vocabulary in place."""
        ...


class Decoder(Protocol):
    """Describes the throw-away head of one modality's pretext task: a frozen dataclass of plain values.

    Values that a recipe's `decoder` names too (width, depth, heads) are taken from there.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, width: int, modality: CompleteModality) -> DecoderNetwork:
        """The network for features of this width, of a modality with its size and its tokenizer's spec."""
        ...


@dataclass(frozen=True)
class Modality:
    """A named kind of data. What is left out gets the kit's default for its dims and pretext."""

    name: str
    """The entry point's name: lower-case letters, digits and underscores, as in `xray`."""
    title: str
    dims: Literal[1, 2, 3]
    size: tuple[int, ...]
    """What the encoder sees: (words,), (height, width) or (depth, height, width)."""
    channels: int
    """Of a sample: 1 grey, 3 colour, 0 text."""
    loader: Loader
    pretext: Pretext = "masked_patches"
    tokenizer: Tokenizer | None = None
    intensity: Intensity | None = None
    augment: Augment | None = None
    decoder: Decoder | None = None
    demo: Callable[[Path, int, int], None] | None = None
    """demo(root, count, seed): write a small synthetic set in real file formats, with `manifest.csv`."""


@dataclass(frozen=True, kw_only=True)
class CompleteModality(Modality):
    """A modality with every part in place, as the core uses it; `registry` makes it of what an author wrote."""

    tokenizer: Tokenizer
    intensity: Intensity
    augment: Augment
    decoder: Decoder

    @property
    def text_tokenizer(self) -> TextTokenizer | None:
        """The tokenizer of a text modality, as the pretext says; None where patches are masked."""
        return cast(TextTokenizer, self.tokenizer) if self.pretext == "masked_words" else None

    @property
    def vocabulary(self) -> str | None:
        """Of a text modality that has one already (JSON text)."""
        return self.text_tokenizer.vocabulary if self.text_tokenizer is not None else None

    def with_tokenizer(self, tokenizer: Tokenizer) -> CompleteModality:
        """The same modality with another tokenizer, which is a text modality's intensity as well."""
        if self.pretext == "masked_words":
            return replace(self, tokenizer=tokenizer, intensity=cast(TextTokenizer, tokenizer))
        return replace(self, tokenizer=tokenizer)

    def with_size(self, size: tuple[int, ...]) -> CompleteModality:
        """The same modality seen at another size; a text tokenizer cuts its texts there."""
        modality = replace(self, size=size)
        text = modality.text_tokenizer
        return modality if text is None else modality.with_tokenizer(text.with_size(size))

    def with_vocabulary(self, vocabulary: str) -> CompleteModality:
        """The same modality, reading and writing with this vocabulary (JSON text). Raises: ValueError without text."""
        if self.text_tokenizer is None:
            raise ValueError(f"{self.name} has no vocabulary")
        return self.with_tokenizer(self.text_tokenizer.with_vocabulary(vocabulary))


@hookspec
def medcoss_modalities() -> list[Modality]:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the modalities this plugin brings."""


@hookspec
def medcoss_strategies() -> list[type]:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the subclasses of `medcoss_cli.strategies.Strategy` this plugin brings.

    The entry point in the group `medcoss.strategies` is called as the class's `name` says, or as the class in lower case;
    it may as well name the class itself.
    """


@hookspec
def medcoss_recipes() -> list[Path]:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the recipes (YAML files) this plugin brings; its entry point is in the group `medcoss.recipes`."""
