"""Rate limiters as others build them, in front of our queue: what they refuse, and how fast they are drained.

``python benchmarks/foreign.py [--before PATH] [--seeds 10] [--no-real]``

``--before PATH`` measures another checkout of this repository (``git worktree add PATH COMMIT``) in the same way and
prints it beside this one. Requests take 10 to 100 ms each way. Two kinds of measurement:

- on the virtual clock, against models of the limiters, means and the worst over ``--seeds`` runs;
- over sockets, one run each, against private instances of nginx (``limit_req``) and HAProxy (``http_req_rate``), as far
  as they are installed (Debian: nginx-light, haproxy).

*refused* is the share of all requests that the server refused. *drain* is the time until the last of K requests
started, over ``floor((K - 1) / N) x window``, which nobody can beat; at the strict counter, over what it admits. *use*
is what was accepted, over what the server would have accepted. Of two clients, *smaller* is what the smaller one got of
its half, *sum* what both got of the limit, *fair* the share of runs in which the smaller one got at least half of its
half. *back* is the number of windows from the end of a storm to the end of the first one with 9/10 of the limit.
``right`` is what the rule of ``pace.py`` was asked to reach. The exit status is 1 when it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

import aiohttp

from ozonetel_async.config import RateLimit
from ozonetel_async.testing.clock import run_virtual

try:
    from ozonetel_async.sending.queue import RateQueue
except ImportError:  # a checkout from before there were rooms
    from ozonetel_async.scheduler import RateQueue  # type: ignore[import-not-found,no-redef]

OUT_AND_BACK = (0.01, 0.1)
SIZES = ((5, 2.0), (100, 6.0))
Figures = dict[str, dict[str, float]]

# -- models of servers ------------------------------------------------------------------------------------------------


class Server(Protocol):
    def admits(self, t: float) -> bool: ...


class Log:
    """At most n accepted in any window."""

    def __init__(self, n: int, per: float, phase: float = 0.0) -> None:
        self.n, self.per, self.log = n, per, deque[float]()

    def admits(self, t: float) -> bool:
        while self.log and t - self.log[0] >= self.per:
            self.log.popleft()
        if len(self.log) < self.n:
            self.log.append(t)
            return True
        return False


class Calendar:
    """At most n in each window of the clock."""

    def __init__(self, n: int, per: float, phase: float) -> None:
        self.n, self.per, self.phase, self.window, self.count = n, per, phase, -1, 0

    def admits(self, t: float) -> bool:
        window = int((t + self.phase) // self.per)
        if window != self.window:
            self.window, self.count = window, 0
        self.count += 1
        return self.count <= self.n


class Bucket:
    """A bucket of n tokens that fills at n / per."""

    def __init__(self, n: int, per: float, phase: float) -> None:
        self.n, self.per, self.level, self.last = n, per, float(n), 0.0

    def admits(self, t: float) -> bool:
        self.level = min(self.n, self.level + (t - self.last) * self.n / self.per)
        self.last = t
        if self.level < 1 - 1e-9:
            return False
        self.level -= 1
        return True


class Counter:
    """Counts this window, and takes the last one as spread evenly; admits while that estimate is below the limit."""

    itself = 0
    refused_count = False

    def __init__(self, n: int, per: float, phase: float) -> None:
        self.n, self.per, self.phase, self.window, self.now, self.before = n, per, phase, 0, 0, 0

    def admits(self, t: float) -> bool:
        window, inside = divmod(t + self.phase, self.per)
        if window != self.window:
            self.before = self.now if window == self.window + 1 else 0
            self.now, self.window = 0, int(window)
        admitted = self.judge(self.now + self.before * (1 - inside / self.per))
        self.now += admitted or self.refused_count
        return admitted

    def judge(self, estimate: float) -> bool:
        return estimate < self.n


class StrictCounter(Counter):
    """The same with the request itself counted, which leaves n - 1 requests per window to anybody."""

    def judge(self, estimate: float) -> bool:
        return estimate + 1 <= self.n


class Haproxy(Counter):
    """Whole numbers, and refused requests are counted as well."""

    refused_count = True

    def judge(self, estimate: float) -> bool:
        return int(estimate) + 1 <= self.n


class Storm(Log):
    """Refuses everything for fifteen windows."""

    def __init__(self, n: int, per: float, phase: float) -> None:
        super().__init__(n, per)
        self.begin, self.end = 3 * per, 18 * per + phase

    def admits(self, t: float) -> bool:
        return not self.begin <= t < self.end and super().admits(t)


# -- the client -------------------------------------------------------------------------------------------------------


def queue_of(n: int, per: float, seed: int) -> RateQueue:
    try:
        return RateQueue("foreign", RateLimit(n, per), rng=random.Random(seed + 1_000).random)
    except TypeError:  # an older checkout: no chance in it
        return RateQueue("foreign", RateLimit(n, per))


class Client:
    """Sends until it is accepted, and counts."""

    def __init__(self, n: int, per: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.queue = queue_of(n, per, seed)
        self.accepted: list[float] = []
        self.refused = 0
        self.last_start = 0.0

    async def call(self, admits: Callable[[], Any]) -> None:
        loop, slot = asyncio.get_running_loop(), None
        while True:
            slot = await self.queue.acquire(after=slot)
            await asyncio.sleep(self.rng.uniform(*OUT_AND_BACK))
            now, admitted = loop.time(), admits()
            if asyncio.iscoroutine(admitted):
                admitted = await admitted
            await asyncio.sleep(self.rng.uniform(*OUT_AND_BACK))
            if admitted:
                self.accepted.append(now)
                self.last_start = max(self.last_start, slot.started)
                return slot.answered()
            self.refused += 1
            slot.refused()

    async def drain(self, admits: Callable[[], Any], calls: int) -> None:
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(self.call(admits) for _ in range(calls)))
        self.last_start -= begin

    async def run(self, server: Server, begin: float, end: float) -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            while True:
                await self.call(lambda: server.admits(loop.time()))

        await asyncio.sleep(begin)
        tasks = [loop.create_task(work()) for _ in range(2 * self.queue.limit.requests)]
        await asyncio.sleep(end - begin)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def percent(self) -> float:
        return 100 * self.refused / (self.refused + len(self.accepted))


# -- cases on the virtual clock ---------------------------------------------------------------------------------------


def drain(kind: Callable[[int, float, float], Server], n: int, per: float, seed: int) -> dict[str, float]:
    windows, client = 20, Client(n, per, seed)
    server = kind(n, per, random.Random(seed).uniform(0, per))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await client.drain(lambda: server.admits(loop.time()), windows * n + 3)

    run_virtual(main(), debug=False)
    admitted = (n - 1) / n if kind is StrictCounter else 1.0
    return {"refused": client.percent, "drain": client.last_start / (windows * per) * admitted}


def half(n: int, per: float, seed: int) -> dict[str, float]:
    windows, client = 100, Client(n, per, seed)
    run_virtual(client.run(Log(n // 2, per), 0.0, windows * per), debug=False)
    return {"refused": client.percent, "use": len(client.accepted) / (n // 2 * windows)}


def storm(n: int, per: float, seed: int) -> dict[str, float]:
    client, server = Client(n, per, seed), Storm(n, per, random.Random(seed).uniform(0, per))
    run_virtual(client.run(server, 0.0, server.end + 15 * per), debug=False)
    after = [t for t in client.accepted if t >= server.end]
    need = int(0.9 * n * per / (per + sum(OUT_AND_BACK)))
    full = (last for t, last in zip(after, after[need - 1 :], strict=False) if last - t < per)
    return {"back": (next(full, math.inf) - server.end) / per}


def two(n: int, per: float, seed: int, later: int) -> dict[str, float]:
    windows, clients, server = 40, (Client(n, per, 2 * seed), Client(n, per, 2 * seed + 1)), Log(n, per)
    begin = (later * per + random.Random(seed).uniform(0, per)) if later else 0.0
    end = begin + windows * per

    async def main() -> None:
        await asyncio.gather(clients[0].run(server, 0.0, end), clients[1].run(server, begin, end))

    run_virtual(main(), debug=False)
    counts = [sum(t >= begin for t in client.accepted) for client in clients]
    smaller = min(counts) / (n * windows / 2)
    return {"smaller": smaller, "sum": sum(counts) / (n * windows), "fair": 100.0 * (smaller >= 0.5)}


def virtual(seeds: int) -> Iterator[tuple[str, list[dict[str, float]]]]:
    for n, per in SIZES:
        size, few = f"N={n} per {per:g} s", max(3, seeds // 2)
        for kind in (Log, Calendar, Bucket):
            yield f"exact: {kind.__name__.lower()}, {size}", [drain(kind, n, per, s) for s in range(few)]
        yield f"sliding counter, {size}", [drain(Counter, n, per, s) for s in range(seeds)]
        yield f"strict sliding counter, {size}", [drain(StrictCounter, n, per, s) for s in range(seeds)]
        yield f"HAProxy's counter, {size}", [drain(Haproxy, n, per, s) for s in range(seeds)]
        yield f"half the limit, {size}", [half(n, per, s) for s in range(seeds if n == 5 else few)]
        yield f"storm, {size}", [storm(n, per, s) for s in range(seeds)]
        yield f"two clients at once, {size}", [two(n, per, s, 0) for s in range(seeds)]
        yield f"two clients, one 5 windows later, {size}", [two(n, per, s, 5) for s in range(2 * seeds)]
    yield "storm, N=100 per 2 s", [storm(100, 2.0, s) for s in range(seeds)]


# -- cases over sockets -----------------------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; error_log error.log; pid nginx.pid;
events {{}}
http {{
    access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
    scgi_temp_path t5; limit_req_status 429;
    limit_req_zone $binary_remote_addr zone=all:1m rate={rate}r/m;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root .; limit_req zone=all burst={burst} nodelay; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:{port}
    stick-table type ip size 1k expire 60s store http_req_rate({ms}ms)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {n} }}
    http-request return status 200
"""


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def listening(name: str, n: int, per: float) -> AsyncIterator[str]:
    """The address of a private server that admits n requests per window."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = NGINX if name == "nginx" else HAPROXY
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "conf")
        text = text.format(port=port, n=n, ms=int(per * 1000), rate=round(n / per * 60), burst=n - 1)
        config.write_text(text)  # noqa: ASYNC240 - nothing else runs yet
        Path(folder, "index.html").write_text("ok")  # noqa: ASYNC240
        options = ("-p", folder, "-e", "error.log", "-c") if name == "nginx" else ("-db", "-f")
        process = await asyncio.create_subprocess_exec(program(name) or name, *options, str(config))
        try:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
            writer.close()
            yield f"http://127.0.0.1:{port}/index.html"
        finally:
            process.terminate()
            await process.wait()


async def real(name: str, n: int, per: float) -> tuple[str, list[dict[str, float]]]:
    windows = 10 if n == 5 else 5
    client = Client(n, per, 1)
    async with listening(name, n, per) as url, aiohttp.ClientSession() as session:

        async def admits() -> bool:
            async with session.get(url) as response:
                await response.read()
                return response.status == 200

        await client.drain(admits, windows * n + 3)
    figures = {"refusals": float(client.refused), "drain": client.last_start / (windows * per)}
    return f"{name}, {windows * n + 3} requests, N={n} per {per:g} s", [figures]


async def all_real() -> list[tuple[str, list[dict[str, float]]]]:
    names = [name for name in ("nginx", "haproxy") if program(name)]
    return await asyncio.gather(*(real(name, n, per) for name in names for n, per in SIZES))


# -- the table --------------------------------------------------------------------------------------------------------

# (part of the case's name, figure, at least or at most, N or both)
RIGHT: tuple[tuple[str, str, str, float, str], ...] = (
    ("exact", "refused", "<=", 0.0, ""),
    ("exact", "drain", "<=", 1.075, "N=5 "),
    ("exact", "drain", "<=", 1.034, "N=100"),
    ("counter", "refused", "<=", 2.0, ""),
    ("counter", "drain", "<=", 1.2, ""),
    ("half", "refused", "<=", 5.0, "N=5 "),
    ("half", "refused", "<=", 2.0, "N=100"),
    ("half", "use", ">=", 0.9, ""),
    ("storm", "back", "<=", 3.0, ""),
    ("two clients", "smaller", ">=", 0.5, "N=100"),
    ("two clients", "sum", ">=", 0.88, "N=100"),
    ("nginx", "refusals", "<=", 0.0, ""),
    ("haproxy", "drain", "<=", 1.2, ""),
)


def measure(seeds: int, with_real: bool) -> Figures:
    """Per case and figure: the mean, and under ``figure:worst`` the worst run."""
    cases = list(virtual(seeds)) + (asyncio.run(all_real()) if with_real else [])
    result: Figures = {}
    for case, runs in cases:
        result[case] = {}
        for figure in runs[0]:
            values = [run[figure] for run in runs]
            worst = min(values) if figure in ("use", "smaller", "sum", "fair") else max(values)
            result[case] |= {figure: mean(values), f"{figure}:worst": worst}
    return result


def measured_in(path: str, options: argparse.Namespace) -> Figures:
    """The figures of a checkout, taken in a process of its own."""
    command = [sys.executable, __file__, "--measure", "--seeds", str(options.seeds)]
    command += ["--no-real"] * options.no_real
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=path, env=os.environ | {"PYTHONPATH": path}
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def report(here: Figures, before: Figures) -> bool:
    """Print the table; whether all is right."""
    passed = True
    print(f"{'case':52}{'figure':10}{'before (worst)':>20}{'now (worst)':>20}   right")
    for case, figures in here.items():
        for figure in [figure for figure in figures if ":" not in figure]:
            columns = []
            for column in (before.get(case, {}), figures):
                worst = "" if figure == "fair" else f"({column.get(f'{figure}:worst', math.nan):.2f})"
                columns.append(f"{column[figure]:.2f} {worst}" if column else "-")
            verdict = ""
            for part, name, comparison, bound, size in RIGHT:
                if part in case and name == figure and size in case:
                    good = figures[figure] <= bound if comparison == "<=" else figures[figure] >= bound
                    passed &= good
                    verdict = f"{comparison} {bound:g}" + ("" if good else "   MISSED")
            unit = " %" if figure in ("refused", "fair") else ""
            print(f"{case:52}{figure + unit:10}{columns[0]:>20}{columns[1]:>20}   {verdict}")
    return passed


def main() -> None:
    parser = argparse.ArgumentParser(description="what rate limiters of others refuse, and how fast they are drained")
    parser.add_argument("--before", metavar="PATH", help="another checkout to measure beside this one")
    parser.add_argument("--seeds", type=int, default=10, help="runs per case on the virtual clock")
    parser.add_argument("--no-real", action="store_true", help="leave out nginx and HAProxy")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        logging.getLogger("ozonetel_async").setLevel(logging.ERROR)
        json.dump(measure(options.seeds, not options.no_real), sys.stdout)
        return
    root = str(Path(__file__).resolve().parent.parent)
    before = measured_in(str(Path(options.before).resolve()), options) if options.before else {}
    if not report(measured_in(root, options), before):
        sys.exit(1)


if __name__ == "__main__":
    main()
