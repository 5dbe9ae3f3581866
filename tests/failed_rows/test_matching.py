"""Failed rows find the rows that were sent, whatever has been done to their numbers, and nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ozonetel_async.failed_rows.matching import PhoneIndex
from ozonetel_async.failed_rows.phones import Rounded, full_number, phone_key, rounded
from ozonetel_async.failed_rows.reader import FailedRow

SPELLINGS = [
    "9812345678",
    "+919812345678",
    "919812345678",
    "00919812345678",
    "0919812345678",
    "09812345678",
    "+91 98123 45678",
    "+91-98123-45678",
    "+91 (0) 98123 45678",
    "(98123) 45678",
    "98123.45678",
    " 9812345678\t",
    "98123\u00a045678",
    "\u202a+919812345678\u202c",
    "98123\u201345678",
    "'9812345678",
    "\u20199812345678",
    '="9812345678"',
    "%2B919812345678",
    "9812345678.0",
    "9812345678.00",
    "919812345678.0",
    "9.812345678E+09",
    "9.812345678E9",
    "9.19812345678e+11",
    "9,19812345678E+11",
    "9.1981234567800E+11",
    "9,812,345,678",
    "9,81,23,45,678",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_of_a_number_has_one_key(text: str) -> None:
    assert phone_key(text) == "9812345678"
    assert full_number(text) == "919812345678"
    assert rounded(text) is None


@pytest.mark.parametrize(
    ("text", "key", "full"),
    [
        ("100", "100", "100"),
        ("+6591234567", "6591234567", "6591234567"),
        ("6591234567", "6591234567", "916591234567"),
        ("+12125551234", "12125551234", "12125551234"),
        ("9112345678", "9112345678", "919112345678"),
        ("022 1234567", "221234567", "221234567"),
        ("1234567890123456", "1234567890123456", "1234567890123456"),
    ],
)
def test_other_numbers_keep_their_digits(text: str, key: str, full: str) -> None:
    assert (phone_key(text), full_number(text)) == (key, full)


def test_the_country_code_is_a_setting() -> None:
    assert phone_key("+1 212 555 1234", country_code="1") == phone_key("2125551234", country_code="1") == "2125551234"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "12",
        "000",
        "abc",
        "98123x45678",
        "12345678901234567",
        "98123 45678, 98765 43210",
        "+",
        "+-",
        "'",
        "9.19812E+11",
        "1e99",
        "0e5",
        "٩٨١٢٣٤٥٦٧٨",
        "9812345678" * 10,
        "2024-07-11 11:45:29",
        "NaN",
        "-",
        "9812345678\0",
    ],
)
def test_what_is_no_whole_number_has_no_key(text: str) -> None:
    assert phone_key(text) is None
    assert full_number(text) is None


def test_what_a_spreadsheet_leaves_of_a_number() -> None:
    cut = rounded("9.19812E+11")
    assert cut == Rounded("919812", 12)
    assert cut.fits("919812345678")
    # Rounded half up and half down, and cut off.
    assert cut.fits("919811500000")
    assert cut.fits("919812999999")
    assert not cut.fits("919811499999")
    assert not cut.fits("919813000000")
    assert not cut.fits("9198123456789")
    assert rounded("9.19812E+25") is None


numbers = st.from_regex(r"[6-9][0-9]{9}", fullmatch=True)


@settings(max_examples=200)
@given(number=numbers, precision=st.integers(1, 9))
def test_a_rounded_number_fits_the_number_it_came_from(number: str, precision: int) -> None:
    cut = rounded(f"{int('91' + number):.{precision}E}")
    assert cut is not None
    assert cut.fits("91" + number)


@settings(max_examples=300)
@given(text=st.text(max_size=80) | st.text(alphabet="+0123456789 .,eE-()'=\"%", max_size=30))
def test_no_text_breaks_the_keys(text: str) -> None:
    key, full, cut = phone_key(text), full_number(text), rounded(text)
    assert (key is None) == (full is None)
    if key is not None and full is not None:
        assert 3 <= len(key) <= 16
        assert full.endswith(key)
        assert cut is None
        assert phone_key(key) in (key, None) or full != key


def failed(*texts: str) -> list[FailedRow]:
    return [FailedRow(phone_key(text) or "", None, {}, text) for text in texts]


def match(sent: list[str], *texts: str) -> list[tuple[int | None, str]]:
    index = PhoneIndex(enumerate(sent, 1))
    return [(found.row, found.how) for found in index.match(failed(*texts))]


def test_exact_then_by_key() -> None:
    sent = ["9812345678", "+919812345679", "919812345680"]
    assert match(sent, "919812345679", "+91 98123-45680", "9812345678") == [(2, "key"), (3, "key"), (1, "exact")]


def test_an_exact_text_is_never_taken_by_another_spelling() -> None:
    sent = ["+919812345678", "9812345678"]
    assert match(sent, "09812345678", "+919812345678") == [(2, "key"), (1, "exact")]
    assert match(sent, "9812345678", "09812345678") == [(2, "exact"), (1, "key")]


def test_equal_numbers_get_a_row_each_in_order_and_no_row_twice() -> None:
    sent = ["9812345678", "9812345679", "9812345678", "+919812345678"]
    assert match(sent, *["9812345678"] * 5) == [
        (1, "exact"),
        (3, "exact"),
        (4, "key"),
        (None, "surplus"),
        (None, "surplus"),
    ]


def test_a_row_among_equal_numbers_has_all_of_them_as_candidates() -> None:
    index = PhoneIndex([(10, "9812345678"), (20, "+919812345678"), (30, "9812345679")])
    first, second = index.match(failed("9812345678", "9812345679"))
    assert (first.row, first.candidates) == (10, (10, 20))
    assert (second.row, second.candidates) == (30, (30,))


def test_different_numbers_with_one_key_are_ambiguous() -> None:
    sent = ["+6591234567", "6591234567"]
    assert match(sent, "065 9123 4567") == [(None, "ambiguous")]
    assert match(sent, "+6591234567") == match(sent, "6591234567") == [(None, "ambiguous")]
    assert match(sent, "+6591234567", "065 9123 4567") == [(1, "exact"), (2, "key")]
    assert match(sent[:1], "6591234567") == [(1, "key")]


def test_rounded_numbers_match_only_when_one_number_fits() -> None:
    sent = ["919812345678", "9876543210", "+919876543333"]
    assert match(sent, "9.19812E+11") == [(1, "rounded")]
    assert match(sent, "9.19877E+11", "9.19877E+11") == [(None, "ambiguous")] * 2
    assert match(sent, "9.87654E+09") == [(None, "ambiguous")]
    assert match(sent, "9.8765432E+09", "9.11111E+11") == [(2, "rounded"), (None, "unmatched")]
    assert match(["919812345678"] * 2, *["9.19812E+11"] * 3) == [(1, "rounded"), (2, "rounded"), (None, "surplus")]


def test_other_numbers_and_unreadable_cells_are_unmatched() -> None:
    assert match(["9812345678", "12"], "9812345670", "", "abc", "12") == [
        (None, "unmatched"),
        (None, "unmatched"),
        (None, "unmatched"),
        (2, "exact"),
    ]


def test_a_row_made_without_the_written_text_is_matched_by_its_key() -> None:
    (found,) = PhoneIndex([(7, "+919812345678")]).match([FailedRow("9812345678", None, {})])
    assert (found.row, found.how) == (7, "key")


def test_an_index_can_be_used_again() -> None:
    index = PhoneIndex([(1, "9812345678")])
    assert index.match(failed("9812345678")) == index.match(failed("9812345678"))


SPELL = [
    lambda number: number,
    lambda number: "+91" + number,
    lambda number: "0" + number,
    lambda number: f"91 {number[:5]}-{number[5:]}",
    lambda number: f"{number}.0",
    lambda number: f"9.1{number}E+11",
]


@settings(max_examples=200)
@given(
    data=st.data(),
    sent=st.lists(numbers, min_size=1, max_size=30),
)
def test_every_failed_row_of_a_batch_finds_a_row_with_its_number(data: st.DataObject, sent: list[str]) -> None:
    written = [data.draw(st.sampled_from(SPELL))(number) for number in sent]
    chosen = data.draw(st.lists(st.sampled_from(range(len(sent))), unique=True))
    texts = [data.draw(st.sampled_from(SPELL))(sent[place]) for place in chosen]
    matches = PhoneIndex(enumerate(written)).match(failed(*texts))
    rows = [found.row for found in matches]
    assert len(set(rows)) == len(rows)
    for place, found in zip(chosen, matches, strict=True):
        assert found.row is not None
        assert sent[found.row] == sent[place]
        assert place in found.candidates


@settings(max_examples=200)
@given(sent=st.lists(numbers, max_size=20), precision=st.integers(2, 9), data=st.data())
def test_a_rounded_number_is_never_given_to_another_number(
    sent: list[str], precision: int, data: st.DataObject
) -> None:
    assume(sent)
    number = data.draw(st.sampled_from(sent))
    (found,) = PhoneIndex(enumerate(sent)).match(failed(f"{int('91' + number):.{precision}E}"))
    assert found.how in ("rounded", "ambiguous")
    assert found.row is None or sent[found.row] == number


# -- several rows of one number -------------------------------------------------------------------------------------

A, B = "9812345678", "9812345679"
THREE = [(A, "Asha", 5), (B, "Meera", 5), (A, "Ravi", 7)]
DUPLICATE = "Number Already Exist"


def told(
    sent: list[tuple[str, str, int]], *listed: tuple[str, str | None, dict[str, str]]
) -> list[tuple[int | None, str, tuple[int, ...]]]:
    """Where rows of number, reason and other cells are found among rows of number, name and priority."""
    index = PhoneIndex(
        enumerate((number for number, *_ in sent), 1), columns=("PhoneNumber", "Name", "Priority"), cells=sent
    )
    rows = [
        FailedRow(phone_key(number) or "", reason, {"PHONENUMBER": number, **cells}, number)
        for number, reason, cells in listed
    ]
    return [(found.row, found.how, found.candidates) for found in index.match(rows)]


@pytest.mark.parametrize("number", [A, "+91 98123-45678"])
@pytest.mark.parametrize(
    ("cells", "row"),
    [
        ({"Name": "Asha"}, 1),
        ({"name": " RAVI "}, 3),
        ({"Priority": "7"}, 3),
        ({"Name": "Ravi", "Priority": "7.0"}, 3),
        ({"Name": "A…", "Priority": "5"}, 1),
    ],
)
def test_other_cells_tell_rows_of_one_number_apart(number: str, cells: dict[str, str], row: int) -> None:
    how = "exact" if number == A else "key"
    assert told(THREE, (number, "DND", cells)) == told(THREE, (number, DUPLICATE, cells)) == [(row, how, (row,))]


def test_other_cells_count_for_more_than_the_spelling_of_the_number() -> None:
    sent = [("+91" + A, "Asha", 5), (A, "Ravi", 7)]
    assert told(sent, (A, "DND", {"Name": "Asha"})) == [(1, "key", (1,))]
    assert told(sent, (A, "DND", {})) == told(sent, (A, DUPLICATE, {})) == [(None, "ambiguous", (1, 2))]


def test_a_number_that_the_service_spelled_otherwise_is_not_given_to_the_row_that_has_that_spelling() -> None:
    for sent in ([("91" + A, "Asha", 5), (A, "Ravi", 7)], [("+6591234567", "Asha", 5), ("6591234567", "Ravi", 7)]):
        number = sent[1][0]
        assert told(sent, (number, "DND", {"Name": "Asha"})) == [(1, "key", (1,))]
        assert told(sent, (number, "DND", {"Name": "Ravi"})) == [(2, "exact", (2,))]
        assert told(sent, (number, "DND", {"Name": "Gita"})) == [(None, "ambiguous", (1, 2))]
        assert [row for row, *_ in told(sent, (number, "DND", {}), (number, "DND", {}))] == [2, 1]


@settings(max_examples=200)
@given(data=st.data(), names=st.lists(st.sampled_from(["Asha", "Ravi", "Gita"]), min_size=1, max_size=12))
def test_a_row_is_named_only_when_it_is_the_one_that_failed(data: st.DataObject, names: list[str]) -> None:
    """The service rewrites the numbers of its list, and may leave the names out; of one person's rows any is right."""
    sent = [
        (data.draw(st.sampled_from(["", "91", "+91", "0"])) + data.draw(st.sampled_from([A, B])), name, 5)
        for name in names
    ]
    listed = data.draw(st.lists(st.sampled_from(range(len(sent))), unique=True, min_size=1))
    with_names = data.draw(st.booleans())
    found = told(
        sent,
        *(
            (
                data.draw(st.sampled_from(["", "91", "+91"])) + sent[place][0][-10:],
                "DND",
                {"Name": sent[place][1]} if with_names else {},
            )
            for place in listed
        ),
    )
    rows = [row for row, *_ in found if row is not None]
    assert len(set(rows)) == len(rows)
    failed_people = {(sent[place][0][-10:], sent[place][1]) for place in listed}
    assert {(sent[row - 1][0][-10:], sent[row - 1][1]) for row in rows} <= failed_people


