"""``ozonetel demo``: a made-up, partly dirty file through the whole library, checked against the simulator's state."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, to_builtins

from ...client.client import OzonetelClient
from ...config import DEFAULT_TIMEZONE, Limits, RateLimit
from ...errors import ConfigurationError
from ...models import Lead, UploadReport, counted
from ...rows.csv_file import read_csv
from ..arguments import add_output_arguments, row_count, seconds
from ..progress import OnProgress, Watcher
from ..report import report_facts, report_values
from ..screen import Exit, Facts, Screen
from .demo_leads import CAMPAIGN_COLUMNS, RENAMES, LeadFile, phone_number, write_leads

if TYPE_CHECKING:
    from ...testing import Simulator

__all__ = ["DEMO_KEYS", "Check", "Run", "add_arguments", "checks", "run"]

DEMO_KEYS: Final = {"report": "as upload prints it", "checks": "statement, holds, figures"}

_CAMPAIGN: Final = "Diwali"
_REQUESTS: Final = 5
_LATENCY: Final = (0.02, 0.08)
# Single leads that go in beside the upload; their numbers come after all that the file may have.
_SINGLES: Final = 5
# The simulator's words for rows that it leaves out of a campaign after it has queued them.
_DUPLICATE: Final = "Number Already Exist"
_DO_NOT_DISTURB: Final = "PhoneNumber Added is a DND Number"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel demo``."""
    parser.add_argument(
        "--rows", type=row_count, default=40_000, help="rows in the file (default: 40000, half a minute)"
    )
    parser.add_argument(
        "--window",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help=f"window that holds {_REQUESTS} bulk requests (default: 2; the service's has 60)",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed makes another file (default: 1)")
    parser.add_argument("--keep", metavar="DIRECTORY", help="keep leads.csv and rejects.csv there")
    add_output_arguments(parser)


class Run(Struct):
    """What a demo has done.

    Attributes:
        file: what the file holds.
        report: the upload's report.
        rejected: row numbers in the rejects file.
        singles: numbers that were added one by one, without a plus.
        slowest_single: most seconds one of them took, its wait for a slot included.
    """

    file: LeadFile
    report: UploadReport
    rejected: list[int]
    singles: list[str]
    slowest_single: float


class Check(Struct, frozen=True):
    """A statement about a run, whether it holds, and the figures behind it."""

    statement: str
    holds: bool
    figures: str


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Run the demo; the exit code says whether every check held."""
    from ...testing import Simulator

    limit = RateLimit(_REQUESTS, args.window)
    simulator = Simulator(window=args.window, limits={"bulk": _REQUESTS}, latency=_LATENCY, seed=args.seed, max_log=100)
    with _directory(args.keep) as directory:
        async with simulator:
            simulator.campaign(_CAMPAIGN, columns=CAMPAIGN_COLUMNS)
            done = await _upload(args, screen, simulator, limit, directory)
            await simulator.settle(timeout=120.0)
    results = checks(done, simulator)
    good = all(check.holds for check in results)
    code = Exit.OK if good else Exit.NOT_ALL
    _show(screen, done, simulator, limit, results)
    if args.keep is not None:
        screen.say(f"kept: leads.csv and rejects.csv in {args.keep}")
    screen.say("Every row is accounted for." if good else "A check failed: rows were lost, doubled or miscounted.")
    screen.result({"report": report_values(done.report), "checks": to_builtins(results), "exit_code": int(code)})
    return code


@contextlib.contextmanager
def _directory(keep: str | None) -> Iterator[str]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ozonetel-demo-") as directory:
            yield directory
        return
    try:
        os.makedirs(keep, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--keep: cannot make the directory: {error.strerror or error}") from None
    yield keep


async def _upload(
    args: argparse.Namespace, screen: Screen, simulator: Simulator, limit: RateLimit, directory: str
) -> Run:
    leads, rejects = os.path.join(directory, "leads.csv"), os.path.join(directory, "rejects.csv")
    try:
        file = write_leads(leads, args.rows, args.seed, datetime.now(ZoneInfo(DEFAULT_TIMEZONE)).date())
    except OSError as error:
        raise ConfigurationError(f"cannot write {leads}: {error.strerror or error}") from None
    simulator.dnd.update(file.do_not_disturb)
    screen.say(
        f"{counted(args.rows, 'made-up row')}; {counted(limit.requests, 'request')} of 500 rows in any {limit.per:g} s"
    )
    client = OzonetelClient(
        simulator.api_key,
        simulator.username,
        base_url=simulator.base_url,
        dialer_url=simulator.dialer_url,
        timezone=DEFAULT_TIMEZONE,
        limits=Limits(bulk=limit, add=RateLimit(100, limit.per)),
    )

    async def upload(on_progress: OnProgress) -> UploadReport:
        return await client.upload(
            _CAMPAIGN, read_csv(leads, RENAMES), check_duplicate=True, on_progress=on_progress, rejects=rejects
        )

    singles = [f"91{phone_number(index, args.seed)}" for index in range(args.rows + 1, args.rows + 1 + _SINGLES)]
    async with client, _beside(_add_singles(client, singles, limit.per / 2)) as added:
        with screen.meter() as meter:
            watcher = Watcher(meter, client.queues["bulk"], limit, args.rows, exact=True)
            report = await watcher.watch(upload)
        slowest = await added
    return Run(file, report, _row_numbers(rejects), singles, slowest)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, float]) -> AsyncIterator[asyncio.Task[float]]:
    """Run ``work`` as a task that does not outlive the context; a task group would wrap the errors of the context."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _row_numbers(rejects: str) -> list[int]:
    with open(rejects, encoding="utf-8", newline="") as file:
        return [int(row["rejected_row"]) for row in csv.DictReader(file)]


async def _add_singles(client: OzonetelClient, phones: list[str], pause: float) -> float:
    """Add leads one by one, a pause before each; the most seconds one took."""
    clock = asyncio.get_running_loop().time
    slowest = 0.0
    for phone in phones:
        await asyncio.sleep(pause)
        started = clock()
        await client.add_lead(_CAMPAIGN, Lead(f"+{phone}", name="Walk in"), check_duplicate=True)
        slowest = max(slowest, clock() - started)
    return slowest


def checks(done: Run, simulator: Simulator) -> list[Check]:
    """Hold the report against the file that was written and against what the simulator has."""
    report, campaign = done.report, simulator.campaigns[_CAMPAIGN]
    reasons = _left_out(simulator)
    duplicates, disturb = reasons.pop(_DUPLICATE, 0), reasons.pop(_DO_NOT_DISTURB, 0)
    told = sum(
        getattr(report, f"rows_{outcome}") for outcome in ("accepted", "invalid", "refused", "not_sent", "unknown")
    )
    queued = simulator.rows_applied("bulk")
    stored = campaign.stored - len(done.singles)
    expected = (done.file.numbers - done.file.do_not_disturb).union(done.singles)
    lost = len(expected.difference(campaign.numbers))
    doubled = sum(count > 1 for count in campaign.numbers.values())
    strange = len(campaign.numbers.keys() - expected)
    worst, refused = simulator.worst_window("bulk"), simulator.refusals("bulk")
    return [
        Check(
            "every row has one outcome",
            done.file.rows == report.rows_read == told,
            f"{told:,} of {done.file.rows:,}",
        ),
        Check(
            "the rejected rows are the bad ones",
            done.rejected == list(done.file.flaws) and report.rows_invalid == len(done.rejected),
            f"{report.rows_invalid:,} of {len(done.file.flaws):,}",
        ),
        Check(
            "accepted rows arrived once",
            queued == report.rows_accepted,
            f"{queued:,} queued, {report.rows_accepted:,} reported",
        ),
        Check(
            "accepted = stored + duplicates + do not disturb",
            report.rows_accepted == stored + duplicates + disturb and not reasons,
            f"{report.rows_accepted:,} = {stored:,} + {duplicates:,} + {disturb:,}",
        ),
        Check(
            "every number is in the campaign once",
            not (lost or doubled or strange),
            f"{lost} lost, {doubled} doubled, {strange} that were not sent",
        ),
        Check(
            "no window above the limit",
            worst <= _REQUESTS and refused == 0,
            f"worst {worst} of {_REQUESTS}, {refused} refused",
        ),
    ]


def _left_out(simulator: Simulator) -> Counter[str]:
    """Rows that the simulator has queued but not stored, by its reason."""
    return Counter(reason for job in simulator.jobs.values() for reason in job.failed.values())


def _show(screen: Screen, done: Run, simulator: Simulator, limit: RateLimit, results: list[Check]) -> None:
    screen.facts("Upload", [*report_facts(done.report, limit), *_pace(done, simulator, limit)])
    kinds = Counter(done.file.flaws.values())
    screen.facts("Invalid rows by what is wrong with them", [(kind, f"{count:,}") for kind, count in kinds.items()])
    screen.facts(
        "Checks against the simulator",
        [(check.statement, f"{'holds' if check.holds else 'FAILS'}: {check.figures}") for check in results],
    )


def _pace(done: Run, simulator: Simulator, limit: RateLimit) -> Facts:
    """The judge's figures, and the time against the least that the limit allows."""
    round_trip = sum(_LATENCY)  # twice the mean each way
    floor = (len(done.report.batches) - 1) // limit.requests * (limit.per + round_trip)
    over = f", {100 * (done.report.elapsed / floor - 1):+.1f} %" if floor else ""
    judged = (
        f"{counted(simulator.arrivals(name), 'request')}, worst window {simulator.worst_window(name)} of "
        f"{simulator.windows[name].requests}, {simulator.refusals(name)} refused"
        for name in ("bulk", "add")
    )
    return [
        ("theoretical floor", f"{max(0.0, floor):.1f} s{over}"),
        *zip(("judged: bulk", "judged: add"), judged, strict=True),
        ("single leads", f"{len(done.singles)} added meanwhile, the slowest in {done.slowest_single:.2f} s"),
    ]
