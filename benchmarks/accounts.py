"""Many accounts in one process: what a client costs that has nothing to do, and what it costs to make one.

``python benchmarks/accounts.py [--clients 1000]``

Makes clients of as many accounts that share one ``aiohttp.ClientSession``, has each of them add one lead at a simulator
in a process of its own, and closes them. Per step: seconds, and growth of the process's memory per client, as the
system (RSS) and as tracemalloc sees it, in a run each since tracemalloc slows everything down.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ozonetel_async import Lead, Limits, OzonetelClient, RateLimit
from ozonetel_async.testing import Simulator

LEAD = Lead("919812345678")
LIMITS = Limits(add=RateLimit(100, 2.0))


async def serve() -> None:
    async with Simulator(limits={"add": 0}, keep_leads=False, max_log=100) as sim:
        print(sim.base_url, sim.api_key, sim.username, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def resident() -> float:
    """Bytes of the process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096.0


def traced() -> float:
    """Bytes that Python has allocated since tracing began."""
    return float(tracemalloc.get_traced_memory()[0])


async def measure(count: int, service: list[str], memory: Callable[[], float]) -> None:
    url, key, username = service
    at = memory()
    began = time.perf_counter()

    def tell(step: str) -> None:
        nonlocal at, began
        took = time.perf_counter() - began
        gc.collect()
        now = memory()
        print(
            f"  {step:16} {took:7.3f} s, {took / count * 1e6:7.1f} us a client; memory "
            f"{(now - at) / count / 1024:+7.2f} KiB a client; {len(asyncio.all_tasks()) - 1} tasks",
            flush=True,
        )
        at, began = memory(), time.perf_counter()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:

        def make() -> OzonetelClient:
            return OzonetelClient(key, username, base_url=url, dialer_url=url, limits=LIMITS, session=session)

        async with make() as first:
            await first.add_lead("Diwali", LEAD)
        tell("the first one")
        clients = [make() for _ in range(count)]
        tell("made")
        await asyncio.gather(*(client.add_lead("Diwali", LEAD) for client in clients))
        tell("a lead each")
        await asyncio.sleep(LIMITS.add.per + 0.5)
        began = time.perf_counter()
        tell("idle again")
        await asyncio.gather(*(client.close() for client in clients))
        tell("closed")
        clients.clear()
        tell("let go")


def main(count: int) -> None:
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        service = server.stdout.readline().split()
        print(f"{count} clients, one session; RSS:")
        asyncio.run(measure(count, service, resident))
        print("the same under tracemalloc:")
        tracemalloc.start()
        asyncio.run(measure(count, service, traced))
        server.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="what many clients in one process cost")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    else:
        main(options.clients)
