"""Several processes of one account that share its limit through Redis or PostgreSQL, against an exact server.

``python benchmarks/shared.py [--store redis|postgres] [--seconds 60] [--faults | --tokens] [--only NAME]``

The simulator, in a process of its own, judges by an exact sliding window and delays each request and each answer by
0.01 to 0.1 s. Four processes with a client each add leads as fast as they may, through a private server on a free
loopback port. Per run: refusals, the worst window at the server, the use of what the limit allows

    limit / (window + mean round trip), from the Nth arrival to the last

the largest and the smallest share of a process in the middle of the run, and turns with the store per grant. With
``--faults``: what happens when the server, the network, a clock or a client fails; then also the longest time without
an arrival after it. With ``--tokens``: one bearer token for all, which the service ends every 3 s. The exit status is 1
when a run had a refusal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ozonetel_async import (
    Lead,
    Limits,
    OzonetelClient,
    OzonetelError,
    PostgresShared,
    RateLimit,
    RedisShared,
    SharedLimitUnavailableError,
    Timeouts,
)
from ozonetel_async.sending.shared.store import Ask, BearerAsk, BearerTurn, SharedStore, StoreConnection, Turn
from ozonetel_async.testing import Simulator
from tests.contrib.conftest import PostgresServer, RedisServer, Server

WINDOW = 2.0
MARGIN = 0.5

# Loaded into a server, it adds to the time of day what a file says: Redis does not start under libfaketime.
SHIFTED_CLOCK = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long *seconds;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    seconds = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME && seconds) t->tv_sec += *seconds;
    return failed;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""
COMPILER = shutil.which("cc")


# -- the server, in a process of its own ------------------------------------------------------------------------------


async def serve(requests: int, auth: str) -> None:
    mode: Literal["TOKEN_AUTH", "BASIC_AUTH"] = "TOKEN_AUTH" if auth == "token" else "BASIC_AUTH"
    async with Simulator(window=WINDOW, limits={"add": requests}, latency=(0.01, 0.1), auth_mode=mode) as sim:
        print(json.dumps([sim.base_url, sim.api_key, sim.username]), flush=True)

        async def end_tokens() -> None:
            while auth == "token":
                await asyncio.sleep(3)
                sim.tokens.expire()

        ending = asyncio.create_task(end_tokens())
        await asyncio.to_thread(sys.stdin.read)
        ending.cancel()
        arrivals = [(record.at, record.headers.get("X-Client", "")) for record in sim.requests("add")]
        fetches = [record.at for record in sim.requests("token")]
        figures = {"refused": sim.refusals("add"), "worst": sim.worst_window("add"), "arrivals": arrivals}
        figures |= {"fetches": fetches, "fetches_refused": sim.refusals("token"), "added": sim.writes_applied("add")}
        print(json.dumps(figures), flush=True)


# -- a client, in a process of its own --------------------------------------------------------------------------------


@dataclass
class Watched:
    """A store that counts its turns, and loses some of their answers."""

    store: SharedStore
    lost: float = 0.0
    turns: int = 0
    granted: int = 0

    @property
    def first_use(self) -> Any:
        return self.store.first_use

    @property
    def timeout(self) -> float:
        return self.store.timeout

    def connect(self) -> StoreConnection:
        return WatchedConnection(self, self.store.connect())


@dataclass
class WatchedConnection:
    watched: Watched
    connection: StoreConnection

    async def turn(self, ask: Ask) -> Turn:
        turn = await self.connection.turn(ask)
        self.watched.turns += 1
        if random.random() < self.watched.lost:
            raise SharedLimitUnavailableError("the answer got lost")
        self.watched.granted += len(turn.granted)
        return turn

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        return await self.connection.bearer(ask)

    async def close(self) -> None:
        await self.connection.close()


def open_store(url: str) -> SharedStore:
    return RedisShared(url) if url.startswith("redis") else PostgresShared(url)


async def run_client(options: dict[str, Any]) -> None:
    watched = Watched(open_store(options["store"]), options.get("lost", 0.0))
    trips: list[float] = []
    trace = aiohttp.TraceConfig()

    async def started(_session: object, context: Any, _params: object) -> None:
        context.at = time.monotonic()

    async def ended(_session: object, context: Any, _params: object) -> None:
        trips.append(time.monotonic() - context.at)

    trace.on_request_start.append(started)
    trace.on_request_end.append(ended)
    limits = Limits(add=RateLimit(options["requests"], WINDOW), transit_margin=MARGIN)
    url, key, username = options["service"]
    session = aiohttp.ClientSession(
        trace_configs=[trace],
        headers={"X-Client": options["name"]},
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    client = OzonetelClient(
        *(key, username),
        auth=options["auth"],
        base_url=url,
        dialer_url=url,
        limits=limits,
        timeouts=Timeouts(total=5.0),
        session=session,
        shared=watched,
    )
    await client.add_lead("Diwali", Lead("919812345678"))
    print("sends", flush=True)
    ends = time.monotonic() + options["seconds"]
    errors: Counter[str] = Counter()
    added = 1

    async def work() -> None:
        nonlocal added
        while (left := ends - time.monotonic()) > 0:
            try:
                patience = random.uniform(0, 3 * WINDOW) if random.random() < options.get("cancelled", 0.0) else left
                async with asyncio.timeout(min(left, patience)):
                    await client.add_lead("Diwali", Lead("919812345678"))
                    added += 1
            except TimeoutError:
                errors["cancelled"] += 1
            except OzonetelError as error:
                errors[type(error).__name__] += 1
                await asyncio.sleep(0.1)

    async def freeze() -> None:
        # The whole loop stands still, as in a process that is busy or was stopped, between two of its steps.
        for moment, seconds in options.get("blocked", ()):
            await asyncio.sleep(moment)
            time.sleep(seconds)  # noqa: ASYNC251

    blocker = asyncio.create_task(freeze())
    await asyncio.gather(*(work() for _ in range(options["tasks"])))
    await blocker
    await client.close()
    await session.close()
    figures = {
        "turns": watched.turns,
        "granted": watched.granted,
        "trips": trips,
        "errors": dict(errors),
        "added": added,
    }
    print(json.dumps(figures), flush=True)


# -- a run ------------------------------------------------------------------------------------------------------------


class Proxy:
    """Forwards connections to a port that may change, so that clients find a promoted server under the old address."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, other_writer}
        await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))
        self._writers -= {writer, other_writer}

    def switch(self, port: int) -> None:
        self.target = port
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self.switch(0)
        self._server.close()
        await asyncio.sleep(0.05)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class World:
    """What a fault may do something to."""

    server: Server
    proxy: Proxy
    clients: list[asyncio.subprocess.Process] = field(default_factory=list)
    spares: list[Server] = field(default_factory=list)
    clock: Path | None = None


