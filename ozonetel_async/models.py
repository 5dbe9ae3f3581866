"""What goes in and what comes out: leads, receipts and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Literal, TypeAlias

from msgspec import Struct, field

from .errors import ConfigurationError

__all__ = [
    "BatchReceipt",
    "BatchResult",
    "BufferReceipt",
    "Cell",
    "CellCounts",
    "ExportReceipt",
    "FailedLead",
    "InvalidRow",
    "Lead",
    "LeadReceipt",
    "Row",
    "ScheduleOutcome",
    "ScheduleReport",
    "ScheduleResult",
    "UploadReport",
    "counted",
    "row_span",
]

Cell: TypeAlias = str | int | float | date | datetime | None
# How many cells, by column and then by what is said of them.
CellCounts: TypeAlias = dict[str, dict[str, int]]


def counted(count: int, noun: str) -> str:
    """A count with its noun in the right number, such as ``1 row``, ``1,200 rows`` or ``2 batches``."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def row_span(first: int, last: int) -> str:
    """The rows from ``first`` to ``last`` as text, such as ``row 7`` or ``rows 1 to 500``."""
    return f"row {first}" if first == last else f"rows {first} to {last}"


class _Phone(Struct, frozen=True):
    """The one field of a lead that may be passed by place."""

    phone_number: str


class Lead(_Phone, frozen=True, kw_only=True):
    """One person to be called.

    Args:
        phone_number: 3 to 16 digits with an optional leading ``+`` (Add Campaign Data, error table).
        name: letters, digits, ``_``, blank and ``( ) . + $ % - :`` (Bulk V4, "Name field validation").
        priority: 0 to 99; larger is dialled sooner; the service takes 1 when it is left out.
        expiry: last moment at which the lead is worth a call. An aware datetime is converted to the client's time
            zone, a naive one is taken as being in it, a date stays a date; text must be ``YYYY-MM-DD`` or
            ``YYYY-MM-DD HH:MM:SS``.
        agent_id: the agent, needed in agent-wise campaigns.
        skill: the skill, needed in skill-wise campaigns.
        scheduled_time: when to dial; needed by ``schedule_leads`` and refused by every other call.
        extra: further columns that the campaign's mapping knows, by their service names.
    """

    name: str | None = None
    priority: int | None = None
    expiry: date | datetime | str | None = None
    agent_id: str | None = None
    skill: str | None = None
    scheduled_time: datetime | str | None = None
    extra: Mapping[str, Cell] = field(default_factory=dict)

    def __repr__(self) -> str:
        # A lead's repr ends up in logs and tracebacks: enough to find it again, too little to call it.
        phone = self.phone_number if isinstance(self.phone_number, str) and len(self.phone_number) > 6 else ""
        values = {name: getattr(self, name) for name in self.__struct_fields__[1:]}
        # By type, since a value may refuse to be compared.
        set_fields = [name for name, value in values.items() if (value if type(value) is dict else value is not None)]
        more = "".join(f", {name}=…" for name in set_fields)
        return f"Lead('…{phone[-3:]}'{more})"

    __str__ = __repr__


Row: TypeAlias = Lead | Mapping[str, Cell] | Sequence[Cell]


class LeadReceipt(Struct, frozen=True):
    """The service's answer to one lead.

    Attributes:
        outcome: ``"accepted"``, or ``"duplicate"`` when the number was in the campaign and was left alone.
        message: the service's text.
        raw: the reply's body as text.
        cleaned: what ``clean`` has changed in the lead: 1 by column and kind.
    """

    outcome: Literal["accepted", "duplicate"]
    message: str
    raw: str
    cleaned: CellCounts = field(default_factory=dict)

    def __repr__(self) -> str:
        # The body may repeat the phone number.
        return f"LeadReceipt(outcome={self.outcome!r}, message={self.message!r}, raw=<{len(self.raw)} characters>)"

    __str__ = __repr__


class BatchReceipt(Struct, frozen=True):
    """A bulk request that the service has queued; whether each row gets in is told later by the callback.

    Attributes:
        transaction_id: opaque text of 24 or 25 digits.
        rows: rows in the request.
        cleaned: cells that ``clean`` has changed, counted by column and kind.
    """

    transaction_id: str
    rows: int
    cleaned: CellCounts = field(default_factory=dict)


