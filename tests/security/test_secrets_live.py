"""What must not leave as text does not: key, bearer token and phone number, in whatever goes wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from msgspec.structs import replace

from ozonetel_async import ConnectError, Dialect, Lead, OzonetelClient, OzonetelError, Timeouts
from ozonetel_async.testing import Fault, Simulator

from ..conftest import EAGER, Connect, RawServer, eventually, http, never

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

KEY = "kanary/+=&\\key"
PHONE = "917766554433"
NUMBER = "7766554433"
LEAD = Lead("+" + PHONE, name="Asha")
TOMORROW = datetime.now(UTC) + timedelta(days=1)

# Parts that no encoding of the key changes, and the number without what a prefix may add.
SECRETS = ("kanary", NUMBER)


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"api_key": KEY}


class Ears(logging.Handler):
    """Hears every record of every logger, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.heard: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # The simulator, on the other side of the wire, is allowed to know.
        self.heard.append(f"{self.format(record)} {record.args!r} {record.__dict__!r}")


@pytest.fixture
def ears() -> Iterator[Ears]:
    handler, root = Ears(), logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "asyncio", "aiohttp", "ozonetel_async")}
    root.addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from chain(inner)
        if error.__context__ is not error.__cause__:
            yield from chain(error.__context__)
        error = error.__cause__


def everything_said(error: BaseException) -> str:
    """Every text that somebody might make of an exception."""
    told = [*traceback.format_exception(error)]
    for one in chain(error):
        told += [repr(one), str(one), f"{one}", repr(one.args), repr(vars(one)), repr(getattr(one, "__notes__", ""))]
        if isinstance(one, OzonetelError):
            told += [str(one.message), str(one.raw), repr(pickle.dumps(one)), repr(pickle.loads(pickle.dumps(one)))]
    return "\n".join(told)


async def fate(call: Awaitable[Any]) -> object:
    """What a call returns or raises."""
    try:
        return await call
    except (Exception, asyncio.CancelledError) as error:
        return error


def check(text: str, *more: str) -> None:
    for secret in (*SECRETS, *more):
        assert secret not in text, text


def check_objects(client: OzonetelClient) -> None:
    parts = [client, client._config, client._dispatcher, client.queues, client.legacy, *client.queues.values()]
    check(" ".join(f"{part!r} {part} {part:}" for part in parts))
    for part in (client, client._config, client._config.credentials):
        with pytest.raises((OzonetelError, TypeError, AttributeError)) as caught:
            pickle.dumps(part)
        check(everything_said(caught.value))


CALLS: dict[str, Callable[[OzonetelClient], Awaitable[Any]]] = {
    "add": lambda client: client.add_lead("Diwali", LEAD),
    "bulk": lambda client: client.add_batch("Diwali", [LEAD]),
    "legacy_add": lambda client: client.legacy.add_lead("Diwali", LEAD),
    "dial_status": lambda client: client.request_dial_status("Diwali", callback_url="http://127.0.0.1:9/x"),
}


def echo(*shapes: str) -> list[Fault]:
    """Answers that repeat what they were sent."""
    return [
        Fault.status(code, apply=False, body=body.format(key=shape, phone=PHONE), content_type="application/json")
        for shape in shapes
        for code in (200, 502)
        for body in (
            '{{"status":"error","message":"bad key {key} for {phone}"}}',
            '{{"status":"Success","message":"new wording {key} {phone}"}}',
            "<html>{key} {phone}</html>",
            "x" * 1_990 + " {key} {phone}",
        )
    ]


FAULTS = [
    Fault.reset_after_apply(),
    Fault.reset_before_apply(),
    Fault.stall_after_apply(),
    Fault.status(500),
    Fault.html(),
    Fault.truncated(),
    Fault.truncated(flavour="json"),
    Fault.oversized(3 * 2**20),
    Fault.http_429("3600"),
    Fault.redirect(f"https://elsewhere.invalid/?api_key={KEY}&p={PHONE}"),
    *echo(KEY, KEY.replace("\\", "\\\\"), "kanary%2F%2B%3D%26%5Ckey", "kanary\\/+=&\\\\key", "kanary/%2B%3D%26%5ckey"),
]


