"""The simulator's queued work: V4 jobs, dial-status exports, their callbacks and files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Unpack
from urllib.parse import parse_qs, urlencode

import aiohttp
import pytest
from aiohttp import web

from ozonetel_async.testing import FailedFile, Fault, Simulator
from ozonetel_async.testing.settings import CallbackShape, SimulatorOptions

BULK = "/cloudAgentRestAPI/index.php/AddCampaignBulkDataV4/addBulkData/format/json"
DIAL = "/endpoint/dailer/data/preview/download"
COLUMNS = ["PhoneNumber", "Name"]
ROWS: list[list[Any]] = [["+919812345670", "Asha"], ["9812345671", "Ravi"]]
MISSING: Any = object()


class Receiver:
    """A callback receiver that remembers what came."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        assert request.method == "POST"
        self.bodies.append((request.headers["Content-Type"], await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    def result(self) -> dict[str, Any]:
        inner: dict[str, Any] = json.loads(self.bodies[-1][1])["data"]
        return inner


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    runner = web.ServerRunner(web.Server(one.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/done"
    yield one
    await runner.cleanup()


@asynccontextmanager
async def simulator(**options: Unpack[SimulatorOptions]) -> AsyncIterator[Simulator]:
    options.setdefault("limits", {"bulk": 0, "dial_status": 0})
    async with Simulator(**options) as sim:
        sim.campaign("Inbound", direction="inbound")
        yield sim


def fields(sim: Simulator, rows: Any = ROWS, columns: Any = COLUMNS, **more: Any) -> dict[str, str]:
    table = json.dumps({"map": columns, "data": rows})
    found = {"apiKey": sim.api_key, "userName": sim.username, "campaignName": "Diwali", "bulkData": table, **more}
    return {name: value for name, value in found.items() if value is not MISSING}


async def send(http: aiohttp.ClientSession, sim: Simulator, values: Mapping[str, Any], path: str = BULK) -> Any:
    async with http.post(sim.base_url + path, data=values) as reply:
        assert reply.status == 200
        return json.loads(await reply.text())


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"apiKey": MISSING}, "error", "apiKey should not be empty"),
        ({"apiKey": ""}, "error", "apiKey should not be empty"),
        ({"apiKey": "wrong"}, "error", "Invalid userName or apiKey"),
        ({"userName": MISSING}, "error", "userName should not be empty"),
        ({"userName": "nobody"}, "error", "Invalid userName or apiKey"),
        ({"campaignName": MISSING}, "error", "campaignName should not be empty"),
        ({"campaignName": "Holi"}, "error", "Invalid Campaign Name"),
        ({"campaignName": "Inbound"}, "error", "Invalid Campaign Name"),
        ({"bulkData": MISSING}, "failure", "Please provide valid data"),
        ({"bulkData": ""}, "failure", "Please provide valid data"),
        ({"bulkData": "{'map':[]}"}, "failure", "Please provide valid data"),
        ({"bulkData": '{"map":["PhoneNumber"]}'}, "failure", "Please provide valid data"),
    ],
)
async def test_documented_refusals(
    http: aiohttp.ClientSession, change: dict[str, Any], status: str, message: str
) -> None:
    async with simulator() as sim:
        assert await send(http, sim, fields(sim, **change)) == {"status": status, "message": message}
        assert not sim.jobs
        assert sim.writes_applied("bulk") == 0


async def test_the_sixth_call_of_a_minute_is_not_queued(http: aiohttp.ClientSession) -> None:
    async with Simulator() as sim:
        answers = [await send(http, sim, fields(sim)) for _ in range(6)]
        assert [answer["status"] for answer in answers] == ["success"] * 5 + ["error"]
        assert answers[-1]["message"] == "too many Requests and failed to add Data to queue"
        await sim.settle()
        assert (len(sim.jobs), sim.refusals("bulk"), sim.worst_window("bulk")) == (5, 1, 5)
        assert len({answer.get("transactionId") for answer in answers}) == 6
        assert all(len(id_) in (24, 25) and id_.isdigit() for id_ in sim.jobs)
        assert sim.campaigns["Diwali"].stored == 10


