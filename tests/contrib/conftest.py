"""Private Redis and PostgreSQL servers on free loopback ports, which tests may kill, stop and restart."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from ozonetel_async.contrib.postgres import PostgresShared
from ozonetel_async.contrib.redis import RedisShared
from ozonetel_async.sending.shared import SharedStore

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

    @abstractmethod
    def store(self, **options: object) -> SharedStore:
        """A store that connects to this server."""

    @abstractmethod
    def empty(self) -> None:
        """Throw the data away; the server is not running."""

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, user=self.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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

    def kill(self) -> None:
        """End the server as a power failure would."""
        assert self.process is not None
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    name = "redis"

    @property
    def command(self) -> list[str]:
        return [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *("--dir", str(self.folder)),
        ]

    def store(self, **options: object) -> RedisShared:
        return RedisShared(f"redis://127.0.0.1:{self.port}/0", **options)  # type: ignore[arg-type]

    def empty(self) -> None:
        """Nothing to do: it keeps no data."""

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
        program = find("initdb")
        assert program is not None
        subprocess.run(
            [program, "-D", str(self.folder / "data"), "-A", "trust", "-U", "ozonetel", "--no-sync", "-E", "UTF8"],
            cwd=self.folder,
            user=self.user,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def store(self, **options: object) -> PostgresShared:
        return PostgresShared(self.url, **options)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"postgresql://ozonetel@127.0.0.1:{self.port}/postgres"

    def empty(self) -> None:
        shutil.rmtree(self.folder / "data")

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
    server.start()
    return server


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """Servers that all tests share; each test uses names of its own."""
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        server.close()


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    name = str(request.param)
    if name not in servers:
        servers[name] = start_server(name)
    return servers[name]
