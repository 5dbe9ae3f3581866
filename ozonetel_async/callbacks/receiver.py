"""Takes in the service's callbacks: over ``aiohttp.web``, or as an ASGI app in Starlette, FastAPI and others.

::

    receiver = CallbackReceiver(JournalFolder("/var/lib/leads"))
    app.router.add_route("*", "/ozonetel/{tail:.*}", receiver.aiohttp_handler)      # aiohttp.web
    app.mount("/ozonetel", receiver.asgi)                                           # Starlette, FastAPI

The callback URL's base, given to ``upload`` and ``dial_status``, is then ``https://your.host/ozonetel``. No page tells
the method of a callback. Its siblings' are POST; PUT is taken as the same, and a GET, or a request without body, is
read from its query, where callbacks of the same vendor's call API have a field ``data``.

The answer is one of these: 200 stored (also when it was stored before), 400 unreadable, 404 no token or an unknown
one, 405 another method, 408 too slow, 413 too large, 415 compressed, 503 not stored for now, repeat it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

from ..config import DEFAULT_TIMEZONE, MOST_SECONDS, timezone_named, told
from ..errors import CallbackError, ConfigurationError, JournalError
from .adapters import METHODS, BodyError, CallbackApp, Incoming, answer_aiohttp
from .results import parse_callback
from .url_tokens import url_token
from .waiting import CallbackResult, PendingCallback, PendingCallbacks

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["CallbackReceiver", "CallbackSink"]

_log = logging.getLogger("ozonetel_async")
_FORM: Final = "application/x-www-form-urlencoded"


class CallbackSink(Protocol):
    """Where callbacks go: a ``Journal``, a ``JournalFolder``, or a store of your own."""

    async def deliver(self, token: str, result: CallbackResult) -> bool:
        """Take in a callback.

        True says that the token is known and the result safely stored, also when it was stored before; False that the
        token is unknown. Any exception makes the receiver answer 503, so that a service that repeats will repeat.
        """
        ...


class CallbackReceiver:
    """Checks callbacks and hands them to sinks; usable from one event loop.

    Args:
        *sinks: asked in this order until one knows the token; ``expect`` comes before them. They stay the caller's to
            close.
        timezone: IANA name of the platform's zone, in which the service writes times.
        max_bytes: longest body, or query in its place.
        timeout: most seconds for a body to arrive.

    Raises:
        ConfigurationError: an argument is out of its range.
    """

    def __init__(
        self, *sinks: CallbackSink, timezone: str = DEFAULT_TIMEZONE, max_bytes: int = 65_536, timeout: float = 10.0
    ) -> None:
        self._timezone = timezone_named(timezone)
        if max_bytes <= 0:
            raise ConfigurationError(f"max_bytes: expected a whole number above zero, got {max_bytes!r}")
        if not 0 < timeout <= MOST_SECONDS:
            raise ConfigurationError(f"timeout: expected more than zero seconds, got {told(timeout)}")
        self._pending = PendingCallbacks()
        self._sinks: tuple[CallbackSink, ...] = (self._pending, *sinks)
        self._max_bytes = max_bytes
        self._timeout = timeout
        self.asgi: CallbackApp = CallbackApp(self.receive)
        """An ASGI 3 app, for ``app.mount(path, receiver.asgi)`` or as an app of its own."""

    def expect(self, token: str) -> PendingCallback:
        """Begin to keep callbacks with ``token``, to be waited for in this process.

        Call it before the request goes out, and close what it returns::

            token = new_token()
            with receiver.expect(token) as pending:
                await client.add_batch(..., callback_url=add_token("https://me.example/ozonetel", token))
                result = await pending.get(timeout=300)

        Raises:
            ConfigurationError: the token is not from ``new_token``, or is expected already.
        """
        return self._pending.expect(token)

    async def handle(self, path: str, query: str = "", content_type: str = "", body: bytes = b"") -> int:
        """Take in one callback, for frameworks of other kinds; never raises but for cancellation.

        Args:
            path: of the request, raw or percent-decoded; it or the query has the token.
            query: of the request, raw or percent-decoded.
            content_type: the header, empty when there is none.
            body: as received, unpacked.

        Returns:
            The HTTP status to answer with, as told at the top of this module.
        """
        token = url_token(path, query)
        if token is None:
            return 404
        if not body:
            body, content_type = query.encode("utf-8", "surrogatepass"), _FORM
        if len(body) > self._max_bytes:
            return 413
        try:
            # Before the token is looked up: the answer to an unreadable body must not tell whether it is known.
            result = parse_callback(body, content_type, timezone=self._timezone, max_bytes=self._max_bytes)
        except CallbackError as error:
            _log.warning("a callback was refused: %s", error)
            return 400
        return await self._store(token, result)

    async def _store(self, token: str, result: CallbackResult) -> int:
        failed = False
        for sink in self._sinks:
            try:
                if await sink.deliver(token, result):
                    return 200
            except Exception as error:  # a sink may raise anything, with secrets in its text
                reason = error if isinstance(error, JournalError) else type(error).__name__
                _log.error("a callback was not stored by %s: %s", type(sink).__name__, reason)
                failed = True
        return 503 if failed else 404

    async def receive(self, incoming: Incoming) -> int:
        """Take in one callback whose body is still to be read; the status to answer with. For adapters."""
        if incoming.method not in METHODS:
            return 405
        if incoming.encoding.strip().lower() not in ("", "identity"):
            return 415
        if url_token(incoming.path, incoming.query) is None:
            return 404
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._read(incoming)
        except TimeoutError:
            return 408
        except BodyError:
            return 400
        if body is None:
            return 413
        return await self.handle(incoming.path, incoming.query, incoming.content_type, body)

    async def _read(self, incoming: Incoming) -> bytes | None:
        """The body; None when it is too large."""
        announced = incoming.content_length
        if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > self._max_bytes):
            return None
        body = bytearray()
        async with aclosing(incoming.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._max_bytes:
                    return None
        return bytes(body)

    async def aiohttp_handler(self, request: web.Request) -> web.Response:
        """Handler for ``app.router.add_route("*", "/ozonetel/{tail:.*}", receiver.aiohttp_handler)``."""
        return await answer_aiohttp(self.receive, request)
