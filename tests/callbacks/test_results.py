"""Every documented callback body is read, everything else ends in the one declared error."""

from __future__ import annotations

import json
import pickle
import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.callbacks.results import ExportResult, JobResult, SecretUrl, parse_callback
from ozonetel_async.errors import CallbackError, ConfigurationError, OzonetelError

ZONE = ZoneInfo("Asia/Kolkata")
LINK = (
    "https://etl-dataprocessing.s3.ap-south-1.amazonaws.com/172067852912917131638630_error.csv"
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIA%2F20240711%2Fap-south-1&X-Amz-Expires=86400"
    "&X-Amz-Signature=c0ffee"
)
INNER: dict[str, Any] = {
    "totalNoUploaded": "6",
    "numbersProcessed": "2",
    "numbersNotProcessed": "4",
    "failedFilePath": LINK,
    "transactionId": "172067852912917131638630",
    "status": "Success",
    "message": "File Successfully uploaded.",
    "startDateTime": "2024-07-11 11:45:29",
    "endDateTime": "2024-07-11 11:45:54",
}
TEXT = json.dumps(INNER)
EXPECTED = JobResult(
    transaction_id="172067852912917131638630",
    succeeded=True,
    total=6,
    processed=2,
    not_processed=4,
    failed_file=SecretUrl(LINK),
    message="File Successfully uploaded.",
    started=datetime(2024, 7, 11, 11, 45, 29, tzinfo=ZONE),
    ended=datetime(2024, 7, 11, 11, 45, 54, tzinfo=ZONE),
)


def multipart(fields: dict[str, str], boundary: str = "XyZ", newline: str = "\r\n") -> bytes:
    lines = []
    for name, value in fields.items():
        lines += [f"--{boundary}", f'Content-Disposition: form-data; name="{name}"', "", value]
    return newline.join([*lines, f"--{boundary}--", ""]).encode()


SHAPES = {
    "object": (json.dumps({"data": INNER}).encode(), "application/json"),
    "json string": (json.dumps({"data": TEXT}).encode(), "application/json"),
    "printed": (('{"data":"' + TEXT + '"}').encode(), "application/json"),
    "printed, blanks": (('{ "data" : " ' + TEXT + ' " }\n').encode(), ""),
    "form": (urlencode({"data": TEXT}).encode(), "application/x-www-form-urlencoded"),
    "form, %20": (b"data=" + quote(TEXT, safe="").encode(), "application/x-www-form-urlencoded"),
    "form, not encoded": (b"data=" + TEXT.encode(), "application/x-www-form-urlencoded"),
    "form, wrapped twice": (urlencode({"data": json.dumps({"data": INNER})}).encode(), ""),
    "form, field by field": (urlencode(INNER).encode(), "application/x-www-form-urlencoded"),
    "multipart": (multipart({"data": TEXT}), "multipart/form-data; boundary=XyZ"),
    "multipart, more parts": (multipart({"x": "1", "data": TEXT}), 'multipart/form-data; boundary="XyZ"'),
    "multipart, other boundary": (multipart({"data": TEXT}), "multipart/form-data; boundary=other"),
    "multipart, no type": (multipart({"data": TEXT}, newline="\n"), ""),
    "prefix, multipart type": (b"CallBack response : " + TEXT.encode(), "multipart/form-data; boundary=XyZ"),
    "multipart, preamble": (b"hello\r\n" + multipart({"data": TEXT}), "multipart/form-data; boundary=XyZ"),
    "bare": (TEXT.encode(), "application/json"),
    "bare, as text": (json.dumps(TEXT).encode(), "application/json"),
    "prefix": (b"CallBack response : " + json.dumps({"data": INNER}).encode(), "text/html"),
    "prefix, printed": (('API Response: {"data":"' + TEXT + '"}').encode(), ""),
    "php warning": (b"<br />\n<b>Warning</b>: x = {1} in <b>a.php</b>\n" + TEXT.encode(), "text/html"),
    "bom": (b"\xef\xbb\xbf" + json.dumps({"data": INNER}).encode(), "application/json; charset=utf-8"),
    "bom, form": (b"\xef\xbb\xbf" + urlencode({"data": TEXT}).encode(), "application/x-www-form-urlencoded"),
    "array of one": (json.dumps([{"data": INNER}]).encode(), "application/json"),
    "envelope": (json.dumps({"code": 200, "Data": INNER}).encode(), "application/json"),
}


