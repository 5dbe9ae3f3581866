"""The service's columns and their checks, as one table.

The checks themselves are in ``cells``; here is which column has which.

==============  ========================================================  ==========================================
column          a good cell                                               source
==============  ========================================================  ==========================================
PhoneNumber     3 to 16 digits, optional leading ``+``                    Add Campaign Data, error table
Name            letters, digits, ``_``, blank, ``( ) . + $ % - :``        Bulk V4, "Name field validation"
Priority        whole number 0 to 99                                      Add Campaign Data, error table
ExpiryDate      ``YYYY-MM-DD`` or ``YYYY-MM-DD HH:MM:SS``, not past       Add Campaign Data, error table
ScheduledTime   ``YYYY-MM-DD HH:MM:SS``, future, within the horizon       Schedule Campaign Data
AgentId, skill  text, not blank; schedule pages spell ``AgentID``         Bulk V4; Schedule Campaign Data
others          text without control characters, number or date           Bulk V4, "mapping"
==============  ========================================================  ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

from ..config import Cleaning, Dialect
from ..masking import redact
from .checks import (
    UNSENDABLE,
    ColumnCheck,
    DateCheck,
    DateLimits,
    ExtraCheck,
    NameCheck,
    PhoneCheck,
    PriorityCheck,
    RefusedCheck,
    TextCheck,
    TimeCheck,
    shape,
)

__all__ = [
    "PHONE",
    "REQUIRED",
    "Layout",
    "check_for",
    "columns_problem",
    "extra_problem",
    "hint_for",
    "label",
    "lead_columns",
    "name_problem",
    "single_extra_problem",
]

Layout: TypeAlias = Literal["bulk", "schedule"]

PHONE, NAME, PRIORITY, EXPIRY, SKILL, TIME = (
    "PhoneNumber",
    "Name",
    "Priority",
    "ExpiryDate",
    "skill",
    "ScheduledTime",
)
AGENT: dict[Layout, str] = {"bulk": "AgentId", "schedule": "AgentID"}
REQUIRED: dict[Layout, tuple[str, ...]] = {"bulk": (PHONE,), "schedule": (PHONE, TIME)}

# What people call the phone column in their own files; used for hints only, never to guess.
_PHONE_ALIASES = frozenset(("phone", "phoneno", "mobile", "mobileno", "mobilenumber", "contactnumber", "msisdn", "tel"))
# Add Campaign Data sends the lead's columns beside these (squeezed) fields of the request, in one object.
_REQUEST_FIELDS = frozenset(
    ("apikey", "username", "campaignname", "action", "checkduplicate", "skipnamefieldvalidation")
)
_NOT_ALNUM = re.compile(r"[\W_]+")


def check_for(
    column: str, layout: Layout, dialect: Dialect, bounds: DateLimits, clean: Cleaning | None = None
) -> ColumnCheck:
    """The check of a column, by its service name; a name that is not the service's own is a campaign's column.

    Args:
        column: the name.
        layout: which endpoint's columns.
        dialect: plus policy, priority range and horizon.
        bounds: what dates are held against.
        clean: what may be repaired in its cells.
    """
    plus = dialect.plus if layout == "bulk" else dialect.schedule_plus
    makers: dict[str, Callable[[], ColumnCheck]] = {
        PHONE: lambda: PhoneCheck(plus),
        NAME: NameCheck,
        PRIORITY: lambda: PriorityCheck(dialect.priority_min, dialect.priority_max),
        EXPIRY: lambda: DateCheck(bounds),
        AGENT[layout]: TextCheck,
        SKILL: TextCheck,
        TIME: RefusedCheck if layout == "bulk" else lambda: TimeCheck(bounds, dialect.schedule_horizon_days),
    }
    if clean is not None:
        # Imported here: most programs send rows that need no cleaning.
        from .cleaning.checks import cleaning_check

        kind = {PHONE: "phone", NAME: "name"}.get(column, "other" if column in makers else "extra")
        if (check := cleaning_check(kind, clean, plus, bounds)) is not None:
            return check
    return makers.get(column, lambda: ExtraCheck(bounds))()


def lead_columns(layout: Layout) -> dict[str, str]:
    """The fields of a ``Lead`` and the columns they fill, in the order in which they are sent."""
    return {
        "phone_number": PHONE,
        "name": NAME,
        "priority": PRIORITY,
        "expiry": EXPIRY,
        "agent_id": AGENT[layout],
        "skill": SKILL,
        "scheduled_time": TIME,
    }


def label(name: object) -> str:
    """A column's name for a message: short, printable, and nothing that looks like a phone number."""
    if not isinstance(name, str):
        return shape(name)
    return redact(UNSENDABLE.sub("?", name[:64]))


def _squeezed(name: str) -> str:
    return _NOT_ALNUM.sub("", name).casefold()


def hint_for(name: str, layout: Layout) -> str | None:
    """The service's spelling of a column that is spelled nearly so, or None."""
    squeezed = _squeezed(name)
    for column in lead_columns(layout).values():
        if squeezed == column.casefold() and name != column:
            return column
    return PHONE if squeezed in _PHONE_ALIASES else None


def name_problem(name: object, layout: Layout) -> str | None:
    """Why ``name`` cannot be a column's name, or None when it can."""
    if not isinstance(name, str) or not name.strip():
        return f"a column's name is {shape(name)}; expected text"
    if name != name.strip() or UNSENDABLE.search(name):
        return "a column's name has blanks at an end or control characters in it; expected the mapped name"
    hint = hint_for(name, layout)
    if hint is not None and _squeezed(name) == hint.casefold():
        return f"column {label(name)!r} is spelled {hint!r} by the service"
    if name == TIME and layout == "bulk":
        return f"column {TIME!r} belongs to schedule_leads only"
    return None


def extra_problem(name: object, layout: Layout) -> str | None:
    """Why ``name`` cannot be the name of a lead's extra column, or None when it can."""
    if isinstance(name, str) and name in lead_columns(layout).values():
        return "a lead has a field of its own for this column"
    return name_problem(name, layout)


# Each of a process's few column names is asked about once per lead.
@lru_cache(maxsize=1024, typed=True)
def single_extra_problem(name: object) -> str | None:
    """``extra_problem`` for a lead sent alone, whose columns stand beside the fields of its request."""
    problem = extra_problem(name, "bulk")
    if problem is None and isinstance(name, str) and _squeezed(name) in _REQUEST_FIELDS:
        problem = "this is a field of the request itself, not of the lead"
    return problem


def columns_problem(names: Sequence[object], layout: Layout) -> str | None:
    """Why these cannot be the columns of a request, or None when they can."""
    for name in names:
        if (problem := name_problem(name, layout)) is not None:
            return problem
    for column in REQUIRED[layout]:
        if column not in names:
            found = [name for name in names if isinstance(name, str)]
            near = [name for name in found if hint_for(name, layout) == column]
            hint = f"; rename {near[0]!r} to it" if near else ""
            among = ", ".join([repr(label(name)) for name in found[:40]]) or "no columns"
            return f"column {column!r} is missing among {among}{hint}"
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    return f"column {label(twice[0])!r} stands there twice" if twice else None
