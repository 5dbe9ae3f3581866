"""The tables of a journal, and all that is read from them and written into them.

Each function runs inside a transaction of the caller's. Those of the failed rows are in ``failed_rows``.
"""

from __future__ import annotations

import sqlite3
import time
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import journal_id, new_secret, token_batch
from ..errors import JournalError
from ..rows.batches import Batch
from .settlement import Answered, AnswerLost, Called, Resent, Settlement, SettlementEvent, TimedOut, dump, load, settle
from .store import is_empty

__all__ = [
    "FORMAT",
    "BatchState",
    "Header",
    "JournaledBatch",
    "accept",
    "begin",
    "check_format",
    "deliver",
    "end",
    "give_up_waiting",
    "insert",
    "mark",
    "read_batches",
    "read_body",
    "read_changed",
    "read_header",
    "read_id",
    "read_secret",
    "unsettled",
]

FORMAT: Final = 1
# "OZJ1": tells a journal from any other SQLite file.
_APPLICATION: Final = 0x4F5A4A31

BatchState = Literal["pending", "sent", "accepted", "refused", "unknown"]

_SCHEMA: Final = """
CREATE TABLE header (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value TEXT NOT NULL,             -- JSON
    secret BLOB NOT NULL             -- what the callback tokens are computed from
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,          -- 0-based number of the batch
    first_row INTEGER NOT NULL,      -- 1-based, among the rows handed in
    last_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,           -- rows in the body
    read INTEGER NOT NULL,           -- rows it accounts for, invalid ones included
    invalid TEXT NOT NULL,           -- JSON list: numbers of the invalid rows
    digest BLOB NOT NULL,            -- of the body
    callback INTEGER NOT NULL DEFAULT 0, -- whether a request with it asked for a callback
    -- Checked also when a journal is opened, so that a damaged one is not taken for one to send again.
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'accepted', 'refused', 'unknown')),
    transaction_id TEXT,
    error TEXT,
    settlement TEXT,                 -- JSON: where the callback stands
    settled INTEGER NOT NULL DEFAULT 0,
    failed_file TEXT,                -- what became of the list of failed rows
    changed REAL NOT NULL            -- POSIX time
);
-- On their own, since a change of a row writes all of the row anew.
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
-- Leads of a buffer that are in no batch yet.
CREATE TABLE waiting (id INTEGER PRIMARY KEY, lead BLOB NOT NULL);
CREATE TABLE failed_rows (
    batch INTEGER NOT NULL,
    row INTEGER,                     -- 1-based, among the rows handed in; NULL when it cannot be told
    phone TEXT NOT NULL,             -- as the service wrote it
    reason TEXT,
    how TEXT NOT NULL                -- how it was matched
);
CREATE INDEX failed_rows_by_batch ON failed_rows (batch);
"""


class Header(Struct, frozen=True, kw_only=True):
    """What an upload is; a journal of another one is refused.

    Attributes:
        campaign: the campaign's name.
        account: user name and host.
        params: the bulk endpoint's parameters that all batches share, for ``resume``.
        columns: the service's column names, when the input did not bring its own.
        checked_at: ISO time against which dates were checked; the next run uses it, to the same results.
        source: how to read the input again, when it is a file (``CsvRows.source``), for ``resume``.
        cleaning: what is repaired in rows and by which rules (``Cleaning.policy``); other rules make other bytes.
        kind: whose journal it is: an upload cuts its batches from an input, a buffer from the leads it is given.
    """

    campaign: str
    account: str
    params: dict[str, str]
    columns: tuple[str, ...] | None
    checked_at: str
    source: dict[str, str] | None = None
    cleaning: str = ""
    kind: Literal["upload", "buffer"] = "upload"


class JournaledBatch(Struct, frozen=True):
    """One batch as the journal has it, its body left on disk."""

    index: int
    first_row: int
    last_row: int
    rows: int
    read: int
    digest: bytes
    state: BatchState
    transaction_id: str | None
    error: str | None
    failed_file: str | None
    settlement: Settlement

    def matches(self, batch: Batch) -> bool:
        """Whether ``batch``, cut anew from the input, is the one written here."""
        return (self.index, self.first_row, self.last_row, self.rows, self.read, self.digest) == (
            batch.index,
            batch.first_row,
            batch.last_row,
            batch.rows,
            batch.read,
            _digest(batch.payload),
        )


def deliver(db: sqlite3.Connection, token: str, result: JobResult | ExportResult) -> bool:
    """Take in a callback; True when ``token`` is one of this journal's."""
    index = token_batch(read_secret(db), token)
    known = index is not None and db.execute("SELECT 1 FROM batches WHERE id = ?", (index,)).fetchall()
    if index is None or not known or not isinstance(result, JobResult):
        return False
    _happened(db, index, Called(result))
    return True


