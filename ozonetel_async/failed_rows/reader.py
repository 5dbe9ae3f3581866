"""Reads the file of failed rows behind a result's ``failed_file``.

No page shows the file (Bulk V4 only says that its link lives for 24 hours), so nothing about it is taken for granted:
header, columns, delimiter, encoding and the column of reasons are read off the file itself.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from ..callbacks.bodies import fold
from ..errors import CallbackError
from .phones import phone_key, rounded

__all__ = ["FailedRow", "FailedRowReader"]

_LINE_LIMIT = 65_536
_CELL_LIMIT = 4_000
_COLUMN_LIMIT = 200
_JOIN_LIMIT = 10
_SAMPLE = 20
_DELIMITERS = ",;\t|"
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_NO_TABLE = {"<": "markup", "{": "JSON"}
# Titles, dates and the like that a report may have above its header.
_LINES_ABOVE = 5
_SEPARATOR = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)

_PHONE_NAMES = ("phonenumber", "phone", "phoneno", "mobile", "mobilenumber", "mobileno", "number", "msisdn")
_PHONE_PARTS = ("phone", "mobile", "contact", "caller")
_REASON_NAMES = ("reason", "failurereason", "failedreason", "errorreason", "errormessage", "error", "remarks", "remark")
_REASON_PARTS = ("reason", "error", "remark", "fail", "comment", "message", "description")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LEAD_NAMES = frozenset({"name", "priority", "expirydate", "agentid", "skill", *_PHONE_NAMES})


class FailedRow(Struct, frozen=True):
    """One row that the service did not add.

    Attributes:
        phone: the number as a matching key (``phone_key``); empty when the cell holds none that can be read.
        reason: the service's text; None when the file has no column for it.
        cells: every cell by its column's name; columns without one are ``column_1``, ``column_2``, ….
        as_written: the phone cell as the file has it.
    """

    phone: str
    reason: str | None
    cells: Mapping[str, str]
    as_written: str = ""

    def __repr__(self) -> str:
        # Rows end up in logs and tracebacks: enough to find one again, too little to call it.
        return f"FailedRow('…{self.phone[-3:]}', reason={'…' if self.reason else None})"

    __str__ = __repr__


class FailedRowReader:
    """Reads a failed file piece by piece, in constant memory: ``feed`` each chunk, then ``close``.

    Args:
        columns: names of the columns that were sent; a last column that is not among them holds the reasons, and they
            name the columns of a file without header.

    Raises:
        CallbackError: not a table of this kind: markup, JSON, a line or a row beyond every limit.
    """

    def __init__(self, *, columns: Sequence[str] = ()) -> None:
        self._columns = tuple(columns)
        self._lines = _Lines()
        self._top = _Top()
        self._records = _Records()
        self._sample: list[list[str]] = []
        self._layout: _Layout | None = None

    def feed(self, chunk: bytes) -> list[FailedRow]:
        """The rows that this chunk completes."""
        return self._rows(record for line in self._whole_lines(chunk) for record in self._records.feed(line))

    def close(self) -> list[FailedRow]:
        """The rows that were still open at the end of the file."""
        lines = [*self._whole_lines(b"", final=True), *self._top.close()]
        records = [record for line in lines for record in self._records.feed(line)]
        return self._rows([*records, *self._records.close()]) + self._flush()

    def _whole_lines(self, chunk: bytes, *, final: bool = False) -> Iterator[str]:
        for line in self._lines.feed(chunk, final=final):
            yield from self._top.feed(line)

    def _rows(self, records: Iterable[list[str]]) -> list[FailedRow]:
        rows: list[FailedRow] = []
        for record in records:
            if self._layout is not None:
                rows.append(self._layout.row(record))
                continue
            self._sample.append(record)
            if len(self._sample) >= _SAMPLE:
                rows += self._flush()
        return rows

    def _flush(self) -> list[FailedRow]:
        if self._layout is None and self._sample:
            self._layout = _find_layout(self._sample, self._columns)
            sample, self._sample = self._sample[self._layout.header_rows :], []
            return [self._layout.row(record) for record in sample]
        return []


# --- bytes to lines to records -------------------------------------------------------------------------------------


class _Lines:
    """Cuts chunks into lines without their ends, whatever the encoding and the kind of line end."""

    def __init__(self) -> None:
        self._head = b""
        self._decoder: io.IncrementalNewlineDecoder | None = None
        self._rest = ""
        self._begun = False

    def feed(self, chunk: bytes, *, final: bool = False) -> Iterator[str]:
        """The lines that this chunk completes; with ``final`` also the last one without an end."""
        if self._decoder is None:
            self._head += chunk
            if len(self._head) < 4 and not final:
                return
            self._decoder, chunk = self._begin()
        *lines, self._rest = (self._rest + self._decoder.decode(bytes(chunk), final=final)).split("\n")
        if final:
            lines.append(self._rest)
        if max(map(len, (self._rest, *lines))) > _LINE_LIMIT:
            raise CallbackError(f"the failed file has a line of more than {_LINE_LIMIT:,} characters")
        for line in lines:
            yield line if self._begun else self._first(line)

    def _begin(self) -> tuple[io.IncrementalNewlineDecoder, bytes]:
        bom, encoding = next(((bom, name) for bom, name in _BOMS if self._head.startswith(bom)), (b"", "utf-8"))
        # Names may come in any old code page; numbers are ASCII in all of them, so a bad byte must not cost the file.
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        return io.IncrementalNewlineDecoder(decoder, translate=True), self._head[len(bom) :]

    def _first(self, line: str) -> str:
        self._begun = bool(line.strip())
        kind = _NO_TABLE.get(line.lstrip()[:1])
        if kind is not None:
            raise CallbackError(f"the failed file is {kind}, not a table; an expired link answers like this")
        return line


class _Top:
    """Leaves out what stands above the header, when the header is within the first few lines and names its phones."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._done = False

    def feed(self, line: str) -> list[str]:
        """The lines of the table that are certain with this one."""
        if self._done:
            return [line]
        if not self._held and (not line.strip() or _SEPARATOR.fullmatch(line)):
            return []
        self._held.append(line)
        cells = _rough_cells(line, _delimiter_of(line))
        if any(map(_looks_like_phone, cells)) or len(self._held) > _LINES_ABOVE:
            return self.close()
        if {fold(cell) for cell in cells} & {*_PHONE_NAMES} and self._is_wider(len(cells), _delimiter_of(line)):
            del self._held[:-1]
            return self.close()
        return []

    def close(self) -> list[str]:
        """The lines held back."""
        self._done = True
        held, self._held = self._held, []
        return held

    def _is_wider(self, width: int, delimiter: str) -> bool:
        # A row is as wide as the header above it; a title is not.
        return all(len(_rough_cells(line, delimiter)) < max(2, width) for line in self._held[:-1])


