from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.config import ClientConfig, Credentials, Dialect
from ozonetel_async.errors import ConfigurationError, InvalidLeadError
from ozonetel_async.models import InvalidRow, Lead, Row
from ozonetel_async.protocol.endpoints import endpoint_table
from ozonetel_async.protocol.params import (
    Action,
    add_params,
    bulk_params,
    check_callback_url,
    check_campaign,
    dial_status_params,
    legacy_add_params,
    schedule_params,
)
from ozonetel_async.rows.batches import chunker_maker, raise_invalid

INDIA = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=INDIA)
FULL = Lead(
    "+919812345678",
    name="Asha Rao",
    priority=0,
    expiry=date(2026, 12, 31),
    agent_id="agent-7",
    skill="sales",
    extra={"City": "Pune", "OrderNumber": 41},
)


def config_of(**dialect: Any) -> ClientConfig:
    return ClientConfig(credentials=Credentials("key-1", "acme"), dialect=Dialect(**dialect))


def add(lead: Lead, *, dialect: dict[str, Any] | None = None, **options: Any) -> dict[str, object]:
    options = {"action": None, "check_duplicate": None, "skip_name_validation": None} | options
    return dict(add_params(config_of(**dialect or {}), lead, NOW, **options))


def legacy(lead: Lead, **options: Any) -> dict[str, object]:
    return dict(legacy_add_params(config_of(), lead, NOW, **({"action": None, "check_duplicate": None} | options)))


def bulk(**options: Any) -> dict[str, object]:
    nothing = {"action": None, "check_duplicate": None, "is_delete": None, "callback_url": None}
    return dict(bulk_params(**(nothing | options)))


def dial(**options: Any) -> dict[str, object]:
    defaults: dict[str, Any] = {"callback_url": "https://hooks.example/x", "since": None, "until": None}
    defaults |= {"status": "All", "call_status": "All", "disposition": "ALL", "dated_by": None}
    return dict(dial_status_params(INDIA, **(defaults | options)))


# -- names and spellings -------------------------------------------------------------------------------------------


def test_add_spells_a_full_lead_as_the_page_does() -> None:
    assert add(FULL, action="start", check_duplicate=True, skip_name_validation=True) == {
        "phoneNumber": "+919812345678",
        "Name": "Asha Rao",
        "priority": "0",
        "expiryDate": "2026-12-31",
        "agentId": "agent-7",
        "skill": "sales",
        "City": "Pune",
        "OrderNumber": 41,
        "action": "start",
        "checkDuplicate": "TRUE",
        "skipNameFieldValidation": True,
    }


def test_legacy_add_spells_a_full_lead_as_its_page_does() -> None:
    assert {name: str(value) for name, value in legacy(FULL, action="start", check_duplicate=False).items()} == {
        "PhoneNumber": "+919812345678",
        "Name": "Asha Rao",
        "Priority": "0",
        "ExpiryDate": "2026-12-31",
        "agentId": "agent-7",
        "skill": "sales",
        "City": "Pune",
        "OrderNumber": "41",
        "action": "START",
        "checkDuplicate": "FALSE",
        "format": "json",
    }


def test_what_is_none_or_empty_is_left_out() -> None:
    bare = Lead("9812345678", name="", agent_id="", skill=None, expiry="", extra={"City": None, "Area": ""})
    assert add(bare) == {"phoneNumber": "9812345678"}
    assert legacy(bare) == {"PhoneNumber": "9812345678", "format": "json"}
    assert bulk() == {}
    assert schedule_params(None) == {}


def test_the_dialect_spells_the_name() -> None:
    assert add(FULL, dialect={"name_key": "name"})["name"] == "Asha Rao"
    assert "Name" not in add(FULL, dialect={"name_key": "name"})


def test_the_dialect_strips_the_plus() -> None:
    assert add(FULL, dialect={"plus": "strip"})["phoneNumber"] == "919812345678"


FLAGS: list[tuple[Callable[..., dict[str, Any]], str, object, object]] = [
    (lambda check_duplicate: add(FULL, check_duplicate=check_duplicate), "checkDuplicate", "TRUE", "FALSE"),
    (lambda check_duplicate: legacy(FULL, check_duplicate=check_duplicate), "checkDuplicate", "TRUE", "FALSE"),
    (lambda check_duplicate: bulk(check_duplicate=check_duplicate), "checkDuplicate", "true", "false"),
    (lambda is_delete: bulk(is_delete=is_delete), "isDelete", "true", "false"),
    (lambda check_duplicate: dict(schedule_params(check_duplicate)), "checkDuplicate", True, False),
    (lambda skip: add(FULL, skip_name_validation=skip), "skipNameFieldValidation", True, False),
]


