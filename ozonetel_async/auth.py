"""Bearer tokens: one fetch at a time, renewed ahead of expiry, dropped when the service says so."""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable

import msgspec

__all__ = ["TokenHolder"]

# Page "Generate Token": valid for 60 minutes, at most 10 new ones an hour, a new one invalidates all earlier ones.
_LIFE = 3600.0
# A token is replaced when a tenth of its life is left: early enough that no request goes out with a dying one.
_RENEW_AT = 0.9


class _Claims(msgspec.Struct):
    exp: float
    iat: float


def token_life(token: str) -> float:
    """Seconds a token lives by its own claims (``exp - iat``: no clock of ours involved), else the documented 3600."""
    parts = token.split(".")
    if len(parts) == 3:
        try:
            claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, binascii.Error):
            return _LIFE
        return claims.exp - claims.iat if claims.exp > claims.iat else _LIFE
    return _LIFE


class TokenHolder:
    """The account's current token.

    Parameters
    ----------
    fetch: gets a new token from the service; its errors reach every caller that waits for this token.
    """

    def __init__(self, fetch: Callable[[], Awaitable[str]]) -> None:
        self._fetch = fetch
        self._token: str | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[str] | None = None

    @property
    def current(self) -> str | None:
        """The token in hand, if any; for masking."""
        return self._token

    async def get(self) -> str:
        """A token that is good for now; waits for the one fetch under way rather than starting another."""
        if self._token is not None and asyncio.get_running_loop().time() < self._renew_at:
            return self._token
        if self._fetching is None:
            # A task of its own: the caller that happened to start it may be cancelled while others wait for it.
            self._fetching = asyncio.create_task(self._renew())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def drop(self, token: str) -> None:
        """Forget ``token`` after the service refused it; a newer one that another caller fetched meanwhile stays."""
        if self._token == token:
            self._token = None

    async def close(self) -> None:
        """Stop a fetch under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _renew(self) -> str:
        started = asyncio.get_running_loop().time()
        token = await self._fetch()
        self._token = token
        self._renew_at = started + token_life(token) * _RENEW_AT
        return token

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            # Retrieved here as well: with every waiter cancelled nobody else would, and asyncio would complain.
            task.exception()
