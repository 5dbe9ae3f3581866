"""What the callbacks say of the rows of each batch, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ..callbacks.results import JobResult
from ..masking import redact
from ..models import UploadReport, counted
from .failed_rows import failed_leads
from .journal import Journal, JournaledBatch

__all__ = ["BatchCounts", "Totals", "add_counts", "batch_counts", "counts_of", "lists_of", "totals_of"]


class BatchCounts(Struct, frozen=True):
    """What a settled batch's callback says of its rows.

    Attributes:
        index, first_row, last_row: of the batch.
        added, not_added, unreported: rows; together those of the batch. All are unreported when the counts are missing
            or do not add up to the rows sent.
        failed: whether the job failed as a whole.
        text: what the callback said, when the job failed or the counts cannot be believed; phone numbers are masked.
    """

    index: int
    first_row: int
    last_row: int
    added: int
    not_added: int
    unreported: int
    failed: bool
    text: str | None


def counts_of(batches: Iterable[JournaledBatch]) -> list[BatchCounts]:
    """The counts of those of the batches that are settled."""
    return [batch_counts(batch, batch.settlement.result) for batch in batches if batch.settlement.result is not None]


class Totals(NamedTuple):
    """The counts of several batches together."""

    added: int
    not_added: int
    unreported: int
    failed: int


def totals_of(counts: Sequence[BatchCounts]) -> Totals:
    """The rows added, not added and unreported, and the batches whose job failed."""
    return Totals(*(sum(getattr(batch, name) for batch in counts) for name in Totals._fields))


def lists_of(batches: Iterable[JournaledBatch]) -> Counter[str]:
    """How many of the settled batches' lists of failed rows are in which state; ``"open"`` was not looked at yet."""
    return Counter(
        (batch.failed_file or "open").partition(":")[0] for batch in batches if batch.settlement.result is not None
    )


def batch_counts(batch: JournaledBatch, result: JobResult) -> BatchCounts:
    """What a callback says of its batch's rows; its counts are believed only where they add up to the rows sent."""
    counts = [result.total, result.processed, result.not_processed]
    if not result.succeeded:
        # What is wrong with a request as a whole is told by nothing but a failed job (Bulk V4), so none was added.
        nothing_added = (batch.rows, 0, batch.rows)
        counts = [none if count is None else count for count, none in zip(counts, nothing_added, strict=True)]
    total, added, not_added = counts
    text = f"{'Success' if result.succeeded else 'Fail'}: {redact(result.message) or 'no message'}"
    if added is None or not_added is None or not total == batch.rows == added + not_added:
        told = zip(("uploaded", "processed", "not processed"), counts, strict=True)
        said = ", ".join(f"{name} {'?' if count is None else format(count, ',')}" for name, count in told)
        added, not_added, text = 0, 0, f"{text}; {said} for {counted(batch.rows, 'row')} sent"
    unreported = batch.rows - added - not_added
    shown = text if unreported or not result.succeeded else None
    place = (batch.index, batch.first_row, batch.last_row)
    return BatchCounts(*place, added, not_added, unreported, not result.succeeded, shown)


async def add_counts(report: UploadReport, journal: Journal) -> None:
    """Write into ``report`` what the callbacks have told of its batches so far.

    A batch whose answer was lost or a refusal, and whose callback says that it was taken, is an accepted one.
    """
    journaled = {batch.index: batch for batch in await journal.batches()}
    counts = {batch.index: batch for batch in counts_of(journaled.values())}
    totals = totals_of([*counts.values()])
    for place, batch in enumerate(report.batches):
        known = journaled.get(batch.index)
        if batch.outcome != "accepted" and known is not None and known.state == "accepted":
            report.batches[place] = replace(batch, outcome="accepted", transaction_id=known.transaction_id, error=None)
            counter = f"rows_{batch.outcome}"
            setattr(report, counter, getattr(report, counter) - batch.rows)
            report.rows_accepted += batch.rows
        if batch.index in counts and counts[batch.index].text is not None:
            report.batches[place] = replace(report.batches[place], callback_text=counts[batch.index].text)
    report.batches_settled = len(counts)
    report.batches_failed = totals.failed
    report.batches_overdue = await journal.unsettled()
    report.rows_added = totals.added
    report.rows_not_added = totals.not_added
    report.rows_unreported = totals.unreported
    report.read_failed = partial(failed_leads, journal.path)
