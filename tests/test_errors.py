from __future__ import annotations

import copy
import html
import inspect
import json
import pickle
import re
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

import ozonetel_async
from ozonetel_async import errors
from ozonetel_async.errors import (
    AuthenticationError,
    AuthModeError,
    CallbackError,
    CallbackTimeoutError,
    CampaignError,
    CertificateError,
    ConfigurationError,
    ConnectError,
    DownloadError,
    InputError,
    InvalidLeadError,
    JournalError,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitedError,
    RequestRejectedError,
    SharedLimitUnavailableError,
)
from ozonetel_async.masking import redact

# The contract: what each class says about the lead. Written out here, not taken from the module.
OUTCOMES: dict[type[OzonetelError], str] = {
    ConfigurationError: "not_sent",
    InputError: "not_sent",
    InvalidLeadError: "not_sent",
    QueueFullError: "not_sent",
    QueueTimeoutError: "not_sent",
    SharedLimitUnavailableError: "not_sent",
    CertificateError: "not_sent",
    ConnectError: "not_sent",
    JournalError: "not_sent",
    CallbackError: "not_sent",
    DownloadError: "not_sent",
    AuthenticationError: "refused",
    AuthModeError: "refused",
    CampaignError: "refused",
    LeadRejectedError: "refused",
    RequestRejectedError: "refused",
    RateLimitedError: "refused",
    OutcomeUnknownError: "unknown",
    CallbackTimeoutError: "unknown",
}

EXAMPLES: list[OzonetelError] = [
    OzonetelError("root", endpoint="add", raw="{}"),
    OzonetelError(),
    InvalidLeadError("phone_number", "12 letters; expected digits", 7, endpoint="bulk"),
    InvalidLeadError("name", "empty"),
    LeadRejectedError("priority", "out of range", endpoint="add", raw='{"status":"Error"}'),
    RateLimitedError("too many Requests", retry_after=12.5, endpoint="bulk", raw="x"),
    RateLimitedError("too many Requests"),
    RequestRejectedError("no URL", field="callback_url", endpoint="dial_status", raw="x"),
    QueueFullError("full", retry_after=2.5, endpoint="add"),
    QueueTimeoutError("late", retry_after=40.0, endpoint="add"),
    DownloadError("expired", "the link has expired"),
    *(
        kind("text", endpoint="schedule", raw="body")
        for kind in OUTCOMES
        if kind not in (InvalidLeadError, LeadRejectedError, RateLimitedError, DownloadError)
    ),
]


class CustomError(LeadRejectedError):
    """A user's own subclass, with one more argument that pickle's default could not pass again."""

    def __init__(self, lead_id: int, *, field: str) -> None:
        super().__init__(field, f"lead {lead_id}", endpoint="add")
        self.lead_id = lead_id


def _classes() -> set[type[OzonetelError]]:
    found, todo = set[type[OzonetelError]](), [OzonetelError]
    while todo:
        for kind in todo.pop().__subclasses__():
            if kind.__module__ == errors.__name__:
                found.add(kind)
                todo.append(kind)
    return found


def test_every_class_has_the_outcome_of_the_contract() -> None:
    assert {kind: kind.outcome for kind in _classes()} == OUTCOMES


def test_an_unknown_outcome_is_not_caught_as_a_refusal() -> None:
    for kind in OUTCOMES:
        assert all(base.outcome == kind.outcome for base in kind.__mro__ if base in OUTCOMES)


@pytest.mark.parametrize("kind", [OzonetelError, *OUTCOMES], ids=lambda kind: kind.__name__)
def test_every_class_is_public_documented_and_below_the_root(kind: type[OzonetelError]) -> None:
    assert issubclass(kind, OzonetelError)
    assert not issubclass(kind, OSError | ValueError), "a broad except clause would swallow it"
    assert kind.__name__ in errors.__all__
    assert getattr(ozonetel_async, kind.__name__) is kind
    assert kind.__name__ in dir(ozonetel_async)
    assert inspect.getdoc(kind)
    assert kind.__name__ in (errors.__doc__ or ""), "the tree at the top of the module leaves it out"


