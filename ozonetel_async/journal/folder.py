"""A folder of journals as one sink: for a web process that takes in the callbacks of many uploads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from contextlib import closing, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import token_hash, verify
from ..errors import ConfigurationError, JournalError
from .journal import Journal
from .store import connect, explain

__all__ = ["JournalFolder"]

# Look-ups at a time; each takes a thread, and strangers can ask for as many as they like.
_LOOKUPS: Final = 4
# What a file that is no journal, or not one yet, says to a look-up: no database, and a database without the table.
_NO_JOURNAL: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


class _Found(NamedTuple):
    """A journal's file; one put in its place has another number."""

    path: Path
    device: int
    inode: int


@dataclass(slots=True)
class _Opened:
    journal: Journal
    users: int = 0


class JournalFolder:
    """Hands each callback to the journal that knows its token, among the ``*.journal`` files of a folder.

    The folder is looked through anew for every callback, so journals may come and go. A journal is opened with the
    first callback that is its own. A context manager; used from one event loop.

    Args:
        path: an existing folder.
        max_open: most journals kept open; each takes a thread and a file.

    Raises:
        ConfigurationError: one of them is not that.
    """

    def __init__(self, path: str | PathLike[str], *, max_open: int = 16) -> None:
        self._folder = Path(path)
        if not self._folder.is_dir():
            raise ConfigurationError(f"the folder of journals {self._folder.name!r} does not exist")
        if not (isinstance(max_open, int) and max_open > 0):
            raise ConfigurationError(f"max_open must be a whole number above zero, got {max_open!r}")
        self._max_open = max_open
        self._open: OrderedDict[_Found, _Opened] = OrderedDict()
        self._opening = asyncio.Lock()
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way and close every journal; idempotent."""
        self._closed = True
        async with self._opening:
            while self._open:
                _, opened = self._open.popitem()
                await opened.journal.close()

    async def deliver(self, token: str, result: JobResult | ExportResult) -> bool:
        """Take in a callback; see ``CallbackSink``.

        Raises:
            JournalError: no journal knows the token, and one of them could not be read; or the one that does failed; or
                the folder is closed.
        """
        async with self._lookups:
            found = await asyncio.to_thread(self._find, token)
        if found is None:
            return False
        opened = await self._borrow(found)
        try:
            return await opened.journal.deliver(token, result)
        finally:
            opened.users -= 1

    async def _borrow(self, found: _Found) -> _Opened:
        async with self._opening:
            if self._closed:
                raise JournalError(f"the folder of journals {self._folder.name} is closed")
            opened = self._open.get(found)
            if opened is None:
                opened = self._open[found] = _Opened(await Journal.attach(found.path))
            self._open.move_to_end(found)
            opened.users += 1
            for idle in [key for key, other in self._open.items() if not other.users]:
                if len(self._open) <= self._max_open:
                    break
                await self._open.pop(idle).journal.close()
            return opened

    def _find(self, token: str) -> _Found | None:
        """The journal that knows ``token``; in a thread, over connections that cannot write."""
        failure: JournalError | None = None
        for path in self._newest_first():
            try:
                with closing(connect(path, read_only=True)) as db:
                    row = db.execute("SELECT token FROM batches WHERE token_hash = ?", (token_hash(token),)).fetchone()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) not in _NO_JOURNAL and path.exists():
                    failure = explain(path, error)
                continue
            if row is not None and verify(row[0], token):
                stat = path.stat()
                return _Found(path, stat.st_dev, stat.st_ino)
        if failure is not None:
            # "Unknown" would be the end of a callback that may be this journal's.
            raise failure
        return None

    def _newest_first(self) -> list[Path]:
        files: list[tuple[float, Path]] = []
        try:
            for path in self._folder.iterdir():
                with suppress(FileNotFoundError):  # it went while we looked
                    if path.suffix == ".journal" and path.is_file():
                        files.append((path.stat().st_mtime, path))
        except OSError as error:
            raise JournalError(f"the folder of journals {self._folder.name}: {error.strerror}") from None
        return [path for _, path in sorted(files, reverse=True)]
