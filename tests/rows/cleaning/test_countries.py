"""Numbering plans: which numbers are one of a country, and the forms in which they are written."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.config import Country, PhoneForm
from ozonetel_async.rows.cleaning.countries import PLANS, CountryRule
from ozonetel_async.rows.cleaning.result import Cleaned, Refused


def outcome(country: str, form: PhoneForm, number: str) -> str:
    result = CountryRule(PLANS[country], form)(number)
    return result.text if isinstance(result, Cleaned) else "REFUSE"


def test_each_country_that_the_settings_take_has_a_plan() -> None:
    assert tuple(PLANS) == get_args(Country)


@pytest.mark.parametrize(
    ("number", "given_form", "international", "digits", "national"),
    [
        ("9812345678", "9812345678", "+919812345678", "919812345678", "9812345678"),
        ("09812345678", "09812345678", "+919812345678", "919812345678", "9812345678"),
        ("919812345678", "919812345678", "+919812345678", "919812345678", "9812345678"),
        ("+919812345678", "+919812345678", "+919812345678", "919812345678", "9812345678"),
        ("00919812345678", "00919812345678", "+919812345678", "919812345678", "9812345678"),
        ("+9109812345678", "+919812345678", "+919812345678", "919812345678", "9812345678"),
        ("9123456789", "9123456789", "+919123456789", "919123456789", "9123456789"),
        ("+6561234567", "+6561234567", "+6561234567", "+6561234567", "+6561234567"),
        ("00442079460958", "00442079460958", "+442079460958", "+442079460958", "+442079460958"),
    ],
)
def test_a_number_is_written_in_each_form(
    number: str, given_form: str, international: str, digits: str, national: str
) -> None:
    forms: tuple[PhoneForm, ...] = get_args(PhoneForm)
    expected = dict(zip(forms, (given_form, international, digits, national), strict=True))
    assert {form: outcome("IN", form, number) for form in forms} == expected


@pytest.mark.parametrize(
    ("country", "number"),
    [
        ("IN", "123"),
        ("IN", "45988"),
        ("IN", "234567890123"),
        ("IN", "4111111111111111"),
        ("IN", "23456789"),
        ("IN", "009812345678"),
        ("IN", "0919812345678"),
        ("IN", "+91981234567"),
        ("IN", "+009812345678"),
        ("IN", "+123456"),
        ("IN", "011442079460958"),
        ("US", "5551234567"),
        ("US", "9112345678"),
        ("US", "2029110143"),
        ("US", "5550143"),
        ("US", "00442079460958"),
        ("US", "0112025550143"),
        ("GB", "4079460958"),
        ("GB", "020794609580"),
        ("AE", "050123456"),
        ("AE", "00501234567"),
        ("AE", "9715012345678"),
    ],
)
def test_what_is_no_number_there_is_refused(country: str, number: str) -> None:
    assert outcome(country, "international", number) == "REFUSE"


@pytest.mark.parametrize(
    ("country", "number", "expected"),
    [
        ("US", "12025550143", "+12025550143"),
        ("US", "011919812345678", "+919812345678"),
        ("US", "01112025550143", "+12025550143"),
        ("GB", "7700900123", "+447700900123"),
        ("GB", "4402079460958", "+442079460958"),
        ("AE", "0501234567", "+971501234567"),
        ("AE", "971501234567", "+971501234567"),
        ("AE", "042345678", "+97142345678"),
        ("AE", "42345678", "+97142345678"),
    ],
)
def test_other_plans_have_other_codes_prefixes_and_lengths(country: str, number: str, expected: str) -> None:
    assert outcome(country, "international", number) == expected


def test_the_reason_names_the_country_and_its_lengths_and_no_number() -> None:
    result = CountryRule(PLANS["IN"], "given")("234567890123")
    assert isinstance(result, Refused)
    assert "India" in result.reason
    assert "expected 10 digits" in result.reason
    assert "got 12 digits" in result.reason


numbers = st.from_regex(r"\+?(?:|0|00|91|091|0091|1|011|44|971)[0-9]{6,12}", fullmatch=True) | st.from_regex(
    r"\+?[0-9]{3,16}", fullmatch=True
)


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(sorted(PLANS)), st.sampled_from(get_args(PhoneForm)), numbers)
def test_what_came_out_comes_out_as_it_is(country: str, form: PhoneForm, number: str) -> None:
    rule = CountryRule(PLANS[country], form)
    once = rule(number)
    if isinstance(once, Cleaned):
        assert rule(once.text) == Cleaned(once.text, "")
        assert (once.kind == "") == (once.text == number)


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(sorted(PLANS)), st.sampled_from(get_args(PhoneForm)), st.lists(numbers, min_size=1, max_size=4))
def test_the_pattern_of_a_whole_column_knows_only_texts_that_stay(
    country: str, form: PhoneForm, cells: list[str]
) -> None:
    rule = CountryRule(PLANS[country], form)
    fit = [cell for cell in cells if re.fullmatch(rule.fits, cell)]
    assert all(rule(cell) == Cleaned(cell, "") for cell in fit)
    whole = re.fullmatch(rf"{rule.fits}(?:\n{rule.fits})*+", "\n".join(cells))
    assert (whole is not None) == (len(fit) == len(cells))


def test_the_pattern_of_a_whole_column_knows_the_commonest_texts() -> None:
    for form, number in {"given": "9123456789", "international": "+919812345678", "national": "9123456789"}.items():
        assert re.fullmatch(CountryRule(PLANS["IN"], form).fits, number)  # type: ignore[arg-type]
