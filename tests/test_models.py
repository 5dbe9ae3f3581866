from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.models import (
    BatchReceipt,
    BatchResult,
    ExportReceipt,
    InvalidRow,
    Lead,
    LeadReceipt,
    ScheduleReport,
    ScheduleResult,
    UploadReport,
    counted,
    row_span,
)

FULL = Lead(
    "+919812345678",
    name="Asha Rao",
    priority=0,
    expiry=date(2030, 1, 31),
    agent_id="agent-7",
    skill="sales",
    scheduled_time=datetime(2030, 1, 30, 10, 0, tzinfo=UTC),
    extra={"City": "Pune"},
)
EVERY = [
    FULL,
    Lead("9812345678"),
    LeadReceipt("accepted", "SuccessFully Updated", "{}"),
    BatchReceipt("172067852912917131638630", 500),
    ExportReceipt("u-1"),
    InvalidRow(3, "Name", "a comma"),
    ScheduleResult(1, "refused", "Wrong Date format"),
    ScheduleReport((ScheduleResult(1, "accepted", "ok"),)),
    BatchResult(0, 1, 500, 500, "accepted", "172067852912917131638630"),
    UploadReport(campaign="Diwali", rows_read=3, rows_accepted=2, rows_invalid=1, stopped_by="auth"),
]


@pytest.mark.parametrize("model", EVERY, ids=lambda model: type(model).__name__)
def test_models_survive_pickle_and_copies(model: msgspec.Struct) -> None:
    assert pickle.loads(pickle.dumps(model)) == model
    assert copy.copy(model) == model
    assert copy.deepcopy(model) == model


def test_the_repr_of_a_lead_names_its_fields_without_their_values() -> None:
    shown = repr(FULL)
    assert shown == ("Lead('…678', name=…, priority=…, expiry=…, agent_id=…, skill=…, scheduled_time=…, extra=…)")
    assert str(FULL) == shown
    assert f"{FULL}" == f"{FULL!s}" == shown


def test_a_short_number_is_not_shown_at_all() -> None:
    assert repr(Lead("123")) == "Lead('…')"
    assert repr(Lead("123456")) == "Lead('…')"
    assert repr(Lead("1234567")) == "Lead('…567')"


@pytest.mark.parametrize("phone", [None, 9812345678, 98.12, b"9812345678", ["9812345678"]])
def test_a_leads_repr_copes_with_a_number_that_is_no_text(phone: object) -> None:
    assert repr(Lead(phone)) == "Lead('…')"  # type: ignore[arg-type]


@given(
    phone=st.from_regex(r"\+?[0-9]{7,16}", fullmatch=True),
    name=st.text(st.characters(min_codepoint=0x400, max_codepoint=0x4FF), min_size=1),
    city=st.text(st.characters(min_codepoint=0x400, max_codepoint=0x4FF), min_size=1),
)
def test_no_value_shows_in_a_repr(phone: str, name: str, city: str) -> None:
    lead = Lead(phone, name=name, agent_id=name, skill=name, extra={"City": city})
    shown = f"{lead!r} {lead} {[lead]} {ScheduleReport(())}"
    assert phone[-7:] not in shown
    assert name not in shown
    assert city not in shown


def test_equality_is_by_value_and_by_type() -> None:
    assert Lead("1", name="A") == Lead("1", name="A")
    assert Lead("1", name="A") != Lead("1", name="B")
    assert Lead("1", extra={"a": 1}) != Lead("1")
    assert Lead("1") != object()


def test_only_the_phone_number_is_positional() -> None:
    with pytest.raises(TypeError):
        Lead("9812345678", "Asha")  # type: ignore[call-arg]
    assert Lead(phone_number="9812345678") == Lead("9812345678")
    with pytest.raises(TypeError):
        Lead()  # type: ignore[call-arg]


def test_leads_are_frozen_and_share_no_extra() -> None:
    lead = Lead("9812345678")
    with pytest.raises(AttributeError):
        lead.name = "Asha"  # type: ignore[misc]
    assert lead.extra == {}
    assert lead.extra is not Lead("9812345678").extra


@pytest.mark.parametrize(
    "model", [model for model in EVERY if not isinstance(model, UploadReport)], ids=lambda model: type(model).__name__
)
def test_everything_but_the_live_report_is_frozen(model: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(model, model.__struct_fields__[0], None)


def test_a_lead_receipt_shows_its_message_and_not_its_body() -> None:
    receipt = LeadReceipt("duplicate", "Number Already Exist", '{"data":{"phoneNumber":"9812345678"}}')
    assert repr(receipt) == "LeadReceipt(outcome='duplicate', message='Number Already Exist', raw=<37 characters>)"
    assert str(receipt) == repr(receipt)
    assert "9812345678" in receipt.raw


def test_schedule_report_counts() -> None:
    outcomes = ["accepted", "accepted", "invalid", "refused", "unknown", "unknown", "unknown"]
    report = ScheduleReport(tuple(ScheduleResult(i, o, "") for i, o in enumerate(outcomes, 1)))  # type: ignore[arg-type]
    assert [report.count(o) for o in ("accepted", "invalid", "refused", "unknown")] == [2, 1, 1, 3]


def test_upload_report_reads_as_one_line() -> None:
    report = UploadReport(
        campaign="Diwali",
        rows_read=1_200,
        rows_accepted=1_000,
        rows_invalid=150,
        rows_refused=30,
        rows_not_sent=10,
        rows_unknown=10,
    )
    report.elapsed = 61.26
    assert str(report) == (
        "Diwali: 1,200 rows read, 1,000 accepted, 150 invalid, 30 refused, 10 not sent, 10 unknown; 0 batches in 61.3 s"
    )
    report.rows_in_flight, report.stopped_by = 1_500, "no connection"
    assert "10 unknown, 1,500 in flight; 0 batches in 61.3 s, stopped: no connection" in str(report)


def test_reports_share_no_lists() -> None:
    one, other = UploadReport(campaign="a"), UploadReport(campaign="b")
    one.batches.append(BatchResult(0, 1, 1, 1, "unknown"))
    one.invalid_sample.append(InvalidRow(1, "Name", "empty"))
    assert (other.batches, other.invalid_sample) == ([], [])


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (1_200, "row", "1,200 rows"),
        (1, "batch", "1 batch"),
        (2, "batch", "2 batches"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


def test_a_span_of_rows() -> None:
    assert (row_span(7, 7), row_span(1, 500)) == ("row 7", "rows 1 to 500")


def test_a_report_of_one_row_is_in_the_singular() -> None:
    report = UploadReport(campaign="Diwali", rows_read=1, rows_accepted=1)
    report.batches = [BatchResult(0, 1, 1, 1, "accepted", transaction_id="1")]
    assert str(report).startswith("Diwali: 1 row read, 1 accepted, ")
    assert "; 1 batch in " in str(report)
