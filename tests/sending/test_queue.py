"""The queue on the virtual clock, judged by exact servers under random arrivals, latencies, fates and cancels."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import RateLimit
from ozonetel_async.errors import ConfigurationError, QueueFullError, QueueTimeoutError
from ozonetel_async.sending.queue import RateQueue, Slot
from ozonetel_async.testing.clock import VirtualTimeLoop, run_virtual

PER = 60.0
TRANSIT = 5.0


# -- exact servers, written without a look at the queue ---------------------------------------------------------------


class Sliding:
    """At most n in any (t - per, t]."""

    def __init__(self, n: int, per: float, _phase: float) -> None:
        self.n, self.per, self.log = n, per, deque[float]()

    def admits(self, t: float) -> bool:
        while self.log and t - self.log[0] >= self.per:
            self.log.popleft()
        self.log.append(t)
        return len(self.log) <= self.n


class Calendar:
    """At most n in each [k per, (k + 1) per), shifted by a phase."""

    def __init__(self, n: int, per: float, phase: float) -> None:
        self.n, self.per, self.phase, self.counts = n, per, phase, dict[int, int]()

    def admits(self, t: float) -> bool:
        window = int((t + self.phase) // self.per)
        self.counts[window] = self.counts.get(window, 0) + 1
        return self.counts[window] <= self.n


class FromFirst:
    """A window opens with the first request after the last one ended."""

    def __init__(self, n: int, per: float, _phase: float) -> None:
        self.n, self.per, self.opened, self.count = n, per, float("-inf"), 0

    def admits(self, t: float) -> bool:
        if t - self.opened >= self.per:
            self.opened, self.count = t, 0
        self.count += 1
        return self.count <= self.n


class TokenBucket:
    """A bucket of n that fills at n / per."""

    def __init__(self, n: int, per: float, _phase: float) -> None:
        self.n, self.per, self.tokens, self.last = n, per, float(n), 0.0

    def admits(self, t: float) -> bool:
        self.tokens = min(self.n, self.tokens + (t - self.last) * self.n / self.per) - 1
        self.last = t
        return self.tokens > -1e-9


JUDGES = (Sliding, Calendar, FromFirst, TokenBucket)


# -- a world of random callers ----------------------------------------------------------------------------------------


class Chaotic(RateQueue):
    """Calls ``meddle`` after each round of grants, that is between a grant and its waiter's resumption."""

    meddle: Callable[[], None] | None = None

    def _wake(self) -> None:
        super()._wake()
        if self.meddle is not None:
            self.meddle()


