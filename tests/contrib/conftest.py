"""Private Redis and PostgreSQL servers on free loopback ports, which tests may kill, stop and restart."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, LiteralString, TypeAlias

import msgspec
import pytest

from ozonetel_async.contrib.postgres import PostgresShared
from ozonetel_async.contrib.redis import RedisShared
from ozonetel_async.sending.shared.store import MICROSECONDS, Ask, SharedStore, StoreConnection, Turn

HOW = "apt-get install redis-server postgresql, or the like, and pip install 'ozonetel-async[redis,postgres]'"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(name: str) -> str | None:
    """A server's program; Debian keeps PostgreSQL's out of the path."""
    places = sorted(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))


class Server(ABC):
    """A server of our own, with its data in a folder of its own."""

    name: str

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"ozonetel-{self.name}-"))
        # PostgreSQL refuses to run as root.
        self.user = "nobody" if os.getuid() == 0 else None
        if self.user is not None:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def command(self) -> list[str]: ...

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def store(self, **options: Any) -> SharedStore:
        """A store that connects to this server."""

    @abstractmethod
    def empty(self) -> None:
        """Throw all data away."""

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            user=self.user,
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{self.name} does not answer"
            time.sleep(0.01)

    @abstractmethod
    def answers(self) -> bool: ...

    def pids(self) -> list[int]:
        """The server's processes, the first one first."""
        assert self.process is not None
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End the server as a power failure would."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def recover(self) -> None:
        """Run again, whatever a test has done."""
        assert self.process is not None
        if self.process.poll() is None:
            self.thaw()
        else:
            self.start()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    name = "redis"

    @property
    def command(self) -> list[str]:
        return [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *("--dir", str(self.folder), "--repl-diskless-sync-delay", "0"),
        ]

    def store(self, **options: Any) -> RedisShared:
        return RedisShared(self.url, **{"timeout": 10.0, **options})

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def empty(self) -> None:
        import redis

        with redis.Redis(port=self.port) as client:
            client.flushall()

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class PostgresServer(Server):
    name = "postgres"

    @property
    def command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 60,
            "wal_level": "replica",
        }
        program = find("postgres")
        assert program is not None
        return [program, "-D", str(self.folder / "data"), *(f"--{name}={value}" for name, value in settings.items())]

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self.create()
        super().start()

    def create(self) -> None:
        self.run("initdb", "-A", "trust", "-U", "ozonetel", "--no-sync", "-E", "UTF8")

    def copy(self, primary: PostgresServer) -> None:
        """Become a standby of another server, before the start."""
        self.run("pg_basebackup", "-d", primary.url, "-R", "--checkpoint=fast")

    def run(self, name: str, *arguments: str) -> None:
        program = find(name)
        assert program is not None
        subprocess.run(
            [program, "-D", str(self.folder / "data"), *arguments],
            cwd=self.folder,
            user=self.user,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def store(self, **options: Any) -> PostgresShared:
        return PostgresShared(self.url, **{"timeout": 10.0, **options})

    @property
    def url(self) -> str:
        return f"postgresql://ozonetel@127.0.0.1:{self.port}/postgres"

    def empty(self) -> None:
        self.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def execute(self, *statements: LiteralString) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


SERVERS: dict[str, tuple[type[Server], str, str]] = {
    "redis": (RedisServer, "redis-server", "redis"),
    "postgres": (PostgresServer, "postgres", "psycopg"),
}


def start_server(name: str) -> Server:
    kind, program, driver = SERVERS[name]
    if find(program) is None:
        pytest.skip(f"needs {program}: {HOW}")
    pytest.importorskip(driver, reason=f"needs the driver {driver}: {HOW}")
    server = kind()
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """Servers that all tests share; each test uses names of its own."""
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        server.close()


def shared(name: str, servers: dict[str, Server]) -> Iterator[Server]:
    if name not in servers:
        servers[name] = start_server(name)
    yield servers[name]
    servers[name].recover()


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Server]:
    yield from shared(str(request.param), servers)


@pytest.fixture
def postgres(servers: dict[str, Server]) -> Iterator[PostgresServer]:
    for server in shared("postgres", servers):
        assert isinstance(server, PostgresServer)
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of one test: it starts in no time."""
    server = start_server("redis")
    assert isinstance(server, RedisServer)
    yield server
    server.close()


MINUTE = 60_000_000
AT_ONCE = 1
"""A window that is over at once: whoever stands in line is due, while tokens under way stay out for their lease."""


class Process:
    """One of several processes that share a queue of five requests, as a connection that makes turns."""

    def __init__(self, connection: StoreConnection, key: str, name: str, **settings: Any) -> None:
        self.connection = connection
        settings = {"requests": 5, "per": MINUTE, "lease": 10 * MINUTE, "slack": MINUTE, "hold": 0, **settings}
        self.ask = Ask(key=key, queue="bulk", process=name, **settings)
        self.next = 0

    async def turn(self, count: int = 0, **changes: Any) -> Turn:
        """Ask for ``count`` new tokens, or for those from ``first`` on."""
        first = changes.pop("first", self.next)
        self.next = max(self.next, first + count)
        return await self.connection.turn(msgspec.structs.replace(self.ask, first=first, count=count, **changes))

    async def conclude(self, *numbers: int, back: int = 0) -> Turn:
        return await self.turn(concluded=tuple((number, back) for number in numbers))

    async def turn_until(self, condition: Callable[[Turn], object], count: int = 0, **changes: Any) -> Turn:
        """The first turn of which the condition holds."""
        first = self.next
        while True:
            turn = await self.turn(count, first=first, **changes)
            if condition(turn):
                return turn
            await asyncio.sleep(0.01)


Join: TypeAlias = Callable[..., Process]


@pytest.fixture
def key() -> str:
    """A name that no other test uses."""
    return f"{token_hex(12)}:bulk"


@pytest.fixture
async def join(server: Server, key: str) -> AsyncIterator[Join]:
    """Makes processes that share one queue, and closes their connections."""
    connections: list[StoreConnection] = []

    def make(name: str = "one", *, store: SharedStore | None = None, **settings: Any) -> Process:
        connection = (store or server.store()).connect()
        connections.append(connection)
        return Process(connection, key, name, **settings)

    yield make
    for connection in connections:
        await connection.close()


async def store_sleeps(microseconds: int) -> None:
    """Wait until the store's clock has moved on; a little more, since two clocks never agree."""
    await asyncio.sleep(microseconds / MICROSECONDS + 0.01)
