"""One queue per account and endpoint: never more than N requests in any window, whatever the latency.

A bucket holds ``limit.requests`` tokens and a request takes one. The token comes back ``limit.per`` seconds after the
**answer** arrived, so two uses of one token reach the server at least ``per`` apart, and no window of ``per`` seconds
sees more than N requests, whether the server counts sliding, calendar-aligned, from the first request, or with a
token bucket of its own. Counting from the moment of sending is wrong: latency squeezes what was spaced.

The tokens live in a window (``window.py``), in front of which ``pace.py`` shapes spacing, pauses and a lower pace.
Order: higher priority first, then first come first served. One timer for the whole queue. A token is charged when its
waiter resumes, so a cancelled grant costs nothing and goes to the next.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf
from typing import TypeAlias

from ..config import RateLimit
from ..errors import ConfigurationError, QueueFullError, QueueTimeoutError, SharedLimitUnavailableError
from .shared.store import StoreFigures
from .window import GUARD, LocalWindow, Window

__all__ = ["RateQueue", "Slot"]

_RETRY_A_STORE = 1.0  # seconds after which it may be back


class _Grant(Enum):
    GRANTED = 0
    TIMED_OUT = 1
    CLOSED = 2
    TURNED_AWAY = 3


_Waiter: TypeAlias = "asyncio.Future[_Grant]"


class Slot:
    """The right to start one request, and the duty to say what became of it.

    Exactly one of the four conclusions counts, the first; later ones do nothing, so that a ``finally`` may say
    ``lost()`` after any other. A slot that is never concluded keeps its token for ever.

    Attributes:
        started: loop time in seconds at which the slot was granted.
    """

    __slots__ = ("_order", "_queue", "_token", "started")

    def __init__(self, queue: RateQueue, order: int, token: str, started: float) -> None:
        self._queue: RateQueue | None = queue
        self._order = order
        self._token = token
        self.started: float = started

    @property
    def good_until(self) -> float:
        """Loop time after which the request must not be sent any more: say ``unsent`` and queue again."""
        return inf if self._queue is None else self._queue._window.good_until(self._token)

    def answered(self) -> None:
        """The answer arrived just now: the token comes back one window from now."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._cool(self, False)

    def unsent(self) -> None:
        """The request is known never to have left: the token comes back at once."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._return(self)

    def lost(self) -> None:
        """No answer, and the connection was closed just now (timeout, reset, cancellation).

        The request may still be on its way, so the token comes back ``transit_margin`` later than after an answer.
        """
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._cool(self, True)

    def refused(self, retry_after: float | None = None) -> None:
        """The server refused the request for its rate just now: the queue pauses, and goes on with care.

        Args:
            retry_after: seconds the server asked to wait, checked by the caller; None when it did not say.
        """
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._refuse(self, retry_after)


class RateQueue:
    """The queue in front of one endpoint of one account.

    It is bound to the event loop of its first ``acquire``; making one needs no running loop.

    Args:
        name: short name of the endpoint, for errors.
        limit: requests per window, the window's seconds, and the burst.
        max_waiting: callers that may wait; one more gets ``QueueFullError``.
        transit_margin: seconds that a request without an answer may still be on its way after its connection was
            closed.
        window: where the tokens live; None keeps them in this process.
        rng: random numbers in [0, 1) that lengthen pauses after refusals.
    """

    def __init__(
        self,
        name: str,
        limit: RateLimit,
        *,
        max_waiting: int = 100_000,
        transit_margin: float = 5.0,
        window: Window | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.limit = limit
        self.max_waiting = max_waiting
        self._window: Window = window or LocalWindow(limit, transit_margin, name, rng)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._failure = ConfigurationError()  # of those who are turned away
        self._granted = 0
        self._in_flight = 0
        self._heap: list[tuple[int, int, _Waiter]] = []  # (-priority, order, waiter); the dead are dropped lazily
        self._waiting = 0
        self._lanes: dict[int, int] = {}  # priority -> callers waiting with it
        self._order = 0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._starts: deque[float] = deque()  # starts within the last window
        self._worst_window = 0
        self._refused = 0
        self._window.bind(self, self._wake)

    def __repr__(self) -> str:
        return (
            f"RateQueue({self.name!r}, {self.limit.requests}/{self.limit.per:g} s, waiting={self.waiting}, "
            f"in_flight={self.in_flight}, free={self.free})"
        )

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return self._waiting + self._granted

    @property
    def highest_priority(self) -> int:
        """Priority of the caller that is next in line; 0 while nobody waits."""
        return max(self._lanes, default=0)

    @property
    def in_flight(self) -> int:
        """Slots granted and not yet concluded."""
        return self._in_flight

    @property
    def cooling(self) -> int:
        """Tokens of concluded requests that the window still holds."""
        return self.limit.requests - self.free - self._in_flight

    @property
    def highest_waiting(self) -> int:
        """Callers of that priority that wait and are not granted a start."""
        return self._lanes[max(self._lanes)] if self._lanes else 0

    @property
    def store(self) -> StoreFigures | None:
        """How the queue stands with the store that shares its limit; None where nothing is shared."""
        return self._window.store

    @property
    def free(self) -> int:
        """Tokens that are neither in flight nor held by the window."""
        return self._window.free(self._now())

    @property
    def next_free_in(self) -> float:
        """Seconds until a request could start if nobody else waited: at best, taking answers as coming right now."""
        if self._loop is None or self._loop.is_closed():
            return 0.0
        now = self._loop.time()
        return max(0.0, self._window.earliest(now, self._granted, 0, inf) - now)

    @property
    def refused(self) -> int:
        """Refusals by the server so far."""
        return self._refused

    @property
    def worst_window(self) -> int:
        """Most requests started within any ``limit.per`` seconds so far."""
        return self._worst_window

    @property
    def pace(self) -> float:
        """Share of the limit in use, 1.0 unless the server refused requests lately."""
        return self._window.pace(self._now())

    async def acquire(
        self,
        priority: int = 0,
        max_wait: float | None = None,
        *,
        since: float | None = None,
        after: Slot | None = None,
    ) -> Slot:
        """Wait for the right to start one request.

        Cancelling it at any moment loses no token. Conclude the slot once the request's fate is known.

        Args:
            priority: higher ones first; equal ones first come, first served.
            max_wait: most seconds to wait. The call is refused at once when even the best case is longer: everybody in
                front goes on, each answer comes at once, and no request turns out unsent.
            since: loop time from which ``max_wait`` counts, None for now; earlier attempts may have used some up.
            after: the slot of a refused attempt, whose place this one takes, and takes even in a full queue.

        Raises:
            QueueFullError: ``max_waiting`` callers wait already.
            QueueTimeoutError: the wait would be, or became, longer than ``max_wait``.
            ConfigurationError: the queue is closed or belongs to another event loop.
        """
        loop = self._check_loop()
        began = loop.time() if since is None else since
        deadline = None if max_wait is None else max(loop.time(), began + max_wait)
        known = after is not None
        self._order += not known
        order = self._order if after is None else after._order
        window = self._window
        ready = not (self._waiting or self._granted) and window.room(loop.time(), 0, 1) > 0
        while not ready:
            waiter = self._enqueue(loop, priority, order, max_wait, deadline, known)
            timer = None
            if deadline is not None and deadline < inf and not waiter.done():
                timer = loop.call_at(deadline, self._expire, waiter, priority)
            try:
                grant = await waiter
            except BaseException:
                self._abandon(waiter, priority)
                raise
            finally:
                if timer is not None:
                    timer.cancel()
            if grant is _Grant.TIMED_OUT:
                raise self._too_late(loop.time(), priority, max_wait, 0.0)
            self._check_grant(grant)
            # A refusal may have arrived between the grant and this moment: then back to the own place.
            ready, known = loop.time() >= window.resume_at, True
        return self._start(loop.time(), order)

    def close(self) -> None:
        """Turn every waiter away with ``ConfigurationError`` and stop the timer; slots may still be concluded."""
        self._closed = True
        self._window.close()
        self._dismiss(_Grant.CLOSED)

    def turn_away(self, error: ConfigurationError) -> None:
        """Let everybody who waits fail with this error."""
        self._failure = error
        self._dismiss(_Grant.TURNED_AWAY)

    def _dismiss(self, grant: _Grant) -> None:
        heap, self._heap = self._heap, []
        self._disarm()
        if self._loop is None or self._loop.is_closed():
            self._waiting = 0
            self._lanes.clear()
            return
        for rank, _, waiter in heap:
            # One that was cancelled a moment ago leaves by itself.
            if not waiter.done():
                waiter.set_result(grant)
                self._leave(-rank)

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise ConfigurationError(
                    "the client is in use by another event loop; make one client per loop", endpoint=self.name
                )
            self._loop = loop
        self._check_open()
        return loop

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("the client is closed", endpoint=self.name)

    def _enqueue(
        self,
        loop: asyncio.AbstractEventLoop,
        priority: int,
        order: int,
        max_wait: float | None,
        deadline: float | None,
        known: bool,
    ) -> _Waiter:
        if self._waiting >= self.max_waiting and not known:
            raise QueueFullError(
                f"expected fewer than max_waiting={self.max_waiting} callers in the queue, got {self._waiting}; send "
                "later, or from fewer tasks",
                retry_after=self.next_free_in,
                endpoint=self.name,
            )
        if deadline is not None and self._earliest(loop.time(), priority, known) > deadline:
            raise self._too_late(loop.time(), priority, max_wait, deadline - loop.time(), known)
        waiter: _Waiter = loop.create_future()
        heappush(self._heap, (-priority, order, waiter))
        self._waiting += 1
        self._lanes[priority] = self._lanes.get(priority, 0) + 1
        if self._granted:
            # Not now: awaiting a future that is done does not suspend, so this caller would overtake the granted.
            loop.call_soon(self._wake)
        else:
            self._wake()
        return waiter

    def _earliest(self, now: float, priority: int, known: bool) -> float:
        ahead = sum(n for lane, n in self._lanes.items() if lane > priority or (lane == priority and not known))
        return self._window.earliest(now, self._granted, ahead, priority)

    def _too_late(
        self, now: float, priority: int, max_wait: float | None, left: float, known: bool = True
    ) -> QueueTimeoutError:
        """The error of a caller that has ``left`` seconds of its ``max_wait``, and will not have its turn in them."""
        away = max(0.0, self._earliest(now, priority, known) - now)
        message = (
            f"expected a free place among {self.limit.requests} requests per {self.limit.per:g} s within "
            f"max_wait={max_wait:g} s ({max(0.0, left):.3g} s left), got a wait of at least {away:.3g} s; "
            f"{self.waiting} callers wait already"
        )
        store = self.store
        if store is None or store.state == "ok":
            return QueueTimeoutError(message, retry_after=away, endpoint=self.name)
        if store.state == "away":
            away = max(away, _RETRY_A_STORE)
        message = f"{message}; the shared store is {store.state}"
        return SharedLimitUnavailableError(message, retry_after=away, endpoint=self.name)

    def _check_grant(self, grant: _Grant) -> None:
        if grant is _Grant.TURNED_AWAY:
            raise ConfigurationError(self._failure.message, endpoint=self.name)
        if grant is _Grant.GRANTED:
            self._granted -= 1
        self._check_open()

    def _expire(self, waiter: _Waiter, priority: int) -> None:
        if not waiter.done():
            waiter.set_result(_Grant.TIMED_OUT)
            self._leave(priority)
            self._tidy()

    def _abandon(self, waiter: _Waiter, priority: int) -> None:
        """The waiter's task was cancelled: drop its place, or hand its grant to the next."""
        if waiter.get_loop().is_closed():
            return
        waiter.cancel()  # does nothing unless the coroutine was thrown away while it waited
        if not waiter.cancelled():
            if waiter.result() is _Grant.GRANTED:
                self._granted -= 1
                self._wake()
        else:
            self._leave(priority)
            self._tidy()

    def _leave(self, priority: int) -> None:
        self._waiting -= 1
        left = self._lanes[priority] - 1
        if left:
            self._lanes[priority] = left
        else:
            del self._lanes[priority]

    def _tidy(self) -> None:
        """Drop dead waiters when they are most of the heap: constant work per waiter in the long run."""
        if not self._waiting:
            self._heap.clear()
            self._disarm()
        elif len(self._heap) > 2 * self._waiting + 64:
            self._heap = [entry for entry in self._heap if not entry[2].done()]
            heapify(self._heap)

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()

    def _start(self, now: float, order: int) -> Slot:
        token = self._window.take(now)
        self._in_flight += 1
        starts = self._starts
        starts.append(now)
        while starts[0] <= now - self.limit.per:
            starts.popleft()
        if len(starts) > self._worst_window:
            self._worst_window = len(starts)
        return Slot(self, order, token, now)

    def _cool(self, slot: Slot, lost: bool) -> None:
        self._in_flight -= 1
        self._window.cool(slot._token, slot.started, self._now(), lost)
        if self._waiting:
            self._wake()

    def _return(self, slot: Slot) -> None:
        self._in_flight -= 1
        self._window.give_back(slot._token)
        if slot.started in self._starts:
            self._starts.remove(slot.started)
        if self._waiting:
            self._wake()

    def _refuse(self, slot: Slot, retry_after: float | None) -> None:
        self._in_flight -= 1
        self._refused += 1
        self._window.refuse(slot._token, slot.started, self._now(), retry_after)
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        """Grant what may start now, and set the timer for the rest."""
        now = self._now()
        room = self._window.room(now, self._granted, self._waiting)
        heap = self._heap
        while room > 0 and heap:
            rank, _, waiter = heappop(heap)
            if waiter.done():
                continue
            waiter.set_result(_Grant.GRANTED)
            self._leave(-rank)
            self._granted += 1
            room -= 1
        if self._waiting:
            self._arm(now)
        else:
            self._disarm()

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()

    def _arm(self, now: float) -> None:
        moment = self._window.next_moment(now, self._granted)
        if moment == inf:
            self._disarm()
            return
        when = max(moment, now + GUARD)
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        assert self._loop is not None
        # Kept beside the handle: uvloop gives one without when() for a moment that is less than a millisecond away.
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
