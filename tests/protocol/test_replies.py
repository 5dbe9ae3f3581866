"""Answers and their meanings.

``samples/<endpoint>/<case>.<HTTP code>.<meaning>[-<field>].<ending>`` are bodies as the service sends them; a new case
is a new file. The lists below repeat the pages' messages by hand and read nothing from the table under test.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ozonetel_async.protocol.answer_bodies import TEXT_LIMIT, cut, decode
from ozonetel_async.protocol.messages import MESSAGES, Meaning
from ozonetel_async.protocol.replies import Reply, classify, classify_row

SAMPLES = Path(__file__).parent.parent / "samples"
FILES = sorted(path for path in SAMPLES.glob("*/*") if path.is_file())
ENDPOINTS = ("add", "bulk", "schedule", "dial_status", "legacy_add", "legacy_schedule", "token")
SUCCESSES = {Meaning.ACCEPTED, Meaning.QUEUED, Meaning.DUPLICATE}
TRANSACTION = "1292017169670681719733108"


def body_of(**values: object) -> bytes:
    return json.dumps(values).encode()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_sample(path: Path) -> None:
    _, code, expected, _ = path.name.rsplit(".", 3)
    meaning, _, field = expected.partition("-")
    reply = classify(path.parent.name, int(code), path.read_bytes())
    assert (reply.meaning, reply.field) == (Meaning(meaning), field or None)


def test_every_endpoint_has_samples() -> None:
    assert {path.parent.name for path in FILES} == set(ENDPOINTS)


# -- every documented refusal, at the endpoint of its page --------------------------------------------------------

REFUSALS = [
    # Add Campaign Data (GET, deprecated)
    ("legacy_add", "FAIL", "No User Found", Meaning.AUTH, None),
    ("legacy_add", "FAIL", "Phone Number is Empty!", Meaning.REJECT, "phone_number"),
    ("legacy_add", "FAIL", "PhoneNumber Added is a DND Number", Meaning.REJECT, "phone_number"),
    # Add Campaign Data, basic
    ("add", "false", "Invalid action.", Meaning.AUTH_MODE, None),
    ("add", "false", "Api Key Should Not be Null or Empty.", Meaning.AUTH, None),
    ("add", "false", "Invalid User Details", Meaning.AUTH, None),
    ("add", "false", "Username Should Not be Null or Empty.", Meaning.AUTH, None),
    ("add", "Error", "Please provide campaign details", Meaning.CAMPAIGN, None),
    ("add", "FAIL", "No User Found or Campaign Name is Invalid", Meaning.CAMPAIGN, None),
    ("add", "Fail", "The selected campaign is not outbound", Meaning.CAMPAIGN, None),
    (
        "add",
        "error",
        "phone number should be numeric and must be between 3 to 16 digits and allows prefix +",
        Meaning.REJECT,
        "phone_number",
    ),
    ("add", "Error", "The priority value must be numeric and range from 0 to 99.", Meaning.REJECT, "priority"),
    (
        "add",
        "Error",
        "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd",
        Meaning.REJECT,
        "expiry",
    ),
    ("add", "Error", "The expiry date and time must be in the future", Meaning.REJECT, "expiry"),
    ("add", "FAIL", "Agent Is Empty!", Meaning.REJECT, "agent_id"),
    ("add", "FAIL", "Agent is not correctly mapped!", Meaning.REJECT, "agent_id"),
    ("add", "FAIL", "Please provide valid skill", Meaning.REJECT, "skill"),
    # Add Campaign Data, token
    ("add", "false", "Token Expired", Meaning.TOKEN, None),
    ("add", "false", "Invalid Token", Meaning.TOKEN, None),
    ("add", "false", "Token Should Not be Null or Empty.", Meaning.REQUEST, None),
    ("add", "false", "Invalid Json Pass Valid Json", Meaning.REQUEST, None),
    # Bulk V4
    ("bulk", "error", "Invalid userName or apiKey", Meaning.AUTH, None),
    ("bulk", "error", "apiKey should not be empty", Meaning.AUTH, None),
    ("bulk", "error", "userName should not be empty", Meaning.AUTH, None),
    ("bulk", "error", "campaignName should not be empty", Meaning.CAMPAIGN, None),
    ("bulk", "error", "Invalid Campaign Name", Meaning.CAMPAIGN, None),
    ("bulk", "failure", "Please provide valid data", Meaning.REQUEST, None),
    ("bulk", "error", "too many Requests and failed to add Data to queue", Meaning.RATE, None),
    # Older bulk
    ("old_bulk", "failure", "no user found", Meaning.AUTH, None),
    ("old_bulk", "error", "please provide campaign details", Meaning.CAMPAIGN, None),
    ("old_bulk", "error", "Already one process is running please try after some time", Meaning.RATE, None),
    (
        "old_bulk",
        "error",
        "Priority, supports only numeric value or the value is not passed properly",
        Meaning.REJECT,
        "priority",
    ),
    (
        "old_bulk",
        "error",
        "ExpiryDate, supports the following format only 'YYYY-MM-DD\nHH:MM:SS",
        Meaning.REJECT,
        "expiry",
    ),
    # Schedule
    ("schedule", "error", "api_key or campaign_name is invalid or not found", Meaning.CAMPAIGN, None),
    ("schedule", "error", "Mandatory parameter ScheduledTime is in bulkData map", Meaning.REJECT, "scheduled_time"),
    ("schedule", "error", "Wrong Date format", Meaning.REJECT, "scheduled_time"),
    # Dial status
    ("dial_status", "error", "apiKey is invalid", Meaning.AUTH, None),
    ("dial_status", "error", "Authentication failed", Meaning.AUTH, None),
    ("dial_status", "error", "userName is invalid", Meaning.AUTH, None),
    ("dial_status", "error", "campaignName is invalid", Meaning.CAMPAIGN, None),
    (
        "dial_status",
        "error",
        "callBackUrl cannot be empty (OR) it should contain \u2018http://test.com/\u2019 or 'https://test.com/",
        Meaning.REQUEST,
        "callback_url",
    ),
    # Generate Token
    ("token", "false", "UserName is null", Meaning.AUTH, None),
    ("token", "false", "Invalid userName or apiKey", Meaning.AUTH, None),
    ("token", "false", "Token Expired", Meaning.TOKEN, None),
    # Other endpoints
    ("delete_bulk", "Error", "Max limit exceeded", Meaning.RATE, None),
    ("legacy_delete", "error", "userName or apiKey is Invalid", Meaning.AUTH, None),
    ("cdr", "false", "Missing userName or apiKey", Meaning.AUTH, None),
    ("legacy_delete", "error", "campaignName is Invalid", Meaning.CAMPAIGN, None),
    ("file_upload", "error", "Request limit exhausted", Meaning.RATE, None),
]


@pytest.mark.parametrize(("endpoint", "status", "message", "meaning", "field"), REFUSALS)
def test_a_listed_refusal_holds_at_every_endpoint_unless_the_status_is_a_success(
    endpoint: str, status: str, message: str, meaning: Meaning, field: str | None
) -> None:
    for place in (endpoint, *ENDPOINTS):
        for word in (status, None):
            reply = classify(place, 200, body_of(status=word, message=message))
            assert (reply.meaning, reply.field) == (meaning, field), (place, word)
        reply = classify(place, 200, body_of(status="Success", message=message))
        assert (reply.meaning, reply.field) == (Meaning.UNKNOWN, None), place


# -- every documented success, at the endpoints of its page and nowhere else ---------------------------------------

ADDED = "add"
BOTH = "add legacy_add"
MESSAGE_SUCCESSES = [
    (BOTH, "SUCCESS", "SuccessFully Updated", Meaning.ACCEPTED),
    (BOTH, "SUCCESS", "Successfully Updated, Progressive was started", Meaning.ACCEPTED),
    (BOTH, "SUCCESS", "SuccessFully Updated, IVR was started", Meaning.ACCEPTED),
    (BOTH, "SUCCESS", "Number Already Exist", Meaning.DUPLICATE),
    (ADDED, "Success", "Number Already Existed", Meaning.DUPLICATE),
    (ADDED, "Success", "Campaign xxxxx Is Already Started", Meaning.ACCEPTED),
    (ADDED, "Success", "Campaign progressive Is Already Started", Meaning.ACCEPTED),
    (ADDED, "Success", "SuccessFully Updated xxxx Campaign", Meaning.ACCEPTED),
    (ADDED, "Success", "SuccessFully Updated Progressive Campaign", Meaning.ACCEPTED),
    (ADDED, "Success", "SuccessFully Updated Progressive Campaign Stoped", Meaning.ACCEPTED),
    (
        ADDED,
        "Success",
        "Please pass the valid Campaign action SuccessFully Updated xxxxx Campaign Data",
        Meaning.ACCEPTED,
    ),
    ("bulk", "success", "queued successfully", Meaning.QUEUED),
]


@pytest.mark.parametrize(("places", "status", "message", "meaning"), MESSAGE_SUCCESSES)
def test_a_listed_success_holds_only_where_it_is_documented(
    places: str, status: str, message: str, meaning: Meaning
) -> None:
    body = body_of(status=status, message=message, transactionId=TRANSACTION)
    for endpoint in ENDPOINTS:
        expected = meaning if endpoint in places.split() else Meaning.UNKNOWN
        assert classify(endpoint, 200, body).meaning is expected, endpoint


def test_every_row_of_the_table_is_tried_by_this_module() -> None:
    def pattern(text: str) -> str:
        return ".+".join(map(re.escape, " ".join(text.lower().split()).split("xxxx")))

    tried = [message for _, _, message, _, _ in REFUSALS] + [message for _, _, message, _ in MESSAGE_SUCCESSES]
    tried += ["Data updated successfully"]
    plain = [" ".join(message.lower().split()) for message in tried]
    untried = [row.pattern for row in MESSAGES if not any(re.fullmatch(pattern(row.pattern), text) for text in plain)]
    assert untried == []


def test_a_row_of_the_table_is_complete() -> None:
    for row in MESSAGES:
        assert bool(row.only_at) or row.meaning not in SUCCESSES, f"{row.pattern}: a success must say where"
        if row.meaning is not Meaning.REQUEST:
            assert (row.field is not None) == (row.meaning is Meaning.REJECT), row.pattern
        assert row.pattern.count("xxxx") <= 1, row.pattern
        assert row.source, row.pattern


# -- names of campaigns that imitate messages ----------------------------------------------------------------------

HOSTILE = [
    "x Is Already Started",
    "SuccessFully Updated",
    "Number Already Exist",
    "Campaign x Is Already Started",
    "Invalid Campaign Name",
    "Token Expired",
    "too many Requests and failed to add Data to queue",
    '","status":"FAIL","message":"Agent Is Empty!',
    "xxxx",
    "x\n\ny",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("status", ["FAIL", "error", False, "false", " Error"])
@pytest.mark.parametrize(
    "refusal",
    [
        "Campaign {} not found",
        "Campaign {} is closed",
        "No campaign {}",
        "{}",
        "Campaign {}",
        "SuccessFully Updated nothing: {}",
        "{} Is Already Started, lead refused",
    ],
)
def test_a_hostile_name_never_turns_a_refusal_into_a_success(name: str, status: object, refusal: str) -> None:
    message = refusal.format(name)
    assert classify("add", 200, body_of(status=status, message=message)).meaning not in SUCCESSES


@pytest.mark.parametrize("name", [name for name in HOSTILE if name])
@pytest.mark.parametrize(
    "success",
    [
        "Campaign {} Is Already Started",
        "SuccessFully Updated {} Campaign",
        "SuccessFully Updated, {} was started",
        "SuccessFully Updated {} Campaign Stoped",
        "Please pass the valid Campaign action SuccessFully Updated {} Campaign Data",
    ],
)
def test_a_hostile_name_never_turns_a_success_into_a_refusal(name: str, success: str) -> None:
    body = body_of(status="Success", message=success.format(name))
    assert classify("add", 200, body).meaning is Meaning.ACCEPTED


def test_a_message_whose_quoted_part_is_missing_is_not_the_listed_one() -> None:
    page = "callBackUrl cannot be empty "  # the page goes on after it
    for missing in ("", " "):
        assert classify("bulk", 200, body_of(message=page + missing)).meaning is Meaning.UNKNOWN
    assert classify("bulk", 200, body_of(message=page + "(OR) it")).meaning is Meaning.REQUEST


def test_a_listed_refusal_decides_before_a_code_of_its_class() -> None:
    assert classify("add", 429, body_of(status="FAIL", message="Agent Is Empty!")).meaning is Meaning.REJECT
    assert classify("add", 401, body_of(status="false", message="Invalid action.")).meaning is Meaning.AUTH_MODE


LISTED_SUCCESSES = [
    ("add", "SuccessFully Updated"),
    ("add", "Campaign x Is Already Started"),
    ("add", "Number Already Exist"),
    ("legacy_add", "Number Already Exist"),
    ("bulk", "queued successfully"),
]
NO_SUCCESS_WORDS = ["Fail", "error", False, "false", "pending", 500, ["success"], {"success": True}, []]


@pytest.mark.parametrize(("endpoint", "message"), LISTED_SUCCESSES)
def test_a_listed_success_under_a_status_or_a_code_that_says_otherwise_is_unknown(endpoint: str, message: str) -> None:
    def meaning(code: int, status: object) -> Meaning:
        return classify(endpoint, code, body_of(status=status, message=message, transactionId=TRANSACTION)).meaning

    assert meaning(200, "Success") in SUCCESSES
    for status in NO_SUCCESS_WORDS:
        assert meaning(200, status) is Meaning.UNKNOWN, status
    for code in (301, 400, 404, 408, 429, 500, 503):
        assert meaning(code, "Success") is Meaning.UNKNOWN, code


@pytest.mark.parametrize("code", [301, 408, 499, 500, 502, 503])
def test_a_listed_refusal_under_a_code_of_another_class_is_unknown(code: int) -> None:
    assert classify("add", code, body_of(status="FAIL", message="Agent Is Empty!")).meaning is Meaning.UNKNOWN
    assert classify("add", code, body_of(status="false", message="Token Expired")).meaning is Meaning.UNKNOWN


def test_a_listed_refusal_for_the_rate_may_come_from_a_proxy() -> None:
    body = body_of(status="error", message="too many Requests and failed to add Data to queue")
    for code in (200, 400, 429, 503):
        assert classify("bulk", code, body).meaning is Meaning.RATE


def test_missing_credentials_beside_a_token_mean_that_the_account_takes_none() -> None:
    body = body_of(status="false", message="Missing userName or apiKey")
    assert classify("add", 401, body, token_used=True).meaning is Meaning.AUTH_MODE
    assert classify("add", 401, body).meaning is Meaning.AUTH


# -- words of a refusal for the rate, and of a gateway ---------------------------------------------------------------


@pytest.mark.parametrize("status", ["error", "Error", False, None])
@pytest.mark.parametrize(
    "message",
    [
        "Too many requests",
        "TOO MANY REQUESTS!",
        "too-many-requests",
        "Too Many Requests and failed to add Data to queue.",
        "Max limit exceeded.",
        "API rate limit exceeded",
        "rate_limit_exceeded",
        "Request Limit Exhausted.",
        "Already one process is running, please try after some time.",
    ],
)
def test_words_of_a_refusal_for_the_rate(status: object, message: str) -> None:
    for endpoint in ENDPOINTS:
        assert classify(endpoint, 200, body_of(status=status, message=message)).meaning is Meaning.RATE


@pytest.mark.parametrize("status", ["Success", ["error"], "pending"])
def test_words_of_the_rate_without_a_refusal_are_not_a_rate_refusal(status: object) -> None:
    body = body_of(status=status, message="campaign Limit Exceeded resumed")
    assert classify("add", 200, body).meaning is Meaning.UNKNOWN


@pytest.mark.parametrize("status", ["error", False, None, "pending"])
@pytest.mark.parametrize(
    "message",
    [
        *("Read timed out", "Connection timeout", "connect TIME-OUT", "Bad Gateway", "upstream connect error"),
        *("Service Unavailable", "Connection reset by peer", "java.net.SocketException: Connection reset"),
    ],
)
def test_words_of_a_gateway_leave_the_outcome_unknown(status: object, message: str) -> None:
    for code in (200, 400, 404):
        assert classify("add", code, body_of(status=status, message=message)).meaning is Meaning.SERVER


def test_words_may_stand_under_another_key_of_a_failing_answer() -> None:
    assert classify("add", 200, body_of(status="error", error="Read timed out")).meaning is Meaning.SERVER
    assert classify("add", 200, body_of(status="error", error="Too many requests")).meaning is Meaning.RATE
    half = b'{"status":"SUCCESS","message":"Campaign limit exceeded Is Alrea'
    assert classify("add", 200, half).meaning is Meaning.UNKNOWN


# -- without a listed message --------------------------------------------------------------------------------------

NEW = "a text that no page lists"


@pytest.mark.parametrize(
    "word", ["FAIL", "Fail", "fail", "fails", "failure", "error", "Error", " error", "false", False]
)
@pytest.mark.parametrize("code", [200, 400, 404, 422])
def test_an_unlisted_message_under_a_failing_word_is_a_refusal(word: object, code: int) -> None:
    assert classify("add", code, body_of(status=word, message=NEW)).meaning is Meaning.REQUEST


@pytest.mark.parametrize("code", [408, 499, 500, 502, 503, 504])
def test_a_failing_word_beside_a_gateway_code_is_unknown(code: int) -> None:
    assert classify("add", code, body_of(status="error", message=NEW)).meaning is Meaning.SERVER


@pytest.mark.parametrize("word", ["SUCCESS", "Success", "success", "queued successfully"])
@pytest.mark.parametrize("code", [200, 400, 500])
def test_an_unlisted_message_under_a_succeeding_word_is_unknown(word: object, code: int) -> None:
    meaning = classify("add", code, body_of(status=word, message=NEW)).meaning
    assert meaning is (Meaning.SERVER if code == 500 else Meaning.UNKNOWN)


CODES = {
    **dict.fromkeys((0, 100, 199, 200, 201, 204, 299, 600, 999), Meaning.UNKNOWN),
    **dict.fromkeys((301, 302, 307, 408, 499, 500, 502, 503, 504, 520), Meaning.SERVER),
    **dict.fromkeys((400, 402, 404, 405, 409, 411, 413, 414, 415, 422), Meaning.REQUEST),
    429: Meaning.RATE,
    401: Meaning.AUTH,
    403: Meaning.FORBIDDEN,
}


@pytest.mark.parametrize(("code", "meaning"), CODES.items())
@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b'{"message":"new"}', b'{"status":"odd","message":"new"}', b"\xff"]
)
def test_the_code_decides_last(code: int, meaning: Meaning, body: bytes) -> None:
    assert classify("add", code, body).meaning is meaning


@pytest.mark.parametrize("token_used", [True, False])
def test_without_a_documented_text_401_and_403_do_not_concern_the_token(token_used: bool) -> None:
    body = body_of(status="false", message=NEW)
    assert classify("add", 401, body, token_used=token_used).meaning is Meaning.AUTH
    assert classify("add", 403, body, token_used=token_used).meaning is Meaning.FORBIDDEN


def test_429_is_a_refusal_for_the_rate_even_under_a_succeeding_word() -> None:
    assert classify("bulk", 429, body_of(status="success", message=NEW)).meaning is Meaning.RATE
    assert classify("dial_status", 429, body_of(status="success", uniqueId="1")).meaning is Meaning.RATE
    assert classify("token", 429, body_of(token="abc")).meaning is Meaning.RATE


# -- what a reply carries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [TRANSACTION, "17206785291291713163863", "9007199254740993", "18446744073709551616"])
def test_a_transaction_id_sent_as_a_number_stays_exact(number: str) -> None:
    body = b'{"transactionId":%s,"status":"success","message":"queued successfully"}' % number.encode()
    reply = classify("bulk", 200, body)
    assert (reply.meaning, reply.data["transactionid"]) == (Meaning.QUEUED, number)
    assert classify("bulk", 200, b"Notice: x\n" + body).data["transactionid"] == number


def test_a_transaction_id_sent_as_a_fraction_keeps_its_digits() -> None:
    body = b'{"transactionId":1.292017169670681719733108E+24,"status":"success","message":"queued successfully"}'
    for text in (body, b"Notice: x\n" + body):
        assert classify("bulk", 200, text).data["transactionid"] == "1.292017169670681719733108E+24"


@pytest.mark.parametrize("value", ["true", "{}", "[]", '""', '" "', "null", "9" * 4000, "9" * 6000])
def test_what_is_no_id_proves_no_success(value: str) -> None:
    body = b'{"transactionId":%s,"status":"success","message":"queued successfully"}' % value.encode()
    meaning = classify("bulk", 200, body).meaning
    # The longest number takes the lenient way, which keeps it as text; it is an id then, if an odd one.
    assert meaning is (Meaning.QUEUED if len(value) == 6000 else Meaning.UNKNOWN)


def test_a_reply_shows_message_status_and_lower_cased_data() -> None:
    reply = classify("dial_status", 200, '{"Status":" error","MESSAGE":"é new","uniqueId":""}'.encode())
    assert (reply.status, reply.message) == (" error", "é new")
    assert reply.data == {"status": " error", "message": "é new", "uniqueid": ""}
    assert reply.text == '{"Status":" error","MESSAGE":"é new","uniqueId":""}'
    assert classify("add", 200, b'{"status":false}').status == "false"
    assert classify("add", 200, b"<html>").data == {}
    assert classify("add", 200, b"").status is None


def test_a_reply_is_frozen_and_its_repr_shows_no_body() -> None:
    reply = classify("add", 200, body_of(status="Success", message="9812345678 new"))
    with pytest.raises(AttributeError):
        reply.meaning = Meaning.ACCEPTED  # type: ignore[misc]
    assert "9812345678" not in f"{reply!r} {reply}"


def test_long_texts_are_cut_between_words() -> None:
    secret = "KK" + "7" * 40
    text = "x" * 10 + " " + "y " * 985 + secret + " end" * 2000
    reply = classify("add", 200, text.encode())
    assert len(reply.text) <= TEXT_LIMIT
    assert "KK" not in reply.text
    assert reply.text == cut(text)
    long = classify("add", 200, body_of(status="error", message="z " * 5000))
    assert (long.meaning, len(long.message)) == (Meaning.REQUEST, TEXT_LIMIT)
    assert cut("a" * TEXT_LIMIT) == "a" * TEXT_LIMIT
    assert cut("a" * (TEXT_LIMIT + 1)) == ""


def test_text_is_decoded_leniently() -> None:
    assert classify("add", 200, b"caf\xe9").text == "caf�"
    assert classify("add", 200, b"\xef\xbb\xbfnew").text == "new"
    assert classify("add", 200, "\ufeffnew".encode("utf-16-le")).text.strip("\ufeff") == "new"
    xml = b"<xml><status>FAIL</status><message>new &amp; &#233;</message></xml>"
    assert classify("legacy_add", 200, xml).message == "new & é"
    reply = classify("add", 200, b'{"status":"error","message":"\\ud83d new"}')
    assert reply.message.encode()


# -- rows of a schedule answer -------------------------------------------------------------------------------------

ROWS = [
    ({"Response": "success", "msg": "Data updated successfully", "index": "0"}, Meaning.ACCEPTED),
    ({"msg": "data  updated SUCCESSFULLY"}, Meaning.ACCEPTED),
    ({"Response": "error", "msg": "Data updated successfully"}, Meaning.UNKNOWN),
    ({"Response": "error", "msg": "Wrong Date format"}, Meaning.REJECT),
    ({"Response": "success", "msg": "Phone Number is Empty!"}, Meaning.UNKNOWN),
    ({"Response": ["success"], "msg": "Data updated successfully"}, Meaning.UNKNOWN),
    ({"Response": "error", "msg": "Read timed out"}, Meaning.UNKNOWN),
    ({"Response": "error", "msg": "something new"}, Meaning.REQUEST),
    ({"Response": False, "msg": None}, Meaning.REQUEST),
    ({"Response": "success", "msg": "something new"}, Meaning.UNKNOWN),
    ({"Response": "success"}, Meaning.UNKNOWN),
    ({"Response": "success", "msg": "SuccessFully Updated"}, Meaning.UNKNOWN),
    ({"Response": "success", "msg": "x", "Status": "SuccessFully Updated"}, Meaning.UNKNOWN),
    ({"PhoneNumber": "98", "Status": "SuccessFully Updated"}, Meaning.UNKNOWN),
    ({"PhoneNumber": "98", "Status": "Data updated successfully"}, Meaning.UNKNOWN),
    ({"PhoneNumber": "98"}, Meaning.UNKNOWN),
    ({}, Meaning.UNKNOWN),
]


@pytest.mark.parametrize(("row", "meaning"), ROWS)
def test_row(row: dict[str, object], meaning: Meaning) -> None:
    assert classify_row(row)[0] is meaning


def test_a_row_gives_its_text() -> None:
    assert classify_row({"Response": "error", "msg": "Wrong Date format"})[1] == "Wrong Date format"


def test_schedule_rows_are_always_a_list() -> None:
    row = {"Response": "success", "msg": "Data updated successfully", "index": "0"}
    for message in ([row], row, {"0": row}):
        reply = classify("schedule", 200, body_of(status="success", message=message))
        assert (reply.meaning, reply.data["message"], reply.message) == (Meaning.ACCEPTED, [row], "")


BARE_ROWS = [{"PhoneNumber": "98"}, {"PhoneNumber": "99"}]
GOOD_ROW = {"Response": "success", "msg": "Data updated successfully"}
BAD_ROW = {"Response": "error", "msg": "Wrong Date format"}


@pytest.mark.parametrize(
    ("code", "status", "rows", "meaning"),
    [
        (429, "success", BARE_ROWS, Meaning.RATE),
        (429, None, BARE_ROWS, Meaning.RATE),
        (500, None, BARE_ROWS, Meaning.SERVER),
        (503, "success", BARE_ROWS, Meaning.SERVER),
        (400, None, [BAD_ROW, BAD_ROW], Meaning.REQUEST),
        (500, "success", [GOOD_ROW, GOOD_ROW], Meaning.UNKNOWN),
        (429, "success", [GOOD_ROW, BAD_ROW], Meaning.UNKNOWN),
        (200, "error", [GOOD_ROW, GOOD_ROW], Meaning.UNKNOWN),
        (200, ["success"], [GOOD_ROW, GOOD_ROW], Meaning.UNKNOWN),
        (200, "error", [GOOD_ROW, BAD_ROW], Meaning.ACCEPTED),
        (200, "success", BARE_ROWS, Meaning.ACCEPTED),
    ],
)
def test_rows_do_not_overrule_what_stands_above_them(code: int, status: object, rows: object, meaning: Meaning) -> None:
    assert classify("schedule", code, body_of(status=status, message=rows)).meaning is meaning


def test_a_schedule_answer_with_missing_rows_keeps_their_places() -> None:
    row = {"Response": "success", "msg": "Data updated successfully"}
    reply = classify("schedule", 200, body_of(status="success", message={"0": row, "2": {**row, "index": "3"}}))
    assert reply.data["message"] == [{"index": "0", **row}, {"index": "3", **row}]


# -- any bytes -----------------------------------------------------------------------------------------------------

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SUCCESS_FILES = [path for path in FILES if Meaning(path.name.split(".")[-2].split("-")[0]) in SUCCESSES]
PATTERNS = {
    "add": r"successfully updated(, .+ was started| .+ campaign( stoped)?)?|number already exist(ed)?"
    r"|campaign .+ is already started"
    r"|please pass the valid campaign action successfully updated .+ campaign data",
    "legacy_add": r"successfully updated(, .+ was started)?|number already exist",
    "bulk": r"queued successfully",
}


@st.composite
def mutated(draw: st.DrawFn, paths: list[Path]) -> tuple[str, bytes]:
    path = draw(st.sampled_from(paths))
    changed = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["cut", "head", "drop", "put", "swap", "twice"]))
        at = draw(st.integers(0, len(changed)))
        if kind == "cut":
            del changed[at:]
        elif kind == "head":
            del changed[:at]
        elif kind == "drop":
            del changed[at : at + draw(st.integers(1, 20))]
        elif kind == "put":
            changed[at:at] = draw(
                st.binary(max_size=4) | st.sampled_from([b"{", b"}", b'"', b":", b",", b"[", b"\\", b"<"])
            )
        elif kind == "swap":
            changed[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        else:
            changed += bytes(changed)
    return path.parent.name, bytes(changed)


@unhurried
@given(st.tuples(st.sampled_from(ENDPOINTS), st.binary()) | mutated(FILES), st.integers(-1, 1000), st.booleans())
def test_no_bytes_raise(case: tuple[str, bytes], code: int, token_used: bool) -> None:
    endpoint, body = case
    reply = classify(endpoint, code, body, token_used=token_used)
    assert isinstance(reply, Reply)
    assert len(reply.text) <= TEXT_LIMIT
    reply.message.encode()
    (reply.status or "").encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(
    st.sampled_from(ENDPOINTS),
    st.dictionaries(
        st.sampled_from(["status", "Status", "message", "transactionId", "uniqueId", "token", "error", "path"]),
        json_values,
    ),
)
def test_no_object_raises(endpoint: str, values: dict[str, object]) -> None:
    reply = classify(endpoint, 200, body_of(**values))
    message = reply.data.get("message")
    for row in message if isinstance(message, list) else []:
        if isinstance(row, dict):
            classify_row(row)


def documents_in(body: bytes) -> list[dict[str, object]]:
    """Every complete object that ends the body, found the slow way."""
    text = body.decode("utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace").strip(
        " \t\r\n\0\ufeff"
    )
    texts = [text]
    try:
        inner = json.loads(text, strict=False)
        texts += [inner] if isinstance(inner, str) else []
    except ValueError:
        pass
    found: list[dict[str, object]] = []
    for candidate in texts:
        for match in re.finditer(r"\{", candidate):
            try:
                value = json.loads(candidate[match.start() :], strict=False, parse_int=str)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append({key.lower(): item for key, item in value.items()})
    return found


def proves_success(endpoint: str, document: dict[str, object]) -> bool:
    message = document.get("message")
    if endpoint in PATTERNS:
        plain = " ".join(message.lower().split()) if isinstance(message, str) else ""
        return bool(re.fullmatch(PATTERNS[endpoint], plain))
    if endpoint == "token":
        return bool(document.get("token")) and document.get("status") in (None, "success", "")
    if endpoint == "dial_status":
        return bool(document.get("uniqueid")) and str(document.get("status")).strip().lower() == "success"
    return isinstance(message, list | dict) and bool(message)


@unhurried
@given(mutated(SUCCESS_FILES))
def test_a_damaged_success_is_no_success_unless_it_is_still_complete(case: tuple[str, bytes]) -> None:
    endpoint, body = case
    if classify(endpoint, 200, body).meaning in SUCCESSES:
        complete_xml = endpoint == "legacy_add" and re.fullmatch(rb"(?s)\s*<.*<message>.*</message>.*</xml>\s*", body)
        assert complete_xml or any(proves_success(endpoint, document) for document in documents_in(body))


@pytest.mark.parametrize("path", SUCCESS_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_beginning_of_a_success_is_a_success(path: Path) -> None:
    whole = path.read_bytes().rstrip(b" \r\n\0")
    for end in range(len(whole) - 1):
        assert classify(path.parent.name, 200, whole[:end]).meaning not in SUCCESSES, end


# -- sizes ---------------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
OK = b'{"status":"SUCCESS","message":"SuccessFully Updated"}'
LARGE = {
    "braces": b"{" * MEGABYTE,
    "open objects": b'{"a":' * (MEGABYTE // 5),
    "closed objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "open objects behind text": b"x" + b'{"a":' * 200_000 + b"}",
    "starts behind text": b"x " + b'{" ' * 300_000 + b"}",
    "blanks": b" " * (4 * MEGABYTE),
    "braces and blanks": b"x" + (b"{" + b" " * 1000) * 1000 + b"}",
    "brackets": b"[" * MEGABYTE,
    "numbers": b'{"a":[' + b"0," * MEGABYTE,
    "numbers behind text": b"x\n" + b'{"a":[' + b"0," * (MEGABYTE // 3) + b"}",
    "one number": b'{"a":' + b"9" * MEGABYTE + b"}",
    "quotes": b'"' * MEGABYTE,
    "xml": b"<xml>" + b"<a>" * 300_000 + b"</xml>",
    "xml element": b"<xml><" + b"a" * 900_000 + b"</xml>",
    "text": b"a" * (8 * MEGABYTE),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_and_deep_bodies_are_read_without_error(name: str) -> None:
    for endpoint in ("add", "legacy_add"):
        assert classify(endpoint, 200, LARGE[name]).meaning is Meaning.UNKNOWN


def test_a_large_object_is_still_read() -> None:
    body = b'{"status":"SUCCESS","message":"SuccessFully Updated","data":"%s"}' % (b"x" * 3 * MEGABYTE)
    assert classify("add", 200, body).meaning is Meaning.ACCEPTED


def test_only_a_few_starts_behind_text_are_tried() -> None:
    assert decode(b'say {"x" no\n' * 3 + OK)["status"] == "SUCCESS"
    assert decode(b'say {"x" no\n' * 50 + OK) == {}