@dataclass
class Case:
    """One run: its size, what clients are told, and what happens meanwhile."""

    name: str
    requests: int = 20
    seconds: float = 20.0
    happens: Callable[[World], Awaitable[None]] | None = None
    options: Callable[[int], dict[str, Any]] = lambda _: {}
    only: str = ""
    auth: str = "basic"


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 26
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def run(case: Case, kind: type[Server]) -> bool:
    server = kind()
    world = World(server, Proxy(server.port))
    if case.name.startswith("clock"):
        world.clock = shift_clock(server)
    server.start()
    await world.proxy.start()
    url = server.url.replace(str(server.port), str(world.proxy.port))
    try:
        async with child("--serve", str(case.requests), "--auth", case.auth) as service:
            assert service.stdout is not None
            assert service.stdin is not None
            where = json.loads(await service.stdout.readline())
            results = await run_clients(case, world, url, where)
            service.stdin.close()
            figures = json.loads(await service.stdout.readline())
    finally:
        await world.proxy.close()
        for one in (server, *world.spares):
            one.close()
    report(case, kind, results, figures)
    return not figures["refused"]


def shift_clock(server: Server) -> Path:
    """Let a server's clock be set by a file."""
    assert COMPILER is not None
    file, library = server.folder / "clock", server.folder / "clock.so"
    file.write_bytes(bytes(8))
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=SHIFTED_CLOCK.encode(), check=True)
    server.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(file)}
    return file


