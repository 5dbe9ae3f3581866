"""Files of rejects, which are mended and sent again."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ozonetel_async.config import Dialect
from ozonetel_async.errors import ConfigurationError
from ozonetel_async.models import Lead
from ozonetel_async.rows.batches import Batch, Chunker
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.rows.intake import prepared
from ozonetel_async.rows.rejects import Rejects, RejectsFile

TOLD = ["rejected_row", "rejected_line", "rejected_column", "rejected_reason"]


def rejected(
    rejects: Rejects | Path, leads: Any, columns: Sequence[str] | None = None, *, refused: Sequence[int] = ()
) -> list[list[str]]:
    """The file of an upload whose batches of these numbers were refused; batches have two rows."""
    leads = prepared(leads, columns)
    names = columns if columns is not None else getattr(leads, "columns", None)
    file: RejectsFile | None = None
    chunker = Chunker(
        columns=names,
        row_limit=2,
        dialect=Dialect(),
        timezone=ZoneInfo("Asia/Kolkata"),
        now=datetime(2026, 1, 1),
        on_invalid=lambda bad, row: file.add(bad, row) if file is not None else None,
    )
    file = RejectsFile(rejects, leads, chunker.columns)
    batches: list[Batch] = [*chunker.feed(leads), *chunker.flush()]
    for index in refused:
        file.add_batch(batches[index], "refused by the service")
    file.close(chunker.rows_taken, None)
    path = rejects.path if isinstance(rejects, Rejects) else rejects
    with open(path, encoding="utf-8-sig", newline="") as written:
        return list(csv.reader(written))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "rejects.csv"


def made(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "leads.csv"
    path.write_bytes(content.encode())
    return path


def test_the_inputs_own_columns_come_first_then_all_that_is_wrong(tmp_path: Path, out: Path) -> None:
    content = 'Id,Mobile,name,Remarks\n7,9812300001,"A\nB",x\n\n,,,\n8,98/12,As;ha,"y,z"\n9,9812300002,Om,\n'
    header, first, second = rejected(out, read_csv(made(tmp_path, content), {"Remarks": None}))
    assert header == ["Id", "Mobile", "name", "Remarks", *TOLD]
    assert first[:7] == ["7", "9812300001", "A\nB", "x", "1", "2", "Name"]
    assert second[:7] == ["8", "98/12", "As;ha", "y,z", "2", "6", "PhoneNumber, Name"]
    assert "PhoneNumber: " in second[7]
    assert "; Name: " in second[7]


def test_mended_rejects_are_read_as_they_are(tmp_path: Path, out: Path) -> None:
    source = read_csv(made(tmp_path, "Mobile,Remarks,Name\nx,a,As;ha\n9812300001,b,Om\n"), {"Remarks": None})
    rejected(out, source)
    out.write_text(out.read_text().replace("x,a,As;ha", "9812300002,a,Asha"))
    again = read_csv(out, {"Remarks": None})
    assert (again.columns, list(again)) == (("PhoneNumber", "Name"), [["9812300002", "Asha"]])
    third = tmp_path / "third.csv"
    out.write_text(out.read_text().replace("9812300002", "x"))
    header, row = rejected(third, read_csv(out, {"Remarks": None, "Mobile": "PhoneNumber"}))
    assert header == ["Mobile", "Remarks", "Name", *TOLD]
    assert row[:5] == ["x", "a", "Asha", "1", "2"]


def test_cells_are_made_safe_for_spreadsheets_and_read_as_they_were(tmp_path: Path, out: Path) -> None:
    cells = ["=1+1", "+9812300001", "-5", "@x", "'=1", "'plain", "plain"]
    text = "PhoneNumber,Name,Notes\n" + "".join(f'x,"a;b","{cell}"\n' for cell in cells)
    table = rejected(Rejects(out, escape=True, bom=True), read_csv(made(tmp_path, text)))
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    assert [row[2] for row in table[1:]] == ["'=1+1", "'+9812300001", "'-5", "'@x", "''=1", "'plain", "plain"]
    assert [row[2] for row in read_csv(out)] == cells
    out.unlink()
    rejected(out, read_csv(made(tmp_path, text)))
    assert [row[2] for row in read_csv(out)] == cells


def test_refused_rows_of_a_file_come_with_all_their_columns(tmp_path: Path, out: Path) -> None:
    lines = ["9812300001,a", "x,b", "9812300003,c", "9812300004,d", "9812300005,e"]
    source = read_csv(made(tmp_path, "\n".join(["PhoneNumber,Notes", *lines])), {"Notes": None})
    _, *rows = rejected(Rejects(out, refused=True), source, refused=[1, 0])
    assert [row[:4] for row in rows] == [
        ["x", "b", "2", "3"],
        ["9812300001", "a", "1", "2"],
        ["9812300003", "c", "3", "4"],
        ["9812300004", "d", "4", "5"],
        ["9812300005", "e", "5", "6"],
    ]
    assert {row[5] for row in rows[1:]} == {"refused by the service"}
    assert len(rejected(out, source, refused=[0, 1])) == 2, "only on request"


def test_refused_rows_of_other_inputs_come_as_they_were_to_be_sent(out: Path) -> None:
    leads = iter([{"PhoneNumber": phone, "Name": "A"} for phone in ("9812300001", "x", "9812300003")])
    header, *rows = rejected(Rejects(out, refused=True), leads, refused=[0])
    assert header == ["PhoneNumber", "Name", *TOLD]
    assert [row[:4] for row in rows] == [
        ["x", "A", "2", ""],
        ["9812300001", "A", "1", ""],
        ["9812300003", "A", "3", ""],
    ]


def test_what_follows_the_place_where_an_upload_stopped_is_written_too(tmp_path: Path, out: Path) -> None:
    source = read_csv(made(tmp_path, "PhoneNumber\n9812300001\n9812300002\n9812300003\n"))
    file = RejectsFile(Rejects(out, refused=True), source, None)
    file.close(1, "asked to stop")
    assert out.read_text().splitlines()[1:] == [
        "9812300002,2,3,,not sent: asked to stop",
        "9812300003,3,4,,not sent: asked to stop",
    ]


def test_leads_bring_columns_as_they_come(out: Path) -> None:
    leads = [
        Lead("x", name="A"),
        Lead("9812300001"),
        Lead("y", extra={"City": "Pune"}),
        Lead("z", priority=5, extra={"Age": 7}),
    ]
    header, *rows = rejected(out, leads)
    assert header == ["PhoneNumber", "Name", "City", "Priority", "Age", *TOLD]
    assert [row[:6] for row in rows] == [
        ["x", "A", "", "", "", "1"],
        ["y", "", "Pune", "", "", "3"],
        ["z", "", "", "5", "7", "4"],
    ]


def test_rows_with_too_many_cells_keep_them(tmp_path: Path, out: Path) -> None:
    header, *rows = rejected(out, read_csv(made(tmp_path, "PhoneNumber,Name\nx,A\n9812300001,B,C,D\n")))
    assert header == ["PhoneNumber", "Name", "", "", *TOLD]
    assert [row[:5] for row in rows] == [["x", "A", "", "", "1"], ["9812300001", "B", "C", "D", "2"]]


def test_the_file_is_the_owners_alone_and_follows_no_link(tmp_path: Path, out: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("precious")
    out.symlink_to(other)
    rejected(out, [{"PhoneNumber": "x"}])
    assert other.read_text() == "precious"
    assert (out.is_symlink(), out.stat().st_mode & 0o777) == (False, 0o600)
    assert sorted(os.listdir(tmp_path)) == ["other.txt", "rejects.csv"]


def test_nothing_rejected_is_a_header_alone(tmp_path: Path, out: Path) -> None:
    source = read_csv(made(tmp_path, "Mobile,City\n9812300001,Pune\n"))
    assert rejected(out, source) == [["Mobile", "City", *TOLD]]
    with pytest.raises(ConfigurationError, match="this is the input itself"):
        RejectsFile(source.path, source, None)
