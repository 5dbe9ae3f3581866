"""Cancelling callers: the others go on, no place is lost, no task stays."""

from __future__ import annotations

import asyncio
import random

import pytest

from ozonetel_async import Lead, LeadReceipt, OzonetelClient, RateLimit, Timeouts
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Connect, RawServer, eventually, fast_limits, never

pytestmark = pytest.mark.usefixtures("no_tasks_left")

PER = 0.1


async def add(client: OzonetelClient, number: int, priority: int = 0) -> LeadReceipt:
    return await client.add_lead("Diwali", Lead(f"98{number:08d}"), queue_priority=priority)


@pytest.mark.parametrize("sim_options", [{"limits": {"add": 200}, "window": PER}])
async def test_a_thousand_of_two_thousand_callers_cancelled_at_random(sim: Simulator, connect: Connect) -> None:
    # A cancelled request may still be judged by the server, as late as this machine is slow.
    client = connect(limits=fast_limits(add=RateLimit(200, PER), transit_margin=0.3))
    chance = random.Random(20)
    callers = [asyncio.create_task(add(client, number, chance.randint(0, 3))) for number in range(2_000)]
    doomed = chance.sample(range(2_000), 1_000)
    at_once, later = doomed[:300], doomed[300:]
    for number in at_once:  # before they have had a turn
        callers[number].cancel()
    await sim.wait_for(lambda: client.queues["add"].waiting > 1_000)
    cancelled = 300
    for number in later:
        cancelled += callers[number].cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    spared = set(range(2_000)) - set(doomed)
    assert all(isinstance(outcomes[number], LeadReceipt) for number in spared)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == cancelled
    numbers = sim.campaigns["Diwali"].numbers
    assert max(numbers.values()) == 1
    assert {f"98{number:08d}" for number in spared} <= set(numbers)
    queue = client.queues["add"]
    assert (queue.waiting, queue.in_flight, sim.refusals("add")) == (0, 0, 0)
    assert sim.worst_window("add") <= 200
    await eventually(lambda: queue.free == 200)


async def test_cancelled_requests_hold_their_places_until_the_server_must_have_forgotten(connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, limits=fast_limits(add=RateLimit(5, 30.0)))
        callers = [asyncio.create_task(add(client, number)) for number in range(8)]
        await eventually(lambda: len(server.hits) == 5)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        queue = client.queues["add"]
        assert (queue.waiting, queue.in_flight, queue.free) == (0, 0, 0)
        assert queue.next_free_in > 30.0
        await eventually(lambda: not server.open)


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_a_call_cancelled_at_any_turn_of_the_loop_leaves_the_client_in_order(
    sim: Simulator, connect: Connect, turns: int
) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, 0.01), transit_margin=0.0))
    call = asyncio.create_task(add(client, 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert client.queues["add"].in_flight == 0
    assert (await add(client, 2)).outcome == "accepted"
    assert sim.arrivals("add") <= 2


async def test_a_call_cancelled_while_it_waits_to_connect_again(sim: Simulator, connect: Connect) -> None:
    await sim.close()
    client = connect()
    call = asyncio.create_task(add(client, 1))
    await eventually(lambda: client.queues["add"].in_flight)
    await eventually(lambda: not client.queues["add"].in_flight)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (client.queues["add"].free, client.queues["add"].in_flight) == (100, 0)


async def test_a_cancelled_request_holds_its_place_for_the_transit_margin_too(connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, limits=fast_limits(add=RateLimit(1, 10.0), transit_margin=500.0))
        call = asyncio.create_task(add(client, 1))
        await eventually(lambda: server.hits)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        # Far above what an answer would leave (10 s) and far below the sum: no matter how slow the machine is.
        assert client.queues["add"].next_free_in > 400.0
        await eventually(lambda: not server.open)


async def test_wait_for_and_timeout_work_as_on_everything_else(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.stall_after_apply(), times=2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(add(client, 1), 0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await add(client, 2)
    assert (await add(client, 3)).outcome == "accepted"
    assert sim.writes_applied("add") == 3


async def test_a_timeout_of_the_caller_is_no_unknown_outcome_of_ours(connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, timeouts=Timeouts(total=5.0))
        async with asyncio.TaskGroup() as group:
            call = group.create_task(add(client, 1))
            await eventually(lambda: server.hits)
            call.cancel()
        assert call.cancelled()
