"""Rows of every kind, fitted to the columns of a request.

A block of rows is turned into columns of cells, each column is checked, and the good rows are kept until their batch is
cut. ``FixedColumns`` has the same columns for the whole run; with ``LeadColumns`` each batch has the columns that its
leads fill.

A row's length is the number of characters (code points) of all headers of its request plus those of all its cells as
they are sent; quotes and separators do not count. Bulk V4 says "including all headers" and leaves the rest open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeAlias

from ..config import Cleaning, Dialect
from ..models import Lead, Row
from .checks import BadCell, ColumnCheck, DateLimits, Value, not_a, shape, unreadable
from .columns import PHONE, REQUIRED, Layout, check_for, extra_problem, label, lead_columns

__all__ = [
    "ROW",
    "BadRow",
    "Change",
    "Changes",
    "ColumnFit",
    "Columns",
    "FixedColumns",
    "LeadColumns",
    "Problem",
    "Problems",
    "RowRules",
    "UnfitRow",
    "is_sequence",
]


class Problem(NamedTuple):
    """Column and reason of a bad row, and the other columns of it that are wrong."""

    field: str
    reason: str
    further: tuple[tuple[str, str], ...] = ()


# What is wrong with each bad row, by its position.
Problems: TypeAlias = dict[int, Problem]
Columns: TypeAlias = list[Sequence[object]]


class Change(NamedTuple):
    """A cell that was repaired.

    Attributes:
        column: its column.
        kind: what was repaired, such as ``"separators"``.
        before: the cell as found.
        after: the cell as it is sent; ``""`` when it is left out.
    """

    column: str
    kind: str
    before: object
    after: Value


# What was repaired in each row, by its position.
Changes: TypeAlias = dict[int, list[Change]]


def _add_problem(problems: Problems, i: int, field: str, reason: str) -> None:
    first = problems.get(i)
    if first is None:
        problems[i] = Problem(field, reason)
    else:
        problems[i] = first._replace(further=(*first.further, (field, reason)))


class UnfitRow(list[Any]):
    """A row of a file that does not fit its header; always invalid, whatever its length.

    Args:
        cells: the cells as found.
        reason: what is wrong with it.
        field: the column to blame.
    """

    def __init__(self, cells: Iterable[object], reason: str, field: str = "row") -> None:
        super().__init__(cells)
        self.reason = reason
        self.field = field


class BadRow(Exception):  # noqa: N818 - a verdict passed between functions, never seen by a caller
    """A row that cannot be fitted or sent, with the column to blame and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


ROW = "Lead, a mapping or a sequence of cells"


def is_sequence(row: object) -> bool:
    """Whether a row is a sequence of cells; texts and bytes are not."""
    return isinstance(row, Sequence) and not isinstance(row, str | bytes | bytearray | memoryview)


class RowRules:
    """What all checks of a run share."""

    def __init__(self, layout: Layout, dialect: Dialect, bounds: DateLimits, clean: Cleaning | None = None) -> None:
        self.layout: Layout = layout
        self.dialect = dialect
        self.bounds = bounds
        self.clean = clean
        self.lead_columns: dict[str, str] = lead_columns(layout)
        self.service_names: frozenset[str] = frozenset(self.lead_columns.values())

    def check(self, column: str) -> ColumnCheck:
        """The check of a column."""
        return check_for(column, self.layout, self.dialect, self.bounds, self.clean)


