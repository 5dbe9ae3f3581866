"""``ozonetel status``: what a journal says of its upload, also while another process uploads."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct, to_builtins

from ...journal.counts import counts_of, lists_of, totals_of
from ...journal.journal import Journal, JournaledBatch
from ...models import counted, row_span
from ..arguments import add_output_arguments
from ..progress import count_rows
from ..report import count_facts, show_callback_texts
from ..screen import Exit, Facts, Screen

__all__ = ["STATUS_KEYS", "add_arguments", "run"]

_SHOWN: Final = 5
_MEANING: Final[Mapping[str, str]] = {
    "pending": "not sent",
    "sent": "no answer yet; unknown, if no process is uploading",
    "accepted": "queued by the service",
    "refused": "not applied; resume sends them again",
    "unknown": "sent without a trustworthy answer",
}
STATUS_KEYS: Final[Mapping[str, str]] = {
    "journal": "its path",
    "campaign": "the campaign",
    "account": "user name and host",
    "file": "the input file, or null",
    "began": "ISO time in the platform's zone",
    "changed": "ISO time of the last change of a batch in the same zone, or null",
    "rows": "rows by the state of their batch, and invalid ones",
    "rows_taken": "rows of the input accounted for so far",
    "leads_waiting": "leads that a buffer was given and that are in no batch yet, or null for an upload",
    "rows_in_file": "rows in the file, by its line ends; null when it is not there",
    "batches": "batches by state: pending, sent, accepted, refused, unknown",
    "rows_unanswered": "rows in batches sent or unknown",
    "unanswered": "batches sent or unknown: index, first_row, last_row, rows, state, error",
    "callbacks": "batches settled, waiting, overdue (no longer waited for)",
    "rows_added": "added by the service, as callbacks say",
    "rows_not_added": "not added by the service, as callbacks say",
    "rows_unreported": "in batches whose callback gave no counts that can be believed",
    "batches_failed": "batches whose job failed as a whole, as callbacks say",
    "callback_texts": "what callbacks said of failed jobs, or beside counts not to be believed: index, first_row, "
    "last_row, rows_unreported, text",
    "lists": "settled batches by what became of their list of failed rows: done, none, open, expired, refused, failed",
    "failed_rows": "failed rows that have been fetched",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel status``."""
    parser.add_argument("journal", help="of an upload, running or not")
    add_output_arguments(parser, progress=False)


class _UnansweredBatch(Struct, frozen=True):
    """A batch that was sent and has no answer, or none to be trusted."""

    index: int
    first_row: int
    last_row: int
    rows: int
    state: str
    error: str | None


class _CallbackText(Struct, frozen=True):
    """What the callback of a failed job said, or one whose counts cannot be believed."""

    index: int
    first_row: int
    last_row: int
    rows_unreported: int
    text: str