@pytest.mark.parametrize(("make", "name", "yes", "no"), FLAGS)
def test_flags_are_spelled_as_each_page_wants_them(
    make: Callable[[object], dict[str, Any]], name: str, yes: object, no: object
) -> None:
    assert make(True)[name] == yes
    assert type(make(True)[name]) is type(yes)
    assert make(False)[name] == no
    assert type(make(False)[name]) is type(no)
    assert name not in make(None)
    bad: object
    for bad in ("true", "TRUE", 1, 0, "", []):
        with pytest.raises(ConfigurationError, match="expected True, False or None"):
            make(bad)


@pytest.mark.parametrize("action", ["start", "START", "Start", "stop", "STOP"])
def test_actions_in_each_endpoints_case(action: Action) -> None:
    assert add(FULL, action=action)["action"] == action.lower()
    assert bulk(action=action)["action"] == action.lower()
    assert legacy(FULL, action=action)["action"] == action.upper()


@pytest.mark.parametrize("action", ["", "begin", " start", True, 1, ["start"]])
def test_bad_actions(action: object) -> None:
    makes: list[Callable[[object], object]] = [
        lambda action: add(FULL, action=action),
        lambda action: legacy(FULL, action=action),
        lambda action: bulk(action=action),
    ]
    for make in makes:
        with pytest.raises(ConfigurationError, match="action: expected 'start', 'stop' or None"):
            make(action)


def test_two_flags_that_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="is_delete only"):
        bulk(check_duplicate=True, is_delete=True)
    assert bulk(check_duplicate=False, is_delete=True) == {"checkDuplicate": "false", "isDelete": "true"}
    assert bulk(check_duplicate=True, is_delete=False) == {"checkDuplicate": "true", "isDelete": "false"}


# -- leads ---------------------------------------------------------------------------------------------------------

RESERVED = [
    *("apiKey", "api_key", "userName", "campaignName", "campaign_name", "action", "checkDuplicate", "bulkData"),
    *("skipNameFieldValidation", "format", "phoneNumber", "PhoneNumber", "Name", "name", "priority", "Priority"),
    *("expiryDate", "ExpiryDate", "agentId", "AgentId", "AgentID", "skill", "Skill"),
]


@pytest.mark.parametrize("make", [add, legacy])
@pytest.mark.parametrize("spelled", [str, str.upper, str.lower])
@pytest.mark.parametrize("name", RESERVED)
def test_extra_columns_cannot_replace_a_parameter(
    make: Callable[..., dict[str, object]], name: str, spelled: Callable[[str], str]
) -> None:
    with pytest.raises(InvalidLeadError) as caught:
        make(Lead("9812345678", extra={spelled(name): "x"}))
    assert spelled(name) in str(caught.value)


def test_an_extra_column_cannot_replace_a_name_of_the_dialects_own_spelling() -> None:
    lead = Lead("9812345678", name="Asha", extra={"fullName": "x"})
    with pytest.raises(InvalidLeadError, match="fullName"):
        add(lead, dialect={"name_key": "fullName"})
    assert add(lead)["fullName"] == "x"


@pytest.mark.parametrize("make", [add, legacy])
@pytest.mark.parametrize(
    ("lead", "field"),
    [
        (Lead("12"), "phone_number"),
        (Lead("98123x5678"), "phone_number"),
        (Lead(cast(str, None)), "phone_number"),
        (Lead("9812345678", name="A, B"), "name"),
        (Lead("9812345678", priority=100), "priority"),
        (Lead("9812345678", expiry="31-12-2026"), "expiry"),
        (Lead("9812345678", expiry=date(2020, 1, 1)), "expiry"),
        (Lead("9812345678", agent_id="  "), "agent_id"),
        (Lead("9812345678", skill="a\nb"), "skill"),
        (Lead("9812345678", scheduled_time=datetime(2026, 3, 2, 10)), "scheduled_time"),
        (Lead("9812345678", extra={"City": "a\0b"}), "City"),
    ],
)
def test_a_bad_lead_names_the_field_and_shows_no_value(
    make: Callable[..., dict[str, object]], lead: Lead, field: str
) -> None:
    with pytest.raises(InvalidLeadError) as caught:
        make(lead)
    assert field in caught.value.field
    assert caught.value.outcome == "not_sent"
    for value in ("9812345678", "98123x5678", "A, B", "31-12-2026", "a\nb"):
        assert value not in str(caught.value)


