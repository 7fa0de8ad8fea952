"""What options say is what loaders get, or a sentence."""

from __future__ import annotations

import pytest

from medcoss_cli.cli import options
from medcoss_cli.errors import UsageError
from tests.conftest import CommandLine


def test_settings_of_a_loader_are_read_as_in_a_recipe() -> None:
    settings = options.reading(["burned-in"], "correct", ["mpp=1.0", "dicom=[US, XA]", "spacing=null"])
    assert settings == {
        "allow": ["burned-in"],
        "tilt": "correct",
        "mpp": 1.0,
        "dicom": ["US", "XA"],
        "spacing": None,
    }
    assert options.reading(None, "keep") == {}


@pytest.mark.parametrize("words", ["mpp", "=1", "mpp=[1"])
def test_a_setting_of_another_form_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="is not of the form key=value"):
        options.reading(None, "keep", [words])


def test_an_empty_name_of_a_folder_is_not_the_current_one(command_line: CommandLine) -> None:
    answer = command_line("data", "check", "")
    assert answer.code == 2
    assert answer.err == "error: the name of the folder is empty; name one, or . for the current folder\n"
