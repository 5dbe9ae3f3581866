"""Drain 4N + 3 requests through a limit of N per window against exact servers over real sockets, beside aiolimiter.

``python benchmarks/drain.py [--window 2.0]``

A server in a process of its own delays each request and each answer by up to a tenth of the window and judges arrivals
exactly: by a sliding window, a calendar-aligned one, one that opens with the first request, or a token bucket. All
callers wait from the start. Per contender and server: refusals, the most requests in any window at the server, the
time until the last request started and until the last answer came, against

    floor((K - 1) / N) x (window + mean round trip)

which a client that leaves a window after each answer takes on average until its last request may start (the last
answer comes a round trip after that). RateQueue passes with no refusal, a worst window of exactly N and a last start
within 1.03 of that floor; aiolimiter is asked without retries, so its times count refused requests as done. The exit
status is 1 when RateQueue fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

from aiohttp import ClientSession, TCPConnector, web
from aiolimiter import AsyncLimiter

from ozonetel_async.config import RateLimit
from ozonetel_async.sending.queue import RateQueue, Slot

KINDS = ("sliding", "calendar", "first_request", "token_bucket")
ALLOWED = 1.03

Judge = Callable[[float], bool]


# -- the server -------------------------------------------------------------------------------------------------------


def sliding(n: int, window: float) -> Judge:
    accepted: deque[float] = deque()

    def admits(now: float) -> bool:
        while accepted and now - accepted[0] >= window:
            accepted.popleft()
        if len(accepted) < n:
            accepted.append(now)
            return True
        return False

    return admits


def calendar(n: int, window: float) -> Judge:
    counts: dict[int, int] = {}

    def admits(now: float) -> bool:
        key = int(now // window)
        counts[key] = counts.get(key, 0) + 1
        return counts[key] <= n

    return admits


def first_request(n: int, window: float) -> Judge:
    opened, count = float("-inf"), 0

    def admits(now: float) -> bool:
        nonlocal opened, count
        if now - opened >= window:
            opened, count = now, 0
        count += 1
        return count <= n

    return admits


def token_bucket(n: int, window: float) -> Judge:
    tokens, last = float(n), 0.0

    def admits(now: float) -> bool:
        nonlocal tokens, last
        tokens, last = min(n, tokens + (now - last) * n / window), now
        if tokens < 1 - 1e-9:
            return False
        tokens -= 1
        return True

    return admits


JUDGES: dict[str, Callable[[int, float], Judge]] = {
    "sliding": sliding,
    "calendar": calendar,
    "first_request": first_request,
    "token_bucket": token_bucket,
}


@dataclass
class Endpoint:
    """One judged address, used by one contender."""

    judge: Judge
    rng: random.Random
    arrivals: list[float] = field(default_factory=list)
    refusals: int = 0


def worst_window(arrivals: list[float], window: float) -> int:
    """Most arrivals in any half-open window."""
    inside: deque[float] = deque()
    worst = 0
    for t in arrivals:
        inside.append(t)
        while t - inside[0] >= window:
            inside.popleft()
        worst = max(worst, len(inside))
    return worst


async def serve(window: float) -> None:
    """Answer until the parent closes the pipe; print the port first."""
    endpoints: dict[str, Endpoint] = {}

    async def handle(request: web.Request) -> web.Response:
        kind, n = request.match_info["kind"], int(request.match_info["n"])
        if request.path not in endpoints:
            endpoints[request.path] = Endpoint(JUDGES[kind](n, window), random.Random(request.path))
        endpoint = endpoints[request.path]
        out, back = endpoint.rng.uniform(0, window / 10), endpoint.rng.uniform(0, window / 10)
        await request.read()
        await asyncio.sleep(out)
        now = time.monotonic()
        endpoint.arrivals.append(now)
        admitted = endpoint.judge(now)
        endpoint.refusals += not admitted
        await asyncio.sleep(back)
        return web.Response(status=200 if admitted else 429)

    async def figures(_request: web.Request) -> web.Response:
        return web.json_response(
            {path: [e.refusals, worst_window(e.arrivals, window), len(e.arrivals)] for path, e in endpoints.items()}
        )

    app = web.Application()
    app.add_routes([web.post("/{kind}/{n}/{contender}", handle), web.get("/figures", figures)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@asynccontextmanager
async def server(window: float) -> AsyncIterator[str]:
    """Base address of a server in its own process."""
    command = [sys.executable, __file__, "--serve", "--window", str(window)]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


# -- the contenders ---------------------------------------------------------------------------------------------------


@dataclass
class Drain:
    """What a contender's run looked like from the client's side; times in seconds from its begin."""

    last_start: float = 0.0
    last_answer: float = 0.0
    trips: list[float] = field(default_factory=list)

    async def post(self, session: ClientSession, url: str, begin: float) -> bool:
        sent = time.monotonic()
        self.last_start = sent - begin
        async with session.post(url, data=b"{}") as response:
            await response.read()
        now = time.monotonic()
        self.trips.append(now - sent)
        self.last_answer = now - begin
        return response.status == 200


async def by_queue(session: ClientSession, url: str, n: int, calls: int, window: float) -> Drain:
    queue, drain, begin = RateQueue("drain", RateLimit(n, window)), Drain(), time.monotonic()

    async def call() -> None:
        slot: Slot | None = None
        while True:
            slot = await queue.acquire(after=slot)
            if await drain.post(session, url, begin):
                slot.answered()
                return
            slot.refused()

    await asyncio.gather(*(call() for _ in range(calls)))
    return drain


async def by_aiolimiter(session: ClientSession, url: str, n: int, calls: int, window: float) -> Drain:
    limiter, drain, begin = AsyncLimiter(n, window), Drain(), time.monotonic()

    async def call() -> None:
        await limiter.acquire()
        await drain.post(session, url, begin)

    await asyncio.gather(*(call() for _ in range(calls)))
    return drain


CONTENDERS = {"RateQueue": by_queue, "aiolimiter": by_aiolimiter}


async def race(base: str, kinds: tuple[str, ...], n: int, window: float) -> bool:
    """Both contenders against servers of these kinds, all at the same time; True when RateQueue passes."""
    calls = 4 * n + 3
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        runs = [(kind, name, f"/{kind}/{n}/{name}") for kind in kinds for name in CONTENDERS]
        drains = await asyncio.gather(
            *(CONTENDERS[name](session, base + path, n, calls, window) for _, name, path in runs)
        )
        async with session.get(base + "/figures") as response:
            figures = json.loads(await response.read())
    passed = True
    for (kind, name, path), drain in zip(runs, drains, strict=True):
        refusals, worst, arrived = figures[path]
        floor = (calls - 1) // n * (window + sum(drain.trips) / len(drain.trips))
        good = refusals == 0 and worst == n and drain.last_start <= floor * ALLOWED
        passed &= good or name != "RateQueue"
        print(
            f"{kind:14} N={n:<4} {name:10} {refusals:4} of {arrived:4} refused   worst window {worst:4}   "
            f"last start {drain.last_start:6.2f} s   floor {floor:6.2f} s   x{drain.last_start / floor:.3f}   "
            f"last answer x{drain.last_answer / floor:.3f}" + ("" if good or name != "RateQueue" else "   FAILED"),
            flush=True,
        )
    return passed


async def run(window: float) -> bool:
    print(
        f"aiolimiter {version('aiolimiter')}, aiohttp {version('aiohttp')}, Python {platform.python_version()}, "
        f"window {window:g} s, latency 0 to {window / 10:g} s each way"
    )
    passed = True
    async with server(window) as base:
        passed &= await race(base, KINDS, 5, window)
        for kind in KINDS:
            passed &= await race(base, (kind,), 100, window)
    return passed


def main() -> None:
    parser = argparse.ArgumentParser(description="drain a rate-limited endpoint against exact servers")
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.window))
    elif not asyncio.run(run(options.window)):
        sys.exit(1)


if __name__ == "__main__":
    main()
