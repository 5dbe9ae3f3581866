"""A store in memory that processes of a test share, with faults on demand; `tests/contrib` holds it to its suite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from ozonetel_async import ConfigurationError, SharedLimitUnavailableError
from ozonetel_async.sending.shared.store import MICROSECONDS, Ask, BearerAsk, BearerTurn, FirstUse, Turn, read_turn

SOON = 20_000


@dataclass
class Ticket:
    rank: int
    place: int
    due: int = 0


@dataclass
class Queue:
    """What the scripts of the real stores keep, in the same terms."""

    run: int
    epoch: int = 0
    serial: int = 0
    at: int = 0
    place: int = 0
    hold: int = 0
    pause: int = 0
    limit: tuple[int, int] = (0, 0)
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    line: dict[str, Ticket] = field(default_factory=dict)

    def go_back(self, by: int) -> None:
        self.held = {token: back - by for token, back in self.held.items()}
        for ticket in self.line.values():
            ticket.due -= by
        self.hold -= by
        self.pause -= by


def loop_time() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class MemoryStore:
    """A store whose clock is the loop's, so that it works in virtual time.

    Attributes:
        away: it answers nothing.
        loses: whether the answer of a turn that was made gets lost.
        latency: seconds each way.
        shift: seconds that its clock was set ahead.
    """

    first_use: FirstUse = "go"
    timeout: float = 1.0
    away: bool = False
    loses: Callable[[], bool] = lambda: False
    latency: Callable[[], float] = lambda: 0.001
    shift: float = 0.0
    run: int = 1
    turns: int = 0
    asks: list[Ask] = field(default_factory=list)
    queues: dict[str, Queue] = field(default_factory=dict)

    def connect(self) -> MemoryConnection:
        return MemoryConnection(self)

    def lose_everything(self) -> None:
        self.queues.clear()

    def turn(self, ask: Ask) -> Turn:
        self.turns += 1
        self.asks.append(ask)
        now = round((loop_time() + self.shift + 1_000_000) * MICROSECONDS)
        fresh = ask.key not in self.queues
        queue = self.queues.setdefault(ask.key, Queue(self.run))
        if now < queue.at:
            queue.go_back(queue.at - now)
        queue.at = now
        jumped = ask.jumped and ask.epoch == queue.epoch
        if fresh or queue.run != self.run or queue.serial < ask.serial or jumped:
            queue.run, queue.epoch, queue.serial = self.run, max(now, queue.epoch + 1), max(queue.serial, ask.serial)
            if not (fresh and ask.go):
                queue.hold = max(queue.hold, now + ask.hold)
        queue.serial += 1
        for number, back in ask.concluded:
            queue.held[ask.process, number] = now + back
        if ask.pause:
            queue.pause = max(queue.pause, now + ask.pause)
        queue.held = {token: back for token, back in queue.held.items() if back > now}
        queue.line = {process: ticket for process, ticket in queue.line.items() if ticket.due > now}
        limit = ask.requests, ask.per
        if queue.limit not in ((0, 0), limit) and (queue.held or queue.line):
            return read_turn(ask, [1, *queue.limit])
        queue.limit = limit
        granted, again = self.grant(queue, ask, now)
        free = ask.requests - len(queue.held)
        hold, pause = max(queue.hold - now, 0), max(queue.pause - now, 0)
        return Turn(now, queue.epoch, queue.serial, hold, pause, again, free, tuple(granted))

    def grant(self, queue: Queue, ask: Ask, now: int) -> tuple[list[int], int]:
        if ask.not_after and now > ask.not_after:
            return [], 0
        old = queue.line.pop(ask.process, None)
        numbers = range(ask.first, ask.first + ask.count)
        granted = [number for number in numbers if (ask.process, number) in queue.held]
        new = [number for number in numbers if number not in granted]
        if ask.count:
            queue.place += old is None
            ticket = Ticket(-ask.priority, queue.place if old is None else old.place)
            mine = ticket.rank, ticket.place
            awake = [
                other
                for other in queue.line.values()
                if (other.rank, other.place) < mine and other.due - ask.slack <= now
            ]
            free = ask.requests - len(queue.held)
            share = 0
            if now >= max(queue.hold, queue.pause) and free > len(awake):
                equals = 1 + sum(other.rank == ticket.rank for other in queue.line.values())
                share = min(len(new), ceil((free - len(awake)) / equals))
            if any(other.rank < ticket.rank for other in awake):
                share = 0
            granted += new[:share]
        queue.held |= {(ask.process, number): now + ask.lease for number in granted}
        if not ask.count or share == len(new):
            return granted, 0
        if share:
            queue.place += 1
            ticket.place = queue.place
        ahead = sum((other.rank, other.place) < (ticket.rank, ticket.place) for other in queue.line.values())
        need = ahead + 1 - (free - share)
        come = now
        if need > 0:
            come = min([*sorted(queue.held.values())[:need][-1:], now + ask.per])
        come = max(come, queue.hold, queue.pause)
        ticket.due = come + ask.slack
        queue.line[ask.process] = ticket
        return granted, max(come - now, SOON)


@dataclass
class MemoryConnection:
    store: MemoryStore
    closed: bool = False

    async def turn(self, ask: Ask) -> Turn:
        await self.travel()
        turn = self.store.turn(ask)
        await self.travel()
        if self.store.loses():
            raise SharedLimitUnavailableError("the answer got lost")
        return turn

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        raise ConfigurationError("holds no bearer tokens")

    async def close(self) -> None:
        self.closed = True

    async def travel(self) -> None:
        await asyncio.sleep(self.store.latency())
        if self.store.away:
            await asyncio.sleep(self.store.timeout)
            raise SharedLimitUnavailableError("no answer")
