"""One lead for Add Campaign Data, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Required, TypedDict
from zoneinfo import ZoneInfo

from ..config import Cleaning, Dialect
from ..errors import InvalidLeadError, OzonetelError
from ..models import CellCounts, Lead
from .checks import (
    BadCell,
    ColumnCheck,
    DateCheck,
    DateLimits,
    TextCheck,
    Value,
    is_missing,
    not_a,
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
    lead: Lead,
    *,
    dialect: Dialect,
    timezone: ZoneInfo,
    now: datetime,
    skip_name_validation: bool = False,
    clean: Cleaning | None = None,
    cleaned: CellCounts | None = None,
) -> CheckedLead:
    """Check one lead for Add Campaign Data, and bring its fields into the service's form.

    Args:
        lead: the lead; a field that is None or an empty text is left out.
        dialect: plus policy and priority range.
        timezone: the platform's zone.
        now: the present moment; naive means in ``timezone``.
        skip_name_validation: let the name be any text that can be sent; it is not cleaned then.
        clean: what may be repaired.
        cleaned: where to count what was repaired, by column and kind.

    Raises:
        InvalidLeadError: a field that the service would not take, by its name in ``Lead`` or in ``extra``.
    """
    if not isinstance(lead, Lead):
        raise InvalidLeadError("lead", not_a("Lead", lead))
    field = "phone_number"
    checks = _lead_checks(dialect, skip_name_validation, clean)
    kinds: dict[str, str] = {}
    try:
        number, kinds[field] = checks[field].repaired(lead.phone_number)
        checked = CheckedLead(phone_number=number)  # type: ignore[typeddict-item]
        for field in _PLAIN_FIELDS:
            cell = getattr(lead, field)
            if not is_missing(cell):
                value, kinds[field] = checks[field].repaired(cell)
                if value != "":
                    checked[field] = value  # type: ignore[literal-required]
        field = "expiry"
        if not is_missing(lead.expiry):
            checked["expiry"] = DateCheck(DateLimits(timezone, now)).one(lead.expiry)  # type: ignore[typeddict-item]
        field = "extra"
        if lead.extra:
            checked["extra"] = _extra_cells(lead.extra, timezone, clean, kinds)
    except BadCell as problem:
        raise InvalidLeadError(field, problem.reason) from None
    except OzonetelError:
        raise
    except Exception as error:
        raise InvalidLeadError(field, unreadable(error)) from None
    if cleaned is not None:
        columns = lead_columns("bulk")
        cleaned.update((columns.get(name, name), {kind: 1}) for name, kind in kinds.items() if kind)
    return checked


_PLAIN_FIELDS = ("name", "priority", "agent_id", "skill", "scheduled_time")


@lru_cache(maxsize=16)
def _lead_checks(dialect: Dialect, skip_name_validation: bool, clean: Cleaning | None) -> dict[str, ColumnCheck]:
    # None of these is held against the clock, so that one set serves every call.
    bounds = DateLimits(ZoneInfo("UTC"), datetime.min)
    columns = lead_columns("bulk").items()
    checks = {field: check_for(column, "bulk", dialect, bounds, clean) for field, column in columns}
    return checks | ({"name": TextCheck()} if skip_name_validation else {})


@lru_cache(maxsize=16)
def _extra_check(timezone: ZoneInfo, clean: Cleaning | None) -> ColumnCheck:
    # Any column that is not the service's own; its dates are not held against the clock.
    return check_for("", "bulk", Dialect(), DateLimits(timezone, datetime.min), clean)


def _extra_cells(extra: object, timezone: ZoneInfo, clean: Cleaning | None, kinds: dict[str, str]) -> dict[str, Value]:
    if type(extra) is not dict and not isinstance(extra, Mapping):
        raise BadCell(f"{shape(extra)}; expected a mapping of column names to cells")
    check = _extra_check(timezone, clean)
    sent: dict[str, Value] = {}
    for name, cell in extra.items():
        if (problem := single_extra_problem(name)) is not None:
            raise InvalidLeadError(label(name), problem)
        try:
            value, kinds[label(name)] = check.repaired(cell)
        except BadCell as bad:
            raise InvalidLeadError(label(name), bad.reason) from None
        if value != "":
            sent[name] = value
    return sent
