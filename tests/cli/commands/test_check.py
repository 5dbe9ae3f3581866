"""``ozonetel check``, and what ``upload`` and ``schedule`` share with it: files of every kind, cleaning, rejects."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from ..conftest import Output, leads_file, result, shown

openpyxl = pytest.importorskip("openpyxl", reason="writes the workbooks; pip install openpyxl")

CASES = Path(__file__).parent.parent.parent / "rows" / "files"
DIRTY = ["+91-9812300001,Asha", "9812300002/9812300003,Ravi", "9812300001,O'Brien", "98X,Om", "9812300001,Uma"]


def check(capsys: Output, *arguments: str, code: Exit = Exit.OK) -> dict[str, object]:
    assert main(["check", *arguments, "--json"]) == code
    return result(capsys)


def dirty(path: Path) -> str:
    path.write_text("\n".join(["PhoneNumber,Name", *DIRTY]) + "\n", encoding="utf-8")
    return path.name


def workbook(path: Path, **sheets: Sequence[Sequence[object]]) -> str:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path.name


def sent(simulator: Simulator, kind: str = "bulk", field: str = "bulkData") -> list[list[object]]:
    rows: list[list[object]] = []
    for request in simulator.requests(kind):
        rows += json.loads(str(request.params[field]))["data"]
    return rows


def test_the_check_needs_no_account_and_tells_every_reason_with_an_example(tmp_path: Path, capsys: Output) -> None:
    assert main(["check", dirty(tmp_path / "leads.csv"), "-c", "Diwali"]) == Exit.NOT_ALL
    out, err = shown(capsys)
    assert err == ""
    told = dict(line.strip().split("  ", 1) for line in out.splitlines() if line.startswith("  "))
    assert {label: value.strip() for label, value in told.items()} == {
        "columns": "PhoneNumber, Name",
        "left out": "none",
        "rows": "5",
        "to be sent": "1",
        "invalid": "4 (would not be sent); 2 of them would be sent with --clean",
        "duplicates": "0 rows with the number of an earlier row",
        "requests": "1",
    }
    reasons = [line for line in out.splitlines() if line.startswith("invalid: ")]
    assert len(reasons) == 4
    assert any(
        "1 x PhoneNumber: two numbers in one cell; keep one; first in row 2 (line 3): xxxx" in r for r in reasons
    )


def test_the_check_says_what_cleaning_would_change(tmp_path: Path, capsys: Output) -> None:
    file = dirty(tmp_path / "leads.csv")
    told = check(capsys, file, "--country", "IN", "--form", "digits", code=Exit.NOT_ALL)
    assert (told["rows"], told["rows_valid"], told["rows_repairable"]) == (5, 3, 0)
    assert told["duplicates"] == 2
    assert told["cleaned"] == {"PhoneNumber": {"country": 3}, "Name": {"punctuation": 1}}


def test_what_is_checked_is_what_is_sent(tmp_path: Path, simulator: Simulator, capsys: Output) -> None:
    file = dirty(tmp_path / "leads.csv")
    options = ("--country", "IN", "--form", "digits", "--names", "latin")
    told = check(capsys, file, *options, "--changes", "a.csv", "--rejects", "b.csv", code=Exit.NOT_ALL)
    command = ["upload", file, "-c", "Diwali", "-q", "--json", *options, "--changes", "c.csv", "--rejects", "d.csv"]
    assert main(command) == Exit.NOT_ALL
    report = result(capsys)
    assert (report["rows_accepted"], report["cleaned"]) == (told["rows_valid"], told["cleaned"])
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "c.csv").read_text()
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "d.csv").read_text()
    assert sent(simulator) == [["919812300001", "Asha"], ["919812300001", "OBrien"], ["919812300001", "Uma"]]


def test_the_reasons_tell_what_is_wrong_without_a_look_at_the_cells(tmp_path: Path, capsys: Output) -> None:
    rows = ["12,5", "12345678901234567,5", "9812345678,100", "9812345678,high"]
    (tmp_path / "leads.csv").write_text("\n".join(["PhoneNumber,Priority", *rows]) + "\n")
    assert main(["check", "leads.csv"]) == Exit.NOT_ALL
    assert [line for line in shown(capsys)[0].splitlines() if line.startswith("invalid: ")] == [
        "invalid: 1 x PhoneNumber: too few digits: expected 3 to 16 digits with an optional leading '+', got 2; "
        "first in row 1 (line 2): xx",
        "invalid: 1 x PhoneNumber: too many digits: expected 3 to 16 digits with an optional leading '+', got 17; "
        "first in row 2 (line 3): xxxxxxxxxxxxxxxxx",
        "invalid: 1 x Priority: expected a whole number from 0 to 99; first in row 3 (line 4): xxx",
        "invalid: 1 x Priority: a letter in it; expected a whole number from 0 to 99; first in row 4 (line 5): high",
    ]


def test_upload_ends_with_the_table_of_reasons_and_what_clean_would_save(tmp_path: Path, capsys: Output) -> None:
    rows = [*DIRTY, *(f"+91-98123{i:05},Asha" for i in range(30)), "9812300009 x 12,Late"]
    (tmp_path / "leads.csv").write_text("\n".join(["PhoneNumber,Name", *rows]) + "\n")
    assert main(["upload", "leads.csv", "-c", "Diwali", "--simulate", "-q"]) == Exit.NOT_ALL
    out, _ = shown(capsys)
    assert "32 of the invalid rows would be sent with --clean" in out
    reasons = [line for line in out.splitlines() if line.startswith("invalid: ")]
    assert reasons[0].startswith("invalid: 31 x PhoneNumber: blanks, dashes")
    # It comes behind the first 20 invalid rows, and the first of its kind.
    assert any("an extension" in reason and "first in row 36 (line 37)" in reason for reason in reasons)
    assert "35 invalid rows not sent; --rejects FILE writes all of them" in out


def test_a_check_for_schedule(tmp_path: Path, capsys: Output) -> None:
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    rows = "".join(f"91981{number:07},{soon}\n" for number in range(101))
    (tmp_path / "calls.csv").write_text(f"PhoneNumber,ScheduledTime\n{rows}9812345678,yesterday\n")
    told = check(capsys, "calls.csv", "--schedule", "--limit", "1/60", code=Exit.NOT_ALL)
    assert (told["rows_valid"], told["requests"], told["seconds"]) == (101, 2, 60.0)
    assert told["invalid"][0]["column"] == "ScheduledTime"  # type: ignore[index]


@pytest.mark.parametrize(
    "command", [("check",), ("upload", "-c", "x", "--simulate"), ("schedule", "-c", "x", "--simulate")]
)
def test_a_file_with_nothing_but_a_header_is_exit_1(command: tuple[str, ...], tmp_path: Path) -> None:
    header = "PhoneNumber,ScheduledTime\n" if command[0] == "schedule" else "PhoneNumber,Name\n"
    (tmp_path / "empty.csv").write_text(header)
    assert main([command[0], "empty.csv", *command[1:], "-q"]) == Exit.NOT_ALL


def test_a_file_that_breaks_off_is_told(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "leads.csv").write_bytes(b"PhoneNumber,Name\n" + b"9812345678,Asha\n" * 3 + b'9812345678,"x" y\n')
    told = check(capsys, "leads.csv", code=Exit.NOT_ALL)
    assert told["rows"] == 3
    assert "line 5: broken quotes" in str(told["stopped_by"])
    (tmp_path / "leads.csv").write_bytes(b'PhoneNumber,Name\n9812345678,"x" y\n')
    assert main(["check", "leads.csv"]) == Exit.USAGE


# -- files of every kind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "options", "accepted", "invalid"),
    [
        ("blank_rows_of_delimiters", (), 1, 0),
        ("blanks_after_last_line", (), 1, 0),
        ("duplicate_header_to_be_left_out", ("--column", "Notes="), 1, 0),
        ("duplicate_header_to_be_left_out", ("--only",), 1, 0),
        ("empty_headers_at_the_end", ("--clean",), 3, 0),
        ("excel_sep_line", (), 1, 0),
        ("hint_points_at_record_id", (), 2, 0),
        ("lower_case_name_header", (), 1, 0),
        ("phone_punctuation", ("--clean",), 4, 0),
        ("semicolon_file_commas_in_header", (), 1, 0),
        ("spreadsheet_spellings_of_numbers", ("--clean",), 11, 2),
        ("title_above_header", ("--skip-lines", "1"), 1, 0),
        ("trailing_delimiter_on_every_line", (), 2, 0),
    ],
)
def test_files_as_people_have_them_need_no_editing(
    file: str, options: tuple[str, ...], accepted: int, invalid: int, simulator: Simulator, capsys: Output
) -> None:
    path, code = str(CASES / f"{file}.csv"), Exit.NOT_ALL if invalid else Exit.OK
    told = check(capsys, path, *options, code=code)
    assert (told["rows_valid"], told["rows_invalid"]) == (accepted, invalid)
    assert main(["upload", path, "-c", "Diwali", "-q", "--json", *options]) == code
    assert result(capsys)["rows_accepted"] == accepted == simulator.rows_applied("bulk")


@pytest.mark.parametrize("name", ["leads.xlsx", "leads.XLSX", "leads", "leads.csv"])
def test_a_workbook_is_known_by_its_first_bytes(
    name: str, tmp_path: Path, simulator: Simulator, capsys: Output
) -> None:
    rows: list[list[object]] = [
        ["Leads of March"],
        ["Mobile", "name", "Score"],
        [919812345678, "Asha", 7],
        [" ", None],
        ["9812300001", "Ravi", 2],
    ]
    workbook(tmp_path / "made.xlsx", Leads=rows, Old=[["x"]])
    (tmp_path / "made.xlsx").rename(tmp_path / name)
    options = ("--sheet", "Leads", "--skip-lines", "1", "--only")
    told = check(capsys, name, *options)
    assert (told["rows_valid"], told["columns"], told["columns_left_out"]) == (2, ["PhoneNumber", "Name"], ["Score"])
    assert told["notes"] == ["column 'Mobile' is taken as PhoneNumber"]
    assert main(["upload", name, "-c", "Diwali", "-q", *options]) == Exit.OK
    assert sent(simulator) == [["919812345678", "Asha"], ["9812300001", "Ravi"]]


def test_a_table_of_text_with_the_suffix_of_a_workbook_is_csv(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "export.xls").write_text("PhoneNumber\tName\n9812345678\tAsha\n")
    assert check(capsys, "export.xls")["rows_valid"] == 1


def test_standard_input(monkeypatch: pytest.MonkeyPatch, simulator: Simulator, capsys: Output) -> None:
    for command in (("check", "-"), ("upload", "-", "-c", "Diwali", "--journal", "x.journal")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Mobile\n+91-9812345678\n")))
        assert main([*command, "--clean", "-q"]) == Exit.OK
    assert sent(simulator) == [["+919812345678"]]
    assert main(["resume", "x.journal", "-q"]) == Exit.OK


# -- cleaning ------------------------------------------------------------------------------------------------------


def test_without_clean_nothing_is_changed(tmp_path: Path, simulator: Simulator) -> None:
    assert main(["upload", dirty(tmp_path / "leads.csv"), "-c", "Diwali", "-q"]) == Exit.NOT_ALL
    assert sent(simulator) == [["9812300001", "Uma"]]


def test_resume_keeps_to_the_cleaning_of_the_journal_and_another_one_is_refused(
    tmp_path: Path, simulator: Simulator, capsys: Output
) -> None:
    workbook(tmp_path / "leads.xlsx", Leads=[["Mobile", "City"], ["+91-9812300001", "a\nb"], ["98123 00002", "c"]])
    command = ["upload", "leads.xlsx", "-c", "Diwali", "--journal", "x.journal", "-q"]
    assert main([*command, "--text", "one_line"]) == Exit.OK
    assert main(command) == Exit.USAGE
    assert "with the same --clean, --country" in shown(capsys)[1]
    for again in ([*command, "--text", "one_line"], ["resume", "x.journal", "-q", "--changes", "changes.csv"]):
        assert main(again) == Exit.OK
    assert sent(simulator) == [["+919812300001", "a b"], ["9812300002", "c"]]


def test_schedule_cleans_and_writes_rejects(tmp_path: Path, simulator: Simulator, capsys: Output) -> None:
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    rows = [f"+91-9812300001,{soon},x", f"98X,{soon},y", f"9812300002.0,{soon},z"]
    (tmp_path / "calls.csv").write_text("\n".join(["PhoneNumber,ScheduledTime,Id", *rows]) + "\n")
    command = ["schedule", "calls.csv", "-c", "Diwali", "--clean", "--only", "-q", "--json"]
    assert main([*command, "--rejects", "rejects.csv", "--changes", "changes.csv"]) == Exit.NOT_ALL
    told = result(capsys)
    assert (told["accepted"], told["invalid"]) == (2, 1)
    assert told["cleaned"] == {"PhoneNumber": {"separators": 1, "spreadsheet number": 1}}
    assert len((tmp_path / "changes.csv").read_text().splitlines()) == 3
    header, row = csv.reader((tmp_path / "rejects.csv").read_text().splitlines())
    assert header[:5] == ["PhoneNumber", "ScheduledTime", "Id", "rejected_row", "rejected_line"]
    assert row[:6] == ["98X", soon, "y", "2", "3", "PhoneNumber"]


# -- rejects -------------------------------------------------------------------------------------------------------


def test_rejects_mended_in_a_spreadsheet_are_all_accepted(tmp_path: Path, simulator: Simulator, capsys: Output) -> None:
    lines = [
        "Mobile;Name;City",
        '=919812300001;"Asha; Rao";=1+1',
        "98X;Ravi;Pune",
        '12345 / 999;"O\'Brien";"a ""b"""',
        "9812300009;Uma;x",
    ]
    (tmp_path / "leads.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ("--rejects", "rejects.csv", "--rejects-bom", "--rejects-escape", "--column", "Mobile=PhoneNumber")
    assert main(["upload", "leads.csv", "-c", "Diwali", "-q", *options]) == Exit.NOT_ALL
    with open("rejects.csv", encoding="utf-8-sig", newline="") as file:
        header, *rejected = csv.reader(file)
    assert len(rejected) == 3
    capsys.readouterr()
    # What a spreadsheet saves where the comma is the decimal mark: a mark, semicolons, quotes, CRLF.
    mended = [[f"98123000{i:02}", row[1].replace("'", "").replace(";", ""), *row[2:]] for i, row in enumerate(rejected)]
    with open("mended.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";", quoting=csv.QUOTE_ALL).writerows([header, *mended])
    assert main(["upload", "mended.csv", "-c", "Again", "--simulate", "-q", "--json"]) == Exit.OK
    assert result(capsys)["rows_accepted"] == 3
    simulator.campaign("Again")
    assert main(["upload", "mended.csv", "-c", "Again", "-q", "--check-duplicate"]) == Exit.OK
    assert sent(simulator)[-3:] == [
        ["9812300000", "Asha Rao", "=1+1"],
        ["9812300001", "Ravi", "Pune"],
        ["9812300002", "OBrien", 'a "b"'],
    ]


def test_rejects_take_rows_that_were_refused_on_request(tmp_path: Path, simulator: Simulator) -> None:
    leads_file(tmp_path / "leads.csv", 3)
    command = ["upload", "leads.csv", "-c", "Missing", "-q", "--rejects", "rejects.csv"]
    for more, rows in ((), 0), (("--rejects-refused",), 3):
        assert main([*command, *more]) == Exit.STOPPED
        assert len((tmp_path / "rejects.csv").read_text().splitlines()) == rows + 1


@pytest.mark.parametrize(
    "options",
    [
        ("--rejects-bom",),
        ("--changes", "x.csv"),
        ("--form", "digits"),
        ("--clean", "--changes", "leads.csv"),
        ("--rejects", "leads.csv"),
        ("--clean", "--rejects", "x.csv", "--changes", "x.csv"),
        ("--country", "FR"),
        ("--skip-lines", "-1"),
        ("--sheet", "x"),
        ("--column", "Missing=x"),
    ],
)
def test_wrong_options(options: tuple[str, ...], leads: str, capsys: Output) -> None:
    before = Path(leads).read_text()
    for command in (
        ("check", leads),
        ("upload", leads, "-c", "x", "--simulate"),
        ("schedule", leads, "-c", "x", "--simulate"),
    ):
        assert main([*command, *options]) == Exit.USAGE
    assert Path(leads).read_text() == before
