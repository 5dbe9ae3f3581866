"""What refusals do to the pace, on the virtual clock: the rule by steps, and servers that refuse correct clients."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import pairwise
from statistics import mean
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import RateLimit
from ozonetel_async.errors import QueueTimeoutError
from ozonetel_async.sending.queue import RateQueue, Slot
from ozonetel_async.testing.clock import run_virtual

PER = 60.0

Body = Callable[[RateQueue], Coroutine[object, object, None]]


def on_a_queue(requests: int, *, chance: float = 0.0) -> Callable[[Body], None]:
    """Run a test's body with a fresh queue on a fresh virtual clock."""

    def run(body: Body) -> None:
        async def main() -> None:
            await body(RateQueue("pace", RateLimit(requests, PER), rng=lambda: chance))

        run_virtual(main(), debug=False)

    return run


async def accepted(queue: RateQueue, times: int) -> list[float]:
    """Make requests that are accepted at once, one after the other; when they started."""
    starts = []
    for _ in range(times):
        slot = await queue.acquire()
        starts.append(slot.started)
        slot.answered()
    return starts


async def refused(queue: RateQueue, times: int = 1) -> None:
    for _ in range(times):
        (await queue.acquire()).refused()


def gaps(starts: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(starts)]


# -- the rule, step by step -------------------------------------------------------------------------------------------


def test_after_a_first_refusal_requests_start_evenly_at_the_full_pace() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        starts = await accepted(queue, 4)
        assert gaps(starts) == [pytest.approx(PER / 5, abs=0.01)] * 3
        assert queue.pace == 1.0

    on_a_queue(5)(body)


def test_a_start_that_is_a_little_late_keeps_the_schedule_and_idle_time_earns_nothing() -> None:
    async def body(queue: RateQueue) -> None:
        loop = asyncio.get_running_loop()
        await refused(queue)
        (first,) = await accepted(queue, 1)
        await asyncio.sleep(6.0 + 1.4 - (loop.time() - first))
        late, on_time, later = await accepted(queue, 3)
        assert [late - first, on_time - first, later - first] == pytest.approx([7.4, 12.0, 18.0], abs=0.01)
        await asyncio.sleep(100)
        assert gaps(await accepted(queue, 5)) == [pytest.approx(6.0, abs=0.01)] * 4

    on_a_queue(10)(body)


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_pauses_double_up_to_a_window_and_are_lengthened_by_chance(chance: float) -> None:
    async def body(queue: RateQueue) -> None:
        pauses = []
        for _ in range(6):
            await refused(queue)
            pauses.append(queue.next_free_in)
        plain = [7.5, 15.0, 30.0, 60.0, 60.0, 60.0]
        assert pauses == pytest.approx([pause * (1 + chance / 2) for pause in plain], abs=0.05)

    on_a_queue(100, chance=chance)(body)


def test_a_pause_is_two_steps_at_least() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        assert queue.next_free_in == pytest.approx(2 * PER / 5, abs=0.01)

    on_a_queue(5)(body)


def test_a_clean_window_makes_the_next_pause_short_again() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue, 3)
        await asyncio.sleep(queue.next_free_in + PER + 1)
        await refused(queue)
        assert queue.next_free_in == pytest.approx(PER / 8, abs=0.01)

    on_a_queue(100)(body)


def test_a_time_that_the_server_names_is_kept_and_none_counts_as_none() -> None:
    async def body(queue: RateQueue) -> None:
        (await queue.acquire()).refused(20.0)
        assert queue.next_free_in == pytest.approx(20.0, abs=0.01)
        (await queue.acquire()).refused(0.0)
        assert queue.next_free_in == pytest.approx(1.5 * 15.0, abs=0.05)

    on_a_queue(100, chance=0.999)(body)


def test_refusals_of_one_burst_count_once_and_late_ones_do_not_punish() -> None:
    async def body(queue: RateQueue) -> None:
        slots = [await queue.acquire() for _ in range(8)]
        for slot in slots[:6]:
            slot.refused()
        assert (queue.pace, queue.refused) == (1.0, 6)
        assert queue.next_free_in == pytest.approx(PER / 8, abs=0.01)
        await accepted(queue, 1)
        await asyncio.sleep(5)
        slots[6].refused()  # started before the change
        assert queue.pace == 1.0
        assert queue.next_free_in == 0
        slots[7].refused(9.0)
        assert queue.pace == 1.0
        assert queue.next_free_in == pytest.approx(9.0, abs=0.01)

    on_a_queue(20)(body)


