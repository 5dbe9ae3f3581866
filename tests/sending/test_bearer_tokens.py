"""The holder against a fake service on the virtual clock: no socket, no waiting."""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import urlsafe_b64encode
from collections.abc import Coroutine
from typing import Any

import pytest

from ozonetel_async.errors import AuthenticationError, ConfigurationError, OzonetelError
from ozonetel_async.sending.bearer_tokens import TokenHolder, token_life
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

    async def __call__(self) -> str:
        self.fetches += 1
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


def run(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main, debug=True)


async def spin(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_a_hundred_callers_share_one_fetch() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
        assert holder.current is None
        tokens = await asyncio.gather(*(holder.get() for _ in range(100)))
        assert set(tokens) == {"token-1"}
        assert await holder.get() == "token-1"
        assert service.fetches == 1
        assert holder.current == "token-1"

    run(main())


def test_callers_that_come_during_the_fetch_join_it() -> None:
    async def main() -> None:
        service = Service(delay=10)
        holder = TokenHolder(service)

        async def later(delay: float) -> str:
            await asyncio.sleep(delay)
            return await holder.get()

        assert set(await asyncio.gather(*(later(delay) for delay in (0, 1, 5, 9.99, 10.01, 11)))) == {"token-1"}
        assert service.fetches == 1

    run(main())


def test_a_cancelled_starter_does_not_hurt_the_others() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
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
        holder = TokenHolder(Service(delay=10))

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
        holder = TokenHolder(service)
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

        async def fetch() -> str:
            nonlocal fetches
            fetches += 1
            await asyncio.sleep(5)
            return f"opaque-{fetches}" if life is None else jwt({"iat": 1_000, "exp": 1_000 + life})

        holder = TokenHolder(fetch)
        await holder.get()
        loop = asyncio.get_running_loop()
        # Counted from before the fetch: when in it the service made the token, nobody here knows.
        await asyncio.sleep(good_until - 1 - loop.time())
        await holder.get()
        assert fetches == 1
        await asyncio.sleep(good_until + 0.01 - loop.time())
        await holder.get()
        assert fetches == 2

    run(main())


def test_a_hundred_callers_share_one_renewal() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
        await holder.get()
        await asyncio.sleep(3_600)
        assert set(await asyncio.gather(*(holder.get() for _ in range(100)))) == {"token-2"}
        assert service.fetches == 2

    run(main())


def test_dropping_the_token_makes_the_next_caller_fetch() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
        holder.drop(await holder.get())
        assert holder.current is None
        assert await holder.get() == "token-2"

    run(main())


def test_dropping_an_old_token_keeps_the_newer_one() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
        old = await holder.get()
        holder.drop(old)
        new = await holder.get()
        # A hundred requests went out with the old one, and each refusal of it comes back by itself.
        for _ in range(100):
            holder.drop(old)
        assert holder.current == new
        assert await holder.get() == new
        assert service.fetches == 2

    run(main())


def test_dropping_the_old_token_during_a_fetch_does_not_start_another() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
        old = await holder.get()
        holder.drop(old)
        first = asyncio.create_task(holder.get())
        await spin()
        holder.drop(old)
        assert set(await asyncio.gather(first, holder.get())) == {"token-2"}
        assert service.fetches == 2

    run(main())


def test_a_failure_reaches_everybody_and_the_next_call_tries_again() -> None:
    async def main() -> None:
        service = Service()
        service.failures = [AuthenticationError("Invalid userName or apiKey", endpoint="token")]
        holder = TokenHolder(service)
        results = await asyncio.gather(*(holder.get() for _ in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {AuthenticationError}
        assert service.fetches == 1
        assert holder.current is None
        assert await holder.get() == "token-2"

    run(main())


def test_a_caller_that_asks_again_at_once_gets_a_new_fetch() -> None:
    async def main() -> None:
        service = Service()
        service.failures = [OzonetelError("first")]
        holder = TokenHolder(service)

        async def stubborn() -> str:
            try:
                return await holder.get()
            except OzonetelError:
                return await holder.get()

        assert await asyncio.gather(*(stubborn() for _ in range(10))) == ["token-2"] * 10
        assert service.fetches == 2

    run(main())


def test_a_failure_that_nobody_waits_for_is_not_complained_about() -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        service = Service()
        service.failures = [OzonetelError("nobody hears this")]
        holder = TokenHolder(service)
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
        holder = TokenHolder(Service())
        await holder.close()
        await holder.get()
        await holder.close()
        await holder.close()

    run(main())


def test_close_stops_the_fetch_and_leaves_no_task() -> None:
    async def main() -> None:
        service = Service()
        holder = TokenHolder(service)
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
        holder = TokenHolder(Service())
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
