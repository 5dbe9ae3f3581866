"""The cleaners of columns, as settings ask for them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import Cleaning
from ozonetel_async.rows.cleaning.cleaners import PhoneCleaner, cleaners_for, diagnose_phone, one_line
from ozonetel_async.rows.cleaning.result import Cleaned

from .conftest import Table

STRICT = re.compile(r"\+?[0-9]{3,16}")


def outcome(cleaner: PhoneCleaner, cell: str) -> str:
    result = cleaner(cell)
    return result.text if isinstance(result, Cleaned) else "REFUSE"


def test_every_number_of_the_table_has_its_right_answer_with_its_country(table: Table) -> None:
    wrong = []
    for row in table("phones.tsv"):
        cleaning = Cleaning(country=row["country"], form="international")  # type: ignore[arg-type]
        got = outcome(PhoneCleaner(cleaning), row["input"])
        if got not in row["expected_e164_with_country"].split("|"):
            wrong.append((row, got))
    assert wrong == []


def test_every_number_of_the_table_has_its_right_answer_without_a_country(table: Table) -> None:
    phone = PhoneCleaner(Cleaning())
    rows = table("phones.tsv")
    assert [row for row in rows if outcome(phone, row["input"]) not in row["expected"].split("|")] == []


@given(st.from_regex(STRICT, fullmatch=True))
def test_what_passes_the_strict_check_stays_without_a_country(cell: str) -> None:
    phone = PhoneCleaner(Cleaning())
    assert phone(cell) == Cleaned(cell, "")
    assert re.fullmatch(phone.fits, cell)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["given", "international", "digits", "national"]),
    st.lists(st.sampled_from(["+91", "91", "0", "(0)", "98123", "45678", " ", "-", ".0", "'", "00"]), max_size=9),
)
def test_cleaning_twice_changes_nothing_more(form: str, parts: list[str]) -> None:
    phone = PhoneCleaner(Cleaning(country="IN", form=form))  # type: ignore[arg-type]
    once = phone("".join(parts))
    if isinstance(once, Cleaned):
        assert phone(once.text) == Cleaned(once.text, "")
        assert STRICT.fullmatch(once.text)


def test_seven_spellings_of_a_number_are_one_text_with_a_country() -> None:
    cells = ["98123 45678", "9812345678", "098123-45678", "+91 98123 45678", "919812345678", "0091-9812345678",
             "9812345678.0"]  # fmt: skip
    phone = PhoneCleaner(Cleaning(country="IN", form="digits"))
    assert {outcome(phone, cell) for cell in cells} == {"919812345678"}


def test_the_kind_is_the_countrys_where_the_form_changes_and_the_spellings_otherwise() -> None:
    phone = PhoneCleaner(Cleaning(country="IN", form="national"))
    assert phone("+91 98123 45678") == Cleaned("9812345678", "country")
    assert phone("98123 45678") == Cleaned("9812345678", "separators")


def test_settings_that_change_nothing_have_no_cleaner() -> None:
    assert cleaners_for(Cleaning(phones="refuse", names="refuse")) == (None, None, None)
    cleaners = cleaners_for(Cleaning(text="one_line", names="drop"))
    assert cleaners.phone is not None
    assert cleaners.name is not None
    assert cleaners.name("?") == Cleaned("", "left out")
    assert cleaners.extra is one_line


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("Pune\r\nMH", "Pune MH"),
        ("a \t b\n\n c", "a b c"),
        ("Pune\n", "Pune"),
        ("\tPune", "Pune"),
        ("\n", ""),
    ],
)
def test_line_breaks_and_tabs_become_one_blank(cell: str, text: str) -> None:
    assert one_line(cell) == Cleaned(text, "line breaks")


def test_other_blanks_and_control_characters_are_left_to_the_strict_check() -> None:
    for cell in (" a  b ", "a\x00b", "a\xa0b"):
        assert one_line(cell) == Cleaned(cell, "")


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("9.8123E+09", "the spreadsheet has lost digits; format the column as text"),
        ("9812300013/9812300014", "two numbers"),
        ("9812345678 ext 5", "an extension"),
        ("98XXXXX678", "letters or a mask"),
        ("-9812299915", "the result of arithmetic"),
        ("", "missing"),
        ("98123 45678", "blanks"),
        ("'9812345678", "spreadsheet"),
        ("Mob: 9812345678", "label"),
        ("9812345678.0", "spreadsheet"),
        ("\u200e9812345678", "invisible"),
        ("\u0967\u0968\u0969\u096a\u096b\u096c\u096d\u096e", "another script"),
    ],
)
def test_a_refused_number_is_explained_without_cleaning_too(cell: str, word: str) -> None:
    assert word in diagnose_phone(cell)


def test_every_repair_of_the_table_can_be_explained(table: Table) -> None:
    for row in table("phones.tsv"):
        if not STRICT.fullmatch(row["input"]):
            assert diagnose_phone(row["input"])
