from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock
from zoneinfo import ZoneInfoNotFoundError

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async import config
from ozonetel_async.config import (
    Cleaning,
    ClientConfig,
    Credentials,
    Dialect,
    Limits,
    RateLimit,
    RetryPolicy,
    Timeouts,
    check_url,
    from_env,
    timezone_named,
)
from ozonetel_async.errors import ConfigurationError
from ozonetel_async.sending.dispatcher import check_queue_options

KEY = "Kk-canary-0123456789abcdef"
CREDENTIALS = Credentials(KEY, "acme")

NOT_SECONDS: list[float] = [math.nan, math.inf, -math.inf, -1, -0.001]
NOT_COUNTS: list[float] = [math.nan, 0, -1]


def refused(make: Callable[[], object], name: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make()
    message = str(caught.value)
    assert name in message
    assert caught.value.outcome == "not_sent"
    assert KEY not in message
    return message


# -- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", NOT_COUNTS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (RateLimit, "requests"),
        (Limits, "max_waiting"),
        (RetryPolicy, "connect_attempts"),
        (RetryPolicy, "rate_attempts"),
        (Dialect, "schedule_horizon_days"),
        (Dialect, "row_characters"),
    ],
)
def test_bad_counts(kind: Callable[..., object], name: str, value: object) -> None:
    assert "at least 1" in refused(lambda: kind(**{name: value}), f"{kind.__name__}.{name}")


@pytest.mark.parametrize("value", [value for value in NOT_COUNTS if value != 0])
@pytest.mark.parametrize("name", ["priority_min", "priority_max"])
def test_bad_priorities(name: str, value: object) -> None:
    refused(lambda: Dialect(**{name: value}), f"Dialect.{name}")  # type: ignore[arg-type]


def test_priority_bounds_are_in_order() -> None:
    assert "at least 5" in refused(lambda: Dialect(priority_min=5, priority_max=4), "Dialect.priority_max")
    assert Dialect(priority_min=5, priority_max=5).priority_max == 5
    assert Dialect(priority_min=0).priority_min == 0


SECONDS: dict[str, Callable[[float], object]] = {
    "RateLimit.per": lambda value: RateLimit(5, per=value),
    "Timeouts.total": lambda value: Timeouts(total=value),
    "Timeouts.connect": lambda value: Timeouts(connect=value),
    "RetryPolicy.max_retry_after": lambda value: RetryPolicy(max_retry_after=value),
}


@pytest.mark.parametrize("value", [0, *NOT_SECONDS])
@pytest.mark.parametrize("name", SECONDS)
def test_bad_seconds(name: str, value: float) -> None:
    assert "more than zero seconds" in refused(lambda: SECONDS[name](value), name)


@pytest.mark.parametrize("value", [1e10, 1e308, 10**400, 10**5000], ids=["1e10", "1e308", "10**400", "10**5000"])
@pytest.mark.parametrize("name", SECONDS)
def test_seconds_beyond_any_clock(name: str, value: float) -> None:
    assert "at most 1e+09" in refused(lambda: SECONDS[name](value), name)


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e-4])
def test_a_window_shorter_than_the_clock_can_tell(value: float) -> None:
    assert "at least 0.001 seconds" in refused(lambda: RateLimit(5, value), "RateLimit.per")


@pytest.mark.parametrize("value", [10**10, 10**400, 10**5000], ids=["10**10", "10**400", "10**5000"])
def test_counts_beyond_any_memory(value: int) -> None:
    assert "at most 1000000000" in refused(lambda: RateLimit(value), "RateLimit.requests")
    assert "at most 1000000000" in refused(lambda: RetryPolicy(rate_attempts=value), "RetryPolicy.rate_attempts")


@pytest.mark.parametrize("value", [10**400, 10**5000], ids=["10**400", "10**5000"])
def test_an_integer_that_cannot_be_printed_is_told_all_the_same(value: int) -> None:
    refused(lambda: Dialect(plus=value), "Dialect.plus")  # type: ignore[arg-type]
    refused(lambda: check_queue_options(0, value), "max_wait")


