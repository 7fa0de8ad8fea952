"""The conformance suite: what every plugin has to pass. Importable in a plugin author's own tests."""

from medcoss_cli.conformance.modality import check

__all__ = ["check"]
