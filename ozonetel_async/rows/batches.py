"""Rows in, encoded requests out: fit rows to columns, check the columns, cut batches, encode each once.

::

    rows --fit--> columns of cells --check--> columns as sent --cut--> batches of ``row_limit`` rows --encode--> bytes

Nothing here knows of time, files or the network, and the batches do not depend on how the rows are sliced into calls
of ``feed``: the same rows give the same bytes, which is what lets a journal recognise its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import compress, islice
from typing import NoReturn, Protocol, TypeAlias
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.json import Encoder

from ..config import Cleaning, ClientConfig, Dialect
from ..errors import ConfigurationError, InvalidLeadError
from ..models import CellCounts, InvalidRow, Lead, Row
from .checks import DateLimits, not_a, shape, unreadable
from .columns import Layout, columns_problem
from .layout import (
    ROW,
    BadRow,
    Change,
    Changes,
    ColumnFit,
    Columns,
    FixedColumns,
    LeadColumns,
    Problem,
    Problems,
    RowRules,
    is_sequence,
)

__all__ = [
    "Batch",
    "Chunker",
    "ChunkerMaker",
    "OnChange",
    "OnInvalid",
    "OnNumbers",
    "check_options",
    "chunker_maker",
    "raise_invalid",
]

# Rows checked together: enough to drown the cost of a call in C, few enough to stay in the processor's cache.
_BLOCK = 500
# Rows for one call of ``feed``, so that none takes longer than 5 ms; dirty ones cost ten times as much as clean ones.
_STRIDE = 250
_DIRTY_STRIDE = 125
_MOSTLY_CLEAN = 0.1

OnInvalid: TypeAlias = Callable[[InvalidRow, Row], None]
OnChange: TypeAlias = Callable[[int, Change], None]
OnNumbers: TypeAlias = Callable[[Sequence[str]], None]


class Batch(Struct, frozen=True):
    """One request's worth of rows.

    Attributes:
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

    Raises:
        ConfigurationError: a column is misspelled, missing, doubled or too long, or the row limit is not a count.
    """
    if not isinstance(row_limit, int) or isinstance(row_limit, bool) or row_limit < 1:
        raise ConfigurationError(f"row_limit must be a whole number of at least 1, got {shape(row_limit)}")
    if columns is None:
        return
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise ConfigurationError(f"columns must be a sequence of names, got {shape(columns)}")
    problem = columns_problem(columns, layout)
    if problem is None and sum(map(len, columns)) >= dialect.row_characters:
        problem = (
            f"the headers alone have {sum(map(len, columns))} characters of {dialect.row_characters} a row may have"
        )
    if problem is not None:
        raise ConfigurationError(f"columns: {problem}")


class Chunker:
    """Turns rows into checked, encoded batches; rows that the service would not take are reported, and left out.

    Args:
        columns: service names of the columns, in the order of the cells of rows that are sequences. None takes the keys
            of the first mapping with usable keys, for the whole run; leads need none: each batch has the columns its
            leads fill.
        row_limit: most rows in a batch.
        dialect: plus policy, priority range, schedule horizon, row length.
        timezone: the platform's zone.
        now: the moment against which dates are held, for the whole run; naive means in ``timezone``.
        layout: ``"bulk"``, or ``"schedule"``, which demands ``ScheduledTime`` and spells ``AgentID``.
        first_row, first_index: numbers of the first row and batch, for a run that continues another.
        clean: what may be repaired in cells; None changes nothing.
        on_invalid: called with each invalid row's verdict and the row as handed in, in the order of the rows. What it
            raises ends the run.
        on_change: called with the row's number and each of its repaired cells.
        on_numbers: called with the phone numbers of good rows, as they are sent, in their order.

    Attributes:
        rows_taken: rows taken in so far.
        cleaned: repaired cells by column and kind.
        rows_repairable: without ``clean``, how many of the invalid rows ``Cleaning()`` would make good.

    Rows may be leads, mappings with the service's column names, or sequences (only with ``columns``), mixed as they
    come. A missing cell is sent as ``""``: the request is positional, and every row needs a cell in each column.

    Raises:
        ConfigurationError: see ``check_options``; from ``feed`` when a sequence comes first and there are no
            ``columns``.
    """

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        row_limit: int = 500,
        dialect: Dialect,
        timezone: ZoneInfo,
        now: datetime,
        layout: Layout = "bulk",
        first_row: int = 1,
        first_index: int = 0,
        clean: Cleaning | None = None,
        on_invalid: OnInvalid | None = None,
        on_change: OnChange | None = None,
        on_numbers: OnNumbers | None = None,
    ) -> None:
        check_options(columns, row_limit, layout, dialect)
        self.rows_taken: int = 0
        self.cleaned: CellCounts = {}
        self.rows_repairable: int = 0
        self._pace = _DIRTY_STRIDE
        self._row_limit = row_limit
        self._rules = RowRules(layout, dialect, DateLimits(timezone, now), clean)
        self._make_frame: Callable[[RowRules], FixedColumns | LeadColumns] = LeadColumns
        self._frame: FixedColumns | LeadColumns | None = None
        self._repair: ColumnFit | None = None
        if columns is not None:
            self._fix_columns(tuple(columns), positional=True)
        self._first_row = first_row
        self._settled_to = first_row - 1
        self._next_index = first_index
        self._on_invalid = on_invalid
        self._on_change = on_change
        self._on_numbers = on_numbers
        self._waiting = 0
        self._waiting_from = self._waiting_to = 0
        self._done: list[Batch] = []

    def _fix_columns(self, columns: tuple[str, ...], *, positional: bool) -> None:
        self._make_frame = partial(FixedColumns, columns=columns, positional=positional)
        self._frame = self._make_frame(self._rules)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns once known; with leads, those of the last batch."""
        return None if self._frame is None else self._frame.columns

    @property
    def stride(self) -> int:
        """Rows for the next call of ``feed``: no more than an event loop has time for, nor than fill the batch."""
        return min(self._pace, self._row_limit - self._waiting)

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
        columns, offsets, problems, changes = _checked(self._frame, block)
        self._pace = _DIRTY_STRIDE if len(problems) + len(changes) > len(block) * _MOSTLY_CLEAN else _STRIDE
        self._report(first, block, problems)
        self._count_repairable([block[i] for i in problems])
        self._report_changes(first, changes)
        if offsets:
            if self._on_numbers is not None:
                self._on_numbers(columns[self._frame.phone_at])  # type: ignore[arg-type]
            self._queue(columns, [first + i for i in offsets] if problems else range(first, first + len(block)))

    def _count_repairable(self, rows: list[Row]) -> None:
        """Count those of the bad rows that would be good if cells were repaired."""
        if rows and self._rules.clean is None:
            if self._repair is None:
                rules = self._rules
                self._repair = self._make_frame(RowRules(rules.layout, rules.dialect, rules.bounds, Cleaning()))
            self.rows_repairable += len(_checked(self._repair, rows)[1])

    def _report_changes(self, first: int, changes: Changes) -> None:
        for offset in sorted(changes):
            for change in changes[offset]:
                kinds = self.cleaned.setdefault(change.column, {})
                kinds[change.kind] = kinds.get(change.kind, 0) + 1
                if self._on_change is not None:
                    self._on_change(first + offset, change)

    def _settle_frame(self, block: list[Row]) -> Problems:
        """Find the first row that tells the columns; the verdicts on those before it."""
        useless: Problems = {}
        for offset, row in enumerate(block):
            try:
                if isinstance(row, Lead):
                    self._frame = self._make_frame(self._rules)
                    return useless
                names = _names(row)
                if names is not None:
                    check_options(names, 1, self._rules.layout, self._rules.dialect)
            except BadRow as bad:
                useless[offset] = Problem(bad.field, bad.reason)
            except ConfigurationError as error:
                useless[offset] = Problem("row", error.message)
            except Exception as error:
                # Also of a row that refuses to tell its class.
                useless[offset] = Problem("row", unreadable(error))
            else:
                if names is None:
                    raise ConfigurationError(
                        "rows that are sequences need columns=(...): the service's column names in the order of the "
                        "cells"
                    )
                self._fix_columns(tuple(names), positional=False)
                return useless
        return useless

    def _report(self, first: int, block: list[Row], problems: Problems) -> None:
        if self._on_invalid is not None:
            for offset in sorted(problems):
                self._on_invalid(InvalidRow(first + offset, *problems[offset]), block[offset])

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
        payload = _encode(self._frame.payload())
        self._done.append(Batch(self._next_index, self._waiting_from, last, rows, read, read - rows, payload))
        self._waiting = 0
        self._settled_to = last
        self._next_index += 1


