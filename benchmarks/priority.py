"""Single batches while an upload from another process takes all that the bulk limit has, through one Redis.

``python benchmarks/priority.py [--seconds 100]``

The simulator, in a process of its own, takes 5 bulk requests in 2 s (30 times the documented rate) and delays each
request and answer by 0.01 to 0.1 s. A second process uploads without end at priority -1, as ``upload`` does by default.
This one sends single batches at random moments, one a second on average, first without the upload, then beside it with
``queue_priority=0``, then with the upload's own. Per run: batches, and percentiles of the time each took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ozonetel_async import Lead, Limits, OzonetelClient, RateLimit, RedisShared
from ozonetel_async.testing import Simulator
from tests.contrib.conftest import RedisServer

WINDOW = 2.0
LIMITS = Limits(bulk=RateLimit(5, WINDOW), transit_margin=0.5)
UPLOAD = -1


async def serve() -> None:
    async with Simulator(window=WINDOW, latency=(0.01, 0.1), keep_leads=False, max_log=1000) as sim:
        print(json.dumps([sim.base_url, sim.api_key, sim.username]), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        figures = [sim.arrivals("bulk"), sim.refusals("bulk"), sim.worst_window("bulk")]
        print(json.dumps(figures), flush=True)


def connect(service: list[str], store: str) -> OzonetelClient:
    url, key, username = service
    return OzonetelClient(
        key, username, base_url=url, dialer_url=url, limits=LIMITS, shared=RedisShared(store, timeout=5.0)
    )


async def upload(service: list[str], store: str) -> None:
    def leads() -> Iterator[Lead]:
        for number in count():
            yield Lead(f"9198{number % 10**8:08}")

    async with connect(service, store) as client:
        stop = asyncio.Event()
        asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: stop.set())
        await client.upload("Diwali", leads(), queue_priority=UPLOAD, stop=stop)


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends when its input does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def send_batches(client: OzonetelClient, seconds: float, priority: int) -> list[float]:
    """Seconds that each of many batches took."""
    took: list[float] = []

    async def send() -> None:
        began = time.monotonic()
        await client.add_batch("Diwali", [Lead("919912345678")], queue_priority=priority)
        took.append(time.monotonic() - began)

    ends = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < ends:
            await asyncio.sleep(random.expovariate(1.0))
            tasks.create_task(send())
    return took


async def main(seconds: float) -> None:
    redis = RedisServer()
    redis.start()
    try:
        async with child("--serve") as simulator:
            assert simulator.stdout is not None
            assert simulator.stdin is not None
            service = json.loads(await simulator.stdout.readline())
            arguments = json.dumps([service, redis.url])
            async with connect(service, redis.url) as client:
                await client.add_batch("Diwali", [Lead("919912345678")])
                report("alone", await send_batches(client, seconds, 0))
                async with child("--upload", arguments):
                    await asyncio.sleep(3 * WINDOW)
                    report("beside an upload, priority 0", await send_batches(client, seconds, 0))
                    report("beside an upload, its own priority", await send_batches(client, seconds, UPLOAD))
            simulator.stdin.close()
            arrived, refused, worst = json.loads(await simulator.stdout.readline())
            print(f"{arrived} requests, {refused} refused, worst window {worst}")
    finally:
        redis.close()


def report(name: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    print(
        f"{name:36} {len(took):4} batches: p50 {cuts[49]:.2f} s, p90 {cuts[89]:.2f} s, p99 {cuts[98]:.2f} s, "
        f"longest {max(took):.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="single batches beside an upload of another process")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--upload", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    elif options.upload:
        asyncio.run(upload(*json.loads(options.upload)))
    else:
        asyncio.run(main(options.seconds))