def test_the_pace_falls_below_what_the_server_took_and_returns_to_it() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        await asyncio.sleep(PER)
        await accepted(queue, 14)
        await refused(queue)
        assert queue.pace == pytest.approx(0.7 * 0.85)
        await asyncio.sleep(queue.next_free_in + PER + 1)
        assert queue.pace == pytest.approx(0.7 * 0.925)
        await asyncio.sleep(2 * PER)
        assert queue.pace == pytest.approx(0.7)

    on_a_queue(20)(body)


def test_the_pace_falls_by_half_at_most_and_by_a_fifth_when_a_pause_kept_it_from_asking() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        await accepted(queue, 3)
        await refused(queue)
        assert queue.pace == pytest.approx(0.8 * 0.85)
        await asyncio.sleep(2 * PER)
        await accepted(queue, 3)
        before = queue.pace
        await refused(queue)
        assert queue.pace == pytest.approx(before / 2 * 0.85)

    on_a_queue(20)(body)


def test_the_pace_never_falls_below_one_request_a_window() -> None:
    async def body(queue: RateQueue) -> None:
        for _ in range(20):
            await refused(queue)
            await accepted(queue, 1)
        assert queue.pace == pytest.approx(1 / 3)

    on_a_queue(3)(body)


def test_a_storm_leaves_the_pace_as_it_was() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        await accepted(queue, 3)
        await refused(queue)
        assert queue.pace < 0.9
        await refused(queue)
        assert queue.pace < 0.9
        await refused(queue)
        assert queue.pace == 1.0
        await refused(queue, 5)
        assert queue.pace == 1.0

    on_a_queue(20)(body)


def test_a_pace_below_the_limit_holds_in_every_window_whatever_the_latency() -> None:
    async def body(queue: RateQueue) -> None:
        loop, rng, arrivals = asyncio.get_running_loop(), random.Random(1), list[float]()
        await refused(queue)
        await asyncio.sleep(PER)
        await accepted(queue, 3)
        await refused(queue)
        await asyncio.sleep(queue.next_free_in + PER + 1)  # at the top again, three of five

        async def call() -> None:
            slot = await queue.acquire()
            await asyncio.sleep(rng.uniform(0, 25))
            arrivals.append(loop.time())
            await asyncio.sleep(rng.uniform(0, 25))
            slot.answered()

        await asyncio.gather(*(call() for _ in range(20)))
        arrivals.sort()
        assert queue.pace == 0.6
        assert all(fourth - first >= PER for first, fourth in zip(arrivals, arrivals[3:], strict=False))

    on_a_queue(5)(body)


def test_more_is_tried_after_clean_windows_and_less_often_when_that_is_refused() -> None:
    async def body(queue: RateQueue) -> None:
        async def windows_until_a_try() -> int:
            await asyncio.sleep(queue.next_free_in)
            for window in range(100):
                before = queue.pace
                await asyncio.sleep(PER)
                if queue.pace > 0.5 >= before:
                    return window
            raise AssertionError("never")

        async def fall() -> None:
            await accepted(queue, 10)
            await refused(queue)

        await refused(queue)
        await asyncio.sleep(PER)
        waits = []
        for _ in range(5):
            await fall()
            waits.append(await windows_until_a_try())
            assert queue.pace == pytest.approx(0.6)
        # Two windows to return to the top, then as many as 40 requests take, doubled.
        assert waits == [pytest.approx(wait, abs=2) for wait in (6, 10, 18, 34, 42)]

    on_a_queue(20)(body)


def test_tries_reach_the_full_pace_and_bursts_come_back() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        await asyncio.sleep(PER)
        await accepted(queue, 50)
        await refused(queue)
        windows = 0
        while queue.pace < 1.0:
            await asyncio.sleep(PER)
            windows += 1
        assert 10 < windows < 60
        await asyncio.sleep(19 * PER)
        assert gaps(await accepted(queue, 2))[0] > 0.5
        await asyncio.sleep(PER)
        assert sum(gaps(await accepted(queue, 100))) < 0.01

    on_a_queue(100)(body)


