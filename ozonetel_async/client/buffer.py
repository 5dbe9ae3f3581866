"""Single leads that leave as batches: a hundred a minute one by one become 2,500 a minute.

A batch is cut when its turn in the bulk queue has come, and not before: until then it goes on filling, and a lead can
still be taken back. A turn is asked for when a batch is full, or when the oldest lead of the one that is not has waited
for ``max_delay``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from copy import copy
from datetime import datetime
from inspect import iscoroutinefunction
from math import inf
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from ..callbacks.url_tokens import check_base
from ..config import ClientConfig
from ..errors import (
    ConfigurationError,
    ConnectError,
    InvalidLeadError,
    JournalError,
    Outcome,
    OutcomeUnknownError,
    OzonetelError,
    QueueFullError,
    QueueTimeoutError,
)
from ..models import BufferReceipt, CellCounts, InvalidRow, Lead, Row
from ..protocol.replies import Reply, batch_receipt
from ..protocol.requests import Params
from ..rows.batches import Batch, Chunker, OnInvalid, raise_invalid
from ..rows.checks import not_a
from ..rows.columns import extra_problem, label, lead_columns
from ..sending.dispatcher import ApiRequest, Dispatcher, check_queue_options

if TYPE_CHECKING:
    from ..upload.journaling import UploadJournal

__all__ = ["BufferOptions", "LeadBuffer", "OnBufferResult"]

_T = TypeVar("_T")

OnBufferResult: TypeAlias = Callable[[Lead, BufferReceipt | OzonetelError], object]

_log = logging.getLogger("ozonetel_async")

# Seconds after which a full bulk queue is looked at again, at the least.
_FULL_QUEUE_PAUSE: Final = 0.05
_COLUMNS: Final = {column: field for field, column in lead_columns("bulk").items()}


NewChunker: TypeAlias = Callable[[OnInvalid, int], Chunker]


class BufferOptions(Struct, frozen=True, kw_only=True):
    """How a buffer works; ``OzonetelClient.buffer`` explains each."""

    max_delay: float
    max_rows: int
    max_waiting: int
    columns: tuple[str, ...]
    journal: str | PathLike[str] | None
    callback_url: str | None
    on_result: OnBufferResult | None
    queue_priority: int

    def check(self, most_rows: int) -> None:
        """Raise ``ConfigurationError`` when an option is wrong; ``most_rows`` is what a request may hold."""
        number = isinstance(self.max_delay, int | float) and not isinstance(self.max_delay, bool)
        if not number or not 0 <= self.max_delay < inf:
            raise ConfigurationError(f"max_delay: expected zero or more seconds, got {self.max_delay!r}")
        if type(self.max_rows) is not int or not 1 <= self.max_rows <= most_rows:
            raise ConfigurationError(f"max_rows: expected 1 to {most_rows}, got {self.max_rows!r}")
        if type(self.max_waiting) is not int or self.max_waiting < 1:
            raise ConfigurationError(f"max_waiting: expected a whole number of at least 1, got {self.max_waiting!r}")
        for name in self.columns:
            if (problem := extra_problem(name, "bulk")) is not None:
                raise ConfigurationError(f"columns: {label(name)}: {problem}")
        if iscoroutinefunction(self.on_result):
            raise ConfigurationError("on_result: expected a plain function, got a coroutine function, never awaited")
        check_queue_options(self.queue_priority, None)
        if self.journal is not None and self.callback_url is not None:
            check_base(self.callback_url)


class _Entry:
    """A lead in the buffer.

    Attributes:
        lead: as handed in.
        due: loop time at which it has waited for ``max_delay``.
        future: who waits for its fate; None for a lead that was ``put``.
        key: in the journal, if it is there.
        cleaned: what was repaired in it.
        waiting: whether it is in no batch yet.
    """

    __slots__ = ("cleaned", "due", "future", "key", "lead", "waiting")

    def __init__(
        self,
        lead: Lead,
        due: float,
        future: asyncio.Future[BufferReceipt] | None = None,
        cleaned: CellCounts | None = None,
    ) -> None:
        self.lead = lead
        self.due = due
        self.future = future
        self.cleaned: CellCounts = cleaned or {}
        self.key: int | None = None
        self.waiting = False


class _Sending:
    """One request of the buffer: first a wish for a turn, then a batch.

    Attributes:
        entries: the leads in it, in the order of its rows; empty until its turn has come.
        is_cut: whether its turn has come.
        index: of the batch in the journal; None until it is there.
    """

    __slots__ = ("call", "entries", "index", "is_cut")

    def __init__(self, call: ApiRequest) -> None:
        self.call = call
        self.entries: list[_Entry] = []
        self.is_cut = False
        self.index: int | None = None


class _NothingToSendError(Exception):
    """The turn came, and the leads that wanted it have been taken back or left with another one."""


class LeadBuffer:
    """Collects single leads and sends them as batches; made by ``OzonetelClient.buffer``, used with ``async with``.

    Leaving the block sends what is left and waits for the answers. Leaving it by an exception sends nothing more and
    tells everybody; by a cancellation, it does not wait for the answers under way either.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        config: ClientConfig,
        campaign: str,
        params: Params,
        options: BufferOptions,
        new_chunker: NewChunker,
    ) -> None:
        self._dispatcher = dispatcher
        self._config = config
        self._campaign = campaign
        self._params = params
        self._options = options
        self._new_chunker = new_chunker
        self._extras = frozenset(options.columns)
        self._queue = dispatcher.queues["bulk"]
        self._waiting: deque[_Entry] = deque()
        self._room = asyncio.Semaphore(options.max_waiting)
        self._sendings: dict[asyncio.Task[None], _Sending] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._opened = False
        self._closing = asyncio.Event()
        self._stopped = False  # nothing more is cut
        self._journal: UploadJournal | None = None
        self._resources = AsyncExitStack()
        self._unwritten: list[tuple[_Entry, bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<LeadBuffer of {self._campaign!r}: waiting={self.waiting}, in_flight={self.in_flight}>"

    @property
    def waiting(self) -> int:
        """Leads that are in no batch yet."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Leads in batches that were cut and whose fate is not known yet."""
        return sum(len(sending.entries) for sending in self._sendings.values())

    async def __aenter__(self) -> Self:
        self._dispatcher.bind()
        if self._opened:
            raise ConfigurationError("a buffer can be entered once; make another one with client.buffer()")
        if self._options.journal is not None:
            await self._open_journal(self._options.journal)
        self._opened = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            await self.close(drain=error is None)
        else:
            await self._close(drain=False, abort=True)

    async def add(self, lead: Lead, *, max_wait: float | None = None) -> BufferReceipt:
        """Send a lead with the next batch, and wait until the service has queued it.

        Cancelling the call takes the lead back as long as its batch has not been cut; after that the lead goes its way,
        and the caller is not told.

        Args:
            lead: with no extra columns but those that ``columns`` names.
            max_wait: most seconds until its batch's turn has come; None waits as long as it takes.

        Returns:
            What the service said of the lead's request; whether the row gets in is told later by the callback.

        Raises:
            InvalidLeadError: the service would not take the lead; others are not concerned.
            QueueFullError: ``max_waiting`` leads wait, and none left within ``max_wait``.
            QueueTimeoutError: the lead's turn did not come, or could not come, within ``max_wait``; it was not sent.
            ConfigurationError: the buffer is closed; the lead was not sent.
            OzonetelError: what became of the lead's request, as for ``add_batch``; each caller gets an own copy.
        """
        _, cleaned = self._check(lead)
        loop = asyncio.get_running_loop()
        deadline = self._deadline(max_wait)
        if max_wait is not None and self._queue.next_free_in > max_wait:
            raise self._too_late(max_wait)
        await self._find_room(deadline, max_wait)
        future: asyncio.Future[BufferReceipt] = loop.create_future()
        entry = _Entry(lead, loop.time() + self._options.max_delay, future, cleaned)
        self._admit(entry)
        timer = None
        if deadline is not None and max_wait is not None:
            timer = loop.call_at(deadline, self._expire, entry, max_wait)
        return await self._result_of(future, lambda: self._take_back(entry), timer)

    async def put(self, lead: Lead, *, max_wait: float | None = None) -> None:
        """Hand a lead over; what becomes of it is told to ``on_result``.

        Returns when the lead is taken: with a journal, when it is on the disk. From then on it cannot be taken back.
        Cancelled before that, it may be taken all the same, and ``on_result`` tells.

        Args:
            lead: as for ``add``.
            max_wait: most seconds to wait for room; None waits as long as it takes.

        Raises:
            InvalidLeadError, QueueFullError, ConfigurationError: as for ``add``.
            JournalError: the lead could not be written down, and was not taken.
        """
        payload, cleaned = self._check(lead)
        loop = asyncio.get_running_loop()
        await self._find_room(self._deadline(max_wait), max_wait)
        entry = _Entry(lead, loop.time() + self._options.max_delay, cleaned=cleaned)
        if self._journal is None:
            self._admit(entry)
            return
        written: asyncio.Future[None] = loop.create_future()
        self._unwritten.append((entry, payload, written))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(self._journal))
        await self._result_of(written)

    async def close(self, *, drain: bool = True) -> None:
        """Take no more leads, tell everybody what became of theirs, and let go of the journal; idempotent.

        Cancelling it ends the requests under way, whose leads are unknown then, and still tells everybody.

        Args:
            drain: send what is in the buffer first, however long the rate limit makes that take. False sends nothing
                more, and waits only for answers under way.
        """
        await self._close(drain=drain, abort=False)

    # -- taking leads in -------------------------------------------------------------------------------------------

    def _check(self, lead: Lead) -> tuple[bytes, CellCounts]:
        """The lead as a request of its own and what was repaired in it, or the error that concerns it."""
        self._check_open()
        if not isinstance(lead, Lead):
            raise InvalidLeadError("lead", not_a("Lead", lead))
        try:
            chunker = self._new_chunker(raise_invalid, 1)
            (batch,) = chunker.feed([lead])
        except InvalidLeadError as error:
            problem = _of_lead(error)
        else:
            stray = [name for name in lead.extra if name not in self._extras]
            if not stray:
                return batch.payload, chunker.cleaned
            problem = InvalidLeadError(label(stray[0]), "not one of the buffer's columns=(...)")
        raise problem

    def _check_open(self) -> None:
        if not self._opened:
            raise ConfigurationError("the buffer is not open: use it as 'async with client.buffer(...) as buffer'")
        if self._closing.is_set():
            raise _closed()

    def _deadline(self, max_wait: float | None) -> float | None:
        check_queue_options(0, max_wait)
        if max_wait is None or max_wait == inf:
            return None
        return asyncio.get_running_loop().time() + max_wait

    async def _find_room(self, deadline: float | None, max_wait: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        except TimeoutError:
            raise QueueFullError(
                f"expected fewer than max_waiting={self._options.max_waiting} leads in the buffer within "
                f"max_wait={max_wait:g} s, got {len(self._waiting)}; send later",
                retry_after=self._queue.next_free_in,
                endpoint="bulk",
            ) from None
        if self._closing.is_set():
            self._room.release()  # which turns the next one away
            raise _closed()

    async def _result_of(
        self,
        future: asyncio.Future[_T],
        take_back: Callable[[], object] | None = None,
        timer: asyncio.TimerHandle | None = None,
    ) -> _T:
        try:
            return await future
        except asyncio.CancelledError:
            if take_back is not None:
                take_back()
            if future.done() and not future.cancelled():
                future.exception()  # retrieved, so that asyncio does not report it; its caller is gone
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def _write(self, journal: UploadJournal) -> None:
        """Write leads into the journal, all that have come meanwhile in one transaction, and take them in."""
        try:
            while self._unwritten:
                group, self._unwritten = self._unwritten, []
                try:
                    keys = await journal.journal.keep([payload for _, payload, _ in group])
                except JournalError as error:
                    for _, _, written in group:
                        self._room.release()
                        if not written.done():
                            written.set_exception(copy(error))
                    continue
                for (entry, _, written), key in zip(group, keys, strict=True):
                    entry.key = key
                    self._admit(entry)
                    if not written.done():
                        written.set_result(None)
        finally:
            self._writer = None

    def _admit(self, entry: _Entry) -> None:
        entry.waiting = True
        self._waiting.append(entry)
        self._pump()

    def _take_back(self, entry: _Entry) -> bool:
        """Take a lead out of the buffer, unless its batch has been cut."""
        if not entry.waiting:
            return False
        self._waiting.remove(entry)
        self._leave(entry)
        self._pump()
        return True

    def _leave(self, entry: _Entry) -> None:
        entry.waiting = False
        self._room.release()

    def _expire(self, entry: _Entry, max_wait: float) -> None:
        if self._take_back(entry):
            _tell(entry, self._too_late(max_wait), None)

    def _too_late(self, max_wait: float) -> QueueTimeoutError:
        away = self._queue.next_free_in
        return QueueTimeoutError(
            f"expected the lead's batch to leave within max_wait={max_wait:g} s, got a wait of at least {away:.3g} s "
            f"for a bulk request; {len(self._waiting)} leads wait",
            retry_after=away,
            endpoint="bulk",
        )

    # -- sending ---------------------------------------------------------------------------------------------------

    def _wanted(self) -> tuple[int, float | None]:
        """How many batches should leave now, and when the next one should if no lead comes until then."""
        full, rest = divmod(len(self._waiting), self._options.max_rows)
        if not rest:
            return full, None
        due = self._waiting[full * self._options.max_rows].due
        if self._closing.is_set() or due <= asyncio.get_running_loop().time():
            return full + 1, None
        return full, due

    def _pump(self) -> None:
        """Ask for as many turns as there are batches to send, and set the timer for the next."""
        if self._stopped:
            return
        wanted, due = self._wanted()
        asked = sum(not sending.is_cut for sending in self._sendings.values())
        for _ in range(wanted - asked):
            self._start(_Sending(ApiRequest("bulk", self._params)))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._pump)

    def _start(self, sending: _Sending) -> None:
        call = sending.call
        call.campaign, call.priority = self._campaign, self._options.queue_priority
        if not sending.is_cut:
            call.fill = lambda: self._cut(sending)
        task = asyncio.create_task(self._send(sending))
        self._sendings[task] = sending
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._sendings[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "sending a batch failed", "exception": error})
        self._pump()

    async def _cut(self, sending: _Sending) -> None:
        """Fix the rows of a request whose turn has come."""
        if not self._wanted()[0]:
            raise _NothingToSendError
        batch, invalid = self._take_batch(sending)
        self._pump()
        for entry, error in invalid:
            self._report([entry], error)
        if self._journal is not None:
            keys = [entry.key for entry, _ in invalid if entry.key is not None]
            await _complete(self._write_batch(self._journal, sending, batch, keys))
        if batch is None:
            raise _NothingToSendError
        if self._journal is None:
            sending.call.payload = batch.payload

    def _take_batch(self, sending: _Sending) -> tuple[Batch | None, list[tuple[_Entry, InvalidLeadError]]]:
        """Cut the oldest leads; the batch, if one of them can still be sent, and those that cannot."""
        problems: dict[int, InvalidLeadError] = {}

        def note(invalid: InvalidRow, _: Row) -> None:
            problems[invalid.row] = _of_lead(InvalidLeadError(invalid.field, invalid.reason))

        entries = self._pop(sending)
        chunker = self._new_chunker(note, self._options.max_rows)
        batches = [*chunker.feed([entry.lead for entry in entries]), *chunker.flush()]
        # Extra columns of other leads can make a row too long: then there is a second batch, which waits.
        end = batches[0].last_row if batches else len(entries)
        good = [(row, entry) for row, entry in enumerate(entries, 1) if row not in problems]
        sending.entries = [entry for row, entry in good if row <= end]
        rest = [entry for row, entry in good if row > end]
        self._waiting.extendleft(reversed(rest))
        invalid = [(entries[row - 1], error) for row, error in problems.items()]
        for entry in (*sending.entries, *(entry for entry, _ in invalid)):
            self._leave(entry)
        return batches[0] if batches else None, invalid

    def _pop(self, sending: _Sending) -> list[_Entry]:
        """Take the oldest leads for a request, whose rows are fixed with that."""
        sending.is_cut = True
        sending.call.fill = None
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._options.max_rows))]

    async def _write_batch(
        self, journal: UploadJournal, sending: _Sending, batch: Batch | None, invalid: list[int]
    ) -> None:
        """Write a batch down in place of its leads; ``invalid`` are the keys of leads that turned out to be so."""
        if invalid:
            await journal.journal.forget(invalid)
        if batch is not None:
            keys = [entry.key for entry in sending.entries if entry.key is not None]
            sending.index = await journal.journal.cut(batch.payload, batch.rows, keys)
            await journal.prepare(_journaled(sending.index), sending.call)

    async def _send(self, sending: _Sending) -> None:
        """Send one batch, and tell everybody whose lead was in it."""
        call = sending.call
        result: OzonetelError | str
        try:
            if self._journal is not None and sending.index is not None:
                await self._journal.prepare(_journaled(sending.index), call)
            reply = await self._deliver(call)
        except _NothingToSendError:
            return
        except OzonetelError as error:
            result = error if not call.may_be_applied else _as_unknown(error)
            if not sending.is_cut:
                # Its turn never came (the client is closed): what it would have taken meets the same.
                sending.entries = self._pop(sending)
                for entry in sending.entries:
                    self._leave(entry)
        except BaseException:  # cancelled
            await _complete(self._conclude(sending, _cancelled(call)))
            raise
        else:
            result = batch_receipt(reply, len(sending.entries)).transaction_id
        await _complete(self._conclude(sending, result))

    async def _deliver(self, call: ApiRequest) -> Reply:
        """Make the call; with a journal, for as long as the service cannot be reached."""
        failures = 0
        retry = self._config.retry
        while True:
            try:
                return await self._dispatcher.call(call)
            except QueueFullError:
                await asyncio.sleep(max(_FULL_QUEUE_PAUSE, self._queue.next_free_in))
            except ConnectError as error:
                if self._journal is None or self._closing.is_set() or call.in_doubt:
                    raise
                if call.not_applied is not None:
                    await call.not_applied()
                if not failures:
                    _log.warning("buffer: %s; waiting for the service, the journal keeps the leads", error.message)
                failures += 1
                pause = min(retry.max_backoff, retry.backoff * 2.0 ** min(retry.connect_attempts + failures, 60))
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._closing.wait()

    # -- telling ---------------------------------------------------------------------------------------------------

    async def _conclude(self, sending: _Sending, result: OzonetelError | str) -> None:
        """Write a batch's fate down, if there is a journal, and tell it; ``result`` is an error or the ticket."""
        entries, sending.entries = sending.entries, []
        journal = self._journal
        outcome: Outcome | Literal["accepted"] = "accepted" if isinstance(result, str) else result.outcome
        try:
            if journal is not None and sending.index is not None:
                text = result if isinstance(result, str) else f"{type(result).__name__}: {result.message}"
                await journal.conclude(_journaled(sending.index), outcome, text)
        except JournalError as error:
            # What the service said is known all the same; the next run will take the batch for unknown.
            _log.warning("buffer: %s", error.message)
        if isinstance(result, str):
            for row, entry in enumerate(entries, 1):
                self._tell(entry, BufferReceipt("accepted", result, row, entry.cleaned))
            return
        others = []
        for entry in entries:
            if outcome == "not_sent" and (sending.index is not None or entry.key is not None):
                self._tell(entry, BufferReceipt("kept", cleaned=entry.cleaned))
            else:
                others.append(entry)
        self._report(others, result)

    def _report(self, entries: Sequence[_Entry], error: OzonetelError) -> None:
        """Tell each of the leads' owners the same, with an exception of its own."""
        if entries:
            _log.warning("buffer: %d leads ended in %s", len(entries), type(error).__name__)
        for entry in entries:
            self._tell(entry, copy(error))

    def _tell(self, entry: _Entry, result: BufferReceipt | OzonetelError) -> None:
        _tell(entry, result, self._options.on_result)

    # -- the journal, and the end ----------------------------------------------------------------------------------

    async def _open_journal(self, path: str | PathLike[str]) -> None:
        """Open the journal, and take in what an earlier run has left to do."""
        from ..upload.journaling import open_upload_journal, upload_header

        now = datetime.now(self._config.timezone)
        header = upload_header(self._config, self._campaign, self._params, None, (), now)
        header = msgspec.structs.replace(header, kind="buffer")
        opened = open_upload_journal(path, header, self._options.callback_url)
        async with AsyncExitStack() as stack:
            opened_journal, _ = await stack.enter_async_context(opened)
            journal = opened_journal.journal
            left = [batch.index for batch in await journal.batches() if batch.state == "pending"]
            rows = {index: await journal.sent_rows(index) for index in left}
            waiting = [(key, _read_lead(payload)) for key, payload in await journal.waiting()]
            self._journal = opened_journal
            self._resources = stack.pop_all()
        due = asyncio.get_running_loop().time()
        for index, sent in rows.items():
            sending = _Sending(ApiRequest("bulk", self._params))
            sending.is_cut, sending.index = True, index
            sending.entries = [_Entry(_as_lead(dict(zip(sent.columns, row, strict=True))), due) for row in sent.cells]
            self._start(sending)
        if waiting or rows:
            _log.info("buffer: %d leads and %d batches are left of an earlier run", len(waiting), len(rows))
        self._room = asyncio.Semaphore(max(0, self._options.max_waiting - len(waiting)))
        for key, lead in waiting:
            entry = _Entry(lead, due)
            entry.key = key
            self._admit(entry)

    async def _close(self, *, drain: bool, abort: bool) -> None:
        self._closing.set()
        self._room.release()  # turns away who waits for room
        try:
            while drain and not self._stopped and (self._writer is not None or self._sendings or self._waiting):
                self._pump()
                await asyncio.wait([*self._sendings, *filter(None, [self._writer])])
        except asyncio.CancelledError:
            abort = True
            raise
        finally:
            await self._end(abort)

    async def _end(self, abort: bool) -> None:
        self._stopped = True
        ending = asyncio.ensure_future(self._finish(abort))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            for task in self._sendings:
                task.cancel()
            await _complete(ending)
            raise

    async def _finish(self, abort: bool) -> None:
        """Send nothing more, and tell everybody."""
        await asyncio.sleep(0)  # a task that was just made must have begun, to tell what became of its leads
        for task, sending in self._sendings.items():
            if abort or not sending.call.on_wire:
                task.cancel()
        while self._sendings or self._writer is not None:
            await asyncio.wait([*self._sendings, *filter(None, [self._writer])])
        left = _Sending(ApiRequest("bulk", self._params))
        left.entries = list(self._waiting)
        self._waiting.clear()
        for entry in left.entries:
            self._leave(entry)
        if self._timer is not None:
            self._timer.cancel()
        await self._conclude(left, _closed())
        await self._resources.aclose()


