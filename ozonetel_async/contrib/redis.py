"""Limits and bearer token shared through Redis 6.2 or later, or Valkey: ``shared=RedisShared("redis://…")``.

A queue is four keys with one hash tag, made on first use and kept, since a queue that is not there counts as lost.
"""

from __future__ import annotations

import asyncio
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from ..errors import ConfigurationError, OzonetelError, SharedLimitUnavailableError
from ..masking import redact
from ..sending.shared.store import Ask, BearerAsk, BearerTurn, FirstUse, Turn, check_store, read_bearer, read_turn

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisShared"]

_SCHEMES: Final = ("redis", "rediss", "unix")


class RedisShared:
    """A Redis server, or a primary of several, in which processes share the limits of their accounts.

    It holds no connection: give one to as many clients as you like. Each client opens a connection per endpoint in use
    and one for the bearer token.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads it.
        prefix: What the names of all keys begin with.
        timeout: Most seconds for an operation, connecting included.
        first_use: ``"hold"`` sends nothing for one window and the transit margin when an account's queue is not in the
            store, which may have lost it. ``"go"`` does not wait; only for when nobody has sent for that long.

    Raises:
        ConfigurationError: An argument is wrong, or redis-py is not installed.
    """

    def __init__(
        self, url: str, *, prefix: str = "ozonetel", timeout: float = 1.0, first_use: FirstUse = "hold"
    ) -> None:
        if not isinstance(url, str) or urlsplit(url).scheme not in _SCHEMES:
            raise ConfigurationError("url must be redis://host:port/database, rediss://… or unix://path")
        if not isinstance(prefix, str) or not prefix or "{" in prefix:
            raise ConfigurationError(f"prefix must be text without '{{' that is not empty, got {prefix!r}")
        check_store(first_use, timeout)
        _client(url)  # what is wrong with it, or missing, is told here and not by the first call
        self._url = url
        self.prefix = prefix
        self.timeout: float = float(timeout)
        self.first_use: FirstUse = first_use

    def __repr__(self) -> str:
        return f"RedisShared({_where(self._url)!r}, prefix={self.prefix!r})"

    def connect(self) -> RedisConnection:
        """A connection that is not opened yet."""
        return RedisConnection(self._url, self.prefix, self.timeout)


class RedisConnection:
    """A connection to Redis, for one task at a time."""

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        self._url = url
        self._prefix = prefix
        self._timeout = timeout
        self._redis = _client(url)

    async def turn(self, ask: Ask) -> Turn:
        """Make a turn of the rate limit."""
        return read_turn(ask, await self._run(_script("redis_turn.lua"), ask, "held", "line", "due", "state"))

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        """Make an operation on the bearer token."""
        return read_bearer(await self._run(_script("redis_bearer.lua"), ask, "bearer", "fetches"))

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def _run(self, script: tuple[str, str], ask: Ask | BearerAsk, *names: str) -> object:
        from redis import exceptions

        failure: OzonetelError
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._evaluate(script, ask, names)
                except exceptions.ConnectionError:
                    # Broken while it was idle, perhaps: once more, on a new one.
                    return await self._evaluate(script, ask, names)
        except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as error:
            failure = ConfigurationError(f"Redis at {_where(self._url)} refuses access: {self._say(error)}")
        except (exceptions.RedisError, OSError) as error:
            failure = SharedLimitUnavailableError(f"Redis at {_where(self._url)}: {self._say(error)}")
        raise failure

    async def _evaluate(self, script: tuple[str, str], ask: Ask | BearerAsk, names: tuple[str, ...]) -> object:
        from redis.exceptions import NoScriptError

        digest, text = script
        keys = [f"{self._prefix}:{{{ask.key}}}:{name}" for name in names]
        arguments: tuple[str | bytes, ...] = (*keys, msgspec.json.encode(ask))
        try:
            return await self._redis.evalsha(digest, len(keys), *arguments)
        except NoScriptError:
            return await self._redis.eval(text, len(keys), *arguments)

    def _say(self, error: BaseException) -> str:
        """What a driver's error says, on one line and without the password."""
        text = " ".join(str(error).split())
        password = unquote(urlsplit(self._url).password or "")
        return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__, (password,))


def _client(url: str) -> Redis:
    # Loaded here and not with the module: it takes half a second, which only those should pay who share a limit.
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ConfigurationError("RedisShared needs redis-py: python -m pip install 'ozonetel-async[redis]'") from None
    try:
        # The driver must repeat nothing: its ten retries would hide for seconds that the server is away.
        return Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            protocol=2,
            decode_responses=True,
        )
    except ValueError:
        # Without the driver's words, which may repeat a part of the URL.
        raise ConfigurationError("url has a part that redis-py cannot read") from None


@cache
def _script(name: str) -> tuple[str, str]:
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return sha1(text.encode(), usedforsecurity=False).hexdigest(), text


def _where(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port else host or parts.path
