"""The lead buffer on virtual time: when batches leave, who is told what, and what cancelling and closing leave."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self
from urllib.parse import unquote_plus

import msgspec
import pytest

from ozonetel_async import (
    BufferReceipt,
    CampaignError,
    ConfigurationError,
    ConnectError,
    InvalidLeadError,
    Lead,
    LeadBuffer,
    Limits,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    QueueFullError,
    QueueTimeoutError,
    RateLimit,
    RetryPolicy,
)
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing.clock import run_virtual

LATENCY = 0.5


class Sent(msgspec.Struct):
    """A request that the service got."""

    at: float
    phones: list[str]
    columns: list[str]
    ticket: str


class Service:
    """Answers requests half a second after they leave, with a ticket each unless ``replies`` says otherwise."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.replies: list[Callable[[], Awaitable[Response]]] = []
        self.latency = LATENCY

    async def send(self, request: Request) -> Response:
        reply = self.replies.pop(0) if self.replies else None
        if reply is no_connection:
            await reply()
        fields = dict(pair.split("=", 1) for pair in (request.body or b"").decode().split("&"))
        data = msgspec.json.decode(unquote_plus(fields["bulkData"]))
        phone = data["map"].index("PhoneNumber")
        ticket = f"{len(self.sent):024d}"
        now = asyncio.get_running_loop().time()
        self.sent.append(Sent(now, [row[phone] for row in data["data"]], data["map"], ticket))
        await asyncio.sleep(self.latency)
        if reply is not None:
            return await reply()
        body = {"status": "success", "message": "queued successfully", "transactionId": ticket}
        return Response(200, msgspec.json.encode(body), None)

    def times(self) -> list[tuple[float, int]]:
        """When requests left, and how many rows each had."""
        return [(round(one.at, 2), len(one.phones)) for one in self.sent]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    fake = Service()

    async def send(_: Transport, request: Request) -> Response:
        return await fake.send(request)

    monkeypatch.setattr(Transport, "send", send)
    return fake


class Bench:
    """A client and a buffer of it, and everybody's tasks."""

    def __init__(self, bulk: RateLimit | None = None, limits: dict[str, Any] | None = None, **options: Any) -> None:
        values = {"bulk": bulk or RateLimit(5), "transit_margin": 1.0, **(limits or {})}
        retry = RetryPolicy(connect_attempts=2, backoff=0.1)
        self.client = OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user", limits=Limits(**values), retry=retry)
        self.buffer: LeadBuffer = self.client.buffer("Diwali", **options)
        self.tasks: list[asyncio.Task[BufferReceipt]] = []

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        await self.buffer.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> None:
        try:
            await self.buffer.__aexit__(*details)
        finally:
            await self.client.__aexit__(*details)

    async def at(self, moment: float) -> None:
        await asyncio.sleep(moment - asyncio.get_running_loop().time())

    def add(self, number: int = 1, **options: Any) -> list[asyncio.Task[BufferReceipt]]:
        """Add so many further leads, from a task each."""
        first = len(self.tasks)
        new = [asyncio.create_task(self.buffer.add(lead(n), **options)) for n in range(first, first + number)]
        self.tasks += new
        return new

    async def results(self) -> list[BufferReceipt | BaseException]:
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def lead(number: int, **fields: Any) -> Lead:
    return Lead(phone(number), **fields)


def phone(number: int) -> str:
    return f"98{number:08d}"


def virtual(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main, debug=False)


def status(code: int, message: str) -> Callable[[], Awaitable[Response]]:
    async def reply() -> Response:
        return Response(code, msgspec.json.encode({"status": "error", "message": message}), None)

    return reply


def fails(error: OzonetelError) -> Callable[[], Awaitable[Response]]:
    async def reply() -> Response:
        raise error

    return reply


async def no_connection() -> Response:
    raise ConnectError("no connection", endpoint="bulk")


# --- when a batch leaves ----------------------------------------------------------------------------------------------


def test_a_full_batch_leaves_at_once_and_not_with_the_next_lead(service: Service) -> None:
    async def main() -> None:
        async with Bench(max_rows=3, max_delay=1000.0) as bench:
            bench.add(3)
            await bench.results()
            assert service.times() == [(0.0, 3)]

    virtual(main())


def test_a_batch_that_is_not_full_leaves_when_its_oldest_lead_has_waited_max_delay(service: Service) -> None:
    async def main() -> None:
        async with Bench() as bench:
            for moment in (1.0, 3.0, 5.9):
                await bench.at(moment)
                bench.add()
            await bench.results()
            await bench.at(8.0)
            bench.add()
            await bench.results()
        assert service.times() == [(6.0, 3), (13.0, 1)]

    virtual(main())


