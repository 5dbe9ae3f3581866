"""Files, spreadsheets and frames, uploaded to the simulator and mended where rows were rejected."""

from __future__ import annotations

import asyncio
import csv
import io
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import OzonetelClient, RateLimit, Rejects, read_csv
from ozonetel_async.rows.files import reopen
from ozonetel_async.testing import Simulator

from ..conftest import Connect, fast_limits

PACED = RateLimit(4, 0.2)


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"limits": {"bulk": 0}}


@pytest.fixture
def client(connect: Connect) -> OzonetelClient:
    return connect(limits=fast_limits(bulk=PACED))


def numbers(sim: Simulator) -> list[str]:
    return sorted(lead.phone for lead in sim.campaigns["Diwali"].leads)


async def test_rejects_mended_in_a_spreadsheet_are_all_accepted(
    sim: Simulator, client: OzonetelClient, tmp_path: Path
) -> None:
    leads, out = tmp_path / "leads.csv", tmp_path / "rejects.csv"
    lines = ["Id,Mobile,name,Notes", *(f"{i},98123{i:05},Asha,n{i}" for i in range(600))]
    lines[3], lines[400] = '3,98/12,As;ha,"=1+1"', "400,x,Om,-"
    leads.write_text("\n".join(lines))
    rejects = Rejects(out, bom=True, escape=True)
    options = {"Id": None, "Notes": None}
    report = await client.upload("Diwali", read_csv(leads, options), rejects=rejects)
    assert (report.rows_accepted, report.rows_invalid) == (598, 2)
    with out.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))
    table[1][1:3], table[2][1] = ["9812300002", "Asha"], "9812300399"
    with out.open("w", encoding="cp1252", newline="") as file:  # as Excel saves it
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(table)
    again = read_csv(out, options, encoding="cp1252")
    report = await client.upload("Diwali", again, rejects=tmp_path / "none.csv")
    assert (report.rows_accepted, report.rows_invalid) == (2, 0)
    await sim.settle()
    assert numbers(sim) == sorted(f"98123{i:05}" for i in range(600))


async def test_what_was_not_sent_can_be_sent_later(sim: Simulator, client: OzonetelClient, tmp_path: Path) -> None:
    leads, out = tmp_path / "leads.csv", tmp_path / "rest.csv"
    leads.write_text("PhoneNumber\n" + "".join(f"98123{i:05}\n" for i in range(5_000)))
    stop = asyncio.Event()
    upload = asyncio.create_task(
        client.upload(
            "Diwali",
            read_csv(leads),
            rejects=Rejects(out, refused=True),
            stop=stop,
            on_progress=lambda report: stop.set() if report.rows_accepted else None,
        )
    )
    report = await upload
    assert report.stopped_by == "asked to stop"
    rest = list(read_csv(out))
    assert 0 < len(rest) == 5_000 - report.rows_accepted
    await client.upload("Diwali", read_csv(out))
    await sim.settle()
    assert numbers(sim) == [f"98123{i:05}" for i in range(5_000)]


async def test_standard_input_is_kept_beside_its_journal(
    client: OzonetelClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Mobile\n9812300001\n")))
    rows = read_csv("-")
    await client.upload("Diwali", rows, journal=tmp_path / "x.journal")
    assert rows.source["path"] == str(tmp_path / "x.journal.input.csv")
    assert list(reopen(rows.source)) == [["9812300001"]]


async def test_a_cursor_is_not_read_ahead(sim: Simulator, client: OzonetelClient) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE leads (phone_number)")
        database.executemany("INSERT INTO leads VALUES (?)", [(f"98123{i:05}",) for i in range(700)])
        report = await client.upload("Diwali", database.execute("SELECT phone_number FROM leads"))
    assert report.rows_accepted == 700
    await sim.settle()
    assert len(numbers(sim)) == 700
