"""The holder against a fake service on the virtual clock: no socket, no waiting."""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ozonetel_async.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    OutcomeUnknownError,
    OzonetelError,
    QueueTimeoutError,
)
from ozonetel_async.sending.bearer_tokens import LocalTokenStore, TokenHolder, token_life
from ozonetel_async.testing.clock import run_virtual


def jwt(claims: object, header: str = "e30") -> str:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{header}.{payload}.c2ln"


class Service:
    """Hands out numbered tokens after ``delay`` seconds, or fails with what is queued in ``failures``."""

    def __init__(self, delay: float = 1.0) -> None:
        self.delay = delay
        self.fetches = 0
        self.under_way = 0
        self.failures: list[Exception] = []
        self.fetched_at: list[float] = []
        self.leaves = True

    async def __call__(self, leaving: Callable[[bool], None]) -> str:
        self.fetches += 1
        self.fetched_at.append(asyncio.get_running_loop().time())
        if self.leaves:
            leaving(True)
        self.under_way += 1
        assert self.under_way == 1, "two fetches at once: the second token would kill the first"
        number = self.fetches
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.under_way -= 1
        if self.failures:
            raise self.failures.pop(0)
        return f"token-{number}"


def hold(fetch: Callable[[Callable[[bool], None]], Coroutine[Any, Any, str]]) -> TokenHolder:
    """A holder with the documented limit, which is never reached."""
    return TokenHolder(fetch, LocalTokenStore(lambda: 0.0), 3600.0, 4)


def run(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main, debug=True)


