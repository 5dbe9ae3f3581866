"""Connections that end, or speak, at the wrong moment, and sessions of the caller's that do more than send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from ozonetel_async import (
    ConfigurationError,
    Lead,
    LeadReceipt,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    Timeouts,
)
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Connect, RawServer, answer, eventually, http, never

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

LEAD = Lead("919812345678")
FAILED = http(b'{"status":"Fail","message":"Agent Is Empty!"}')


async def add(client: OzonetelClient) -> LeadReceipt:
    return await client.add_lead("Diwali", LEAD)


async def legacy_add(client: OzonetelClient) -> LeadReceipt:
    return await client.legacy.add_lead("Diwali", LEAD)


# -- closing while calls wait for a connection --------------------------------------------------------------------


def never_resolve(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let name lookups never end; the names that are asked for."""
    asked: list[str] = []

    async def stuck(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", stuck)
    return asked


async def errors_of_a_group(
    close: Callable[[], Awaitable[None]],
    ready: Callable[[], object],
    client: OzonetelClient,
    call: Callable[[OzonetelClient], Awaitable[LeadReceipt]],
) -> list[OzonetelError]:
    """The errors of five calls of one group that are under way while something is closed."""
    errors: list[OzonetelError] = []

    async def one() -> None:
        try:
            await call(client)
        except OzonetelError as error:
            errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(one())
        await eventually(ready)
        await close()
    return errors


@pytest.mark.parametrize("call", [add, legacy_add])
async def test_closing_during_a_name_lookup_tells_every_caller(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    asked = never_resolve(monkeypatch)
    client = connect(base_url="http://localhost:9")
    errors = await errors_of_a_group(client.close, lambda: asked, client, call)
    assert [type(error) for error in errors] == [ConfigurationError] * 5
    assert {error.outcome for error in errors} == {"not_sent"}


async def test_closing_the_callers_session_during_a_name_lookup_tells_every_caller(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = never_resolve(monkeypatch)
    async with aiohttp.ClientSession() as session:
        client = connect(base_url="http://localhost:9", session=session)
        errors = await errors_of_a_group(session.close, lambda: asked, client, add)
        assert [type(error) for error in errors] == [ConfigurationError] * 5
        assert "session passed to the client is closed" in str(errors[0])


async def test_closing_the_callers_session_while_its_pool_is_full_tells_every_caller(connect: Connect) -> None:
    async with (
        RawServer(never) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
    ):
        client = connect(base_url=server.url, session=session)
        errors = await errors_of_a_group(session.close, lambda: server.hits, client, add)
        assert sorted(error.outcome for error in errors) == ["not_sent"] * 4 + ["unknown"]
        assert client.queues["add"].in_flight == 0
        assert len(server.hits) == 1


async def test_a_caller_cancelled_during_a_name_lookup_stays_cancelled(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = never_resolve(monkeypatch)
    client = connect(base_url="http://localhost:9")
    call = asyncio.create_task(add(client))
    await eventually(lambda: asked)
    call.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await call


# -- an idle connection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
async def test_an_unasked_answer_on_an_idle_connection_is_nobodys(connect: Connect, own: bool) -> None:
    """It was taken for the next call's: "accepted" for a lead that was reset unapplied."""
    spoken = asyncio.Event()
    speak = asyncio.Event()

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(http())
        await writer.drain()
        await speak.wait()
        writer.write(http())
        await writer.drain()
        spoken.set()
        return True

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(FAILED)
        return True

    async with RawServer(answer_twice, refuse) as server, aiohttp.ClientSession() as session:
        client = connect(base_url=server.url, session=None if own else session)
        await add(client)
        speak.set()
        await spoken.wait()
        for _ in range(10):  # turns of the loop in which this side reads it
            await asyncio.sleep(0)
        with pytest.raises(OzonetelError, match="Agent Is Empty"):
            await add(client)
        assert (len(server.hits), server.connections) == (2, 2)


async def test_an_unasked_answer_that_nobody_has_read_yet_is_nobodys_either(connect: Connect) -> None:
    async with RawServer(answer) as server:
        client = connect(base_url=server.url)
        await add(client)
        (writer,) = server._writers
        sock = writer.transport.get_extra_info("socket")
        # Straight into the kernel, and the loop gets no turn before the next call looks at the connection.
        with socket.socket(fileno=socket.dup(sock.fileno())) as raw:
            raw.send(FAILED)
        assert (await add(client)).outcome == "accepted"
        assert (len(server.hits), server.connections) == (2, 2)


async def test_a_connection_that_has_just_ended_is_replaced(connect: Connect) -> None:
    """What was sent to it was unknown: 269 of 600 calls, where the server hung up as we sent."""
    async with RawServer(answer) as server:
        client = connect(base_url=server.url)
        for _ in range(20):
            await add(client)
            (writer,) = server._writers
            sock = writer.transport.get_extra_info("socket")
            with socket.socket(fileno=socket.dup(sock.fileno())) as raw:
                raw.shutdown(socket.SHUT_RDWR)
            await add(client)
            await eventually(lambda: server.open == 1)
        assert len(server.hits) == 40


# -- what the caller's session does by itself ----------------------------------------------------------------------


class OwnError(Exception):
    """Raised by a hook of the caller's session."""


async def fails(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    raise OwnError("a secret of the caller's")


BEFORE = ["on_request_start", "on_connection_create_start", "on_connection_create_end", "on_request_headers_sent"]
AFTER = ["on_request_end", "on_response_chunk_received"]


@pytest.mark.parametrize("hook", [*BEFORE, *AFTER])
async def test_an_error_of_a_trace_hook_ends_typed(sim: Simulator, connect: Connect, hook: str) -> None:
    trace = aiohttp.TraceConfig()
    getattr(trace, hook).append(fails)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        client = connect(session=session)
        with pytest.raises(OzonetelError, match="OwnError") as caught:
            await add(client)
        assert "secret" not in str(caught.value)
        if hook in BEFORE:
            assert isinstance(caught.value, ConfigurationError)
            assert (sim.writes_applied("add"), client.queues["add"].free) == (0, 100)
        else:
            assert isinstance(caught.value, OutcomeUnknownError)
            assert (sim.arrivals("add"), sim.writes_applied("add")) == (1, 1)


async def test_an_error_of_a_hook_that_hears_of_errors_ends_typed(sim: Simulator, connect: Connect) -> None:
    trace = aiohttp.TraceConfig()
    trace.on_request_exception.append(fails)
    sim.inject("add", Fault.reset_after_apply())
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        with pytest.raises(OutcomeUnknownError):
            await add(connect(session=session))


async def test_a_session_with_middlewares_is_refused(connect: Connect) -> None:
    """One that repeats a request had a lead added three times."""

    async def twice(request: aiohttp.ClientRequest, handler: Any) -> Any:
        await handler(request)
        return await handler(request)

    try:
        session = aiohttp.ClientSession(middlewares=(twice,))
    except TypeError:
        pytest.skip("aiohttp before 3.12 has no middlewares")
    async with session:
        with pytest.raises(ConfigurationError, match="without middlewares"):
            connect(session=session)


async def test_a_long_body_arrives_whole(sim: Simulator, connect: Connect) -> None:
    client = connect(timeouts=Timeouts(total=20.0))
    rows = [{"PhoneNumber": f"98{i:08d}", "City": "x" * 900} for i in range(500)]
    await client.add_batch("Diwali", rows)
    assert sim.rows_applied("bulk") == 500
