"""Callbacks: the shapes their bodies come in, and their delivery with its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import cycle
from urllib.parse import urlencode

import aiohttp
import msgspec

from ..faults import Fault
from ..log import LoggedCallback
from ..settings import Settings

__all__ = ["CallbackSender", "shape_body"]

# Seconds before a further attempt, and those that a receiver is given.
_RETRY_DELAY, _TIMEOUT = 0.05, 10.0
_JSON = "application/json"
_BOUNDARY = "----simulator-7d5f1c"


def shape_body(shape: str, inner: Mapping[str, object]) -> tuple[bytes, str]:
    """A callback's body in one of the shapes, with its Content-Type.

    The page of Bulk V4 shows an object under ``data`` in its table and, as its sample, a text under ``data`` whose
    inner quotes are not escaped, which is no JSON; the vendor's request callbacks come as a form field.
    """
    content = msgspec.json.encode(inner)
    if shape == "object":
        return b'{"data":' + content + b"}", _JSON
    if shape == "string":
        return msgspec.json.encode({"data": content.decode()}), _JSON
    if shape == "printed":
        return b'{"data":"' + content + b'"}', _JSON
    if shape == "form":
        return urlencode({"data": content.decode()}).encode(), "application/x-www-form-urlencoded"
    if shape == "multipart":
        part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="data"\r\n\r\n'.encode()
        return part + content + f"\r\n--{_BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={_BOUNDARY}"
    if shape == "prefixed":
        return b'API Response : {"data":' + content + b"}", "text/plain"
    return content, _JSON


class CallbackSender:
    """Delivers callbacks, each in a task of its own, and logs every attempt."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.log: list[LoggedCallback] = []
        self._settings = settings
        self._clock = clock
        self._shapes = cycle(settings.callback_shapes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    @property
    def busy(self) -> bool:
        """Whether a delivery is under way."""
        return bool(self._tasks)

    def send(self, url: str, id_: str, inner: Mapping[str, object], fault: Fault | None) -> asyncio.Task[None] | None:
        """Begin to deliver a callback; None when it is to be lost."""
        if fault is not None and fault.kind == "lost_callback":
            return None
        task = asyncio.create_task(self._deliver(url, id_, inner, fault), name=f"simulator callback {id_}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _deliver(self, url: str, id_: str, inner: Mapping[str, object], fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else None
        shape: str = next(self._shapes)
        body, content_type = shape_body(shape, inner)
        if fault is not None and kind == "late_callback":
            await asyncio.sleep(fault.seconds)
        if fault is not None and kind == "hostile_callback":
            shape, body, content_type = "hostile", fault.body.encode("utf-8", "surrogateescape"), fault.content_type
        copies = fault.amount if fault is not None and kind == "duplicate_callback" else 1
        for _ in range(copies):
            await self._attempts(url, id_, shape, body, content_type)

    async def _attempts(self, url: str, id_: str, shape: str, body: bytes, content_type: str) -> None:
        for attempt in range(1 + self._settings.callback_retries):
            if attempt:
                await asyncio.sleep(_RETRY_DELAY)
            entry = LoggedCallback(id_, self._clock(), url, shape)
            self.log.append(entry)
            entry.status = await self._post(url, body, content_type)
            if 200 <= entry.status < 300:
                return

    async def _post(self, url: str, body: bytes, content_type: str) -> int:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_TIMEOUT))
        headers = {"Content-Type": content_type}
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                await reply.read()
                return reply.status
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
            # No receiver, a slow one, or no URL: the log shows it as status 0.
            return 0

    async def close(self) -> None:
        """Drop what is under way and the connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
