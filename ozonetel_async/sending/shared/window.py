"""The tokens of one queue in a store, shared with other processes.

Callers never touch the store: one task per queue, the pump, makes turns over one connection. It tells what became of
requests and asks for as many tokens as callers wait, so that cancelling a caller stays a matter of this process. What
the store grants is used at once or given back; a grant that has become old is never used, since the store may have
taken it back.

The pace (``pace.py``) is each process's own: the store shares tokens, pauses and the order of processes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf
from secrets import token_hex
from typing import Final

from msgspec.structs import replace

from ...config import RateLimit
from ...errors import ConfigurationError, SharedLimitUnavailableError
from ..window import GUARD, Demand, LocalWindow
from .store import MICROSECONDS, Ask, SharedStore, StoreConnection, StoreFigures, Turn

__all__ = ["SharedWindow", "StoreWatch", "suspended_clock"]

_log = logging.getLogger("ozonetel_async")

_SLACK: Final = 0.25  # seconds that a process may come late for its token
_FRESH: Final = 2.0  # seconds after the ask within which a grant is used
_DRIFT: Final = 0.001  # of any duration, by which the clocks of store and process may differ
_JUMP: Final = 0.05  # seconds beyond it that tell a clock that was set
_REPORT_WITHIN: Final = 0.02  # seconds in which the ends of several requests become one turn
_MOST: Final = 1_000  # tokens asked for in one turn
_BACKOFF: Final = (0.05, 1.0)  # seconds after the first failure in a row, and at most

_UNSENT: Final = -inf


def suspended_clock() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one; ``loop.time()`` stands still."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class StoreWatch:
    """Tells of a store that goes and comes back, once for all queues of a client."""

    def __init__(self) -> None:
        self._away: set[str] = set()
        self._since = 0.0

    def gone(self, name: str, reason: str) -> None:
        """The user of this name got no answer."""
        if not self._away:
            self._since = time.monotonic()
            _log.warning("the shared store is away, requests wait for it: %s", reason)
        self._away.add(name)

    def back(self, name: str) -> None:
        """The user of this name got an answer."""
        if self._away:
            self._away.discard(name)
            if not self._away:
                _log.warning("the shared store is back after %.1f s", time.monotonic() - self._since)


class SharedWindow:
    """The tokens of one queue, of which the store grants some to this process.

    Args:
        name: short name of the endpoint.
        limit: requests per window and the window's seconds, the same in all processes.
        local: what this process may start by itself: its pace, and no more than a whole limit.
        store: where the tokens live.
        key: the queue's name there.
        transit_margin: seconds that a request without an answer may still be on its way.
        timeout: seconds after which a request is given up.
        watch: told when the store goes and comes back.
        clock: seconds of a clock that goes on while the machine sleeps.
    """

    def __init__(
        self,
        name: str,
        limit: RateLimit,
        local: LocalWindow,
        *,
        store: SharedStore,
        key: str,
        transit_margin: float,
        timeout: float,
        watch: StoreWatch,
        clock: Callable[[], float] = suspended_clock,
    ) -> None:
        self._name = name
        self._local = local
        self._store = store
        self._watch = watch
        self._clock = clock
        self._requests = limit.requests
        self._per = limit.per
        self._margin = transit_margin
        self._turnover = limit.per * (1 + _DRIFT) + GUARD  # from an answer to the token's return
        self._lease = _FRESH + timeout + transit_margin + self._turnover
        self._blank = Ask(
            key=key,
            queue=name,
            process=token_hex(8),
            requests=limit.requests,
            per=_whole(limit.per),
            lease=_whole(self._lease),
            slack=_whole(_SLACK),
            hold=_whole(limit.per + transit_margin),
        )
        self._grants: deque[tuple[int, float]] = deque()  # number, moment until which it is fresh
        self._flights: dict[int, float] = {}  # the same for tokens that were taken
        self._ended: dict[int, float] = {}  # number, moment at which the token comes back: to be told
        self._tell_at = inf
        self._next = 0  # number of the next token to ask for
        self._asked_to = 0  # end of the numbers in an ask that was not answered
        self._last: Turn | None = None
        self._last_sent = -inf
        self._again_at = inf  # when to ask again; infinite when not in line
        self._priority = 0  # of the ticket
        self._pause_until = -inf  # of this process, for all
        self._tell_flights = False
        self._jumped = False
        self._failures = 0
        self._retry_at = -inf
        self._away_since: datetime | None = None
        self._hold_ends = self._pause_ends = -inf  # loop times
        self._closing = self._finishing = False
        self._nudge = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    # -- what the queue asks ------------------------------------------------------------------------------------------

    def bind(self, queue: Demand, wake: Callable[[], None]) -> None:
        """Learn whose window this is."""
        self._queue = queue
        self._wake = wake

    @property
    def store(self) -> StoreFigures:
        """How the queue stands with the store."""
        if self._away_since is not None:
            return StoreFigures("away", away_since=self._away_since)
        left = 0.0 if self._pump is None else self._hold_ends - self._pump.get_loop().time()
        if left > 0:
            return StoreFigures("holding", holding_until=datetime.now(UTC) + timedelta(seconds=left))
        return StoreFigures("ok")

    def pace(self, now: float) -> float:
        """Share of the limit in use by this process's own pace."""
        return self._local.pace(now)

    @property
    def resume_at(self) -> float:
        """The end of the present pause, of whichever process."""
        return max(self._local.resume_at, self._pause_ends)

    def free(self, now: float) -> int:
        """Tokens that nobody holds, as of the last turn; after a window without one, those this process may know of."""
        local = self._local.free(now)
        if self._last is None or self._clock() - self._last_sent > self._per:
            return local
        return min(local, self._last.free + len(self._grants))

    def room(self, now: float, granted: int, wanted: int) -> int:
        """How many of ``wanted`` requests may start on grants in hand."""
        if not self._grants:
            return 0
        fresh_from = self._clock()
        fresh = sum(until > fresh_from for _, until in self._grants)
        return min(fresh - granted, self._local.room(now, granted, wanted))

    def take(self, now: float) -> str:
        """Take the oldest grant that is fresh; without one, a token that must not be used."""
        self._local.take(now)
        self._drop_stale()
        if not self._grants:
            return ""
        number, until = self._grants.popleft()
        self._flights[number] = until
        return str(number)

    def good_until(self, token: str) -> float:
        """The loop time at which the grant gets old."""
        until = self._flights.get(int(token), -inf) if token else -inf
        return asyncio.get_running_loop().time() + until - self._clock()

    def cool(self, token: str, started: float, now: float, lost: bool) -> None:
        """The token comes back one window from now, and the transit margin later when no answer came."""
        self._local.cool(token, started, now, lost)
        self._end(token, self._clock() + self._turnover + (self._margin if lost else 0.0))

    def give_back(self, token: str) -> None:
        """The token comes back at once."""
        self._local.give_back(token)
        self._end(token, _UNSENT)

    def refuse(self, token: str, started: float, now: float, retry_after: float | None) -> None:
        """Pause for all processes, and go slower in this one."""
        self._local.refuse(token, started, now, retry_after)
        self._pause_until = self._clock() + self._local.resume_at - now
        self._end(token, self._clock() + self._turnover)
        self._tell_at = -inf

    def next_moment(self, now: float, granted: int) -> float:
        """Infinite, since the store decides, unless this process's own pace does."""
        if self._local.room(now, granted, 1) < 1:
            return self._local.next_moment(now, granted)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())
        self._nudge.set()
        return inf

    def earliest(self, now: float, granted: int, ahead: int, priority: float) -> float:
        """The moment at which a request with ``ahead`` others in front may start, if no other process wants a token."""
        best = max(self._local.earliest(now, granted, ahead), self._hold_ends, self._pause_ends)
        if self._again_at < inf and (ahead or priority <= self._priority):
            # Until then the store is asked again only for a higher priority than it was asked for.
            best = max(best, now + self._again_at - self._clock())
        return best

    def close(self) -> None:
        """Ask for nothing more."""
        self._closing = True
        self._nudge.set()

    async def finish(self) -> None:
        """Give everything back, as far as the store answers; every connection to the service is closed by now."""
        self._finishing = True
        self._nudge.set()
        if self._pump is not None:
            try:
                await asyncio.wait({self._pump})
            finally:
                self._pump.cancel()

    # -- the pump -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        connection = None
        try:
            while await self._rest():
                # Callers that were granted a start take it before more is asked for.
                await asyncio.sleep(0)
                connection = await self._turn(connection)
            if self._last is not None and self._away_since is None:
                self._give_up_all()
                connection = await self._turn(connection)
        finally:
            if connection is not None:
                await connection.close()

    async def _rest(self) -> bool:
        """Wait until the next turn is due; False when there is none any more."""
        loop = asyncio.get_running_loop()
        while not self._finishing and (delay := self._due() - self._clock()) > 0:
            self._nudge.clear()
            timer = None if delay == inf else loop.call_later(delay, self._nudge.set)
            try:
                await self._nudge.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        return not self._finishing

    def _due(self) -> float:
        """The moment of the next turn."""
        moment = min(self._tell_at, self._again_at)
        if self._away_since is not None or (
            self._wanted() and (self._again_at == inf or self._queue.highest_priority > self._priority)
        ):
            moment = -inf
        if self._grants:
            unwanted = len(self._grants) > self._queue.waiting
            moment = -inf if unwanted else min(moment, self._grants[0][1])
        if self._flights:
            # Often enough to learn of lost state before the hold that follows it is over.
            moment = min(moment, self._last_sent + (self._per + self._margin) / 3)
        return max(moment, self._retry_at)

    def _wanted(self) -> int:
        """How many tokens are worth asking for: for the callers of one priority, as many as may start now."""
        in_hand = len(self._grants)
        wanted = 0 if self._closing else min(self._queue.highest_waiting - in_hand, _MOST)
        return max(0, self._local.room(asyncio.get_running_loop().time(), in_hand, wanted)) if wanted > 0 else 0

    async def _turn(self, connection: StoreConnection | None) -> StoreConnection | None:
        told, ask = self._compose()
        sent = self._clock()
        try:
            if connection is None:
                connection = self._store.connect()
            turn = await connection.turn(ask)
        except SharedLimitUnavailableError as error:
            self._fail(sent)
            self._away_since = self._away_since or datetime.now(UTC)
            self._watch.gone(self._name, error.message)
        except ConfigurationError as error:
            self._fail(sent)
            self._queue.turn_away(error)
        except Exception as error:
            # A third party's store that breaks its contract must not leave callers waiting for ever.
            _log.exception("%s: the shared store failed", self._name)
            self._fail(sent)
            self._queue.turn_away(ConfigurationError(f"the shared store failed: {type(error).__name__}"))
        else:
            self._settle(told, ask, turn, sent)
            self._wake()
        return connection

    def _compose(self) -> tuple[dict[int, float], Ask]:
        """The next ask, and the ends of requests that it tells."""
        now, queue = self._clock(), self._queue
        self._drop_stale()
        while len(self._grants) > queue.waiting:
            self._ended[self._grants.pop()[0]] = _UNSENT
        count = self._wanted()
        for number in range(self._next + count, self._asked_to):
            self._ended[number] = _UNSENT  # perhaps granted by a turn whose answer got lost, and not wanted any more
        self._asked_to = max(self._asked_to, self._next + count)
        self._priority = queue.highest_priority
        concluded = [(number, max(0, _whole(back - now))) for number, back in self._ended.items()]
        if self._tell_flights:
            fresh = [*self._grants, *self._flights.items()]
            concluded += [(number, _whole(until - _FRESH + self._lease - now)) for number, until in fresh]
        last = self._last
        ask = replace(
            self._blank,
            go=last is None and self._store.first_use == "go",
            serial=0 if last is None else last.serial,
            epoch=0 if last is None else last.epoch,
            jumped=self._jumped,
            not_after=0 if last is None else last.now + _whole(now - self._last_sent + self._store.timeout),
            priority=self._priority,
            first=self._next,
            count=count,
            pause=max(0, _whole(self._pause_until - now)),
            concluded=tuple(concluded),
        )
        return dict(self._ended), ask

    def _settle(self, told: dict[int, float], ask: Ask, turn: Turn, sent: float) -> None:
        now, loop_now, last = self._clock(), asyncio.get_running_loop().time(), self._last
        for number, back in told.items():
            if self._ended.get(number) == back:
                del self._ended[number]
        self._tell_at = inf
        for back in self._ended.values():
            self._tell_within(back)
        # No number is ever asked for again: a turn that was stuck on its way may still conclude it.
        self._next = self._asked_to = max(self._asked_to, self._next + ask.count)
        lost = last is not None and turn.epoch != last.epoch
        own = (now - self._last_sent) * (1 + _DRIFT) + _JUMP
        # Also when another process has told already: the clock may have been set again since.
        self._jumped = last is not None and (turn.now - last.now) / MICROSECONDS > own
        self._grants.extend((number, sent + _FRESH) for number in turn.granted)
        self._tell_flights = bool(lost or self._jumped) and bool(self._grants or self._flights)
        if self._jumped:
            # Tokens were taken back too early, and these may be among them.
            _log.warning("%s: the clock of the shared store has jumped ahead; holding for safety", self._name)
            self._ended |= {number: _UNSENT for number, _ in self._grants}
            self._grants.clear()
        if self._jumped or self._tell_flights:
            self._tell_at = -inf
        self._last, self._last_sent = turn, sent
        self._again_at = now + turn.again / MICROSECONDS if turn.again else inf
        self._hold_ends = loop_now + turn.hold / MICROSECONDS
        self._pause_ends = loop_now + turn.pause / MICROSECONDS
        self._failures, self._retry_at, self._away_since = 0, -inf, None
        self._watch.back(self._name)
        if turn.hold and (last is None or lost):
            _log.warning(
                "%s: the shared store does not know what was sent lately (first use, or its state was lost); nothing "
                "is sent for %.3g s",
                *(self._name, turn.hold / MICROSECONDS),
            )

    def _fail(self, now: float) -> None:
        first, most = _BACKOFF
        wait = min(most, first * 2.0 ** min(self._failures, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self._failures += 1
        self._retry_at = now + wait
        self._again_at = inf

    def _end(self, token: str, back: float) -> None:
        if token:
            self._flights.pop(int(token), None)
            self._ended[int(token)] = back
            self._tell_within(back)
            self._nudge.set()

    def _tell_within(self, back: float) -> None:
        # What came back unused is worth a turn of its own, since others may wait for it.
        within = 0.0 if back == _UNSENT else min(_REPORT_WITHIN, self._per / 100)
        self._tell_at = min(self._tell_at, self._clock() + within)

    def _drop_stale(self) -> None:
        now = self._clock()
        while self._grants and self._grants[0][1] <= now:
            self._ended[self._grants.popleft()[0]] = _UNSENT

    def _give_up_all(self) -> None:
        """What is under way still loses its connection now."""
        back = self._clock() + self._margin + self._turnover
        self._ended |= dict.fromkeys(self._flights, back)
        self._flights.clear()


def _whole(seconds: float) -> int:
    """Microseconds, rounded up; none for what lies infinitely far back."""
    return 0 if seconds == -inf else -int(-seconds * MICROSECONDS // 1)
