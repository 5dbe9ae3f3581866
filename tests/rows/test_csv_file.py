"""CSV files of every make, whole and broken."""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ozonetel_async.errors import ConfigurationError, InputError
from ozonetel_async.rows.csv_file import CsvRows, read_csv
from ozonetel_async.rows.files import reopen
from ozonetel_async.rows.layout import UnfitRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leads.csv"


def made(path: Path, content: bytes | str, *arguments: Any, **options: Any) -> CsvRows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(path, *arguments, **options)


def test_rows_come_as_often_as_asked(path: Path) -> None:
    rows = made(path, "PhoneNumber,Name\n123,A\n456,B\n")
    assert rows.columns == ("PhoneNumber", "Name")
    assert rows.path == str(path)
    assert list(rows) == list(rows) == [["123", "A"], ["456", "B"]]
    assert repr(rows) == f"CsvRows({str(path)!r}, columns=('PhoneNumber', 'Name'))"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_quoted_breaks_and_blank_lines(path: Path, end: str) -> None:
    rows = made(path, end.join(["", "PhoneNumber,Name", "", f'123,"A{end}B, ""C"""', "", "456,D", "", ""]))
    assert list(rows) == [["123", f'A{end}B, "C"'], ["456", "D"]]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"\xef\xbb\xbfPhoneNumber,Name\n123,\xc3\xa9\n", {}),
        (b"PhoneNumber,Name\n123,\xc3\xa9\n", {}),
        (b"PhoneNumber,Name\n123,\xe9\n", {"encoding": "cp1252"}),
        ("PhoneNumber,Name\n123,é\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("PhoneNumber;Name\n123;é\n".encode(), {}),
        ("PhoneNumber\tName\n123\té\n".encode(), {}),
        ('"PhoneNumber"|"Name"\n"123"|"é"\n'.encode(), {}),
        ("PhoneNumber~Name\n123~é\n".encode(), {"delimiter": "~"}),
        (" PhoneNumber , Name \n123,é".encode(), {}),
    ],
)
def test_encodings_and_delimiters(path: Path, content: bytes, options: dict[str, str]) -> None:
    rows = made(path, content, **options)
    assert rows.columns == ("PhoneNumber", "Name")
    assert list(rows) == [["123", "é"]]


def test_header_alone_is_no_rows(path: Path) -> None:
    assert list(made(path, "PhoneNumber")) == []


def test_headers_are_renamed_and_left_out(path: Path) -> None:
    rows = made(path, "Mobile,Remarks,Name,\n123,x,A,\n", {"Mobile": "PhoneNumber", "Remarks": None, "": None})
    assert rows.columns == ("PhoneNumber", "Name")
    assert list(rows) == [["123", "A"]]


def test_ragged_rows_are_handed_on(path: Path) -> None:
    content = "PhoneNumber,X,Name\n123,x\n456,x,B,y\n789,x,C\n"
    assert list(made(path, content)) == [["123", "x"], ["456", "x", "B", "y"], ["789", "x", "C"]]
    rows = list(made(path, content, {"X": None}))
    assert [type(row) for row in rows] == [UnfitRow, UnfitRow, list]
    assert rows == [["123", "x"], ["456", "x", "B", "y"], ["789", "C"]]


def test_a_nul_in_a_cell_is_for_the_row_to_answer(path: Path) -> None:
    assert list(made(path, "PhoneNumber,Name\n123,A\0\n")) == [["123", "A\0"]]


