"""A canary key, token and phone number go everywhere a real one goes, and must come out nowhere.

No socket here: the answers come from a fake in the place of ``Transport.send``, on the virtual clock.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from ozonetel_async import Lead, OzonetelClient, OzonetelError, RetryPolicy, UploadReport
from ozonetel_async.config import ClientConfig, Credentials
from ozonetel_async.errors import ConfigurationError, ConnectError, OutcomeUnknownError
from ozonetel_async.protocol.requests import Request
from ozonetel_async.sending.transport import Response, Transport
from ozonetel_async.testing.clock import run_virtual

KEY = "KEYcanary/+&=0123"
TOKEN = "eyJhbGciOiJIUzUxMiJ9.TOKENcanary.c2ln"
PHONE = "+919812345678"
NAME = "Nomen Traced"
TRACES = ("canary", "9812345678", "KEYc", "eyJhbG")


def clean(text: str) -> bool:
    return not any(trace in text for trace in TRACES)


def nameless(text: str) -> bool:
    """For texts of our own; an error's ``raw`` is the service's text, and may repeat a name."""
    return "Traced" not in text


def make_client(**options: object) -> OzonetelClient:
    settings = {"retry": RetryPolicy(connect_attempts=2, rate_attempts=2)} | options
    return OzonetelClient(KEY, "acme", **settings)  # type: ignore[arg-type]


def lead(**fields: object) -> Lead:
    return Lead(PHONE, name=NAME, **fields)  # type: ignore[arg-type]


Answer = Callable[[Request], Response]


def everything_in(request: Request) -> str:
    """What a talkative server repeats: URL, headers and body of the request."""
    return f"{request.url} {request.headers} {(request.body or b'').decode()}"


def body_with(status: str, message: str) -> Answer:
    def answer(request: Request) -> Response:
        echo = everything_in(request)
        return Response(
            200, json.dumps({"status": status, "message": message.format(echo), "data": echo}).encode(), None
        )

    return answer


def text_with(code: int) -> Answer:
    return lambda request: Response(code, f"<html>{everything_in(request)}</html>".encode(), "1")


def failing(error: type[OzonetelError]) -> Answer:
    def answer(request: Request) -> Response:
        raise error("no answer", endpoint=request.endpoint)

    return answer


ANSWERS: dict[str, Answer] = {
    "unlisted refusal": body_with("error", "cannot use {}"),
    "unlisted success": body_with("success", "did use {}"),
    "wrong key": body_with("false", "Invalid User Details"),
    "dead token": body_with("false", "Token Expired"),
    "rejected": body_with("FAIL", "PhoneNumber Added is a DND Number"),
    "rate": body_with("error", "Max limit exceeded"),
    "html 502": text_with(502),
    "html 200": text_with(200),
    "429": text_with(429),
    "403": text_with(403),
    "no connection": failing(ConnectError),
    "no answer": failing(OutcomeUnknownError),
}


@pytest.fixture(params=ANSWERS)
def answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every request but that for a token ends in this answer."""
    name = str(request.param)

    async def send(_: Transport, sent: Request) -> Response:
        if sent.endpoint == "token":
            return Response(200, json.dumps({"token": TOKEN, "message": ""}).encode(), None)
        return ANSWERS[name](sent)

    monkeypatch.setattr(Transport, "send", send)
    return name


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All records at DEBUG; those of the library must be clean at the end, arguments included."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="ozonetel_async")
    yield caplog
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    for record in caplog.get_records("call"):
        text = f"{formatter.format(record)} {record.args!r} {record.__dict__!r}"
        assert clean(text), record.name
        assert nameless(text), record.name


# -- settings and the client ---------------------------------------------------------------------------------------


def test_the_client_shows_no_secret() -> None:
    client = make_client()
    shown = [f"{client!r} {client} {client.legacy!r} {client.queues!r} {dict(client.queues)!r}", repr(vars(client))]
    todo: list[object] = [client]
    seen: set[int] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or not type(thing).__module__.startswith("ozonetel_async"):
            continue
        seen.add(id(thing))
        shown.append(f"{thing!r} {thing}")
        todo += vars(thing).values() if hasattr(thing, "__dict__") else ()
    assert len(seen) > 3
    assert all(clean(text) for text in shown)
    assert "acme" in repr(client)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_the_client_or_its_settings_is_a_clear_error(protocol: int) -> None:
    credentials = Credentials(KEY, "acme")
    for thing in (credentials, ClientConfig(credentials=credentials), make_client()):
        with pytest.raises(ConfigurationError, match=r"not pickled.*in each process") as caught:
            pickle.dumps(thing, protocol)
        assert clean(str(caught.value))


