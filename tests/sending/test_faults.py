"""What the network, a proxy or the service may do to a request, and how often the lead is applied."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from ozonetel_async import (
    ConnectError,
    Lead,
    LeadReceipt,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    RateLimitedError,
    RetryPolicy,
    Timeouts,
)
from ozonetel_async.testing import Fault, Simulator

from ..conftest import EAGER, WINDOW, Connect, RawServer, eventually, fast_limits, http

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

PHONE = "919812345678"
TOMORROW = datetime.now(UTC) + timedelta(days=1)
LEGACY_ADD = "/cloudAgentRestAPI/index.php/CloudAgent/CloudAgentAPI/addCamapaignData"


async def add(client: OzonetelClient) -> LeadReceipt:
    return await client.add_lead("Diwali", Lead(PHONE))


CALLS: dict[str, Callable[[OzonetelClient], Awaitable[Any]]] = {
    "add": add,
    "bulk": lambda client: client.add_batch("Diwali", [{"PhoneNumber": PHONE}]),
    "dial_status": lambda client: client.request_dial_status("Diwali", callback_url="http://127.0.0.1:9/x"),
    "legacy_add": lambda client: client.legacy.add_lead("Diwali", Lead(PHONE)),
}
SCHEDULES: dict[str, Callable[[OzonetelClient], Awaitable[Any]]] = {
    "schedule": lambda client: client.schedule_leads("Diwali", [Lead(PHONE, scheduled_time=TOMORROW)]),
    "legacy_schedule": lambda client: client.legacy.schedule_leads("Diwali", [Lead(PHONE, scheduled_time=TOMORROW)]),
}

APPLIED = [
    Fault.reset_after_apply(),
    Fault.stall_after_apply(),
    Fault.status(500),
    Fault.status(502),
    Fault.status(503),
    Fault.status(500, body='{"status":"Success","message":"something new"}', content_type="application/json"),
    Fault.html(),
    Fault.truncated(),
    Fault.truncated(flavour="json"),
    Fault.empty(),
    Fault.oversized(3 * 2**20),
    Fault.redirect("/ca_apis/AddCampaignData", 307, apply=True),
    Fault.redirect("/ca_apis/AddCampaignData", 308, apply=True),
    Fault.redirect(LEGACY_ADD, 302, apply=True),
    Fault.redirect("", 301, apply=True),
]


@pytest.mark.parametrize("fault", APPLIED, ids=lambda fault: f"{fault.name}-{len(fault.body)}")
@pytest.mark.parametrize("endpoint", [*CALLS, *SCHEDULES])
async def test_what_may_have_been_applied_is_never_repeated(
    sim: Simulator, connect: Connect, endpoint: str, fault: Fault
) -> None:
    client = connect(timeouts=Timeouts(total=0.4 if fault.kind == "stall" else 10.0))
    sim.inject(endpoint, fault)
    if endpoint in CALLS:
        with pytest.raises(OutcomeUnknownError) as caught:
            await CALLS[endpoint](client)
        assert (caught.value.outcome, caught.value.endpoint) == ("unknown", endpoint)
    else:
        report = await SCHEDULES[endpoint](client)
        assert [result.outcome for result in report.results] == ["unknown"]
    assert len(sim.log) == 1
    assert sim.writes_applied(endpoint) == 1
    assert all(queue.in_flight == queue.waiting == 0 for queue in client.queues.values())


@pytest.mark.parametrize(
    "fault", [Fault.reset_before_apply(), Fault.stall_before_apply()], ids=lambda fault: fault.name
)
async def test_what_was_not_applied_is_not_repeated_either_when_nobody_here_can_tell(
    sim: Simulator, connect: Connect, fault: Fault
) -> None:
    client = connect(timeouts=Timeouts(total=0.4))
    sim.inject("add", fault)
    with pytest.raises(OutcomeUnknownError):
        await add(client)
    assert sim.arrivals("add") == 1


async def test_a_lost_request_holds_its_place_in_the_window_for_the_transit_margin(
    sim: Simulator, connect: Connect
) -> None:
    client = connect(timeouts=Timeouts(total=0.4), limits=fast_limits(transit_margin=60.0))
    sim.inject("bulk", Fault.stall_after_apply(), times=5)
    answers = await asyncio.gather(*(CALLS["bulk"](client) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, OutcomeUnknownError) for error in answers)
    assert client.queues["bulk"].free == 0
    assert 30.0 < client.queues["bulk"].next_free_in <= 60.0 + WINDOW + 0.01


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


RETRY_AFTERS = (None, "0", "0.05", "-5", "soon", "", http_date(-3600), http_date(-3600).removesuffix(" GMT"))


@pytest.mark.parametrize(
    "retry_after", RETRY_AFTERS, ids=["none", "0", "0.05", "negative", "word", "empty", "date", "date without zone"]
)
async def test_a_429_is_repeated_and_applied_once(
    sim: Simulator, client: OzonetelClient, retry_after: str | None
) -> None:
    sim.inject("add", Fault.http_429(retry_after))
    receipt = await add(client)
    assert receipt.outcome == "accepted"
    assert (sim.arrivals("add"), sim.writes_applied("add"), client.queues["add"].refused) == (2, 1, 1)


async def test_a_retry_after_is_waited_for_by_everybody(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.http_429("0.3"))
    first = asyncio.create_task(add(client))
    await sim.wait_for(lambda: client.queues["add"].refused)
    await asyncio.gather(first, add(client))
    refused, *later = sim.requests("add")
    assert len(later) == 2
    assert all(request.at >= refused.at + 0.3 for request in later)


@pytest.mark.parametrize("endpoint", CALLS)
async def test_the_documented_refusals_for_the_rate_are_repeated(
    sim: Simulator, client: OzonetelClient, endpoint: str
) -> None:
    sim.inject(endpoint, Fault.rate_refusal())
    await CALLS[endpoint](client)
    assert (sim.arrivals(endpoint), sim.writes_applied(endpoint)) == (2, 1)


async def test_refusals_are_repeated_a_bounded_number_of_times(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.rate_refusal(), times=None)
    with pytest.raises(RateLimitedError) as caught:
        await add(client)
    assert caught.value.outcome == "refused"
    assert (sim.arrivals("add"), sim.writes_applied("add")) == (EAGER.rate_attempts, 0)


@pytest.mark.parametrize("retry_after", ["3600", http_date(7200.0)], ids=["seconds", "date"])
async def test_a_retry_after_beyond_the_longest_wait_ends_the_call_at_once(
    sim: Simulator, client: OzonetelClient, retry_after: str
) -> None:
    sim.inject("add", Fault.http_429(retry_after))
    with pytest.raises(RateLimitedError) as caught:
        await add(client)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 3600
    assert sim.arrivals("add") == 1
    assert 100 < client.queues["add"].next_free_in <= EAGER.max_retry_after


async def test_a_retry_after_that_is_a_date_is_relative_to_the_date_of_the_answer(connect: Connect) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        # By a clock that is three minutes ahead of ours.
        headers = (f"Date: {http_date(180.0)}", f"Retry-After: {http_date(180.0 + 3600.0)}")
        writer.write(http(b"{}", *headers, status="429 Too Many Requests"))
        return True

    async with RawServer(refuse) as server:
        with pytest.raises(RateLimitedError) as caught:
            await add(connect(base_url=server.url))
    assert caught.value.retry_after == pytest.approx(3600.0, abs=2.0)


async def test_a_refused_upload_goes_on_after_the_pause(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("bulk", Fault.rate_refusal(), after=1, times=3)
    rows = [{"PhoneNumber": f"98{i:08d}"} for i in range(2_500)]
    report = await client.upload("Diwali", rows)
    assert (report.rows_accepted, len(report.batches)) == (2_500, 5)
    assert (sim.arrivals("bulk"), report.requests, sim.rows_applied("bulk")) == (8, 8, 2_500)


# -- no connection ------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_connection_is_tried_again_until_the_server_is_up(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    patient = RetryPolicy(connect_attempts=10_000, backoff=0.002, max_backoff=0.004)
    client = connect(base_url=f"http://127.0.0.1:{port}", retry=patient)
    with caplog.at_level("INFO", "ozonetel_async"):
        call = asyncio.create_task(add(client))
        await eventually(lambda: len(caplog.records) >= 3)
    async with Simulator(port=port) as late:
        receipt = await call
        assert receipt.outcome == "accepted"
        assert (late.arrivals("add"), late.writes_applied("add")) == (1, 1)


@pytest.mark.parametrize("endpoint", ["add", "legacy_add"])
async def test_a_refused_connection_is_given_up_after_the_bounded_attempts(
    connect: Connect, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    client = connect(base_url=f"http://127.0.0.1:{free_port()}")
    with caplog.at_level("INFO", "ozonetel_async"), pytest.raises(ConnectError) as caught:
        await CALLS[endpoint](client)
    assert caught.value.outcome == "not_sent"
    assert len(caplog.records) == EAGER.connect_attempts - 1
    assert client.queues["add"].free == 100


async def test_a_name_that_does_not_resolve_is_tried_again(
    sim: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo
    asked = 0

    async def flaky(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await resolve("127.0.0.1", *args[1:], **options)

    monkeypatch.setattr(loop, "getaddrinfo", flaky)
    client = connect(base_url=sim.base_url.replace("127.0.0.1", "localhost"))
    receipt = await add(client)
    assert (receipt.outcome, asked, sim.writes_applied("add")) == ("accepted", 3, 1)


async def test_a_mixed_run_of_faults_doubles_nobody_and_loses_nobody_in_silence(
    sim: Simulator, connect: Connect
) -> None:
    client = connect(timeouts=Timeouts(total=0.5))
    for fault in (*APPLIED, Fault.rate_refusal(), Fault.http_429(), Fault.reset_before_apply()):
        sim.inject("add", fault, times=None, probability=0.03)
    phones = [f"98{i:08d}" for i in range(300)]
    outcomes = await asyncio.gather(
        *(client.add_lead("Diwali", Lead(phone)) for phone in phones), return_exceptions=True
    )
    numbers = sim.campaigns["Diwali"].numbers
    assert max(numbers.values()) == 1
    for phone, outcome in zip(phones, outcomes, strict=True):
        if not isinstance(outcome, OzonetelError):
            assert numbers[phone] == 1, outcome
        elif outcome.outcome != "unknown":
            assert numbers[phone] == 0, outcome