class BufferReceipt(Struct, frozen=True):
    """What became of one lead of a buffer.

    Attributes:
        outcome: ``"accepted"`` when the service has queued the lead's request, or ``"kept"`` when the buffer ended
            before that and its journal has the lead: the next buffer with this journal sends it.
        transaction_id: of the request; None when the lead was kept.
        row: the lead's row in the request, from 1; None when the lead was kept.
        cleaned: what ``clean`` has changed in the lead: 1 by column and kind.
    """

    outcome: Literal["accepted", "kept"]
    transaction_id: str | None = None
    row: int | None = None
    cleaned: CellCounts = field(default_factory=dict)


class ExportReceipt(Struct, frozen=True):
    """A dial-status export that the service has begun; ``unique_id`` comes back in its callback."""

    unique_id: str


class InvalidRow(Struct, frozen=True):
    """A row that was not sent.

    Attributes:
        row: 1-based number among the rows handed in.
        field: the column that is wrong.
        reason: the value's shape and what would be right; never the value.
        further: other columns that are wrong in it, each with its reason.
    """

    row: int
    field: str
    reason: str
    further: tuple[tuple[str, str], ...] = ()


ScheduleOutcome: TypeAlias = Literal["accepted", "invalid", "refused", "not_sent", "unknown"]


class ScheduleResult(Struct, frozen=True):
    """What became of one row of ``schedule_leads``.

    Attributes:
        row: 1-based number among the rows handed in.
        outcome: ``"accepted"``, ``"invalid"`` (not sent because of what it holds), ``"refused"`` by the service,
            ``"not_sent"`` (the run ended first), ``"unknown"``.
        message: the service's text, or the reason.
    """

    row: int
    outcome: ScheduleOutcome
    message: str


class ScheduleReport(Struct, frozen=True):
    """What became of the rows of ``schedule_leads``.

    Attributes:
        results: one per row taken, in the order of the rows handed in.
        stopped_by: why the run ended before its input did (a refusal that every further request would meet, no
            connection, a file that breaks off), else None.
        cleaned: cells that ``clean`` has changed, counted by column and kind.
    """

    results: tuple[ScheduleResult, ...]
    stopped_by: str | None = None
    cleaned: CellCounts = field(default_factory=dict)

    def count(self, outcome: ScheduleOutcome) -> int:
        """How many rows ended with this outcome."""
        return sum(result.outcome == outcome for result in self.results)


class BatchResult(Struct, frozen=True):
    """What became of one bulk request of an upload.

    Attributes:
        index: 0-based number of the batch.
        first_row: 1-based number of its first row among the rows handed in.
        last_row: the same of its last row; invalid rows between them are not part of the batch.
        rows: rows in the request.
        outcome: ``"accepted"`` (queued by the service), ``"refused"``, ``"not_sent"`` or ``"unknown"``.
        transaction_id: the service's ticket when accepted, else None.
        error: the error's class and text, else None.
        callback_text: what the callback said, when it told of a failed job or its counts cannot be believed, else None;
            phone numbers are masked.
    """

    index: int
    first_row: int
    last_row: int
    rows: int
    outcome: Literal["accepted", "refused", "not_sent", "unknown"]
    transaction_id: str | None = None
    error: str | None = None
    callback_text: str | None = None


class FailedLead(Struct, frozen=True):
    """A row that was sent and that the service did not add.

    Attributes:
        row: 1-based number among the rows handed in; None when it cannot be told.
        lead: the row as it was sent, by the service's column names; empty without ``row``.
        reason: the service's text, None when it gave none.
        how: how the row was found; see ``Match``.
        phone: the number as the service wrote it.
    """

    row: int | None
    lead: Mapping[str, str | int | float | bool | None]
    reason: str | None
    how: str
    phone: str

    def __repr__(self) -> str:
        # Rows end up in logs and tracebacks: enough to find one again, too little to call it.
        return f"FailedLead(row={self.row}, phone='…{self.phone[-3:]}', how={self.how!r})"

    __str__ = __repr__


