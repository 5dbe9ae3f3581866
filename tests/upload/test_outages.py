"""Uploads while the service, a firewall in front of it or the input misbehaves: they go on, or end well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import (
    AuthenticationError,
    InputError,
    InvalidLeadError,
    Lead,
    OzonetelClient,
    RateLimit,
    RetryPolicy,
    UploadReport,
    read_csv,
)
from ozonetel_async.journal.journal import Journal
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Connect, RawServer, answer, eventually, fast_limits, http

pytestmark = pytest.mark.usefixtures("no_tasks_left")

FORBIDDEN = Fault.status(403, apply=False, body="<html>Forbidden</html>")


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"limits": {"bulk": 0}}


@pytest.fixture
def client(connect: Connect) -> OzonetelClient:
    return connect(limits=fast_limits(bulk=RateLimit(10_000, 0.01)))


def rows(count: int) -> list[dict[str, Any]]:
    return [{"PhoneNumber": f"98{i:08d}", "Name": "Asha"} for i in range(count)]


class Watch:
    """An ``on_progress`` that checks the sum at each call, and keeps what was waited for."""

    def __init__(self) -> None:
        self.waits: set[str] = set()

    def __call__(self, report: UploadReport) -> None:
        counted = report.rows_accepted + report.rows_invalid + report.rows_refused + report.rows_unknown
        assert report.rows_read == counted + report.rows_not_sent
        if report.waiting_for is not None:
            self.waits.add(report.waiting_for)


# -- the service cannot be reached -----------------------------------------------------------------------------------


def go_away(monkeypatch: pytest.MonkeyPatch, sim: Simulator, requests: int, attempts: float) -> None:
    """After so many requests, have so many connections refused."""
    send = Transport.send
    refused = 0

    async def flaky(self: Transport, request: Request) -> Response:
        nonlocal refused
        if sim.arrivals("bulk") >= requests and refused < attempts:
            refused += 1
            request.url = "http://127.0.0.1:9/"
        return await send(self, request)

    monkeypatch.setattr(Transport, "send", flaky)


async def test_an_outage_in_the_middle_of_an_upload_is_sat_out(
    sim: Simulator, client: OzonetelClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ozonetel_async")
    go_away(monkeypatch, sim, requests=10, attempts=60)
    watch = Watch()
    report = await client.upload("Diwali", rows(25_000), concurrency=4, on_progress=watch)
    assert (report.rows_accepted, report.stopped_by, report.waiting_for) == (25_000, None, None)
    assert sim.rows_applied("bulk") == 25_000
    assert any(wait.startswith("the service (no connection") for wait in watch.waits)
    assert "s for the service" in caplog.text
    assert "the service can be reached again" in caplog.text


async def test_an_outage_that_lasts_too_long_ends_the_upload(
    sim: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(monkeypatch, sim, requests=2, attempts=float("inf"))
    retry = RetryPolicy(connect_attempts=2, backoff=0.001, outage=0.05)
    patient = connect(limits=fast_limits(bulk=RateLimit(10_000, 0.01)), retry=retry)
    report = await patient.upload("Diwali", rows(5_000), concurrency=2, on_progress=Watch())
    assert str(report.stopped_by).startswith("ConnectError")
    assert report.rows_accepted == sim.rows_applied("bulk")
    assert (report.rows_read, report.rows_refused) == (report.rows_accepted + report.rows_not_sent, 0)


async def test_a_service_that_never_answered_is_not_waited_for(
    sim: Simulator, client: OzonetelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(monkeypatch, sim, requests=0, attempts=float("inf"))
    report = await client.upload("Diwali", rows(1_000), on_progress=Watch())
    assert str(report.stopped_by).startswith("ConnectError")
    assert (report.rows_not_sent, report.waiting_for) == (1_000, None)


async def test_stop_ends_an_upload_in_an_outage(
    sim: Simulator, client: OzonetelClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go_away(monkeypatch, sim, requests=2, attempts=float("inf"))
    stop = asyncio.Event()

    def look(report: UploadReport) -> None:
        if report.waiting_for:
            stop.set()

    path = tmp_path / "a.journal"
    report = await client.upload("Diwali", rows(2_500), journal=path, concurrency=1, stop=stop, on_progress=look)
    assert report.stopped_by == "asked to stop"
    assert (report.rows_accepted, report.rows_unknown) == (1_000, 0)
    monkeypatch.undo()
    assert (await client.upload("Diwali", rows(2_500), journal=path)).rows_accepted == 2_500


async def test_an_error_of_on_progress_in_an_outage_leaves_no_row_uncounted(
    sim: Simulator, client: OzonetelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(monkeypatch, sim, requests=2, attempts=float("inf"))
    seen: list[UploadReport] = []

    def look(report: UploadReport) -> None:
        seen[:] = [report]
        if report.waiting_for:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await client.upload("Diwali", rows(2_500), concurrency=1, on_progress=look)
    assert (seen[0].rows_accepted, seen[0].rows_in_flight, seen[0].rows_unknown) == (1_000, 0, 0)


# -- a firewall ------------------------------------------------------------------------------------------------------


async def test_one_forbidden_batch_of_fifty_is_refused_and_the_rest_sent(
    sim: Simulator, client: OzonetelClient
) -> None:
    sim.inject("bulk", FORBIDDEN, after=7)
    sim.inject("bulk", FORBIDDEN, after=20)
    report = await client.upload("Diwali", rows(25_000), concurrency=1, on_progress=Watch())
    assert report.stopped_by is None
    assert (report.rows_accepted, report.rows_refused) == (24_000, 1_000)


async def test_three_forbidden_batches_in_a_row_end_the_upload(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("bulk", FORBIDDEN, times=None, after=2)
    report = await client.upload("Diwali", rows(5_000), concurrency=1, on_progress=Watch())
    assert report.stopped_by is not None
    assert report.stopped_by.startswith("AuthenticationError: HTTP 403")
    assert (report.rows_accepted, report.rows_refused, sim.arrivals("bulk")) == (1_000, 1_500, 5)


async def test_a_documented_text_under_403_ends_the_upload_at_once(sim: Simulator, client: OzonetelClient) -> None:
    body = '{"status":"failure","message":"Invalid userName or apiKey"}'
    sim.inject("bulk", Fault.status(403, apply=False, body=body), after=1)
    report = await client.upload("Diwali", rows(5_000), concurrency=1, on_progress=Watch())
    assert str(report.stopped_by).startswith(AuthenticationError.__name__)
    assert (report.rows_refused, sim.arrivals("bulk")) == (500, 2)


# -- the input -------------------------------------------------------------------------------------------------------


class Touchy:
    """Refuses to be compared and has no truth value, as ``pandas.NA`` and arrays do."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    __hash__ = object.__hash__