def _names(row: object) -> list[str] | None:
    """The columns that a row names; None for a sequence, whose cells have no names."""
    if isinstance(row, Mapping):
        return list(row)
    if is_sequence(row):
        return None
    raise BadRow("row", not_a(ROW, row))


_Checked: TypeAlias = tuple[Columns, Sequence[int], Problems, Changes]


def _checked(frame: ColumnFit, block: list[Row]) -> _Checked:
    """The good rows of a block as columns of cells, their offsets, the problems of the others, and the changes."""
    try:
        return _checked_together(frame, block)
    except Exception:
        # An object in there fails when it is looked at. One row at a time, so that only its own is lost.
        return _checked_singly(frame, block)


def _checked_together(frame: ColumnFit, block: list[Row]) -> _Checked:
    columns, offsets, problems = frame.fit(block)
    changes: Changes = {}
    if offsets:
        columns, bad, repaired = frame.check(columns)
        changes = {offsets[i]: what for i, what in repaired.items()}
        columns, offsets = _without(bad, columns, offsets, problems)
    if offsets:
        columns, offsets = _without(frame.too_long(columns), columns, offsets, problems)
    # Only now: repairing can make a row too long.
    return columns, offsets, problems, {offset: changes[offset] for offset in changes.keys() - problems.keys()}


