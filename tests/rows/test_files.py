"""Each of the files in ``files/``: what a user types, and what comes out."""

from __future__ import annotations

import codecs
import encodings.aliases
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async.errors import ConfigurationError, InputError
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.rows.files import reopen
from ozonetel_async.rows.layout import UnfitRow

FILES = Path(__file__).parent / "files"
ASHA = ["919812300001", "Asha"]


@pytest.mark.parametrize(
    ("name", "options", "columns", "first", "count"),
    [
        ("blank_rows_of_delimiters", {}, ("PhoneNumber", "Name", "City"), [*ASHA, "Pune"], 1),
        ("blanks_after_last_line", {}, ("PhoneNumber", "Name", "City"), [*ASHA, "Pune"], 1),
        ("duplicate_header_to_be_left_out", {"columns": {"Notes": None}}, ("PhoneNumber", "Name"), ASHA, 1),
        ("duplicate_header_to_be_left_out", {"only": True}, ("PhoneNumber", "Name"), ASHA, 1),
        ("empty_headers_at_the_end", {"only": True}, ("PhoneNumber",), ["`+91-9812300001"], 3),
        (
            "empty_headers_at_the_end",
            {"columns": {"Registered Name": "Name"}, "only": True},
            ("Name", "PhoneNumber"),
            ["ASHA", "`+91-9812300001"],
            3,
        ),
        ("excel_sep_line", {}, ("PhoneNumber", "Name"), ASHA, 1),
        ("hint_points_at_record_id", {"only": True}, ("PhoneNumber",), ["9812300001"], 2),
        ("lower_case_name_header", {"only": True}, ("Name", "PhoneNumber"), ["Asha", "9812300001"], 1),
        ("phone_punctuation", {"only": True}, ("Name", "PhoneNumber"), ["  Asha Rao", "(555) 123-4567"], 4),
        ("semicolon_file_commas_in_header", {"only": True}, ("PhoneNumber",), ["919812300001"], 1),
        ("semicolon_file_commas_in_header", {}, ("PhoneNumber", "Name, First, Last, Full"), ASHA, 1),
        ("spreadsheet_spellings_of_numbers", {}, ("PhoneNumber", "Name"), ["9.1981E+11", "Asha"], 13),
        ("title_above_header", {"skip_lines": 1}, ("PhoneNumber", "Name", "City"), [*ASHA, "Pune"], 1),
        ("trailing_delimiter_on_every_line", {}, ("PhoneNumber", "Name"), ASHA, 2),
    ],
)
def test_a_real_file(
    name: str, options: dict[str, Any], columns: tuple[str, ...], first: list[str], count: int
) -> None:
    rows = read_csv(FILES / f"{name}.csv", **options)
    assert rows.columns == columns
    got = list(rows)
    assert (got[0], len(got)) == (first, count)
    assert not [row for row in got if isinstance(row, UnfitRow)]
    assert list(reopen(rows.source)) == got
    assert len(list(rows.lines())) == count


def test_a_title_above_the_header_is_told_with_the_line_of_the_header() -> None:
    with pytest.raises(InputError, match=r"Line 1 does not look like a header, line 2 does: skip_lines=1"):
        read_csv(FILES / "title_above_header.csv")


def test_what_was_taken_for_phone_numbers_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "ozonetel_async"):
        rows = read_csv(FILES / "hint_points_at_record_id.csv")
    assert rows.notes == ("column 'Mobile Phone Number' is taken as PhoneNumber",)
    assert [record.getMessage() for record in caplog.records] == [f"{rows.path}: {rows.notes[0]}"]


def made(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_something_below_a_header_without_a_name_makes_its_row_invalid(tmp_path: Path) -> None:
    rows = list(read_csv(made(tmp_path / "x.csv", "PhoneNumber,,\n123, ,\n456,x,\n789,,,,\n")))
    assert rows == [["123"], ["456", "x", ""], ["789"]]
    assert isinstance(rows[1], UnfitRow)
    assert "column 2 has a cell here, and no name in the header" in rows[1].reason


def test_gzip_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(b"PhoneNumber,Name\n123,A\n" * 1)
    rows = read_csv(made(tmp_path / "leads.csv", packed))
    assert list(rows) == list(rows) == [["123", "A"]]
    with pytest.raises(InputError, match="damaged or cut off"):
        list(read_csv(made(tmp_path / "cut.csv.gz", packed[:-6])))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", r"Excel workbook \(.xlsx\).*read_excel"),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", ".ods.*read_excel"),
        (b"PK\x03\x04" + b"\0" * 26 + b"leads.csv", "zip archive, not CSV; unpack"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"\.xls.*read_excel"),
        (b"%PDF-1.7", "PDF"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b'[{"PhoneNumber": "123"}]', "JSON"),
        (b"PAR1\x15", "Parquet.*data frame"),
        (b"SQLite format 3\0", "cursor"),
    ],
)
def test_other_kinds_of_files_are_told(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_csv(made(tmp_path / "leads.csv", content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    rows = read_csv(made(tmp_path / "leads.csv", "PhoneNumber\tName\n123\té\n".encode(encoding)))
    assert list(rows) == list(reopen(rows.source)) == [["123", "é"]]


@pytest.mark.parametrize("encoding", sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "utf_8_sig"}))
@pytest.mark.parametrize("content", [b"PhoneNumber,N\xe4me\n123,\x92\xe9\n", b"\xff\xfe\0\xd8\0\xd8", b"\\x \\N"])
def test_a_wrong_encoding_never_ends_in_another_error(tmp_path: Path, encoding: str, content: bytes) -> None:
    try:
        list(read_csv(made(tmp_path / "leads.csv", content), {"PhoneNumber": "PhoneNumber"}, encoding=encoding))
    except (ConfigurationError, InputError) as error:
        assert "leads.csv" in str(error) or "encoding" in str(error)  # noqa: PT017


def test_standard_input_is_read_as_often_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(codecs.BOM_UTF8 + b"PhoneNumber\n123\n")))
    rows = read_csv("-")
    assert list(rows) == list(rows) == [["123"]]
    assert "standard input" in repr(rows)
    rows.keep_beside(tmp_path / "x.journal")
    kept = tmp_path / "x.journal.input.csv"
    assert (rows.source["path"], kept.stat().st_mode & 0o777) == (str(kept), 0o600)
    assert list(reopen(rows.source)) == [["123"]]
    spooled = Path(rows.path)
    del rows
    assert not spooled.exists()
