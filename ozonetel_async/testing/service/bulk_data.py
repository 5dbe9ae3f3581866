"""``bulkData``: a list of column names and rows of cells, as Bulk V4 and Schedule Campaign Data take it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .account import Account
from .answers import (
    AGENT_MISSING,
    AGENT_UNKNOWN,
    BAD_EXPIRY,
    BAD_NAME,
    BAD_PHONE,
    BAD_SKILL,
    DND,
    PAST_EXPIRY,
)
from .fields import NAME, PHONE, moment, priority, text
from .state import Campaign, StoredLead

__all__ = ["ROW_CHARACTERS", "Table", "lead_of", "problem_of", "read_table", "row_characters"]

_COLUMN_FIELDS = {
    "Name": "name",
    "ExpiryDate": "expiry",
    "AgentId": "agent_id",
    "AgentID": "agent_id",
    "skill": "skill",
    "ScheduledTime": "scheduled_for",
}
_OWN = frozenset(_COLUMN_FIELDS) | {"PhoneNumber", "Priority"}

# Bulk V4: "Total characters length per row including all headers is 2000."
ROW_CHARACTERS = 2_000


class Table(msgspec.Struct, frozen=True):
    """Column names and rows."""

    map: list[str]
    data: list[list[object]]


def read_table(value: object) -> Table | None:
    """The table in ``bulkData``, given as JSON text or as an object; None when it is none."""
    try:
        table = msgspec.json.decode(value, type=Table) if isinstance(value, str) else msgspec.convert(value, Table)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return table if table.map and table.data else None


def lead_of(cells: Mapping[str, object], via: str) -> StoredLead:
    """The lead that a row describes."""
    lead = StoredLead(text(cells.get("PhoneNumber")), via=via)
    extra = {}
    for column, cell in cells.items():
        attribute = _COLUMN_FIELDS.get(column)
        if attribute is not None:
            setattr(lead, attribute, text(cell) or None)
        elif column not in _OWN:
            extra[column] = cell
    lead.extra = extra
    lead.priority = priority(text(cells.get("Priority")))
    return lead


def problem_of(account: Account, campaign: Campaign, lead: StoredLead, *, any_name: bool = False) -> str | None:
    """Why the service does not take a lead, or None; ``any_name`` leaves the name unchecked."""
    if PHONE.fullmatch(lead.phone) is None:
        return BAD_PHONE
    if not any_name and lead.name and NAME.fullmatch(lead.name) is None:
        return BAD_NAME
    if lead.expiry is not None:
        when = moment(lead.expiry)
        if when is None:
            return BAD_EXPIRY
        if when <= account.now():
            return PAST_EXPIRY
    return _routing_problem(campaign, lead) or (DND if lead.phone in account.dnd else None)


def _routing_problem(campaign: Campaign, lead: StoredLead) -> str | None:
    if campaign.routing == "agent":
        if lead.agent_id is None:
            return AGENT_MISSING
        return None if lead.agent_id in campaign.agents else AGENT_UNKNOWN
    return BAD_SKILL if campaign.routing == "skill" and lead.skill not in campaign.skills else None


def row_characters(headers: int, row: list[object]) -> int:
    """Characters of a row, ``headers`` characters of column names included."""
    return headers + sum(len(text(cell)) for cell in row)
