"""Names: punctuation, accents and other scripts, and when a lead goes without its name or stays invalid."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.rows.cleaning.latin_letters import LATIN_LETTERS
from ozonetel_async.rows.cleaning.names import clean_name
from ozonetel_async.rows.cleaning.result import Cleaned, Refused

from .conftest import Table

STRICT = re.compile(r"[A-Za-z0-9_ ().+$%:\-]*")


def outcome(cell: str) -> str:
    if STRICT.fullmatch(cell):
        return cell
    result = clean_name(cell, "latin")
    return (result.text or "DROP") if isinstance(result, Cleaned) else "REFUSE"


def test_every_name_of_the_table_has_a_right_answer(table: Table) -> None:
    rows = table("names.tsv")
    assert len(rows) > 50
    wrong = [(row, outcome(row["input"])) for row in rows if outcome(row["input"]) not in row["expected"].split("|")]
    assert wrong == []


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("D`Souza", "DSouza"),
        ("\u201cRaju\u201d", "Raju"),
        ("A/C Holder", "A-C Holder"),
        ("R&D", "R and D"),
        ("Gupta &amp; Sons", "Gupta and Sons"),
        ("O&#39;Brien", "OBrien"),
        ("Asha\u2026", "Asha..."),
        ("Asha \u2022 Ravi", "Asha Ravi"),
        ("Asha, , Ravi", "Asha Ravi"),
        ("\uff21\uff53\uff48\uff41\uff0c\uff32", "Asha R"),
        ("Asha \U0001f44d\U0001f3fd", "Asha"),
        ("1\ufe0f\u20e3Asha", "1Asha"),
        ("Stra\xdfe", "Strasse"),
        ("\xde\xf3r", "Thor"),
        ("\u0110\u1eb7ng V\u0103n", "Dang Van"),
        ("\xc4rzte", "Arzte"),
        ("Wei\xdf\u2019s", "Weisss"),
        ("M\xdcLLER\u2019S", "MULLERS"),
    ],
)
def test_punctuation_is_replaced_and_accents_are_taken_off(cell: str, name: str) -> None:
    assert outcome(cell) == name


@pytest.mark.parametrize(
    "cell",
    ["???", "--,--", '"', "#REF!", "n/a", "#N/A ", "Jos\xc3\xa9", "\xe0\xa4\u2020\xe0\xa4\xb6", "Jos\ufffd",
     "\u0391\u03bd\u03bd\u03b1", "\u0d9c\u0dd4\u0dab", "Asha \u5c71\u7530", "\u1019", "\ue001"],
)  # fmt: skip
def test_a_name_that_no_table_can_write_is_left_out(cell: str) -> None:
    assert outcome(cell) == "DROP"


@pytest.mark.parametrize("cell", ["A\x00", "A\x1fB", "A\x7f", "\x01,"])
@pytest.mark.parametrize("policy", ["punctuation", "latin", "drop"])
def test_a_control_character_keeps_the_row_invalid(cell: str, policy: str) -> None:
    result = clean_name(cell, policy)  # type: ignore[arg-type]
    assert isinstance(result, Refused)
    assert "control character" in result.reason


@pytest.mark.parametrize("cell", ["O\x92Brien", "Asha\x85", "A\ud800"])
def test_a_wrong_encoding_keeps_the_row_invalid_and_is_named(cell: str) -> None:
    result = clean_name(cell, "latin")
    assert isinstance(result, Refused)
    assert "cp1252" in result.reason


def test_punctuation_alone_leaves_letters_to_the_strict_check() -> None:
    assert clean_name("O'Brien \U0001f600", "punctuation") == Cleaned("OBrien", "punctuation")
    for cell in ("Jos\xe9", "\u0906\u0936\u093e", "Jos\xc3\xa9"):
        assert isinstance(clean_name(cell, "punctuation"), Refused)


def test_drop_leaves_out_whatever_does_not_fit() -> None:
    assert clean_name("O'Brien", "drop") == Cleaned("", "left out")


def test_the_kind_of_change_is_told() -> None:
    kinds = {
        "O'B": "punctuation",
        "Jos\xe9": "accents",
        "\u0906\u0936\u093e, Jos\xe9": "transliterated",
        "?": "left out",
    }
    results = {cell: clean_name(cell, "latin") for cell in kinds}
    assert {cell: result.kind for cell, result in results.items() if isinstance(result, Cleaned)} == kinds


def test_ten_ampersands_make_a_name_longer_and_it_is_not_cut() -> None:
    assert outcome("A" + "&B" * 10) == "A" + " and B" * 10


@settings(max_examples=1_000, deadline=None)
@given(
    st.text(max_size=20) | st.text(alphabet="Aa \xe9\u0142'&,/@\u0915\u093e\u094d\u0bae\u200d\U0001f600", max_size=20)
)
def test_what_comes_out_passes_the_strict_check_and_holds_something(cell: str) -> None:
    result = clean_name(cell, "latin")
    if isinstance(result, Cleaned):
        assert STRICT.fullmatch(result.text)
        assert result.text == "" or re.search("[A-Za-z0-9]", result.text)
        assert result.text == result.text.strip()


def test_every_letter_of_the_range_of_latin_accents_is_in_the_table() -> None:
    """Where Unicode takes a letter apart, the fixed table says the same."""
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00), *range(0x1D400, 0x1D6A4)):
        parts = unicodedata.normalize("NFKD", chr(code))
        base = "".join([part for part in parts if not unicodedata.combining(part)]).replace("\u02bc", "")
        if base != chr(code) and base.isascii() and base.isalpha():
            assert LATIN_LETTERS[code] == base, hex(code)


def test_the_table_knows_the_letters_that_unicode_does_not_take_apart() -> None:
    letters = {"\u0142": "l", "\xf8": "o", "\xdf": "ss", "\xfe": "th", "\u0131": "i", "\u0111": "d", "\xe6": "ae"}
    assert {letter: LATIN_LETTERS[ord(letter)] for letter in letters} == letters


def test_cleaning_does_not_ask_unicodedata() -> None:
    module = sys.modules[clean_name.__module__]
    assert not any(value is unicodedata for value in vars(module).values())
