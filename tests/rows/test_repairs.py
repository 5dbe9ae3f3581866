"""Rows whose cells are cleaned on their way into batches: what comes out, what is counted, and what stays out."""

from __future__ import annotations

import csv
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ozonetel_async import Cleaning, Dialect, InvalidRow, Lead, read_csv
from ozonetel_async.models import CellCounts
from ozonetel_async.rows.batches import Chunker
from ozonetel_async.rows.changes import ChangesFile
from ozonetel_async.rows.checks import BadCell, DateLimits
from ozonetel_async.rows.columns import check_for
from ozonetel_async.rows.layout import Change
from ozonetel_async.rows.reasons import count_reason, reason_word
from ozonetel_async.rows.single_lead import check_lead

ZONE = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 11, 21, 12)
COLUMNS = ("PhoneNumber", "Name", "City")


class Run:
    """One run of a chunker, and everything that it told."""

    def __init__(self, rows: list[Any], clean: Cleaning | None = None, **options: Any) -> None:
        self.invalid: list[InvalidRow] = []
        self.changes: list[tuple[int, Change]] = []
        self.numbers: list[str] = []
        self.chunker = Chunker(
            dialect=Dialect(**options.pop("dialect", {})),
            timezone=ZONE,
            now=NOW,
            clean=clean,
            on_invalid=lambda invalid, row: self.invalid.append(invalid),
            on_change=lambda row, change: self.changes.append((row, change)),
            on_numbers=self.numbers.extend,
            **options,
        )
        batches = [*self.chunker.feed(rows), *self.chunker.flush()]
        self.data = [row for batch in batches for row in msgspec.json.decode(batch.payload)["data"]]


def test_dirty_cells_are_repaired_and_counted_by_column_and_kind() -> None:
    rows = [["+919812345678", "Asha", "Pune"], ["98123 45679", "O'Brien", "a\nb"], ["98123-45670", "Zoë", ""]]
    run = Run(rows, Cleaning(text="one_line"), columns=COLUMNS)
    assert run.data == [["+919812345678", "Asha", "Pune"], ["9812345679", "OBrien", "a b"], ["9812345670", "Zoe", ""]]
    assert run.chunker.cleaned == {
        "PhoneNumber": {"separators": 2},
        "Name": {"punctuation": 1, "accents": 1},
        "City": {"line breaks": 1},
    }
    assert run.changes[0] == (2, Change("PhoneNumber", "separators", "98123 45679", "9812345679"))
    assert run.numbers == ["+919812345678", "9812345679", "9812345670"]


def test_without_cleaning_nothing_is_changed_and_the_repairable_rows_are_counted() -> None:
    rows = [["98123 45678", "Asha", ""], ["9812345678", "O'Brien", ""], ["98123/4", "Asha", ""], ["9812", "A", "\0"]]
    run = Run(rows, columns=COLUMNS)
    assert (run.data, run.chunker.cleaned) == ([], {})
    assert [(bad.row, bad.field) for bad in run.invalid] == [
        (1, "PhoneNumber"),
        (2, "Name"),
        (3, "PhoneNumber"),
        (4, "City"),
    ]
    assert run.chunker.rows_repairable == 2


@pytest.mark.parametrize("plus", ["keep", "strip"])
def test_a_repaired_number_keeps_to_the_plus_policy(plus: str) -> None:
    run = Run([["+91 98123 45678"], ["+919812345679"]], Cleaning(), columns=["PhoneNumber"], dialect={"plus": plus})
    sign = "+" if plus == "keep" else ""
    assert run.data == [[f"{sign}919812345678"], [f"{sign}919812345679"]]


def test_a_country_looks_at_good_cells_too() -> None:
    rows = [["9812345678"], ["+919812345678"], ["0981234567"], ["919812345678"], ["+442071234567"]]
    run = Run(rows, Cleaning(country="IN", form="digits"), columns=["PhoneNumber"])
    mixed = Run([*rows, [919812345678]], Cleaning(country="IN", form="digits"), columns=["PhoneNumber"])
    assert mixed.data == [*run.data, ["919812345678"]]
    assert run.data == [["919812345678"], ["919812345678"], ["919812345678"], ["+442071234567"]]
    assert [bad.row for bad in run.invalid] == [3]
    assert "no phone number of India" in run.invalid[0].reason
    assert run.chunker.cleaned == {"PhoneNumber": {"country": 2}}


