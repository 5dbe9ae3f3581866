"""What the callbacks say of the rows; and those not added, fetched once per batch, matched, kept in the journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Final, TypeAlias

from msgspec import Struct

from ..callbacks.results import SecretUrl
from ..config import told
from ..downloads.fetch import fetch
from ..downloads.links import LinkPolicy
from ..errors import CallbackError, ConfigurationError, DownloadError
from ..journal.counts import batch_counts
from ..journal.failed_rows import SentRows, StoredRow
from ..journal.journal import Journal, JournaledBatch
from .matching import Match, PhoneIndex
from .reader import FailedRow, FailedRowReader

__all__ = ["CollectReport", "collect_failed_rows"]

Fetch: TypeAlias = Callable[[SecretUrl, LinkPolicy], AsyncGenerator[bytes]]

_NOTE_LIMIT: Final = 300
# A list of failed rows has at most the rows sent; duplicates may be listed once more. Beyond this it is another file.
_ROWS_FACTOR: Final = 4
_ROWS_FLOOR: Final = 1_000


class CollectReport(Struct, frozen=True):
    """What one run of ``collect_failed_rows`` did.

    Attributes:
        batches: how many batches ended in each state: ``"done"``, ``"none"``, ``"expired"``, ``"refused"``,
            ``"failed"``.
        rows: failed rows stored.
        unmatched: those among them of which it cannot be told which row of the input they are.
    """

    batches: Mapping[str, int]
    rows: int
    unmatched: int


async def collect_failed_rows(
    journal: Journal,
    *,
    policy: LinkPolicy | None = None,
    fetch: Fetch = fetch,
    concurrency: int = 4,
    country_code: str = "91",
) -> CollectReport:
    """Fetch the lists of failed rows of all settled batches, match them to the input and store them in the journal.

    May be run again at any time: lists that are there, or whose link has expired, are left alone; others are tried
    again, among them those with fewer rows than were not added; what was found is kept meanwhile. Each batch's state
    is noted beside it: ``"done"``, ``"none"`` (no list was given, or none is needed), ``"expired"``, ``"refused: …"``
    (by ``policy``) or ``"failed: …"``. Counts are kept whatever becomes of the list.

    Args:
        journal: open or attached.
        policy: what may be fetched; default ``LinkPolicy()``, the documented host.
        fetch: streams the file behind a link, as ``download.fetch`` does.
        concurrency: downloads at a time.
        country_code: of the platform's own country, whose numbers are written with and without it.

    Raises:
        ConfigurationError: ``concurrency`` is no whole number of at least 1.
        JournalError: the journal cannot be read or written; what was stored before stays.
    """
    if type(concurrency) is not int or concurrency < 1:
        raise ConfigurationError(f"concurrency: expected a whole number of at least 1, got {told(concurrency)}")
    collector = _Collector(journal, policy or LinkPolicy(), fetch, country_code)
    todo = iter([entry for entry in await journal.batches() if _is_open(entry)])
    workers = [asyncio.create_task(collector.work(todo)) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return CollectReport(dict(collector.states), collector.rows, collector.unmatched)


def _is_open(entry: JournaledBatch) -> bool:
    tried = entry.failed_file is not None and not entry.failed_file.startswith(("refused", "failed"))
    return entry.settlement.result is not None and not tried


class _Collector:
    def __init__(self, journal: Journal, policy: LinkPolicy, fetch: Fetch, country_code: str) -> None:
        self._journal = journal
        self._policy = policy
        self._fetch = fetch
        self._country_code = country_code
        self.states: Counter[str] = Counter()
        self.rows = 0
        self.unmatched = 0

    async def work(self, todo: Iterator[JournaledBatch]) -> None:
        """Take batches from ``todo``, which others may take from as well, until there are none."""
        for entry in todo:
            matches, state = await self._collect(entry)
            await self._journal.store_failed_rows(entry.index, [_stored(match) for match in matches], state)
            self.states[state.partition(":")[0]] += 1
            self.rows += len(matches)
            self.unmatched += sum(match.row is None for match in matches)

    async def _collect(self, entry: JournaledBatch) -> tuple[list[Match], str]:
        result = entry.settlement.result
        assert result is not None
        counts = batch_counts(entry, result)
        if result.failed_file is None or not (counts.not_added or counts.unreported):
            return [], "none"
        sent = await self._journal.sent_rows(entry.index)
        try:
            failed = await self._download(result.failed_file, sent)
        except DownloadError as error:
            return [], _NOTES.get(error.state, "failed: {}").format(error)[:_NOTE_LIMIT]
        except CallbackError as error:
            return [], f"failed: {error}"[:_NOTE_LIMIT]
        state, expected = "done", counts.not_added or min(result.not_processed or 0, entry.rows)
        if sum(bool(row.as_written) for row in failed) < expected:
            failed = [row for row in failed if row.as_written]
            state = f"failed: the list has {len(failed):,} of the {expected:,} rows that the service did not add"
        # In a thread: 2,000 listed rows of 40 columns take a good part of a second.
        return await asyncio.to_thread(self._match, sent, failed), state

    def _match(self, sent: SentRows, failed: list[FailedRow]) -> list[Match]:
        index = PhoneIndex(sent.phones(), columns=sent.columns, cells=sent.cells, country_code=self._country_code)
        return index.match(failed)

    async def _download(self, link: SecretUrl, sent: SentRows) -> list[FailedRow]:
        reader = FailedRowReader(columns=sent.columns)
        limit = max(_ROWS_FLOOR, _ROWS_FACTOR * len(sent.numbers))
        rows: list[FailedRow] = []
        async with aclosing(self._fetch(link, self._policy)) as chunks:
            async for chunk in chunks:
                rows += reader.feed(chunk)
                if len(rows) > limit:
                    raise CallbackError(f"the list has more than {limit:,} rows for {len(sent.numbers):,} rows sent")
        return rows + reader.close()


_NOTES: Final[Mapping[str, str]] = {"expired": "expired", "refused": "refused: {}", "too_large": "refused: {}"}


def _stored(match: Match) -> StoredRow:
    return StoredRow(match.row, match.failed.as_written or match.failed.phone, match.failed.reason, match.how)
