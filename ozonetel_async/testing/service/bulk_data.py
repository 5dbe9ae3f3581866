"""``bulkData``: a list of column names and rows of cells, as Bulk V4 and Schedule Campaign Data take it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from .account import Account
from .fields import moment, priority, text
from .state import Campaign, StoredLead

__all__ = ["ROW_CHARACTERS", "Table", "complaint_of", "lead_of", "read_table", "row_characters"]

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
    given = priority(text(cells.get("Priority")), strict=False)
    lead.priority = 1 if given is None else given
    return lead


def complaint_of(
    account: Account, campaign: Campaign, lead: StoredLead, cells: Mapping[str, object], now: datetime
) -> str | None:
    """Why the service leaves a row out, or None. The reasons' words are the ones of the single-lead calls."""
    if not lead.phone:
        return "Phone Number is Empty!"
    if not account.phone_ok(lead.phone):
        return "phone number should be numeric and must be between 3 to 16 digits and allows prefix +"
    if lead.name and not account.name_ok(lead.name):
        return "Name allows only letters, numbers, _ and space ( ) . + $ % - :"
    given = text(cells.get("Priority")).strip()
    if given and priority(given, account.settings.strict_priority) is None:
        return "The priority value must be numeric and range from 0 to 99."
    if lead.expiry is not None:
        when = moment(lead.expiry, end_of_day=account.settings.expiry_end_of_day)
        if when is None:
            return "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd"
        if when <= now:
            return "The expiry date and time must be in the future"
    return _routing_complaint(campaign, lead) or (
        "PhoneNumber Added is a DND Number" if lead.phone in account.dnd else None
    )


def _routing_complaint(campaign: Campaign, lead: StoredLead) -> str | None:
    if campaign.routing == "agent":
        if lead.agent_id is None:
            return "Agent Is Empty!"
        return None if lead.agent_id in campaign.agents else "Agent is not correctly mapped!"
    if campaign.routing == "skill" and lead.skill not in campaign.skills:
        return "Please provide valid skill"
    return None


def row_characters(headers: int, row: list[object]) -> int:
    """Characters of a row, ``headers`` characters of column names included."""
    return headers + sum(len(text(cell)) for cell in row)
