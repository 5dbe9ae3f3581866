"""Requests over aiohttp: session ownership, exception mapping, size caps. Nothing else knows aiohttp's client."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
from contextlib import AsyncExitStack
from functools import partial
from types import SimpleNamespace
from typing import Final
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from msgspec import Struct
from yarl import URL

from ..config import Timeouts
from ..errors import CertificateError, ConfigurationError, ConnectError, OutcomeUnknownError, OzonetelError
from ..protocol.requests import Request

__all__ = ["Response", "Transport"]

# Ours are a few hundred bytes; schedule's, the largest documented, are 100 rows. Beyond this it is not an answer.
_MAX_REPLY: Final = 1_048_576
_SLICE: Final = 65_536
# Connections that may be found unusable one after the other; more than are kept after a burst at the documented limit.
_MOST_STALE: Final = 200
_CLOSED: Final = "the client is closed"
_SESSION_CLOSED: Final = "the session passed to the client is closed; keep it open while the client runs"

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


class _Sending:
    """How far one request has come.

    Attributes:
        begun: whether any of it may have left.
        stale: whether its connection was found unusable before any of its body left.
        built: whether aiohttp has made a request of it at all; a session that tests have replaced does not.
        first_use: whether that connection was looked at, and had not been used by this transport before.
    """

    __slots__ = ("begun", "built", "first_use", "stale")

    def __init__(self) -> None:
        self.begun = False
        self.stale = False
        self.built = False
        self.first_use = False


class _Body(aiohttp.Payload):
    """A request's body, which looks at the connection right before it is written to it.

    A payload is the one place of aiohttp's documented interface that is reached between the choice of a connection and
    the sending, whoever made the session.
    """

    _value: bytes

    def __init__(self, data: bytes, sending: _Sending, used: WeakSet[asyncio.BaseProtocol]) -> None:
        super().__init__(data)
        self._sending = sending
        self._used = used

    @property
    def size(self) -> int:
        """Its length in bytes, which aiohttp asks for when it builds a request."""
        self._sending.built = True
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body in slices that let others run, or nothing of it to a connection that is no good."""
        self._look(writer)
        self._sending.begun = True
        await writer.write(self._value[:_SLICE])
        for at in range(_SLICE, len(self._value), _SLICE):
            await asyncio.sleep(0)
            await writer.write(self._value[at : at + _SLICE])

    def _look(self, writer: AbstractStreamWriter) -> None:
        transport: asyncio.Transport | None = getattr(writer, "transport", None)
        if transport is None:
            return  # not aiohttp's own writer
        protocol = transport.get_protocol()
        sending = self._sending
        sending.first_use = protocol not in self._used
        self._used.add(protocol)
        # aiohttp looks at this flag when it puts a connection away; what arrives after that, an answer that nobody has
        # asked for, it would take for the next request's. The flag has no underscore, and no documentation either:
        # without it, the socket below still tells what has not been read yet.
        unread = bool(getattr(protocol, "should_close", False))
        # A new TLS connection has tickets to read, a used one nothing but an unasked answer or the end.
        if sending.stale or unread or (not sending.first_use and _readable(transport)):
            sending.stale = True
            raise aiohttp.ClientConnectionError("the connection holds data that nobody has asked for, or has ended")


