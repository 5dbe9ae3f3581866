"""CSV rows to validated, encoded request payloads: ours beside no validation at all and beside the obvious way.

    python benchmarks/encode.py [--rows 200000] [--repeats 5]

The rivals, all on the same file, 500 rows a batch, in the same run:

* limit: ``csv.reader`` and ``msgspec.json.encode``, no validation at all;
* naive: ``csv.DictReader``, a regular expression per field, ``strptime``, ``json.dumps``.

Peak memory is ``VmHWM`` of a fresh process, less what it was after the imports.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from ozonetel_async.config import Cleaning, Dialect
from ozonetel_async.models import Lead
from ozonetel_async.rows.batches import Chunker
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.rows.single_lead import check_lead

COLUMNS = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentId", "skill")
ZONE = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 500


def rows(count: int, *, length: int, bad: float = 0.0, days: int = 90) -> Iterator[list[str]]:
    """Leads with ``length`` characters that expire on one of ``days`` evenings; a share of ``bad`` has a bad cell."""
    rng = random.Random(count)
    filler = "abcdefghij klmnop.qrs-tuv_wxyz " * (length // 31 + 1)
    first = datetime(2026, 1, 2, 21)  # naive: in the platform's zone
    faults = ((0, "98-12"), (1, "Zoë"), (2, "high"), (3, "31/12/2026"), (5, "a\x07"))
    for i in range(count):
        expiry = first + timedelta(days=rng.randrange(days), seconds=rng.randrange(days // 365 + 1))
        row = [f"+9198{i:08d}", "", str(rng.randrange(100)), str(expiry), f"agent_{i % 40}", f"skill {i % 12}"]
        row[1] = f"Lead {i} {filler}"[: length - sum(map(len, row))]
        if bad and rng.random() < bad:
            place, cell = faults[i % len(faults)]
            row[place] = cell
        yield row


def write(path: Path, count: int, *, length: int, bad: float = 0.0, days: int = 90) -> Path:
    """A CSV file of such leads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows(count, length=length, bad=bad, days=days))
    return path


def ours(path: Path, slice_rows: int = BATCH) -> int:
    """``read_csv`` and ``Chunker``; bytes made."""
    source = read_csv(path)
    chunker = Chunker(columns=source.columns, dialect=Dialect(), timezone=ZONE, now=NOW)
    made, stream = 0, iter(source)
    while part := list(islice(stream, slice_rows)):
        for batch in chunker.feed(part):
            made += len(batch.payload)
    return made + sum(len(batch.payload) for batch in chunker.flush())


def limit(path: Path) -> int:
    """No validation at all; bytes made."""
    made = 0
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader)
        while part := list(islice(reader, BATCH)):
            made += len(msgspec.json.encode({"map": header, "data": part}))
    return made


def naive(path: Path) -> int:
    """Field by field, row by row; bytes made."""
    phone, name = re.compile(r"\+?\d{3,16}"), re.compile(r"[A-Za-z0-9_ ().+$%:\-]*")
    made, part = 0, []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                expiry = datetime.strptime(row["ExpiryDate"], "%Y-%m-%d %H:%M:%S")
                good = (
                    phone.fullmatch(row["PhoneNumber"]) is not None
                    and name.fullmatch(row["Name"]) is not None
                    and 0 <= int(row["Priority"]) <= 99
                    and expiry > NOW.replace(tzinfo=None)
                    and row["AgentId"].isprintable()
                    and row["skill"].isprintable()
                    and sum(len(key) + len(cell) for key, cell in row.items()) <= 2_000
                )
            except ValueError:
                continue
            if good:
                part.append([row[c] if c != "Priority" else int(row[c]) for c in COLUMNS])
            if len(part) == BATCH:
                made += len(json.dumps({"map": COLUMNS, "data": part}).encode())
                part = []
    return made + len(json.dumps({"map": COLUMNS, "data": part}).encode())


# What people have in their files, each with a repair; a dirty row has one of each.
DIRTY_PHONES = ("98{} {}", "+91 98{}-{}", "'98{}{}", "098{} {}", "9198{}{}.0")
DIRTY_NAMES = (
    "Lead {}, O'Brien",
    "M/s Lead {} & Sons",
    "Zo\xeb {}",
    "\u0906\u0936\u093e {}",
    "Lead {} (Pune)\u2013East",
)


def dirty_rows(count: int, share: float) -> list[list[str]]:
    """Leads of which a share has a phone number and a name that the service would not take as they are."""
    rng = random.Random(count)
    made = list(rows(count, length=150))
    for i, row in enumerate(made):
        if rng.random() < share:
            row[0] = DIRTY_PHONES[i % 5].format(f"{i // 10_000:04d}", f"{i % 10_000:04d}")
            row[1] = DIRTY_NAMES[i % 5].format(i)
    return made


def encode(given: list[list[str]], clean: Cleaning | None, stalls: list[float]) -> int:
    """Rows into bytes, as an upload slices them; rows sent."""
    chunker = Chunker(columns=COLUMNS, dialect=Dialect(), timezone=ZONE, now=NOW, clean=clean)
    at, sent = 0, 0
    while part := given[at : at + chunker.stride]:
        begun = time.thread_time()
        sent += sum(batch.rows for batch in chunker.feed(part))
        stalls.append(time.thread_time() - begun)
        at += len(part)
    return sent + sum(batch.rows for batch in chunker.flush())


