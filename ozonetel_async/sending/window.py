"""Where the tokens of one queue live: the seam between who waits and what may start.

A queue (``queue.py``) knows its callers: their order, bounds, deadlines and cancellation. A ``Window`` knows the
limit: the tokens, when each of them comes back, pauses and the pace. All of it is synchronous, so that a cancelled
caller concerns the queue alone. ``LocalWindow`` holds the tokens of one process in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush, nsmallest
from math import inf
from typing import Protocol

from ..config import RateLimit
from ..errors import ConfigurationError
from .pace import Pace
from .shared.store import StoreFigures

__all__ = ["GUARD", "Demand", "LocalWindow", "Window"]

# uvloop's clock is cached once per loop step and cut to whole milliseconds: an answer may seem to have come that much
# earlier than it did. It is also the shortest time for which a timer is set, so that nothing spins.
GUARD = 0.001


class Demand(Protocol):
    """What a window may ask its queue."""

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot, those granted included."""

    @property
    def highest_priority(self) -> int:
        """Priority of the caller that is next; 0 while nobody waits."""

    @property
    def highest_waiting(self) -> int:
        """Callers of that priority that wait and are not granted a start."""

    def turn_away(self, error: ConfigurationError) -> None:
        """Let everybody who waits fail with this error."""


class Window(Protocol):
    """The tokens of one queue. All moments are loop times in seconds.

    ``granted`` is the number of callers that were granted a start and have not taken it yet: each of them will call
    ``take`` within the next steps of the loop, or be cancelled.
    """

    def bind(self, queue: Demand, wake: Callable[[], None]) -> None:
        """Learn whose window this is; called once, before anything else, perhaps without a running loop.

        Args:
            queue: who asks.
            wake: to be called, from the loop, when room or ``next_moment`` changed by something else than the queue's
                own calls, such as the reply of a store.
        """

    @property
    def store(self) -> StoreFigures | None:
        """How it stands with the store that other processes share; None where nothing is shared."""

    def pace(self, now: float) -> float:
        """Share of the limit in use, 1.0 unless the server refused requests lately."""

    @property
    def resume_at(self) -> float:
        """The end of the present pause; nothing starts earlier."""

    def free(self, now: float) -> int:
        """Tokens that are neither in flight nor held by the window."""

    def room(self, now: float, granted: int, wanted: int) -> int:
        """How many of ``wanted`` further requests may start now; zero or less when none."""

    def take(self, now: float) -> str:
        """Take the token for a request that starts now, whether or not there is room, and return its id."""

    def good_until(self, token: str) -> float:
        """The moment after which a request with this token must not be sent any more; infinite where there is none."""

    def cool(self, token: str, started: float, now: float, lost: bool) -> None:
        """A request that took its token at ``started`` has ended: its token comes back ``limit.per`` from now.

        Args:
            lost: no answer came, so the request may still be on its way: the transit margin is added.
        """

    def give_back(self, token: str) -> None:
        """The request of this token is known never to have left."""

    def refuse(self, token: str, started: float, now: float, retry_after: float | None) -> None:
        """The server refused the request of this token for its rate: pause, go slower; the token as in ``cool``."""

    def next_moment(self, now: float, granted: int) -> float:
        """The moment at which a further request may start, infinite while an answer or a call of ``wake`` decides."""

    def earliest(self, now: float, granted: int, ahead: int, priority: float) -> float:
        """The moment at which a request of that priority with ``ahead`` others in front may start at best."""

    def close(self) -> None:
        """The queue is closed: grant nothing more. Tokens in flight may still be concluded."""


class LocalWindow:
    """The tokens of one process: each comes back ``limit.per`` seconds after the answer.

    Args:
        limit: requests per window, the window's seconds, and the burst.
        transit_margin: seconds that a request without an answer may still be on its way after its connection was
            closed.
        name: the queue's, for the log.
        rng: random numbers in [0, 1) that lengthen pauses after refusals.
    """

    __slots__ = ("_cooling", "_free", "_margin", "_pace", "_requests", "_turn")

    def __init__(
        self, limit: RateLimit, transit_margin: float, name: str, rng: Callable[[], float] = random.random
    ) -> None:
        self._requests = limit.requests
        self._turn = limit.per + GUARD
        self._margin = transit_margin
        self._pace = Pace(name, limit, rng)
        self._free = limit.requests  # matured tokens, those of granted callers that have not taken them included
        self._cooling: list[float] = []  # heap of the loop times at which tokens come back

    def bind(self, queue: Demand, wake: Callable[[], None]) -> None:
        """Nothing to learn: only the queue's own calls change what is here."""

    @property
    def store(self) -> None:
        """Nothing is shared."""

    def pace(self, now: float) -> float:
        """Share of the limit in use, 1.0 unless the server refused requests lately."""
        self._pace.recover(now)
        return self._pace.share

    @property
    def resume_at(self) -> float:
        """The end of the present pause."""
        return self._pace.resume_at

    def free(self, now: float) -> int:
        """Tokens that are neither in flight nor held by the window."""
        cooling = self._cooling
        while cooling and cooling[0] <= now:
            heappop(cooling)
            self._free += 1
        return self._free

    def room(self, now: float, granted: int, wanted: int) -> int:
        """How many of ``wanted`` further requests may start now; zero or less when none."""
        room = self.free(now) - granted
        if room > wanted:
            room = wanted
        return self._pace.allowed(now, room, granted, self._in_flight) if room > 0 else 0

    @property
    def _in_flight(self) -> int:
        return self._requests - self._free - len(self._cooling)

    def take(self, now: float) -> str:
        """Take a token; they are all alike here."""
        self._free -= 1
        self._pace.start(now)
        return ""

    def good_until(self, token: str) -> float:
        """A token of one's own never goes stale."""
        return inf

    def cool(self, token: str, started: float, now: float, lost: bool) -> None:
        """The token comes back ``limit.per`` from now, and the transit margin later when no answer came."""
        if lost:
            now += self._margin
        else:
            self._pace.accept(now, started)
        heappush(self._cooling, now + self._turn)

    def give_back(self, token: str) -> None:
        """The token comes back at once."""
        self._free += 1

    def refuse(self, token: str, started: float, now: float, retry_after: float | None) -> None:
        """Pause and go slower."""
        self._pace.refuse(now, started, retry_after)
        heappush(self._cooling, now + self._turn)

    def next_moment(self, now: float, granted: int) -> float:
        """The moment at which a further request may start, infinite while an answer decides."""
        short = granted - self._free
        if short >= len(self._cooling):
            return inf
        moment = self._pace.soonest(now, granted, self._in_flight)
        if short >= 0:
            moment = max(moment, nsmallest(short + 1, self._cooling)[-1] if short else self._cooling[0])
        return moment

    def earliest(self, now: float, granted: int, ahead: int, priority: float = 0) -> float:
        """The moment at which a request with ``ahead`` others in front may start at best, whatever its priority.

        Each token goes round in a window plus the guard; tokens that come back later than the next round of the
        first are taken as coming with it, which can only make the result earlier.
        """
        requests, turn = self._requests, self._turn
        free = self.free(now)
        back = [now] * (free - granted) + sorted(self._cooling)
        back += [now + turn] * (requests - len(back))
        rounds, index = divmod(ahead, requests)
        first = max(back[0], self._pace.resume_at)
        token = min(max(back[index], first), first + turn) + rounds * turn
        return max(token, self._pace.earliest(now, ahead + granted))

    def close(self) -> None:
        """Nothing to let go of."""
