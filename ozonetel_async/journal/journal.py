"""The durable record of one upload: what was about to be sent, what was sent, and what became of it.

A batch is written down, with the exact bytes, before it is sent, and marked as sent before its request leaves. So
after ``kill -9`` at any moment each batch is one of: not sent (safe to send), accepted (never to be sent again), or
sent without a recorded answer (unknown). The next run reads the input again, cuts it in the same way, and compares it
with what is written here.

A web process that receives callbacks may write to the same file at the same time: ``Journal.attach``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import token_hash, verify
from ..errors import JournalError
from ..rows.batches import Batch
from .settlement import Answered, AnswerLost, Called, Resent, Settlement, SettlementEvent, TimedOut, dump, load, settle
from .store import Store, is_empty

__all__ = ["FORMAT", "BatchState", "Header", "Journal", "JournaledBatch"]

FORMAT: Final = 1
# "OZJ1": tells a journal from any other SQLite file.
_APPLICATION: Final = 0x4F5A4A31

BatchState = Literal["pending", "sent", "accepted", "refused", "unknown"]
_T = TypeVar("_T")

_SCHEMA: Final = """
CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), value TEXT NOT NULL);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,          -- 0-based number of the batch
    first_row INTEGER NOT NULL,      -- 1-based, among the rows handed in
    last_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,           -- rows in the body
    read INTEGER NOT NULL,           -- rows it accounts for, invalid ones included
    invalid TEXT NOT NULL,           -- JSON list: numbers of the invalid rows
    digest BLOB NOT NULL,            -- of the body
    token TEXT,                      -- the callback token, to compare with
    token_hash BLOB UNIQUE,          -- its SHA-256, to find it by without telling how much of a guess is right
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
CREATE TABLE failed_rows (
    batch INTEGER NOT NULL,
    row INTEGER,                     -- 1-based, among the rows handed in; NULL when it cannot be told
    phone TEXT NOT NULL,             -- as the service wrote it
    reason TEXT,
    how TEXT NOT NULL                -- how it was matched
);
CREATE INDEX failed_rows_by_batch ON failed_rows (batch);
"""

_COLUMNS: Final = "id, first_row, last_row, rows, read, digest, state, transaction_id, error, settlement, failed_file"


class Header(Struct, frozen=True, kw_only=True):
    """What an upload is; a journal of another one is refused.

    Attributes:
        campaign: the campaign's name.
        account: user name and host.
        params: the bulk endpoint's parameters that all batches share, for ``resume``.
        columns: the service's column names, when the input did not bring its own.
        checked_at: ISO time against which dates were checked; the next run uses it for the same verdicts.
        source: how to read the input again, when it is a file (``CsvRows.source``), for ``resume``.
        cleaning: what is repaired in rows and by which rules (``Cleaning.policy``); other rules make other bytes.
    """

    campaign: str
    account: str
    params: dict[str, str]
    columns: tuple[str, ...] | None
    checked_at: str
    source: dict[str, str] | None = None
    cleaning: str = ""


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
    settlement: Settlement
    failed_file: str | None

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


class Journal:
    """An open journal; made by ``open`` (to upload) or ``attach`` (to look, or to deliver callbacks)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @classmethod
    async def open(cls, path: str | PathLike[str], header: Header) -> Self:
        """Open the journal of the upload that ``header`` describes, or begin it.

        Batches that were under way when an earlier run died become unknown here.

        Raises:
            JournalError: in use by another process, damaged, of another version, or of another upload.
        """
        store = Store(Path(path), exclusive=True)
        return await cls._opened(store, store.run(lambda db: _begin(db, store.path, header)))

    @classmethod
    async def attach(cls, path: str | PathLike[str]) -> Self:
        """Open an existing journal beside the process that works on it.

        Raises:
            JournalError: there is none, or it is damaged or of another version.
        """
        store = Store(_existing(path))
        return await cls._opened(store, store.read(lambda db: _check_format(db, store.path)))

    @classmethod
    async def _opened(cls, store: Store, first_look: Awaitable[None]) -> Self:
        try:
            await first_look
        except BaseException:
            await store.close()
            raise
        return cls(store)

    async def close(self) -> None:
        """Finish what was asked for and let go of the file."""
        await self._store.close()

    async def header(self) -> Header:
        """What the upload is."""
        return await self._store.read(_read_header)

    async def entries(self) -> list[JournaledBatch]:
        """All batches in their order."""
        return await self._store.read(_read_entries)

    async def body(self, index: int, token: str | None = None) -> tuple[bytes, str | None]:
        """A batch's encoded bulkData and its callback token; ``token`` becomes that of a batch without one."""
        if token is not None:
            await self._store.run(lambda db: _give_token(db, index, token))
        return await self._store.read(lambda db: _read_body(db, self.path, index))

    async def plan(self, batch: Batch, invalid: Iterable[int], token: str | None, *, sent: bool = False) -> None:
        """Write a batch ahead of its sending; only then may it be sent.

        Batches must come in their order, without gaps. With ``sent`` the batch is marked as sent at once.

        Raises:
            JournalError: it could not be written, or one before it could not.
        """
        rows = list(invalid)
        await self._store.run(lambda db: _insert(db, self.path, batch, rows, token, "sent" if sent else "pending"))

    async def mark(self, index: int, state: Literal["pending", "sent"]) -> None:
        """Note that a batch's request is about to leave, or that it is known not to have been applied."""
        await self._store.run(lambda db: _mark(db, index, state))

    async def accepted(self, index: int, transaction_id: str) -> None:
        """Note the service's ticket."""
        await self._store.run(lambda db: _accept(db, index, transaction_id))

    async def refused(self, index: int, error: str) -> None:
        """Note that the service refused the batch; a later run sends it again, unless a callback says it was taken."""
        await self._store.run(lambda db: _end(db, index, "refused", error))

    async def unknown(self, index: int, error: str) -> None:
        """Note that nobody can tell whether the batch was applied; its callback may still tell."""
        await self._store.run(lambda db: _end(db, index, "unknown", error))

    async def deliver(self, token: str, result: JobResult | ExportResult) -> bool:
        """Take in a callback; True when ``token`` is one of this journal's and the result is in the file."""
        if not isinstance(result, JobResult):
            return False

        def write(db: sqlite3.Connection) -> bool:
            found = db.execute("SELECT id, token FROM batches WHERE token_hash = ?", (token_hash(token),)).fetchone()
            if found is None or not verify(found[1], token):
                return False
            _happened(db, found[0], Called(result))
            return True

        return await self._store.run(write)

    async def unsettled(self) -> int:
        """Batches with a callback token that have reached the service, or may have, and have no verdict yet."""
        return await self._store.read(lambda db: len(db.execute(_UNSETTLED).fetchall()))

    async def give_up_waiting(self) -> None:
        """Note for every batch without a verdict that the wait is over."""

        def write(db: sqlite3.Connection) -> None:
            for (index,) in db.execute(_UNSETTLED).fetchall():
                _happened(db, index, TimedOut())

        await self._store.run(write)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` in a transaction; for the modules that keep their own tables here."""
        return await self._store.run(work)


_UNSETTLED: Final = "SELECT id FROM batches WHERE token NOTNULL AND NOT settled AND state NOT IN ('pending', 'refused')"


def _existing(path: str | PathLike[str]) -> Path:
    file = Path(path)
    if not file.is_file():
        raise JournalError(f"journal {file.name}: there is no such file")
    return file


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


def _begin(db: sqlite3.Connection, path: Path, header: Header) -> None:
    if is_empty(db):
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        _write_header(db, header)
        return
    _check_format(db, path)
    if not db.execute("SELECT 1 FROM batches LIMIT 1").fetchall():
        _write_header(db, header)  # an upload that got nowhere binds nobody to its campaign or columns
        return
    written = _read_header(db)
    _check_same_upload(path, written, header)
    # ``resume`` goes by the latest run, dates by the first.
    _write_header(db, replace(header, checked_at=written.checked_at, source=header.source or written.source))
    for (index,) in db.execute("SELECT id FROM batches WHERE state <> 'accepted'").fetchall():
        _read_body(db, path, index)  # what may be sent must be whole before anything is
    for (index,) in db.execute("SELECT id FROM batches WHERE state = 'sent'").fetchall():
        _end(db, index, "unknown", "the process ended before the answer was written down")


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    if is_empty(db):
        raise JournalError(f"journal {path.name} is empty: no upload has begun it yet")
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        raise JournalError(f"journal {path.name}: the file is a database, but not a journal; name another one")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise JournalError(
            f"journal {path.name} has format {version}, this release knows {FORMAT}; use the release that wrote it"
        )
    if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise _damaged(path, verdict)


def _damaged(path: Path, what: str) -> JournalError:
    return JournalError(
        f"journal {path.name} is damaged ({what}); restore it from a backup, or start a new one after checking in the "
        "dialler what was added"
    )


def _check_same_upload(path: Path, written: Header, given: Header) -> None:
    for field in ("campaign", "account", "columns"):
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


def _write_header(db: sqlite3.Connection, header: Header) -> None:
    db.execute("INSERT OR REPLACE INTO header VALUES (1, ?)", (msgspec.json.encode(header).decode(),))


def _read_header(db: sqlite3.Connection) -> Header:
    values = db.execute("SELECT value FROM header").fetchall()
    # None decodes no better than a damaged one.
    return msgspec.json.decode(values[0][0] if values else "", type=Header)


def _give_token(db: sqlite3.Connection, index: int, token: str) -> None:
    values = (token, token_hash(token), index)
    db.execute("UPDATE batches SET token = ?, token_hash = ? WHERE id = ? AND token IS NULL", values)


def _read_body(db: sqlite3.Connection, path: Path, index: int) -> tuple[bytes, str | None]:
    ((digest, token),) = db.execute("SELECT digest, token FROM batches WHERE id = ?", (index,)).fetchall()
    body = next((row[0] for row in db.execute("SELECT body FROM bodies WHERE id = ?", (index,))), None)
    if not isinstance(body, bytes) or _digest(body) != digest:
        raise _damaged(path, f"the body of batch {index} is not what was written")
    return body, token


def _read_entries(db: sqlite3.Connection) -> list[JournaledBatch]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM batches ORDER BY id")  # noqa: S608 - a constant
    return [
        JournaledBatch(
            index=row[0],
            first_row=row[1],
            last_row=row[2],
            rows=row[3],
            read=row[4],
            digest=row[5],
            state=row[6],
            transaction_id=row[7],
            error=row[8],
            settlement=load(row[9]),
            failed_file=row[10],
        )
        for row in rows
    ]


# Each statement hands the interpreter's lock back and forth, so there are as few as can be.
_INSERT: Final = """
INSERT INTO batches (id, first_row, last_row, rows, read, invalid, digest, token, token_hash, state, changed)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE ? = (SELECT coalesce(max(id), -1) + 1 FROM batches)
"""


def _insert(
    db: sqlite3.Connection, path: Path, batch: Batch, invalid: list[int], token: str | None, state: BatchState
) -> None:
    values = (
        batch.index,
        batch.first_row,
        batch.last_row,
        batch.rows,
        batch.read,
        msgspec.json.encode(invalid).decode(),
        _digest(batch.payload),
        token,
        None if token is None else token_hash(token),
        state,
        time.time(),
    )
    if db.execute(_INSERT, (*values, batch.index)).rowcount != 1:
        raise JournalError(f"journal {path.name}: the batch before batch {batch.index} is missing; nothing was written")
    db.execute("INSERT INTO bodies VALUES (?, ?)", (batch.index, batch.payload))


def _accept(db: sqlite3.Connection, index: int, transaction_id: str) -> None:
    answer = Answered(transaction_id)
    # Nothing has come yet for nearly all of them: then one statement does.
    fresh = db.execute(
        "UPDATE batches SET state = 'accepted', transaction_id = ?, error = NULL, changed = ?, settlement = ?"
        " WHERE id = ? AND settlement IS NULL",
        (transaction_id, time.time(), dump(settle(Settlement(), answer)), index),
    )
    if fresh.rowcount != 1:
        _set_state(db, index, "accepted", transaction_id=transaction_id)
        _happened(db, index, answer)


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


def _mark(db: sqlite3.Connection, index: int, state: Literal["pending", "sent"]) -> None:
    in_doubt = "SELECT 1 FROM batches WHERE id = ? AND state IN ('sent', 'unknown')"
    again = state == "sent" and db.execute(in_doubt, (index,)).fetchall()
    _set_state(db, index, state)
    if again:
        _happened(db, index, Resent())


def _end(db: sqlite3.Connection, index: int, state: Literal["refused", "unknown"], error: str) -> None:
    _set_state(db, index, state, error=error)
    _happened(db, index, AnswerLost())


def _happened(db: sqlite3.Connection, index: int, event: SettlementEvent) -> None:
    """Let ``event`` act on a batch's settlement; a verdict makes a batch that was not accepted an accepted one."""
    stored, state = db.execute("SELECT settlement, state FROM batches WHERE id = ?", (index,)).fetchone()
    earlier = load(stored)
    settlement = settle(earlier, event)
    if state == "refused" and settlement.result is not None and not settlement.result.succeeded:
        return  # as the service said; the verdict to come is that of the next time it is sent
    values = (dump(settlement), settlement.result is not None, index)
    db.execute("UPDATE batches SET settlement = ?, settled = ? WHERE id = ?", values)
    if earlier.result is not None and settlement.result != earlier.result:
        # The list of rows that was fetched is of a sending that found the rows there.
        db.execute("UPDATE batches SET failed_file = NULL WHERE id = ?", (index,))
        db.execute("DELETE FROM failed_rows WHERE batch = ?", (index,))
    if settlement.result is not None and state in ("unknown", "refused"):
        _set_state(db, index, "accepted", transaction_id=settlement.transaction_id)
