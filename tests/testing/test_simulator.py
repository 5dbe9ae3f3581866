"""The simulator as a server: faults over real sockets, its log and figures, its life."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from typing import get_type_hints

import aiohttp
import pytest

from ozonetel_async.testing import Fault, Settings, Simulator, serve
from ozonetel_async.testing.settings import SimulatorOptions

ADD = "/ca_apis/AddCampaignData"
PHONE = "919812345678"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def add(http: aiohttp.ClientSession, sim: Simulator, phone: str = PHONE, path: str = ADD) -> tuple[int, bytes]:
    body = {"userName": sim.username, "campaignName": "Diwali", "phoneNumber": phone}
    async with http.post(
        sim.base_url + path, json=body, headers={"apiKey": sim.api_key}, allow_redirects=False
    ) as reply:
        return reply.status, await reply.read()


GOOD = b'{"status":"Success","message":"Campaign Progressive Is Already Started"}'
ANSWERS = [
    (Fault.status(500), 500, b"<html>", 1),
    (Fault.status(502, apply=False, body="bad gateway"), 502, b"bad gateway", 0),
    (Fault.html(), 200, b"<html>", 1),
    (Fault.html(apply=False), 200, b"<html>", 0),
    (Fault.empty(), 200, b"", 1),
    (Fault.truncated(flavour="json"), 200, GOOD[: len(GOOD) // 2], 1),
    (Fault.slow(0.0), 200, GOOD, 1),
    (Fault.rate_refusal(), 200, b'{"status":"error","message":"Max limit exceeded"}', 0),
    (Fault.http_429("7"), 429, b"{", 0),
    (Fault.prefix("Warning: x\n"), 200, b"Warning: x\n" + GOOD, 1),
    (Fault.bom(), 200, b"\xef\xbb\xbf" + GOOD, 1),
    (Fault.wrong_content_type(), 200, GOOD, 1),
    (Fault.redirect("http://127.0.0.1:1/"), 302, b"", 0),
    (Fault.oversized(200_000), 200, GOOD + b" " * (200_000 - len(GOOD)), 1),
]


@pytest.mark.parametrize(("fault", "status", "body", "writes"), ANSWERS, ids=lambda value: getattr(value, "name", ""))
async def test_faults_of_the_answer(
    http: aiohttp.ClientSession, sim: Simulator, fault: Fault, status: int, body: bytes, writes: int
) -> None:
    sim.inject("add", fault)
    code, content = await add(http, sim)
    assert code == status
    assert content.startswith(body)
    assert bool(content) == bool(body)
    assert len(content) < 300 or len(content) == 200_000
    assert sim.writes_applied("add") == sim.campaigns["Diwali"].stored == writes
    assert (sim.log[0].fault, sim.log[0].status) == (fault.name, status)
    assert await add(http, sim) == (200, GOOD)


@pytest.mark.parametrize(
    ("fault", "writes"),
    [
        (Fault.reset_before_apply(), 0),
        (Fault.reset_after_apply(), 1),
        (Fault.truncated(), 1),
        (Fault.truncated(apply=False), 0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_faults_that_break_the_connection(
    http: aiohttp.ClientSession, sim: Simulator, fault: Fault, writes: int
) -> None:
    sim.inject("add", fault)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ClientPayloadError)):
        await add(http, sim)
    assert sim.writes_applied("add") == sim.campaigns["Diwali"].stored == writes


async def test_a_reset_is_a_reset(sim: Simulator) -> None:
    sim.inject("*", Fault.reset_before_apply())
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.base_url.rpartition(":")[2]))
    writer.write(b"POST /ca_apis/AddCampaignData HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize(("fault", "writes"), [(Fault.stall_before_apply(), 0), (Fault.stall_after_apply(), 1)])
async def test_a_stall_ends_when_the_client_disconnects(
    http: aiohttp.ClientSession, sim: Simulator, fault: Fault, writes: int
) -> None:
    sim.inject("add", fault)
    request = asyncio.create_task(add(http, sim))
    await sim.wait_for(lambda: sim.log and sim.log[0].message)
    assert sim.writes_applied("add") == writes
    assert sim.in_flight == 1
    request.cancel()
    await sim.wait_for(lambda: sim.in_flight == 0)
    assert sim.log[0].status == 0


async def test_a_stall_ends_when_the_simulator_closes(http: aiohttp.ClientSession) -> None:
    async with Simulator() as sim:
        sim.inject("add", Fault.stall_before_apply())
        request = asyncio.create_task(add(http, sim))
        await sim.wait_for(lambda: sim.log)
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_faults_are_consumed_in_order(http: aiohttp.ClientSession, sim: Simulator) -> None:
    first = sim.inject("add", Fault.status(500), times=2)
    sim.inject("add", Fault.status(501), after=1)
    sim.inject("add", Fault.status(502), after=4)
    sim.inject("bulk", Fault.status(503))
    sim.inject("*", Fault.status(504))
    assert [(await add(http, sim))[0] for _ in range(7)] == [500, 500, 501, 504, 502, 200, 200]
    assert first.used == 2


async def test_a_fault_without_end_until_cleared(http: aiohttp.ClientSession, sim: Simulator) -> None:
    rule = sim.inject("add", Fault.status(500), times=None, probability=0.5)
    codes = [(await add(http, sim))[0] for _ in range(40)]
    assert 0 < codes.count(500) == rule.used < 40
    sim.clear_faults()
    assert [(await add(http, sim))[0] for _ in range(5)] == [200] * 5


async def test_faults_and_requests_are_reproducible(http: aiohttp.ClientSession) -> None:
    async def codes(seed: int) -> list[int]:
        async with Simulator(seed=seed) as sim:
            sim.inject("add", Fault.status(500), times=None, probability=0.5)
            return [(await add(http, sim))[0] for _ in range(30)]

    assert await codes(1) == await codes(1) != await codes(2)


async def test_refusals_are_counted_apart(http: aiohttp.ClientSession) -> None:
    async with Simulator(limits={"add": 3}) as sim:
        sim.inject("add", Fault.rate_refusal())
        for _ in range(6):
            await add(http, sim)
        assert (sim.arrivals("add"), sim.refusals("add"), sim.writes_applied("add")) == (6, 3, 3)
        assert sim.worst_window("add") == 3
        assert [record.refused for record in sim.requests("add")] == [True, False, False, False, True, True]


async def test_figures_count_on_when_the_log_is_cut(http: aiohttp.ClientSession) -> None:
    async with Simulator(max_log=2, keep_leads=False) as sim:
        for _ in range(5):
            await add(http, sim)
        assert len(sim.log) == 2
        assert (sim.writes_applied("add"), sim.rows_applied("add"), sim.worst_window("add")) == (5, 5, 5)
        campaign = sim.campaigns["Diwali"]
        assert (campaign.stored, campaign.leads, dict(campaign.numbers)) == (5, [], {})
        assert not sim.log[0].params


async def test_the_log_shows_parameters_and_hides_the_key(http: aiohttp.ClientSession, sim: Simulator) -> None:
    await add(http, sim)
    params = {"api_key": sim.api_key, "apiKey": sim.api_key}
    async with http.get(f"{sim.base_url}/CAServices/scheduleCampaignData/scheduleCampaignData.php", params=params):
        pass
    assert sim.log[0].params["phoneNumber"] == PHONE
    assert sim.log[0].headers["apikey"] == sim.api_key
    assert sim.log[1].params["api_key"] == sim.api_key
    assert sim.api_key not in repr(sim.log)
    assert "***" in repr(sim.log[1])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/ca_apis/addcampaigndata", 404), ("GET", ADD, 405), ("POST", "/", 404)],
)
async def test_other_paths_and_methods(
    http: aiohttp.ClientSession, sim: Simulator, method: str, path: str, status: int
) -> None:
    async with http.request(method, sim.base_url + path) as reply:
        assert reply.status == status
        assert "html" in reply.headers["Content-Type"]


async def test_latency_delays_the_arrival_and_the_answer(http: aiohttp.ClientSession) -> None:
    async with Simulator(latency=(0.02, 0.03)) as sim:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await add(http, sim)
        assert start + 0.02 <= sim.log[0].at <= loop.time() - 0.02


async def test_a_request_under_way_arrives_after_the_client_disconnects(http: aiohttp.ClientSession) -> None:
    async with Simulator(latency=(0.05, 0.05)) as sim:
        request = asyncio.create_task(add(http, sim))
        await sim.wait_for(lambda: sim.in_flight)
        request.cancel()
        await sim.wait_for(lambda: sim.writes_applied("add") == 1)


async def test_an_unfinished_body_is_an_arrival_without_effect(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(sim.base_url.rpartition(":")[2]))
    writer.write(b"POST /ca_apis/AddCampaignData HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n{")
    await sim.wait_for(lambda: sim.log)
    writer.close()
    await sim.wait_for(lambda: sim.in_flight == 0)
    assert (sim.arrivals("add"), sim.writes_applied("add"), sim.log[0].status) == (1, 0, 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_wait_for_times_out_with_the_state(sim: Simulator) -> None:
    with pytest.raises(TimeoutError, match=r"not met within 0\.02 s; <Simulator http"):
        await sim.wait_for(lambda: False, timeout=0.02)


async def test_wait_for_sees_conditions_outside_the_simulator(sim: Simulator) -> None:
    flag: list[int] = []
    asyncio.get_running_loop().call_later(0.02, flag.append, 1)
    await sim.wait_for(lambda: flag)


async def test_closing_leaves_no_task_and_no_port(http: aiohttp.ClientSession) -> None:
    before = asyncio.all_tasks()
    async with Simulator(queue_delay=(60.0, 60.0), latency=(0.0, 0.001)) as sim:
        body = {
            "apiKey": sim.api_key,
            "userName": sim.username,
            "campaignName": "Diwali",
            "bulkData": json.dumps({"map": ["PhoneNumber"], "data": [[PHONE]]}),
        }
        path = "/cloudAgentRestAPI/index.php/AddCampaignBulkDataV4/addBulkData/format/json"
        async with http.post(sim.base_url + path, data=body):
            pass
        assert sim.busy
    assert asyncio.all_tasks() == before
    with pytest.raises(aiohttp.ClientConnectorError):
        await add(http, sim)
    with pytest.raises(RuntimeError, match="started once"):
        await sim.start()


async def test_closing_ends_requests_of_disconnected_clients(http: aiohttp.ClientSession) -> None:
    before = asyncio.all_tasks()
    async with Simulator(latency=(60.0, 60.0)) as sim:
        request = asyncio.create_task(add(http, sim))
        await sim.wait_for(lambda: sim.in_flight)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert asyncio.all_tasks() == before


async def test_a_taken_port_is_an_error_and_leaves_no_task(sim: Simulator) -> None:
    before = asyncio.all_tasks()
    other = Simulator(port=int(sim.base_url.rpartition(":")[2]))
    with pytest.raises(OSError, match="address already in use"):
        await other.start()
    assert asyncio.all_tasks() == before


async def test_serve_runs_until_cancelled(http: aiohttp.ClientSession) -> None:
    sim = Simulator()
    task = asyncio.create_task(serve(sim))
    await sim.wait_for(lambda: sim.base_url)
    assert (await add(http, sim))[0] == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await add(http, sim)


async def test_a_simulator_in_a_thread(http: aiohttp.ClientSession) -> None:
    with Simulator.in_thread(seed=3) as sim:
        sim.inject("add", Fault.status(500))
        assert (await add(http, sim))[0] == 500
        waiting = asyncio.create_task(sim.wait_for(lambda: sim.campaigns["Diwali"].stored == 2))
        assert (await add(http, sim))[0] == 200
        await waiting
        await sim.settle()


def test_an_error_in_the_thread_is_raised_in_the_caller() -> None:
    with (
        pytest.raises(ValueError, match="more than 0 seconds"),
        Simulator.in_thread(window=0.0),
    ):
        pytest.fail("started")


def test_a_limit_of_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="expected names of endpoints, got ad"):
        Simulator(limits={"ad": 5})


def test_every_setting_is_a_keyword() -> None:
    assert set(get_type_hints(SimulatorOptions)) == set(Settings.__struct_fields__)
    assert get_type_hints(SimulatorOptions) == get_type_hints(Settings)


def test_faults_are_values() -> None:
    assert Fault.reset_after_apply() == Fault.reset_after_apply()
    assert pickle.loads(pickle.dumps(Fault.http_429("3"))) == Fault.http_429("3")
    assert hash(Fault.bom()) == hash(Fault.bom())