def _checked_singly(frame: ColumnFit, block: list[Row]) -> _Checked:
    """The same for a block in which a row raises something: that row is a problem, too."""
    fitted: list[Columns] = []
    offsets: list[int] = []
    problems: Problems = {}
    changes: Changes = {}
    for offset, row in enumerate(block):
        try:
            columns, good, bad, repaired = _checked_together(frame, [row])
        except Exception as error:
            problems[offset] = Problem("row", unreadable(error))
        else:
            if good:
                fitted.append(columns)
                offsets.append(offset)
            problems.update((offset, problem) for problem in bad.values())
            changes.update((offset, what) for what in repaired.values())
    return [[cells[0] for cells in column] for column in zip(*fitted, strict=True)], offsets, problems, changes


def _without(
    bad: Problems, columns: Columns, offsets: Sequence[int], problems: Problems
) -> tuple[Columns, Sequence[int]]:
    """The columns and offsets without the bad rows, whose problems are filed under their offsets."""
    if not bad:
        return columns, offsets
    problems.update((offsets[i], problem) for i, problem in bad.items())
    keep = [i not in bad for i in range(len(offsets))]
    return [list(compress(column, keep)) for column in columns], list(compress(offsets, keep))


class ChunkerMaker(Protocol):
    """Makes the chunker of a run, given who is told of its rows; see ``Chunker``."""

    def __call__(
        self, on_invalid: OnInvalid, *, on_change: OnChange | None = None, on_numbers: OnNumbers | None = None
    ) -> Chunker: ...


def chunker_maker(
    config: ClientConfig,
    layout: Layout,
    row_limit: int,
    columns: Sequence[str] | None,
    leads: object,
    now: datetime,
    clean: Cleaning | None = None,
) -> ChunkerMaker:
    """How to cut rows; ``leads.columns``, which ``read_csv`` has, stands in for ``columns``."""
    names = columns if columns is not None else getattr(leads, "columns", None)

    def make(
        on_invalid: OnInvalid, *, on_change: OnChange | None = None, on_numbers: OnNumbers | None = None
    ) -> Chunker:
        return Chunker(
            columns=names,
            row_limit=row_limit,
            dialect=config.dialect,
            timezone=config.timezone,
            now=now,
            layout=layout,
            clean=clean,
            on_invalid=on_invalid,
            on_change=on_change,
            on_numbers=on_numbers,
        )

    return make


def raise_invalid(invalid: InvalidRow, _: Row) -> NoReturn:
    """For calls in which one bad row fails the whole."""
    raise InvalidLeadError(invalid.field, invalid.reason, invalid.row)
