"""One lead for Add Campaign Data, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Required, TypedDict
from zoneinfo import ZoneInfo

from ..config import Dialect
from ..errors import InvalidLeadError, OzonetelError
from ..models import Lead
from .checks import (
    BadCell,
    ColumnCheck,
    DateCheck,
    DateLimits,
    ExtraCheck,
    TextCheck,
    Value,
    is_missing,
    shape,
    unreadable,
)
from .columns import check_for, label, lead_columns, single_extra_problem

__all__ = ["CheckedLead", "check_lead"]


class CheckedLead(TypedDict, total=False):
    """A lead's fields as they are sent; those it leaves out are absent."""

    phone_number: Required[str]
    name: str
    priority: int
    expiry: str
    agent_id: str
    skill: str
    extra: dict[str, Value]


def check_lead(
    lead: Lead, *, dialect: Dialect, timezone: ZoneInfo, now: datetime, skip_name_validation: bool = False
) -> CheckedLead:
    """Check one lead for Add Campaign Data, and bring its fields into the service's form.

    Args:
        lead: the lead; a field that is None or an empty text is left out.
        dialect: plus policy and priority range.
        timezone: the platform's zone.
        now: the present moment; naive means in ``timezone``.
        skip_name_validation: let the name be any text that can be sent.

    Raises:
        InvalidLeadError: a field that the service would not take, by its name in ``Lead`` or in ``extra``.
    """
    if not isinstance(lead, Lead):
        raise InvalidLeadError("lead", f"{shape(lead)}; right would be a Lead")
    field = "phone_number"
    checks = _lead_checks(dialect, skip_name_validation)
    try:
        checked = CheckedLead(phone_number=checks[field].one(lead.phone_number))  # type: ignore[typeddict-item]
        for field in _PLAIN_FIELDS:
            cell = getattr(lead, field)
            if not is_missing(cell):
                checked[field] = checks[field].one(cell)  # type: ignore[literal-required]
        field = "expiry"
        if not is_missing(lead.expiry):
            checked["expiry"] = DateCheck(DateLimits(timezone, now)).one(lead.expiry)  # type: ignore[typeddict-item]
        field = "extra"
        if lead.extra:
            checked["extra"] = _extra_cells(lead.extra, timezone)
    except BadCell as problem:
        raise InvalidLeadError(field, problem.reason) from None
    except OzonetelError:
        raise
    except Exception as error:
        raise InvalidLeadError(field, unreadable(error)) from None
    return checked


_PLAIN_FIELDS = ("name", "priority", "agent_id", "skill", "scheduled_time")


@lru_cache(maxsize=16)
def _lead_checks(dialect: Dialect, skip_name_validation: bool) -> dict[str, ColumnCheck]:
    # None of these is held against the clock, so that one set serves every call.
    bounds = DateLimits(ZoneInfo("UTC"), datetime.min)
    checks = {field: check_for(column, "bulk", dialect, bounds) for field, column in lead_columns("bulk").items()}
    return checks | ({"name": TextCheck()} if skip_name_validation else {})


@lru_cache(maxsize=16)
def _extra_check(timezone: ZoneInfo) -> ExtraCheck:
    return ExtraCheck(DateLimits(timezone, datetime.min))  # its dates are not held against the clock


def _extra_cells(extra: object, timezone: ZoneInfo) -> dict[str, Value]:
    if type(extra) is not dict and not isinstance(extra, Mapping):
        raise BadCell(f"{shape(extra)}; right would be a mapping of column names to cells")
    check = _extra_check(timezone)
    sent: dict[str, Value] = {}
    for name, cell in extra.items():
        if (problem := single_extra_problem(name)) is not None:
            raise InvalidLeadError(label(name), problem)
        try:
            value = check.one(cell)
        except BadCell as bad:
            raise InvalidLeadError(label(name), bad.reason) from None
        if value != "":
            sent[name] = value
    return sent
