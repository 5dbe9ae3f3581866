"""A buffer with a journal: what ``put`` had returned for is sent, by whichever process comes to it, and once."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import web

from ozonetel_async import (
    BufferReceipt,
    CallbackReceiver,
    CampaignError,
    ConfigurationError,
    ConnectError,
    InvalidLeadError,
    JournalError,
    JournalFolder,
    Lead,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    RateLimit,
    RetryPolicy,
    Timeouts,
)
from ozonetel_async.journal.journal import Journal
from ozonetel_async.sending.transport import Transport
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Connect, eventually, fast_limits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.journal"


class Told:
    """An ``on_result`` that remembers, and finds doubles."""

    def __init__(self) -> None:
        self.results: dict[str, BufferReceipt | OzonetelError] = {}

    def __call__(self, lead: Lead, result: BufferReceipt | OzonetelError) -> None:
        assert lead.phone_number not in self.results
        self.results[lead.phone_number] = result

    def outcomes(self) -> dict[str, str]:
        return {number: one.outcome for number, one in self.results.items()}


def phone(number: int) -> str:
    return f"98{number:08d}"


def phones(numbers: Iterable[int]) -> list[str]:
    return [phone(number) for number in numbers]


def waiting(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM waiting").fetchone()[0])


def states(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [state for (state,) in db.execute("SELECT state FROM batches ORDER BY id")]


async def numbers(sim: Simulator) -> dict[str, int]:
    """How often each number was added."""
    await sim.settle()
    return dict(sim.campaigns["Diwali"].numbers)


# --- taken is on the disk ---------------------------------------------------------------------------------------------


async def test_put_returns_when_the_lead_is_on_the_disk(client: OzonetelClient, sim: Simulator, path: Path) -> None:
    told = Told()
    async with client.buffer("Diwali", journal=path, max_delay=1000.0, on_result=told) as buffer:
        for number in range(3):
            await buffer.put(Lead(phone(number), name="Asha"))
            assert waiting(path) == number + 1
        assert sim.arrivals("bulk") == 0
    assert (waiting(path), states(path)) == (0, ["accepted"])
    assert told.outcomes() == dict.fromkeys(phones(range(3)), "accepted")
    assert await numbers(sim) == dict.fromkeys(phones(range(3)), 1)


async def test_many_puts_at_a_time_share_a_commit(
    client: OzonetelClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    keep = Journal.keep

    async def counted(journal: Journal, leads: Sequence[bytes]) -> list[int]:
        groups.append(len(leads))
        return await keep(journal, leads)

    monkeypatch.setattr(Journal, "keep", counted)
    async with client.buffer("Diwali", journal=path) as buffer:
        await asyncio.gather(*(buffer.put(Lead(phone(number))) for number in range(100)))
    assert sum(groups) == 100
    assert len(groups) < 10


async def test_a_lead_that_cannot_be_written_is_not_taken(
    client: OzonetelClient, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> list[int]:
        raise JournalError("journal web.journal: the disk is full")

    told = Told()
    async with client.buffer("Diwali", journal=path, max_waiting=2, on_result=told) as buffer:
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "keep", full)
            results = await asyncio.gather(*(buffer.put(Lead(phone(n))) for n in range(2)), return_exceptions=True)
        assert [type(one) for one in results] == [JournalError] * 2
        assert results[0] is not results[1]
        await asyncio.wait_for(asyncio.gather(*(buffer.put(Lead(phone(n))) for n in range(2, 4))), 10)
    assert sorted(told.results) == phones([2, 3])
    assert await numbers(sim) == dict.fromkeys(phones([2, 3]), 1)


async def test_a_batch_that_cannot_be_written_is_not_sent_and_the_journal_keeps_its_leads(
    client: OzonetelClient, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> int:
        raise JournalError("journal web.journal: the disk is full")

    told = Told()
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "cut", full)
        async with client.buffer("Diwali", journal=path, max_delay=0.01, on_result=told) as buffer:
            await buffer.put(Lead(phone(1)))
            with pytest.raises(JournalError):
                await buffer.add(Lead(phone(2)))
    assert told.results == {phone(1): BufferReceipt("kept")}
    assert sim.arrivals("bulk") == 0
    async with client.buffer("Diwali", journal=path):
        pass
    assert await numbers(sim) == {phone(1): 1}


# --- the next run -----------------------------------------------------------------------------------------------------


async def test_what_a_buffer_left_in_its_journal_is_sent_by_the_next(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    first, second = Told(), Told()
    soon = datetime.now(UTC) + timedelta(days=1)
    buffer = client.buffer("Diwali", journal=path, max_delay=1000.0, columns=["City"], on_result=first)
    async with buffer:
        leads = [Lead(phone(n), name="Asha", priority=n, expiry=soon, extra={"City": "Pune"}) for n in range(5)]
        for lead in leads:
            await buffer.put(lead)
        adding = asyncio.create_task(buffer.add(Lead(phone(9))))
        await eventually(lambda: buffer.waiting == 6)
        await buffer.close(drain=False)
        with pytest.raises(ConfigurationError):
            await adding
    assert first.results == dict.fromkeys(phones(range(5)), BufferReceipt("kept"))
    assert sim.arrivals("bulk") == 0
    async with client.buffer("Diwali", journal=path, max_delay=1000.0, columns=["City"], on_result=second):
        await eventually(lambda: len(second.results) == 5)  # they have waited long enough
    assert second.outcomes() == dict.fromkeys(phones(range(5)), "accepted")
    await sim.settle()
    assert [(lead.phone, lead.priority) for lead in sim.campaigns["Diwali"].leads] == [(phone(n), n) for n in range(5)]
    assert {lead.extra["City"] for lead in sim.campaigns["Diwali"].leads} == {"Pune"}


async def test_a_batch_that_was_cut_and_not_sent_is_sent_by_the_next_with_the_same_bytes(
    client: OzonetelClient, connect: Connect, sim: Simulator, path: Path
) -> None:
    told = Told()
    sim.inject("bulk", Fault.rate_refusal(), times=1)
    slow = connect(limits=fast_limits(bulk=RateLimit(1, 60.0)))
    async with slow.buffer("Diwali", journal=path, max_rows=3, on_result=told) as buffer:
        adding = asyncio.create_task(buffer.add(Lead(phone(0))))
        await asyncio.sleep(0)
        await asyncio.gather(*(buffer.put(Lead(phone(number))) for number in range(1, 3)))
        await eventually(lambda: sim.arrivals("bulk") == 1 and states(path) == ["pending"])
        await buffer.close(drain=False)
        # Its row is in the batch that the journal has.
        assert await adding == BufferReceipt("kept")
    assert told.results == dict.fromkeys(phones([1, 2]), BufferReceipt("kept"))
    again = Told()
    async with client.buffer("Diwali", journal=path, on_result=again):
        pass
    assert again.outcomes() == dict.fromkeys(phones(range(3)), "accepted")
    first, second = sim.requests("bulk")
    assert first.params["bulkData"] == second.params["bulkData"]
    assert await numbers(sim) == dict.fromkeys(phones(range(3)), 1)


@pytest.mark.parametrize(
    ("fault", "kind", "state"),
    [(Fault.html(apply=True), OutcomeUnknownError, "unknown"), (None, CampaignError, "refused")],
)
async def test_what_was_told_as_unknown_or_refused_is_not_sent_by_the_next(
    client: OzonetelClient, sim: Simulator, path: Path, fault: Fault | None, kind: type[OzonetelError], state: str
) -> None:
    told, again = Told(), Told()
    if fault is None:
        del sim.campaigns["Diwali"]
    else:
        sim.inject("bulk", fault)
    async with client.buffer("Diwali", journal=path, on_result=told) as buffer:
        await buffer.put(Lead(phone(1)))
    assert [type(one) for one in told.results.values()] == [kind]
    assert (waiting(path), states(path)) == (0, [state])
    async with client.buffer("Diwali", journal=path, on_result=again):
        pass
    assert (again.results, sim.arrivals("bulk")) == ({}, 1)


async def test_leads_of_a_client_that_was_closed_first_are_kept(
    client: OzonetelClient, connect: Connect, sim: Simulator, path: Path
) -> None:
    told, again = Told(), Told()
    async with client.buffer("Diwali", journal=path, max_delay=1000.0, on_result=told) as buffer:
        await buffer.put(Lead(phone(1)))
        await client.close()
    assert told.results == {phone(1): BufferReceipt("kept")}
    async with connect().buffer("Diwali", journal=path, on_result=again):
        pass
    assert again.outcomes() == {phone(1): "accepted"}
    assert await numbers(sim) == {phone(1): 1}


async def test_a_lead_that_expired_in_the_journal_is_told_and_gone(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    async with client.buffer("Diwali", journal=path, max_delay=1000.0) as buffer:
        await buffer.put(Lead(phone(1), expiry=datetime.now(UTC) + timedelta(days=1)))
        await buffer.put(Lead(phone(2)))
        await buffer.close(drain=False)
    with closing(sqlite3.connect(path)) as db:
        lead = b'{"map":["PhoneNumber","ExpiryDate"],"data":[["%b","2001-01-01"]]}' % phone(1).encode()
        db.execute("UPDATE waiting SET lead = ? WHERE id = 1", (lead,))
        db.commit()
    told = Told()
    async with client.buffer("Diwali", journal=path, on_result=told):
        pass
    assert isinstance(told.results[phone(1)], InvalidLeadError)
    assert told.outcomes()[phone(2)] == "accepted"
    assert waiting(path) == 0


async def test_leads_in_the_journal_wait_for_a_service_that_is_away(
    client: OzonetelClient, connect: Connect, sim: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, again = Told(), Told()
    attempts = 0
    patient = connect(retry=RetryPolicy(connect_attempts=1, backoff=100.0, max_backoff=100.0))

    async def away(*_: object) -> NoReturn:
        nonlocal attempts
        attempts += 1
        raise ConnectError("no connection", endpoint="bulk")

    with monkeypatch.context() as patched:
        patched.setattr(Transport, "send", away)
        async with client.buffer("Diwali", journal=path, max_delay=0.0, on_result=told) as buffer:
            await buffer.put(Lead(phone(1)))
            await eventually(lambda: attempts > 10)  # single calls end after three
            assert told.results == {}
        assert told.results == {phone(1): BufferReceipt("kept")}
        attempts = 0
        async with patient.buffer("Diwali", journal=path):
            # A kill in the outage must not leave it unknown.
            await eventually(lambda: attempts == 1 and states(path) == ["pending"])
        assert attempts == 2, "closing ends the pause"
    async with client.buffer("Diwali", journal=path, on_result=again):
        pass
    assert again.outcomes() == {phone(1): "accepted"}
    assert await numbers(sim) == {phone(1): 1}


# --- whose journal it is ----------------------------------------------------------------------------------------------


async def test_a_journal_is_of_an_upload_or_of_a_buffer(client: OzonetelClient, path: Path, tmp_path: Path) -> None:
    async with client.buffer("Diwali", journal=path, max_delay=1000.0) as buffer:
        await buffer.put(Lead(phone(1)))
        with pytest.raises(JournalError, match="in use by another process"):
            await client.buffer("Diwali", journal=path).__aenter__()
        await buffer.close(drain=False)
    with pytest.raises(JournalError, match="its kind is 'buffer', not 'upload'"):
        await client.upload("Diwali", [Lead(phone(2))], journal=path)
    with pytest.raises(JournalError, match="its campaign is 'Diwali', not 'Holi'"):
        await client.buffer("Holi", journal=path).__aenter__()
    await client.upload("Diwali", [Lead(phone(2))], journal=tmp_path / "upload.journal")
    with pytest.raises(JournalError, match="its kind is 'upload', not 'buffer'"):
        await client.buffer("Diwali", journal=tmp_path / "upload.journal").__aenter__()


async def test_a_damaged_lead_is_an_error_and_the_journal_is_let_go_of(client: OzonetelClient, path: Path) -> None:
    async with client.buffer("Diwali", journal=path, max_delay=1000.0) as buffer:
        await buffer.put(Lead(phone(1)))
        await buffer.close(drain=False)
    for damage in (b"{", None, b'{"map":["PhoneNumber"],"data":[]}'):
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE waiting SET lead = ?", (damage if damage is not None else "text",))
            db.commit()
        with pytest.raises(JournalError, match="damaged"):
            await client.buffer("Diwali", journal=path).__aenter__()


# --- callbacks --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def receiving(folder: Path) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/in/{tail:.*}", CallbackReceiver(JournalFolder(folder)).aiohttp_handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    await runner.cleanup()


async def test_callbacks_settle_the_batches_of_a_buffer(client: OzonetelClient, sim: Simulator, path: Path) -> None:
    sim.inject("bulk", Fault.html(apply=True), after=1)
    async with receiving(path.parent) as url:
        options = {"journal": path, "callback_url": url, "max_rows": 2}
        async with client.buffer("Diwali", **options) as buffer:  # type: ignore[arg-type]
            for number in range(6):
                await buffer.put(Lead(phone(number)))
        await sim.settle()
        urls = {str(request.params["callBackUrl"]) for request in sim.requests("bulk")}
        assert len(urls) == 3
        assert [callback.status for callback in sim.callbacks] == [200] * 3
    journal = await Journal.attach(path)
    batches = await journal.batches()
    # The answer that got lost, too.
    assert [batch.state for batch in batches] == ["accepted"] * 3
    assert all(batch.settlement.result is not None for batch in batches)
    assert await journal.unsettled() == 0
    await journal.close()


# --- kill -9 ----------------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from ozonetel_async import *

url, path, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

async def main():
    limits = Limits(bulk=RateLimit(5, 0.1), transit_margin=0.05)
    async with OzonetelClient("sim-key-3f9a6c1e5b7d", "sim-user", base_url=url, limits=limits) as client:
        async with client.buffer("Diwali", journal=path, max_delay=0.05, max_rows=7) as buffer:
            print("open", flush=True)
            async def put(number):
                await buffer.put(Lead(f"98{number:08d}"))
                print(number, flush=True)
            for number in range(first, first + count, 5):
                await asyncio.gather(*(put(n) for n in range(number, number + 5)))

asyncio.run(main())
"""


