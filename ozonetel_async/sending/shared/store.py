"""What processes of one account share through a store, and what an adapter for a store has to do.

A store keeps, per account and endpoint, the tokens that are not back yet and a line of the processes that want one.
An adapter connects to it and makes two operations, each atomic and on the store's own clock: ``turn`` for the rate
limit and ``bearer`` for the bearer token. ``contrib/redis.py`` and ``contrib/postgres.py`` are adapters.

Times are whole microseconds. A moment is one of the store's clock, since 1970; everything else is a duration, so that
no clock of a client is ever compared with another one.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from math import inf
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct, ValidationError, convert

from ...errors import ConfigurationError, SharedLimitUnavailableError

__all__ = [
    "MICROSECONDS",
    "Action",
    "Ask",
    "BearerAsk",
    "BearerTurn",
    "FirstUse",
    "SharedStore",
    "StoreConnection",
    "StoreFigures",
    "Turn",
    "account_key",
    "check_store",
    "other_version",
    "read_bearer",
    "read_turn",
]

MICROSECONDS = 1_000_000
"""Per second."""

FirstUse = Literal["hold", "go"]
Action = Literal["get", "put", "fail", "drop"]

_T = TypeVar("_T")


class Ask(Struct, frozen=True):
    """One turn of one process in one queue: what became of its requests, and what it wants next.

    A token is named by its process and a number that the process chose. A turn whose answer got lost is repeated with
    the same numbers, which takes no second token.

    Attributes:
        key: Name of the queue in the store; holds neither user name nor key.
        queue: Short name of the endpoint, for errors.
        process: Random name of the process in this queue.
        requests: Requests that a window may hold.
        per: Length of the window.
        lease: How long a token is held when its process is never heard of again.
        slack: How late a process may come for its token before it loses its place in line; the same in all.
        hold: How long nothing is granted when the store does not know the queue or has lost some of its state.
        go: The caller vouches that nobody has sent for that long: a queue that is not known is not held.
        serial: The highest serial number that this process has seen; a store that is behind it has lost state.
        epoch: The last epoch that this process has seen, 0 for none.
        jumped: The process saw the store's clock jump ahead in that epoch: as if state had been lost.
        not_after: Moment after which nothing may be granted, since nobody waits for this answer any more; 0 for none.
        priority: Priority of the first caller in the process's queue.
        first: Number of the first token asked for; the others follow it.
        count: How many tokens are asked for, at most 1,000; 0 leaves the line. Those that an earlier turn granted,
            whose answer got lost, are granted again with a new lease.
        pause: How long nothing is granted because the service refused a request; 0 for not at all.
        concluded: Number and remaining time of each token whose return is known, or whose request is still under way
            after lost state; 0 returns it now. Numbers that the store does not know are added.
    """

    key: str
    queue: str
    process: str
    requests: int
    per: int
    lease: int
    slack: int
    hold: int
    go: bool = False
    serial: int = 0
    epoch: int = 0
    jumped: bool = False
    not_after: int = 0
    priority: int = 0
    first: int = 0
    count: int = 0
    pause: int = 0
    concluded: tuple[tuple[int, int], ...] = ()


class Turn(Struct, frozen=True):
    """The store's answer to an ``Ask``.

    Attributes:
        now: The moment of the turn.
        epoch: Changes when the store has lost state: tokens under way have to be told again.
        serial: Grows with each turn of any process.
        hold: How long nothing will be granted because state was not known or was lost.
        pause: How long nothing will be granted because the service refused a request.
        again: How long until the next ask may be granted something.
        free: Tokens that nobody holds, after this turn.
        granted: Numbers of the tokens granted.
    """

    now: int
    epoch: int
    serial: int
    hold: int
    pause: int
    again: int
    free: int
    granted: tuple[int, ...] = ()


class BearerAsk(Struct, frozen=True):
    """One operation on the account's bearer token.

    ``get`` asks for the token, or for the right to fetch a new one. ``put`` stores the token that was fetched,
    ``fail`` tells that none was, both with the generation that ``get`` gave. ``drop`` forgets a token that the service
    refused.

    Attributes:
        key: Name of the token in the store.
        process: Random name of the process.
        action: ``"get"``, ``"put"``, ``"fail"`` or ``"drop"``.
        lease: ``get``: how long nobody else may fetch when this process is never heard of again.
        fetches: ``get``: fetches that a window may hold.
        per: ``get``: length of the window.
        generation: ``put``, ``fail``: the fetch.
        token: ``put``, ``drop``: the token, sealed.
        renew: ``put``: how long the token is handed out. ``fail``: how long nobody is to fetch; the present token is
            handed out meanwhile, if it lives.
        life: ``put``: how long the token lives.
        unsent: ``fail``: the fetch never left and does not count.
    """

    key: str
    process: str
    action: Action
    lease: int = 0
    fetches: int = 0
    per: int = 0
    generation: int = 0
    token: str = ""
    renew: int = 0
    life: int = 0
    unsent: bool = False


class BearerTurn(Struct, frozen=True, array_like=True):
    """The store's answer to a ``BearerAsk``.

    Attributes:
        state: ``"token"``: use ``token`` for ``wait``; ``"fetch"``: fetch a new one as ``generation``; ``"wait"``:
            another process fetches, or nobody is to fetch; ``"spent"``: no fetch is left in this window for another
            ``wait``; ``"done"``: ``put``, ``fail`` or ``drop`` was applied, or came too late.
        token: The token, sealed.
        generation: The fetch.
        wait: A duration, see ``state``.
    """

    state: Literal["token", "fetch", "wait", "spent", "done"]
    token: str = ""
    generation: int = 0
    wait: int = 0


class StoreFigures(Struct, frozen=True):
    """How a queue stands with the store that shares its limit.

    Attributes:
        state: ``"ok"``; ``"away"``: no answer, callers wait; ``"holding"``: the store did not know the queue or has
            lost its state, and nothing is sent until nothing older counts any more.
        away_since: when the last answer became overdue, None unless away.
        holding_until: when the hold ends, None unless holding.
    """

    state: Literal["ok", "away", "holding"]
    away_since: datetime | None = None
    holding_until: datetime | None = None


class StoreConnection(Protocol):
    """One connection to a store, used by one task at a time. It is opened on first use and again after a failure.

    Both operations are atomic, answer within the store's timeout and read the store's clock after they have got
    exclusive access. They raise ``SharedLimitUnavailableError`` when no trustworthy answer came, whether the operation
    was applied or not, and ``ConfigurationError`` for what waiting does not mend. Messages hold no secret.
    """

    async def turn(self, ask: Ask) -> Turn:
        """Make a turn of the rate limit."""
        ...

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        """Make an operation on the bearer token."""
        ...

    async def close(self) -> None:
        """Close the connection; no operation is under way."""
        ...


class SharedStore(Protocol):
    """Where processes share the limits and the bearer token of an account; a plain description without connections.

    Attributes:
        first_use: ``"hold"`` waits one window and the transit margin when the store does not know an account's queue;
            ``"go"`` does not, for when nobody has sent for that long.
        timeout: Most seconds that an operation takes.
    """

    @property
    def first_use(self) -> FirstUse:
        """Whether a queue that the store does not know is held back first."""
        ...

    @property
    def timeout(self) -> float:
        """Most seconds to wait for an answer of the store."""
        ...

    def connect(self) -> StoreConnection:
        """A connection that is not opened yet."""
        ...


def account_key(username: str, base_url: str) -> str:
    """The account's name in a store: a hash of the user name and the service's host, never of the key."""
    return sha256(f"{username}\n{urlsplit(base_url).netloc.lower()}".encode()).hexdigest()[:24]


def check_store(first_use: object, timeout: object) -> None:
    """Check the settings that all stores have.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    if first_use not in ("hold", "go"):
        raise ConfigurationError(f"first_use must be 'hold' or 'go', got {first_use!r}")
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not (number and 0 < timeout < inf):  # type: ignore[operator]
        raise ConfigurationError(f"timeout must be more than zero seconds, got {timeout!r}")


