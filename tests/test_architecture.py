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

# The rooms from the top of the house to its ground; a room imports from lower floors only, at run time. A module that
# stands at the package's root is a room of its own.
FLOORS = (
    {"cli"},
    {"testing"},
    {"__init__"},
    {"client"},
    {"upload", "contrib"},
    {"failed_rows", "sending"},
    {"journal", "protocol"},
    {"downloads", "rows"},
    {"callbacks"},
    {"models", "config"},
    {"errors", "masking"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# `python -m` stands on the roof: it starts the command line.
ROOF = "__main__"

# A simulator that shares the client's tables shares its mistakes. The plugin connects a client to it.
TESTING_MAY_USE = frozenset({"models", "config", "errors"})
MAY_USE_THE_CLIENT = frozenset({"testing.plugin"})

# These run without an event loop, a clock, a socket or chance; the present moment is an argument there.
SANS_IO = (
    *("errors", "masking", "models", "config", "rows", "protocol"),
    *("callbacks.bodies", "callbacks.results", "callbacks.url_tokens", "journal.settlement"),
    *("failed_rows.reader", "failed_rows.matching", "failed_rows.phones"),
)
FORBIDDEN_THERE = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading"),
        *("random", "select", "selectors", "signal", "socket", "ssl", "time"),
    )
)
TAKES_ASYNC_ROWS = "rows.intake"  # rows may come from an async iterable, and taking them lets other tasks run
KNOW_AIOHTTP = {
    "sending.transport": "the requests",
    "downloads.fetch": "failed files, from hosts that are not the service",
    "callbacks.adapters": "aiohttp.web",
    "cli.listen": "the web server that commands take callbacks in with",
}


def modules() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = list(modules())
LIBRARY = [module for module in MODULES if module.split(".")[0] != "testing"]
PURE = [module for module in LIBRARY if module in SANS_IO or module.split(".")[0] in SANS_IO]


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def type_only(tree: ast.Module) -> set[ast.AST]:
    """Nodes that only a type checker executes."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def own_imports(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules of this package that ``module`` imports at run time, anywhere in it, with the line."""
    package = module.split(".") if path_of(module).name == "__init__.py" else module.split(".")[:-1]
    package = [] if module == "__init__" else package
    skipped = type_only(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            inner = node.module.split(".") if node.module else []
            if node.level == 0 and inner[:1] == ["ozonetel_async"]:
                base = inner[1:]
            elif node.level:
                base = package[: len(package) - node.level + 1] + inner
            else:
                continue
            for alias in node.names:
                name = ".".join([*base, alias.name])
                yield name if name in MODULES else ".".join(base) or "__init__", node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "ozonetel_async":
                    yield ".".join(parts[1:]) or "__init__", node.lineno


def foreign_imports(tree: ast.Module) -> set[str]:
    """Top-level names of other packages that a module imports at run time, anywhere in it."""
    skipped = type_only(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names


def room_of(module: str) -> str:
    return module.split(".")[0]


# -- who imports whom ----------------------------------------------------------------------------------------------


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(module) for module in MODULES} - {ROOF}
    assert rooms <= FLOOR_OF.keys(), f"give {sorted(rooms - FLOOR_OF.keys())} a floor in FLOORS"
    at_the_root = [module for module in MODULES if "." not in module and path_of(module).parent == PACKAGE]
    assert len(at_the_root) <= 8


@pytest.mark.parametrize("module", [module for module in MODULES if module != ROOF])
def test_imports_go_downwards(module: str) -> None:
    room = room_of(module)
    wrong = [
        f"line {line}: {name}"
        for name, line in own_imports(module, tree_of(module))
        if room_of(name) != room and FLOOR_OF[room_of(name)] <= FLOOR_OF[room]
    ]
    assert not wrong, f"{module} stands on floor {FLOOR_OF[room]} and imports from its own or a higher one: {wrong}"


def test_no_circle_within_a_room() -> None:
    imports = {module: {name for name, _ in own_imports(module, tree_of(module))} - {module} for module in MODULES}
    remaining = dict(imports)
    while leaves := [module for module, names in remaining.items() if not names & remaining.keys()]:
        for leaf in leaves:
            del remaining[leaf]
    assert not remaining, f"these import each other: {sorted(remaining)}"


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "testing"])
def test_testing_shares_no_tables_with_what_it_tests(module: str) -> None:
    if module not in MAY_USE_THE_CLIENT:
        used = {room_of(name) for name, _ in own_imports(module, tree_of(module))} - {"testing"}
        assert used <= TESTING_MAY_USE


