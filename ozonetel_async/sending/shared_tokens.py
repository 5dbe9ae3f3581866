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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256, shake_256
from secrets import token_bytes, token_hex
from typing import Any, Final

from ..config import RateLimit
from ..errors import ConnectError, OzonetelError, QueueTimeoutError, SharedLimitUnavailableError
from .bearer_tokens import RENEW_AGAIN, RENEW_AT, TokenHolder, token_life, without_doubt
from .shared import MICROSECONDS, Action, BearerAsk, BearerTurn, SharedStore, StoreConnection
from .shared_window import StoreWatch

__all__ = ["SharedTokens", "seal", "unseal"]

_NONCE: Final = 16
_TAG: Final = 16
# Seconds between two looks at a fetch of another process, and between two tries to reach a store that is away.
_LOOK_AGAIN: Final = 0.1


class SharedTokens(TokenHolder):
    """The account's current token, shared with other processes.

    Args:
        fetch: gets a new token from the service; its errors reach every caller of this process that waits for it.
        store: where the token lives.
        key: the token's name there.
        secret: what the token is sealed with; the same in all processes.
        limit: fetches in a window, of all processes together.
        timeout: most seconds for a fetch, and for waiting until another process or the store allows one.
        transit_margin: seconds that a fetch without an answer may still be on its way.
        watch: told when the store goes and comes back.
    """

    # Each may be one that another process fetched and that has ended as well while the request waited for its turn.
    worth_trying = 5

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        *,
        store: SharedStore,
        key: str,
        secret: str,
        limit: RateLimit,
        timeout: float,
        transit_margin: float,
        watch: StoreWatch,
    ) -> None:
        super().__init__(fetch)
        self._store = store
        self._key = key
        self._secret = secret
        self._limit = limit
        self._timeout = timeout
        self._margin = transit_margin
        self._watch = watch
        self._process = token_hex(8)
        self._connection: StoreConnection | None = None
        self._sealed = ""  # the token in hand, as it stands in the store
        self._refused = ""  # the same of one that the service refused: to be told

    def drop(self, token: str) -> None:
        """Forget ``token`` after the service refused it, here and in the store."""
        if self._token == token:
            self._refused = self._sealed
        super().drop(token)

    async def close(self) -> None:
        """Stop a fetch under way and close the connection."""
        await super().close()
        if self._connection is not None:
            await self._connection.close()

    async def _renew(self) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        if self._refused:
            await self._ask(deadline, "drop", token=self._refused)
            self._refused = ""
        while True:
            asked = loop.time()
            turn = await self._ask(
                deadline,
                "get",
                lease=_whole(self._timeout + self._margin),
                fetches=self._limit.requests,
                per=_whole(self._limit.per),
            )
            if turn.state == "fetch":
                return await self._fetch_for_all(turn.generation)
            if turn.state == "token":
                token = unseal(turn.token, self._secret)
                if token is not None:
                    renew_at = asked + turn.wait / MICROSECONDS
                    return self._keep(token, turn.token, renew_at, renew_at)
                # Sealed with another key, which this account does not have any more.
                await self._ask(deadline, "drop", token=turn.token)
                continue
            wait = turn.wait / MICROSECONDS
            if turn.state == "spent" and asked + wait > deadline:
                raise QueueTimeoutError(
                    f"all {self._limit.requests} bearer tokens of this window are fetched; the next one is "
                    f"{wait:.3g} s away",
                    retry_after=wait,
                    endpoint="token",
                )
            await asyncio.sleep(wait if turn.state == "spent" else min(wait, _LOOK_AGAIN))

    async def _fetch_for_all(self, generation: int) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        owned_until = started + self._timeout + self._margin
        try:
            async with asyncio.timeout(self._timeout):
                token = await self._fetch()
        except TimeoutError:
            await self._give_up(owned_until, generation, unsent=False)
            raise ConnectError(f"no token within {self._timeout:g} s", endpoint="token") from None
        except OzonetelError as error:
            await self._give_up(owned_until, generation, unsent=error.outcome == "not_sent")
            raise without_doubt(error) from None
        except asyncio.CancelledError:
            await self._give_up(started, generation, unsent=False)
            raise
        self._life = token_life(token)
        sealed = seal(token, self._secret)
        left = started + self._life - loop.time()
        with suppress(SharedLimitUnavailableError):  # told to the log; the token is good all the same
            await self._ask(
                owned_until,
                "put",
                generation=generation,
                token=sealed,
                renew=_whole(left - self._life * (1 - RENEW_AT)),
                life=_whole(left),
            )
        return self._keep(token, sealed, started + self._life * RENEW_AT, started + self._life)

    async def _give_up(self, deadline: float, generation: int, *, unsent: bool) -> None:
        again = self._life * RENEW_AGAIN
        self._renew_at = asyncio.get_running_loop().time() + again
        with suppress(SharedLimitUnavailableError):  # told to the log; the others go on when the lease ends
            await self._ask(deadline, "fail", generation=generation, renew=_whole(again), unsent=unsent)

    def _keep(self, token: str, sealed: str, renew_at: float, expires_at: float) -> str:
        self._token, self._sealed = token, sealed
        self._renew_at, self._expires_at = renew_at, expires_at
        return token

    async def _ask(self, deadline: float, action: Action, **fields: Any) -> BearerTurn:
        """Make an operation, and again while the store is away and the deadline has not passed."""
        ask = BearerAsk(self._key, self._process, action, **fields)
        while True:
            try:
                if self._connection is None:
                    self._connection = self._store.connect()
                turn = await self._connection.bearer(ask)
            except SharedLimitUnavailableError as error:
                self._watch.gone("token", error.message)
                if asyncio.get_running_loop().time() + _LOOK_AGAIN > deadline:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)
            else:
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
