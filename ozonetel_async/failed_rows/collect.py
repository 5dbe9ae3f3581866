"""What the callbacks say of the rows; and those not added, fetched once per batch, matched, kept in the journal."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..callbacks.results import JobResult, SecretUrl
from ..downloads.fetch import fetch
from ..downloads.links import DownloadError, LinkPolicy
from ..errors import (
    CallbackError,
    ConfigurationError,
    JournalError,
    redact,
)
from ..journal.journal import Entry, Journal
from ..journal.store import connect, explain
from ..models import FailedLead, UploadReport
from .matching import Match, PhoneIndex
from .reader import FailedRow, FailedRowReader

__all__ = [
    "CollectReport",
    "Totals",
    "Verdict",
    "add_verdicts",
    "collect_failed_rows",
    "failed_leads",
    "lists_of",
    "totals_of",
    "verdicts_of",
]

Fetch: TypeAlias = Callable[[SecretUrl, LinkPolicy], AsyncGenerator[bytes]]
_Value: TypeAlias = str | int | float | bool | None

_NOTE_LIMIT: Final = 300
# A list of failed rows has at most the rows sent; duplicates may be listed once more. Beyond this it is another file.
_ROWS_FACTOR: Final = 4
_ROWS_FLOOR: Final = 1_000


class Verdict(Struct, frozen=True):
    """What a settled batch's callback says of its rows.

    Parameters
    ----------
    index, first_row, last_row: of the batch.
    added, not_added, untold: rows; together those of the batch. Untold are all of them when the counts are missing or
        do not add up to the rows sent.
    failed: whether the job failed as a whole.
    text: what the callback said, when the job failed or the counts cannot be believed; phone numbers are masked.
    """

    index: int
    first_row: int
    last_row: int
    added: int
    not_added: int
    untold: int
    failed: bool
    text: str | None


def verdicts_of(entries: Iterable[Entry]) -> list[Verdict]:
    """The verdicts on those of the batches that are settled."""
    return [_verdict(entry, entry.settlement.result) for entry in entries if entry.settlement.result is not None]


class Totals(NamedTuple):
    """Rows and batches of several verdicts together."""

    added: int
    not_added: int
    untold: int
    failed: int


def totals_of(verdicts: Sequence[Verdict]) -> Totals:
    """The rows added, not added and untold, and the batches whose job failed."""
    added, not_added, untold, failed = (sum(getattr(verdict, name) for verdict in verdicts) for name in Totals._fields)
    return Totals(added, not_added, untold, failed)


def lists_of(entries: Iterable[Entry]) -> Counter[str]:
    """How many of the settled batches' lists of failed rows are in which state; ``"open"`` was not looked at yet."""
    return Counter(
        (entry.failed_file or "open").partition(":")[0] for entry in entries if entry.settlement.result is not None
    )


def _verdict(entry: Entry, result: JobResult) -> Verdict:
    counts = [result.total, result.processed, result.not_processed]
    if not result.succeeded:
        # What is wrong with a request as a whole is told by nothing but a failed job (Bulk V4), so none was added.
        nothing_added = (entry.rows, 0, entry.rows)
        counts = [none if count is None else count for count, none in zip(counts, nothing_added, strict=True)]
    total, added, not_added = counts
    text = f"{'Success' if result.succeeded else 'Fail'}: {redact(result.message) or 'no message'}"
    if added is None or not_added is None or not total == entry.rows == added + not_added:
        told = zip(("uploaded", "processed", "not processed"), counts, strict=True)
        said = ", ".join(f"{name} {'?' if count is None else format(count, ',')}" for name, count in told)
        added, not_added, text = 0, 0, f"{text}; {said} for {entry.rows:,} rows sent"
    untold = entry.rows - added - not_added
    shown = text if untold or not result.succeeded else None
    place = (entry.index, entry.first_row, entry.last_row)
    return Verdict(*place, added, not_added, untold, not result.succeeded, shown)


class CollectReport(Struct, frozen=True):
    """What one run of ``collect_failed_rows`` did.

    Parameters
    ----------
    batches: how many batches ended in each state: ``"done"``, ``"none"``, ``"expired"``, ``"refused"``, ``"failed"``.
    rows: failed rows stored.
    unmatched: those among them of which it cannot be told which row of the input they are.
    """

    batches: Mapping[str, int]
    rows: int
    unmatched: int


