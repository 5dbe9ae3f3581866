"""The receiver as an ASGI 3 app, without a framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TypeAlias, cast

from .incoming import ALLOW, REASONS, BodyError, Incoming

__all__ = ["CallbackApp"]

# As the ASGI specification has them; the values depend on the message's type.
_Message: TypeAlias = MutableMapping[str, object]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]


class CallbackApp:
    """An object rather than a function, since servers tell an ASGI 3 app by its ``__call__``.

    Args:
        receive: takes a callback in and gives the status to answer with.
    """

    def __init__(self, receive: Callable[[Incoming], Awaitable[int]]) -> None:
        self._take_in = receive

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one connection of any scope."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise ValueError(f"the callback app serves http, not {kind!r}")

    async def _http(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        headers: dict[bytes, str] = {}
        for name, value in cast("list[tuple[bytes, bytes]]", scope["headers"]):
            headers.setdefault(bytes(name).lower(), bytes(value).decode("latin-1"))
        status = await self._take_in(
            Incoming(
                method=str(scope["method"]),
                # The token is found in whichever segment it stands, with root_path in front or without.
                path=str(scope["path"]),
                query=cast("bytes", scope.get("query_string") or b"").decode("latin-1"),
                content_type=headers.get(b"content-type", ""),
                content_length=headers.get(b"content-length", ""),
                encoding=headers.get(b"content-encoding", ""),
                chunks=_chunks(receive),
            )
        )
        with suppress(OSError):  # the caller is gone; servers may say so here
            await _answer(status, scope, send)


async def _answer(status: int, scope: _Message, send: _Send) -> None:
    body = REASONS[status].encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", ALLOW.encode()))
    if status != 200 and str(scope.get("http_version", "1.1")).startswith("1"):
        # The rest of the body may be unread, and may never end. HTTP/2 ends streams, and forbids the header.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _chunks(receive: _Receive) -> AsyncGenerator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyError
        more = bool(message.get("more_body", False))
        yield cast("bytes", message.get("body", b""))


async def _lifespan(receive: _Receive, send: _Send) -> None:
    while True:
        phase = str((await receive())["type"])
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
