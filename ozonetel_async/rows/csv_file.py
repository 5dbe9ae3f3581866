"""Files as rows: ``read_csv``."""

from __future__ import annotations

import codecs
import csv
import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from msgspec import json

from ..errors import ConfigurationError, InputError
from .columns import hint_for, label
from .layout import RaggedRow

if TYPE_CHECKING:
    import _csv

__all__ = ["CsvRows", "read_csv", "reopen"]

_DELIMITERS = ",;\t|"
_SCAN = 1 << 16


def read_csv(
    path: str | os.PathLike[str],
    columns: Mapping[str, str | None] | None = None,
    *,
    encoding: str = "utf-8-sig",
    delimiter: str | None = None,
) -> CsvRows:
    """Open a CSV file of leads as a stream of rows; its header is read and checked here.

    Args:
        path: the file. It is read anew, from its beginning, by each iteration.
        columns: ``{header in the file: service column}`` for headers that need another name; None as the service column
            leaves the file's column out. Headers not named here stay as they are, blanks around them removed.
        encoding: the file's; the default is UTF-8 with or without the byte order mark that Excel writes.
        delimiter: one character; None takes the one of ``, ; tab |`` that cuts the header into the most cells.

    Blank lines are no rows. Lines may end in LF, CRLF or CR, and quoted cells may hold line breaks. A row with more or
    fewer cells than the header is handed on and ends as an invalid row, as does one with a NUL in it.

    Raises:
        ConfigurationError: an argument is wrong, such as a header in ``columns`` that the file does not have.
        InputError: the file cannot be read, is empty or in another encoding, its header lacks ``PhoneNumber`` or has
            doubled or empty names; while iterating: broken quotes, undecodable bytes or an oversized cell, with the
            line's number.

    Examples
    --------
    ``client.upload("Diwali", read_csv("leads.csv", {"Mobile": "PhoneNumber", "Remarks": None}))``
    """
    return CsvRows(path, columns, encoding=encoding, delimiter=delimiter)


def reopen(source: Mapping[str, str]) -> CsvRows:
    """Open the file of an earlier ``read_csv`` in the same way, from its ``CsvRows.source``."""
    columns = json.decode(source["columns"], type=dict[str, str | None])
    return CsvRows(source["path"], columns, encoding=source["encoding"], delimiter=source["delimiter"])


