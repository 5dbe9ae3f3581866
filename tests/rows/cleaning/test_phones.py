"""Spellings of phone numbers: what is taken away, and what stays refused with which reason."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ozonetel_async.rows.cleaning.characters import DIGIT_RUNS, fold
from ozonetel_async.rows.cleaning.phones import (
    ARITHMETIC,
    EXTENSION,
    LETTERS,
    LOST_DIGITS,
    MISSING,
    OTHER_DIGITS,
    TWO_NUMBERS,
    spell,
)
from ozonetel_async.rows.cleaning.result import Cleaned, Refused

from .conftest import Table

STRICT = re.compile(r"\+?[0-9]{3,16}")


def outcome(cell: str) -> str:
    result = spell(cell)
    return result.text if isinstance(result, Cleaned) else "REFUSE"


def test_every_spelling_of_the_table_has_its_right_answer(table: Table) -> None:
    rows = [row for row in table("phones.tsv") if not STRICT.fullmatch(row["input"])]
    assert len(rows) > 150
    wrong = [(row, outcome(row["input"])) for row in rows if outcome(row["input"]) not in row["expected"].split("|")]
    assert wrong == []


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("+(91) 98123-45678", "+919812345678"),
        ("(+91)-98123-45678", "+919812345678"),
        ("98-12-34-56-78", "9812345678"),
        ("98.12.34.56.78", "9812345678"),
        ("98123.45678", "9812345678"),
        ("98123--45678", "9812345678"),
        ("98123 45678\n", "9812345678"),
        ("\t9812345678", "9812345678"),
        ("9812345678.", "9812345678"),
        ("(022)(23456789)", "02223456789"),
        ("Mob :- 98123 45678", "9812345678"),
        ("Mob.No. 9812345678", "9812345678"),
        ("Mo. 98123 45678", "9812345678"),
        ("Ph:-022 2345 6789", "02223456789"),
        ("Contact No: 98123 45678", "9812345678"),
        ("Cell phone: (202) 555-0143", "2025550143"),
        ("Mobile9812345678", "9812345678"),
        ("p:+919812345678", "+919812345678"),
        ("9,812,345,678.00", "9812345678"),
        ("+919,812,345,678", "+919812345678"),
        ("9.19812300002e11", "919812300002"),
        ("91.9812300002E+10", "919812300002"),
        ("9,19812300002E+11", "919812300002"),
        ('\'="9812300005"', "9812300005"),
        ('"=""9812300005"""', "9812300005"),
        ("44 (0) 20 7946 0958", "442079460958"),
        ("0044 (0)20 79460958", "00442079460958"),
        ("+44-(0)-20-7946-0958", "+442079460958"),
        ("(0) 98123 45678", "09812345678"),
        ("(\uff10\uff12\uff12)\uff12\uff13\uff14\uff15\uff0d\uff16\uff17\uff18\uff19", "02223456789"),
        ("\ufeff+91\xa098123\u200945678\u200f", "+919812345678"),
    ],
)
def test_what_needs_no_guess_is_repaired(cell: str, number: str) -> None:
    assert outcome(cell) == number


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("9.8123E+09", LOST_DIGITS),
        ("9.8E-5", LOST_DIGITS),
        ("0.9812345678", LOST_DIGITS),
        ("12345.67", LOST_DIGITS),
        (".9812345678", LOST_DIGITS),
        ("9812345678,00", LOST_DIGITS),
        ("=-9812345678", ARITHMETIC),
        ("9812345678-", ARITHMETIC),
        ("9812300013-14", TWO_NUMBERS),
        ("9812300013-9812300014", TWO_NUMBERS),
        ("9812300013 & 9812300014", TWO_NUMBERS),
        ("022\n23456789", TWO_NUMBERS),
        ("00+919812345678", TWO_NUMBERS),
        ("9812345678x12", EXTENSION),
        ("9812345678 #12", EXTENSION),
        ("9812345678,,12", EXTENSION),
        ("9812345678 (12)", EXTENSION),
        ("9812345678 (ext 12)", EXTENSION),
        ("98xxxxxx78", LETTERS),
        ("98123___78", LETTERS),
        ("98123....678", LETTERS),
        ("98\u2022\u2022\u2022\u20225678", LETTERS),
        ("9812345678 Asha", LETTERS),
        ("9812345678\u00b2", OTHER_DIGITS),
        ("-", MISSING),
        ("[null]", MISSING),
    ],
)
def test_what_may_mean_two_things_is_refused_with_its_reason(cell: str, problem: Refused) -> None:
    assert spell(cell) == problem


@pytest.mark.parametrize(
    "cell",
    ["1. 9812345678", "1) 9812345678", "Phone 1 98123 45678", "Mob2: +919812345678", "Mob1 98123 45678"],
)
def test_the_number_of_an_entry_is_never_dialled(cell: str) -> None:
    result = spell(cell)
    assert isinstance(result, Refused)
    assert "list" in result.reason


