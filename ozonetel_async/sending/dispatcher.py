"""One call: its turn in the queue, its token, its request, its answer, and what is safe to repeat."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from ..callbacks.url_tokens import url_token
from ..config import ClientConfig
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
from .bearer_tokens import TokenHolder
from .queue import RateQueue, Slot
from .retry import retry_after_seconds, wait_before_retry
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


class ApiRequest:
    """What one call asks for, and where it stands.

    Args:
        endpoint: short name.
        params: the endpoint's own parameters.
        campaign: the campaign's name, where the endpoint takes one.
        payload: encoded bulkData, where the endpoint takes it.
        priority: place in the queue; larger goes first.
        max_wait: most seconds to wait in the queue, all attempts together; None waits as long as it takes.
        before_send: awaited when the call's turn has come, right before each attempt.
        not_applied: awaited when an attempt is known not to have been applied and another one will follow.
    """

    __slots__ = (
        "before_send",
        "campaign",
        "endpoint",
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
        before_send: Callable[[], Awaitable[None]] | None = None,
        not_applied: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.endpoint: EndpointName = endpoint
        self.params: Params = params
        self.campaign: str | None = campaign
        self.payload: bytes | None = payload
        self.priority: int = priority
        self.max_wait: float | None = max_wait
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


class Dispatcher:
    """Queues, token and transport of one account, for one event loop."""

    def __init__(self, config: ClientConfig, transport: Transport) -> None:
        limits = config.limits
        self._config = config
        self._transport = transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._tokens = TokenHolder(self._fetch_token)
        self._encoding = asyncio.Lock()
        self.endpoints: Mapping[EndpointName, Endpoint] = endpoint_table(config.dialect)
        names: tuple[QueueName, ...] = ("add", "bulk", "schedule", "dial_status", "token")
        self.queues: Mapping[QueueName, RateQueue] = {
            name: RateQueue(
                name,
                getattr(limits, name),
                max_waiting=limits.max_waiting,
                transit_margin=limits.transit_margin,
            )
            for name in names
        }

    async def call(self, call: ApiRequest) -> Reply:
        """Make one call; repeat it only while it is known not to have been applied.

        Returns:
            The reply, whose meaning is a success.

        Raises:
            OzonetelError: by meaning; see ``errors``.
        """
        loop = self._check_loop()
        if call.max_wait is not None or type(call.priority) is not int:
            check_queue_options(call.priority, call.max_wait)
        endpoint = self.endpoints[call.endpoint]
        queue = self.queues[endpoint.queue]
        began = loop.time()
        failures: dict[type[OzonetelError], int] = {}
        slot: Slot | None = None
        while True:
            slot = await queue.acquire(call.priority, call.max_wait, since=began, after=slot)
            reply, failure = await self._attempt(call, endpoint, slot)
            if failure is None:
                assert reply is not None
                return reply
            kind = type(failure)
            failures[kind] = failures.get(kind, 0) + 1
            wait = self._repeat_after(failure, failures[kind], reply)
            if wait is None:
                raise failure
            if call.not_applied is not None and not call.in_doubt:
                await call.not_applied()
            _log.info("%s: attempt ended in %s, trying again", call.endpoint, kind.__name__)
            if wait:
                await asyncio.sleep(wait)

    def _repeat_after(self, failure: OzonetelError, attempt: int, reply: Reply | None) -> float | None:
        if isinstance(failure, AuthenticationError) and reply is not None and reply.meaning is Meaning.TOKEN:
            # The token was refused and dropped; one new one is worth a try (page "Generate Token").
            return 0.0 if attempt == 1 else None
        return wait_before_retry(self._config.retry, failure, attempt, random.random())  # noqa: S311 - jitter

    async def _attempt(
        self, call: ApiRequest, endpoint: Endpoint, slot: Slot
    ) -> tuple[Reply | None, OzonetelError | None]:
        """One request in one slot; the slot is concluded in every case."""
        try:
            bearer = await self._tokens.get() if endpoint.bearer and self._config.auth == "token" else None
            if call.payload is None:
                request = build(endpoint, self._config, call.params, campaign=call.campaign, bearer=bearer)
            else:
                request = await self._build_long(call, endpoint, bearer)
            if call.before_send is not None:
                await call.before_send()
        except BaseException:
            slot.unsent()
            raise
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
            return None, error
        except BaseException:
            slot.lost()
            raise
        return self._conclude(call, endpoint, slot, response, bearer)

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

    def _conclude(
        self, call: ApiRequest, endpoint: Endpoint, slot: Slot, response: Response, bearer: str | None
    ) -> tuple[Reply, OzonetelError | None]:
        reply, failure = read(
            endpoint, response.status, response.body, self._secrets(call, bearer), token_used=bearer is not None
        )
        call.on_wire = False
        call.in_doubt = call.in_doubt or (failure is not None and failure.outcome == "unknown")
        if isinstance(failure, RateLimitedError):
            failure.retry_after = retry_after_seconds(response.retry_after, datetime.now(UTC))
            # A server that asks for an hour ends this call; the queue asks again after the longest wait it honours.
            slot.refused(_at_most(failure.retry_after, self._config.retry.max_retry_after))
        else:
            slot.answered()
        if bearer is not None and reply.meaning is Meaning.TOKEN:
            self._tokens.drop(bearer)
        return reply, failure

    def _secrets(self, call: ApiRequest, bearer: str | None) -> tuple[str, ...]:
        callback = url_token(call.params["callBackUrl"]) if "callBackUrl" in call.params else None
        return (*self._config.credentials.forms, *filter(None, (bearer, callback)))

    async def _fetch_token(self) -> str:
        call = ApiRequest("token", {}, max_wait=self._config.timeouts.total)
        try:
            return bearer_token(await self.call(call))
        except OzonetelError as error:
            if error.outcome != "unknown":
                raise
            # Unknown for the token; for the lead that waits for it, it is certain: nothing was sent.
            # Without the reply's text, which may hold a token that could not be read.
            failure = ConnectError(f"no token: {error.message}", endpoint="token")
        raise failure

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise ConfigurationError("this client belongs to another event loop; make one client per loop")
            self._loop = loop
        if self._closed:
            raise ConfigurationError("the client is closed")
        return loop

    async def close(self) -> None:
        """Turn waiting callers away and close every connection."""
        self._closed = True
        for queue in self.queues.values():
            queue.close()
        await self._tokens.close()
        await self._transport.close()


def check_queue_options(priority: object, max_wait: object) -> None:
    """Refuse a place in the queue that is none.

    Raises:
        ConfigurationError: the priority is no whole number, or the wait is no number of seconds.
    """
    if not isinstance(priority, int):
        raise ConfigurationError(f"queue_priority: expected a whole number, got {type(priority).__name__}")
    number = isinstance(max_wait, int | float) and not isinstance(max_wait, bool)
    if max_wait is not None and not (number and max_wait >= 0):  # type: ignore[operator]
        raise ConfigurationError(f"max_wait: expected zero or more seconds, or None, got {max_wait!r}")


def _at_most(seconds: float | None, most: float) -> float | None:
    return None if seconds is None else min(seconds, most)