async def worker(sim: Simulator, path: Path, first: int, count: int, kill_after: int | None) -> list[int]:
    """Run a process that puts leads, and is killed after so many of them; the leads it has said are taken."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, sim.base_url, str(path), str(first), str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines: list[bytes] = []
    while line := await process.stdout.readline():
        lines.append(line)
        if kill_after is not None and len(lines) == kill_after + 1:
            process.send_signal(signal.SIGKILL)
    assert await process.wait() == (0 if kill_after is None else -signal.SIGKILL)
    return [int(line) for line in lines if line != b"open\n"]


@pytest.mark.parametrize("sim_options", [{"window": 0.1, "latency": (0.0, 0.02)}])
async def test_a_killed_process_loses_and_doubles_no_lead_that_put_had_returned_for(
    sim: Simulator, path: Path, sim_options: object
) -> None:
    rng = random.Random(1)
    taken: list[int] = []
    for life in range(4):
        taken += await worker(sim, path, 1000 * life, 400, rng.randint(0, 120))
    taken += await worker(sim, path, 9000, 5, None)
    added = await numbers(sim)
    with closing(sqlite3.connect(path)) as db:
        bodies = db.execute("SELECT body FROM batches JOIN bodies USING (id) WHERE state = 'unknown'").fetchall()
    unknown = b"".join(body for (body,) in bodies).decode()
    assert set(states(path)) <= {"accepted", "unknown"}
    assert [number for number in taken if phone(number) not in added and phone(number) not in unknown] == []
    assert max(added.values()) == 1
    assert waiting(path) == 0


async def test_what_was_in_flight_at_a_kill_is_unknown_and_not_sent_again(
    client: OzonetelClient, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.stall_after_apply())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, sim.base_url, str(path), "0", "5"), stdout=asyncio.subprocess.PIPE
    )
    await eventually(lambda: sim.writes_applied("bulk") == 1, 30.0)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert states(path) == ["sent"]
    # Another client of the same account: the journal knows it by host and user name.
    async with client.buffer("Diwali", journal=path):
        pass
    assert states(path) == ["unknown"]
    assert await numbers(sim) == dict.fromkeys(phones(range(5)), 1)


async def test_leaving_in_the_middle_of_a_stalled_request_tells_unknown(
    connect: Connect, sim: Simulator, path: Path
) -> None:
    sim.inject("bulk", Fault.stall_after_apply())
    told = Told()
    client = connect(timeouts=Timeouts(0.3, 0.3))
    async with client.buffer("Diwali", journal=path, max_rows=1, on_result=told) as buffer:
        await buffer.put(Lead(phone(1)))
        await sim.wait_for(lambda: sim.writes_applied("bulk") == 1)
        await buffer.close(drain=False)
    assert told.outcomes() == {phone(1): "unknown"}
    assert states(path) == ["unknown"]
