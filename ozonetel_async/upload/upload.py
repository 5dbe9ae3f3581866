"""A large set of leads through the bulk endpoint: pulled, checked, cut, sent, and every row accounted for."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from inspect import iscoroutine, iscoroutinefunction
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from ..callbacks.url_tokens import check_base
from ..config import MOST_SECONDS, RetryPolicy, told
from ..errors import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    ConnectError,
    InputError,
    JournalError,
    Outcome,
    OutcomeUnknownError,
    OzonetelError,
    QueueFullError,
)
from ..models import BatchResult, InvalidRow, Row, UploadReport
from ..protocol.replies import Reply, batch_receipt
from ..protocol.requests import Params
from ..rows.batches import Batch, ChunkerMaker
from ..rows.intake import Rows, RowSource
from ..rows.layout import Change
from ..rows.output_files import is_same_file
from ..rows.reasons import count_reason
from ..rows.rejects import Rejects, RejectsFile
from ..sending.dispatcher import STOPS_THE_UPLOAD, ApiRequest, Dispatcher, check_queue_options

if TYPE_CHECKING:
    from ..rows.changes import ChangesFile
    from .journaling import UploadJournal

__all__ = ["OnUnknown", "Upload", "UploadOptions"]

OnUnknown: TypeAlias = Literal["hold", "resend"]
BatchOutcome: TypeAlias = Literal["accepted", "refused", "not_sent", "unknown"]

_log = logging.getLogger("ozonetel_async")

_INVALID_SAMPLE = 20
# Attempts at one batch under on_unknown="resend" before it is reported as unknown.
_RESENDS = 5
# So many unknown outcomes in a row mean that the service is down, not that an answer got lost: every further batch
# would only add rows of unknown outcome.
_UNKNOWN_STREAK = 10
# HTTP 403 without a documented text: one batch that a firewall dislikes, or, so many times in a row, all of them.
_FORBIDDEN_STREAK = 3
# Seconds after which a full queue is looked at again, at the least.
_FULL_QUEUE_PAUSE = 0.05


class UploadOptions(Struct, frozen=True, kw_only=True):
    """How to upload; ``OzonetelClient.upload`` explains each."""

    on_unknown: OnUnknown = "hold"
    queue_priority: int = -1
    concurrency: int | None = None
    on_progress: Callable[[UploadReport], object] | None = None
    rejects: str | PathLike[str] | Rejects | None = None
    changes: str | PathLike[str] | None = None
    journal: str | PathLike[str] | None = None
    callback_url: str | None = None
    callback_timeout: float | None = None
    stop: asyncio.Event | None = None

    def check(self, *, check_duplicate: bool) -> None:
        """Raise ``ConfigurationError`` when the options do not fit together."""
        if self.on_unknown not in ("hold", "resend"):
            raise ConfigurationError(f"on_unknown must be 'hold' or 'resend', got {self.on_unknown!r}")
        if self.on_unknown == "resend" and not check_duplicate:
            raise ConfigurationError("on_unknown='resend' needs check_duplicate=True, or people would be called twice")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigurationError(f"concurrency: expected at least 1, got {self.concurrency}")
        if iscoroutinefunction(self.on_progress):
            raise ConfigurationError("on_progress: expected a plain function, got a coroutine function, never awaited")
        rejects = self.rejects.path if isinstance(self.rejects, Rejects) else self.rejects
        if rejects is not None and self.changes is not None and is_same_file(rejects, self.changes):
            raise ConfigurationError("changes: expected another file than rejects, got the same one")
        check_queue_options(self.queue_priority, None)
        if self.journal is not None and self.callback_url is not None:
            check_base(self.callback_url)
        patience = self.callback_timeout
        if patience is None:
            return
        if self.journal is None or self.callback_url is None:
            raise ConfigurationError(
                "callback_timeout needs journal and callback_url: callbacks settle journaled batches"
            )
        if not 0 <= patience <= MOST_SECONDS:
            raise ConfigurationError(f"callback_timeout: expected zero or more seconds, got {told(patience)}")


class Upload:
    """One upload, from the first row to the report.

    Args:
        rows: leads, mappings or sequences; sync or async iterable.
        make_chunker: given the receiver of invalid rows, makes the chunker.
        params: the bulk endpoint's parameters that all batches share.
        retry: how long to wait for a service that cannot be reached.
        journal: the upload's side of its journal, when it has one.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        campaign: str,
        rows: Rows,
        make_chunker: ChunkerMaker,
        params: Params,
        options: UploadOptions,
        retry: RetryPolicy,
        journal: UploadJournal | None = None,
    ) -> None:
        self.report: UploadReport = UploadReport(campaign=campaign)
        self._dispatcher = dispatcher
        self._campaign = campaign
        self._params = params
        self._queue = dispatcher.queues["bulk"]
        # No more than may wait: an upload must not turn itself away.
        self._width = min(options.concurrency or self._queue.limit.requests, self._queue.max_waiting)
        self._priority = options.queue_priority
        self._attempts = _RESENDS if options.on_unknown == "resend" else 1
        self._on_progress = options.on_progress
        self._chunker = make_chunker(self._note_invalid, on_change=self._note_change)
        self._intake = RowSource(rows, named=self._chunker.columns is None)
        self.report.cleaned = self._chunker.cleaned
        self._changes = None if options.changes is None else _changes_file(options.changes, rows)
        try:
            columns = self._chunker.columns
            self._rejects = None if options.rejects is None else RejectsFile(options.rejects, rows, columns)
        except ConfigurationError:
            self._end_changes()
            raise
        self._fresh: deque[Batch] = deque()  # cut, and not yet compared with the journal or written into it
        self._ready: deque[Batch] = deque()
        # A task has no call before its first turn: cancelled until then, it would end without a word of its batch.
        self._calls: dict[asyncio.Task[None], ApiRequest | None] = {}
        self._abandoned = False
        self._journal = journal
        self._stop_event = options.stop
        self._in_doubt: set[int] = set()  # batches of unknown fate from an earlier run
        self._unknown_streak = 0
        self._forbidden_streak = 0
        self._retry = retry
        self._reached = False  # whether the service has ever answered this upload
        self._outage_began: float | None = None
        self._refused_by: str | None = None
        self._started = asyncio.get_running_loop().time()

    async def run(self) -> UploadReport:
        """Upload all rows and return the report.

        An exception of the input itself is raised after everything taken from it was sent, cancellation at once;
        both carry the report's text as a note.
        """
        failure: BaseException | None
        watcher = None if self._stop_event is None else asyncio.create_task(self._watch(self._stop_event))
        try:
            if self._stop_event is not None and self._stop_event.is_set():
                self._refuse("asked to stop")  # before a row is taken
            self._progress()
            await self._consume()
            # A file that breaks off is told in the report, like every other early end.
            failure = None if isinstance(self._intake.failure, InputError) else self._intake.failure
        except BaseException as error:  # cancellation, or the caller's on_progress
            failure = error
            await self._abandon("cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__)
        finally:
            if watcher is not None:
                watcher.cancel()
            await self._intake.close()
            self._end_rejects()
            self._end_changes()
        self.report.batches.sort(key=lambda batch: batch.index)
        self.report.waiting_for = None
        self._progress()
        if failure is not None:
            failure.add_note(f"upload so far: {self.report}")
            raise failure
        return self.report

    async def _consume(self) -> None:
        """Take all rows, send the batches they fill, and wait for the last answer."""
        while not self.report.stopped_by and (rows := await self._intake.take(self._chunker.stride)):
            batches = self._chunker.feed(rows)
            if self._changes is not None:
                self._changes.advance(self._chunker.rows_taken)
            await self._admit(batches)
        await self._intake.halt()
        await self._admit(self._chunker.feed(self._intake.rest()))
        if isinstance(self._intake.failure, InputError):
            self._stop(_text(self._intake.failure))
        elif self._intake.failure is not None:
            self._stop(f"{type(self._intake.failure).__name__} in the input")
        await self._admit(self._chunker.flush())
        if self._journal is not None:
            if not self.report.stopped_by:
                self._journal.check_complete()
            self._continue_from(self._journal)
        await self._start_ready()
        while self._calls:
            await self._reap()
        self._count_tail()

    async def _admit(self, batches: list[Batch]) -> None:
        """Start new batches; with a journal, an earlier run's first, once the input has proved to be the same."""
        self._fresh.extend(batches)
        while self._fresh:
            batch = self._fresh[0]
            if self._journal is None:
                self._ready.append(batch)
            elif self.report.stopped_by:
                # Not journaled: the rest of an input that ended early would be cut otherwise by the next run.
                self._fresh.popleft()
                self._settle_unsent(batch)
                continue
            elif self._journal.replaying:
                self._journal.compare(batch)
            else:
                self._continue_from(self._journal)
                self._ready.append(batch)
            self._fresh.popleft()
        await self._start_ready()

    def _continue_from(self, journal: UploadJournal) -> None:
        """Count what an earlier run has settled, and make ready what it left to do."""
        while journal.matched:
            entry = journal.matched.popleft()
            batch = Batch(
                entry.index, entry.first_row, entry.last_row, entry.rows, entry.read, entry.read - entry.rows, b""
            )
            if entry.state == "accepted":
                self._settle(batch, "accepted", transaction_id=entry.transaction_id)
            elif entry.state == "unknown" and self._attempts == 1:
                self._settle(batch, "unknown", error=entry.error)
            else:
                self._in_doubt.update([entry.index] if entry.state == "unknown" else [])
                self._ready.append(batch)

    async def _start_ready(self) -> None:
        """Start the batches that are ready, each when there is room for it."""
        while self._ready:
            while len(self._calls) >= self._width:
                await self._reap()
            batch = self._ready.popleft()
            if self._refused_by is None:
                self._calls[asyncio.create_task(self._send(batch))] = None
            else:
                self._settle_unsent(batch)

    async def _reap(self) -> None:
        """Wait until a batch's fate is known."""
        done, _ = await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._calls[task]
            if not task.cancelled():
                task.result()

    async def _watch(self, stop: asyncio.Event) -> None:
        """End the upload when asked to: what is on the wire is finished, what waits for its turn is taken back."""
        await stop.wait()
        self._refuse("asked to stop")
        for task, call in self._calls.items():
            if call is not None and not call.on_wire:
                task.cancel()

    async def _abandon(self, reason: str) -> None:
        """Account for everything taken in after a cancellation: what was not sent, and what was on its way."""
        self._abandoned = True
        self._stop(reason)
        self._refused_by = self._refused_by or reason
        for task, call in self._calls.items():
            if call is not None:
                task.cancel()
        self._attempts = 1
        try:
            await self._intake.halt()
        finally:
            self._abandon_rows()
        # Last: a second cancellation ends the wait, and each task accounts for its batch by itself.
        if self._calls:
            await asyncio.wait(self._calls)

    def _abandon_rows(self) -> None:
        """Account for the rows that are in no request yet."""
        if self._journal is not None:
            self._continue_from(self._journal)
        self._fresh.extend(self._chunker.feed(self._intake.rest()))
        self._fresh.extend(self._chunker.flush())
        for batch in (*self._ready, *self._fresh):
            self._settle_unsent(batch)
        self._count_tail()

    def _settle_unsent(self, batch: Batch) -> None:
        # An earlier run may have sent what this one did not get to compare with the journal.
        earlier = batch.index in self._in_doubt or (self._journal is not None and self._journal.may_be_applied(batch))
        self._settle(batch, "unknown" if earlier else "not_sent", error=self.report.stopped_by)

    async def _send(self, batch: Batch) -> None:
        """Send one batch and settle it, whatever happens."""
        if self._refused_by is not None:
            self._settle_unsent(batch)
            return
        call = ApiRequest("bulk", self._params, campaign=self._campaign, payload=batch.payload, priority=self._priority)
        call.in_doubt = batch.index in self._in_doubt
        task = asyncio.current_task()
        assert task is not None
        self._calls[task] = call
        try:
            if self._journal is not None:
                await self._journal.prepare(batch, call)
            reply = await self._deliver(call)
        except asyncio.CancelledError:
            outcome: Outcome = "unknown" if call.may_be_applied else "not_sent"
            await self._conclude(batch, outcome, error="cancelled")
            raise
        except OzonetelError as error:
            # A refusal of a repeated batch says nothing about the first time it was sent.
            outcome = "unknown" if call.may_be_applied else error.outcome
            self._note_failure(error, outcome)
            await self._conclude(batch, outcome, error=_text(error))
        except Exception as error:  # of the caller's on_progress, in an outage
            await self._conclude(batch, "unknown" if call.may_be_applied else "not_sent", error=type(error).__name__)
            raise
        else:
            self._unknown_streak = self._forbidden_streak = 0
            ticket = batch_receipt(reply, batch.rows).transaction_id
            await self._conclude(batch, "accepted", transaction_id=ticket)
        finally:
            self.report.requests += call.sends

    async def _conclude(
        self, batch: Batch, outcome: BatchOutcome, *, transaction_id: str | None = None, error: str | None = None
    ) -> None:
        """Write a batch's fate into the journal, if there is one, and count it."""
        try:
            if self._journal is not None:
                await self._journal.conclude(batch, outcome, transaction_id or error or "")
        except JournalError as failure:
            # What the service said is known all the same; the next run will take the batch for unknown.
            self._refuse(_text(failure))
        finally:
            self._settle(batch, outcome, transaction_id=transaction_id, error=error)

    async def _deliver(self, call: ApiRequest) -> Reply:
        attempts = self._attempts
        while True:
            try:
                reply = await self._dispatcher.call(call)
            except QueueFullError:
                # Of other callers; an upload has time.
                await asyncio.sleep(max(_FULL_QUEUE_PAUSE, self._queue.next_free_in))
            except ConnectError as error:
                if isinstance(error, CertificateError) or not await self._sit_out(call, error):
                    raise
            except OutcomeUnknownError as error:
                attempts -= 1
                if not attempts:
                    raise
                _log.info("bulk: %s; sending the batch again, checkDuplicate is on", type(error).__name__)
            else:
                self._end_outage()
                return reply

    async def _sit_out(self, call: ApiRequest, error: ConnectError) -> bool:
        """Wait before the next attempts to reach the service; False when the outage has lasted too long.

        A service that has never answered this upload may as well be a misspelt host.
        """
        clock = asyncio.get_running_loop().time
        if self._outage_began is None:
            self._outage_began = clock()
        left = self._outage_began + self._retry.outage - clock()
        if not self._reached or left <= 0 or self._refused_by is not None:
            return False
        if call.not_applied is not None and not call.in_doubt:
            await call.not_applied()  # a crash during the outage must not leave the batch unknown
        if self.report.waiting_for is None:
            _log.warning("upload: %s; waiting up to %g s for the service", error.message, left)
        self.report.waiting_for = f"the service ({error.message})"
        self._progress()
        # The step after those that the call itself has taken.
        pause = self._retry.backoff * 2.0 ** min(self._retry.connect_attempts - 1, 60)
        await asyncio.sleep(min(pause, self._retry.max_backoff, left))
        return True

    def _end_outage(self) -> None:
        """Note that the service has been reached."""
        self._reached = True
        self._outage_began = None
        if self.report.waiting_for is not None:
            self.report.waiting_for = None
            _log.info("upload: the service can be reached again")

    def _note_failure(self, error: OzonetelError, outcome: Outcome) -> None:
        if not isinstance(error, ConnectError):
            self._end_outage()
        self._unknown_streak = self._unknown_streak + 1 if outcome == "unknown" else 0
        forbidden = isinstance(error, AuthenticationError) and error.forbidden
        self._forbidden_streak = self._forbidden_streak + 1 if forbidden else 0
        if isinstance(error, STOPS_THE_UPLOAD) and not 0 < self._forbidden_streak < _FORBIDDEN_STREAK:
            self._refuse(_text(error))
        elif self._unknown_streak >= _UNKNOWN_STREAK:
            self._refuse(f"{_UNKNOWN_STREAK} batches in a row without a trustworthy answer")

    def _refuse(self, reason: str) -> None:
        """Send nothing more: every further batch would meet the same."""
        if self._refused_by is None:
            self._refused_by = reason
            _log.warning("upload stopped: %s", reason)
            self._stop(reason)
            self._intake.stop()

    def _stop(self, reason: str) -> None:
        if self.report.stopped_by is None:
            self.report.stopped_by = reason

    def _settle(
        self,
        batch: Batch,
        outcome: BatchOutcome,
        *,
        transaction_id: str | None = None,
        error: str | None = None,
    ) -> None:
        """Write down a batch's fate; the one place where its rows are counted."""
        report = self.report
        report.batches.append(
            BatchResult(batch.index, batch.first_row, batch.last_row, batch.rows, outcome, transaction_id, error)
        )
        if self._rejects is not None and outcome in ("refused", "not_sent"):
            self._note_unsent(batch, error or outcome)
        counter = f"rows_{outcome}"
        setattr(report, counter, getattr(report, counter) + batch.rows)
        self._count(batch.read, batch.invalid)
        self._progress()

    def _count_tail(self) -> None:
        """Count the invalid rows after the last batch, which belong to none."""
        self._count(*self._chunker.tail)

    def _count(self, read: int, invalid: int) -> None:
        self.report.rows_read += read
        self.report.rows_invalid += invalid

    def _note_invalid(self, invalid: InvalidRow, row: Row) -> None:
        if self._journal is not None:
            self._journal.note_invalid(invalid.row)
        reasons = self.report.invalid_reasons
        column, reason = count_reason(reasons, invalid.field, invalid.reason)
        if len(self.report.invalid_sample) < _INVALID_SAMPLE or reasons[column][reason] == 1:
            self.report.invalid_sample.append(invalid)
        if self._rejects is not None:
            try:
                self._rejects.add(invalid, row)
            except OSError as error:
                self._end_rejects(error)

    def _note_unsent(self, batch: Batch, reason: str) -> None:
        if self._rejects is not None:
            try:
                self._rejects.add_batch(batch, reason)
            except OSError as error:
                self._end_rejects(error)

    def _note_change(self, row: int, change: Change) -> None:
        if self._changes is not None:
            try:
                self._changes.add(row, change)
            except OSError as error:
                self._end_changes(error)

    def _end_rejects(self, failure: OSError | None = None) -> None:
        rejects, self._rejects = self._rejects, None
        if rejects is not None:
            self._end_file("rejects", partial(rejects.close, self._chunker.rows_taken, self.report.stopped_by), failure)

    def _end_changes(self, failure: OSError | None = None) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            self._end_file("changes", changes.close, failure)

    def _end_file(self, option: str, close: Callable[[], None], failure: OSError | None) -> None:
        """Close a file of rows. One that cannot be written ends the upload, which would lose track otherwise."""
        try:
            close()
        except OSError as error:
            failure = failure or error
        if failure is not None:
            self._refuse(f"{option}: cannot write the file: {failure.strerror}")

    def _progress(self) -> None:
        report = self.report
        report.rows_repairable = self._chunker.rows_repairable
        report.rows_in_flight = self._chunker.rows_taken - report.rows_read
        report.worst_window = self._queue.worst_window
        report.elapsed = asyncio.get_running_loop().time() - self._started
        if self._on_progress is not None:
            try:
                _tell(self._on_progress, report)
            except BaseException as error:
                # The caller's own error ends the upload; settling what is left must not raise it again, and not
                # raise it at all when the upload is ending for another reason.
                self._on_progress = None
                if not self._abandoned or not isinstance(error, Exception):
                    raise
                _log.warning("on_progress raised %s after the upload had ended", type(error).__name__)


def _tell(on_progress: Callable[[UploadReport], object], report: UploadReport) -> None:
    returned = on_progress(report)
    if iscoroutine(returned):  # of a lambda or an object, which does not show it beforehand
        returned.close()
        raise ConfigurationError("on_progress: expected a plain function, got one that returns a coroutine")


# Imported with the first file of changes: most uploads have none.
def _changes_file(path: str | PathLike[str], rows: Rows) -> ChangesFile:
    from ..rows.changes import ChangesFile

    return ChangesFile(path, rows)


def _text(error: OzonetelError) -> str:
    return f"{type(error).__name__}: {error.message}"