# -- what is logged ---------------------------------------------------------------------------------------------------


def test_one_warning_when_refusals_begin_and_one_line_when_they_are_over(caplog: pytest.LogCaptureFixture) -> None:
    async def body(queue: RateQueue) -> None:
        for _ in range(2):
            await refused(queue)
            await accepted(queue, 2)
            await refused(queue, 4)
            await asyncio.sleep(100 * PER)
            await accepted(queue, 1)

    caplog.set_level(logging.INFO, "ozonetel_async")
    on_a_queue(10)(body)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO] * 2
    warning, over = (record.getMessage() for record in caplog.records[:2])
    assert all(part in warning for part in ("pace: ", "pausing for 12 s", "10 per 60 s"))
    assert "pace: " in over
    assert "full pace" in over


# -- order, bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_nobody_overtakes_and_nobody_is_lost_however_often_the_server_refuses(block: int) -> None:
    async def world(seed: int) -> None:
        loop, rng = asyncio.get_running_loop(), random.Random(seed)
        requests = rng.choice((1, 2, 5, 20))
        queue = RateQueue("world", RateLimit(requests, PER, rng.choice((None, 1, requests))), rng=rng.random)
        waiting, overtakings = dict[int, float](), 0
        refusals = rng.choice((0.05, 0.3, 0.7))

        async def call(number: int) -> None:
            nonlocal overtakings
            slot: Slot | None = None
            while True:
                waiting[number] = loop.time()
                try:
                    slot = await queue.acquire(after=slot)
                finally:
                    since = waiting.pop(number)
                overtakings += sum(n < number and at < loop.time() - 1e-3 for n, at in waiting.items())
                assert since <= slot.started
                await asyncio.sleep(rng.expovariate(1 / 5))
                if rng.random() < refusals:
                    slot.refused(rng.choice((None, None, 3.0)))
                elif rng.random() < 0.1:
                    slot.unsent()
                else:
                    rng.choice((slot.answered, slot.answered, slot.lost))()
                    return

        tasks = []
        for number in range(rng.randrange(1, 6 * requests + 6)):
            tasks.append(loop.create_task(call(number)))
            if rng.random() < 0.1:
                loop.call_later(rng.expovariate(1 / 60), tasks[-1].cancel)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.expovariate(1 / 20))
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), seed
        assert overtakings == 0, seed
        assert queue.worst_window <= requests, seed
        assert queue.waiting == 0, seed

    async def several() -> None:
        for seed in range(block * 60, block * 60 + 60):
            await world(seed)

    run_virtual(several(), debug=False)


@settings(max_examples=150, deadline=None)
@given(
    requests=st.integers(1, 12),
    fates=st.lists(st.tuples(st.booleans(), st.floats(0, 80)), min_size=1, max_size=15),
    pause=st.floats(0, 200),
    ahead=st.integers(0, 12),
    chance=st.floats(0, 0.99),
)
def test_a_wait_that_fits_is_never_refused(
    requests: int, fates: list[tuple[bool, float]], pause: float, ahead: int, chance: float
) -> None:
    """The estimate is a lower bound: run once to see the real wait, then ask for exactly that."""

    async def main(max_wait: float | None) -> float:
        loop = asyncio.get_running_loop()
        queue = RateQueue("fits", RateLimit(requests, PER), rng=lambda: chance)
        for refuse, latency in fates:
            slot = await queue.acquire()
            loop.call_later(latency, slot.refused if refuse else slot.answered)
        await asyncio.sleep(pause)
        others = [asyncio.ensure_future(accepted(queue, 1)) for _ in range(ahead)]
        await asyncio.sleep(0.5)
        begin = loop.time()
        slot = await queue.acquire(0, max_wait)
        slot.answered()
        await asyncio.gather(*others)
        return slot.started - begin

    wait = run_virtual(main(None), debug=False)
    assert run_virtual(main(wait + 1e-3), debug=False) == pytest.approx(wait, abs=1e-3)


