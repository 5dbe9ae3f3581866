"""What an operation on the shared bearer token does, in each store: one fetch at a time, within the hour's number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from ozonetel_async.sending.shared.store import BearerAsk, BearerTurn, StoreConnection

from .conftest import Server, store_sleeps

HOUR = 3_600_000_000


class Holder:
    """One of several processes that share a token."""

    def __init__(self, connection: StoreConnection, key: str) -> None:
        self.connection = connection
        self.key = key

    async def ask(
        self, process: str, action: Literal["get", "put", "fail", "drop"] = "get", **fields: Any
    ) -> BearerTurn:
        fields = {"lease": HOUR, "fetches": 10, "per": HOUR, **fields}
        return await self.connection.bearer(BearerAsk(self.key, process, action, **fields))

    async def fetch(self, process: str, token: str, *, renew: int = HOUR, life: int = HOUR) -> BearerTurn:
        turn = await self.ask(process)
        assert turn.state == "fetch"
        return await self.ask(process, "put", generation=turn.generation, token=token, renew=renew, life=life)


@pytest.fixture
async def holder(server: Server, key: str) -> AsyncIterator[Holder]:
    connection = server.store().connect()
    yield Holder(connection, key)
    await connection.close()


async def test_one_fetches_and_the_others_wait_for_its_token(holder: Holder) -> None:
    turn = await holder.ask("one")
    assert (turn.state, turn.generation, turn.wait) == ("fetch", 1, HOUR)
    waiting = await holder.ask("other")
    assert waiting.state == "wait"
    assert 0 < waiting.wait < HOUR
    await holder.ask("one", "put", generation=1, token="sealed", renew=60_000_000, life=HOUR)
    for process in ("one", "other"):
        turn = await holder.ask(process)
        assert (turn.state, turn.token, turn.generation) == ("token", "sealed", 1)
        assert 0 < turn.wait < 60_000_000


async def test_a_get_whose_answer_got_lost_is_the_same_fetch(holder: Holder) -> None:
    first, second = await holder.ask("one"), await holder.ask("one")
    assert (second.state, second.generation) == ("fetch", first.generation)


async def test_an_owner_that_is_never_heard_of_again_is_replaced(holder: Holder) -> None:
    lost = await holder.ask("lost", lease=100_000)
    await store_sleeps(100_000)
    turn = await holder.ask("other")
    assert (turn.state, turn.generation) == ("fetch", lost.generation + 1)
    # What the first one fetched is void: the service ends a token when it gives another.
    await holder.ask("lost", "put", generation=lost.generation, token="late", renew=HOUR, life=HOUR)
    assert (await holder.ask("third")).state == "wait"
    await holder.ask("other", "put", generation=turn.generation, token="right", renew=HOUR, life=HOUR)
    assert (await holder.ask("lost")).token == "right"


async def test_only_the_token_that_was_refused_is_dropped(holder: Holder) -> None:
    await holder.fetch("one", "first")
    await holder.ask("other", "drop", token="an older one")
    assert (await holder.ask("other")).token == "first"
    await holder.ask("other", "drop", token="first")
    assert (await holder.ask("other")).state == "fetch"


async def test_a_token_is_replaced_ahead_of_its_end_and_not_handed_out_meanwhile(holder: Holder) -> None:
    await holder.fetch("one", "first", renew=50_000)
    await store_sleeps(50_000)
    assert (await holder.ask("one")).state == "fetch"
    assert (await holder.ask("other")).state == "wait"


async def test_a_renewal_that_fails_leaves_the_token_in_use_while_it_lives(holder: Holder) -> None:
    await holder.fetch("one", "first", renew=1)
    turn = await holder.ask("one")
    await holder.ask("one", "fail", generation=turn.generation, renew=60_000_000)
    turn = await holder.ask("other")
    assert (turn.state, turn.token) == ("token", "first")
    assert turn.wait <= 60_000_000


async def test_a_token_that_has_ended_is_not_handed_out_after_a_failed_renewal(holder: Holder) -> None:
    await holder.fetch("one", "first", renew=1, life=50_000)
    turn = await holder.ask("one")
    await holder.ask("one", "fail", generation=turn.generation, renew=60_000_000)
    await store_sleeps(50_000)
    assert (await holder.ask("other")).state == "wait"


async def test_after_a_fetch_that_failed_nobody_fetches_for_a_while(holder: Holder) -> None:
    turn = await holder.ask("one")
    await holder.ask("one", "fail", generation=turn.generation, renew=100_000)
    turn = await holder.ask("other")
    if turn.state == "wait":
        assert 0 < turn.wait <= 100_000
        await store_sleeps(turn.wait)
        turn = await holder.ask("other")
    assert turn.state == "fetch"


async def test_no_more_fetches_than_an_hour_holds(holder: Holder) -> None:
    for number in range(10):
        await holder.fetch("one", str(number))
        await holder.ask("one", "drop", token=str(number))
    turn = await holder.ask("one")
    assert turn.state == "spent"
    assert HOUR - 60_000_000 < turn.wait <= HOUR


async def test_fetches_come_back_after_their_window(holder: Holder) -> None:
    await holder.fetch("one", "first")
    await holder.ask("one", "drop", token="first")
    turn = await holder.ask("one", fetches=1, per=100_000)
    if turn.state == "spent":
        await store_sleeps(turn.wait)
        turn = await holder.ask("one", fetches=1, per=100_000)
    assert turn.state == "fetch"


async def test_with_no_fetch_left_a_living_token_goes_on_being_handed_out(holder: Holder) -> None:
    await holder.fetch("one", "first", renew=1)
    turn = await holder.ask("one", fetches=1)
    assert (turn.state, turn.token) == ("token", "first")


async def test_a_fetch_that_never_left_does_not_count(holder: Holder) -> None:
    turn = await holder.ask("one", fetches=1)
    await holder.ask("one", "fail", generation=turn.generation, unsent=True)
    turn = await holder.ask("one", fetches=1)
    assert turn.state == "fetch"
    await holder.ask("one", "fail", generation=turn.generation)
    assert (await holder.ask("one", fetches=1)).state == "spent"