def _tell(entry: _Entry, result: BufferReceipt | OzonetelError, on_result: OnBufferResult | None) -> None:
    if entry.future is None:
        try:
            if on_result is not None:
                on_result(entry.lead, result)
        except Exception as error:
            # The caller's own error must not keep the others from being told.
            _log.error("on_result raised %s", type(error).__name__)  # no traceback, which may show a lead
    elif entry.future.done():
        return  # cancelled
    elif isinstance(result, OzonetelError):
        entry.future.set_exception(result)
    else:
        entry.future.set_result(result)


def _closed() -> ConfigurationError:
    return ConfigurationError("the buffer is closed; the lead was not sent", endpoint="bulk")


def _cancelled(call: ApiRequest) -> OzonetelError:
    if call.may_be_applied:
        return OutcomeUnknownError("the buffer was closed before the answer came", endpoint="bulk")
    return _closed()


def _as_unknown(error: OzonetelError) -> OzonetelError:
    """An error after an attempt that may have got through says nothing about that one."""
    return error if error.outcome == "unknown" else OutcomeUnknownError(error.message, endpoint="bulk", raw=error.raw)


def _of_lead(error: InvalidLeadError) -> InvalidLeadError:
    """The error by the lead's own field, without the number of a row that the caller does not know of."""
    return InvalidLeadError(_COLUMNS.get(error.field, error.field), error.reason)


def _journaled(index: int) -> Batch:
    return Batch(index, 0, 0, 0, 0, 0, b"")


class _Payload(Struct):
    map: tuple[str, ...]
    data: list[list[str | int | float | bool | None]]


def _read_lead(payload: bytes) -> Lead:
    try:
        body = msgspec.json.decode(payload, type=_Payload)
        return _as_lead(dict(zip(body.map, body.data[0], strict=True)))
    except (msgspec.MsgspecError, LookupError, ValueError):
        raise JournalError("the journal is damaged: a lead is not what was written") from None


def _as_lead(cells: dict[str, str | int | float | bool | None]) -> Lead:
    """A row as it is sent, as a lead again."""
    fields = {_COLUMNS[name]: cell for name, cell in cells.items() if name in _COLUMNS and cell != ""}
    extra = {name: cell for name, cell in cells.items() if name not in _COLUMNS}
    return Lead(extra=extra, **fields)  # type: ignore[arg-type]


async def _complete(work: asyncio.Future[_T] | Coroutine[object, object, _T]) -> _T:
    """Wait for ``work`` even while the caller is cancelled, as often as that may be; then let that go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()
