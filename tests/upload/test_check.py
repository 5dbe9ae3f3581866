"""What an upload would do, told without sending anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ozonetel_async import Cleaning, Lead, Limits, RateLimit, check_leads, read_csv

ROWS = [
    ["98123 45678", "Asha"],
    ["98123 45678", "Asha"],
    ["9812345679", "O'Brien"],
    ["98123/98124", "Asha"],
    ["9812345670", "Asha"],
    ["+9812345670", "Asha"],
]


def write(path: Path, lines: list[list[str]]) -> Path:
    text = "\n".join(["PhoneNumber,Name", "", *(",".join(line) for line in lines)])
    path.write_text(text + "\n", encoding="utf-8")
    return path


async def test_rows_are_told_by_reason_with_an_example_each(tmp_path: Path) -> None:
    report = await check_leads(read_csv(write(tmp_path / "leads.csv", ROWS)))
    assert (report.rows, report.rows_valid, report.rows_invalid, report.rows_repairable) == (6, 2, 4, 3)
    assert [(told.column, told.reason, told.rows) for told in report.invalid] == [
        ("PhoneNumber", "blanks, dashes, dots or brackets in the number", 2),
        ("Name", 'a "\'" in it', 1),
        ("PhoneNumber", "two numbers in one cell", 1),
    ]
    first = report.invalid[0]
    assert (first.first_row, first.first_line, first.cell) == (1, 3, "xxxxx xxxxx")
    assert report.columns == ("PhoneNumber", "Name")
    assert (report.duplicates, report.numbers_compared) == (1, 2)
    assert (report.requests, report.seconds, report.cleaned) == (1, 0, {})
    text = str(report)
    assert "6 rows: 2 valid, 4 invalid (3 of them repairable by clean=Cleaning())" in text
    assert "first in row 1, line 3: xxxxx xxxxx" in text
    assert "98123" not in text


async def test_one_of_each_is_in_the_singular() -> None:
    report = await check_leads([["9812345678"]], columns=("PhoneNumber",))
    assert str(report).splitlines() == [
        "1 row: 1 valid, 0 invalid",
        "to send: 1 request, columns PhoneNumber",
        "duplicates: 0 among 1 phone number",
    ]


async def test_without_a_valid_row_there_is_nothing_to_send() -> None:
    assert "to send: nothing\n" in str(await check_leads([["12"]], columns=("PhoneNumber",)))


async def test_cleaning_is_tried_and_told() -> None:
    report = await check_leads(ROWS, columns=("PhoneNumber", "Name"), clean=Cleaning())
    assert (report.rows_valid, report.rows_repairable, report.duplicates) == (5, 0, 2)
    assert report.cleaned == {"PhoneNumber": {"separators": 2}, "Name": {"punctuation": 1}}
    assert report.invalid[0].first_line is None
    assert "cleaned: 2 x PhoneNumber: separators" in str(report)


async def test_requests_and_the_time_they_take() -> None:
    leads = [Lead(f"98{i:08}") for i in range(5_501)]
    report = await check_leads(leads)
    assert (report.requests, report.seconds) == (12, 120)
    report = await check_leads(leads, limits=Limits(bulk=RateLimit(2, 10.0)))
    assert report.seconds == 50
    assert report.columns == ("PhoneNumber",)


async def test_schedules_have_their_own_columns_and_requests() -> None:
    leads = [Lead(f"98{i:08}", scheduled_time="2099-01-01 10:00:00") for i in range(250)]
    report = await check_leads(leads, schedule=True)
    assert {told.column for told in report.invalid} == {"ScheduledTime"}
    assert "too far ahead" in report.invalid[0].reason
    bulk = await check_leads([{"PhoneNumber": "9812345678", "ScheduledTime": "x"}])
    assert (bulk.rows_valid, bulk.invalid[0].column) == (0, "row")


async def test_an_input_that_breaks_off_is_told_as_far_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text('PhoneNumber\n9812345678\n"98123\n', encoding="utf-8")
    report = await check_leads(read_csv(path))
    assert report.rows == 1
    assert "broken quotes" in str(report.stopped_by)


async def test_what_the_input_raises_is_passed_on() -> None:
    async def broken() -> AsyncIterator[Lead]:
        yield Lead("9812345678")
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        await check_leads(broken())


async def test_warnings_are_told() -> None:
    report = await check_leads([{"PhoneNumber": str(45_000 + i)} for i in range(20)])
    assert "record numbers" in report.warnings[0]
    assert "warning: " in str(report)
