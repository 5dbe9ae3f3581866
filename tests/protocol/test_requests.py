"""Requests are decoded here by decoders that share nothing with the module: the standard library's and aiohttp's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ozonetel_async.config import ClientConfig, Credentials, Dialect
from ozonetel_async.errors import (
    AuthenticationError,
    AuthModeError,
    CampaignError,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelError,
    RateLimitedError,
    RequestRejectedError,
)
from ozonetel_async.protocol import requests as wire
from ozonetel_async.protocol.endpoints import Endpoint, EndpointName, endpoint_table
from ozonetel_async.protocol.messages import Meaning
from ozonetel_async.protocol.replies import batch_receipt, bearer_token, export_receipt, lead_receipt, read
from ozonetel_async.protocol.requests import Params, Request, build, quote_slices

KEY = "Kk:/+&=canary 0123%41"
BEARER = "eyJhbGciOiJIUzUxMiJ9.canary.sig_-9"
NAMES: tuple[EndpointName, ...] = (
    *("add", "bulk", "schedule", "dial_status"),
    *("legacy_add", "legacy_schedule", "token"),
)
DIALECTS = {
    "default": Dialect(),
    "multipart": Dialect(bulk_encoding="multipart", dial_status_encoding="multipart"),
    "json": Dialect(bulk_encoding="json", dial_status_encoding="json"),
    "json-text": Dialect(bulk_encoding="json", bulk_data_as="text"),
    "query": Dialect(bulk_encoding="query", dial_status_encoding="form"),
    "body-key": Dialect(dial_status_key="body", dial_status_encoding="form"),
    "bearer-only": Dialect(token_sends_key=False),
}
HOSTILE = [
    *(
        "",
        " ",
        "+",
        "%2B",
        "%",
        "a&b=c",
        "#frag",
        ";",
        "a+b c",
        '"quoted"',
        "\\",
        "\r\n",
        "\r\nX-Evil: 1\r\n\r\n",
        "\0",
    ),
    *("\n--boundary--\r\n", "ஓசோன் 😀", "\u2028", "\x7f", "&amp;", "'", "<xml>", "é" * 50, "?", "/", "\ufeff", "\ud7ff"),
]
# Any text but lone surrogates, which UTF-8 does not have.
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def config_of(dialect: Dialect) -> ClientConfig:
    return ClientConfig(credentials=Credentials(KEY, "ac&me+1"), dialect=dialect, dialer_url="https://dialer.example")


# -- independent decoders ------------------------------------------------------------------------------------------


def by_email_parser(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found[str(name)] = payload.decode()
    return found


async def by_aiohttp(content_type: str, body: bytes) -> dict[str, str]:
    stream = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
    stream.feed_data(body)
    stream.feed_eof()
    reader = aiohttp.MultipartReader(CIMultiDict({"Content-Type": content_type}), stream)
    found = {}
    while (part := await reader.next()) is not None:
        assert isinstance(part, aiohttp.BodyPartReader)
        assert part.name is not None
        found[part.name] = (await part.read()).decode()
    return found


def decoded(request: Request) -> dict[str, Any]:
    """The request's parameters, wherever they are; each must be there once."""
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True, strict_parsing=bool(request.body is None))
    if request.body is None:
        assert "Content-Type" not in request.headers
        pairs = query
    else:
        assert not query, "parameters both in the query and in the body"
        content_type = request.headers["Content-Type"]
        if content_type == "application/json":
            found: dict[str, Any] = json.loads(request.body, object_pairs_hook=once)
            return found
        if content_type.startswith("multipart/form-data; boundary="):
            return dict(by_email_parser(content_type, request.body))
        assert content_type == "application/x-www-form-urlencoded"
        pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    return once(pairs)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a parameter stands there twice"
    return dict(pairs)


def payload_of(*cells: str) -> bytes:
    return msgspec.json.encode({"map": ["PhoneNumber", "Name"], "data": [["+919812345678", cell] for cell in cells]})