@pytest.mark.parametrize(("body", "content_type"), SHAPES.values(), ids=SHAPES)
def test_every_shape_gives_the_same_result(body: bytes, content_type: str) -> None:
    assert parse_callback(body, content_type, timezone=ZONE) == EXPECTED


@pytest.mark.parametrize("content_type", ["", "text/html", "multipart/form-data", "application/xml", "\x00;boundary="])
@pytest.mark.parametrize("shape", ["object", "json string", "printed", "form", "multipart", "bare"])
def test_the_content_decides_and_not_the_header(shape: str, content_type: str) -> None:
    assert parse_callback(SHAPES[shape][0], content_type, timezone=ZONE) == EXPECTED


def job(**changes: Any) -> JobResult:
    """The result of the documented callback with these fields changed; ``...`` leaves a field out."""
    fields = {name: value for name, value in {**INNER, **changes}.items() if value is not ...}
    result = parse_callback(json.dumps({"data": fields}).encode(), timezone=ZONE)
    assert isinstance(result, JobResult)
    return result


def test_the_template_of_the_page_with_masked_counts() -> None:
    result = job(totalNoUploaded="xxxx", numbersProcessed=" XX ", numbersNotProcessed=None, failedFilePath=" xxxx ")
    assert (result.total, result.processed, result.not_processed, result.failed_file) == (None, None, None, None)


@pytest.mark.parametrize("value", ["", "  ", "null", "NULL", "N/A", "-", None, ...])
def test_no_failed_file(value: object) -> None:
    assert job(failedFilePath=value).failed_file is None


def test_a_link_is_kept_verbatim_without_the_blanks_around_it() -> None:
    link = job(failedFilePath=f" {LINK} ").failed_file
    assert link is not None
    assert link.reveal() == LINK


@pytest.mark.parametrize(
    ("value", "count"), [("6", 6), (6, 6), ("0", 0), (" 12 ", 12), (6.0, 6), (999_999_999, 999_999_999)]
)
def test_counts_come_as_text_or_numbers(value: object, count: int) -> None:
    assert job(totalNoUploaded=value).total == count


@pytest.mark.parametrize("value", [-1, "-1", "six", "1e3", 1.5, True, [6], {"n": 6}, "٣", 10**30, "1" * 5000])
def test_other_counts_are_refused(value: object) -> None:
    with pytest.raises(CallbackError, match="totalnouploaded"):
        job(totalNoUploaded=value)


def test_a_transaction_id_is_exact_text_even_when_it_comes_as_a_number() -> None:
    body = TEXT.replace('"172067852912917131638630"', "172067852912917131638630")
    result = parse_callback(body.encode(), timezone=ZONE)
    assert isinstance(result, JobResult)
    assert result.transaction_id == "172067852912917131638630"


@pytest.mark.parametrize("value", ["a b", "a\nb", "a\u0000b", "\ud800", "é", "1" * 101, True, [], {"a": "b"}])
def test_other_transaction_ids_are_refused(value: object) -> None:
    with pytest.raises(CallbackError, match="transactionid"):
        job(transactionId=value)


@pytest.mark.parametrize("value", [..., None, "", "  "])
def test_counts_without_a_transaction_id_are_refused(value: object) -> None:
    with pytest.raises(CallbackError, match="without transactionId"):
        job(transactionId=value)


@pytest.mark.parametrize(
    ("status", "message", "succeeded"),
    [
        ("Success", "", True),
        (" success ", "", True),
        ("Fail", "", False),
        (" error", "", False),
        ("false", "", False),
        (False, "", False),
        (True, "", True),
        ("Done", "File Successfully uploaded.", True),
        ("", "File Failed to Upload.", False),
        ("Fail", "File Successfully uploaded.", False),
    ],
)
def test_status_words(status: object, message: str, succeeded: bool) -> None:
    assert job(status=status, message=message).succeeded is succeeded


