"""Waiting for the callbacks of an upload, visibly, and only as long as the user does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from ...downloads.links import LinkPolicy
from ...failed_rows.collect import collect_failed_rows
from ...journal.counts import add_counts
from ...journal.journal import Journal
from ...models import UploadReport
from ..screen import Meter, Progress, duration

__all__ = ["await_callbacks"]

# How often the journal is looked at, which another process may write the callbacks into.
_LOOK_EVERY: Final = 0.25


async def await_callbacks(
    path: str, report: UploadReport, seconds: float, stop: asyncio.Event, meter: Meter, policy: LinkPolicy
) -> None:
    """Wait until every batch has its callback, then fetch the lists of failed rows; ``report`` tells what came.

    Ends early when ``stop`` is set. After ``seconds``, the journal notes which batches have no callback.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    journal = await Journal.attach(path)
    try:
        while (open_ := await journal.unsettled()) and not stop.is_set():
            await add_counts(report, journal)
            left = deadline - clock()
            meter.show(_progress(report, open_, left))
            if left <= 0:
                await journal.give_up_waiting()
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_EVERY, left)):
                    await stop.wait()
        if not stop.is_set():
            await collect_failed_rows(journal, policy=policy)
        await add_counts(report, journal)
    finally:
        await journal.close()


def _progress(report: UploadReport, open_: int, left: float) -> Progress:
    return Progress(
        done=report.rows_read,
        total=report.rows_read,
        exact=True,
        states=(
            ("added", report.rows_added),
            ("not added", report.rows_not_added),
            ("unknown", report.rows_unknown),
        ),
        requests=len(report.batches),
        next_free_in=0.0,
        seconds_left=0.0,
        waiting=f"{open_:,} callbacks to come, waiting {duration(left)} more",
    )
