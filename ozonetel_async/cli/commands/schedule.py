"""``ozonetel schedule``: leads to be dialled at a set time, from a file."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import BinaryIO, Final

from ...client.client import OzonetelClient
from ...config import Cleaning
from ...errors import ConfigurationError, OzonetelError
from ...masking import redact
from ...models import CellCounts, InvalidRow, Row, ScheduleOutcome, ScheduleReport, ScheduleResult, counted
from ...rows.files import FileRows
from ...rows.rejects import Rejects, RejectsFile
from ...upload.check import check_leads
from ..arguments import (
    add_file_arguments,
    add_output_arguments,
    add_rejects_arguments,
    add_service_arguments,
    check_other_files,
    cleaning_of,
    open_rows,
    rejects_of,
)
from ..connection import connect, simulated
from ..progress import count_file_rows
from ..report import check_input, cleaned_facts
from ..screen import Exit, Meter, OutputError, Progress, ResultFile, Screen
from ..signals import stop_on_signals

__all__ = ["SCHEDULE_KEYS", "TakenRows", "add_arguments", "run"]

_INTERRUPTED: Final = "interrupted"
_STOPPING: Final = "interrupted: waiting for the rows that were read; once more to end now"
_NOT_SENT: Final = "not sent"
_SHOWN: Final = 5
_REFRESH: Final = 0.2
_OUTCOMES: Final[tuple[ScheduleOutcome, ...]] = ("accepted", "invalid", "refused", "not_sent", "unknown")

SCHEDULE_KEYS: Final[Mapping[str, str]] = {
    "campaign": "its name",
    "rows": "rows taken from the file",
    **dict.fromkeys(_OUTCOMES, "rows with this outcome"),
    "cleaned": "cells that were cleaned, by column and kind",
    "not_accepted": "the other rows: row, outcome, message",
    "error": "what ended it early or kept --out from being written, or null",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel schedule``."""
    add_file_arguments(parser)
    parser.add_argument("--check-duplicate", action="store_true", help="skip numbers that the service has already")
    parser.add_argument("--out", metavar="FILE", help='CSV with outcome and message of every row; "-" for stdout')
    add_rejects_arguments(parser)
    add_service_arguments(parser, "schedule")
    add_output_arguments(parser)


