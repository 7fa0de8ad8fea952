"""What the parts agreed on: direction of imports, no modality's name in the core, nothing dangerous."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "medcoss_cli"
PLUGINS = REPOSITORY / "plugins"
STANDARD = ("report", "xray", "ct", "mri", "pathology", "ultrasound")

PUBLIC: dict[str, set[str] | None] = {
    "medcoss_cli.plugin": None,
    "medcoss_cli.kit": None,
    "medcoss_cli.kit.phantoms": None,
    "medcoss_cli.errors": None,
    "medcoss_cli.kit.readers": {"WHAT", "kind_of", "plainly"},
    "medcoss_cli.kit.readers.image": {"as_eight_bits"},
    "medcoss_cli.kit.readers.nifti": {"read_header"},
    "medcoss_cli.kit.readers.volume": {"whole_volume"},
}
"""What a plugin imports of medcoss; None: everything of a module."""

FILES = sorted(path for path in CORE.rglob("*.py"))
ALL = FILES + sorted(path for path in PLUGINS.rglob("*.py"))


def test_imports_go_one_way() -> None:
    """The layers stand in pyproject.toml, under importlinter; imports for type checking count too."""
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_plugin_stands_on_its_contract_alone(path: Path) -> None:
    if "tests" in path.parts:
        return
    tree = ast.parse(path.read_text())
    from_core = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    modules = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    assert not {name for name in modules if name.startswith("medcoss_cli")}
    for node in from_core:
        if str(node.module).startswith("medcoss_cli"):
            assert node.module in PUBLIC, node.module
            names = PUBLIC[node.module]
            assert names is None or {n.name for n in node.names} <= names, node.module


def test_what_plugins_may_import_is_documented() -> None:
    text = (PLUGINS / "README.md").read_text()
    for module, names in PUBLIC.items():
        assert f"`{module}`" in text
        assert all(f"`{name}" in text for name in names or ())


def test_these_tests_see_the_files() -> None:
    assert len(FILES) > 50
    assert len(ALL) > len(FILES) + 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_names_no_modality(path: Path) -> None:
    tree = ast.parse(path.read_text())
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    named = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in documented and node.value in STANDARD
    ]
    assert named == (["report"] if path == CORE / "cli" / "app.py" else [])  # there it is the verb of that name


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_dangerous(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [n.name for n in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {n.split(".")[0] for n in names}
            assert not {"urllib", "requests", "http", "socket"} & {n.split(".")[0] for n in names}
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}, called
        assert not called.endswith("extractall")
        assert keywords.get("shell") != "True"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True"
        if called == "np.load":
            assert keywords.get("allow_pickle") == "False"


def loaded_by(code: str) -> set[str]:
    """Heavy libraries that a piece of code imports, in a fresh process."""
    heavy = "('torch', 'numpy', 'SimpleITK', 'pydicom', 'sklearn', 'timm', 'matplotlib', 'PIL')"
    program = f"import sys\n{code}\nprint(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_all_plugins_imports_nothing_heavy() -> None:
    modules = [f"medcoss_{name}" for name in STANDARD]
    assert loaded_by("import importlib\nfor m in " + repr(modules) + ":\n    importlib.import_module(m)") == set()


def test_help_imports_nothing_heavy() -> None:
    run = "try:\n    main()\nexcept SystemExit:\n    pass"
    code = f"sys.argv = ['medcoss', '--help']\nfrom medcoss_cli.cli.app import main\n{run}"
    assert loaded_by(code) == set()


def test_importing_all_verbs_imports_nothing_heavy() -> None:
    code = "from importlib import import_module\nfrom medcoss_cli.cli.app import VERBS\n"
    assert loaded_by(code + "for verb in VERBS:\n    import_module('medcoss_cli.cli.' + verb)") == set()


def test_listing_plugins_imports_nothing_heavy() -> None:
    assert loaded_by("from medcoss_cli.registry.discovery import statuses\nassert statuses()") == set()


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_public_functions_say_what_they_do(path: Path) -> None:
    if "tests" in path.parts:
        return
    tree = ast.parse(path.read_text())
    if path.stat().st_size == 0:
        return
    assert ast.get_docstring(tree), "the module has no docstring"
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and node.name != "medcoss_modalities"
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450
