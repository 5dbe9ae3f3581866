"""Bearer tokens: one fetch at a time, renewed ahead of expiry, dropped when the service says so.

Page "Generate Token": a token lives 60 minutes, at most 10 new ones are given out an hour, and a new one invalidates
all earlier ones at a moment that nobody is told. So tokens are spent with care: a fetch that failed is followed by a
growing pause, and a token is replaced only when the service names it.

A ``TokenStore`` knows the account's token and who may fetch the next one; ``LocalTokenStore`` holds it for one
process. ``TokenHolder`` fetches, and lets the callers of this process wait.
"""

from __future__ import annotations

import asyncio
import binascii
import random
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Final, Protocol

import msgspec

from ..errors import AuthenticationError, ConfigurationError, ConnectError, OzonetelError, QueueTimeoutError

__all__ = ["RENEW_AT", "LocalTokenStore", "TokenHolder", "TokenLookup", "TokenStore"]

_LIFE: Final = 3600.0
# A token is replaced when a tenth of its life is left: early enough that no request goes out with a dying one.
RENEW_AT: Final = 0.9
# Two tokens refused within this time: another program takes tokens for the same account, and each kills the other's.
_CONTEST: Final = 60.0
# Shares of the window that limits new tokens (an hour). The pause after a failed fetch begins at one second and grows
# fourfold up to a quarter of an hour: nine fetches in the first hour of an outage, four in each later one.
_FIRST_PAUSE: Final = 1 / 3600
_LONGEST_PAUSE: Final = 1 / 4
# The shortest wait before the store is asked again, so that rounding never makes a busy loop.
_GUARD: Final = 0.001


class _Lifetime(msgspec.Struct):
    expires: float = msgspec.field(name="exp")
    issued: float = msgspec.field(name="iat")


def token_life(token: str) -> float:
    """Seconds a token lives by its own claims (``exp - iat``: no clock of ours involved), else the documented 3600."""
    parts = token.split(".")
    if len(parts) == 3:
        try:
            claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Lifetime)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, binascii.Error):
            return _LIFE
        return claims.expires - claims.issued if claims.expires > claims.issued else _LIFE
    return _LIFE


class TokenLookup(msgspec.Struct, frozen=True):
    """What a store says to somebody who needs a token.

    Attributes:
        token: a token that is good for now, or None.
        generation: not None when the asker is to fetch a new token and ``put`` it under this number. A token given
            beside it is good until the request for the new one has left.
        wait: seconds after which to ask again, where neither is given.
    """

    token: str | None = None
    generation: int | None = None
    wait: float = 0.0


class TokenStore(Protocol):
    """Where the account's token lives, and who may fetch the next one."""

    async def get(self) -> TokenLookup:
        """Look the token up.

        Raises:
            AuthenticationError: another program takes tokens for this account; no token is fetched for a while.
        """

    async def put(self, generation: int, token: str | None, seconds: float) -> None:
        """End a fetch; ignored unless ``generation`` is still the one under way.

        Args:
            generation: the number that ``get`` gave out.
            token: the new token, or None when the fetch failed.
            seconds: how long the token lives from the ``get`` on; without one, how long nobody is to fetch.
        """

    async def drop(self, token: str) -> None:
        """Forget ``token`` after the service refused it; does nothing when the store holds another one by now."""


class LocalTokenStore:
    """The token of one process, in memory.

    Args:
        next_fetch_in: seconds until the rate limit lets a token be fetched.
    """

    def __init__(self, next_fetch_in: Callable[[], float]) -> None:
        self._next_fetch_in = next_fetch_in
        self._token: str | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._generation = 0
        self._fetching_since: float | None = None
        self._resume_at = 0.0
        self._dropped_at = -inf
        self._contested_until = -inf

    async def get(self) -> TokenLookup:
        """See ``TokenStore.get``."""
        now = asyncio.get_running_loop().time()
        if now < self._contested_until:
            raise AuthenticationError(
                f"another program takes tokens for this account: the service refused two within {_CONTEST:g} s; "
                f"no token is fetched for the next {self._contested_until - now:.0f} s. Expected one client for "
                "each account",
                endpoint="token",
            )
        token = self._token if now < self._expires_at else None
        if token is not None and now < self._renew_at:
            return TokenLookup(token)
        if self._fetching_since is not None:
            return TokenLookup(token, wait=_GUARD)
        wait = max(self._resume_at - now, self._next_fetch_in())
        if wait > 0:
            return TokenLookup(token, wait=wait)
        self._generation += 1
        self._fetching_since = now
        return TokenLookup(token, self._generation)

    async def put(self, generation: int, token: str | None, seconds: float) -> None:
        """See ``TokenStore.put``."""
        if generation != self._generation or self._fetching_since is None:
            return
        since, self._fetching_since = self._fetching_since, None
        if token is None:
            self._resume_at = asyncio.get_running_loop().time() + seconds
        else:
            # Counted from before the fetch: when in it the service made the token, nobody here knows.
            self._token = token
            self._renew_at = since + seconds * RENEW_AT
            self._expires_at = since + seconds

    async def drop(self, token: str) -> None:
        """See ``TokenStore.drop``."""
        if token != self._token:
            return
        now = asyncio.get_running_loop().time()
        self._token = None
        if now - self._dropped_at < _CONTEST:
            self._contested_until = now + _CONTEST
        self._dropped_at = now