@pytest.mark.parametrize("status", ["Done", "", None, ..., 1, ["Success"], "Successes"])
def test_an_unknown_status_is_refused(status: object) -> None:
    with pytest.raises(CallbackError, match="status"):
        job(status=status, message="queued")


def test_times_are_in_the_zone_given() -> None:
    assert job().started == datetime(2024, 7, 11, 6, 15, 29, tzinfo=UTC)
    result = parse_callback(TEXT.encode(), timezone=ZoneInfo("America/New_York"))
    assert isinstance(result, JobResult)
    assert result.started == datetime(2024, 7, 11, 15, 45, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "second"),
    [("2024-07-11 11:45:29.0", 29), ("2024-07-11T11:45:28+05:30", 28), ("2024-07-11T06:15:27Z", 27)],
)
def test_other_spellings_of_a_time(value: str, second: int) -> None:
    started = job(startDateTime=value).started
    assert started == datetime(2024, 7, 11, 6, 15, second, tzinfo=UTC)
    assert started.tzinfo is ZONE


@pytest.mark.parametrize(
    "value", ["", None, ..., "xxxx", "0000-00-00 00:00:00", "0001-01-01 00:00:00", "2024-13-01 00:00:00", "11/07/2024"]
)
def test_a_time_that_is_none_is_none(value: object) -> None:
    assert job(startDateTime=value).started is None


def test_a_message_is_short_and_printable() -> None:
    assert job(message="a\r\nb\x1b[31m\ud800" + "x" * 9_999).message == ("a  b [31m?" + "x" * 9_999)[:500]


@pytest.mark.parametrize(
    "value",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://[::1",
        "https://host:99999/",
        "https://user@host/",
        "https://s3.amazonaws.com\\@evil/",
        "https://ho st/",
        "https://höst/",
        "https://host/\r\nX: y",
        "https://host/" + "a" * 9_000,
        ["https://host/"],
        17,
    ],
)
def test_other_links_are_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(CallbackError) as caught:
        job(failedFilePath=value)
    assert "host" not in str(caught.value).replace("https://host/path?query", "")


@pytest.mark.parametrize(
    "body",
    [
        b'{"transactionId":"1","transactionId":"2","status":"Success"}',
        b'{"transactionId":"1","transaction_id":"2","status":"Success"}',
        b'{"transactionId":"1","status":"Success","data":{"transactionId":"2","status":"Success"}}',
        b"data=%7B%7D&data=%7B%7D",
        multipart({"data": TEXT}) + multipart({"data": TEXT}),
    ],
)
def test_a_field_that_comes_twice_is_refused(body: bytes) -> None:
    with pytest.raises(CallbackError, match=r"twice|two different"):
        parse_callback(body, timezone=ZONE)


HOSTILE = {
    "empty": b"",
    "blank": b" \r\n\t",
    "nul": TEXT.encode() + b"\0",
    "not utf-8": b'{"data":"\xff\xfe"}',
    "utf-16": TEXT.encode("utf-16"),
    "cut": TEXT.encode()[:-20],
    "two bodies": TEXT.encode() * 2,
    "nan": TEXT.replace('"6"', "NaN").encode(),
    "infinity": TEXT.replace('"6"', "-Infinity").encode(),
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep in a kept field": b'{"status":"Success","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep data": b'{"data":' * 8_000 + b"1" + b"}" * 8_000,
    "deep in a string": json.dumps({"data": "[" * 60_000}).encode(),
    "braces": b"{" * 65_536,
    "quoted braces": b'{"' * 32_768,
    "blanks in braces": b"{" + b" " * 65_000 + b"{",
    "scalar": b"17",
    "string": b'"hello"',
    "null": b"null",
    "array": b"[1,2,3]",
    "empty object": b"{}",
    "empty data": b'{"data":{}}',
    "data of null": b'{"data":null}',
    "unknown fields": b'{"a":"b"}',
    "many fields": json.dumps({f"f{number}": "x" for number in range(3_000)} | INNER).encode(),
    "many form fields": ("&".join(f"f{number}=x" for number in range(5_000)) + "&status=Success").encode(),
    "empty form fields": b"data=" + b"&" * 60_000,
    "form of bad utf-8": b"data=%FF%FE",
    "many parts": multipart({f"f{number}": "x" for number in range(600)}),
    "part heads": b"--x\r\n" + b"content-disposition: name" * 2_500 + b"\r\n\r\nv\r\n--x--",
    "dashes": b"-" * 65_536,
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "csv quotes": b'"API Response : {""transactionId"": ""129""}"',
    "huge": b" " * 70_000 + TEXT.encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("content_type", ["", "multipart/form-data; boundary=x", "multipart/form-data; boundary="])