def _delimiter_of(line: str) -> str:
    plain = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=plain.count)


def _rough_cells(line: str, delimiter: str) -> list[str]:
    return [cell for cell in (cell.strip('" ') for cell in line.split(delimiter)) if cell]


class _Records:
    """Lines to records. A stray quote, which lets plain CSV swallow all rows up to the next one, costs its own line."""

    def __init__(self) -> None:
        self._delimiter = ""
        self._width = 0
        self._open: deque[str] = deque()

    def feed(self, line: str) -> list[list[str]]:
        """The records that this line completes; a cell in quotes may run over several lines."""
        if not self._delimiter and line.strip():
            self._delimiter = _delimiter_of(line)
            self._width = re.sub(r'"[^"]*"', "", line).count(self._delimiter)
        if not self._open and '"' not in line:
            return _checked([line.split(self._delimiter)]) if line.strip() else []
        self._open.append(line)
        return self._drain(final=False)

    def close(self) -> list[list[str]]:
        """The records that the end of the file completes."""
        return self._drain(final=True)

    def _drain(self, *, final: bool) -> list[list[str]]:
        records: list[list[str]] = []
        while self._open:
            lines = self._balanced()
            if not lines and not final and len(self._open) < _JOIN_LIMIT:
                break
            whole = len(lines) > 1 and not any(map(self._is_row, lines[1:]))
            joined = self._parse("\n".join(lines), strict=True) if whole else None
            records.append(joined or self._parse(self._open[0], strict=False) or [self._open[0]])
            for _ in range(len(lines) if joined else 1):
                self._open.popleft()
        return _checked(records)

    def _balanced(self) -> list[str]:
        """The open lines up to the first with which every quote has its pair; none when there is no such line."""
        quotes = 0
        for count, line in enumerate(self._open, 1):
            quotes += line.count('"')
            if quotes % 2 == 0:
                return list(self._open)[:count]
        return []

    def _is_row(self, line: str) -> bool:
        # Two stray quotes make valid CSV of the rows between them; a lost row is worse than a cell cut in two.
        cells = line.split(self._delimiter)
        return len(cells) > self._width and any(_looks_like_phone(cell.strip('" ')) for cell in cells)

    def _parse(self, text: str, *, strict: bool) -> list[str] | None:
        try:
            return next(csv.reader([text], delimiter=self._delimiter, strict=strict, skipinitialspace=True), None)
        except csv.Error:
            return None