def _readable(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


async def _connect_once(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateStartParams
) -> None:
    # aiohttp silently sends a GET a second time when its connection breaks, even a fresh one: a person would be
    # called twice. The context lives as long as the call, the repetition needs a connection, and none is left to reuse.
    if vars(context).setdefault("connections", 0):
        raise ConnectionLostError
    context.connections += 1


async def _connected(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    # A GET has no body that could tell.
    context.trace_request_ctx.begun = True


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
            The deprecated GET endpoints never use it: they need one that does not send a request twice. Its connector
            decides how long an idle connection is kept; whatever it holds is looked at before each use.
        proxy: URL of an HTTP proxy, in place of a session's own.
        tls: settings of TLS, in place of a session's own.

    Raises:
        ConfigurationError: the session is none, or has middlewares: one that repeats a request would have a lead
            added twice, and none could be told apart from it.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        session: aiohttp.ClientSession | None = None,
        *,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not isinstance(session, aiohttp.ClientSession | None):
            raise ConfigurationError(f"session must be an aiohttp.ClientSession, got {type(session).__name__}")
        # aiohttp has no public way to ask, before 3.12 no middlewares.
        if getattr(session, "_middlewares", ()):
            raise ConfigurationError(
                "session: expected an aiohttp.ClientSession without middlewares, got one with: a middleware can send "
                "a request several times, and a lead would be added as often"
            )
        # No rounding up to whole seconds, which could make the two ends one.
        self._timeout = aiohttp.ClientTimeout(
            total=timeouts.total,
            connect=min(timeouts.connect, timeouts.total * _CONNECT_SHARE),
            ceil_threshold=float("inf"),
        )
        self._timeouts = timeouts
        self._given = session
        self._proxy = proxy
        self._tls = tls
        self._own: dict[bool, aiohttp.ClientSession] = {}
        self._used: WeakSet[asyncio.BaseProtocol] = WeakSet()
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send ``request`` once and read the whole answer.

        Raises:
            ConfigurationError: it never left: the client or its session is closed, or the session raised an error of
                its own.
            CertificateError: it never left, since the server's certificate is not trusted.
            ConnectError: it never left.
            OutcomeUnknownError: it may have arrived, but no complete answer came back.
        """
        task = asyncio.current_task()
        cancels = 0 if task is None else task.cancelling()
        for _ in range(_MOST_STALE):
            session = self._session(request)
            sending = _Sending()
            try:
                response = await self._send_over(session, request, sending)
                if not sending.stale:
                    return response
                failure: OzonetelError = ConnectError("no connection: the server answered before it was asked")
            except asyncio.CancelledError as error:
                # aiohttp cancels what waits for a name lookup or for a free connection when its session is closed.
                # Nobody has cancelled this caller then, and its task would end without a word.
                if task is None or task.cancelling() > cancels:
                    raise
                failure = self._failure(error, session, sending)
            except Exception as error:
                failure = self._failure(error, session, sending)
            if sending.stale and not sending.first_use:
                continue  # each connection is met once, and then closed
            break
        # Raised out here so that the error carries no __context__: aiohttp's texts can hold the whole URL, and the
        # URL of the deprecated endpoints holds the key.
        failure.endpoint = request.endpoint
        raise failure

    async def _send_over(self, session: aiohttp.ClientSession, request: Request, sending: _Sending) -> Response:
        get = request.method == "GET"
        async with session.request(
            request.method,
            URL(request.url, encoded=True),
            data=None if get else _Body(request.body or b"", sending, self._used),
            headers=request.headers,
            allow_redirects=False,
            raise_for_status=False,
            timeout=self._timeout,
            proxy=self._proxy,
            ssl=True if self._tls is None else self._tls,
            trace_request_ctx=sending if get else None,
        ) as response:
            if sending.built and not sending.begun:
                # Before Python 3.12 aiohttp writes in a task, and hands out what lies there before that has begun.
                sending.stale = True
                response.close()
                return Response(0, b"", None)
            read = response.read if _is_short(response) else partial(_read_capped, response)
            headers = response.headers
            return Response(response.status, await read(), headers.get("Retry-After"), headers.get("Date"))

    def _failure(self, error: BaseException, session: aiohttp.ClientSession, sending: _Sending) -> OzonetelError:
        """The typed error for what aiohttp, or a hook of the caller's session, has raised."""
        if not sending.begun:
            if self._closed or session.closed:
                return ConfigurationError(_CLOSED if self._closed else _SESSION_CLOSED)
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
                return CertificateError(f"the certificate of {error.host} is not trusted: {reason}")
            if sending.stale or isinstance(error, (*_NEVER_LEFT, asyncio.CancelledError)):
                return ConnectError(f"no connection: {_describe(error)}")
            if not isinstance(error, aiohttp.ClientError | OSError):
                return ConfigurationError(
                    f"the session passed to the client raised {type(error).__name__} before anything was sent"
                )
        if isinstance(error, TimeoutError):
            return OutcomeUnknownError(f"no answer within {self._timeouts.total:g} s")
        return OutcomeUnknownError(f"no answer: {_describe(error)}")

    def _session(self, request: Request) -> aiohttp.ClientSession:
        if self._closed:
            raise ConfigurationError(_CLOSED)
        kept_alive = request.kept_alive
        if self._given is not None and kept_alive:
            if self._given.closed:
                raise ConfigurationError(_SESSION_CLOSED)
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
        """Close the sessions made here, all of them even when cancelled; one that was passed in stays open."""
        self._closed = True
        own, self._own = self._own, {}
        async with AsyncExitStack() as stack:
            for session in own.values():
                stack.push_async_callback(session.close)


def _open_session(kept_alive: bool) -> aiohttp.ClientSession:
    once = aiohttp.TraceConfig()
    once.on_connection_create_start.append(_connect_once)
    once.on_connection_create_end.append(_connected)
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
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered HTTP {error.status}"
    system: object = getattr(error, "os_error", error)
    # A name lookup and TLS number their errors in their own ways.
    if isinstance(system, OSError) and not isinstance(system, ssl.SSLError | socket.gaierror):
        number = system.errno
        if number is not None and number in errno.errorcode:
            return f"{type(error).__name__} ({os.strerror(number)})"
    return type(error).__name__
