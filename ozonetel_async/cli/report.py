"""An upload's report, for people and for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import to_builtins

from ..config import RateLimit
from ..errors import InputError
from ..models import CellCounts, InvalidRow, UploadReport, counted, row_span
from ..rows.reasons import reason_word
from .screen import Facts, Screen, duration

__all__ = [
    "REPORT_KEYS",
    "check_input",
    "cleaned_facts",
    "count_facts",
    "reason_line",
    "report_facts",
    "report_values",
    "show_callback_texts",
    "show_failures",
    "show_invalid",
]

# So many reasons of invalid rows and failed requests are shown; the others are in --rejects and --json.
_SHOWN: Final = 5
_REASONS: Final = 20

REPORT_KEYS: Final[Mapping[str, str]] = {
    "campaign": "its name",
    "rows_read": "rows whose outcome is known: the sum of the next five",
    "rows_accepted": "queued by the service",
    "rows_invalid": "not sent because of what they hold",
    "rows_refused": "refused by the service",
    "rows_not_sent": "never sent, because the upload ended first",
    "rows_unknown": "sent without a trustworthy answer",
    "rows_in_flight": "0 at the end",
    "batches": "per request: index, first_row, last_row, rows, outcome, transaction_id, error, callback_text (what "
    "the callback said, when the job failed or its counts cannot be believed, or null)",
    "invalid_sample": "the first invalid rows, and the first of each further reason: row, field, reason, further (its "
    "other faults)",
    "invalid_reasons": "invalid rows by column and reason",
    "rows_repairable": "invalid rows that cleaning would save",
    "cleaned": "cells that were cleaned, by column and kind",
    "warnings": "what looks wrong with the phone numbers as a whole",
    "requests": "requests that reached the wire",
    "worst_window": "most requests within one window of the limit",
    "elapsed": "seconds",
    "stopped_by": "what ended the upload early, or null",
    "batches_settled": "batches whose callback has come",
    "batches_overdue": "batches that wait for their callback",
    "rows_added": "added by the service, as callbacks say",
    "rows_not_added": "not added by the service, as callbacks say",
    "rows_unreported": "in batches whose callback gave no counts that can be believed",
    "batches_failed": "batches whose job failed as a whole, as callbacks say",
}


def check_input(stopped_by: str | None, *, sent: bool) -> None:
    """Raise ``InputError`` when a file broke off before anything was sent, which makes it a mistake of usage."""
    kind, _, message = (stopped_by or "").partition(": ")
    if kind == InputError.__name__ and not sent:
        raise InputError(message)


def report_values(report: UploadReport) -> dict[str, object]:
    """A report as plain values."""
    return {name: to_builtins(getattr(report, name)) for name in REPORT_KEYS}


def report_facts(report: UploadReport, limit: RateLimit) -> Facts:
    """A report as labels and values."""
    window = f"at most {report.worst_window} in any {limit.per:g} s, limit {limit.requests}"
    facts = [
        ("rows read", f"{report.rows_read:,}"),
        ("accepted", f"{report.rows_accepted:,} (queued by the service)"),
        ("invalid", f"{report.rows_invalid:,} (not sent)"),
        ("refused", f"{report.rows_refused:,} (by the service)"),
        ("not sent", f"{report.rows_not_sent:,} (the upload ended first)"),
        ("unknown", f"{report.rows_unknown:,} (sent without a trustworthy answer)"),
        ("requests", f"{report.requests:,}, {window}"),
        ("time", duration(report.elapsed) if report.elapsed >= 60 else f"{report.elapsed:.1f} s"),
    ]
    if report.rows_repairable:
        facts.append(("repairable", f"{report.rows_repairable:,} of the invalid rows would be sent with --clean"))
    facts += cleaned_facts(report.cleaned)
    if report.batches_settled or report.batches_overdue:
        facts += [
            ("callbacks", f"{report.batches_settled:,} came, {report.batches_overdue:,} did not yet"),
            ("added", f"{report.rows_added:,}"),
            ("not added", f"{report.rows_not_added:,} (duplicates among them)"),
            *count_facts(report.rows_unreported, report.batches_failed),
        ]
    if report.stopped_by is not None:
        facts.append(("stopped early by", report.stopped_by))
    return facts


def cleaned_facts(cleaned: CellCounts) -> Facts:
    """What was cleaned as labels and values, the most frequent first."""
    found = [(count, column, kind) for column, kinds in cleaned.items() for kind, count in kinds.items()]
    return [("cleaned", f"{count:,} x {column}: {kind}") for count, column, kind in sorted(found, reverse=True)]


def count_facts(rows_unreported: int, batches_failed: int) -> Facts:
    """What callbacks left unreported, and jobs that failed, as labels and values."""
    facts = (
        (
            "not reported",
            f"{counted(rows_unreported, 'row')} (the callback gave no counts that can be believed)",
            rows_unreported,
        ),
        ("failed jobs", counted(batches_failed, "batch"), batches_failed),
    )
    return [(label, value) for label, value, count in facts if count]


def show_callback_texts(screen: Screen, texts: Sequence[tuple[int, int, str]]) -> None:
    """Show the first few of what callbacks said, each with the first and the last row it is about."""
    for first_row, last_row, text in texts[:_SHOWN]:
        screen.say(f"{row_span(first_row, last_row)}: the callback said: {text}")
    if len(texts) > _SHOWN:
        screen.say(f"{counted(len(texts) - _SHOWN, 'more callback')} like these; --json lists all of them")


def reason_line(count: int, first: InvalidRow, word: str, line: int | None, cell: str | None = None) -> str:
    """One reason of invalid rows as text.

    Args:
        count: rows with it.
        first: the first of them.
        word: what they share.
        line: where the first begins in its file.
        cell: of the first, masked.
    """
    fault, _, remedy = first.reason.partition("; ")
    in_full = first.reason.startswith(word)
    example = cell or (None if in_full else fault)
    where = f"first in row {first.row:,}{'' if line is None else f' (line {line:,})'}"
    what = first.reason if in_full else word if remedy in ("", word) else f"{word}; {remedy}"
    return f"{count:,} x {first.field}: {what}; {where}{'' if example is None else f': {example}'}"


def show_invalid(
    screen: Screen, report: UploadReport, line_of: Callable[[int], int | None], rejects: str | None
) -> None:
    """Show the reasons of invalid rows, the most frequent first, each with an example.

    Args:
        screen: where to.
        report: of the upload.
        line_of: the line at which a row begins; asked for in the order of the rows.
        rejects: the file with all of them.
    """
    first: dict[tuple[str, str], tuple[InvalidRow, int | None]] = {}
    for invalid in sorted(report.invalid_sample, key=lambda sampled: sampled.row):
        key = (invalid.field, reason_word(invalid.reason))
        if key not in first:
            first[key] = (invalid, line_of(invalid.row))
    reasons = [(n, column, word) for column, words in report.invalid_reasons.items() for word, n in words.items()]
    for count, column, word in sorted(reasons, reverse=True)[:_REASONS]:
        if (column, word) in first:
            found, line = first[column, word]
            screen.say(f"invalid: {reason_line(count, found, word, line)}")
        else:  # counted with others of their kind
            screen.say(f"invalid: {count:,} x {column}: {word}")
    if len(reasons) > _REASONS:
        screen.say(f"invalid: {counted(len(reasons) - _REASONS, 'further reason')}; --json lists all of them")
    if report.rows_invalid:
        where = f"all of them are in {rejects}" if rejects else "--rejects FILE writes all of them"
        screen.say(f"{counted(report.rows_invalid, 'invalid row')} not sent; {where}")


def show_failures(screen: Screen, report: UploadReport) -> None:
    """Show the first failed requests, what was not sent, and what callbacks said of failed jobs."""
    failed = [batch for batch in report.batches if batch.outcome in ("refused", "unknown")]
    for batch in failed[:_SHOWN]:
        screen.say(f"{row_span(batch.first_row, batch.last_row)}: {batch.outcome}: {batch.error}")
    if len(failed) > _SHOWN:
        screen.say(f"{counted(len(failed) - _SHOWN, 'more request')} failed; --json lists all of them")
    not_sent = sum(batch.rows for batch in report.batches if batch.outcome == "not_sent")
    if not_sent:
        screen.say(f"{counted(not_sent, 'row')} read and not sent: {report.stopped_by or 'see above'}")
    texts = [
        (batch.first_row, batch.last_row, batch.callback_text)
        for batch in report.batches
        if batch.callback_text is not None
    ]
    show_callback_texts(screen, texts)
