"""The CSV of rows that were not sent."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TextIO

from ..errors import ConfigurationError
from ..models import InvalidRow, Lead, Row

__all__ = ["Rejects", "is_same_file", "open_output", "open_private"]


class Rejects:
    """Writes row number, column, reason, and the row as it was handed in.

    Args:
        path: the file; one that is there is written anew.
        leads: the input, whose own file must not be overwritten.

    Raises:
        ConfigurationError: the file cannot be written, or is the input.
    """

    def __init__(self, path: str | PathLike[str], leads: object) -> None:
        self._file = open_output("rejects", path, leads)
        self._writer = csv.writer(self._file)
        self._writer.writerow(("row", "field", "reason", "input"))

    def add(self, invalid: InvalidRow, row: Row) -> None:
        """Write one row; raises ``OSError`` when the disk does not take it."""
        self._writer.writerow((invalid.row, invalid.field, invalid.reason, *_cells(row)))

    def close(self) -> None:
        """Write out what is buffered; raises ``OSError`` when the disk does not take it."""
        self._file.close()


def open_output(option: str, path: str | PathLike[str], leads: object) -> TextIO:
    """Open a CSV to be written, as the option of this name asks; a file that is there is written anew.

    Raises:
        ConfigurationError: the file cannot be written, or is the input.
    """
    # open() would take a number, True too, for an open file of the process, and close it in the end.
    if not isinstance(path, str | PathLike):
        raise ConfigurationError(f"{option} must be the path of a file, got {type(path).__name__}")
    source = getattr(leads, "path", None)
    if isinstance(source, str | PathLike) and is_same_file(source, path):
        raise ConfigurationError(f"{option}: this is the input itself; name another file")
    try:
        # backslashreplace: half a surrogate pair is a common reason for being in here, and UTF-8 cannot hold it.
        return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="", opener=open_private)
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot write the file: {error.strerror}") from None


def open_private(path: str, flags: int) -> int:
    """An opener for files that hold phone numbers: a new one is its owner's alone, one that is there keeps its mode."""
    return os.open(path, flags, 0o600)


def is_same_file(source: str | PathLike[str], path: str | PathLike[str]) -> bool:
    """Whether two names are one file's, or would be if it were there."""
    try:
        return os.path.samefile(source, path)  # whatever it is called
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(source) == os.path.realpath(path)


def _cells(row: Row) -> list[object]:
    """The cells of a row that may be wrong in any way."""
    try:
        return [_cell(cell) for cell in _raw_cells(row)]
    except Exception:
        return [type(row).__name__]  # a mapping that fails when it is looked at


def _raw_cells(row: Row) -> Iterable[object]:
    if isinstance(row, Lead):
        extra: object = row.extra
        more = extra.values() if isinstance(extra, Mapping) else () if extra is None else (extra,)
        return (row.phone_number, row.name, row.priority, row.expiry, row.agent_id, row.skill, *more)
    if isinstance(row, Mapping):
        return row.values()
    return row if isinstance(row, list | tuple) else (type(row).__name__,)


def _cell(cell: object) -> object:
    try:
        return cell if cell is None else str(cell)
    except Exception:
        # An integer of thousands of digits, or an object that has no text.
        return type(cell).__name__
