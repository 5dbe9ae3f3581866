"""A made-up file of leads such as people have: Excel's CSV, own headers, repeats, and every kind of bad row.

The numbers begin with 12 behind the country code. No subscriber's number in India does, so that a file that is kept
and uploaded to a real account calls nobody.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Final

from msgspec import Struct, field

__all__ = ["CAMPAIGN_COLUMNS", "FLAWS", "RENAMES", "LeadFile", "phone_number", "write_leads"]

HEADER: Final = ("Mobile", "Customer Name", "Priority", "ExpiryDate", "City", "Email", "Remarks")
RENAMES: Final[dict[str, str | None]] = {"Mobile": "PhoneNumber", "Customer Name": "Name", "Remarks": None}
CAMPAIGN_COLUMNS: Final = ("City", "Email")

_MOBILE, _NAME, _PRIORITY, _EXPIRY, _CITY, _EMAIL, _REMARKS = range(len(HEADER))

# Shares of the rows.
_FLAWED: Final = 0.035
_REPEATED: Final = 0.04
_DO_NOT_DISTURB: Final = 0.003

_FIRST_NAMES: Final = (  # noqa: SIM905 - one word a line would fill a screen
    "Aarav Aditi Ananya Arjun Asha Bhavna Chetan Deepika Farhan Gaurav Harpreet Ishaan Jyoti Kavya "
    "Lakshmi Manoj Meera Nikhil Pooja Rahul Rekha Sanjay Shreya Sunita Tanvi Uday Vikram Yasmin"
).split()
_LAST_NAMES: Final = (  # noqa: SIM905 - one word a line would fill a screen
    "Agarwal Banerjee Chatterjee Das Deshpande Gupta Iyer Joshi Kaur Khan Kumar Mehta Menon Mukherjee "
    "Nair Patel Pillai Rao Reddy Sharma Singh Verma"
).split()
_CITIES: Final = ("Mumbai", "New Delhi", "Bengaluru", "बेंगलुरु", "Chennai", "சென்னை", "Kolkata", "কলকাতা", "Pune", "")
_REMARK_TEXTS: Final = ("", "", "call after 6 pm", 'said "maybe", ask again', "old number\nsee ticket", "Ltd., Pune")


class LeadFile(Struct):
    """What was written, against which the result of uploading it is checked.

    Attributes:
        rows: rows below the header.
        flaws: what is wrong with each bad row, by its 1-based number.
        numbers: the distinct numbers of the good rows, without a leading plus.
        repeats: good rows whose number stands in an earlier one.
        do_not_disturb: those of ``numbers`` that the service is to refuse as do-not-disturb numbers.
    """

    rows: int = 0
    flaws: dict[int, str] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    repeats: int = 0
    do_not_disturb: set[str] = field(default_factory=set)


_Spoil = Callable[[list[str], Random, date], None]


def _put(position: int, *cells: str) -> _Spoil:
    """Put one of these cells there."""

    def spoil(row: list[str], random: Random, today: date) -> None:
        row[position] = random.choice(cells)

    return spoil


def _blank_inside(row: list[str], random: Random, today: date) -> None:
    row[_MOBILE] = f"{row[_MOBILE][:-5]} {row[_MOBILE][-5:]}"


def _past(row: list[str], random: Random, today: date) -> None:
    row[_EXPIRY] = (today - timedelta(days=random.randint(2, 400))).isoformat()


def _too_few(row: list[str], random: Random, today: date) -> None:
    del row[random.randint(1, len(row) - 1) :]


def _too_many(row: list[str], random: Random, today: date) -> None:
    row.append("surplus")


# Each spoils exactly one thing, in the order in which they take turns.
FLAWS: Final[dict[str, _Spoil]] = {
    "phone missing": _put(_MOBILE, ""),
    "phone with letters": _put(_MOBILE, "not given", "O98I2345678", "N/A"),
    "phone with blanks inside": _blank_inside,
    "phone too short": _put(_MOBILE, "12", "+7"),
    "phone too long": _put(_MOBILE, "91120000000012345"),
    "phone as a spreadsheet shows it": _put(_MOBILE, "9.11234E+11"),
    "name outside ASCII": _put(_NAME, "आशा शर्मा", "Jyotsnā Iyer", "முருகன்", "José D Souza"),
    "name with a forbidden character": _put(_NAME, "Sean O'Brien", "A&B Traders", "R@hul", "Rao/Reddy"),
    "priority out of range": _put(_PRIORITY, "100", "250"),
    "priority not a number": _put(_PRIORITY, "high", "-1", "2.5"),
    "expiry past": _past,
    "expiry in another form": _put(_EXPIRY, "31/12/2099", "2099-12-31T10:00:00", "31-Dec-99"),
    "expiry not in the calendar": _put(_EXPIRY, "2099-02-30", "2099-13-01"),
    "control character": _put(_CITY, "Mumbai\x07", "Navi\nMumbai", "Pune\t"),
    "row too long": _put(_CITY, "x" * 2_100),
    "too few cells": _too_few,
    "too many cells": _too_many,
}


def phone_number(index: int, seed: int = 0) -> str:
    """The ``index``-th of 90 million different numbers of ten digits."""
    # A prime step that shares no factor with 90 million visits each of them once.
    return str(1_200_000_000 + (seed * 7_919 + index * 2_654_435_761) % 90_000_000)


def write_leads(path: str, rows: int, seed: int, today: date) -> LeadFile:
    """Write a file of ``rows`` leads below a header.

    Args:
        path: where to; UTF-8 with a byte order mark and CRLF line ends, as Excel writes it.
        seed: the same seed and day give the same file.
        today: the day in the platform's zone, against which expiry dates are set.
    """
    random = Random(seed)  # noqa: S311 - reproducible, no secrets
    known = LeadFile(rows=rows)
    flaws = list(FLAWS)
    given: list[str] = []
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(1, rows + 1):
            cells = _good_row(_spelled(phone_number(number, seed), random), random, today)
            if random.random() < _FLAWED:
                known.flaws[number] = flaw = flaws[len(known.flaws) % len(flaws)]
                FLAWS[flaw](cells, random, today)
            else:
                if given and random.random() < _REPEATED:
                    cells[_MOBILE] = random.choice(given)
                _note(known, given, cells[_MOBILE], random)
            writer.writerow(cells)
    return known


def _note(known: LeadFile, given: list[str], phone: str, random: Random) -> None:
    digits = phone.lstrip("+")
    if digits in known.numbers:
        known.repeats += 1
        return
    known.numbers.add(digits)
    # Repeats come with and without the plus.
    given += [phone, digits]
    if random.random() < _DO_NOT_DISTURB:
        known.do_not_disturb.add(digits)


def _spelled(phone: str, random: Random) -> str:
    return random.choice(("+91", "91", "")) + phone


def _good_row(phone: str, random: Random, today: date) -> list[str]:
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    expiry = (today + timedelta(days=random.randint(1, 60))).isoformat()
    return [
        phone,
        f"{first} {last}",
        random.choice(("", str(random.randint(0, 99)))),
        random.choice(("", expiry, f"{expiry} 18:30:00")),
        random.choice(_CITIES),
        f"{first}.{last}@example.com".lower(),
        random.choice(_REMARK_TEXTS),
    ]