@pytest.mark.parametrize(
    ("content", "columns", "says"),
    [
        ("", None, "is empty"),
        ("\n\n", None, "is empty"),
        ("a,Name\n", None, r"no column PhoneNumber among 'a', 'Name'; .*: columns=\{HEADER: 'PhoneNumber'\}"),
        (
            "Phone,Name\nAsha,Ravi\n",
            None,
            r"no column PhoneNumber among 'Phone', 'Name'; the first cells of 'Phone' hold no phone numbers; "
            r"say which one holds the numbers: columns=\{HEADER: 'PhoneNumber'\}",
        ),
        ("9812345678,Asha\n", None, "the first line is no header"),
        ("PhoneNumber,Name,Name\n", None, "'Name' stands there twice .columns 2, 3.; leave both out: columns=.'Name'"),
        ("PhoneNumber,Name\n", {"Nome": "Name"}, "no header 'Nome' among 'PhoneNumber', 'Name'"),
        ("PhoneNumber,Name\n", {"Name": "PhoneNumber"}, "two headers become column 'PhoneNumber'"),
        ("PhoneNumber,Name\n", {"PhoneNumber": None}, "no column PhoneNumber"),
        ("PhoneNumber\0,Name\n", None, "line 1: NUL characters.*utf-16"),
        ("PhoneNumber,Name\n".encode("utf-16-le"), None, "line 1: NUL characters.*utf-16"),
        ("PhoneNumber,Näme\n".encode("cp1252"), None, "line 1: not UTF-8, and no row"),
        ('PhoneNumber,"Name\n123,A\n', None, "line 1 .*broken quotes"),
    ],
)
def test_headers_that_cannot_be(
    path: Path, content: bytes | str, columns: dict[str, str | None] | None, says: str
) -> None:
    with pytest.raises((ConfigurationError, InputError), match=says) as caught:
        made(path, content, columns)
    assert "9812345" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('456,"B"x\n789,C\n', "line 3: broken quotes"),
        ('456,"B\n789,C\n' * 1, r"line 3 \(noticed at line 4\): broken quotes"),
        ('456,"' + "x\n" * 70_000, r"line 3 \(noticed at line \d+\).*field larger than field limit"),
        (b"456,\xff\n", "line 3: not UTF-8, and no row"),
        (b"456,B\n" * 30_000 + b"\xc3\n", "line 30003: not UTF-8, and no row"),
        (b"456,B\r\n" * 30_000 + b"789,\xe2\x82", "line 30003: not UTF-8, and no row"),
    ],
)
def test_broken_files_are_told_with_their_line(path: Path, row: bytes | str, says: str) -> None:
    tail = row if isinstance(row, bytes) else row.encode()
    with pytest.raises((ConfigurationError, InputError), match=says):
        list(made(path, b"PhoneNumber,Name\n123,A\n" + tail))


@pytest.mark.parametrize("skip_lines", [0, 2])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_first_row_that_was_not_read_is_told_beside_the_line_that_cannot_be_decoded(
    path: Path, skip_lines: int, compressed: bool
) -> None:
    content = (
        b"A title\n" * skip_lines + b"PhoneNumber,Name\n" + b'456,"B\nC"\n' * 20_000 + b"789,\xff\n" + b"123,D\n" * 50
    )
    rows = made(path, gzip.compress(content) if compressed else content, skip_lines=skip_lines)
    read: list[list[str]] = []
    with pytest.raises(InputError) as caught:
        read.extend(rows)
    assert 0 < len(read) < 20_000
    told = re.search(r"line (\d+): not UTF-8, and no row from line (\d+) on was read; ", caught.value.message)
    assert told is not None
    assert [int(line) - skip_lines for line in told.groups()] == [40_002, 2 + 2 * len(read)]


def test_lines_above_a_header_that_cannot_be_decoded_are_told(path: Path) -> None:
    with pytest.raises(InputError, match="line 2: not UTF-8, and no row from line 1 on was read"):
        made(path, b"A title\n\xff\nPhoneNumber,Name\n123,A\n", skip_lines=2)


def test_the_line_is_right_when_a_character_straddles_two_reads(path: Path) -> None:
    head = b"PhoneNumber,Name\n123,"
    content = head + b"x" * (65_535 - len(head)) + "é\n".encode() + b"\xff\n"
    with pytest.raises((ConfigurationError, InputError), match="line 3: not UTF-8, and no row"):
        list(made(path, content))


def test_rows_before_a_broken_line_come_first(path: Path) -> None:
    rows = iter(made(path, 'PhoneNumber,Name\n123,A\n456,"B"x\n'))
    assert next(rows) == ["123", "A"]
    with pytest.raises((ConfigurationError, InputError), match="line 3"):
        next(rows)


