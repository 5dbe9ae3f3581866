"""Phone numbers that look wrong as a whole."""

from __future__ import annotations

from ozonetel_async.rows.cleaning.suspicions import JUDGED_ROWS, PhoneSuspicions


def warnings_for(numbers: list[str]) -> list[str]:
    suspicions = PhoneSuspicions()
    suspicions.add(numbers)
    return suspicions.warnings()


def people(count: int) -> list[str]:
    """Different numbers without order."""
    return [f"+91{9_000_000_000 + (7_919_317 * i + 104_729) % 999_999_937}" for i in range(count)]


def test_ordinary_numbers_raise_no_suspicion() -> None:
    assert warnings_for([]) == []
    assert warnings_for(["9812300000"]) == []
    assert warnings_for(people(3)) == []
    assert warnings_for(people(10_000)) == []


def test_consecutive_numbers_are_no_ids() -> None:
    assert warnings_for([f"98123000{i:02}" for i in range(50)]) == []


def test_numbers_that_end_in_five_zeros_look_rounded() -> None:
    (text,) = warnings_for([*people(100), "919812000000", "919876500000"])
    assert "2 different numbers among the first 102 end in five zeros" in text
    assert "format the column as text" in text


def test_one_round_number_among_many_is_no_suspicion() -> None:
    assert warnings_for([*people(100), "919812000000"]) == []


def test_short_rising_numbers_look_like_an_id_column() -> None:
    (text,) = warnings_for([str(i) for i in range(99_800, 100_300)])
    assert "record numbers" in text
    assert warnings_for(["45988", "12021", "33310", "20017", "10001"]) == []


def test_one_number_many_times_looks_like_a_placeholder_in_any_of_its_forms() -> None:
    (text,) = warnings_for([*people(50), "9999999999", "+919999999999", "09999999999"])
    assert "one phone number occurs 3 times among the first 53 (first as number 51 of them)" in text
    assert "9999" not in text


def test_two_leads_with_one_number_are_no_suspicion() -> None:
    assert warnings_for([*people(500), *people(1), *people(1)]) == []


def test_only_the_first_rows_are_judged() -> None:
    suspicions = PhoneSuspicions()
    suspicions.add(people(JUDGED_ROWS - 1))
    took_more = not suspicions.full
    suspicions.add(["9812345678"] * 20_000)
    assert (took_more, suspicions.full) == (True, True)
    assert suspicions.rows == JUDGED_ROWS
    assert suspicions.warnings() == []
