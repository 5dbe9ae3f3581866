"""One call: its turn in the queue, its token, its request, its answer, and what is safe to repeat."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Final, NamedTuple

from ..callbacks.url_tokens import url_token
from ..config import ClientConfig, told
from ..errors import (
    AuthenticationError,
    AuthModeError,
    CampaignError,
    ConfigurationError,
    ConnectError,
    JournalError,
    OzonetelError,
    QueueFullError,
    RateLimitedError,
)
from ..protocol.endpoints import Endpoint, EndpointName, QueueName, endpoint_table
from ..protocol.messages import Meaning
from ..protocol.replies import Reply, bearer_token, read
from ..protocol.requests import Params, Request, build, quote_slices
from .bearer_tokens import LocalTokenStore, TokenHolder
from .queue import RateQueue, Slot
from .retry import retry_after_seconds, wait_before_retry
from .shared.account import SharedAccount
from .shared.store import SharedStore
from .transport import Response, Transport

__all__ = ["STOPS_THE_UPLOAD", "ApiRequest", "Dispatcher", "check_queue_options"]

_log = logging.getLogger("ozonetel_async")

STOPS_THE_UPLOAD: Final = (
    AuthenticationError,
    AuthModeError,
    CampaignError,
    ConfigurationError,
    ConnectError,
    JournalError,
    QueueFullError,
    RateLimitedError,
)
"""What every further request of the same kind would meet as well, so that a run of them had better end."""


# Attempts after a refused token: one with a new token, or, where the reason is not told, one with the same token first.
_TOKEN_REPEATS: Final = 2
# Each may be one that another process fetched and that has ended as well while the request waited for its turn.
_SHARED_TOKEN_REPEATS: Final = 5


class ApiRequest:
    """What one call asks for, and where it stands.

    Args:
        endpoint: short name.
        params: the endpoint's own parameters.
        campaign: the campaign's name, where the endpoint takes one.
        payload: encoded bulkData, where the endpoint takes it.
        priority: place in the queue; larger goes first.
        max_wait: most seconds to wait in the queue, all attempts together; None waits as long as it takes.
        fill: awaited when the call's turn has come, before its request is built: the last moment to set ``params`` and
            ``payload``. What it raises gives the turn back.
        before_send: awaited when the call's turn has come, right before each attempt.
        not_applied: awaited when an attempt is known not to have been applied and another one will follow.
    """

    __slots__ = (
        "before_send",
        "campaign",
        "endpoint",
        "fill",
        "in_doubt",
        "max_wait",
        "not_applied",
        "on_wire",
        "params",
        "payload",
        "priority",
        "sends",
    )

    def __init__(
        self,
        endpoint: EndpointName,
        params: Params,
        *,
        campaign: str | None = None,
        payload: bytes | None = None,
        priority: int = 0,
        max_wait: float | None = None,
        fill: Callable[[], Awaitable[None]] | None = None,
        before_send: Callable[[], Awaitable[None]] | None = None,
        not_applied: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.endpoint: EndpointName = endpoint
        self.params: Params = params
        self.campaign: str | None = campaign
        self.payload: bytes | None = payload
        self.priority: int = priority
        self.max_wait: float | None = max_wait
        self.fill: Callable[[], Awaitable[None]] | None = fill
        self.before_send: Callable[[], Awaitable[None]] | None = before_send
        self.not_applied: Callable[[], Awaitable[None]] | None = not_applied
        self.sends: int = 0
        """Requests put on the wire for this call."""
        self.on_wire: bool = False
        """Whether a request is under way."""
        self.in_doubt: bool = False
        """Whether a request has ended without a trustworthy answer; stays so whatever later ones end in."""

    @property
    def may_be_applied(self) -> bool:
        """Whether giving up at this moment would leave the outcome unknown."""
        return self.on_wire or self.in_doubt


class _Attempt(NamedTuple):
    """How one request ended.

    Attributes:
        reply: what came back, if anything did.
        failure: None when the reply is a success.
        token_refused: whether the bearer token was the reason, or may have been, and another attempt is worth it.
    """

    reply: Reply | None
    failure: OzonetelError | None
    token_refused: bool = False


class Dispatcher:
    """Queues, token and transport of one account, for one event loop."""

    def __init__(self, config: ClientConfig, transport: Transport, store: SharedStore | None = None) -> None:
        limits = config.limits
        self._config = config
        self._transport = transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._encoding = asyncio.Lock()
        self._shared = None if store is None else SharedAccount(config, store)
        self.endpoints: Mapping[EndpointName, Endpoint] = endpoint_table(config.dialect)
        names: tuple[QueueName, ...] = ("add", "bulk", "schedule", "dial_status", "token")
        self.queues: Mapping[QueueName, RateQueue] = {
            name: RateQueue(
                name,
                getattr(limits, name),
                max_waiting=limits.max_waiting,
                transit_margin=limits.transit_margin,
                # Fetches of tokens are counted with the shared token: they need no place in line.
                window=None if self._shared is None or name == "token" else self._shared.window(name),
            )
            for name in names
        }
        self._tokens = TokenHolder(
            self._fetch_token if self._shared is None else self._shared.bounded(self._fetch_token),
            LocalTokenStore(lambda: self.queues["token"].next_free_in)
            if self._shared is None
            else self._shared.token_store(),
            limits.token.per,
            config.retry.connect_attempts,
        )

    def bind(self) -> asyncio.AbstractEventLoop:
        """Belong to the running event loop from now on.

        Raises:
            ConfigurationError: it belongs to another one already, or is closed.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise ConfigurationError(
                    "the client belongs to another event loop: expected every call on the loop on which it was "
                    "entered or first used; make one client per loop (in pytest: one loop_scope for fixture and test)"
                )
            self._loop = loop
        if self._closed:
            raise ConfigurationError("the client is closed")
        return loop

    async def call(self, call: ApiRequest) -> Reply:
        """Make one call; repeat it only while it is known not to have been applied.

        Returns:
            The reply, whose meaning is a success.

        Raises:
            OzonetelError: by meaning; see ``errors``.
        """
        loop = self.bind()
        if call.max_wait is not None or type(call.priority) is not int:
            check_queue_options(call.priority, call.max_wait)
        endpoint = self.endpoints[call.endpoint]
        queue = self.queues[endpoint.queue]
        began = loop.time()
        deadline = None if call.max_wait is None else began + call.max_wait
        failures: dict[type[OzonetelError], int] = {}
        slot: Slot | None = None
        while True:
            slot = await queue.acquire(call.priority, call.max_wait, since=began, after=slot)
            attempt = await self._attempt(call, endpoint, slot, deadline)
            if attempt is None:
                continue
            failure = attempt.failure
            if failure is None:
                assert attempt.reply is not None
                return attempt.reply
            kind = type(failure)
            failures[kind] = failures.get(kind, 0) + 1
            wait = self._repeat_after(attempt, failures[kind])
            if wait is None:
                raise failure
            if call.not_applied is not None and not call.in_doubt:
                await call.not_applied()
            _log.info("%s: attempt ended in %s, trying again", call.endpoint, kind.__name__)
            if wait:
                await asyncio.sleep(wait)

    def _repeat_after(self, attempt: _Attempt, number: int) -> float | None:
        """Seconds to wait before the next attempt, or None; ``number`` counts those that ended in the same error."""
        if attempt.token_refused:
            return 0.0 if number <= (_TOKEN_REPEATS if self._shared is None else _SHARED_TOKEN_REPEATS) else None
        assert attempt.failure is not None
        return wait_before_retry(self._config.retry, attempt.failure, number, random.random())  # noqa: S311 - jitter

    async def _attempt(
        self, call: ApiRequest, endpoint: Endpoint, slot: Slot, deadline: float | None
    ) -> _Attempt | None:
        """One request in one slot, or None when the slot got old before; the slot is concluded in every case."""
        try:
            bearer = await self._tokens.get(deadline) if endpoint.bearer and self._config.auth == "token" else None
            if call.fill is not None:
                await call.fill()
            if call.payload is None:
                request = build(endpoint, self._config, call.params, campaign=call.campaign, bearer=bearer)
            else:
                request = await self._build_long(call, endpoint, bearer)
            if call.before_send is not None:
                await call.before_send()
        except BaseException:
            slot.unsent()
            raise
        if asyncio.get_running_loop().time() > slot.good_until:
            # A token that other processes share, and that they may have by now. Back into the same place.
            slot.unsent()
            if call.not_applied is not None and not call.in_doubt:
                await call.not_applied()
            return None
        try:
            call.sends += 1
            call.on_wire = True
            response = await self._transport.send(request)
        except OzonetelError as error:
            call.on_wire = False
            if error.outcome == "unknown":
                call.in_doubt = True
                slot.lost()
            else:
                call.sends -= 1
                slot.unsent()
            return _Attempt(None, error)
        except BaseException:
            slot.lost()
            raise
        return await self._conclude(call, endpoint, slot, response, bearer)

    async def _build_long(self, call: ApiRequest, endpoint: Endpoint, bearer: str | None) -> Request:
        # Encoding a megabyte takes milliseconds: one piece of one body in a turn of the loop, so that others run too.
        assert call.payload is not None
        pieces = []
        async with self._encoding:
            for piece in quote_slices(endpoint, call.payload):
                pieces.append(piece)
                await asyncio.sleep(0)
            return build(
                endpoint,
                self._config,
                call.params,
                campaign=call.campaign,
                payload=call.payload,
                bearer=bearer,
                quoted="".join(pieces) if pieces else None,
            )

    async def _conclude(
        self, call: ApiRequest, endpoint: Endpoint, slot: Slot, response: Response, bearer: str | None
    ) -> _Attempt:
        reply, failure = read(
            endpoint, response.status, response.body, self._secrets(call, bearer), token_used=bearer is not None
        )
        call.on_wire = False
        call.in_doubt = call.in_doubt or (failure is not None and failure.outcome == "unknown")
        if isinstance(failure, RateLimitedError):
            failure.retry_after = retry_after_seconds(response.retry_after, response.date, datetime.now(UTC))
            # A server that asks for an hour ends this call; the queue asks again after the longest wait it honours.
            slot.refused(_at_most(failure.retry_after, self._config.retry.max_retry_after))
        else:
            slot.answered()
        if bearer is None or not isinstance(failure, AuthenticationError):
            return _Attempt(reply, failure)
        if reply.meaning is Meaning.TOKEN:
            await self._tokens.drop(bearer)
            return _Attempt(reply, failure, token_refused=True)
        if response.status != 401:
            return _Attempt(reply, failure)
        failure = AuthenticationError(
            f"{failure.message} (HTTP {response.status} to a bearer token, which is not named as the reason; does the "
            "account's admin setting 'API Authentication' allow tokens?)",
            endpoint=failure.endpoint,
            raw=failure.raw,
        )
        return _Attempt(reply, failure, token_refused=await self._tokens.doubt(bearer))

    def _secrets(self, call: ApiRequest, bearer: str | None) -> tuple[str, ...]:
        callback = url_token(str(call.params["callBackUrl"])) if "callBackUrl" in call.params else None
        return (self._config.credentials.reveal(), *filter(None, (bearer, callback)))

    async def _fetch_token(self, leaving: Callable[[bool], None]) -> str:
        async def before_send() -> None:
            leaving(True)

        async def not_applied() -> None:
            leaving(False)

        return bearer_token(await self.call(ApiRequest("token", {}, before_send=before_send, not_applied=not_applied)))

    async def close(self) -> None:
        """Turn waiting callers away and close every connection.

        A cancellation of the caller goes on once everything is closed.
        """
        self._closed = True
        for queue in self.queues.values():
            queue.close()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await _finish(self._closing)

    async def _close(self) -> None:
        try:
            await self._tokens.close()
        finally:
            await self._transport.close()
            if self._shared is not None:
                await self._shared.close()


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for ``task`` even while the caller is cancelled, as often as that may be; then let that go on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    await task


def check_queue_options(priority: object, max_wait: object) -> None:
    """Refuse a place in the queue that is none.

    Raises:
        ConfigurationError: the priority is no whole number, or the wait is no number of seconds.
    """
    if not isinstance(priority, int):
        raise ConfigurationError(f"queue_priority: expected a whole number, got {type(priority).__name__}")
    number = isinstance(max_wait, int | float) and not isinstance(max_wait, bool)
    # An integer may be too large for any clock; infinity is not.
    if max_wait is not None and not (number and (0 <= max_wait <= sys.float_info.max or max_wait == inf)):  # type: ignore[operator]
        raise ConfigurationError(f"max_wait: expected zero or more seconds, or None, got {told(max_wait)}")


def _at_most(seconds: float | None, most: float) -> float | None:
    return None if seconds is None else min(seconds, most)