def test_a_lone_carriage_return_far_down_ends_a_line(path: Path) -> None:
    padding = "123,A\n" * 20_000
    rows = made(path, f"PhoneNumber,Name\n{padding}456,B\r789,C\n")
    for _ in range(2):
        assert list(rows) == [*[["123", "A"]] * 20_000, ["456", "B"], ["789", "C"]]
    assert list(rows.lines())[-2:] == [20_002, 20_003]


def test_files_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, InputError), match=r"cannot read .*leads\.csv: No such file"):
        read_csv(path)
    with pytest.raises((ConfigurationError, InputError), match="cannot read"):
        read_csv(tmp_path)


def test_a_file_that_changes_or_goes_is_told(path: Path) -> None:
    rows = made(path, "PhoneNumber,Name\n123,A\n")
    path.write_text("Name,PhoneNumber\nA,123\n")
    with pytest.raises((ConfigurationError, InputError), match="header has changed"):
        list(rows)
    path.unlink()
    with pytest.raises((ConfigurationError, InputError), match="No such file"):
        list(rows)


@pytest.mark.parametrize(
    "options",
    [
        *({"encoding": name} for name in ("klingon", "rot13", "hex", "utf-8\0")),
        *({"delimiter": mark} for mark in ("", "::", "\n")),
    ],
)
def test_settings_that_cannot_be(path: Path, options: dict[str, str]) -> None:
    with pytest.raises((ConfigurationError, InputError), match=r"encoding|delimiter"):
        made(path, "PhoneNumber\n", **options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"path": 5}, "read_csv needs the path of a file as text, got int"),
        ({"path": None}, "read_csv needs the path of a file as text, got NoneType"),
        ({"path": b"leads.csv"}, "read_csv needs the path of a file as text, got bytes"),
        ({"path": "leads\0.csv"}, "and none holds a NUL character"),
        ({"columns": ["PhoneNumber"]}, r"columns must be a mapping \{header: service column, or None\}, got list"),
        ({"columns": {"Name": 5}}, "columns must map text to text or None, it holds int"),
        ({"columns": {5: "Name"}}, "columns must map text to text or None, it holds int"),
        ({"encoding": None}, "encoding must be text, got NoneType"),
        ({"delimiter": 5}, "delimiter must be text, got int"),
    ],
)
def test_arguments_of_another_type_are_told(path: Path, arguments: dict[str, Any], says: str) -> None:
    path.write_text("PhoneNumber,Name\n123,A\n")
    with pytest.raises((ConfigurationError, InputError), match=says):
        read_csv(**{"path": path, **arguments})


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        (ConfigurationError, InputError), match="pipe: not a regular file, and it must be read more than once"
    ):
        read_csv(tmp_path / "pipe")


def test_leaving_early_closes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made(path, "PhoneNumber\n" + "123\n" * 5_000)
    files: list[Any] = []
    opened = CsvRows._open

    def noted(self: CsvRows) -> Any:
        files.append(opened(self))
        return files[-1]

    monkeypatch.setattr(CsvRows, "_open", noted)
    reading = iter(rows)
    assert files == []
    assert next(reading) == ["123"]
    assert not files[0].closed
    assert isinstance(reading, Iterator)
    del reading
    assert files[0].closed


sendable = st.characters(exclude_categories=["Cs"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(st.text(sendable, max_size=6), min_size=2, max_size=2)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_csv_writes_is_what_is_read(tmp_path: Path, table: list[list[str]], end: str) -> None:
    path = tmp_path / "round.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["PhoneNumber", "Name"], *table])
    assert list(read_csv(path)) == [row for row in table if any(map(str.strip, row))]


def test_a_file_can_be_reopened_in_the_way_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_bytes("Mobile;Name;Remarks\n9812345678;Asha;x\n".encode("utf-16"))
    rows = read_csv(path, {"Mobile": "PhoneNumber", "Remarks": None}, encoding="utf-16", delimiter=";")
    again = reopen(rows.source)
    assert again.columns == ("PhoneNumber", "Name")
    assert list(again) == list(rows) == [["9812345678", "Asha"]]
