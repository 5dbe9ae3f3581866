"""One bearer token for all processes of an account, kept in a store and fetched by one process at a time.

The service ends a token when it gives another, and gives ten in an hour: processes that each fetch their own end each
other's. The store keeps the token sealed with the API key, so that nothing that looks into the store, its logs or its
backups sees a token.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256, shake_256
from secrets import token_bytes, token_hex
from typing import Any, Final

from ...config import RateLimit
from ...errors import SharedLimitUnavailableError
from ..bearer_tokens import RENEW_AT, TokenLookup
from .store import MICROSECONDS, Action, BearerAsk, BearerTurn, SharedStore, StoreConnection
from .window import StoreWatch

__all__ = ["SharedTokenStore", "seal", "unseal"]

_NONCE: Final = 16
_TAG: Final = 16
# Seconds between two looks at a fetch of another process, and between two tries to reach a store that is away.
_LOOK_AGAIN: Final = 0.1


class SharedTokenStore:
    """The account's token in a store that other processes share; a ``TokenStore``.

    Between two looks at the store the last one counts, so that any number of callers make one operation.

    Args:
        store: where the token lives.
        key: the token's name there.
        secret: what the token is sealed with; the same in all processes.
        limit: fetches in a window, of all processes together.
        lease: seconds that a fetch takes at most, and that its request may still be on its way then.
        watch: told when the store goes and comes back.
    """

    def __init__(
        self, *, store: SharedStore, key: str, secret: str, limit: RateLimit, lease: float, watch: StoreWatch
    ) -> None:
        self._store = store
        self._key = key
        self._secret = secret
        self._limit = limit
        self._lease = lease
        self._watch = watch
        self._process = token_hex(8)
        self._connection: StoreConnection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._token: str | None = None
        self._sealed = ""  # the same, as it stands in the store
        self._refused = ""  # one that the service refused: to be told
        self._look_at = 0.0
        self._fetching = 0  # generation of a fetch of ours
        self._fetching_since = 0.0

    async def get(self) -> TokenLookup:
        """See ``TokenStore.get``."""
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            now = loop.time()
            if now < self._look_at:
                return TokenLookup(self._token, wait=self._look_at - now)
            if self._fetching:
                return TokenLookup(wait=_LOOK_AGAIN)
            try:
                return await self._look(now)
            except SharedLimitUnavailableError:
                self._token = None
                self._look_at = loop.time() + _LOOK_AGAIN
                return TokenLookup(wait=_LOOK_AGAIN)

    async def _look(self, now: float) -> TokenLookup:
        self._token = None
        if self._refused:
            await self._ask("drop", token=self._refused)
            self._refused = ""
        turn = await self._ask(
            "get", lease=_whole(self._lease), fetches=self._limit.requests, per=_whole(self._limit.per)
        )
        if turn.state == "fetch":
            self._fetching, self._fetching_since = turn.generation, now
            return TokenLookup(generation=turn.generation)
        wait = turn.wait / MICROSECONDS
        if turn.state != "token":
            wait = wait if turn.state == "spent" else min(wait, _LOOK_AGAIN)
            self._look_at = now + wait
            return TokenLookup(wait=wait)
        token = unseal(turn.token, self._secret)
        if token is None:
            # Sealed with another key, which this account does not have any more.
            self._refused = turn.token
            return TokenLookup()
        self._token, self._sealed, self._look_at = token, turn.token, now + wait
        return TokenLookup(token)

    async def put(self, generation: int, token: str | None, seconds: float) -> None:
        """See ``TokenStore.put``."""
        async with self._one_at_a_time:
            if generation != self._fetching:
                return
            since, self._fetching = self._fetching_since, 0
            with suppress(SharedLimitUnavailableError):  # told by the watch; others go on when the lease ends
                if token is None:
                    await self._insist(since, "fail", generation, renew=_whole(seconds), unsent=not seconds)
                    return
                left = since + seconds - asyncio.get_running_loop().time()
                renew = left - seconds * (1 - RENEW_AT)
                self._token, self._sealed = token, seal(token, self._secret)
                self._look_at = since + seconds * RENEW_AT
                await self._insist(since, "put", generation, token=self._sealed, renew=_whole(renew), life=_whole(left))

    async def drop(self, token: str) -> None:
        """See ``TokenStore.drop``; the store is told before it is asked again."""
        if token == self._token:
            self._token, self._refused, self._look_at = None, self._sealed, 0.0

    async def close(self) -> None:
        """Give up a fetch that was stopped, and close the connection."""
        async with self._one_at_a_time:
            if self._fetching:
                with suppress(SharedLimitUnavailableError):  # told by the watch; others go on when the lease ends
                    await self._ask("fail", generation=self._fetching)
            if self._connection is not None:
                await self._connection.close()

    async def _insist(self, since: float, action: Action, generation: int, **fields: Any) -> None:
        """Make an operation, again and again while the fetch is this process's to end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._ask(action, generation=generation, **fields)
            except SharedLimitUnavailableError:
                if loop.time() > since + self._lease:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                return

    async def _ask(self, action: Action, **fields: Any) -> BearerTurn:
        try:
            if self._connection is None:
                self._connection = self._store.connect()
            turn = await self._connection.bearer(BearerAsk(self._key, self._process, action, **fields))
        except SharedLimitUnavailableError as error:
            self._watch.gone("token", error.message)
            raise
        self._watch.back("token")
        return turn


def seal(token: str, secret: str) -> str:
    """Encrypt and sign a token with a secret: a keystream of SHAKE-256 over secret and nonce, then an HMAC."""
    nonce, plain = token_bytes(_NONCE), token.encode()
    body = _mixed(plain, secret, nonce)
    return urlsafe_b64encode(nonce + _tag(nonce + body, secret) + body).decode()


def unseal(sealed: str, secret: str) -> str | None:
    """The token that was sealed, or None when it was with another secret or is no sealed token."""
    try:
        data = urlsafe_b64decode(sealed)
    except (ValueError, binascii.Error):
        return None
    nonce, tag, body = data[:_NONCE], data[_NONCE : _NONCE + _TAG], data[_NONCE + _TAG :]
    if not hmac.compare_digest(tag, _tag(nonce + body, secret)):
        return None
    return _mixed(body, secret, nonce).decode()


def _mixed(data: bytes, secret: str, nonce: bytes) -> bytes:
    stream = shake_256(b"ozonetel-async bearer token" + nonce + secret.encode()).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _tag(data: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), data, sha256)[:_TAG]


def _whole(seconds: float) -> int:
    return max(0, int(seconds * MICROSECONDS))
