"""The durable record of one upload: what was about to be sent, what was sent, and what became of it.

A batch is written down, with the exact bytes, before it is sent, and marked as sent before its request leaves. So
after ``kill -9`` at any moment each batch is one of: not sent (safe to send), accepted (never to be sent again), or
sent without a recorded answer (unknown). The next run reads the input again, cuts it in the same way, and compares it
with what is written here.

A web process that receives callbacks may write to the same file at the same time: ``Journal.attach``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, Self

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import batch_token
from ..errors import JournalError
from ..rows.batches import Batch
from . import records, waiting
from .failed_rows import SentRows, StoredRow, count_failed_rows, read_sent, store_failed_rows
from .records import Header, JournaledBatch
from .store import Store

__all__ = ["Header", "Journal", "JournaledBatch"]


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
        return await cls._opened(store, store.write(lambda db: records.begin(db, store.path, header)))

    @classmethod
    async def attach(cls, path: str | PathLike[str]) -> Self:
        """Open an existing journal beside the process that works on it.

        Raises:
            JournalError: there is none, or it is damaged or of another version.
        """
        store = Store(_existing(path))
        return await cls._opened(store, store.read(lambda db: records.check_format(db, store.path)))

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
        return await self._store.read(records.read_header)

    async def batches(self) -> list[JournaledBatch]:
        """All batches in their order."""
        return await self._store.read(records.read_batches)

    async def body(self, index: int) -> bytes:
        """A batch's encoded bulkData."""
        return await self._store.read(lambda db: records.read_body(db, self.path, index))

    async def callback_token(self, index: int) -> str:
        """What a batch's callback URL must bear."""
        return await self._store.read(lambda db: batch_token(records.read_secret(db), index))

    async def plan(self, batch: Batch, invalid: Iterable[int]) -> None:
        """Write a batch ahead of its sending; only then may it be sent.

        Batches must come in their order, without gaps.

        Args:
            batch: with its body.
            invalid: numbers of the invalid rows among those it accounts for.

        Raises:
            JournalError: it could not be written, or one before it could not.
        """
        rows = list(invalid)
        await self._store.write(lambda db: records.insert(db, self.path, batch, rows))

    async def keep(self, leads: Sequence[bytes]) -> list[int]:
        """Write leads of a buffer down, all in one transaction; their keys."""
        return await self._store.write(lambda db: waiting.keep(db, leads))

    async def forget(self, keys: Sequence[int]) -> None:
        """Drop leads of a buffer whose fate is known."""
        await self._store.write(lambda db: waiting.forget(db, keys))

    async def waiting(self) -> list[tuple[int, bytes]]:
        """Key and bytes of each lead of a buffer that is in no batch yet, the oldest first."""
        return await self._store.read(lambda db: waiting.read_waiting(db, self.path))

    async def cut(self, payload: bytes, rows: int, keys: Sequence[int]) -> int:
        """Write a buffer's next batch down, in place of the leads with these keys.

        Args:
            payload: its encoded bulkData.
            rows: rows in it.
            keys: of those of its leads that were written down.

        Returns:
            Its index.
        """
        return await self._store.write(lambda db: waiting.cut(db, self.path, payload, rows, keys))

    async def mark(self, index: int, state: Literal["pending", "sent"], *, callback: bool = False) -> None:
        """Note that a batch's request is about to leave, or that it is known not to have been applied.

        Args:
            index: of the batch.
            state: ``"sent"`` or ``"pending"``.
            callback: whether the request asks for a callback.
        """
        await self._store.write(lambda db: records.mark(db, index, state, callback))

    async def accepted(self, index: int, transaction_id: str) -> None:
        """Note the service's ticket."""
        await self._store.write(lambda db: records.accept(db, index, transaction_id))

    async def refused(self, index: int, error: str) -> None:
        """Note that the service refused the batch; a later run sends it again, unless a callback says it was taken."""
        await self._store.write(lambda db: records.end(db, index, "refused", error))

    async def unknown(self, index: int, error: str) -> None:
        """Note that it is not known whether the batch was applied; its callback may still tell."""
        await self._store.write(lambda db: records.end(db, index, "unknown", error))

    async def deliver(self, token: str, result: JobResult | ExportResult) -> bool:
        """Take in a callback; True when ``token`` is one of this journal's and the result is in the file."""
        return await self._store.write(lambda db: records.deliver(db, token, result))

    async def unsettled(self) -> int:
        """Batches that have reached the service, or may have, and whose callback was asked for and has not come."""
        return await self._store.read(lambda db: len(records.unsettled(db)))

    async def give_up_waiting(self) -> None:
        """Note for every batch without its callback that the wait is over."""
        await self._store.write(records.give_up_waiting)

    async def sent_rows(self, index: int) -> SentRows:
        """The rows of a batch as they were sent."""
        return await self._store.read(lambda db: read_sent(db, self.path, index))

    async def store_failed_rows(self, index: int, rows: Sequence[StoredRow], state: str) -> None:
        """Keep the failed rows of a batch, and how far its list has been read; an earlier, longer list is kept."""
        await self._store.write(lambda db: store_failed_rows(db, index, rows, state))

    async def failed_rows(self) -> int:
        """How many failed rows are stored."""
        return await self._store.read(count_failed_rows)

    async def changed(self) -> float | None:
        """POSIX time of the last change of a batch; None before the first."""
        return await self._store.read(records.read_changed)


def _existing(path: str | PathLike[str]) -> Path:
    file = Path(path)
    if not file.is_file():
        raise JournalError(f"journal {file.name}: there is no such file")
    return file