@pytest.mark.parametrize("encoding", ["form", "multipart", "json", "json-object", "query"])
async def test_every_encoding_is_taken(http: aiohttp.ClientSession, encoding: str) -> None:
    async with simulator() as sim:
        values = fields(sim, [["+919812345670", "Ravi (R-D) 50% + tax"]])
        url = sim.base_url + BULK
        with aiohttp.MultipartWriter("form-data") as parts:
            for name, value in values.items():
                parts.append(value).set_content_disposition("form-data", name=name)
        requests: dict[str, dict[str, Any]] = {
            "form": {"data": values},
            "multipart": {"data": parts},
            "json": {"json": values},
            "json-object": {"json": {**values, "bulkData": json.loads(values["bulkData"])}},
            "query": {},
        }
        target = f"{url}?{urlencode(values)}" if encoding == "query" else url
        async with http.post(target, **requests[encoding]) as reply:
            assert json.loads(await reply.text())["message"] == "queued successfully"
        await sim.settle()
        (lead,) = sim.campaigns["Diwali"].leads
        assert (lead.phone, lead.name, lead.via) == ("+919812345670", "Ravi (R-D) 50% + tax", "bulk")
    assert sim.requests("bulk")[0].params["campaignName"] == "Diwali"


async def test_a_body_with_the_wrong_content_type_has_no_fields(http: aiohttp.ClientSession) -> None:
    async with simulator() as sim:
        data = json.dumps(fields(sim)).encode()
        async with http.post(sim.base_url + BULK, data=data, headers={"Content-Type": "text/plain"}) as reply:
            assert json.loads(await reply.text())["message"] == "apiKey should not be empty"


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (["Name"], [["Asha"]]),
        (COLUMNS, [["9812345670", "Asha"], ["9812345671"]]),
        (["PhoneNumber", "Shoe"], [["9812345670", "42"]]),
    ],
)
async def test_structural_mistakes_are_queued_and_fail_later(
    http: aiohttp.ClientSession, receiver: Receiver, columns: list[str], rows: list[list[str]]
) -> None:
    async with simulator() as sim:
        answer = await send(http, sim, fields(sim, rows, columns, callBackUrl=receiver.url))
        assert answer["message"] == "queued successfully"
        await sim.settle()
        result = receiver.result()
        assert (result["status"], result["message"]) == ("Fail", "File Failed to Upload.")
        assert result["transactionId"] == answer["transactionId"]
        assert result["numbersNotProcessed"] == str(len(rows))
        assert sim.campaigns["Diwali"].stored == 0


DIRTY: list[list[Any]] = [
    ["+919812345670", "Asha", 7, "2099-01-01", "Pune"],
    ["", "Nobody", "", "", ""],
    ["12", "Short", "", "", ""],
    ["9812345672", "Zoë", "", "", ""],
    ["9812345673", "Past", 1, "2020-01-01", ""],
    ["9812345674", "Odd date", 1, "01/02/2099", ""],
    ["9812345675", "Long", 1, "", "x" * 2000],
    ["9812345676", "Quiet", 1, "", ""],
    ["9812345677", "Ravi", None, None, None],
    ["9812345678", "Sita", 0, "", "Pune"],
]


