"""A client behind rate limiters that are not ours: private instances of nginx and HAProxy in front of the simulator."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ozonetel_async import Lead, OzonetelClient, RateLimit
from ozonetel_async.testing import Simulator

from ..conftest import fast_limits

REQUESTS, PER = 20, 0.5

NGINX = """
daemon off;
master_process off;
error_log error.log;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    limit_req_zone $binary_remote_addr zone=all:1m rate={rate}r/s;
    limit_req_status 429;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            limit_req zone=all burst={burst} nodelay;
            proxy_pass {target};
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend all
    bind 127.0.0.1:{port}
    stick-table type ip size 1k expire 60s store http_req_rate({per:.0f}ms)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {requests} }}
    default_backend simulator
backend simulator
    server simulator {host}
"""


def installed(name: str, package: str) -> str:
    """Path of a server's program, which Debian keeps off a user's path."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install {package}")
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running(port: int, *command: str) -> AsyncIterator[str]:
    """The base address of a server that was started with this command, once it listens."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    assert process.returncode is None, (await process.communicate())[1].decode()
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.fixture
async def unlimited() -> AsyncIterator[Simulator]:
    """A simulator that leaves limits to whoever stands in front of it."""
    async with Simulator(limits={"add": 0}) as simulator:
        yield simulator


async def send_leads(url: str, simulator: Simulator, windows: int) -> int:
    """Send leads through a rate limiter until each is accepted; how often the limiter refused."""
    leads = windows * REQUESTS + 3
    limits = fast_limits(add=RateLimit(REQUESTS, PER))
    async with OzonetelClient(simulator.api_key, simulator.username, base_url=url, limits=limits) as client:
        added = (client.add_lead("Diwali", Lead(f"98{number:08d}")) for number in range(leads))
        receipts = await asyncio.gather(*added)
        refused = client.queues["add"].refused
    assert all(receipt.outcome == "accepted" for receipt in receipts)
    assert (simulator.arrivals("add"), simulator.writes_applied("add")) == (leads, leads)
    assert 429 in await burst(url), "the limiter does not limit"
    return refused


async def burst(url: str) -> set[int]:
    """The statuses of three windows' requests at once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> int:
            async with session.get(url) as response:
                return response.status

        return set(await asyncio.gather(*(ask() for _ in range(3 * REQUESTS))))


async def test_nginx_refuses_nothing(tmp_path: Path, unlimited: Simulator) -> None:
    program, port = installed("nginx", "nginx-light"), free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(rate=int(REQUESTS / PER), burst=REQUESTS - 1, port=port, target=unlimited.base_url))
    async with running(port, program, "-p", str(tmp_path), "-c", str(config), "-e", "error.log") as url:
        assert await send_leads(url, unlimited, windows=3) == 0


async def test_haproxy_which_estimates_refuses_a_few(tmp_path: Path, unlimited: Simulator) -> None:
    program, port = installed("haproxy", "haproxy"), free_port()
    config = tmp_path / "haproxy.cfg"
    host = unlimited.base_url.removeprefix("http://").split("/")[0]
    config.write_text(HAPROXY.format(requests=REQUESTS, per=1_000 * PER, port=port, host=host))
    async with running(port, program, "-db", "-f", str(config)) as url:
        # One burst that meets the estimate would cost more than this.
        assert await send_leads(url, unlimited, windows=5) <= 8
