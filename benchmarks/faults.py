"""Faulted calls and random cancellations in numbers: one write each, no token lost, nothing left open.

    python benchmarks/faults.py [--calls 1000] [--cancellations 20000] [--hang-ups 600]

Counts, not timings; it ends with exit code 1 when one of the promises is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
from contextlib import suppress
from typing import Any

from ozonetel_async import Lead, LeadReceipt, Limits, OutcomeUnknownError, OzonetelClient, OzonetelError, RateLimit
from ozonetel_async.config import RetryPolicy, Timeouts
from ozonetel_async.testing import Fault, Simulator

WINDOW = 0.25
FAULTS = [
    Fault.reset_before_apply(),
    Fault.reset_after_apply(),
    Fault.stall_after_apply(),
    Fault.status(500),
    Fault.status(502),
    Fault.html(),
    Fault.truncated(),
    Fault.truncated(flavour="json"),
    Fault.empty(),
    Fault.rate_refusal(),
    Fault.http_429(),
    Fault.slow(0.001),
]
_BODY = b'{"status":"SUCCESS","message":"SuccessFully Updated"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


def client_of(sim: Simulator, add: RateLimit, url: str = "", **options: Any) -> OzonetelClient:
    return OzonetelClient(
        sim.api_key,
        sim.username,
        base_url=url or sim.base_url,
        limits=Limits(add=add, transit_margin=0.5),
        retry=RetryPolicy(backoff=0.001, max_backoff=0.002, rate_attempts=50),
        **options,
    )


async def faulted(calls: int) -> bool:
    """Calls into a server that misbehaves; whether every lead was added at most once and every outcome is true."""
    async with Simulator(window=WINDOW, limits={"add": 200}, seed=1) as sim:
        for fault in FAULTS:
            sim.inject("add", fault, times=None, probability=0.08)
        phones = [f"98{number:08d}" for number in range(calls)]
        async with client_of(sim, RateLimit(200, WINDOW), timeouts=Timeouts(total=2.0)) as client:
            outcomes = await asyncio.gather(
                *(client.add_lead("Diwali", Lead(phone)) for phone in phones), return_exceptions=True
            )
            queue = client.queues["add"]
            await asyncio.sleep(0.8)
            lost = 200 - queue.free - queue.in_flight
        numbers = sim.campaigns["Diwali"].numbers
        doubled = sum(count > 1 for count in numbers.values())
        accepted = [phone for phone, one in zip(phones, outcomes, strict=True) if isinstance(one, LeadReceipt)]
        unknown = sum(isinstance(one, OutcomeUnknownError) for one in outcomes)
        untyped = sum(isinstance(one, BaseException) and not isinstance(one, OzonetelError) for one in outcomes)
        untrue = sum(numbers[phone] != 1 for phone in accepted)
        await asyncio.sleep(0.05)
        print(
            f"faulted calls: {calls}, accepted {len(accepted)}, unknown {unknown}, untyped {untyped}, "
            f"doubled {doubled}, accepted and not there {untrue}, tokens lost {lost}, open {sim.in_flight}"
        )
        return not (doubled or untrue or untyped or lost or sim.in_flight)


async def cancelled(calls: int) -> bool:
    """Calls of which most are cancelled at a random turn; whether nothing is lost, doubled or left."""
    chance = random.Random(2)
    async with Simulator(window=WINDOW, limits={"add": 2_000}, max_log=100) as sim:
        async with client_of(sim, RateLimit(2_000, WINDOW)) as client:

            async def one(number: int) -> None:
                call = asyncio.create_task(client.add_lead("Diwali", Lead(f"98{number:08d}")))
                for _ in range(chance.randint(0, 15)):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

            for begin in range(0, calls, 500):
                await asyncio.gather(*(one(number) for number in range(begin, begin + 500)))
            queue = client.queues["add"]
            await asyncio.sleep(1.0)
            lost = 2_000 - queue.free - queue.in_flight
            doubled = sum(count > 1 for count in sim.campaigns["Diwali"].numbers.values())
            done = len(sim.campaigns["Diwali"].numbers)
            waiting, in_flight = queue.waiting, queue.in_flight
        await asyncio.sleep(0.1)
        print(
            f"cancellations: {calls}, applied {done}, doubled {doubled}, tokens lost {lost}, waiting {waiting}, "
            f"in flight {in_flight}, open {sim.in_flight}, refused {sim.refusals('add')}"
        )
        return not (doubled or lost or waiting or in_flight or sim.in_flight)


async def hang_ups(calls: int) -> bool:
    """Calls over connections that the server ends a moment around the time of the next call."""
    chance = random.Random(3)
    hits = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hits
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                hits += 1
                writer.write(ANSWER)
                await writer.drain()
                await asyncio.sleep(chance.uniform(0.0, 0.004))
                sock = writer.transport.get_extra_info("socket")
                with socket.socket(fileno=socket.dup(sock.fileno())) as raw, suppress(OSError):
                    raw.shutdown(socket.SHUT_RDWR)
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    accepted = unknown = 0
    async with Simulator() as sim, client_of(sim, RateLimit(10_000, 1.0), url) as client:
        for _ in range(calls):
            try:
                await client.add_lead("Diwali", Lead("919812345678"))
                accepted += 1
            except OutcomeUnknownError:
                unknown += 1
            await asyncio.sleep(chance.uniform(0.0, 0.004))
    server.close()
    await asyncio.sleep(0.05)
    print(f"hang-ups: {calls} calls, accepted {accepted}, unknown {unknown}, requests taken by the server {hits}")
    return accepted == hits


async def main(options: argparse.Namespace) -> bool:
    results = [
        await faulted(options.calls),
        await cancelled(options.cancellations),
        await hang_ups(options.hang_ups),
    ]
    return all(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--cancellations", type=int, default=20_000)
    parser.add_argument("--hang-ups", type=int, default=600)
    sys.exit(not asyncio.run(main(parser.parse_args())))
