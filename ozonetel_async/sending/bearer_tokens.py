"""Bearer tokens: one fetch at a time, renewed ahead of expiry, dropped when the service says so."""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable

import msgspec

from ..errors import ConfigurationError, ConnectError, OzonetelError

__all__ = ["RENEW_AGAIN", "RENEW_AT", "TokenHolder", "token_life", "without_doubt"]

# Page "Generate Token": valid for 60 minutes, at most 10 new ones an hour, a new one invalidates all earlier ones.
_LIFE = 3600.0
# A token is replaced when a tenth of its life is left: early enough that no request goes out with a dying one.
RENEW_AT = 0.9
# Share of a token's life after which a renewal that failed is tried again, while the token still lives.
RENEW_AGAIN = 0.02


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


def without_doubt(error: OzonetelError) -> OzonetelError:
    """What a failed fetch means to the request that waits for the token: whatever became of it, nothing was sent."""
    if error.outcome != "unknown":
        return error
    # Without the reply's text, which may hold a token that could not be read.
    return ConnectError(f"no token: {error.message}", endpoint="token")


class TokenHolder:
    """The account's current token.

    Args:
        fetch: gets a new token from the service; its errors reach every caller that waits for this token.
    """

    worth_trying = 1
    """Further tokens that a request tries after a refused one."""

    def __init__(self, fetch: Callable[[], Awaitable[str]]) -> None:
        self._fetch = fetch
        self._token: str | None = None
        self._life = _LIFE
        self._renew_at = 0.0
        self._expires_at = 0.0
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
        fetching = self._fetching
        try:
            return await asyncio.shield(fetching)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not fetching.cancelled() or (task is not None and task.cancelling()):
                raise
        except OzonetelError:
            # A renewal ahead of time has failed. The token in hand may do until it expires; if it does not, the
            # service says so, and it is dropped.
            if self._token is None or asyncio.get_running_loop().time() >= self._expires_at:
                raise
            return self._token
        # close() cancelled the fetch, nobody cancelled this caller: a CancelledError would end its task silently.
        raise ConfigurationError("the client is closed", endpoint="token")

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
        try:
            token = await self._fetch()
        except OzonetelError as error:
            self._renew_at = asyncio.get_running_loop().time() + self._life * RENEW_AGAIN
            raise without_doubt(error) from None
        self._token = token
        self._life = token_life(token)
        self._renew_at = started + self._life * RENEW_AT
        self._expires_at = started + self._life
        return token

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            # Retrieved here as well: with every waiter cancelled nobody else would, and asyncio would complain.
            task.exception()
