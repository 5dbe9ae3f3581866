"""Queues of several processes over a store in memory, on the virtual clock, judged by an exact server."""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from ozonetel_async import ConfigurationError, QueueTimeoutError, RateLimit, SharedLimitUnavailableError
from ozonetel_async.sending.queue import RateQueue, Slot
from ozonetel_async.sending.shared.window import SharedWindow, StoreWatch
from ozonetel_async.sending.window import LocalWindow
from ozonetel_async.testing.clock import run_virtual

from ..conftest import MemoryStore, loop_time

PER = 60.0
MARGIN = 5.0
TIMEOUT = 20.0


@dataclass
class Process:
    """One process: its queue, and the pump behind it."""

    queue: RateQueue
    window: SharedWindow

    async def close(self) -> None:
        self.queue.close()
        await self.window.finish()


def process(store: Any, requests: int = 5, per: float = PER, burst: int | None = None) -> Process:
    limit = RateLimit(requests, per, burst)
    window = SharedWindow(
        "add",
        limit,
        LocalWindow(limit, MARGIN, "add"),
        store=store,
        key="account:add",
        transit_margin=MARGIN,
        timeout=TIMEOUT,
        watch=StoreWatch(),
        clock=loop_time,
    )
    return Process(RateQueue("add", limit, transit_margin=MARGIN, window=window), window)


@asynccontextmanager
async def processes(store: Any, number: int, **options: Any) -> AsyncIterator[list[RateQueue]]:
    made = [process(store, **options) for _ in range(number)]
    yield [one.queue for one in made]
    for one in made:
        await one.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def alone() -> None:
        await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(alone(), debug=False)


def state(queue: RateQueue) -> str:
    assert queue.store is not None
    return queue.store.state


async def take(queue: RateQueue, starts: list[float], latency: float = 0.1, **options: Any) -> None:
    slot = await queue.acquire(**options)
    starts.append(loop_time())
    await asyncio.sleep(latency)
    slot.answered()


# -- a world of random callers, processes and faults ------------------------------------------------------------------


@dataclass
class World:
    """Processes that send with random fates, over a store that fails, to a server that counts exactly."""

    rng: random.Random
    requests: int
    store: MemoryStore
    log: deque[float] = field(default_factory=deque)
    refusals: int = 0
    arrivals: int = 0
    under_way: set[asyncio.TimerHandle] = field(default_factory=set)

    def arrive(self) -> None:
        now = loop_time()
        while self.log and now - self.log[0] >= PER:
            self.log.popleft()
        self.log.append(now)
        self.arrivals += 1
        self.refusals += len(self.log) > self.requests

    async def call(self, queue: RateQueue) -> None:
        rng, loop = self.rng, asyncio.get_running_loop()
        slot: Slot | None = None
        while True:
            slot = await queue.acquire(rng.choice((0, 0, 1)), after=slot)
            # What a dispatcher does between its turn and its request, which may take long.
            try:
                await asyncio.sleep(rng.choice((0, 0, 0, 0.5, 4.0)))
            except BaseException:
                slot.unsent()
                raise
            if loop.time() <= slot.good_until:
                break
            slot.unsent()
        if rng.random() < 0.1:
            slot.unsent()
            return
        await self.send(slot)

    async def send(self, slot: Slot) -> None:
        rng, loop = self.rng, asyncio.get_running_loop()
        out, back = (min(rng.lognormvariate(-1, 1.2), 30.0) for _ in range(2))
        there = loop.call_later(out, self.arrive)
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.sleep(out + back)
            slot.answered()
        except BaseException as error:
            if there.when() > loop.time():
                there.cancel()
                loop.call_later(min(there.when() - loop.time(), rng.uniform(0, MARGIN)), self.arrive)
            slot.lost()
            if not isinstance(error, TimeoutError):
                raise

    async def disturb(self) -> None:
        """One fault after the other, each of those that a store may have."""
        rng, store = self.rng, self.store
        while True:
            await asyncio.sleep(rng.expovariate(1 / 50))
            fault = rng.choice(("lose", "away", "back", "ahead", "run", "answers"))
            if fault == "lose":
                store.lose_everything()
            elif fault == "away":
                store.away = True
                await asyncio.sleep(rng.expovariate(1 / 20))
                store.away = False
            elif fault == "back":
                store.shift -= rng.choice((1.0, 3600.0))
            elif fault == "ahead":
                store.shift += rng.choice((1.0, 3600.0))
            elif fault == "run":
                store.run += 1
            else:
                store.loses = lambda: rng.random() < 0.3
                await asyncio.sleep(rng.expovariate(1 / 20))
                store.loses = lambda: False