def test_while_the_limit_has_no_place_the_batch_goes_on_filling(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1)) as bench:
            bench.add()
            for moment in (6.0, 20.0, 65.0):
                await bench.at(moment)
                bench.add(2)
            await bench.results()
        # The answer came at 5.5, and the place is back a minute later.
        assert service.times() == [(5.0, 1), (65.5, 6)]

    virtual(main())


def test_what_is_more_than_full_batches_waits_for_its_own_delay(service: Service) -> None:
    async def main() -> None:
        async with Bench(max_rows=4) as bench:
            bench.add(4)
            await bench.at(3.0)
            bench.add(6)
            await bench.results()
        assert service.times() == [(0.0, 4), (3.0, 4), (8.0, 2)]

    virtual(main())


def test_leads_leave_in_their_order(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1, 10.0), max_rows=4) as bench:
            bench.add(10)
            await bench.results()
        assert [number for one in service.sent for number in one.phones] == [phone(n) for n in range(10)]
        assert [len(one.phones) for one in service.sent] == [4, 4, 2]

    virtual(main())


def test_the_limit_holds_with_other_callers_in_the_same_queue(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(2, 10.0), max_rows=5, max_delay=0.0) as bench:
            others = [asyncio.create_task(bench.client.add_batch("Diwali", [lead(900 + n)])) for n in range(4)]
            for _ in range(40):
                bench.add()
                await asyncio.sleep(0.3)
            await bench.results()
            await asyncio.gather(*others)
            assert bench.client.queues["bulk"].worst_window == 2
        starts = [one.at for one in service.sent]
        assert all(later - earlier >= 10.0 for earlier, later in zip(starts, starts[2:], strict=False))

    virtual(main())


def test_a_full_bulk_queue_is_waited_for(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1, 10.0), {"max_waiting": 1}, max_rows=1) as bench:
            bench.add(5)
            assert [one.outcome for one in await bench.results() if isinstance(one, BufferReceipt)] == ["accepted"] * 5

    virtual(main())


def test_long_extra_columns_of_others_make_two_batches_and_nobody_fails(service: Service) -> None:
    async def main() -> None:
        names = [f"Column{n}" for n in range(4)]
        async with Bench(columns=names) as bench:
            # Each fits on its own; with the header of another one it would be too long.
            leads = [lead(n, extra={name: "x" * 1930}) for n, name in enumerate(names)]
            receipts = await asyncio.gather(*(bench.buffer.add(one) for one in leads))
        assert [number for one in service.sent for number in one.phones] == [phone(n) for n in range(4)]
        assert len(service.sent) > 1
        for number, receipt in enumerate(receipts):
            (request,) = [one for one in service.sent if one.ticket == receipt.transaction_id]
            assert receipt.row is not None
            assert request.phones[receipt.row - 1] == phone(number)

    virtual(main())


# --- everybody's own outcome ------------------------------------------------------------------------------------------


def test_each_caller_gets_ticket_and_row_of_its_own_lead(service: Service) -> None:
    async def main() -> None:
        async with Bench(max_rows=3) as bench:
            bench.add(8)
            for number, receipt in enumerate(await bench.results()):
                assert receipt == BufferReceipt("accepted", f"{number // 3:024d}", number % 3 + 1)
            assert (bench.buffer.waiting, bench.buffer.in_flight) == (0, 0)

    virtual(main())


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (Lead("12a"), "phone_number"),
        (Lead("9812345678", name="A/B"), "name"),
        (Lead("9812345678", extra={"City": "Pune"}), "City"),
        (Lead("9812345678", extra={"Email": "x" * 2000}), "row"),
        ("9812345678", "lead"),
    ],
)
def test_an_invalid_lead_fails_alone_and_at_once(service: Service, bad: Any, field: str) -> None:
    async def main() -> None:
        async with Bench(columns=["Email"]) as bench:
            bench.add(2)
            for call in (bench.buffer.add, bench.buffer.put):
                with pytest.raises(InvalidLeadError) as caught:
                    await call(bad)
                assert (caught.value.field, caught.value.row) == (field, None)
                assert str(caught.value).startswith(f"{field}: "), "as add_lead says it"
            good = asyncio.create_task(bench.buffer.add(lead(7, extra={"Email": "a@b.in"})))
            await asyncio.sleep(0)
            assert asyncio.get_running_loop().time() < 0.01
            assert bench.buffer.waiting == 3
            await good
        assert [one.phones for one in service.sent] == [[phone(0), phone(1), phone(7)]]
        assert service.sent[0].columns == ["PhoneNumber", "Email"]

    virtual(main())