def takes_rows(endpoint: Endpoint) -> bool:
    return endpoint.queue in ("bulk", "schedule")


def build_one(
    name: EndpointName,
    dialect: Dialect,
    params: Params,
    campaign: str,
    cells: tuple[str, ...] = (),
    bearer: bool = False,
) -> tuple[Endpoint, Request]:
    endpoint = endpoint_table(dialect)[name]
    request = build(
        endpoint,
        config_of(dialect),
        params,
        campaign=campaign if endpoint.campaign_name else None,
        payload=payload_of(*cells) if takes_rows(endpoint) else None,
        bearer=BEARER if bearer else None,
    )
    return endpoint, request


# -- round trips ---------------------------------------------------------------------------------------------------


def check_round_trip(name: EndpointName, dialect: Dialect, campaign: str, value: str, cells: tuple[str, ...]) -> None:
    params = {"Column One+": value, "skill": value}
    endpoint, request = build_one(name, dialect, params, campaign, cells)
    got = decoded(request)
    expected: dict[str, Any] = dict(params)
    if endpoint.campaign_name:
        expected[endpoint.campaign_name] = campaign
    if endpoint.user_name:
        expected["userName"] = "ac&me+1"
    if endpoint.key_place == "params":
        expected[endpoint.key_name] = KEY
    if takes_rows(endpoint):
        rows = got.pop("bulkData")
        rows = rows if isinstance(rows, dict) else json.loads(rows)
        assert rows == json.loads(payload_of(*cells))
    assert got == expected


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("name", NAMES)
def test_special_characters_arrive_unchanged(name: EndpointName, dialect: Dialect) -> None:
    for text in HOSTILE:
        check_round_trip(name, dialect, text, text, tuple(HOSTILE))


@given(
    name=st.sampled_from(NAMES),
    dialect=st.sampled_from(list(DIALECTS.values())),
    campaign=any_text,
    value=any_text,
    cells=st.lists(any_text, max_size=3).map(tuple),
)
@example("bulk", DIALECTS["multipart"], "\r\n", "\r\n--", ("\r",))
@example("legacy_schedule", DIALECTS["default"], "+", "%2B", ("+", "%2B"))
def test_any_text_arrives_as_it_was(
    name: EndpointName, dialect: Dialect, campaign: str, value: str, cells: tuple[str, ...]
) -> None:
    check_round_trip(name, dialect, campaign, value, cells)


async def test_multipart_reads_the_same_by_aiohttp() -> None:
    for text in HOSTILE:
        _, request = build_one("bulk", DIALECTS["multipart"], {"callBackUrl": text, "q": text}, text, (text, text))
        assert request.body is not None
        content_type = request.headers["Content-Type"]
        assert await by_aiohttp(content_type, request.body) == by_email_parser(content_type, request.body)


@pytest.mark.parametrize("name", ["a\r\nX: y", 'a"; filename="x', "a\\", "a\n\nb"])
async def test_a_parameters_name_cannot_leave_its_header(name: str) -> None:
    _, request = build_one("bulk", DIALECTS["multipart"], {name: "value"}, "Diwali")
    assert request.body is not None
    assert b"\r\nX: y" not in request.body
    got = await by_aiohttp(request.headers["Content-Type"], request.body)
    assert len(got) == 5
    assert got["campaignName"] == "Diwali"
    assert "value" in got.values()


def test_the_boundary_never_stands_in_a_value() -> None:
    _, first = build_one("bulk", DIALECTS["multipart"], {"q": "x"}, "Diwali")
    boundary = first.headers["Content-Type"].partition("boundary=")[2]
    _, second = build_one("bulk", DIALECTS["multipart"], {"q": f"\r\n--{boundary}--\r\n"}, "Diwali")
    assert second.headers["Content-Type"].partition("boundary=")[2] != boundary
    assert decoded(second)["q"] == f"\r\n--{boundary}--\r\n"