def test_hostile_bodies_end_in_the_declared_error(body: bytes, content_type: str) -> None:
    with pytest.raises(CallbackError):
        parse_callback(body, content_type, timezone=ZONE)


def test_a_form_is_refused_before_its_fields_are_split() -> None:
    with pytest.raises(CallbackError, match=r"the form .* more than 256 fields"):
        parse_callback(HOSTILE["many form fields"], timezone=ZONE)


def test_an_undocumented_field_may_be_nested() -> None:
    result = parse_callback(b'{"status":"Success","x":' + b"[" * 50 + b"]" * 50 + b"}", timezone=ZONE)
    assert isinstance(result, ExportResult)
    assert result.fields["x"] == "[" * 50 + "]" * 50


def test_the_size_limit_is_exact_and_can_be_set() -> None:
    body = TEXT.encode()
    assert parse_callback(body, timezone=ZONE, max_bytes=len(body)) == EXPECTED
    with pytest.raises(CallbackError, match="at most"):
        parse_callback(body, timezone=ZONE, max_bytes=len(body) - 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(st.sampled_from([*INNER, "uniqueId", "data", "Status", "DATA", "x"]), json_values, max_size=9)
wrapped = st.one_of(
    fields.map(json.dumps),
    fields.map(lambda value: json.dumps({"data": value})),
    fields.map(lambda value: json.dumps({"data": json.dumps(value)})),
    fields.map(lambda value: '{"data":"' + json.dumps(value) + '"}'),
    fields.map(lambda value: urlencode({"data": json.dumps(value)})),
    fields.map(lambda value: multipart({"data": json.dumps(value)}, "x").decode()),
    st.text(alphabet='{}[]":,data=&%-\\ 0\n\0é', max_size=200),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    body = draw(st.one_of(st.binary(max_size=300), wrapped.map(lambda text: text.encode("utf-8", "surrogatepass"))))
    if draw(st.booleans()):
        start = draw(st.integers(0, len(body)))
        body = body[:start] + draw(st.binary(max_size=3)) + body[start + draw(st.integers(0, 3)) :]
    return body


@settings(max_examples=400, deadline=None)
@given(
    body=bodies(),
    content_type=st.text(max_size=40) | st.sampled_from(["multipart/form-data; boundary=x", "application/json"]),
)
def test_no_body_ends_in_another_error(body: bytes, content_type: str) -> None:
    try:
        result = parse_callback(body, content_type, timezone=ZONE)
    except CallbackError:
        return
    for value in (result.message, *(result.fields.values() if isinstance(result, ExportResult) else ())):
        value.encode()


counts = st.none() | st.integers(0, 10**9 - 1)
ids = st.text(alphabet=string.digits, min_size=24, max_size=25) | st.uuids().map(str)


@settings(max_examples=150, deadline=None)
@given(
    transaction_id=ids,
    succeeded=st.booleans(),
    numbers=st.tuples(counts, counts, counts),
    as_text=st.booleans(),
    query=st.none() | st.text(alphabet=string.ascii_letters + string.digits + "%&=+/-_.~", max_size=60),
    message=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    shape=st.integers(0, 5),
)
def test_whatever_a_job_says_comes_back_from_every_shape(
    transaction_id: str,
    succeeded: bool,
    numbers: tuple[int | None, int | None, int | None],
    as_text: bool,
    query: str | None,
    message: str,
    shape: int,
) -> None:
    link = None if query is None else f"https://bucket.s3.amazonaws.com/1_error.csv?{query}"
    names = ("totalNoUploaded", "numbersProcessed", "numbersNotProcessed")
    inner = dict(zip(names, [str(n) if as_text and n is not None else n for n in numbers], strict=True)) | {
        "failedFilePath": link,
        "transactionId": transaction_id,
        "status": "Success" if succeeded else "Fail",
        "message": f"m {message}",
    }
    text = json.dumps(inner)
    body = [
        json.dumps({"data": inner}),
        json.dumps({"data": text}),
        '{"data":"' + text + '"}',
        urlencode({"data": text}),
        multipart({"data": text}).decode(),
        "CallBack response : " + text,
    ][shape]
    result = parse_callback(body.encode(), timezone=ZONE)
    total, processed, not_processed = numbers
    assert result == JobResult(
        transaction_id,
        succeeded,
        total,
        processed,
        not_processed,
        None if link is None else SecretUrl(link),
        f"m {message}".strip(),
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"success","message":"done","uniqueId":"77","link":"https://h/f.csv?sig=1"}',
        b'{"status":"success","message":"done","data":{"unique_id":77,"filePath":" https://h/f.csv?sig=1 "}}',
        urlencode({"uniqueId": "77", "message": "done", "anything": "https://h/f.csv?sig=1"}).encode(),
        b'{"uniqueID":"77","message":"done","x":"https://h/f.csv?sig=1","callBackUrl":"https://me/cb/secret"}',
    ],
)
def test_exports_are_read_from_whatever_comes(body: bytes) -> None:
    result = parse_callback(body, timezone=ZONE)
    assert isinstance(result, ExportResult)
    assert (result.unique_id, result.succeeded, result.message) == ("77", True, "done")
    assert result.link == SecretUrl("https://h/f.csv?sig=1")


