"""One callback on its way in, whatever the web framework: an ASGI 3 app, and a handler for ``aiohttp.web``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from msgspec import Struct

if TYPE_CHECKING:
    # aiohttp.web takes 40 ms to import, and only those who mount the handler need it; they have imported it.
    from aiohttp import web

__all__ = ["METHODS", "BodyError", "CallbackApp", "Incoming", "answer_aiohttp"]

METHODS: Final = frozenset({"POST", "PUT", "GET"})
_ALLOW: Final = ", ".join(sorted(METHODS))

_REASONS: Final[Mapping[int, str]] = {
    200: "stored\n",
    400: "unreadable\n",
    404: "not found\n",
    405: "method not allowed\n",
    408: "too slow\n",
    413: "too large\n",
    415: "compressed bodies are not read\n",
    503: "not stored, try again\n",
}


class BodyError(Exception):
    """The body broke off."""


class Incoming(Struct, frozen=True, kw_only=True):
    """A request whose body is still to be read.

    Attributes:
        method: of the request line.
        path: raw or percent-decoded, like the query.
        query: without its question mark.
        content_type: the header, empty when there is none, like the two below.
        content_length: the header as text.
        encoding: the header Content-Encoding.
        chunks: the body as it arrives; raises ``BodyError`` when it breaks off.
    """

    method: str
    path: str
    query: str
    content_type: str
    content_length: str
    encoding: str
    chunks: AsyncGenerator[bytes]


# -- ASGI ----------------------------------------------------------------------------------------------------------

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
        with suppress(OSError):  # servers may raise it when the connection is closed
            await _answer(status, scope, send)


async def _answer(status: int, scope: _Message, send: _Send) -> None:
    body = _REASONS[status].encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", _ALLOW.encode()))
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


# -- aiohttp.web ---------------------------------------------------------------------------------------------------


async def answer_aiohttp(receive: Callable[[Incoming], Awaitable[int]], request: web.Request) -> web.Response:
    """Have ``receive`` take in a request of ``aiohttp.web``; the response that tells its status."""
    from aiohttp import web

    headers = request.headers
    status = await receive(
        Incoming(
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            content_type=headers.get("Content-Type", ""),
            content_length=headers.get("Content-Length", ""),
            encoding=headers.get("Content-Encoding", ""),
            chunks=_aiohttp_chunks(request),
        )
    )
    response = web.Response(status=status, text=_REASONS[status])
    if status == 405:
        response.headers["Allow"] = _ALLOW
    if status != 200 and not request.content.at_eof():
        # The rest of the body may never end, and aiohttp's server would read on for tens of seconds.
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        request.protocol.force_close()
    return response


async def _aiohttp_chunks(request: web.Request) -> AsyncGenerator[bytes]:
    failed = False
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except Exception:  # whatever aiohttp's parser finds wrong with a body: its classes for that are not one family
        failed = True
    if failed:
        raise BodyError
