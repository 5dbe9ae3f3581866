"""What the tests over sockets share: a simulator, clients of it, and eyes for what they leave behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias
from unittest.mock import Mock, patch

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
async def sim() -> AsyncIterator[Simulator]:
    """A running simulator with its documented limits over a short window."""
    async with Simulator(window=WINDOW, token_window=WINDOW) as simulator:
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