class TouchyText(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparison")

    __hash__ = str.__hash__


class Impostor:
    """Fails even when asked for its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


HOSTILE: dict[str, Callable[[], Any]] = {"object": Touchy, "class": Impostor}
COLUMNS = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentId", "skill", "City")


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["row", "lead", "key", *COLUMNS])
async def test_a_cell_or_row_that_refuses_to_be_looked_at_is_one_invalid_row(
    sim: Simulator, client: OzonetelClient, kind: str, place: str, tmp_path: Path
) -> None:
    thing = HOSTILE[kind]()
    given: list[Any] = [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows(1_500)]
    if place == "lead":
        given = [Lead(row["PhoneNumber"], name="Asha", extra={"City": "Pune"}) for row in given]
        given[700] = Lead("9812345678", extra=thing)
    elif place == "key":
        given[700] = {**given[700], thing: 1}
    else:
        given[700] = thing if place == "row" else {**given[700], place: thing}
    report = await client.upload("Diwali", given, on_progress=Watch(), rejects=tmp_path / "rejects.csv")
    assert [invalid.row for invalid in report.invalid_sample] == [701]
    assert (report.rows_invalid, report.rows_accepted, report.stopped_by) == (1, 1_499, None)
    if kind == "object" and place in COLUMNS:
        assert report.invalid_sample[0].field == place
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("cell", [TouchyText("5"), TouchyText("")], ids=["text", "empty"])
@pytest.mark.parametrize("field", ["name", "priority", "expiry", "agent_id", "skill"])
async def test_a_text_that_refuses_to_be_compared_takes_no_other_row_with_it(
    client: OzonetelClient, cell: str, field: str
) -> None:
    given = [Lead(row["PhoneNumber"]) for row in rows(600)]
    values: dict[str, Any] = {field: cell}
    given[300] = Lead("9812345678", **values)
    report = await client.upload("Diwali", given, on_progress=Watch())
    assert report.rows_accepted + report.rows_invalid == report.rows_read == 600
    assert report.rows_invalid <= 1


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("field", ["phone_number", "name", "priority", "expiry", "agent_id", "skill", "extra", "cell"])
async def test_a_single_lead_that_refuses_to_be_looked_at_is_invalid(
    client: OzonetelClient, kind: str, field: str
) -> None:
    thing = HOSTILE[kind]()
    fields: dict[str, Any] = {"extra": {"City": thing}} if field == "cell" else {field: thing}
    lead = Lead(**{"phone_number": "9812345678", **fields})
    with pytest.raises(InvalidLeadError):
        await client.add_lead("Diwali", lead)
    with pytest.raises(InvalidLeadError):
        await client.add_batch("Diwali", [lead])
    if kind == "object":
        assert repr(lead).startswith("Lead('…")


@pytest.mark.parametrize("journaled", [False, True])
async def test_a_file_that_breaks_off_ends_an_upload_with_its_report(
    sim: Simulator, client: OzonetelClient, tmp_path: Path, journaled: bool
) -> None:
    path = tmp_path / "leads.csv"
    good = "".join(f"98{i:08d},Asha\n" for i in range(1_700))
    path.write_text(f'PhoneNumber,Name\n{good}9812345678,"Asha"x\n')
    journal = tmp_path / "a.journal" if journaled else None
    report = await client.upload("Diwali", read_csv(path), on_progress=Watch(), journal=journal)
    assert str(report.stopped_by).startswith(InputError.__name__)
    assert "line 1702" in str(report.stopped_by)
    assert report.rows_accepted == sim.rows_applied("bulk") == (1_500 if journaled else 1_700)
    assert report.rows_not_sent == report.rows_read - report.rows_accepted
    assert report.rows_read == 1_700


@pytest.mark.parametrize("how", ["yields", "waits on"])
async def test_stop_ends_an_upload_whose_input_swallows_cancellation(
    sim: Simulator, client: OzonetelClient, how: str
) -> None:
    stop, end = asyncio.Event(), asyncio.Event()
    waiting = asyncio.Event()

    async def stubborn() -> AsyncIterator[dict[str, Any]]:
        for row in rows(600):
            yield row
        while not end.is_set():
            waiting.set()
            try:
                await end.wait()
            except asyncio.CancelledError:
                if how == "yields":
                    yield {"PhoneNumber": "9812345678", "Name": "Asha"}

    upload = asyncio.create_task(client.upload("Diwali", stubborn(), on_progress=Watch(), stop=stop))
    await waiting.wait()
    await eventually(lambda: sim.writes_applied("bulk") == 1)
    stop.set()
    async with asyncio.timeout(10):
        report = await upload
    assert report.stopped_by == "asked to stop"
    assert report.rows_read == (601 if how == "yields" else 600)
    assert (report.rows_accepted, report.rows_not_sent) == (500, report.rows_read - 500)
    end.set()
    for _ in range(3):
        await asyncio.sleep(0)


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", [str, lambda url: url.replace("/", "\\/"), lambda url: url.replace("_", "%5F")])
async def test_a_message_that_repeats_the_callback_url_does_not_bring_its_token_into_the_report(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture, spelled: Callable[[str], str]
) -> None:
    tokens: list[str] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        url = server.hits[-1].decode().partition("callBackUrl=")[2].partition("&")[0].replace("%3A", ":")
        url = url.replace("%2F", "/")
        tokens.append(url.rpartition("ozcb_")[2])
        writer.write(http(f'{{"status":"failure","message":"cannot reach {spelled(url)}"}}'.encode()))
        return True

    caplog.set_level(logging.DEBUG)
    async with RawServer(echo, echo, answer) as server:
        client = connect(base_url=server.url, limits=fast_limits(bulk=RateLimit(5, 0.01)))
        report = await client.upload(
            "Diwali", rows(600), journal=tmp_path / "a.journal", callback_url="https://me.example/cb", concurrency=1
        )
        await client.close()
    assert len(tokens) == 2
    told = f"{report}{report.batches}{caplog.text}"
    assert "cannot reach" in told
    for token in tokens:
        assert len(token) == 40
        assert token.replace("_", "%5F") not in told.replace("_", "%5F")


# -- waiting for callbacks -------------------------------------------------------------------------------------------


async def test_the_wait_for_callbacks_is_told_in_the_progress_and_ends_with_stop(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    sim.inject("bulk", Fault.lost_callback(), times=None)
    stop = asyncio.Event()
    waits: list[str] = []

    def look(report: UploadReport) -> None:
        if report.waiting_for is not None:
            waits.append(report.waiting_for)
            stop.set()

    report = await client.upload(
        "Diwali",
        rows(700),
        journal=tmp_path / "a.journal",
        callback_url=f"{sim.base_url}/nowhere",
        callback_timeout=600.0,
        on_progress=look,
        stop=stop,
    )
    assert waits == ["2 callbacks"]
    assert (report.batches_overdue, report.waiting_for, report.stopped_by) == (2, None, None)
    journal = await Journal.attach(tmp_path / "a.journal")
    entries = await journal.batches()
    await journal.close()
    assert not any(entry.settlement.overdue or entry.failed_file for entry in entries), "nobody is given up"


async def test_the_wait_for_callbacks_gives_up_in_time_and_notes_who_is_missing(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    sim.inject("bulk", Fault.lost_callback(), times=None)
    path, watch = tmp_path / "a.journal", Watch()
    report = await client.upload(
        "Diwali", rows(400), journal=path, callback_url=sim.base_url, callback_timeout=0.01, on_progress=watch
    )
    assert (report.batches_overdue, watch.waits) == (1, {"1 callback"})
    journal = await Journal.attach(path)
    (entry,) = await journal.batches()
    await journal.close()
    assert entry.settlement.overdue


async def test_a_cancelled_wait_for_callbacks_gives_nobody_up(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    sim.inject("bulk", Fault.lost_callback(), times=None)
    path, watch = tmp_path / "a.journal", Watch()
    upload = asyncio.create_task(
        client.upload(
            "Diwali", rows(400), journal=path, callback_url=sim.base_url, callback_timeout=60.0, on_progress=watch
        )
    )
    await eventually(lambda: watch.waits)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await upload
    assert "400 accepted" in caught.value.__notes__[0]
    journal = await Journal.attach(path)
    (entry,) = await journal.batches()
    await journal.close()
    assert not entry.settlement.overdue
