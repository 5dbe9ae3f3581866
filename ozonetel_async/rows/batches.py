"""Rows in, encoded requests out: fit rows to columns, check the columns, cut batches, encode each once.

::

    rows --fit--> columns of cells --check--> columns as sent --cut--> batches of ``row_limit`` rows --encode--> bytes

Nothing here knows of time, files or the network, and the batches do not depend on how the rows are sliced into calls
of ``feed``: the same rows give the same bytes, which is what lets a journal recognise its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import compress, islice
from typing import Literal, Required, TypedDict
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.json import Encoder

from ..config import Dialect
from ..errors import ConfigurationError, InvalidLeadError
from ..models import InvalidRow, Lead, Row
from .checks import (
    BadCell,
    Bounds,
    ColumnCheck,
    DateCheck,
    ExtraCheck,
    TextCheck,
    Value,
    shape,
)
from .columns import (
    Layout,
    check_for,
    columns_fault,
    label,
    lead_columns,
    single_extra_fault,
)
from .layout import (
    NOT_A_ROW,
    Columns,
    Desk,
    Faults,
    FixedFrame,
    LeadFrame,
    RaggedRow,
    is_sequence,
)

__all__ = ["Batch", "CheckedLead", "Chunker", "RaggedRow", "check_lead", "check_options"]

# Rows checked together: enough to drown the cost of a call in C, few enough to stay in the processor's cache.
_BLOCK = 500


class Batch(Struct, frozen=True):
    """One request's worth of rows.

    Parameters
    ----------
    index: 0-based number of the batch.
    first_row, last_row: numbers of its first and last row in the input, from 1.
    rows: rows in the payload.
    read: input rows this batch accounts for: all since the previous batch's ``last_row``, up to its own.
    invalid: invalid rows among ``read``; ``read == rows + invalid``.
    payload: UTF-8 JSON ``{"map": [...], "data": [[...], ...]}``.
    """

    index: int
    first_row: int
    last_row: int
    rows: int
    read: int
    invalid: int
    payload: bytes


def _plain_text(value: object) -> str:
    # msgspec takes exact types only; what reaches the encoder otherwise is a checked subclass of str.
    if not isinstance(value, str):
        raise TypeError(f"cannot encode {type(value).__name__}")
    return str.__str__(value)


_encode = Encoder(enc_hook=_plain_text).encode


def check_options(columns: Sequence[str] | None, row_limit: int, layout: Layout, dialect: Dialect) -> None:
    """Refuse arguments of ``Chunker`` that no row could ever satisfy.

    Raises
    ------
    ConfigurationError: a column is misspelled, missing, doubled or too long, or the row limit is not a count.
    """
    if not isinstance(row_limit, int) or isinstance(row_limit, bool) or row_limit < 1:
        raise ConfigurationError(f"row_limit must be a whole number of at least 1, got {shape(row_limit)}")
    if columns is None:
        return
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise ConfigurationError(f"columns must be a sequence of names, got {shape(columns)}")
    fault = columns_fault(columns, layout)
    if fault is None and sum(map(len, columns)) >= dialect.row_characters:
        fault = f"the headers alone have {sum(map(len, columns))} characters of {dialect.row_characters} a row may have"
    if fault is not None:
        raise ConfigurationError(f"columns: {fault}")


class Chunker:
    """Turns rows into checked, encoded batches; rows that the service would not take are reported, and left out.

    Parameters
    ----------
    columns: service names of the columns, in the order of the cells of rows that are sequences. None takes the keys
        of the first mapping with usable keys, for the whole run; leads need none: each batch has the columns its
        leads fill.
    row_limit: most rows in a batch.
    dialect: plus policy, priority range, schedule horizon, row length.
    zone: the platform's zone.
    now: the moment against which dates are held, for the whole run; naive means in ``zone``.
    layout: ``"bulk"``, or ``"schedule"``, which demands ``ScheduledTime`` and spells ``AgentID``.
    first_row, first_index: numbers of the first row and batch, for a run that continues another.
    on_invalid: called with each invalid row's verdict and the row as handed in, in the order of the rows. What it
        raises ends the run.

    Rows may be leads, mappings with the service's column names, or sequences (only with ``columns``), mixed as they
    come. A missing cell is sent as ``""``: the request is positional, and every row needs a cell in each column.

    Raises
    ------
    ConfigurationError: see ``check_options``; from ``feed`` when a sequence comes first and there are no ``columns``.
    """

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        row_limit: int = 500,
        dialect: Dialect,
        zone: ZoneInfo,
        now: datetime,
        layout: Literal["bulk", "schedule"] = "bulk",
        first_row: int = 1,
        first_index: int = 0,
        on_invalid: Callable[[InvalidRow, Row], None] | None = None,
    ) -> None:
        check_options(columns, row_limit, layout, dialect)
        self.rows_taken = 0
        self._row_limit = row_limit
        self._desk = Desk(layout, dialect, Bounds(zone, now))
        self._frame: FixedFrame | LeadFrame | None = None
        if columns is not None:
            self._frame = FixedFrame(self._desk, tuple(columns), positional=True)
        self._first_row = first_row
        self._settled_to = first_row - 1
        self._next_index = first_index
        self._on_invalid = on_invalid
        self._waiting = 0
        self._waiting_from = self._waiting_to = 0
        self._done: list[Batch] = []

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns once known; with leads, those of the last batch."""
        return None if self._frame is None else self._frame.columns

    @property
    def tail(self) -> tuple[int, int]:
        """Rows read since the last batch's last row, and the invalid ones among them; all of them after ``flush``."""
        read = self._first_row - 1 + self.rows_taken - self._settled_to
        return read, read - self._waiting

    def feed(self, rows: Iterable[Row]) -> list[Batch]:
        """Take any number of rows, and return the batches that are full.

        When ``rows`` raises, the rows before that are taken in, and their batches come with the next call.
        """
        source = iter(rows)
        more = True
        while more:
            block: list[Row] = []
            try:
                # extend keeps what it got when the source raises; list() would drop it.
                block.extend(islice(source, _BLOCK))
            finally:
                more = len(block) == _BLOCK
                if block:
                    self._take(block)
        return self._hand_over()

    def flush(self) -> list[Batch]:
        """The batch that is not full, if there is one."""
        if self._waiting:
            self._cut()
        return self._hand_over()

    def _hand_over(self) -> list[Batch]:
        done, self._done = self._done, []
        return done

    def _take(self, block: list[Row]) -> None:
        first = self._first_row + self.rows_taken
        self.rows_taken += len(block)
        if self._frame is None:
            useless = self._settle_frame(block)
            self._report(first, block, useless)
            block = block[len(useless) :]
            first += len(useless)
        if self._frame is None or not block:
            return
        columns, offsets, faults = self._frame.fit(block)
        if offsets:
            columns, bad = self._frame.check(columns)
            columns, offsets = _without(bad, columns, offsets, faults)
        if offsets:
            columns, offsets = _without(self._frame.too_long(columns), columns, offsets, faults)
        self._report(first, block, faults)
        if offsets:
            self._queue(columns, [first + i for i in offsets] if faults else range(first, first + len(block)))

    def _settle_frame(self, block: list[Row]) -> Faults:
        """Find the first row that tells the columns; the verdicts on those before it."""
        useless: Faults = {}
        for offset, row in enumerate(block):
            if isinstance(row, Lead):
                self._frame = LeadFrame(self._desk)
                return useless
            if isinstance(row, Mapping):
                try:
                    check_options(names := list(row), 1, self._desk.layout, self._desk.dialect)
                except ConfigurationError as error:
                    useless[offset] = ("row", error.message)
                    continue
                self._frame = FixedFrame(self._desk, tuple(names), positional=False)
                return useless
            if is_sequence(row):
                raise ConfigurationError(
                    "rows that are sequences need columns=(...): the service's column names in the order of the cells"
                )
            useless[offset] = ("row", NOT_A_ROW.format(shape(row)))
        return useless

    def _report(self, first: int, block: list[Row], faults: Faults) -> None:
        if self._on_invalid is not None:
            for offset in sorted(faults):
                self._on_invalid(InvalidRow(first + offset, *faults[offset]), block[offset])

    def _queue(self, sent: Columns, numbers: Sequence[int]) -> None:
        assert self._frame is not None
        rows = list(zip(*sent, strict=True))
        at = 0
        while at < len(rows):
            room = self._row_limit - self._waiting
            taken = self._frame.take(rows[at : at + room])
            if taken:
                self._waiting_from = self._waiting_from if self._waiting else numbers[at]
                self._waiting_to = numbers[at + taken - 1]
                self._waiting += taken
                at += taken
            if taken == room or at < len(rows):
                self._cut()

    def _cut(self) -> None:
        assert self._frame is not None
        rows, last = self._waiting, self._waiting_to
        read = last - self._settled_to
        payload = _encode(self._frame.drain())
        self._done.append(Batch(self._next_index, self._waiting_from, last, rows, read, read - rows, payload))
        self._waiting = 0
        self._settled_to = last
        self._next_index += 1


