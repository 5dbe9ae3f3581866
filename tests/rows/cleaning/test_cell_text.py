"""Cells that are no text, and the text that each stands for."""

from __future__ import annotations

import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.rows.cleaning.cell_text import cell_text, is_missing
from ozonetel_async.rows.cleaning.phones import LOST_DIGITS, spell
from ozonetel_async.rows.cleaning.result import Cleaned, Refused


class Dtype:
    def __init__(self, kind: str) -> None:
        self.kind = kind


class Scalar:
    """A numpy scalar, as far as it is asked: numpy itself is no part of the tests."""

    shape = ()

    def __init__(self, kind: str, value: int, text: str = "") -> None:
        self.dtype = Dtype(kind)
        self._value = value
        self._text = text

    def __index__(self) -> int:
        return self._value

    def __str__(self) -> str:
        return self._text


Scalar.__module__ = "numpy"


class NAType:
    """pandas' NA: neither true nor false, and equal to nothing in particular."""

    def __bool__(self) -> Never:
        raise TypeError("boolean value of NA is ambiguous")

    def __eq__(self, other: object) -> Never:
        raise TypeError("no truth")

    __hash__ = None  # type: ignore[assignment]


class NaTType(NAType):
    pass


class Hostile(NAType):
    """Any other library's object that minds being compared."""


class Text(StrEnum):
    A = "9812345678"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("98123 45678", "98123 45678"),
        (Text.A, "9812345678"),
        (9812345678, "9812345678"),
        (-9812299915, "-9812299915"),
        (919812345678.0, "919812345678"),
        (999999999999999.0, "999999999999999"),
        (9812345678.5, "9812345678.5"),
        (Decimal("919812345678"), "919812345678"),
        (Decimal("919812345678.00"), "919812345678"),
        (Decimal("9812345678.5"), "9812345678.5"),
        (Scalar("i", 9812345678), "9812345678"),
        (Scalar("u", 9812345678), "9812345678"),
    ],
)
def test_numbers_and_texts_become_the_text_that_a_spreadsheet_shows(cell: object, text: str) -> None:
    found = cell_text(cell)
    assert found == text
    assert type(found) is str


@pytest.mark.parametrize(
    "cell",
    [None, "", float("nan"), Decimal("NaN"), Decimal("sNaN"), NAType(), NaTType(), Scalar("M", 0, "NaT"),
     Scalar("m", 0, "NaT"), Scalar("f", 0, "nan")],
)  # fmt: skip
def test_missing_cells_are_empty(cell: object) -> None:
    assert is_missing(cell)
    assert cell_text(cell) == ""


@pytest.mark.parametrize("cell", [1e15, 9812345678901234.0, 1e300, Scalar("f", 0, "9812346000.0"), Decimal("9.8E+10")])
def test_numbers_that_have_lost_digits_are_refused(cell: object) -> None:
    assert cell_text(cell) == LOST_DIGITS


@pytest.mark.parametrize(
    "cell",
    [True, False, float("inf"), Decimal("-Infinity"), b"98", [], Fraction(1, 2), datetime.date(2026, 1, 1),
     pytest.param(10**5000, id="huge"), Scalar("b", 1, "True"), Scalar("M", 1, "2026-11-25"), Hostile()],
)  # fmt: skip
def test_what_is_neither_text_nor_a_number_is_refused(cell: object) -> None:
    assert not is_missing(cell)
    assert isinstance(cell_text(cell), Refused)


@given(st.integers(1_000_000, 10**15 - 1))
def test_a_float_column_gives_the_numbers_of_the_integers_it_was_made_of(number: int) -> None:
    assert cell_text(float(number)) == str(number)


def test_a_float_that_is_no_whole_number_is_told_as_lost_digits() -> None:
    text = cell_text(9812345678.5)
    assert isinstance(text, str)
    assert not isinstance(spell(text), Cleaned)
