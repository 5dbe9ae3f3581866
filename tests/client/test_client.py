"""The client's verbs against the simulator, its queues, and its life from first use to close."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ozonetel_async import (
    CallbackReceiver,
    CampaignError,
    ConfigurationError,
    InvalidLeadError,
    Lead,
    LeadReceipt,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelClient,
    QueueFullError,
    QueueTimeoutError,
    RateLimit,
    Timeouts,
)
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.testing.clock import run_virtual

from ..conftest import WINDOW, Connect, RawServer, eventually, fast_limits, never

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

LEAD = Lead("919812345678")
NEXT_YEAR = datetime.now(UTC).year + 1


async def add(client: OzonetelClient, **options: Any) -> LeadReceipt:
    return await client.add_lead("Diwali", LEAD, **options)


# -- the verbs ----------------------------------------------------------------------------------------------------


async def test_a_lead_arrives_as_it_was_given(sim: Simulator, client: OzonetelClient) -> None:
    lead = Lead(
        "+919812345678",
        name="Asha Rao",
        priority=5,
        expiry=date(NEXT_YEAR, 1, 31),
        agent_id="a1",
        skill="sales",
        extra={"City": "Pune"},
    )
    receipt = await client.add_lead("Diwali", lead, check_duplicate=True, action="start")
    assert (receipt.outcome, receipt.message) == ("accepted", "Campaign Progressive Is Already Started")
    (stored,) = sim.campaigns["Diwali"].leads
    assert (stored.phone, stored.name, stored.priority, stored.expiry) == (
        "+919812345678",
        "Asha Rao",
        5,
        f"{NEXT_YEAR}-01-31",
    )
    assert (stored.agent_id, stored.skill, stored.extra) == ("a1", "sales", {"City": "Pune"})


async def test_a_duplicate_is_told_apart(sim: Simulator, client: OzonetelClient) -> None:
    assert (await add(client, check_duplicate=True)).outcome == "accepted"
    assert (await add(client, check_duplicate=True)).outcome == "duplicate"
    assert (await add(client, check_duplicate=False)).outcome == "accepted"
    assert sim.campaigns["Diwali"].stored == 2


async def test_the_legacy_verbs(sim: Simulator, client: OzonetelClient) -> None:
    receipt = await client.legacy.add_lead("Diwali", Lead("+919812345678", name="Asha"), check_duplicate=True)
    assert receipt.outcome == "accepted"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    report = await client.legacy.schedule_leads("Diwali", [Lead("9812345678", scheduled_time=tomorrow)])
    assert report.count("accepted") == 1
    assert sim.campaigns["Diwali"].leads[0].phone == "+919812345678"
    assert {request.method for request in sim.log} == {"GET"}


async def test_the_legacy_verbs_warn_with_the_callers_line(client: OzonetelClient) -> None:
    with pytest.warns(DeprecationWarning, match="announced the end") as caught:
        await client.legacy.add_lead("Diwali", LEAD)
    assert caught[0].filename == __file__


async def test_a_batch_gets_its_ticket(sim: Simulator, client: OzonetelClient) -> None:
    rows = [("9812345678", "Asha"), ("9812345679", "Ravi")]
    receipt = await client.add_batch("Diwali", rows, columns=("PhoneNumber", "Name"), check_duplicate=True)
    await sim.settle()
    assert receipt.rows == 2
    assert receipt.transaction_id in sim.jobs
    assert [(lead.phone, lead.name) for lead in sim.campaigns["Diwali"].leads] == rows


async def test_one_bad_row_keeps_the_whole_batch_from_being_sent(sim: Simulator, client: OzonetelClient) -> None:
    with pytest.raises(InvalidLeadError) as caught:
        await client.add_batch("Diwali", [{"PhoneNumber": phone} for phone in ("9812345678", "x", "9812345679")])
    assert (caught.value.row, caught.value.field) == (2, "PhoneNumber")
    assert not sim.log


@pytest.mark.parametrize("count", [0, 501, 10_000])
async def test_a_batch_has_1_to_500_rows(sim: Simulator, client: OzonetelClient, count: int) -> None:
    taken = 0

    def rows() -> Iterator[Lead]:
        nonlocal taken
        while taken < count:
            taken += 1
            yield LEAD

    with pytest.raises(ConfigurationError, match="1 to 500"):
        await client.add_batch("Diwali", rows())
    assert not sim.log
    assert taken <= 750


async def test_a_batch_of_500_from_an_async_generator(sim: Simulator, client: OzonetelClient) -> None:
    async def rows() -> AsyncIterator[Lead]:
        for _ in range(500):
            yield LEAD

    assert (await client.add_batch("Diwali", rows())).rows == 500
    assert sim.rows_applied("bulk") == 500


async def test_a_dial_status_export(sim: Simulator, client: OzonetelClient) -> None:
    receipt = await client.request_dial_status(
        "Diwali", callback_url="http://127.0.0.1:9/x", since="2026-01-01 00:00:00", status="Success"
    )
    assert receipt.unique_id in sim.jobs
    params = sim.requests("dial_status")[0].params
    assert (params["fromDate"], params["status"]) == ("2026-01-01 00:00:00", "Success")


async def test_the_service_has_the_last_word(sim: Simulator, client: OzonetelClient) -> None:
    sim.dnd.add("919812345678")
    with pytest.raises(LeadRejectedError) as rejected:
        await add(client)
    assert (rejected.value.field, rejected.value.outcome) == ("phone_number", "refused")
    with pytest.raises(CampaignError):
        await client.add_lead("Holi", LEAD)
    sim.campaign("Support", direction="inbound")
    with pytest.raises(CampaignError, match="not outbound"):
        await client.add_lead("Support", LEAD)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("add_lead", ("", LEAD)),
        ("add_lead", (None, LEAD)),
        ("add_lead", ("Diwali", "919812345678")),
        ("add_batch", ("Diwali", LEAD)),
        ("add_batch", ("Diwali", 7)),
        ("add_batch", ("Diwali", [("9812345678",)])),
        ("upload", ("Diwali", {"PhoneNumber": "9812345678"})),
        ("upload", ("Diwali", [("9812345678",)])),
        ("schedule_leads", ("Diwali", [("9812345678",)])),
        ("schedule_leads", ("Diwali", "9812345678")),
    ],
)
async def test_wrong_arguments_are_told_before_anything_is_sent(
    sim: Simulator, client: OzonetelClient, verb: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises((ConfigurationError, InvalidLeadError)):
        await getattr(client, verb)(*arguments)
    assert not sim.log


@pytest.mark.parametrize(
    "options",
    [{"max_wait": -1}, {"max_wait": "5"}, {"max_wait": float("nan")}, {"queue_priority": "high"}, {"max_wait": True}],
)
async def test_wrong_queue_options_are_told_whether_or_not_there_is_a_queue(
    sim: Simulator, connect: Connect, options: dict[str, Any]
) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, WINDOW)))
    with pytest.raises(ConfigurationError):
        await add(client, **options)
    await add(client)
    with pytest.raises(ConfigurationError):
        await add(client, **options)
    assert sim.arrivals("add") == 1


# -- queues -------------------------------------------------------------------------------------------------------


async def test_the_limit_is_kept_and_used(sim: Simulator, client: OzonetelClient) -> None:
    await asyncio.gather(*(client.add_batch("Diwali", [LEAD]) for _ in range(23)))
    assert (sim.arrivals("bulk"), sim.refusals("bulk"), sim.worst_window("bulk")) == (23, 0, 5)
    assert client.queues["bulk"].worst_window == 5


async def test_the_figures_of_a_queue(sim: Simulator, connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, limits=fast_limits(add=RateLimit(2, 60.0)))
        calls = [asyncio.create_task(add(client)) for _ in range(5)]
        await eventually(lambda: len(server.hits) == 2)
        queue = client.queues["add"]
        assert (queue.waiting, queue.in_flight, queue.free, queue.refused, queue.worst_window) == (3, 2, 0, 0, 2)
        assert queue.next_free_in > 50
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (queue.waiting, queue.in_flight, queue.free) == (0, 0, 0)
    with pytest.raises(TypeError):
        client.queues["add"] = queue  # type: ignore[index]


async def test_max_wait_turns_away_at_once_or_in_time(sim: Simulator, connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url, limits=fast_limits(add=RateLimit(1, 0.05)))
        holder = asyncio.create_task(add(client))
        await eventually(lambda: server.hits)
        for wait in (0, 0.01, 0.1):
            with pytest.raises(QueueTimeoutError) as caught:
                await add(client, max_wait=wait)
            assert (caught.value.outcome, caught.value.endpoint) == ("not_sent", "add")
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        assert len(server.hits) == 1


async def test_retry_after_and_the_message_tell_what_a_web_app_answers(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, 60.0)))
    await add(client)
    with pytest.raises(QueueTimeoutError) as caught:
        await add(client, max_wait=0.5)
    assert 59.0 < caught.value.retry_after <= 60.1
    assert caught.value.message == (
        "expected a place within max_wait=0.5 s, got none: the limit of 1 requests per 60 s leaves none for at "
        "least 60 s"
    )
    with pytest.raises(QueueTimeoutError, match="max_wait=0 s, got none: the limit"):
        await add(client, max_wait=0)


async def test_the_clients_max_wait_is_the_default_of_every_call_with_one_request(
    sim: Simulator, connect: Connect
) -> None:
    one = RateLimit(1, 60.0)
    client = connect(max_wait=0.25, limits=fast_limits(add=one, bulk=one, dial_status=one))
    url = "https://hooks.example/x"
    calls: list[Callable[..., Awaitable[object]]] = [
        lambda **options: client.add_lead("Diwali", LEAD, **options),
        lambda **options: client.add_batch("Diwali", [LEAD], **options),
        lambda **options: client.request_dial_status("Diwali", callback_url=url, **options),
        lambda **options: client.dial_status("Diwali", receiver=CallbackReceiver(), callback_url=url, **options),
        lambda **options: client.legacy.add_lead("Diwali", LEAD, **options),
    ]
    for call in calls[:3]:
        await call(queue_priority=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for call in calls:
            with pytest.raises(QueueTimeoutError, match=r"max_wait=0\.25 s"):
                await call()
            with pytest.raises(QueueTimeoutError, match=r"max_wait=0\.5 s"):
                await call(max_wait=0.5, queue_priority=1)
            with pytest.raises(ConfigurationError, match="queue_priority: expected a whole number"):
                await call(queue_priority="high")


@pytest.mark.parametrize("max_wait", [-1, "5", float("nan"), True])
async def test_a_client_with_a_wrong_max_wait_is_not_made(connect: Connect, max_wait: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_wait: expected zero or more seconds"):
        connect(max_wait=max_wait)


async def test_schedules_have_a_place_in_the_queue_too(sim: Simulator, client: OzonetelClient) -> None:
    lead = Lead("9812345678", scheduled_time=datetime.now(UTC) + timedelta(days=1))
    assert (await client.schedule_leads("Diwali", [lead], queue_priority=-1)).count("accepted") == 1
    for verbs in (client, client.legacy):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ConfigurationError, match="queue_priority"):
                await verbs.schedule_leads("Diwali", [lead], queue_priority="high")  # type: ignore[arg-type]


async def test_max_wait_covers_the_repetitions_too(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.http_429("30"))
    with pytest.raises(QueueTimeoutError):
        await add(client, max_wait=1.0)
    assert (sim.arrivals("add"), sim.writes_applied("add")) == (1, 0)


async def test_a_full_queue_turns_away(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, WINDOW), max_waiting=2))
    calls = [asyncio.create_task(add(client)) for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LeadReceipt] * 3 + [QueueFullError] * 2
    for outcome in outcomes[3:]:
        assert isinstance(outcome, QueueFullError)
        assert 0.0 <= outcome.retry_after <= WINDOW + 0.1
    assert sim.arrivals("add") == 3


async def test_higher_priorities_go_first_and_equal_ones_in_order(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, 0.02)))
    await add(client)
    order = [(0, "1110"), (-1, "1111"), (5, "1112"), (0, "1113"), (5, "1114")]
    await asyncio.gather(
        *(client.add_lead("Diwali", Lead(phone), queue_priority=priority) for priority, phone in order)
    )
    assert [lead.phone for lead in sim.campaigns["Diwali"].leads[1:]] == ["1112", "1114", "1110", "1113", "1111"]


async def test_a_single_batch_overtakes_an_upload(sim: Simulator, client: OzonetelClient) -> None:
    rows = [{"PhoneNumber": f"98{i:08d}"} for i in range(500 * 14)]
    upload = asyncio.create_task(client.upload("Diwali", rows))
    await sim.wait_for(lambda: sim.arrivals("bulk") >= 5 and client.queues["bulk"].waiting >= 3)
    await client.add_batch("Diwali", [LEAD])
    arrived = sim.arrivals("bulk")
    report = await upload
    assert (report.rows_accepted, sim.arrivals("bulk")) == (7_000, 15)
    assert [request.applied for request in sim.requests("bulk")].index(1) in (5, 6)
    assert arrived <= 11


async def test_a_refused_call_goes_again_before_those_that_came_after_it(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, 0.02)))
    sim.inject("add", Fault.rate_refusal())
    first, *others = phones = ["1110", "1111", "1112"]
    await asyncio.gather(*(client.add_lead("Diwali", Lead(phone)) for phone in phones))
    assert (sim.arrivals("add"), client.queues["add"].refused) == (4, 1)
    assert [lead.phone for lead in sim.campaigns["Diwali"].leads] == [first, *others]


def test_max_wait_counts_the_waits_of_all_attempts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []

    async def refuse(_: Transport, request: Request) -> Response:
        sent.append(asyncio.get_running_loop().time())
        return Response(429, b"", "40")  # each wait fits into max_wait, two of them do not

    async def main() -> None:
        async with OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user") as client:
            with pytest.raises(QueueTimeoutError):
                await add(client, max_wait=60.0)

    monkeypatch.setattr(Transport, "send", refuse)
    run_virtual(main())
    assert sent == [pytest.approx(0, abs=0.01), pytest.approx(40, abs=0.01)]


# -- from first use to close --------------------------------------------------------------------------------------


async def test_close_turns_waiting_callers_away(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(add=RateLimit(1, 60.0)))
    await add(client)
    waiting = [asyncio.create_task(add(client)) for _ in range(10)]
    await eventually(lambda: client.queues["add"].waiting == 10)
    await client.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ConfigurationError}
    assert sim.arrivals("add") == 1


async def test_close_ends_what_is_under_way_as_unknown(connect: Connect) -> None:
    async with RawServer(never) as server:
        client = connect(base_url=server.url)
        calls = [asyncio.create_task(add(client)) for _ in range(3)]
        calls.append(asyncio.create_task(client.legacy.add_lead("Diwali", LEAD)))
        await eventually(lambda: len(server.hits) == 4)
        await client.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {OutcomeUnknownError}
        await eventually(lambda: not server.open)
        assert len(server.hits) == 4


async def test_close_while_a_refused_call_waits_for_its_next_turn(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.http_429("60"))
    call = asyncio.create_task(add(client))
    await sim.wait_for(lambda: client.queues["add"].refused)
    await client.close()
    with pytest.raises(ConfigurationError):
        await call


async def test_close_during_an_upload_ends_it_with_a_report(sim: Simulator, connect: Connect) -> None:
    client = connect(limits=fast_limits(bulk=RateLimit(5, 60)))
    sim.inject("bulk", Fault.stall_after_apply(), after=2, times=None)
    rows = [{"PhoneNumber": f"98{i:08d}"} for i in range(5_000)]
    upload = asyncio.create_task(client.upload("Diwali", rows))
    await sim.wait_for(lambda: sim.arrivals("bulk") == 5)
    await client.close()
    report = await upload
    assert report.stopped_by is not None
    assert report.rows_read == report.rows_accepted + report.rows_not_sent + report.rows_unknown
    assert (report.rows_accepted, report.rows_unknown) == (1_000, 1_500)
    assert sim.rows_applied("bulk") == 2_500


async def test_close_twice_and_at_once(client: OzonetelClient) -> None:
    await add(client)
    await asyncio.gather(client.close(), client.close())
    await client.close()


async def test_a_closed_client_says_so(sim: Simulator, connect: Connect) -> None:
    async with connect() as client:
        pass
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for call in (
        add(client),
        client.add_batch("Diwali", [LEAD]),
        client.request_dial_status("Diwali", callback_url="http://127.0.0.1:9/x"),
        client.legacy.add_lead("Diwali", LEAD),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            await call
    report = await client.upload("Diwali", [LEAD])
    assert (report.rows_not_sent, report.rows_read) == (1, 1)
    assert "closed" in str(report.stopped_by)
    schedule = await client.schedule_leads("Diwali", [Lead("9812345678", scheduled_time=tomorrow)])
    assert "closed" in schedule.results[0].message
    assert not sim.log


@pytest.mark.parametrize("verb", ["add_lead", "add_batch"])
async def test_another_event_loop_is_told_so(client: OzonetelClient, verb: str) -> None:
    await add(client)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(getattr(client, verb)("Diwali", LEAD if verb == "add_lead" else [LEAD]))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert isinstance(caught[0], ConfigurationError)
    assert "event loop" in str(caught[0])


@pytest.mark.parametrize("name", ["queues", "legacy"])
def test_what_is_no_verb_is_in_the_clients_help_too(name: str) -> None:
    assert name in dir(OzonetelClient)
    assert getattr(OzonetelClient, name).__doc__
    client = OzonetelClient("key", "user")
    with pytest.raises(AttributeError):
        setattr(client, name, None)
    asyncio.run(client.close())


def test_a_client_can_be_made_before_there_is_a_loop() -> None:
    client = OzonetelClient("key", "user", limits=fast_limits(), timeouts=Timeouts(total=1.0))
    assert client.queues["add"].free == 100
    assert client.queues["bulk"].next_free_in == 0.0
    asyncio.run(client.close())


async def test_one_client_serves_many_tasks_over_few_connections(connect: Connect, sim: Simulator) -> None:
    client = connect()
    for _ in range(3):
        await asyncio.gather(*(add(client) for _ in range(20)))
    assert sim.writes_applied("add") == 60
