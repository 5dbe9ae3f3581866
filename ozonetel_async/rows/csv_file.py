"""Files as rows: ``read_csv``."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from msgspec import json

from ..errors import ConfigurationError, InputError
from .file_kinds import FIRST_BYTES, encoding_of, is_gzip, not_csv
from .headers import SAMPLE_ROWS, header_score, read_header
from .layout import UnfitRow

if TYPE_CHECKING:
    import _csv

__all__ = ["CsvRows", "read_csv"]

_log = logging.getLogger("ozonetel_async")

_DELIMITERS: Final = ",;\t|"
_DEFAULT_ENCODING: Final = "utf-8-sig"
_SCAN: Final = 1 << 16
# Rows looked at together; enough to drown the cost of a call in C.
_BLOCK: Final = 250
_FIRST_CELL: Final = itemgetter(0)
# No text below this one is anything but blank, or begins with a blank or control character.
_NOT_BLANK: Final = "!"
# Lines above a header, at the most, among which one is looked for when the first line is none.
_LINES_ABOVE: Final = 10
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")
# What a file that is damaged, or is no text, raises when it is read.
_READ_ERRORS: Final = (csv.Error, UnicodeError, OSError, EOFError, zlib.error)


def read_csv(
    path: str | os.PathLike[str],
    columns: Mapping[str, str | None] | None = None,
    *,
    encoding: str = _DEFAULT_ENCODING,
    delimiter: str | None = None,
    skip_lines: int = 0,
    only: bool = False,
) -> CsvRows:
    """Open a CSV file of leads as a stream of rows; its header is read and checked here.

    Args:
        path: the file, which may be compressed with gzip; ``"-"`` is standard input. It is read anew, from its
            beginning, by each iteration; standard input is copied into a temporary file for that.
        columns: ``{header in the file: service column}`` for headers that need another name; None as the service column
            leaves the file's column out. Headers not named here stay as they are, blanks around them removed; those of
            the service are taken in any case (``name``, ``phone number``).
        encoding: the file's; the default is UTF-8 with or without the byte order mark that Excel writes. The mark of
            UTF-16 or UTF-32 is heeded.
        delimiter: one character; None takes the one of ``, ; tab |`` that cuts the header into the most columns that
            are known, and else into the most cells. A line ``sep=;`` above the header is heeded.
        skip_lines: lines above the header that are no part of the table, such as a title.
        only: send the service's columns and those named in ``columns``, and leave out all others.

    Without a ``PhoneNumber``, the column is taken whose header has a word for it (mobile, phone, cell, tel, contact no,
    whatsapp) and whose first cells look like numbers, when there is exactly one; ``CsvRows.notes`` tells so. Columns
    without a name are left out, and so are those that a file of rejects has more than its input.

    Blank lines, and lines of nothing but delimiters, are no rows. Lines may end in LF, CRLF or CR, and quoted cells may
    hold line breaks. A row with more or fewer cells than the header, or with something below a header without a name,
    is handed on and ends as an invalid row, as does one with a NUL in it.

    Raises:
        ConfigurationError: an argument is wrong, such as a header in ``columns`` that the file does not have.
        InputError: the file cannot be read, is empty, no CSV or in another encoding, or its header is wrong (all its
            mistakes are told at once); while iterating: broken quotes, undecodable bytes or an oversized cell, with the
            line's number.

    Examples:
    --------
    ``client.upload("Diwali", read_csv("leads.csv", {"Mobile": "PhoneNumber", "Remarks": None}))``
    """
    return CsvRows(path, columns, encoding=encoding, delimiter=delimiter, skip_lines=skip_lines, only=only)


class CsvRows(Iterable[list[str]]):
    """The rows of a CSV file, as often as they are iterated; see ``read_csv``.

    Args:
        path: the file; of standard input, its copy.
        columns: the service columns, in the order of the cells of each row.
        header: the file's own columns, those left out too.
        left_out: those of ``header`` that are not sent.
        notes: what was taken for what on the ground of names and cells, for the user to see.
        source: what ``reopen`` needs to read the same rows again; a journal keeps it.
    """

    path: str
    columns: tuple[str, ...]
    header: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    source: dict[str, str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Mapping[str, str | None] | None,
        *,
        encoding: str,
        delimiter: str | None,
        skip_lines: int = 0,
        only: bool = False,
    ) -> None:
        _check_path(path)
        _check_settings(encoding, delimiter, skip_lines, only)
        _check_renames(columns)
        self._name = "standard input" if path == "-" else os.fspath(path)
        self.path = _spooled(self) if path == "-" else os.fspath(path)
        self._is_spooled = path == "-"
        self._encoding = encoding
        self._newline = ""
        self._gzip = False
        self._look_at_first_bytes()
        self._skip = skip_lines
        self._delimiter = delimiter or ","
        separator = self._separator()
        if separator:
            self._skip = max(1, skip_lines)
        self._find_header(delimiter or separator, columns or {})
        self._check_header()
        try:
            header = read_header(self._header, columns or {}, self._sample(), only=only)
        except (ConfigurationError, InputError) as error:
            raise type(error)(f"{self._name}: {error.message}{self._title_hint(columns or {})}") from None
        self.columns, self.notes = header.columns, header.notes
        self.header = tuple([name.strip() for name in self._header])
        self.left_out = tuple([name for i, name in enumerate(self.header) if name and i not in header.kept])
        for note in self.notes:
            _log.info("%s: %s", self._name, note)
        self._kept = None if len(header.kept) == len(self._header) else header.kept
        self._nameless = header.nameless
        # One twice, for itemgetter gives a bare cell for a single one.
        self._below_nameless = itemgetter(*header.nameless, *header.nameless[:1]) if header.nameless else None
        self._escaped = header.escaped
        self._newline = self._line_ends()
        self.source = {
            "path": os.path.abspath(self.path),
            "columns": json.encode(dict(columns or {})).decode(),
            "encoding": self._encoding,
            "delimiter": self._delimiter,
            **({"skip_lines": str(skip_lines)} if skip_lines else {}),
            **({"only": "true"} if only else {}),
        }

    def __repr__(self) -> str:
        return f"CsvRows({self._name!r}, columns={self.columns!r})"

    def __iter__(self) -> Iterator[list[str]]:
        return _chained(self._fitting_blocks())

    def _fitting_blocks(self) -> Generator[list[list[str]]]:
        """The rows in blocks, with the columns that are sent."""
        pick = None if self._kept is None else _picker(self._kept)
        for block in self._blocks():
            rows = self._fitting(block)
            if self._escaped:
                rows = [row if isinstance(row, UnfitRow) else _unescaped(row) for row in rows]
            if pick is not None:
                rows = [row if isinstance(row, UnfitRow) else pick(row) for row in rows]
            yield rows

    def cells(self) -> Generator[tuple[int, list[str]]]:
        """The line at which each row begins, from 1, and all its cells, those left out too; as far as can be read."""
        with suppress(InputError):
            for line, row in self._numbered():
                yield line, _unescaped(row) if self._escaped else row

    def lines(self) -> Generator[int, None, None]:
        """The line at which each row begins, from 1, in the order of the rows, as far as the file can be read."""
        with suppress(InputError):
            for line, _ in self._numbered():
                yield line

    def keep_beside(self, journal: str | os.PathLike[str]) -> None:
        """Keep a copy of standard input beside a journal, from which ``source`` can be read again."""
        if not self._is_spooled:
            return
        copy = os.path.abspath(f"{os.fspath(journal)}.input.csv")
        if not os.path.exists(copy):
            try:
                descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "wb") as kept, open(self.path, "rb") as spooled:
                    shutil.copyfileobj(spooled, kept)
            except OSError as error:
                raise InputError(f"cannot keep a copy of standard input at {copy}: {error.strerror}") from None
        self.source["path"] = copy

    def _fitting(self, block: list[list[str]]) -> list[list[str]]:
        """The rows of a block without blank ones; those that do not fit the header are marked."""
        width = len(self._header)
        plain = set(map(len, block)) == {width} and min(map(_FIRST_CELL, block)) >= _NOT_BLANK
        if plain and (self._below_nameless is None or not any(map(any, map(self._below_nameless, block)))):
            return block
        return [self._fitted(row, width) for row in block if any(map(str.strip, row))]

    def _fitted(self, row: list[str], width: int) -> list[str]:
        if len(row) > width and not any(map(str.strip, row[width:])):
            row = row[:width]  # delimiters at the end of the line
        if len(row) != width:
            return UnfitRow(row, f"{len(row)} cells; expected {width}, as in the header")
        for i in self._nameless:
            if row[i].strip():
                reason = f"column {i + 1} has a cell here, and no name in the header; expected a name, or no cell"
                return UnfitRow(row, reason)
        return row

    def _sample(self) -> list[list[str]]:
        """The first rows, as far as they can be read; what is wrong below them is for the iteration to tell."""
        rows: list[list[str]] = []
        with self._open() as file, suppress(*_READ_ERRORS):
            rows.extend(islice(self._below_header(file), SAMPLE_ROWS))
        return rows

    def _blocks(self, skipped: int = 0) -> Iterator[list[list[str]]]:
        """The rows below the header in blocks, empty lines left out; those before an error come first."""
        failure: Exception | None = None
        with self._open() as file:
            given = skipped
            rows = islice(self._below_header(file), skipped, None)
            while failure is None:
                block: list[list[str]] = []
                try:
                    block.extend(islice(rows, _BLOCK))
                except _READ_ERRORS as error:
                    failure = error
                if block:
                    yield block
                    given += len(block)
                elif failure is None:
                    return
        if self._newline == "" or "new-line" not in str(failure):
            self._fail(failure)
        # A lone CR far down in a file whose other lines end in LF.
        self._newline = ""
        yield from self._blocks(given)

    def _below_header(self, file: io.TextIOBase) -> Iterator[list[str]]:
        rows = filter(None, self._reader(file, self._delimiter))
        try:
            header = next(rows, [])
        except _READ_ERRORS as error:
            self._fail(error)
        if header != self._header:
            raise InputError(f"{self._name}: the header has changed since read_csv read it")
        return rows

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        with self._open() as file:
            try:
                reader = self._reader(file, self._delimiter)
                begins, in_table = self._skip + 1, False
                for row in reader:
                    if in_table and any(map(str.strip, row)):
                        yield begins, row
                    in_table = in_table or bool(row)
                    begins = self._skip + reader.line_num + 1
            except _READ_ERRORS as error:
                self._fail(error)

    def _open(self) -> io.TextIOBase:
        """The text from the header on."""
        file = self._open_text()
        try:
            for _ in range(self._skip):
                file.readline()
        except _READ_ERRORS as error:
            file.close()
            self._fail(error)
        return file

    def _open_bytes(self) -> Any:
        try:
            return gzip.open(self.path, "rb") if self._gzip else open(self.path, "rb")
        except OSError as error:
            self._fail(error)

    def _open_text(self) -> io.TextIOBase:
        if self._gzip:
            return _GzipText(self.path, self._encoding, self._newline)
        try:
            return open(self.path, encoding=self._encoding, newline=self._newline)
        except OSError as error:
            self._fail(error)

    def _reader(self, file: Iterable[str], delimiter: str) -> _csv.Reader:
        # strict: a quote in the wrong place would otherwise swallow rows without a word.
        return csv.reader(file, delimiter=delimiter, strict=True)

    def _look_at_first_bytes(self) -> None:
        with self._open_bytes() as file:
            start = self._first(file)
        if is_gzip(start):
            self._gzip = True
            with self._open_bytes() as file:
                start = self._first(file)
        if (kind := not_csv(start)) is not None:
            raise InputError(f"{self._name} is {kind}")
        if self._encoding == _DEFAULT_ENCODING:
            self._encoding = encoding_of(start) or self._encoding

    def _first(self, file: io.BufferedIOBase) -> bytes:
        try:
            return file.read(FIRST_BYTES)
        except _READ_ERRORS as error:
            self._fail(error)

    def _separator(self) -> str | None:
        """The delimiter that a first line such as ``sep=;`` tells, as Excel writes it."""
        with self._open_text() as file:
            try:
                found = _SEP_LINE.fullmatch(file.readline(16))
            except _READ_ERRORS as error:
                self._fail(error)
        return None if found is None else found[1]

    def _find_header(self, delimiter: str | None, renames: Mapping[str, str | None]) -> None:
        headers = {mark: self._read_header(mark) for mark in ([delimiter] if delimiter else _DELIMITERS)}
        scores = {mark: header_score(names, renames, _DELIMITERS) for mark, names in headers.items()}
        self._delimiter = max(scores, key=lambda mark: scores[mark])
        if delimiter is None and len(headers[self._delimiter]) < 2:
            self._delimiter = ","
        self._header = headers[self._delimiter]

    def _read_header(self, delimiter: str) -> list[str]:
        """The first row that is not blank; none when it makes no sense with this delimiter."""
        with self._open() as file:
            try:
                return next(filter(None, self._reader(file, delimiter)), [])
            except csv.Error:
                return []
            except _READ_ERRORS as error:
                self._fail(error)

    def _line_ends(self) -> str:
        # Lines that end in LF or CRLF come 2.5 times as fast when a lone CR need not be looked for.
        with self._open() as file:
            try:
                return "" if "\r" in file.read(_SCAN).rstrip("\r").replace("\r\n", "\n") else "\n"
            except _READ_ERRORS as error:
                self._fail(error)

    def _check_header(self) -> None:
        if not self._header:
            for _ in self._blocks():  # raises what is wrong with it, when it is more than being empty
                break
            raise InputError(f"{self._name} is empty; expected a header with PhoneNumber, then the rows")
        if any("\0" in name for name in self._header):
            raise InputError(
                f"{self._name}, line 1: NUL characters in the header; the file looks like UTF-16, "
                "for which encoding='utf-16' would be right"
            )

    def _title_hint(self, renames: Mapping[str, str | None]) -> str:
        """What to do when a line below the first looks like the header."""
        if any(header_score(self._header, renames, _DELIMITERS)[:2]):
            return ""
        with self._open() as file:
            try:
                lines = [file.readline() for _ in range(_LINES_ABOVE)]
            except _READ_ERRORS as error:
                self._fail(error)
        for below, line in enumerate(lines):
            for mark in _DELIMITERS:
                names = line.rstrip("\r\n").split(mark)
                if len(names) > 1 and any(header_score(names, renames, _DELIMITERS)[:2]):
                    told = f"Line {self._skip + 1} does not look like a header, line {self._skip + below + 1} does"
                    return f". {told}: skip_lines={self._skip + below}"
        return ""

    def _fail(self, error: Exception) -> NoReturn:
        """Say where in the file the reader gave up: the file is read once more, up to there."""
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise InputError(f"{self._name}: the compressed file is damaged or cut off") from None
        if isinstance(error, OSError):
            raise InputError(f"cannot read {self._name}: {error.strerror or error}") from None
        if isinstance(error, UnicodeError):
            encoding = "UTF-8" if self._encoding == _DEFAULT_ENCODING else self._encoding
            raise InputError(
                f"{self._name}, line {self._undecodable_line()}: not {encoding}, and no row from line "
                f"{self._first_unread()} on was read; pass the file's own encoding, such as encoding='cp1252' or "
                "'utf-16'"
            ) from None
        first, last = self._broken_lines()
        where = f"line {first}" if first == last else f"line {first} (noticed at line {last})"
        raise InputError(
            f"{self._name}, {where}: broken quotes or an oversized cell: {error}; "
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
                return self._skip + first, self._skip + max(first, reader.line_num)
        return self._skip + first, self._skip + first

    def _first_unread(self) -> int:
        """The line at which the first row begins that cannot be read: lines are decoded many at a time."""
        line = 1
        with self._open_text() as file, suppress(UnicodeError, csv.Error):
            for _ in range(self._skip):
                file.readline()
            reader = self._reader(file, self._delimiter)
            for _ in reader:
                line = self._skip + reader.line_num + 1
        return line

    def _undecodable_line(self) -> int:
        """The line in which decoding fails; the last one when the codec does not tell where."""
        decoder = codecs.getincrementaldecoder(self._encoding)()
        breaks = io.IncrementalNewlineDecoder(None, translate=True)
        line = 1
        with self._open_bytes() as file:
            while True:
                chunk = file.read(_SCAN)
                try:
                    state = decoder.getstate()
                    line += breaks.decode(decoder.decode(chunk, not chunk)).count("\n")
                except UnicodeDecodeError as error:
                    # The decoder's own buffer comes before the chunk in the error's positions.
                    decoder.setstate(state)
                    good = chunk[: max(0, error.start - len(state[0]))]
                    with suppress(UnicodeError):
                        line += breaks.decode(decoder.decode(good), True).count("\n")
                    return line
                except UnicodeError:
                    return line
                if not chunk:
                    return line


class _GzipText(io.TextIOWrapper):
    """The text in a gzip file; closing it closes the file too."""

    def __init__(self, path: str, encoding: str, newline: str) -> None:
        super().__init__(cast(Any, gzip.open(path, "rb")), encoding=encoding, newline=newline)  # noqa: SIM115


class _Rows(chain[list[str]]):
    """Blocks as rows: at the speed of C, and with a way to close the file below."""

    blocks: Generator[list[list[str]]]

    def close(self) -> None:
        self.blocks.close()


def _chained(blocks: Generator[list[list[str]]]) -> _Rows:
    rows = cast(_Rows, _Rows.from_iterable(blocks))
    rows.blocks = blocks
    return rows


def _picker(kept: Sequence[int]) -> Callable[[list[str]], list[str]]:
    if len(kept) == 1:
        return lambda row: [row[kept[0]]]
    pick = itemgetter(*kept)
    return lambda row: list(pick(row))


def _unescaped(row: list[str]) -> list[str]:
    return [cell[1:] if cell.startswith("'") and _ESCAPED.match(cell) else cell for cell in row]


def _spooled(owner: object) -> str:
    """Copy standard input into a temporary file that goes with its owner."""
    descriptor, path = tempfile.mkstemp(prefix="ozonetel-", suffix=".csv")
    weakref.finalize(owner, _remove, path)
    try:
        with open(descriptor, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read standard input: {error}") from None
    return path


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


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
    if path != "-" and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{os.fspath(path)}: not a regular file, and it must be read more than once; "
            "pass '-' and let it come by standard input, or write it into a file first"
        )


def _check_renames(columns: object) -> None:
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        raise ConfigurationError(
            f"columns must be a mapping {{header: service column, or None}}, got {type(columns).__name__}"
        )
    for name in chain(columns, columns.values()):
        if not isinstance(name, str | None):
            raise ConfigurationError(f"columns must map text to text or None, it holds {type(name).__name__}")


def _check_settings(encoding: str, delimiter: str | None, skip_lines: int, only: bool) -> None:
    for name, value in (("encoding", encoding), ("delimiter", delimiter or "")):
        if not isinstance(value, str):
            raise ConfigurationError(f"{name} must be text, got {type(value).__name__}")
    try:
        "".encode(encoding)  # knows, unlike codecs.lookup, the codecs that are not of texts
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError):
        raise ConfigurationError(f"encoding {encoding!r} is not known; expected 'utf-8-sig' or 'cp1252'") from None
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ConfigurationError(f"delimiter must be one character such as ',' or ';', got {len(delimiter)} characters")
    if type(skip_lines) is not int or skip_lines < 0:
        raise ConfigurationError(f"skip_lines must be a number of lines, 0 or more, got {type(skip_lines).__name__}")
    if not isinstance(only, bool):
        raise ConfigurationError(f"only must be True or False, got {type(only).__name__}")