def _checked(records: list[list[str]]) -> list[list[str]]:
    if max(map(len, records), default=0) > _COLUMN_LIMIT:
        raise CallbackError(f"the failed file has a row of more than {_COLUMN_LIMIT} cells")
    trimmed = ([cell[:_CELL_LIMIT].strip() for cell in record] for record in records)
    return [record for record in trimmed if any(record)]


# --- which column is what ------------------------------------------------------------------------------------------


class _Layout(Struct, frozen=True):
    names: tuple[str, ...]
    phone: int | None
    reason: int | None
    header_rows: int

    def row(self, record: list[str]) -> FailedRow:
        width, extra = len(self.names), ""
        if len(record) > width:
            extra = ",".join(record[width:])
            if self.reason == width - 1:
                # Reasons are sentences: in a file without quotes their commas cut them into several cells.
                record = [*record[: width - 1], f"{record[width - 1]},{extra}"]
        names = (*self.names, *(f"column_{number}" for number in range(width + 1, len(record) + 1)))
        cells = dict(zip(names, [*record, *[""] * (width - len(record))], strict=True))
        phone = self._phone_cell(record)
        reason = extra if self.reason is None else cells[names[self.reason]]
        return FailedRow(phone_key(phone) or "", reason or None, cells, phone)

    def _phone_cell(self, record: list[str]) -> str:
        if self.phone is not None:
            return record[self.phone] if self.phone < len(record) else ""
        found = [cell for cell in record if _looks_like_phone(cell)]
        return found[0] if len(found) == 1 else ""


def _find_layout(sample: list[list[str]], columns: Sequence[str]) -> _Layout:
    sent = {fold(name) for name in columns}
    header_rows = int(_is_header(sample[0], sent))
    names = _names(sample[0], columns, named=bool(header_rows))
    folded = [fold(name) for name in names]
    phone = _named(folded, _PHONE_NAMES, _PHONE_PARTS)
    if phone is None:
        phone = _phone_by_content(sample[header_rows:], len(names))
    # A column that was sent holds what was sent, whatever its name sounds like.
    foreign = ["" if name in sent or index == phone else name for index, name in enumerate(folded)]
    reason = _named(foreign, _REASON_NAMES, _REASON_PARTS)
    if reason is None and sent:
        reason = max((index for index, name in enumerate(foreign) if name and name not in _LEAD_NAMES), default=None)
    return _Layout(names, phone, reason, header_rows)


def _is_header(record: list[str], sent: set[str]) -> bool:
    if any(map(_looks_like_phone, record)):
        return False
    if {fold(cell) for cell in record} & (sent | _LEAD_NAMES | {*_REASON_NAMES}):
        return True
    return not any(cell.isdecimal() for cell in record)


def _names(record: list[str], columns: Sequence[str], *, named: bool) -> tuple[str, ...]:
    given: Sequence[str] = record if named else ()
    if not named and columns and len(record) - len(columns) in (0, 1):
        given = columns
    names: list[str] = []
    for number in range(1, len(record) + 1):
        name = (given[number - 1] if number <= len(given) else "") or f"column_{number}"
        while name in names:
            name = f"{name}_{number}"
        names.append(name)
    return tuple(names)


def _named(folded: list[str], whole: Sequence[str], parts: Sequence[str]) -> int | None:
    for name in whole:
        if name in folded:
            return folded.index(name)
    return next((index for index, name in enumerate(folded) for part in parts if part in name), None)


def _phone_by_content(records: list[list[str]], width: int) -> int | None:
    columns = [[record[index] for record in records if index < len(record)] for index in range(width)]
    hits = [sum(map(_looks_like_phone, cells)) for cells in columns]
    best = max(hits, default=0)
    clear = 2 * best > len(records) and hits.count(best) == 1
    return hits.index(best) if clear else None


def _looks_like_phone(cell: str) -> bool:
    return not _DATE.match(cell) and (len(phone_key(cell) or "") >= 7 or rounded(cell) is not None)