async def spin(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_a_hundred_callers_share_one_fetch() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        tokens = await asyncio.gather(*(holder.get() for _ in range(100)))
        assert set(tokens) == {"token-1"}
        assert await holder.get() == "token-1"
        assert service.fetches == 1

    run(main())


def test_callers_that_come_during_the_fetch_join_it() -> None:
    async def main() -> None:
        service = Service(delay=10)
        holder = hold(service)

        async def later(delay: float) -> str:
            await asyncio.sleep(delay)
            return await holder.get()

        assert set(await asyncio.gather(*(later(delay) for delay in (0, 1, 5, 9.99, 10.01, 11)))) == {"token-1"}
        assert service.fetches == 1

    run(main())


def test_a_cancelled_starter_does_not_hurt_the_others() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        starter = asyncio.create_task(holder.get())
        await spin()
        others = [asyncio.create_task(holder.get()) for _ in range(5)]
        await spin()
        starter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starter
        assert await asyncio.gather(*others) == ["token-1"] * 5
        assert service.fetches == 1

    run(main())


def test_a_timeout_of_the_starter_does_not_hurt_the_others() -> None:
    async def main() -> None:
        holder = hold(Service(delay=10))

        async def impatient() -> None:
            async with asyncio.timeout(1):
                await holder.get()

        starter = asyncio.create_task(impatient())
        await spin()
        other = asyncio.create_task(holder.get())
        with pytest.raises(TimeoutError):
            await starter
        assert await other == "token-1"

    run(main())


def test_a_fetch_that_everybody_left_still_counts() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        starter = asyncio.create_task(holder.get())
        await spin()
        starter.cancel()
        await asyncio.sleep(2)
        assert await holder.get() == "token-1"
        assert service.fetches == 1

    run(main())


@pytest.mark.parametrize(("life", "good_until"), [(None, 3240.0), (600, 540.0), (36_000, 32_400.0)])
def test_a_token_is_renewed_ahead_of_its_expiry(life: int | None, good_until: float) -> None:
    async def main() -> None:
        fetches = 0

        async def fetch(leaving: Callable[[bool], None]) -> str:
            nonlocal fetches
            fetches += 1
            leaving(True)
            await asyncio.sleep(5)
            return f"opaque-{fetches}" if life is None else jwt({"iat": 1_000, "exp": 1_000 + life})

        holder = hold(fetch)
        await holder.get()
        loop = asyncio.get_running_loop()
        # Counted from before the fetch: when in it the service made the token, nobody here knows.
        await asyncio.sleep(good_until - 1 - loop.time())
        await holder.get()
        assert fetches == 1
        await asyncio.sleep(good_until + 0.01 - loop.time())
        await holder.get()
        await spin()
        assert fetches == 2

    run(main())


def test_a_hundred_callers_share_one_renewal() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        await holder.get()
        await asyncio.sleep(3_600)
        assert set(await asyncio.gather(*(holder.get() for _ in range(100)))) == {"token-2"}
        assert service.fetches == 2

    run(main())


def test_dropping_the_token_makes_the_next_caller_fetch() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        await holder.drop(await holder.get())
        assert await holder.get() == "token-2"

    run(main())


def test_dropping_an_old_token_keeps_the_newer_one() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        old = await holder.get()
        await holder.drop(old)
        new = await holder.get()
        # A hundred requests went out with the old one, and each refusal of it comes back by itself.
        for _ in range(100):
            await holder.drop(old)
        assert await holder.get() == new
        assert service.fetches == 2

    run(main())


def test_dropping_the_old_token_during_a_fetch_does_not_start_another() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        old = await holder.get()
        await holder.drop(old)
        first = asyncio.create_task(holder.get())
        await spin()
        await holder.drop(old)
        assert set(await asyncio.gather(first, holder.get())) == {"token-2"}
        assert service.fetches == 2

    run(main())


def test_a_refusal_reaches_everybody_and_is_not_asked_for_again_at_once() -> None:
    async def main() -> None:
        service = Service()
        service.failures = [AuthenticationError("Invalid userName or apiKey", endpoint="token")]
        holder = hold(service)
        for _ in range(3):
            results = await asyncio.gather(*(holder.get() for _ in range(50)), return_exceptions=True)
            assert {type(result) for result in results} == {AuthenticationError}
        assert service.fetches == 1
        await asyncio.sleep(2)
        assert await holder.get() == "token-2"

    run(main())


def test_a_fetch_that_never_left_is_told_at_once_and_costs_nothing() -> None:
    async def main() -> None:
        service = Service()
        service.failures = [ConnectError("no connection") for _ in range(20)]
        holder = hold(service)
        for _ in range(20):
            with pytest.raises(ConnectError):
                await holder.get()
        assert await holder.get() == "token-21"

    run(main())


def test_an_outage_of_the_token_endpoint_leaves_tokens_for_later() -> None:
    """Ten fetches in the first second of an outage meant an hour without tokens."""

    async def main() -> None:
        service = Service(delay=0.0)
        holder = hold(service)
        service.failures = [OutcomeUnknownError("502")]
        assert await asyncio.gather(*(holder.get() for _ in range(20))) == ["token-2"] * 20
        assert service.fetches == 2

        await holder.drop("token-2")
        service.failures = [OutcomeUnknownError("502") for _ in range(1000)]
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun + 3600:
            with pytest.raises(ConnectError, match="no token: 502"):
                await holder.get()
        after = [at - begun for at in service.fetched_at[2:]]
        assert len([at for at in after if at < 3600]) < 10
        assert len([at for at in after if at < 500]) >= 5

    run(main())


def test_a_caller_is_told_after_as_many_failed_fetches_as_attempts_to_connect() -> None:
    async def main() -> None:
        service = Service()
        service.failures = [OutcomeUnknownError("502") for _ in range(4)]
        holder = hold(service)
        with pytest.raises(ConnectError) as caught:
            await holder.get()
        assert (service.fetches, caught.value.outcome) == (4, "not_sent")

    run(main())


def test_the_rate_limit_of_tokens_is_waited_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        service = Service()
        holder = TokenHolder(service, LocalTokenStore(lambda: max(0.0, 1800.0 - loop.time())), 3600.0, 4)
        with pytest.raises(QueueTimeoutError, match=r"1\.8e"):
            await holder.get(deadline=loop.time() + 60)
        assert service.fetches == 0
        assert loop.time() < 1
        assert await holder.get() == "token-1"
        assert service.fetched_at[0] >= 1800

    run(main())


def test_a_deadline_holds_while_a_token_is_fetched() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        holder = hold(Service(delay=3))
        with pytest.raises(QueueTimeoutError) as caught:
            await holder.get(deadline=loop.time() + 0.5)
        assert caught.value.outcome == "not_sent"
        assert 0.5 <= loop.time() < 0.6
        assert await holder.get(deadline=loop.time() + 5) == "token-1"

    run(main())


def test_the_old_token_serves_until_the_request_for_the_new_one_has_left() -> None:
    async def main() -> None:
        leave, arrive = asyncio.Event(), asyncio.Event()
        fetches = 0

        async def fetch(leaving: Callable[[bool], None]) -> str:
            nonlocal fetches
            fetches += 1
            if fetches > 1:
                await leave.wait()
                leaving(True)
                await arrive.wait()
            return f"token-{fetches}"

        holder = hold(fetch)
        await holder.get()
        await asyncio.sleep(3300)
        for _ in range(5):
            assert await holder.get() == "token-1"
            await spin()
        assert fetches == 2
        leave.set()
        await spin()
        waiting = asyncio.create_task(holder.get())
        await spin()
        assert not waiting.done()
        with pytest.raises(QueueTimeoutError):
            await holder.get(deadline=asyncio.get_running_loop().time() + 1)
        arrive.set()
        assert await waiting == "token-2"

    run(main())


def test_the_old_token_serves_after_a_renewal_that_failed() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        await holder.get()
        await asyncio.sleep(3300)
        service.failures = [OutcomeUnknownError("502")]
        assert await holder.get() == "token-1"
        await asyncio.sleep(1)
        assert await holder.get() == "token-1"
        await asyncio.sleep(10)
        await holder.get()
        await asyncio.sleep(2)
        assert await holder.get() == "token-3"

    run(main())


def test_two_tokens_refused_within_a_minute_mean_another_program() -> None:
    async def main() -> None:
        service = Service(delay=0.0)
        holder = hold(service)
        await holder.drop(await holder.get())
        await holder.drop(await holder.get())
        for _ in range(50):
            with pytest.raises(AuthenticationError, match="another program takes tokens for this account") as caught:
                await holder.get()
        assert (service.fetches, caught.value.outcome) == (2, "refused")
        await asyncio.sleep(60)
        assert await holder.get() == "token-3"

    run(main())


def test_two_clients_of_one_account_leave_most_of_its_tokens() -> None:
    """They burned the ten tokens of an hour in 0.18 s."""

    async def main() -> None:
        issued = 0

        async def fetch(leaving: Callable[[bool], None]) -> str:
            nonlocal issued
            issued += 1
            number = issued
            await asyncio.sleep(0.01)
            return f"token-{number}"

        async def use(holder: TokenHolder) -> None:
            for _ in range(100):
                token = await holder.get()
                await asyncio.sleep(0.01)
                if token != f"token-{issued}":
                    await holder.drop(token)

        results = await asyncio.gather(use(hold(fetch)), use(hold(fetch)), return_exceptions=True)
        assert any(isinstance(result, AuthenticationError) for result in results)
        assert issued <= 5

    run(main())


def test_a_refusal_that_does_not_name_the_token_replaces_it_once_and_not_again_for_a_while() -> None:
    async def main() -> None:
        service = Service(delay=0.0)
        holder = hold(service)
        for _ in range(5):
            while await holder.doubt(await holder.get()):
                pass
        assert service.fetches == 2

    run(main())


def test_a_failure_that_nobody_waits_for_is_not_complained_about() -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        service = Service()
        service.failures = [OzonetelError("nobody hears this")]
        holder = hold(service)
        starter = asyncio.create_task(holder.get())
        await spin()
        starter.cancel()
        await asyncio.sleep(2)
        del starter
        gc.collect()
        assert await holder.get() == "token-2"

    run(main())
    assert complaints == []


def test_close_without_and_after_a_fetch_does_nothing() -> None:
    async def main() -> None:
        await hold(Service()).close()
        holder = hold(Service())
        await holder.get()
        await holder.close()
        await holder.close()

    run(main())


def test_close_stops_the_fetch_and_leaves_no_task() -> None:
    async def main() -> None:
        service = Service()
        holder = hold(service)
        waiters = [asyncio.create_task(holder.get()) for _ in range(3)]
        await spin()
        await holder.close()
        assert service.under_way == 0
        results = await asyncio.gather(*waiters, return_exceptions=True)
        # Nobody cancelled them: a CancelledError would end their tasks without a word.
        assert {type(result) for result in results} == {ConfigurationError}
        assert all("closed" in str(result) for result in results)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_waiter_cancelled_while_the_holder_closes_stays_cancelled() -> None:
    async def main() -> None:
        holder = hold(Service())
        waiter = asyncio.create_task(holder.get())
        await spin()
        waiter.cancel()
        await holder.close()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run(main())


@pytest.mark.parametrize(
    ("token", "life"),
    [
        (jwt({"sub": "acme", "iat": 1_717_000_000, "exp": 1_717_003_600}), 3_600),
        (jwt({"iat": 1_000, "exp": 1_600}), 600),
        (jwt({"iat": 1_000.5, "exp": 1_600}), 599.5),
        (jwt({"iat": 1_600, "exp": 1_000}), 3_600),
        (jwt({"iat": 1_000, "exp": 1_000}), 3_600),
        (jwt({"exp": 1_000}), 3_600),
        (jwt({"iat": "a", "exp": "b"}), 3_600),
        (jwt([]), 3_600),
        (jwt({"iat": 1_000, "exp": 1_600}) + ".more", 3_600),
        ("opaque", 3_600),
        ("", 3_600),
        ("a.b.c", 3_600),
        ("a.é.c", 3_600),
        ("..", 3_600),
        ("a.!!!!.c", 3_600),
        ("a._____w.c", 3_600),
    ],
)
def test_a_tokens_life_is_read_from_its_claims_and_never_demanded(token: str, life: float) -> None:
    assert token_life(token) == life
