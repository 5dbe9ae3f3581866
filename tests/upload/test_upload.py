"""Uploads over real sockets: whatever goes wrong, each row is accounted for once, and the service's state agrees."""

from __future__ import annotations

import asyncio
import csv
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import (
    ConfigurationError,
    Lead,
    OzonetelClient,
    RateLimit,
    RetryPolicy,
    Timeouts,
    UploadReport,
    read_csv,
)
from ozonetel_async.journal.journal import Journal
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing import Fault, Simulator

from ..conftest import WINDOW, Connect, RawServer, eventually, fast_limits, never

pytestmark = pytest.mark.usefixtures("no_tasks_left")

UNLIMITED = RateLimit(10_000, 0.01)


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"limits": {"bulk": 0}}


@pytest.fixture
def client(connect: Connect) -> OzonetelClient:
    """A client for which the limit is out of the way; the exact one is tested elsewhere."""
    return connect(limits=fast_limits(bulk=UNLIMITED))


@pytest.fixture
def impatient(connect: Connect) -> OzonetelClient:
    """The same, for answers that never come."""
    return connect(limits=fast_limits(bulk=UNLIMITED), timeouts=Timeouts(total=0.5))


def phones(count: int, first: int = 0) -> list[str]:
    return [f"98{i:08d}" for i in range(first, first + count)]


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"PhoneNumber": phone, "Name": "Asha"} for phone in phones(count, first)]


def balanced(report: UploadReport) -> bool:
    return (
        report.rows_read
        == report.rows_accepted + report.rows_invalid + report.rows_refused + report.rows_not_sent + report.rows_unknown
        == sum(batch.rows for batch in report.batches) + report.rows_invalid
    )


class Watch:
    """An ``on_progress`` that checks the report at each call and remembers the last one."""

    def __init__(self) -> None:
        self.calls = 0
        self.report: UploadReport | None = None
        self.then: Callable[[], None] = lambda: None

    def __call__(self, report: UploadReport) -> None:
        assert balanced(report), report
        assert report.rows_in_flight >= 0
        self.calls += 1
        self.report = report
        self.then()


def agree(report: UploadReport, sim: Simulator) -> None:
    """The final report is complete, and what it says of the service is what the service knows."""
    assert balanced(report)
    assert report.rows_in_flight == 0
    assert [batch.index for batch in report.batches] == list(range(len(report.batches)))
    accepted = [batch for batch in report.batches if batch.outcome == "accepted"]
    for batch in accepted:
        assert batch.transaction_id is not None
        table = sim.jobs[batch.transaction_id].table
        assert table is not None
        assert len(table.data) == batch.rows
    assert report.rows_accepted <= sim.rows_applied("bulk") <= report.rows_accepted + report.rows_unknown
    assert report.requests == sim.arrivals("bulk")


# -- inputs -------------------------------------------------------------------------------------------------------


async def generator(count: int) -> AsyncIterator[Lead]:
    for phone in phones(count):
        yield Lead(phone, name="Asha")


INPUTS: dict[str, Callable[[], Any]] = {
    "list of mappings": lambda: rows(1_234),
    "generator of leads": lambda: (Lead(phone, name="Asha") for phone in phones(1_234)),
    "async generator": lambda: generator(1_234),
    "tuple of lists": lambda: tuple([phone, "Asha"] for phone in phones(1_234)),
}


@pytest.mark.parametrize("kind", INPUTS)
async def test_every_kind_of_input_arrives_whole(sim: Simulator, client: OzonetelClient, kind: str) -> None:
    watch = Watch()
    columns = ("PhoneNumber", "Name") if "lists" in kind else None
    report = await client.upload("Diwali", INPUTS[kind](), columns=columns, on_progress=watch)
    agree(report, sim)
    await sim.settle()
    assert (report.rows_accepted, report.requests, report.stopped_by) == (1_234, 3, None)
    assert [(batch.first_row, batch.last_row) for batch in report.batches] == [(1, 500), (501, 1000), (1001, 1234)]
    assert dict(sim.campaigns["Diwali"].numbers) == dict.fromkeys(phones(1_234), 1)
    assert {lead.name for lead in sim.campaigns["Diwali"].leads} == {"Asha"}
    assert watch.report is report
    assert watch.calls == 1 + 3 + 1


