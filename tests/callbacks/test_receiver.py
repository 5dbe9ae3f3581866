"""Callbacks arrive whole, under their own token only, in aiohttp.web, Starlette and FastAPI under real servers."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias, get_args
from urllib.parse import quote, urlencode

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from ozonetel_async import CallbackTimeoutError, ConfigurationError, JournalError
from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.callbacks.results import ExportResult, JobResult
from ozonetel_async.callbacks.url_tokens import add_token, new_token
from ozonetel_async.journal.folder import JournalFolder
from ozonetel_async.journal.journal import Journal
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.testing.settings import CallbackShape

Result: TypeAlias = JobResult | ExportResult
Serve: TypeAlias = Callable[[CallbackReceiver], Awaitable[str]]

JOB = {
    "totalNoUploaded": "6",
    "numbersProcessed": "2",
    "numbersNotProcessed": "4",
    "transactionId": "1292017169670681719733108",
    "status": "Success",
    "message": "File Successfully uploaded.",
}
BODY = json.dumps({"data": JOB}).encode()
ROWS = [{"PhoneNumber": f"98123{number:05}", "Name": "Asha"} for number in range(1_200)]


class Memory:
    """A sink in memory that knows some tokens."""

    def __init__(self, *tokens: str) -> None:
        self.stored: dict[str, list[Result]] = {token: [] for token in tokens}

    async def deliver(self, token: str, result: Result) -> bool:
        if token in self.stored:
            self.stored[token].append(result)
        return token in self.stored

    @property
    def count(self) -> int:
        return sum(map(len, self.stored.values()))


class Broken:
    """A sink that fails as often as told, then hands on to another one."""

    def __init__(self, error: Exception, times: int = 10**9, then: Memory | None = None) -> None:
        self.error = error
        self.times = times
        self.then = then or Memory()

    async def deliver(self, token: str, result: Result) -> bool:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return await self.then.deliver(token, result)


# --- real servers --------------------------------------------------------------------------------------------------


class Uvicorn(uvicorn.Server):
    """uvicorn inside the test's own loop, its signals left alone, and ended at once rather than at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.over = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What uvicorn does, without the tenth of a second that it gives connections whether there are any or not."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(5):
            while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn has no event
                await asyncio.sleep(0.002)
        await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def under_uvicorn(app: Any, path: str) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None)
        server = Uvicorn(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.002)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        server.over.set()
        await task