class UploadReport(Struct, kw_only=True):
    """Where an upload stands; live while it runs, final when ``upload`` returns or is cancelled.

    ``rows_read == rows_accepted + rows_invalid + rows_refused + rows_not_sent + rows_unknown`` holds at every moment: a
    row is counted as read when its fate is known, and as in flight until then.

    Attributes:
        campaign: the campaign.
        rows_read: rows whose fate is known.
        rows_accepted: rows in requests that the service has queued.
        rows_invalid: rows that were not sent because of what they hold.
        rows_refused: rows in requests that the service refused.
        rows_not_sent: rows taken from the input and never sent, because the upload ended first.
        rows_unknown: rows in requests that may or may not have been applied.
        rows_in_flight: rows taken from the input whose fate is not known yet; 0 at the end.
        batches: one record per request.
        invalid_sample: the first 20 invalid rows, and the first one of each further reason; all of them go to
            ``rejects=``.
        invalid_reasons: invalid rows by column and reason, such as ``{"PhoneNumber": {"two numbers in one cell": 3}}``.
        rows_repairable: how many of the invalid rows ``clean=Cleaning()`` would save; not counted when ``clean`` is on.
        cleaned: cells that ``clean`` has changed, counted by column and kind.
        warnings: what looks wrong with the phone numbers of the first 10,000 rows as a whole; for files and lists this
            is known before anything is sent.
        requests: requests that reached the wire, repeats of refused ones included.
        worst_window: most requests that were started within any one window of the bulk limit.
        elapsed: seconds.
        stopped_by: why the upload ended before its input did (a refusal that every further batch would meet, no
            connection, a file that breaks off, or cancellation), else None.
        waiting_for: what the upload waits for while it does not get on, such as ``"the service (…)"`` in an outage or
            ``"3 callbacks"``; else None.
        batches_settled: batches whose callback has come. Callbacks count only in uploads with a journal.
        batches_overdue: batches that wait for their callback still.
        batches_failed: settled batches whose job failed as a whole; ``BatchResult.callback_text`` is the service's.
        rows_added: rows that the service says it has added, in the settled batches.
        rows_not_added: rows that it says it has not; numbers that were in the campaign already are among them.
        rows_unreported: all other rows of settled batches: the callback's counts are missing, or do not add up to
            the rows sent.
    """

    campaign: str
    rows_read: int = 0
    rows_accepted: int = 0
    rows_invalid: int = 0
    rows_refused: int = 0
    rows_not_sent: int = 0
    rows_unknown: int = 0
    rows_in_flight: int = 0
    batches: list[BatchResult] = field(default_factory=list)
    invalid_sample: list[InvalidRow] = field(default_factory=list)
    invalid_reasons: CellCounts = field(default_factory=dict)
    rows_repairable: int = 0
    cleaned: CellCounts = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    requests: int = 0
    worst_window: int = 0
    elapsed: float = 0.0
    stopped_by: str | None = None
    waiting_for: str | None = None
    batches_settled: int = 0
    batches_overdue: int = 0
    rows_added: int = 0
    rows_not_added: int = 0
    read_failed: Callable[[], Iterator[FailedLead]] | None = None
    batches_failed: int = 0
    rows_unreported: int = 0

    def failed_rows(self) -> Iterator[FailedLead]:
        """The rows that were sent and that the service did not add, as far as its lists have been fetched.

        Raises:
            ConfigurationError: the upload had no journal.
            JournalError: the journal cannot be read.
        """
        if self.read_failed is None:
            raise ConfigurationError("failed_rows() needs an upload with journal= and callback_url=")
        return self.read_failed()

    def __str__(self) -> str:
        state = f", stopped: {self.stopped_by}" if self.stopped_by else ""
        state += f", waiting for {self.waiting_for}" if self.waiting_for else ""
        saved = f" ({self.rows_repairable:,} of them repairable by clean=)" if self.rows_repairable else ""
        flight = f", {self.rows_in_flight:,} in flight" if self.rows_in_flight else ""
        return (
            f"{self.campaign}: {counted(self.rows_read, 'row')} read, {self.rows_accepted:,} accepted, "
            f"{self.rows_invalid:,} invalid{saved}, {self.rows_refused:,} refused, {self.rows_not_sent:,} not sent, "
            f"{self.rows_unknown:,} unknown"
            f"{flight}; {counted(len(self.batches), 'batch')} in {self.elapsed:.1f} s{state}"
        )
