"""pytest fixtures: a simulator, and a client connected to it.

The plugin is loaded by its entry point in every test run of every environment that has this library, so it imports
nothing of weight before a fixture is asked for. The fixtures run on pytest-asyncio, in strict or auto mode; without
it they are plain fixtures that say what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ozonetel_async import OzonetelClient
    from ozonetel_async.testing import Simulator

__all__ = ["ozonetel_client", "ozonetel_simulator"]


def _async_fixture(function: Callable[..., Any]) -> Any:
    if find_spec("pytest_asyncio") is None:

        def missing() -> None:
            pytest.fail(f"the fixture {function.__name__} needs pytest-asyncio: pip install pytest-asyncio")

        return pytest.fixture(name=function.__name__)(missing)
    import pytest_asyncio

    return pytest_asyncio.fixture(function)


@_async_fixture
async def ozonetel_simulator() -> AsyncIterator[Simulator]:
    """A running ``Simulator`` with its defaults and a rate window of one second."""
    from ozonetel_async.testing import Simulator

    async with Simulator(window=1.0) as simulator:
        yield simulator


@_async_fixture
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
