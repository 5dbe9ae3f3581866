"""A call whose body is supplied when its turn has come."""

from __future__ import annotations

import asyncio

import pytest

from ozonetel_async.config import ClientConfig, Credentials, Limits, RateLimit
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.dispatcher import ApiRequest, Dispatcher
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing.clock import run_virtual


class Service(Transport):
    """Refuses the first request for its rate, and takes all others."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def send(self, request: Request) -> Response:
        self.bodies.append(request.body or b"")
        if len(self.bodies) == 1:
            return Response(429, b"", None)
        return Response(200, b'{"status":"success","message":"queued successfully","transactionId":"1"}', None)

    async def close(self) -> None:
        """Nothing is open."""


def dispatcher(service: Service) -> Dispatcher:
    limits = Limits(bulk=RateLimit(1, 60.0))
    return Dispatcher(ClientConfig(credentials=Credentials("sim-key-3f9a6c1e5b7d", "sim-user"), limits=limits), service)


def test_a_body_supplied_late_is_asked_for_when_the_turn_has_come_before_each_attempt() -> None:
    service = Service()
    asked: list[float] = []

    async def main() -> None:
        call = ApiRequest("bulk", {}, campaign="Diwali")

        async def fill() -> None:
            asked.append(asyncio.get_running_loop().time())
            call.payload = b'{"map":["PhoneNumber"],"data":[["98%08d"]]}' % len(asked)

        call.fill = fill
        sending = dispatcher(service)
        await sending.call(call)
        await sending.close()

    run_virtual(main())
    assert asked[0] < 0.1
    assert asked[1] >= 60.0
    assert [b"9800000001" in service.bodies[0], b"9800000002" in service.bodies[1]] == [True, True]


def test_what_supplying_the_body_raises_gives_the_turn_back() -> None:
    service = Service()

    async def main() -> None:
        sending = dispatcher(service)

        async def fill() -> None:
            raise LookupError

        for _ in range(3):
            with pytest.raises(LookupError):
                await sending.call(ApiRequest("bulk", {}, campaign="Diwali", fill=fill))
            assert sending.queues["bulk"].free == 1
        assert (service.bodies, sending.queues["bulk"].worst_window) == ([], 1)
        await sending.close()

    run_virtual(main())
