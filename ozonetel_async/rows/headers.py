"""What the header of a table says: which columns are sent, under which of the service's names.

Nothing is guessed: a column becomes ``PhoneNumber`` when its header has a word for phones in it and its first cells
look like numbers, and when it is the only such column. What was taken on that ground is told in ``Header.notes``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from ..errors import ConfigurationError, InputError
from .columns import AGENT, PHONE, PRIORITY, label, lead_columns

__all__ = [
    "ESCAPED",
    "REJECTED",
    "REPORTED",
    "SAMPLE_ROWS",
    "Header",
    "header_score",
    "is_phone_header",
    "own_columns",
    "read_header",
    "service_name",
]

SAMPLE_ROWS: Final = 20
"""So many rows below a header are looked at."""

REJECTED: Final = ("rejected_row", "rejected_line", "rejected_column", "rejected_reason")
"""Columns that a file of rejects has behind those of its input; left out when it is read."""
ESCAPED: Final = "rejected_escaped"
"""One more such column, in a file whose cells were made safe for spreadsheets."""
REPORTED: Final = ("rejected_match", "rejected_number")
"""Two more, in a file of rows that the service reported as failed."""

_LEFT_OUT: Final = frozenset((*REJECTED, *REPORTED, ESCAPED))

_NOT_LETTERS = re.compile(r"[\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PHONE = r"(?:tele|cell|mobile|smart)?phone|mobile|mob|cell|tel|whatsapp|msisdn"
_PHONE_WORD = re.compile(rf"(?:{_PHONE}|contact(?=no|num))(?:{_PHONE})*(?:no|num|number)?s?")
_NUMBER_WORDS = frozenset(("no", "nos", "num", "number", "numbers"))
# What stands in a cell beside a number, such as "Mob:", "tel:" or an exponent's E.
_MOST_LETTERS = 6
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}(?!\d)|\d{1,2}:\d\d")
_SERVICE_NAMES = {
    column.casefold(): column for layout in ("schedule", "bulk") for column in lead_columns(layout).values()
}
_EXACT = frozenset((*_SERVICE_NAMES.values(), *AGENT.values()))


class Header(Struct, frozen=True):
    """The columns of a table.

    Attributes:
        columns: the service's names of the columns that are sent, in the table's order.
        kept: their positions.
        nameless: positions of columns without a name, whose cells must be blank.
        notes: what was taken for what, for the user to see.
        escaped: whether cells carry a mark that keeps spreadsheets from computing them.
    """

    columns: tuple[str, ...]
    kept: tuple[int, ...]
    nameless: tuple[int, ...]
    notes: tuple[str, ...]
    escaped: bool


def own_columns(header: Sequence[str]) -> list[int]:
    """Positions of a table's own columns, without those that a file of rejects has more."""
    return [i for i, name in enumerate(header) if name not in _LEFT_OUT]


def service_name(name: str) -> str:
    """The service's spelling of a name that is one of its own in another case, with blanks or dashes; else the name."""
    return name if name in _EXACT else _SERVICE_NAMES.get(_NOT_LETTERS.sub("", name).casefold(), name)


def is_phone_header(name: str) -> bool:
    """Whether a header has a word for phone numbers in it, in any case and order."""
    words = [word.casefold() for word in _NOT_LETTERS.split(f"{name} {_CAMEL.sub(' ', name)}") if word]
    if "contact" in words and not _NUMBER_WORDS.isdisjoint(words):
        return True
    return any(_PHONE_WORD.fullmatch(word) for word in words)


def header_score(names: Sequence[str], renames: Mapping[str, str | None], delimiters: str) -> tuple[int, int, int]:
    """How much a line looks like a header: columns that are known, columns that look like phones, and all columns."""
    names = [name.strip() for name in names]
    known = sum(name in renames or name in _LEFT_OUT or service_name(name) in _EXACT for name in names)
    phones = sum(is_phone_header(name) for name in names if not any(mark in name for mark in delimiters))
    return known, phones, len(names)


