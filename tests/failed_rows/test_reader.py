"""A failed file is read whatever its columns, its header, its encoding and the places where it is cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ozonetel_async.errors import CallbackError
from ozonetel_async.failed_rows.matching import PhoneIndex
from ozonetel_async.failed_rows.reader import FailedRow, FailedRowReader

SENT = ("PhoneNumber", "Name", "City")


def read_chunks(chunks: Iterable[str | bytes], columns: Sequence[str] = ()) -> Iterator[FailedRow]:
    reader = FailedRowReader(columns=columns)
    for chunk in chunks:
        yield from reader.feed(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk)
    yield from reader.close()


def read(text: str | bytes, columns: Sequence[str] = ()) -> list[FailedRow]:
    return list(read_chunks([text], columns))


def short(rows: list[FailedRow]) -> list[tuple[str, str | None]]:
    return [(row.phone, row.reason) for row in rows]


def test_the_expected_file() -> None:
    rows = read("PhoneNumber,Name,Reason\n+919812345678,Asha,Invalid name\n9812345679.0,Ravi,\n")
    assert short(rows) == [("9812345678", "Invalid name"), ("9812345679", None)]
    assert rows[0].cells == {"PhoneNumber": "+919812345678", "Name": "Asha", "Reason": "Invalid name"}
    assert [row.as_written for row in rows] == ["+919812345678", "9812345679.0"]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n \n,,\n"])
def test_marks_and_line_ends(bom: bytes, newline: str, last: str) -> None:
    text = f'PhoneNumber,Name\n\n9812345678,Asha\n"9812345679","Ra""vi"{last}'
    rows = read(bom + text.replace("\n", newline).encode())
    assert [tuple(row.cells.values()) for row in rows] == [("9812345678", "Asha"), ("9812345679", 'Ra"vi')]
    assert short(rows) == [("9812345678", None), ("9812345679", None)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_and_delimiters(encoding: str, delimiter: str) -> None:
    text = "Name,PhoneNumber,Error Message\nZoé,9812345678,no such skill\n".replace(",", delimiter)
    body = text.encode(encoding)
    assert list(read_chunks(body[place : place + 1] for place in range(len(body)))) == read(body)
    (row,) = read(body)
    assert (row.phone, row.reason) == ("9812345678", "no such skill")
    assert row.cells["Name"].startswith("Zo")


@pytest.mark.parametrize("text", ["", "\ufeff", "\n\r\n", "PhoneNumber,Name\n", ",,\n", '"'])
def test_no_rows(text: str) -> None:
    assert [row.phone for row in read(text)] in ([], [""])
    assert read("") == read(b"") == list(read_chunks([])) == []


@pytest.mark.parametrize(
    ("header", "phone", "reason"),
    [
        ("PhoneNumber,Name,Failure Reason", 0, 2),
        ("sno,mobile_no,remarks", 1, 2),
        ("Error,Contact No,x", 1, 0),
        ("id,Kontakt,Why", 1, None),
        ("PhoneNumber,AlternatePhone,Status", 0, None),
        ("status,PHONE NUMBER,fail_code", 1, 2),
    ],
)
def test_columns_are_found_by_name_then_by_content(header: str, phone: int, reason: int | None) -> None:
    cells = ["a", "b", "c"]
    cells[phone] = "9812345678"
    (row,) = read(f"{header}\n{','.join(cells)}\n")
    assert row.phone == "9812345678"
    assert row.reason == (None if reason is None else cells[reason])


def test_the_last_column_that_was_not_sent_holds_the_reason() -> None:
    text = "PhoneNumber,Name,City,Why\n9812345678,Asha,Pune,bad skill\n"
    assert short(read(text, SENT)) == [("9812345678", "bad skill")]
    assert short(read(text)) == [("9812345678", None)]
    assert short(read("PhoneNumber,Name,City\n9812345678,Asha,Pune\n", SENT)) == [("9812345678", None)]


def test_a_column_that_was_sent_is_no_reason_whatever_its_name() -> None:
    text = "PhoneNumber,Error Code,Reason\n9812345678,E7,bad skill\n"
    assert short(read(text, ("PhoneNumber", "Reason"))) == [("9812345678", "E7")]


def test_a_file_without_header() -> None:
    rows = read("9812345678,Asha,Pune,bad skill\n9812345679,Ravi,Goa,\n", SENT)
    assert short(rows) == [("9812345678", "bad skill"), ("9812345679", None)]
    assert list(rows[0].cells) == ["PhoneNumber", "Name", "City", "column_4"]
    assert list(read("9812345678,Asha\n")[0].cells) == ["column_1", "column_2"]
    assert short(read("Asha,9812345678,x\n")) == [("9812345678", None)]


@pytest.mark.parametrize(
    "above",
    [
        "sep=;\n",
        '"sep=;"\n',
        "Failed rows\n",
        "Upload of 11 July;;\n\n",
        '"Failed, and why";2024-07-11;\nDiwali\n',
        "sep=;\nFailed rows\nUpload;17;\n",
        "Phone numbers that failed: 1\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_lines_above_the_header_are_left_out(above: str, size: int) -> None:
    text = f"\n{above}PhoneNumber;Name;Reason\n9812345678;Asha, of Pune;bad skill\n"
    (row,) = read_chunks(text[place : place + size] for place in range(0, len(text), size))
    assert row.cells == {"PhoneNumber": "9812345678", "Name": "Asha, of Pune", "Reason": "bad skill"}
    assert (row.phone, row.reason) == ("9812345678", "bad skill")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Kontakt,Source\n9812345678,Web\nabc,Mobile\n9812345679,Mobile\n", ["9812345678", "abc", "9812345679"]),
        ("Kontakt,Source\nabc,Mobile\n9812345678,Web\n9812345679,Web\n", ["abc", "9812345678", "9812345679"]),
        ("9812345678\nName,PhoneNumber\nx,9812345679\n", ["9812345678", "", "9812345679"]),
        ("9812345678,x\nPhoneNumber,Name\n9812345679,y\n", ["9812345678", "PhoneNumber", "9812345679"]),
    ],
)
def test_a_row_is_not_taken_for_the_header(text: str, numbers: list[str]) -> None:
    assert [row.as_written for row in read(text)] == numbers


def test_a_bare_list_of_numbers() -> None:
    assert short(read("9812345678\n9812345679\n")) == [("9812345678", None), ("9812345679", None)]


def test_two_columns_of_numbers_are_not_guessed_from() -> None:
    rows = read("a,b\n9812345678,9812345679\n9812345670,9812345671\n")
    assert [row.phone for row in rows] == ["", ""]
    assert rows[0].cells == {"a": "9812345678", "b": "9812345679"}


def test_dates_are_no_phone_numbers() -> None:
    assert [row.phone for row in read("2024-07-11,9812345678\n2024-07-11,9812345679\n")] == ["9812345678", "9812345679"]


def test_rows_shorter_and_longer_than_the_header() -> None:
    text = "PhoneNumber,Name,Reason\n9812345678\n9812345679,Ravi,bad name, use letters, please\n"
    rows = read(text)
    assert short(rows) == [("9812345678", None), ("9812345679", "bad name,use letters,please")]
    assert rows[0].cells == {"PhoneNumber": "9812345678", "Name": "", "Reason": ""}
    (row,) = read("PhoneNumber,Name\n9812345679,Ravi,bad skill\n")
    assert (row.reason, row.cells["column_3"]) == ("bad skill", "bad skill")


def test_columns_without_or_with_the_same_name_keep_their_cells() -> None:
    (row,) = read("PhoneNumber,,x_4,x,x\n9812345678,1,2,3,4\n")
    assert list(row.cells.values()) == ["9812345678", "1", "2", "3", "4"]


def test_a_cell_may_run_over_lines() -> None:
    rows = read('PhoneNumber,Name,Reason\n9812345678,"A\n\nB","x, ""y"""\n9812345679,C,z\n')
    assert short(rows) == [("9812345678", 'x, "y"'), ("9812345679", "z")]
    assert rows[0].cells["Name"] == "A\n\nB"