@dataclass
class World:
    """Callers with random fates against four exact servers at once."""

    rng: random.Random
    limit: RateLimit
    cancels: float
    judges: list[Sliding | Calendar | FromFirst | TokenBucket] = field(default_factory=list)
    pending: dict[int, tuple[int, float]] = field(default_factory=dict)  # waiting callers: priority, arrival
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)
    refusals: int = 0
    overtakings: int = 0
    finished: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        phase = self.rng.uniform(0, self.limit.per)
        self.judges = [judge(self.limit.requests, self.limit.per, phase) for judge in JUDGES]
        self.queue = Chaotic("world", self.limit, transit_margin=TRANSIT)
        self.queue.meddle = self.meddle

    def meddle(self) -> None:
        for number in list(self.pending):
            if self.rng.random() < self.cancels / 10:
                self.cancel(number)

    def cancel(self, number: int) -> None:
        if self.tasks[number].cancel():
            self.pending.pop(number, None)
            self.cancelled.add(number)

    def arrive(self, now: float) -> None:
        self.arrivals.append(now)
        self.refusals += sum(not judge.admits(now) for judge in self.judges)

    def check_order(self, number: int, priority: int, now: float) -> None:
        for other, (rank, since) in self.pending.items():
            ahead = rank > priority or (rank == priority and other < number)
            self.overtakings += ahead and since < now - 1e-3

    async def call(self, number: int, priority: int) -> None:
        loop = asyncio.get_running_loop()
        self.pending[number] = priority, loop.time()
        try:
            slot = await self.queue.acquire(priority)
        finally:
            self.pending.pop(number, None)
        self.check_order(number, priority, loop.time())
        await self.send(slot)
        self.finished.add(number)

    async def send(self, slot: Slot) -> None:
        """One request: latency of a heavy tail, a timeout, and one of the fates."""
        loop, rng = asyncio.get_running_loop(), self.rng
        out, back = (min(rng.lognormvariate(0, 1.2), 40.0) for _ in range(2))
        if rng.random() < 0.1:
            try:
                await asyncio.sleep(rng.uniform(0, 1))
            finally:
                slot.unsent()
            return
        there = loop.call_later(out, lambda: self.arrive(loop.time()))
        try:
            async with asyncio.timeout(20):
                await asyncio.sleep(out + back)
            slot.answered()
        except BaseException as error:
            # Given up: the server may still see it, but no later than the transit margin after the connection closed.
            if there.when() > loop.time():
                there.cancel()
                loop.call_later(min(there.when() - loop.time(), rng.uniform(0, TRANSIT)), self.late)
            slot.lost()
            if not isinstance(error, TimeoutError):
                raise

    def late(self) -> None:
        self.arrive(asyncio.get_running_loop().time())

    async def run(self, calls: int) -> None:
        loop, rng = asyncio.get_running_loop(), self.rng
        for number in range(calls):
            priority = rng.choice((0, 0, 0, 1, 5, -2))
            self.tasks[number] = loop.create_task(self.call(number, priority))
            if rng.random() < self.cancels:
                loop.call_later(rng.expovariate(1 / 100), self.cancel, number)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.expovariate(1 / 20))
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.queue.meddle = None

    async def settle(self) -> None:
        await asyncio.sleep(2 * self.limit.per + TRANSIT)
        queue = self.queue
        assert (queue.free, queue.in_flight, queue.cooling) == (self.limit.requests, 0, 0)
        assert (queue.waiting, queue.next_free_in) == (0, 0.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def worst_window(times: list[float], per: float) -> int:
    times = sorted(times)
    return max((sum(1 for other in times[i:] if other - t < per) for i, t in enumerate(times)), default=0)


@pytest.mark.parametrize("block", range(8))
def test_random_worlds(block: int) -> None:
    """Three thousand of them: no refusal by any kind of server, no overtaking, no token, caller or task lost."""

    async def one(seed: int) -> None:
        rng = random.Random(seed)
        requests = rng.choice((1, 2, 3, 5, 8))
        burst = rng.choice((None, None, 1, requests))
        world = World(rng, RateLimit(requests, rng.choice((PER, 7.0)), burst), cancels=rng.choice((0.0, 0.2, 0.6)))
        await world.run(rng.randrange(1, 8 * requests + 12))
        assert world.refusals == 0, seed
        assert world.overtakings == 0, seed
        assert worst_window(world.arrivals, world.limit.per) <= requests, seed
        assert world.queue.worst_window <= requests, seed
        assert world.finished | world.cancelled == set(world.tasks), seed
        for task in world.tasks.values():
            assert task.cancelled() or task.exception() is None, seed
        await world.settle()

    async def several() -> None:
        for seed in range(block * 400, block * 400 + 400):
            await one(seed)

    run_virtual(several(), debug=False)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.integers(1, 6),
    burst=st.integers(1, 6),
    calls=st.lists(
        st.tuples(
            st.floats(0, 90),  # pause before the call
            st.integers(-1, 1),  # priority
            st.floats(0, 30),  # latency there
            st.floats(0, 30),  # latency back
            st.one_of(st.none(), st.floats(0, 200)),  # cancelled after
        ),
        max_size=25,
    ),
)
def test_any_schedule(requests: int, burst: int, calls: list[tuple[float, int, float, float, float | None]]) -> None:
    limit = RateLimit(requests, PER, min(burst, requests))

    async def main() -> None:
        loop, queue, arrivals = asyncio.get_running_loop(), RateQueue("any", limit), list[float]()

        async def call(priority: int, out: float, back: float) -> None:
            slot = await queue.acquire(priority)
            # Shielded: a request under way is not taken back by its caller's cancellation.
            await asyncio.shield(loop.create_task(fly(slot, out, back)))

        async def fly(slot: Slot, out: float, back: float) -> None:
            await asyncio.sleep(out)
            arrivals.append(loop.time())
            await asyncio.sleep(back)
            slot.answered()

        tasks = []
        for pause, priority, out, back, cancel_after in calls:
            await asyncio.sleep(pause)
            task = loop.create_task(call(priority, out, back))
            tasks.append(task)
            if cancel_after is not None:
                loop.call_later(cancel_after, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(PER + 61)
        assert (queue.free, queue.in_flight, queue.waiting) == (requests, 0, 0)
        for judge in JUDGES:
            server = judge(requests, PER, 13.0)
            assert all(server.admits(t) for t in sorted(arrivals))

    run_virtual(main(), debug=False)


# -- exact times ------------------------------------------------------------------------------------------------------


async def take(queue: RateQueue, starts: list[float], latency: float = 0.0, priority: int = 0) -> None:
    slot = await queue.acquire(priority)
    starts.append(slot.started)
    if latency:
        await asyncio.sleep(latency)
    slot.answered()


def drained(requests: int, calls: int, burst: int | None = None, latency: float = 0.0) -> list[float]:
    async def main() -> list[float]:
        queue, starts = RateQueue("drain", RateLimit(requests, PER, burst)), list[float]()
        await asyncio.gather(*(take(queue, starts, latency) for _ in range(calls)))
        assert queue.worst_window == min(requests, calls)
        return starts

    return run_virtual(main(), debug=False)


@pytest.mark.parametrize("requests", [1, 5, 10, 100])
def test_a_drain_runs_in_whole_windows(requests: int) -> None:
    starts = drained(requests, 4 * requests + 3)
    assert starts == [pytest.approx(i // requests * PER, abs=0.02) for i in range(4 * requests + 3)]
    assert all(later - earlier >= PER for earlier, later in zip(starts, starts[requests:], strict=False))


def test_the_window_counts_from_the_answer() -> None:
    starts = drained(5, 23, latency=2.5)
    # Before the second window five were accepted; from then on one of them is under way at a time.
    spread = [0.0 if i < 5 else i % 5 * 2.5 for i in range(23)]
    assert starts == [pytest.approx(i // 5 * 62.5 + spread[i], abs=0.02) for i in range(23)]


@pytest.mark.parametrize(("requests", "burst"), [(5, 1), (100, 1), (10, 3)])
def test_burst_spaces_the_starts(requests: int, burst: int) -> None:
    starts = drained(requests, 3 * requests, burst)
    space = PER / requests
    assert sum(t < space / 2 for t in starts) == burst
    for i, t in enumerate(starts[burst:requests], 1):
        assert t == pytest.approx(i * space, abs=0.01 * space + 0.002 * i)
    assert starts[-1] < (3 * requests - burst) * space * 1.06 + 2 * PER * (burst - 1) / requests


def test_a_virtual_hour_at_a_hundred_a_minute() -> None:
    starts = drained(100, 6_000, latency=0.2)
    assert len(starts) == 6_000
    assert starts[-1] == pytest.approx(59 * 60.2, rel=1e-3)


def test_an_acquire_with_a_free_token_does_not_suspend() -> None:
    async def main() -> None:
        for burst in (None, 1):
            queue = RateQueue("fast", RateLimit(2, PER, burst))
            coroutine = queue.acquire()
            with pytest.raises(StopIteration) as stop:
                coroutine.send(None)
            assert isinstance(stop.value.value, Slot)

    run_virtual(main())


def test_fates_of_a_token() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = RateQueue("fates", RateLimit(1, PER), transit_margin=TRANSIT)
        slot = await queue.acquire()
        assert (queue.free, queue.in_flight, queue.cooling) == (0, 1, 0)
        assert queue.next_free_in == pytest.approx(PER, abs=0.01)
        slot.unsent()
        assert (queue.free, queue.in_flight, queue.next_free_in) == (1, 0, 0.0)

        slot = await queue.acquire()
        await asyncio.sleep(1)
        slot.answered()
        assert (queue.free, queue.in_flight, queue.cooling) == (0, 0, 1)
        slot = await queue.acquire()
        assert loop.time() == pytest.approx(61, abs=0.01)
        await asyncio.sleep(20)
        slot.lost()
        slot = await queue.acquire()
        assert loop.time() == pytest.approx(81 + PER + TRANSIT, abs=0.02)
        slot.refused(100.0)
        assert queue.refused == 1
        await queue.acquire()
        assert loop.time() == pytest.approx(246, abs=0.02)

    run_virtual(main())


def test_only_the_first_conclusion_counts() -> None:
    async def main() -> None:
        queue = RateQueue("once", RateLimit(3, PER))
        slot = await queue.acquire()
        slot.answered()
        for conclude in (slot.unsent, slot.lost, slot.refused, slot.answered):
            conclude()
        assert (queue.free, queue.in_flight, queue.cooling, queue.refused, queue.pace) == (2, 0, 1, 0, 1.0)

    run_virtual(main())


# -- order ------------------------------------------------------------------------------------------------------------


def test_higher_priority_first_then_first_come() -> None:
    async def main() -> list[str]:
        queue, served = RateQueue("order", RateLimit(1, PER)), list[str]()

        async def call(name: str, priority: int) -> None:
            slot = await queue.acquire(priority)
            served.append(name)
            slot.answered()

        (await queue.acquire()).answered()
        names = (("a", 0), ("b", 0), ("low", -1), ("high", 3), ("c", 0), ("high2", 3))
        tasks = [asyncio.ensure_future(call(*entry)) for entry in names]
        await asyncio.gather(*tasks)
        return served

    assert run_virtual(main()) == ["high", "high2", "a", "b", "c", "low"]


def test_a_newcomer_at_the_very_moment_does_not_barge() -> None:
    """A busy callback lets the token mature before the queue's timer could run; the next caller must not take it."""

    async def main() -> None:
        loop, queue, starts = asyncio.get_running_loop(), RateQueue("barge", RateLimit(1, PER)), list[float]()
        assert isinstance(loop, VirtualTimeLoop)
        (await queue.acquire()).answered()
        waiter = loop.create_task(take(queue, starts))
        await asyncio.sleep(PER - 1)
        loop._clock.now += 2
        newcomer = queue.acquire()
        newcomer.send(None)  # StopIteration here would be the newcomer's slot
        newcomer.close()
        await waiter
        assert starts == [pytest.approx(PER + 1, abs=0.01)]

    run_virtual(main())


def test_a_newcomer_does_not_slip_in_before_a_grant_is_taken() -> None:
    async def main() -> None:
        queue, starts = RateQueue("slip", RateLimit(2, PER)), list[float]()
        slots = [await queue.acquire() for _ in range(2)]
        waiter = asyncio.ensure_future(take(queue, starts))
        await asyncio.sleep(0)
        for slot in slots:
            slot.unsent()
        newcomer = queue.acquire()
        newcomer.send(None)  # StopIteration here would be a slot ahead of the waiter's
        newcomer.close()
        await waiter
        assert (queue.free, queue.waiting) == (1, 0)

    run_virtual(main())


class CoarseLoop(VirtualTimeLoop):
    """Shows its clock as uvloop does: cut to whole milliseconds."""

    def time(self) -> float:
        return int(super().time() * 1_000) / 1_000

    def exactly(self) -> float:
        return super().time()


def test_a_coarse_clock_makes_no_token_come_early() -> None:
    async def main() -> None:
        loop, queue, rng = asyncio.get_running_loop(), RateQueue("coarse", RateLimit(1, PER)), random.Random(1)
        assert isinstance(loop, CoarseLoop)
        answered = -PER
        for _ in range(300):
            slot = await queue.acquire()
            assert loop.exactly() - answered >= PER
            await asyncio.sleep(rng.uniform(0.001, 0.1))
            loop._clock.now += rng.uniform(0, 0.0009)
            answered = loop.exactly()
            slot.answered()
            await asyncio.sleep(1)
            loop._clock.now += loop.time() + 0.001 - loop.exactly() + 1e-5  # just after the turn of a millisecond

    with asyncio.Runner(loop_factory=CoarseLoop) as runner:
        runner.run(main())


def test_a_refused_attempt_goes_back_to_its_own_place() -> None:
    async def main() -> list[str]:
        queue, served = RateQueue("back", RateLimit(1, PER), max_waiting=2), list[str]()

        async def call(name: str, priority: int, after: Slot | None = None) -> None:
            slot = await queue.acquire(priority, after=after)
            served.append(name)
            slot.answered()

        first = await queue.acquire(0)
        tasks = [asyncio.ensure_future(call("waiter", 0)), asyncio.ensure_future(call("urgent", 1))]
        await asyncio.sleep(1)
        first.refused()
        tasks.append(asyncio.ensure_future(call("refused", 0, first)))  # the queue is full, it is let in all the same
        await asyncio.gather(*tasks)
        return served

    assert run_virtual(main()) == ["urgent", "refused", "waiter"]


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses() -> None:
    async def main() -> None:
        queue = RateQueue("full", RateLimit(1, PER), max_waiting=2)
        (await queue.acquire()).answered()
        waiting = [asyncio.ensure_future(queue.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        assert queue.waiting == 2
        with pytest.raises(QueueFullError, match="max_waiting=2 callers in the queue, got 2") as caught:
            await queue.acquire(9)
        assert caught.value.endpoint == "full"
        waiting[0].cancel()
        await asyncio.sleep(0)
        late = asyncio.ensure_future(queue.acquire())
        (await waiting[1]).answered()
        assert (await late).started > 2 * PER

    run_virtual(main())


@pytest.mark.parametrize(("ahead", "least"), [(0, 60), (1, 60), (2, 60), (4, 60), (5, 120), (14, 180), (15, 240)])
def test_max_wait_refuses_at_once_what_cannot_fit(ahead: int, least: int) -> None:
    async def main() -> None:
        loop, queue = asyncio.get_running_loop(), RateQueue("wait", RateLimit(5, PER))
        for _ in range(5):
            (await queue.acquire()).answered()
        others = [asyncio.ensure_future(take(queue, [])) for _ in range(ahead)]
        lesser = asyncio.ensure_future(take(queue, [], priority=-1))
        await asyncio.sleep(0)
        begin = loop.time()
        with pytest.raises(
            QueueTimeoutError, match=f"within max_wait={least - 1} s, .* at least {least} s; "
        ) as caught:
            await queue.acquire(0, least - 1)
        assert caught.value.outcome == "not_sent"
        assert loop.time() == begin
        slot = await queue.acquire(0, least + 1)
        assert slot.started == pytest.approx(least, abs=0.02)
        slot.answered()
        await asyncio.gather(*others, lesser)

    run_virtual(main())


def test_the_estimate_knows_tokens_that_come_late_and_the_spacing() -> None:
    async def main() -> None:
        queue = RateQueue("late", RateLimit(2, PER), transit_margin=100.0)
        slots = [await queue.acquire() for _ in range(2)]
        slots[0].lost()
        slots[1].answered()
        other = asyncio.ensure_future(take(queue, []))
        await asyncio.sleep(0)
        slot = await queue.acquire(max_wait=125)  # the second round of one token comes before the first of the other
        assert slot.started == pytest.approx(120, abs=0.01)
        await other

        spaced = RateQueue("spaced", RateLimit(5, PER, burst=1))
        others = [asyncio.ensure_future(take(spaced, [])) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueTimeoutError, match="leaves none for at least 36 s; 2 other callers wait"):
            await spaced.acquire(max_wait=30)
        await spaced.acquire(max_wait=37)
        await asyncio.gather(*others)

    run_virtual(main())


def test_max_wait_ends_a_wait_that_grew() -> None:
    async def main() -> None:
        loop, queue = asyncio.get_running_loop(), RateQueue("grew", RateLimit(1, PER))
        (await queue.acquire()).answered()
        task = asyncio.ensure_future(queue.acquire(0, 70))
        await asyncio.sleep(10)
        urgent = asyncio.ensure_future(take(queue, [], priority=1))
        with pytest.raises(
            QueueTimeoutError,
            match=r"within max_wait=70 s, got none: the limit of 1 requests per 60 s leaves none for at least",
        ):
            await task
        assert loop.time() == pytest.approx(70, abs=0.01)
        assert queue.waiting == 0
        with pytest.raises(QueueTimeoutError, match=r"within max_wait=70 s \(20 s of it left\), got none: the limit"):
            await queue.acquire(0, 70, since=20)
        await urgent
        await asyncio.sleep(PER + 1)
        assert queue.free == 1

    run_virtual(main())


def test_max_wait_counts_pauses_and_takes_zero() -> None:
    async def main() -> None:
        queue = RateQueue("zero", RateLimit(2, PER))
        slot = await queue.acquire(max_wait=0)
        slot.refused(30.0)
        for patience in (0, 29.0):
            with pytest.raises(QueueTimeoutError):
                await queue.acquire(max_wait=patience)
        await queue.acquire(max_wait=float("inf"))

    run_virtual(main())


@settings(max_examples=80, deadline=None)
@given(
    requests=st.integers(1, 5),
    burst=st.integers(1, 5),
    answers=st.lists(st.floats(0, 50), min_size=1, max_size=12),
    ahead=st.integers(0, 12),
)
def test_a_wait_that_fits_is_never_refused(requests: int, burst: int, answers: list[float], ahead: int) -> None:
    """The estimate is a lower bound: run once to see the real wait, then ask for exactly that."""
    limit = RateLimit(requests, PER, min(burst, requests))

    async def main(max_wait: float | None) -> float:
        loop, queue = asyncio.get_running_loop(), RateQueue("fits", limit)
        others = [asyncio.ensure_future(take(queue, [], latency)) for latency in answers]
        await asyncio.sleep(20)
        others += [asyncio.ensure_future(take(queue, [])) for _ in range(ahead)]
        await asyncio.sleep(0.5)
        begin = loop.time()
        slot = await queue.acquire(0, max_wait)
        slot.answered()
        await asyncio.gather(*others)
        return slot.started - begin

    wait = run_virtual(main(None), debug=False)
    assert run_virtual(main(wait + 1e-3), debug=False) == pytest.approx(wait, abs=1e-3)


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_cancel_a_thousand_of_two_thousand_at_random() -> None:
    async def main() -> None:
        loop, rng = asyncio.get_running_loop(), random.Random(2)
        queue, starts = RateQueue("crowd", RateLimit(100, PER)), list[float]()
        tasks = [loop.create_task(take(queue, starts, rng.uniform(0, 3))) for _ in range(2_000)]
        for task in rng.sample(tasks, 1_000):
            loop.call_later(rng.uniform(0, 600), task.cancel)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in done)
        await asyncio.sleep(PER + 1)
        in_the_air = sum(isinstance(result, asyncio.CancelledError) for result in done) - (2_000 - len(starts))
        assert (queue.waiting, queue.in_flight, queue.free) == (0, in_the_air, 100 - in_the_air)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main(), debug=False)


def test_a_grant_cancelled_before_it_is_taken_goes_to_the_next() -> None:
    async def main() -> None:
        queue = RateQueue("grant", RateLimit(1, PER))
        slot = await queue.acquire()
        first, second = (asyncio.ensure_future(queue.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        slot.unsent()  # grants first in this very step
        first.cancel()
        after = await second
        assert after.started < 0.001
        assert first.cancelled()
        assert (queue.in_flight, queue.waiting, queue.free) == (1, 0, 0)

    run_virtual(main())


def test_a_coroutine_thrown_away_while_it_waits_leaves_the_queue() -> None:
    async def main() -> None:
        queue = RateQueue("thrown", RateLimit(1, PER))
        slot = await queue.acquire()
        waiting = queue.acquire()
        waiting.send(None)
        assert queue.waiting == 1
        waiting.close()
        assert queue.waiting == 0
        slot.unsent()
        (await queue.acquire()).answered()

    run_virtual(main())


def test_cancelled_waiters_do_not_pile_up() -> None:
    async def main() -> None:
        queue = RateQueue("pile", RateLimit(1, PER))
        (await queue.acquire()).answered()
        last = asyncio.ensure_future(queue.acquire())
        for _ in range(1_000):
            task = asyncio.ensure_future(queue.acquire())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
        assert queue.waiting == 1
        assert len(queue._heap) < 100
        await last

    run_virtual(main())


def test_no_timer_is_left_when_the_last_waiter_goes() -> None:
    async def main() -> None:
        queue = RateQueue("idle", RateLimit(1, PER))
        (await queue.acquire()).answered()
        task = asyncio.ensure_future(queue.acquire(0, 100))
        await asyncio.sleep(0)
        assert len(list(live_timers())) == 2
        task.cancel()
        await asyncio.sleep(0)
        assert not list(live_timers())

    run_virtual(main())


def live_timers() -> Iterator[asyncio.TimerHandle]:
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return (timer for timer in scheduled if not timer.cancelled())


def test_no_timer_while_all_hangs_on_an_answer() -> None:
    async def main() -> None:
        queue = RateQueue("answer", RateLimit(1, PER))
        slot = await queue.acquire()
        task = asyncio.ensure_future(queue.acquire())
        await asyncio.sleep(0)
        assert not list(live_timers())
        slot.answered()
        await task

    run_virtual(main())


def test_one_timer_for_any_number_of_waiters() -> None:
    async def main() -> None:
        queue = RateQueue("timer", RateLimit(5, PER))
        tasks = [asyncio.ensure_future(take(queue, [])) for _ in range(50)]
        for _ in range(8):
            await asyncio.sleep(0)
            assert len(list(live_timers())) == 1
        await asyncio.gather(*tasks)
        assert not list(live_timers())

    run_virtual(main())


# -- closing, loops ---------------------------------------------------------------------------------------------------


def test_close_turns_every_waiter_away() -> None:
    async def main() -> None:
        queue = RateQueue("closing", RateLimit(2, PER))
        flying, unsent = await queue.acquire(), await queue.acquire()
        tasks = [asyncio.ensure_future(queue.acquire(0, wait)) for wait in (None, 900, None, 1_000)]
        cancelled = asyncio.ensure_future(queue.acquire())
        await asyncio.sleep(1)
        unsent.unsent()  # grants the first, which has no chance to resume before the close
        cancelled.cancel()
        queue.close()
        queue.close()
        for task in tasks:
            with pytest.raises(ConfigurationError, match="the client is closed"):
                await task
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(ConfigurationError, match="the client is closed"):
            await queue.acquire()
        assert not list(live_timers())
        flying.answered()
        assert (queue.waiting, queue.in_flight, queue.free, queue.cooling) == (0, 0, 1, 1)
        assert not list(live_timers())

    run_virtual(main())


def test_another_loop_gets_an_error() -> None:
    async def use(queue: RateQueue) -> None:
        (await queue.acquire()).answered()

    queue = RateQueue("loops", RateLimit(3, PER))
    run_virtual(use(queue))
    with pytest.raises(ConfigurationError, match="another event loop"):
        run_virtual(use(queue))
    assert queue.in_flight == 0
    assert "loops" in repr(queue)
    queue.close()


def test_figures_before_first_use() -> None:
    queue = RateQueue("new", RateLimit(5, PER, burst=1))
    assert (queue.waiting, queue.in_flight, queue.free, queue.cooling) == (0, 0, 5, 0)
    assert (queue.next_free_in, queue.refused, queue.worst_window, queue.pace) == (0.0, 0, 0, 1.0)
    queue.close()


# -- refusals ---------------------------------------------------------------------------------------------------------


Body = Callable[[RateQueue], Coroutine[object, object, None]]


def on_a_queue(requests: int) -> Callable[[Body], None]:
    """Run a test's body with a fresh queue on a fresh virtual clock."""

    def run(body: Body) -> None:
        async def main() -> None:
            await body(RateQueue("pace", RateLimit(requests, PER)))

        run_virtual(main())

    return run


def test_a_pause_holds_newcomers_too_and_only_moves_forward() -> None:
    async def body(queue: RateQueue) -> None:
        loop = asyncio.get_running_loop()
        slots = [await queue.acquire() for _ in range(4)]
        await asyncio.sleep(1)
        slots[0].refused(40.0)
        slots[1].refused(10.0)
        slots[2].refused()
        assert queue.next_free_in == pytest.approx(40, abs=0.01)
        await queue.acquire()
        assert loop.time() == pytest.approx(41, abs=0.01)

    on_a_queue(10)(body)


def test_a_pause_sends_back_who_was_granted_but_has_not_started() -> None:
    async def body(queue: RateQueue) -> None:
        slots = [await queue.acquire() for _ in range(4)]
        tasks = [asyncio.ensure_future(queue.acquire(0, wait)) for wait in (None, 1_000, 20)]
        await asyncio.sleep(0)
        for slot in slots[:3]:
            slot.unsent()  # grants the three
        slots[3].refused(30.0)
        with pytest.raises(QueueTimeoutError):
            await tasks[2]
        assert queue.waiting == 2
        starts = [(await task).started for task in tasks[:2]]
        assert starts == [pytest.approx(30, abs=0.01), pytest.approx(45, abs=0.01)]

    on_a_queue(4)(body)


def test_who_is_sent_back_finds_room_in_a_full_queue() -> None:
    async def main() -> None:
        queue = RateQueue("full", RateLimit(2, PER), max_waiting=1)
        slots = [await queue.acquire() for _ in range(2)]
        first = asyncio.ensure_future(queue.acquire())
        await asyncio.sleep(0)
        slots[0].unsent()  # grants the first
        second = queue.acquire()
        second.send(None)
        slots[1].refused(30.0)
        assert (await first).started == pytest.approx(30, abs=0.01)
        second.close()

    run_virtual(main())
