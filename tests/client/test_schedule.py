"""Scheduling: every row gets its own result, whatever becomes of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ozonetel_async import (
    CampaignError,
    ConfigurationError,
    Lead,
    OzonetelClient,
    ScheduleReport,
    ScheduleResult,
    read_csv,
)
from ozonetel_async.client.schedule import read_rows
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Connect, RawServer, eventually, never

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def leads(count: int) -> list[Lead]:
    return [Lead(f"98{i:08d}", scheduled_time=TOMORROW) for i in range(count)]


def outcomes(report: ScheduleReport) -> list[str]:
    assert [result.row for result in report.results] == list(range(1, len(report.results) + 1))
    return [result.outcome for result in report.results]


@pytest.mark.parametrize("legacy", [False, True])
async def test_rows_are_cut_into_requests_of_100(sim: Simulator, client: OzonetelClient, legacy: bool) -> None:
    endpoint = "legacy_schedule" if legacy else "schedule"
    report = await (client.legacy if legacy else client).schedule_leads("Diwali", leads(250))
    assert outcomes(report) == ["accepted"] * 250
    assert sorted(request.applied for request in sim.requests(endpoint)) == [50, 100, 100]
    (when,) = {lead.scheduled_for for lead in sim.campaigns["Diwali"].leads}
    assert when == TOMORROW.astimezone(ZoneInfo("Asia/Kolkata")).strftime("%Y-%m-%d %H:%M:%S")


async def test_bad_rows_are_left_out_and_keep_their_numbers(sim: Simulator, client: OzonetelClient) -> None:
    rows = leads(230)
    rows[0] = Lead("x", scheduled_time=TOMORROW)
    rows[120] = Lead("9812345678")
    rows[229] = Lead("9812345678", scheduled_time=datetime.now(UTC) - timedelta(days=1))
    report = await client.schedule_leads("Diwali", rows)
    invalid = [result.row for result in report.results if result.outcome == "invalid"]
    assert invalid == [1, 121, 230]
    assert (report.count("accepted"), sim.rows_applied("schedule")) == (227, 227)


async def test_no_rows_send_nothing(sim: Simulator, client: OzonetelClient) -> None:
    assert (await client.schedule_leads("Diwali", [])).results == ()
    assert outcomes(await client.schedule_leads("Diwali", [Lead("x")])) == ["invalid"]
    assert not sim.log


async def test_a_failed_request_fails_its_own_rows(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("schedule", Fault.reset_after_apply())
    sim.inject("schedule", Fault.status(200, apply=False, body='{"status":"error","message":"Wrong Date format"}'))
    report = await client.schedule_leads("Diwali", leads(350))
    counts = {outcome: outcomes(report).count(outcome) for outcome in ("accepted", "refused", "unknown")}
    assert (counts["refused"], counts["accepted"] + counts["unknown"]) in ((100, 250), (50, 300))
    assert sim.rows_applied("schedule") == counts["accepted"] + counts["unknown"]
    assert sim.arrivals("schedule") == 4


async def test_an_unknown_campaign_refuses_every_row(sim: Simulator, client: OzonetelClient) -> None:
    report = await client.schedule_leads("Holi", leads(3))
    assert outcomes(report) == ["refused"] * 3
    assert report.results[0].message.startswith(CampaignError.__name__)


async def test_an_answer_that_lists_only_some_rows_leaves_the_others_unknown(
    sim: Simulator, client: OzonetelClient
) -> None:
    body = (
        '{"status":"success","message":[{"index":"2","Response":"success","msg":"Data updated successfully"},'
        '{"index":"0","Response":"error","msg":"Wrong Date format"}]}'
    )
    sim.inject("schedule", Fault.status(200, body=body, content_type="application/json"))
    assert outcomes(await client.schedule_leads("Diwali", leads(3))) == ["refused", "unknown", "accepted"]


@pytest.mark.parametrize("index", ["7", "-1", "²", "99999999999", None, {}])
def test_an_index_that_is_none_touches_no_other_row(index: object) -> None:
    results = read_rows([4, 5], [{"index": index, "Response": "success", "msg": "Data updated successfully"}])
    assert [(result.row, result.outcome) for result in results] == [(4, "unknown"), (5, "unknown")]


def test_without_an_index_places_tell_the_rows_only_when_no_answer_is_missing() -> None:
    answers = [{"Response": "success", "msg": "Data updated successfully"}] * 2
    assert [result.outcome for result in read_rows([4, 5], answers)] == ["accepted"] * 2
    assert [result.outcome for result in read_rows([4, 5, 6], answers)] == ["unknown"] * 3


async def test_a_file_that_breaks_off_ends_the_run_with_its_report(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    when = TOMORROW.strftime("%Y-%m-%d %H:%M:%S")
    good = "".join(f"98{i:08d},{when}\n" for i in range(150))
    path = tmp_path / "calls.csv"
    path.write_text(f'PhoneNumber,ScheduledTime\n{good}9812345678,"x"x\n')
    report = await client.schedule_leads("Diwali", read_csv(path))
    assert outcomes(report) == ["accepted"] * 150
    assert str(report.stopped_by).startswith("InputError")
    assert "line 152" in str(report.stopped_by)
    assert sim.rows_applied("schedule") == 150


async def test_rows_that_were_never_sent_are_told_from_refused_ones(connect: Connect) -> None:
    async with connect(base_url="http://127.0.0.1:9") as client:
        report = await client.schedule_leads("Diwali", leads(150))
    assert outcomes(report) == ["not_sent"] * 150
    assert str(report.stopped_by).startswith("ConnectError")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_broken_input_is_raised_after_its_rows_were_sent(
    sim: Simulator, client: OzonetelClient, asynchronous: bool
) -> None:
    def broken() -> Iterator[Lead]:
        yield from leads(150)
        raise OSError("disk gone")

    async def broken_too() -> AsyncIterator[Lead]:
        for lead in broken():
            yield lead

    with pytest.raises(OSError, match="disk gone") as caught:
        await client.schedule_leads("Diwali", broken_too() if asynchronous else broken())
    assert sim.rows_applied("schedule") == 150
    assert caught.value.__notes__ == ["of 150 rows taken, 150 were scheduled"]


async def test_a_mistake_in_the_rows_comes_as_itself(sim: Simulator, client: OzonetelClient) -> None:
    with pytest.raises(ConfigurationError, match="need columns"):
        await client.schedule_leads("Diwali", [("9812345678", "2030-01-01 10:00:00")])
    assert not sim.log


async def test_requests_are_made_as_they_are_needed(connect: Connect) -> None:
    taken = 0

    def counting() -> Iterator[Lead]:
        nonlocal taken
        for lead in leads(5_000):
            taken += 1
            yield lead

    async with RawServer(never) as server:
        client = connect(base_url=server.url)
        call = asyncio.create_task(client.schedule_leads("Diwali", counting()))
        await eventually(lambda: len(server.hits) == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert taken <= 1_000
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (len(server.hits), client.queues["schedule"].in_flight) == (4, 0)


async def test_each_result_is_told_once_it_is_known(sim: Simulator, client: OzonetelClient) -> None:
    told: list[ScheduleResult] = []
    report = await client.schedule_leads("Diwali", [Lead("x"), *leads(150)], on_result=told.append)
    assert sorted(told, key=lambda result: result.row) == list(report.results)
    assert report.count("accepted") == 150


async def test_a_cancelled_call_tells_what_is_on_its_way(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("schedule", Fault.stall_after_apply(), after=1)
    told: list[ScheduleResult] = []
    call = asyncio.create_task(client.schedule_leads("Diwali", leads(250), on_result=told.append))
    await sim.wait_for(lambda: sim.rows_applied("schedule") == 250)
    await eventually(lambda: len(told) in (150, 200))
    answered = len(told)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert sorted(result.row for result in told) == list(range(1, 251))
    assert {result.outcome for result in told[:answered]} == {"accepted"}
    assert {(result.outcome, result.message) for result in told[answered:]} == {("unknown", "cancelled")}


async def test_an_error_of_on_result_comes_as_itself_after_what_was_on_its_way(
    sim: Simulator, client: OzonetelClient
) -> None:
    def fail(_: ScheduleResult) -> None:
        raise LookupError("no such row")

    with pytest.raises(LookupError, match="no such row") as caught:
        await client.schedule_leads("Diwali", leads(1_000), on_result=fail)
    assert sim.rows_applied("schedule") < 1_000
    (note,) = caught.value.__notes__
    assert note == f"of 1000 rows taken, {sim.rows_applied('schedule')} were scheduled"


async def test_check_duplicate_travels(sim: Simulator, client: OzonetelClient) -> None:
    await client.schedule_leads("Diwali", leads(1), check_duplicate=True)
    assert sim.requests("schedule")[0].params["checkDuplicate"] is True


async def test_what_every_request_would_meet_is_met_once_or_by_those_under_way(
    sim: Simulator, connect: Connect
) -> None:
    async with connect(api_key="another-key") as client:
        report = await client.schedule_leads("Diwali", leads(1_050))
    sent = len(sim.requests("schedule"))
    assert 0 < sent <= 4
    assert (report.count("refused"), report.count("not_sent")) == (sent * 100, 1_050 - sent * 100)
    assert report.stopped_by == report.results[0].message


async def test_an_on_result_that_nobody_would_await_is_refused(sim: Simulator, client: OzonetelClient) -> None:
    async def told(result: ScheduleResult) -> None:
        raise AssertionError("never awaited")

    with pytest.raises(ConfigurationError, match="never awaited"):
        await client.schedule_leads("Diwali", leads(1), on_result=told)  # type: ignore[arg-type]
    assert not sim.log
