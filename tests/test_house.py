"""The house: which room may know which, what each imports, and what the door shows."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from sys import stdlib_module_names

import pytest

import wave_async

ROOT = Path(__file__).parents[1]
PACKAGE = "wave_async"
LONGEST_BODY = 45

CORE = {"errors", "model"}
BELOW_MANAGER = CORE | {"database", "safety"}
BELOW_CLI = BELOW_MANAGER | {
    "config",
    "definitions",
    "manager",
    "fleet",
    "runner",
    "sources",
    "startup",
    "version",
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "config": CORE,
    "definitions": CORE,
    "database": CORE | {"version"},
    "version": set(),
    "sources": CORE,
    "safety": CORE | {"database"},
    "manager": BELOW_MANAGER,
    "runner": BELOW_MANAGER | {"config", "definitions", "manager"},
    "fleet": CORE | {"database", "manager", "safety"},
    "startup": BELOW_MANAGER | {"config", "definitions", "manager"},
    "integrations": BELOW_CLI,
    "cli": BELOW_CLI | {"integrations"},
    "": BELOW_CLI,
    "__main__": {"cli"},
}
"""Each room of the package, "" its door, and the other rooms that it may import."""


def module_name(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
every_module = pytest.mark.parametrize("module", MODULES)


def imports(module: str) -> set[str]:
    """Return all that a module imports, wherever it does, type-only imports included."""
    found: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(_imported_from("." * node.level + (node.module or ""), node))
    return found


def _imported_from(source: str, node: ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        name = f"{source}.{alias.name}"
        yield name if name in MODULES else source


def ours(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    return {name for name in imports(module) if name in MODULES}


def foreign(module: str) -> set[str]:
    """Return the top-level names of what a module imports from elsewhere."""
    return {name.partition(".")[0] for name in imports(module)} - {PACKAGE}


def room(module: str) -> str:
    """Return the room of a module, "" for the door."""
    return [*module.split("."), ""][1]


def is_extra(module: str) -> bool:
    """Whether a module is imported only where an extra is installed, as a rule an integration."""
    return room(module) == "integrations" or module == "wave_async.database.dqlite"


def importers(name: str) -> set[str]:
    """Return the modules that import a foreign one."""
    return {module for module in MODULES if name in foreign(module)}


@every_module
def test_layers(module: str) -> None:
    """A room imports only rooms below it, type-only imports included."""
    rooms = {room(name) for name in ours(module)} - {room(module)}

    assert set() == rooms - MAY_IMPORT[room(module)]


def test_no_cycles() -> None:
    """No module imports itself by way of others, type-only imports included."""
    assert list(TopologicalSorter({module: ours(module) for module in MODULES}).static_order())


@every_module
def test_imports_can_be_read(module: str) -> None:
    """Imports are absolute and of modules that exist, so that these tests see them all."""
    own = {name for name in imports(module) if name.startswith((".", PACKAGE))}

    assert set() == own - MODULES.keys()


def test_one_driver() -> None:
    """One module knows aiosqlite, one a cluster's client, and only the command line asyncclick."""
    assert {"wave_async.database.connection"} == importers("aiosqlite")
    assert {"wave_async.database.dqlite"} == importers("dqliteclient")
    assert {"cli"} == {room(module) for module in importers("asyncclick")}


def test_only_the_database_knows_sqlite() -> None:
    """SQLite is asked in the rooms of the database, and where whole databases are copied."""
    assert {"database", "safety"} == {room(module) for module in importers("sqlite3")}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in {*CORE, "definitions"}])
def test_pure_rooms(module: str) -> None:
    """Values and decisions do no I/O, wait for nothing and know no driver."""
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor)
    doing = {"sqlite3", "asyncio", "anyio", "aiosqlite", "threading", "os", "io", "pathlib"}

    assert set() == foreign(module) & doing
    assert not any(isinstance(node, waiting) for node in ast.walk(MODULES[module]))


def test_dependencies() -> None:
    """What is imported is declared, and what is declared is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = _names(project["dependencies"])
    core = (foreign(module) for module in MODULES if not is_extra(module))

    assert declared == set().union(*core) - stdlib_module_names


def test_extras() -> None:
    """What only an integration imports is declared by an extra, and no extra is left over."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set().union(*map(_names, project["optional-dependencies"].values()))
    joined = (foreign(module) for module in MODULES if is_extra(module))

    assert extras == set().union(*joined) - stdlib_module_names - _names(project["dependencies"])


def _names(requirements: list[str]) -> set[str]:
    """Return what requirements are imported as: dqlite-client is dqliteclient."""
    names = (re.split(r"[^\w-]", line)[0].removesuffix("-api") for line in requirements)
    return {name.replace("-", "") for name in names}


@every_module
def test_docstring(module: str) -> None:
    """Every module says what it is for."""
    assert ast.get_docstring(MODULES[module])


@every_module
def test_short_functions(module: str) -> None:
    """No function's body is longer than a screen."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = (node for node in ast.walk(MODULES[module]) if isinstance(node, functions))

    assert {f.name: lines for f in found if (lines := body_lines(f)) > LONGEST_BODY} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function below its signature and docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@every_module
def test_log_records_carry_fields(module: str) -> None:
    """Every log record has the fields that docs/terminal.md promises."""
    logged = (
        node
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")
    )

    assert all("extra" in {keyword.arg for keyword in node.keywords} for node in logged)


def test_public_names() -> None:
    """The door shows sorted names, each of which is there and written down once."""
    assert sorted(set(wave_async.__all__)) == wave_async.__all__
    assert all(hasattr(wave_async, name) for name in wave_async.__all__)


def test_nothing_else_comes_through_the_door() -> None:
    """What the door imports it also shows."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(MODULES[PACKAGE])
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        for alias in node.names
    }

    assert set(wave_async.__all__) == names


def test_sample_uses() -> None:
    """Every public name has a sample use that the type checker reads."""
    sample = ast.parse((ROOT / "tests" / "typing_api.py").read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(sample) if isinstance(node, ast.Name)}

    assert set() == set(wave_async.__all__) - used
