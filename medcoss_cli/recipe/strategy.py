"""A recipe's `strategy`: a name, or a name with settings, validated by the strategy's own model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from medcoss_cli.errors import PluginError
from medcoss_cli.registry import discovery
from medcoss_cli.strategies import Strategy

DEFAULT = "medcoss"


@dataclass(frozen=True)
class StrategyChoice:
    """A strategy's name, its settings, and the class that they are of."""

    name: str
    settings: Strategy.Settings
    cls: type[Strategy] = Strategy

    def __str__(self) -> str:
        """The name, and what differs from the defaults: "medcoss (mixup: false)"."""
        changed = self.settings.model_dump(mode="json", exclude_defaults=True)
        words = ", ".join(f"{key}: {str(value).lower()}" for key, value in changed.items())
        return f"{self.name} ({words})" if words else self.name

    def make(self) -> Strategy:
        """A new strategy object. Raises: PluginError where the plugin that brings it fails."""
        strategy: Strategy = discovery.make_strategy(self.name, self.settings)
        return strategy

    def to_dict(self) -> dict[str, Any]:
        """As a recipe writes it, every default filled in."""
        return {"name": self.name, **self.settings.model_dump(mode="json")}

    @classmethod
    def read(cls, value: Any) -> StrategyChoice:
        """From what a recipe says. Raises: ValueError or ValidationError, which pydantic tells with their key."""
        if isinstance(value, cls):
            return value
        content = {"name": value} if isinstance(value, str) else value
        if not isinstance(content, dict):
            raise PydanticCustomError("strategy", "neither a name nor a part with keys")
        name, settings = content.get("name", DEFAULT), {key: entry for key, entry in content.items() if key != "name"}
        if name not in discovery.strategy_names():
            raise ValueError(f"{name!r} is none of {', '.join(discovery.strategy_names())}")
        strategy = discovery.load_strategy(name)
        return cls(name, strategy.Settings.model_validate(settings), strategy)


class _Validation:
    """How pydantic reads, writes and describes a StrategyChoice."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            StrategyChoice.read,
            serialization=core_schema.plain_serializer_function_ser_schema(StrategyChoice.to_dict),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        arms: list[dict[str, Any]] = [{"type": "string", "minLength": 1}]
        for name in discovery.strategy_names():
            with contextlib.suppress(PluginError):  # one that is broken has no settings to describe
                settings = discovery.load_strategy(name).Settings
                described = handler.resolve_ref_schema(handler(settings.__pydantic_core_schema__))
                arms.append(_with_name(name, described))
        return {"anyOf": arms}


Strategies = Annotated[StrategyChoice, _Validation]


def _with_name(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a strategy's settings, as those of the mapping form of `strategy`."""
    name_schema = {"const": name, "default": DEFAULT} if name == DEFAULT else {"const": name}
    required = [*([] if name == DEFAULT else ["name"]), *settings.get("required", [])]
    return {
        "type": "object",
        "title": name,
        "properties": {"name": name_schema, **settings.get("properties", {})},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
