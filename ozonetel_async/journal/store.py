"""A SQLite file and the one thread that uses it, so that the event loop never waits for a disk.

The file has a rollback journal, ``NAME-journal``: what a transaction overwrites is copied there first, and the commit
is the moment in which the copy is cut to nothing. ``synchronous=FULL`` flushes the copy, the file and the cut, so what
was reported as written survives a power cut ("Atomic Commit In SQLite", sqlite.org). Deleting the copy instead would
need ``EXTRA`` for the same promise, and would change the folder with every commit.

When the copy is taken away after a process was killed while it wrote, the file holds a transaction of which some pages
are new and others old. Page 1 and its counts are written first, for the pages go out by their numbers; so
what is missing shows in ``PRAGMA quick_check``, or the transaction is there as if it had never begun, or as a whole.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, TypeVar

from msgspec import MsgspecError

from ..errors import JournalError

__all__ = ["Lock", "Store", "connect", "explain", "is_empty", "transact"]

_T = TypeVar("_T")

# How long one process waits for another's commit, which takes milliseconds.
_BUSY_SECONDS: Final = 30.0

_DAMAGED: Final = (
    "the file is damaged; restore it from a backup, or start a new journal after checking in the dialler what was added"
)
_CAUSES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and run the same again",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    # No such table or column: what calls itself a journal of this format has them.
    sqlite3.SQLITE_ERROR: _DAMAGED,
    sqlite3.SQLITE_NOTADB: "the file is not a journal; name another one",
    sqlite3.SQLITE_READONLY: "the file or its folder cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_PERM: "the file may not be written",
    sqlite3.SQLITE_BUSY: "another process has held the file for too long",
    sqlite3.SQLITE_LOCKED: "another process has held the file for too long",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
}


def explain(path: Path, error: Exception) -> JournalError:
    """The typed error for what SQLite, the file system or a decoder reports of ``path``."""
    if isinstance(error, JournalError):
        return error
    cause: str | None
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        cause = _CAUSES.get(code & 0xFF) if isinstance(code, int) else _DAMAGED
    elif isinstance(error, OSError):
        cause = f"the file cannot be opened ({error.strerror}); its folder must exist and be writable"
    else:
        cause = _DAMAGED if isinstance(error, MsgspecError) else "the path cannot be used"
    return JournalError(f"journal {path.name}: {cause or type(error).__name__}")


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was ever written into the database."""
    return not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file, empty or a database with a rollback journal, for transactions of our own making.

    What a killed process left of a transaction is undone.

    Raises:
        JournalError: it is another kind of file.
        sqlite3.Error: it cannot be opened.
    """
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        transact(db, "BEGIN", lambda db: _check_kind(db, path))
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_spill = OFF")  # all pages of a transaction are written at its end, in their order
    except BaseException:
        db.close()
        raise
    return db


def _check_kind(db: sqlite3.Connection, path: Path) -> None:
    # SQLite takes a file that is shorter than a page for an empty database, and writes over it.
    if db.execute("PRAGMA page_count").fetchone()[0] == 0 and path.stat().st_size:
        error = sqlite3.DatabaseError("shorter than a page")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    if mode == "wal":
        # Without its log such a file can look empty, or lack what was written last.
        raise JournalError(
            f"journal {path.name}: expected a database with a rollback journal, got one with a write-ahead log, which "
            "another version or program has made of it; start a new journal after checking in the dialler what was "
            "added"
        )


def transact(db: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run ``work`` inside a transaction that starts with ``begin``; it is undone when ``work`` or the commit fails."""
    db.execute(begin)
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


class Lock:
    """Keeps a second process from working on the same journal; a killed process lets go of it by dying.

    Raises:
        JournalError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        file = path.with_name(f"{path.name}-lock")
        self._new = file if _create_private(file) else None
        self._db = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # No further file beside it, which a killed process would leave behind.
            self._db.execute("PRAGMA journal_mode = MEMORY")
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._db.close()
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise explain(file, error) from None
            raise JournalError(f"journal {path.name} is in use by another process; wait for it or stop it") from None

    def discard(self) -> None:
        """Remove the lock's file if it was made here, before ``close``: there is no journal that it could guard."""
        if self._new is not None:
            self._new.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the journal."""
        self._db.close()


class Store:
    """Runs functions over the file's connection, in the order they come, in one thread.

    The file is opened with the first of them. What is wrong with it is told to that one, and to every further one.

    Args:
        path: the file.
        exclusive: create the file if need be, and keep every other process from opening it exclusively as well.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path: Path = path
        self._exclusive = exclusive
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"journal {path.name}")
        self._db: sqlite3.Connection | None = None
        self._held = ExitStack()
        self._ended: Future[None] | None = None

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work``, which writes nothing, beside processes that write; else as ``write``."""
        return await self._run("BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` inside a transaction, and return what it returns when it is on the disk.

        Cancelling the call does not undo it.

        Raises:
            JournalError: the file could not be read or written; nothing of ``work`` is in it then.
        """
        return await self._run("BEGIN IMMEDIATE", work)

    async def _run(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._ended is not None:
            raise JournalError(f"journal {self.path.name} is closed")
        return await asyncio.shield(asyncio.wrap_future(self._thread.submit(self._serve, begin, work)))

    async def close(self) -> None:
        """Finish what was asked for, and let go of the file; idempotent.

        Cancelling the call does not keep that from happening; the call ends when it has, unless it is cancelled again.
        """
        if self._ended is None:
            self._ended = self._thread.submit(self._release)
        ended = asyncio.wrap_future(self._ended)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            # Who cancels an upload expects to find the file free; only who cancels twice does not wait for that.
            await asyncio.shield(ended)
            raise
        finally:
            self._thread.shutdown(wait=ended.done())

    def _release(self) -> None:
        self._held.close()

    def _serve(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        db = self._db or self._open()
        try:
            return transact(db, begin, work)
        except (sqlite3.Error, MsgspecError) as error:
            raise explain(self.path, error) from None

    def _open(self) -> sqlite3.Connection:
        try:
            if self.path.is_dir():
                raise JournalError(f"journal {self.path.name}: this is a folder; name a file in it")
            self.path = Path(os.path.realpath(self.path))  # two names of one file are one journal
            with ExitStack() as stack:
                if self._exclusive:
                    lock = stack.enter_context(closing(Lock(self.path)))
                    failed = stack.enter_context(ExitStack())
                    failed.callback(lock.discard)
                    _create_private(self.path)
                self._db = stack.enter_context(closing(connect(self.path)))
                if self._exclusive:
                    failed.pop_all()
                self._held = stack.pop_all()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise explain(self.path, error) from None
        return self._db


def _create_private(path: Path) -> bool:
    """Create the file readable by its owner alone: it holds phone numbers. False if it is there already."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return False
    return True