def test_a_name_may_be_anything_sendable_when_its_validation_is_skipped() -> None:
    assert add(Lead("9812345678", name="आशा, राव"), skip_name_validation=True)["Name"] == "आशा, राव"
    for skip in (None, False):
        with pytest.raises(InvalidLeadError):
            add(Lead("9812345678", name="आशा, राव"), skip_name_validation=skip)


@pytest.mark.parametrize("make", [add, legacy])
@pytest.mark.parametrize("lead", ["9812345678", {"phone_number": "9812345678"}, None, 5])
def test_a_single_lead_is_a_lead(make: Callable[..., dict[str, object]], lead: object) -> None:
    with pytest.raises(InvalidLeadError, match=f"^lead: expected a Lead, got {type(lead).__name__}$") as caught:
        make(cast(Lead, lead))
    assert "98123" not in str(caught.value)


def test_expiry_in_the_platforms_zone() -> None:
    assert add(Lead("9812345678", expiry=datetime(2026, 3, 1, 20, 0, tzinfo=UTC)))["expiryDate"] == (
        "2026-03-02 01:30:00"
    )
    assert add(Lead("9812345678", expiry=datetime(2026, 3, 1, 20, 0)))["expiryDate"] == "2026-03-01 20:00:00"
    assert add(Lead("9812345678", expiry=date(2026, 3, 1)))["expiryDate"] == "2026-03-01"


# -- dial status ---------------------------------------------------------------------------------------------------


def test_dial_status_spells_its_parameters_as_the_page_does() -> None:
    assert dial(
        since=datetime(2026, 3, 1, 0, 0, tzinfo=UTC),
        until="2026-03-02 00:00:00",
        status="Fail",
        call_status="user_disconnected",
        disposition="Call back later",
        dated_by="updated",
    ) == {
        "callBackUrl": "https://hooks.example/x",
        "fromDate": "2026-03-01 05:30:00",
        "toDate": "2026-03-02 00:00:00",
        "status": "Fail",
        "dialstatus": "user_disconnected",
        "dispositions": "Call back later",
        "sortby": "2",
    }


def test_dial_status_defaults() -> None:
    assert dial() == {
        "callBackUrl": "https://hooks.example/x",
        "status": "All",
        "dialstatus": "All",
        "dispositions": "ALL",
        "sortby": "0",
    }


@pytest.mark.parametrize(
    ("name", "field", "good", "bad"),
    [
        ("status", "status", ["All", "Fail", "Success", "Pending"], ["all", "FAIL", "", None, True]),
        (
            "call_status",
            "dialstatus",
            ["All", "Fail", "NoAnswer", "user_disconnected", "answered"],
            ["Answered", "busy", "", None, 0],
        ),
    ],
)
def test_choices(name: str, field: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        assert dial(**{name: value})[field] == str(value)
    for value in bad:
        with pytest.raises(ConfigurationError, match=f"{name}: expected one of") as caught:
            dial(**{name: value})
        assert all(str(choice) in str(caught.value) for choice in good)


def test_what_the_bounds_mean() -> None:
    sent = {dated_by: dial(dated_by=dated_by)["sortby"] for dated_by in (None, "created", "updated")}
    assert sent == {None: "0", "created": "1", "updated": "2"}
    bad: object
    for bad in (0, 1, "", "Created", "all", []):
        with pytest.raises(ConfigurationError, match="dated_by: expected one of None, created, updated"):
            dial(dated_by=bad)


@pytest.mark.parametrize("disposition", ["", "  ", None, 5, "a\nb", "\0"])
def test_bad_dispositions(disposition: object) -> None:
    with pytest.raises(ConfigurationError, match="disposition"):
        dial(disposition=disposition)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("value", ["2026-03-01", "01-03-2026 10:00:00", "", "soon", 5, date(2026, 3, 1), True])
def test_bad_moments(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        dial(**{name: value})


def test_since_comes_before_until() -> None:
    early, late = datetime(2026, 3, 1, 10), datetime(2026, 3, 1, 11)
    assert dial(since=early, until=early)["fromDate"] == "2026-03-01 10:00:00"
    with pytest.raises(ConfigurationError, match="expected since before until"):
        dial(since=late, until=early)
    # 05:00 in UTC is 10:30 in India: each is compared as it is sent.
    with pytest.raises(ConfigurationError, match="expected since before until"):
        dial(since=datetime(2026, 3, 1, 5, tzinfo=UTC), until=early)


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    offset=st.integers(-14 * 60, 14 * 60),
)
def test_a_moment_is_the_same_moment_in_the_platforms_zone(moment: datetime, offset: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    sent = datetime.strptime(str(dial(since=aware)["fromDate"]), "%Y-%m-%d %H:%M:%S").replace(tzinfo=INDIA)
    assert sent == aware


# -- callback URLs and campaigns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "https://hooks.example",
        "https://hooks.example:8443/x?secret=1&y=%20#z",
        "http://10.0.0.5/",
        "https://[2001:db8::1]/",
    ],
)
def test_good_callback_urls(url: str) -> None:
    assert check_callback_url(url) == url
    assert bulk(callback_url=url) == {"callBackUrl": url}