def test_the_estimate_knows_the_spacing() -> None:
    async def body(queue: RateQueue) -> None:
        await refused(queue)
        others = [asyncio.ensure_future(accepted(queue, 1)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueTimeoutError, match="; 3 other callers wait"):
            await queue.acquire(max_wait=12.0 + 3 * 6.0 - 0.25 * 6.0 - 0.1)
        slot = await queue.acquire(max_wait=12.0 + 3 * 6.0 + 0.1)
        assert slot.started == pytest.approx(30.0, abs=0.05)
        slot.answered()
        await asyncio.gather(*others)

    on_a_queue(10)(body)


# -- servers that refuse correct clients ------------------------------------------------------------------------------


class Server(Protocol):
    """Judges arrivals."""

    def admits(self, t: float) -> bool: ...


class Log:
    """Exact: at most n accepted in any window."""

    def __init__(self, n: int, per: float) -> None:
        self.n, self.per, self.log = n, per, deque[float]()

    def admits(self, t: float) -> bool:
        while self.log and t - self.log[0] >= self.per:
            self.log.popleft()
        if len(self.log) < self.n:
            self.log.append(t)
            return True
        return False


class Storm(Log):
    """Exact, but refuses everything between two moments."""

    def __init__(self, n: int, per: float, begin: float, end: float) -> None:
        super().__init__(n, per)
        self.begin, self.end = begin, end

    def admits(self, t: float) -> bool:
        return not self.begin <= t < self.end and super().admits(t)


class Estimating:
    """A counter of this window and the last one, taken as spread evenly.

    ``strict`` counts the request itself, which leaves n - 1 requests per window to anybody. HAProxy (``refused_count``)
    counts refused requests as well.
    """

    def __init__(self, n: int, per: float, phase: float, *, strict: bool = False, refused_count: bool = False) -> None:
        self.n, self.per, self.phase, self.strict, self.refused_count = n, per, phase, strict, refused_count
        self.window, self.now, self.before = 0, 0, 0

    def admits(self, t: float) -> bool:
        window, inside = divmod(t + self.phase, self.per)
        if window != self.window:
            self.before = self.now if window == self.window + 1 else 0
            self.now, self.window = 0, int(window)
        estimate = self.now + self.before * (1 - inside / self.per)
        if self.refused_count:
            estimate = int(estimate)
        admitted = estimate + 1 <= self.n if self.strict or self.refused_count else estimate < self.n
        self.now += admitted or self.refused_count
        return admitted


class Client:
    """Always has requests waiting, 10 to 100 ms from a server; counts what the server accepted and refused."""

    def __init__(self, n: int, per: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.queue = RateQueue("client", RateLimit(n, per), rng=random.Random(seed + 1_000).random)
        self.accepted: list[float] = []
        self.refused = 0
        self.last_start = 0.0

    async def call(self, server: Server) -> None:
        loop, slot = asyncio.get_running_loop(), None
        while True:
            slot = await self.queue.acquire(after=slot)
            await asyncio.sleep(self.rng.uniform(0.01, 0.1))
            now, admitted = loop.time(), server.admits(loop.time())
            await asyncio.sleep(self.rng.uniform(0.01, 0.1))
            if admitted:
                self.accepted.append(now)
                self.last_start = max(self.last_start, slot.started)
                return slot.answered()
            self.refused += 1
            slot.refused()

    async def drain(self, server: Server, calls: int) -> None:
        await asyncio.gather(*(self.call(server) for _ in range(calls)))

    async def run(self, server: Server, begin: float, end: float) -> None:
        async def work() -> None:
            while True:
                await self.call(server)

        await asyncio.sleep(begin)
        tasks = [asyncio.ensure_future(work()) for _ in range(self.queue.limit.requests + 20)]
        await asyncio.sleep(end - begin)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def percent_refused(self) -> float:
        return 100 * self.refused / (self.refused + len(self.accepted))


N_PER = [(5, 2.0), (100, 6.0)]


@pytest.mark.parametrize(("n", "per"), N_PER)
@pytest.mark.parametrize("kind", ["counter", "haproxy"])
def test_servers_that_estimate_refuse_few_and_are_drained_in_time(kind: str, n: int, per: float) -> None:
    windows, percents, drains = 20, [], []
    for seed in range(8):
        client, phase = Client(n, per, seed), random.Random(seed).uniform(0, per)
        server = Estimating(n, per, phase, refused_count=kind == "haproxy")
        run_virtual(client.drain(server, windows * n + 3), debug=False)
        percents.append(client.percent_refused)
        drains.append(client.last_start / (windows * per))
    assert mean(percents) <= 2.0
    assert mean(drains) <= 1.2


@pytest.mark.parametrize(("n", "per"), N_PER)
def test_a_counter_that_counts_the_request_itself_is_drained_at_what_it_gives(n: int, per: float) -> None:
    windows, percents, drains = 40, [], []
    for seed in range(8):
        client, phase = Client(n, per, seed), random.Random(seed).uniform(0, per)
        run_virtual(client.drain(Estimating(n, per, phase, strict=True), windows * n + 3), debug=False)
        percents.append(client.percent_refused)
        drains.append(client.last_start / (windows * per * n / (n - 1)))
    assert mean(percents) <= 2.5
    assert mean(drains) <= 1.2


@pytest.mark.parametrize(("n", "per"), N_PER)
def test_exact_servers_refuse_nothing_and_wait_for_nothing(n: int, per: float) -> None:
    for seed in range(4):
        client = Client(n, per, seed)
        run_virtual(client.drain(Log(n, per), 20 * n + 3), debug=False)
        assert client.refused == 0
        assert client.last_start <= 20 * (per + 0.11) * 1.02


@pytest.mark.parametrize(("n", "most_refused"), [(5, 5.0), (100, 2.0)])
def test_a_server_with_half_the_limit_is_used_and_refuses_few(n: int, most_refused: float) -> None:
    per, windows, percents, uses = dict(N_PER)[n], 100, [], []
    for seed in range(10 if n == 5 else 2):
        client = Client(n, per, seed)
        run_virtual(client.run(Log(n // 2, per), 0.0, windows * per), debug=False)
        percents.append(client.percent_refused)
        uses.append(len(client.accepted) / (n // 2 * windows))
    assert mean(percents) <= most_refused
    assert mean(uses) >= 0.9


def test_the_full_pace_is_back_three_windows_after_a_storm() -> None:
    n, per = 100, 2.0
    for seed in range(6):
        client, begin, end = Client(n, per, seed), 3 * per, 18 * per + random.Random(seed).uniform(0, per)
        run_virtual(client.run(Storm(n, per, begin, end), 0.0, end + 5 * per), debug=False)
        after = [t for t in client.accepted if t >= end]
        # Windows after the storm until one begins that holds nine tenths of the limit (the round trip takes a tenth).
        need = int(0.9 * n * per / (per + 0.11))
        begun = next(t for t, last in zip(after, after[need - 1 :], strict=False) if last - t < per)
        assert begun - end <= 2 * per, seed


@pytest.mark.parametrize("later", [0, 5])
def test_two_clients_of_one_account_each_get_their_part(later: int) -> None:
    n, per, windows = 100, 6.0, 40
    smaller, sums = [], []
    for seed in range(10):
        first, second, server = Client(n, per, 2 * seed), Client(n, per, 2 * seed + 1), Log(n, per)
        begin = later * per + random.Random(seed).uniform(0, per) * (later > 0)
        end = begin + windows * per

        async def both(
            a: Client = first, b: Client = second, s: Server = server, at: float = begin, until: float = end
        ) -> None:
            await asyncio.gather(a.run(s, 0.0, until), b.run(s, at, until))

        run_virtual(both(), debug=False)
        counts = [sum(t >= begin for t in client.accepted) for client in (first, second)]
        smaller.append(min(counts) / (n * windows / 2))
        sums.append(sum(counts) / (n * windows))
    assert mean(sums) >= 0.88
    assert mean(smaller) >= 0.6
    # Chance decides who is hit: nearly every pair shares fairly, and no client is left with nothing.
    assert sum(part >= 0.5 for part in smaller) >= 8
    assert min(smaller) >= 0.3
