"""A stranger's code behind a guard: what it raises becomes a reason; and is a modality what the contract asks for?"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from typing import Any

from medcoss_cli.errors import MedcossError, PluginError
from medcoss_cli.kit.patches import patch_of
from medcoss_cli.plugin import (
    Augment,
    CompleteModality,
    Decoder,
    Intensity,
    Loader,
    Modality,
    PatchTokenizer,
    TextTokenizer,
    Tokenizer,
    TokenizerSpec,
    lacking,
)
from medcoss_cli.registry.complete import complete

_PARTS: dict[str, type] = {"loader": Loader, "intensity": Intensity, "augment": Augment, "decoder": Decoder}
_TOKENIZERS: dict[str, type] = {"masked_patches": PatchTokenizer, "masked_words": TextTokenizer}


class Broken(Exception):  # noqa: N818 - a reason on its way to a Status
    """Why a plugin cannot be used."""

    prefix = "broken: "


class OtherApi(Broken):
    """A plugin of another major version of the contract: not broken, only not for this medcoss."""

    prefix = ""


class Clash(Broken):
    """A name, or a tokenizer's key, that another plugin brings as well."""

    prefix = "clash: "


def guarded(call: Callable[[], Any], what: str) -> Any:
    """Call a stranger's code: whatever it raises becomes a reason, except Ctrl-C; what it prints goes to standard error.

    Raises: Broken, beginning with `what` was tried.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return call()
    except (Broken, KeyboardInterrupt):
        raise
    except MedcossError as error:
        raise Broken(f"{what} ({error})") from error
    except BaseException as error:
        text = str(error).partition("\n")[0]
        raise Broken(f"{what} ({type(error).__name__}{': ' if text else ''}{text})") from error


@contextlib.contextmanager
def blame(who: str, what: str) -> Iterator[None]:
    """Run a stranger's code in the middle of work; what it prints goes to standard error.

    Args:
        who: the plugin, as in "the strategy synaptic (medcoss-synaptic 0.1.0)".
        what: the part that is called, as in "loss".

    Raises: PluginError for whatever it raises, except medcoss's own errors, a lack of memory and Ctrl-C.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (MedcossError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):  # torch: GPU, CPU
            raise
        text = str(error).partition("\n")[0]
        raise PluginError(
            f"{who} fails in its {what} ({type(error).__name__}{': ' if text else ''}{text})",
            fix="see its traceback with --debug and report it to its author",
        ) from error


STRATEGY_MEMBERS = (
    *("load_memory", "begin_stage", "phases", "parameters", "decay", "loss", "after_backward", "after_step"),
    *("end_stage", "serving", "memory", "state", "load_state"),
)


def check_strategy(strategy: type) -> None:
    """Is a class what the contract asks for? Raises: Broken with the reason."""
    from medcoss_cli.strategies import Strategy

    if not (inspect.isclass(strategy) and issubclass(strategy, Strategy)):
        name = getattr(strategy, "__name__", repr(strategy))
        raise Broken(f"{name} is no subclass of medcoss_cli.strategies.Strategy")
    settings = strategy.Settings
    if not (inspect.isclass(settings) and issubclass(settings, Strategy.Settings)):
        raise Broken("its Settings is no subclass of Strategy.Settings")
    if settings.model_config.get("extra") != "forbid":
        raise Broken("its Settings takes unknown keys; leave `extra` as it is")
    if "name" in settings.model_fields:
        raise Broken("its Settings has a field called name, which is the key of the strategy's own name")
    needed = [name for name, field in settings.model_fields.items() if field.is_required()]
    if needed:
        raise Broken(f"its Settings has no default for {', '.join(needed)}")
    for member in STRATEGY_MEMBERS:
        if not callable(getattr(strategy, member)):
            raise Broken(f"its {member} cannot be called")
    if strategy.selection not in ("kmeans", "random"):
        raise Broken(f"its selection is {strategy.selection!r}, not kmeans or random")
    for flag in ("rehearses", "single_stage", "trains_decoders"):
        if not isinstance(getattr(strategy, flag), bool):
            raise Broken(f"its {flag} is {getattr(strategy, flag)!r}, not True or False")


def blamed(strategy: Any, who: str) -> Any:
    """The same strategy object; what its members raise is reported as the plugin's fault (`blame`)."""
    for member in STRATEGY_MEMBERS:
        setattr(strategy, member, _blaming(getattr(strategy, member), who, member))
    return strategy


def _blaming(call: Callable[..., Any], who: str, what: str) -> Callable[..., Any]:
    def inner(*arguments: Any) -> Any:
        with blame(who, what):
            result = call(*arguments)
            result = list(result) if what in ("parameters", "phases") else result  # a generator runs here, not later
        if what == "phases":
            return [replace(p, on_begin=p.on_begin and _blaming(p.on_begin, who, "on_begin")) for p in result]
        return iter(result) if what == "parameters" else result

    return inner