@pytest.mark.parametrize(
    "url",
    ["", " ", "hooks.example", "/x", "//hooks.example/x", "ftp://hooks.example", "https://", "https:///x", "http:x",
     "https://hooks.example/a b", "https://hooks.example/\n", "https://hooks.example/\0", "https://hööks.example/",
     "HTTPS://hooks.example/",
     "https://hooks.example:99999/", "https://hooks.example:port/", "https://hooks.example:0/", "https://[::1",
     "javascript:alert(1)"],
)  # fmt: skip
def test_bad_callback_urls(url: object) -> None:
    for make in (bulk, dial):
        if url is None and make is bulk:
            continue
        with pytest.raises(ConfigurationError, match="callback_url"):
            make(callback_url=url)


def test_a_bad_callback_url_is_not_repeated_for_it_may_hold_a_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_callback_url("https://hooks.example:99999/?secret=hunter22")
    assert "hunter22" not in str(caught.value)


@given(st.text())
def test_any_text_as_a_callback_url_ends_well(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert check_callback_url(text).isascii()


@pytest.mark.parametrize("campaign", ["", "  ", None, 5, b"Diwali", "Di\nwali", "Di\0wali", "\u202eDiwali", "\ud800"])
def test_bad_campaigns(campaign: object) -> None:
    with pytest.raises(ConfigurationError, match="campaign: expected printable text"):
        check_campaign(cast(str, campaign))


def test_a_lead_in_the_place_of_the_campaign_is_told() -> None:
    with pytest.raises(ConfigurationError, match="campaign: expected printable text that is not empty, got Lead"):
        check_campaign(cast(str, Lead("9812345678")))


@pytest.mark.parametrize("campaign", ["Diwali", "दिवाली 2026", "a&b=c+d%", 'quo"ted'])
def test_good_campaigns(campaign: str) -> None:
    assert check_campaign(campaign) == campaign


# -- chunkers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows", "agent"),
    [("bulk", 500, "AgentId"), ("schedule", 100, "AgentID"), ("legacy_schedule", 100, "AgentID")],
)
def test_a_chunker_cuts_for_its_endpoint(name: Any, rows: int, agent: str) -> None:
    config = config_of()
    endpoint = endpoint_table(config.dialect)[name]
    time = None if name == "bulk" else "2026-03-02 10:00:00"
    leads = [Lead(f"98{i:08}", agent_id="a-1", scheduled_time=time) for i in range(rows + 1)]
    invalid: list[InvalidRow] = []
    chunker = chunker_maker(config, "bulk" if name == "bulk" else "schedule", endpoint.rows, None, leads, NOW)(
        lambda row, _: invalid.append(row)
    )
    batches = [*chunker.feed(leads), *chunker.flush()]
    assert invalid == []
    assert [batch.rows for batch in batches] == [rows, 1]
    columns = msgspec.json.decode(batches[0].payload)["map"]
    assert agent in columns
    assert ("ScheduledTime" in columns) is (name != "bulk")


def test_the_columns_of_a_source_stand_in_for_the_argument() -> None:
    class Source(list[Row]):
        columns = ("Name", "PhoneNumber")

    config = config_of()
    rows = Source([["Asha", "9812345678"]])
    for columns, expected in ((None, ["Name", "PhoneNumber"]), (["City", "PhoneNumber"], ["City", "PhoneNumber"])):
        maker = chunker_maker(config, "bulk", 500, columns, rows, NOW)
        chunker = maker(raise_invalid)
        chunker.feed(rows)
        (batch,) = chunker.flush()
        assert msgspec.json.decode(batch.payload)["map"] == expected


def test_raise_invalid_tells_row_field_and_reason() -> None:
    with pytest.raises(InvalidLeadError) as caught:
        raise_invalid(InvalidRow(7, "Name", "a comma"), Lead("9812345678"))
    assert (caught.value.row, caught.value.field, caught.value.reason) == (7, "Name", "a comma")
