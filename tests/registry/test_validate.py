"""What a part lacks is named when its plugin is loaded: each required member of each protocol in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from medcoss_cli import plugin
from medcoss_cli.errors import CheckpointError, PluginError, RecipeError
from medcoss_cli.kit import Grey8, ImageFolder, Mirror, Patches, PixelDecoder, TextFolder, WordDecoder, Words
from medcoss_cli.plugin import Modality, TokenizerSpec
from medcoss_cli.registry import validate
from medcoss_cli.registry.configure import fit

IMAGES = Modality("images", "Images", 2, (32, 32), 1, ImageFolder())
TEXTS = Modality("texts", "Texts", 1, (32,), 0, TextFolder(column="text"), pretext="masked_words")
PARTS: dict[str, tuple[Modality, str, Any]] = {
    "Loader": (IMAGES, "loader", ImageFolder()),
    "Intensity": (IMAGES, "intensity", Grey8()),
    "Augment": (IMAGES, "augment", Mirror()),
    "PatchTokenizer": (IMAGES, "tokenizer", Patches("patch2d-16")),
    "TextTokenizer": (TEXTS, "tokenizer", Words()),
    "Decoder": (IMAGES, "decoder", PixelDecoder()),
}
MEMBERS = [(name, member) for name in PARTS for member in plugin.lacking(object(), getattr(plugin, name))]


def without(part: Any, *members: str) -> Any:
    """An object like this part, that has not these members."""
    names = [n for n in dir(part) if n == "__call__" or not n.startswith("_")]
    kept = {n: getattr(part, n) for n in names if n not in members and n != "codec"}
    return type("Foo", (), {n: staticmethod(v) if callable(v) else v for n, v in kept.items()})()


@pytest.mark.parametrize(("protocol", "member"), MEMBERS, ids=lambda value: value)
def test_each_required_member_that_is_missing_is_named(protocol: str, member: str) -> None:
    modality, field, part = PARTS[protocol]
    with pytest.raises(validate.Broken) as caught:
        validate.check(replace(modality, **{field: without(part, member)}))
    assert str(caught.value) == f"its {field} Foo lacks {member} (medcoss_cli.plugin.{protocol} describes them)"


def test_all_that_is_missing_is_named_at_once() -> None:
    part = without(Patches("patch2d-16"), "with_key", "spec")
    with pytest.raises(validate.Broken, match="its tokenizer Foo lacks spec and with_key "):
        validate.check(replace(IMAGES, tokenizer=part))


def test_a_member_that_cannot_be_called_is_missing() -> None:
    part = without(Patches("patch2d-16"))
    part.with_key = "patch2d-16"
    with pytest.raises(validate.Broken, match="its tokenizer Foo lacks with_key "):
        validate.check(replace(IMAGES, tokenizer=part))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"decoder": without(PixelDecoder())}, "its decoder Foo is not a dataclass"),
        ({"tokenizer": Words()}, "spec says no patch"),
    ],
)
def test_parts_of_another_kind_are_refused(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(validate.Broken, match=told):
        validate.check(replace(IMAGES, **parts))


def test_a_text_has_no_other_intensity_than_its_tokenizer() -> None:
    with pytest.raises(validate.Broken, match="its intensity is not its tokenizer"):
        validate.check(replace(TEXTS, intensity=Grey8(), decoder=WordDecoder()))


@dataclass(frozen=True)
class Deaf(Patches):
    def with_key(self, key: str) -> Deaf:
        return replace(self, key=self.key)


def test_a_tokenizer_that_ignores_the_recipes_key_is_refused() -> None:
    modality = validate.check(replace(IMAGES, tokenizer=Deaf("patch2d-16")))
    with pytest.raises(PluginError, match="was asked for patch2d-8, and ignores it"):
        fit(modality, tokenizer="patch2d-8")


def test_the_key_alone_says_the_patch() -> None:
    assert Patches("patch3d-4x16x16").spec.patch == (4, 16, 16)
    assert Patches("patch3d-16").with_key("patch3d-2x8x8-mine").spec.patch == (2, 8, 8)
    with pytest.raises(TypeError, match="size"):
        Patches(key="patch2d-16", size=8)  # type: ignore[call-arg]  # the key says 16
    for key, told in (
        ("patch3d-4x16", "2 edges for 3"),
        ("patch2d-8x8", "is written patch2d-8"),
        ("patch2d-0", "form"),
    ):
        with pytest.raises(RecipeError, match=told):
            Patches(key)


def test_a_spec_comes_back_from_what_is_written() -> None:
    spec = TokenizerSpec("mine", patch=(4, 8), channels=2, extra={"levels": (1, 2), "wave": "haar"})
    assert TokenizerSpec.from_plain(spec.to_plain()) == spec
    assert spec.to_plain()["patch"] == [4, 8]
    for wrong in ({"kind": 3}, {"kind": "mine", "patch": [0]}, {"kind": "mine", "colour": "red"}, {}):
        with pytest.raises(CheckpointError, match="description of a tokenizer cannot be used"):
            TokenizerSpec.from_plain(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": [4]},
        {"grid": [16], "positions": "table"},
        {"positions": "table"},
        *({"norm_eps": number} for number in (10**400, float("nan"), 0, -1e-5, True)),
    ],
)
def test_a_spec_that_no_network_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="description of a tokenizer cannot be used"):
        TokenizerSpec.from_plain({"kind": "patches", "patch": [8, 8], "channels": 3, **wrong})


def test_a_network_that_lacks_a_member_is_named_where_it_is_built() -> None:
    from torch import nn

    from medcoss_cli.model.encoder import EncoderShape
    from medcoss_cli.model.multimodal import Model

    @dataclass(frozen=True)
    class Bare(Patches):
        def build(self, width: int) -> Any:
            return nn.Linear(width, width)

    modality = validate.check(replace(IMAGES, tokenizer=Bare("patch2d-16")))
    with pytest.raises(
        PluginError, match="plugin images cannot be used: its tokenizer builds the network Linear, which"
    ):
        Model(EncoderShape(width=32, depth=1, heads=2), 0).add(modality)


def test_what_is_left_out_is_the_kits() -> None:

    assert validate.check(IMAGES).tokenizer == Patches("patch2d-16")
    assert validate.check(TEXTS).text_tokenizer == Words(length=32)