@pytest.mark.parametrize("name", ["bulk", "legacy_add", "legacy_schedule"])
def test_a_plus_is_encoded_once(name: EndpointName) -> None:
    _, request = build_one(name, Dialect(), {"PhoneNumber": "+919812345678"}, "Diwali")
    text = (request.body or b"").decode() or request.url
    assert "PhoneNumber=%2B919812345678" in text
    assert "%252B" not in text


def test_a_percent_policy_is_kept_in_json() -> None:
    _, request = build_one("schedule", Dialect(), {"n": "%2B91"}, "Diwali")
    assert b'"n":"%2B91"' in (request.body or b"")


def test_types_in_json_stay_and_become_text_elsewhere() -> None:
    params: Params = {"flag": True, "off": False, "count": 7, "share": 0.5, "raw": msgspec.Raw(b'{"a":1}')}
    _, request = build_one("add", Dialect(), params, "Diwali")
    got = decoded(request)
    assert (got["flag"], got["off"], got["count"], got["share"], got["raw"]) == (True, False, 7, 0.5, {"a": 1})
    for dialect in (DIALECTS["default"], DIALECTS["multipart"], DIALECTS["query"]):
        _, request = build_one("bulk", dialect, params, "Diwali")
        got = decoded(request)
        assert [got[name] for name in params] == ["true", "false", "7", "0.5", '{"a":1}']


def test_bulk_data_in_json_is_nested_or_text_as_the_dialect_says() -> None:
    assert isinstance(decoded(build_one("bulk", DIALECTS["json"], {}, "D", ("x",))[1])["bulkData"], dict)
    assert isinstance(decoded(build_one("bulk", DIALECTS["json-text"], {}, "D", ("x",))[1])["bulkData"], str)


def test_the_payload_is_embedded_and_not_encoded_again() -> None:
    payload = b'{"map":["PhoneNumber"],  "data":[["\\u0041"]]}'
    endpoint = endpoint_table(DIALECTS["json"])["bulk"]
    request = build(endpoint, config_of(DIALECTS["json"]), {}, campaign="D", payload=payload)
    assert payload in (request.body or b"")


def test_the_params_passed_in_stay_as_they_were() -> None:
    params = {"skill": "sales"}
    build_one("bulk", DIALECTS["json"], params, "Diwali", ("x",))
    assert params == {"skill": "sales"}


# -- where things go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_key_is_where_its_row_says_and_nowhere_else(name: EndpointName, dialect: Dialect) -> None:
    endpoint, request = build_one(name, dialect, {"skill": "s"}, "Diwali", ("x",))
    got = decoded(request)
    if endpoint.key_place == "header":
        assert request.headers[endpoint.key_name] == KEY
        assert not {"apiKey", "api_key"} & got.keys()
        assert "canary" not in request.url
        assert b"canary" not in (request.body or b"")
    else:
        assert got[endpoint.key_name] == KEY
        assert "canary" not in str(request.headers)
    assert ("userName" in got) is endpoint.user_name
    assert "Authorization" not in request.headers
    assert set(request.headers) <= {"Content-Type", "Accept-Encoding", "apiKey"}


@pytest.mark.parametrize("name", ["add", "schedule"])
def test_a_bearer_token_goes_beside_the_key_or_alone(name: EndpointName) -> None:
    _, request = build_one(name, Dialect(), {}, "Diwali", ("x",), bearer=True)
    assert request.headers["Authorization"] == f"Bearer {BEARER}"
    assert request.headers["apiKey"] == KEY
    _, request = build_one(name, DIALECTS["bearer-only"], {}, "Diwali", ("x",), bearer=True)
    assert request.headers["Authorization"] == f"Bearer {BEARER}"
    assert "apiKey" not in request.headers
    assert "canary" not in str(decoded(request))
    assert decoded(request)["userName"] == "ac&me+1"


