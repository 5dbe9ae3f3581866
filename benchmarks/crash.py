"""kill -9 at random moments: are rows lost or doubled?

Each run uploads rows with a journal to the simulator, through faults, in a process of its own that is killed at a
random moment, and again, until one gets to the end. Then the simulator's campaign, the journal and the last report
are held against each other.

    python benchmarks/crash.py --runs 200 --rows 20000 [--on-unknown resend] [--callbacks] [--tamper remove] [--clean]

With ``--callbacks`` this process takes in the service's callbacks meanwhile, early, late, doubled and in every shape,
and writes them to the journal that the killed one writes to. All of them in, the same upload is run once more: then
every batch that was applied must be settled as accepted, and what is left unknown must not have been applied.

With ``--tamper`` the files beside the journal are taken away after each kill (``remove``), cut to nothing (``empty``),
or left behind while the journal is copied elsewhere (``copy``). A journal that is refused then (``noticed``) ends its
run; nothing may have been doubled until then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

from aiohttp import web

from ozonetel_async import Cleaning, JournalError, Limits, OzonetelClient, RateLimit, RetryPolicy, Timeouts
from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.journal.folder import JournalFolder
from ozonetel_async.testing import Fault, Simulator

REFUSED = 3  # exit status of a worker whose journal was refused

WINDOW = 0.1
WIDTH = 5
MARGIN = 0.05
# What goes wrong beside the kills, with the share of bulk requests it strikes.
FAULTS = (
    (Fault.reset_after_apply(), 0.02),
    (Fault.reset_before_apply(), 0.02),
    (Fault.stall_after_apply(), 0.01),
    (Fault.status(502, apply=True), 0.02),
    (Fault.html(apply=True), 0.02),
    (Fault.truncated(apply=True), 0.02),
    (Fault.rate_refusal(), 0.03),
    (Fault.http_429(), 0.02),
)
CALLBACK_FAULTS = (
    (Fault.early_callback(), 0.1),
    (Fault.late_callback(1.0), 0.2),
    (Fault.duplicate_callback(3), 0.1),
)


def phone(row: int) -> str:
    return f"9{row:09d}"


def lead(row: int, clean: bool) -> dict[str, str]:
    number = phone(row)
    # As people have them; cleaned, they are the same numbers.
    spelled = (number, f"{number[:5]} {number[5:]}", f"'{number}", f"Mob: {number}", f"{number}.0")[row % 5]
    return {"PhoneNumber": spelled if clean else number, "Name": f"Lead {row}" + ("'s" if clean and row % 3 else "")}


async def work(
    url: str, campaign: str, rows: int, journal: str, on_unknown: str, callback_url: str | None, clean: bool
) -> None:
    """The process that gets killed."""
    limits = Limits(bulk=RateLimit(WIDTH, WINDOW), transit_margin=MARGIN)
    async with OzonetelClient(
        "sim-key", "sim-user", base_url=url, limits=limits, timeouts=Timeouts(3.0), retry=RetryPolicy(rate_attempts=50)
    ) as client:
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        try:
            report = await client.upload(
                campaign,
                (lead(row, clean) for row in range(rows)),
                clean=Cleaning() if clean else None,
                journal=journal,
                on_unknown="resend" if on_unknown == "resend" else "hold",
                check_duplicate=True if on_unknown == "resend" else None,
                callback_url=callback_url,
            )
        except JournalError as error:
            sys.stderr.write(error.message)
            sys.exit(REFUSED)
    counts = ("rows_read", "rows_accepted", "rows_invalid", "rows_refused", "rows_unknown", "stopped_by")
    sys.stdout.write(json.dumps({name: getattr(report, name) for name in counts}))


class Run:
    """One upload to its end, over as many lives as it takes."""

    def __init__(
        self,
        sim: Simulator,
        number: int,
        rows: int,
        on_unknown: str,
        tamper: str,
        folder: Path,
        rng: random.Random,
        callback_url: str | None,
        clean: bool,
    ) -> None:
        self.sim = sim
        self.clean = clean
        self.rows = rows
        self.on_unknown = on_unknown
        self.tamper = tamper
        self.name = f"run {number}"
        self.journal = folder / f"{number}.journal"
        self.rng = rng
        self.callback_url = callback_url
        self.kills = 0
        self.mid_commit = 0
        self.noticed = ""
        self.in_flight_at_kills = 0
        self.report: dict[str, object] = {}

    async def live(self, most_kills: int) -> None:
        self.sim.campaign(self.name, columns=("Name",))
        while not self.report and not self.noticed:
            await self._one_life(may_kill=self.kills < most_kills)
        await self.sim.settle()
        if self.callback_url is not None and not self.noticed:
            await self._one_life(may_kill=False)
            await self.sim.settle()

    async def _one_life(self, *, may_kill: bool) -> None:
        command = (sys.executable, __file__, "--worker", self.sim.base_url, self.name, str(self.journal))
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--rows", str(self.rows), "--on-unknown", self.on_unknown),
            *(() if self.callback_url is None else ("--callback-url", self.callback_url)),
            *(("--clean",) if self.clean else ()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        delay = self.rng.uniform(0.0, 1.4) if may_kill else 120.0
        assert process.stderr is not None
        await process.stderr.readline()  # on a busy machine, the time to start is longer than what is to be cut off
        killer = asyncio.get_running_loop().call_later(delay, process.send_signal, signal.SIGKILL)
        output, errors = await process.communicate()
        killer.cancel()
        if process.returncode == 0:
            self.report = json.loads(output)
        elif process.returncode == -signal.SIGKILL:
            self.kills += 1
            self.in_flight_at_kills += self._sent_and_unanswered()
            self._tamper()
        elif process.returncode == REFUSED and self.tamper:
            self.noticed = errors.decode()
        else:
            raise SystemExit(f"{self.name}: the worker failed: {errors.decode()[-2000:]}")

    def _sent_and_unanswered(self) -> int:
        """Batches under way at a kill. Looks at a copy: SQLite repairs what it opens."""
        companion = self.journal.with_name(f"{self.journal.name}-journal")
        with tempfile.TemporaryDirectory() as folder:
            for path in (self.journal, companion):
                if path.exists():
                    shutil.copy(path, folder)
            # SQLite's own sign of a copy that is still needed is that its header is there.
            self.mid_commit += companion.exists() and any(companion.read_bytes()[:28])
            with closing(sqlite3.connect(Path(folder) / self.journal.name)) as db:
                known = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'batches'").fetchone()[0]
                count = "SELECT count(*) FROM batches WHERE state = 'sent'"
                return int(db.execute(count).fetchone()[0]) if known else 0

    def _tamper(self) -> None:
        if self.tamper == "copy" and self.journal.exists():
            copied = self.journal.with_name(f"{self.journal.stem}-copied.journal")
            shutil.copy(self.journal, copied)
            self.journal.unlink()
            self.journal = copied
        for path in self.journal.parent.glob(f"{self.journal.name}-*"):
            if self.tamper == "remove":
                path.unlink()
            elif self.tamper == "empty":
                path.write_bytes(b"")

    def faults_found(self, faults: int) -> Counter[str]:
        """What went wrong in this run; ``faults`` answers were lost to scripted faults."""
        numbers = self.sim.campaigns[self.name].numbers
        doubled = sum(count > 1 for count in numbers.values())
        if self.noticed:
            return Counter(doubled=doubled, noticed=1, kills=self.kills, mid_commit=self.mid_commit)
        held: set[int] = set()
        accepted: list[int] = []
        unsettled = 0
        with closing(sqlite3.connect(self.journal)) as db:
            for first, last, state, settled in db.execute("SELECT first_row, last_row, state, settled FROM batches"):
                (held.update if state == "unknown" else accepted.extend)(range(first - 1, last))
                unsettled += state != "unknown" and not settled
        # What was half written, and not undone, may say "sent" of a batch that was about to be.
        tampered = self.mid_commit if self.tamper else 0
        counts = {name: int(str(self.report[f"rows_{name}"])) for name in ("read", "accepted", "refused", "unknown")}
        return Counter(
            lost=sum(numbers[phone(row)] == 0 for row in range(self.rows) if row not in held),
            doubled=doubled,
            strangers=sum(numbers.values()) - sum(numbers[phone(row)] for row in range(self.rows)),
            unknown=len(held),
            unsettled=unsettled if self.callback_url else 0,
            held_but_applied=sum(numbers[phone(row)] > 0 for row in held) if self.callback_url else 0,
            unexplained=max(0, len(held) - 500 * (self.in_flight_at_kills + faults + tampered)),
            unbalanced=(
                counts["read"] != self.rows
                or counts["read"] != counts["accepted"] + counts["refused"] + counts["unknown"]
                or counts["accepted"] != len(accepted)
                or counts["unknown"] != len(held)
                or self.report["stopped_by"] is not None
            ),
            kills=self.kills,
            mid_commit=self.mid_commit,
        )


@asynccontextmanager
async def receiver(folder: str) -> AsyncIterator[str]:
    """Takes in callbacks for the journals in ``folder``; gives their URL."""
    app = web.Application()
    app.router.add_route("*", "/ozonetel/{tail:.*}", CallbackReceiver(JournalFolder(folder)).aiohttp_handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/ozonetel"
    await runner.cleanup()


async def main(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    total: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(receiver(folder)) if options.callbacks else None
            sim = await stack.enter_async_context(
                Simulator(
                    api_key="sim-key",
                    username="sim-user",
                    window=WINDOW,
                    limits={"bulk": WIDTH},
                    seed=options.seed,
                    max_log=1000,
                    callback_shapes=("object", "string", "printed", "form", "bare"),
                    callback_retries=3,
                )
            )
            for fault, share in CALLBACK_FAULTS if options.callbacks else ():
                sim.inject("bulk", fault, times=None, probability=share)
            rules = [sim.inject("bulk", fault, times=None, probability=share) for fault, share in FAULTS]
            lossy = [rule for rule in rules if rule.fault.name not in ("rate_refusal", "http_429")]
            for number in range(options.runs):
                before = sum(rule.used for rule in lossy)
                run = Run(
                    sim, number, options.rows, options.on_unknown, options.tamper, Path(folder), rng, url, options.clean
                )
                await run.live(options.kills)
                total += run.faults_found(sum(rule.used for rule in lossy) - before)
                for path in Path(folder).glob(f"{number}*.journal*"):  # noqa: ASYNC240 - a benchmark's clean-up
                    path.unlink()
                del sim.campaigns[run.name]
                if (number + 1) % 20 == 0:
                    print(f"{number + 1:4} runs, {time.monotonic() - began:5.0f} s: {dict(total)}", flush=True)
    wrongs = ("lost", "doubled", "strangers", "unexplained", "unbalanced", "unsettled", "held_but_applied")
    bad = {name: total[name] for name in wrongs}
    if options.on_unknown == "resend":
        bad["unknown"] = total["unknown"]
    print(
        f"{options.runs} runs of {options.rows:,} rows, on_unknown={options.on_unknown}, {total['kills']} kills "
        f"({total['mid_commit']} within a commit), tamper={options.tamper or 'no'}, {total['noticed']} noticed, "
        f"{sum(rule.used for rule in rules)} faults: {bad}, rows ending unknown {total['unknown']:,}"
    )
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=3, help="most kills in one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on-unknown", choices=("hold", "resend"), default="hold")
    parser.add_argument("--tamper", choices=("remove", "empty", "copy"), default="", help="with the files after a kill")
    parser.add_argument("--callbacks", action="store_true", help="take in callbacks while the uploads run and die")
    parser.add_argument("--clean", action="store_true", help="rows that need cleaning, and an upload that cleans them")
    parser.add_argument("--callback-url", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=3, metavar=("URL", "CAMPAIGN", "JOURNAL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        where, which, journal_path = given.worker
        asyncio.run(work(where, which, given.rows, journal_path, given.on_unknown, given.callback_url, given.clean))
    else:
        sys.exit(asyncio.run(main(given)))