def test_a_lead_that_expires_while_it_waits_fails_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 1, 1, 10, 0)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            moment = began + timedelta(seconds=asyncio.get_running_loop().time())
            return cls(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, tzinfo=tz)

    monkeypatch.setattr("ozonetel_async.client.client.datetime", Clock)

    async def main() -> None:
        async with Bench(max_delay=30.0) as bench:
            bench.add(1)
            late = asyncio.create_task(bench.buffer.add(lead(8, expiry=began + timedelta(seconds=20))))
            bench.add(1)
            first, second = await bench.results()
            with pytest.raises(InvalidLeadError, match="expiry"):
                await late
            assert (first, second) == (BufferReceipt("accepted", "0" * 24, 1), BufferReceipt("accepted", "0" * 24, 2))

            alone = asyncio.create_task(bench.buffer.add(lead(9, expiry=Clock.now() + timedelta(seconds=20))))
            with pytest.raises(InvalidLeadError, match="expiry"):
                await alone
            assert bench.client.queues["bulk"].free == 4, "nothing was sent for it"
        assert [one.phones for one in service.sent] == [[phone(0), phone(1)]]

    virtual(main())


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (status(502, "Bad Gateway"), OutcomeUnknownError),
        (fails(OutcomeUnknownError("no answer", endpoint="bulk")), OutcomeUnknownError),
        (status(200, "Invalid Campaign Name"), CampaignError),
        (status(200, "Invalid data"), OzonetelError),
    ],
)
def test_a_failed_batch_fails_for_each_of_its_leads_with_an_exception_of_its_own(
    service: Service, reply: Callable[[], Awaitable[Response]], kind: type[OzonetelError]
) -> None:
    async def main() -> None:
        async with Bench(max_rows=3) as bench:
            service.replies = [reply]
            bench.add(6)
            results = await bench.results()
        failed, good = results[:3], results[3:]
        assert all(isinstance(error, kind) for error in failed)
        assert len(set(map(id, failed))) == 3
        assert len(set(map(str, failed))) == 1
        assert [one for one in good if isinstance(one, BufferReceipt)] == good
        assert len(service.sent) == 2, "nothing is sent again"

    virtual(main())


def test_a_service_that_cannot_be_reached_is_told_to_each_as_not_sent(service: Service) -> None:
    async def main() -> None:
        async with Bench() as bench:
            service.replies = [no_connection] * 2
            bench.add(3)
            results = await bench.results()
            assert [type(one) for one in results] == [ConnectError] * 3
            assert len(set(map(id, results))) == 3
            assert isinstance(await bench.add()[0], BufferReceipt)

    virtual(main())


def test_a_batch_refused_for_its_rate_goes_again_with_the_same_rows(service: Service) -> None:
    async def main() -> None:
        async with Bench(max_rows=10) as bench:
            service.replies = [status(429, "Too many Requests")]
            bench.add(3)
            await bench.at(5.2)
            bench.add(2)
            results = await bench.results()
        assert service.sent[1].phones == service.sent[0].phones == [phone(n) for n in range(3)]
        assert [one.row for one in results if isinstance(one, BufferReceipt)] == [1, 2, 3, 1, 2]

    virtual(main())


def test_put_returns_when_the_lead_is_taken_and_on_result_tells(service: Service) -> None:
    told: list[tuple[str, BufferReceipt | OzonetelError]] = []

    def note(lead: Lead, result: BufferReceipt | OzonetelError) -> None:
        told.append((lead.phone_number, result))
        if lead.phone_number == phone(1):
            raise RuntimeError("the caller's own")

    async def main() -> None:
        async with Bench(on_result=note, max_rows=3) as bench:
            for number in range(3):
                await bench.buffer.put(lead(number))
            assert (asyncio.get_running_loop().time() < 0.01, told) == (True, [])
            await bench.at(1.0)
            assert told == [(phone(n), BufferReceipt("accepted", "0" * 24, n + 1)) for n in range(3)]
            service.replies = [status(502, "Bad Gateway")]
            await bench.buffer.put(lead(3))
        assert [(number, type(result)) for number, result in told[3:]] == [(phone(3), OutcomeUnknownError)]

    virtual(main())