@pytest.mark.parametrize("value", NOT_SECONDS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(RetryPolicy, "backoff"), (RetryPolicy, "max_backoff"), (Limits, "transit_margin")],
)
def test_bad_seconds_that_may_be_zero(kind: Callable[..., object], name: str, value: object) -> None:
    label = f"{kind.__name__}.{name}"
    assert "zero or more seconds" in refused(lambda: kind(**{name: value}), label)
    assert getattr(kind(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", NOT_COUNTS)
def test_bad_burst(value: object) -> None:
    refused(lambda: RateLimit(5, burst=cast(int, value)), "RateLimit.burst")


def test_burst_within_the_limit() -> None:
    assert "at most requests=5, got 6" in refused(lambda: RateLimit(5, burst=6), "RateLimit.burst")
    assert RateLimit(5, burst=5).burst == 5
    assert RateLimit(5, burst=1).burst == 1
    assert RateLimit(5).burst is None


def test_documented_defaults() -> None:
    limits = Limits()
    assert {name: (getattr(limits, name).requests, getattr(limits, name).per) for name in (
        "add", "bulk", "schedule", "dial_status", "token"
    )} == {
        "add": (100, 60.0),
        "bulk": (5, 60.0),
        "schedule": (100, 60.0),
        "dial_status": (10, 60.0),
        "token": (10, 3600.0),
    }  # fmt: skip
    assert (Timeouts().total, Timeouts().connect) == (60.0, 10.0)
    config = ClientConfig(credentials=CREDENTIALS)
    assert config.auth == "basic"
    assert config.base_url == "https://in1-ccaas-api.ozonetel.com"
    assert config.dialer_url == "https://in1-ccaas-bulkupload.ozonetel.com"
    assert config.timezone.key == "Asia/Kolkata"


@pytest.mark.parametrize("settings", [RateLimit(5), Limits(), Timeouts(), RetryPolicy(), Dialect()])
def test_settings_are_frozen_and_picklable(settings: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(settings, settings.__struct_fields__[0], 1)
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("kind", [Limits, RetryPolicy, Dialect, ClientConfig])
def test_settings_with_many_parts_take_keywords_only(kind: Callable[..., object]) -> None:
    with pytest.raises(TypeError):
        kind(RateLimit(5))


# -- dialect -----------------------------------------------------------------------------------------------------

CHOICES = {
    "bulk_encoding": {"form", "multipart", "json", "query"},
    "bulk_data_as": {"object", "text"},
    "dial_status_encoding": {"json", "form", "multipart"},
    "dial_status_key": {"header", "body"},
    "plus": {"keep", "strip"},
    "schedule_plus": {"keep", "strip", "percent"},
}


@pytest.mark.parametrize("name", CHOICES)
def test_dialect_choices(name: str) -> None:
    for value in CHOICES[name]:
        assert getattr(Dialect(**{name: value}), name) == value  # type: ignore[arg-type]
    for bad in ("FORM", "", None, True, 1, ["form"], "percent" if name == "plus" else "xml"):
        message = refused(lambda bad=bad: Dialect(**{name: bad}), f"Dialect.{name}")  # type: ignore[misc]
        assert all(choice in message for choice in CHOICES[name])


@pytest.mark.parametrize("name", ["schedule_path", "dial_status_path"])
@pytest.mark.parametrize(
    "path", ["", "ca_apis/x", "https://evil/x", "/x?y", "/x?", "/x#y", "/x y", "/x\ny", "/x\r", "/x\ty", "/x\0", "/é"]
)  # fmt: skip
def test_bad_paths(name: str, path: object) -> None:
    refused(lambda: Dialect(**{name: path}), f"Dialect.{name}")  # type: ignore[arg-type]


def test_good_paths() -> None:
    assert Dialect(schedule_path="/ca_apis/campaignScheduledData").schedule_path == "/ca_apis/campaignScheduledData"


@pytest.mark.parametrize(
    "name_key",
    ["", "a b", "na\nme", "phoneNumber", "apiKey", "userName", "campaignName", "action", "checkDuplicate"],
)
def test_bad_name_keys(name_key: object) -> None:
    refused(lambda: Dialect(name_key=name_key), "Dialect.name_key")  # type: ignore[arg-type]


# -- hosts -------------------------------------------------------------------------------------------------------

GOOD_URLS = {
    "https://api.ccaas.ozonetel.com": "https://api.ccaas.ozonetel.com",
    "https://partner.example:8443": "https://partner.example:8443",
    "https://partner.example/gateway/": "https://partner.example/gateway",
    "https://10.0.0.5": "https://10.0.0.5",
    "https://[2001:db8::1]:8443/": "https://[2001:db8::1]:8443",
    "HTTPS://partner.example": "HTTPS://partner.example",
    "http://localhost:8080": "http://localhost:8080",
    "http://LOCALHOST:8080": "http://LOCALHOST:8080",
    "http://127.0.0.1": "http://127.0.0.1",
    "http://127.8.9.10:1": "http://127.8.9.10:1",
    "http://[::1]:8080/": "http://[::1]:8080",
}
CLEAR_TEXT = [
    "http://api.ccaas.ozonetel.com",
    "http://10.0.0.5",
    "http://192.168.1.1:80",
    "http://0.0.0.0",
    "http://128.0.0.1",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "http://notlocalhost",
    "http://[::2]",
    "http://2130706433",
]
BAD_URLS: list[object] = [
    *("", "partner.example", "//partner.example", "ftp://partner.example", "https://", "https:///path"),
    *("https://user@partner.example", "https://user:pass@partner.example", "https://:pass@partner.example"),
    *("https://@partner.example", "http://localhost@evil.example", "http://localhost:1@evil.example"),
    *("https://partner.example?x=1", "https://partner.example?", "https://partner.example/#top"),
    *("https://partner.example#", "https://partner.example:99999", "https://partner.example:port"),
    *("https://partner .example", "https://partner\n.example", "https://partner.example\r\nX: y"),
    *("\thttps://partner.example", "https://partner.example ", "https://pärtner.example", "https://[::1"),
    *("http://localhost\\@evil.example", "file:///etc/passwd", "https://part\0ner"),
    *(f"https://{'a' * 64}.example", "https://partner..example", "https://.example"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_good_urls(url: str) -> None:
    assert check_url("base_url", url) == GOOD_URLS[url]
    config = ClientConfig(credentials=CREDENTIALS, base_url=url, dialer_url=url)
    assert (config.base_url, config.dialer_url) == (GOOD_URLS[url], GOOD_URLS[url])


@pytest.mark.parametrize("url", CLEAR_TEXT)
def test_the_key_never_travels_in_clear_text(url: str) -> None:
    assert "https" in refused(lambda: check_url("base_url", url), "base_url")


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("name", ["base_url", "dialer_url"])
def test_bad_urls(name: str, url: object) -> None:
    refused(lambda: ClientConfig(credentials=CREDENTIALS, **{name: url}), name)  # type: ignore[arg-type]


def test_a_password_in_a_url_is_not_repeated() -> None:
    message = refused(lambda: check_url("base_url", "https://user:hunter22@partner.example"), "base_url")
    assert "hunter22" not in message
    assert "user" not in message


@given(st.text())
def test_any_text_is_a_url_or_a_configuration_error(text: str) -> None:
    try:
        url = check_url("base_url", text)
    except ConfigurationError:
        return
    assert url.isascii()
    assert url.isprintable()


# -- the whole ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth", "bearer"),
        ("auth", None),
        ("auth", ["basic"]),
        ("auth", "BASIC"),
        ("auth", KEY),
    ],
)
def test_bad_parts(name: str, value: object) -> None:
    refused(lambda: ClientConfig(**{"credentials": CREDENTIALS, name: value}), name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "IST+5", "Asia", "../etc/passwd", "/etc/localtime", "Asia/Kolkata\0", None, 5.5])
def test_bad_timezones(name: object) -> None:
    refused(lambda: timezone_named(cast(str, name)), "timezone")


def test_a_machine_without_time_zones_has_its_own_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "ZoneInfo", Mock(side_effect=ZoneInfoNotFoundError))
    refused(lambda: ClientConfig(credentials=CREDENTIALS), "expected an IANA name")
    monkeypatch.setattr(config, "available_timezones", set)
    refused(lambda: ClientConfig(credentials=CREDENTIALS), "no time zone database; python -m pip install tzdata")


# -- credentials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\t\n",
        None,
        5,
        b"Kq7x",
        " Kq7x",
        "Kq7x ",
        "Kq7x\n",
        "Kq\n7x",
        "Kq\0x",
        "Kqü7x",
        "Kq7x\u200b",
        "Kq\x7fx",
    ],
)
@pytest.mark.parametrize("name", ["api_key", "username"])
def test_bad_credentials(name: str, value: object) -> None:
    good: dict[str, object] = {"api_key": KEY, "username": "acme"}
    message = refused(lambda: Credentials(**{**good, name: value}), name)  # type: ignore[arg-type]
    assert "Kq" not in message