@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_random_worlds(block: int, faults: bool) -> None:
    """No refusal, no caller and no task lost, whatever the store does and whoever is cancelled."""

    async def one(seed: int) -> None:
        rng = random.Random(seed)
        requests = rng.choice((1, 2, 5, 8))
        store = MemoryStore(latency=lambda: rng.uniform(0, 0.05))
        world = World(rng, requests, store)
        async with processes(store, rng.choice((1, 2, 4)), requests=requests) as queues:
            for queue in queues:
                # Who has never heard of the store cannot see that it has lost something, or that its clock has jumped.
                (await queue.acquire()).unsent()
            disturber = asyncio.create_task(world.disturb()) if faults else None
            tasks = []
            for _ in range(rng.randrange(1, 6 * requests + 8)):
                task = asyncio.create_task(world.call(rng.choice(queues)))
                tasks.append(task)
                if rng.random() < 0.2:
                    asyncio.get_running_loop().call_later(rng.expovariate(1 / 40), task.cancel)
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.expovariate(1 / 20))
            async with asyncio.timeout(100_000):
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            if disturber is not None:
                disturber.cancel()
                await asyncio.wait({disturber})
        assert world.refusals == 0, seed
        assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), seed

    async def several() -> None:
        for seed in range(block * 25, block * 25 + 25):
            await one(seed)

    run(several())


def test_without_faults_the_limit_is_used() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 4) as queues:
            await asyncio.gather(*(take(queue, starts) for queue in queues for _ in range(10)))
        assert starts[-1] < 7 * (PER + 0.1) * 1.01
        assert store.turns < 3 * 40

    run(main())


# -- what the pump does -----------------------------------------------------------------------------------------------


def test_the_ends_of_several_requests_become_one_turn() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 1, requests=50) as (queue,):
            await asyncio.gather(*(take(queue, starts) for _ in range(50)))
            await asyncio.sleep(1)
            assert [len(ask.concluded) for ask in store.asks if ask.concluded] == [50]

    run(main())


def test_a_grant_is_used_within_moments_or_given_back() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with processes(store, 1) as (queue,):
            slot = await queue.acquire()
            asked = slot.good_until
            assert 0 < asked - loop_time() <= 2.0
            slot.unsent()
            await asyncio.sleep(0.1)
            assert store.asks[-1].concluded == ((0, 0),)
            assert queue.free == 5

    run(main())


def test_an_answer_that_comes_too_late_brings_no_grant_that_may_be_used() -> None:
    async def main() -> None:
        store, starts = MemoryStore(latency=lambda: 1.5), list[float]()
        async with processes(store, 1) as (queue,):
            task = asyncio.create_task(take(queue, starts))
            await asyncio.sleep(20)
            assert starts == []
            store.latency = lambda: 0.001
            await task

    run(main())


def test_a_cancelled_caller_leaves_the_line() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 2) as (one, other):
            await asyncio.gather(*(take(one, starts) for _ in range(5)))
            task = asyncio.create_task(take(one, starts))
            await asyncio.sleep(10)
            task.cancel()
            await take(other, starts)
            assert starts[-1] == pytest.approx(PER + 0.1, abs=0.5)

    run(main())


