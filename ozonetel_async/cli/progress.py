"""An upload under observation: progress several times a second, an estimate of the end, the report whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from ..client.client import QueueFigures
from ..config import RateLimit
from ..models import UploadReport
from ..rows.excel import ExcelRows
from ..rows.file_kinds import FIRST_BYTES, is_gzip, not_csv
from ..rows.files import FileRows
from .screen import Meter, Progress

__all__ = ["OnProgress", "Watcher", "count_file_rows", "count_rows", "seconds_left"]

OnProgress: TypeAlias = Callable[[UploadReport], None]

_ROWS_PER_REQUEST: Final = 500
_REFRESH: Final = 0.2
# Line ends are counted at about a gigabyte a second; of larger files, the beginning is enough.
_COUNTED_BYTES: Final = 256 * 2**20
_SAMPLE_BYTES: Final = 8 * 2**20
_CHUNK: Final = 2**20


def count_file_rows(rows: FileRows) -> int | None:
    """About how many rows an open file has; None when it cannot be told."""
    return sum(1 for _ in rows.lines()) if isinstance(rows, ExcelRows) else count_rows(rows.path)


def count_rows(path: str) -> int | None:
    """About how many rows a CSV file with a header has; None for other files, and for what cannot be read twice.

    Line ends inside quotes count too: exact figures would cost a second parsing of the file.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            return None
        share = 1.0 if about.st_size <= _COUNTED_BYTES else about.st_size / _SAMPLE_BYTES
        with open(path, "rb") as file:
            start = file.read(FIRST_BYTES)
            if is_gzip(start) or not_csv(start) is not None:
                return None
            file.seek(0)
            lines = _count_lines(file.read, _COUNTED_BYTES if share == 1.0 else _SAMPLE_BYTES)
    except OSError:
        return None
    return max(0, round(lines * share) - 1)


def _count_lines(read: Callable[[int], bytes], most: int) -> int:
    feeds = returns = 0
    last = b"\n"
    while most > 0 and (chunk := read(min(_CHUNK, most))):
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        most -= len(chunk)
        last = chunk[-1:]
    return (feeds or returns) + (last not in b"\r\n")


def seconds_left(requests: int, queue: QueueFigures, limit: RateLimit) -> float:
    """Least seconds until the last of so many further requests can start.

    Args:
        requests: requests that have no slot yet.
        queue: the live figures of their queue.
        limit: its limit; ``limit.requests`` of them fit into ``limit.per`` seconds.
    """
    late = requests - queue.free
    if late <= 0:
        return 0.0
    return queue.next_free_in + (late - 1) // limit.requests * limit.per


class Watcher:
    """Runs an upload and shows where it stands.

    Args:
        meter: what shows it.
        queue, limit: the bulk queue and its rate limit.
        total: rows in the input, None when it is not known.
        exact: whether ``total`` is more than an estimate.
        earlier: what earlier runs have done, shown until the upload has caught up with it.

    Attributes:
        report: the upload's report, live or final; None before there was one.
    """

    def __init__(
        self,
        meter: Meter,
        queue: QueueFigures,
        limit: RateLimit,
        total: int | None,
        *,
        exact: bool = False,
        earlier: UploadReport | None = None,
    ) -> None:
        self.report: UploadReport | None = None
        self._meter = meter
        self._queue = queue
        self._limit = limit
        self._total = total
        self._exact = exact
        self._earlier = earlier or UploadReport(campaign="")

    async def watch(self, upload: Callable[[OnProgress], Awaitable[UploadReport]]) -> UploadReport:
        """Run ``upload``, handing it its ``on_progress``; what it raises is passed on, and ``report`` is final then."""
        ticker = asyncio.create_task(self._tick(), name="progress")
        try:
            return await upload(self._note)
        finally:
            ticker.cancel()
            await asyncio.wait([ticker])
            self._show()

    def _note(self, report: UploadReport) -> None:
        self.report = report

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_REFRESH)

    def _show(self) -> None:
        # A terminal that is closed must not end an upload.
        with contextlib.suppress(OSError):
            self._meter.show(self.progress())

    def progress(self) -> Progress:
        """Where the upload stands now."""
        report = self.report
        if report is None or report.rows_read < self._earlier.rows_read:
            report = self._earlier
        return Progress(
            done=report.rows_read,
            total=self._total,
            exact=self._exact,
            states=(
                ("accepted", report.rows_accepted),
                ("invalid", report.rows_invalid),
                ("refused", report.rows_refused),
                ("not sent", report.rows_not_sent),
                ("unknown", report.rows_unknown),
                ("in flight", report.rows_in_flight),
            ),
            requests=len(report.batches),
            next_free_in=self._queue.next_free_in,
            seconds_left=self._seconds_left(report),
            waiting=None if report.waiting_for is None else f"waiting for {report.waiting_for}",
        )

    def _seconds_left(self, report: UploadReport) -> float | None:
        if self._total is None:
            return None
        left = max(0, self._total - report.rows_read)
        valid = 1.0 - report.rows_invalid / report.rows_read if report.rows_read else 1.0
        requests = math.ceil(left * valid / _ROWS_PER_REQUEST) - self._queue.in_flight
        return seconds_left(requests, self._queue, self._limit)
