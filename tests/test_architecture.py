"""The package's shape: who imports whom, who knows of time, sockets and aiohttp, and what is promised in public."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType

import pytest

import ozonetel_async

PACKAGE = Path(ozonetel_async.__file__).parent

# Each module may import from those above it. A new module goes right below the last one it imports.
ORDER = (
    # what everything speaks of
    *("errors", "models", "config", "endpoints"),
    # bytes in, values out
    *("bodies", "replies", "wire"),
    # rows
    *("cells", "columns", "frames", "chunking", "sources", "intake"),
    # decisions
    *("retry", "params"),
    # callbacks
    *("callback_bodies", "callbacks", "correlation", "phones", "failed_rows", "matching"),
    # time, sockets, disks
    *("pace", "scheduler", "transport", "auth", "dispatch"),
    *("wal", "store", "journal", "journal_folder", "ledger"),
    # verbs
    *("rejects", "upload", "schedule", "legacy"),
    # what comes back later
    *("links", "download", "verdicts", "durable", "expectations", "dial_status", "incoming", "asgi", "receiver"),
    # the door
    "client",
    # doors
    *("public", "__init__", "testing"),
    *("cli_output", "cli_signals", "cli_input", "cli_watch", "cli_callbacks", "cli_report", "cli_leads"),
    *("cli_simulate", "cli_service", "cli_listen", "cli_job"),
    *("cli_upload", "cli_resume", "cli_status", "cli_failed_rows", "cli_receive", "cli_schedule", "cli_dial_status"),
    *("cli_demo", "cli", "__main__"),
)
# Runs without an event loop, a clock, a socket or chance.
SANS_IO = ORDER[: ORDER.index("pace")]
FORBIDDEN_THERE = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading"),
        *("random", "select", "selectors", "signal", "socket", "ssl", "time"),
    )
)
ALLOWED_ALL_THE_SAME = {
    ("intake", "asyncio"): "rows may come from an async iterable, and taking them lets other tasks run",
}
KNOW_AIOHTTP = {
    "transport": "the requests",
    "download": "failed files, from hosts that are not the service",
    "receiver": "aiohttp.web",
    "cli_listen": "the web server that commands take callbacks in with",
}
TESTING_MAY_USE = frozenset({"models", "config", "errors"})
MAY_USE_THE_CLIENT = frozenset({"plugin"})

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
TESTING = sorted(path.stem for path in (PACKAGE / "testing").glob("*.py"))


def tree_of(module: str, folder: Path = PACKAGE) -> ast.Module:
    return ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))


def type_only(tree: ast.Module) -> set[ast.AST]:
    """Nodes that only a type checker executes."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def own_imports(tree: ast.Module, level: int = 1) -> Iterator[tuple[str, int]]:
    """Modules of this package that a module ``level`` deep imports, anywhere in it, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".") if node.module else []
            if node.level == 0 and path[:1] == ["ozonetel_async"]:
                path = path[1:]
            elif node.level != level:
                continue
            # `from . import a, b` imports modules; `from .a import b` imports from one.
            yield from ((path[0], node.lineno),) if path else ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "ozonetel_async":
                    yield parts[1] if len(parts) > 1 else "__init__", node.lineno


def foreign_imports(tree: ast.Module, *, at_run_time: bool = True) -> set[str]:
    """Top-level names of other packages that a module imports, anywhere in it."""
    skipped = type_only(tree) if at_run_time else set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names


# -- who imports whom ----------------------------------------------------------------------------------------------


def test_every_module_has_its_place() -> None:
    unknown = set(MODULES) - set(ORDER)
    assert not unknown, (
        f"{sorted(unknown)}: give each a place in ORDER of {Path(__file__).name}, below the last module it imports"
    )
    gone = set(ORDER) - set(MODULES) - {"testing"}
    assert not gone, f"{sorted(gone)}: take them out of ORDER of {Path(__file__).name}, they do not exist"
    assert len(set(ORDER)) == len(ORDER)


def test_the_package_is_flat_but_for_testing() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {"testing"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_above(module: str) -> None:
    above = set(ORDER[: ORDER.index(module)]) if module in ORDER else set()
    wrong = [f"line {line}: {name}" for name, line in own_imports(tree_of(module)) if name not in above]
    assert not wrong, f"{module}.py imports from below itself: {wrong}"


@pytest.mark.parametrize("module", TESTING)
def test_testing_shares_no_tables_with_what_it_tests(module: str) -> None:
    if module in MAY_USE_THE_CLIENT:
        return
    used = {name for name, _ in own_imports(tree_of(module, PACKAGE / "testing"), level=2) if name != "testing"}
    assert used <= TESTING_MAY_USE, "a simulator that shares the client's tables shares its mistakes"


def test_the_walk_sees_every_way_to_import() -> None:
    source = """
from . import a, b
from .c import d
import ozonetel_async.e
from ozonetel_async.f import g
import ozonetel_async
from ozonetel_async import h
def late():
    from .i import j
if TYPE_CHECKING:
    from .k import l
