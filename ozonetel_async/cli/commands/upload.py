"""``ozonetel upload``: a file of leads into a campaign; and what ``resume`` has in common with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from ...callbacks.receiver import CallbackReceiver
from ...client.client import OzonetelClient
from ...config import DEFAULT_TIMEZONE, Cleaning, RateLimit, RetryPolicy, Timeouts
from ...errors import ConfigurationError, JournalError, OzonetelError
from ...journal.journal import Journal
from ...models import UploadReport, counted
from ...protocol.params import Action
from ...rows.changes import LineNumbers
from ...rows.files import FileRows
from ...rows.rejects import Rejects
from ..arguments import (
    Address,
    add_file_arguments,
    add_link_arguments,
    add_output_arguments,
    add_rejects_arguments,
    add_service_arguments,
    address,
    check_other_files,
    cleaning_of,
    limit_of,
    open_rows,
    rejects_of,
    seconds,
)
from ..connection import connect, link_policy, simulated
from ..listen import JournalSink, listening
from ..progress import OnProgress, Watcher, count_file_rows
from ..report import REPORT_KEYS, check_input, report_facts, report_values, show_failures, show_invalid
from ..screen import Exit, Screen
from ..signals import stop_on_signals

__all__ = [
    "JOB_KEYS",
    "UploadJob",
    "add_arguments",
    "add_job_arguments",
    "perform",
    "resume_command",
    "run",
]

_ANYWHERE: Final = Address("127.0.0.1", 0)
_SIMULATED_CALLBACK_SECONDS: Final = 10.0
_CALLBACK_SECONDS: Final = 600.0

JOB_KEYS: Final[Mapping[str, str]] = {
    **REPORT_KEYS,
    "error": "what ended the upload, or the wait for its callbacks, early; or null",
    "resume": "the command that continues, when there is an error and a journal; else null",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel upload``."""
    add_file_arguments(parser)
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="keep a durable record there: after a crash, the same command or resume continues the upload",
    )
    parser.add_argument("--action", choices=("start", "stop"), help="start or stop the campaign as well")
    skip = parser.add_mutually_exclusive_group()
    skip.add_argument("--check-duplicate", action="store_true", help="skip numbers the campaign or the request has")
    skip.add_argument("--is-delete", action="store_true", help="skip numbers the campaign has")
    add_job_arguments(parser)
    add_service_arguments(parser, "bulk")
    add_output_arguments(parser)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Upload the file; the exit code."""
    job = UploadJob(
        campaign=args.campaign,
        clean=cleaning_of(args),
        rows=open_rows(args, screen),
        action=args.action,
        check_duplicate=args.check_duplicate,
        is_delete=args.is_delete,
        journal=args.journal,
        callback_url=args.callback_url,
        resume=resume_command(args),
    )
    return await perform(job, args, screen)


class UploadJob(Struct, frozen=True, kw_only=True):
    """What to upload, from a command's arguments or from a journal.

    Attributes:
        resume: the command that continues the upload, if it has a journal.
        port: where the simulator listens.
        listen: where to take callbacks in.
        callback_seconds: seconds to wait for them after the last answer; None does not wait.
        clean: what is repaired in rows; None changes nothing.
    """

    campaign: str
    rows: FileRows
    columns: tuple[str, ...] | None = None
    action: Action | None = None
    check_duplicate: bool = False
    is_delete: bool = False
    journal: str | None = None
    callback_url: str | None = None
    resume: str | None = None
    port: int = 0
    listen: Address | None = None
    callback_seconds: float | None = None
    clean: Cleaning | None = None


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what uploads and resumed uploads have in common."""
    parser.add_argument(
        "--callback-url",
        help="where the service reports what became of the rows; with a journal, each batch gets one below it",
    )
    parser.add_argument(
        "--callback-timeout",
        type=seconds,
        metavar="SECONDS",
        help="wait so long for callbacks after the last answer, then fetch the lists of failed rows; "
        f"default: no wait, or {_CALLBACK_SECONDS:g} with --listen",
    )
    parser.add_argument(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        help="receive the callbacks here, --callback-url being the public URL that leads here; "
        'without it, "ozonetel receive" does',
    )
    add_rejects_arguments(parser)
    parser.add_argument(
        "--on-unknown",
        choices=("hold", "resend"),
        default="hold",
        help="what to do with requests without a trustworthy answer; resend needs --check-duplicate",
    )
    parser.add_argument(
        "--outage",
        type=seconds,
        default=RetryPolicy().outage,
        metavar="SECONDS",
        help="once the service has answered, keep trying so long to reach it again (default: %(default)g)",
    )
    add_link_arguments(parser)


