"""Spreadsheets as they come out of Excel."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async.errors import ConfigurationError, InputError
from ozonetel_async.rows.excel import read_excel
from ozonetel_async.rows.layout import UnfitRow

openpyxl = pytest.importorskip("openpyxl", reason="writes the workbooks; pip install openpyxl")
pytest.importorskip("python_calamine", reason="the extra xlsx is not installed")


def made(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    book.close()
    return path


HEADER = ["Mobile", "name", "ExpiryDate", "Score"]


def test_numbers_and_dates_come_as_themselves(tmp_path: Path) -> None:
    cells = [919812345678, "Asha", date(2027, 1, 2), 7.5]
    rows = read_excel(made(tmp_path / "x.xlsx", {"Leads": [HEADER, cells, [None] * 4, ["9812300002", "B", None, 1]]}))
    assert rows.columns == ("PhoneNumber", "Name", "ExpiryDate", "Score")
    assert rows.notes == ("column 'Mobile' is taken as PhoneNumber",)
    assert list(rows) == list(rows) == [cells, ["9812300002", "B", "", 1]]
    assert [type(cell) for cell in next(rows.cells())[1]] == [int, str, date, float]
    assert list(rows.lines()) == [2, 4]


def test_numbers_above_15_digits_make_their_row_invalid(tmp_path: Path) -> None:
    rows = list(read_excel(made(tmp_path / "x.xlsx", {"A": [["PhoneNumber", "Id"], [98, 1234567890123456], [99, 5]]})))
    assert isinstance(rows[0], UnfitRow)
    assert (rows[0].field, rows[1]) == ("Id", [99, 5])
    assert "more than 15 digits" in rows[0].reason


def test_the_sheet_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = made(tmp_path / "x.xlsx", {"One": [["PhoneNumber"], ["1"]], "Two": [["PhoneNumber"], ["2"]], "Empty": []})
    assert list(read_excel(path, "Two")) == list(read_excel(path, 1)) == [["2"]]
    with pytest.raises(InputError, match=r"2 sheets with cells; .* one of 'One', 'Two', 'Empty'"):
        read_excel(path)
    with pytest.raises(ConfigurationError, match="no sheet 'Three'"):
        read_excel(path, "Three")


def test_columns_titles_and_blanks_as_in_csv(tmp_path: Path) -> None:
    path = made(tmp_path / "x.xlsx", {"A": [["Leads of March"], HEADER, [9812345678, "Asha", None, 2]]})
    with pytest.raises(InputError, match="Row 1 does not look like a header, row 2 does: skip_lines=1"):
        read_excel(path)
    rows = read_excel(path, columns={"Score": None}, skip_lines=1, only=True)
    assert (rows.columns, list(rows)) == (("PhoneNumber", "Name", "ExpiryDate"), [[9812345678, "Asha", ""]])


def test_a_moment_at_midnight_is_a_day(tmp_path: Path) -> None:
    path = made(tmp_path / "x.xlsx", {"A": [["PhoneNumber", "When"], ["98", datetime(2027, 1, 2)]]})
    assert list(read_excel(path)) == [["98", date(2027, 1, 2)]]


def test_other_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_text("PhoneNumber\n")
    with pytest.raises(InputError, match=r"cannot read .*x\.xlsx"):
        read_excel(tmp_path / "x.xlsx")
    with pytest.raises(InputError, match="cannot read"):
        read_excel(tmp_path / "nowhere.xlsx")