class CsvRows(Iterable[list[str]]):
    """The rows of a CSV file, as often as they are iterated; see ``read_csv``.

    Args:
        path: the file.
        columns: the service columns, in the order of the cells of each row.
        source: what ``reopen`` needs to read the same rows again; a journal keeps it.
    """

    path: str
    columns: tuple[str, ...]
    source: dict[str, str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Mapping[str, str | None] | None,
        *,
        encoding: str,
        delimiter: str | None,
    ) -> None:
        _check_path(path)
        _check_settings(encoding, delimiter)
        _check_renames(columns)
        self.path = os.fspath(path)
        self._encoding = encoding
        self._newline = ""
        self._kept: list[int] | None = None
        headers = {mark: self._read_header(mark) for mark in ([delimiter] if delimiter else _DELIMITERS)}
        self._delimiter = max(headers, key=lambda mark: len(headers[mark]))
        if delimiter is None and len(headers[self._delimiter]) < 2:
            self._delimiter = ","
        self._header = headers[self._delimiter]
        self._check_header()
        self.columns, kept = self._renamed([name.strip() for name in self._header], columns or {})
        self._kept = None if len(kept) == len(self._header) else kept
        self._newline = self._line_ends()
        self.source = {
            "path": os.path.abspath(self.path),
            "columns": json.encode(dict(columns or {})).decode(),
            "encoding": encoding,
            "delimiter": self._delimiter,
        }

    def __repr__(self) -> str:
        return f"CsvRows({self.path!r}, columns={self.columns!r})"

    def __iter__(self) -> Iterator[list[str]]:
        with self._open() as file:
            try:
                rows = filter(None, self._reader(file, self._delimiter))
                if next(rows, []) != self._header:
                    raise InputError(f"{self.path}: the header has changed since read_csv read it")
                yield from _projected(rows, self._kept, len(self._header))
            except (csv.Error, UnicodeError, OSError) as error:
                self._fail(error)

    def lines(self) -> Generator[int, None, None]:
        """The line at which each row begins, from 1, in the order of the rows, as far as the file can be read."""
        with self._open() as file, suppress(csv.Error, UnicodeError, OSError):
            reader = self._reader(file, self._delimiter)
            begins, is_header = 1, True
            for row in reader:
                if row and not is_header:
                    yield begins
                is_header = is_header and not row
                begins = reader.line_num + 1

    def _open(self) -> io.TextIOWrapper:
        try:
            return open(self.path, encoding=self._encoding, newline=self._newline)
        except OSError as error:
            self._fail(error)

    def _reader(self, file: Iterable[str], delimiter: str) -> _csv.Reader:
        # strict: a quote in the wrong place would otherwise swallow rows without a word.
        return csv.reader(file, delimiter=delimiter, strict=True)

    def _read_header(self, delimiter: str) -> list[str]:
        """The first row that is not blank; none when it makes no sense with this delimiter."""
        with self._open() as file:
            try:
                return next(filter(None, self._reader(file, delimiter)), [])
            except csv.Error:
                return []
            except (UnicodeError, OSError) as error:
                self._fail(error)

    def _line_ends(self) -> str:
        # Lines that end in LF or CRLF come 2.5 times as fast when a lone CR need not be looked for.
        with self._open() as file:
            try:
                return "" if "\r" in file.read(_SCAN).rstrip("\r").replace("\r\n", "\n") else "\n"
            except (UnicodeError, OSError) as error:
                self._fail(error)

    def _check_header(self) -> None:
        if not self._header:
            for _ in self:  # raises what is wrong with it, when it is more than being empty
                break
            raise InputError(f"{self.path} is empty; right would be a header with PhoneNumber, then the rows")
        if any("\0" in name for name in self._header):
            raise InputError(
                f"{self.path}, line 1: NUL characters in the header; the file looks like UTF-16, "
                "for which encoding='utf-16' would be right"
            )

    def _renamed(self, header: list[str], renames: Mapping[str, str | None]) -> tuple[tuple[str, ...], list[int]]:
        """The service columns, and the positions of their cells."""
        unknown = [name for name in renames if name not in header]
        if unknown:
            raise ConfigurationError(f"{self.path}: no header {label(unknown[0])!r} among {_listed(header)}")
        twice = next((name for i, name in enumerate(header) if name and name in header[:i]), None)
        if twice is not None:
            raise InputError(f"{self.path}: header {label(twice)!r} stands there twice")
        kept = [i for i, name in enumerate(header) if renames.get(name, name) is not None]
        columns = tuple([str(renames.get(header[i], header[i])) for i in kept])
        if "PhoneNumber" not in columns:
            raise InputError(f"{self.path}: {_no_phone(header)}")
        if "" in columns:
            raise InputError(
                f"{self.path}: header {columns.index('') + 1} is empty; give it a name, "
                "or leave its column out with columns={'': None}"
            )
        twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
        if twice is not None:
            raise ConfigurationError(f"{self.path}: two headers become column {label(twice)!r}")
        return columns, kept

    def _fail(self, error: Exception) -> NoReturn:
        """Say where in the file the reader gave up: the file is read once more, up to there."""
        if isinstance(error, OSError):
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None
        if isinstance(error, UnicodeError):
            raise InputError(
                f"{self.path}, line {self._undecodable_line()}: not {self._encoding} text; "
                "pass the file's own encoding, such as encoding='cp1252' or 'utf-16'"
            ) from None
        first, last = self._broken_lines()
        where = f"line {first}" if first == last else f"line {first} (noticed at line {last})"
        raise InputError(
            f"{self.path}, {where}: broken quotes or an oversized cell: {error}; "
            'a quote inside a quoted cell is written twice: ""'
        ) from None

    def _broken_lines(self) -> tuple[int, int]:
        with self._open() as file:
            reader = self._reader(file, self._delimiter)
            first = 1
            try:
                for _ in reader:
                    first = reader.line_num + 1
            except csv.Error:
                return first, max(first, reader.line_num)
        return first, first

    def _undecodable_line(self) -> int:
        decoder = codecs.getincrementaldecoder(self._encoding)()
        breaks = io.IncrementalNewlineDecoder(None, translate=True)
        line = 1
        with open(self.path, "rb") as file:
            while True:
                chunk = file.read(_SCAN)
                state = decoder.getstate()
                try:
                    line += breaks.decode(decoder.decode(chunk, not chunk)).count("\n")
                except UnicodeDecodeError as error:
                    # The decoder's own buffer comes before the chunk in the error's positions.
                    decoder.setstate(state)
                    good = chunk[: max(0, error.start - len(state[0]))]
                    return line + breaks.decode(decoder.decode(good), True).count("\n")
                except UnicodeError:
                    return line
                if not chunk:
                    return line