@pytest.mark.parametrize("error", [*EXAMPLES, CustomError(41, field="skill")], ids=lambda e: f"{type(e).__name__}-{e}")
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_everything(error: OzonetelError, protocol: int) -> None:
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert back.args == error.args
    assert (str(back), repr(back), back.outcome) == (str(error), repr(error), error.outcome)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", [*EXAMPLES, CustomError(41, field="skill")], ids=lambda e: f"{type(e).__name__}-{e}")
def test_copies_keep_everything(error: OzonetelError, clone: Callable[[OzonetelError], OzonetelError]) -> None:
    back = clone(error)
    assert back is not error
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert (str(back), repr(back), back.outcome) == (str(error), repr(error), error.outcome)


def test_notes_and_own_attributes_survive_a_pickle() -> None:
    error = CampaignError("unknown", endpoint="add")
    error.add_note("while importing leads.csv")
    error.ticket = 7  # type: ignore[attr-defined]
    back = pickle.loads(pickle.dumps(error))
    assert back.__notes__ == ["while importing leads.csv"]
    assert back.ticket == 7


def test_text_names_the_endpoint_when_there_is_one() -> None:
    assert str(CampaignError("unknown", endpoint="add")) == "add: unknown"
    assert str(ConfigurationError("auth is wrong")) == "auth is wrong"
    assert repr(CampaignError("unknown", endpoint="add")) == "CampaignError('unknown')"
    assert str(OzonetelError()) == ""


def test_invalid_lead_names_row_and_field() -> None:
    assert str(InvalidLeadError("Name", "a comma", 3)) == "row 3: Name: a comma"
    error = InvalidLeadError("Name", "a comma", endpoint="bulk")
    assert (error.field, error.reason, error.row, error.endpoint, error.raw) == ("Name", "a comma", None, "bulk", None)
    assert str(error) == "bulk: Name: a comma"


def test_extra_attributes() -> None:
    assert LeadRejectedError("skill", "wrong").field == "skill"
    assert RequestRejectedError("no").field is None
    assert RequestRejectedError("no", field="callback_url").field == "callback_url"
    assert QueueFullError("full").retry_after == QueueTimeoutError("late").retry_after == 0.0
    assert DownloadError("gone").state == "gone"
    assert RateLimitedError("slow down").retry_after is None
    assert RateLimitedError("slow down", retry_after=3.0).retry_after == 3.0


# -- redact: secrets ---------------------------------------------------------------------------------------------

HOSTILE_KEY = """Kk:/+"&<>'\\%= ~z9;,{}#?@$!"""


def _html_numeric(text: str) -> str:
    return "".join(f"&#{ord(c)};" for c in text)


def _html_hex(text: str) -> str:
    return "".join(f"&#x{ord(c):X};" if not c.isalnum() else c for c in text)


def _php_json(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", r"\/")


def _php_json_hex(text: str) -> str:
    return "".join(rf"\u{ord(c):04X}" if c in "<>&'\"" else c for c in text.replace("\\", "\\\\").replace("/", r"\/"))


def _lower_quote(text: str) -> str:
    return re.sub("%..", lambda m: m.group().lower(), quote(text, safe=""))


ENCODERS: list[Callable[[str], str]] = [
    str,
    quote,
    quote_plus,
    _lower_quote,
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: URL.build(query={"k": text}).raw_query_string[2:],
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    _php_json,
    _php_json_hex,
    html.escape,
    _html_hex,
]


def _no_trace(shown: str, key: str, size: int = 4) -> bool:
    plain = shown.replace("[secret]", "\0")
    return all(key[i : i + size] not in plain for i in range(len(key) - size + 1))


@pytest.mark.parametrize("encode", ENCODERS)
@pytest.mark.parametrize("key", [HOSTILE_KEY, "KK1234abcd", "a/b+c==", 'k\'ey:"x"', "two words+1"])
def test_a_secret_is_masked_in_every_encoding(encode: Callable[[str], str], key: str) -> None:
    assert redact(f"<{encode(key)}> and again {encode(key)}!", [key]) == "<[secret]> and again [secret]!"


@given(
    key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=40).filter(
        lambda key: key == key.strip()
    ),
    before=st.text(max_size=40),
    encode=st.sampled_from(ENCODERS),
)
@example(key="a/b+c=\\/", before="", encode=_php_json)
def test_any_printable_secret_is_masked(key: str, before: str, encode: Callable[[str], str]) -> None:
    shown = redact(f"{before}\n{encode(key)}\n", [key])
    assert shown.endswith("[secret]\n")


