"""What the tests over sockets share: a simulator, clients of it, and eyes for what they leave behind."""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeAlias
from unittest.mock import Mock, patch
from urllib.parse import urlsplit

import aiohttp
import pytest
from aioresponses import aioresponses

from ozonetel_async import Limits, OzonetelClient, RateLimit, RetryPolicy
from ozonetel_async.testing import Simulator

Connect: TypeAlias = Callable[..., OzonetelClient]

WINDOW = 0.25
"""Seconds in every rate window of the tests' simulator and clients."""

# Attempts without the seconds between them that a real service deserves.
EAGER = RetryPolicy(connect_attempts=3, rate_attempts=4, backoff=0.001, max_backoff=0.002)


def fast_limits(**changes: Any) -> Limits:
    """The documented limits over a short window."""
    values: dict[str, Any] = {
        "add": RateLimit(100, WINDOW),
        "bulk": RateLimit(5, WINDOW),
        "schedule": RateLimit(100, WINDOW),
        "dial_status": RateLimit(10, WINDOW),
        "token": RateLimit(10, WINDOW),
        "transit_margin": 0.02,
    }
    return Limits(**(values | changes))


@pytest.fixture
def sim_options() -> dict[str, Any]:
    """Settings of ``sim`` beside its short windows; a module may override this."""
    return {}


@pytest.fixture
async def sim(sim_options: dict[str, Any]) -> AsyncIterator[Simulator]:
    """A running simulator with its documented limits over a short window."""
    async with Simulator(**{"window": WINDOW, "token_window": WINDOW, **sim_options}) as simulator:
        yield simulator


@pytest.fixture
async def connect(sim: Simulator) -> AsyncIterator[Connect]:
    """Makes clients of the simulator, and closes them."""
    clients: list[OzonetelClient] = []

    def make(**options: Any) -> OzonetelClient:
        options = {"limits": fast_limits(), "retry": EAGER, **options}
        options = {"base_url": sim.base_url, "dialer_url": sim.dialer_url, **options}
        client = OzonetelClient(options.pop("api_key", sim.api_key), sim.username, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def client(connect: Connect) -> OzonetelClient:
    """A client of the simulator with short windows."""
    return connect()


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """Fails a test that leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


@pytest.fixture
def replies() -> Iterator[aioresponses]:
    """aioresponses: answers without a server, for what a reply means and nothing else (it bypasses time and pools)."""
    # aioresponses 0.7.9 builds a ClientResponse without the stream_writer that aiohttp 3.14 requires.
    needs_writer = "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters
    response = partial(aiohttp.ClientResponse, stream_writer=Mock(output_size=0)) if needs_writer else None
    with patch("aioresponses.core.ClientResponse", response or aiohttp.ClientResponse), aioresponses() as mocked:
        yield mocked


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions that have no event
            await asyncio.sleep(0.001)


ADDED = b'{"status":"SUCCESS","message":"SuccessFully Updated"}'


def http(body: bytes = ADDED, *headers: str, status: str = "200 OK") -> bytes:
    """A response as it stands on the wire."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n\r\n" + body


Behaviour: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Answers one request, or not; whether the connection stays open."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Take the lead, and keep the connection."""
    writer.write(http())
    return True


async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Close the connection without a word."""
    return False


async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Take the lead; the connection ends without notice, as an idle one does."""
    writer.write(http())
    return False


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Leave the request without an answer until the client goes."""
    await reader.read()
    return False


class RawServer:
    """A server below HTTP: it does what ``script`` says to one request after the other, and counts.

    Args:
        script: what to do with each request, whatever connection it comes on; the last one goes for all further ones.
    """

    def __init__(self, *script: Behaviour) -> None:
        self.script = script
        self.hits: list[bytes] = []
        self.connections = 0
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**25)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await eventually(lambda: not self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        # The client hangs up when it likes.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._writers.discard(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head.lower())
            body = await reader.readexactly(int(length[1])) if length else b""
            self.hits.append(head + body)
            if not await self.script[min(len(self.hits), len(self.script)) - 1](reader, writer):
                return
            await writer.drain()


class Proxy:
    """An HTTP proxy that leads every name to this machine; it forwards plain requests and tunnels with CONNECT.

    Args:
        password: refuses requests that do not bear it, as ``user:password``.
        ports: ports of this machine by ``host:port``; the others are taken as they are.

    Attributes:
        asked: what was asked for: ``"CONNECT host:port"``, or method and host of a plain request.
    """

    def __init__(self, password: str | None = None, ports: dict[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self.url = ""
        self._password = password
        self._ports = ports or {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await eventually(lambda: not self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        self.asked.append(f"{method} {url.netloc}")
        credentials = base64.b64encode((self._password or "").encode())
        if self._password is not None and b"Proxy-Authorization: Basic " + credentials not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        port = self._ports.get(url.netloc, url.port)
        others_reader, other = await asyncio.open_connection("127.0.0.1", port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            other.write(head.replace(target.encode(), target.partition(url.netloc)[2].encode(), 1))
        copies = [asyncio.create_task(_copy(reader, other)), asyncio.create_task(_copy(others_reader, writer))]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.transport.abort()
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
