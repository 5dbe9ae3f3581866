"""Clients of several processes that share one limit, over real stores: nothing refused, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest

from ozonetel_async import (
    ConfigurationError,
    Lead,
    LeadReceipt,
    Limits,
    OzonetelClient,
    QueueTimeoutError,
    RateLimit,
    SharedLimitUnavailableError,
    SharedStore,
    Timeouts,
)
from ozonetel_async.testing import Fault, Simulator

from ..conftest import eventually
from .conftest import RedisServer, Server

pytestmark = pytest.mark.usefixtures("no_tasks_left")

LEAD = Lead("919812345678")
WINDOW = 0.4

Crowd: TypeAlias = Callable[..., list[OzonetelClient]]


def limits(requests: int = 5, **changes: Any) -> Limits:
    return Limits(**{"add": RateLimit(requests, WINDOW), "transit_margin": 0.05, **changes})


@pytest.fixture
async def sim(sim_options: dict[str, Any]) -> AsyncIterator[Simulator]:
    async with Simulator(
        **{"window": WINDOW, "limits": {"add": 5}, "latency": (0.0, 0.02), "token_window": 60.0, **sim_options}
    ) as simulator:
        yield simulator


@pytest.fixture
async def crowd(sim: Simulator, key: str) -> AsyncIterator[Crowd]:
    """Makes clients of one account, as several processes have them, and closes them."""
    clients: list[OzonetelClient] = []

    def make(store: SharedStore, number: int = 3, **options: Any) -> list[OzonetelClient]:
        options = {"limits": limits(), "timeouts": Timeouts(total=5.0), **options}
        made = [
            OzonetelClient(
                *(sim.api_key, sim.username),
                base_url=sim.base_url,
                dialer_url=sim.dialer_url,
                shared=store,
                **options,
            )
            for _ in range(number)
        ]
        clients.extend(made)
        return made

    yield make
    await asyncio.gather(*(client.close() for client in clients))


def state(client: OzonetelClient) -> str:
    store = client.queues["add"].store
    assert store is not None
    return store.state


async def add(client: OzonetelClient, **options: Any) -> LeadReceipt:
    return await client.add_lead("Diwali", LEAD, **options)


async def test_clients_together_keep_the_limit_of_one(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 4)
    await asyncio.gather(*(add(client) for client in clients for _ in range(6)))
    assert (sim.arrivals("add"), sim.refusals("add"), sim.worst_window("add")) == (24, 0, 5)


async def test_a_queue_that_the_store_does_not_know_is_held_and_says_so(
    sim: Simulator, server: Server, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    (client,) = crowd(server.store(), 1, limits=limits(transit_margin=1.6))
    task = asyncio.create_task(add(client))
    await eventually(lambda: state(client) == "holding")
    store = client.queues["add"].store
    assert store is not None
    until = store.holding_until
    assert until is not None
    assert timedelta() < until - datetime.now(UTC) < timedelta(seconds=2.1)
    # A caller with less patience is told at once, and when to come back.
    with pytest.raises(SharedLimitUnavailableError, match="holds all requests") as caught:
        await add(client, max_wait=0.01)
    assert caught.value.outcome == "not_sent"
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after < 2.1
    await task
    assert state(client) == "ok"
    messages = [record.message for record in caplog.records if record.name == "ozonetel_async"]
    assert [message for message in messages if "nothing is sent for 2 s" in message] == messages


async def test_nothing_is_held_where_nobody_has_sent(sim: Simulator, server: Server, crowd: Crowd) -> None:
    (client,) = crowd(server.store(first_use="go"), 1, limits=limits(add=RateLimit(5, 60.0)))
    await asyncio.gather(*(add(client) for _ in range(5)))
    with pytest.raises(QueueTimeoutError) as caught:
        await add(client, max_wait=0.1)
    assert type(caught.value) is QueueTimeoutError


async def test_without_a_shared_store_there_is_none_to_look_at(sim: Simulator) -> None:
    async with OzonetelClient("key", "user", base_url=sim.base_url, dialer_url=sim.dialer_url) as client:
        assert client.queues["add"].store is None


async def test_while_the_store_is_away_callers_wait_and_then_go_on(
    sim: Simulator, server: Server, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    clients = crowd(server.store(first_use="go", timeout=0.5), 1)
    (client,) = clients
    await add(client)
    server.kill()
    waiting = [asyncio.create_task(add(client)) for _ in range(3)]
    await eventually(lambda: state(client) == "away")
    store = client.queues["add"].store
    assert store is not None
    assert store.away_since is not None
    with pytest.raises(SharedLimitUnavailableError, match="away") as caught:
        await add(client, max_wait=0.05)
    assert (caught.value.outcome, caught.value.endpoint, caught.value.retry_after) == ("not_sent", "add", 1.0)
    assert sim.arrivals("add") == 1
    server.start()
    await asyncio.gather(*waiting)
    assert (sim.arrivals("add"), sim.refusals("add")) == (4, 0)
    assert state(client) == "ok"
    messages = [record.message for record in caplog.records if record.name == "ozonetel_async"]
    assert len([message for message in messages if "is away" in message]) == 1
    assert len([message for message in messages if "is back" in message]) == 1


async def test_a_store_that_loses_everything_costs_no_refusal(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 3)
    tasks = [asyncio.create_task(add(client)) for client in clients for _ in range(10)]
    await sim.wait_for(lambda: sim.arrivals("add") >= 8)
    server.empty()
    await sim.wait_for(lambda: sim.arrivals("add") >= 16)
    server.empty()
    await asyncio.gather(*tasks)
    assert (sim.arrivals("add"), sim.refusals("add"), sim.worst_window("add")) == (30, 0, 5)


async def test_a_frozen_store_costs_no_refusal(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go", timeout=0.2), 3)
    tasks = [asyncio.create_task(add(client)) for client in clients for _ in range(5)]
    await sim.wait_for(lambda: sim.arrivals("add") >= 5)
    server.freeze()
    await eventually(lambda: all(state(client) == "away" for client in clients))
    server.thaw()
    await asyncio.gather(*tasks)
    assert (sim.arrivals("add"), sim.refusals("add"), sim.worst_window("add")) == (15, 0, 5)


async def test_cancelled_callers_leave_their_tokens_to_others(sim: Simulator, server: Server, crowd: Crowd) -> None:
    one, other = crowd(server.store(first_use="go"), 2, limits=limits(add=RateLimit(5, 60.0)))
    await asyncio.gather(*(add(one) for _ in range(4)))
    gone = [asyncio.create_task(add(one)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await add(other, max_wait=5.0)
    assert sim.arrivals("add") == 5


async def test_closing_gives_back_what_was_not_used(sim: Simulator, server: Server, crowd: Crowd) -> None:
    store = server.store(first_use="go")
    one, other = crowd(store, 2, timeouts=Timeouts(total=60.0))
    sim.inject("add", Fault.stall_before_apply(), times=5)
    stalled = [asyncio.create_task(add(one)) for _ in range(5)]
    await sim.wait_for(lambda: sim.arrivals("add") == 5)
    await one.close()
    await asyncio.gather(*stalled, return_exceptions=True)
    # Back after the window and the margin, not when the lease of a minute ends.
    await add(other, max_wait=5.0)


async def test_a_refusal_makes_all_processes_pause(sim: Simulator, server: Server, crowd: Crowd) -> None:
    one, other = crowd(server.store(first_use="go"), 2)
    sim.inject("add", Fault.http_429("1"))
    task = asyncio.create_task(add(one))
    await sim.wait_for(lambda: sim.refusals("add") == 1)
    await eventually(lambda: one.queues["add"].refused == 1)
    await asyncio.gather(task, add(other))
    refused, *later = (record.at for record in sim.requests("add"))
    assert all(at - refused >= 1.0 for at in later)


async def test_priority_counts_across_processes(sim: Simulator, server: Server, crowd: Crowd) -> None:
    one, other = crowd(server.store(first_use="go"), 2)
    await asyncio.gather(*(add(one) for _ in range(5)))
    low = [asyncio.create_task(add(one)) for _ in range(8)]
    await eventually(lambda: one.queues["add"].waiting == 8)
    urgent = Lead("919800000000")
    high = [asyncio.create_task(other.add_lead("Diwali", urgent, queue_priority=1)) for _ in range(4)]
    await asyncio.gather(*low, *high)
    numbers = [record.params["phoneNumber"] for record in sim.requests("add")]
    # What starts in one window arrives in any order.
    assert numbers[5:10].count(urgent.phone_number) == 4


async def test_processes_with_different_limits_are_told(sim: Simulator, server: Server, crowd: Crowd) -> None:
    store = server.store(first_use="go")
    (one,) = crowd(store, 1, limits=limits(add=RateLimit(5, 60.0)))
    (other,) = crowd(store, 1, limits=limits(add=RateLimit(6, 60.0)))
    await add(one)
    answers = await asyncio.gather(*(add(other) for _ in range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {ConfigurationError}
    assert all("same Limits" in str(answer) for answer in answers)
    assert sim.arrivals("add") == 1


# -- the bearer token -------------------------------------------------------------------------------------------------

TOKENS = pytest.mark.parametrize("sim_options", [{"auth_mode": "TOKEN_AUTH", "limits": {"add": 100}}])
WIDE = limits(add=RateLimit(100, WINDOW))


@TOKENS
async def test_all_processes_use_one_token(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 4, auth="token", limits=WIDE)
    await asyncio.gather(*(add(client) for client in clients for _ in range(5)))
    assert (sim.tokens.issued, sim.arrivals("token"), sim.writes_applied("add")) == (1, 1, 20)


@TOKENS
async def test_a_token_that_was_ended_is_replaced_once_for_all(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 4, auth="token", limits=WIDE)
    for rounds in range(1, 4):
        await asyncio.gather(*(add(client) for client in clients for _ in range(3)))
        assert (sim.tokens.issued, sim.writes_applied("add")) == (rounds, 12 * rounds)
        sim.tokens.expire()


@TOKENS
async def test_no_more_than_ten_tokens_an_hour_for_all_together(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 3, auth="token", limits=WIDE)
    for number in range(10):
        await add(clients[number % 3])
        sim.tokens.expire()
    for client in clients:
        with pytest.raises(QueueTimeoutError, match="the next one may be fetched in") as caught:
            await add(client, max_wait=5.0)
        assert caught.value.endpoint == "token"
    assert (sim.tokens.issued, sim.refusals("token")) == (10, 0)


@TOKENS
async def test_a_fetch_that_failed_is_followed_by_another(sim: Simulator, server: Server, crowd: Crowd) -> None:
    clients = crowd(server.store(first_use="go"), 2, auth="token", limits=WIDE)
    sim.inject("token", Fault.reset_before_apply(), times=1)
    receipts = await asyncio.gather(*(add(client) for client in clients))
    assert [receipt.outcome for receipt in receipts] == ["accepted", "accepted"]
    assert (sim.arrivals("token"), sim.tokens.issued) == (2, 1)


@TOKENS
async def test_the_store_holds_no_token_that_can_be_read(sim: Simulator, redis: RedisServer, crowd: Crowd) -> None:
    import redis as driver

    (client,) = crowd(redis.store(first_use="go"), 1, auth="token", limits=WIDE)
    await add(client)
    with driver.Redis(port=redis.port, decode_responses=True) as link:
        names = link.keys("*")
        held = [link.hgetall(name) for name in names if name.endswith("bearer")]
    assert held
    assert all(field["token"] and "eyJ" not in field["token"] for field in held)
    assert not [name for name in names if sim.username in name or sim.api_key in name]