def test_without_a_token_the_key_is_sent_in_every_dialect() -> None:
    """Basic accounts, and the request for a token itself."""
    for name in ("add", "schedule", "token"):
        _, request = build_one(name, DIALECTS["bearer-only"], {}, "Diwali", ("x",))
        assert request.headers["apiKey"] == KEY


@pytest.mark.parametrize("name", NAMES)
def test_method_host_and_path(name: EndpointName) -> None:
    endpoint, request = build_one(name, Dialect(), {}, "Diwali", ("x",))
    host = "https://dialer.example" if name == "dial_status" else "https://in1-ccaas-api.ozonetel.com"
    assert request.url.partition("?")[0] == host + endpoint.path
    assert (request.method, request.endpoint, request.kept_alive) == (endpoint.method, name, endpoint.kept_alive)
    assert request.headers["Accept-Encoding"] == "identity"


def test_requests_share_no_headers() -> None:
    _, one = build_one("add", Dialect(), {}, "Diwali")
    one.headers["X"] = "y"
    _, other = build_one("add", Dialect(), {}, "Diwali")
    assert "X" not in other.headers


@pytest.mark.parametrize("name", NAMES)
def test_the_repr_of_a_request_shows_neither_key_nor_rows(name: EndpointName) -> None:
    _, request = build_one(name, Dialect(), {"PhoneNumber": "+919812345678"}, "Diwali", ("Asha",), bearer=True)
    shown = f"{request!r} {request} {[request]}"
    for secret in ("canary", "9812345678", "Asha", "Diwali", BEARER, "http"):
        assert secret not in shown
    assert name in shown
    with pytest.raises(TypeError):
        vars(request)


# -- reading -------------------------------------------------------------------------------------------------------

ADD, BULK = endpoint_table(Dialect())["add"], endpoint_table(Dialect())["bulk"]


def body_of(status: str, message: str, **more: object) -> bytes:
    return json.dumps({"status": status, "message": message, **more}).encode()


REFUSALS: list[tuple[Meaning, int, bytes, type[OzonetelError], str]] = [
    (Meaning.AUTH, 200, body_of("false", "Invalid User Details"), AuthenticationError, "refused"),
    (Meaning.AUTH_MODE, 200, body_of("false", "Invalid action."), AuthModeError, "refused"),
    (Meaning.TOKEN, 200, body_of("false", "Token Expired"), AuthenticationError, "refused"),
    (Meaning.CAMPAIGN, 200, body_of("Fail", "The selected campaign is not outbound"), CampaignError, "refused"),
    (Meaning.REQUEST, 200, body_of("false", "Invalid Json Pass Valid Json"), RequestRejectedError, "refused"),
    (Meaning.REQUEST, 200, body_of("Error", "something new"), RequestRejectedError, "refused"),
    (Meaning.RATE, 200, body_of("error", "Max limit exceeded"), RateLimitedError, "refused"),
    (Meaning.RATE, 429, b"", RateLimitedError, "refused"),
    (Meaning.REJECT, 200, body_of("FAIL", "Agent Is Empty!"), LeadRejectedError, "refused"),
    (Meaning.AUTH, 401, b"", AuthenticationError, "refused"),
    (Meaning.FORBIDDEN, 403, b"<html>Forbidden</html>", AuthenticationError, "refused"),
    (Meaning.SERVER, 502, b"<html>Bad Gateway</html>", OutcomeUnknownError, "unknown"),
    (Meaning.UNKNOWN, 200, b"", OutcomeUnknownError, "unknown"),
    (Meaning.UNKNOWN, 200, body_of("success", "something new"), OutcomeUnknownError, "unknown"),
]