async def test_bad_rows_are_listed_in_the_file(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator() as sim:
        sim.dnd.add("9812345676")
        columns = ["PhoneNumber", "Name", "Priority", "ExpiryDate", "City"]
        await send(http, sim, fields(sim, DIRTY, columns, callBackUrl=receiver.url))
        await sim.settle()
        result = receiver.result()
        assert (result["totalNoUploaded"], result["numbersProcessed"], result["numbersNotProcessed"]) == (
            "10",
            "3",
            "7",
        )
        assert (result["status"], result["message"]) == ("Success", "File Successfully uploaded.")
        leads = sim.campaigns["Diwali"].leads
        assert [(lead.name, lead.priority) for lead in leads] == [("Asha", 7), ("Ravi", 1), ("Sita", 0)]
        assert leads[0].extra == {"City": "Pune"}
        async with http.get(result["failedFilePath"]) as reply:
            table = list(csv.reader(io.StringIO(await reply.text())))
        assert table[0] == [*columns, "Reason"]
        assert [row[1] for row in table[1:]] == [row[1] for row in DIRTY[1:8]]
        assert all(row[-1] for row in table[1:])


@pytest.mark.parametrize(
    ("flags", "stored"),
    [
        ({}, 5),
        ({"checkDuplicate": "false"}, 5),
        ({"checkDuplicate": "true"}, 2),
        ({"isDelete": "true"}, 3),
        ({"isDelete": "false", "checkDuplicate": "true"}, 5),
        ({"isDelete": "true", "checkDuplicate": "false"}, 3),
    ],
)
async def test_duplicates(http: aiohttp.ClientSession, flags: dict[str, str], stored: int) -> None:
    async with simulator() as sim:
        await send(http, sim, fields(sim, [["919812345670", "Asha"]]))
        await sim.settle()
        rows = [["919812345670", "Asha"], ["+919812345670", "Asha"], ["9812345671", "Ravi"], ["9812345671", "Ravi"]]
        answer = await send(http, sim, fields(sim, rows, **flags))
        await sim.settle()
        assert sim.campaigns["Diwali"].stored == stored
        job = sim.jobs[answer["transactionId"]]
        assert job.processed == stored - 1
        assert len(job.failed) == 4 - job.processed


async def test_routing_is_checked_per_row(http: aiohttp.ClientSession) -> None:
    async with simulator() as sim:
        sim.campaign("Manned", routing="agent", agents=("asha",))
        sim.campaign("Skilled", routing="skill", skills=("hindi",))
        columns = ["PhoneNumber", "AgentId", "skill"]
        rows = [["9812345670", "asha", "hindi"], ["9812345671", "bob", "urdu"], ["9812345672", "", ""]]
        for name in ("Manned", "Skilled"):
            await send(http, sim, fields(sim, rows, columns, campaignName=name))
        await sim.settle()
        assert [job.processed for job in sim.jobs.values()] == [1, 1]


async def test_the_campaign_starts_when_the_upload_is_complete(http: aiohttp.ClientSession) -> None:
    async with simulator() as sim:
        idle = sim.campaign("Idle", running=False)
        await send(http, sim, fields(sim, campaignName="Idle", action="start"))
        await sim.settle()
        assert idle.running


async def test_more_than_500_rows(http: aiohttp.ClientSession) -> None:
    rows = [[f"98{number:08}", "x"] for number in range(501)]
    async with simulator() as sim:
        assert (await send(http, sim, fields(sim, rows)))["status"] == "error"
        assert (await send(http, sim, fields(sim, rows[:500])))["status"] == "success"
        await sim.settle()
        assert sim.campaigns["Diwali"].stored == 500


SHAPES: tuple[CallbackShape, ...] = ("object", "string", "printed", "form", "multipart", "bare", "prefixed")


async def test_callback_shapes_come_in_turn(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator(callback_shapes=SHAPES) as sim:
        for _ in SHAPES:
            await send(http, sim, fields(sim, callBackUrl=receiver.url))
            await sim.settle()
        assert [entry.shape for entry in sim.callbacks] == list(SHAPES)
    texts = {shape: body.decode() for shape, (_, body) in zip(SHAPES, receiver.bodies, strict=True)}
    inner = json.loads(texts["object"])["data"]
    assert set(inner) >= {"totalNoUploaded", "numbersProcessed", "failedFilePath", "startDateTime", "endDateTime"}
    assert all(isinstance(value, str) for value in inner.values())
    assert set(json.loads(json.loads(texts["string"])["data"])) == set(inner)
    with pytest.raises(json.JSONDecodeError):
        json.loads(texts["printed"])
    assert set(json.loads(texts["printed"][len('{"data":"') : -len('"}')])) == set(inner)
    assert set(json.loads(parse_qs(texts["form"])["data"][0])) == set(inner)
    assert set(json.loads(texts["bare"])) == set(inner)
    assert 'name="data"' in texts["multipart"]
    assert texts["prefixed"].startswith("API Response")
    assert receiver.bodies[3][0] == "application/x-www-form-urlencoded"


async def test_callback_faults(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator() as sim:
        for fault in (
            Fault.duplicate_callback(3),
            Fault.lost_callback(),
            Fault.late_callback(0.01),
            Fault.hostile_callback(b"\xff<boo>", "text/html"),
        ):
            sim.inject("bulk", fault)
        counts = []
        for _ in range(5):
            await send(http, sim, fields(sim, callBackUrl=receiver.url))
            await sim.settle()
            counts.append(len(receiver.bodies))
        assert counts == [3, 3, 4, 5, 6]
        assert receiver.bodies[4] == ("text/html", b"\xff<boo>")
        assert sim.campaigns["Diwali"].stored == 10
        assert [record.callback_fault for record in sim.log][-1] is None


async def test_an_early_callback_comes_before_the_answer(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator(queue_delay=(60.0, 60.0)) as sim:
        sim.inject("bulk", Fault.early_callback())
        sim.inject("bulk", Fault.stall_after_apply())
        request = asyncio.create_task(send(http, sim, fields(sim, callBackUrl=receiver.url)))
        await sim.wait_for(lambda: receiver.bodies and sim.log[0].applied)
        assert not request.done()
        request.cancel()
        assert receiver.result()["status"] == "Success"
        assert not sim.busy


async def test_callbacks_are_repeated_up_to_callback_retries(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    receiver.statuses = [500, 302]
    async with simulator(callback_retries=3) as sim:
        await send(http, sim, fields(sim, callBackUrl=receiver.url))
        await sim.settle()
        assert [entry.status for entry in sim.callbacks] == [500, 302, 200]
        await send(http, sim, fields(sim, callBackUrl="http://127.0.0.1:1/"))
        await sim.settle()
        assert [entry.status for entry in sim.callbacks[3:]] == [0] * 4


async def test_jobs_are_done_one_after_the_other(http: aiohttp.ClientSession) -> None:
    async with simulator(queue_delay=(0.005, 0.01)) as sim:
        ids = [(await send(http, sim, fields(sim)))["transactionId"] for _ in range(4)]
        seen = []
        for id_ in ids:
            await sim.wait_for(lambda id_=id_: sim.jobs[id_].done)  # type: ignore[misc]
            seen.append([job.done for job in sim.jobs.values()].count(True))
        assert seen == [1, 2, 3, 4]
        assert [lead.transaction_id for lead in sim.campaigns["Diwali"].leads] == [id_ for id_ in ids for _ in ROWS]


@pytest.mark.parametrize(
    ("number", "cell"),
    [
        ("keep", "+919812345670"),
        ("no_plus", "919812345670"),
        ("national", "9812345670"),
        ("scientific", "9.19812345670E+11"),
        ("rounded", "9.19812E+11"),
        ("float", "919812345670.0"),
        ("text", "'+919812345670"),
    ],
)
async def test_the_failed_file_as_a_spreadsheet_leaves_it(
    http: aiohttp.ClientSession, receiver: Receiver, number: Any, cell: str
) -> None:
    look = FailedFile(columns=("Sl", "PhoneNumber"), reason=None, number=number, bom=True, crlf=True)
    async with simulator(failed_file=look) as sim:
        sim.dnd.add("919812345670")
        await send(http, sim, fields(sim, callBackUrl=receiver.url))
        await sim.settle()
        async with http.get(receiver.result()["failedFilePath"]) as reply:
            assert (await reply.read()).decode() == f"\ufeffSl,PhoneNumber\r\n,{cell}\r\n"


async def test_the_link_to_failed_rows_expires(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator() as sim:
        await send(http, sim, fields(sim, [["1", "x"]], callBackUrl=receiver.url))
        await sim.settle()
        link = receiver.result()["failedFilePath"]
        assert "X-Amz-Expires=86400" in link
        sim.files.expire()
        for url, status, word in (
            (link, 403, "Request has expired"),
            (link + "0", 403, "SignatureDoesNotMatch"),
            (link.split("?")[0], 403, "SignatureDoesNotMatch"),
        ):
            async with http.get(url) as reply:
                assert (reply.status, word in await reply.text()) == (status, True)


def dial_fields(sim: Simulator, **more: Any) -> dict[str, str]:
    found = {
        "apiKey": sim.api_key,
        "userName": sim.username,
        "campaignName": "Diwali",
        "status": "All",
        "dialstatus": "All",
        "dispositions": "ALL",
        "callBackUrl": "http://127.0.0.1:1/x",
        **more,
    }
    return {name: value for name, value in found.items() if value is not MISSING}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiKey": MISSING}, "apiKey is invalid"),
        ({"apiKey": ""}, "apiKey is invalid"),
        ({"apiKey": "wrong"}, "Authentication failed"),
        ({"userName": ""}, "userName is invalid"),
        ({"userName": "nobody"}, "Authentication failed"),
        ({"campaignName": MISSING}, "campaignName is invalid"),
        ({"campaignName": "Holi"}, "campaignName is invalid"),
        (
            {"callBackUrl": "ftp://x"},
            "callBackUrl cannot be empty (OR) it should contain ‘http://test.com/’ or 'https://test.com/",  # noqa: RUF001
        ),
    ],
)
async def test_dial_status_refusals(http: aiohttp.ClientSession, change: dict[str, Any], message: str) -> None:
    async with simulator() as sim:
        answer = await send(http, sim, dial_fields(sim, **change), DIAL)
        assert answer == {"status": "error", "message": message, "uniqueId": ""}


async def test_dial_status_over_its_rate(http: aiohttp.ClientSession) -> None:
    async with Simulator() as sim:
        answers = [await send(http, sim, dial_fields(sim), DIAL) for _ in range(11)]
        assert answers[-1]["message"] == "Request limit exhausted"
        assert [answer["status"] for answer in answers].count("success") == 10


async def test_dial_status_export(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator() as sim:
        await send(http, sim, fields(sim))
        await sim.settle()
        sim.campaigns["Diwali"].leads[1].status = "Success"
        values = dial_fields(sim, apiKey=MISSING, status="Success", callBackUrl=receiver.url)
        async with http.post(sim.base_url + DIAL, json=values, headers={"apiKey": sim.api_key}) as reply:
            answer = json.loads(await reply.text())
        await sim.settle()
        result = receiver.result()
        assert (result["uniqueId"], result["status"]) == (answer["uniqueId"], "success")
        async with http.get(result["filePath"]) as reply:
            table = list(csv.DictReader(io.StringIO(await reply.text())))
        assert [row["PhoneNumber"] for row in table] == ["9812345671"]


async def test_dial_status_inline(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    async with simulator(export_result="inline") as sim:
        await send(http, sim, fields(sim))
        await sim.settle()
        old = {"sortby": "1", "fromDate": "2020-01-01 00:00:00", "toDate": "2020-12-31 00:00:00"}
        for more, rows in (({}, 2), (old, 0), ({**old, "sortby": "0"}, 2)):
            await send(http, sim, dial_fields(sim, callBackUrl=receiver.url, **more), DIAL)
            await sim.settle()
            assert len(receiver.result()["data"]) == rows