@pytest.mark.parametrize(
    "cell",
    [
        "((98123) 45678)", "(98123 45678", "98123) 45678", "98123 (0) 45678", "[98123] 45678", "9812345678,",
        "10,00,000", "1,000,000", "4111 1111 1111 1111", "3782 822463 10005", "192.168.100.200", "25/11/26",
        "25-Nov-2026", "2026/11/25", "000-000-0000", "9812345678\x00", "98123E05678", "+" * 50 + "9812345678",
        "9" * 121, "98123 45678 98123 45679", "=HYPERLINK(\"tel:9812345678\")",
    ],
)  # fmt: skip
def test_what_is_no_phone_number_is_refused(cell: str) -> None:
    assert outcome(cell) == "REFUSE"


def test_the_kind_of_change_is_told() -> None:
    kinds = {
        "98123 45678": "separators",
        "98123\u200b45678": "invisible characters",
        "'9812345678": "spreadsheet mark",
        "%2B919812345678": "spreadsheet mark",
        "9812345678.0": "spreadsheet number",
        "9.19812300002E+11": "spreadsheet number",
        "Mob: 9812345678": "label",
        "\u0967\u0968\u0969\u096a\u096b\u096c\u096d\u096e": "digits of another script",
    }
    results = {cell: spell(cell) for cell in kinds}
    assert {cell: result.kind for cell, result in results.items() if isinstance(result, Cleaned)} == kinds


def test_digits_of_other_scripts_have_the_values_that_unicode_gives_them() -> None:
    for zero in DIGIT_RUNS:
        for value in range(10):
            assert unicodedata.decimal(chr(zero + value)) == value
            assert fold(chr(zero + value)) == str(value)


pieces = st.sampled_from(
    [
        *"0123456789+-. ()_/,;:#x*?'\"=`Ee\t\n\xa0\u200e\u2013\u2212\u0968\u09e7\u0be7\uff11\uff0b\xb2\u2462\u4e5d",
        *("981", "23456", "9812345678", "98123 45678", "+91", "91", "0091", "(0)", "(022)", ".0", ".00", "E+11", "e9"),
        *("tel:", "Mob: ", "Ph.", " ext 5", " or ", " / ", "%2B", '="', "9.19812300002", "1,234", ",567", "::: "),
    ]
)
likely = st.lists(pieces, min_size=1, max_size=12).map("".join)
# Texts that are mostly numbers, so that more than a few are accepted.
grouped = st.builds(
    lambda lead, groups, between, tail: lead + between.join(groups) + tail,
    st.sampled_from(
        ["", "", "+", "++", "(+91) ", "+44 (0)", "00", "'", '="', "%2B", "Mob: ", "tel:", "Ph 1 ", "\u200e"]
    ),
    st.lists(st.text(alphabet="0123456789", min_size=1, max_size=6) | pieces, min_size=2, max_size=4),
    st.sampled_from(["", " ", "-", ".", "\xa0", ") ", " (", " - ", ",", "\u2013"]),
    st.sampled_from(["", "", "", " ", ".0", ".00", '"', "E+11", "e9", " x1", "\n"]),
)
random_texts = (
    grouped | grouped | likely | st.text(max_size=20) | st.text(alphabet="0123456789 -+.()E,", min_size=7, max_size=22)
)


def digits_of(cell: str) -> str:
    return "".join(
        [str(unicodedata.decimal(character)) for character in cell if unicodedata.decimal(character, None) is not None]
    )


def says_the_same(cell: str, number: str) -> bool:
    """Whether a number holds the digits of its cell, but for ``.0``, an exponent written out and ``(0)``."""
    marks = " \t\n\r\v\f'\"`="
    text = re.sub("[\xad\u200b-\u200f\ufeff]", "", unicodedata.normalize("NFKC", cell)).strip(marks)
    text = "".join([str(unicodedata.decimal(character, character)) for character in text])
    if text[:3].lower() == "%2b":
        text = text[3:]
    digits, got = digits_of(text), number.removeprefix("+")
    if got == digits:
        return True
    if re.search(r"\.00?$", text) and got == digits[: digits.rindex("0")].removesuffix(
        "0" if text.endswith(".00") else ""
    ):
        return True
    written = re.search(r"[0-9]+(?:[.,][0-9]+)? ?e ?\+? ?[0-9]+$", text, re.IGNORECASE)
    if written is not None:
        return Decimal(written[0].replace(",", ".").replace(" ", "")) == int(got)
    return got == digits_of(re.sub(r"\( ?0 ?\)", "", text, count=1))


def check_digits(cell: str) -> None:
    """The property, also run by hand over several 100,000 texts."""
    result = spell(cell)
    if isinstance(result, Cleaned):
        assert STRICT.fullmatch(result.text)
        assert 7 <= len(result.text.removeprefix("+")) <= 15
        assert says_the_same(cell, result.text), (cell, result.text)


@settings(max_examples=2_000, deadline=None)
@given(random_texts)
@example("9812345678.00")
@example("9.19812300000E+11")
@example("+44 (0)20 7946 0958")
def test_an_accepted_number_holds_the_digits_of_its_cell_in_their_order(cell: str) -> None:
    check_digits(cell)


@settings(max_examples=500, deadline=None)
@given(random_texts)
def test_a_reason_holds_no_run_of_digits_of_the_cell(cell: str) -> None:
    result = spell(cell)
    if isinstance(result, Refused):
        assert not any(len(run) > 3 for run in re.findall("[0-9]+", result.reason))
