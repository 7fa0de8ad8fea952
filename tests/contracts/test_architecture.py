"""What the parts agreed on: direction of imports, no modality's name in the core, nothing dangerous."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "medcoss_cli"
PLUGINS = REPOSITORY / "plugins"
STANDARD = ("report", "xray", "ct", "mri", "pathology", "ultrasound")

FILES = sorted(path for path in CORE.rglob("*.py"))
ALL = FILES + sorted(path for path in PLUGINS.rglob("*.py"))

ALLOWED = {  # who may import whom; contracts (errors, plugin, randomness, screen) are for all
    # the command line, and what its verbs call
    "__main__": {"cli"},
    "cli": {
        "cli",
        "begin",
        "data",
        "devices",
        "discovery",
        "doctor",
        "kit",
        "outlook",
        "portable",
        "pretrain",
        "recipe",
        "retention",
    }
    | {
        "evaluate",
        "finetune",
        "fit",
        "foreign",
        "export",
        "export_timm",
        "embedded",
        "embed",
        "metrics",
        "predict",
        "published",
        "report",
        "scaffold",
        "stage",
        "store",
        "tuning",
    },
    "outlook": {"begin", "data", "discovery", "job", "model", "recipe", "stage", "state"},
    "pretrain": {"data", "model", "engine", "job", "stage", "state", "retention", "discovery"},
    "begin": {"devices", "discovery", "foreign", "job", "model", "recipe", "stage", "state", "store"},
    "doctor": {"devices", "discovery"},
    "scaffold": {"discovery", "store"},
    "report": {"report", "retention", "store"},
    "published": {"published", "kit", "store"},
    # fine-tuning: the verbs, what begins a run, the two kinds of task, what a network is measured by
    "finetune": {"devices", "model", "results", "store", "tasks", "tuning"},
    "evaluate": {"begin", "data", "devices", "job", "model", "recipe", "results", "store", "task", "tasks", "tuning"},
    "embed": {"data", "embedded", "inputs", "interruption", "kit", "model", "portable", "store"},
    "foreign": {"discovery", "fit", "foreign", "kit", "model", "state", "store"},
    "embedded": {"model", "store"},
    "inputs": set(),
    "export_timm": {"begin", "model", "portable", "store"},
    "export": {"begin", "evaluate", "metrics", "model", "portable", "store"},
    "predict": {"data", "evaluate", "inputs", "masks", "portable", "store", "tasks", "tuning"},
    "portable": {"begin", "data", "discovery", "evaluate", "fit", "kit", "model", "portable", "state", "store"}
    | {"task", "tasks"},
    "results": {"state", "store", "tasks", "tuning"},
    "tuning": {
        "begin",
        "data",
        "devices",
        "discovery",
        "fit",
        "job",
        "model",
        "recipe",
        "stage",
        "store",
        "task",
        "tasks",
    },
    "tasks": {"data", "devices", "interruption", "masks", "metrics", "model", "postprocess", "recipe", "store"}
    | {"task", "tasks"},
    "task": {"data", "discovery", "fit", "kit", "model"},
    "metrics": {"metrics"},
    "postprocess": set(),
    "interruption": set(),
    # what pretraining is made of
    "engine": {"data", "interruption", "model", "recipe", "store", "strategies", "job"},
    "job": {"data", "devices", "recipe", "retention", "state", "store"},
    "state": {"data", "discovery", "fit", "model", "retention", "stage", "store"},
    "stage": {"data", "discovery", "fit", "kit", "model", "retention"},
    "fit": {"model"},
    "retention": {"data", "model", "store"},
    "strategies": {"strategies", "model"},
    "data": {"data", "model", "store", "kit", "masks"},
    "masks": {"masks", "kit", "store"},
    "store": {"store", "discovery"},
    "model": {"model"},
    # what is known of plugins and recipes
    "recipe": {"recipe", "discovery"},
    "discovery": {"guard", "strategies"},
    "guard": {"kit"},
    "kit": {"kit", "model", "guard", "data"},  # guard and data: the conformance suite alone
    "devices": set(),
    **{contract: set() for contract in ("errors", "plugin", "randomness", "screen", "__init__")},
}
CONTRACTS = {"errors", "plugin", "randomness", "screen", "__init__"}


def imports(path: Path) -> Iterator[str]:
    """Modules of medcoss_cli that a file imports at run time, by their first part."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "medcoss_cli":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [name.name for name in node.names]
        elif isinstance(node, ast.Import):
            yield from (n.name.split(".")[1] for n in node.names if n.name.startswith("medcoss_cli."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_imports_go_one_way(path: Path) -> None:
    where = path.relative_to(CORE).parts[0].removesuffix(".py")
    found = set(imports(path)) - CONTRACTS - {"__version__"}
    assert found <= ALLOWED[where], f"{where} imports {found - ALLOWED[where]}"


def test_the_ways_of_imports_have_an_end() -> None:
    ways = {name: allowed - {name} for name, allowed in ALLOWED.items()}
    ways["kit"] = {"model"}  # the conformance suite stands above the kit that it is in
    list(graphlib.TopologicalSorter(ways).static_order())  # raises CycleError


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_plugin_stands_on_its_contract_alone(path: Path) -> None:
    if "tests" in path.parts:
        return
    tree = ast.parse(path.read_text())
    from_core = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medcoss_cli")
    }
    from_core |= {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    allowed = ("medcoss_cli.plugin", "medcoss_cli.kit", "medcoss_cli.kit.phantoms")
    assert {name for name in from_core if name.startswith("medcoss_cli")} <= set(allowed)


def test_only_the_conformance_suite_of_the_kit_reaches_further() -> None:
    for path in (CORE / "kit").rglob("*.py"):
        if not path.name.startswith("conformance"):
            assert set(imports(path)) - CONTRACTS <= {"kit", "model"}, path


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
    assert loaded_by("from medcoss_cli.discovery import statuses\nassert statuses()") == set()


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
