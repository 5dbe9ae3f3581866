"""pytest fixtures: a simulator, and a client connected to it.

The plugin is loaded by its entry point in every test run of every environment that has this library, so it imports
nothing of weight before a fixture is asked for. The fixtures run on pytest-asyncio, in strict or auto mode, on the
event loop of the test that asks for them, whatever its ``loop_scope``; without pytest-asyncio they say what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ozonetel_async import OzonetelClient
    from ozonetel_async.testing import Simulator

__all__ = ["ozonetel_client", "ozonetel_simulator"]

_LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """The loop scope of the test, as pytest-asyncio chooses it."""
    marker = request.node.get_closest_marker("asyncio")
    chosen = marker.kwargs.get("loop_scope") if marker else None
    if chosen is None:
        try:
            chosen = request.config.getini("asyncio_default_test_loop_scope")
        except ValueError:  # a version of pytest-asyncio without that setting
            chosen = None
    return chosen or "function"


def _on_the_tests_loop(function: Callable[..., Any]) -> Any:
    """A fixture of ``function``'s name that runs it on the event loop of the test.

    pytest-asyncio ties an async fixture to one loop scope when it is defined; so there is one for each.
    """
    name = function.__name__
    if find_spec("pytest_asyncio") is None:

        def missing() -> None:
            pytest.fail(f"the fixture {name} needs pytest-asyncio: pip install pytest-asyncio")

        return pytest.fixture(name=name)(missing)
    import pytest_asyncio

    for scope in _LOOP_SCOPES:
        # A function each: pytest-asyncio writes the scope on it.
        copied = FunctionType(function.__code__, globals(), f"_{name}_{scope}")
        globals()[copied.__name__] = pytest_asyncio.fixture(copied, loop_scope=scope)

    def choose(request: pytest.FixtureRequest) -> object:
        return request.getfixturevalue(f"_{name}_{_loop_scope(request)}")

    choose.__doc__ = function.__doc__
    return pytest.fixture(name=name)(choose)


@_on_the_tests_loop
async def ozonetel_simulator() -> AsyncIterator[Simulator]:
    """A running ``Simulator`` with its defaults and a rate window of one second."""
    from ozonetel_async.testing import Simulator

    async with Simulator(window=1.0) as simulator:
        yield simulator


@_on_the_tests_loop
async def ozonetel_client(ozonetel_simulator: Simulator) -> AsyncIterator[OzonetelClient]:
    """An ``OzonetelClient`` of the simulator's account, its limits scaled to the simulator's window."""
    from ozonetel_async import Limits, OzonetelClient, RateLimit

    simulator = ozonetel_simulator
    windows = {name: RateLimit(window.requests, window.per) for name, window in simulator.windows.items()}
    limits = Limits(
        add=windows["add"],
        bulk=windows["bulk"],
        schedule=windows["schedule"],
        dial_status=windows["dial_status"],
        token=windows["token"],
        transit_margin=0.0,
    )
    async with OzonetelClient(
        api_key=simulator.api_key,
        username=simulator.username,
        base_url=simulator.base_url,
        dialer_url=simulator.dialer_url,
        limits=limits,
        auth="token" if simulator.settings.auth_mode == "TOKEN_AUTH" else "basic",
    ) as client:
        yield client
