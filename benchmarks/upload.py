"""A file of leads through ``client.upload``: rows per second, memory, and the longest stall of the event loop.

    python benchmarks/upload.py [--rows 200000] [--encoding form]

``read_csv`` streams a file of six columns, a few rows of it bad, through validation, encoding and real HTTP to a server
in a process of its own that reads each body and answers at once, limits out of the way. Memory is ``VmHWM`` of a fresh
process, less what it was after the imports; it passes at 12 MB whatever the number of rows. A
stall is how much longer than asked a task that sleeps for a millisecond has slept.

Beside it, in processes of their own: the same rows through ``csv.reader`` and ``msgspec``, no validation, no request
(the limit of what Python can read), and the same payloads sent by bare aiohttp (the limit of the network).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import aiohttp
import msgspec

from ozonetel_async import Dialect, Limits, OzonetelClient, RateLimit, UploadReport, read_csv

ALLOWED_MB = 12.0
BATCH = 500
COLUMNS = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentId", "skill")
IN_FLIGHT = 5

SERVER = """
import asyncio
from asyncio import Protocol
from itertools import count

TICKETS = count(10**24)


class Answering(Protocol):
    def connection_made(self, transport):
        self.transport, self.head, self.left = transport, b"", 0

    def data_received(self, data):
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\\r\\n\\r\\n")
            if end < 0:
                return
            head = self.head[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\\r\\n", 1)[0]) if at >= 0 else 0
            self.left, self.head = size - (len(self.head) - end - 4), b""
        if self.left <= 0:
            body = b'{"status":"success","message":"queued successfully","transactionId":"%d"}' % next(TICKETS)
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)


async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
"""


def write_leads(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i in range(rows):
            phone = "98-12" if i % 1_000 == 17 else f"+9198{i:08d}"
            stamp = f"2099-{i % 12 + 1:02d}-{i % 28 + 1:02d} 21:00:00"
            writer.writerow((phone, f"Lead {i} of the list", i % 100, stamp, f"agent_{i % 40}", f"skill {i % 12}"))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


async def longest_stall(stalls: deque[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        stalls.append(time.perf_counter() - before - 0.001)


async def ours(path: Path, url: str, encoding: str) -> dict[str, float]:
    limits = Limits(bulk=RateLimit(1_000_000, 0.001))
    dialect = Dialect(bulk_encoding=encoding)  # type: ignore[arg-type]
    base = peak_mb()
    async with OzonetelClient("key", "user", base_url=url, limits=limits, dialect=dialect) as client:
        stalls: deque[float] = deque()
        watch = asyncio.create_task(longest_stall(stalls))
        started, cpu = time.perf_counter(), time.process_time()
        report = await client.upload("Diwali", read_csv(path), concurrency=IN_FLIGHT)
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
        watch.cancel()
    check(report)
    worst = sorted(stalls)
    return {
        "rows": report.rows_read,
        "seconds": elapsed,
        "cpu": cpu,
        "memory_mb": peak_mb() - base,
        "stall_ms": worst[-1] * 1e3,
        "stall_p99_ms": worst[int(len(worst) * 0.99)] * 1e3,
    }


def check(report: UploadReport) -> None:
    assert report.rows_read == report.rows_accepted + report.rows_invalid, report
    assert report.stopped_by is None
    assert report.requests == len(report.batches)


def read_and_encode(path: Path) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader)
        while block := list(islice(reader, BATCH)):
            yield encode({"map": names, "data": block})


async def reading(path: Path, url: str, encoding: str) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    batches = sum(1 for _ in read_and_encode(path))
    return {"rows": batches * BATCH, "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


async def sending(path: Path, url: str, encoding: str) -> dict[str, float]:
    payload = next(read_and_encode(path))
    batches = sum(1 for _ in path.open(encoding="utf-8")) // BATCH
    numbers = iter(range(batches))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in numbers:
            async with session.post(url, data=payload) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(session) for _ in range(IN_FLIGHT)))
        return {"rows": batches * BATCH, "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


SIDES = {"ozonetel_async": ours, "csv.reader + msgspec, unsent": reading, "aiohttp, one payload": sending}


def measure(side: str, path: Path, url: str, encoding: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--path", str(path), "--url", url, "--encoding", encoding]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--encoding", choices=("form", "multipart", "json", "query"), default="form")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(asyncio.run(SIDES[options.side](options.path, options.url, options.encoding))))
        return 0
    versions = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "msgspec", "aiolimiter"))
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores; {options.rows:,} rows")
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server,
    ):
        path = Path(folder, "leads.csv")
        write_leads(path, options.rows)
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            results = {side: measure(side, path, url, options.encoding) for side in SIDES}
        finally:
            server.terminate()
    for side, one in results.items():
        pace, cost = one["rows"] / one["seconds"], one["cpu"] / one["rows"] * 1e6
        print(f"{side:>28}: {pace:10,.0f} rows/s, {cost:4.1f} us CPU a row")
    one = results["ozonetel_async"]
    print(f"{'memory over the baseline':>28}: {one['memory_mb']:.1f} MB, allowed {ALLOWED_MB:.0f}")
    print(f"{'longest stall':>28}: {one['stall_ms']:.1f} ms (99 of 100 under {one['stall_p99_ms']:.1f} ms)")
    return int(one["memory_mb"] > ALLOWED_MB)


if __name__ == "__main__":
    sys.exit(main())