class ColumnFit:
    """The columns into which rows are fitted, and the rows that wait for their batch."""

    def __init__(self, rules: RowRules, columns: tuple[str, ...]) -> None:
        self._rules = rules
        self._checks = [(column, rules.check(column)) for column in columns]
        self.phone_at: int = columns.index(PHONE)
        """Where the phone numbers stand among the columns of cells."""
        widths = [check.width for _, check in self._checks]
        self._open = [i for i, width in enumerate(widths) if width is None]
        self._narrow = sum(width for width in widths if width is not None)
        self._pending: list[tuple[object, ...]] = []
        # Characters left for the cells of a row.
        self._room = rules.dialect.row_characters - sum(map(len, columns))

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The request's columns, once known."""
        raise NotImplementedError

    def fit(self, block: list[Row]) -> tuple[Columns, Sequence[int], Problems]:
        """The block as columns of cells, the offsets of the rows they come from, and the rows that do not fit."""
        offsets: list[int] = []
        fitted: list[Sequence[object]] = []
        problems: Problems = {}
        for offset, row in enumerate(block):
            try:
                fitted.append(self.cells_of(row))
            except BadRow as problem:
                problems[offset] = Problem(problem.field, problem.reason)
            else:
                offsets.append(offset)
        return list(zip(*fitted, strict=True)), offsets, problems

    def cells_of(self, row: object) -> Sequence[object]:
        """One row's cells in the order of the checks."""
        raise NotImplementedError

    def check(self, cells: Columns) -> tuple[Columns, Problems, Changes]:
        """The columns as they are sent, what is wrong with each bad row by its position in them, and the changes."""
        sent: Columns = []
        problems: Problems = {}
        changes: Changes = {}
        for (name, check), column in zip(self._checks, cells, strict=False):
            good, bad, repaired = check.column(column)
            sent.append(good)
            for i, reason in bad.items():
                _add_problem(problems, i, name, reason)
            for i, kind in repaired.items():
                changes.setdefault(i, []).append(Change(name, kind, column[i], good[i]))
        return sent, problems, changes

    def too_long(self, sent: Columns) -> Problems:
        """The rows that are longer than the service takes; every cell must have passed its check."""
        # When no open column has a cell above its share of the room, no row can be too long.
        if self._room >= self._narrow:
            share = (self._room - self._narrow) // max(1, len(self._open))
            if all(_none_longer(sent[i], share) for i in self._open):
                return {}
        lengths = map(sum, zip(*[map(len, map(str, column)) for column in sent], strict=True))
        return {i: self._length_problem(n) for i, n in enumerate(lengths) if n > self._room}

    def _length_problem(self, characters: int) -> Problem:
        most = self._rules.dialect.row_characters
        total = characters + most - self._room
        return Problem("row", f"{total} characters with its headers; expected at most {most}")

    def take(self, rows: list[tuple[object, ...]]) -> int:
        """Let rows wait for the batch; how many of them it takes."""
        self._pending += rows
        return len(rows)

    def payload(self) -> dict[str, object]:
        """The waiting rows as a request's ``map`` and ``data``."""
        rows, self._pending = self._pending, []
        return {"map": self.columns, "data": rows}


def _none_longer(cells: Sequence[object], most: int) -> bool:
    """Whether every cell is a text of at most ``most`` characters; none may hold a line feed."""
    try:
        joined = "\n".join(cells)  # type: ignore[arg-type]
    except TypeError:
        return False
    # Leap from line feed to line feed, each as far as allowed: far fewer steps than there are cells.
    at, last = -1, len(joined) - most - 1
    while at < last:
        reached = joined.rfind("\n", at + 1, at + most + 2)
        if reached < 0:
            return False
        at = reached
    return True