@pytest.mark.parametrize("stray", ['"bad', 'bad"', '5" pipe', '"', '"a"b"'])
def test_a_stray_quote_costs_no_other_row(stray: str) -> None:
    numbers = [str(9812345600 + index) for index in range(40)]
    lines = [f"{number},{stray if index in (3, 4, 20, 39) else 'x'}" for index, number in enumerate(numbers)]
    rows = read("PhoneNumber,Name\n" + "\n".join(lines))
    assert [row.phone for row in rows] == numbers


def test_a_stray_quote_does_not_join_rows_whose_numbers_cannot_be_read() -> None:
    assert [row.as_written for row in read('PhoneNumber,Name\nabc,"bad\ndef,"bad\n9812345678,x')] == [
        "abc",
        "def",
        "9812345678",
    ]


def test_a_stray_quote_holds_up_ten_lines_and_not_the_rest_of_the_file() -> None:
    reader = FailedRowReader()
    lines = ['9812345678,"bad', *(f"{9812345679 + number},x" for number in range(40))]
    assert len(reader.feed("\n".join(["PhoneNumber,Name", *lines]).encode())) >= 30


def test_limits() -> None:
    with pytest.raises(CallbackError, match="line of more than"):
        read("PhoneNumber\n" + "9" * 70_000)
    with pytest.raises(CallbackError, match="more than 200 cells"):
        read("PhoneNumber\n" + "9," * 300)
    (row,) = read("PhoneNumber,Reason\n9812345678," + "x" * 10_000)
    assert len(row.reason or "") == 4_000


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?><Error><Code>AccessDenied',
        "\n <!DOCTYPE html>",
        "<html>",
        "<head><title>502</title>",
        "<!-- moved -->",
        '{"error":"try later"}',
        " {\n",
    ],
)
def test_an_error_page_is_no_table(text: str) -> None:
    with pytest.raises(CallbackError, match="expired"):
        read("\ufeff" + text)