def test_what_is_granted_to_callers_that_have_gone_comes_back_at_once() -> None:
    async def main() -> None:
        store, starts = MemoryStore(latency=lambda: 0.1), list[float]()
        async with processes(store, 2) as (one, other):
            tasks = [asyncio.create_task(one.acquire()) for _ in range(5)]
            await asyncio.sleep(0.15)  # the store has granted, and its answer is on its way
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0.5)
            await asyncio.gather(*(take(other, starts) for _ in range(5)))
            assert starts[-1] < 1.0

    run(main())


def test_one_warning_tells_of_all_queues(caplog: pytest.LogCaptureFixture) -> None:
    watch = StoreWatch()
    for _ in range(2):
        watch.gone("add", "no answer")
        watch.gone("bulk", "no answer")
    watch.back("add")
    watch.back("bulk")
    watch.back("bulk")
    assert ["away" in record.message for record in caplog.records] == [True, False]


def test_a_process_tells_of_its_requests_under_way_after_a_loss() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with processes(store, 1) as (queue,):
            slots = [await queue.acquire() for _ in range(3)]
            store.lose_everything()
            # Without a caller, too: before the hold that follows the loss is over.
            await asyncio.sleep((PER + MARGIN) / 3 + 0.1)
            held = store.queues["account:add"].held
            assert sorted(number for _, number in held) == [0, 1, 2]
            for slot in slots:
                slot.answered()

    run(main())


def test_closing_gives_everything_back() -> None:
    async def main() -> None:
        store = MemoryStore()
        one = process(store)
        slot = await one.queue.acquire()
        waiting = [asyncio.create_task(one.queue.acquire()) for _ in range(9)]
        await asyncio.sleep(1)
        await one.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(outcome, ConfigurationError) for outcome in outcomes) == 5
        # Those that nobody concluded count as lost now; nobody stands in line any more.
        held = store.queues["account:add"].held
        assert len(held) == 5
        now = store.queues["account:add"].at
        assert all(back - now <= (PER * 1.002 + MARGIN) * 1_000_000 for back in held.values())
        assert store.queues["account:add"].line == {}
        slot.answered()

    run(main())


def test_closing_while_the_store_is_away_does_not_wait_for_it() -> None:
    async def main() -> None:
        store = MemoryStore()
        one = process(store)
        slot = await one.queue.acquire()
        store.away = True
        task = asyncio.create_task(one.queue.acquire())
        await asyncio.sleep(10)
        begin = loop_time()
        await one.close()
        assert loop_time() - begin <= 2 * store.timeout
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], ConfigurationError)
        slot.answered()

    run(main())


def test_a_process_that_never_asked_has_nothing_to_close() -> None:
    async def main() -> None:
        await process(MemoryStore()).close()

    run(main())


def test_a_store_that_is_away_is_told_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 1) as (queue,):
            await take(queue, starts)
            store.away = True
            with pytest.raises(SharedLimitUnavailableError, match="away") as caught:
                await take(queue, starts, max_wait=30.0)
            assert caught.value.message == (
                "expected a place within max_wait=30 s, got none: the shared store is away, and nothing is sent until "
                "it answers"
            )
            assert (caught.value.outcome, caught.value.retry_after) == ("not_sent", 1.0)
            assert state(queue) == "away"
            store.away = False
            # It comes back without a caller.
            await asyncio.sleep(10)
            assert state(queue) == "ok"
            await take(queue, starts, max_wait=30.0)

    run(main())
    assert [record.message.partition(":")[0].split(" after")[0] for record in caplog.records] == [
        "the shared store is away, requests wait for it",
        "the shared store is back",
    ]


def test_while_it_holds_callers_are_told_until_when() -> None:
    async def main() -> None:
        store, starts = MemoryStore(first_use="hold"), list[float]()
        async with processes(store, 1) as (queue,):
            task = asyncio.create_task(take(queue, starts))
            await asyncio.sleep(1)
            with pytest.raises(SharedLimitUnavailableError, match="holds") as caught:
                await take(queue, starts, max_wait=10.0)
            assert re.fullmatch(
                r"expected a place within max_wait=10 s, got none: the shared store holds all requests for [\d.]+ s "
                r"more \(its state was new or lost\)",
                caught.value.message,
            )
            assert caught.value.retry_after == pytest.approx(PER + MARGIN - 1, abs=1)
            assert queue.next_free_in == pytest.approx(PER + MARGIN - 1, abs=0.1)
            await task
            assert starts[0] >= PER + MARGIN

    run(main())


