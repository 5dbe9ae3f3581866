"""A small web server that takes callbacks in, for commands that wait for some."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from msgspec import Struct

from ..callbacks.receiver import CallbackReceiver
from ..callbacks.waiting import CallbackResult
from ..errors import ConfigurationError
from ..journal.journal import Journal

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Address", "JournalSink", "address", "listening"]

_log = logging.getLogger(__name__)


class Address(Struct, frozen=True):
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """``"127.0.0.1:8081"`` as an address, for a parser."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):(\d{1,5})", text)
    if found is None or int(found.group(2)) > 65535:
        raise argparse.ArgumentTypeError("must look like 127.0.0.1:8081: a host or address, a colon, a port")
    return Address(found.group(1).strip("[]"), int(found.group(2)))


class JournalSink:
    """The journal of an upload as a sink that opens it with the first callback: the upload has yet to make it."""

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
        """Let go of the journal."""
        if self._journal is not None:
            await self._journal.close()


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp's server logs, without its texts: those of a malformed request quote token and phone number."""

    def __init__(self, seen: Counter[int] | None) -> None:
        super().__init__(_log)
        self._seen = seen

    def log(self, level: int, msg: object, *args: object, **options: object) -> None:
        """Tell the kind of the error, and count the answer that aiohttp gives by itself."""
        from aiohttp.http import HttpProcessingError

        error = options.get("exc_info")
        if isinstance(error, HttpProcessingError):
            if self._seen is not None:
                self._seen[error.code] += 1
            self.logger.log(level, "a request could not be read: %s", type(error).__name__)
        elif isinstance(error, BaseException):
            self.logger.log(level, "a request could not be served: %s", type(error).__name__)


@contextlib.asynccontextmanager
async def listening(where: Address, receiver: CallbackReceiver, seen: Counter[int] | None = None) -> AsyncIterator[str]:
    """Serve ``receiver`` under every path; gives the URL of its root.

    Args:
        seen: counts the answers by their status.
    """
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        response = await receiver.aiohttp_handler(request)
        if seen is not None:
            seen[response.status] += 1
        return response

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    # A stranger who never finishes a request must not keep the command from ending.
    runner = web.AppRunner(app, access_log=None, logger=_Discreet(seen), shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, where.host, where.port).start()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {where}: {error.strerror or error}") from None
        yield f"http://{Address(where.host, int(runner.addresses[0][1]))}"
    finally:
        await runner.cleanup()