async def perform(job: UploadJob, args: argparse.Namespace, screen: Screen) -> int:
    """Upload; the exit code."""
    job = _completed(job, args)
    rejects = rejects_of(args)
    inputs = {"input file": job.rows.path, "journal": job.journal}
    check_other_files("--rejects", args.rejects, inputs)
    check_other_files("--changes", args.changes, {**inputs, "file of rejects": args.rejects})
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulated(args, job.campaign, job.rows.columns, job.port))
        job = await stack.enter_async_context(_receiving(job, args))
        client = await stack.enter_async_context(connect(args, simulator, link_policy(args)))
        run = _Run(job, args, screen, client, rejects)
        code = await run.run()
        facts = [*report_facts(run.report, limit_of(args))]
        if simulator is not None and code != Exit.INTERRUPTED:
            await simulator.settle()
            facts.append(("in the simulator", counted(simulator.campaigns[job.campaign].stored, "lead")))
    resume = job.resume if code in (Exit.INTERRUPTED, Exit.STOPPED) else None
    screen.facts(f"Campaign {run.report.campaign}", facts)
    with contextlib.closing(LineNumbers(job.rows)) as lines:
        show_invalid(screen, run.report, lines.of, args.rejects)
    show_failures(screen, run.report)
    if resume is not None:
        screen.say(f"to continue: {resume}")
    screen.result(
        {
            **report_values(run.report),
            "error": run.error and screen.worded(run.error),
            "resume": resume,
            "exit_code": int(code),
        }
    )
    return code


def _completed(job: UploadJob, args: argparse.Namespace) -> UploadJob:
    """Check the callback options together; by default a simulator calls back to this process."""
    listen, callback_seconds = args.listen, args.callback_timeout
    if args.simulate and job.journal is not None and job.callback_url is None:
        listen = listen or _ANYWHERE
    if listen is not None and callback_seconds is None:
        callback_seconds = _SIMULATED_CALLBACK_SECONDS if args.simulate else _CALLBACK_SECONDS
    if callback_seconds is None:
        return job
    if job.journal is None:
        raise ConfigurationError("--callback-timeout and --listen need --journal: callbacks settle journaled batches")
    if job.callback_url is None and not args.simulate:
        raise ConfigurationError("--callback-timeout and --listen need --callback-url, which the service is to call")
    return replace(job, listen=listen, callback_seconds=callback_seconds)


@contextlib.asynccontextmanager
async def _receiving(job: UploadJob, args: argparse.Namespace) -> AsyncIterator[UploadJob]:
    """Take callbacks in, if asked to; a simulator can call the local address."""
    if job.listen is None or job.journal is None:
        yield job
        return
    sink = JournalSink(job.journal)
    async with (
        contextlib.aclosing(sink),
        listening(job.listen, CallbackReceiver(sink, timezone=args.timezone)) as local,
    ):
        yield replace(job, callback_url=job.callback_url or local)