def test_several_secrets_and_empty_ones() -> None:
    assert redact("a=KEY-ONE b=KEY-TWO", ("KEY-ONE", "", "KEY-TWO")) == "a=[secret] b=[secret]"
    assert redact("nothing to hide") == "nothing to hide"


def test_a_secret_is_no_pattern() -> None:
    assert redact("aXc a.c", ["a.c"]) == "aXc [secret]"
    assert redact("x", ["("]) == "x"


@pytest.mark.parametrize("at", range(1_980, 2_002))
def test_the_cut_does_not_let_half_a_secret_through(at: int) -> None:
    key = "Key0123abcdefghij"
    shown = redact("-" * at + key + "-" * 50, [key])
    assert len(shown) <= 2_000
    assert "Key0" not in shown


@pytest.mark.parametrize("encode", [str, html.escape, _php_json, lambda text: quote(text, safe="")])
def test_a_secret_that_was_cut_before_is_masked_too(encode: Callable[[str], str]) -> None:
    key = 'Kk:1/2"345=67&89'
    for length in range(5, len(key)):
        shown = redact("-" * 1_990 + encode(key[:length]), [key])
        assert "Kk" not in shown, length


def test_a_short_text_is_not_taken_for_a_cut_one() -> None:
    assert redact("this is a test", ["test-key"]) == "this is a test"


@pytest.mark.parametrize("before", ["", "https://me.example/cb/", "https%3A%2F%2Fme.example%2F", "\\/"])
def test_the_token_of_a_callback_url_is_masked_whatever_stands_around_it(before: str) -> None:
    token = "ozcb_" + "aB3-_9zQ" * 5
    assert redact(f"cannot reach {before}{token}?x=1, sorry") == f"cannot reach {before}[token]?x=1, sorry"
    assert "aB3" not in redact(f"cut off: {before}{token[:12]}")


# -- redact: phone numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9812345678", "[…678]"),
        ("+919812345678", "[…678]"),
        ("number=919812345678&x", "number=[…678]&x"),
        ("%2B919812345678", "%2B[…678]"),
        ('{"PhoneNumber":"+919812345678"}', '{"PhoneNumber":"[…678]"}'),
        ("1234567", "[…567]"),
        ("1234567890123456", "[…456]"),
        ("123456", "123456"),
        ("12345678901234567", "12345678901234567"),
        ("two: 9812345678, 9812345679", "two: […678], […679]"),
        ("2024-07-11 11:45:29", "2024-07-11 11:45:29"),
        ("priority 99, row 500", "priority 99, row 500"),
        ("bad +91 98765 01234 x", "bad […234] x"),
        ("call 98765-01234!", "call […234]!"),
        ("(987) 650-1234", "[…234]"),
        ("to +91\u00a098765\u00a001234", "to […234]"),
        ("from 2024-07-11 1145 to 11-07-2024 1200", "from 2024-07-11 1145 to 11-07-2024 1200"),
        ("rows 100 200 300", "rows 100 200 300"),
    ],
)
def test_phone_numbers_keep_three_digits(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("ticket", ["172067852912917131638630", "1292017169670681719733108"])
def test_transaction_ids_stay(ticket: str) -> None:
    assert redact(f'"transactionId":"{ticket}"') == f'"transactionId":"{ticket}"'


@pytest.mark.parametrize("at", range(1_984, 2_001))
def test_the_cut_does_not_let_most_of_a_number_through(at: int) -> None:
    shown = redact("-" * at + "919812345678" + "-" * 30)
    assert len(shown) <= 2_000
    assert not re.search(r"\d{4}", shown)


@given(st.text())
@example("9" * 5_000)
def test_never_raises_never_grows_beyond_the_limit(text: str) -> None:
    shown = redact(text, ["some-secret"])
    assert len(shown) <= 2_000
    assert not re.search(r"(?<!\d)\d{7,16}(?!\d)", shown) or len(text) > 2_000


@given(st.text(string.ascii_letters + " .,:-", max_size=1_999))
def test_text_without_digits_and_secrets_stays(text: str) -> None:
    assert redact(text, ["0-secret-0"]) == text