def test_copies_of_the_client_do_not_take_the_key_along() -> None:
    with pytest.raises(ConfigurationError):
        copy.deepcopy(make_client())


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://KEYcanary:KEYcanary@evil.example"},
        {"base_url": f"https://evil.example/?key={KEY}"},
        {"timezone": "nowhere"},
        {"auth": "digest"},
    ],
)
def test_a_refused_setting_shows_no_secret(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_client(**options)
    assert clean(f"{caught.value} {caught.value!r}")
    assert clean("".join(traceback.TracebackException.from_exception(caught.value).format_exception_only()))


def test_a_refused_key_is_not_shown() -> None:
    for bad in (f"{KEY}\n", f" {KEY}", f"{KEY}é"):
        with pytest.raises(ConfigurationError) as caught:
            OzonetelClient(bad, "acme")
        assert clean(f"{caught.value!r} {caught.value}")


# -- calls ---------------------------------------------------------------------------------------------------------


def assert_clean_error(error: BaseException) -> None:
    """The error with its chain, as loggers and crash reporters print and send it."""
    assert clean(f"{error} {error!r} {vars(error)!r} {error.args!r}")
    assert clean("".join(traceback.format_exception(error)).replace(__file__, ""))
    assert clean(pickle.dumps(error).decode("latin-1"))
    link: BaseException | None = error
    while link is not None:
        assert clean(f"{link} {link!r}")
        link = link.__cause__ or link.__context__


def assert_no_secret_in_locals(error: BaseException) -> None:
    """Crash reporters send the local variables of every frame; rows may be there, keys and tokens not."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in report.stack:
        if frame.filename != __file__:
            for name, value in (frame.locals or {}).items():
                assert "KEYc" not in value, f"{frame.name}: {name}"
                assert "eyJhbG" not in value or name in ("bearer", "token"), f"{frame.name}: {name}"


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_add_lead(answer: str, auth: str, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> OzonetelError:
        async with make_client(auth=auth) as client:
            with pytest.raises(OzonetelError) as caught:
                await client.add_lead("Diwali", lead(), check_duplicate=True)
            assert clean(repr(client))
            return caught.value

    error = run_virtual(main())
    assert_clean_error(error)
    assert_no_secret_in_locals(error)


def test_add_batch(answer: str, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> OzonetelError:
        async with make_client() as client:
            with pytest.raises(OzonetelError) as caught:
                await client.add_batch("Diwali", [lead()])
            return caught.value

    error = run_virtual(main())
    assert_clean_error(error)
    assert_no_secret_in_locals(error)


def test_dial_status(answer: str, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> OzonetelError:
        async with make_client() as client:
            with pytest.raises(OzonetelError) as caught:
                await client.request_dial_status("Diwali", callback_url="https://hooks.example/x")
            return caught.value

    assert_clean_error(run_virtual(main()))


def test_legacy_add_lead(answer: str, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> OzonetelError:
        async with make_client() as client:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                with pytest.raises(OzonetelError) as caught:
                    await client.legacy.add_lead("Diwali", lead())
            assert all(clean(str(warning.message)) for warning in warned)
            return caught.value

    error = run_virtual(main())
    assert_clean_error(error)
    assert_no_secret_in_locals(error)


def test_upload(answer: str, everything_logged: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def progress(report: UploadReport) -> None:
        seen.append(f"{report} {report!r}")

    async def main() -> UploadReport | None:
        async with make_client() as client:
            rows = [lead(), Lead(f"{PHONE}x", name=NAME), Lead(PHONE, name=f"{NAME},;"), lead(skill="s")] * 300
            with contextlib.suppress(OzonetelError):
                return await client.upload("Diwali", rows, on_progress=progress)
        return None

    report = run_virtual(main())
    if report is not None:
        progress(report)
        assert report.rows_invalid > 0
        assert clean(pickle.dumps(report).decode("latin-1"))
    assert seen
    assert all(clean(text) for text in seen)


def test_schedule_leads(answer: str, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> str:
        async with make_client() as client:
            soon = datetime.now() + timedelta(days=2)
            rows = [lead(scheduled_time=soon), Lead(f"{PHONE}x", scheduled_time=soon), lead()]
            try:
                return repr(await client.schedule_leads("Diwali", rows))
            except OzonetelError as error:
                assert_clean_error(error)
                return ""

    assert clean(run_virtual(main()))


@pytest.mark.parametrize(
    "wrong",
    [
        Lead(f"{PHONE}x", name="Asha"),
        Lead(PHONE, name=f"{NAME}, junior"),
        Lead(PHONE, expiry="31-12-2026"),
        Lead(PHONE, extra={"City": f"{NAME}\0"}),
        Lead(PHONE, extra={PHONE: "x", "apiKey": KEY}),
        PHONE,
        {"PhoneNumber": PHONE},
    ],
)
def test_an_invalid_lead_is_not_repeated(wrong: Lead, everything_logged: pytest.LogCaptureFixture) -> None:
    async def main() -> OzonetelError:
        async with make_client() as client:
            with pytest.raises(OzonetelError) as caught:
                await client.add_lead("Diwali", wrong)
            return caught.value

    error = run_virtual(main())
    assert_clean_error(error)
    assert nameless(f"{error} {error!r} {vars(error)}")


def test_the_canaries_do_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """That all this looks for something that is there: the request does carry key, token, number and name."""
    sent: list[str] = []

    async def send(_: Transport, request: Request) -> Response:
        sent.append(everything_in(request))
        token = json.dumps({"token": TOKEN, "message": ""}).encode()
        return Response(200, token if request.endpoint == "token" else b'{"status":"SUCCESS"}', None)

    monkeypatch.setattr(Transport, "send", send)

    async def main() -> None:
        async with make_client(auth="token") as client:
            with pytest.raises(OzonetelError):
                await client.add_lead("Diwali", lead())

    run_virtual(main())
    assert all(secret in sent[-1] for secret in (KEY, TOKEN, PHONE, NAME))
    assert not clean(sent[-1])