def read_id(db: sqlite3.Connection, path: Path) -> bytes | None:
    """What the journal's callback tokens have in common; None when no journal was begun in this database.

    Raises:
        JournalError: it is of another version.
    """
    if is_empty(db) or _application(db) != _APPLICATION:
        return None
    check_format(db, path)
    return journal_id(read_secret(db))


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


def begin(db: sqlite3.Connection, path: Path, header: Header) -> None:
    """Begin a journal in an empty file, or continue one: what was under way when an earlier run died becomes unknown.

    Raises:
        JournalError: it is damaged, of another version, or of another upload.
    """
    if is_empty(db):
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("INSERT INTO header VALUES (1, ?, ?)", (_as_json(header), new_secret()))
        return
    check_format(db, path)
    _check_contents(db, path)
    if not db.execute("SELECT 1 FROM batches UNION ALL SELECT 1 FROM waiting LIMIT 1").fetchall():
        _write_header(db, header)  # an upload without batches fixes neither campaign nor columns
        return
    written = read_header(db)
    _check_same_upload(path, written, header)
    # ``resume`` goes by the latest run, dates by the first.
    _write_header(db, replace(header, checked_at=written.checked_at, source=header.source or written.source))
    for (index,) in db.execute("SELECT id FROM batches WHERE state = 'sent'").fetchall():
        end(db, index, "unknown", "the process ended before the answer was written down")


def _application(db: sqlite3.Connection) -> object:
    return db.execute("PRAGMA application_id").fetchone()[0]


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """Raise ``JournalError`` unless this is a journal of this release's format."""
    if is_empty(db):
        raise JournalError(f"journal {path.name} is empty: no upload has begun it yet")
    if _application(db) != _APPLICATION:
        raise JournalError(f"journal {path.name}: the file is a database, but not a journal; name another one")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise JournalError(
            f"journal {path.name} has format {version}, this release knows {FORMAT}; use the release that wrote it"
        )


def _check_contents(db: sqlite3.Connection, path: Path) -> None:
    """Raise ``JournalError`` unless all is there that says what was sent, and all that may be sent."""
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)
    count, last = db.execute("SELECT count(*), coalesce(max(id), -1) FROM batches").fetchone()
    if count != last + 1:
        raise _damaged(path, f"{count} of {last + 1} batches are there")
    for (index,) in db.execute("SELECT id FROM batches WHERE state <> 'accepted'").fetchall():
        read_body(db, path, index)


def _damaged(path: Path, what: str) -> JournalError:
    return JournalError(
        f"journal {path.name} is damaged ({what}); restore it from a backup, or start a new one after checking in the "
        "dialler what was added"
    )


def _check_same_upload(path: Path, written: Header, given: Header) -> None:
    for field in ("kind", "campaign", "account", "columns"):
        if getattr(written, field) != getattr(given, field):
            raise JournalError(
                f"journal {path.name} is of another upload: its {field} is {getattr(written, field)!r}, "
                f"not {getattr(given, field)!r}; use one journal per upload"
            )
    if written.cleaning != given.cleaning:
        raise JournalError(
            f"journal {path.name}: expected the cleaning it began with ({written.cleaning or 'none'}), "
            f"got {given.cleaning or 'none'}; nothing was sent. Continue it with the same clean="
        )


def _as_json(header: Header) -> str:
    return msgspec.json.encode(header).decode()


def _write_header(db: sqlite3.Connection, header: Header) -> None:
    db.execute("UPDATE header SET value = ?", (_as_json(header),))


def read_header(db: sqlite3.Connection) -> Header:
    """What the upload is."""
    return msgspec.json.decode(_of_header(db, "value"), type=Header)


def read_secret(db: sqlite3.Connection) -> bytes:
    """What the callback tokens are computed from."""
    secret = _of_header(db, "secret")
    if not isinstance(secret, bytes):
        raise sqlite3.DatabaseError("the secret is damaged")
    return secret


def _of_header(db: sqlite3.Connection, column: Literal["value", "secret"]) -> str | bytes:
    for (value,) in db.execute(f"SELECT {column} FROM header"):  # noqa: S608 - one of two constants
        if isinstance(value, str | bytes):
            return value
    raise sqlite3.DatabaseError("the header is gone")


def read_body(db: sqlite3.Connection, path: Path, index: int) -> bytes:
    """A batch's encoded bulkData; raises ``JournalError`` when it is not what was written."""
    rows = db.execute("SELECT body, digest FROM batches LEFT JOIN bodies USING (id) WHERE id = ?", (index,)).fetchall()
    for body, digest in rows:
        if isinstance(body, bytes) and _digest(body) == digest:
            return body
    raise _damaged(path, f"the body of batch {index} is not what was written")