@pytest.mark.parametrize("cells", [{}, {"Name": ""}, {"Name": "Gita"}, {"Name": "Asha", "Priority": "7"}, {"Who": "x"}])
def test_equal_other_cells_leave_a_match_ambiguous(cells: dict[str, str]) -> None:
    assert told(THREE, (A, "DND", cells)) == told(THREE, (A, None, cells)) == [(None, "ambiguous", (1, 3))]


@pytest.mark.parametrize("reason", [DUPLICATE, "number already  existed", "Duplicate record", "DUPLICATED"])
def test_of_duplicates_the_first_was_added(reason: str) -> None:
    assert told(THREE, (A, reason, {})) == [(3, "exact", (1, 3))]
    four = [*THREE, (A, "Gita", 5)]
    assert [row for row, *_ in told(four, (A, reason, {}), (A, reason, {}))] == [4, 3]
    # Two of the three have the priority 5, and only the last of them can have been skipped for sure.
    assert told(four, (A, reason, {"Priority": "5"})) == [(4, "exact", (1, 4))]


def test_when_all_rows_of_a_number_failed_each_is_named_once() -> None:
    assert [row for row, *_ in told(THREE, (A, "DND", {}), (A, "DND", {}))] == [1, 3]
    assert [row for row, *_ in told(THREE, (A, DUPLICATE, {}), (A, "DND", {}))] == [3, 1]
    assert [row for row, *_ in told(THREE, (A, "DND", {}), (A, "DND", {"Name": "Asha"}))] == [3, 1]


def test_a_row_listed_too_often_is_not_given_to_another() -> None:
    assert told(THREE, *[(A, "DND", {"Name": "Ravi"})] * 2) == [(3, "exact", (3,)), (None, "surplus", (3,))]


def test_equal_rows_are_interchangeable() -> None:
    assert told([THREE[0]] * 2, (A, "DND", {})) == [(1, "exact", (1, 2))]
