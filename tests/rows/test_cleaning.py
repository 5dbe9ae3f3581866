"""The settings of cleaning."""

from __future__ import annotations

from typing import Any

import pytest

from ozonetel_async.errors import ConfigurationError
from ozonetel_async.rows.cleaning import Cleaning


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        ({}, "phones=spelling/1;names=latin/1"),
        ({"country": "IN"}, "phones=spelling/1;country=IN/1;names=latin/1"),
        (
            {"country": "GB", "form": "digits", "names": "drop", "text": "one_line"},
            "phones=spelling/1;country=GB/1;form=digits/1;names=drop/1;text=one_line/1",
        ),
        ({"phones": "refuse", "names": "refuse"}, ""),
    ],
)
def test_the_policy_names_what_is_changed_with_its_version(changes: dict[str, Any], policy: str) -> None:
    assert Cleaning(**changes).policy == policy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phones": "spell"}, "Cleaning.phones: expected one of 'refuse', 'spelling', got 'spell'"),
        ({"phones": None}, "Cleaning.phones: expected one of 'refuse', 'spelling', got NoneType"),
        ({"country": "in"}, "Cleaning.country: expected one of None, 'IN', 'US', 'GB', 'AE', got 'in'"),
        ({"country": 91}, "got int"),
        ({"names": ["latin"]}, "got list"),
        ({"text": True}, "got bool"),
        ({"form": "digits"}, "Cleaning.form: expected a country beside form='digits'"),
        ({"phones": "refuse", "country": "IN"}, "Cleaning.country: expected phones='spelling' beside it"),
    ],
)
def test_a_wrong_setting_says_what_is_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cleaning(**changes)
    assert message in str(caught.value)


def test_settings_are_frozen_and_equal_by_value() -> None:
    cleaning = Cleaning(country="IN")
    with pytest.raises(AttributeError):
        cleaning.country = None  # type: ignore[misc]
    assert len({cleaning, Cleaning(country="IN")}) == 1
