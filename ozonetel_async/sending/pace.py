"""What is shaped in front of the exact window: spacing, pauses after refusals, a pace that falls and recovers.

Some servers refuse clients that keep the limit exactly: those that only estimate their window, those whose limit is
lower than documented, and those whose limit other programs share. The rule for them, with N requests per ``per``
seconds, a *step* of ``per / N`` divided by the share of the limit in use, and a *clean window* being ``per`` seconds
without refusal:

1. **Careful.** Once N requests were accepted within the last two windows, at most N / 10 are under way at a time (one
   more may start a step after the last), so that a server that has had enough refuses a few and not a whole burst.
2. **Spaced.** From the first refusal on, requests start a step apart. The share stays 1. A start that is late by up to
   a quarter of a step keeps the schedule; idle time earns nothing.
3. **Pause.** A refusal stops the queue for the time the server names, else for 1/8 of a window or two steps, doubled
   with each further one up to a window, and lengthened at random by up to a half: without chance, two clients of one
   account probe in step, and the same one loses each time.
4. **Fall.** A further refusal says that the share is too high, if anything was accepted since the last change. What was
   accepted in the last window is what the server gives us: it becomes the *top*, and the share falls to 85 % of it. The
   top falls at most by half; at most by a fifth where a pause was part of that window, for then little was asked for
   (from ten requests on: with fewer, a fifth is not even one).
5. **Storm.** Three refusals with nothing accepted between them are not about the pace: it is again what it was before.
6. **Return.** A clean window gives back half of the way to the top. At the top, after as many clean windows as 40
   requests take, two at least, a quarter of what is missing is tried. A refused try doubles that time, up to 40
   windows.
7. **Back.** After 20 clean windows at the full limit, the spacing ends.

While the pace is below the limit, the requests accepted within ``per`` seconds and those under way are no more than
the share allows: spacing alone is not exact, because latency squeezes what was spaced.

A request that was started before the last change belongs to what that change answered: its refusal changes nothing a
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

_UNDER_WAY = 0.1  # of the limit, in a careful window
_LATE = 0.25  # of a step
_FIRST_PAUSE = 1 / 8  # of a window
_STEPS_PAUSED = 2
_LENGTHENED = 0.5  # of a pause, at most
_FALL = 0.85
_LOWEST, _LOWEST_PAUSED, _FEW = 0.5, 0.8, 10
_STORM = 3
_TRY = 0.25
_TRY_AFTER_REQUESTS, _TRY_AFTER, _TRY_AFTER_AT_MOST = 40, 2, 40
_BACK_AFTER = 20


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
        "_pauses",
        "_refused_tries",
        "_rng",
        "_run",
        "_scheduled",
        "_spaced",
        "_top",
        "_tried",
        "_under_way",
        "resume_at",
        "share",
    )

    def __init__(self, name: str, limit: RateLimit, rng: Callable[[], float]) -> None:
        self._name = name
        self._limit = limit
        self._rng = rng
        burst = limit.burst or limit.requests
        self._burst = AsyncLimiter(burst, burst * limit.per / limit.requests) if burst < limit.requests else None
        self._under_way = max(1, int(limit.requests * _UNDER_WAY))
        self._accepted: deque[float] = deque(maxlen=limit.requests)  # when
        self._scheduled = -inf  # when the last start was due
        self.resume_at: float = -inf
        self.share: float = 1.0
        self._top = 1.0
        self._spaced = False
        self._changed_at = -inf
        self._heard = False  # whether a request started since the last change was accepted
        self._run = 0  # refusals since then
        self._before_run = (1.0, 1.0)  # share and top
        self._pauses = 0  # since the last clean window
        self._clean = 0  # windows, at the present share
        self._clean_from = -inf
        self._tried = False  # whether the last change was a try
        self._refused_tries = 0

    @property
    def _step(self) -> float:
        return self._limit.per / (self._limit.requests * self.share)

    # -- what the server says -------------------------------------------------------------------------------------

    def accept(self, now: float, started: float) -> None:
        """Take in an answer that was no refusal, to a request started at ``started``."""
        self._accepted.append(now)
        if self._spaced and started > self._changed_at:
            self._heard = True
            self._run = 0

    def refuse(self, now: float, started: float, retry_after: float | None) -> None:
        """Take in a refusal that arrived ``now`` for a request started at ``started``."""
        pause = retry_after or 0.0
        if started > self._changed_at:
            self.recover(now)
            pause = retry_after or self._own_pause()
            self._fall(started)
            self._changed_at = now
            self._pauses += 1
        # A deadline that only moves forward: no other request's shorter pause can end this one early.
        self.resume_at = max(self.resume_at, now + pause)
        self._clean_from = max(self._clean_from, self._changed_at, self.resume_at)
        if not self._spaced:
            self._spaced = True
            _log.warning(
                "%s: the server refuses requests for their rate; pausing for %.3g s, then spacing them, %.3g per %g s",
                *(self._name, pause, self._limit.requests * self.share, self._limit.per),
            )

    def _own_pause(self) -> float:
        per = self._limit.per
        pause = max(per * _FIRST_PAUSE, self._step * _STEPS_PAUSED) * 2.0 ** min(self._pauses, 16)
        return min(per, pause) * (1 + _LENGTHENED * self._rng())

    def _fall(self, started: float) -> None:
        self._run += 1
        if self._run == 1:
            self._before_run = self.share, self._top
        if self._run == _STORM:
            self.share, self._top = self._before_run
        elif self._spaced and self._heard:
            self._top = self._given(started)
            self.share = max(1 / self._limit.requests, self._top * _FALL)
            self._refused_tries += self._tried
            self._tried = False
        self._heard = False
        self._clean = 0

    def _given(self, started: float) -> float:
        """The share that the server accepted in the window before a start, as far as that window can tell."""
        requests, begin = self._limit.requests, started - self._limit.per
        given = sum(moment > begin for moment in self._accepted) / requests
        paused = self.resume_at > begin and self.share * requests >= _FEW
        lowest = self.share * (_LOWEST_PAUSED if paused else _LOWEST)
        return max(1 / requests, min(self.share, max(given, lowest)))

    def recover(self, now: float) -> None:
        """Give back what the clean windows since the last refusal have earned."""
        while self._spaced and now - self._clean_from >= self._limit.per:
            self._clean_from += self._limit.per
            self._pauses = 0
            self._clean += 1
            self._rise()

    def _rise(self) -> None:
        requests = self._limit.requests
        if self.share < self._top:
            back = (self._top - self.share) / 2
            self.share = self._top if back * requests < 0.5 else self.share + back
        elif self.share < 1.0:
            wait = max(_TRY_AFTER, _TRY_AFTER_REQUESTS / (requests * self.share)) * 2.0 ** min(self._refused_tries, 16)
            if self._clean < min(wait, _TRY_AFTER_AT_MOST):
                return
            self.share = self._top = min(1.0, self.share + max(1, int((1 - self.share) * requests * _TRY)) / requests)
            self._tried = True
        else:
            if self._clean >= _BACK_AFTER:
                self._spaced = self._tried = False
                self._refused_tries = 0
                _log.info("%s: %d windows without refusal, back at the full pace", self._name, _BACK_AFTER)
            return
        self._clean = 0

    # -- what may start -------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Count a start that goes ahead now."""
        if self._spaced:
            due = self._scheduled + self._step
            self._scheduled = due if 0 <= now - due <= _LATE * self._step else now
        else:
            self._scheduled = now
        # Asked first, so that the coroutine ends at once: no await may stand between a token and its slot.
        if self._burst is not None and self._burst.has_capacity():
            with suppress(StopIteration):
                self._burst.acquire().send(None)

    def allowed(self, now: float, wanted: int, granted: int, in_flight: int) -> int:
        """How many of ``wanted`` starts may go ahead now, beside ``granted`` ones still to come."""
        if now < self.resume_at:
            return 0
        if self._spaced:
            self.recover(now)
        accepted = self._accepted
        if self._spaced or (len(accepted) == accepted.maxlen and self._careful(now)):
            beside = 0 if self._spaced else self._under_way - in_flight - granted
            due = not granted and now >= self._scheduled + self._step
            if due and self._spaced:
                due = now >= self._share_at(in_flight)
            wanted = min(wanted, max(beside, int(due)))
        if self._burst is None:
            return wanted
        low, high = 0, min(wanted, int(self._burst.max_rate) - granted)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(granted + middle) else (low, middle - 1)
        return low

    def soonest(self, now: float, granted: int, in_flight: int) -> float:
        """The moment at which one more start may go ahead, infinite while an answer decides."""
        moment = max(now + self._burst_delay(granted), self.resume_at)
        due = min(self._scheduled + (1 + granted) * self._step, now + self._step)
        if self._spaced:
            due = max(due, self._share_at(in_flight + granted))
            if self.share < 1.0:
                due = min(due, self._clean_from + self._limit.per)  # when it may rise
        elif self._careful(now) and in_flight + granted >= self._under_way:
            due = min(due, self._accepted[0] + 2 * self._limit.per)  # when care ends
        else:
            return moment
        return max(moment, due)

    def earliest(self, now: float, ahead: int) -> float:
        """The moment at which a start with ``ahead`` others in front may go ahead at best."""
        best = max(now, self.resume_at)
        step = self._limit.per / self._limit.requests  # the share may be back at 1 by then
        if self._burst is not None:
            delay = self._burst_delay(0)
            shaped = delay + ahead * step if delay else (ahead + 1 - self._burst.max_rate) * step
            best = max(best, now + shaped)
        if self._spaced:
            # A first start that is late keeps the schedule for those behind it.
            first = max(self._scheduled + step, max(now, self.resume_at) - _LATE * self._step)
            best = max(best, first + ahead * step)
        return best

    def _careful(self, now: float) -> bool:
        accepted = self._accepted
        return len(accepted) == self._limit.requests and accepted[0] > now - 2 * self._limit.per

    def _share_at(self, under_way: int) -> float:
        """The moment at which the share has room for one more than those accepted within a window and under way."""
        room = ceil(self._limit.requests * self.share - 1e-9) - under_way
        if room < 1:
            return inf
        return self._accepted[-room] + self._limit.per if len(self._accepted) >= room else -inf

    def _fits(self, amount: float) -> bool:
        assert self._burst is not None
        # A hair more than needed: the sum of many acquire(1) may round to more than acquire(many).
        return self._burst.has_capacity(min(amount + 1e-6, self._burst.max_rate))

    def _burst_delay(self, granted: int) -> float:
        """Seconds until the burst lets one more start through."""
        if self._burst is None or self._fits(min(granted + 1, self._burst.max_rate)):
            return 0.0
        # aiolimiter says only whether an amount fits: halving finds the largest that does, hence its level.
        low, high = 0.0, float(granted + 1)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self._fits(middle) else (low, middle)
        return (granted + 1 - low) * self._burst.time_period / self._burst.max_rate