def test_cells_that_are_no_text_are_read_as_a_spreadsheet_shows_them() -> None:
    cells = [919812345678, 919812345679.0, Decimal("919812345670"), float("nan"), True, 9.8e20]
    run = Run([{"PhoneNumber": cell} for cell in cells], Cleaning())
    assert run.data == [["919812345678"], ["919812345679"], ["919812345670"]]
    assert run.chunker.cleaned == {"PhoneNumber": {"spreadsheet number": 1}}
    assert [bad.reason for bad in run.invalid] == [
        "missing or empty",
        "a truth value; expected text",
        "the spreadsheet has lost digits; format the column as text",
    ]


def test_what_was_repaired_in_a_row_that_stays_out_is_not_counted() -> None:
    rows = [["98123 45678", "&" * 700, ""], ["98123 45679", "Asha", "\0"]]
    run = Run(rows, Cleaning(), columns=COLUMNS)
    assert [(bad.row, bad.field) for bad in run.invalid] == [(1, "row"), (2, "City")]
    assert (run.chunker.cleaned, run.changes) == ({}, [])


def test_leads_and_their_extras_are_repaired() -> None:
    rows = [Lead("98123 45678", name="Zoë", extra={"City": "a\tb", "Age": 5}), Lead("9812345679")]
    run = Run(rows, Cleaning(text="one_line"))
    assert run.data == [["9812345678", "Zoe", "a b", 5], ["9812345679", "", "", ""]]
    assert run.chunker.cleaned == {
        "PhoneNumber": {"separators": 1},
        "Name": {"accents": 1},
        "City": {"line breaks": 1},
    }


def test_the_same_rows_give_the_same_bytes_however_they_are_sliced() -> None:
    rows = [[f"98123 {i:05}", "O'Brien" if i % 3 else "Asha", ""] for i in range(700)]

    def payloads(size: int) -> list[bytes]:
        chunker = Chunker(columns=COLUMNS, dialect=Dialect(), timezone=ZONE, now=NOW, clean=Cleaning())
        batches = [batch for at in range(0, 700, size) for batch in chunker.feed(rows[at : at + size])]
        return [batch.payload for batch in (*batches, *chunker.flush())]

    assert payloads(1) == payloads(100) == payloads(700)


def test_dirty_rows_are_asked_for_in_smaller_slices() -> None:
    clean = Run([["9812345678"]] * 100, columns=["PhoneNumber"]).chunker.stride
    dirty = Run([["98123 45678"]] * 100, Cleaning(), columns=["PhoneNumber"]).chunker.stride
    assert dirty < clean
    assert Run([["x"]] * 100, columns=["PhoneNumber"]).chunker.stride == dirty


def test_a_slice_fills_the_batch_and_no_more() -> None:
    chunker = Chunker(columns=["PhoneNumber"], dialect=Dialect(), timezone=ZONE, now=NOW)
    taken, batches = 0, 0
    while not batches:
        taken += (size := chunker.stride)
        batches = len(chunker.feed([["9812345678"]] * size))
    assert (taken, batches) == (500, 1)


likely = st.sampled_from(
    ["+919812345678", "98123 45678", "98/12", "O'Brien", "आशा", "a\nb", "", "José", "9812345678.0"]
)
texts = st.text(max_size=8) | st.text(alphabet=st.sampled_from("09+-. '&\n\x00aé\ud800"), max_size=20)
odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.datetimes())


@pytest.mark.parametrize("column", ["PhoneNumber", "Name", "City"])
@pytest.mark.parametrize("clean", [Cleaning(text="one_line"), Cleaning(country="IN", form="international")])
@settings(max_examples=100, deadline=None)
@given(cells=st.lists(likely | texts, min_size=1) | st.lists(likely | texts | odd, min_size=1))
def test_a_column_gets_the_repairs_of_its_cells(column: str, clean: Cleaning, cells: list[object]) -> None:
    check = check_for(column, "bulk", Dialect(), DateLimits(ZONE, NOW), clean)
    strict = check_for(column, "bulk", Dialect(), DateLimits(ZONE, NOW))
    sent, bad, repaired = check.column(cells)
    for i, cell in enumerate(cells):
        if i in bad:
            with pytest.raises(BadCell) as caught:
                check.repaired(cell)
            assert caught.value.reason == bad[i]
        else:
            assert (sent[i], repaired.get(i, "")) == check.repaired(cell)
            assert strict.one(sent[i]) == sent[i]  # what is sent passes the strict check


