"""CPU per ``add_lead`` beside aiohttp with the same body, and the time to import the library.

    python benchmarks/call.py [--calls 400] [--rounds 41]

A server in a process of its own answers each request with a fixed text, so that only the client's CPU is counted. The
rival is a bare ``aiohttp.ClientSession.post(url, data=msgspec.json.encode(…), headers=…)`` with ``read()`` and
``msgspec.json.decode``: no validation, no queue, no reading of messages. Limits are out of the way. Short rounds
alternate, each side going first in turn; the figure is the ratio of the medians, and passes at 1.35.

The import is timed in fresh processes that have imported the three dependencies before; it passes at 25 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import aiohttp
import msgspec

from ozonetel_async import Lead, Limits, OzonetelClient, RateLimit

ALLOWED = 1.35
ALLOWED_IMPORT_MS = 25.0
AT_ONCE = 16
PATH = "/ca_apis/AddCampaignData"
KEY, USER = "benchmark-key", "benchmark"
EXTRA = {"City": "Pune", "OrderNumber": "A-1774"}

SERVER = """
import asyncio
from asyncio import Protocol

BODY = b'{"status":"SUCCESS","message":"SuccessFully Updated"}'
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY) + BODY


class Answering(Protocol):
    def connection_made(self, transport):
        self.transport, self.held = transport, b""

    def data_received(self, data):
        self.held += data
        while (end := self.held.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.held[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\\r\\n", 1)[0]) if at >= 0 else 0
            if len(self.held) < end + 4 + size:
                return
            self.held = self.held[end + 4 + size :]
            self.transport.write(ANSWER)


async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
"""

IMPORT = """
import time, aiohttp, aiolimiter, msgspec
start = time.perf_counter()
{statement}
print((time.perf_counter() - start) * 1000)
"""


async def at_once(calls: int, call: Callable[[int], Awaitable[None]]) -> float:
    """CPU seconds of this process for ``calls`` calls, 16 of them under way at a time."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    gc.collect()
    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.process_time() - start


def ours(client: OzonetelClient) -> Callable[[int], Awaitable[None]]:
    async def call(number: int) -> None:
        lead = Lead(f"98{number:08d}", name="Asha Rao", priority=5, extra=EXTRA)
        receipt = await client.add_lead("Diwali", lead, check_duplicate=True)
        assert receipt.outcome == "accepted"

    return call


def bare(session: aiohttp.ClientSession, url: str) -> Callable[[int], Awaitable[None]]:
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "apiKey": KEY}

    async def call(number: int) -> None:
        body = {
            "userName": USER,
            "campaignName": "Diwali",
            "phoneNumber": f"98{number:08d}",
            "Name": "Asha Rao",
            "priority": "5",
            **EXTRA,
            "checkDuplicate": "TRUE",
        }
        async with session.post(url, data=encode(body), headers=headers) as response:
            answer = decode(await response.read())
        assert answer["status"] == "SUCCESS"

    return call


async def race(base_url: str, calls: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds per call of each side, round by round."""
    free = RateLimit(1_000_000, 0.001)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        OzonetelClient(KEY, USER, base_url=base_url, limits=Limits(add=free)) as client,
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        sides = [("ozonetel_async", ours(client)), ("aiohttp", bare(session, base_url + PATH))]
        for _, call in sides:
            await at_once(200, call)
        spent: dict[str, list[float]] = {name: [] for name, _ in sides}
        for _ in range(rounds):
            for name, call in sides:
                spent[name].append(await at_once(calls, call) / calls * 1e6)
            sides.reverse()
        return spent


def import_ms(statement: str, times: int = 9) -> float:
    """Median milliseconds of a statement in fresh processes that have imported the dependencies."""
    command = [sys.executable, "-c", IMPORT.format(statement=statement)]
    with tempfile.TemporaryDirectory() as cache:
        # Bytecode as an installed package has it, wherever this runs; the first run writes it.
        env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        seen = [
            float(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout) for _ in range(times)
        ]
    return statistics.median(seen[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=400, help="per side and round")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args()
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            spent = asyncio.run(race(url, options.calls, options.rounds))
        finally:
            server.terminate()
    medians = {name: statistics.median(values) for name, values in spent.items()}
    ratio = medians["ozonetel_async"] / medians["aiohttp"]
    # The public names are imported on first use; that is what counts here.
    imported = import_ms("import ozonetel_async; ozonetel_async.OzonetelClient")
    if options.json:
        print(json.dumps({"us": medians, "ratio": ratio, "import_ms": imported}))
    else:
        versions = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "msgspec", "aiolimiter"))
        print(f"Python {platform.python_version()}, {versions}; {options.rounds} rounds of {options.calls:,} calls")
        for name, values in spent.items():
            print(f"{name:>15}: {medians[name]:6.1f} us CPU per call (from {min(values):.1f} to {max(values):.1f})")
        print(f"          ratio: {ratio:.3f}, allowed {ALLOWED}")
        print(f"         import: {imported:.1f} ms over its dependencies, allowed {ALLOWED_IMPORT_MS:.0f} ms")
    return int(ratio > ALLOWED or imported > ALLOWED_IMPORT_MS)


if __name__ == "__main__":
    sys.exit(main())
