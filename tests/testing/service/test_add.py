"""The simulator's /ca_apis endpoints say what the documents say, where they say it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from ozonetel_async.testing import Simulator
from ozonetel_async.testing.settings import AuthMode

ADD = "/ca_apis/AddCampaignData"
PHONE = "919812345678"
NOW = datetime.now(ZoneInfo("Asia/Kolkata"))
PHONE_ERROR = "phone number should be numeric and must be between 3 to 16 digits and allows prefix +"
EXPIRY_ERROR = "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd"
PRIORITY_ERROR = "The priority value must be numeric and range from 0 to 99."
MISSING: Any = object()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        simulator.campaign("Skilled", routing="skill", skills=("hindi", "tamil"))
        simulator.campaign("Manned", routing="agent", agents=("asha",))
        simulator.campaign("Inbound", direction="inbound")
        simulator.campaign("Idle", kind="IVR", running=False)
        yield simulator


async def call(
    http: aiohttp.ClientSession,
    sim: Simulator,
    path: str = ADD,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
    **fields: Any,
) -> dict[str, Any]:
    body: dict[str, Any] = {"userName": sim.username, "campaignName": "Diwali", "phoneNumber": PHONE, **fields}
    body = {name: value for name, value in body.items() if value is not MISSING}
    headers = {"apiKey": sim.api_key} if headers is None else headers
    content = json.dumps(body).encode() if data is None else data
    headers = {**headers, "Content-Type": "application/json"}
    async with http.request(method, sim.base_url + path, data=content, headers=headers) as reply:
        assert reply.status == 200
        answer: dict[str, Any] = json.loads(await reply.text())
        return answer


FIELD_ERRORS = [
    ({"userName": MISSING}, "false", "Username Should Not be Null or Empty."),
    ({"userName": None}, "false", "Username Should Not be Null or Empty."),
    ({"userName": ""}, "false", "Username Should Not be Null or Empty."),
    ({"userName": "other"}, "false", "Invalid User Details"),
    ({"campaignName": MISSING}, "Error", "Please provide campaign details"),
    ({"campaignName": ""}, "Error", "Please provide campaign details"),
    ({"campaignName": "Holi"}, "FAIL", "No User Found or Campaign Name is Invalid"),
    ({"campaignName": "Inbound"}, "Fail", "The selected campaign is not outbound"),
    ({"phoneNumber": MISSING}, "error", PHONE_ERROR),
    ({"phoneNumber": ""}, "error", PHONE_ERROR),
    ({"phoneNumber": "12"}, "error", PHONE_ERROR),
    ({"phoneNumber": "1" * 17}, "error", PHONE_ERROR),
    ({"phoneNumber": "98-123"}, "error", PHONE_ERROR),
    ({"phoneNumber": "٩٨١٢٣٤٥"}, "error", PHONE_ERROR),
    ({"phoneNumber": f"{PHONE}\n"}, "error", PHONE_ERROR),
    ({"priority": ""}, "Error", PRIORITY_ERROR),
    ({"expiryDate": ""}, "Error", EXPIRY_ERROR),
    ({"expiryDate": "31-12-2099"}, "Error", EXPIRY_ERROR),
    ({"expiryDate": "2099-02-30"}, "Error", EXPIRY_ERROR),
    ({"expiryDate": "2099-12-31T10:00:00"}, "Error", EXPIRY_ERROR),
    ({"expiryDate": "2020-01-01"}, "Error", "The expiry date and time must be in the future"),
    ({"expiryDate": "2020-01-01 10:00:00"}, "Error", "The expiry date and time must be in the future"),
    ({"campaignName": "Manned"}, "FAIL", "Agent Is Empty!"),
    ({"campaignName": "Manned", "agentId": ""}, "FAIL", "Agent Is Empty!"),
    ({"campaignName": "Manned", "agentId": "bob"}, "FAIL", "Agent is not correctly mapped!"),
    ({"campaignName": "Skilled"}, "FAIL", "Please provide valid skill"),
    ({"campaignName": "Skilled", "skill": "urdu"}, "FAIL", "Please provide valid skill"),
    ({"phoneNumber": [PHONE]}, "false", "Invalid Json Pass Valid Json"),
]


@pytest.mark.parametrize(("fields", "status", "message"), FIELD_ERRORS)
async def test_each_documented_mistake_has_its_message_and_stores_no_lead(
    http: aiohttp.ClientSession, sim: Simulator, fields: dict[str, Any], status: str, message: str
) -> None:
    answer = await call(http, sim, **fields)
    assert (answer["status"], answer["message"]) == (status, message)
    assert ("data" in answer) == (status == "false")
    assert sim.writes_applied("add") == 0
    assert all(campaign.stored == 0 for campaign in sim.campaigns.values())


ACCEPTED = [
    ({}, "Success", "Campaign Progressive Is Already Started"),
    ({"action": "START"}, "Success", "Campaign Progressive Is Already Started"),
    ({"action": "stop"}, "Success", "SuccessFully Updated Progressive Campaign Stoped"),
    ({"campaignName": "Idle", "action": "start"}, "SUCCESS", "SuccessFully Updated, IVR was started"),
    (
        {"campaignName": "Idle", "action": "dance"},
        "Success",
        "Please pass the valid Campaign action SuccessFully Updated IVR Campaign Data",
    ),
    ({"campaignName": "Manned", "agentId": "asha"}, "SUCCESS", "SuccessFully Updated"),
    ({"campaignName": "Skilled", "skill": "hindi"}, "SUCCESS", "SuccessFully Updated"),
    ({"priority": "very"}, "Success", "Campaign Progressive Is Already Started"),
    ({"expiryDate": f"{NOW:%Y-%m-%d}"}, "Success", "Campaign Progressive Is Already Started"),
    (
        {"expiryDate": f"{NOW + timedelta(hours=2):%Y-%m-%d %H:%M:%S}"},
        "Success",
        "Campaign Progressive Is Already Started",
    ),
]


@pytest.mark.parametrize(("fields", "status", "message"), ACCEPTED)
async def test_each_documented_success_has_its_words_and_stores_one_lead(
    http: aiohttp.ClientSession, sim: Simulator, fields: dict[str, Any], status: str, message: str
) -> None:
    assert await call(http, sim, **fields) == {"status": status, "message": message}
    assert sim.campaigns[fields.get("campaignName", "Diwali")].numbers == {PHONE: 1}


async def test_a_lead_is_stored_as_it_was_sent(http: aiohttp.ClientSession, sim: Simulator) -> None:
    await call(http, sim, Name="Asha", priority="7", expiryDate="2099-01-02", City="Pune", Mood="good", agentId="x")
    (lead,) = sim.campaigns["Diwali"].leads
    assert (lead.phone, lead.name, lead.priority, lead.expiry) == (PHONE, "Asha", 7, "2099-01-02")
    assert (lead.agent_id, lead.skill, lead.extra, lead.via) == ("x", None, {"City": "Pune"}, "add")


async def test_starting_and_stopping_change_the_campaign(http: aiohttp.ClientSession, sim: Simulator) -> None:
    await call(http, sim, campaignName="Idle", action="start")
    assert sim.campaigns["Idle"].running
    await call(http, sim, campaignName="Idle", action="stop")
    assert not sim.campaigns["Idle"].running


@pytest.mark.parametrize("value", [True, "TRUE", "true"])
async def test_a_checked_duplicate_is_left_alone(http: aiohttp.ClientSession, sim: Simulator, value: object) -> None:
    await call(http, sim)
    answer = await call(http, sim, phoneNumber=f"+{PHONE}", Name="Another", checkDuplicate=value)
    assert answer == {"status": "SUCCESS", "message": "Number Already Exist"}
    assert sim.campaigns["Diwali"].numbers == {PHONE: 1}


@pytest.mark.parametrize("value", [MISSING, False, "FALSE", "", "maybe", None])
async def test_an_unchecked_duplicate_is_added_again(
    http: aiohttp.ClientSession, sim: Simulator, value: object
) -> None:
    await call(http, sim)
    await call(http, sim, checkDuplicate=value)
    assert sim.campaigns["Diwali"].numbers == {PHONE: 2}


async def test_another_skill_of_a_known_number(http: aiohttp.ClientSession, sim: Simulator) -> None:
    await call(http, sim, campaignName="Skilled", skill="hindi")
    answer = await call(http, sim, campaignName="Skilled", skill="tamil")
    assert answer == {"status": "Success", "message": "Number Already Existed"}
    assert sim.campaigns["Skilled"].stored == 1


async def test_numbers_not_to_be_called(http: aiohttp.ClientSession, sim: Simulator) -> None:
    sim.dnd.add(f"+{PHONE}")
    assert await call(http, sim) == {"status": "FAIL", "message": "PhoneNumber Added is a DND Number"}


async def test_names_are_validated_unless_that_is_switched_off(http: aiohttp.ClientSession, sim: Simulator) -> None:
    assert (await call(http, sim, Name="Zoë"))["status"] == "error"
    await call(http, sim, Name="Zoë", skipNameFieldValidation=True)
    await call(http, sim, name="A_z 9().+$%-:")
    assert [lead.name for lead in sim.campaigns["Diwali"].leads] == ["Zoë", "A_z 9().+$%-:"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Api Key Should Not be Null or Empty."),
        ({"apiKey": ""}, "Invalid User Details"),
        ({"apiKey": "wrong"}, "Invalid User Details"),
    ],
)
async def test_the_key_header(
    http: aiohttp.ClientSession, sim: Simulator, headers: dict[str, str], message: str
) -> None:
    assert await call(http, sim, headers=headers) == {"status": "false", "message": message, "data": None}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"text"'])
async def test_a_body_that_is_no_json_object(http: aiohttp.ClientSession, sim: Simulator, data: bytes) -> None:
    assert (await call(http, sim, data=data))["message"] == "Invalid Json Pass Valid Json"


@pytest.mark.parametrize("mode", ["TOKEN_AUTH", "NONE"])
async def test_the_key_alone_needs_basic_authentication(http: aiohttp.ClientSession, mode: AuthMode) -> None:
    async with Simulator(auth_mode=mode) as sim:
        assert (await call(http, sim)) == {"status": "false", "message": "Invalid action.", "data": None}


async def token(http: aiohttp.ClientSession, sim: Simulator) -> str:
    answer = await call(http, sim, "/ca_apis/CAToken/generateToken")
    assert answer["message"] == ""
    assert "status" not in answer
    return str(answer["token"])


@pytest.mark.parametrize("message", ["Token Expired", "Invalid Token"])
async def test_a_new_token_ends_the_old_one(http: aiohttp.ClientSession, message: str) -> None:
    async with Simulator(auth_mode="TOKEN_AUTH", replaced_token_message=message) as sim:
        old, new = await token(http, sim), await token(http, sim)
        assert (await call(http, sim, headers={"Authorization": f"Bearer {old}"}))["message"] == message
        assert (await call(http, sim, headers={"Authorization": f"Bearer {new}"}))["status"] == "Success"
        sim.tokens.expire()
        assert (await call(http, sim, headers={"Authorization": f"Bearer {new}"})) == {
            "status": "false",
            "message": "Token Expired",
            "data": None,
        }


async def test_a_token_has_the_documented_form(http: aiohttp.ClientSession) -> None:
    async with Simulator(auth_mode="TOKEN_AUTH") as sim:
        head, claims, _ = ((await token(http, sim)) + "==").split(".")
        assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "HS512"}
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
        assert decoded["sub"] == sim.username
        assert decoded["exp"] - decoded["iat"] == 3600


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("Bearer", "Token Should Not be Null or Empty."),
        ("Basic abc", "Token Should Not be Null or Empty."),
        ("Bearer abc", "Invalid Token"),
    ],
)
async def test_bad_tokens(http: aiohttp.ClientSession, authorization: str, message: str) -> None:
    async with Simulator(auth_mode="TOKEN_AUTH") as sim:
        headers = {"apiKey": sim.api_key, "Authorization": authorization}
        assert (await call(http, sim, headers=headers))["message"] == message


async def test_a_token_expires_after_token_life(http: aiohttp.ClientSession) -> None:
    async with Simulator(auth_mode="TOKEN_AUTH", token_life=0.05) as sim:
        headers = {"Authorization": f"Bearer {await token(http, sim)}"}
        async with asyncio.timeout(5):
            while (await call(http, sim, headers=headers))["message"] != "Token Expired":
                pass


async def test_generate_token_refusals(http: aiohttp.ClientSession) -> None:
    path = "/ca_apis/CAToken/generateToken"
    async with Simulator(auth_mode="TOKEN_AUTH", limits={"token": 4}) as sim:
        assert (await call(http, sim, path, userName=MISSING))["message"] == "UserName is null"
        assert (await call(http, sim, path, userName="other"))["message"] == "Invalid userName or apiKey"
        assert (await call(http, sim, path, headers={"apiKey": "x"}))["message"] == "Invalid userName or apiKey"
        await token(http, sim)
        assert (await call(http, sim, path))["message"] == "Max limit exceeded"
        assert sim.tokens.issued == 1