class TokenHolder:
    """Hands the account's current token to the callers of this process, and fetches it when the store says so.

    Args:
        fetch: gets a new token from the service. It says ``True`` right before its request leaves, and ``False``
            when that request is known not to have been applied and another one will follow.
        store: where the token lives.
        window: seconds of the window that limits new tokens.
        attempts: failed fetches after which a caller that waits is told.
    """

    def __init__(
        self, fetch: Callable[[Callable[[bool], None]], Awaitable[str]], store: TokenStore, window: float, attempts: int
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._window = window
        self._attempts = attempts
        self._fetching: asyncio.Task[OzonetelError | None] | None = None
        self._left = False  # the request for a new token is on its way, which ends the present one
        self._failures = 0
        self._refusal: OzonetelError | None = None
        self._doubted: str | None = None
        self._doubt_again_at = -inf
        self._closed = asyncio.Event()

    async def get(self, deadline: float | None = None) -> str:
        """A token that is good for now; waits for the one fetch under way rather than starting another.

        Args:
            deadline: loop time in seconds until which to wait; None waits as long as it takes.

        Raises:
            QueueTimeoutError: no token by the deadline.
            ConnectError: the token endpoint cannot be reached, or has failed ``attempts`` times while this caller
                waited.
            AuthenticationError: the service refuses to give a token, or another program takes tokens for this account.
            ConfigurationError: the client is closed.
        """
        failed = 0
        while True:
            if self._closed.is_set():
                raise ConfigurationError("the client is closed", endpoint="token")
            lookup = await self._store.get()
            if lookup.generation is not None:
                # A task of its own: the caller that starts it may be cancelled while others wait for it.
                self._fetching = asyncio.create_task(self._renew(lookup.generation))
            if lookup.token is not None and not self._left:
                return lookup.token
            fetching = self._fetching
            if fetching is None or (fetching.done() and lookup.generation is None):
                await self._pause(lookup.wait, deadline)
                continue
            failure = await _finished(fetching, deadline)
            if failure is not None and lookup.token is None:
                failed += 1
                if failure.outcome != "unknown":
                    raise failure.with_traceback(None)
                if failed >= self._attempts:
                    # Unknown for the token; for the lead that waits for it, it is certain: nothing was sent. Without
                    # the reply's text, which may hold a token that could not be read.
                    raise ConnectError(f"no token: {failure.message}", endpoint="token")

    async def drop(self, token: str) -> None:
        """Forget ``token`` after the service named it as expired or invalid; a newer one stays."""
        await self._store.drop(token)

    async def doubt(self, token: str) -> bool:
        """Take in an HTTP 401 that does not name the token as its reason.

        The second one with the same token replaces it, at most once in a quarter of the window: an account that takes
        no tokens at all would otherwise use up those of an hour.

        Returns:
            Whether another attempt is worth it.
        """
        now = asyncio.get_running_loop().time()
        if self._doubted != token:
            self._doubted = token
            return now >= self._doubt_again_at
        if now < self._doubt_again_at:
            return False
        self._doubt_again_at = now + self._window * _LONGEST_PAUSE
        await self._store.drop(token)
        return True

    async def close(self) -> None:
        """Turn waiting callers away and stop a fetch under way."""
        self._closed.set()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _renew(self, generation: int) -> OzonetelError | None:
        self._refusal = None
        try:
            token = await self._fetch(self._leaving)
        except OzonetelError as error:
            self._refusal = error if error.outcome == "refused" else None
            await self._store.put(generation, None, self._pause_after(error))
            return error
        except Exception:
            await self._store.put(generation, None, 0.0)
            raise
        else:
            self._failures = 0
            await self._store.put(generation, token, token_life(token))
            return None
        finally:
            self._left = False

    def _leaving(self, left: bool) -> None:
        self._left = left

    def _pause_after(self, error: OzonetelError) -> float:
        if error.outcome == "not_sent":
            return 0.0  # it has cost nothing of the limit, and has been tried again already
        self._failures += 1
        share = min(_LONGEST_PAUSE, _FIRST_PAUSE * 4.0 ** min(self._failures - 1, 16))
        return self._window * share * (1 + random.random() / 4)  # noqa: S311 - jitter

    async def _pause(self, seconds: float, deadline: float | None) -> None:
        """Wait before the store is asked again; tell the caller at once where that is of no use."""
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        loop = asyncio.get_running_loop()
        if deadline is not None and loop.time() + seconds > deadline:
            raise QueueTimeoutError(
                f"expected a token within {max(0.0, deadline - loop.time()):.3g} s (max_wait), the next one may be "
                f"fetched in {seconds:.3g} s",
                retry_after=seconds,
                endpoint="token",
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, _GUARD)):
                await self._closed.wait()


async def _finished(fetching: asyncio.Task[OzonetelError | None], deadline: float | None) -> OzonetelError | None:
    """Wait for a fetch, and return the error in which it ended."""
    timeout = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
    done, _ = await asyncio.wait([fetching], timeout=timeout)
    if not done:
        raise QueueTimeoutError("no token came within max_wait", endpoint="token")
    return None if fetching.cancelled() else fetching.result()