def _projected(rows: Iterable[list[str]], kept: list[int] | None, width: int) -> Iterable[list[str]]:
    if kept is None:
        return rows
    return _picked(rows, kept, width)


def _picked(rows: Iterable[list[str]], kept: list[int], width: int) -> Iterator[list[str]]:
    for row in rows:
        # A ragged row could come out with the right number of cells once columns are left out.
        yield [row[i] for i in kept] if len(row) == width else RaggedRow(row, width)


def _check_path(path: object) -> None:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ConfigurationError(f"read_csv needs the path of a file as text, got {type(path).__name__}")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # told when it is opened
    except ValueError:
        raise ConfigurationError("read_csv needs the path of a file, and none holds a NUL character") from None
    # Opening a pipe would wait for its writer, deaf to signals, and reading it twice finds nothing.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{os.fspath(path)}: not a regular file, and it must be read more than once; "
            "write what comes out of a pipe into a file first"
        )


def _check_renames(columns: object) -> None:
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        raise ConfigurationError(
            f"columns must be a mapping {{header: service column, or None}}, got {type(columns).__name__}"
        )
    for name in (*columns, *columns.values()):
        if not isinstance(name, str | None):
            raise ConfigurationError(f"columns must map text to text or None, it holds {type(name).__name__}")


def _check_settings(encoding: str, delimiter: str | None) -> None:
    for name, value in (("encoding", encoding), ("delimiter", delimiter or "")):
        if not isinstance(value, str):
            raise ConfigurationError(f"{name} must be text, got {type(value).__name__}")
    try:
        "".encode(encoding)  # knows, unlike codecs.lookup, the codecs that are not of texts
    except (LookupError, ValueError):
        raise ConfigurationError(
            f"encoding {encoding!r} is not known; right would be 'utf-8-sig' or 'cp1252'"
        ) from None
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ConfigurationError(f"delimiter must be one character such as ',' or ';', got {len(delimiter)} characters")


def _listed(header: Sequence[str]) -> str:
    return ", ".join([repr(label(name)) for name in header[:40]])


def _no_phone(header: Sequence[str]) -> str:
    if any(name.lstrip("+").isdecimal() for name in header):
        return "the first line is no header, it holds numbers; put a line with PhoneNumber,… above it"
    near = next((name for name in header if hint_for(name, "bulk") == "PhoneNumber"), header[0])
    return (
        f"no column PhoneNumber among {_listed(header)}; "
        f"rename the one that holds it: columns={{{label(near)!r}: 'PhoneNumber'}}"
    )
