"""Rows to batches: held against a plain row-by-row reference on hostile rows, however they are sliced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import chain, islice, product
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import Dialect
from ozonetel_async.errors import ConfigurationError, InvalidLeadError
from ozonetel_async.models import InvalidRow, Lead
from ozonetel_async.rows.batches import Batch, Chunker
from ozonetel_async.rows.layout import UnfitRow, _none_longer
from ozonetel_async.rows.single_lead import check_lead

ZONE = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=ZONE)
BULK = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentId", "skill", "City")
SCHEDULE = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentID", "skill", "ScheduledTime", "City")


class Run:
    """A chunker, and all that came out of it."""

    def __init__(self, **options: Any) -> None:
        self.invalid: list[InvalidRow] = []
        self.originals: list[object] = []
        self.batches: list[Batch] = []
        defaults: dict[str, Any] = {"dialect": Dialect(), "timezone": ZONE, "now": NOW, "on_invalid": self._note}
        self.chunker = Chunker(**(defaults | options))

    def _note(self, verdict: InvalidRow, row: object) -> None:
        self.invalid.append(verdict)
        self.originals.append(row)

    def feed(self, rows: Iterable[Any]) -> Run:
        self.batches += self.chunker.feed(rows)
        return self

    def flush(self) -> Run:
        self.batches += self.chunker.flush()
        return self

    @property
    def data(self) -> list[list[Any]]:
        return [row for batch in self.batches for row in json.loads(batch.payload)["data"]]

    @property
    def blamed(self) -> list[tuple[int, str]]:
        return [(verdict.row, verdict.field) for verdict in self.invalid]

    def reason(self) -> str:
        assert len(self.invalid) == 1, self.invalid
        return self.invalid[0].reason


def run(rows: Iterable[Any], **options: Any) -> Run:
    return Run(**options).feed(rows).flush()


# --- the reference: one cell after the other, no joins, no patterns ---------------------------------------------------


class RefusedError(Exception):
    pass


DIGITS = "0123456789"
NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_ ().+$%:-"


def plain_text(cell: str) -> str:
    for character in cell:
        code = ord(character)
        if code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000:
            raise RefusedError
    return str(cell)


def phone(cell: object, plus: str) -> str:
    if isinstance(cell, int) and not isinstance(cell, bool):
        cell = str(cell)
    if not isinstance(cell, str):
        raise RefusedError
    digits = cell[1:] if cell[:1] == "+" else cell
    if not 3 <= len(digits) <= 16 or any(character not in DIGITS for character in digits):
        raise RefusedError
    return digits if digits == cell else plus + digits


def name(cell: object) -> str:
    if not isinstance(cell, str) or any(character not in NAME_CHARACTERS for character in cell):
        raise RefusedError
    return cell


def priority(cell: object) -> int:
    if isinstance(cell, str) and 0 < len(cell) <= 18 and all(character in DIGITS for character in cell):
        cell = int(cell)
    if not isinstance(cell, int) or isinstance(cell, bool) or not 0 <= cell <= 99:
        raise RefusedError
    return cell


def moment_text(cell: object) -> str:
    if isinstance(cell, datetime):
        try:
            cell = cell.astimezone(ZONE) if cell.tzinfo else cell
        except OverflowError:
            raise RefusedError from None
        return f"{cell.year:04d}-{cell:%m-%d %H:%M:%S}"
    if isinstance(cell, date):
        return f"{cell.year:04d}-{cell:%m-%d}"
    if isinstance(cell, str):
        return cell
    raise RefusedError


def parsed(text: str) -> tuple[datetime, bool]:
    """The last moment a text means, and whether it names a time of day."""
    shapes = {19: "0000-00-00 00:00:00", 10: "0000-00-00"}
    shape = shapes.get(len(text), "")
    if not shape or any((c in DIGITS) != (s == "0") or (s != "0" and c != s) for c, s in zip(text, shape, strict=True)):
        raise RefusedError
    numbers = [int(part) for part in text.replace("-", " ").replace(":", " ").split(" ")]
    try:
        whole_day = len(numbers) == 3
        moment = datetime(*numbers, *((23, 59, 59, 999_999) if whole_day else ()))  # type: ignore[arg-type]
    except ValueError:
        raise RefusedError from None
    return moment, not whole_day


def expiry(cell: object) -> str:
    text = moment_text(cell)
    if parsed(text)[0] <= NOW.replace(tzinfo=None):
        raise RefusedError
    return text


def scheduled(cell: object) -> str:
    text = moment_text(cell)
    moment, timed = parsed(text)
    here = NOW.replace(tzinfo=None)
    if not timed or not here < moment <= here + timedelta(days=30):
        raise RefusedError
    return text


def agent(cell: object) -> str:
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) < 2**53:
        return str(cell)
    if not isinstance(cell, str) or not cell.strip():
        raise RefusedError
    return plain_text(cell)


def extra(cell: object) -> str | int | float:
    if isinstance(cell, str):
        return plain_text(cell)
    if isinstance(cell, bool):
        raise RefusedError
    if isinstance(cell, int) and abs(cell) < 2**53:
        return cell
    if isinstance(cell, float) and cell == cell and abs(cell) != float("inf"):
        return cell
    if isinstance(cell, date):
        return moment_text(cell)
    raise RefusedError


def reference_cell(column: str, cell: object, plus: str) -> object:
    missing = cell is None or cell == ""
    if missing and column not in ("PhoneNumber", "ScheduledTime"):
        return ""
    if column == "PhoneNumber":
        return phone(cell, plus)
    table = {
        "Name": name,
        "Priority": priority,
        "ExpiryDate": expiry,
        "ScheduledTime": scheduled,
        "AgentId": agent,
        "AgentID": agent,
        "skill": agent,
    }
    return table.get(column, extra)(cell)


def lead_fields(lead: Lead, columns: Sequence[str]) -> dict[str, object]:
    fields = {
        "PhoneNumber": lead.phone_number,
        "Name": lead.name,
        "Priority": lead.priority,
        "ExpiryDate": lead.expiry,
        "AgentID" if "AgentID" in columns else "AgentId": lead.agent_id,
        "skill": lead.skill,
        "ScheduledTime": lead.scheduled_time,
    }
    return {key: cell for key, cell in fields.items() if cell is not None} | dict(lead.extra)


def reference_row(row: object, columns: Sequence[str], plus: str, room: int) -> list[object] | str:
    """The row as sent, or the column to blame."""
    if isinstance(row, Lead):
        row = lead_fields(row, columns)
    if isinstance(row, Mapping):
        for key in row:
            if key not in columns:
                return str(key)
        row = [row.get(column) for column in columns]
    if not isinstance(row, list | tuple) or len(row) != len(columns):
        return "row"
    sent: list[object] = []
    for column, cell in zip(columns, row, strict=True):
        try:
            sent.append(reference_cell(column, cell, plus))
        except RefusedError:
            return column
    return "row" if sum(len(str(cell)) for cell in sent) + sum(map(len, columns)) > room else sent


# --- hostile rows -----------------------------------------------------------------------------------------------------

hostile_texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=st.sampled_from('09a+- \n\r\t\x00\x7f\x85\xa0é\u0665,"\ud800'), max_size=12),
    st.sampled_from(["", " ", "  ", "\u3000", "x\ny", "\n", "x" * 90, "]],[[", '"],["', "\u2028", "नमस्ते"]),
)
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=3),
    st.lists(st.text(max_size=2), max_size=2),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.just(timezone(timedelta(hours=14))))),
    st.dates(),
    hostile_texts,
)
near_dates = st.one_of(
    st.sampled_from(
        [
            "2026-11-21",
            "2026-11-20",
            "2026-11-21 12:00:00",
            "2026-11-21 12:00:01",
            "2026-12-21 12:00:00",
            "2026-12-21 12:00:01",
            "2027-02-29",
            "2028-02-29",
            "2027-01-01 24:00:00",
            "2027-01-01 23:59:60",
            "2027-01-01T10:00:00",
            "2027-1-1",
            "20270101",
            "2027-W01-1",
            "2027-01-01 10:00",
            "2027-01-01 10:00:00\n",
            "0000-01-01",
            "2027-01-01 10:00:00+05:30",
            "\uff12027-01-01",
        ]
    ),
    st.dates(date(2026, 11, 19), date(2027, 1, 5)).map(str),
    st.datetimes(datetime(2026, 11, 20), datetime(2026, 12, 25)).map(lambda moment: str(moment.replace(microsecond=0))),
    st.datetimes(datetime(2026, 11, 20), datetime(2026, 12, 25), timezones=st.just(UTC)),
)
good_cells: dict[str, st.SearchStrategy[Any]] = {
    "PhoneNumber": st.one_of(
        st.from_regex(r"\+?[0-9]{3,16}", fullmatch=True), st.integers(100, 10**16 - 1), st.just("+" + "9" * 17)
    ),
    "Name": st.text(alphabet=st.sampled_from(NAME_CHARACTERS), max_size=12),
    "Priority": st.one_of(
        st.integers(-1, 100), st.integers(-1, 100).map(str), st.sampled_from(["05", "5.0", "\u0665", "five"])
    ),
    "ExpiryDate": near_dates,
    "ScheduledTime": near_dates,
}


def cells(column: str) -> st.SearchStrategy[Any]:
    good = good_cells.get(column, st.text(max_size=6))
    return st.integers(0, 19).flatmap(lambda luck: junk if luck == 0 else good)


def sequences(columns: Sequence[str]) -> st.SearchStrategy[Any]:
    return st.tuples(*[cells(column) for column in columns]).flatmap(
        lambda row: st.sampled_from(
            [row, list(row), row[:-1], (*row, "x")] if len(str(row)) % 9 == 0 else [row, list(row)]
        )
    )


def mappings(columns: Sequence[str]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"PhoneNumber": cells("PhoneNumber")}, optional={c: cells(c) for c in columns[1:]})


def leads(columns: Sequence[str]) -> st.SearchStrategy[Any]:
    time = cells("ScheduledTime") if "ScheduledTime" in columns else st.none()
    return st.builds(
        Lead,
        cells("PhoneNumber"),
        name=st.none() | cells("Name"),
        priority=st.none() | cells("Priority"),
        expiry=st.none() | cells("ExpiryDate"),
        agent_id=st.none() | cells("AgentId"),
        skill=st.none() | cells("skill"),
        scheduled_time=time,
        extra=st.dictionaries(st.just("City"), cells("City"), max_size=1),
    )


def any_rows(columns: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    kinds = [sequences(columns), mappings(columns), leads(columns)]
    odd = st.one_of(st.none(), st.integers(), st.text(max_size=9), st.just({"PhoneNumber": "9812345678", "Zip": "x"}))
    mixed = st.one_of(*kinds, odd)
    return st.one_of(*[st.lists(kind, max_size=25) for kind in (*kinds, mixed)])


def slices(rows: list[Any], cuts: list[int]) -> Iterator[list[Any]]:
    source = iter(rows)
    for cut in cuts:
        yield list(islice(source, cut))
    yield list(source)


def accounts_for_all(done: Run) -> None:
    read, invalid = done.chunker.tail
    assert sum(batch.read for batch in done.batches) + read == done.chunker.rows_taken
    assert sum(batch.invalid for batch in done.batches) + invalid == len(done.invalid)
    assert [batch.index for batch in done.batches] == list(range(len(done.batches)))
    settled = 0
    for batch in done.batches:
        assert batch.read == batch.rows + batch.invalid == batch.last_row - settled
        assert settled < batch.first_row <= batch.last_row
        assert batch.rows == len(json.loads(batch.payload)["data"])
        settled = batch.last_row


@pytest.mark.parametrize(
    ("layout", "columns", "dialect", "plus"),
    [
        ("bulk", BULK, Dialect(), "+"),
        ("bulk", BULK, Dialect(plus="strip", row_characters=150), ""),
        ("bulk", ("PhoneNumber",), Dialect(), "+"),
        ("schedule", SCHEDULE, Dialect(schedule_plus="percent"), "%2B"),
    ],
)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_same_bytes_and_verdicts_as_the_reference(
    layout: str, columns: tuple[str, ...], dialect: Dialect, plus: str, data: st.DataObject
) -> None:
    rows = data.draw(any_rows(columns))
    limit = data.draw(st.integers(1, 12))
    done = run(rows, columns=columns, layout=layout, dialect=dialect, row_limit=limit)
    verdicts = [reference_row(row, columns, plus, dialect.row_characters) for row in rows]
    good = [verdict for verdict in verdicts if not isinstance(verdict, str)]
    chunks = [good[start : start + limit] for start in range(0, len(good), limit)]
    assert [batch.payload for batch in done.batches] == [
        msgspec.json.encode({"map": columns, "data": chunk}) for chunk in chunks
    ]
    assert done.blamed == [(i, verdict) for i, verdict in enumerate(verdicts, 1) if isinstance(verdict, str)]
    assert all(
        original is rows[verdict.row - 1] for original, verdict in zip(done.originals, done.invalid, strict=True)
    )
    accounts_for_all(done)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.one_of(any_rows(BULK), st.lists(leads(BULK) | mappings(BULK), max_size=25)),
    cuts=st.lists(st.integers(0, 7), max_size=12),
    limit=st.integers(1, 9),
    columns=st.sampled_from([BULK, None]),
)
def test_slicing_does_not_matter(rows: list[Any], cuts: list[int], limit: int, columns: tuple[str, ...] | None) -> None:
    whole, sliced = Run(columns=columns, row_limit=limit), Run(columns=columns, row_limit=limit)
    try:
        whole.feed(rows).flush()
    except ConfigurationError:
        with pytest.raises(ConfigurationError):
            [sliced.feed(part) for part in slices(rows, cuts)]
        return
    for part in slices(rows, cuts):
        sliced.feed(part)
    sliced.flush()
    assert sliced.batches == whole.batches
    assert sliced.invalid == whole.invalid
    assert sliced.chunker.tail == whole.chunker.tail
    accounts_for_all(whole)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(leads(BULK), max_size=20), limit=st.integers(1, 9))
def test_leads_get_the_columns_they_fill(rows: list[Lead], limit: int) -> None:
    done = run(rows, row_limit=limit)
    good = [lead_fields(row, BULK) for row in rows if not isinstance(reference_row(row, BULK, "+", 2_000), str)]
    for start, batch in zip(range(0, len(good), limit), done.batches, strict=True):
        body, part = json.loads(batch.payload), good[start : start + limit]
        filled = {key for fields in part for key, cell in fields.items() if cell not in (None, "")}
        assert body["map"] == [column for column in BULK if column in filled]
        expected = [[reference_cell(c, fields.get(c), "+") for c in body["map"]] for fields in part]
        assert batch.payload == msgspec.json.encode({"map": body["map"], "data": expected})


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("Name",), "'PhoneNumber' is missing among 'Name'"),
        (("Phone Number", "Name"), "'Phone Number' is spelled 'PhoneNumber'"),
        (("mobile", "Name"), "rename 'mobile' to it"),
        (("PhoneNumber", "agentid"), "spelled 'AgentId'"),
        (("PhoneNumber", "City", "City"), "'City' stands there twice"),
        (("PhoneNumber", ""), "missing or empty"),
        (("PhoneNumber", 5), "whole number"),
        (("PhoneNumber", "a\x00"), "control characters"),
        (("PhoneNumber", "ScheduledTime"), "schedule_leads only"),
        (("PhoneNumber", "x" * 2_000), "headers alone have 2011 characters of 2000"),
        ("PhoneNumber", "must be a sequence of names"),
        ((), "no columns"),
    ],
)
def test_columns_that_cannot_be(columns: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Run(columns=columns)


def test_schedule_demands_the_time_and_its_own_agent_spelling() -> None:
    with pytest.raises(ConfigurationError, match="'ScheduledTime' is missing"):
        Run(columns=("PhoneNumber",), layout="schedule")
    with pytest.raises(ConfigurationError, match="'AgentId' is spelled 'AgentID'"):
        Run(columns=("PhoneNumber", "AgentId", "ScheduledTime"), layout="schedule")


@pytest.mark.parametrize("row_limit", [0, -1, True, 2.5])
def test_row_limit_is_a_count(row_limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="row_limit"):
        Run(row_limit=row_limit)


def test_first_usable_mapping_settles_the_columns() -> None:
    rows = [{"phone": "123"}, {"Name": "A", "PhoneNumber": "123"}, {"PhoneNumber": "456"}, {"PhoneNumber": "1", "X": 1}]
    done = run(rows)
    assert done.chunker.columns == ("Name", "PhoneNumber")
    assert done.data == [["A", "123"], ["", "456"]]
    assert done.blamed == [(1, "row"), (4, "X")]
    assert "rename 'phone' to it" in done.invalid[0].reason


class _Classless:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError


class _Pretender:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str


@pytest.mark.parametrize(("stranger", "reason"), [(_Classless, "when it is looked at"), (_Pretender, "got _Pretender")])
def test_a_first_row_that_fails_when_it_is_looked_at_is_lost_alone(stranger: type, reason: str) -> None:
    done = run([stranger(), {"PhoneNumber": "123"}])
    assert done.data == [["123"]]
    assert done.blamed == [(1, "row")]
    assert reason in done.reason()


def test_a_mapping_with_a_column_too_many_is_not_cut_down() -> None:
    done = run([{"PhoneNumber": "123", "Name": "A"}, {"PhoneNumber": "456", "Name": "B", "Zip": "9"}])
    assert done.data == [["123", "A"]]
    assert done.blamed == [(2, "Zip")]


def test_sequences_need_columns() -> None:
    with pytest.raises(ConfigurationError, match="need columns="):
        Run().feed([None, ["9812345678"]])
    done = run([{"PhoneNumber": "123"}, ["456"]])
    assert done.blamed == [(2, "row")]
    assert "columns=" in done.reason()
    assert run([Lead("123"), ["456"]]).blamed == [(2, "row")]


def test_lead_columns_in_order_and_nothing_unused() -> None:
    done = run(
        [
            Lead("123", skill="s", extra={"Zip": "1", "City": None}),
            Lead("456", name="B", agent_id="", extra={"City": "P"}),
            Lead("789", scheduled_time="2026-12-01 10:00:00"),
            Lead("789", extra={"Name": "x"}),
            Lead("789", extra={"skill ": "x"}),
            Lead("789", extra=5),  # type: ignore[arg-type]
            {"PhoneNumber": 321, "Area": "north"},
        ]
    )
    (batch,) = done.batches
    assert json.loads(batch.payload) == {
        "map": ["PhoneNumber", "Name", "skill", "Zip", "City", "Area"],
        "data": [["123", "", "s", "1", "", ""], ["456", "B", "", "", "P", ""], ["321", "", "", "", "", "north"]],
    }
    assert done.blamed == [(3, "ScheduledTime"), (4, "Name"), (5, "skill "), (6, "extra")]
    assert done.chunker.columns == ("PhoneNumber", "Name", "skill", "Zip", "City", "Area")


def test_scheduled_leads() -> None:
    done = run([Lead("+123", agent_id="a", scheduled_time="2026-12-01 10:00:00"), Lead("123")], layout="schedule")
    assert json.loads(done.batches[0].payload) == {
        "map": ["PhoneNumber", "AgentID", "ScheduledTime"],
        "data": [["123", "a", "2026-12-01 10:00:00"]],
    }
    assert done.blamed == [(2, "ScheduledTime")]


def test_extras_that_would_lengthen_other_rows_too_much_start_a_new_batch() -> None:
    wide = Lead("123", extra={"x" * 1_000: "1"})
    long = Lead("456", extra={"City": "y" * 1_500})
    done = run([Lead("1234"), wide, long, Lead("12345")])
    assert [batch.rows for batch in done.batches] == [2, 2]
    for batch in done.batches:
        body = json.loads(batch.payload)
        assert max(len("".join(row)) for row in body["data"]) + len("".join(body["map"])) <= 2_000
    accounts_for_all(done)


@pytest.mark.parametrize(("width", "batches"), [(951, 1), (952, 2)])
def test_extras_share_a_batch_as_long_as_its_longest_row_fits(width: int, batches: int) -> None:
    # 45 characters of the lead's own headers, 1 and width of the extras', 3 and 1,000 of the longest row's cells.
    rows = [Lead("123", extra={"a": "y" * 1_000}), Lead("456", extra={"b" * width: "1"})]
    assert len(run(rows).batches) == batches
    assert len(run(rows[::-1]).batches) == batches


def test_proof_that_no_cell_is_longer() -> None:
    for lengths in chain.from_iterable(product(range(4), repeat=count) for count in range(1, 5)):
        cells = ["x" * length for length in lengths]
        for most in range(5):
            assert _none_longer(cells, most) == (max(lengths) <= most), (lengths, most)
    assert not _none_longer(["x", 5], 9)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [None, 5, "9812345678", b"98", {1, 2}, object()])
def test_what_is_no_row_is_reported(row: object) -> None:
    done = run([row], columns=("PhoneNumber",))
    assert done.blamed == [(1, "row")]
    assert done.reason() == f"expected a Lead, a mapping or a sequence of cells, got {type(row).__name__}"


def test_ragged_rows_of_a_file_are_invalid_whatever_their_length() -> None:
    done = run(
        [UnfitRow(["9812345678", "x"], "2 cells; expected 3, as in the header"), ["9812345678", "y"]],
        columns=("PhoneNumber", "Name"),
    )
    assert done.data == [["9812345678", "y"]]
    assert done.reason() == "2 cells; expected 3, as in the header"


@pytest.mark.parametrize(("filler", "good"), [(2_000 - 11 - 4 - 10, True), (2_000 - 11 - 4 - 10 + 1, False)])
@pytest.mark.parametrize("kind", ["sequence", "mapping", "lead"])
def test_row_length_counts_headers_and_cells(filler: int, good: bool, kind: str) -> None:
    text = "é" * filler
    rows = {"sequence": ["9812345678", text], "mapping": {"PhoneNumber": "9812345678", "City": text}}
    # A lead's row is held against all the columns a lead can fill, as other leads of its batch may fill them.
    lead = Lead("9812345678", extra={"City": text[34:]})
    done = run([rows.get(kind, lead)], columns=None if kind == "lead" else ("PhoneNumber", "City"))
    assert len(done.data) == good
    if not good:
        assert done.reason() == "2001 characters with its headers; expected at most 2000"


def test_rows_are_numbered_on_from_an_earlier_run() -> None:
    done = run([["12"], ["123"], ["456"]], columns=("PhoneNumber",), first_row=501, first_index=7, row_limit=1)
    assert [(b.index, b.first_row, b.last_row, b.read, b.invalid) for b in done.batches] == [
        (7, 502, 502, 2, 1),
        (8, 503, 503, 1, 0),
    ]
    assert done.blamed == [(501, "PhoneNumber")]


def test_rows_before_a_broken_source_are_kept() -> None:
    def source() -> Iterator[list[str]]:
        yield from (["123"], ["12"], ["456"])
        raise ConfigurationError("line 4")

    begun = Run(columns=("PhoneNumber",), row_limit=1)
    with pytest.raises(ConfigurationError, match="line 4"):
        begun.feed(source())
    begun.flush()
    assert begun.data == [["123"], ["456"]]
    accounts_for_all(begun)


def test_tail_counts_invalid_rows_after_the_last_batch() -> None:
    done = run([["123"], ["1"], ["2"]], columns=("PhoneNumber",))
    assert done.chunker.tail == (2, 2)
    assert run([], columns=("PhoneNumber",)).chunker.tail == (0, 0)


def test_reasons_never_hold_the_value() -> None:
    canary = "98123O5550"
    cells = {
        "PhoneNumber": canary,
        "Priority": canary,
        "ExpiryDate": canary,
        "Name": canary + "\x07",
        "skill": canary + "\n",
    }
    for column, cell in cells.items():
        done = run([{"PhoneNumber": "123"} | {column: cell}, {canary * 3: 1}], columns=tuple(cells))
        assert len(done.invalid) == 2
        assert all("98123" not in verdict.reason for verdict in done.invalid)


def test_subclasses_of_text_are_sent_as_text() -> None:
    class Marked(str):
        __slots__ = ()

    done = run([[Marked("123"), Marked("A"), Marked("x")]], columns=("PhoneNumber", "Name", "City"))
    assert done.data == [["123", "A", "x"]]


@settings(max_examples=100, deadline=None)
@given(lead=leads(BULK))
def test_one_lead_and_many_leads_get_the_same_verdict(lead: Lead) -> None:
    fields = {"PhoneNumber": "phone_number", "Name": "name", "Priority": "priority", "ExpiryDate": "expiry"}
    fields |= {"AgentId": "agent_id", "skill": "skill", "City": "City"}
    many = run([lead])
    if many.invalid:
        with pytest.raises(InvalidLeadError) as caught:
            check_lead(lead, dialect=Dialect(), timezone=ZONE, now=NOW)
        assert caught.value.reason == many.reason() or caught.value.field != fields[many.invalid[0].field]
        return
    one = check_lead(lead, dialect=Dialect(), timezone=ZONE, now=NOW)
    sent = dict(zip(many.chunker.columns or (), many.data[0], strict=True))
    assert {fields[column]: cell for column, cell in sent.items() if cell != ""} == {
        key: cell for key, cell in {**one, **one.get("extra", {})}.items() if key != "extra"
    }
