"""``ozonetel check``: what an upload would do with a file; nothing is sent, and no account is needed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from msgspec import to_builtins
from msgspec.structs import replace

from ...config import DEFAULT_TIMEZONE, Limits, RateLimit
from ...models import InvalidRow, counted
from ...rows.files import FileRows
from ...upload.check import CheckReport, check_leads
from ..arguments import (
    add_file_arguments,
    add_output_arguments,
    add_rejects_arguments,
    check_other_files,
    cleaning_of,
    open_rows,
    rate_limit,
    rejects_of,
)
from ..report import check_input, cleaned_facts, reason_line
from ..screen import Exit, Facts, OutputError, Screen, duration

__all__ = ["CHECK_KEYS", "add_arguments", "run"]

CHECK_KEYS: Final[Mapping[str, str]] = {
    "file": "its path",
    "notes": "what was taken for what in its header",
    "rows": "rows read",
    "rows_valid": "rows that would be sent",
    "rows_invalid": "rows that would not",
    "rows_repairable": "those of them that --clean would save",
    "invalid": "the reasons, the most frequent first: column, reason, rows, first_row, first_line, cell (the first "
    "one's, its digits masked), details (why the first is invalid)",
    "cleaned": "cells that cleaning would change, by column and kind",
    "columns": "columns that would be sent",
    "columns_left_out": "columns of the file that would not",
    "duplicates": "rows with a number that an earlier row has",
    "numbers_compared": "how many numbers were compared for that",
    "requests": "requests that it takes",
    "seconds": "the least time that they take",
    "warnings": "what looks wrong with the phone numbers as a whole",
    "stopped_by": "why the file could not be read to its end, or null",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel check``."""
    add_file_arguments(parser, sends=False)
    parser.add_argument("--schedule", action="store_true", help="check the file for schedule instead of upload")
    add_rejects_arguments(parser, sends=False)
    parser.add_argument("--timezone", default=DEFAULT_TIMEZONE, help="the platform's zone (default: %(default)s)")
    parser.add_argument(
        "--limit", type=rate_limit, metavar="N/SECONDS", help="requests in any so many seconds; default: the service's"
    )
    add_output_arguments(parser)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Check the file; the exit code."""
    clean, rejects = cleaning_of(args), rejects_of(args)
    rows = open_rows(args)
    inputs: dict[str, str | None] = {"input file": rows.path}
    check_other_files("--rejects", args.rejects, inputs)
    check_other_files("--changes", args.changes, {**inputs, "file of rejects": args.rejects})
    try:
        report = await check_leads(
            rows,
            clean=clean or False,
            rejects=rejects,
            changes=args.changes,
            schedule=args.schedule,
            timezone=args.timezone,
            limits=_limits(args.limit, schedule=args.schedule),
        )
    except OSError as error:
        raise OutputError(f"cannot write --rejects or --changes: {error.strerror or error}") from None
    check_input(report.stopped_by, sent=bool(report.rows))
    code = Exit.OK if 0 < report.rows == report.rows_valid and report.stopped_by is None else Exit.NOT_ALL
    screen.facts(f"Check of {args.file}", _facts(report, rows, args))
    for invalid in report.invalid:
        first = InvalidRow(invalid.first_row, invalid.column, invalid.details)
        screen.say(f"invalid: {reason_line(invalid.rows, first, invalid.reason, invalid.first_line, invalid.cell)}")
    for warning in report.warnings:
        screen.warn(f"warning: {warning}")
    values = {name: to_builtins(getattr(report, name)) for name in CHECK_KEYS if hasattr(report, name)}
    told = {
        "file": args.file,
        "notes": rows.notes,
        **values,
        "columns": rows.columns,
        "columns_left_out": rows.left_out,
    }
    screen.result({**told, "exit_code": int(code)})
    return code


def _limits(given: RateLimit | None, *, schedule: bool) -> Limits:
    if given is None:
        return Limits()
    return replace(Limits(), schedule=given) if schedule else replace(Limits(), bulk=given)


def _time(seconds: float) -> str:
    return f", the last of them after {duration(seconds)} at the earliest" if seconds else ""


def _facts(report: CheckReport, rows: FileRows, args: argparse.Namespace) -> Facts:
    saved = f"; {report.rows_repairable:,} of them would be sent with --clean" if report.rows_repairable else ""
    compared = "" if report.numbers_compared == report.rows_valid else f" (among the first {report.numbers_compared:,})"
    facts = [
        *[("header", note) for note in rows.notes],
        ("columns", ", ".join(rows.columns)),
        ("left out", ", ".join(rows.left_out) or "none"),
        ("rows", f"{report.rows:,}"),
        ("to be sent", f"{report.rows_valid:,}"),
        ("invalid", f"{report.rows_invalid:,} (would not be sent){saved}"),
        ("duplicates", f"{counted(report.duplicates, 'row')} with the number of an earlier row{compared}"),
        ("requests", f"{report.requests:,}{_time(report.seconds)}"),
        *cleaned_facts(report.cleaned),
    ]
    written = (("rejects", args.rejects), ("changes", args.changes))
    facts += [(f"file of {what}", path) for what, path in written if path is not None]
    if report.stopped_by is not None:
        facts.append(("not read to its end", report.stopped_by))
    return facts
