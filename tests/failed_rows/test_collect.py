"""The service's list of failed rows ends in the journal, each row with its number in the input."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ozonetel_async import ConfigurationError, JournalError, OzonetelClient
from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.callbacks.results import ExportResult, JobResult, SecretUrl
from ozonetel_async.downloads.links import LinkPolicy
from ozonetel_async.errors import DownloadError
from ozonetel_async.failed_rows.collect import CollectReport, Fetch, collect_failed_rows
from ozonetel_async.journal.counts import add_counts
from ozonetel_async.journal.failed_rows import failed_leads
from ozonetel_async.journal.journal import Header, Journal
from ozonetel_async.models import BatchResult, FailedLead, UploadReport
from ozonetel_async.rows.batches import Batch
from ozonetel_async.testing import FailedFile, Simulator

from ..conftest import WINDOW, fast_limits

HERE = LinkPolicy(loopback=True)
COLUMNS = ("PhoneNumber", "Name")


def phone(number: int) -> str:
    return f"+9198{number:08}"


def rows(count: int, invalid: Sequence[int] = ()) -> list[dict[str, str]]:
    """Rows numbered from 1, some with a phone number that is none."""
    return [
        {"PhoneNumber": "none" if number in invalid else phone(number), "Name": f"Lead {number}"}
        for number in range(1, count + 1)
    ]


# --- with the simulator's own files --------------------------------------------------------------------------------


class Mailbox:
    """A sink that knows every token and keeps what comes."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, JobResult | ExportResult]] = []

    async def deliver(self, token: str, result: JobResult | ExportResult) -> bool:
        self.letters.append((token, result))
        return True


class Upload:
    """Uploads with a journal, whose callbacks arrive."""

    def __init__(self, sim: Simulator, path: Path) -> None:
        self.sim = sim
        self.path = path

    async def run(self, leads: list[dict[str, str]], **options: Any) -> None:
        app = web.Application()
        async with OzonetelClient(
            self.sim.api_key, self.sim.username, base_url=self.sim.base_url, limits=fast_limits()
        ) as client:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            mailbox = Mailbox()
            app.router.add_route("*", "/cb/{tail:.*}", CallbackReceiver(mailbox).aiohttp_handler)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            base = f"http://127.0.0.1:{runner.addresses[0][1]}/cb"
            report = await client.upload("Diwali", leads, journal=self.path, callback_url=base, **options)
            assert report.stopped_by is None
            await self.sim.settle()
            await runner.cleanup()
        journal = await Journal.attach(self.path)
        for token, result in mailbox.letters:
            assert await journal.deliver(token, result)
        assert await journal.unsettled() == 0
        await journal.close()

    async def collect(self, policy: LinkPolicy = HERE, **options: Any) -> CollectReport:
        journal = await Journal.attach(self.path)
        try:
            return await collect_failed_rows(journal, policy=policy, **options)
        finally:
            await journal.close()

    async def states(self) -> list[str | None]:
        journal = await Journal.attach(self.path)
        try:
            return [entry.failed_file for entry in await journal.batches()]
        finally:
            await journal.close()