@pytest.mark.parametrize("endpoint", CALLS)
async def test_nothing_shows_in_any_failure(sim: Simulator, connect: Connect, ears: Ears, endpoint: str) -> None:
    client = connect(timeouts=Timeouts(total=0.4))
    failures = 0
    for fault in FAULTS:
        sim.inject(endpoint, fault)
        outcome = await fate(CALLS[endpoint](client))
        assert isinstance(outcome, OzonetelError), fault
        failures += 1
        check(everything_said(outcome))
        if fault.code == 429:
            client = connect(timeouts=Timeouts(total=0.4))
    check_objects(client)
    await client.close()
    gc.collect()
    check("\n".join(ears.heard))
    assert failures == len(FAULTS)
    assert ears.heard


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """TLS never gets ready here."""
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.mark.parametrize("endpoint", CALLS)
async def test_nothing_shows_when_there_is_no_connection(
    sim: Simulator, connect: Connect, ears: Ears, silent_url: str, endpoint: str
) -> None:
    refusing = sim.base_url
    await sim.close()
    for url in (silent_url, refusing):
        client = connect(api_key=KEY, base_url=url, dialer_url=url, timeouts=Timeouts(connect=0.02))
        with pytest.raises(ConnectError) as caught:
            await CALLS[endpoint](client)
        check(everything_said(caught.value))
        check_objects(client)
    check("\n".join(ears.heard))


async def test_nothing_shows_when_a_body_cannot_be_written(connect: Connect, ears: Ears) -> None:
    """aiohttp puts the URL into the text of this error, and a query-style V4 has the key in its URL."""

    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(b"no", "Connection: keep-alive"))
        writer.transport.abort()
        return False

    async with RawServer(bye) as server:
        for encoding in ("form", "query", "multipart"):
            client = connect(api_key=KEY, base_url=server.url, dialect=Dialect(bulk_encoding=encoding))
            for _ in range(4):
                outcome = await fate(client.add_batch("Diwali", [Lead(PHONE, extra={"Note": "x" * 1_900})] * 500))
                assert isinstance(outcome, OzonetelError)
                check(everything_said(outcome), server.url)
    check("\n".join(ears.heard))


TEXT = f"Can not write request body for https://host/path?api_key={KEY}&PhoneNumber={PHONE}"


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientOSError(32, TEXT),
        aiohttp.ServerDisconnectedError(TEXT),
        aiohttp.InvalidURL(TEXT),
        aiohttp.ConnectionTimeoutError(TEXT),
        aiohttp.ClientPayloadError(TEXT),
        OSError(TEXT),
        OSError(104, TEXT),
        TimeoutError(TEXT),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_texts_of_others_are_not_passed_on(replies: aioresponses, ears: Ears, error: Exception) -> None:
    replies.get(re.compile(".*"), exception=error, repeat=True)
    async with OzonetelClient(KEY, "user", retry=EAGER) as client:
        outcome = await fate(CALLS["legacy_add"](client))
    assert isinstance(outcome, OzonetelError)
    check(everything_said(outcome))
    check("\n".join(ears.heard))


async def test_a_token_of_any_form_does_not_show(replies: aioresponses, ears: Ears) -> None:
    token = "opaque-and-secret"
    replies.post(re.compile(".*/generateToken"), body=f'{{"token":"{token}"}}')
    replies.post(re.compile(".*/AddCampaignData"), body=f'{{"status":"error","message":"what is {token}"}}')
    async with OzonetelClient(KEY, "user", auth="token") as client:
        outcome = await fate(CALLS["add"](client))
    assert isinstance(outcome, OzonetelError)
    check(everything_said(outcome), token)
    check("\n".join(ears.heard), token)


