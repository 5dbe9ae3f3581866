"""Callbacks that this process waits for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import Final, Self, TypeAlias
from weakref import WeakValueDictionary

from ..errors import CallbackTimeoutError, ConfigurationError
from .results import ExportResult, JobResult
from .url_tokens import url_token

__all__ = ["CallbackResult", "PendingCallback", "PendingCallbacks"]

CallbackResult: TypeAlias = JobResult | ExportResult

# Different callbacks under one token that are kept until they are taken; one request has a single result.
_HELD_LIMIT: Final = 32
# Tokens of waits that have ended well, kept so that a repeat of their callback is answered as stored.
_ANSWERED_LIMIT: Final = 1_024


class PendingCallback:
    """A place for the callbacks with one token; a context manager, or closed by ``close``.

    What comes between its making and ``get`` is kept, so a callback that is faster than the answer to its request is
    not lost. Used from one event loop, that of the receiver.
    """

    def __init__(self, owner: PendingCallbacks, token: str) -> None:
        self._owner = owner
        self._token = token
        self._results: list[CallbackResult] = []
        self._queue: asyncio.Queue[CallbackResult] = asyncio.Queue(_HELD_LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Expect nothing any more; idempotent."""
        self._owner.forget(self._token, answered=bool(self._results))

    async def get(self, timeout: float | None = None) -> CallbackResult:  # noqa: ASYNC109 - as in asyncio.wait_for
        """The next callback, the first one first. Exact repeats are left out.

        Args:
            timeout: most seconds to wait; None waits without bound.

        Raises:
            CallbackTimeoutError: none came.
        """
        with suppress(TimeoutError):  # told below, without a second exception behind it
            async with asyncio.timeout(timeout):
                return await self._queue.get()
        raise CallbackTimeoutError(f"no callback came within {timeout or 0:g} s")

    def keep(self, result: CallbackResult) -> bool:
        """Keep a callback; True when it, or one that says the same, is kept."""
        if result in self._results:
            return True
        if len(self._results) >= _HELD_LIMIT:
            return False
        self._results.append(result)
        self._queue.put_nowait(result)
        return True


class PendingCallbacks:
    """The pending callbacks of a receiver, a ``CallbackSink``.

    Holds as many entries as there are pending callbacks: one that is dropped without being closed is removed.
    """

    def __init__(self) -> None:
        self._open: WeakValueDictionary[bytes, PendingCallback] = WeakValueDictionary()
        self._answered: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def expect(self, token: str) -> PendingCallback:
        """Begin to keep callbacks with ``token``; to be called before the request goes out.

        Raises:
            ConfigurationError: the token is not from ``new_token``, or is expected already.
        """
        if url_token(f"/{token}") != token:
            raise ConfigurationError("token: expected one from new_token(), got another text")
        key = _key(token)
        if key in self._open:
            raise ConfigurationError("token: expected a new one for each request, got one that is waited for already")
        pending = self._open[key] = PendingCallback(self, token)
        return pending

    async def deliver(self, token: str, result: CallbackResult) -> bool:
        """Hand a callback to its ``PendingCallback``; see ``CallbackSink``."""
        key = _key(token)
        pending = self._open.get(key)
        return pending.keep(result) if pending is not None else key in self._answered

    def forget(self, token: str, *, answered: bool) -> None:
        """End a wait; when it was ``answered``, repeats are still known for a while."""
        key = _key(token)
        if self._open.pop(key, None) is not None and answered:
            self._answered[key] = None
            while len(self._answered) > _ANSWERED_LIMIT:
                self._answered.popitem(last=False)


def _key(token: str) -> bytes:
    # Looking up a hash does not tell how much of a guess is right.
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