class _Run:
    """One upload under observation: afterwards the report, and what ended it early."""

    def __init__(
        self,
        job: UploadJob,
        args: argparse.Namespace,
        screen: Screen,
        client: OzonetelClient,
        rejects: Rejects | None,
    ) -> None:
        self.report = UploadReport(campaign=job.campaign)
        self.error: str | None = None
        self._job = job
        self._args = args
        self._screen = screen
        self._client = client
        self._rejects = rejects
        self._stop = asyncio.Event()
        self._warned = 0

    async def run(self) -> Exit:
        earlier = await _earlier(self._job, self._args.on_unknown)
        limit, total = limit_of(self._args), count_file_rows(self._job.rows)
        with self._screen.meter() as meter, stop_on_signals(self._tell_stop) as self._stop:
            watcher = Watcher(meter, self._client.queues["bulk"], limit, total, earlier=earlier)
            try:
                self.report = await watcher.watch(self._upload)
                check_input(self.report.stopped_by, sent=bool(self.report.requests))
            except asyncio.CancelledError:
                self.report = watcher.report or self.report
                return self._interrupted()
            except OzonetelError as error:
                if watcher.report is None or not watcher.report.requests:
                    raise
                self.report, self.error = watcher.report, str(error)
                self._screen.warn(self.error)
                return Exit.STOPPED
        return self._exit_code()

    def _tell_stop(self) -> None:
        self._screen.warn("interrupted: waiting for requests under way; once more to end now")

    async def _upload(self, on_progress: OnProgress) -> UploadReport:
        job = self._job

        def note(report: UploadReport) -> None:
            for warning in report.warnings[self._warned :]:
                self._screen.warn(f"warning: {warning}")
            self._warned = len(report.warnings)
            on_progress(report)

        return await self._client.upload(
            job.campaign,
            job.rows,
            columns=job.columns,
            action=job.action,
            check_duplicate=job.check_duplicate or None,
            is_delete=job.is_delete or None,
            callback_url=job.callback_url,
            journal=job.journal,
            callback_timeout=job.callback_seconds,
            on_progress=note,
            on_unknown=self._args.on_unknown,
            rejects=self._rejects,
            clean=job.clean or False,
            changes=self._args.changes,
            stop=self._stop,
        )

    def _interrupted(self) -> Exit:
        self.error = "interrupted"
        self._screen.warn(self.error)
        return Exit.INTERRUPTED

    def _exit_code(self) -> Exit:
        report = self.report
        waited = self._job.callback_seconds is not None
        if self._stop.is_set() and (report.stopped_by or (waited and report.batches_overdue)):
            return self._interrupted()
        self.error = report.stopped_by
        if report.stopped_by is not None:
            self._screen.warn(report.stopped_by)
            return Exit.STOPPED
        if waited and report.batches_overdue:
            self.error = f"{report.batches_overdue:,} awaited callbacks did not come"
            self._screen.warn(self.error)
            return Exit.STOPPED
        added = not (waited and (report.rows_not_added or report.rows_unreported))
        # A file with nothing but a header is a mistake somewhere upstream.
        complete = 0 < report.rows_read == report.rows_accepted
        return Exit.OK if complete and added else Exit.NOT_ALL


async def _earlier(job: UploadJob, on_unknown: Literal["hold", "resend"]) -> UploadReport:
    """What earlier runs have done, so that progress and the time left are right before the input is compared."""
    report = UploadReport(campaign=job.campaign)
    if job.journal is None:
        return report
    try:
        journal = await Journal.attach(job.journal)
    except JournalError:
        return report  # there is none yet, or the upload itself will say what is wrong with it
    try:
        entries = await journal.batches()
    finally:
        await journal.close()
    for entry in entries:
        if entry.state == "accepted":
            report.rows_accepted += entry.rows
        elif entry.state in ("sent", "unknown") and on_unknown == "hold":
            report.rows_unknown += entry.rows
        else:
            continue
        report.rows_read += entry.read
        report.rows_invalid += entry.read - entry.rows
    return report


# Options that a journal does not hold, with what they are when left out.
_KEPT: Final[Mapping[str, object]] = {
    "callback_timeout": None,
    "listen": None,
    "rejects": None,
    "rejects_refused": False,
    "rejects_bom": False,
    "rejects_escape": False,
    "changes": None,
    "on_unknown": "hold",
    "simulate": False,
    "base_url": None,
    "username": None,
    "auth": "basic",
    "timezone": DEFAULT_TIMEZONE,
    "limit": None,
    "timeout": Timeouts().total,
    "outage": RetryPolicy().outage,
    "proxy": None,
    "ca_file": None,
}


def resume_command(args: argparse.Namespace, changed: Iterable[str] = ()) -> str | None:
    """The command that continues an upload; None without a journal.

    Args:
        args: of the command that began or resumed it.
        changed: options by which it differs from what the journal says.
    """
    if args.journal is None:
        return None
    words = ["ozonetel", "resume", args.journal, *changed]
    for name, default in _KEPT.items():
        value = getattr(args, name)
        if value != default:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [_text(value)])]
    for host in args.link_host:
        words += ["--link-host", host]
    return shlex.join(words)


def _text(value: object) -> str:
    if isinstance(value, RateLimit):
        return f"{value.requests}/{value.per:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)