async def run_clients(case: Case, world: World, url: str, where: list[str]) -> list[dict[str, Any]]:
    tasks = max(10, case.requests)
    async with AsyncClients() as clients:
        for number in range(4):
            options = {"store": url, "service": where, "requests": case.requests, "seconds": case.seconds}
            options |= {"tasks": tasks, "name": f"client-{number}", "auth": case.auth}
            options |= case.options(number)
            world.clients.append(await clients.start(options))
        for process in world.clients:
            await clients.sends(process)
        happening = asyncio.ensure_future(case.happens(world)) if case.happens else None
        results = [await clients.result(process) for process in world.clients]
        if happening is not None:
            await happening
    return [result for result in results if result]


class AsyncClients:
    """The client processes of a run."""

    def __init__(self) -> None:
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> AsyncClients:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def start(self, options: dict[str, Any]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--client", json.dumps(options)), stdout=subprocess.PIPE, limit=1 << 26
        )
        self._processes.append(process)
        return process

    async def sends(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the process sends."""
        assert process.stdout is not None
        assert await process.stdout.readline() == b"sends\n"

    async def result(self, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        assert process.stdout is not None
        line = await process.stdout.readline()
        return json.loads(line) if line else None


def report(case: Case, kind: type[Server], results: list[dict[str, Any]], figures: dict[str, Any]) -> None:
    arrivals = figures["arrivals"]
    times = sorted(at for at, _ in arrivals)
    trip = statistics.fmean(trip for result in results for trip in result["trips"])
    limit = case.requests
    use = (len(times) - limit) * (WINDOW + trip) / (limit * (times[-1] - times[limit - 1]))
    begin, end = times[0] + 2 * WINDOW, times[-1] - WINDOW
    shares = Counter(name for at, name in arrivals if begin <= at <= end)
    turns, granted = (sum(result[name] for result in results) for name in ("turns", "granted"))
    gap = max(b - a for a, b in pairwise(times))
    errors = sum((Counter(result["errors"]) for result in results), Counter())
    errors.pop("cancelled", None)
    print(
        f"{kind.name:9} {case.name:34} N={limit:<4} refused {figures['refused']:3} of {len(times):5}  "
        f"worst window {figures['worst']:4}  "
        f"use {use:.3f}  shares {max(shares.values())}/{min(shares.values())} "
        f"x{max(shares.values()) / min(shares.values()):.2f}  turns/grant {turns / max(granted, 1):.2f}  "
        f"round trip {trip:.3f} s  longest gap {gap:.2f} s" + (f"  {dict(errors)}" if errors else ""),
        flush=True,
    )
    if case.auth == "token":
        fetches = figures["fetches"]
        apart = min((b - a for a, b in pairwise(fetches)), default=0.0)
        print(
            f"{len(fetches)} tokens fetched, {figures['fetches_refused']} refused, {apart:.2f} s apart or more; "
            f"{figures['added']} leads added at the service, {sum(result['added'] for result in results)} told so",
            flush=True,
        )


# -- what happens -----------------------------------------------------------------------------------------------------

BEGIN = 3.0  # seconds of work before it


async def killed_twice(world: World) -> None:
    for _ in range(2):
        await asyncio.sleep(BEGIN)
        world.server.kill()
        world.server.start()


async def away_then_empty(world: World) -> None:
    await asyncio.sleep(BEGIN)
    if isinstance(world.server, PostgresServer):
        world.server.empty()
    world.server.kill()
    await asyncio.sleep(3)
    world.server.start()


async def frozen(world: World) -> None:
    await asyncio.sleep(BEGIN)
    world.server.freeze()
    await asyncio.sleep(5)
    world.server.thaw()


async def failed_over(world: World) -> None:
    """A replica that was cut off 1.5 s before the primary died takes over."""
    await asyncio.sleep(2)
    replica = type(world.server)()
    world.spares.append(replica)
    if isinstance(replica, PostgresServer) and isinstance(world.server, PostgresServer):
        await asyncio.to_thread(replica.copy, world.server)
        await asyncio.to_thread(replica.start)
        await asyncio.sleep(BEGIN)
        await asyncio.to_thread(replica.execute, "SELECT pg_promote()")
    else:
        import redis

        replica.start()
        with redis.Redis(port=replica.port) as link:
            link.replicaof("127.0.0.1", str(world.server.port))
            await asyncio.sleep(BEGIN)
            link.replicaof("NO", "ONE")
    await asyncio.sleep(1.5)
    world.server.kill()
    world.proxy.switch(replica.port)


async def flushed(world: World) -> None:
    import redis

    for _ in range(15):
        await asyncio.sleep(1)
        with redis.Redis(port=world.server.port) as link:
            link.script_flush()


async def backends_terminated(world: World) -> None:
    assert isinstance(world.server, PostgresServer)
    for _ in range(10):
        await asyncio.sleep(1.5)
        world.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


async def client_stopped(world: World) -> None:
    await asyncio.sleep(BEGIN)
    world.clients[0].send_signal(signal.SIGSTOP)
    await asyncio.sleep(10)
    world.clients[0].send_signal(signal.SIGCONT)


async def clients_killed(world: World) -> None:
    await asyncio.sleep(BEGIN)
    for client in world.clients[:2]:
        client.kill()


def clock_set(seconds: int) -> Callable[[World], Awaitable[None]]:
    async def happens(world: World) -> None:
        await asyncio.sleep(BEGIN)
        assert world.clock is not None
        with world.clock.open("r+b") as file:
            file.write(struct.pack("l", seconds))

    return happens


LOADS = (Case("load", 5), Case("load", 100))
TOKENS = (Case("tokens ended from outside", seconds=26, auth="token"),)
FAULTS = (
    Case("killed twice", happens=killed_twice, seconds=20),
    Case("away 3 s, then empty", happens=away_then_empty, seconds=18),
    Case("frozen 5 s", happens=frozen, seconds=18),
    Case("failed over, 1.5 s lost", happens=failed_over, seconds=20),
    Case("scripts flushed each second", happens=flushed, only="redis"),
    Case("backends terminated", happens=backends_terminated, only="postgres"),
    Case("a client stopped 10 s", happens=client_stopped, seconds=20),
    Case("clients blocked 10 s", options=lambda number: {"blocked": [(6.0 + number, 10.0)]} if number < 2 else {}),
    Case("two clients killed", happens=clients_killed, seconds=20),
    Case("15 % of answers lost", options=lambda _: {"lost": 0.15}),
    Case("20 % cancelled", options=lambda _: {"cancelled": 0.2}),
    Case("clock 5 s ahead", happens=clock_set(5), seconds=18),
    Case("clock an hour back", happens=clock_set(-3600), seconds=18),
)


async def main(options: argparse.Namespace) -> bool:
    good = True
    kinds: dict[str, type[Server]] = {"redis": RedisServer, "postgres": PostgresServer}
    for name, kind in kinds.items():
        if options.store not in (name, "both"):
            continue
        for case in FAULTS if options.faults else TOKENS if options.tokens else LOADS:
            if case.only not in ("", name) or options.only not in case.name:
                continue
            if case.name.startswith("clock") and COMPILER is None:
                print(f"{name:9} {case.name}: left out, needs a C compiler")
                continue
            if case in LOADS:
                case.seconds = options.seconds
            good &= await run(case, kind)
    return good


def start() -> None:
    parser = argparse.ArgumentParser(description="several processes that share one limit")
    parser.add_argument("--store", choices=("redis", "postgres", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--tokens", action="store_true", help="one bearer token for all, which somebody else ends")
    parser.add_argument("--only", default="", help="part of a fault's name")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--auth", default="basic", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.auth))
    elif options.client:
        asyncio.run(run_client(json.loads(options.client)))
    elif not asyncio.run(main(options)):
        sys.exit(1)


if __name__ == "__main__":
    start()