class FixedColumns(ColumnFit):
    """The same columns for the whole run."""

    def __init__(self, rules: RowRules, columns: tuple[str, ...], *, positional: bool) -> None:
        super().__init__(rules, columns)
        self._columns = columns
        self._names = frozenset(columns)
        self._positional = positional
        # With a single name, itemgetter gives the bare cell; the name once more keeps its answer a tuple.
        self._pick: Callable[[Any], tuple[object, ...]] = itemgetter(*columns, columns[-1])

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    def fit(self, block: list[Row]) -> tuple[Columns, Sequence[int], Problems]:
        """As for any frame; blocks of one simple kind of rows at the speed of C."""
        kinds = set(map(type, block))
        width = len(self._columns)
        cells: list[tuple[object, ...]] = []
        if self._positional and kinds <= {list, tuple}:
            with suppress(ValueError):  # ragged rows: each gets its own verdict below
                cells = [*zip(*block, strict=True)]
        elif kinds == {dict} and set(map(len, block)) == {width}:  # type: ignore[arg-type]
            with suppress(Exception):  # a missing cell, mostly; a key that refuses to be compared, too
                *cells, _ = zip(*map(self._pick, block), strict=True)
        return ([*cells], range(len(block)), {}) if len(cells) == width else super().fit(block)

    def cells_of(self, row: object) -> Sequence[object]:
        if isinstance(row, Lead):
            row = _lead_mapping(row, self._rules.lead_columns)
        if isinstance(row, Mapping):
            if not row.keys() <= self._names:
                stray = next(name for name in row if name not in self._names)
                columns = f"{', '.join(self._columns)}"[:200]
                decides = "" if self._positional else "; the first row decides which columns there are"
                raise BadRow(label(stray), f"not one of the columns {columns}{decides}")
            return [row.get(name) for name in self._columns]
        if isinstance(row, UnfitRow):
            raise BadRow(row.field, row.reason)
        if not is_sequence(row):
            raise BadRow("row", not_a(ROW, row))
        if not self._positional:
            raise BadRow("row", "a sequence, whose cells have no names; expected a mapping, or columns=(...)")
        assert isinstance(row, Sequence)
        if len(row) != len(self._columns):
            raise BadRow("row", f"{len(row)} cells; expected {len(self._columns)}, as in the columns")
        return tuple(row)


def _lead_mapping(lead: Lead, names: Mapping[str, str]) -> dict[str, object]:
    """The fields a lead fills, under their service names."""
    cells = {column: getattr(lead, field) for field, column in names.items()}
    cells = {column: cell for column, cell in cells.items() if cell is not None}
    if not isinstance(lead.extra, Mapping):
        raise BadRow("extra", f"{shape(lead.extra)}; expected a mapping of column names to cells")
    for name in lead.extra:
        if name in cells:
            raise BadRow(label(name), "given both as a field and in extra; expected the field")
    return {**cells, **lead.extra}


