"""The lead buffer: the wait of single leads beside ``add_lead``, and what kill -9 does to a buffer with a journal.

    python benchmarks/buffer.py load [--rate 50] [--tasks 200] [--seconds 60] [--window 6]
    python benchmarks/buffer.py kill [--runs 100] [--seed 0]

``load`` sends the same leads through ``buffer.add`` and through ``add_lead`` to a simulator whose windows are
``--window`` seconds long instead of 60, with the documented 5 and 100 requests in each. The wait counts from the moment
at which the lead was there, whether or not its task had time for it.

In ``kill``, a process puts leads into a buffer with a journal, through faults, and says of each when it is taken; it is
killed at a random moment, a few times, and then runs to its end. Each lead that it said was taken must be in the
campaign, once, or in a batch that the journal calls unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from ozonetel_async import Lead, Limits, OzonetelClient, RateLimit, Timeouts
from ozonetel_async.testing import Fault, Simulator

FAULTS = (
    (Fault.reset_after_apply(), 0.02),
    (Fault.reset_before_apply(), 0.02),
    (Fault.html(apply=True), 0.02),
    (Fault.rate_refusal(), 0.03),
)
WINDOW = 0.1
LIMITS = Limits(bulk=RateLimit(5, WINDOW), transit_margin=0.05)
# Leads of one life of the process; it is killed before it has put them all.
LEADS = 4_000
AT_A_TIME = 20


def phone(number: int) -> str:
    return f"9{number:09d}"


# --- the wait ---------------------------------------------------------------------------------------------------------


async def load(options: argparse.Namespace) -> int:
    bad = 0
    for way in ("buffer.add", "add_lead"):
        async with Simulator(window=options.window, latency=(0.01, 0.05)) as sim:
            limits = Limits(add=RateLimit(100, options.window), bulk=RateLimit(5, options.window), transit_margin=0.1)
            async with OzonetelClient(sim.api_key, sim.username, base_url=sim.base_url, limits=limits) as client:
                if way == "add_lead":
                    waits = await send(options, partial(client.add_lead, "Diwali"))
                else:
                    delay = 5.0 * options.window / 60.0
                    async with client.buffer("Diwali", max_delay=delay) as buffer:
                        waits = await send(options, buffer.add)
            await sim.settle()
            numbers = sim.campaigns["Diwali"].numbers
            lost = sum(numbers[phone(number)] == 0 for number in range(len(waits)))
            doubled = sum(count > 1 for count in numbers.values())
            refused = sim.refusals("add") + sim.refusals("bulk")
            bad += lost + doubled + refused
            requests = sim.arrivals("add") + sim.arrivals("bulk")
        waits.sort()
        print(
            f"{way:10}: {len(waits):,} leads, each with its own outcome, in {requests:,} requests: {lost} lost, "
            f"{doubled} doubled, {refused} refused for the rate; wait p50 {waits[len(waits) // 2]:.2f} s, "
            f"p99 {waits[len(waits) * 99 // 100]:.2f} s, longest {waits[-1]:.2f} s",
            flush=True,
        )
    return int(bad > 0)


async def send(options: argparse.Namespace, add: Callable[[Lead], Awaitable[object]]) -> list[float]:
    """Send the leads from so many tasks; the waits in seconds."""
    clock = asyncio.get_running_loop().time
    began = clock()
    waits: list[float] = []

    async def one(task: int) -> None:
        for number in range(task, round(options.rate * options.seconds), options.tasks):
            there = began + number / options.rate
            await asyncio.sleep(there - clock())
            await add(Lead(phone(number), name="Asha Rao"))  # an error would end the benchmark
            waits.append(clock() - there)

    async with asyncio.TaskGroup() as group:
        for task in range(options.tasks):
            group.create_task(one(task))
    return waits


# --- kill -9 ----------------------------------------------------------------------------------------------------------


async def work(url: str, campaign: str, journal: str, first: int, leads: int) -> None:
    """The process that gets killed."""
    logging.getLogger("ozonetel_async").setLevel(logging.ERROR)
    async with (
        OzonetelClient("sim-key", "sim-user", base_url=url, limits=LIMITS, timeouts=Timeouts(3.0)) as client,
        client.buffer(campaign, journal=journal, max_delay=0.05, max_rows=50, max_waiting=500) as buffer,
    ):
        print("open", flush=True)

        async def put(number: int) -> None:
            await buffer.put(Lead(phone(number)))
            print(number, flush=True)

        for start in range(first, first + leads, AT_A_TIME):
            await asyncio.gather(*(put(number) for number in range(start, start + AT_A_TIME)))


async def life(sim: Simulator, campaign: str, journal: Path, first: int, kill_after: float | None) -> list[int]:
    """One life of the process; the leads it has said are taken."""
    leads = LEADS if kill_after is not None else AT_A_TIME
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "work", sim.base_url, campaign, str(journal), str(first), str(leads)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    if kill_after is not None:
        asyncio.get_running_loop().call_later(kill_after, process.send_signal, signal.SIGKILL)
    said = await process.stdout.read()
    status = await process.wait()
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{campaign}: the worker ended with {status}")
    return [int(line) for line in said.split()]


async def kill(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    total: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with Simulator(
            api_key="sim-key", username="sim-user", window=WINDOW, latency=(0.0, 0.02), seed=options.seed, max_log=1000
        ) as sim:
            for fault, share in FAULTS:
                sim.inject("bulk", fault, times=None, probability=share)
            for run in range(options.runs):
                total += await one_run(sim, f"run{run}", Path(folder) / f"{run}.journal", rng)
                if (run + 1) % 10 == 0:
                    print(f"{run + 1:4} runs, {time.monotonic() - began:5.0f} s: {dict(total)}", flush=True)
    bad = {name: total[name] for name in ("lost", "doubled", "left", "unclear")}
    print(f"{options.runs} runs, {total['kills']} kills, {total['taken']:,} leads taken: {bad}; {dict(total)}")
    return int(any(bad.values()))


async def one_run(sim: Simulator, campaign: str, journal: Path, rng: random.Random) -> Counter[str]:
    """A few lives over one journal, the last of them to its end; what went wrong."""
    sim.campaign(campaign)
    taken: list[int] = []
    kills = rng.randint(1, 3)
    for number in range(kills):
        taken += await life(sim, campaign, journal, number * LEADS, rng.uniform(0.0, 0.8))
    taken += await life(sim, campaign, journal, kills * LEADS, None)
    await sim.settle()
    numbers = sim.campaigns.pop(campaign).numbers
    with closing(sqlite3.connect(journal)) as db:
        bodies = db.execute("SELECT body FROM batches JOIN bodies USING (id) WHERE state = 'unknown'").fetchall()
        states = Counter(state for (state,) in db.execute("SELECT state FROM batches"))
        (left,) = db.execute("SELECT count(*) FROM waiting").fetchone()
    unknown = b"".join(body for (body,) in bodies).decode()
    return Counter(
        kills=kills,
        taken=len(taken),
        lost=sum(numbers[phone(number)] == 0 and phone(number) not in unknown for number in taken),
        doubled=sum(count > 1 for count in numbers.values()),
        unknown=sum(numbers[phone(number)] == 0 and phone(number) in unknown for number in taken),
        unclear=states["pending"] + states["sent"],
        left=left,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_load = commands.add_parser("load")
    of_load.add_argument("--rate", type=float, default=50.0, help="leads a second")
    of_load.add_argument("--tasks", type=int, default=200)
    of_load.add_argument("--seconds", type=float, default=60.0)
    of_load.add_argument("--window", type=float, default=6.0)
    of_kill = commands.add_parser("kill")
    of_kill.add_argument("--runs", type=int, default=100)
    of_kill.add_argument("--seed", type=int, default=0)
    of_work = commands.add_parser("work")
    of_work.add_argument("details", nargs=5)
    given = parser.parse_args()
    if given.command == "work":
        where, which, path, begin, count = given.details
        asyncio.run(work(where, which, path, int(begin), int(count)))
    else:
        sys.exit(asyncio.run(load(given) if given.command == "load" else kill(given)))
