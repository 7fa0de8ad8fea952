"""The processes that read files, and how their end is told."""

from __future__ import annotations

import pytest

from medcoss_cli.data.workers import readers, worker_error
from medcoss_cli.errors import PluginError, ResourceError
from medcoss_cli.registry.discovery import load_modality


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError()])  # what starting a reader then raises
def test_readers_whose_server_is_killed_are_a_sentence(error: Exception) -> None:
    with pytest.raises(ResourceError, match="a process that reads files died"), readers(2, load_modality("xray"), "x"):
        raise error


@pytest.mark.parametrize(
    ("codes", "error", "what"),
    [
        ([-9, -15], ResourceError, "a process that reads files died, possibly out of memory"),
        ([-9, -11], ResourceError, "a process that reads toy was ended by SIGSEGV"),
        ([-7], ResourceError, "a process that reads toy was ended by SIGBUS"),
        ([7, -15], PluginError, "a process that reads toy was ended with code 7 by its plugin"),
    ],
)
def test_a_signal_is_no_proof_against_a_plugin(codes: list[int], error: type[Exception], what: str) -> None:
    told = worker_error(["toy"], codes)
    assert type(told) is error
    assert told.what.startswith(what)