def test_leads_are_cleaned_and_each_receipt_tells_of_its_own(service: Service) -> None:
    async def main() -> None:
        async with Bench(clean=True) as bench:
            dirty = asyncio.create_task(bench.buffer.add(Lead("98120 00001")))
            clean = asyncio.create_task(bench.buffer.add(lead(2)))
            assert (await clean).cleaned == {}
            assert sum(sum(kinds.values()) for kinds in (await dirty).cleaned.values()) == 1
        assert [number[-10:] for number in service.sent[0].phones] == ["9812000001", phone(2)]

    virtual(main())


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_who_finds_the_buffer_full_waits_for_room(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2, max_waiting=4) as bench:
            bench.add(9)
            await bench.at(1.0)
            assert bench.buffer.waiting == 4
            putting = asyncio.create_task(bench.buffer.put(lead(100)))
            await bench.at(2.0)
            assert not putting.done()
            await bench.results()
            await putting
        assert [len(one.phones) for one in service.sent] == [2, 2, 2, 2, 2]
        assert [number for one in service.sent for number in one.phones] == [phone(n) for n in [*range(9), 100]]

    virtual(main())


def test_max_wait_bounds_the_wait_for_room(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2, max_waiting=2) as bench:
            bench.add(2)
            await bench.at(0.1)
            bench.add(2)
            await bench.at(10.0)
            with pytest.raises(QueueFullError, match="max_waiting=2") as caught:
                await bench.buffer.put(lead(9), max_wait=3.0)
            assert asyncio.get_running_loop().time() == pytest.approx(13.0, abs=0.01)
            assert caught.value.retry_after == pytest.approx(47.5, abs=0.1)
            await bench.results()
        async with Bench(max_rows=3, max_waiting=2) as bench:
            bench.add(2)
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match="max_waiting=2"):
                await bench.buffer.add(lead(9), max_wait=3.0)
            await bench.results()
        assert sum(len(one.phones) for one in service.sent) == 6

    virtual(main())


def test_max_wait_takes_a_lead_back_whose_turn_does_not_come(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2) as bench:
            bench.add(2)
            await bench.at(10.0)
            waiting = bench.add(1)[0]
            hasty = bench.add(1, max_wait=60.0)[0]
            await bench.at(11.0)
            began = asyncio.get_running_loop().time()
            with pytest.raises(QueueTimeoutError, match="max_wait=5 s") as caught:
                await bench.buffer.add(lead(9), max_wait=5.0)
            assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.01), "refused at once"
            assert caught.value.retry_after == pytest.approx(49.5, abs=0.1)
            assert (await waiting).row == 1
            assert (await hasty).row == 2
            await bench.at(70.0)
            lonely = asyncio.create_task(bench.buffer.add(lead(10), max_wait=52.0))
            more = bench.add(1)[0]
            service.latency = 30.0
            await bench.at(121.0)
            late = [bench.add(1)[0], asyncio.create_task(bench.buffer.add(lead(11), max_wait=61.0))]
            assert ((await lonely).row, (await more).row) == (1, 2)
            with pytest.raises(QueueTimeoutError):
                await late[1]
            assert (await late[0]).row == 1
        assert phone(11) not in [number for one in service.sent for number in one.phones]

    virtual(main())


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_cancelled_caller_takes_its_lead_back_and_leaves_the_others(service: Service) -> None:
    async def main() -> None:
        async with Bench() as bench:
            bench.add(4)
            await bench.at(2.0)
            bench.tasks[0].cancel()
            bench.tasks[2].cancel()
            first, second, third, fourth = await bench.results()
            assert isinstance(first, asyncio.CancelledError)
            assert isinstance(third, asyncio.CancelledError)
            assert (second, fourth) == (BufferReceipt("accepted", "0" * 24, 1), BufferReceipt("accepted", "0" * 24, 2))
        assert [one.phones for one in service.sent] == [[phone(1), phone(3)]]

    virtual(main())


def test_when_all_have_cancelled_nothing_is_sent_and_the_place_is_free_again(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1, 10.0)) as bench:
            bench.add(1)
            await bench.at(6.0)  # the limit has no place until 15.5
            bench.add(3)
            await bench.at(14.0)
            for task in bench.tasks[1:]:
                task.cancel()
            await bench.at(15.0)
            bench.add(1)  # which does not profit from the others' wish
            await bench.at(16.0)
            assert (bench.buffer.waiting, bench.client.queues["bulk"].free) == (1, 1)
            await bench.results()
        assert service.times() == [(5.0, 1), (20.0, 1)]

    virtual(main())


