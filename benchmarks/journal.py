"""What a journal costs: wall time a batch, the longest stall of the event loop, and a callback in a folder of many.

``python benchmarks/journal.py [--batches 200] [--journals 10000] [--rounds 3]``

- Wall time: each batch is written ahead with its body of 500 rows, marked as sent, and as accepted: three commits. In
  turns with it, as many bare commits of one small row each are made by SQLite alone, in the same folder and with the
  same settings. A batch may take twice as long as its bare commits.
- Stall: batches of 500 rows of 2,000 characters each, 1 MB a request, go to a server that answers at once, beside a
  task that sleeps for a millisecond and notes how much later it woke. By the quietest rounds, a journal may add 10 ms
  to the longest. An idle loop is measured in the same way, to tell the machine's own.
- Folder: a callback whose token is unknown, and one whose journal is in the folder, among thousands of journals, after
  the first has had each of them read. The unknown one may take 5 ms, and so may the known one besides its commit.

The exit status is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from ozonetel_async import JournalFolder, Limits, OzonetelClient, RateLimit
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import batch_token, new_secret, new_token
from ozonetel_async.journal.journal import Header, Journal
from ozonetel_async.rows.batches import Batch

RATIO = 2.0
STALL = 0.010
LOOKUP = 0.005
LONG_BATCHES = 40
TICK = 0.001
HEADER = Header(campaign="Diwali", account="me", params={}, columns=None, checked_at="2026-01-31T09:00:00+05:30")


# -- wall time a batch ------------------------------------------------------------------------------------------------


def bare(path: Path) -> sqlite3.Connection:
    """A database with the settings of a journal."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (value)")
    return db


async def write_batches(folder: Path, count: int) -> bool:
    """Whether a batch takes no more than its share of what bare commits take."""
    rows = [[f"9{n:09d}", f"Lead number {n}", n % 99 + 1, "2099-12-31", f"lead.{n}@example.com"] for n in range(500)]
    body = json.dumps({"map": ["PhoneNumber", "Name", "Priority", "ExpiryDate", "Email"], "data": rows}).encode()
    journal = await Journal.open(folder / "a.journal", HEADER)
    spent: dict[str, list[float]] = {"journal": [], "bare": []}
    with closing(bare(folder / "bare")) as db:
        for index in range(count):
            began = time.perf_counter()
            await journal.plan(Batch(index, index * 500 + 1, index * 500 + 500, 500, 500, 0, body), [])
            await journal.mark(index, "sent", callback=True)
            await journal.accepted(index, "172067852912917131638630")
            spent["journal"].append(time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(3):
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO t VALUES ('sent')")
                db.execute("COMMIT")
            spent["bare"].append(time.perf_counter() - began)
    await journal.close()
    ratio = sum(spent["journal"]) / sum(spent["bare"])
    print(f"{count} batches of 500 rows, {len(body):,} bytes each, 3 commits a batch, in turns with 3 bare commits")
    for name, times in spent.items():
        print(f"  {name:8} {statistics.mean(times) * 1e3:7.2f} ms mean {statistics.median(times) * 1e3:7.2f} ms median")
    print(f"  x {ratio:.2f} (target: {RATIO})", flush=True)
    return ratio <= RATIO


# -- stalls of the event loop -----------------------------------------------------------------------------------------


async def serve() -> None:
    """Answer every request with a ticket, and print the port."""
    tickets = iter(range(172_067_852_912_917_131_638_630, 10**24))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
                body = b'{"status":"success","message":"queued successfully","transactionId":"%d"}' % next(tickets)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, limit=4_000_000)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextmanager
