"""Requests over aiohttp: session ownership, exception mapping, size caps. Nothing else knows aiohttp's client."""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
from functools import partial
from types import SimpleNamespace
from typing import Final

import aiohttp
from msgspec import Struct
from yarl import URL

from ..config import Timeouts
from ..errors import ConfigurationError, ConnectError, OutcomeUnknownError, OzonetelError
from ..protocol.requests import Request

__all__ = ["Response", "Transport"]

# Ours are a few hundred bytes; schedule's, the largest documented, are 100 rows. Beyond this it is not an answer.
_MAX_REPLY: Final = 1_048_576
# aiohttp warns about bodies above 1 MiB given as bytes, and writes a BytesIO in slices that let others run.
_SLICED_BODY: Final = 262_144

# Less than the 5 seconds after which Apache closes an idle connection: a request that goes out while the other side
# hangs up has an unknown outcome, and a new connection costs a round trip.
_KEPT_FOR: Final = 4.0

_NEVER_LEFT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.ServerFingerprintMismatch,
)


# The time for connecting ends well before the whole time, so that running out of it always means "not sent".
_CONNECT_SHARE: Final = 0.75


class ConnectionLostError(aiohttp.ClientError):
    """The connection of a deprecated GET broke, and aiohttp was about to send it again."""


async def _connect_once(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateStartParams
) -> None:
    # aiohttp silently sends a GET a second time when its connection breaks, even a fresh one: a person would be
    # called twice. The context lives as long as the call, the repetition needs a connection, and none is left to reuse.
    if vars(context).setdefault("connections", 0):
        raise ConnectionLostError
    context.connections += 1


class Response(Struct, frozen=True):
    """Status, body and the headers that matter."""

    status: int
    body: bytes
    retry_after: str | None
    date: str | None = None


class Transport:
    """Sends requests, each exactly once.

    Args:
        timeouts: limits of one request.
        session: the caller's own session, which stays open; None makes one on first use and closes it in ``close``.
            The deprecated GET endpoints never use it: they need one that does not send a request twice.
    """

    def __init__(self, timeouts: Timeouts, session: aiohttp.ClientSession | None = None) -> None:
        if not isinstance(session, aiohttp.ClientSession | None):
            raise ConfigurationError(f"session must be an aiohttp.ClientSession, got {type(session).__name__}")
        # No rounding up to whole seconds, which could make the two ends one.
        self._timeout = aiohttp.ClientTimeout(
            total=timeouts.total,
            connect=min(timeouts.connect, timeouts.total * _CONNECT_SHARE),
            ceil_threshold=float("inf"),
        )
        self._timeouts = timeouts
        self._given = session
        self._own: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send ``request`` once and read the whole answer.

        Raises:
            ConnectError: it never left.
            OutcomeUnknownError: it may have arrived, but no complete answer came back.
        """
        failure: OzonetelError
        body = request.body
        try:
            async with self._session(request).request(
                request.method,
                URL(request.url, encoded=True),
                data=io.BytesIO(body) if body is not None and len(body) > _SLICED_BODY else body,
                headers=request.headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=self._timeout,
            ) as response:
                read = response.read if _is_short(response) else partial(_read_capped, response)
                headers = response.headers
                return Response(response.status, await read(), headers.get("Retry-After"), headers.get("Date"))
        except _NEVER_LEFT as error:
            failure = ConnectError(f"no connection: {_describe(error)}", endpoint=request.endpoint)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = f"no answer: {_describe(error)}"
            if isinstance(error, TimeoutError):
                reason = f"no answer within {self._timeouts.total:g} s"
            failure = OutcomeUnknownError(reason, endpoint=request.endpoint)
        # Raised out here so that the error carries no __context__: aiohttp's texts can hold the whole URL, and the
        # URL of the deprecated endpoints holds the key.
        raise failure

    def _session(self, request: Request) -> aiohttp.ClientSession:
        if self._closed:
            raise ConfigurationError("the client is closed")
        kept_alive = request.kept_alive
        if self._given is not None and kept_alive:
            if self._given.closed:
                raise ConfigurationError(
                    "the session passed to the client is closed; keep it open while the client runs"
                )
            if "Authorization" in request.headers and getattr(self._given, "auth", None) is not None:
                # aiohttp refuses the two together with a ValueError; its version 4 will have no auth=.
                raise ConfigurationError(
                    "the session passed to the client has auth= of its own, which takes the bearer token's place; "
                    "pass a session without"
                )
            return self._given
        session = self._own.get(kept_alive)
        if session is None:
            session = self._own[kept_alive] = _open_session(kept_alive)
        return session

    async def close(self) -> None:
        """Close the sessions made here; one that was passed in stays open."""
        self._closed = True
        own, self._own = self._own, {}
        for session in own.values():
            await session.close()


def _open_session(kept_alive: bool) -> aiohttp.ClientSession:
    once = aiohttp.TraceConfig()
    once.on_connection_create_start.append(_connect_once)
    # No connector limit: the queues bound what is in flight. No cookies: each answer would pay for the jar.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_FOR)
        if kept_alive
        else aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[] if kept_alive else [once],
    )


def _is_short(response: aiohttp.ClientResponse) -> bool:
    """Whether the headers promise an answer that is short enough, and do not hide its length."""
    length = response.content_length
    return length is not None and length <= _MAX_REPLY and "Content-Encoding" not in response.headers


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > _MAX_REPLY:
            raise aiohttp.ClientPayloadError(f"more than {_MAX_REPLY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _describe(error: BaseException) -> str:
    """Class and system error of an exception; never a text of its own, which may hold the URL and the key in it."""
    system: object = getattr(error, "os_error", error)
    # A name lookup and TLS number their errors in their own ways.
    if isinstance(system, OSError) and not isinstance(system, ssl.SSLError | socket.gaierror):
        number = system.errno
        if number is not None and number in errno.errorcode:
            return f"{type(error).__name__} ({os.strerror(number)})"
    return type(error).__name__