def _without(bad: Faults, columns: Columns, offsets: Sequence[int], faults: Faults) -> tuple[Columns, Sequence[int]]:
    """The columns and offsets without the bad rows, whose faults are filed under their offsets."""
    if not bad:
        return columns, offsets
    faults.update((offsets[i], fault) for i, fault in bad.items())
    keep = [i not in bad for i in range(len(offsets))]
    return [list(compress(column, keep)) for column in columns], list(compress(offsets, keep))


class CheckedLead(TypedDict, total=False):
    """A lead's fields as they are sent; those it leaves out are absent."""

    phone_number: Required[str]
    name: str
    priority: int
    expiry: str
    agent_id: str
    skill: str
    extra: dict[str, Value]


def check_lead(
    lead: Lead, *, dialect: Dialect, zone: ZoneInfo, now: datetime, skip_name_validation: bool = False
) -> CheckedLead:
    """Check one lead for Add Campaign Data, and bring its fields into the service's form.

    Parameters
    ----------
    lead: the lead; a field that is None or an empty text is left out.
    dialect: plus policy and priority range.
    zone: the platform's zone.
    now: the present moment; naive means in ``zone``.
    skip_name_validation: let the name be any text that can be sent.

    Raises
    ------
    InvalidLeadError: a field that the service would not take, by its name in ``Lead`` or in ``extra``.
    """
    if not isinstance(lead, Lead):
        raise InvalidLeadError("lead", f"{shape(lead)}; right would be a Lead")
    field = "phone_number"
    checks = _lead_checks(dialect, skip_name_validation)
    try:
        checked = CheckedLead(phone_number=checks[field].one(lead.phone_number))  # type: ignore[typeddict-item]
        for field in _PLAIN_FIELDS:
            cell = getattr(lead, field)
            if cell is not None and cell != "":
                checked[field] = checks[field].one(cell)  # type: ignore[literal-required]
        field = "expiry"
        if lead.expiry is not None and lead.expiry != "":
            checked["expiry"] = DateCheck(Bounds(zone, now)).one(lead.expiry)  # type: ignore[typeddict-item]
        if lead.extra:
            field = "extra"
            checked["extra"] = _extra_cells(lead.extra, zone)
    except BadCell as fault:
        raise InvalidLeadError(field, fault.reason) from None
    return checked