@example(cell=Decimal(100))
@settings(max_examples=300, deadline=None)
@given(cell=st.from_regex(r"\+?[0-9]{3,16}", fullmatch=True) | texts | odd)
def test_what_passes_the_strict_check_is_never_refused_or_changed_by_spelling(cell: object) -> None:
    for column in ("PhoneNumber", "Name"):
        strict = check_for(column, "bulk", Dialect(), DateLimits(ZONE, NOW))
        try:
            expected = strict.one(cell)
        except BadCell:
            continue
        assert check_for(column, "bulk", Dialect(), DateLimits(ZONE, NOW), Cleaning()).repaired(cell) == (expected, "")


# -- one lead -------------------------------------------------------------------------------------------------------


def test_a_single_lead_is_repaired_and_its_repairs_are_counted() -> None:
    cleaned: CellCounts = {}
    lead = Lead("098123 45678", name="李雷", extra={"City": "a\nb"})
    clean = Cleaning(country="IN", form="digits", text="one_line")
    found = check_lead(lead, dialect=Dialect(), timezone=ZONE, now=NOW, clean=clean, cleaned=cleaned)
    assert found == {"phone_number": "919812345678", "extra": {"City": "a b"}}
    assert cleaned == {"PhoneNumber": {"country": 1}, "Name": {"left out": 1}, "City": {"line breaks": 1}}


def test_a_name_that_is_not_to_be_validated_is_not_cleaned() -> None:
    lead = Lead("98123 45678", name="Zoë")
    found = check_lead(lead, dialect=Dialect(), timezone=ZONE, now=NOW, clean=Cleaning(), skip_name_validation=True)
    assert found == {"phone_number": "9812345678", "name": "Zoë"}


# -- reasons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("two numbers in one cell; keep one", "two numbers in one cell"),
        ("too few digits: expected 7 to 15 digits, got 4", "too few digits"),
        ("12 characters with a letter at position 3; expected text", "a letter in it"),
        ("3 characters with a '/' at position 2; expected text", "a '/' in it"),
        ("3 characters; expected a whole number from 0 to 99", "expected a whole number from 0 to 99"),
        ("1 character, all blank; expected text", "all blank"),
        ("1,200 characters, not a date of the right form; expected …", "not a date of the right form"),
        ("a whole number of 3 digits; expected a whole number from 0 to 99", "expected a whole number from 0 to 99"),
        (
            "a whole number of 19 digits, more than JSON keeps; expected …",
            "a whole number, more than JSON keeps",
        ),
        ("12 characters", "12 characters"),
        ("3 cells; expected 4, as in the header", "more or fewer cells than columns"),
        ("2031 characters with its headers; expected at most 2000", "too many characters"),
        ("missing or empty; expected …", "missing or empty"),
    ],
)
def test_a_reason_is_counted_without_what_is_of_the_cell(reason: str, word: str) -> None:
    assert reason_word(reason) == word


def test_the_table_of_reasons_is_bounded() -> None:
    counts: CellCounts = {}
    for i in range(300):
        count_reason(counts, f"column {i}", "missing or empty")
        count_reason(counts, "Name", f"odd thing {chr(0x4E00 + i)}")
    assert sum(sum(words.values()) for words in counts.values()) == 600
    assert sum(map(len, counts.values())) < 200


# -- the file of changes --------------------------------------------------------------------------------------------


def test_a_change_has_its_row_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text('\nPhoneNumber,Name\n98123 45678,"a\nb"\n\n9812345679,Asha\n98123 45670,Asha\n', encoding="utf-8")
    rows = read_csv(path)
    file = ChangesFile(tmp_path / "changes.csv", rows)
    run = Run(list(rows), Cleaning(), columns=rows.columns)
    for row, change in run.changes:
        file.add(row, change)
        file.advance(row)
    file.close()
    with (tmp_path / "changes.csv").open(newline="", encoding="utf-8") as written:
        assert [*csv.reader(written)] == [
            ["row", "line", "column", "kind", "before", "after"],
            ["1", "3", "PhoneNumber", "separators", "98123 45678", "9812345678"],
            ["1", "3", "Name", "punctuation", "a\nb", "a b"],
            ["3", "7", "PhoneNumber", "separators", "98123 45670", "9812345670"],
        ]
