"""Headers as people write them, and which of them are taken for what."""

from __future__ import annotations

import pytest

from ozonetel_async.errors import ConfigurationError, InputError
from ozonetel_async.rows.headers import is_phone_header, read_header, service_name

NUMBERS = [["9812300001", "+91 98123 00002"], ["(555) 123-4567", "`+880-1400000002"]]


@pytest.mark.parametrize(
    "name",
    [
        *("Phone", "MOBILE", "Mobile Phone Number", "phone_no", "PhoneNo.", "Number (Mobile)", "Registered Mobile"),
        *("Contact No", "contact number", "ContactNo", "WhatsApp", "whatsapp_number", "Tel", "telephone", "Cell #"),
        *("mobileno", "Customer cell phone", "MSISDN"),
    ],
)
def test_headers_of_phone_columns_are_recognised(name: str) -> None:
    assert is_phone_header(name)


@pytest.mark.parametrize(
    "name", ["Record ID", "Number", "Contact", "Contact Name", "Hotel", "Cancelled", "Automobile", "Excellent", "No"]
)
def test_other_headers_are_not(name: str) -> None:
    assert not is_phone_header(name)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("name", "Name"),
        ("PRIORITY", "Priority"),
        ("phone number", "PhoneNumber"),
        ("Expiry-Date", "ExpiryDate"),
        ("agent id", "AgentId"),
        ("AgentID", "AgentID"),
        ("Skill", "skill"),
        ("City", "City"),
    ],
)
def test_the_services_columns_are_known_in_any_spelling(name: str, column: str) -> None:
    assert service_name(name) == column


def test_the_only_phone_column_is_taken_and_told() -> None:
    header = read_header(["Record ID", "Mobile"], {}, [["10151", "9812300001"]])
    assert header.columns == ("Record ID", "PhoneNumber")
    assert header.notes == ("column 'Mobile' is taken as PhoneNumber",)


def test_of_two_phone_columns_the_one_with_numbers_is_taken() -> None:
    sample = [["yes", "98123 00001"], ["no", "98123 00002"]]
    assert read_header(["Mobile verified", "Phone"], {}, sample).columns == ("Mobile verified", "PhoneNumber")
    dates = [["07/05/2025 10:00", "98123 00001"]]
    assert read_header(["Phone checked", "Phone"], {}, dates).columns == ("Phone checked", "PhoneNumber")


def test_two_phone_columns_are_an_error_that_names_both() -> None:
    with pytest.raises(InputError) as caught:
        read_header(["Mobile", "Phone"], {}, NUMBERS)
    assert str(caught.value) == (
        "'Mobile' and 'Phone' both look like phone numbers; say which one to send: "
        "columns={'Mobile': 'PhoneNumber'} or columns={'Phone': 'PhoneNumber'}"
    )


def test_a_column_that_is_not_recognised_is_never_proposed() -> None:
    with pytest.raises(InputError) as caught:
        read_header(["Record ID", "Serial"], {}, [["9812300001", "9812300002"]])
    assert "columns={HEADER: 'PhoneNumber'}" in str(caught.value)
    assert "'Record ID': " not in str(caught.value)


@pytest.mark.parametrize("cell", ["", "NA"])
def test_a_recognised_column_without_numbers_is_named_and_not_proposed(cell: str) -> None:
    with pytest.raises(InputError) as caught:
        read_header(["Primary No", "Alt Mobile", "Phone"], {}, [["9812300001", cell, cell]])
    assert str(caught.value) == (
        "no column PhoneNumber among 'Primary No', 'Alt Mobile', 'Phone'; the first cells of 'Alt Mobile', 'Phone' "
        "hold no phone numbers; say which one holds the numbers: columns={HEADER: 'PhoneNumber'}"
    )


def test_a_column_named_by_the_caller_is_not_looked_for() -> None:
    renames = {"Serial": "PhoneNumber", "Mobile": None}
    assert read_header(["Serial", "Mobile"], renames, NUMBERS).columns == ("PhoneNumber",)


def test_all_mistakes_are_told_at_once_each_with_what_mends_it() -> None:
    names = ["Id", "Notes", "Notes", "name", "Name", "Priority"]
    sample = [["1", "a", "b", "Asha", "Asha", "Normal"]]
    with pytest.raises(ConfigurationError) as caught:
        read_header(names, {"Nome": "skill"}, sample)
    told = str(caught.value)
    for part in (
        "no header 'Nome'",
        "columns={HEADER: 'PhoneNumber'}",
        "'Notes' stands there twice (columns 2, 3); leave both out: columns={'Notes': None}",
        "two headers become column 'Name': 'name', 'Name'; leave one out: columns={'name': None}",
        "column 'Priority' holds words such as 'Normal': it is another system's",
        "columns={'Priority': None}",
    ):
        assert part in told


def test_only_the_services_columns_and_the_renamed_ones() -> None:
    names = ["Mobile", "name", "City", "Remarks", "Notes", "Notes"]
    header = read_header(names, {"City": "Town"}, [["9812300001"]], only=True)
    assert (header.columns, header.kept) == (("PhoneNumber", "Name", "Town"), (0, 1, 2))


def test_columns_of_rejects_and_columns_without_a_name_are_left_out() -> None:
    names = ["PhoneNumber", "", "City", "rejected_row", "rejected_line", "rejected_column", "rejected_reason"]
    header = read_header(names, {}, [])
    assert (header.columns, header.nameless, header.escaped) == (("PhoneNumber", "City"), (1,), False)
