"""``ozonetel upload``: a file of leads into a campaign."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from msgspec import to_builtins

from .cli_output import Exit, Facts, Screen, duration
from .cli_watch import OnProgress, Watcher, count_rows
from .client import OzonetelClient
from .config import Limits, RateLimit
from .errors import ConfigurationError, OzonetelError
from .models import UploadReport
from .sources import CsvRows, read_csv

if TYPE_CHECKING:
    from .testing import Simulator

__all__ = ["add_arguments", "report_facts", "run"]

_SIMULATED_LIMIT: Final = RateLimit(5, 2.0)
# So many invalid rows and failed requests are shown; the others are in --rejects and --json.
_SHOWN: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel upload``."""
    parser.add_argument("file", help="CSV file with a header, UTF-8 unless --encoding says otherwise")
    parser.add_argument("-c", "--campaign", required=True, help="an outbound campaign")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_rename,
        metavar="HEADER=COLUMN",
        help='the service\'s column for a header, such as "Mobile=PhoneNumber"; "Remarks=" leaves one out; repeatable',
    )
    parser.add_argument("--encoding", default="utf-8-sig", help="the file's encoding, such as cp1252")
    parser.add_argument("--delimiter", help="one character; found from the header by default")
    parser.add_argument("--action", choices=("start", "stop"), help="start or stop the campaign as well")
    skip = parser.add_mutually_exclusive_group()
    skip.add_argument("--check-duplicate", action="store_true", help="skip numbers the campaign or the request has")
    skip.add_argument("--is-delete", action="store_true", help="skip numbers the campaign has")
    parser.add_argument("--callback-url", help="where the service reports what became of the rows")
    parser.add_argument("--rejects", metavar="FILE", help="CSV for the rows that were not sent, with their reasons")
    parser.add_argument(
        "--on-unknown",
        choices=("hold", "resend"),
        default="hold",
        help="what to do with requests without a trustworthy answer; resend needs --check-duplicate",
    )
    _add_service_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _add_service_arguments(parser: argparse.ArgumentParser) -> None:
    service = parser.add_argument_group("the service")
    service.add_argument("--simulate", action="store_true", help="upload to a simulator; needs no account")
    service.add_argument("--base-url", help="host of the API; default: OZONETEL_BASE_URL, else the domestic host")
    service.add_argument("--username", help="user name of the account; default: OZONETEL_USERNAME")
    service.add_argument(
        "--auth", choices=("basic", "token"), default="basic", help='as the account\'s setting "API Authentication"'
    )
    service.add_argument("--timezone", default="Asia/Kolkata", help="the platform's zone (default: %(default)s)")
    service.add_argument(
        "--limit",
        type=_rate_limit,
        metavar="N/SECONDS",
        help="bulk requests in any so many seconds (default: 5/60, as documented; 5/2 with --simulate)",
    )


def _rename(text: str) -> tuple[str, str | None]:
    header, equals, column = text.rpartition("=")
    if not equals or not header:
        raise argparse.ArgumentTypeError('must look like "Mobile=PhoneNumber", or "Remarks=" to leave a column out')
    return header, column or None