def cleaning(count: int, repeats: int) -> None:
    """Cleaning beside none, for shares of dirty rows: speed, and the longest stretch without a pause."""
    policies = {"off": None, "on": Cleaning(), "on, country": Cleaning(country="IN", form="digits")}
    for share in (0.0, 0.05, 0.5, 1.0):
        given = dirty_rows(count, share)
        spent: dict[str, list[float]] = {name: [] for name in policies}
        stretches: dict[str, list[float]] = {name: [] for name in policies}
        sent: dict[str, int] = {}
        for _ in range(repeats):
            for name, clean in policies.items():
                stalls: list[float] = []
                begun = time.process_time()
                sent[name] = encode(given, clean, stalls)
                spent[name].append(time.process_time() - begun)
                stretches[name].append(max(stalls))
        print(f"  {share:4.0%} dirty:", end="")
        for name in policies:
            against = statistics.median([a / b for a, b in zip(spent["off"], spent[name], strict=True)])
            rate = count / statistics.median(spent[name])
            longest = statistics.median(stretches[name]) * 1e3
            print(f"  {name}: {rate:9,.0f} rows/s {against:4.2f}x, {sent[name]:,} sent, {longest:.1f} ms;", end="")
        print()


def timed(run: Callable[[], object]) -> float:
    """CPU seconds of one run, the collector kept out of it."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        run()
        return time.process_time() - begun
    finally:
        gc.enable()


def compare(label: str, path: Path, count: int, repeats: int, *, slow: bool) -> None:
    """One line of ratios; the contenders take turns, so that a busy machine slows all alike."""
    contenders: dict[str, Callable[[], object]] = {
        "limit": lambda: limit(path),
        "ours": lambda: ours(path),
        "ours, slices of 100": lambda: ours(path, 100),
    }
    if slow:
        contenders["naive"] = lambda: naive(path)
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            spent[name].append(timed(run))
    medians = {name: statistics.median(times) for name, times in spent.items()}
    print(f"\n{label}: {count:,} rows, {path.stat().st_size // count} bytes a row")
    for name, seconds in medians.items():
        against = statistics.median([a / b for a, b in zip(spent["limit"], spent[name], strict=True)])
        print(f"  {name:22} {count / seconds:10,.0f} rows/s   {against:5.2f}x limit", end="")
        print(f"   {medians['naive'] / seconds:5.1f}x naive" if slow else "")


def stalls(length: int) -> None:
    """CPU time of the longest and the median call of ``feed``, for slices and for whole batches."""
    given = list(rows(10_000, length=length))
    for size in (100, BATCH):
        chunker = Chunker(columns=COLUMNS, dialect=Dialect(), timezone=ZONE, now=NOW)
        calls = []
        for start in range(0, len(given), size):
            part = given[start : start + size]
            begun = time.thread_time()
            chunker.feed(part)
            calls.append((time.thread_time() - begun) * 1e3)
        calls.sort()
        print(
            f"  {length:5} characters, {size:3} rows a call: median {statistics.median(calls):.2f} ms, "
            f"99 % {calls[int(len(calls) * 0.99) - 1]:.2f} ms, longest {calls[-1]:.2f} ms"
        )


def single() -> None:
    """Cost of checking one lead of ``add_lead``."""
    for label, lead in (
        ("phone, name, priority", Lead("+919812345678", name="Asha Rao", priority=5)),
        ("and expiry, agent", Lead("+919812345678", name="Asha", priority=5, expiry="2026-12-31", agent_id="a1")),
    ):
        count = 20_000
        dialect = Dialect()
        seconds = timed(lambda: [check_lead(lead, dialect=dialect, timezone=ZONE, now=NOW) for _ in range(count)])  # noqa: B023
        print(f"  check_lead, {label}: {seconds / count * 1e6:.2f} us")


def high_water() -> int:
    """Most resident memory of this process so far, in kB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def peak(path: Path) -> None:
    """Print the peak over the imports, in kB; run in a process of its own."""
    before = high_water()
    ours(path, 100)
    print(high_water() - before)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak)
        return
    print(f"{platform.python_implementation()} {platform.python_version()}, msgspec {version('msgspec')}; medians")
    with tempfile.TemporaryDirectory() as folder:
        count = options.rows
        typical = write(Path(folder, "typical.csv"), count, length=150)
        compare("typical", typical, count, options.repeats, slow=True)
        dirty = write(Path(folder, "dirty.csv"), count // 2, length=150, bad=0.03)
        compare("typical, 3 % bad rows", dirty, count // 2, options.repeats, slow=False)
        dates = write(Path(folder, "dates.csv"), count // 2, length=150, days=100_000)
        compare("typical, every date its own", dates, count // 2, options.repeats, slow=False)
        longest = write(Path(folder, "longest.csv"), count // 20, length=1_955)
        compare("longest rows", longest, count // 20, options.repeats, slow=False)
        found = subprocess.run(
            [sys.executable, __file__, "--peak", str(typical)], capture_output=True, text=True, check=True
        )
        print(f"\npeak memory over the imports, {count:,} rows: {int(found.stdout) / 1024:.1f} MB")
    print("\nlongest stretch in the event loop")
    stalls(150)
    stalls(1_955)
    print("\ncleaning, rows in memory; longest stretch in the event loop (median of the runs)")
    cleaning(options.rows, options.repeats)
    print("\none lead")
    single()


if __name__ == "__main__":
    main()
