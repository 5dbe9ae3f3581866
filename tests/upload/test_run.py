"""Durable uploads over real sockets: whatever ends a run, the next one continues it, and nobody is called twice."""

from __future__ import annotations

import asyncio
import csv
import json
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ozonetel_async import (
    ConfigurationError,
    JournalError,
    OzonetelClient,
    RateLimit,
    RetryPolicy,
    Timeouts,
    UploadReport,
    read_csv,
)
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import url_token
from ozonetel_async.journal import store as store_module
from ozonetel_async.journal.counts import add_counts
from ozonetel_async.journal.failed_rows import StoredRow
from ozonetel_async.journal.journal import Journal, JournaledBatch
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.upload import journaling

from ..conftest import EAGER, Connect, eventually, fast_limits

ROWS = 2_600
"""Five full batches and one of 100."""
WIDTH = 3
BASE = "https://hooks.example.com/ozonetel"

Row: TypeAlias = dict[str, Any]


def phone(row: int) -> str:
    return f"9{row:09d}"


def rows(count: int = ROWS, invalid: Iterable[int] = ()) -> list[Row]:
    """Rows from 1; those in ``invalid`` have no number that could be called."""
    bad = set(invalid)
    return [{"PhoneNumber": "none" if n in bad else phone(n), "Name": f"Lead {n}"} for n in range(1, count + 1)]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator that refuses nobody for the rate."""
    async with Simulator(limits={"bulk": 0}) as simulator:
        yield simulator


@pytest.fixture
async def client(connect: Connect) -> OzonetelClient:
    return connect(limits=fast_limits(bulk=RateLimit(WIDTH, 0.01), transit_margin=0.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


class Watch:
    """An ``on_progress`` that checks each report, and does something when it is told to."""

    def __init__(self, when: Callable[[UploadReport], bool] | None = None, then: Callable[[], object] = bool) -> None:
        self.when = when
        self.then = then
        self.calls = 0
        self.last = UploadReport(campaign="")

    def __call__(self, report: UploadReport) -> None:
        self.calls += 1
        self.last = report
        assert report.rows_read == (
            report.rows_accepted
            + report.rows_invalid
            + report.rows_refused
            + report.rows_not_sent
            + report.rows_unknown
        ), report
        assert report.rows_in_flight >= 0
        if self.when is not None and self.when(report):
            self.then()


def bodies(sim: Simulator) -> Counter[str]:
    """The bulkData of the requests that came, with how often each did."""
    return Counter(str(record.params["bulkData"]) for record in sim.requests("bulk"))


def numbers(sim: Simulator, campaign: str = "Diwali") -> Counter[str]:
    return Counter({number: count for number, count in sim.campaigns[campaign].numbers.items() if count})


async def each_once(sim: Simulator, of: Iterable[int], campaign: str = "Diwali") -> None:
    await sim.settle()
    assert numbers(sim, campaign) == Counter(phone(row) for row in of)


def check_numbers(sim: Simulator, report: UploadReport) -> None:
    """Nobody is lost and nobody doubled; who is reported unknown may be there or not."""
    held = {n for b in report.batches if b.outcome == "unknown" for n in range(b.first_row, b.last_row + 1)}
    counts = numbers(sim)
    assert len(held) == report.rows_unknown
    assert [n for n in range(1, ROWS + 1) if n not in held and counts[phone(n)] != 1] == []
    assert max(counts.values()) == 1


async def entries(path: Path) -> list[JournaledBatch]:
    journal = await Journal.attach(path)
    try:
        return await journal.batches()
    finally:
        await journal.close()


async def states(path: Path) -> list[str]:
    return [entry.state for entry in await entries(path)]


def outcomes(report: UploadReport) -> list[str]:
    return [batch.outcome for batch in report.batches]


def refusal(*, apply: bool) -> Fault:
    """An answer in words that no document lists, under a failing word: a refusal, whether true or not."""
    body = '{"status":"error","message":"A text that no page lists"}'
    return Fault.status(200, apply=apply, body=body, content_type="application/json")


async def silent(count: int, asked_for_more: asyncio.Event) -> AsyncIterator[Row]:
    """So many rows, and then neither another one nor an end."""
    for row in rows(count):
        yield row
    asked_for_more.set()
    await asyncio.Event().wait()


async def stop_after(
    client: OzonetelClient, path: Path, accepted: int, source: Any = None, **options: Any
) -> UploadReport:
    """A run that is asked to stop once so many rows were accepted."""
    stop = asyncio.Event()
    watch = Watch(lambda report: report.rows_accepted >= accepted, stop.set)
    options = {"concurrency": 1, **options}
    report = await client.upload("Diwali", source or rows(), journal=path, stop=stop, on_progress=watch, **options)
    assert report.stopped_by == "asked to stop"
    return report


# --- a run that nothing disturbs -------------------------------------------------------------------------------------


async def test_with_a_journal_the_same_goes_out_and_the_same_is_reported(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.campaign("Holi")
    source = rows(invalid=(1, 700, 2600))
    without = await client.upload("Holi", source)
    sent, sim.log[:] = bodies(sim), []
    watch = Watch()
    durable = await client.upload("Diwali", source, journal=path, on_progress=watch)
    assert bodies(sim) == sent
    assert all(count == 1 for count in sent.values())
    kept = (
        "rows_read",
        "rows_accepted",
        "rows_invalid",
        "rows_refused",
        "rows_not_sent",
        "rows_unknown",
        "rows_in_flight",
        "stopped_by",
    )
    assert [getattr(durable, name) for name in kept] == [getattr(without, name) for name in kept]
    assert durable.invalid_sample == without.invalid_sample
    shape = [(batch.index, batch.first_row, batch.last_row, batch.rows, batch.outcome) for batch in durable.batches]
    assert shape == [(b.index, b.first_row, b.last_row, b.rows, b.outcome) for b in without.batches]
    assert watch.last.rows_read == ROWS
    assert await states(path) == ["accepted"] * 6


async def test_a_run_after_the_end_sends_nothing_and_reports_the_same(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    source = rows(invalid=(1, 700, 2600))
    first = await client.upload("Diwali", source, journal=path)
    arrived = sim.arrivals("bulk")
    watch = Watch()
    second = await client.upload("Diwali", source, journal=path, on_progress=watch)
    assert sim.arrivals("bulk") == arrived
    assert second.requests == 0
    assert second.batches == first.batches
    for name in ("rows_read", "rows_accepted", "rows_invalid", "rows_unknown", "invalid_sample", "stopped_by"):
        assert getattr(second, name) == getattr(first, name), name
    await each_once(sim, (n for n in range(1, ROWS + 1) if n not in (1, 700, 2600)))


async def test_an_upload_without_rows_leaves_a_journal_that_anything_may_continue(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    assert (await client.upload("Diwali", [], journal=path)).rows_read == 0
    report = await client.upload("Diwali", rows(10), journal=path)
    assert report.rows_accepted == 10


async def test_a_batch_is_in_the_journal_as_sent_before_it_arrives(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(10, 0.01)), timeouts=Timeouts(30.0))
    sim.inject("bulk", Fault.stall_after_apply(), times=None)
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path, concurrency=2))
    await sim.wait_for(lambda: sim.arrivals("bulk") == 2)
    journaled = await entries(path)
    assert [entry.state for entry in journaled[:2]] == ["sent", "sent"]
    assert len(journaled) <= 4, "written ahead of what may be under way, and no further"
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload


@pytest.mark.parametrize("width", [1, 2, 5])
async def test_no_more_batches_are_under_way_than_asked_for(
    connect: Connect, sim: Simulator, path: Path, width: int
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(10, 0.01)))
    most = 0

    def look(report: UploadReport) -> None:
        nonlocal most
        with closing(sqlite3.connect(path)) as db:
            most = max(most, db.execute("SELECT count(*) FROM batches WHERE state = 'sent'").fetchone()[0])

    # The journal is made before the first report.
    await client.upload("Diwali", rows(), journal=path, concurrency=width, on_progress=look)
    assert most <= width
    assert sim.worst_window("bulk") <= 10


# --- interrupted and continued ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [1, 501, 1001, 1501, 2001, 2501])
async def test_asked_to_stop_at_any_batch_the_next_run_does_the_rest(
    client: OzonetelClient, sim: Simulator, path: Path, accepted: int
) -> None:
    first = await stop_after(client, path, accepted)
    assert first.rows_unknown == 0
    watch = Watch()
    second = await client.upload("Diwali", rows(), journal=path, on_progress=watch)
    assert (second.rows_read, second.rows_accepted) == (ROWS, ROWS)
    assert outcomes(second) == ["accepted"] * 6
    assert first.requests + second.requests == 6
    await each_once(sim, range(1, ROWS + 1))


async def test_asked_before_the_first_row_nothing_is_taken_and_nothing_sent(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    stop = asyncio.Event()
    stop.set()
    watch = Watch()
    report = await client.upload("Diwali", rows(), journal=path, stop=stop, on_progress=watch)
    assert (report.rows_accepted, report.stopped_by) == (0, "asked to stop")
    assert report.rows_read == 0
    assert sim.arrivals("bulk") == 0
    assert await entries(path) == []
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS


async def test_asked_while_the_input_has_no_row_yet_it_stops_waiting(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    asked_for_rows, stop = asyncio.Event(), asyncio.Event()
    upload = asyncio.create_task(client.upload("Diwali", silent(700, asked_for_rows), journal=path, stop=stop))
    await asked_for_rows.wait()
    await sim.wait_for(lambda: sim.writes_applied("bulk") == 1)
    stop.set()
    report = await upload
    assert (report.rows_read, report.rows_accepted, report.rows_not_sent) == (700, 500, 200)
    assert await states(path) == ["accepted"], "the short rest of an unfinished input must not be journaled"


async def test_asked_while_what_is_journaled_is_counted(client: OzonetelClient, sim: Simulator, path: Path) -> None:
    await stop_after(client, path, 1001)
    stop = asyncio.Event()
    arrived = sim.arrivals("bulk")
    watch = Watch(lambda report: report.rows_accepted > 0, stop.set)
    report = await client.upload("Diwali", rows(), journal=path, stop=stop, on_progress=watch)
    assert report.stopped_by == "asked to stop"
    assert report.rows_unknown == 0
    assert report.rows_in_flight == 0
    assert sim.arrivals("bulk") - arrived <= 1
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


@pytest.mark.parametrize(
    ("fault", "counts"),
    [(refusal(apply=False), (0, 1_100, 0)), (Fault.reset_after_apply(), (0, 0, 1_100)), (None, (1_100, 0, 0))],
)
async def test_asked_while_the_journaled_is_compared_each_batch_is_what_it_was(
    client: OzonetelClient, sim: Simulator, path: Path, fault: Fault | None, counts: tuple[int, int, int]
) -> None:
    if fault is not None:
        sim.inject("bulk", fault, times=None)
    await client.upload("Diwali", rows(), journal=path)
    asked_for_rows, stop = asyncio.Event(), asyncio.Event()
    upload = asyncio.create_task(client.upload("Diwali", silent(1_100, asked_for_rows), journal=path, stop=stop))
    await asked_for_rows.wait()
    stop.set()
    report = await upload
    assert report.rows_read == 1_100
    assert (report.rows_accepted, report.rows_not_sent, report.rows_unknown) == counts


async def test_asked_while_batches_are_on_the_wire_they_are_finished_and_others_taken_back(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(2, 30.0)))
    stop = asyncio.Event()
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path, stop=stop, concurrency=4))
    await sim.wait_for(lambda: sim.writes_applied("bulk") == 2)
    stop.set()
    report = await upload
    assert outcomes(report)[:4] == ["accepted", "accepted", "not_sent", "not_sent"]
    assert (await states(path))[:4] == ["accepted", "accepted", "pending", "pending"]
    again = await connect(limits=fast_limits(bulk=RateLimit(9, 0.01))).upload("Diwali", rows(), journal=path)
    assert again.rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


@pytest.mark.parametrize("arrivals", [0, 1, 2, 4, 5])
async def test_cancelled_at_any_request_the_rest_is_sent_and_what_was_on_the_wire_is_held(
    client: OzonetelClient, sim: Simulator, path: Path, arrivals: int
) -> None:
    sim.inject("bulk", Fault.stall_after_apply(), after=arrivals, times=None)
    watch = Watch()
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path, on_progress=watch))
    await sim.wait_for(lambda: sim.arrivals("bulk") > arrivals)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert watch.last.rows_in_flight == 0
    unknown = watch.last.rows_unknown
    assert 100 <= unknown <= WIDTH * 500
    sim.clear_faults()
    report = await client.upload("Diwali", rows(), journal=path)
    assert (report.rows_read, report.rows_accepted, report.rows_unknown) == (ROWS, ROWS - unknown, unknown)
    await sim.settle()
    check_numbers(sim, report)


async def test_a_failing_progress_callback_leaves_a_journal_that_can_be_continued(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError):
        await client.upload(
            "Diwali", rows(), journal=path, on_progress=Watch(lambda r: r.rows_accepted > 600, fail), concurrency=1
        )
    report = await client.upload("Diwali", rows(), journal=path)
    assert report.rows_read == ROWS
    await sim.settle()
    check_numbers(sim, report)


async def test_an_input_that_fails_midway_is_continued_once_it_is_mended(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    def broken() -> Iterator[Row]:
        yield from rows()[:1701]
        raise ValueError("line 1702 is no text")

    for _ in range(2):
        with pytest.raises(ValueError, match="line 1702") as caught:
            await client.upload("Diwali", broken(), journal=path)
        assert (
            "1,701 rows read, 1,500 accepted, 0 invalid, 0 refused, 201 not sent, 0 unknown"
            in caught.value.__notes__[0]
        )
        assert await states(path) == ["accepted"] * 3, "the short rest would be cut otherwise by the next run"
    report = await client.upload("Diwali", rows(), journal=path)
    assert report.rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_the_same_bytes_and_callback_tokens_go_out_after_a_stop(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(2, 30.0)))
    stop = asyncio.Event()
    upload = asyncio.create_task(
        client.upload("Diwali", rows(), journal=path, stop=stop, concurrency=4, callback_url=BASE)
    )
    await sim.wait_for(lambda: sim.writes_applied("bulk") == 2)
    stop.set()
    await upload
    with closing(sqlite3.connect(path)) as db:
        bodies = [body for (body,) in db.execute("SELECT body FROM bodies ORDER BY id")]
    assert len(bodies) >= 4
    journal = await Journal.attach(path)
    journaled = [(await journal.callback_token(index), body) for index, body in enumerate(bodies)]
    await journal.close()
    fresh = connect(limits=fast_limits(bulk=RateLimit(9, 0.01)))
    await fresh.upload("Diwali", rows(), journal=path, callback_url=BASE)
    sent = {str(r.params["callBackUrl"]): str(r.params["bulkData"]).encode() for r in sim.requests("bulk")}
    assert len(sent) == 6
    for token, body in journaled:
        assert sent[f"{BASE}/{token}"] == body


# --- callbacks -------------------------------------------------------------------------------------------------------


async def test_each_batch_has_a_callback_url_of_its_own_that_proves_the_caller(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    await client.upload("Diwali", rows(), journal=path, callback_url=f"{BASE}?tenant=7")
    urls = [str(record.params["callBackUrl"]) for record in sim.requests("bulk")]
    tokens = [url_token(url) for url in urls]
    assert urls == [f"{BASE}/{token}?tenant=7" for token in tokens]
    assert len(set(tokens)) == 6
    tickets = {
        batch.index: batch.transaction_id for batch in (await client.upload("Diwali", rows(), journal=path)).batches
    }
    journal = await Journal.attach(path)
    for entry in await journal.batches():
        (token,) = (
            token
            for token, record in zip(tokens, sim.requests("bulk"), strict=True)
            if f'"{phone(entry.first_row)}"' in str(record.params["bulkData"])
        )
        assert token is not None
        assert entry.transaction_id == tickets[entry.index]
        assert await journal.deliver(token, JobResult(str(entry.transaction_id), True, entry.rows, entry.rows, 0))
    assert all(entry.settlement.result is not None for entry in await journal.batches())
    await journal.close()


async def test_a_callback_proves_what_was_held_and_the_next_run_counts_it(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.reset_after_apply(), after=1)
    report = await client.upload("Diwali", rows(), journal=path, callback_url=BASE, concurrency=1)
    assert outcomes(report)[1] == "unknown"
    journal = await Journal.attach(path)
    token = await journal.callback_token(1)
    assert await journal.deliver(token, JobResult("172", True, 500, 500, 0))
    await journal.close()
    again = await client.upload("Diwali", rows(), journal=path, callback_url=BASE)
    assert (again.rows_accepted, again.rows_unknown, again.batches[1].transaction_id) == (ROWS, 0, "172")
    await each_once(sim, range(1, ROWS + 1))


async def test_a_batch_left_over_by_a_run_without_callbacks_gets_a_token_of_its_own(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", refusal(apply=False), after=1)
    assert outcomes(await client.upload("Diwali", rows(), journal=path, concurrency=1)).count("refused") == 1
    sim.log.clear()
    await client.upload("Diwali", rows(), journal=path, callback_url=BASE)
    (record,) = sim.requests("bulk")
    journal = await Journal.attach(path)
    assert url_token(str(record.params["callBackUrl"])) == await journal.callback_token(1)
    assert await journal.unsettled() == 1
    await journal.close()


async def test_a_refused_batch_that_a_callback_says_was_taken_is_not_sent_again(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", refusal(apply=True), after=1)
    report = await client.upload("Diwali", rows(), journal=path, callback_url=BASE, concurrency=1)
    assert outcomes(report)[1] == "refused"
    journal = await Journal.attach(path)
    token = await journal.callback_token(1)
    assert await journal.deliver(token, JobResult("172", True, 500, 500, 0))
    await add_counts(report, journal)
    assert (report.rows_refused, report.rows_accepted) == (0, ROWS)
    await journal.close()
    again = await client.upload("Diwali", rows(), journal=path, callback_url=BASE)
    assert (again.rows_accepted, again.batches[1].transaction_id) == (ROWS, "172")
    await each_once(sim, range(1, ROWS + 1))


@pytest.mark.parametrize("bad", ["https://u:p@h.example/x", "https://h.example/x#y", "ftp://h.example"])
async def test_a_callback_url_that_cannot_bear_a_token_is_refused_at_once(
    client: OzonetelClient, sim: Simulator, path: Path, bad: str
) -> None:
    with pytest.raises(ConfigurationError, match="callback_url"):
        await client.upload("Diwali", rows(), journal=path, callback_url=bad)
    assert list(path.parent.iterdir()) == []
    assert sim.arrivals("bulk") == 0


async def test_a_journal_that_fails_after_the_last_answer_does_not_cost_the_report(
    client: OzonetelClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(journal: Journal) -> int:
        raise JournalError("journal a.journal: the disk is full")

    monkeypatch.setattr(Journal, "unsettled", full)
    report = await client.upload("Diwali", rows(), journal=path, callback_url=BASE, callback_timeout=5)
    assert report.rows_accepted == ROWS
    assert report.stopped_by == "JournalError: journal a.journal: the disk is full"


async def test_who_cancels_the_wait_for_callbacks_has_the_report_all_the_same(
    client: OzonetelClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def never(journal: Journal) -> int:
        waiting.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(Journal, "unsettled", never)
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path, callback_url=BASE, callback_timeout=600))
    await waiting.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await upload
    assert f"{ROWS:,} accepted" in caught.value.__notes__[0]


async def test_a_file_whose_name_is_no_text_can_be_journaled_though_not_resumed_by_name(
    client: OzonetelClient, path: Path
) -> None:
    file = path.with_name("leads\udce9.csv")
    file.write_text("PhoneNumber\n9812345678\n")
    assert (await client.upload("Diwali", read_csv(file), journal=path)).rows_accepted == 1
    journal = await Journal.attach(path)
    assert (await journal.header()).source is None
    await journal.close()


async def test_rows_that_the_first_sending_added_are_no_failures_of_the_second(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.reset_after_apply())
    report = await client.upload(
        "Diwali", rows(400), journal=path, callback_url=BASE, on_unknown="resend", check_duplicate=True
    )
    assert (report.rows_accepted, sim.writes_applied("bulk")) == (400, 2)
    journal = await Journal.attach(path)
    (entry,) = await journal.batches()
    token = await journal.callback_token(0)
    assert await journal.deliver(token, JobResult(str(entry.transaction_id), True, 400, 0, 400))
    await journal.store_failed_rows(0, [StoredRow(1, "9", "Number Already Exist", "exact")], "done")
    await add_counts(report, journal)
    assert (report.rows_added, len(list(report.failed_rows()))) == (0, 1)
    assert await journal.deliver(token, JobResult("first", True, 400, 400, 0))
    await add_counts(report, journal)
    assert (report.rows_added, report.rows_not_added, list(report.failed_rows())) == (400, 0, [])
    await journal.close()


# --- refused, unknown, not sent --------------------------------------------------------------------------------------


async def test_refused_batches_are_sent_again_by_the_next_run(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    first = await client.upload("Holi", rows(), journal=path)
    assert first.stopped_by is not None
    assert first.stopped_by.startswith("CampaignError")
    assert first.rows_refused >= 500
    assert first.rows_refused + first.rows_not_sent == first.rows_read
    assert "refused" in await states(path)
    sim.campaign("Holi")
    second = await client.upload("Holi", rows(), journal=path)
    assert (second.rows_accepted, second.stopped_by) == (ROWS, None)
    await each_once(sim, range(1, ROWS + 1), "Holi")


async def test_what_is_unknown_is_held_until_resending_is_asked_for(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.reset_after_apply(), after=1)
    sim.inject("bulk", Fault.reset_before_apply(), after=2)
    for expected in (ROWS // 500 + 1, 0):
        before = sim.arrivals("bulk")
        held = await client.upload("Diwali", rows(), journal=path)
        assert sim.arrivals("bulk") - before == expected
        assert (held.rows_accepted, held.rows_unknown, held.stopped_by) == (ROWS - 1000, 1000, None)
    await sim.settle()
    assert sim.campaigns["Diwali"].stored == ROWS - 500
    before = sim.arrivals("bulk")
    report = await client.upload("Diwali", rows(), journal=path, on_unknown="resend", check_duplicate=True)
    assert sim.arrivals("bulk") - before == 2
    assert (report.rows_accepted, report.rows_unknown) == (ROWS, 0)
    await each_once(sim, range(1, ROWS + 1))


async def test_a_refusal_of_what_was_sent_again_says_nothing_of_the_first_time(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.reset_after_apply())
    await client.upload("Diwali", rows(400), journal=path)
    assert await states(path) == ["unknown"]
    campaign = sim.campaigns.pop("Diwali")
    report = await client.upload("Diwali", rows(400), journal=path, on_unknown="resend", check_duplicate=True)
    assert (report.rows_unknown, report.rows_refused) == (400, 0)
    assert await states(path) == ["unknown"]
    sim.campaigns["Diwali"] = campaign
    held = await client.upload("Diwali", rows(400), journal=path)
    assert held.rows_unknown == 400
    report = await client.upload("Diwali", rows(400), journal=path, on_unknown="resend", check_duplicate=True)
    assert report.rows_accepted == 400
    await each_once(sim, range(1, 401))


async def test_what_was_sent_again_and_never_reached_the_service_stays_unknown(path: Path) -> None:
    async with Simulator(limits={"bulk": 0}) as sim:
        port, url = int(sim.base_url.rpartition(":")[2]), sim.base_url
        sim.inject("bulk", Fault.reset_after_apply())
        async with _client(url) as client:
            await client.upload("Diwali", rows(400), journal=path)
    async with _client(url) as client:
        report = await client.upload("Diwali", rows(400), journal=path, on_unknown="resend", check_duplicate=True)
        assert (report.rows_unknown, report.rows_refused) == (400, 0)
    assert await states(path) == ["unknown"]
    async with Simulator(limits={"bulk": 0}, port=port) as sim, _client(url) as client:
        assert (await client.upload("Diwali", rows(400), journal=path)).rows_unknown == 400


def _client(url: str) -> OzonetelClient:
    limits = fast_limits(bulk=RateLimit(WIDTH, 0.01))
    return OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user", base_url=url, limits=limits, retry=EAGER)


async def test_without_a_connection_batches_go_back_and_the_next_run_sends_them(path: Path) -> None:
    async with Simulator() as sim:
        port, url = int(sim.base_url.rpartition(":")[2]), sim.base_url
    async with _client(url) as client:
        report = await client.upload("Diwali", rows(), journal=path)
    assert report.stopped_by is not None
    assert report.stopped_by.startswith("ConnectError")
    assert (report.rows_not_sent, report.rows_unknown) == (report.rows_read, 0)
    assert set(await states(path)) == {"pending"}
    async with Simulator(limits={"bulk": 0}, port=port) as sim, _client(url) as client:
        assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS
        await each_once(sim, range(1, ROWS + 1))


async def test_a_batch_refused_for_the_rate_goes_back_until_its_next_turn(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(WIDTH, 0.05)), retry=RetryPolicy(rate_attempts=3))
    sim.inject("bulk", Fault.rate_refusal(), times=2)
    seen: list[str] = []
    mark = Journal.mark

    async def noting(self: Journal, index: int, state: Any, **options: Any) -> None:
        seen.append(state)
        await mark(self, index, state, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "mark", noting)
        report = await client.upload("Diwali", rows(400), journal=path)
    assert seen == ["sent", "pending", "sent", "pending", "sent"]
    assert report.rows_accepted == 400
    sim.inject("bulk", Fault.rate_refusal(), times=3)
    other = path.with_name("b.journal")
    report = await client.upload("Diwali", rows(400), journal=other)
    assert report.rows_refused == 400
    assert await states(other) == ["refused"]
    assert (await client.upload("Diwali", rows(400), journal=other)).rows_accepted == 400


# --- a changed input -------------------------------------------------------------------------------------------------


def _changed(at: int, **cells: str) -> list[Row]:
    source = rows()
    source[at - 1] = {**source[at - 1], **cells}
    return source


CHANGES: dict[str, Callable[[], list[Row]]] = {
    "a cell of the first batch": lambda: _changed(7, Name="Other"),
    "a cell of the last journaled batch": lambda: _changed(1499, Name="Other"),
    "a row inserted": lambda: [*rows()[:20], {"PhoneNumber": "9000000000", "Name": "New"}, *rows()[20:]],
    "a row removed": lambda: rows()[:20] + rows()[21:],
    "an invalid row inserted": lambda: [*rows()[:20], {"PhoneNumber": "none", "Name": "New"}, *rows()[20:]],
    "a row made invalid": lambda: _changed(1200, PhoneNumber="none"),
    "two rows swapped": lambda: [rows()[1], rows()[0], *rows()[2:]],
    "shorter by batches": lambda: rows(1000),
    "shorter within a batch": lambda: rows(1499),
    "nothing": list,
    "other columns": lambda: [{"PhoneNumber": row["PhoneNumber"], "skill": row["Name"]} for row in rows()],
    "other order of columns": lambda: [{"Name": row["Name"], "PhoneNumber": row["PhoneNumber"]} for row in rows()],
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_input_is_refused_before_anything_is_sent(
    client: OzonetelClient, sim: Simulator, path: Path, change: str
) -> None:
    sim.inject("bulk", Fault.reset_before_apply())
    await stop_after(client, path, 1000)
    journaled = await states(path)
    assert journaled[:3] == ["unknown", "accepted", "accepted"]
    before = sim.arrivals("bulk")
    watch = Watch()
    with pytest.raises(JournalError, match=r"nothing was sent\. Give it the same input, or begin a new journal"):
        await client.upload(
            "Diwali", CHANGES[change](), journal=path, on_unknown="resend", check_duplicate=True, on_progress=watch
        )
    assert sim.arrivals("bulk") == before
    assert watch.last.requests == 0
    assert await states(path) == journaled
    report = await client.upload("Diwali", rows(), journal=path, on_unknown="resend", check_duplicate=True)
    assert report.rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_rows_appended_to_a_short_last_batch_are_refused(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    await client.upload("Diwali", rows(), journal=path)
    with pytest.raises(JournalError, match="the input has changed in rows 2501 to 2601, which are journaled already"):
        await client.upload("Diwali", rows(ROWS + 1), journal=path)
    await each_once(sim, range(1, ROWS + 1))


async def test_rows_appended_behind_full_batches_are_sent_and_no_others(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    await client.upload("Diwali", rows(1000), journal=path)
    report = await client.upload("Diwali", rows(1300), journal=path)
    assert (report.rows_accepted, report.requests) == (1300, 1)
    await each_once(sim, range(1, 1301))


async def test_rows_in_another_slicing_or_kind_of_iterable_are_the_same_input(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    async def trickle() -> AsyncIterator[Row]:
        for row in rows():
            yield row

    await stop_after(client, path, 1000)
    assert (await client.upload("Diwali", trickle(), journal=path)).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


@pytest.mark.parametrize("change", ["campaign", "columns", "account"])
async def test_another_upload_is_refused_before_a_row_is_taken(
    client: OzonetelClient, connect: Connect, sim: Simulator, path: Path, change: str
) -> None:
    sim.campaign("Holi")
    await stop_after(client, path, 500)
    before, taken = sim.arrivals("bulk"), 0

    def counted() -> Iterator[Row]:
        nonlocal taken
        for row in rows():
            taken += 1
            yield row

    other = connect(base_url=sim.base_url.replace("127.0.0.1", "localhost")) if change == "account" else client
    options: dict[str, Any] = {"columns": ("PhoneNumber", "Name")} if change == "columns" else {}
    with pytest.raises(JournalError, match=f"is of another upload: its {change} is"):
        await other.upload("Holi" if change == "campaign" else "Diwali", counted(), journal=path, **options)
    assert (sim.arrivals("bulk"), taken) == (before, 0)


async def test_dates_are_judged_by_the_clock_of_the_first_run(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    source = [{**row, "ExpiryDate": "2099-12-31"} for row in rows()]
    source[4]["ExpiryDate"] = "2001-12-31"
    first = await stop_after(client, path, 500, source)
    assert [invalid.row for invalid in first.invalid_sample] == [5]
    with closing(sqlite3.connect(path)) as db:
        header = json.loads(db.execute("SELECT value FROM header").fetchone()[0])
        later = json.dumps(header | {"checked_at": "2100-01-01T00:00:00+05:30"})
        db.execute("UPDATE header SET value = ?", (later,))
        db.commit()
    with pytest.raises(JournalError, match=r"the input has changed|the input ends before"):
        await client.upload("Diwali", source, journal=path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE header SET value = ?", (json.dumps(header),))
        db.commit()
    report = await client.upload("Diwali", source, journal=path)
    assert (report.rows_accepted, report.rows_invalid) == (ROWS - 1, 1)


async def test_invalid_rows_are_counted_and_written_out_by_every_run(
    client: OzonetelClient, sim: Simulator, path: Path, tmp_path: Path
) -> None:
    bad = [1, 2, 499, 500, 501, 1234, 2599, 2600]
    source, out = rows(invalid=bad), tmp_path / "rejects.csv"
    await stop_after(client, path, 900, source, rejects=out)
    for _ in range(2):
        report = await client.upload("Diwali", source, journal=path, rejects=out)
        assert (report.rows_read, report.rows_invalid) == (ROWS, len(bad))
        with out.open(newline="", encoding="utf-8") as file:
            assert [int(row["rejected_row"]) for row in csv.DictReader(file)] == bad
    await each_once(sim, sorted(set(range(1, ROWS + 1)) - set(bad)))
    with closing(sqlite3.connect(path)) as db:
        journaled = [json.loads(row[0]) for row in db.execute("SELECT invalid FROM batches ORDER BY id")]
    assert list(chain(*journaled)) == bad[:-2], "the last two are behind the last batch"


# --- a journal that fails --------------------------------------------------------------------------------------------


def _directory(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("PhoneNumber,Name\n" * 1000)


def _database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (value)")


@pytest.mark.parametrize("make", [_directory, _text, _database])
async def test_a_path_that_is_no_journal_is_refused_before_anything_is_sent(
    client: OzonetelClient, sim: Simulator, path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    source = iter(rows())
    with pytest.raises(JournalError):
        await client.upload("Diwali", source, journal=path)
    assert next(source) == rows()[0], "a row was taken"
    with pytest.raises(JournalError):
        await client.upload("Diwali", source, journal=path / "no such folder" / "a.journal")
    assert sim.arrivals("bulk") == 0


async def test_two_uploads_on_one_journal_are_one_too_many(client: OzonetelClient, sim: Simulator, path: Path) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[Row]:
        started.set()
        await go_on.wait()
        for row in rows():
            yield row

    first = asyncio.create_task(client.upload("Diwali", slow(), journal=path))
    await started.wait()
    with pytest.raises(JournalError, match="in use by another process"):
        await client.upload("Diwali", rows(), journal=path)
    go_on.set()
    assert (await first).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_a_disk_that_fills_up_stops_the_upload_and_nothing_unwritten_is_sent(
    client: OzonetelClient, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = store_module.connect

    def small(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 20").fetchone()
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "connect", small)
        report = await client.upload("Diwali", rows(), journal=path, on_progress=Watch())
    assert report.stopped_by == "JournalError: journal a.journal: the disk is full; make room and run the same again"
    assert report.rows_accepted >= 500
    assert report.rows_unknown == 0
    assert report.rows_accepted + report.rows_not_sent == report.rows_read
    assert sim.writes_applied("bulk") == report.rows_accepted // 500
    journaled = await states(path)
    assert journaled.count("accepted") == sim.arrivals("bulk") <= len(journaled) < 6
    assert set(journaled) <= {"accepted", "pending"}
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_an_acceptance_that_cannot_be_written_is_reported_now_and_unknown_later(
    client: OzonetelClient, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(journal: Journal, index: int, transaction_id: str) -> None:
        raise JournalError("journal a.journal: the disk is full")

    with monkeypatch.context() as patch:
        patch.setitem(journaling._RECORDS, "accepted", full)
        report = await client.upload("Diwali", rows(), journal=path, concurrency=1)
    assert outcomes(report)[0] == "accepted"
    assert report.stopped_by == "JournalError: journal a.journal: the disk is full"
    assert sim.arrivals("bulk") == 1
    again = await client.upload("Diwali", rows(), journal=path)
    assert (again.rows_unknown, again.rows_accepted) == (500, ROWS - 500)
    await each_once(sim, range(1, ROWS + 1))


async def test_after_a_batch_that_could_not_be_written_no_later_one_is(
    client: OzonetelClient, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Journal.plan

    async def full(self: Journal, batch: Any, *arguments: Any, **options: Any) -> None:
        if batch.index == 1:
            raise JournalError("journal a.journal: the disk is full")
        await plan(self, batch, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "plan", full)
        report = await client.upload("Diwali", rows(), journal=path)
    assert report.stopped_by == "JournalError: journal a.journal: the disk is full"
    assert await states(path) == ["accepted"], "a gap would make the next run take the input for another one"
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_under_a_limit_only_what_has_its_turn_is_marked_as_sent(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(2, 30.0)))
    sim.inject("bulk", Fault.stall_after_apply(), times=None)
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path, concurrency=4))
    await sim.wait_for(lambda: sim.arrivals("bulk") == 2)
    await eventually(lambda: client.queues["bulk"].waiting == 2)
    assert await states(path) == ["sent", "sent", "pending", "pending"]
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await states(path) == ["unknown", "unknown", "pending", "pending"]


async def test_a_batch_that_cannot_be_marked_as_sent_is_not_sent(
    connect: Connect, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(1, 0.05), transit_margin=0.0))
    mark = Journal.mark

    async def full(self: Journal, index: int, state: Any, **options: Any) -> None:
        if index == 2 and state == "sent":
            raise JournalError("journal a.journal: the disk is full")
        await mark(self, index, state, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "mark", full)
        report = await client.upload("Diwali", rows(), journal=path, concurrency=1)
    assert outcomes(report)[:3] == ["accepted", "accepted", "not_sent"]
    assert sim.arrivals("bulk") == 2
    assert (await states(path))[:3] == ["accepted", "accepted", "pending"]
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS
    await each_once(sim, range(1, ROWS + 1))


async def test_a_journal_lets_go_of_its_file_whatever_ends_the_upload(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    def fail(report: UploadReport) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await client.upload("Diwali", rows(), journal=path, on_progress=fail)
    upload = asyncio.create_task(client.upload("Diwali", rows(), journal=path))
    await asyncio.sleep(0)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await eventually(
        lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and "upload" in repr(t)]
    )
    assert (await client.upload("Diwali", rows(), journal=path)).rows_accepted == ROWS


# --- at random -------------------------------------------------------------------------------------------------------

FAULTS = (
    Fault.reset_after_apply(),
    Fault.reset_before_apply(),
    Fault.status(502, apply=True),
    Fault.html(apply=True),
    Fault.truncated(apply=True),
    Fault.rate_refusal(),
    Fault.http_429(),
)


def _free(path: Path) -> bool:
    try:
        store_module.Lock(path).close()
    except JournalError:
        return False
    return True


async def _disturbed(client: OzonetelClient, rng: random.Random, watch: Watch, **options: Any) -> UploadReport | None:
    """A run that is cancelled, stopped or left alone, at random."""
    stop = asyncio.Event()
    upload = asyncio.create_task(client.upload("Diwali", rows(), stop=stop, on_progress=watch, **options))
    how = rng.choice(("cancel", "cancel twice", "stop", "report"))
    if how == "report":
        at = watch.calls + rng.randrange(8)
        watch.when, watch.then = (lambda _: watch.calls >= at), stop.set
    else:
        for _ in range(rng.choice((0, 1, 3, 10, 30, 100, 300))):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.01, 0.03)))
        if how == "stop":
            stop.set()
        else:
            upload.cancel()
            if how == "cancel twice":
                await asyncio.sleep(0)
                upload.cancel()
    with suppress(asyncio.CancelledError):
        return await upload
    return None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("on_unknown", ["hold", "resend"])
async def test_disturbed_at_random_and_continued_no_row_is_lost_or_doubled(
    connect: Connect, sim: Simulator, path: Path, seed: int, on_unknown: str
) -> None:
    rng = random.Random(f"{seed} {on_unknown}")
    client = connect(
        limits=fast_limits(bulk=RateLimit(WIDTH, 0.01), transit_margin=0.0), retry=RetryPolicy(rate_attempts=50)
    )
    for fault in FAULTS:
        sim.inject("bulk", fault, times=2, after=rng.randrange(12))
    options: dict[str, Any] = {"journal": path, "on_unknown": on_unknown, "check_duplicate": on_unknown == "resend"}
    for _ in range(4):
        watch = Watch()
        await _disturbed(client, rng, watch, **options)
        await eventually(lambda: _free(path))  # cancelled twice, an upload ends before its journal does
        assert watch.last.rows_in_flight == 0, "a row was taken and is not accounted for"
    sim.clear_faults()  # all that are left could strike one batch, which resending gives up in the end
    report = await client.upload("Diwali", rows(), **options)
    assert (report.rows_read, report.stopped_by) == (ROWS, None)
    assert report.rows_accepted + report.rows_unknown == ROWS
    await sim.settle()
    check_numbers(sim, report)
    assert report.rows_unknown == 0 or on_unknown == "hold"
    assert len(report.batches) == 6


# --- kill -9 ---------------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, json, sys
from ozonetel_async import Limits, OzonetelClient, RateLimit, RetryPolicy
url, journal, on_unknown, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
async def main():
    limits = Limits(bulk=RateLimit(3, 0.01), transit_margin=0.0)
    async with OzonetelClient(
        "sim-key-3f9a6c1e5b7d", "sim-user", base_url=url, limits=limits, retry=RetryPolicy(rate_attempts=50)
    ) as client:
        report = await client.upload(
            "Diwali",
            ({"PhoneNumber": f"9{n:09d}", "Name": f"Lead {n}"} for n in range(1, rows + 1)),
            journal=journal, on_unknown=on_unknown, check_duplicate=on_unknown == "resend",
        )
    print(json.dumps([report.rows_read, report.rows_accepted, report.rows_unknown, report.stopped_by]))
asyncio.run(main())
"""


