"""Checks of cells and columns, and the single lead that goes through the same checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import Dialect
from ozonetel_async.errors import InvalidLeadError
from ozonetel_async.models import Lead
from ozonetel_async.rows.checks import BadCell, ColumnCheck, DateLimits, shape
from ozonetel_async.rows.columns import Layout, check_for, columns_problem, hint_for, label, lead_columns
from ozonetel_async.rows.single_lead import check_lead

ZONE = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 11, 21, 12, 0, 0, 500_000)  # naive: in the zone


def check(column: str, layout: Layout = "bulk", **dialect: Any) -> ColumnCheck:
    return check_for(column, layout, Dialect(**dialect), DateLimits(ZONE, NOW))


def verdict(column: str, cell: object, layout: Layout = "bulk", **dialect: Any) -> object:
    """The cell as sent, or BadCell."""
    try:
        return check(column, layout, **dialect).one(cell)
    except BadCell:
        return BadCell


texts = st.text(max_size=5) | st.text(alphabet=st.sampled_from("09+-: \n\x00aé\ud800\u3000"), max_size=20)
odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.none(), max_size=1), st.datetimes())
likely = st.sampled_from(
    ["+919812345678", "A B", "5", "05", "2026-12-01", "2026-12-01 10:00:00", "2026-11-21", "2026-02-30", " "]
)


@pytest.mark.parametrize("layout", ["bulk", "schedule"])
@pytest.mark.parametrize("column", ["PhoneNumber", "Name", "Priority", "ExpiryDate", "ScheduledTime", "skill", "City"])
@settings(max_examples=60, deadline=None)
@given(
    cells=st.one_of(st.lists(likely), st.lists(likely | texts), st.lists(likely | texts | odd), st.lists(st.integers()))
)
def test_a_column_gets_the_verdicts_of_its_cells(column: str, layout: Layout, cells: list[object]) -> None:
    if not cells:
        return
    sent, bad, _ = check(column, layout).column(cells)
    for i, cell in enumerate(cells):
        if i in bad:
            with pytest.raises(BadCell) as caught:
                check(column, layout).one(cell)
            assert caught.value.reason == bad[i]
        else:
            expected = check(column, layout).one(cell)
            assert (sent[i], type(sent[i])) == (expected, type(expected))


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("place", [0, 1, 20, 39])
@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("PhoneNumber", "+9812", "98\n12"),
        ("PhoneNumber", "9812", "9812\n9812"),
        ("PhoneNumber", "9812", "9812 "),
        ("PhoneNumber", "9812", "+"),
        ("PhoneNumber", "9812", "9" * 17),
        ("Name", "A", "A\n"),
        ("Name", "A", "Zoë"),
        ("Priority", "5", "100"),
        ("ExpiryDate", "2026-12-01", "2026-11-20"),
        ("ExpiryDate", "2026-12-01", "2026-12-32"),
        ("ExpiryDate", "2026-12-01 10:00:00", "2026-11-21 12:00:00"),
        ("ScheduledTime", "2026-12-01 10:00:00", "2026-12-21 12:00:01"),
        ("ScheduledTime", "2026-12-01 10:00:00", ""),
        ("skill", "a b", "  "),
        ("skill", "नमस्ते", "\u3000"),
        ("skill", "a", "\x7f"),
        ("City", " ", "\udc80"),
    ],
)
def test_one_bad_cell_is_found_wherever_it_stands(column: str, good: str, bad: str, place: int, count: int) -> None:
    cells = [good] * count
    cells[place % count] = bad
    layout: Layout = "schedule" if column == "ScheduledTime" else "bulk"
    assert list(check(column, layout).column(cells)[1]) == [place % count]


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("123", "123"),
        ("+" + "1" * 16, "+" + "1" * 16),
        (919812345678, "919812345678"),
        ("12", BadCell),
        (12, BadCell),
        (10**17, BadCell),
        pytest.param(10**5_000, BadCell, id="huge"),
        (-9812, BadCell),
        (9.8e9, BadCell),
        (True, BadCell),
        (None, BadCell),
        ("", BadCell),
        ("++123", BadCell),
        ("12+34", BadCell),
        ("\u0661\u0662\u0663", BadCell),
        ("98 12", BadCell),
    ],
)
def test_phone(cell: object, sent: object) -> None:
    assert verdict("PhoneNumber", cell) == sent


@pytest.mark.parametrize(("plus", "sent"), [("keep", "+9812"), ("strip", "9812"), ("percent", "%2B9812")])
def test_plus_policy_of_schedules(plus: Any, sent: str) -> None:
    assert verdict("PhoneNumber", "+9812", "schedule", schedule_plus=plus) == sent
    found, bad, _ = check("PhoneNumber", "schedule", schedule_plus=plus).column(["+9812", "9812", "+", None, 5])
    assert list(found[:2]) == [sent, "9812"]
    assert list(bad) == [2, 3, 4]


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("5", 5),
        (5, 5),
        ("00", 0),
        ("099", 99),
        ("", ""),
        (None, ""),
        (100, BadCell),
        (-1, BadCell),
        ("-1", BadCell),
        (5.5, BadCell),
        (5.0, BadCell),
        ("5.0", BadCell),
        (True, BadCell),
        ("five", BadCell),
        ("\u0665", BadCell),
        (" 5", BadCell),
        ("9" * 5_000, BadCell),
    ],
)
def test_priority(cell: object, sent: object) -> None:
    assert verdict("Priority", cell) == sent
    found, bad, _ = check("Priority").column(["7", cell, 8])
    assert found[1] == sent or 1 in bad
    assert (found[0], found[2]) == (7, 8)


def test_priority_range_is_the_dialects() -> None:
    assert verdict("Priority", "0", priority_min=1) is BadCell
    assert verdict("Priority", 5_000, priority_max=10_000) == 5_000


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("2026-11-21", "2026-11-21"),
        ("2026-11-20", BadCell),
        ("2026-11-21 12:00:00", BadCell),
        ("2026-11-21 12:00:01", "2026-11-21 12:00:01"),
        ("2028-02-29", "2028-02-29"),
        ("2027-02-29", BadCell),
        ("2026-12-01T10:00:00", BadCell),
        ("2026-12-01 24:00:00", BadCell),
        ("2026-W50-1", BadCell),
        ("20261201", BadCell),
        ("01/12/2026", BadCell),
        (date(2026, 11, 21), "2026-11-21"),
        (date(2026, 11, 20), BadCell),
        (datetime(2026, 12, 1, 10, 0, 0, 9), "2026-12-01 10:00:00"),
        (datetime(2026, 12, 1, 20, tzinfo=UTC), "2026-12-02 01:30:00"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), BadCell),
        (20261201, BadCell),
        ("", ""),
    ],
)
def test_expiry(cell: object, sent: object) -> None:
    assert verdict("ExpiryDate", cell) == sent


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("2026-11-21 12:00:01", "2026-11-21 12:00:01"),
        ("2026-11-21 12:00:00", BadCell),
        ("2026-12-21 12:00:00", "2026-12-21 12:00:00"),
        ("2026-12-21 12:00:01", BadCell),
        ("2026-12-01", BadCell),
        (date(2026, 12, 1), BadCell),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12-01 05:30:00"),
        ("", BadCell),
        (None, BadCell),
    ],
)
def test_scheduled_time(cell: object, sent: object) -> None:
    assert verdict("ScheduledTime", cell, "schedule") == sent


def test_a_horizon_beyond_the_calendar_is_no_horizon() -> None:
    assert verdict("ScheduledTime", "9999-12-31 00:00:00", "schedule", schedule_horizon_days=10**9) != BadCell


@pytest.mark.parametrize(
    ("column", "cell", "sent"),
    [
        ("skill", 7, "7"),
        ("skill", 7.5, BadCell),
        ("skill", True, BadCell),
        ("Name", 7, BadCell),
        ("Name", "", ""),
        ("Name", "A_b (9).+$%:-", "A_b (9).+$%:-"),
        ("Name", "O'Neil", BadCell),
        ("City", 7, 7),
        ("City", 7.5, 7.5),
        ("City", 2**53, BadCell),
        ("City", float("inf"), BadCell),
        ("City", date(2020, 1, 2), "2020-01-02"),
        ("City", datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02 08:30:00"),
        ("City", b"x", BadCell),
        ("City", ["x"], BadCell),
        ("City", "a\tb", BadCell),
        ("City", "पुणे", "पुणे"),
        ("ScheduledTime", None, ""),
        ("ScheduledTime", "2026-12-01 10:00:00", BadCell),
    ],
)
def test_other_columns(column: str, cell: object, sent: object) -> None:
    assert verdict(column, cell) == sent


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "missing or empty"),
        ("", "missing or empty"),
        ("x", "1 character"),
        ("abc", "3 characters"),
        (True, "a truth value"),
        (123, "a whole number of 3 digits"),
        pytest.param(10**5_000, "a whole number of more than 20 digits", id="huge"),
        (-5, "a negative number"),
        (1.5, "a number with a decimal point"),
        (b"x", "a value of type bytes"),
    ],
)
def test_shapes_tell_no_values(cell: object, says: str) -> None:
    assert shape(cell) == says


@pytest.mark.parametrize(
    ("name", "layout", "hint"),
    [
        ("phone number", "bulk", "PhoneNumber"),
        ("Mobile No.", "bulk", "PhoneNumber"),
        ("expiry_date", "bulk", "ExpiryDate"),
        ("AgentID", "bulk", "AgentId"),
        ("AgentID", "schedule", None),
        ("Skill", "bulk", "skill"),
        ("City", "bulk", None),
    ],
)
def test_hints(name: str, layout: Layout, hint: str | None) -> None:
    assert hint_for(name, layout) == hint


def test_labels_hide_numbers_and_what_cannot_be_printed() -> None:
    assert label("City\x00") == "City?"
    assert "9812345" not in label("9812345678")
    assert len(label("x" * 500)) == 64
    assert label(10**5_000) == "a whole number of more than 20 digits"
    assert "9812345" not in str(columns_problem(["9812345678", "Asha"], "bulk"))


@pytest.mark.parametrize("layout", ["bulk", "schedule"])
def test_the_services_own_columns_are_fine(layout: Layout) -> None:
    names = [name for name in lead_columns(layout).values() if (layout, name) != ("bulk", "ScheduledTime")]
    assert columns_problem(names, layout) is None
    assert columns_problem([*names, "City"], layout) is None


# --- one lead ---------------------------------------------------------------------------------------------------------


def checked(lead: Lead, **options: Any) -> Mapping[str, Any]:
    defaults: dict[str, Any] = {"dialect": Dialect(), "timezone": ZONE, "now": NOW}
    return check_lead(lead, **(defaults | options))


def test_a_lead_comes_back_normalised_without_what_it_leaves_out() -> None:
    assert checked(Lead("+9812", name="", agent_id="a1")) == {"phone_number": "+9812", "agent_id": "a1"}
    lead = Lead(
        "+9812", name="A", priority=0, expiry=datetime(2026, 12, 1, 0, 0, 9, tzinfo=UTC), skill="s", extra={"X": 1}
    )
    assert checked(lead, dialect=Dialect(plus="strip")) == {
        "phone_number": "9812",
        "name": "A",
        "priority": 0,
        "expiry": "2026-12-01 05:30:09",
        "skill": "s",
        "extra": {"X": 1},
    }


@pytest.mark.parametrize(
    ("lead", "field", "says"),
    [
        (Lead(""), "phone_number", "missing or empty"),
        (Lead("98-12"), "phone_number", "expected 7 to 15 digits, got 4"),
        (Lead(9.8e9), "phone_number", "read the column as text"),  # type: ignore[arg-type]
        (Lead("123", name="Zoë"), "name", "a letter outside ASCII at position 3"),
        (Lead("123", priority=100), "priority", "0 to 99"),
        (Lead("123", expiry="2026-11-20"), "expiry", "in the past"),
        (Lead("123", agent_id=" "), "agent_id", "all blank"),
        (Lead("123", scheduled_time="2026-12-01 10:00:00"), "scheduled_time", "only schedule_leads"),
        (Lead("123", extra={"City": float("inf")}), "City", "finite"),
        (Lead("123", extra={"Name": "x"}), "Name", "a field of its own"),
        (Lead("123", extra={"action": "START"}), "action", "a field of the request"),
        (Lead("123", extra={"api_key": "x"}), "api_key", "a field of the request"),
        (Lead("123", extra=[1]), "extra", "mapping"),  # type: ignore[arg-type]
    ],
)
def test_a_lead_the_service_would_not_take(lead: Lead, field: str, says: str) -> None:
    with pytest.raises(InvalidLeadError, match=says) as caught:
        checked(lead)
    assert caught.value.field == field


def test_name_validation_can_be_skipped_but_not_for_control_characters() -> None:
    assert checked(Lead("123", name="Zoë"), skip_name_validation=True)["name"] == "Zoë"
    with pytest.raises(InvalidLeadError, match="control character"):
        checked(Lead("123", name="a\nb"), skip_name_validation=True)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("12", "too few digits: expected 3 to 16 digits with an optional leading '+', got 2"),
        ("+", "too few digits: expected 3 to 16 digits with an optional leading '+', got 0"),
        (12, "too few digits: expected 3 to 16 digits with an optional leading '+', got 2"),
        ("+" + "9" * 17, "too many digits: expected 3 to 16 digits with an optional leading '+', got 17"),
        (10**16, "too many digits: expected 3 to 16 digits with an optional leading '+', got 17"),
        (10**30, "too many digits: expected 3 to 16 digits with an optional leading '+', got more than 20"),
    ],
)
def test_a_phone_number_of_the_wrong_length_is_told_by_its_digits(cell: object, reason: str) -> None:
    with pytest.raises(BadCell) as caught:
        check("PhoneNumber").one(cell)
    assert caught.value.reason == reason