_PLAIN_FIELDS = ("name", "priority", "agent_id", "skill", "scheduled_time")


@lru_cache(maxsize=16)
def _lead_checks(dialect: Dialect, skip_name_validation: bool) -> dict[str, ColumnCheck]:
    # None of these is held against the clock, so that one set serves every call.
    bounds = Bounds(ZoneInfo("UTC"), datetime.min)
    checks = {field: check_for(column, "bulk", dialect, bounds) for field, column in lead_columns("bulk").items()}
    return checks | ({"name": TextCheck()} if skip_name_validation else {})


@lru_cache(maxsize=16)
def _extra_check(zone: ZoneInfo) -> ExtraCheck:
    return ExtraCheck(Bounds(zone, datetime.min))  # its dates are not held against the clock


def _extra_cells(extra: object, zone: ZoneInfo) -> dict[str, Value]:
    if type(extra) is not dict and not isinstance(extra, Mapping):
        raise BadCell(f"{shape(extra)}; right would be a mapping of column names to cells")
    check = _extra_check(zone)
    sent: dict[str, Value] = {}
    for name, cell in extra.items():
        if (fault := single_extra_fault(name)) is not None:
            raise InvalidLeadError(label(name), fault)
        try:
            value = check.one(cell)
        except BadCell as bad:
            raise InvalidLeadError(label(name), bad.reason) from None
        if value != "":
            sent[name] = value
    return sent