def _rate_limit(text: str) -> RateLimit:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,6})?)", text)
    if found is None:
        raise argparse.ArgumentTypeError("must look like 5/60: requests, a slash, seconds")
    try:
        return RateLimit(int(found.group(1)), float(found.group(2)))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Upload the file; the exit code."""
    rows = _open(args)
    if args.rejects is not None and _same_file(args.file, args.rejects):
        raise ConfigurationError("--rejects names the input file, which would be overwritten; name another one")
    limit = args.limit or (_SIMULATED_LIMIT if args.simulate else Limits().bulk)
    async with _connect(args, rows, limit) as (client, simulator):
        code, report, error = await _watched(args, screen, client, rows, limit)
        if report is not None:
            facts = [*report_facts(report, limit)]
            if simulator is not None and code != Exit.INTERRUPTED:
                await simulator.settle()
                facts.append(("in the simulator", f"{simulator.campaigns[args.campaign].stored:,} leads"))
            screen.facts(f"Campaign {report.campaign}", facts)
            _show_failures(screen, report, args.rejects)
            screen.result({**to_builtins(report), "error": error, "exit_code": int(code)})
    return code


def _open(args: argparse.Namespace) -> CsvRows:
    try:
        return read_csv(args.file, dict(args.column), encoding=args.encoding, delimiter=args.delimiter)
    except ConfigurationError as error:
        if "columns={" not in error.message:
            raise
        raise ConfigurationError(f"{error.message}; on the command line: --column HEADER=COLUMN") from None


async def _watched(
    args: argparse.Namespace, screen: Screen, client: OzonetelClient, rows: CsvRows, limit: RateLimit
) -> tuple[Exit, UploadReport | None, str | None]:
    """Upload under observation: the exit code, the report, and what ended the upload early."""

    async def upload(on_progress: OnProgress) -> UploadReport:
        return await client.upload(
            args.campaign,
            rows,
            action=args.action,
            check_duplicate=args.check_duplicate or None,
            is_delete=args.is_delete or None,
            callback_url=args.callback_url,
            on_progress=on_progress,
            on_unknown=args.on_unknown,
            rejects=args.rejects,
        )

    with screen.meter() as meter:
        watcher = Watcher(meter, client.queues["bulk"], limit, count_rows(args.file))
        try:
            report = await watcher.watch(upload)
        except asyncio.CancelledError:
            ended, code = "interrupted; rows that were not sent count as refused", Exit.INTERRUPTED
        except OzonetelError as error:
            if watcher.report is None or not watcher.report.requests:
                raise
            ended, code = str(error), Exit.STOPPED
        else:
            return _verdict(report), report, report.stopped_by
    screen.complain(ended)
    return code, watcher.report, ended


def _verdict(report: UploadReport) -> Exit:
    if report.stopped_by is not None:
        return Exit.STOPPED
    return Exit.OK if report.rows_accepted == report.rows_read else Exit.NOT_ALL


@contextlib.asynccontextmanager
async def _connect(
    args: argparse.Namespace, rows: CsvRows, limit: RateLimit
) -> AsyncIterator[tuple[OzonetelClient, Simulator | None]]:
    """The client, and the simulator it talks to if there is one."""
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(_simulator(args, rows, limit)) if args.simulate else None
        client = OzonetelClient(
            api_key=simulator.api_key if simulator else None,
            username=simulator.username if simulator else args.username,
            base_url=simulator.base_url if simulator else args.base_url,
            dialer_url=simulator.dialer_url if simulator else None,
            auth=args.auth,
            timezone=args.timezone,
            limits=Limits(bulk=limit),
        )
        yield await stack.enter_async_context(client), simulator


def _simulator(args: argparse.Namespace, rows: CsvRows, limit: RateLimit) -> Simulator:
    # Imported here, so that an upload to the service loads no web server.
    from .testing import Simulator

    simulator = Simulator(
        window=limit.per,
        limits={"bulk": limit.requests},
        auth_mode="TOKEN_AUTH" if args.auth == "token" else "BASIC_AUTH",
        max_log=100,
    )
    simulator.campaign(args.campaign, columns=rows.columns)
    return simulator


def _same_file(one: str, other: str) -> bool:
    return os.path.exists(other) and os.path.exists(one) and os.path.samefile(one, other)


def report_facts(report: UploadReport, limit: RateLimit) -> Facts:
    """A report as labels and values."""
    window = f"at most {report.worst_window} in any {limit.per:g} s, limit {limit.requests}"
    facts = [
        ("rows read", f"{report.rows_read:,}"),
        ("accepted", f"{report.rows_accepted:,} (queued by the service)"),
        ("invalid", f"{report.rows_invalid:,} (not sent)"),
        ("refused", f"{report.rows_refused:,} (not applied, or not sent)"),
        ("unknown", f"{report.rows_unknown:,} (sent without a trustworthy answer)"),
        ("requests", f"{report.requests:,}, {window}"),
        ("time", duration(report.elapsed) if report.elapsed >= 60 else f"{report.elapsed:.1f} s"),
    ]
    if report.stopped_by is not None:
        facts.append(("stopped early by", report.stopped_by))
    return facts


def _show_failures(screen: Screen, report: UploadReport, rejects: str | None) -> None:
    for invalid in report.invalid_sample[:_SHOWN]:
        screen.say(f"row {invalid.row}: {invalid.field}: {invalid.reason}")
    if report.rows_invalid > _SHOWN:
        where = f"all of them are in {rejects}" if rejects else "--rejects FILE writes all of them"
        screen.say(f"{report.rows_invalid - _SHOWN:,} more invalid rows; {where}")
    failed = [batch for batch in report.batches if batch.outcome != "accepted"]
    for batch in failed[:_SHOWN]:
        screen.say(f"rows {batch.first_row} to {batch.last_row}: {batch.outcome.replace('_', ' ')}: {batch.error}")
    if len(failed) > _SHOWN:
        screen.say(f"{len(failed) - _SHOWN:,} more requests failed; --json lists all of them")
