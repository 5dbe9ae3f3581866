"""A SQLite file and the one thread that talks to it, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from msgspec import MsgspecError

from ..errors import JournalError
from .wal import check_log, log_of

__all__ = ["Lock", "Store", "connect", "create_private", "explain", "is_empty"]

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


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever written into the database."""
    return not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def connect(path: Path, *, read_only: bool = False, create: bool = False) -> sqlite3.Connection:
    """Open a journal's file, in which rows are found by transactions of our own making."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if not read_only:
            _prepare(connection, path, create)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, create: bool) -> None:
    has_log = log_of(path).exists()  # before the first statement makes one
    # The mode stays with the file: only a new one needs it, and a stranger's is none of our business.
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        if path.stat().st_size:
            raise JournalError(f"journal {path.name}: {_CAUSES[sqlite3.SQLITE_NOTADB]}")
        if create:
            connection.execute("PRAGMA journal_mode=WAL")
    elif not has_log and is_empty(connection):
        # A journal's first transactions stand in its log alone. To take it for a new one would send them all again.
        raise JournalError(
            f"journal {path.name} was begun, and its log {log_of(path).name} is missing: put it back beside the "
            "journal; only if nothing was sent with this journal, delete it and begin anew"
        )
    # FULL: a commit that was reported survives a power cut, not only a killed process.
    connection.execute("PRAGMA synchronous=FULL")


class Lock:
    """Keeps a second process from working on the same journal; a killed process lets go of it by dying.

    Raises:
        JournalError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        file = path.with_name(f"{path.name}-lock")
        create_private(file)
        self._connection = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # No second file beside it, which a killed process would leave behind.
            self._connection.execute("PRAGMA journal_mode=MEMORY")
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._connection.close()
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise explain(file, error) from None
            raise JournalError(f"journal {path.name} is in use by another process; wait for it or stop it") from None

    def close(self) -> None:
        """Let go of the journal."""
        self._connection.close()


class _Job(Generic[_T]):
    __slots__ = ("error", "future", "result", "work", "writes")

    def __init__(self, work: Callable[[sqlite3.Connection], _T], future: asyncio.Future[_T], writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.future = future
        self.result: _T
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        self.error = None
        self.result = self.work(connection)

    def deliver(self) -> None:
        if self.future.done():  # its caller was cancelled; the work is done all the same
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Store:
    """Runs functions over the file's connection, in the order they come, in one thread.

    All that has queued up while a transaction was written goes into the next one: many waiters share one flush.

    Args:
        path: the file.
        exclusive: create the file if need be, and keep every other process from opening it exclusively as well.

        Nothing fails here: whatever is wrong with the file is told to the first ``run``, and to every further one.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path: Path = path
        self._exclusive = exclusive
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._ended = self._loop.create_future()
        self._closing = False
        self._more = True
        self._thread = threading.Thread(target=self._serve, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work``, which writes nothing, without waiting for processes that write; else as ``run``."""
        return await self._submit(work, writes=False)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` inside a transaction of its own or one shared with others, and return what it returns.

        Cancelling the call does not undo it. ``work`` may be run again after a failure of another one that shared its
        transaction; what it did before is undone then.

        Raises:
            JournalError: the file could not be read or written; nothing of ``work`` is in it then.
        """
        return await self._submit(work, writes=True)

    async def _submit(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool) -> _T:
        self._check_loop()
        if self._closing:
            raise JournalError(f"journal {self.path.name} is closed")
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Job(work, future, writes))  # type: ignore[arg-type]
        return await future

    async def close(self) -> None:
        """Finish what was asked for, and let go of the file; idempotent.

        Cancelling the call does not keep that from happening; the call ends when it has, unless it is cancelled again.
        """
        self._check_loop()
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            # Who cancels an upload expects to find the file free; only who cancels twice does not wait for that.
            await asyncio.shield(self._ended)
            raise
        self._thread.join()

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise JournalError(f"journal {self.path.name} belongs to another event loop; open it in this one")

    def _serve(self) -> None:
        try:
            with ExitStack() as stack:
                connection = self._open(stack)
                while self._more:
                    self._serve_some(connection)
        except Exception as error:
            self._refuse(explain(self.path, error))
        finally:
            with suppress(RuntimeError):  # the loop is gone, and nobody waits
                self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _open(self, stack: ExitStack) -> sqlite3.Connection:
        if self.path.is_dir():
            raise JournalError(f"journal {self.path.name}: this is a folder; name a file in it")
        self.path = Path(os.path.realpath(self.path))  # two names of one file are one journal
        if self._exclusive:
            stack.enter_context(closing(Lock(self.path)))
            create_private(self.path)
        check_log(self.path)
        connection = stack.enter_context(closing(connect(self.path, create=self._exclusive)))
        if self._exclusive:
            _begin_log_anew(connection)
        return connection

    def _serve_some(self, connection: sqlite3.Connection) -> None:
        jobs = self._next()
        try:
            _transact(connection, jobs)
        except BaseException as error:
            alone = len(jobs) == 1 or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            for job in jobs:
                # One of many is at fault: each alone, so that the others do not suffer for it.
                job.error = self._typed(error) if alone else self._try_alone(connection, job)
        self._answer(jobs)

    def _try_alone(self, connection: sqlite3.Connection, job: _Job[object]) -> BaseException | None:
        try:
            _transact(connection, [job])
        except BaseException as error:
            return self._typed(error)
        return None

    def _typed(self, error: BaseException) -> BaseException:
        return explain(self.path, error) if isinstance(error, sqlite3.Error | MsgspecError) else error

    def _next(self) -> list[_Job[object]]:
        """All jobs that have queued up, at least one unless no more will come."""
        jobs: list[_Job[object]] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs
        self._more = False
        return jobs

    def _refuse(self, error: JournalError) -> None:
        while self._more:
            jobs = self._next()
            for job in jobs:
                job.error = error
            self._answer(jobs)

    def _answer(self, jobs: list[_Job[object]]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and nobody waits
            self._loop.call_soon_threadsafe(_deliver, jobs)


def _deliver(jobs: list[_Job[object]]) -> None:
    for job in jobs:
        job.deliver()


def _begin_log_anew(connection: sqlite3.Connection) -> None:
    """Take the log into the file, so that what a kill left behind its end is not there to confuse the next look.

    Best effort: a process that reads just now keeps it from happening.
    """
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")


def _transact(connection: sqlite3.Connection, jobs: list[_Job[object]]) -> None:
    if not jobs:
        return
    connection.execute("BEGIN IMMEDIATE" if any(job.writes for job in jobs) else "BEGIN")
    try:
        for job in jobs:
            job.run(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def create_private(path: Path) -> None:
    """Create the file readable by its owner alone, if it is not there: it holds phone numbers."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