async def test_a_csv_file_arrives_whole(sim: Simulator, client: OzonetelClient, tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("Mobile", "Name", "City"))
        writer.writerows((phone, "Asha", 'Pune, "West"') for phone in phones(700))
    report = await client.upload("Diwali", read_csv(path, columns={"Mobile": "PhoneNumber"}))
    agree(report, sim)
    await sim.settle()
    assert report.rows_accepted == 700
    assert sim.campaigns["Diwali"].leads[699].extra == {"City": 'Pune, "West"'}


async def test_nothing_to_upload(sim: Simulator, client: OzonetelClient) -> None:
    report = await client.upload("Diwali", [])
    assert (report.rows_read, report.batches, report.requests) == (0, [], 0)
    assert not sim.log


async def test_the_limit_is_kept_and_used(sim: Simulator, connect: Connect) -> None:
    async with Simulator(window=WINDOW) as exact:
        report = await connect(base_url=exact.base_url).upload("Diwali", rows(500 * 23))
        agree(report, exact)
        assert (exact.refusals("bulk"), exact.worst_window("bulk"), report.worst_window) == (0, 5, 5)


# -- invalid rows -------------------------------------------------------------------------------------------------


async def test_invalid_rows_are_counted_sampled_and_written(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    given = rows(1_300)
    bad = {0: "x", 7: "", 499: "12", 500: "98 765", 1_298: "+", 1_299: "9" * 17} | {900 + i: "no" for i in range(30)}
    for index, phone in bad.items():
        given[index]["PhoneNumber"] = phone
    path = tmp_path / "rejects.csv"
    report = await client.upload("Diwali", given, rejects=path, on_progress=Watch())
    agree(report, sim)
    await sim.settle()
    assert (report.rows_invalid, report.rows_accepted) == (len(bad), 1_300 - len(bad))
    # The first 20, and the only one that has too many digits.
    assert [invalid.row for invalid in report.invalid_sample] == [*sorted(index + 1 for index in bad)[:20], 1_300]
    with path.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    told = {int(row["rejected_row"]): row["PhoneNumber"] for row in written}
    assert told == {index + 1: phone for index, phone in bad.items()}
    assert {row["rejected_column"] for row in written} == {"PhoneNumber"}
    assert all(row["rejected_reason"] for row in written)
    good = [row["PhoneNumber"] for index, row in enumerate(given) if index not in bad]
    assert [lead.phone for lead in sim.campaigns["Diwali"].leads] == good


class Textless:
    def __str__(self) -> str:
        raise RuntimeError


WRONG_IN_ODD_WAYS = [
    ({"PhoneNumber": "\ud83d"}, "\\ud83d"),
    ({"PhoneNumber": 10**5_000}, "int"),
    ({"PhoneNumber": Textless()}, "Textless"),
    ({"PhoneNumber": None}, ""),
    (Lead("919812345678", extra=["Pune"]), "919812345678"),  # type: ignore[arg-type]
    (Lead("\udfff", extra=None), "\\udfff"),  # type: ignore[arg-type]
    (7, "int"),
]


@pytest.mark.parametrize(("row", "written"), WRONG_IN_ODD_WAYS)
async def test_no_invalid_row_is_too_odd_for_the_rejects(
    client: OzonetelClient, tmp_path: Path, row: object, written: str
) -> None:
    path = tmp_path / "rejects.csv"
    given: list[Any] = [*rows(2), row, *rows(1)]
    report = await client.upload("Diwali", given, rejects=path)
    assert (report.rows_accepted, report.rows_invalid, report.stopped_by) == (3, 1, None)
    with path.open(encoding="utf-8", newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["rejected_row"], line["PhoneNumber"]) == ("3", written)


async def test_only_invalid_rows_send_nothing(sim: Simulator, client: OzonetelClient) -> None:
    report = await client.upload("Diwali", [{"PhoneNumber": "x"}] * 1_234, on_progress=Watch())
    agree(report, sim)
    assert (report.rows_invalid, report.rows_read, sim.arrivals("bulk")) == (1_234, 1_234, 0)


async def test_rejects_that_cannot_be_written_end_the_call_before_it_begins(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="rejects"):
        await client.upload("Diwali", rows(1), rejects=tmp_path / "nowhere" / "rejects.csv")
    assert not sim.log


@pytest.mark.parametrize("path", [True, 9_999, ["rejects.csv"]])
async def test_rejects_that_are_no_path(sim: Simulator, client: OzonetelClient, path: Any) -> None:
    with pytest.raises(ConfigurationError, match="rejects must be the path of a file"):
        await client.upload("Diwali", rows(1), rejects=path)
    assert not sim.log


async def test_rejects_do_not_overwrite_the_input_under_another_name(client: OzonetelClient, tmp_path: Path) -> None:
    file, linked = tmp_path / "leads.csv", tmp_path / "rejects.csv"
    file.write_text("PhoneNumber\n9812345678\n")
    linked.hardlink_to(file)
    with pytest.raises(ConfigurationError, match="this is the input itself"):
        await client.upload("Diwali", read_csv(file), rejects=linked)
    assert file.read_text() == "PhoneNumber\n9812345678\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize("bad", [1, 900])
async def test_a_disk_full_of_rejects_ends_the_upload_with_every_row_accounted_for(
    sim: Simulator, client: OzonetelClient, bad: int
) -> None:
    given = [*rows(400), *([{"PhoneNumber": "x"}] * bad), *rows(1_700)]
    report = await client.upload("Diwali", given, rejects="/dev/full", on_progress=Watch())
    agree(report, sim)
    assert str(report.stopped_by).startswith("rejects: cannot write the file")
    assert report.rows_invalid > 0


# -- refusals and unknown outcomes --------------------------------------------------------------------------------


async def test_an_unknown_campaign_stops_the_upload(sim: Simulator, client: OzonetelClient) -> None:
    watch = Watch()
    report = await client.upload("Holi", rows(50_000), concurrency=2, on_progress=watch)
    agree(report, sim)
    assert str(report.stopped_by).startswith("CampaignError")
    assert (report.rows_accepted, report.rows_unknown) == (0, 0)
    assert sim.arrivals("bulk") <= 3
    assert {batch.outcome for batch in report.batches} <= {"refused", "not_sent"}
    assert report.rows_read < 5_000


async def test_wrong_credentials_stop_the_upload(sim: Simulator, connect: Connect) -> None:
    report = await connect(api_key="not-the-key").upload("Diwali", rows(5_000), concurrency=1)
    agree(report, sim)
    assert str(report.stopped_by).startswith("AuthenticationError")
    assert sim.arrivals("bulk") <= 2


async def test_a_refusal_of_one_batch_is_no_reason_to_stop(sim: Simulator, client: OzonetelClient) -> None:
    refusal = Fault.status(
        200,
        apply=False,
        body='{"status":"failure","message":"Please provide valid data"}',
        content_type="application/json",
    )
    sim.inject("bulk", refusal, after=1)
    report = await client.upload("Diwali", rows(2_000), concurrency=1, on_progress=Watch())
    agree(report, sim)
    assert [batch.outcome for batch in report.batches] == ["accepted", "refused", "accepted", "accepted"]
    assert "valid data" in str(report.batches[1].error)


async def test_unknown_batches_are_held(sim: Simulator, impatient: OzonetelClient) -> None:
    sim.inject("bulk", Fault.reset_after_apply())
    sim.inject("bulk", Fault.stall_before_apply())
    report = await impatient.upload("Diwali", rows(2_500), concurrency=1, check_duplicate=True, on_progress=Watch())
    agree(report, sim)
    assert [batch.outcome for batch in report.batches] == ["unknown"] * 2 + ["accepted"] * 3
    assert (sim.arrivals("bulk"), sim.rows_applied("bulk")) == (5, 2_000)


@pytest.mark.parametrize("fault", [Fault.reset_after_apply(), Fault.reset_before_apply(), Fault.status(502)])
async def test_unknown_batches_are_sent_again_when_asked_to(
    sim: Simulator, client: OzonetelClient, fault: Fault
) -> None:
    sim.inject("bulk", fault, after=1, times=3)
    report = await client.upload(
        "Diwali", rows(2_000), check_duplicate=True, on_unknown="resend", concurrency=2, on_progress=Watch()
    )
    await sim.settle()
    assert (report.rows_accepted, report.requests, sim.arrivals("bulk")) == (2_000, 7, 7)
    assert dict(sim.campaigns["Diwali"].numbers) == dict.fromkeys(phones(2_000), 1)


async def test_a_batch_that_stays_unknown_is_given_up_as_unknown(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("bulk", Fault.reset_after_apply(), times=3)
    sim.inject("bulk", Fault.http_429("3600"), times=1)
    report = await client.upload("Diwali", rows(400), check_duplicate=True, on_unknown="resend")
    assert (report.rows_unknown, report.rows_refused) == (400, 0)
    assert balanced(report)


async def test_after_ten_unknown_batches_in_a_row_no_more_are_risked(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("bulk", Fault.status(502), times=None, after=2)
    report = await client.upload("Diwali", rows(500 * 40), concurrency=1, on_progress=Watch())
    agree(report, sim)
    assert (sim.arrivals("bulk"), report.rows_unknown) == (12, 5_000)
    assert "10 batches in a row" in str(report.stopped_by)


async def test_now_and_then_an_unknown_batch_does_not_stop_the_upload(sim: Simulator, client: OzonetelClient) -> None:
    for after in range(0, 40, 2):
        sim.inject("bulk", Fault.status(502), after=after)
    report = await client.upload("Diwali", rows(500 * 40), concurrency=1, on_progress=Watch())
    agree(report, sim)
    assert (report.rows_unknown, report.stopped_by) == (10_000, None)


async def journaled(path: Path) -> list[str]:
    """The states of the batches in a journal, as another process sees them."""
    journal = await Journal.attach(path)
    try:
        return [entry.state for entry in await journal.batches()]
    finally:
        await journal.close()


def copy_of(path: Path) -> Path:
    """The journal as a process that dies right now would leave it."""
    copy = path.with_name("left-behind.journal")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_rate_refusal_of_what_is_sent_again_does_not_make_it_safe_to_send(
    sim: Simulator, client: OzonetelClient, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "a.journal"
    sim.inject("bulk", Fault.reset_after_apply())
    sim.inject("bulk", Fault.http_429("60"))
    assert (await client.upload("Diwali", rows(400), journal=path)).rows_unknown == 400
    stop = asyncio.Event()
    again = client.upload("Diwali", rows(400), journal=path, check_duplicate=True, on_unknown="resend", stop=stop)
    upload = asyncio.create_task(again)
    await eventually(lambda: client.queues["bulk"].refused and client.queues["bulk"].waiting)
    left = await journaled(path)
    copy = copy_of(path)
    if how == "stop":
        stop.set()
        assert (await upload).rows_unknown == 400
    else:
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    assert left != ["pending"], "a run that dies here would have the next one send the batch"
    assert await journaled(path) == ["unknown"]
    for journal in (path, copy):
        held = await client.upload("Diwali", rows(400), journal=journal)
        assert (held.rows_unknown, await journaled(journal)) == (400, ["unknown"])
    assert sim.arrivals("bulk") == 2


async def test_a_batch_about_to_be_sent_when_another_is_refused_for_good_is_not_sent(
    client: OzonetelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes between the making of the second batch's task and that task's first turn."""
    loop, sent, refused = asyncio.get_running_loop(), list[Request](), asyncio.Event()
    on_wire = asyncio.Event()

    async def refuse(_: Transport, request: Request) -> Response:
        sent.append(request)
        on_wire.set()
        await refused.wait()
        return Response(200, b'{"status":"failure","message":"Invalid Campaign Name"}', None)

    async def given() -> AsyncIterator[dict[str, str]]:
        for row in rows(900):
            yield row
        await on_wire.wait()
        # With the loop's next turn, in which the upload makes a batch of the last rows before the first one's task
        # gets to read its answer.
        loop.call_soon(refused.set)

    monkeypatch.setattr(Transport, "send", refuse)
    report = await client.upload("Diwali", given(), concurrency=2, on_progress=Watch())
    assert len(sent) == 1
    assert str(report.stopped_by).startswith("CampaignError")
    assert [(batch.outcome, batch.rows) for batch in report.batches] == [("refused", 500), ("not_sent", 400)]
    assert report.requests == 1


async def test_a_service_that_is_down_for_a_while_is_waited_for(sim: Simulator, connect: Connect) -> None:
    patient = RetryPolicy(connect_attempts=10_000, backoff=0.002, max_backoff=0.004)
    port = int(sim.base_url.rpartition(":")[2])
    client = connect(limits=fast_limits(bulk=UNLIMITED), retry=patient)
    watch = Watch()
    down = asyncio.Event()

    async def endless() -> AsyncIterator[dict[str, str]]:
        for row in rows(6_000):
            yield row
            if row["PhoneNumber"] == phones(1, 2_000)[0]:
                await eventually(lambda: not client.queues["bulk"].in_flight)
                await sim.close()
                down.set()

    upload = asyncio.create_task(client.upload("Diwali", endless(), concurrency=2, on_progress=watch))
    await down.wait()
    assert watch.report is not None
    await eventually(lambda: client.queues["bulk"].in_flight)
    async with Simulator(port=port, limits={"bulk": 0}) as again:
        report = await upload
        assert report.rows_accepted == 6_000
        assert sim.rows_applied("bulk") + again.rows_applied("bulk") == 6_000
        assert report.requests == sim.arrivals("bulk") + again.arrivals("bulk") == 12


async def test_a_service_that_stays_down_stops_the_upload(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(bulk=UNLIMITED))
    await sim.close()
    report = await client.upload("Diwali", rows(5_000), concurrency=2, on_progress=Watch())
    agree(report, sim)
    assert str(report.stopped_by).startswith("ConnectError")
    assert {batch.outcome for batch in report.batches} == {"not_sent"}
    assert report.requests == 0


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_faults_loses_and_doubles_nobody(sim: Simulator, impatient: OzonetelClient, seed: int) -> None:
    faults = [
        Fault.reset_after_apply(),
        Fault.reset_before_apply(),
        Fault.stall_after_apply(),
        Fault.status(503),
        Fault.html(),
        Fault.truncated(),
        Fault.rate_refusal(),
        Fault.http_429("0.001"),
    ]
    for fault in faults:
        sim.inject("bulk", fault, times=None, probability=0.05)
    given = rows(10_000)
    for index in random.Random(seed).sample(range(10_000), 500):
        given[index]["Name"] = "?!"
    report = await impatient.upload("Diwali", given, concurrency=1 + seed * 3, on_progress=Watch())
    agree(report, sim)
    await sim.settle()
    numbers = sim.campaigns["Diwali"].numbers
    assert max(numbers.values()) == 1
    for batch in report.batches:
        stored = sum(numbers[row["PhoneNumber"]] for row in given[batch.first_row - 1 : batch.last_row])
        assert stored in {"accepted": (batch.rows,), "unknown": (0, batch.rows)}.get(batch.outcome, (0,))


# -- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_rows_are_pulled_as_they_are_needed(
    sim: Simulator, client: OzonetelClient, in_flight: int, asynchronous: bool
) -> None:
    watch = Watch()
    ahead = 0

    def lazily() -> Iterator[dict[str, str]]:
        nonlocal ahead
        for number, row in enumerate(rows(8_000), 1):
            ahead = max(ahead, number - (watch.report.rows_read if watch.report else 0))
            yield row

    async def lazily_too() -> AsyncIterator[dict[str, str]]:
        for row in lazily():
            yield row

    await client.upload("Diwali", lazily_too() if asynchronous else lazily(), concurrency=in_flight, on_progress=watch)
    # What is in flight, the batch in the making, and one slice of the input.
    assert ahead <= (in_flight + 1) * 500 + 400


async def test_no_more_requests_than_asked_for_are_under_way(connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, limits=fast_limits(bulk=UNLIMITED), timeouts=Timeouts(total=0.4))
        report = await client.upload("Diwali", rows(500 * 40), concurrency=3)
        assert (len(server.hits), server.connections) == (12, 12)
        assert client.queues["bulk"].worst_window <= 3
        assert report.stopped_by is not None


# -- inputs that break --------------------------------------------------------------------------------------------


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1, 99, 100, 499, 500, 1_777])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_came_before_a_broken_row_is_sent(
    sim: Simulator, client: OzonetelClient, at: int, asynchronous: bool
) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield from rows(at)
        raise BrokenError

    async def broken_too() -> AsyncIterator[dict[str, str]]:
        for row in broken():
            yield row

    watch = Watch()
    with pytest.raises(BrokenError) as caught:
        await client.upload("Diwali", broken_too() if asynchronous else broken(), on_progress=watch)
    assert watch.report is not None
    agree(watch.report, sim)
    assert (watch.report.rows_accepted, sim.rows_applied("bulk")) == (at, at)
    assert watch.report.stopped_by == "BrokenError in the input"
    assert f"{at:,} accepted" in caught.value.__notes__[0]


async def test_the_iterator_that_the_caller_made_stays_usable(sim: Simulator, client: OzonetelClient) -> None:
    lines = iter(rows(20_000))
    report = await client.upload("Holi", lines)
    assert len(list(lines)) == 20_000 - report.rows_read


# -- the caller's on_progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", range(1, 9))
async def test_an_error_of_on_progress_ends_the_upload_with_every_row_accounted_for(
    sim: Simulator, client: OzonetelClient, call: int
) -> None:
    seen: list[UploadReport] = []

    def failing(report: UploadReport) -> None:
        seen.append(report)
        if len(seen) == call:
            raise BrokenError

    with pytest.raises(BrokenError):
        await client.upload("Diwali", rows(3_000), concurrency=2, on_progress=failing)
    assert len(seen) == call
    agree(seen[-1], sim)


async def test_an_error_of_on_progress_after_the_end_has_begun_hides_nothing(
    sim: Simulator, client: OzonetelClient
) -> None:
    sim.inject("bulk", Fault.stall_after_apply(), after=2, times=None)
    seen: list[UploadReport] = []

    def failing(report: UploadReport) -> None:
        seen.append(report)
        if report.stopped_by:
            raise BrokenError

    upload = asyncio.create_task(client.upload("Diwali", rows(5_000), concurrency=2, on_progress=failing))
    await sim.wait_for(lambda: sim.arrivals("bulk") >= 4)
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    agree(seen[-1], sim)
    assert seen[-1].rows_unknown == 1_000


async def test_an_error_of_on_progress_on_a_refused_upload(sim: Simulator, client: OzonetelClient) -> None:
    seen: list[UploadReport] = []

    def failing(report: UploadReport) -> None:
        seen.append(report)
        if report.stopped_by and len(report.batches) > 2:
            raise BrokenError

    with pytest.raises(BrokenError):
        await client.upload("Holi", rows(5_000), concurrency=2, on_progress=failing)
    agree(seen[-1], sim)


# -- stopping and cancelling --------------------------------------------------------------------------------------


async def test_stop_finishes_what_is_on_the_wire_and_begins_nothing(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("bulk", Fault.slow(0.005), times=None)
    stop = asyncio.Event()
    watch = Watch()
    upload = asyncio.create_task(client.upload("Diwali", rows(20_000), concurrency=3, on_progress=watch, stop=stop))
    await sim.wait_for(lambda: sim.arrivals("bulk") >= 4)
    stop.set()
    report = await upload
    agree(report, sim)
    assert report.stopped_by == "asked to stop"
    assert report.rows_unknown == 0
    assert sim.rows_applied("bulk") == report.rows_accepted >= 1_500


@pytest.mark.parametrize("turns", range(12))
async def test_stop_at_any_turn_of_the_loop_keeps_the_balance(
    sim: Simulator, client: OzonetelClient, turns: int
) -> None:
    stop = asyncio.Event()
    upload = asyncio.create_task(client.upload("Diwali", rows(3_000), concurrency=3, on_progress=Watch(), stop=stop))
    for _ in range(turns):
        await asyncio.sleep(0)
    stop.set()
    agree(await upload, sim)


@pytest.mark.parametrize("how", ["stop", "refusal"])
async def test_an_input_that_has_no_rows_at_the_moment_does_not_hold_up_the_end(
    sim: Simulator, client: OzonetelClient, how: str
) -> None:
    stop = asyncio.Event()
    closed = asyncio.Event()

    async def trickle() -> AsyncIterator[dict[str, str]]:
        try:
            for row in rows(550):
                yield row
            await asyncio.Event().wait()
        finally:
            closed.set()

    campaign = "Holi" if how == "refusal" else "Diwali"
    upload = asyncio.create_task(client.upload(campaign, trickle(), on_progress=Watch(), stop=stop))
    if how == "stop":
        await sim.wait_for(lambda: sim.arrivals("bulk") == 1 and not sim.in_flight)
        stop.set()
    async with asyncio.timeout(5):
        report = await upload
    agree(report, sim)
    assert closed.is_set()
    assert report.rows_read == 550
    assert report.rows_accepted == (500 if how == "stop" else 0)


MOMENTS = 60


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_at_random_moments_the_report_holds_what_the_service_knows(
    sim: Simulator, client: OzonetelClient, twice: bool
) -> None:
    chance = random.Random(7 + twice)
    seen = 0
    for moment in range(MOMENTS):
        sim.clear_faults()
        if chance.random() < 0.5:
            sim.inject("bulk", Fault.slow(0.001), times=None, probability=0.5)
        campaign = f"c{moment}"
        sim.campaign(campaign)
        watch = Watch()
        given = rows(2_500, moment * 10_000)
        given[17]["Name"] = "?!"
        upload = asyncio.create_task(
            client.upload(campaign, given, concurrency=chance.randint(1, 4), on_progress=watch)
        )
        for _ in range(chance.randint(0, 150)):
            await asyncio.sleep(0)
        finished = upload.done()
        upload.cancel()
        if twice:
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            upload.cancel()
        (outcome,) = await asyncio.gather(upload, return_exceptions=True)
        if watch.report is None:
            continue
        await sim.wait_for(lambda: not sim.in_flight and not sim.busy)
        report, applied = watch.report, sim.campaigns[campaign].stored
        seen += applied
        assert balanced(report)
        if twice and not finished:
            continue
        assert report.rows_in_flight == 0
        assert finished is (report.stopped_by is None)
        assert finished or isinstance(outcome, asyncio.CancelledError)
        assert report.rows_accepted <= applied <= report.rows_accepted + report.rows_unknown
        assert set(sim.campaigns[campaign].numbers.values()) <= {1}
        for batch in report.batches:
            known = batch.transaction_id in sim.jobs
            assert known is (batch.outcome == "accepted")
    assert seen > 0


async def test_a_cancelled_upload_frees_its_places_and_leaves_the_client_in_order(
    sim: Simulator, connect: Connect
) -> None:
    client = connect()
    sim.inject("bulk", Fault.stall_after_apply(), times=3)
    watch = Watch()
    upload = asyncio.create_task(client.upload("Diwali", rows(5_000), on_progress=watch))
    await sim.wait_for(lambda: sim.arrivals("bulk") == 5)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await upload
    assert "upload so far: Diwali" in caught.value.__notes__[0]
    queue = client.queues["bulk"]
    assert (queue.in_flight, queue.waiting) == (0, 0)
    receipt = await client.add_batch("Diwali", [Lead("9812345678")])
    assert receipt.rows == 1


async def test_a_task_of_an_upload_that_never_ran_is_accounted_for(sim: Simulator, client: OzonetelClient) -> None:
    """An input that breaks hard right after a batch was begun, before that batch's task had its first turn."""

    class HardError(BaseException):
        pass

    def breaking() -> Iterator[dict[str, str]]:
        yield from rows(500)
        raise HardError

    watch = Watch()
    with pytest.raises(HardError):
        await client.upload("Diwali", breaking(), on_progress=watch)
    assert watch.report is not None
    agree(watch.report, sim)
    assert watch.report.rows_read == 500


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_rows_taken_and_in_no_batch_yet_are_in_the_report_of_a_cancelled_upload(
    sim: Simulator, client: OzonetelClient, kind: str
) -> None:
    taken = 0

    def given() -> Iterator[dict[str, str]]:
        nonlocal taken
        upload = asyncio.current_task()
        assert upload is not None
        for row in rows(10_000):
            taken += 1
            if taken == 30:
                row["PhoneNumber"] = "none"
            if taken == 100:
                upload.cancel()
            yield row

    async def given_async() -> AsyncIterator[dict[str, str]]:
        for row in given():
            yield row

    watch = Watch()
    with pytest.raises(asyncio.CancelledError):
        await client.upload("Diwali", given() if kind == "sync" else given_async(), on_progress=watch)
    report = watch.report
    assert report is not None
    agree(report, sim)
    assert report.rows_read == taken >= 100
    assert (report.rows_invalid, report.rows_not_sent, sim.arrivals("bulk")) == (1, taken - 1, 0)


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"on_unknown": "resend"},
        {"on_unknown": "resend", "check_duplicate": False},
        {"on_unknown": "retry", "check_duplicate": True},
        {"concurrency": 0},
        {"concurrency": float("nan")},
        {"concurrency": float("inf")},
        {"queue_priority": "low"},
        {"check_duplicate": True, "is_delete": True},
        {"columns": ("Mobile",)},
        {"callback_url": "not a url"},
        {"on_progress": asyncio.sleep},
    ],
    ids=lambda options: ",".join(options),
)
async def test_wrong_options_are_told_before_a_row_is_taken(
    sim: Simulator, client: OzonetelClient, options: dict[str, Any]
) -> None:
    lines = iter(rows(1))
    with pytest.raises(ConfigurationError):
        await client.upload("Diwali", lines, **options)
    assert len(list(lines)) == 1
    assert not sim.log


async def test_an_upload_does_not_turn_itself_away(connect: Connect, sim: Simulator) -> None:
    client = connect(limits=fast_limits(max_waiting=1))
    report = await client.upload("Diwali", rows(4_000))
    agree(report, sim)
    assert (report.rows_accepted, report.stopped_by) == (4_000, None)


async def test_a_queue_that_others_fill_is_waited_for(connect: Connect, sim: Simulator) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(1, WINDOW), max_waiting=1))
    await client.add_batch("Diwali", rows(1, 9_000))
    other = asyncio.create_task(client.add_batch("Diwali", rows(1, 9_001)))
    await eventually(lambda: client.queues["bulk"].waiting)
    report = await client.upload("Diwali", rows(500))
    assert (report.rows_accepted, report.stopped_by) == (500, None)
    await other


async def test_options_travel_with_every_batch(sim: Simulator, client: OzonetelClient) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    leads = [Lead(phone, expiry=tomorrow.date()) for phone in phones(600)]
    await client.upload("Diwali", leads, check_duplicate=True, action="start", callback_url="http://127.0.0.1:9/cb")
    await sim.settle()
    assert len(sim.requests("bulk")) == 2
    for request in sim.requests("bulk"):
        assert request.params["checkDuplicate"] == "true"
        assert request.params["action"] == "start"
        assert request.params["callBackUrl"] == "http://127.0.0.1:9/cb"


class AsyncWatch:
    """Does not show that it is a coroutine function before it is called."""

    async def __call__(self, report: UploadReport) -> None:
        raise AssertionError("never awaited")


async def test_an_on_progress_that_returns_a_coroutine_is_refused_before_anything_is_sent(
    client: OzonetelClient, sim: Simulator
) -> None:
    with pytest.raises(ConfigurationError, match="returns a coroutine"):
        await client.upload("Diwali", rows(600), on_progress=AsyncWatch())
    assert not sim.log
