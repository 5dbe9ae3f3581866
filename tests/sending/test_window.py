"""The seam between callers and tokens: what a queue asks of any window, and what the local one answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import pytest

from ozonetel_async.config import RateLimit
from ozonetel_async.sending.queue import RateQueue
from ozonetel_async.sending.window import Demand, LocalWindow
from ozonetel_async.testing.clock import run_virtual

PER = 60.0


class Elsewhere:
    """A window whose tokens come from elsewhere, one by one; it notes what becomes of them."""

    store = None

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.fates: list[tuple[str, str]] = []
        self.resume_at = 0.0

    def bind(self, queue: Demand, wake: Callable[[], None]) -> None:
        self.queue, self.wake = queue, wake

    def bring(self, token: str) -> None:
        self.tokens.append(token)
        self.wake()

    def pace(self, now: float) -> float:
        return 0.5

    def free(self, now: float) -> int:
        return len(self.tokens)

    def room(self, now: float, granted: int, wanted: int) -> int:
        return min(len(self.tokens) - granted, wanted)

    def take(self, now: float) -> str:
        return self.tokens.pop(0)

    def good_until(self, token: str) -> float:
        return {"stale": 5.0}.get(token, 1_000.0)

    def cool(self, token: str, started: float, now: float, lost: bool) -> None:
        self.fates.append((token, "lost" if lost else "answered"))

    def give_back(self, token: str) -> None:
        self.fates.append((token, "unsent"))

    def refuse(self, token: str, started: float, now: float, retry_after: float | None) -> None:
        self.fates.append((token, f"refused {retry_after}"))

    def next_moment(self, now: float, granted: int) -> float:
        return inf

    def earliest(self, now: float, granted: int, ahead: int, priority: float) -> float:
        return now

    def close(self) -> None:
        self.fates.append(("", "closed"))


def test_a_queue_waits_for_tokens_from_elsewhere_and_tells_what_became_of_each() -> None:
    async def main() -> None:
        window = Elsewhere()
        queue = RateQueue("elsewhere", RateLimit(5, PER), window=window)
        low, high = (asyncio.ensure_future(queue.acquire(priority)) for priority in (0, 3))
        await asyncio.sleep(1)
        assert (window.queue.waiting, window.queue.highest_priority) == (2, 3)
        window.bring("first")
        slot = await high
        assert slot.good_until == 1_000.0
        assert not low.done()
        window.bring("stale")
        stale = await low
        assert stale.good_until == 5.0
        assert (window.queue.waiting, window.queue.highest_priority, queue.pace) == (0, 0, 0.5)
        slot.answered()
        stale.unsent()
        for conclude in ("lost", "refused"):
            window.bring(conclude)
            getattr(await queue.acquire(), conclude)()
        queue.close()
        told = [("first", "answered"), ("stale", "unsent"), ("lost", "lost"), ("refused", "refused None")]
        assert window.fates == [*told, ("", "closed")]

    run_virtual(main())


def test_a_slot_of_ones_own_never_goes_stale_and_a_concluded_one_has_no_end() -> None:
    async def main() -> None:
        queue = RateQueue("own", RateLimit(1, PER))
        slot = await queue.acquire()
        assert slot.good_until == inf
        slot.answered()
        assert slot.good_until == inf

    run_virtual(main())


def test_tokens_come_back_a_window_after_the_answer_and_later_when_there_was_none() -> None:
    window = LocalWindow(RateLimit(3, PER), 5.0, "local")
    tokens = [window.take(0.0) for _ in range(3)]
    assert window.room(1.0, 0, 1) == 0
    assert window.next_moment(1.0, 0) == inf
    window.cool(tokens[0], 0.0, 2.0, False)
    window.cool(tokens[1], 0.0, 2.0, True)
    assert window.next_moment(3.0, 0) == pytest.approx(62.0, abs=0.01)
    assert window.next_moment(3.0, 1) == pytest.approx(67.0, abs=0.01)
    assert [window.free(now) for now in (61.9, 62.1, 66.9, 67.1)] == [0, 1, 1, 2]
    window.give_back(tokens[2])
    assert window.room(68.0, 0, 9) == 3
    assert window.room(68.0, 1, 9) == 2


def test_the_best_case_takes_answers_as_coming_at_once() -> None:
    window = LocalWindow(RateLimit(2, PER), 5.0, "local")
    for _ in range(2):
        window.take(0.0)
    assert [window.earliest(1.0, 0, ahead) for ahead in range(4)] == [
        pytest.approx(1.0 + rounds * PER, abs=0.01) for rounds in (1, 1, 2, 2)
    ]