def test_missing_credentials_name_the_variables() -> None:
    refused(lambda: from_env(env={}), "OZONETEL_API_KEY")
    refused(lambda: from_env(KEY, env={}), "OZONETEL_USERNAME")


def test_the_key_is_revealed_only_on_demand() -> None:
    config = ClientConfig(credentials=CREDENTIALS)
    assert CREDENTIALS.reveal() == KEY
    shown = [
        repr(CREDENTIALS),
        str(CREDENTIALS),
        f"{CREDENTIALS}",
        f"{CREDENTIALS!r:>100}",
        "%s %r" % (CREDENTIALS, CREDENTIALS),  # noqa: UP031 - the way logging formats
        repr([CREDENTIALS]),
        repr(config),
        str(config),
        repr(msgspec.structs.asdict(config)),
        repr(msgspec.structs.astuple(config)),
    ]
    assert not any("canary" in text for text in shown)
    assert all("acme" in text for text in shown)


def test_the_key_has_no_way_out_by_inspection() -> None:
    with pytest.raises(TypeError):
        vars(CREDENTIALS)
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as caught:
            encode(ClientConfig(credentials=CREDENTIALS))
        assert "canary" not in str(caught.value)
    with pytest.raises(TypeError):
        json.dumps(CREDENTIALS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", [CREDENTIALS, [CREDENTIALS], ClientConfig(credentials=CREDENTIALS)])
def test_pickling_is_refused_with_a_way_out(thing: object, protocol: int) -> None:
    with pytest.raises(ConfigurationError, match="OZONETEL_API_KEY") as caught:
        pickle.dumps(thing, protocol)
    assert "canary" not in str(caught.value)


def test_copies_of_credentials_are_refused_like_pickles() -> None:
    for clone in (copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError):
            clone(CREDENTIALS)
    with pytest.raises(ConfigurationError):
        copy.deepcopy(ClientConfig(credentials=CREDENTIALS))


# -- the environment ---------------------------------------------------------------------------------------------

ENV = {
    "OZONETEL_API_KEY": "env-key",
    "OZONETEL_USERNAME": "env-user",
    "OZONETEL_BASE_URL": "https://env-base.example/",
    "OZONETEL_DIALER_URL": "https://env-dialer.example/",
}


def test_what_is_passed_comes_before_the_environment() -> None:
    credentials, base, dialer = from_env(KEY, "acme", "https://base.example", "https://dialer.example", ENV)
    assert (credentials.reveal(), credentials.username) == (KEY, "acme")
    assert (base, dialer) == ("https://base.example", "https://dialer.example")


def test_the_environment_comes_before_the_defaults() -> None:
    credentials, base, dialer = from_env(env=ENV)
    assert (credentials.reveal(), credentials.username) == ("env-key", "env-user")
    assert (base, dialer) == ("https://env-base.example", "https://env-dialer.example")


def test_each_value_is_looked_up_by_itself() -> None:
    credentials, base, dialer = from_env(username="acme", dialer_url="https://dialer.example", env=ENV)
    assert (credentials.reveal(), credentials.username) == ("env-key", "acme")
    assert (base, dialer) == ("https://env-base.example", "https://dialer.example")


def test_defaults_are_the_domestic_hosts_and_one_never_follows_the_other() -> None:
    _, base, dialer = from_env(KEY, "acme", env={})
    assert (base, dialer) == ("https://in1-ccaas-api.ozonetel.com", "https://in1-ccaas-bulkupload.ozonetel.com")
    _, base, dialer = from_env(KEY, "acme", base_url="https://partner.example", env={})
    assert (base, dialer) == ("https://partner.example", "https://in1-ccaas-bulkupload.ozonetel.com")


def test_an_empty_argument_does_not_fall_back_to_the_environment() -> None:
    refused(lambda: from_env("", "acme", env=ENV), "api_key")
    refused(lambda: from_env(KEY, "", env=ENV), "username")


def test_bad_urls_of_the_environment_are_named() -> None:
    refused(lambda: from_env(env={**ENV, "OZONETEL_BASE_URL": "http://partner.example"}), "base_url")
    refused(lambda: from_env(env={**ENV, "OZONETEL_DIALER_URL": "partner"}), "dialer_url")


def test_the_process_environment_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    credentials, base, dialer = from_env()
    assert (credentials.reveal(), credentials.username, base) == ("env-key", "env-user", "https://env-base.example")
    assert dialer == "https://env-dialer.example"


# -- cleaning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        ({}, "phones=spelling/1;names=latin/1"),
        ({"country": "IN"}, "phones=spelling/1;country=IN/1;names=latin/1"),
        (
            {"country": "GB", "form": "digits", "names": "drop", "text": "one_line"},
            "phones=spelling/1;country=GB/1;form=digits/1;names=drop/1;text=one_line/1",
        ),
        ({"phones": "refuse", "names": "refuse"}, ""),
    ],
)
def test_the_policy_names_what_is_changed_with_its_version(changes: dict[str, Any], policy: str) -> None:
    assert Cleaning(**changes).policy == policy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phones": "spell"}, "Cleaning.phones: expected one of 'refuse', 'spelling', got 'spell'"),
        ({"phones": None}, "Cleaning.phones: expected one of 'refuse', 'spelling', got NoneType"),
        ({"country": "in"}, "Cleaning.country: expected one of None, 'IN', 'US', 'GB', 'AE', got 'in'"),
        ({"country": 91}, "got int"),
        ({"names": ["latin"]}, "got list"),
        ({"text": True}, "got bool"),
        ({"form": "digits"}, "Cleaning.form: expected a country beside form='digits'"),
        ({"phones": "refuse", "country": "IN"}, "Cleaning.country: expected phones='spelling' beside it"),
    ],
)
def test_a_wrong_setting_says_what_is_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cleaning(**changes)
    assert message in str(caught.value)


def test_settings_are_frozen_and_equal_by_value() -> None:
    cleaning = Cleaning(country="IN")
    with pytest.raises(AttributeError):
        cleaning.country = None  # type: ignore[misc]
    assert len({cleaning, Cleaning(country="IN")}) == 1