async def test_nothing_shows_of_callers_that_wait_or_are_cut_off(connect: Connect, ears: Ears) -> None:
    async with RawServer(never) as server:
        client = connect(api_key=KEY, base_url=server.url)
        calls = [asyncio.create_task(fate(CALLS[name](client))) for name in ("add", "legacy_add", "bulk")]
        await eventually(lambda: len(server.hits) == 3)
        calls[0].cancel()
        await asyncio.gather(calls[0], return_exceptions=True)
        await client.close()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, BaseException)
            check(everything_said(outcome))
    check("\n".join(ears.heard))


@pytest.mark.parametrize("sim_options", [{"api_key": KEY, "auth_mode": "TOKEN_AUTH"}])
@pytest.mark.parametrize(
    "fault",
    [
        Fault.prefix("<p>"),
        Fault.truncated(flavour="json"),
        Fault.truncated(),
        Fault.status(500, body="{token}"),
        Fault.status(200, body='{{"token":"{token}" oops'),
        Fault.status(200, body='{{"status":"error","message":"{token}"}}'),
        Fault.status(200, body='{{"token":"{token} and more","message":""}}'),
    ],
)
async def test_a_bearer_token_does_not_show(sim: Simulator, connect: Connect, ears: Ears, fault: Fault) -> None:
    token = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJlLXRoYXQtbXVzdC1ub3Qtc2hvdw"
    client = connect(auth="token")
    sim.inject("token", replace(fault, body=fault.body.format(token=token)))
    told = await fate(CALLS["add"](client))
    if isinstance(told, BaseException):
        check(everything_said(told), token, "eyJhbGciOiJIUzUxMiJ9")
    await CALLS["add"](client)
    bearer = sim.requests("add")[-1].headers["Authorization"].partition(" ")[2]
    for body in (f"<p>{bearer}", f'{{"status":"error","message":"what is {bearer}"}}'):
        sim.inject("add", Fault.status(200, apply=False, body=body))
        outcome = await fate(CALLS["add"](client))
        assert isinstance(outcome, OzonetelError)
        check(everything_said(outcome), bearer, bearer.split(".")[2])
    check_objects(client)
    check("\n".join(ears.heard), token, bearer)


async def test_an_upload_says_nothing(sim: Simulator, connect: Connect, ears: Ears) -> None:
    client = connect(timeouts=Timeouts(total=0.4))
    reports = []
    rows: list[Any] = [
        {"PhoneNumber": PHONE, "Name": "Asha"},
        {"PhoneNumber": PHONE, "Name": f"?{PHONE}?"},
        {"PhoneNumber": f"{PHONE}{PHONE}", "Name": "Asha"},
        {"PhoneNumber": PHONE, "Nombre": PHONE},
        PHONE,
    ]
    for fault in FAULTS:
        if fault.code != 429:
            sim.inject("bulk", fault)
            reports.append(await client.upload("Diwali", rows, on_progress=lambda report: None))
    tomorrow = [Lead(PHONE, scheduled_time=TOMORROW), Lead(PHONE + PHONE, scheduled_time=TOMORROW)]
    schedule = await client.schedule_leads("Diwali", tomorrow)
    check(" ".join(f"{report} {report!r}" for report in (*reports, schedule)))
    check("\n".join(ears.heard))


@pytest.mark.parametrize(
    "lead",
    [
        Lead(PHONE + PHONE),
        Lead(PHONE + "x"),
        Lead(PHONE, name=f"<{PHONE}>"),
        Lead(PHONE, priority=int(PHONE)),
        Lead(PHONE, expiry=PHONE),
        Lead(PHONE, extra={PHONE: "x", " " + PHONE: "y"}),
        Lead(PHONE, extra={"apiKey": KEY}),
        Lead(PHONE, extra={"Note": object()}),  # type: ignore[dict-item]
        Lead(PHONE, agent_id=f"\n{PHONE}"),
    ],
)
async def test_an_invalid_lead_shows_its_shape_only(connect: Connect, lead: Lead) -> None:
    client = connect()
    calls = (client.add_lead("Diwali", lead), client.add_batch("Diwali", [lead]))
    errors = [error for error in await asyncio.gather(*calls, return_exceptions=True) if isinstance(error, Exception)]
    assert errors
    for error in errors:
        check(everything_said(error))
    check(f"{lead!r} {lead}")