class _Sent(NamedTuple):
    """The rows of one batch as they were sent."""

    columns: tuple[str, ...]
    numbers: list[int]
    cells: list[list[_Value]]

    def phones(self) -> Iterator[tuple[int, str]]:
        place = self.columns.index("PhoneNumber")
        return ((number, str(cells[place])) for number, cells in zip(self.numbers, self.cells, strict=True))


class _Body(Struct):
    map: tuple[str, ...]
    data: list[list[_Value]]


async def collect_failed_rows(
    journal: Journal,
    *,
    policy: LinkPolicy | None = None,
    fetch: Fetch = fetch,
    at_once: int = 4,
    country_code: str = "91",
) -> CollectReport:
    """Fetch the lists of failed rows of all settled batches, match them to the input and store them in the journal.

    May be run again at any time: lists that are there, or whose link has expired, are left alone; others are tried
    again, among them those with fewer rows than were not added; what was found is kept meanwhile. Each batch's state
    is noted beside it: ``"done"``, ``"none"`` (no list was given, or none is needed), ``"expired"``, ``"refused: …"``
    (by ``policy``) or ``"failed: …"``. Counts are kept whatever becomes of the list.

    Parameters
    ----------
    journal: open or attached.
    policy: what may be fetched; default ``LinkPolicy()``, the documented host.
    fetch: streams the file behind a link, as ``download.fetch`` does.
    at_once: downloads at a time.
    country_code: of the platform's own country, whose numbers are written with and without it.

    Raises
    ------
    ConfigurationError: ``at_once`` is not a count.
    JournalError: the journal cannot be read or written; what was stored before stays.
    """
    if not (isinstance(at_once, int) and at_once > 0):
        raise ConfigurationError(f"at_once must be a whole number above zero, got {at_once!r}")
    collector = _Collector(journal, policy or LinkPolicy(), fetch, country_code)
    todo = iter([entry for entry in await journal.entries() if _is_open(entry)])
    workers = [asyncio.create_task(collector.work(todo)) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return CollectReport(dict(collector.states), collector.rows, collector.unmatched)


def _is_open(entry: Entry) -> bool:
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

    async def work(self, todo: Iterator[Entry]) -> None:
        """Take batches from ``todo``, which others may take from as well, until there are none."""
        for entry in todo:
            matches, state = await self._collect(entry)
            await self._journal.run(partial(_store, index=entry.index, matches=matches, state=state))
            self.states[state.partition(":")[0]] += 1
            self.rows += len(matches)
            self.unmatched += sum(match.row is None for match in matches)

    async def _collect(self, entry: Entry) -> tuple[list[Match], str]:
        result = entry.settlement.result
        assert result is not None
        verdict = _verdict(entry, result)
        if result.failed_file is None or not (verdict.not_added or verdict.untold):
            return [], "none"
        sent = await self._journal.run(lambda db: _read_sent(db, self._journal.path, entry.index))
        try:
            failed = await self._download(result.failed_file, sent)
        except DownloadError as error:
            return [], _NOTES.get(error.state, "failed: {}").format(error)[:_NOTE_LIMIT]
        except CallbackError as error:
            return [], f"failed: {error}"[:_NOTE_LIMIT]
        state, expected = "done", verdict.not_added or min(result.not_processed or 0, entry.rows)
        if sum(bool(row.as_written) for row in failed) < expected:
            failed = [row for row in failed if row.as_written]
            state = f"failed: the list has {len(failed):,} of the {expected:,} rows that the service did not add"
        index = PhoneIndex(sent.phones(), columns=sent.columns, cells=sent.cells, country_code=self._country_code)
        return index.match(failed), state

    async def _download(self, link: SecretUrl, sent: _Sent) -> list[FailedRow]:
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


def _store(db: sqlite3.Connection, index: int, matches: list[Match], state: str) -> None:
    db.execute("UPDATE batches SET failed_file = ? WHERE id = ?", (state, index))
    (stored,) = db.execute("SELECT count(*) FROM failed_rows WHERE batch = ?", (index,)).fetchone()
    if state != "done" and len(matches) <= stored:
        return  # less than an earlier try has brought
    db.execute("DELETE FROM failed_rows WHERE batch = ?", (index,))
    db.executemany(
        "INSERT INTO failed_rows (batch, row, phone, reason, how) VALUES (?, ?, ?, ?, ?)",
        (
            (index, match.row, match.failed.as_written or match.failed.phone, match.failed.reason, match.how)
            for match in matches
        ),
    )


def _read_sent(db: sqlite3.Connection, path: Path, index: int) -> _Sent:
    values = db.execute(
        "SELECT last_row, read, invalid, body FROM batches JOIN bodies USING (id) WHERE id = ?", (index,)
    ).fetchone()
    last_row, read, invalid, body = values
    try:
        left_out = set(msgspec.json.decode(invalid, type=list[int]))
        decoded = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, TypeError):
        left_out, decoded = set(), _Body((), [])
    # A batch accounts for all rows since the one before it; the invalid ones among them were not sent.
    numbers = [number for number in range(last_row - read + 1, last_row + 1) if number not in left_out]
    width = len(decoded.map)
    if (
        "PhoneNumber" not in decoded.map
        or len(numbers) != len(decoded.data)
        or any(len(cells) != width for cells in decoded.data)
    ):
        raise JournalError(f"journal {path.name} is damaged: the rows of batch {index} are not those it accounts for")
    return _Sent(decoded.map, numbers, decoded.data)