from ..m import n
import asyncio.events
from aiohttp.web import x
"""
    names = {name for name, _ in own_imports(ast.parse(source))}
    assert names == {"a", "b", "c", "e", "f", "__init__", "h", "i", "k"}
    assert {name for name, _ in own_imports(ast.parse(source), level=2)} >= {"m"}
    assert foreign_imports(ast.parse(source)) >= {"asyncio", "aiohttp"}


def test_no_module_reaches_into_another() -> None:
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ImportFrom) and node.level:
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{module}.py, line {node.lineno}: imports {private} of {node.module}"


@pytest.mark.parametrize("module", [*MODULES, *TESTING])
def test_no_module_is_a_drawer(module: str) -> None:
    assert not {"util", "utils", "helper", "helpers", "common", "misc", "tools"} & set(module.split("_"))


# -- time, sockets, aiohttp ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", SANS_IO)
def test_no_loop_clock_socket_or_chance_above_the_scheduler(module: str) -> None:
    found = FORBIDDEN_THERE & foreign_imports(tree_of(module))
    assert {name for name in found if (module, name) not in ALLOWED_ALL_THE_SAME} == set()


@pytest.mark.parametrize("module", SANS_IO)
def test_nobody_above_the_scheduler_asks_for_the_time(module: str) -> None:
    """The present moment is an argument there."""
    asked = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("now", "utcnow", "today")
    ]
    assert not asked


@pytest.mark.parametrize("module", SANS_IO)
def test_nobody_above_the_scheduler_is_a_coroutine_but_intake(module: str) -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = [node for node in ast.walk(tree_of(module)) if isinstance(node, kinds)]
    assert not found or (module, "asyncio") in ALLOWED_ALL_THE_SAME


def test_exceptions_to_the_rule_are_still_needed() -> None:
    for module, name in ALLOWED_ALL_THE_SAME:
        assert name in foreign_imports(tree_of(module))


@pytest.mark.parametrize("module", MODULES)
def test_few_know_aiohttp(module: str) -> None:
    assert ("aiohttp" in foreign_imports(tree_of(module))) is (module in KNOW_AIOHTTP)


def test_importing_the_library_does_not_load_what_only_some_need() -> None:
    code = (
        "import sys, ozonetel_async as o; [getattr(o, name) for name in o.__all__]; "
        "print(*{'ozonetel_async.testing', 'ozonetel_async.cli', 'rich', 'pytest', 'hypothesis'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


# -- the public surface --------------------------------------------------------------------------------------------

IMPORTABLE = [module for module in MODULES if module not in ("__init__", "__main__")]


def imported(module: str) -> ModuleType:
    return importlib.import_module(f"ozonetel_async.{module}")


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_names_of_the_package_are_there_and_public_where_they_come_from() -> None:
    names = imported("public").__all__
    assert sorted(set(names)) == sorted(names)
    assert ozonetel_async.__all__ == names
    for name in names:
        thing = getattr(ozonetel_async, name)
        assert name in importlib.import_module(thing.__module__).__all__
        assert name in dir(ozonetel_async)


@pytest.mark.parametrize("module", IMPORTABLE)
def test_all_is_honest(module: str) -> None:
    names = getattr(imported(module), "__all__", None)
    assert names is not None, "no __all__"
    assert len(set(names)) == len(names)
    assert all(not name.startswith("_") for name in names)
    for name in names:
        thing = getattr(imported(module), name)
        if isclass(thing) or isfunction(thing):
            assert name in importlib.import_module(thing.__module__).__all__, f"{name} is private where it is made"


def public_things() -> Iterator[tuple[str, type | Callable[..., object]]]:
    for module in IMPORTABLE:
        for name in imported(module).__all__:
            # A name that is not there fails test_all_is_honest, and not the collection of all tests.
            thing = getattr(imported(module), name, None)
            if isclass(thing) or isfunction(thing):
                yield f"{module}.{name}", thing


def public_methods(kind: type) -> Iterator[tuple[str, object]]:
    for name, member in vars(kind).items():
        if not name.startswith("_") and (
            isfunction(member) or isinstance(member, property | classmethod | staticmethod)
        ):
            yield name, getattr(member, "__func__", member)


THINGS = dict(public_things())


@pytest.mark.parametrize("name", THINGS)
def test_what_is_public_is_documented(name: str) -> None:
    thing = THINGS[name]
    # Struct, Enum and Exception have texts of their own, which say nothing about a class of ours.
    ours = (
        [base for base in thing.__mro__ if base.__module__.startswith("ozonetel_async")] if isclass(thing) else [thing]
    )
    assert any(vars(kind).get("__doc__") if isclass(kind) else kind.__doc__ for kind in ours), (
        f"{name} has no docstring"
    )
    if isclass(thing) and not is_protocol_class(thing):
        for method, member in public_methods(thing):
            inherited = any(method in vars(base) for base in thing.__mro__[1:])
            assert inherited or getattr(member, "__doc__", None), f"{name}.{method} has no docstring"


def is_protocol_class(kind: type) -> bool:
    """A protocol's members are described together in its own text."""
    return getattr(kind, "_is_protocol", False) and not issubclass(kind, Enum)


def test_every_module_says_what_it_is_for() -> None:
    for module in MODULES:
        assert module == "__main__" or ast.get_docstring(tree_of(module)), f"{module}.py has no docstring"


def annotations_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is not None:
            yield argument.annotation
    if node.returns is not None:
        yield node.returns


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                dunder = isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name == "__init__"
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    dunder or not inner.name.startswith("_")
                ):
                    yield inner


@pytest.mark.parametrize("module", MODULES)
def test_no_any_in_public_signatures(module: str) -> None:
    for function in public_functions(tree_of(module)):
        for annotation in annotations_of(function):
            names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
            assert "Any" not in names, f"{module}.{function.name}, line {function.lineno}: {ast.unparse(annotation)}"


# -- size ----------------------------------------------------------------------------------------------------------


# One statement that grows by a row per endpoint, and reads like the table it is.
TABLES = {("endpoints", "endpoint_table")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60 or (path.stem, node.name) in TABLES, f"{node.name}, line {node.lineno}: {lines} lines"
