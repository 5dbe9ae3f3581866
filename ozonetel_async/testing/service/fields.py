"""How the service reads single fields: numbers, names, priorities, dates, flags."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

__all__ = ["NAME", "PHONE", "flag", "moment", "priority", "text", "within"]

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


def priority(value: str, strict: bool) -> int | None:
    """The priority, 1 when it cannot be read and the service is not strict, None when it is refused.

    Add Campaign Data, error table, refuses an empty value and accepts an "invalid" one, while its message demands
    a number from 0 to 99.
    """
    value = value.strip()
    if not value:
        return None
    if value.isascii() and value.isdigit() and int(value) <= 99:
        return int(value)
    return None if strict else 1


def moment(value: str, *, day_allowed: bool = True, end_of_day: bool = True) -> datetime | None:
    """``YYYY-MM-DD HH:MM:SS``, or ``YYYY-MM-DD`` if allowed, as a naive time of the platform's zone; else None."""
    try:
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
        if day_allowed and _DAY.fullmatch(value):
            day = datetime.fromisoformat(value)
            return datetime.combine(day, _END_OF_DAY) if end_of_day else day
    except ValueError:
        return None
    return None


def within(value: datetime, now: datetime, days: int) -> bool:
    """Whether ``value`` lies after ``now`` and at most ``days`` days ahead."""
    return now < value <= now + timedelta(days=days)