@pytest.fixture
async def simulate(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    sims: list[Simulator] = []

    async def start(**options: Any) -> Upload:
        sim = Simulator(window=WINDOW, **options)
        await sim.start()
        sims.append(sim)
        return Upload(sim, tmp_path / "diwali.journal")

    yield start
    for sim in sims:
        await sim.close()


LOOKS = [
    *(FailedFile(number=number) for number in ("keep", "no_plus", "national", "scientific", "float", "text")),
    FailedFile(bom=True, crlf=True),
    FailedFile(reason=None),
    FailedFile(reason="Kyon"),
    FailedFile(columns=("SNo", "Name", "PhoneNumber", "Campaign")),
    FailedFile(columns=("PhoneNumber",), reason="Remarks", number="national"),
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.number}-{look.columns}-{look.reason}-{look.bom}")
async def test_failed_rows_are_found_in_the_input(simulate: Callable[..., Any], look: FailedFile) -> None:
    upload = await simulate(failed_file=look)
    # Gaps before, inside, at the end of and between batches.
    invalid = {1, 2, 77, 502, 503, 504, 1_010}
    failing = [3, 76, 78, 500, 501, 505, 506, 507, 1_006, 1_007, 1_200]
    for number in failing:
        upload.sim.dnd.add(phone(number))
    await upload.run(rows(1_200, sorted(invalid)))
    report = await upload.collect()
    assert report == CollectReport({"done": 3}, len(failing), 0)
    leads = await asyncio.to_thread(lambda: list(failed_leads(upload.path)))
    assert [lead.row for lead in leads] == failing
    assert [lead.lead["Name"] for lead in leads] == [f"Lead {number}" for number in failing]
    assert {lead.reason for lead in leads} == ({None} if look.reason is None else {"PhoneNumber Added is a DND Number"})
    assert {lead.how for lead in leads} <= {"exact", "key"}


async def test_rounded_numbers_are_not_guessed(simulate: Callable[..., Any]) -> None:
    upload = await simulate(failed_file=FailedFile(number="rounded"))
    upload.sim.dnd.add(phone(7))
    await upload.run(rows(20))
    assert await upload.collect() == CollectReport({"done": 1}, 1, 1)
    (lead,) = failed_leads(upload.path)
    assert (lead.row, lead.how, dict(lead.lead)) == (None, "ambiguous", {})
    assert lead.phone == "9.19800E+11"


async def test_batches_without_failed_rows_have_no_list(simulate: Callable[..., Any]) -> None:
    upload = await simulate()
    upload.sim.dnd.add(phone(501))
    await upload.run(rows(1_100))
    assert await upload.collect() == CollectReport({"none": 2, "done": 1}, 1, 0)
    assert await upload.states() == ["none", "done", "none"]
    # Nothing is left to do, and nothing is done twice.
    assert await upload.collect() == CollectReport({}, 0, 0)
    assert [lead.row for lead in failed_leads(upload.path)] == [501]


async def test_an_expired_link_is_a_state_and_the_counts_stay(simulate: Callable[..., Any]) -> None:
    upload = await simulate()
    for number in (5, 600):
        upload.sim.dnd.add(phone(number))
    await upload.run(rows(700))
    upload.sim.files.expire()
    assert await upload.collect() == CollectReport({"expired": 2}, 0, 0)
    assert await upload.collect() == CollectReport({}, 0, 0)
    assert await upload.states() == ["expired", "expired"]
    assert list(failed_leads(upload.path)) == []
    journal = await Journal.attach(upload.path)
    results = [entry.settlement.result for entry in await journal.batches()]
    await journal.close()
    assert [result and (result.processed, result.not_processed) for result in results] == [(499, 1), (199, 1)]


async def test_a_link_that_the_policy_refuses_is_tried_again_under_another(simulate: Callable[..., Any]) -> None:
    upload = await simulate()
    upload.sim.dnd.add(phone(5))
    await upload.run(rows(10))
    assert await upload.collect(LinkPolicy()) == CollectReport({"refused": 1}, 0, 0)
    (state,) = await upload.states()
    assert state is not None
    assert state.startswith("refused: ")
    assert "X-Amz" not in state
    assert await upload.collect(LinkPolicy(loopback=True, max_bytes=5)) == CollectReport({"refused": 1}, 0, 0)
    assert await upload.collect() == CollectReport({"done": 1}, 1, 0)


async def test_rows_of_one_number_each_get_a_row(simulate: Callable[..., Any]) -> None:
    upload = await simulate()
    upload.sim.dnd.add(phone(1))
    leads = [
        *rows(3),
        {"PhoneNumber": phone(1)[1:], "Name": "Again"},
        {"PhoneNumber": phone(1)[3:], "Name": "And again"},
    ]
    for spelling in (phone(1)[1:], phone(1)[3:]):
        upload.sim.dnd.add(spelling)
    await upload.run(leads)
    assert await upload.collect() == CollectReport({"done": 1}, 3, 0)
    assert [(lead.row, lead.lead["Name"]) for lead in failed_leads(upload.path)] == [
        (1, "Lead 1"),
        (4, "Again"),
        (5, "And again"),
    ]


@pytest.mark.parametrize("look", [FailedFile(), FailedFile(columns=("PhoneNumber",), number="national")])
async def test_of_equal_numbers_the_one_that_was_skipped_is_named(
    simulate: Callable[..., Any], look: FailedFile
) -> None:
    upload = await simulate(failed_file=look)
    names = {"Asha": 1, "Meera": 2, "Ravi": 1}
    leads = [{"PhoneNumber": phone(number), "Name": name} for name, number in names.items()]
    await upload.run(leads, check_duplicate=True)
    assert await upload.collect() == CollectReport({"done": 1}, 1, 0)
    assert [(lead.row, lead.lead["Name"]) for lead in failed_leads(upload.path)] == [(3, "Ravi")]


# --- with files of our own -----------------------------------------------------------------------------------------

LINK = SecretUrl("https://h.example/x.csv?s=5f0c2b7e9a1d")


async def journal_of(path: Path, results: Sequence[JobResult | None], *, batch_rows: int = 3) -> Journal:
    """A journal with a settled batch per result; None is one without a result."""
    header = Header(campaign="Diwali", account="me", params={}, columns=COLUMNS, checked_at="2024-07-11T12:00:00+05:30")
    journal = await Journal.open(path, header)
    for index, result in enumerate(results):
        first, last = index * batch_rows + 1, (index + 1) * batch_rows
        data = [[phone(number), f"Lead {number}"] for number in range(first, last + 1)]
        payload = json.dumps({"map": COLUMNS, "data": data}).encode()
        await journal.plan(Batch(index, first, last, batch_rows, batch_rows, 0, payload), [])
        await journal.mark(index, "sent", callback=True)
        await journal.accepted(index, f"id-{index}")
        if result is not None:
            assert await journal.deliver(await journal.callback_token(index), result)
    return journal


def change(path: Path, statement: str, value: object) -> None:
    """Change a journal behind the library's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, (value,))


def job(index: int, *, link: SecretUrl | None = LINK, failed: int | None = 1) -> JobResult:
    return JobResult(f"id-{index}", True, 3, None if failed is None else 3 - failed, failed, link)


def giving(*chunks: bytes | Exception) -> Fetch:
    """A fetch that gives these pieces, and raises what is an error."""

    async def fetch(link: SecretUrl, policy: LinkPolicy) -> AsyncGenerator[bytes]:
        assert link == LINK
        for chunk in chunks:
            await asyncio.sleep(0)
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return fetch


ONE = f"PhoneNumber,Name,Reason\n{phone(2)},Lead 2,DND\n".encode()


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (None, None),
        (job(0), "done"),
        (job(0, failed=None), "done"),
        (job(0, failed=0), "none"),
        (job(0, link=None), "none"),
        (JobResult("id-0", False, failed_file=LINK), "failed"),
        (JobResult("id-0", True, 6, 2, 0, LINK), "done"),
    ],
)
async def test_which_batches_have_a_list_to_fetch(tmp_path: Path, result: JobResult | None, state: str | None) -> None:
    journal = await journal_of(tmp_path / "x.journal", [result])
    report = await collect_failed_rows(journal, fetch=giving(ONE))
    assert report == CollectReport({} if state is None else {state: 1}, int(state in ("done", "failed")), 0)
    (entry,) = await journal.batches()
    assert (entry.failed_file or "").partition(":")[0] == (state or "")
    await journal.close()


@pytest.mark.parametrize(
    ("chunks", "state"),
    [
        ((DownloadError("expired", "old"),), "expired"),
        ((DownloadError("gone", "no file"),), "failed: no file"),
        ((DownloadError("failed", "HTTP 500"),), "failed: HTTP 500"),
        ((DownloadError("refused", "no host"),), "refused: no host"),
        ((ONE, DownloadError("too_large", "more than 5 bytes")), "refused: more than 5 bytes"),
        ((b"<head>", b"</html>"), "failed: the failed file is markup, not a table; an expired link answers like this"),
        ((b"x" * 100_000,), "failed: the failed file has a line of more than 65,536 characters"),
        ((b"PhoneNumber\n", b"9812345678\n" * 5_000), "failed: the list has more than 1,000 rows for 3 rows sent"),
        ((DownloadError("failed", "x" * 5_000),), "failed: " + "x" * 292),
    ],
)
async def test_a_list_that_cannot_be_fetched_is_a_state_and_stores_no_rows(
    tmp_path: Path, chunks: tuple[bytes | Exception, ...], state: str
) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0)])
    report = await collect_failed_rows(journal, fetch=giving(*chunks))
    assert report == CollectReport({state.partition(":")[0]: 1}, 0, 0)
    (entry,) = await journal.batches()
    assert entry.failed_file == state
    assert list(failed_leads(path)) == []
    again = await collect_failed_rows(journal, fetch=giving(ONE))
    assert again.rows == (0 if state == "expired" else 1)
    await journal.close()


def listing(*numbers: int) -> bytes:
    return "\n".join(["PhoneNumber,Reason", *(f"{phone(number)},DND" for number in numbers)]).encode()


@pytest.mark.parametrize("body", [b"", b" ", b"PhoneNumber,Reason\n", b"Service Unavailable\nplease try later\n"])
async def test_a_list_without_the_rows_that_were_counted_is_fetched_again(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0)])
    assert await collect_failed_rows(journal, fetch=giving(body)) == CollectReport({"failed": 1}, 0, 0)
    (entry,) = await journal.batches()
    assert entry.failed_file == "failed: the list has 0 of the 1 rows that the service did not add"
    assert await collect_failed_rows(journal, fetch=giving(ONE)) == CollectReport({"done": 1}, 1, 0)
    await journal.close()
    assert [lead.row for lead in failed_leads(path)] == [2]


@pytest.mark.parametrize(
    ("then", "state", "found"),
    [
        (listing(3, 1), "done", [1, 3]),
        (listing(1, 2, 3), "done", [1, 2, 3]),
        (listing(1), "failed: the list has 1 of the 2 rows that the service did not add", [2]),
        (b"<html>", "failed: the failed file is markup, not a table; an expired link answers like this", [2]),
        (DownloadError("failed", "HTTP 500"), "failed: HTTP 500", [2]),
        (DownloadError("expired", "old"), "expired", [2]),
    ],
)
async def test_rows_found_are_kept_and_not_doubled_when_a_list_is_fetched_again(
    tmp_path: Path, then: bytes | Exception, state: str, found: list[int]
) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0, failed=2)])
    assert await collect_failed_rows(journal, fetch=giving(listing(2))) == CollectReport({"failed": 1}, 1, 0)
    assert [lead.row for lead in failed_leads(path)] == [2]
    await collect_failed_rows(journal, fetch=giving(then))
    (entry,) = await journal.batches()
    await journal.close()
    assert entry.failed_file == state
    assert [lead.row for lead in failed_leads(path)] == found


async def test_what_is_in_the_list_and_was_not_sent_is_kept_without_a_row(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0), job(1)])
    other_rows = f"PhoneNumber,Reason\n+14155550100,DND\n{phone(5)},Bad\n".encode()
    assert await collect_failed_rows(journal, fetch=giving(other_rows)) == CollectReport({"done": 2}, 4, 3)
    await journal.close()
    assert [(lead.row, lead.how, lead.reason, lead.phone) for lead in failed_leads(path)] == [
        (None, "unmatched", "DND", "+14155550100"),
        (None, "unmatched", "Bad", phone(5)),
        (5, "exact", "Bad", phone(5)),
        (None, "unmatched", "DND", "+14155550100"),
    ]


async def test_downloads_run_side_by_side_and_no_more_than_allowed(tmp_path: Path) -> None:
    journal = await journal_of(tmp_path / "x.journal", [job(index) for index in range(12)])
    running, most = 0, 0

    async def fetch(link: SecretUrl, policy: LinkPolicy) -> AsyncGenerator[bytes]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        yield ONE

    assert (await collect_failed_rows(journal, fetch=fetch, concurrency=3)).batches == {"done": 12}
    assert most == 3
    await journal.close()


async def test_cancelling_stops_all_downloads_and_keeps_what_is_stored(no_tasks_left: None, tmp_path: Path) -> None:
    journal = await journal_of(tmp_path / "x.journal", [job(index) for index in range(3)])
    stuck = asyncio.Event()
    closed = 0

    async def fetch(link: SecretUrl, policy: LinkPolicy) -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            if [entry.failed_file for entry in await journal.batches()].count("done"):
                stuck.set()
                await asyncio.Event().wait()
            yield ONE
        finally:
            closed += 1

    task = asyncio.create_task(collect_failed_rows(journal, fetch=fetch, concurrency=1))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == 2
    assert [entry.failed_file for entry in await journal.batches()] == ["done", None, None]
    assert (await collect_failed_rows(journal, fetch=giving(ONE))).batches == {"done": 2}
    await journal.close()


async def test_an_error_of_the_journal_is_raised_as_it_is(no_tasks_left: None, tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(index) for index in range(3)])
    change(journal.path, "UPDATE bodies SET body = ? WHERE id = 1", b"{}")
    with pytest.raises(JournalError, match="batch 1"):
        await collect_failed_rows(journal, fetch=giving(ONE))
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await collect_failed_rows(journal, fetch=giving(ONE))


async def test_a_download_that_hangs_does_not_hold_up_an_error(no_tasks_left: None, tmp_path: Path) -> None:
    journal = await journal_of(tmp_path / "x.journal", [job(0), job(1)])
    change(journal.path, "UPDATE bodies SET body = ? WHERE id = 1", b"{}")

    async def fetch(link: SecretUrl, policy: LinkPolicy) -> AsyncGenerator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with asyncio.timeout(20):
        with pytest.raises(JournalError, match="batch 1"):
            await collect_failed_rows(journal, fetch=fetch, concurrency=2)
    await journal.close()


async def test_two_collectors_at_a_time_store_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0)])
    other = await Journal.attach(path)
    both = asyncio.Barrier(2)

    async def fetch(link: SecretUrl, policy: LinkPolicy) -> AsyncGenerator[bytes]:
        await both.wait()
        yield ONE

    async with asyncio.timeout(20):
        reports = await asyncio.gather(*(collect_failed_rows(one, fetch=fetch) for one in (journal, other)))
    assert [report.rows for report in reports] == [1, 1]
    assert len(list(failed_leads(path))) == 1
    await journal.close()
    await other.close()


@pytest.mark.parametrize(
    "statement",
    [
        ("UPDATE bodies SET body = ?", b'{"map":["Name"],"data":[["a"],["b"],["c"]]}'),
        ("UPDATE bodies SET body = ?", b'{"map":["PhoneNumber"],"data":[["1"],["2"]]}'),
        ("UPDATE bodies SET body = ?", b'{"map":["PhoneNumber","Name"],"data":[["1"],["2"],["3"]]}'),
        ("UPDATE bodies SET body = ?", b"\xff"),
        ("UPDATE batches SET invalid = ?", "[2]"),
        ("UPDATE batches SET invalid = ?", "nonsense"),
        ("UPDATE batches SET read = ?", 4),
    ],
)
async def test_a_batch_that_contradicts_itself_gives_no_row_numbers(tmp_path: Path, statement: tuple[str, Any]) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0)])
    await collect_failed_rows(journal, fetch=giving(ONE))
    await journal.close()
    change(path, *statement)
    with pytest.raises(JournalError, match="damaged"):
        list(failed_leads(path))


async def test_reading_does_not_disturb_the_writer_nor_need_one(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = await journal_of(path, [job(0), job(1)])
    await collect_failed_rows(journal, fetch=giving(f"PhoneNumber\n{phone(2)}\n{phone(4)}\n".encode()))
    reader = failed_leads(path)
    first = next(reader)
    await journal.mark(0, "sent")
    rest = list(reader)
    assert [lead.row for lead in (first, *rest) if lead.row is not None] == [2, 4]
    half_way = failed_leads(path)
    next(half_way)
    del half_way, reader
    await journal.close()
    assert len(list(failed_leads(path))) == 4


# --- what the callbacks say of the rows ----------------------------------------------------------------------------

RESULTS = [
    # counts that add up
    (JobResult("id-0", True, 3, 3, 0), (3, 0, 0), None),
    (JobResult("id-0", True, 3, 0, 3), (0, 3, 0), None),
    (JobResult("id-0", False, 3, 1, 2), (1, 2, 0), "Fail: no message"),
    # a failure without counts, or with some of them
    (JobResult("id-0", False, message="File Failed to Upload."), (0, 3, 0), "Fail: File Failed to Upload."),
    (JobResult("id-0", False, 3, None, None), (0, 3, 0), "Fail: no message"),
    (JobResult("id-0", False, None, 0, 3), (0, 3, 0), "Fail: no message"),
    # counts that are missing, or contradict each other or the request
    (
        JobResult("id-0", True, message="File Successfully uploaded."),
        (0, 0, 3),
        "Success: File Successfully uploaded.; uploaded ?, processed ?, not processed ? for 3 rows sent",
    ),
    (JobResult("id-0", True, 3, 3, None), (0, 0, 3), "processed 3, not processed ? for 3 rows sent"),
    (JobResult("id-0", True, 6, 2, 0), (0, 0, 3), "uploaded 6, processed 2, not processed 0 for 3 rows sent"),
    (JobResult("id-0", True, 6, 2, 4), (0, 0, 3), "for 3 rows sent"),
    (JobResult("id-0", True, 1, 999_999_999, 0), (0, 0, 3), "processed 999,999,999"),
    (JobResult("id-0", False, 6, 2, 4), (0, 0, 3), "Fail: no message; uploaded 6"),
    (JobResult("id-0", False, 0, 0, 0), (0, 0, 3), "for 3 rows sent"),
    (JobResult("id-0", False, None, 2, None), (0, 0, 3), "processed 2"),
    (JobResult("id-0", False, message="+919812345678 is bad"), (0, 3, 0), "Fail: […678] is bad"),
]


@pytest.mark.parametrize(("result", "rows", "said"), RESULTS)
async def test_only_counts_that_add_up_are_used(
    tmp_path: Path, result: JobResult, rows: tuple[int, int, int], said: str | None
) -> None:
    journal = await journal_of(tmp_path / "x.journal", [result, None, JobResult("id-2", True, 3, 2, 1)])
    report = UploadReport(campaign="Diwali", rows_read=9, rows_accepted=9)
    report.batches = [BatchResult(index, 3 * index + 1, 3 * index + 3, 3, "accepted") for index in range(3)]
    for _ in range(2):
        await add_counts(report, journal)
        assert (report.rows_added - 2, report.rows_not_added - 1, report.rows_unreported) == rows
        assert (report.batches_settled, report.batches_overdue) == (2, 1)
        assert report.batches_failed == int(not result.succeeded)
        assert [batch.callback_text for batch in report.batches[1:]] == [None, None]
        text = report.batches[0].callback_text
        assert text == said if text is None or said is None else said in text
    await journal.close()


def test_files_that_are_no_journals(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"):
        failed_leads(tmp_path / "none.journal")
    text = tmp_path / "text.journal"
    text.write_text("nothing of the kind " * 100)
    with pytest.raises(JournalError, match=r"text\.journal") as caught:
        list(failed_leads(text))
    assert not isinstance(caught.value.__cause__, sqlite3.Error)
    with closing(sqlite3.connect(tmp_path / "other.journal")) as other:
        other.execute("CREATE TABLE other (x)")
    with pytest.raises(JournalError):
        list(failed_leads(tmp_path / "other.journal"))


async def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    journal = await journal_of(tmp_path / "x.journal", [])
    for wrong in (0, -1, float("nan"), 2.5):
        with pytest.raises(ConfigurationError):
            await collect_failed_rows(journal, concurrency=wrong)  # type: ignore[arg-type]
    await journal.close()


def test_a_failed_lead_does_not_show_its_number() -> None:
    lead = FailedLead(7, {"PhoneNumber": phone(7), "Name": "Asha"}, "DND", "exact", phone(7))
    assert phone(7) not in repr(lead) + str(lead) + f"{lead}"
    assert "Asha" not in repr(lead)
    assert "row=7" in repr(lead)
