"""The shared bearer token: sealed in the store, fetched by one process, and what a slow fetch means to a grant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from ozonetel_async import (
    Lead,
    Limits,
    OzonetelClient,
    OzonetelError,
    RateLimit,
    SharedLimitUnavailableError,
)
from ozonetel_async.sending.bearer_tokens import RENEW_AT
from ozonetel_async.sending.shared.store import MICROSECONDS, Ask, BearerAsk, BearerTurn, FirstUse, Turn
from ozonetel_async.sending.shared.tokens import SharedTokenStore, seal, unseal
from ozonetel_async.sending.shared.window import StoreWatch
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.testing.clock import run_virtual

from ...conftest import WINDOW, fast_limits
from ..conftest import MemoryStore

T = TypeVar("T")

LEASE = 65.0


def test_a_sealed_token_is_read_by_who_knows_the_secret_and_by_nobody_else() -> None:
    sealed = seal("eyJ0.token", "secret")
    assert unseal(sealed, "secret") == "eyJ0.token"
    assert unseal(sealed, "another") is None
    assert "eyJ0" not in sealed
    assert seal("eyJ0.token", "secret") != sealed


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "é"])
def test_what_is_no_sealed_token_is_none(text: str) -> None:
    assert unseal(text, "secret") is None


def test_a_sealed_token_that_was_tampered_with_is_none() -> None:
    sealed = seal("eyJ0.token", "secret")
    for position in range(len(sealed)):
        other = "A" if sealed[position] != "A" else "B"
        assert unseal(sealed[:position] + other + sealed[position + 1 :], "secret") in (None, "eyJ0.token")
    assert unseal(sealed[:-4], "secret") is None


@dataclass
class Script:
    """A store that gives scripted answers, and notes what it was asked."""

    answers: list[BearerTurn | OzonetelError]
    asked: list[BearerAsk] = field(default_factory=list)
    first_use: FirstUse = "go"
    timeout: float = 1.0

    def connect(self) -> Script:
        return self

    async def turn(self, ask: Ask) -> Turn:
        raise NotImplementedError

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        self.asked.append(ask)
        answer = self.answers.pop(0) if self.answers else BearerTurn("done")
        if isinstance(answer, OzonetelError):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


FETCH = BearerTurn("fetch", generation=3)


def over(script: Script, main: Callable[[SharedTokenStore], Awaitable[T]]) -> T:
    """What happens over a scripted store, in virtual time."""

    async def run() -> T:
        store = SharedTokenStore(
            store=script,
            key="account:token",
            secret="secret",
            limit=RateLimit(10, 3600.0),
            lease=LEASE,
            watch=StoreWatch(),
        )
        try:
            return await main(store)
        finally:
            await store.close()
            assert script.closed

    return run_virtual(run(), debug=False)


def test_whoever_may_fetch_puts_the_token_where_the_others_find_it() -> None:
    async def main(store: SharedTokenStore) -> None:
        lookup = await store.get()
        assert (lookup.token, lookup.generation) == (None, 3)
        await asyncio.sleep(1.0)
        assert (await store.get()).generation is None
        await store.put(3, "fresh", 3600.0)
        assert (await store.get()).token == "fresh"

    script = Script([FETCH])
    over(script, main)
    get, put = script.asked
    assert (get.action, get.fetches, get.per) == ("get", 10, 3_600 * MICROSECONDS)
    assert get.lease == LEASE * MICROSECONDS
    assert (put.action, put.generation, unseal(put.token, "secret")) == ("put", 3, "fresh")
    # The token lives from before its fetch, not from the moment at which the store hears of it.
    assert put.life == pytest.approx(3599 * MICROSECONDS, rel=1e-5)
    assert put.renew == pytest.approx((3600 * RENEW_AT - 1) * MICROSECONDS, rel=1e-5)


def test_a_token_of_another_process_is_used_as_long_as_the_store_says() -> None:
    async def main(store: SharedTokenStore) -> None:
        lookup = await store.get()
        assert (lookup.token, lookup.generation) == (None, None)
        assert 0 < lookup.wait <= 0.1
        await asyncio.sleep(lookup.wait)
        for _ in range(100):
            assert (await store.get()).token == "theirs"
        assert len(script.asked) == 2
        await asyncio.sleep(5.0)
        assert (await store.get()).generation == 3

    theirs = BearerTurn("token", seal("theirs", "secret"), 1, 5 * MICROSECONDS)
    script = Script([BearerTurn("wait", wait=60 * MICROSECONDS), theirs, FETCH])
    over(script, main)


def test_many_callers_make_one_look_while_another_process_fetches() -> None:
    async def main(store: SharedTokenStore) -> None:
        lookups = await asyncio.gather(*(store.get() for _ in range(100)))
        assert all(lookup.wait > 0 for lookup in lookups)

    script = Script([BearerTurn("wait", wait=60 * MICROSECONDS)])
    over(script, main)
    assert len(script.asked) == 1


def test_a_token_that_was_refused_is_dropped_before_another_look() -> None:
    async def main(store: SharedTokenStore) -> None:
        assert (await store.get()).token == "theirs"
        await store.drop("another")
        await store.drop("theirs")
        assert (await store.get()).generation == 3

    sealed = seal("theirs", "secret")
    script = Script([BearerTurn("token", sealed, 1, 60 * MICROSECONDS), BearerTurn("done"), FETCH])
    over(script, main)
    assert [(ask.action, ask.token) for ask in script.asked[:3]] == [("get", ""), ("drop", sealed), ("get", "")]


def test_a_token_sealed_with_another_key_is_dropped() -> None:
    async def main(store: SharedTokenStore) -> None:
        assert (await store.get()).token is None
        assert (await store.get()).generation == 3

    foreign = seal("theirs", "an older key")
    script = Script([BearerTurn("token", foreign, 1, 5), BearerTurn("done"), FETCH])
    over(script, main)
    assert [ask.action for ask in script.asked[:3]] == ["get", "drop", "get"]


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_fetch_that_failed_is_told_and_counts_unless_it_cost_nothing(seconds: float) -> None:
    async def main(store: SharedTokenStore) -> None:
        await store.get()
        await store.put(2, "of another fetch", 3600.0)
        await store.put(3, None, seconds)

    script = Script([FETCH])
    over(script, main)
    _, fail = script.asked
    assert (fail.action, fail.generation, fail.unsent) == ("fail", 3, seconds == 0)
    assert fail.renew == seconds * MICROSECONDS


def test_a_fetch_that_was_stopped_is_given_up() -> None:
    async def main(store: SharedTokenStore) -> None:
        await store.get()

    script = Script([FETCH])
    over(script, main)
    assert [(ask.action, ask.unsent) for ask in script.asked] == [("get", False), ("fail", False)]


def test_with_no_fetch_left_the_wait_is_told_and_no_further_look_is_made() -> None:
    async def main(store: SharedTokenStore) -> None:
        assert (await store.get()).wait == 600.0
        await asyncio.sleep(1.0)
        assert (await store.get()).wait == pytest.approx(599.0, abs=0.01)

    script = Script([BearerTurn("spent", wait=600 * MICROSECONDS)])
    over(script, main)
    assert len(script.asked) == 1


def test_a_store_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main(store: SharedTokenStore) -> None:
        lookup = await store.get()
        assert (lookup.token, lookup.generation) == (None, None)
        await asyncio.sleep(lookup.wait)
        assert (await store.get()).generation == 3
        # The token is put where others find it, however long that takes within the lease.
        await store.put(3, "fresh", 3600.0)

    away = SharedLimitUnavailableError("no answer")
    script = Script([away, FETCH, away, away])
    over(script, main)
    assert [ask.action for ask in script.asked] == ["get", "get", "put", "put", "put"]
    assert len(caplog.records) == 4


def test_a_put_that_never_gets_through_ends_with_the_lease() -> None:
    async def main(store: SharedTokenStore) -> None:
        await store.get()
        await store.put(3, "fresh", 3600.0)
        assert asyncio.get_running_loop().time() == pytest.approx(LEASE, abs=1)
        assert (await store.get()).token == "fresh"

    over(Script([FETCH, *[SharedLimitUnavailableError("no answer")] * 10_000]), main)


class SlowTokens(MemoryStore):
    """Lets everybody fetch tokens."""

    def connect(self) -> SlowConnection:  # type: ignore[override]
        return SlowConnection(self)


@dataclass
class SlowConnection:
    store: SlowTokens

    async def turn(self, ask: Ask) -> Turn:
        return self.store.turn(ask)

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        return FETCH if ask.action == "get" else BearerTurn("done")

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("sim_options", [{"auth_mode": "TOKEN_AUTH"}])
async def test_a_grant_that_got_old_while_a_token_was_fetched_is_given_back(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ozonetel_async.sending.shared.window._FRESH", 0.1)
    store = SlowTokens()
    sim.inject("token", Fault.slow(0.3))
    limits: Limits = fast_limits(add=RateLimit(5, WINDOW))
    async with OzonetelClient(
        sim.api_key,
        sim.username,
        auth="token",
        base_url=sim.base_url,
        dialer_url=sim.dialer_url,
        limits=limits,
        shared=store,
    ) as client:
        await client.add_lead("Diwali", Lead("919812345678"))
        # The first grant came back unused, and another one was sent on.
        told = dict(pair for ask in store.asks for pair in ask.concluded)
        assert told == {0: 0}
        assert store.asks[-1].first == 1
    assert sim.arrivals("add") == 1
