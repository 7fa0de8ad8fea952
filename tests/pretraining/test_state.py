"""A checkpoint and the plugins that it needs."""

from __future__ import annotations

import pytest

from medcoss_cli.errors import PluginError
from medcoss_cli.pretraining.state import require_plugins
from medcoss_cli.registry import discovery
from tests.store.example import example


def test_missing_plugins_are_all_named_and_none_of_an_unknown_name_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "names", lambda: ["xray"])
    require_plugins(example(xray="medcoss 0.1.0"))
    known = example(xray="medcoss 0.1.0", sonar="medcoss-sonar 2.0", lidar="", evil="x --index-url http://elsewhere")
    with pytest.raises(PluginError) as refused:
        require_plugins(known)
    assert "sonar (of medcoss-sonar 2.0), lidar, evil, but" in refused.value.what
    assert "pip" not in (refused.value.fix or "")
    with pytest.raises(PluginError) as refused:
        require_plugins(example(ultrasound="evil-package 0.1.0"))
    assert refused.value.fix == "pip install medcoss-ultrasound"