def read_batches(db: sqlite3.Connection) -> list[JournaledBatch]:
    """All batches in their order."""
    rows = db.execute(
        "SELECT id, first_row, last_row, rows, read, digest, state, transaction_id, error, failed_file, settlement"
        " FROM batches ORDER BY id"
    )
    return [_as_batch((*row[:-1], load(row[-1]))) for row in rows]


def _as_batch(values: tuple[object, ...]) -> JournaledBatch:
    # Converted, since SQLite keeps a text that somebody has put into a column of numbers.
    fields = dict(zip(JournaledBatch.__struct_fields__, values, strict=True))
    return msgspec.convert(fields, JournaledBatch, builtin_types=(bytes,))


def insert(db: sqlite3.Connection, path: Path, batch: Batch, invalid: list[int]) -> None:
    """Write the next batch down as pending."""
    (next_index,) = db.execute("SELECT coalesce(max(id), -1) + 1 FROM batches").fetchone()
    if batch.index != next_index:
        raise JournalError(
            f"journal {path.name}: expected batch {next_index}, got batch {batch.index}; nothing was written"
        )
    values = (
        batch.index,
        batch.first_row,
        batch.last_row,
        batch.rows,
        batch.read,
        msgspec.json.encode(invalid).decode(),
        _digest(batch.payload),
        time.time(),
    )
    db.execute(_INSERT, values)
    db.execute("INSERT INTO bodies VALUES (?, ?)", (batch.index, batch.payload))


_INSERT: Final = """
INSERT INTO batches (id, first_row, last_row, rows, read, invalid, digest, changed, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')
"""


def accept(db: sqlite3.Connection, index: int, transaction_id: str) -> None:
    """Note the service's ticket."""
    _set_state(db, index, "accepted", transaction_id=transaction_id)
    _happened(db, index, Answered(transaction_id))


def _set_state(
    db: sqlite3.Connection,
    index: int,
    state: BatchState,
    *,
    transaction_id: str | None = None,
    error: str | None = None,
) -> None:
    db.execute(
        "UPDATE batches SET state = ?, transaction_id = ?, error = ?, changed = ? WHERE id = ?",
        (state, transaction_id, error, time.time(), index),
    )


def mark(db: sqlite3.Connection, index: int, state: Literal["pending", "sent"], callback: bool) -> None:
    """Note that a batch is about to be sent, or is known not to have been applied."""
    in_doubt = "SELECT 1 FROM batches WHERE id = ? AND state IN ('sent', 'unknown')"
    again = state == "sent" and db.execute(in_doubt, (index,)).fetchall()
    _set_state(db, index, state)
    if callback:
        db.execute("UPDATE batches SET callback = 1 WHERE id = ?", (index,))
    if again:
        _happened(db, index, Resent())


def end(db: sqlite3.Connection, index: int, state: Literal["refused", "unknown"], error: str) -> None:
    """Note that a batch was refused, or that it is not known whether it was applied."""
    _set_state(db, index, state, error=error)
    _happened(db, index, AnswerLost())


def _happened(db: sqlite3.Connection, index: int, event: SettlementEvent) -> None:
    """Let ``event`` act on a batch's settlement; a callback makes a batch that was not accepted an accepted one."""
    found = db.execute("SELECT settlement, state FROM batches WHERE id = ?", (index,)).fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the batch is gone")
    stored, state = found
    earlier = load(stored)
    settlement = settle(earlier, event)
    if state == "refused" and settlement.result is not None and not settlement.result.succeeded:
        return  # as the service said; the callback to come is that of the next time it is sent
    values = (dump(settlement), settlement.result is not None, index)
    db.execute("UPDATE batches SET settlement = ?, settled = ? WHERE id = ?", values)
    if earlier.result is not None and settlement.result != earlier.result:
        # The list of rows that was fetched is of a sending that found the rows there.
        db.execute("UPDATE batches SET failed_file = NULL WHERE id = ?", (index,))
        db.execute("DELETE FROM failed_rows WHERE batch = ?", (index,))
    if settlement.result is not None and state in ("unknown", "refused"):
        _set_state(db, index, "accepted", transaction_id=settlement.transaction_id)


def unsettled(db: sqlite3.Connection) -> list[int]:
    """Batches that have reached the service, or may have, and whose callback was asked for and has not come."""
    query = "SELECT id FROM batches WHERE callback AND NOT settled AND state NOT IN ('pending', 'refused')"
    return [index for (index,) in db.execute(query).fetchall()]


def give_up_waiting(db: sqlite3.Connection) -> None:
    """Note for every batch without its callback that the wait is over."""
    for index in unsettled(db):
        _happened(db, index, TimedOut())


def read_changed(db: sqlite3.Connection) -> float | None:
    """POSIX time of the last change of a batch; None before the first."""
    changed: float | None = db.execute("SELECT max(changed) FROM batches").fetchone()[0]
    return changed