def test_a_lead_that_has_left_goes_its_way_when_its_caller_cancels(service: Service) -> None:
    async def main() -> None:
        async with Bench(max_rows=3) as bench:
            bench.add(3)
            await bench.at(0.2)
            bench.tasks[1].cancel()
            results = await bench.results()
            assert [one.row for one in results if isinstance(one, BufferReceipt)] == [1, 3]
        assert len(service.sent[0].phones) == 3

    virtual(main())


@pytest.mark.parametrize("seed", range(20))
def test_random_cancellations_faults_and_bounds_lose_and_double_nothing(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    faults: list[Callable[[], Awaitable[Response]]] = [
        status(502, "Bad Gateway"),
        status(429, "Too many Requests"),
        status(200, "Invalid Campaign Name"),
        no_connection,
    ]
    put: dict[str, BufferReceipt | OzonetelError] = {}

    def note(lead: Lead, result: BufferReceipt | OzonetelError) -> None:
        assert lead.phone_number not in put
        put[lead.phone_number] = result

    async def main() -> None:
        options: dict[str, Any] = {
            "max_rows": rng.randint(1, 9),
            "max_delay": rng.choice([0.0, 1.0, 5.0]),
            "max_waiting": 30,
        }
        width = rng.randint(1, 3)
        bench = Bench(RateLimit(width, 10.0), on_result=note, **options)
        taken: list[int] = []
        async with bench:
            for number in range(150):
                if rng.random() < 0.05:
                    service.replies.append(rng.choice(faults))
                service.latency = rng.choice([0.0, 0.2, 3.0])
                if rng.random() < 0.3:
                    try:
                        await bench.buffer.put(lead(1000 + number), max_wait=rng.choice([None, 3.0]))
                        taken.append(number)
                    except QueueFullError:
                        pass
                bench.add(1, max_wait=rng.choice([None, None, 30.0, 3.0, 0.0]))
                if rng.random() < 0.3:
                    task = rng.choice(bench.tasks)
                    asyncio.get_running_loop().call_later(rng.choice([0, 0.2, 5.0]), task.cancel)
                await asyncio.sleep(rng.choice([0.0, 0.0, 0.1, 2.0]))
            await bench.buffer.close(drain=rng.random() < 0.7)
            results = await bench.results()
        check(service, dict(zip(map(phone, range(150)), results, strict=True)))
        assert put.keys() == {phone(1000 + number) for number in taken}
        check(service, put)
        starts = sorted(one.at for one in service.sent)
        assert min((b - a for a, b in zip(starts, starts[width:], strict=False)), default=10.0) >= 10.0

    virtual(main())


def check(service: Service, results: dict[str, Any]) -> None:
    """Hold what the callers were told against what was sent."""
    tickets = {one.ticket: one for one in service.sent}
    for number, result in results.items():
        sent = [one for one in service.sent if number in one.phones]
        if isinstance(result, BufferReceipt):
            request = tickets[str(result.transaction_id)]
            assert result.row is not None
            assert request.phones[result.row - 1] == number
            assert sent[-1] is request
        elif isinstance(result, QueueFullError | QueueTimeoutError | ConfigurationError):
            assert not sent or result.outcome == "not_sent"
        else:
            assert isinstance(result, OzonetelError | asyncio.CancelledError)
        assert all(one.phones.count(number) == 1 for one in sent)


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_sends_what_is_left_and_waits(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=4, max_delay=1000.0) as bench:
            bench.add(10)
            await asyncio.sleep(0)
        assert [task.result().row for task in bench.tasks] == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
        assert [size for _, size in service.times()] == [4, 4, 2]

    virtual(main())


def test_closing_turns_away_at_once_who_waits_for_room(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2, max_waiting=2) as bench:
            bench.add(2)
            await bench.at(0.1)
            bench.add(12)
            await bench.at(1.0)
            closing = asyncio.create_task(bench.buffer.close())
            await bench.at(1.1)
            turned_away = [task for task in bench.tasks if task.done() and task.exception() is not None]
            assert turned_away == bench.tasks[4:]
            assert {type(task.exception()) for task in turned_away} == {ConfigurationError}
            await closing
        assert [one.phones for one in service.sent] == [[phone(0), phone(1)], [phone(2), phone(3)]]

    virtual(main())


def test_closing_without_draining_tells_each_what_became_of_it(service: Service) -> None:
    put: list[BufferReceipt | OzonetelError] = []

    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2, max_waiting=4, on_result=lambda _, one: put.append(one)) as bench:
            bench.add(5)
            await asyncio.sleep(0)
            await bench.buffer.put(lead(100))
            bench.add(3)  # which find no room
            await bench.at(0.2)
            await bench.buffer.close(drain=False)
            assert asyncio.get_running_loop().time() == pytest.approx(LATENCY, abs=0.01)
            results = await bench.results()
            assert [one.row for one in results[:2] if isinstance(one, BufferReceipt)] == [1, 2]
            assert [type(one) for one in [*results[2:], *put]] == [ConfigurationError] * 7
            assert all(isinstance(one, OzonetelError) and one.outcome == "not_sent" for one in [*results[2:], *put])
            with pytest.raises(ConfigurationError, match="closed"):
                await bench.buffer.add(lead(50))
            await bench.buffer.close()
        assert [len(one.phones) for one in service.sent] == [2]

    virtual(main())