def read_turn(ask: Ask, answer: object) -> Turn:
    """Read the row of numbers in which the scripts of this package answer a turn.

    It begins with a status: 0 and the fields of ``Turn``; 1, requests and window of a queue that other processes use
    with another limit; or 2 and the version of a layout that is not this one.

    Raises:
        ConfigurationError: Another limit, or another version.
        SharedLimitUnavailableError: The row is none of these.
    """
    status, *values = _read(answer, list[int])
    if status == 1:
        requests, per = values
        raise ConfigurationError(
            f"this process allows {ask.requests} requests in {ask.per / MICROSECONDS:g} s, the processes that share "
            f"the store with it {requests} in {per / MICROSECONDS:g} s; give all of them the same Limits (changed "
            "ones are taken once no process waits with the old ones and no request is counted by them any more)",
            endpoint=ask.queue,
        )
    if status == 2:
        raise other_version(values[0])
    now, epoch, serial, hold, pause, again, free, *granted = values
    return Turn(now, epoch, serial, hold, pause, again, free, tuple(granted))


def read_bearer(answer: object) -> BearerTurn:
    """Read the row in which the scripts of this package answer an operation on the bearer token.

    It holds the fields of ``BearerTurn``, or as state ``"version"`` and as generation that of another layout.

    Raises:
        ConfigurationError: Another version.
        SharedLimitUnavailableError: The row is none of these.
    """
    state, _, generation, _ = _read(answer, tuple[str, str, int, int])
    if state == "version":
        raise other_version(generation)
    return _read(answer, BearerTurn)


def _read(answer: object, kind: type[_T]) -> _T:
    try:
        return convert(answer, kind)
    except ValidationError:
        raise SharedLimitUnavailableError("the shared store gave an answer of another shape") from None


def other_version(version: int) -> ConfigurationError:
    """What a store says that another release has laid out."""
    return ConfigurationError(
        f"the shared store was laid out by another release of this package (version {version}); let all processes run "
        "the same release"
    )