def failed_leads(path: str | PathLike[str]) -> Iterator[FailedLead]:
    """The failed rows stored in a journal, batch by batch in the order of the input; those without a row come last.

    Reads in the caller's thread, one batch at a time, and does not disturb whoever writes to the journal.

    Raises
    ------
    JournalError: there is no such file, or it is no journal, or damaged.
    """
    file = Path(path)
    if not file.is_file():
        raise JournalError(f"journal {file.name}: there is no such file")
    return _read_failed_leads(file)


def _read_failed_leads(file: Path) -> Iterator[FailedLead]:
    try:
        with closing(connect(file, read_only=True)) as db:
            for (index,) in db.execute("SELECT DISTINCT batch FROM failed_rows ORDER BY batch").fetchall():
                yield from _leads_of(db, file, index)
    except sqlite3.Error as error:
        raise explain(file, error) from None


def _leads_of(db: sqlite3.Connection, file: Path, index: int) -> list[FailedLead]:
    sent = _read_sent(db, file, index)
    cells = dict(zip(sent.numbers, sent.cells, strict=True))
    rows = db.execute(
        "SELECT row, reason, how, phone FROM failed_rows WHERE batch = ? ORDER BY row IS NULL, row, rowid", (index,)
    )
    return [
        FailedLead(row, dict(zip(sent.columns, cells.get(row, ()), strict=False)), reason, how, phone)
        for row, reason, how, phone in rows.fetchall()
    ]


async def add_verdicts(report: UploadReport, journal: Journal) -> None:
    """Write into ``report`` what the callbacks have told of its batches so far.

    A batch whose answer was lost or a refusal, and whose callback says that it was taken, is an accepted one.
    """
    entries = {entry.index: entry for entry in await journal.entries()}
    verdicts = {verdict.index: verdict for verdict in verdicts_of(entries.values())}
    totals = totals_of([*verdicts.values()])
    for place, batch in enumerate(report.batches):
        entry = entries.get(batch.index)
        if batch.outcome != "accepted" and entry is not None and entry.state == "accepted":
            report.batches[place] = replace(batch, outcome="accepted", transaction_id=entry.transaction_id, error=None)
            counter = "rows_unknown" if batch.outcome == "unknown" else "rows_refused"
            setattr(report, counter, getattr(report, counter) - batch.rows)
            report.rows_accepted += batch.rows
        if batch.index in verdicts and verdicts[batch.index].text is not None:
            report.batches[place] = replace(report.batches[place], verdict=verdicts[batch.index].text)
    report.batches_settled = len(verdicts)
    report.batches_failed = totals.failed
    report.batches_overdue = await journal.unsettled()
    report.rows_added = totals.added
    report.rows_not_added = totals.not_added
    report.rows_without_verdict = totals.untold
    report.read_failed = partial(failed_leads, journal.path)