class LeadColumns(ColumnFit):
    """The columns that the leads of a batch fill: the fixed ones first, then extras in the order they turn up.

    A cell row is the lead's fixed cells followed by its extras as one mapping.
    """

    def __init__(self, rules: RowRules) -> None:
        super().__init__(rules, tuple(rules.lead_columns.values()))
        if rules.layout == "bulk":
            self._room += len(rules.lead_columns["scheduled_time"])  # never sent
        self._pick: Callable[[object], tuple[object, ...]] = attrgetter(*rules.lead_columns, "extra")
        self._extra = rules.check("")
        self._columns: tuple[str, ...] | None = None
        self._usable: set[object] = set()
        self._new_batch()

    def _new_batch(self) -> None:
        self._extras: dict[str, None] = {}
        self._extras_length = 0
        # Characters of the longest waiting row; None until a lead with extras makes it matter.
        self._longest: int | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self._columns

    def fit(self, block: list[Row]) -> tuple[Columns, Sequence[int], Problems]:
        """As for any frame; blocks of leads at the speed of C."""
        if set(map(type, block)) == {Lead}:
            return list(zip(*map(self._pick, block), strict=True)), range(len(block)), {}
        return super().fit(block)

    def cells_of(self, row: object) -> Sequence[object]:
        if isinstance(row, Lead):
            return self._pick(row)
        if isinstance(row, Mapping):
            fixed = [row.get(column) for column in self._rules.lead_columns.values()]
            return [*fixed, {name: cell for name, cell in row.items() if name not in self._rules.service_names}]
        if is_sequence(row):
            raise BadRow("row", "a sequence, whose cells have no names; expected a lead, or columns=(...)")
        raise BadRow("row", not_a(ROW, row))

    def check(self, cells: Columns) -> tuple[Columns, Problems, Changes]:
        """As for any frame, then the extras."""
        sent, problems, changes = super().check(cells)
        extras: list[object] = [{}] * len(cells[-1])
        for i, extra in enumerate(cells[-1]):
            try:
                if extra:
                    repaired: list[Change] = []
                    extras[i] = self._sent_extra(extra, repaired)
                    if repaired:
                        changes.setdefault(i, []).extend(repaired)
            except BadRow as problem:
                _add_problem(problems, i, problem.field, problem.reason)
            except Exception as error:
                _add_problem(problems, i, "extra", unreadable(error))
        return [*sent, extras], problems, changes

    def _sent_extra(self, extra: object, changes: list[Change]) -> dict[str, Value]:
        if not isinstance(extra, Mapping):
            raise BadRow("extra", f"{shape(extra)}; expected a mapping of column names to cells")
        sent: dict[str, Value] = {}
        for name, cell in extra.items():
            self._check_name(name)
            try:
                value, kind = self._extra.repaired(cell)
            except BadCell as problem:
                raise BadRow(label(name), problem.reason) from None
            if kind:
                changes.append(Change(label(name), kind, cell, value))
            if value != "":
                sent[name] = value
        return sent

    def _check_name(self, name: object) -> None:
        if name in self._usable:
            return
        if (problem := extra_problem(name, self._rules.layout)) is not None:
            raise BadRow(label(name), problem)
        if len(self._usable) > 1_000:
            self._usable.clear()
        self._usable.add(name)

    def too_long(self, sent: Columns) -> Problems:
        """As for any frame, with the names of a lead's own extras."""
        extras = sent[-1]
        if not any(extras):
            return super().too_long(sent[:-1])
        rows = zip(*sent, strict=True)
        lengths = (_characters(row) + _name_characters(row[-1]) for row in rows)
        return {i: self._length_problem(n) for i, n in enumerate(lengths) if n > self._room}

    def take(self, rows: list[tuple[object, ...]]) -> int:
        """As for any frame; fewer than given when a lead's extras would make a row of the batch too long."""
        if not self._extras and not any(map(itemgetter(-1), rows)):
            return super().take(rows)
        for taken, row in enumerate(rows):
            if not self._admits(row):
                return taken
            self._pending.append(row)
        return len(rows)

    def _admits(self, row: tuple[object, ...]) -> bool:
        if self._longest is None:
            self._longest = max(map(_characters, self._pending), default=0)
        new = [name for name in row[-1] if name not in self._extras]  # type: ignore[attr-defined]
        headers = self._extras_length + sum(map(len, new))
        longest = max(self._longest, _characters(row))
        if self._pending and headers + longest > self._room:
            return False
        self._extras |= dict.fromkeys(new)
        self._extras_length, self._longest = headers, longest
        return True

    def payload(self) -> dict[str, object]:
        """As for any frame, without the columns that no lead fills."""
        *fixed, extras = zip(*self._pending, strict=True)
        required = REQUIRED[self._rules.layout]
        used = {
            name: column
            for (name, _), column in zip(self._checks, fixed, strict=True)
            if name in required or not _all_empty(column)
        }
        for name in self._extras:
            used[name] = tuple([extra.get(name, "") for extra in extras])
        self._columns = tuple(used)
        self._pending = list(zip(*used.values(), strict=True))
        self._new_batch()
        return super().payload()


def _all_empty(column: Sequence[object]) -> bool:
    try:
        return column.count("") == len(column)
    except Exception:
        return False  # a text of a kind that refuses to be compared: sent as it is


def _characters(row: tuple[object, ...]) -> int:
    """Characters of a lead's cells, extras included."""
    extra = row[-1]
    assert isinstance(extra, Mapping)
    return sum(map(len, map(str, row[:-1]))) + sum(map(len, map(str, extra.values())))


def _name_characters(extra: object) -> int:
    assert isinstance(extra, Mapping)
    return sum(map(len, extra))