@pytest.mark.parametrize(("meaning", "code", "body", "kind", "outcome"), REFUSALS)
def test_each_meaning_has_its_error(
    meaning: Meaning, code: int, body: bytes, kind: type[OzonetelError], outcome: str
) -> None:
    reply, error = read(ADD, code, body)
    assert reply.meaning is meaning
    assert type(error) is kind
    assert error is not None
    assert (error.outcome, error.endpoint, error.raw) == (outcome, "add", body.decode())
    assert getattr(error, "forbidden", False) is (meaning is Meaning.FORBIDDEN)
    assert error.message


def test_every_meaning_is_covered() -> None:
    successes = {Meaning.ACCEPTED, Meaning.QUEUED, Meaning.DUPLICATE}
    assert {meaning for meaning, *_ in REFUSALS} | successes == set(Meaning)


@pytest.mark.parametrize(
    ("endpoint", "body", "meaning"),
    [
        (ADD, body_of("SUCCESS", "SuccessFully Updated"), Meaning.ACCEPTED),
        (ADD, body_of("SUCCESS", "Number Already Exist"), Meaning.DUPLICATE),
        (BULK, body_of("success", "queued successfully", transactionId="1" * 24), Meaning.QUEUED),
    ],
)
def test_a_success_has_no_error(endpoint: Endpoint, body: bytes, meaning: Meaning) -> None:
    reply, error = read(endpoint, 200, body)
    assert error is None
    assert reply.meaning is meaning


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("phone number should be numeric and must be between 3 to 16 digits and allows prefix +", "phone_number"),
        ("The priority value must be numeric and range from 0 to 99.", "priority"),
        ("The expiry date and time must be in the future", "expiry"),
        ("Agent is not correctly mapped!", "agent_id"),
        ("Please provide valid skill", "skill"),
    ],
)
def test_a_rejection_names_our_argument(message: str, field: str) -> None:
    _, error = read(ADD, 200, body_of("error", message))
    assert isinstance(error, LeadRejectedError)
    assert (error.field, error.message) == (field, message)


def test_errors_give_the_services_text_and_a_hint() -> None:
    _, error = read(ADD, 200, body_of("false", "Invalid action."))
    assert str(error).startswith("add: Invalid action. (")
    assert "API Authentication" in str(error)
    _, error = read(ADD, 200, body_of("false", "Token Expired"))
    assert "another process" in str(error)
    _, error = read(ADD, 429, b"")
    assert str(error) == "add: HTTP 429"
    _, error = read(ADD, 503, b"upstream is gone")
    assert "HTTP 503, 16 characters" in str(error)
    _, error = read(ADD, 200, body_of("success", "all right then"))
    assert "'all right then'" in str(error)


def test_a_refused_callback_url_is_no_refused_lead() -> None:
    _, error = read(endpoint_table(Dialect())["dial_status"], 200, body_of("error", "callBackUrl cannot be empty (OR)"))
    assert isinstance(error, RequestRejectedError)
    assert error.field == "callback_url"
    _, error = read(BULK, 200, body_of("failure", "Please provide valid data"))
    assert isinstance(error, RequestRejectedError)
    assert error.field is None


SECRETS = (KEY, BEARER)
ECHOES: dict[str, Callable[[str], bytes]] = {
    "unlisted refusal": lambda echo: body_of("error", f"cannot use {echo} here", data=echo),
    "unlisted success": lambda echo: body_of("success", f"cannot use {echo} here", data=echo),
    "listed refusal": lambda echo: body_of("false", "Invalid User Details", data=echo),
    "rejection": lambda echo: body_of("error", f"callBackUrl cannot be empty {echo}", data=echo),
    "html": lambda echo: f"<html><p>{echo}</p></html>".encode(),
    "long": lambda echo: ("x" * 1_990 + " " + echo).encode(),
    "long in json": lambda echo: body_of("error", "y" * 1_960 + " " + echo),
}


