"""The failed rows that a journal keeps: stored, and read again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from ..errors import JournalError
from ..models import FailedLead
from .store import connect, explain

__all__ = ["SentRows", "StoredRow", "count_failed_rows", "failed_leads", "read_sent", "store_failed_rows"]

_Value: TypeAlias = str | int | float | bool | None


class SentRows(NamedTuple):
    """The rows of one batch as they were sent."""

    columns: tuple[str, ...]
    numbers: list[int]
    cells: list[list[_Value]]

    def phones(self) -> Iterator[tuple[int, str]]:
        """Row number and phone number of each row."""
        place = self.columns.index("PhoneNumber")
        return ((number, str(cells[place])) for number, cells in zip(self.numbers, self.cells, strict=True))


class _Body(Struct):
    map: tuple[str, ...]
    data: list[list[_Value]]


class StoredRow(NamedTuple):
    """A failed row as the journal keeps it: its row of the input if that is known, and what the service's list says."""

    row: int | None
    phone: str | None
    reason: str | None
    how: str


def store_failed_rows(db: sqlite3.Connection, index: int, rows: Sequence[StoredRow], state: str) -> None:
    """Keep the failed rows of a batch, and how far its list has been read; an earlier, longer list is kept."""
    db.execute("UPDATE batches SET failed_file = ? WHERE id = ?", (state, index))
    (stored,) = db.execute("SELECT count(*) FROM failed_rows WHERE batch = ?", (index,)).fetchone()
    if state != "done" and len(rows) <= stored:
        return  # less than an earlier try has brought
    db.execute("DELETE FROM failed_rows WHERE batch = ?", (index,))
    db.executemany(
        "INSERT INTO failed_rows (batch, row, phone, reason, how) VALUES (?, ?, ?, ?, ?)",
        ((index, *row) for row in rows),
    )


def count_failed_rows(db: sqlite3.Connection) -> int:
    """How many failed rows are stored."""
    return int(db.execute("SELECT count(*) FROM failed_rows").fetchone()[0])


def read_sent(db: sqlite3.Connection, path: Path, index: int) -> SentRows:
    """The rows of batch ``index`` as they were sent.

    Raises:
        JournalError: they are not those that the batch accounts for.
    """
    values = db.execute(
        "SELECT last_row, read, invalid, body FROM batches JOIN bodies USING (id) WHERE id = ?", (index,)
    ).fetchone()
    numbers: list[int] = []
    decoded = _Body((), [])
    with suppress(msgspec.MsgspecError, TypeError):
        last_row, read, invalid, body = values
        left_out = set(msgspec.json.decode(invalid, type=list[int]))
        # A batch accounts for all rows since the one before it; the invalid ones among them were not sent.
        numbers = [number for number in range(last_row - read + 1, last_row + 1) if number not in left_out]
        decoded = msgspec.json.decode(body, type=_Body)
    width = len(decoded.map)
    if (
        "PhoneNumber" not in decoded.map
        or len(numbers) != len(decoded.data)
        or any(len(cells) != width for cells in decoded.data)
    ):
        raise JournalError(f"journal {path.name} is damaged: the rows of batch {index} are not those it accounts for")
    return SentRows(decoded.map, numbers, decoded.data)


def failed_leads(path: str | PathLike[str]) -> Iterator[FailedLead]:
    """The failed rows stored in a journal, batch by batch in the order of the input; those without a row come last.

    Reads in the caller's thread, one batch at a time, and does not disturb a process that writes to the journal.

    Raises:
        JournalError: there is no such file, or it is no journal, or damaged.
    """
    file = Path(path)
    if not file.is_file():
        raise JournalError(f"journal {file.name}: there is no such file")
    return _read_failed_leads(file)


def _read_failed_leads(file: Path) -> Iterator[FailedLead]:
    try:
        with closing(connect(file)) as db:
            for (index,) in db.execute("SELECT DISTINCT batch FROM failed_rows ORDER BY batch").fetchall():
                yield from _leads_of(db, file, index)
    except sqlite3.Error as error:
        raise explain(file, error) from None


def _leads_of(db: sqlite3.Connection, file: Path, index: int) -> list[FailedLead]:
    sent = read_sent(db, file, index)
    cells = dict(zip(sent.numbers, sent.cells, strict=True))
    rows = db.execute(
        "SELECT row, reason, how, phone FROM failed_rows WHERE batch = ? ORDER BY row IS NULL, row, rowid", (index,)
    )
    return [
        FailedLead(row, dict(zip(sent.columns, cells.get(row, ()), strict=False)), reason, how, phone)
        for row, reason, how, phone in rows.fetchall()
    ]
