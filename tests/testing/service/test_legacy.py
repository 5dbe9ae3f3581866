"""The simulator's schedule endpoints and the deprecated GET calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from ozonetel_async.testing import Simulator

SCHEDULE = "/ca_apis/CampaignScheduledData"
LEGACY_SCHEDULE = "/CAServices/scheduleCampaignData/scheduleCampaignData.php"
LEGACY_ADD = "/cloudAgentRestAPI/index.php/CloudAgent/CloudAgentAPI/addCamapaignData"
NOW = datetime.now(ZoneInfo("Asia/Kolkata"))
SOON = f"{NOW + timedelta(days=2):%Y-%m-%d %H:%M:%S}"
MISSING: Any = object()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def table(rows: list[list[Any]], columns: tuple[str, ...] = ("PhoneNumber", "Name", "ScheduledTime")) -> dict[str, Any]:
    return {"map": list(columns), "data": rows}


ROWS = [["9812345670", "Asha", SOON], ["9812345671", "Ravi", SOON]]


async def schedule(
    http: aiohttp.ClientSession, sim: Simulator, path: str = SCHEDULE, key: str | None = None, **fields: Any
) -> dict[str, Any]:
    body = {"userName": sim.username, "campaignName": "Diwali", "bulkData": table(ROWS), **fields}
    body = {name: value for name, value in body.items() if value is not MISSING}
    async with http.post(sim.base_url + path, json=body, headers={"apiKey": key or sim.api_key}) as reply:
        answer: dict[str, Any] = await reply.json()
        return answer


@pytest.mark.parametrize("path", [SCHEDULE, "/ca_apis/campaignScheduledData", "/ca_apis/CAMPAIGNSCHEDULEDDATA"])
async def test_schedule_answers_each_row(http: aiohttp.ClientSession, sim: Simulator, path: str) -> None:
    answer = await schedule(http, sim, path)
    assert answer["status"] == "success"
    assert [(row["index"], row["PhoneNumber"], row["msg"]) for row in answer["message"]] == [
        ("0", "9812345670", "Data updated successfully"),
        ("1", "9812345671", "Data updated successfully"),
    ]
    names = ("Response", "ScheduleTime", "campaign_name", "PhoneNumber", "Name", "AgentID", "skill", "msg", "index")
    assert sorted(answer["message"][0]) == sorted(names)
    assert [(lead.scheduled_for, lead.via) for lead in sim.campaigns["Diwali"].leads] == [(SOON, "schedule")] * 2


NOT_FOUND = "api_key or campaign_name is invalid or not found"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "wrong"}, NOT_FOUND),
        ({"campaignName": "Holi"}, NOT_FOUND),
        ({"userName": "other"}, NOT_FOUND),
        (
            {"bulkData": table([["9812345670"]], ("PhoneNumber",))},
            "Mandatory parameter ScheduledTime is in bulkData map",
        ),
        ({"bulkData": table([["9812345670", "Asha", "2099-01-01"]])}, "Wrong Date format"),
        ({"bulkData": table([["9812345670", "Asha", "31-12-2099 10:00:00"]])}, "Wrong Date format"),
        ({"bulkData": MISSING}, "Please provide valid data"),
        ({"bulkData": table(ROWS[:1] * 101)}, "100 records per request are allowed"),
        (
            {"bulkData": table([["9812345670", "Asha", "2020-01-01 00:00:00"]])},
            "ScheduledTime is not within the allowed days",
        ),
        (
            {"bulkData": table([["9812345670", "Asha", f"{NOW + timedelta(days=31):%Y-%m-%d %H:%M:%S}"]])},
            "ScheduledTime is not within the allowed days",
        ),
    ],
)
async def test_schedule_refusals(
    http: aiohttp.ClientSession, sim: Simulator, fields: dict[str, Any], message: str
) -> None:
    assert await schedule(http, sim, **fields) == {"status": "error", "message": message}
    assert sim.campaigns["Diwali"].stored == 0


async def test_bad_scheduled_rows_fail_one_by_one(http: aiohttp.ClientSession, sim: Simulator) -> None:
    sim.dnd.add("9812345673")
    rows = [["", "No", SOON], *ROWS, ["9812345670", "Again", SOON], ["9812345673", "Quiet", SOON], ["x", "Bad", SOON]]
    answer = await schedule(http, sim, bulkData=table(rows), checkDuplicate=True)
    assert answer["status"] == "success"
    assert [row["Response"] for row in answer["message"]] == ["failure", "success", "success", *["failure"] * 3]
    assert [row["msg"] for row in answer["message"]][::3] == ["Phone Number is Empty!", "Number Already Exist"]
    assert sim.log[-1].applied == sim.campaigns["Diwali"].stored == 2


async def test_a_raw_plus_is_lost_and_an_escaped_one_kept(http: aiohttp.ClientSession, sim: Simulator) -> None:
    rows = [["+919812345670", "Asha", SOON], ["%2B919812345671", "Ravi", SOON]]
    await schedule(http, sim, bulkData=table(rows))
    assert [lead.phone for lead in sim.campaigns["Diwali"].leads] == ["919812345670", "+919812345671"]


async def test_schedule_with_a_token(http: aiohttp.ClientSession) -> None:
    async with Simulator(auth_mode="TOKEN_AUTH") as sim:
        assert (await schedule(http, sim))["message"] == "Invalid action."
        body = {"userName": sim.username, "campaign_name": "Diwali", "bulkData": table(ROWS)}
        url = sim.base_url + SCHEDULE
        async with http.post(url, json=body, headers={"Authorization": "Bearer nonsense"}) as reply:
            assert (await reply.json())["message"] == "Invalid Token"
        headers = {"Authorization": f"Bearer {sim.tokens.issue(sim.username)}"}
        async with http.post(url, json=body, headers=headers) as reply:
            answer = await reply.json()
        assert len(answer["message"]) == 2


async def get(http: aiohttp.ClientSession, sim: Simulator, path: str, **params: Any) -> str:
    async with http.get(sim.base_url + path, params=params) as reply:
        assert reply.status == 200
        return await reply.text()


async def test_legacy_schedule(http: aiohttp.ClientSession, sim: Simulator) -> None:
    good = {"api_key": sim.api_key, "campaign_name": "Diwali", "bulkData": json.dumps(table(ROWS))}
    answer = json.loads(await get(http, sim, LEGACY_SCHEDULE, **good))
    assert [row["msg"] for row in answer["message"]] == ["Data updated successfully"] * 2
    for change in ({"api_key": "wrong"}, {"campaign_name": "Holi"}):
        answer = json.loads(await get(http, sim, LEGACY_SCHEDULE, **{**good, **change}))
        assert answer == {"status": "error", "message": NOT_FOUND}
    assert sim.campaigns["Diwali"].leads[0].via == "legacy_schedule"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"api_key": "wrong"}, "FAIL", "No User Found"),
        ({"PhoneNumber": ""}, "FAIL", "Phone Number is Empty!"),
        ({"PhoneNumber": "9812345679"}, "FAIL", "PhoneNumber Added is a DND Number"),
        ({"action": "START"}, "SUCCESS", "Successfully Updated, Progressive was started"),
        ({"checkDuplicate": "TRUE", "PhoneNumber": "9812345678"}, "SUCCESS", "Number Already Exist"),
    ],
)
async def test_legacy_add(
    http: aiohttp.ClientSession, sim: Simulator, change: dict[str, str], status: str, message: str
) -> None:
    sim.dnd.add("9812345679")
    good = {"api_key": sim.api_key, "campaign_name": "Diwali", "PhoneNumber": "9812345670", "format": "json"}
    await get(http, sim, LEGACY_ADD, **{**good, "PhoneNumber": "9812345678"})
    stored = sim.campaigns["Diwali"].stored
    assert json.loads(await get(http, sim, LEGACY_ADD, **{**good, **change})) == {"status": status, "message": message}
    assert sim.campaigns["Diwali"].stored - stored == ("action" in change)


async def test_legacy_add_answers_xml_by_default(http: aiohttp.ClientSession, sim: Simulator) -> None:
    text = await get(http, sim, LEGACY_ADD, api_key="wrong")
    assert text.endswith("<xml><status>FAIL</status><message>No User Found</message></xml>")


async def test_legacy_add_takes_forms_and_queries(http: aiohttp.ClientSession, sim: Simulator) -> None:
    values = {"api_key": sim.api_key, "campaign_name": "Diwali", "PhoneNumber": "+919812345670", "City": "New Delhi"}
    async with http.post(sim.base_url + LEGACY_ADD, data=values):
        pass
    await get(http, sim, LEGACY_ADD, **values)
    leads = sim.campaigns["Diwali"].leads
    assert [(lead.phone, lead.extra) for lead in leads] == [("+919812345670", {"City": "New Delhi"})] * 2


async def test_the_legacy_calls_share_the_window_of_their_successors(http: aiohttp.ClientSession) -> None:
    async with Simulator(limits={"add": 1}) as sim:
        await get(http, sim, LEGACY_ADD, api_key=sim.api_key)
        headers = {"apiKey": sim.api_key}
        async with http.post(f"{sim.base_url}/ca_apis/AddCampaignData", json={}, headers=headers) as reply:
            assert await reply.json() == {"status": "error", "message": "Max limit exceeded"}
    async with Simulator(limits={"add": 1, "legacy_add": 2}) as sim:
        for _ in range(3):
            await get(http, sim, LEGACY_ADD, api_key=sim.api_key)
        assert (sim.refusals("legacy_add"), sim.refusals("add")) == (1, 0)