class _Status(Struct, frozen=True, kw_only=True):
    """What ``STATUS_KEYS`` describes."""

    journal: str
    campaign: str
    account: str
    file: str | None
    began: str
    changed: str | None
    rows: dict[str, int]
    rows_taken: int
    leads_waiting: int | None
    rows_in_file: int | None
    batches: dict[str, int]
    rows_unanswered: int
    unanswered: list[_UnansweredBatch]
    callbacks: dict[str, int]
    rows_added: int
    rows_not_added: int
    rows_unreported: int
    batches_failed: int
    callback_texts: list[_CallbackText]
    lists: dict[str, int]
    failed_rows: int


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Show the journal; the exit code."""
    journal = await Journal.attach(args.journal)
    try:
        status = await _read(journal, args.journal)
    finally:
        await journal.close()
    screen.facts(f"Journal {args.journal}", _facts(status))
    for batch in status.unanswered[:_SHOWN]:
        error = f": {batch.error}" if batch.error else ""
        screen.say(f"{row_span(batch.first_row, batch.last_row)}: {batch.state}{error}")
    if len(status.unanswered) > _SHOWN:
        screen.say(
            f"{counted(len(status.unanswered) - _SHOWN, 'more batch')} without an answer; --json lists all of them"
        )
    show_callback_texts(screen, [(batch.first_row, batch.last_row, batch.text) for batch in status.callback_texts])
    screen.result({**to_builtins(status), "exit_code": int(Exit.OK)})
    return Exit.OK


async def _read(journal: Journal, path: str) -> _Status:
    # Before the batches: a lead that is put into one meanwhile is counted twice rather than not at all.
    leads = await journal.waiting()
    header, entries, unsettled = await journal.header(), await journal.batches(), await journal.unsettled()
    changed, failed_rows = await journal.changed(), await journal.failed_rows()
    counts = counts_of(entries)
    totals = totals_of(counts)
    began = datetime.fromisoformat(header.checked_at)
    overdue = sum(entry.settlement.lost for entry in entries)
    file = None if header.source is None else header.source.get("path")
    return _Status(
        journal=path,
        campaign=header.campaign,
        account=header.account,
        file=file,
        began=began.isoformat(timespec="seconds"),
        changed=None
        if changed is None
        else datetime.fromtimestamp(changed, began.tzinfo).isoformat(timespec="seconds"),
        rows=_rows_by_state(entries),
        rows_taken=sum(entry.read for entry in entries),
        leads_waiting=len(leads) if header.kind == "buffer" else None,
        rows_in_file=None if file is None else count_rows(file),
        batches=_batches_by_state(entries),
        rows_unanswered=sum(entry.rows for entry in entries if entry.state in ("sent", "unknown")),
        unanswered=[_unanswered(entry) for entry in entries if entry.state in ("sent", "unknown")],
        callbacks={"settled": len(counts), "waiting": max(0, unsettled - overdue), "overdue": overdue},
        rows_added=totals.added,
        rows_not_added=totals.not_added,
        rows_unreported=totals.unreported,
        batches_failed=totals.failed,
        callback_texts=[
            _CallbackText(batch.index, batch.first_row, batch.last_row, batch.unreported, batch.text)
            for batch in counts
            if batch.text is not None
        ],
        lists=dict(lists_of(entries)),
        failed_rows=failed_rows,
    )


def _batches_by_state(entries: list[JournaledBatch]) -> dict[str, int]:
    counts = Counter[str](entry.state for entry in entries)
    return {state: counts[state] for state in _MEANING}


def _rows_by_state(entries: list[JournaledBatch]) -> dict[str, int]:
    rows = dict.fromkeys((*_MEANING, "invalid"), 0)
    for entry in entries:
        rows[entry.state] += entry.rows
        rows["invalid"] += entry.read - entry.rows
    return rows


def _unanswered(entry: JournaledBatch) -> _UnansweredBatch:
    return _UnansweredBatch(entry.index, entry.first_row, entry.last_row, entry.rows, entry.state, entry.error)


def _facts(status: _Status) -> Facts:
    extent = "" if status.rows_in_file is None else f" of about {status.rows_in_file:,}"
    facts = [
        ("campaign", status.campaign),
        ("account", status.account),
        ("file", status.file or "none; the rows came from a program"),
        ("began", status.began.replace("T", " ")),
        ("last change", (status.changed or "none yet").replace("T", " ")),
        *([] if status.leads_waiting is None else [("leads waiting", f"{status.leads_waiting:,} (in no batch yet)")]),
        ("rows taken", f"{status.rows_taken:,}{extent}"),
        *(
            (state, f"{counted(status.rows[state], 'row')} in {counted(count, 'batch')} ({_MEANING[state]})")
            for state, count in status.batches.items()
            if count
        ),
        ("invalid", f"{counted(status.rows['invalid'], 'row')} (not sent)"),
    ]
    if any(status.callbacks.values()):
        facts += [
            ("callbacks", ", ".join(f"{count:,} {state}" for state, count in status.callbacks.items())),
            ("added", f"{counted(status.rows_added, 'row')}"),
            ("not added", f"{counted(status.rows_not_added, 'row')} (duplicates among them)"),
            *count_facts(status.rows_unreported, status.batches_failed),
            ("failed rows", f"{status.failed_rows:,} fetched"),
            ("their lists", ", ".join(f"{count:,} {state}" for state, count in status.lists.items()) or "none"),
        ]
    return facts