@asynccontextmanager
async def in_aiohttp(receiver: CallbackReceiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/ozonetel/{tail:.*}", receiver.aiohttp_handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/ozonetel"
    await runner.cleanup()


@asynccontextmanager
async def in_starlette(receiver: CallbackReceiver) -> AsyncIterator[str]:
    app = Starlette(routes=[Mount("/hooks", routes=[Mount("/ozonetel", app=receiver.asgi)])])
    app.add_middleware(GZipMiddleware)
    async with under_uvicorn(app, "/hooks/ozonetel") as base:
        yield base


@asynccontextmanager
async def in_fastapi(receiver: CallbackReceiver) -> AsyncIterator[str]:
    app = FastAPI()
    app.mount("/ozonetel", receiver.asgi)
    async with under_uvicorn(app, "/ozonetel") as base:
        yield base


@asynccontextmanager
async def alone(receiver: CallbackReceiver) -> AsyncIterator[str]:
    async with under_uvicorn(receiver.asgi, "/any/path") as base:
        yield base


SERVERS = {"aiohttp": in_aiohttp, "starlette": in_starlette, "fastapi": in_fastapi, "asgi alone": alone}


@pytest.fixture(params=SERVERS)
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Serves a receiver in one of the frameworks; gives the base of its callback URLs."""
    async with AsyncExitStack() as stack:

        async def start(receiver: CallbackReceiver) -> str:
            return await stack.enter_async_context(SERVERS[request.param](receiver))

        yield start


async def exchange(base: str, request: bytes, *more: bytes, close: bool = False) -> bytes:
    """Send raw bytes and read all that comes back until the server closes."""
    host, _, port = base.removeprefix("http://").partition("/")[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in (request, *more):
            writer.write(piece)
            await writer.drain()
        if close:
            return b""
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(method: str, base: str, path: str, *headers: str) -> bytes:
    target = "/" + base.removeprefix("http://").partition("/")[2] + path
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: me", "Connection: close", *headers, "", ""]).encode()


def post(base: str, path: str, body: bytes = BODY, *headers: str, method: str = "POST") -> bytes:
    return head(method, base, path, f"Content-Length: {len(body)}", *headers) + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# --- the core ------------------------------------------------------------------------------------------------------


async def test_a_callback_is_stored_under_its_token() -> None:
    token = new_token()
    sink = Memory(token)
    receiver = CallbackReceiver(Memory(), sink)
    assert await receiver.handle(f"/ozonetel/{token}", "", "application/json", BODY) == 200
    (result,) = sink.stored[token]
    assert isinstance(result, JobResult)
    assert (result.transaction_id, result.succeeded, result.total, result.processed, result.not_processed) == (
        "1292017169670681719733108",
        True,
        6,
        2,
        4,
    )
    assert await receiver.handle(f"/ozonetel/{token}", "", "application/json", BODY) == 200
    assert sink.count == 2


async def test_the_token_may_stand_in_the_query_and_so_may_the_data() -> None:
    token = new_token()
    sink = Memory(token)
    receiver = CallbackReceiver(sink)
    data = urlencode({"data": json.dumps(JOB)})
    assert await receiver.handle("/ozonetel", f"t={token}", "", BODY) == 200
    assert await receiver.handle(f"/ozonetel/{token}", f"tenant=7&{data}") == 200
    assert await receiver.handle("/ozonetel", f"t={token}&{data}") == 200
    assert [getattr(result, "total", None) for result in sink.stored[token]] == [6, 6, 6]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", BODY, 404),
        ("/ozcb_short", BODY, 404),
        ("/{unknown}", BODY, 404),
        ("/{known}/{unknown}", BODY, 404),
        ("/{known}x", BODY, 404),
        ("/{known}", b"", 400),
        ("/{known}", b"{}", 400),
        ("/{known}", b"\xff\xfe", 400),
        ("/{known}", b'{"data":' * 5_000, 400),
        ("/{known}", b" " * 65_537, 413),
        ("/{known}", BODY + b" " * (65_536 - len(BODY)), 200),
        ("/{unknown}", b"nonsense", 400),
    ],
)
async def test_the_status_says_what_is_wrong(path: str, body: bytes, status: int) -> None:
    known = new_token()
    sink = Memory(known)
    given = path.format(known=known, unknown=new_token())
    assert await CallbackReceiver(sink).handle(given, "", "application/json", body) == status
    assert sink.count == (status == 200)


@given(
    path=st.text(max_size=60),
    query=st.text(max_size=60),
    content_type=st.text(max_size=60),
    body=st.one_of(
        st.binary(max_size=300), st.just(BODY), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    ),
    token=st.sampled_from(["known", "unknown", "none"]),
)
@settings(max_examples=300)
async def test_nothing_is_stored_without_its_token_and_nothing_undeclared_is_raised(
    path: str, query: str, content_type: str, body: bytes, token: str
) -> None:
    known = new_token()
    sink = Memory(known)
    segment = {"known": known, "unknown": new_token(), "none": ""}[token]
    status = await CallbackReceiver(sink).handle(f"{path}/{segment}", query, content_type, body)
    assert status in (200, 400, 404, 413)
    assert (status == 200) == (sink.count == 1)
    if token != "known":
        assert status != 200


async def test_a_sink_that_fails_is_a_reason_to_repeat_unless_another_has_stored() -> None:
    token = new_token()
    broken = Broken(RuntimeError("anything"))
    assert await CallbackReceiver(broken).handle(f"/{token}", "", "", BODY) == 503
    assert await CallbackReceiver(broken, Memory()).handle(f"/{token}", "", "", BODY) == 503
    assert await CallbackReceiver(broken, Memory(token)).handle(f"/{token}", "", "", BODY) == 200
    assert await CallbackReceiver(Memory(token), broken).handle(f"/{token}", "", "", BODY) == 200


async def test_nothing_sensitive_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token, phone, secret = new_token(), "919812345678", "5f0c2b7e9a1d"
    body = json.dumps({"data": {**JOB, "failedFilePath": f"https://h.example/x?s={secret}", "phone": phone}}).encode()
    receiver = CallbackReceiver(Broken(RuntimeError(f"{token} {phone} {secret}")))
    assert await receiver.handle(f"/{token}", f"a={secret}", "", body) == 503
    assert await receiver.handle(f"/{token}", "", "", body[:-1]) == 400
    assert (
        await CallbackReceiver(Broken(JournalError("journal x: the disk is full"))).handle(f"/{token}", "", "", BODY)
        == 503
    )
    assert "the disk is full" in caplog.text
    assert "RuntimeError" in caplog.text
    assert not [word for word in (token, phone, secret) if word in caplog.text]


@pytest.mark.parametrize(
    "options",
    [
        {"timezone": "Nowhere/Land"},
        {"timezone": ""},
        {"timezone": "Asia"},
        {"timezone": None},
        {"max_bytes": 0},
        {"timeout": 0},
        {"timeout": float("inf")},
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CallbackReceiver(**options)


async def test_times_are_read_in_the_zone_given() -> None:
    token = new_token()
    sink = Memory(token)
    body = json.dumps({**JOB, "startDateTime": "2024-07-11 11:45:29"}).encode()
    await CallbackReceiver(sink, timezone="Europe/Berlin").handle(f"/{token}", "", "", body)
    (result,) = sink.stored[token]
    assert isinstance(result, JobResult)
    assert result.started is not None
    assert result.started.isoformat() == "2024-07-11T11:45:29+02:00"


# --- in every framework --------------------------------------------------------------------------------------------


async def test_every_shape_that_the_service_may_send_arrives(serve: Serve, tmp_path: Path) -> None:
    shapes = get_args(CallbackShape)
    async with Simulator(callback_shapes=shapes) as sim, aiohttp.ClientSession() as http:
        tokens = [new_token() for _ in shapes]
        sink = Memory(*tokens)
        base = await serve(CallbackReceiver(sink))
        for token in tokens:
            data = {
                "apiKey": sim.api_key,
                "userName": sim.username,
                "campaignName": "Diwali",
                "bulkData": json.dumps({"map": ["PhoneNumber"], "data": [["9812345670"], ["bad"]]}),
                "callBackUrl": add_token(base, token),
            }
            sim.windows["bulk"] = type(sim.windows["bulk"])(100, 60.0)
            async with http.post(
                f"{sim.base_url}/cloudAgentRestAPI/index.php/AddCampaignBulkDataV4/addBulkData/format/json", data=data
            ) as reply:
                assert json.loads(await reply.read())["status"] == "success"
        await sim.settle()
    assert [call.status for call in sim.callbacks] == [200] * len(shapes)
    assert {call.shape for call in sim.callbacks} == set(shapes)
    for results in sink.stored.values():
        (result,) = results
        assert isinstance(result, JobResult)
        assert (result.total, result.processed, result.not_processed) == (2, 1, 1)
        assert result.failed_file is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_methods_that_are_taken(serve: Serve, method: str) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    assert status_of(await exchange(base, post(base, f"/{token}", method=method))) == 200
    query = urlencode({"data": json.dumps(JOB)})
    assert status_of(await exchange(base, head(method, base, f"/{token}?{query}", "Content-Length: 0"))) == 200
    assert sink.count == 2


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_not(serve: Serve, method: str) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    answers = [
        await exchange(base, head(method, base, f"/{one}?data=%7B%7D", "Content-Length: 0"))
        for one in (token, new_token(), "x")
    ]
    assert {status_of(answer) for answer in answers} == {405}
    assert all(b"allow: GET, POST, PUT" in answer.replace(b"Allow", b"allow") for answer in answers)
    assert sink.count == 0


def without_date(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.lower().startswith(b"date:")]


async def test_a_missing_token_and_an_unknown_one_get_the_same_answer(serve: Serve) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    nearly = token[:-1] + ("A" if token[-1] != "A" else "B")
    paths = [
        f"/{new_token()}",
        f"/{nearly}",
        f"/{token[:-1]}",
        "/",
        "/x",
        f"/{token}/{new_token()}",
        "/%00%ff/%E0%A4%85",
    ]
    paths += [
        "/" + quote("ozcb_\u0905\u0905\u0905"),
        "/?token=" + token[:-1],
        "/" + token.upper(),
        "/..%2f..%2f" + nearly,
    ]
    answers = [without_date(await exchange(base, post(base, path))) for path in paths]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0].startswith(b"HTTP/1.1 404")
    assert sink.count == 0


@pytest.mark.parametrize("path", ["/\xff\xfe", "/\u0905/x", "//", "/%"])
async def test_raw_bytes_in_a_path_do_no_harm(serve: Serve, path: str) -> None:
    base = await serve(CallbackReceiver(Memory()))
    raw = post(base, "/PLACE").replace(b"/PLACE", path.encode("utf-8"))
    assert status_of(await exchange(base, raw)) in (400, 404)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"&".join(b"f%d=1" % number for number in range(5_000)), "application/x-www-form-urlencoded"),
        (
            b"--b\r\n" + b'Content-Disposition: form-data; name="x"\r\n\r\n1\r\n--b\r\n' * 600,
            "multipart/form-data; boundary=b",
        ),
        (b"{" * 30_000, "application/json"),
        ("{'data': '\u0905'}".encode("utf-16"), "application/json; charset=utf-16"),
        (b"\x00" * 100, "application/octet-stream"),
        (b"data=%ff%fe", "application/x-www-form-urlencoded"),
        (b'{"data": NaN}', "application/json"),
        (b"<html></html>", "text/html"),
    ],
)
async def test_hostile_bodies_are_answered_with_400(serve: Serve, body: bytes, content_type: str) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    answer = await exchange(base, post(base, f"/{token}", body, f"Content-Type: {content_type}"))
    assert status_of(answer) == 400
    assert sink.count == 0


async def test_bodies_of_every_framing_arrive(serve: Serve) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    chunked = head("POST", base, f"/{token}", "Transfer-Encoding: chunked")
    pieces = [b"1\r\n%c\r\n" % byte for byte in BODY]
    assert status_of(await exchange(base, chunked, *pieces, b"0\r\n\r\n")) == 200
    announced = post(base, f"/{token}")
    assert status_of(await exchange(base, announced[:-5], announced[-5:])) == 200
    expecting = head("POST", base, f"/{token}", f"Content-Length: {len(BODY)}", "Expect: 100-continue") + BODY
    assert b" 200 " in await exchange(base, expecting)
    assert sink.count == 3


async def test_a_body_too_large_is_cut_off_while_it_comes(serve: Serve) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink, max_bytes=1_000, timeout=20.0))
    announced = head("POST", base, f"/{token}", "Content-Length: 1001")
    assert status_of(await exchange(base, announced)) == 413
    absurd = head("POST", base, f"/{token}", f"Content-Length: {10**17}")
    assert status_of(await exchange(base, absurd)) == 413
    # The end never comes: only a receiver that counts while it reads can answer.
    endless = head("POST", base, f"/{token}", "Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b"")
    assert status_of(await exchange(base, endless, b"3e9\r\n" + b" " * 1_001 + b"\r\n")) == 413
    query = "x" * 1_001
    assert status_of(await exchange(base, head("GET", base, f"/{token}?{query}"))) == 413
    assert sink.count == 0


async def test_a_body_too_slow_is_not_waited_for(serve: Serve) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink, timeout=0.1))
    started = head("POST", base, f"/{token}", "Content-Length: 100") + b'{"data'
    assert status_of(await exchange(base, started)) == 408
    chunked = head("POST", base, f"/{token}", "Transfer-Encoding: chunked") + b'5\r\n{"dat'
    assert status_of(await exchange(base, chunked)) == 408
    assert sink.count == 0
    assert status_of(await exchange(base, post(base, f"/{token}"))) == 200


async def test_a_body_that_breaks_off_is_not_stored(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    token = new_token()
    sink = Memory(token)
    base = await serve(CallbackReceiver(sink))
    # Valid JSON so far, but more was announced.
    short = head("POST", base, f"/{token}", f"Content-Length: {len(BODY) + 5}") + BODY
    await exchange(base, short, close=True)
    bad_chunk = head("POST", base, f"/{token}", "Transfer-Encoding: chunked") + b"zz\r\n"
    assert status_of(await exchange(base, bad_chunk)) in (0, 400)
    assert status_of(await exchange(base, post(base, f"/{token}"))) == 200
    assert sink.count == 1
    own = [record for record in caplog.records if record.name.startswith("ozonetel")]
    assert not [record for record in own if record.levelno >= logging.ERROR]


async def test_packed_bodies_are_not_unpacked(serve: Serve) -> None:
    import gzip

    token = new_token()
    base = await serve(CallbackReceiver(Memory(token)))
    bomb = gzip.compress(bytes(10_000_000))
    answer = await exchange(base, post(base, f"/{token}", bomb, "Content-Encoding: gzip"))
    assert status_of(answer) == 415
    plain = post(base, f"/{token}", BODY, "Content-Encoding: identity")
    assert status_of(await exchange(base, plain)) == 200


async def test_a_service_that_repeats_gets_through_once_the_sink_is_well(serve: Serve) -> None:
    token = new_token()
    sink = Broken(JournalError("journal x: the disk is full"), 2, Memory(token))
    base = await serve(CallbackReceiver(sink))
    statuses = [status_of(await exchange(base, post(base, f"/{token}"))) for _ in range(4)]
    assert statuses == [503, 503, 200, 200]
    assert sink.then.count == 2


async def test_many_at_a_time(serve: Serve) -> None:
    tokens = [new_token() for _ in range(60)]
    sink = Memory(*tokens[:50])
    base = await serve(CallbackReceiver(sink))
    answers = await asyncio.gather(*(exchange(base, post(base, f"/{token}")) for token in tokens))
    assert [status_of(answer) for answer in answers] == [200] * 50 + [404] * 10
    assert {len(results) for results in sink.stored.values()} == {1}


# --- with a real upload --------------------------------------------------------------------------------------------

CHAOS = {
    "as documented": None,
    "twice": Fault.duplicate_callback(3),
    "early": Fault.early_callback(),
    "late": Fault.late_callback(0.1),
    "hostile": Fault.hostile_callback(b"\xff{}"),
    "hostile form": Fault.hostile_callback("&".join(["data={"] * 400), "application/x-www-form-urlencoded"),
    "lost": Fault.lost_callback(),
}


@pytest.mark.parametrize("chaos", CHAOS)
async def test_each_batch_of_an_upload_settles_once(
    no_tasks_left: None, serve: Serve, chaos: str, tmp_path: Path, sim: Simulator, client: Any
) -> None:
    fault = CHAOS[chaos]
    if fault is not None:
        sim.inject("bulk", fault, times=1, after=1)
    path = tmp_path / "diwali.journal"
    base = await serve(CallbackReceiver(JournalFolder(tmp_path)))
    missing = 1 if chaos in ("hostile", "hostile form", "lost") else 0
    seconds = 0.3 if missing else 20.0
    await client.upload("Diwali", ROWS, journal=path, callback_url=base, callback_timeout=seconds)
    await sim.settle()
    journal = await Journal.attach(path)
    assert await journal.unsettled() == missing
    await journal.give_up_waiting()
    entries = await journal.batches()
    await journal.close()
    # The fault strikes the second request to arrive, which may be any of the batches.
    assert sum(entry.settlement.lost for entry in entries) == missing
    for entry in entries:
        assert entry.settlement.lost == (entry.settlement.result is None)
        assert entry.settlement.result is None or entry.settlement.result.processed == entry.rows
    assert [entry.settlement.conflicts for entry in entries] == [0, 0, 0]
    assert sorted(entry.settlement.repeats for entry in entries) == [0, 0, 2 if chaos == "twice" else 0]
    assert [entry.settlement.transaction_id for entry in entries] == [entry.transaction_id for entry in entries]
    expected = {"twice": [200] * 5, "lost": [200] * 2}.get(chaos, [200, 200, 400] if missing else [200] * 3)
    assert sorted(call.status for call in sim.callbacks) == expected


# --- waiting in this process ---------------------------------------------------------------------------------------


async def test_a_callback_reaches_the_pending_callback_of_its_token() -> None:
    receiver = CallbackReceiver()
    token = new_token()
    with receiver.expect(token) as pending:
        # Early: before anything waits.
        assert await receiver.handle(f"/{token}", "", "", BODY) == 200
        assert (await pending.get(1.0)).succeeded
        # A repeat is known, and not handed on.
        assert await receiver.handle(f"/{token}", "", "", BODY) == 200
        with pytest.raises(CallbackTimeoutError) as caught:
            await pending.get(0.01)
    assert caught.value.outcome == "unknown"
    assert caught.value.__context__ is None
    assert token not in str(caught.value)
    # The repeat of a callback that was taken is no unknown's.
    assert await receiver.handle(f"/{token}", "", "", BODY) == 200


async def test_different_callbacks_under_one_token_come_in_their_order_and_are_bounded() -> None:
    receiver = CallbackReceiver()
    token = new_token()
    bodies = [json.dumps({**JOB, "numbersProcessed": str(number)}).encode() for number in range(40)]
    with receiver.expect(token) as pending:
        statuses = [await receiver.handle(f"/{token}", "", "", body) for body in bodies]
        assert statuses == [200] * 32 + [404] * 8
        first = [await pending.get(1.0) for _ in range(32)]
        assert [getattr(result, "processed", None) for result in first] == list(range(32))


async def test_the_waiter_wakes_when_the_callback_comes() -> None:
    receiver = CallbackReceiver()
    token = new_token()
    with receiver.expect(token) as pending:
        waiter = asyncio.create_task(pending.get(10.0))
        await asyncio.sleep(0)
        assert not waiter.done()
        assert await receiver.handle(f"/{token}", "", "", BODY) == 200
        assert (await waiter).message == "File Successfully uploaded."


async def test_pending_callbacks_come_before_the_sinks_and_other_tokens_do_not_reach_them() -> None:
    token = new_token()
    sink = Memory(token)
    receiver = CallbackReceiver(sink)
    with receiver.expect(token) as pending:
        assert await receiver.handle(f"/{new_token()}", "", "", BODY) == 404
        with pytest.raises(CallbackTimeoutError):
            await pending.get(0.0)
        assert await receiver.handle(f"/{token}", "", "", BODY) == 200
        assert sink.count == 0
    assert await receiver.handle(f"/{new_token()}", "", "", BODY) == 404


async def test_closed_pending_callbacks_are_dropped() -> None:
    receiver = CallbackReceiver()
    pending_callbacks = receiver._pending
    for number in range(3_000):
        token = new_token()
        with receiver.expect(token):
            if number % 2:
                assert await receiver.handle(f"/{token}", "", "", BODY) == 200
        assert await receiver.handle(f"/{token}", "", "", BODY) == (200 if number % 2 else 404)
    assert len(pending_callbacks) == 0
    assert len(pending_callbacks._answered) <= 1_024

    waiting = new_token()
    pending = receiver.expect(waiting)
    task = asyncio.create_task(pending.get(60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # A cancelled wait may go on; one that is dropped goes with its last reference.
    assert await receiver.handle(f"/{waiting}", "", "", BODY) == 200
    assert (await pending.get(0.0)).succeeded
    del pending, task
    await asyncio.sleep(0)  # the loop lets go of a done task one step later
    gc.collect()
    assert len(pending_callbacks) == 0


def test_a_token_is_expected_once_and_must_be_one() -> None:
    receiver = CallbackReceiver()
    token = new_token()
    with receiver.expect(token), pytest.raises(ConfigurationError, match="already"):
        receiver.expect(token)
    with receiver.expect(token):
        pass
    for wrong in ("", "abc", token[:-1], f"{token}/{token}", f"x/{token}"):
        with pytest.raises(ConfigurationError, match="new_token"):
            receiver.expect(wrong)


# --- the ASGI protocol itself --------------------------------------------------------------------------------------


async def asgi(receiver: CallbackReceiver, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    incoming = list(messages)

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await receiver.asgi(scope, receive, send)
    return sent


def scope(token: str, **changes: Any) -> dict[str, Any]:
    given = {"type": "http", "method": "POST", "path": f"/{token}", "query_string": b"", "headers": []}
    return given | changes


async def test_lifespan_is_answered_and_other_scopes_are_refused() -> None:
    receiver = CallbackReceiver()
    sent = await asgi(receiver, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="http"):
        await asgi(receiver, {"type": "websocket"})


async def test_a_connection_closed_in_the_body_stores_nothing() -> None:
    token = new_token()
    sink = Memory(token)
    part = {"type": "http.request", "body": BODY, "more_body": True}
    await asgi(CallbackReceiver(sink), scope(token), part, {"type": "http.disconnect"})
    assert sink.count == 0


async def test_a_server_that_raises_on_a_closed_connection_is_no_error() -> None:
    token = new_token()
    sink = Memory(token)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY}

    async def send(_: Any) -> None:
        raise OSError("gone")

    await CallbackReceiver(sink).asgi(scope(token), receive, send)
    assert sink.count == 1


async def test_connection_headers_are_for_http_1_only() -> None:
    for version, expected in (("1.0", True), ("1.1", True), ("2", False), ("3", False)):
        sent = await asgi(CallbackReceiver(), scope("x", http_version=version), {"type": "http.request"})
        assert ((b"connection", b"close") in sent[0]["headers"]) == expected


async def test_the_root_path_does_not_matter() -> None:
    token = new_token()
    sink = Memory(token)
    for path, root in ((f"/hooks/{token}", "/hooks"), (f"/{token}", "/hooks"), (f"/{token}/", "")):
        request = {"type": "http.request", "body": BODY, "more_body": False}
        sent = await asgi(CallbackReceiver(sink), scope(token, path=path, root_path=root), request)
        assert sent[0]["status"] == 200
    assert sink.count == 3
