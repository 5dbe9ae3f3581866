"""``ozonetel failed-rows``: the rows that the service did not add, as a file to repair and upload again."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO, Final

from ...errors import ConfigurationError, OzonetelError
from ...failed_rows.collect import collect_failed_rows
from ...journal.counts import counts_of, lists_of, totals_of
from ...journal.failed_rows import failed_leads
from ...journal.journal import Header, Journal, JournaledBatch
from ...models import counted, row_span
from ...rows.files import FileRows, reopen
from ...rows.headers import REPORTED, own_columns
from ...rows.rejects import OriginalRows, RejectsWriter
from ..arguments import add_link_arguments, add_network_arguments, add_output_arguments, check_other_files
from ..connection import link_policy
from ..screen import Exit, Facts, Screen

__all__ = ["FAILED_KEYS", "add_arguments", "run"]

_SHOWN: Final = 5
_INCOMPLETE: Final = frozenset({"open", "expired", "refused", "failed"})

FAILED_KEYS: Final[Mapping[str, str]] = {
    "journal": "its path",
    "out": "the file written",
    "rows": "failed rows in it",
    "unmatched": "those of them whose row in the input is not known",
    "rows_not_added": "rows that the service did not add, as callbacks say",
    "rows_unreported": "rows in batches whose callback gave no counts that can be believed",
    "batches_failed": "batches whose job failed as a whole, as callbacks say",
    "lists": "settled batches by what became of their list: done, none, open, expired, refused, failed",
    "lists_failed": "reasons of the lists refused or failed: first_row, last_row, reason",
    "callbacks_missing": "batches without a callback",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel failed-rows``."""
    parser.add_argument("journal", help="of an upload with callbacks, running or not")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="CSV with the input file's own columns (those that were sent, when it is gone or has changed), then row "
        'number, line, reason, how the row was found and the number as reported; "-" for stdout',
    )
    parser.add_argument("--no-fetch", action="store_true", help="write what has been fetched before, fetch nothing")
    add_link_arguments(parser)
    add_network_arguments(parser)
    add_output_arguments(parser)
    parser.set_defaults(simulate=False)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Fetch what is missing and write the file; the exit code."""
    if args.out == "-" and args.json:
        raise ConfigurationError("--json and --out -: only one of them can have stdout; name a file")
    journal = await Journal.attach(args.journal)
    try:
        header = await journal.header()
        source = header.source or {}
        check_other_files("--out", args.out, {"journal": args.journal, "input file": source.get("path")})
        with screen.file(args.out) as out:
            if not args.no_fetch:
                await collect_failed_rows(journal, policy=link_policy(args))
            entries, missing = await journal.batches(), await journal.unsettled()
            with out.writing() as file:
                rows, unmatched = _write(file, args.journal, _input_of(header))
    finally:
        await journal.close()
    summary = _Summary(entries, rows, unmatched, missing)
    code = Exit.OK if summary.complete else Exit.NOT_ALL
    if args.out != "-":
        screen.facts(f"Failed rows of {args.journal}", _facts(summary, args.out))
    for text in summary.warnings():
        screen.warn(text)
    screen.result({"journal": args.journal, "out": args.out, **summary.values(), "exit_code": int(code)})
    return code


def _input_of(header: Header) -> FileRows | None:
    """The input file, where it is still there and was not written since the upload began."""
    try:
        source = reopen(header.source or {})
        begun = datetime.fromisoformat(header.checked_at).timestamp()
        return source if os.stat(source.path).st_mtime <= begun else None
    except (KeyError, ValueError, OSError, OzonetelError):
        return None


def _write(file: BinaryIO, journal: str, source: FileRows | None) -> tuple[int, int]:
    """Write the CSV; how many rows, and how many of them without a row of the input."""
    sent = list(dict.fromkeys(name for lead in failed_leads(journal) for name in lead.lead))
    places = own_columns(source.header) if source is not None else []
    names = sent if source is None else [source.header[i] for i in places]
    originals = OriginalRows(source)
    rows = unmatched = 0
    text = io.TextIOWrapper(file, "utf-8", newline="")
    try:
        writer = RejectsWriter(text, names, more=REPORTED)
        for lead in failed_leads(journal):
            rows += 1
            unmatched += lead.row is None
            line, cells = (None, None) if lead.row is None else originals.of(lead.row)
            own = [cells[i] for i in places] if cells is not None else [lead.lead.get(name) for name in names]
            writer.write(own, lead.row, line, "", lead.reason or "", lead.how, lead.phone)
    finally:
        originals.close()
        text.detach()  # writes out what is buffered, and leaves the file open
    return rows, unmatched


class _Summary:
    """What is known of an upload's failed rows, and what is missing.

    Args:
        entries: its batches.
        rows, unmatched: failed rows that have been fetched, and those of them without a row of the input.
        missing: batches without a callback.
    """

    def __init__(self, entries: list[JournaledBatch], rows: int, unmatched: int, missing: int) -> None:
        self.rows = rows
        self.unmatched = unmatched
        self.missing = missing
        settled = [entry for entry in entries if entry.settlement.result is not None]
        self.counts = counts_of(entries)
        self.totals = totals_of(self.counts)
        self.lists = lists_of(entries)
        self._failed = [entry for entry in settled if (entry.failed_file or "").startswith(("refused", "failed"))]

    @property
    def complete(self) -> bool:
        """Whether every row that was not added is there, and its row in the input known."""
        known = not (self.missing or self.totals.unreported or self.unmatched or self.rows < self.totals.not_added)
        return known and not _INCOMPLETE & self.lists.keys()

    def warnings(self) -> Iterator[str]:
        """What is missing, one line each."""
        if self.missing:
            yield f"{counted(self.missing, 'batch')} without a callback yet"
        with_text = [batch for batch in self.counts if batch.text is not None]
        for batch in with_text[:_SHOWN]:
            yield f"{row_span(batch.first_row, batch.last_row)}: the callback said: {batch.text}"
        if len(with_text) > _SHOWN:
            yield f"{counted(len(with_text) - _SHOWN, 'more callback')} like these; status --json lists all of them"
        if self.lists["expired"]:
            yield f"{counted(self.lists['expired'], 'list')} not fetched within the 24 hours for which links work"
        for entry in self._failed[:_SHOWN]:
            yield f"{row_span(entry.first_row, entry.last_row)}: list {entry.failed_file}"
        if len(self._failed) > _SHOWN:
            yield f"{counted(len(self._failed) - _SHOWN, 'more list')} could not be fetched; --json lists all of them"

    def values(self) -> dict[str, object]:
        """All of it as plain values."""
        return {
            "rows": self.rows,
            "unmatched": self.unmatched,
            "rows_not_added": self.totals.not_added,
            "rows_unreported": self.totals.unreported,
            "batches_failed": self.totals.failed,
            "lists": dict(self.lists),
            "lists_failed": [
                {"first_row": entry.first_row, "last_row": entry.last_row, "reason": entry.failed_file}
                for entry in self._failed
            ],
            "callbacks_missing": self.missing,
        }


def _facts(summary: _Summary, out: str) -> Facts:
    return [
        ("written to", out),
        ("failed rows", f"{summary.rows:,} of {summary.totals.not_added:,} that were not added, as callbacks say"),
        ("without a row of the input", f"{summary.unmatched:,}"),
        ("their lists", ", ".join(f"{count:,} {state}" for state, count in summary.lists.items()) or "none"),
    ]
