"""The web server: a handler that counts each request, holds it against its window, applies faults, and answers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from ..faults import Fault, FaultPlan
from ..log import EndpointFigures, LoggedRequest
from ..settings import LIMITS, SHARED, Settings
from ..window import RateWindow
from .account import Account, ReceivedRequest
from .answers import Answer, refusal, say
from .jobs import Jobs
from .routes import HANDLERS, Route, find_route, read_params

__all__ = ["HttpServer"]

_MAX_BODY = 256 * 2**20
_MAX_LINE = 64 * 2**20
_HTML = "text/html; charset=UTF-8"
_NOT_FOUND = Answer(b"<html><body><h1>404 Not Found</h1></body></html>", _HTML, 404)
_NOT_ALLOWED = Answer(b"<html><body><h1>405 Not Allowed</h1></body></html>", _HTML, 405)
_NOT_APPLIED = say("error", "Service Unavailable")
_GLANCE = 0.005
# With a linger time of zero, closing a socket resets its connection.
_RESET = struct.pack("ii", 1, 0)


def _windows(settings: Settings) -> dict[str, RateWindow]:
    wanted = {**LIMITS, **(settings.limits or {})}
    windows = {}
    for endpoint, requests in wanted.items():
        if requests > 0:
            per = settings.token_window if endpoint == "token" else settings.window
            windows[endpoint] = RateWindow(requests, per, settings.window_kind)
    for endpoint, other in SHARED.items():
        if endpoint not in wanted and other in windows:
            windows[endpoint] = windows[other]
    return windows


class HttpServer:
    """The web server in front of the service."""

    def __init__(
        self,
        account: Account,
        jobs: Jobs,
        plan: FaultPlan,
    ) -> None:
        self.log: list[LoggedRequest] = []
        self.figures: dict[str, EndpointFigures] = {}
        self.windows: dict[str, RateWindow] = _windows(account.settings)
        self.in_flight: int = 0
        self._account = account
        self._settings = account.settings
        self._jobs = jobs
        self._plan = plan
        self._tasks: set[asyncio.Task[object]] = set()
        self._runner: web.ServerRunner | None = None
        self._latent = self._settings.latency != (0.0, 0.0)
        self._faulty: dict[str, Callable[[web.BaseRequest, Fault, web.Response], Awaitable[web.StreamResponse]]] = {
            "reset": self._reset,
            "stall": self._stall,
            "truncated": self._truncated,
            "slow": self._slow,
            "oversized": self._oversized,
        }

    async def start(self) -> tuple[str, int]:
        """Listen; the host and port."""
        settings = self._settings
        factory = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=_MAX_BODY)
        server = web.Server(self._handle, request_factory=factory, access_log=None, max_line_size=_MAX_LINE)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, settings.host, settings.port, ssl_context=settings.ssl, reuse_address=True, backlog=4096
        )
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        return host, port

    async def close(self) -> None:
        """Stop listening, end every request and every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.in_flight += 1
        try:
            if not self._latent:
                return await self._arrived(request, None)
            # What the client has sent arrives even if the client goes while it is on its way.
            body = await _read(request)
            await self._travel()
            return await self._arrived(request, body)
        except (ConnectionError, web.RequestPayloadError):
            # The client closed the connection in the middle of its body.
            return web.Response(status=400)
        finally:
            self._tasks.discard(task)
            self.in_flight -= 1

    async def _travel(self) -> None:
        if self._latent:
            await asyncio.sleep(self._account.random.uniform(*self._settings.latency))

    async def _arrived(self, request: web.BaseRequest, body: bytes | None) -> web.StreamResponse:
        now = self._account.clock()
        route = find_route(request.path)
        record = LoggedRequest(route.endpoint, now, request.method, request.path, headers=request.headers)
        fault, callback_fault = self._admit(route, record, now)
        self._remember(record)
        if body is None:
            body = await _read(request)
        answer = await self._answer(route, record, request, body, fault, callback_fault)
        self._account_for(record, answer)
        await self._travel()
        response = await self._respond(request, route, fault, answer)
        if fault is None or fault.kind not in ("reset", "stall"):
            record.status = response.status
        return response

    def _admit(self, route: Route, record: LoggedRequest, now: float) -> tuple[Fault | None, Fault | None]:
        """Hold the arrival against its window, then against the script; the faults of answer and callback."""
        figures = self.figures.get(route.endpoint)
        if figures is None:
            figures = self.figures[route.endpoint] = EndpointFigures()
        figures.requests += 1
        window = self.windows.get(route.endpoint)
        record.refused = window is not None and not window.admits(now)
        fault = callback_fault = None
        if not record.refused:
            fault, callback_fault = self._plan.take(route.endpoint, route.documented)
            record.refused = fault is not None and fault.refuses
        record.fault = fault.name if fault is not None else None
        record.callback_fault = callback_fault.name if callback_fault is not None else None
        if record.refused:
            figures.refused += 1
        else:
            figures.admitted.append(now)
        if window is not None and not record.refused:
            window.count(now)
        return fault, callback_fault

    def _remember(self, record: LoggedRequest) -> None:
        most = self._settings.max_log
        self.log.append(record)
        if most is not None and len(self.log) > most:
            del self.log[0]

    def _account_for(self, record: LoggedRequest, answer: Answer) -> None:
        if record.applied:
            figures = self.figures[record.endpoint]
            figures.writes += 1
            figures.rows += record.applied
        if self._settings.keep_leads:
            record.message = answer.body
        else:
            record.params, record.body, record.headers = {}, b"", {}

    async def _answer(
        self,
        route: Route,
        record: LoggedRequest,
        request: web.BaseRequest,
        body: bytes,
        fault: Fault | None,
        callback_fault: Fault | None,
    ) -> Answer:
        """The service's own answer, the request applied unless the rate or a fault forbids it."""
        content_type = request.headers.get("Content-Type", "")
        params = read_params(route, request.rel_url.raw_query_string, body, content_type)
        record.params, record.body = params or {}, body
        if route.reader == "none":
            return _NOT_FOUND
        if record.method not in route.methods:
            return _NOT_ALLOWED
        if record.refused:
            return refusal(route.endpoint)
        if fault is not None and not fault.apply:
            return _NOT_APPLIED
        received = ReceivedRequest(record, request.headers, params, callback_fault)
        answer = HANDLERS[route.endpoint](self._account, received)
        if received.job is not None:
            if callback_fault is not None and callback_fault.kind == "early_callback":
                await self._jobs.run_now(received.job)
            else:
                self._jobs.put(received.job)
        return answer

    async def _respond(
        self, request: web.BaseRequest, route: Route, fault: Fault | None, answer: Answer
    ) -> web.StreamResponse:
        content_type = _HTML if route.php and answer.code == 200 else answer.content_type
        response = web.Response(body=answer.body, status=answer.code, headers={"Content-Type": content_type})
        if fault is None:
            return response
        special = self._faulty.get(fault.kind)
        return await special(request, fault, response) if special is not None else _altered(fault, response)

    async def _reset(self, request: web.BaseRequest, fault: Fault, response: web.Response) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        return response

    async def _stall(self, request: web.BaseRequest, fault: Fault, response: web.Response) -> web.StreamResponse:
        # aiohttp has no event for a lost connection.
        while request.transport is not None:  # noqa: ASYNC110
            await asyncio.sleep(_GLANCE)
        return response

    async def _truncated(self, request: web.BaseRequest, fault: Fault, response: web.Response) -> web.StreamResponse:
        body = _bytes(response)
        if fault.flavour == "json":
            response.body = body[: len(body) // 2]
            return response
        stream = web.StreamResponse(status=response.status, headers=response.headers)
        stream.content_length = len(body) + 20
        await stream.prepare(request)
        await stream.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return stream

    async def _slow(self, request: web.BaseRequest, fault: Fault, response: web.Response) -> web.StreamResponse:
        body = _bytes(response)
        stream = web.StreamResponse(status=response.status, headers=response.headers)
        stream.content_length = len(body)
        await stream.prepare(request)
        size = math.ceil(len(body) / max(1, fault.amount)) or 1
        for start in range(0, len(body), size):
            await asyncio.sleep(fault.seconds)
            await stream.write(body[start : start + size])
        await stream.write_eof()
        return stream

    async def _oversized(self, request: web.BaseRequest, fault: Fault, response: web.Response) -> web.StreamResponse:
        body = _bytes(response)
        stream = web.StreamResponse(status=response.status, headers=response.headers)
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        await stream.write(body)
        left = fault.amount - len(body)
        # The client is expected to hang up in the middle.
        with contextlib.suppress(ConnectionError):
            while left > 0:
                await stream.write(b" " * min(left, 65_536))
                left -= 65_536
            await stream.write_eof()
        return stream


async def _read(request: web.BaseRequest) -> bytes:
    return await request.read() if request.can_read_body else b""


def _bytes(response: web.Response) -> bytes:
    body = response.body
    assert isinstance(body, bytes)
    return body


def _altered(fault: Fault, response: web.Response) -> web.Response:
    """The answer with the fault's status, headers and label, and its body in place of or in front of the own one."""
    body, content_type = _bytes(response), fault.content_type or response.headers["Content-Type"]
    if fault.kind in ("prefix", "bom"):
        body = fault.body.encode() + body
    elif fault.kind in ("status", "html", "empty", "redirect"):
        body = fault.body.encode()
    headers = {"Content-Type": content_type, **dict(fault.headers)}
    return web.Response(body=body, status=fault.code or response.status, headers=headers)
