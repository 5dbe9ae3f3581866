"""What the service does after it has answered: V4 jobs and dial-status exports, their files and callbacks."""

from __future__ import annotations

import asyncio
import csv
import io
from collections import deque
from collections.abc import Callable, Mapping

from msgspec import Struct, field

from ..faults import Fault
from ..settings import FailedFile
from .account import Account
from .bulk_data import ROW_CHARACTERS, Table, lead_of, problem_of, row_characters
from .callbacks import CallbackSender
from .fields import text
from .state import Campaign, bare

__all__ = ["Job", "Jobs"]

Export = Callable[[str], Mapping[str, object]]


class Job(Struct, kw_only=True):
    """A queued V4 request or export.

    Attributes:
        id: transaction id, or unique id of an export.
        campaign: where its rows go.
        table: its rows; None for an export.
        export: makes an export's result from its unique id; None for a V4 job.
        duplicates: numbers that are left out: ``"none"``, ``"all"`` (in the campaign or earlier in the payload), or
            ``"existing"`` (in the campaign when the job begins).
        action: the campaign's action once the upload is complete.
        callback_url: where the result goes, "" for nowhere.
        callback_fault: the fault of its callback.
        done: whether the work is done.
        processed: rows added.
        failed: reasons of the other rows by their 0-based position.
        error: why the whole job failed, or "".
        started: the platform's time at which the work began.
    """

    id: str
    campaign: Campaign
    table: Table | None = None
    export: Export | None = None
    duplicates: str = "none"
    action: str = ""
    callback_url: str = ""
    callback_fault: Fault | None = None
    done: bool = False
    processed: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    error: str = ""
    started: str = ""

    @property
    def total(self) -> int:
        """Rows in the job."""
        return len(self.table.data) if self.table is not None else 0


def _scientific(digits: str, places: int) -> str:
    return f"{float(digits):.{places}E}".replace("E+0", "E+") if digits.isdigit() else digits


_NUMBERS: dict[str, Callable[[str], str]] = {
    "keep": str,
    "no_plus": lambda phone: phone.lstrip("+"),
    "national": lambda phone: phone.lstrip("+")[-10:],
    "scientific": lambda phone: _scientific(phone.lstrip("+"), len(phone.lstrip("+")) - 1),
    "rounded": lambda phone: _scientific(phone.lstrip("+"), 5),
    "float": lambda phone: f"{phone.lstrip('+')}.0",
    "text": lambda phone: f"'{phone}",
}


def failed_csv(job: Job, look: FailedFile) -> bytes:
    """The CSV of a job's failed rows."""
    assert job.table is not None
    columns = look.columns if look.columns is not None else tuple(job.table.map)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n" if look.crlf else "\n")
    writer.writerow([*columns, look.reason] if look.reason is not None else columns)
    number = _NUMBERS[look.number]
    for position, reason in job.failed.items():
        cells = dict(zip(job.table.map, map(text, job.table.data[position]), strict=False))
        if "PhoneNumber" in cells:
            cells["PhoneNumber"] = number(cells["PhoneNumber"])
        row = [cells.get(column, "") for column in columns]
        writer.writerow([*row, reason] if look.reason is not None else row)
    return (b"\xef\xbb\xbf" if look.bom else b"") + out.getvalue().encode()


class Jobs:
    """The queue in which V4 requests and exports are worked off, one after the other."""

    def __init__(self, account: Account, callbacks: CallbackSender) -> None:
        self.all: dict[str, Job] = {}
        self._account = account
        self._callbacks = callbacks
        self._queue: deque[Job] = deque()
        self._worker: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job waits or is at work."""
        return self._worker is not None

    def put(self, job: Job) -> None:
        """Queue a job."""
        self.all[job.id] = job
        self._queue.append(job)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="simulator jobs")

    async def run_now(self, job: Job) -> None:
        """Do a job out of turn and wait until its callback was delivered."""
        self.all[job.id] = job
        delivery = self._finish(job)
        if delivery is not None:
            await delivery

    async def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._queue:
                job = self._queue.popleft()
                await asyncio.sleep(self._account.random.uniform(*self._account.settings.queue_delay))
                self._finish(job)
        finally:
            self._worker = None

    def _finish(self, job: Job) -> asyncio.Task[None] | None:
        job.started = self._account.stamp()
        result = self._upload(job) if job.export is None else job.export(job.id)
        job.done = True
        if not self._account.settings.keep_leads:
            job.table, job.failed = None, {}
        return self._callbacks.send(job.callback_url, job.id, result, job.callback_fault) if job.callback_url else None

    def _upload(self, job: Job) -> Mapping[str, object]:
        assert job.table is not None
        table, campaign = job.table, job.campaign
        job.error = _structure_error(campaign, table)
        if job.error:
            job.failed = dict.fromkeys(range(len(table.data)), job.error)
        else:
            self._insert(job, table)
            self._account.act(campaign, job.action)
        return {
            "totalNoUploaded": str(len(table.data)),
            "numbersProcessed": str(job.processed),
            "numbersNotProcessed": str(len(table.data) - job.processed),
            "failedFilePath": self._failed_path(job),
            "transactionId": job.id,
            "status": "Fail" if job.error else "Success",
            "message": "File Failed to Upload." if job.error else "File Successfully uploaded.",
            "startDateTime": job.started,
            "endDateTime": self._account.stamp(),
        }

    def _failed_path(self, job: Job) -> str:
        if not job.failed:
            return ""
        content = failed_csv(job, self._account.settings.failed_file)
        return self._account.files.publish(f"/etl-dataprocessing/{job.id}_error.csv", content)

    def _insert(self, job: Job, table: Table) -> None:
        account, campaign = self._account, job.campaign
        headers = sum(map(len, table.map))
        stamp = account.stamp()
        existing = {key for key, count in campaign.numbers.items() if count} if job.duplicates != "none" else set()
        for position, row in enumerate(table.data):
            cells = dict(zip(table.map, row, strict=True))
            lead = lead_of(cells, "bulk")
            reason = problem_of(account, campaign, lead) if lead.phone else "Phone Number is Empty!"
            if reason is None and row_characters(headers, row) > ROW_CHARACTERS:
                reason = f"Total characters length per row including all headers is {ROW_CHARACTERS}"
            key = bare(lead.phone)
            if reason is None and key in existing:
                reason = "Number Already Exist"
            if reason is not None:
                job.failed[position] = reason
                continue
            if job.duplicates == "all":
                existing.add(key)
            lead.transaction_id, lead.created, lead.updated = job.id, stamp, stamp
            campaign.store(lead)
            job.processed += 1


def _structure_error(campaign: Campaign, table: Table) -> str:
    """Why a table fails as a whole: Bulk V4 names three causes, found after the request was queued."""
    if "PhoneNumber" not in table.map:
        return "PhoneNumber is missing in map"
    if any(len(row) != len(table.map) for row in table.data):
        return "Data is not as per map fields"
    if not campaign.mapping.issuperset(table.map):
        return "Campaign mapping and map do not match"
    return ""
