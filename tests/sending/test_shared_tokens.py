"""The shared bearer token: sealed in the store, fetched by one process, and what a slow fetch means to a grant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from ozonetel_async import (
    ConfigurationError,
    ConnectError,
    Lead,
    Limits,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    QueueTimeoutError,
    RateLimit,
    SharedLimitUnavailableError,
)
from ozonetel_async.sending.bearer_tokens import RENEW_AT
from ozonetel_async.sending.shared import MICROSECONDS, Ask, BearerAsk, BearerTurn, Turn
from ozonetel_async.sending.shared_tokens import SharedTokens, seal, unseal
from ozonetel_async.sending.shared_window import StoreWatch
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.testing.clock import run_virtual

from ..conftest import WINDOW, fast_limits
from .conftest import MemoryStore

T = TypeVar("T")

TIMEOUT = 60.0
MARGIN = 5.0


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
    first_use = "go"
    timeout = 1.0

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


def shared(script: Script, fetch: Callable[[], Awaitable[str]]) -> SharedTokens:
    return SharedTokens(
        fetch,
        store=script,  # type: ignore[arg-type]
        key="account:token",
        secret="secret",
        limit=RateLimit(10, 3600.0),
        timeout=TIMEOUT,
        transit_margin=MARGIN,
        watch=StoreWatch(),
    )


def in_virtual_time(script: Script, fetch: Callable[[], Awaitable[str]]) -> str:
    async def main() -> str:
        tokens = shared(script, fetch)
        try:
            return await tokens.get()
        finally:
            await tokens.close()
            assert script.closed

    return run_virtual(main(), debug=False)


async def fetched() -> str:
    await asyncio.sleep(1.0)
    return "fresh"


async def never() -> str:
    raise AssertionError("not to be fetched")


def test_whoever_may_fetch_puts_the_token_where_the_others_find_it() -> None:
    script = Script([FETCH])
    assert in_virtual_time(script, fetched) == "fresh"
    get, put = script.asked
    assert (get.action, get.fetches, get.per) == ("get", 10, 3_600 * MICROSECONDS)
    assert get.lease == (TIMEOUT + MARGIN) * MICROSECONDS
    assert (put.action, put.generation, unseal(put.token, "secret")) == ("put", 3, "fresh")
    # The token lives from before its fetch, not from the moment at which the store hears of it.
    assert put.life == pytest.approx(3599 * MICROSECONDS, rel=1e-5)
    assert put.renew == pytest.approx((3600 * RENEW_AT - 1) * MICROSECONDS, rel=1e-5)


def test_a_token_of_another_process_is_used_as_long_as_the_store_says() -> None:
    script = Script([BearerTurn("wait", wait=MICROSECONDS), BearerTurn("token", seal("theirs", "secret"), 1, 5)])
    assert in_virtual_time(script, never) == "theirs"


def test_a_token_sealed_with_another_key_is_dropped_and_fetched() -> None:
    foreign = seal("theirs", "an older key")
    script = Script([BearerTurn("token", foreign, 1, 5), BearerTurn("done"), FETCH])
    assert in_virtual_time(script, fetched) == "fresh"
    assert [ask.action for ask in script.asked] == ["get", "drop", "get", "put"]
    assert script.asked[1].token == foreign


@pytest.mark.parametrize(
    ("failure", "kind", "unsent"),
    [
        (ConnectError("no connection"), ConnectError, True),
        (OutcomeUnknownError("no answer"), ConnectError, False),
        (TimeoutError(), ConnectError, False),
    ],
)
def test_a_fetch_that_fails_lets_the_next_one_try(failure: Exception, kind: type[Exception], unsent: bool) -> None:
    async def fetch() -> str:
        if isinstance(failure, TimeoutError):
            await asyncio.sleep(TIMEOUT + 1)
        raise failure

    script = Script([FETCH])
    with pytest.raises(kind) as caught:
        in_virtual_time(script, fetch)
    assert isinstance(caught.value, OzonetelError)
    assert caught.value.outcome == "not_sent"
    fail = script.asked[-1]
    assert (fail.action, fail.generation, fail.unsent) == ("fail", 3, unsent)


def test_a_fetch_that_is_cancelled_is_given_up() -> None:
    script = Script([FETCH])

    async def main() -> None:
        tokens = shared(script, fetched)
        task = asyncio.create_task(tokens.get())
        await asyncio.sleep(0.5)
        await tokens.close()
        with pytest.raises(ConfigurationError, match="closed"):
            await task

    run_virtual(main(), debug=False)
    assert [ask.action for ask in script.asked] == ["get", "fail"]


def test_with_no_fetch_left_the_wait_is_told() -> None:
    with pytest.raises(QueueTimeoutError, match="all 10 bearer tokens") as caught:
        in_virtual_time(Script([BearerTurn("spent", wait=600 * MICROSECONDS)]), never)
    assert (caught.value.endpoint, caught.value.retry_after) == ("token", 600.0)


def test_a_short_wait_for_the_next_fetch_is_waited() -> None:
    assert in_virtual_time(Script([BearerTurn("spent", wait=30 * MICROSECONDS), FETCH]), fetched) == "fresh"


def test_a_store_that_is_away_is_tried_until_the_time_is_up() -> None:
    away = SharedLimitUnavailableError("no answer")
    assert in_virtual_time(Script([away, away, FETCH]), fetched) == "fresh"
    script = Script([away] * 10_000)
    with pytest.raises(SharedLimitUnavailableError):
        in_virtual_time(script, never)
    assert len(script.asked) < 1_000


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
    monkeypatch.setattr("ozonetel_async.sending.shared_window._FRESH", 0.1)
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