def server() -> Iterator[str]:
    with subprocess.Popen((sys.executable, __file__, "--serve"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def long_rows(count: int) -> Iterator[dict[str, str]]:
    note = "What was said on the phone, at length (and more): 100% sure. " * 32
    for n in range(count):
        yield {"PhoneNumber": f"9{n:09d}", "Note": note[:1950]}


async def tick(delays: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        delays.append(time.perf_counter() - before - TICK)


async def upload(url: str, kind: str, journal: str) -> list[float]:
    """The longest stalls, the longest one last."""
    delays: list[float] = []
    async with OzonetelClient("key", "user", base_url=url, limits=Limits(bulk=RateLimit(1_000_000))) as client:
        # The first call brings imports and a connection, which are no part of an upload's cost.
        with tempfile.TemporaryDirectory() as folder:
            await client.upload("Diwali", long_rows(500), journal=Path(folder) / "first.journal" if journal else None)
        ticker = asyncio.create_task(tick(delays))
        if kind == "idle":
            await asyncio.sleep(1.0)
        else:
            report = await client.upload(
                "Diwali", long_rows(LONG_BATCHES * 500), journal=journal or None, concurrency=5
            )
            assert report.rows_accepted == LONG_BATCHES * 500, report
        ticker.cancel()
    return sorted(delays)[-5:]


def measure(url: str, kind: str) -> list[float]:
    """One upload in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.journal") if kind == "with journal" else ""
        command = (sys.executable, __file__, "--upload", url, kind, path)
        stalls: list[float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return stalls


def stalls(url: str, rounds: int) -> bool:
    """Whether a journal leaves the event loop free."""
    print(f"{LONG_BATCHES} batches of 500 rows of 2,000 characters, {rounds} rounds; longest and fifth longest stall")
    least = dict.fromkeys(("idle", "without journal", "with journal"), float("inf"))
    for _ in range(rounds):
        for kind in least:
            longest = measure(url, kind)
            print(f"  {kind:16} {longest[-1] * 1000:6.2f} ms {longest[0] * 1000:6.2f} ms", flush=True)
            least[kind] = min(least[kind], longest[-1])
    added = least["with journal"] - least["without journal"]
    print(f"  a journal adds {added * 1000:.2f} ms in the quietest rounds (target: {STALL * 1000:.0f} ms)")
    return added <= STALL


# -- a callback in a folder of many -----------------------------------------------------------------------------------


async def fill(folder: Path, count: int) -> list[str]:
    """Make journals of one batch each; their tokens."""
    first = folder / "first.journal"
    journal = await Journal.open(first, HEADER)
    await journal.plan(Batch(0, 1, 1, 1, 1, 0, b'{"map":["PhoneNumber"],"data":[["9812345678"]]}'), [])
    await journal.mark(0, "sent", callback=True)
    await journal.close()
    secrets = [new_secret() for _ in range(count)]
    for number, secret in enumerate(secrets):
        shutil.copy(first, folder / f"{number}.journal")
        with closing(sqlite3.connect(folder / f"{number}.journal")) as db:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("UPDATE header SET secret = ?", (secret,))
            db.commit()
    first.unlink()
    return [batch_token(secret, 0) for secret in secrets]


async def look_up(folder: Path, count: int) -> bool:
    """Whether a callback finds its journal, or that there is none, fast enough."""
    tokens = await fill(folder, count)
    os.utime(folder, (time.time() - 60, time.time() - 60))  # a folder in which no upload has begun just now
    journals = JournalFolder(folder)

    async def timed(token: str) -> float:
        began = time.perf_counter()
        await journals.deliver(token, JobResult("1", True, 1, 1, 0))
        return time.perf_counter() - began

    first = await timed(new_token())
    unknown = [await timed(new_token()) for _ in range(200)]
    known = [await timed(token) for token in tokens[:200]]
    with closing(bare(folder / "bare")) as db:
        began = time.perf_counter()
        for _ in range(200):
            db.execute("INSERT INTO t VALUES ('called')")
        commit = (time.perf_counter() - began) / 200
    print(f"{count:,} journals in a folder; the first look-up reads them all: {first:.2f} s")
    for name, times in (("unknown", unknown), ("known", known)):
        print(f"  {name:8} {statistics.median(times) * 1e3:6.2f} ms median {max(times) * 1e3:7.2f} ms longest")
    print(f"  a bare commit {commit * 1e3:.2f} ms (target: {LOOKUP * 1e3:.0f} ms, of a known one beside its commit)")
    return max(statistics.median(unknown), statistics.median(known) - commit) <= LOOKUP


def main(options: argparse.Namespace) -> int:
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, aiohttp {version('aiohttp')}, "
        f"ozonetel-async {version('ozonetel-async')}, {platform.machine()}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cheap = asyncio.run(write_batches(Path(folder), options.batches))
    with server() as url:
        quiet = stalls(url, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = asyncio.run(look_up(Path(folder), options.journals))
    return 0 if cheap and quiet and found else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--journals", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to make the journals; default: that of temporary files")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--upload", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
    elif given.upload:
        sys.stdout.write(json.dumps(asyncio.run(upload(*given.upload))))
    else:
        sys.exit(main(given))
