"""A folder of journals as one sink: for a web process that takes in the callbacks of many uploads."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import token_journal
from ..errors import ConfigurationError, JournalError
from .records import deliver, read_id
from .store import connect, explain, transact

__all__ = ["JournalFolder"]

# Callbacks at a time; each takes a thread, and others need threads too.
_AT_A_TIME: Final = 4
# Seconds. File systems date changes by ticks of up to two seconds: a folder that changed just before it was read may
# have changed once more since, and bear the same date.
_TICK: Final = 2.0


class JournalFolder:
    """Hands each callback to the journal that its token names, among the ``*.journal`` files of a folder.

    Journals may come and go: the folder is read anew when it has changed, and each journal is opened once to learn
    what its tokens have in common. After that, a callback opens the one journal that it is for, and an unknown token
    none. Used from one event loop.

    Args:
        path: an existing folder.

    Raises:
        ConfigurationError: it is not that.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._folder = Path(path)
        if not self._folder.is_dir():
            raise ConfigurationError(f"expected an existing folder of journals, got {self._folder.name!r}")
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._index = _Index(self._folder)

    async def deliver(self, token: str, result: JobResult | ExportResult) -> bool:
        """Take in a callback; see ``CallbackSink``.

        Raises:
            JournalError: no journal knows the token, and one of them could not be read; or the one that does failed.
        """
        journal = token_journal(token)
        if journal is None:
            return False
        async with self._turns:
            return await asyncio.to_thread(self._deliver, journal, token, result)

    def _deliver(self, journal: bytes, token: str, result: JobResult | ExportResult) -> bool:
        # A journal and a copy of it in the same folder both get the callback.
        stored = [_deliver_to(path, token, result) for path in self._index.find(journal)]
        return any(stored)


def _deliver_to(path: Path, token: str, result: JobResult | ExportResult) -> bool:
    try:
        with closing(connect(path)) as db:
            return transact(db, "BEGIN IMMEDIATE", lambda db: deliver(db, token, result))
    except (sqlite3.Error, ValueError) as error:
        raise explain(path, error) from None


class _Known(NamedTuple):
    """What is known of a file: until it changes, nothing else is.

    Attributes:
        version: inode, size and time of the last change.
        id: of the journal; None when it has none: not begun yet, no journal at all, or not readable.
        failure: why it could not be read.
    """

    version: tuple[int, ...]
    id: bytes | None
    failure: JournalError | None


class _Index:
    """Which journals of a folder have which id; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._changed: float | None = None  # when the folder had last changed before it was read
        self._known: dict[Path, _Known] = {}
        self._paths: dict[bytes, list[Path]] = {}

    def find(self, journal: bytes) -> list[Path]:
        """The journals with this id, nearly always one or none.

        Raises:
            JournalError: there is none, and one that may have it could not be read; or the folder could not.
        """
        with self._lock:
            try:
                self._look_for_changes()
            except OSError as error:
                raise JournalError(f"the folder of journals {self._folder.name}: {error.strerror}") from None
            if journal not in self._paths:
                self._look_again()
            failures = (known.failure for known in self._known.values() if known.failure is not None)
            if journal not in self._paths and (failure := next(failures, None)) is not None:
                # "Unknown" would be the end of a callback that may be that journal's.
                raise failure
            return self._paths.get(journal, [])

    def _look_for_changes(self) -> None:
        """Read the folder anew if it has changed."""
        changed = os.stat(self._folder).st_mtime
        if changed == self._changed:
            return
        now = time.time()
        found: dict[Path, _Known] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it went while we looked
                    if entry.name.endswith(".journal") and entry.is_file():
                        path, stat = self._folder / entry.name, entry.stat()
                        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                        known = self._known.get(path)
                        found[path] = known if known and known.version == version else _read(path, version)
        self._learn(found)
        self._changed = changed if now - changed > _TICK else None

    def _look_again(self) -> None:
        """Look at the files without an id once more: what was none, or could not be read, may be a journal now."""
        without = {path: _read(path, known.version) for path, known in self._known.items() if known.id is None}
        if without:
            self._learn({**self._known, **without})

    def _learn(self, known: dict[Path, _Known]) -> None:
        self._known = known
        self._paths = {}
        for path, one in known.items():
            if one.id is not None:
                self._paths.setdefault(one.id, []).append(path)


def _read(path: Path, version: tuple[int, ...]) -> _Known:
    try:
        with closing(connect(path)) as db:
            return _Known(version, transact(db, "BEGIN", lambda db: read_id(db, path)), None)
    except (JournalError, sqlite3.Error) as error:
        harmless = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB or not path.exists()
        return _Known(version, None, None if harmless else explain(path, error))
