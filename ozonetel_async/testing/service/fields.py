"""How the service reads single fields: numbers, names, priorities, dates, flags."""

from __future__ import annotations

import re
from datetime import datetime, time

__all__ = ["NAME", "PHONE", "flag", "moment", "priority", "text"]

# Add Campaign Data, error table: "must be between 3 to 16 digits and allows prefix +".
PHONE = re.compile(r"\+?[0-9]{3,16}")
# Bulk V4, "Name field validation".
NAME = re.compile(r"[A-Za-z0-9_ ().+$%:\-]*")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(_DAY.pattern + r" [0-9]{2}:[0-9]{2}:[0-9]{2}")
_END_OF_DAY = time(23, 59, 59)


def text(value: object) -> str:
    """A field as the service's own text: null is empty, booleans are words."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def flag(value: object) -> bool:
    """Only ``true``, as a boolean or as a word in any case, is true."""
    return value is True or text(value).strip().lower() == "true"


def priority(value: str) -> int:
    """The priority, 1 when it cannot be read.

    Add Campaign Data, error table, accepts an "invalid" one, although its message demands a number from 0 to 99.
    """
    value = value.strip()
    return int(value) if value.isascii() and value.isdigit() and int(value) <= 99 else 1


def moment(value: str, *, day_allowed: bool = True) -> datetime | None:
    """``YYYY-MM-DD HH:MM:SS``, or ``YYYY-MM-DD`` (its end) if allowed, as a naive time of the platform; else None."""
    try:
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
        if day_allowed and _DAY.fullmatch(value):
            return datetime.combine(datetime.fromisoformat(value), _END_OF_DAY)
    except ValueError:
        return None
    return None