def test_a_caller_whose_best_case_is_too_late_is_refused_at_once() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 2) as (one, other):
            await asyncio.gather(*(take(one, starts) for _ in range(5)))
            tasks = [asyncio.create_task(take(other, starts)) for _ in range(6)]
            await asyncio.sleep(1)
            begin = loop_time()
            with pytest.raises(QueueTimeoutError) as caught:
                await other.acquire(max_wait=PER / 2)
            assert type(caught.value) is QueueTimeoutError
            assert loop_time() == begin
            await asyncio.gather(*tasks)

    run(main())


def test_a_caller_that_the_store_grants_nothing_in_time_is_told_so() -> None:
    async def main() -> None:
        async with processes(MemoryStore(latency=lambda: 0.2), 1) as (queue,):
            with pytest.raises(QueueTimeoutError, match="got none: the shared store has granted none in that time"):
                await queue.acquire(max_wait=0.1)

    run(main())


def test_callers_that_ran_out_of_patience_are_told_when_the_store_has_room() -> None:
    async def main() -> None:
        store, starts = MemoryStore(latency=lambda: 0.1), list[float]()
        async with processes(store, 2) as (one, other):
            await asyncio.gather(*(take(one, starts) for _ in range(5)))
            # The first two come before the store has said anything, the third after that: it does not wait in vain.
            first = [asyncio.create_task(other.acquire(max_wait=0.5)) for _ in range(2)]
            await asyncio.wait(first)
            began = loop_time()
            with pytest.raises(QueueTimeoutError) as last:
                await other.acquire(max_wait=0.5)
            assert loop_time() == began
            for error in (*(task.exception() for task in first), last.value):
                assert isinstance(error, QueueTimeoutError)
                assert error.retry_after == pytest.approx(PER, abs=1.0)
            # A higher priority is worth another ask: it may get what a lower one would not.
            task = asyncio.create_task(other.acquire(1, max_wait=0.5))
            await asyncio.wait([task])
            assert loop_time() == pytest.approx(began + 0.5)
            assert isinstance(task.exception(), QueueTimeoutError)

    run(main())


def test_a_pause_of_one_holds_for_all_and_spacing_is_each_ones_own() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 2) as (one, other):
            slot = await one.acquire()
            slot.refused(30.0)
            await asyncio.sleep(0.1)
            await take(other, starts)
            assert starts[0] >= 30.0
            assert other.pace == 1.0

    run(main())


def test_spacing_asks_for_one_token_at_a_time() -> None:
    async def main() -> None:
        store, starts = MemoryStore(), list[float]()
        async with processes(store, 1, burst=1) as (queue,):
            await asyncio.gather(*(take(queue, starts) for _ in range(5)))
        gaps = [later - earlier for earlier, later in pairwise(starts)]
        assert gaps == [pytest.approx(PER / 5, abs=0.1)] * 4

    run(main())


def test_a_store_that_breaks_its_contract_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryStore):
        def turn(self, ask: Any) -> Any:
            raise KeyError("a bug")

    async def main() -> None:
        async with processes(Broken(), 1) as (queue,):
            with pytest.raises(ConfigurationError, match="KeyError"):
                await queue.acquire()

    run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_callers_that_are_turned_away_leave_nothing_behind() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with processes(store, 1) as (one,), processes(store, 1, requests=6) as (other,):
            slot = await one.acquire()
            tasks = [asyncio.create_task(other.acquire()) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(outcomes[0], asyncio.CancelledError)
            assert {type(outcome) for outcome in outcomes[1:]} == {ConfigurationError}
            assert other.waiting == 0
            slot.unsent()
            await asyncio.sleep(2)
            (await other.acquire()).unsent()

    run(main())
