"""Tests lie where the module that they test lies: tests/A/test_B.py tests medcoss_cli/A/B.py or medcoss_cli/A/B/."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
CORE = TESTS.parent / "medcoss_cli"


def mirrors(test: Path) -> bool:
    """Whether there is a module, or a package, of the test's name in the same place."""
    module = CORE / test.relative_to(TESTS).with_name(test.stem.removeprefix("test_"))
    return module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()


def test_tests_mirror_the_package() -> None:
    """Four in five; the rest tests contracts that belong to no single module."""
    tests = sorted(TESTS.rglob("test_*.py"))
    strays = [str(test.relative_to(TESTS)) for test in tests if not mirrors(test)]
    assert len(tests) > 40
    assert len(strays) <= 0.2 * len(tests), strays