def check(modality: Modality) -> CompleteModality:
    """The modality, completed, if every part is what the contract asks for. Raises: Broken with the reason."""
    checked: CompleteModality = guarded(lambda: _checked(modality), "its parts cannot be looked at")
    return checked


def _checked(modality: Modality) -> CompleteModality:
    if not isinstance(modality.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", modality.name):
        raise Broken(f"the name {modality.name!r} is not lower-case letters, digits and underscores")
    if modality.dims not in (1, 2, 3):
        raise Broken(f"dims is {modality.dims!r}, not 1, 2 or 3")
    if modality.pretext not in ("masked_patches", "masked_words"):
        raise Broken(f"pretext is {modality.pretext!r}, not masked_patches or masked_words")
    size: Any = modality.size
    if not isinstance(size, tuple) or len(size) != modality.dims or not all(isinstance(n, int) and n > 0 for n in size):
        raise Broken(f"size is {size!r}, not {modality.dims} positive whole numbers")
    if not isinstance(modality.channels, int) or modality.channels < (modality.pretext == "masked_patches"):
        raise Broken(f"channels is {modality.channels!r}, not a positive whole number")
    for name, protocol in (_PARTS | {"tokenizer": _TOKENIZERS[modality.pretext]}).items():
        _check_part(name, getattr(modality, name), protocol)
    parts: tuple[object, object] = modality.intensity, modality.tokenizer
    if modality.pretext == "masked_words" and parts[0] is not None and parts[0] != parts[1]:
        raise Broken("its intensity is not its tokenizer, which says what is stored of a text; leave the intensity out")
    completed: CompleteModality = guarded(lambda: complete(modality), "its parts do not fit together")
    _check_tokenizer(completed, completed.tokenizer)
    if modality.demo is not None and not callable(modality.demo):
        raise Broken("its demo cannot be called")
    return completed


def _check_part(name: str, part: object, protocol: type) -> None:
    """What a part that the author wrote lacks, by name; what is left out is the kit's. Raises: Broken."""
    if part is None and name != "loader":
        return
    if inspect.isclass(part):
        raise Broken(f"its {name} is the class {part.__name__}, not an object of it: {part.__name__}()")
    missing = guarded(lambda: lacking(part, protocol), f"its {name} cannot be looked at")
    if missing:
        raise Broken(
            f"its {name} {type(part).__name__} lacks {' and '.join(missing)} "
            f"(medcoss_cli.plugin.{protocol.__name__} describes them)"
        )
    if protocol is Decoder and not is_dataclass(part):
        raise Broken(f"its {name} {type(part).__name__} is not a dataclass, whose values a checkpoint keeps")


def _check_tokenizer(modality: CompleteModality, tokenizer: Tokenizer) -> None:
    key = tokenizer.key
    if not isinstance(key, str) or not key or "." in key:
        raise Broken(f"its tokenizer's key {key!r} is not a text without a dot")
    spec = guarded(lambda: tokenizer.spec, "its tokenizer's spec cannot be used")
    if not isinstance(spec, TokenizerSpec):
        raise Broken(f"its tokenizer's spec is {type(spec).__name__}, not medcoss_cli.plugin.TokenizerSpec")
    if fault := key_fault(tokenizer, key):
        raise Broken(fault)
    if modality.pretext == "masked_words":
        if spec.cls or spec.patch is not None:
            raise Broken("its tokenizer's spec has a cls token or a patch, which text does not: cls=False, patch=None")
        return
    if spec.patch is None:
        raise Broken("its tokenizer's spec says no patch, which the pretext masked_patches needs")
    if modality.channels not in (1, spec.channels):
        raise Broken(
            f"its samples have {modality.channels} channels, its tokenizer {spec.channels}; "
            f"{modality.channels} need a tokenizer of their own: "
            f'Patches("patch{modality.dims}d-16-{modality.name}", channels={modality.channels})'
        )
    if len(spec.patch) != modality.dims or any(n % p for n, p in zip(modality.size, spec.patch, strict=True)):
        raise Broken(f"its size {modality.size} is no multiple of its tokenizer's patch {spec.patch}")


def key_fault(tokenizer: Tokenizer, key: str) -> str | None:
    """What is wrong with a tokenizer that should have this key; None where key and patch are as the key says."""
    if tokenizer.key != key:
        return f"its tokenizer's key is {tokenizer.key!r}, not {key!r}"
    patch = patch_of(key)
    if patch is not None and tokenizer.spec.patch != patch:
        return f"its tokenizer's key {key} says a patch of {patch}, its spec {tokenizer.spec.patch}"
    return None
