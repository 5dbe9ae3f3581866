"""The rate limit as a server counts it: exactly, on the server's clock, at the moment a request arrives."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from math import floor
from typing import Literal

__all__ = ["RateWindow", "WindowKind", "worst_window"]

WindowKind = Literal["sliding", "calendar", "first_request", "token_bucket"]

# Sums of clock readings are off by their rounding; a microsecond hides that and nothing that matters.
_ROUNDING = 1e-6


class RateWindow:
    """At most ``requests`` per ``per`` seconds, counted in one of four ways.

    Args:
        requests: requests that one window admits.
        per: length of the window in seconds.
        kind: ``"sliding"``: any stretch of ``per`` seconds. ``"calendar"``: windows side by side from a common origin.
            ``"first_request"``: a window opens with the first request after the last one closed. ``"token_bucket"``: a
            full bucket of ``requests`` tokens that fills evenly, ``requests`` in ``per`` seconds.
    """

    __slots__ = ("_admits", "_filled", "_level", "_start", "_times", "_used", "kind", "per", "requests")

    def __init__(self, requests: int, per: float, kind: WindowKind = "sliding") -> None:
        if requests < 1 or per <= 0:
            raise ValueError(f"expected at least 1 request in more than 0 seconds, got {requests} in {per}")
        self.requests: int = requests
        self.per: float = per
        self.kind = kind
        self._times: deque[float] = deque()
        self._start = float("-inf")
        self._used = 0
        self._level = float(requests)
        self._filled: float | None = None
        rules: dict[str, Callable[[float], bool]] = {
            "sliding": self._admits_sliding,
            "calendar": self._admits_calendar,
            "first_request": self._admits_first_request,
            "token_bucket": self._admits_token_bucket,
        }
        self._admits = rules[kind]

    def admits(self, now: float) -> bool:
        """Whether a request that arrives now is within the limit; counts nothing."""
        return self._admits(now)

    def count(self, now: float) -> None:
        """Count a request that arrives now. More may be counted than are admitted."""
        self._admits(now)
        if self.kind == "sliding":
            self._times.append(now)
        elif self.kind == "token_bucket":
            self._level = max(0.0, self._level - 1.0)
        else:
            if self.kind == "first_request" and self._used == 0:
                self._start = now
            self._used += 1

    def _admits_sliding(self, now: float) -> bool:
        times = self._times
        edge = now - self.per + _ROUNDING
        while times and times[0] <= edge:
            times.popleft()
        return len(times) < self.requests

    def _admits_calendar(self, now: float) -> bool:
        start = floor((now + _ROUNDING) / self.per) * self.per
        if start > self._start + _ROUNDING:
            self._start, self._used = start, 0
        return self._used < self.requests

    def _admits_first_request(self, now: float) -> bool:
        if now >= self._start + self.per - _ROUNDING:
            self._used = 0
        return self._used < self.requests

    def _admits_token_bucket(self, now: float) -> bool:
        if self._filled is not None:
            gained = (now - self._filled) * self.requests / self.per
            self._level = min(float(self.requests), self._level + gained)
        self._filled = now
        return self._level >= 1.0 - _ROUNDING


def worst_window(times: Iterable[float], per: float) -> int:
    """Most of these arrival times (in ascending order) that any half-open window of ``per`` seconds holds."""
    times = array("d", times)
    worst = first = 0
    for last, now in enumerate(times):
        while times[first] <= now - per + _ROUNDING:
            first += 1
        worst = max(worst, last - first + 1)
    return worst