def test_an_export_keeps_every_field() -> None:
    result = parse_callback(
        b'{"uniqueId":"","status":"error","message":["a"],"rows":[{"n":1}],"t":"a\\nb"}', timezone=ZONE
    )
    assert isinstance(result, ExportResult)
    assert (result.unique_id, result.succeeded, result.link, result.message) == ("", False, None, "")
    assert result.fields == {
        "uniqueId": "",
        "status": "error",
        "message": '["a"]',
        "rows": '[{"n": "1"}]',
        "t": "a\nb",
    }


def test_two_links_are_not_guessed_from() -> None:
    result = parse_callback(b'{"uniqueId":"7","a":"https://h/1","b":"https://h/2"}', timezone=ZONE)
    assert isinstance(result, ExportResult)
    assert result.link is None
    assert not result.succeeded


def test_no_repr_shows_a_secret() -> None:
    shown = f"{EXPECTED!r} {EXPECTED} {EXPECTED.failed_file} {[EXPECTED]}"
    assert "172067852912917131638630_error.csv?***" in shown
    assert "X-Amz" not in shown
    export = parse_callback(b'{"uniqueId":"7","phone":"9812345678","link":"https://h/f?sig=1"}', timezone=ZONE)
    assert "9812345678" not in f"{export!r} {export}"
    assert "sig" not in repr(export)
    assert "9812345678" not in repr(job(message="bad number 9812345678"))


def test_a_secret_link_is_compared_but_not_pickled() -> None:
    link = SecretUrl(LINK)
    for value in (link, EXPECTED):
        with pytest.raises(ConfigurationError, match="pickle"):
            pickle.dumps(value)
    assert len({link, SecretUrl(LINK)}) == 1
    assert link != LINK
    assert (link.scheme, link.host, link.path.endswith("_error.csv")) == (
        "https",
        "etl-dataprocessing.s3.ap-south-1.amazonaws.com",
        True,
    )


def test_the_error_is_an_ozonetel_error_that_pickles_and_shows_shapes_only() -> None:
    secret = b'{"data":{"transactionId":"9812345678 9812345678","status":"Success","failedFilePath":"https://h/?sig"}}'
    with pytest.raises(OzonetelError) as caught:
        parse_callback(secret, timezone=ZONE)
    error = caught.value
    assert (type(error), error.outcome) == (CallbackError, "not_sent")
    assert "9812345678" not in str(error)
    assert "sig" not in str(error)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (CallbackError, str(error))