def test_rows_stream_while_the_file_comes() -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        yield b"PhoneNumber\n"
        for number in range(10_000):
            taken += 1
            yield b"%d\n" % (9_812_345_678 + number)

    rows = read_chunks(chunks())
    first = next(rows)
    assert first.phone == "9812345678"
    assert taken < 50
    assert sum(1 for _ in rows) == 9_999


def test_a_row_does_not_show_its_number() -> None:
    (row,) = read("PhoneNumber,Reason\n9812345678,9812345678 is bad\n")
    assert f"{row!r} {row}".count("9812345678") == 0
    assert "678" in repr(row)


def test_from_file_to_rows_sent() -> None:
    sent = [(1, "+919812345678"), (2, "9812345679"), (4, "9812345680")]
    text = "\ufeffSNo,PhoneNumber,Reason\r\n1,9.81234568E+09,r1\r\n2,9812345679.0,r2\r\n3,0091 98123 45678,r3\r\n"
    matches = PhoneIndex(sent).match(read(text, ("PhoneNumber",)))
    assert [(match.row, match.how, match.failed.reason) for match in matches] == [
        (None, "ambiguous", "r1"),
        (2, "key", "r2"),
        (1, "key", "r3"),
    ]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12).map(str.strip)
rows_of_cells = st.lists(
    st.tuples(st.from_regex(r"[6-9][0-9]{9}", fullmatch=True), cells, cells), min_size=1, max_size=40
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rows=rows_of_cells, newline=st.sampled_from(["\n", "\r\n"]), size=st.integers(1, 60))
def test_whatever_a_csv_writer_writes_comes_back_however_it_is_cut(
    data: st.DataObject, rows: list[tuple[str, str, str]], newline: str, size: int
) -> None:
    buffer = io.StringIO()
    everything = data.draw(st.booleans())
    writer = csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL)
    writer.writerows([("PhoneNumber", "Name", "Reason"), *rows])
    body = buffer.getvalue().encode()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    found = [tuple(row.cells.values()) for row in read_chunks(chunks)]
    assert found == rows


@settings(max_examples=250, deadline=None)
@given(
    chunks=st.lists(
        st.binary(max_size=40)
        | st.text(max_size=40)
        | st.text(alphabet='9812,;"\n\r\t |\0', max_size=60)
        | st.sampled_from([b"\xff\xfe", b"\xfe\xff", "PhoneNumber,Reason\n", "\ud800"]),
        max_size=8,
    ),
    columns=st.lists(st.text(max_size=5), max_size=3),
)
def test_no_file_ends_in_another_error(chunks: list[str | bytes], columns: list[str]) -> None:
    try:
        rows = list(read_chunks(chunks, columns))
    except CallbackError:
        return
    PhoneIndex([(1, "9812345678")]).match(rows)