class TakenRows:
    """The rows, counted as they are taken, until ``stopped()`` is true.

    Attributes:
        rows: the file's.
        columns: of the rows.
        stopped: tells whether to end.
        count: rows taken so far.
        results: of them, as they came.
        cleaned: cells that were cleaned, by column and kind.
        error: what ended the rows before the file's end.
    """

    def __init__(self, rows: FileRows, stopped: Callable[[], bool] = bool) -> None:
        self.rows = rows
        self.stopped = stopped
        self.cleaned: CellCounts = {}
        self.columns: tuple[str, ...] = rows.columns
        self.count: int = 0
        self.results: list[ScheduleResult] = []
        self.error: str | None = None

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            if self.stopped():
                self.error = _INTERRUPTED
                return
            self.count += 1
            yield row

    def report(self) -> ScheduleReport:
        """A result for every row taken; those without one were not sent."""
        results = {row: ScheduleResult(row, "not_sent", _NOT_SENT) for row in range(1, self.count + 1)}
        results.update((result.row, result) for result in self.results)
        return ScheduleReport(tuple(results[row] for row in sorted(results)), cleaned=self.cleaned)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Schedule the leads of the file; the exit code."""
    clean, rejects = cleaning_of(args), rejects_of(args)
    rows = open_rows(args, screen)
    _check_files(args)
    if args.out == "-" and args.json:
        raise ConfigurationError("--json and --out -: only one of them can have stdout; name a file")
    with contextlib.ExitStack() as stack:
        out = None if args.out is None else stack.enter_context(screen.file(args.out))
        rejected = None if rejects is None else RejectsFile(rejects, rows, None)
        if args.changes is not None:
            await _write_changes(args, rows, clean)
        taken = TakenRows(rows)
        try:
            await _schedule(args, screen, taken, clean)
        finally:
            unsaved = None if rejects is None or rejected is None else _save_rejects(rejects, rejected, taken)
        unwritten = "; ".join(filter(None, (unsaved, None if out is None else _save(out, taken.report())))) or None
    _show(screen, args, taken.report(), complete=unwritten is not None)
    problems = [problem for problem in (taken.error, unwritten) if problem is not None]
    for problem in problems:
        screen.warn(problem)
    code = _code(taken, unwritten)
    values = _values(args.campaign, taken.report())
    screen.result({**values, "error": screen.worded("; ".join(problems)) or None, "exit_code": int(code)})
    return code


def _check_files(args: argparse.Namespace) -> None:
    inputs = {"input file": args.file}
    for option, path, what in (
        ("--out", args.out, "file of --out"),
        ("--rejects", args.rejects, "file of rejects"),
        ("--changes", args.changes, ""),
    ):
        check_other_files(option, path, inputs)
        inputs[what] = path


async def _write_changes(args: argparse.Namespace, rows: FileRows, clean: Cleaning | None) -> None:
    """Write what cleaning changes, in a run of its own before anything is sent."""
    try:
        await check_leads(rows, clean=clean or False, changes=args.changes, schedule=True, timezone=args.timezone)
    except OSError as error:
        raise OutputError(f"cannot write {args.changes}: {error.strerror or error}") from None


async def _schedule(args: argparse.Namespace, screen: Screen, taken: TakenRows, clean: Cleaning | None) -> None:
    """Schedule the rows; ``taken`` has the results that came."""
    async with simulated(args, args.campaign, taken.columns) as simulator, connect(args, simulator) as client:
        with stop_on_signals(lambda: screen.warn(_STOPPING)) as stop:
            taken.stopped = stop.is_set
            async with _shown(screen, taken, client, count_file_rows(taken.rows)):
                try:
                    report = await client.schedule_leads(
                        args.campaign,
                        taken,
                        check_duplicate=args.check_duplicate or None,
                        clean=clean or False,
                        on_result=taken.results.append,
                    )
                    taken.results, taken.cleaned = [*report.results], report.cleaned
                    check_input(report.stopped_by, sent=bool(taken.count))
                    taken.error = taken.error or report.stopped_by
                except asyncio.CancelledError:
                    # The second signal ends the work; what was answered by then is in the report.
                    taken.error = _INTERRUPTED
                except OzonetelError as error:
                    if all(result.outcome == "invalid" for result in taken.results):
                        raise
                    taken.error = str(error)


def _code(taken: TakenRows, unwritten: str | None) -> Exit:
    if taken.error is not None:
        return Exit.INTERRUPTED if taken.error == _INTERRUPTED else Exit.STOPPED
    accepted = all(result.outcome == "accepted" for result in taken.results)
    return Exit.OK if taken.results and accepted and unwritten is None else Exit.NOT_ALL


def _save(out: ResultFile, report: ScheduleReport) -> str | None:
    """Write the CSV; why it could not be written, if so. The rows have been sent, and their results must be seen."""
    try:
        with out.writing() as file:
            _write(file, report)
    except OutputError as error:
        return str(error)
    return None


def _save_rejects(rejects: Rejects, file: RejectsFile, taken: TakenRows) -> str | None:
    """Write the rejects; why they could not be written, if so."""
    outcomes = ("invalid", "refused", "not_sent") if rejects.refused else ("invalid",)
    try:
        try:
            for result in taken.report().results:
                if result.outcome in outcomes:
                    column, reason = "", result.message
                    if result.outcome == "invalid":
                        column, _, reason = result.message.partition(": ")
                    file.add(InvalidRow(result.row, column, reason), ())
        finally:
            file.close(taken.count, taken.error)
    except OSError as error:
        return f"cannot write {rejects.path}: {error.strerror or error}"
    return None


def _write(file: BinaryIO, report: ScheduleReport) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("row", "outcome", "message"))
        writer.writerows((result.row, result.outcome, result.message) for result in report.results)
    finally:
        text.detach()  # writes out what is buffered, and leaves the file open


def _show(screen: Screen, args: argparse.Namespace, report: ScheduleReport, *, complete: bool) -> None:
    """Show the counts, and some rows that were not accepted; with ``complete``, all of them."""
    if args.out == "-":
        return
    counts = [(outcome, f"{report.count(outcome):,}") for outcome in _OUTCOMES]
    screen.facts(
        f"Campaign {args.campaign}", [("rows", f"{len(report.results):,}"), *counts, *cleaned_facts(report.cleaned)]
    )
    others = _not_accepted(report)
    for other in others if complete else others[:_SHOWN]:
        screen.say(f"row {other['row']}: {other['outcome']}: {other['message']}")
    if len(others) > _SHOWN and not complete:
        where = f"all of them are in {args.out}" if args.out else "--out FILE writes all of them"
        screen.say(f"{counted(len(others) - _SHOWN, 'more row')} not accepted; {where}")


def _not_accepted(report: ScheduleReport) -> list[dict[str, object]]:
    # The service's texts may repeat the number.
    return [
        {"row": result.row, "outcome": result.outcome, "message": redact(result.message)}
        for result in report.results
        if result.outcome != "accepted"
    ]


def _values(campaign: str, report: ScheduleReport) -> dict[str, object]:
    counts: dict[str, object] = {outcome: report.count(outcome) for outcome in _OUTCOMES}
    more = {"cleaned": report.cleaned, "not_accepted": _not_accepted(report)}
    return {"campaign": campaign, "rows": len(report.results), **counts, **more}


@contextlib.asynccontextmanager
async def _shown(screen: Screen, taken: TakenRows, client: OzonetelClient, total: int | None) -> AsyncIterator[None]:
    """Show progress while the context is open."""
    with screen.meter() as meter:
        ticker = asyncio.create_task(_tick(meter, taken, client, total), name="progress")
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.wait([ticker])


async def _tick(meter: Meter, taken: TakenRows, client: OzonetelClient, total: int | None) -> None:
    while True:
        meter.show(
            Progress(
                done=taken.count,
                total=total,
                exact=False,
                states=(("taken", taken.count),),
                requests=0,
                next_free_in=client.queues["schedule"].next_free_in,
                seconds_left=None,
            )
        )
        await asyncio.sleep(_REFRESH)
