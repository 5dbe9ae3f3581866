"""What is shaped in front of the exact window: spacing, pauses after refusals, a pace that falls and recovers.

Some servers refuse clients that keep the limit exactly: those that only estimate their window, those whose limit is
lower than documented, and those whose limit other programs share. The rule for them, with N requests per ``per``
seconds, a *step* of ``per / N`` at the present pace, and a *clean window* being ``per`` seconds without refusal:

1. **Careful.** Once N requests were accepted within the last two windows, at most N / 10 are under way at a time (one
   more may start a step after the last), so that a server which has had enough refuses a few and not a whole burst.
2. **Slowed.** From the first refusal on, requests start a step apart. The pace stays the full limit. A start that is
   late by under a quarter of a step keeps the schedule; idle time earns nothing.
3. **Pause.** A refusal stops the queue for the time the server names, else for 1/8 of a window or two steps, doubled
   with each further one up to a window, and lengthened at random by up to a half: without chance, two clients of one
   account would probe in step for ever, and the same one would lose each time.
4. **Fall.** A further refusal says that the pace is too high, provided that something was accepted since the last
   change. What was accepted in the last window is what the server gives us now: it becomes the *top* (at least half of
   the pace so far), and the pace falls to 85 % of it.
5. **Storm.** Three refusals without an acceptance between them are not about the pace, which goes back to what it was
   before them.
6. **Return.** A clean window gives back half of the way to the top. At the top, after ten clean windows, one more
   request per window is tried, then two more, four more, …; a refused try doubles the wait, up to forty windows.
7. **Recovered.** After twenty clean windows at the full pace the spacing ends.

A request that was started before the last change belongs to what that change answered: its refusal punishes nobody a
second time, and only extends the pause when the server names a time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import ceil, inf

from aiolimiter import AsyncLimiter

from ..config import RateLimit

__all__ = ["Pace"]

_log = logging.getLogger("ozonetel_async")

_WIDTH = 0.1  # of the limit may be under way at a time in a careful window
_LATE = 0.25  # of a step that a start may be late and keep the schedule
_FIRST_PAUSE = 1 / 8  # of a window
_LENGTHENED = 0.5  # of a pause, at most, by chance
_FALL = 0.85  # of the top
_STORM = 3  # refusals in a row
_PROBE_AFTER, _PROBE_AT_MOST = 10, 40  # clean windows
_RECOVERED_AFTER = 20  # clean windows


class Pace:
    """How fast the window may be used.

    Args:
        name: the queue's, for the log.
        limit: requests per window, the window's seconds, and the burst.
        rng: random numbers in [0, 1) that lengthen pauses.

    Attributes:
        share: part of the limit in use, 1.0 unless the server refused requests lately.
        resume_at: loop time in seconds at which the present pause ends.
    """

    __slots__ = (
        "_accepted",
        "_before_run",
        "_burst",
        "_changed_at",
        "_clean",
        "_clean_from",
        "_heard",
        "_limit",
        "_name",
        "_next_start",
        "_pauses",
        "_probe",
        "_probe_after",
        "_rng",
        "_run",
        "_slowed",
        "_spacing",
        "_top",
        "_width",
        "resume_at",
        "share",
    )

    def __init__(self, name: str, limit: RateLimit, rng: Callable[[], float]) -> None:
        self._name = name
        self._limit = limit
        self._rng = rng
        self._burst = limit.burst or limit.requests
        shaped = self._burst < limit.requests
        self._spacing = AsyncLimiter(self._burst, self._burst * limit.per / limit.requests) if shaped else None
        self._width = max(1, int(limit.requests * _WIDTH))
        self._accepted: deque[float] = deque(maxlen=limit.requests)  # when
        self._next_start = -inf
        self.resume_at = 0.0
        self.share = 1.0
        self._top = 1.0
        self._slowed = False
        self._changed_at = -inf
        self._heard = False  # whether a request started since the last change was accepted
        self._run = 0  # refusals since then
        self._before_run = (1.0, 1.0)  # share and top
        self._pauses = 0  # since the last clean window
        self._clean = 0  # clean windows since the last refusal or try
        self._clean_from = 0.0  # up to when they are counted
        self._probe = 0  # requests per window that the next try adds
        self._probe_after = _PROBE_AFTER

    @property
    def _step(self) -> float:
        return self._limit.per / (self._limit.requests * self.share)

    # -- what is heard from the server ------------------------------------------------------------------------------

    def accept(self, now: float, started: float) -> None:
        """Take in an answer that was no refusal, to a request started at ``started``."""
        self._accepted.append(now)
        if self._slowed and started > self._changed_at:
            self._heard = True
            self._run = 0

    def refuse(self, now: float, started: float, retry_after: float | None) -> None:
        """Take in a refusal that arrived ``now`` for a request started at ``started``."""
        if started > self._changed_at:
            self.recover(now)
            self._adapt(now)
            pause = retry_after or self._own_pause()
            self._changed_at = now
            self._pauses += 1
        else:
            pause = retry_after or 0.0
        # A deadline that only moves forward: no other request's shorter pause can end this one early.
        self.resume_at = max(self.resume_at, now + pause)
        self._clean_from = max(self._clean_from, self._changed_at, self.resume_at)
        if not self._slowed:
            self._slowed = True
            _log.warning(
                "%s: the server refuses requests for their rate; pausing for %.3g s, then going on at %.3g per %g s",
                *(self._name, pause, self.share * self._limit.requests, self._limit.per),
            )

    def _adapt(self, now: float) -> None:
        self._run += 1
        if self._run == 1:
            self._before_run = self.share, self._top
        if self._run == _STORM:
            self.share, self._top = self._before_run
        elif self._slowed and self._heard:
            requests, per = self._limit.requests, self._limit.per
            accepted = sum(moment > now - per for moment in self._accepted)
            self._top = max(1 / requests, min(self.share, max(accepted / requests, self.share / 2)))
            self.share = max(1 / requests, self._top * _FALL)
            if self._probe > 1:  # the last change for the better was a try
                self._probe_after = min(2 * self._probe_after, _PROBE_AT_MOST)
            self._probe = 1
        self._clean = 0
        self._heard = False

    def _own_pause(self) -> float:
        per = self._limit.per
        pause = min(per, max(per * _FIRST_PAUSE, 2 * self._step) * 2.0 ** min(self._pauses, 16))
        return pause * (1 + _LENGTHENED * self._rng())

    def recover(self, now: float) -> None:
        """Give back what the clean windows since the last refusal have earned."""
        while self._slowed and now - self._clean_from >= self._limit.per:
            self._clean_from += self._limit.per
            self._pauses = 0
            self._clean += 1
            self._rise()

    def _rise(self) -> None:
        if self.share < self._top:
            back = (self._top - self.share) / 2
            self.share = self._top if back * self._limit.requests < 0.5 else self.share + back
            self._clean = 0
        elif self._top < 1.0:
            if self._clean >= self._probe_after:
                self.share = self._top = min(1.0, self._top + self._probe / self._limit.requests)
                self._probe *= 2
                self._clean = 0
        elif self._clean >= _RECOVERED_AFTER:
            self._slowed = False
            self._probe_after = _PROBE_AFTER
            _log.info("%s: the server takes the full pace again", self._name)

    # -- what may start ---------------------------------------------------------------------------------------------

    def _careful(self, now: float) -> bool:
        accepted = self._accepted
        return len(accepted) == self._limit.requests and accepted[0] > now - 2 * self._limit.per

    def start(self, now: float) -> None:
        """Count a start that goes ahead now."""
        step = self._step
        kept = now - _LATE * step <= self._next_start <= now
        self._next_start = (self._next_start if kept else now) + step
        # Asked first, so that the coroutine ends at once: no await may stand between a token and its slot.
        if self._spacing is not None and self._spacing.has_capacity():
            with suppress(StopIteration):
                self._spacing.acquire().send(None)

    def allowed(self, now: float, wanted: int, granted: int, in_flight: int) -> int:
        """How many of ``wanted`` starts may go ahead now, beside ``granted`` ones still to come."""
        if now < self.resume_at:
            return 0
        if self._slowed:
            self.recover(now)
        if self._slowed or self._careful(now):
            beside = 0 if self._slowed else self._width - in_flight - granted
            by_time = 1 if not granted and now >= max(self._next_start, self._usable_at(in_flight)) else 0
            wanted = min(wanted, max(beside, by_time))
        if wanted < 1 or self._spacing is None:
            return wanted
        low, high = 0, min(wanted, self._burst - granted)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._has(granted + middle) else (low, middle - 1)
        return low

    def _has(self, amount: float) -> bool:
        assert self._spacing is not None
        # A hair more than needed: the sum of many acquire(1) may round to more than acquire(many).
        return self._spacing.has_capacity(min(amount + 1e-6, self._burst))

    def soonest(self, now: float, granted: int, in_flight: int) -> float:
        """The moment at which one more start may go ahead."""
        moment = max(now + self._shaped(granted), self.resume_at)
        if self._slowed or (self._careful(now) and in_flight + granted >= self._width):
            moment = max(moment, self._next_start + granted * self._step, self._usable_at(in_flight + granted))
        return moment

    def _usable_at(self, under_way: int) -> float:
        """The moment at which the present pace has room for one more accepted request in a window."""
        usable = ceil(self._limit.requests * self.share - 1e-9)
        spare = usable - under_way
        if spare < 1:
            return inf
        return self._accepted[-spare] + self._limit.per if len(self._accepted) >= spare else -inf

    def _shaped(self, granted: int) -> float:
        """Seconds until the burst's limiter lets one more start through."""
        if self._spacing is None or self._has(min(granted + 1, self._burst)):
            return 0.0
        # aiolimiter says only whether an amount fits: halving finds the largest that does, hence its level.
        low, high = 0.0, float(granted + 1)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self._has(middle) else (low, middle)
        return (granted + 1 - low) * self._spacing.time_period / self._spacing.max_rate

    def earliest(self, now: float, ahead: int) -> float:
        """The moment at which a start with ``ahead`` others in front may go ahead at best."""
        best = now
        if self._spacing is not None:
            step = self._limit.per / self._limit.requests
            first = self._shaped(0)
            best += max((ahead + 1 - self._burst) * step, first + ahead * step if first else 0.0)
        if self._slowed:
            best = max(best, self._next_start + ahead * self._step * (1 - _LATE))
        return max(best, self.resume_at)
