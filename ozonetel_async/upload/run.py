"""A whole upload: with its journal when it has one, its callbacks, and the rows that the service did not add."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial
from typing import Final

from ..config import Cleaning, ClientConfig
from ..downloads.links import LinkPolicy
from ..errors import JournalError
from ..failed_rows.collect import collect_failed_rows
from ..journal.counts import add_counts
from ..journal.journal import Journal
from ..models import UploadReport, counted
from ..protocol.requests import Params
from ..rows.batches import ChunkerMaker, chunker_maker
from ..rows.cleaning.suspicions import JUDGED_ROWS, PhoneSuspicions
from ..rows.csv_file import CsvRows
from ..rows.intake import Rows, RowSource
from ..rows.sources import Table
from ..sending.dispatcher import Dispatcher
from .journaling import open_upload_journal, upload_header
from .upload import Upload, UploadOptions

__all__ = ["run_upload"]

_log = logging.getLogger("ozonetel_async")

# Seconds between two looks into the journal, which another process may write callbacks into.
_LOOK_EVERY: Final = 0.25


async def run_upload(
    dispatcher: Dispatcher,
    config: ClientConfig,
    campaign: str,
    leads: Rows,
    *,
    columns: Sequence[str] | None,
    params: Params,
    options: UploadOptions,
    clean: Cleaning | None,
    link_policy: LinkPolicy | None,
) -> UploadReport:
    """Upload ``leads``; ``OzonetelClient.upload`` explains what comes in and out.

    Args:
        params: the bulk endpoint's parameters that all batches share.
        clean: what may be repaired in cells.
        link_policy: what may be fetched of the links in callbacks.
    """
    now = datetime.now(config.timezone)
    async with AsyncExitStack() as stack:
        journal = None
        if options.journal is not None:
            if isinstance(leads, CsvRows):
                leads.keep_beside(options.journal)
            header = upload_header(config, campaign, params, columns, leads, now, clean)
            journal, now = await stack.enter_async_context(
                open_upload_journal(options.journal, header, options.callback_url)
            )
        make_chunker = chunker_maker(config, "bulk", dispatcher.endpoints["bulk"].rows, columns, leads, now, clean)
        suspicions = PhoneSuspicions()
        if at_hand := _is_at_hand(leads):
            await _judge(leads, make_chunker, suspicions)
        else:
            make_chunker = partial(make_chunker, on_numbers=suspicions.add)
        upload = Upload(dispatcher, campaign, leads, make_chunker, params, options, config.retry, journal)
        upload.report.warnings = _tell(suspicions)
        report = await upload.run()
        if not at_hand:
            report.warnings = _tell(suspicions)
        if journal is not None:
            await _finish(report, journal.journal, options, link_policy)
        return report


def _is_at_hand(leads: Rows) -> bool:
    """Whether the input is a file, a frame or a list, which can be read twice and without waiting for anybody."""
    if isinstance(leads, Iterator | AsyncIterable | str | bytes):
        return False
    if isinstance(leads, Table):
        return leads.is_at_hand
    return isinstance(leads, Sequence) or hasattr(leads, "columns")


async def _judge(leads: Rows, make_chunker: ChunkerMaker, suspicions: PhoneSuspicions) -> None:
    """Read the first rows ahead of the upload; what is wrong with the input itself, the upload will find again."""
    chunker = make_chunker(lambda invalid, row: None, on_numbers=suspicions.add)
    source = RowSource(leads, named=chunker.columns is None)
    try:
        while chunker.rows_taken < JUDGED_ROWS and (rows := await source.take(chunker.stride)):
            chunker.feed(rows)
    finally:
        await source.close()


def _tell(suspicions: PhoneSuspicions) -> list[str]:
    """What looks wrong with the phone numbers as a whole, which is logged once."""
    warnings = suspicions.warnings()
    for warning in warnings:
        _log.warning("upload: %s", warning)
    return warnings


async def _finish(
    report: UploadReport, journal: Journal, options: UploadOptions, link_policy: LinkPolicy | None
) -> None:
    """Wait for callbacks if that is wished, and add what they told; whatever fails here, the report is not lost."""
    try:
        if options.callback_timeout is not None and report.stopped_by is None:
            await _await_callbacks(report, journal, options, options.callback_timeout)
            if not _is_stopped(options):
                await collect_failed_rows(journal, policy=link_policy)
        await add_counts(report, journal)
    except JournalError as error:
        report.stopped_by = report.stopped_by or f"JournalError: {error.message}"
        _log.warning("upload done, its callbacks not heard: %s", error.message)
    except BaseException as error:
        error.add_note(f"upload so far: {report}")
        raise


async def _await_callbacks(report: UploadReport, journal: Journal, options: UploadOptions, seconds: float) -> None:
    """Wait until every batch that reached the service has its callback; after ``seconds``, note which have none.

    ``report`` tells what has come, and is handed to ``on_progress`` whenever that changes. ``stop`` ends the wait; then
    nothing is noted.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    told = 0
    try:
        while (missing := await journal.unsettled()) and not _is_stopped(options):
            if missing != told:
                told = missing
                await add_counts(report, journal)
                report.waiting_for = counted(missing, "callback")
                if options.on_progress is not None:
                    options.on_progress(report)
            if (left := deadline - clock()) <= 0:
                await journal.give_up_waiting()
                return
            # Not an event: callbacks may be written by another process.
            await _sleep(min(_LOOK_EVERY, left), options.stop)
    finally:
        report.waiting_for = None


def _is_stopped(options: UploadOptions) -> bool:
    return options.stop is not None and options.stop.is_set()


async def _sleep(seconds: float, stop: asyncio.Event | None) -> None:
    """Sleep until ``stop`` is set, at most ``seconds``."""
    if stop is None:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
