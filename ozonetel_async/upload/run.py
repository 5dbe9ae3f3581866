"""A whole upload: with its journal when it has one, its callbacks, and the rows that the service did not add."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from ..config import ClientConfig
from ..downloads.links import LinkPolicy
from ..errors import JournalError
from ..failed_rows.collect import collect_failed_rows
from ..journal.counts import add_counts
from ..journal.journal import Journal
from ..models import UploadReport
from ..protocol.requests import Params
from ..rows.batches import chunker_maker
from ..rows.intake import Rows
from ..sending.dispatcher import Dispatcher
from .journaling import open_upload_journal, upload_header, wait_for_callbacks
from .upload import Upload, UploadOptions

__all__ = ["run_upload"]

_log = logging.getLogger("ozonetel_async")


async def run_upload(
    dispatcher: Dispatcher,
    config: ClientConfig,
    campaign: str,
    leads: Rows,
    *,
    columns: Sequence[str] | None,
    params: Params,
    options: UploadOptions,
    link_policy: LinkPolicy | None,
) -> UploadReport:
    """Upload ``leads``; ``OzonetelClient.upload`` explains what comes in and out.

    Args:
        params: the bulk endpoint's parameters that all batches share.
        link_policy: what may be fetched of the links in callbacks.
    """
    now = datetime.now(config.timezone)
    async with AsyncExitStack() as stack:
        journal = None
        if options.journal is not None:
            header = upload_header(config, campaign, params, columns, leads, now)
            journal, now = await stack.enter_async_context(
                open_upload_journal(options.journal, header, options.callback_url)
            )
        make_chunker = chunker_maker(config, "bulk", dispatcher.endpoints["bulk"].rows, columns, leads, now)
        report = await Upload(dispatcher, campaign, leads, make_chunker, params, options, journal).run()
        if journal is not None:
            await _await_callbacks(report, journal.journal, options, link_policy)
        return report


async def _await_callbacks(
    report: UploadReport, journal: Journal, options: UploadOptions, link_policy: LinkPolicy | None
) -> None:
    """Wait for callbacks if that is wished, and add what they told; whatever fails here, the report is not lost."""
    try:
        if options.callback_timeout is not None and report.stopped_by is None:
            await wait_for_callbacks(journal, options.callback_timeout, options.stop)
            await collect_failed_rows(journal, policy=link_policy)
        await add_counts(report, journal)
    except JournalError as error:
        report.stopped_by = report.stopped_by or f"JournalError: {error.message}"
        _log.warning("upload done, its callbacks not heard: %s", error.message)
    except BaseException as error:
        error.add_note(f"upload so far: {report}")
        raise
