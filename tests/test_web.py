"""README's web applications under real servers: several workers, one limit, and an end that comes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import aiohttp
import pytest

from ozonetel_async import Lead, Limits, OzonetelClient, RateLimit, RedisShared
from ozonetel_async.testing import Simulator

from .contrib.conftest import Server, free_port, start_server

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

# What starts the workers of an application on a port: one command for each process.
FASTAPI = [["-m", "uvicorn", "app:app", "--workers", "4", "--log-level", "warning", "--port", "{port}"]]
AIOHTTP = [
    ["-c", "import app; from aiohttp import web; web.run_app(app.app, host='127.0.0.1', port={port}, reuse_port=True)"]
] * 2


@pytest.fixture
def redis() -> Iterator[Server]:
    server = start_server("redis")
    yield server
    server.close()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator.in_thread(limits={"bulk": 0}) as simulator:
        yield simulator


class Application:
    """One of README's applications, running; its working directory is ``folder``."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment
        self.url = ""
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "log").open("wb")

    async def start(self, mark: str, commands: list[list[str]]) -> None:
        """Start the block of README that holds ``mark``, and wait until it answers."""
        (block,) = (code for code in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if mark in code)
        (self.folder / "app.py").write_text(block, encoding="utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.processes += [self._run(argument.format(port=port) for argument in command) for command in commands]
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                assert all(process.poll() is None for process in self.processes), self.log
                try:
                    # Not a lead that anybody would take: nothing is sent.
                    async with session.post(f"{self.url}/leads", json={"phone_number": "1"}) as answer:
                        assert answer.status == 422, self.log
                        return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)

    def _run(self, arguments: Iterable[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=self._log, stderr=self._log, start_new_session=True
        )

    async def post(self, path: str, count: int) -> list[tuple[int, str]]:
        """Post as many leads at a time; status and ``Retry-After`` of each answer."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:

            async def one(number: int) -> tuple[int, str]:
                lead = {"phone_number": f"9198{number:08}", "name": "Asha"}
                async with session.post(f"{self.url}{path}", json=lead) as answer:
                    return answer.status, answer.headers.get("Retry-After", "")

            return await asyncio.gather(*map(one, range(count)))

    async def interrupt(self) -> list[int]:
        """Press Ctrl-C; the exit codes."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGINT)
        return [await asyncio.to_thread(process.wait, 30) for process in self.processes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        self._log.close()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
async def application(redis: Server, simulator: Simulator, tmp_path: Path) -> AsyncIterator[Application]:
    # Workers find a store that knows the queues, and hold nothing back.
    async with client_of(simulator, shared=RedisShared(redis.url, first_use="go", timeout=10.0)) as client:
        await client.add_lead("Diwali", Lead("919700000000"))
        await client.add_batch("Diwali", [Lead("919700000001")])
    environment = {
        "OZONETEL_API_KEY": simulator.api_key,
        "OZONETEL_USERNAME": simulator.username,
        "OZONETEL_BASE_URL": simulator.base_url,
        "OZONETEL_DIALER_URL": simulator.dialer_url,
        "REDIS_URL": redis.url,
        # A dying worker's half-written cache must not be another one's.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    application = Application(tmp_path, environment)
    yield application
    application.close()


def client_of(simulator: Simulator, shared: RedisShared | None = None) -> OzonetelClient:
    limits = Limits() if shared else Limits(bulk=RateLimit(100, 1.0))
    return OzonetelClient(
        *(simulator.api_key, simulator.username),
        base_url=simulator.base_url,
        dialer_url=simulator.dialer_url,
        limits=limits,
        shared=shared,
    )


@pytest.mark.parametrize(
    ("mark", "commands"), [("@asynccontextmanager", FASTAPI), ("web.AppKey", AIOHTTP)], ids=["fastapi", "aiohttp"]
)
async def test_workers_keep_one_limit_turn_the_rest_away_and_end(
    mark: str, commands: list[list[str]], application: Application, simulator: Simulator
) -> None:
    await application.start(mark, commands)
    answers = await application.post("/leads", 300)
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 503}, application.log
    assert statuses[200] == simulator.writes_applied("add") - 1
    assert (simulator.refusals("add"), simulator.worst_window("add") <= 100) == (0, True)
    assert all(1 <= int(after) <= 66 for status, after in answers if status == 503)
    assert await application.interrupt() == [0] * len(commands), application.log


async def test_leads_handed_over_survive_the_end_of_the_application(
    application: Application, simulator: Simulator
) -> None:
    await application.start("@asynccontextmanager", FASTAPI)
    assert await application.post("/leads/later", 40) == [(202, "")] * 40
    assert await application.interrupt() == [0], application.log
    async with client_of(simulator) as client:
        for journal in application.folder.glob("*.journal"):
            async with client.buffer("Diwali", journal=journal):
                pass  # sends what is left
    assert simulator.rows_applied("bulk") == 41
    async with asyncio.timeout(30):
        while simulator.campaigns["Diwali"].stored < 42:  # noqa: ASYNC110 - in another thread
            await asyncio.sleep(0.01)
    assert max(simulator.campaigns["Diwali"].numbers.values()) == 1
