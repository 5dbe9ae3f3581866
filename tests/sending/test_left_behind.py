"""What a client leaves behind: no task, no socket, no warning, on whichever loop and however it is left."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import pytest

from ozonetel_async import ConfigurationError, Lead, OutcomeUnknownError, OzonetelClient
from ozonetel_async.config import Auth
from ozonetel_async.testing import Fault, Simulator

from ..conftest import RawServer, answer, eventually, fast_limits, never

LEAD = Lead("919812345678")


def run_on_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main, debug=True)


def run_on_uvloop(main: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with asyncio.Runner(debug=True, loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def run_with_eager_tasks(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(debug=True) as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        runner.run(main)


RUNNERS = [
    pytest.param(run_on_asyncio, id="asyncio"),
    pytest.param(
        run_on_uvloop,
        id="uvloop",
        marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="needs uvloop: pip install uvloop"),
    ),
    pytest.param(
        run_with_eager_tasks,
        id="eager",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks begin with Python 3.12"),
    ),
]
NEEDS_ANYIO = pytest.mark.skipif(find_spec("anyio") is None, reason="needs anyio: pip install anyio")


def complaints_of(run: Callable[[Coroutine[Any, Any, None]], None], main: Coroutine[Any, Any, None]) -> list[str]:
    """Warnings, and what the loop's exception handler heard."""
    heard: list[str] = []

    async def listening() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(str(context["message"])))
        await main
        for _ in range(5):
            await asyncio.sleep(0)
        heard.extend(str(task) for task in asyncio.all_tasks() if task is not asyncio.current_task())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        run(listening())
        gc.collect()
    return heard + [str(warning.message) for warning in caught]


async def use(client: OzonetelClient) -> None:
    await client.add_lead("Diwali", LEAD)
    await client.upload("Diwali", [LEAD] * 600)


def client_of(sim: Simulator, url: str | None = None, auth: Auth = "basic") -> OzonetelClient:
    return OzonetelClient(
        sim.api_key, sim.username, base_url=url or sim.base_url, auth=auth, limits=fast_limits(transit_margin=0.0)
    )


async def closed_in_the_middle() -> None:
    async with Simulator() as sim, RawServer(answer, never) as server:
        async with client_of(sim) as client:
            await use(client)
        async with client_of(sim, server.url) as client:
            await client.legacy.add_lead("Diwali", LEAD)
            stuck = asyncio.create_task(client.add_lead("Diwali", LEAD))
            await eventually(lambda: len(server.hits) == 2)
        with pytest.raises(OutcomeUnknownError):
            await stuck
        with pytest.raises(ConfigurationError):
            await client.add_lead("Diwali", LEAD)
        await eventually(lambda: not server.open)


async def _prepare(sim: Simulator, client: OzonetelClient, kind: str) -> list[asyncio.Task[Any]]:
    if kind == "legacy":
        await client.legacy.add_lead("Diwali", LEAD)
        await client.add_lead("Diwali", LEAD)
        return []
    sim.inject("token", Fault.stall_before_apply())
    call = asyncio.create_task(client.add_lead("Diwali", LEAD))
    await sim.wait_for(lambda: sim.arrivals("token"))
    return [call]


def cancelled_while_closing(kind: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        async with Simulator(auth_mode="TOKEN_AUTH" if kind == "token" else "BASIC_AUTH") as sim:
            client = client_of(sim, auth="token" if kind == "token" else "basic")
            calls = await _prepare(sim, client, kind)
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            while not closing.done():
                closing.cancel()
                await asyncio.sleep(0)
            assert closing.cancelled()
            assert not [task for task in asyncio.all_tasks() if "_renew" in repr(task)]
            await eventually(lambda: not sim.in_flight)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, ConfigurationError) for result in results)

    return main


def left_through_a_cancel_scope(kind: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        import anyio.lowlevel

        async with Simulator(auth_mode="TOKEN_AUTH" if kind == "token" else "BASIC_AUTH") as sim:
            calls: list[asyncio.Task[Any]] = []
            with anyio.CancelScope() as scope:
                async with client_of(sim, auth="token" if kind == "token" else "basic") as client:
                    calls = await _prepare(sim, client, kind)
                    scope.cancel()
                    await anyio.sleep(1)
            assert scope.cancelled_caught
            with pytest.raises(ConfigurationError):
                await client.add_lead("Diwali", LEAD)
            await asyncio.gather(*calls, return_exceptions=True)

    return main


async def calls_cancelled_by_a_scope() -> None:
    import anyio.lowlevel

    async with Simulator(latency=(0.0, 0.005)) as sim, client_of(sim) as client:
        for turns in range(0, 40, 4):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(client.add_lead, "Diwali", LEAD)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
        await client.add_lead("Diwali", LEAD)
        queue = client.queues["add"]
        assert (queue.waiting, queue.in_flight) == (0, 0)


@pytest.mark.parametrize("run", RUNNERS)
def test_a_client_closed_in_the_middle_of_a_call(run: Any) -> None:
    assert complaints_of(run, closed_in_the_middle()) == []


@pytest.mark.parametrize("kind", ["token", "legacy"])
@pytest.mark.parametrize("run", RUNNERS)
def test_close_that_is_cancelled_closes_everything_first(run: Any, kind: str) -> None:
    assert complaints_of(run, cancelled_while_closing(kind)()) == []


@NEEDS_ANYIO
@pytest.mark.parametrize("kind", ["token", "legacy"])
@pytest.mark.parametrize("run", RUNNERS)
def test_a_client_left_through_a_cancel_scope(run: Any, kind: str) -> None:
    assert complaints_of(run, left_through_a_cancel_scope(kind)()) == []


@NEEDS_ANYIO
@pytest.mark.parametrize("run", RUNNERS)
def test_calls_cancelled_by_a_scope_lose_no_place(run: Any) -> None:
    assert complaints_of(run, calls_cancelled_by_a_scope()) == []


async def test_a_client_entered_on_one_loop_says_so_on_another() -> None:
    """It was 60 s of silence, and then an unknown outcome."""
    client = OzonetelClient("key", "user", base_url="http://127.0.0.1:9")
    await asyncio.to_thread(asyncio.run, client.__aenter__())
    with pytest.raises(ConfigurationError, match="belongs to another event loop"):
        await client.add_lead("Diwali", LEAD)
    await client.close()
