"""An upload's side of its journal: what an earlier run has done, and what this one does."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from os import PathLike
from typing import Final, Literal

from ..callbacks.url_tokens import add_token
from ..config import Cleaning, ClientConfig
from ..errors import JournalError, Outcome
from ..journal.journal import Header, Journal, JournaledBatch
from ..protocol.requests import Params
from ..rows.batches import Batch
from ..sending.dispatcher import ApiRequest

__all__ = ["UploadJournal", "open_upload_journal", "upload_header"]

_NOT_APPLIED: Final = ("pending", "refused")


class UploadJournal:
    """Compares the input with what is journaled, and writes down what happens to each batch.

    Args:
        journal: open, and held by this upload.
        batches: its batches when the upload began: an unbroken row from the first batch on.
        callback_url: public URL under which callbacks arrive, or None.
    """

    def __init__(self, journal: Journal, batches: list[JournaledBatch], callback_url: str | None) -> None:
        self.journal = journal
        self._callback_url = callback_url
        self._expected = deque(batches)
        self._invalid: list[int] = []
        self.matched: deque[JournaledBatch] = deque()
        """Journaled batches that this run's input has produced again."""

    @property
    def replaying(self) -> bool:
        """Whether the input has yet to produce batches that are journaled."""
        return bool(self._expected)

    def may_be_applied(self, batch: Batch) -> bool:
        """Whether an earlier run may have got through with a batch that the input has yet to produce again."""
        return any(one.index == batch.index and one.state not in _NOT_APPLIED for one in self._expected)

    def note_invalid(self, row: int) -> None:
        """Note an invalid row; it goes into the record of the batch that accounts for it."""
        self._invalid.append(row)

    def compare(self, batch: Batch) -> None:
        """Compare a batch with the next journaled one.

        Raises:
            JournalError: the input has changed.
        """
        journaled = self._expected.popleft()
        if not journaled.matches(batch):
            raise JournalError(
                f"journal {self.journal.path.name}: the input has changed in rows {batch.last_row - batch.read + 1} to "
                f"{max(batch.last_row, journaled.last_row)}, which are journaled already; nothing was sent. "
                "Give it the same input, or begin a new journal"
            )
        self._take_invalid(batch)
        self.matched.append(journaled)

    def check_complete(self) -> None:
        """Raise ``JournalError`` when the input ended before all that is journaled."""
        if self._expected:
            raise JournalError(
                f"journal {self.journal.path.name}: the input ends before row {self._expected[0].last_row}, "
                "which is journaled already; nothing was sent. Give it the same input, or begin a new journal"
            )

    async def prepare(self, batch: Batch, call: ApiRequest) -> None:
        """Write a new batch ahead or fetch a journaled one; give ``call`` its callback URL, have it note its sends.

        New batches must come in their order.
        """
        if batch.payload:
            await self.journal.plan(batch, self._take_invalid(batch))
        else:
            call.payload = await self.journal.body(batch.index)
        if self._callback_url is not None:
            token = await self.journal.callback_token(batch.index)
            call.params = {**call.params, "callBackUrl": add_token(self._callback_url, token)}
        call.before_send = partial(self.journal.mark, batch.index, "sent", callback=self._callback_url is not None)
        call.not_applied = partial(self.journal.mark, batch.index, "pending")

    async def conclude(self, batch: Batch, outcome: Outcome | Literal["accepted"], text: str) -> None:
        """Write down a batch's fate, with its transaction id when accepted, else with the error's text."""
        await _RECORDS[outcome](self.journal, batch.index, text)

    def _take_invalid(self, batch: Batch) -> list[int]:
        """The invalid rows among those the batch accounts for; later ones stay for the next."""
        rows = [row for row in self._invalid if row <= batch.last_row]
        self._invalid = self._invalid[len(rows) :]
        return rows


async def _record_unsent(journal: Journal, index: int, _: str) -> None:
    await journal.mark(index, "pending")


_RECORDS: Final[Mapping[str, Callable[[Journal, int, str], Awaitable[None]]]] = {
    "accepted": Journal.accepted,
    "refused": Journal.refused,
    "unknown": Journal.unknown,
    "not_sent": _record_unsent,
}


@asynccontextmanager
async def open_upload_journal(
    path: str | PathLike[str], header: Header, callback_url: str | None
) -> AsyncIterator[tuple[UploadJournal, datetime]]:
    """Open the journal for an upload; gives its journal and the moment against which dates are to be checked."""
    journal = await Journal.open(path, header)
    try:
        checked_at = _moment(journal, (await journal.header()).checked_at)
        yield UploadJournal(journal, await journal.batches(), callback_url), checked_at
    finally:
        await journal.close()


def _moment(journal: Journal, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise JournalError(f"journal {journal.path.name} is damaged (its time is no ISO time)") from None


def upload_header(
    config: ClientConfig,
    campaign: str,
    params: Params,
    columns: Sequence[str] | None,
    leads: object,
    now: datetime,
    clean: Cleaning | None = None,
) -> Header:
    """What the journal keeps of an upload to know it again, and to resume it."""
    return Header(
        campaign=campaign,
        account=f"{config.credentials.username} at {config.base_url}",
        params={name: str(value) for name, value in params.items()},
        columns=None if columns is None else tuple(columns),
        checked_at=now.isoformat(),
        source=_source(leads),
        cleaning="" if clean is None else clean.policy,
    )


def _source(leads: object) -> dict[str, str] | None:
    source: dict[str, str] | None = getattr(leads, "source", None)
    with suppress(UnicodeEncodeError):  # a path that is no text, which no journal can hold
        "".join((source or {}).values()).encode()
        return source
    return None