@pytest.mark.parametrize("shape", ECHOES)
@pytest.mark.parametrize("secret", SECRETS)
def test_an_echoed_secret_shows_in_no_error(shape: str, secret: str) -> None:
    for code in (200, 400, 500):
        _, error = read(ADD, code, ECHOES[shape](secret), SECRETS)
        assert error is not None
        shown = f"{error} {error!r} {error.raw} {vars(error)}"
        assert "canary" not in shown
        assert "eyJhbG" not in shown
        assert "Kk:/" not in shown


@pytest.mark.parametrize("shape", ECHOES)
def test_an_echoed_number_keeps_three_digits(shape: str) -> None:
    for code in (200, 400, 500):
        _, error = read(ADD, code, ECHOES[shape]("+919812345678"))
        assert error is not None
        assert "12345" not in f"{error} {error!r} {error.raw} {vars(error)}"


@given(body=st.binary(max_size=300), code=st.integers(100, 599), name=st.sampled_from(NAMES))
def test_any_body_is_read_without_an_exception(body: bytes, code: int, name: EndpointName) -> None:
    reply, error = read(endpoint_table(Dialect())[name], code, body, SECRETS, token_used=True)
    assert (error is None) is (reply.meaning in {Meaning.ACCEPTED, Meaning.QUEUED, Meaning.DUPLICATE})


# -- receipts ------------------------------------------------------------------------------------------------------


def test_receipts() -> None:
    body = body_of("SUCCESS", "SuccessFully Updated")
    receipt = lead_receipt(read(ADD, 200, body)[0])
    assert (receipt.outcome, receipt.message, receipt.raw) == ("accepted", "SuccessFully Updated", body.decode())
    assert lead_receipt(read(ADD, 200, body_of("SUCCESS", "Number Already Exist"))[0]).outcome == "duplicate"
    ticket = "172067852912917131638630"
    for spelled in (f'"{ticket}"', ticket):
        body = b'{"transactionId":%s,"status":"success","message":"queued successfully"}' % spelled.encode()
        batch = batch_receipt(read(BULK, 200, body)[0], 500)
        assert (batch.transaction_id, batch.rows) == (ticket, 500)
    export = endpoint_table(Dialect())["dial_status"]
    reply, _ = read(export, 200, b'{"status":"success","message":"","uniqueId":"u-1"}')
    assert export_receipt(reply).unique_id == "u-1"


TOKEN = endpoint_table(Dialect())["token"]


def test_a_token_is_taken_without_blanks_around_it() -> None:
    for sent in (BEARER, f" {BEARER}\n"):
        reply, error = read(TOKEN, 200, json.dumps({"token": sent, "message": ""}).encode())
        assert error is None
        assert bearer_token(reply) == BEARER


@pytest.mark.parametrize("sent", ["a\r\nX-Evil: 1", "a b", "tökén", "a\0b", "a\nb"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(sent: str) -> None:
    reply, error = read(TOKEN, 200, json.dumps({"token": sent, "message": ""}).encode())
    assert error is None
    with pytest.raises(OutcomeUnknownError, match=f"{len(sent)} characters") as caught:
        bearer_token(reply)
    assert sent not in str(caught.value)


@pytest.mark.parametrize("encoding", ["form", "query", "json", "multipart"])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), at=st.integers(1, 9))
def test_a_payload_quoted_in_slices_makes_the_same_request(encoding: str, text: str, at: int) -> None:
    config = config_of(Dialect(bulk_encoding=encoding))  # type: ignore[arg-type]
    endpoint = endpoint_table(config.dialect)["bulk"]
    payload = msgspec.json.encode({"map": ["Name"], "data": [[text + '%2B +&="']]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_SLICE", at)
        pieces = list(quote_slices(endpoint, payload))
    assert bool(pieces) == (encoding in ("form", "query"))
    whole, sliced = (
        build(endpoint, config, {"callBackUrl": "https://a/b"}, campaign="D", payload=payload, quoted=quoted)
        for quoted in (None, "".join(pieces) or None)
    )
    assert (sliced.url, sliced.headers, sliced.body) == (whole.url, whole.headers, whole.body)