def read_header(
    header: Sequence[str], renames: Mapping[str, str | None], sample: Sequence[Sequence[object]], *, only: bool = False
) -> Header:
    """Find the columns of a table that are sent.

    Args:
        header: the names in the table.
        renames: the service's names for them; None leaves a column out.
        sample: the first rows below the header.
        only: leave out what is neither one of the service's columns nor renamed.

    Raises:
        ConfigurationError: ``renames`` does not fit the header.
        InputError: the header is wrong. Both tell all mistakes at once, each with the ``columns=`` that mends it.
    """
    names = [name.strip(" \t\r\n\xa0\ufeff") for name in header]
    renames = {name.strip(): column for name, column in renames.items()}
    wrong = [f"no header {label(name)!r} among {_listed(names)}" for name in renames if name not in names]
    argument = bool(wrong)
    targets = [_target(name, renames) for name in names]
    notes: list[str] = []
    if PHONE not in targets:
        found, problem = _phone_column(names, targets, renames, sample)
        if found is None:
            wrong.append(problem)
        else:
            targets[found] = PHONE
            notes.append(f"column {label(names[found])!r} is taken as {PHONE}")
    if only:
        targets = [
            target if target in _EXACT or renames.get(name) is not None else None
            for name, target in zip(names, targets, strict=True)
        ]
    kept = [i for i, target in enumerate(targets) if target is not None]
    wrong += _doubled(names, targets, renames)
    wrong += _foreign_priority(names, targets, sample)
    if wrong:
        raise (ConfigurationError if argument else InputError)("; ".join(wrong))
    return Header(
        tuple([targets[i] or "" for i in kept]),
        tuple(kept),
        tuple([i for i, name in enumerate(names) if not name and "" not in renames]),
        tuple(notes),
        ESCAPED in names,
    )


def _target(name: str, renames: Mapping[str, str | None]) -> str | None:
    if name in renames:
        return renames[name]
    return None if not name or name in _LEFT_OUT else service_name(name)


def _phone_column(
    names: Sequence[str],
    targets: Sequence[str | None],
    renames: Mapping[str, str | None],
    sample: Sequence[Sequence[object]],
) -> tuple[int | None, str]:
    """Where the phone numbers are, or what is wrong."""
    called = [i for i, name in enumerate(names) if targets[i] is not None and is_phone_header(name)]
    called = [i for i in called if names[i] not in renames]
    # Several are told apart by their cells; a table without rows has none to look at.
    filled = [i for i in called if not sample or _looks_like_numbers(_cells(sample, i))]
    if len(filled) == 1:
        return filled[0], ""
    if len(filled) > 1:
        both = " and ".join([repr(label(names[i])) for i in filled])
        mend = " or ".join([_mend(names[i], PHONE) for i in filled])
        return None, f"{both} both look like phone numbers; say which one to send: {mend}"
    if any(name.lstrip("+").isdecimal() for name in names):
        return None, "the first line is no header, it holds numbers; put a line with PhoneNumber,… above it"
    missing = f"no column {PHONE} among {_listed(names)}"
    if called:
        # None of them is proposed: the numbers are more likely in a column that is called otherwise.
        missing += f"; the first cells of {_listed([names[i] for i in called])} hold no phone numbers"
    return None, f"{missing}; say which one holds the numbers: columns={{HEADER: {PHONE!r}}}"


def _cells(sample: Sequence[Sequence[object]], i: int) -> list[str]:
    return [text for row in sample if i < len(row) and (text := str(row[i]).strip())]


def _looks_like_numbers(cells: Sequence[str]) -> bool:
    """Whether half the cells or more look like phone numbers, as people and spreadsheets write them."""
    good = 0
    for cell in cells:
        digits = sum(map(str.isdigit, cell))
        letters = sum(map(str.isalpha, cell))
        good += 5 <= digits <= 40 and letters <= _MOST_LETTERS and not _DATE.match(cell) and "@" not in cell
    return good > 0 and good * 2 >= len(cells)


def _doubled(names: Sequence[str], targets: Sequence[str | None], renames: Mapping[str, str | None]) -> list[str]:
    wrong: list[str] = []
    for column in dict.fromkeys(targets):
        at = [i for i, target in enumerate(targets) if target == column]
        if column is None or len(at) < 2:
            continue
        spelt = list(dict.fromkeys(names[i] for i in at))
        if len(spelt) == 1:
            wrong.append(
                f"header {label(spelt[0])!r} stands there twice (columns {', '.join(str(i + 1) for i in at)}); "
                f"leave both out: {_mend(spelt[0], None)}"
            )
        else:
            out = next((name for name in reversed(spelt) if name not in renames and name != column), spelt[-1])
            wrong.append(
                f"two headers become column {label(column)!r}: {_listed(spelt)}; leave one out: {_mend(out, None)}"
            )
    return wrong


def _foreign_priority(
    names: Sequence[str], targets: Sequence[str | None], sample: Sequence[Sequence[object]]
) -> list[str]:
    """Other systems have a column of this name too, with words in it."""
    if PRIORITY not in targets:
        return []
    i = targets.index(PRIORITY)
    cells = _cells(sample, i)
    if not cells or not all(cell.isalpha() for cell in cells):
        return []
    return [
        f"column {label(names[i])!r} holds words such as {label(cells[0])!r}: it is another system's, the service's is "
        f"a number from 0 to 99; leave it out: {_mend(names[i], None)}"
    ]


def _mend(name: str, column: str | None) -> str:
    return f"columns={{{label(name)!r}: {column!r}}}"


def _listed(header: Sequence[str]) -> str:
    return ", ".join([repr(label(name)) for name in header[:40] if name]) or "no names"
