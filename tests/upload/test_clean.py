"""Uploads and single requests with cleaning, against the simulator."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import (
    Cleaning,
    ConfigurationError,
    InvalidLeadError,
    JournalError,
    Lead,
    OzonetelClient,
    RateLimit,
    read_csv,
)
from ozonetel_async.testing import Simulator

from ..conftest import Connect, fast_limits

pytestmark = pytest.mark.usefixtures("no_tasks_left")

UNLIMITED = RateLimit(10_000, 0.01)
SPELLINGS = ("98123 {:05}", "+91-98123-{:05}", "'98123{:05}", "Mob: 98123{:05}", "98123{:05}.0")
NAMES = ("Asha", "O'Brien", "आशा शर्मा", "M/s Rao & Sons", "José")


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"limits": {"bulk": 0, "add": 0, "schedule": 0}}


@pytest.fixture
def client(connect: Connect) -> OzonetelClient:
    return connect(limits=fast_limits(bulk=UNLIMITED, add=UNLIMITED, schedule=UNLIMITED))


def rows(count: int) -> list[dict[str, str]]:
    return [{"PhoneNumber": SPELLINGS[i % 5].format(i), "Name": NAMES[i % 5]} for i in range(count)]


def write(path: Path, given: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("PhoneNumber", "Name"))
        writer.writeheader()
        writer.writerows(given)
    return path


async def test_an_upload_repairs_counts_and_lists(sim: Simulator, client: OzonetelClient, tmp_path: Path) -> None:
    file = read_csv(write(tmp_path / "leads.csv", [*rows(1_000), {"PhoneNumber": "98123/98124", "Name": "Asha"}]))
    changes = tmp_path / "changes.csv"
    report = await client.upload("Diwali", file, clean=Cleaning(), changes=changes)
    await sim.settle()
    assert (report.rows_accepted, report.rows_invalid, report.rows_repairable) == (1_000, 1, 0)
    assert report.invalid_reasons == {"PhoneNumber": {"two numbers in one cell": 1}}
    assert report.cleaned == {
        "PhoneNumber": {
            "separators": 400,
            "spreadsheet mark": 200,
            "label": 200,
            "spreadsheet number": 200,
        },
        "Name": {"punctuation": 400, "transliterated": 200, "accents": 200},
    }
    sent = sim.campaigns["Diwali"].numbers
    assert sum(sent.values()) == 1_000
    assert {number.lstrip("+")[-10:] for number in sent} == {f"98123{i:05}" for i in range(1_000)}
    with changes.open(newline="", encoding="utf-8") as written:
        listed = [*csv.DictReader(written)]
    assert len(listed) == 1_800
    assert listed[-1] == {
        "row": "1000",
        "line": "1001",
        "column": "Name",
        "kind": "accents",
        "before": "José",
        "after": "Jose",
    }


async def test_without_cleaning_the_report_tells_what_it_would_save(client: OzonetelClient) -> None:
    report = await client.upload("Diwali", rows(100))
    assert (report.rows_accepted, report.rows_invalid, report.rows_repairable, report.cleaned) == (0, 100, 100, {})
    assert sum(report.invalid_reasons["PhoneNumber"].values()) == 100
    assert "100 of them repairable by clean=" in str(report)


async def test_the_clients_setting_is_the_default_and_a_call_may_turn_it_off(connect: Connect) -> None:
    client = connect(clean=Cleaning(), limits=fast_limits(bulk=UNLIMITED, add=UNLIMITED))
    assert (await client.upload("Diwali", rows(5))).rows_accepted == 5
    assert (await client.upload("Diwali", rows(5), clean=False)).rows_accepted == 0
    receipt = await client.add_lead("Diwali", Lead("98123 45678", name="Zoë"))
    assert receipt.cleaned == {"PhoneNumber": {"separators": 1}, "Name": {"accents": 1}}
    with pytest.raises(InvalidLeadError, match="blanks, dashes"):
        await client.add_lead("Diwali", Lead("98123 45678"), clean=False)
    batch = await client.add_batch("Diwali", rows(5))
    assert batch.cleaned["Name"] == {"punctuation": 2, "transliterated": 1, "accents": 1}
    with pytest.raises(InvalidLeadError):
        await client.add_batch("Diwali", rows(5), clean=False)
    with pytest.raises(ConfigurationError, match="clean: expected"):
        await client.upload("Diwali", rows(5), clean="yes")  # type: ignore[arg-type]


async def test_scheduled_leads_are_cleaned(sim: Simulator, client: OzonetelClient) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    leads = [Lead("98123 45678", name="Zoë", scheduled_time=soon), Lead("98123/98124", scheduled_time=soon)]
    report = await client.schedule_leads("Diwali", leads, clean=True)
    assert report.cleaned == {"PhoneNumber": {"separators": 1}, "Name": {"accents": 1}}
    assert (report.count("accepted"), report.count("invalid"), sim.rows_applied("schedule")) == (1, 1, 1)


async def test_a_journal_keeps_to_its_cleaning(client: OzonetelClient, tmp_path: Path) -> None:
    path, given = tmp_path / "j", rows(600)
    await client.upload("Diwali", given, clean=Cleaning(), journal=path)
    for other in (None, Cleaning(names="drop"), Cleaning(country="IN")):
        with pytest.raises(JournalError, match="cleaning it began with"):
            await client.upload("Diwali", given, clean=other, journal=path)
    again = await client.upload("Diwali", given, clean=Cleaning(), journal=path)
    assert (again.rows_accepted, again.requests) == (600, 0)


async def test_an_interrupted_upload_goes_on_without_losing_or_doubling(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield from rows(1_700)
        raise RuntimeError("the program died")

    path = tmp_path / "j"
    with pytest.raises(RuntimeError):
        await client.upload("Diwali", broken(), clean=Cleaning(), journal=path)
    report = await client.upload("Diwali", rows(3_000), clean=Cleaning(), journal=path)
    await sim.settle()
    numbers = sim.campaigns["Diwali"].numbers
    assert report.rows_accepted == 3_000
    assert (len(numbers), set(numbers.values())) == (3_000, {1})


async def test_numbers_that_look_wrong_are_told_before_anything_is_sent(
    sim: Simulator, client: OzonetelClient, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [{"PhoneNumber": str(45_000 + i)} for i in range(600)]
    arrived: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING, "ozonetel_async"):
        report = await client.upload(
            "Diwali", ids, on_progress=lambda live: arrived.append((len(live.warnings), sim.arrivals("bulk")))
        )
    assert arrived[0] == (1, 0)
    assert "record numbers" in report.warnings[0]
    assert [record.message for record in caplog.records if "record numbers" in record.message] == [
        f"upload: {report.warnings[0]}"
    ]
    streamed = await client.upload("Diwali", (row for row in ids))
    assert streamed.warnings == report.warnings


async def test_a_file_of_changes_must_be_another_file(client: OzonetelClient, tmp_path: Path) -> None:
    path = write(tmp_path / "leads.csv", rows(3))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="changes: this is the input itself"):
        await client.upload("Diwali", read_csv(path), changes=path)
    with pytest.raises(ConfigurationError, match="changes: expected another file"):
        await client.upload("Diwali", rows(3), changes=tmp_path / "x", rejects=tmp_path / "x")
    with pytest.raises(ConfigurationError, match="rejects: cannot write"):
        await client.upload("Diwali", rows(3), changes=tmp_path / "x", rejects=tmp_path)
    assert path.read_bytes() == before
