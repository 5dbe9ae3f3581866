"""Waiters on one queue: CPU and memory per waiter, and the price of an acquire that need not wait, against aiolimiter.

``python benchmarks/waiters.py [--rounds 3]``

Each figure comes from a fresh process, and the contenders take turns within each round, so that a busy machine hits
all of them. ``x`` is the median over the rounds of the ratio to aiolimiter in the same round.

- queued: M tasks at once behind a limit that lets M/5 through per second; process CPU / M, making the tasks included.
- parked: memory growth per task that waits, the task included (50,000 of them behind an exhausted limit).
- uncontended: acquire (and answer) at a limit that never blocks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from aiolimiter import AsyncLimiter

from ozonetel_async.config import RateLimit
from ozonetel_async.sending.queue import RateQueue

CONTENDERS = ("aiolimiter", "RateQueue")
PARKED = 50_000
CALLS = 50_000

Pass = Callable[[], Awaitable[None]]


def contender(name: str, requests: int, per: float) -> Pass:
    """One ``acquire`` of the contender, concluded at once where it has such a thing."""
    if name == "aiolimiter":
        return AsyncLimiter(requests, per).acquire
    queue = RateQueue("bench", RateLimit(requests, per), max_waiting=1_000_000)

    async def through() -> None:
        (await queue.acquire()).answered()

    return through


async def queued(name: str, tasks: int) -> float:
    """Microseconds of CPU per task."""
    through = contender(name, tasks // 5, 1.0)
    begin = time.process_time()
    await asyncio.gather(*(asyncio.ensure_future(through()) for _ in range(tasks)))
    return (time.process_time() - begin) / tasks * 1e6


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def parked(name: str, tasks: int) -> float:
    """Bytes of resident memory per waiting task."""
    through = contender(name, 5, 3600.0)
    for _ in range(5):
        await through()
    held: list[asyncio.Task[None]] = []
    gc.collect()
    before = resident()
    held.extend(asyncio.ensure_future(through()) for _ in range(tasks))
    await asyncio.sleep(0.05)
    gc.collect()
    growth = (resident() - before) / tasks
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    return growth


async def uncontended(name: str, calls: int) -> float:
    """Microseconds of CPU per call."""
    through = contender(name, 10_000_000, 60.0)
    begin = time.process_time()
    for _ in range(calls):
        await through()
    return (time.process_time() - begin) / calls * 1e6


MEASURES = {"queued": queued, "parked": parked, "uncontended": uncontended}


def fresh(measure: str, name: str, size: int) -> float:
    """Take one figure in a process of its own."""
    command = [sys.executable, __file__, "--one", measure, name, str(size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(title: str, measure: str, size: int, rounds: int, unit: str) -> None:
    """Run the rounds of one measure and print its line."""
    figures = {name: [0.0] * rounds for name in CONTENDERS}
    for i in range(rounds):
        for name in CONTENDERS if i % 2 else CONTENDERS[::-1]:
            figures[name][i] = fresh(measure, name, size)
    rival, ours = figures["aiolimiter"], figures["RateQueue"]
    ratio = statistics.median(a / b for a, b in zip(ours, rival, strict=True))
    print(
        f"{title:22} aiolimiter {statistics.median(rival):8.2f}   RateQueue {statistics.median(ours):8.2f} {unit}"
        f"   x{ratio:.2f} ({min(ours):.2f}-{max(ours):.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("MEASURE", "NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure, name, size = options.one
        print(asyncio.run(MEASURES[measure](name, int(size))))
        return
    print(f"aiolimiter {version('aiolimiter')}, Python {platform.python_version()}, {options.rounds} rounds")
    report("uncontended", "uncontended", CALLS, options.rounds, "us")
    report("queued, 10,000", "queued", 10_000, options.rounds, "us")
    report("queued, 100,000", "queued", 100_000, max(1, options.rounds // 2), "us")
    report("parked, 50,000", "parked", PARKED, options.rounds, "bytes")


if __name__ == "__main__":
    main()