def test_the_walk_sees_every_way_to_import() -> None:
    source = """
from . import pace, retry
from .queue import Slot
from ..rows import checks
from ..errors import OzonetelError
import ozonetel_async.models
from ozonetel_async.config import Limits
from ozonetel_async import Lead
def late():
    from ..client.client import OzonetelClient
if TYPE_CHECKING:
    from ..cli import main
import asyncio.events
from aiohttp.web import x
"""
    names = {name for name, _ in own_imports("sending.dispatcher", ast.parse(source))}
    assert names == {
        *("sending.pace", "sending.retry", "sending.queue", "rows.checks", "errors", "models", "config"),
        *("__init__", "client.client"),
    }
    assert foreign_imports(ast.parse(source)) >= {"asyncio", "aiohttp"}


def test_no_module_reaches_into_another() -> None:
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ImportFrom) and node.level:
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{module}, line {node.lineno}: imports {private} of {node.module}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_a_drawer(module: str) -> None:
    words = {word for part in module.split(".") for word in part.split("_")}
    assert not {"util", "utils", "helper", "helpers", "common", "misc", "tools"} & words


# -- time, sockets, aiohttp ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", PURE)
def test_the_sans_io_rooms_know_no_loop_clock_socket_or_chance(module: str) -> None:
    tree = tree_of(module)
    if module != TAKES_ASYNC_ROWS:
        assert not FORBIDDEN_THERE & foreign_imports(tree)
        coroutines = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
        assert not [node for node in ast.walk(tree) if isinstance(node, coroutines)]
    asked = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("now", "utcnow", "today")
    ]
    assert not asked


@pytest.mark.parametrize("module", LIBRARY)
def test_few_know_aiohttp(module: str) -> None:
    assert ("aiohttp" in foreign_imports(tree_of(module))) is (module in KNOW_AIOHTTP)


def test_importing_the_library_does_not_load_what_only_some_need() -> None:
    code = (
        "import sys, ozonetel_async as o; [getattr(o, name) for name in o.__all__]; "
        "print(*{'ozonetel_async.testing', 'ozonetel_async.cli', 'rich', 'redis', 'psycopg', 'pytest', 'hypothesis'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


# -- the public surface --------------------------------------------------------------------------------------------

IMPORTABLE = [module for module in LIBRARY if path_of(module).name not in ("__init__.py", "__main__.py")]


def imported(module: str) -> ModuleType:
    return importlib.import_module(f"ozonetel_async.{module}")


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_names_of_the_package_are_there_and_public_where_they_come_from() -> None:
    names = ozonetel_async.__all__
    assert len(set(names)) == len(names)
    for name in names:
        thing = getattr(ozonetel_async, name)
        assert name in importlib.import_module(thing.__module__).__all__
        assert name in dir(ozonetel_async)
    with pytest.raises(AttributeError, match="OzonetelCleint"):
        ozonetel_async.OzonetelCleint  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_names_of_the_package_and_no_others() -> None:
    tree = tree_of("__init__")
    seen = {alias.name for node in type_only(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(ozonetel_async.__all__)


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
        empty = not path_of(module).read_text(encoding="utf-8").strip()
        assert empty or module == ROOF or ast.get_docstring(tree_of(module)), f"{module} has no docstring"


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


@pytest.mark.parametrize("module", LIBRARY)
def test_no_any_in_public_signatures(module: str) -> None:
    for function in public_functions(tree_of(module)):
        for annotation in annotations_of(function):
            names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
            assert "Any" not in names, f"{module}.{function.name}, line {function.lineno}: {ast.unparse(annotation)}"


# -- size ----------------------------------------------------------------------------------------------------------


# One statement that grows by a row per endpoint, and reads like the table it is.
TABLES = {("protocol.endpoints", "endpoint_table")}


@pytest.mark.parametrize("module", MODULES)
def test_functions_fit_on_a_screen(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60 or (module, node.name) in TABLES, f"{node.name}, line {node.lineno}: {lines} lines"
