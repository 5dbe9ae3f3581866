"""A small web server that takes callbacks in, for commands that wait for some."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final

from ..callbacks.receiver import CallbackReceiver
from ..callbacks.waiting import CallbackResult
from ..errors import ConfigurationError
from ..journal.journal import Journal
from .arguments import Address

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["MOST_CONNECTIONS", "JournalSink", "listening"]

_log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 48
# asyncio accepts as many connections in one go, before any of them counts.
_BACKLOG: Final = 16


class JournalSink:
    """The journal of an upload as a sink that opens it with the first callback, since the upload has yet to make it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._journal: Journal | None = None
        self._opening = asyncio.Lock()

    async def deliver(self, token: str, result: CallbackResult) -> bool:
        """Take in a callback; see ``CallbackSink``."""
        async with self._opening:
            self._journal = self._journal or await Journal.attach(self._path)
        return await self._journal.deliver(token, result)

    async def aclose(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            await self._journal.close()


class _MaskedLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp's server logs, without its texts: those of a malformed request quote token and phone number."""

    def __init__(self, seen: Counter[int] | None) -> None:
        super().__init__(_log)
        self._seen = seen

    def log(self, level: int, msg: object, *args: object, **options: object) -> None:
        """Log the kind of the error, and count the answer that aiohttp gives by itself."""
        from aiohttp.http import HttpProcessingError

        error = options.get("exc_info")
        if isinstance(error, HttpProcessingError):
            if self._seen is not None:
                self._seen[error.code] += 1
            self.logger.log(level, "a request could not be read: %s", type(error).__name__)
        elif isinstance(error, BaseException):
            self.logger.log(level, "a request could not be served: %s", type(error).__name__)


class _Connections:
    """The open connections of a server, whose clients may be anybody.

    Each is for one request, which must begin with a whole head within ``head_seconds``; the receiver limits the time
    for its body. A connection more than ``most`` closes the oldest, so that neither many nor slow ones keep a callback
    out, which is read within milliseconds.
    """

    def __init__(self, server: web.Server, most: int, head_seconds: float) -> None:
        self._server = server
        self._most = most
        self._head_seconds = head_seconds
        self._timers: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def accept(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        loop = asyncio.get_running_loop()
        if len(self._timers) >= self._most:
            oldest = next(iter(self._timers))
            self._forget(oldest)
            # Not at once: accepted a moment ago, it may have no transport yet.
            loop.call_soon(_abort, oldest)
        protocol = self._server()
        self._timers[protocol] = loop.call_later(self._head_seconds, self._expire, protocol)
        return protocol

    @contextlib.contextmanager
    def serving(self, protocol: web.RequestHandler) -> Iterator[None]:
        """While open, the head of a connection's request has come, and its one answer is made."""
        if protocol in self._timers:
            self._timers[protocol].cancel()
        try:
            yield
        finally:
            self._forget(protocol)

    def _expire(self, protocol: web.RequestHandler) -> None:
        self._forget(protocol)
        _abort(protocol)

    def _forget(self, protocol: web.RequestHandler) -> None:
        timer = self._timers.pop(protocol, None)
        if timer is not None:
            timer.cancel()


def _abort(protocol: web.RequestHandler) -> None:
    if protocol.transport is not None:  # it is still open
        protocol.transport.abort()


@contextlib.asynccontextmanager
async def listening(
    where: Address,
    receiver: CallbackReceiver,
    seen: Counter[int] | None = None,
    *,
    most: int = MOST_CONNECTIONS,
    head_seconds: float = 10.0,
) -> AsyncIterator[str]:
    """Serve ``receiver`` under every path; gives the URL of its root.

    Args:
        where: the address; port 0 takes a free one.
        receiver: takes the callbacks.
        seen: counts the answers by their status.
        most: connections that may be open at once; one more closes the oldest.
        head_seconds: how long a connection may take to send the head of its request.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        with connections.serving(request.protocol):
            response = await receiver.aiohttp_handler(request)
        if not response.prepared:
            response.force_close()
        if seen is not None:
            seen[response.status] += 1
        return response

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    # A client that never finishes a request must not keep the command from ending.
    runner = web.AppRunner(app, access_log=None, logger=_MaskedLog(seen), shutdown_timeout=1.0)
    await runner.setup()
    assert runner.server is not None
    connections = _Connections(runner.server, most, head_seconds)
    try:
        try:
            server = await asyncio.get_running_loop().create_server(
                connections.accept, where.host, where.port, backlog=_BACKLOG
            )
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {where}: {error.strerror or error}") from None
        try:
            yield f"http://{Address(where.host, int(server.sockets[0].getsockname()[1]))}"
        finally:
            server.close()
    finally:
        await runner.cleanup()