@pytest.mark.parametrize("how", ["timeout", "leave by cancellation"])
def test_a_cancelled_close_leaves_what_is_on_the_wire_unknown(service: Service, how: str) -> None:
    async def main() -> None:
        service.latency = 1000.0
        bench = Bench(RateLimit(1), max_rows=2, max_delay=0.0)

        async def use() -> None:
            async with asyncio.timeout(3.0), bench:
                bench.add(3)
                await asyncio.sleep(1.0 if how == "timeout" else 100.0)

        with pytest.raises(TimeoutError):
            await use()
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.01)
        results = await bench.results()
        assert [type(one) for one in results] == [OutcomeUnknownError, OutcomeUnknownError, ConfigurationError]

    virtual(main())


def test_leaving_by_an_exception_sends_nothing_more_and_does_not_hang(service: Service) -> None:
    async def main() -> None:
        bench = Bench(RateLimit(1), max_rows=2)

        async def use() -> None:
            async with bench:
                bench.add(5)
                await bench.at(0.2)
                raise RuntimeError("the caller's own")

        with pytest.raises(RuntimeError, match="the caller's own"):
            await use()
        assert asyncio.get_running_loop().time() == pytest.approx(LATENCY, abs=0.01)
        assert [type(one) for one in await bench.results()] == [*[BufferReceipt] * 2, *[ConfigurationError] * 3]

    virtual(main())


def test_closing_the_client_first_tells_everybody(service: Service) -> None:
    async def main() -> None:
        async with Bench(RateLimit(1), max_rows=2) as bench:
            bench.add(5)
            await bench.at(1.0)
            await bench.client.close()
            await bench.buffer.close()
            assert [type(one) for one in await bench.results()] == [*[BufferReceipt] * 2, *[ConfigurationError] * 3]

    virtual(main())


# --- use --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_delay": -1.0}, "max_delay: expected zero or more seconds"),
        ({"max_delay": float("inf")}, "max_delay"),
        ({"max_rows": 501}, "max_rows: expected 1 to 500"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_waiting": 0}, "max_waiting"),
        ({"columns": ["PhoneNumber"]}, "a lead has a field of its own"),
        ({"columns": [" City"]}, "columns"),
        ({"queue_priority": 1.5}, "queue_priority"),
        ({"check_duplicate": True, "is_delete": True}, "is_delete"),
        ({"callback_url": "nonsense"}, "callback_url"),
        ({"callback_url": "https://a@b.example/", "journal": "x.journal"}, "callback_url"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_taken(options: dict[str, Any], text: str) -> None:
    client = OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user")
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        client.buffer("Diwali", **options)


def test_a_coroutine_function_is_no_on_result() -> None:
    async def never(lead: Lead, result: object) -> None:
        """Would not be awaited."""

    client = OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user")
    with pytest.raises(ConfigurationError, match="never awaited"):
        client.buffer("Diwali", on_result=never)


async def test_a_buffer_is_entered_once_and_used_within() -> None:
    async with OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user") as client:
        buffer = client.buffer("Diwali")
        with pytest.raises(ConfigurationError, match="async with"):
            await buffer.add(lead(1))
        async with buffer:
            assert repr(buffer) == "<LeadBuffer of 'Diwali': waiting=0, in_flight=0>"
            with pytest.raises(ConfigurationError, match="max_wait"):
                await buffer.add(lead(1), max_wait=-1.0)
        with pytest.raises(ConfigurationError, match="once"):
            await buffer.__aenter__()