class Life:
    """A process that uploads."""

    def __init__(self, sim: Simulator, path: Path, on_unknown: str) -> None:
        self.arguments = (sys.executable, "-c", WORKER, sim.base_url, str(path), on_unknown, str(ROWS))

    async def begin(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*self.arguments, stdout=asyncio.subprocess.PIPE)

    async def to_the_end(self) -> list[Any]:
        process = await self.begin()
        output, _ = await process.communicate()
        assert process.returncode == 0
        result: list[Any] = json.loads(output)
        return result


@pytest.mark.parametrize("on_unknown", ["hold", "resend"])
@pytest.mark.parametrize(
    ("arrived", "fault"),
    [
        (1, Fault.stall_after_apply()),
        (2, Fault.stall_before_apply()),
        (4, Fault.stall_after_apply()),
        (6, Fault.stall_after_apply()),
    ],
    ids=["first applied", "second not applied", "fourth applied", "last applied"],
)
async def test_killed_with_a_request_on_the_wire(
    sim: Simulator, path: Path, on_unknown: str, arrived: int, fault: Fault
) -> None:
    """The kill comes when the simulator has that many requests, of which the last one is not answered."""
    life = Life(sim, path, on_unknown)
    sim.inject("bulk", fault, after=arrived - 1, times=None)
    process = await life.begin()
    await sim.wait_for(lambda: sim.arrivals("bulk") >= arrived)
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await sim.wait_for(lambda: sim.in_flight == 0)
    sim.clear_faults()
    with closing(sqlite3.connect(path)) as db:
        under_way = db.execute("SELECT sum(rows) FROM batches WHERE state = 'sent'").fetchone()[0]
    assert 100 <= under_way <= 3 * 500
    read, accepted, unknown, stopped_by = await life.to_the_end()
    assert (read, accepted + unknown, stopped_by) == (ROWS, ROWS, None)
    assert unknown == (under_way if on_unknown == "hold" else 0)
    await sim.settle()
    held = {
        n
        for entry in await entries(path)
        if entry.state == "unknown"
        for n in range(entry.first_row, entry.last_row + 1)
    }
    counts = numbers(sim)
    assert len(held) == unknown
    assert [n for n in range(1, ROWS + 1) if n not in held and counts[phone(n)] != 1] == []
    assert max(counts.values()) == 1


async def test_while_a_process_uploads_another_is_kept_out(client: OzonetelClient, sim: Simulator, path: Path) -> None:
    sim.inject("bulk", Fault.stall_before_apply(), times=None)
    process = await Life(sim, path, "hold").begin()
    await sim.wait_for(lambda: sim.arrivals("bulk") >= 1)
    before = sim.arrivals("bulk")
    with pytest.raises(JournalError, match="in use by another process"):
        await client.upload("Diwali", rows(), journal=path)
    process.kill()
    await process.wait()
    sim.clear_faults()
    assert sim.arrivals("bulk") - before <= 2
    report = await client.upload("Diwali", rows(), journal=path)
    assert report.rows_accepted + report.rows_unknown == ROWS
