"""What is shaped in front of the exact window: spacing, pauses after refusals, and a pace that falls and recovers.

Servers that only estimate their window, or that other programs share, refuse clients that keep the limit exactly. So a
refusal is an observation: wait, go slower, and come back step by step.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf

from aiolimiter import AsyncLimiter

from ..config import RateLimit

__all__ = ["Pace"]

_FALL = 0.75  # the pace after a refusal, as a share of the pace before
_RISE = 0.1  # what each window without refusal gives back, as a share of the full pace
_FIRST_PAUSE = 1 / 8  # of a window, when the server names no time; doubles with each refusal in a row, up to a window


class Pace:
    """How fast the window may be used: pauses after refusals, the falling and rising share, spacing by aiolimiter.

    Each refusal of a request that was started after the last adaptation takes the pace to 3/4 (at least one request
    per window) and pauses the queue: for the time the server named, else for 1/8 window, doubled with each further
    one up to a window. Refusals of requests started before it belong to the same overload: they only extend the
    pause when the server names a time. Each ``per`` seconds without refusal give back a tenth of the full pace, and
    the next pause begins at 1/8 again.
    """

    __slots__ = ("_adapted_at", "_limit", "_spacing", "_step_at", "_streak", "burst", "resume_at", "share", "withheld")

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self.share = 1.0
        self.withheld = 0  # tokens that the present share leaves unused
        self.resume_at = 0.0
        self._adapted_at = -inf
        self._step_at = 0.0
        self._streak = 0
        self._shape()

    def _shape(self) -> None:
        requests = self._limit.requests
        usable = max(1, int(requests * self.share + 1e-9))
        self.withheld = requests - usable
        self.burst = min(self._limit.burst or requests, usable)
        free_running = self.burst >= usable
        self._spacing = None if free_running else AsyncLimiter(self.burst, self.burst * self._limit.per / usable)

    @property
    def spacing(self) -> AsyncLimiter | None:
        """The limiter each start has to pass, or None while the window alone decides."""
        return self._spacing

    def refuse(self, now: float, started: float, retry_after: float | None) -> None:
        """Take in a refusal that arrived ``now`` for a request started at ``started``."""
        per = self._limit.per
        pause = retry_after
        if started > self._adapted_at:
            if not pause:  # a server that names no time, or none worth the name, would refuse again
                pause = per * min(1.0, _FIRST_PAUSE * 2.0**self._streak)
            self._streak = min(self._streak + 1, 16)
            self._adapted_at = now
            self.share = max(1 / self._limit.requests, self.share * _FALL)
            self._shape()
        if pause is not None:
            # A deadline that only moves forward: no other request's shorter pause can end this one early.
            self.resume_at = max(self.resume_at, now + pause)
        self._step_at = max(self._step_at, self._adapted_at, self.resume_at)

    def recover(self, now: float) -> None:
        """Give back what the windows since the last refusal have earned."""
        clean = int((now - self._step_at) / self._limit.per)
        if clean > 0 and self.share < 1.0:
            self._step_at += clean * self._limit.per
            self._streak = 0
            self.share = min(1.0, self.share + clean * max(_RISE, 1 / self._limit.requests))
            self._shape()

    def start(self) -> None:
        """Count a start that goes ahead now."""
        # Asked first, so that the coroutine ends at once: no await may stand between a token and its slot.
        if self._spacing is not None and self._spacing.has_capacity():
            with suppress(StopIteration):
                self._spacing.acquire().send(None)

    def allowed(self, wanted: int, granted: int) -> int:
        """How many of ``wanted`` starts the spacing lets through now, beside ``granted`` ones still to come."""
        if self._spacing is None:
            return wanted
        low, high = 0, min(wanted, self.burst - granted)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._has(granted + middle) else (low, middle - 1)
        return low

    def _has(self, amount: float) -> bool:
        assert self._spacing is not None
        # A hair more than needed: the sum of many acquire(1) may round to more than acquire(many).
        return self._spacing.has_capacity(min(amount + 1e-6, self.burst))

    def delay(self, granted: int) -> float:
        """Seconds until the spacing lets one more start through."""
        if self._spacing is None or self._has(min(granted + 1, self.burst)):
            return 0.0
        # aiolimiter says only whether an amount fits: halving finds the largest that does, hence its level.
        low, high = 0.0, float(granted + 1)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self._has(middle) else (low, middle)
        return (granted + 1 - low) * self._spacing.time_period / self._spacing.max_rate

    def least(self, ahead: int) -> float:
        """Seconds that the spacing takes at the very least to let ``ahead`` starts and one more through."""
        if self._spacing is None:
            return 0.0
        step = self._limit.per / self._limit.requests
        first = self.delay(0)
        return max((ahead + 1 - self.burst) * step, first + ahead * step if first else 0.0)
