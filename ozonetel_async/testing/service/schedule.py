"""Schedule Campaign Data, and its deprecated GET: up to 100 rows, each answered by itself."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote_plus

from msgspec import json

from .account import Account, ReceivedRequest, first_refusal
from .answers import (
    INVALID_JSON,
    SCHEDULE_BAD_DATE,
    SCHEDULE_HORIZON,
    SCHEDULE_NO_DATA,
    SCHEDULE_NO_TIME,
    SCHEDULE_NOT_FOUND,
    SCHEDULE_TOO_MANY_ROWS,
    Answer,
)
from .authentication import check_mode
from .bulk_data import Table, lead_of, problem_of, read_table
from .fields import flag, moment, text
from .state import Campaign

__all__ = ["legacy_schedule", "schedule"]

SCHEDULE_ROWS = 100
# The newest page; older ones say 365.
_HORIZON = timedelta(days=30)


def legacy_schedule(account: Account, request: ReceivedRequest) -> Answer:
    """Legacy Schedule Campaign Data."""
    if text(request.get("api_key")) != account.settings.api_key:
        return SCHEDULE_NOT_FOUND
    return _schedule(account, request, text(request.get("campaign_name")), "legacy_schedule")


def schedule(account: Account, request: ReceivedRequest) -> Answer:
    """Schedule Campaign Data with basic or token authentication."""
    if request.params is None:
        return INVALID_JSON
    refused = first_refusal((_schedule_credentials, check_mode), account, request)
    # One page of three names the campaign like the legacy request.
    name = text(request.get("campaignName", "campaign_name"))
    return refused or _schedule(account, request, name, "schedule")


def _schedule_credentials(account: Account, request: ReceivedRequest) -> Answer | None:
    settings = account.settings
    key = request.headers.get("apiKey")
    bearer = settings.auth_mode == "TOKEN_AUTH" and "Authorization" in request.headers
    key_good = key == settings.api_key or (key is None and bearer)
    return None if key_good and text(request.get("userName")) == settings.username else SCHEDULE_NOT_FOUND


def _schedule(account: Account, request: ReceivedRequest, name: str, via: str) -> Answer:
    campaign = account.campaigns.get(name)
    if campaign is None or campaign.direction != "outbound":
        return SCHEDULE_NOT_FOUND
    table = read_table(request.get("bulkData"))
    if table is None:
        return SCHEDULE_NO_DATA
    refused = _table_refusal(account, table)
    if refused is not None:
        return refused
    check = flag(request.get("checkDuplicate"))
    rows = [
        _schedule_row(account, request, campaign, via, table.map, row, index, check)
        for index, row in enumerate(table.data)
    ]
    return Answer(json.encode({"status": "success", "message": rows}))


def _table_refusal(account: Account, table: Table) -> Answer | None:
    """What makes a schedule request fail as a whole."""
    if len(table.data) > SCHEDULE_ROWS:
        return SCHEDULE_TOO_MANY_ROWS
    if "ScheduledTime" not in table.map:
        return SCHEDULE_NO_TIME
    now = account.now()
    for row in table.data:
        cells = dict(zip(table.map, row, strict=False))
        when = moment(text(cells.get("ScheduledTime")), day_allowed=False)
        expiry = text(cells.get("ExpiryDate"))
        if when is None or (expiry and moment(expiry) is None):
            return SCHEDULE_BAD_DATE
        if not now < when <= now + _HORIZON:
            return SCHEDULE_HORIZON
    return None


def _schedule_row(
    account: Account,
    request: ReceivedRequest,
    campaign: Campaign,
    via: str,
    columns: list[str],
    row: list[object],
    index: int,
    check: bool,
) -> dict[str, object]:
    cells = dict(zip(columns, row, strict=False))
    lead = lead_of(cells, via)
    # Scheduled rows are kept as a query for the legacy request: a raw plus comes back as a blank, "%2B" as a plus.
    lead.phone = unquote_plus(lead.phone).strip()
    problem = problem_of(account, campaign, lead) if lead.phone else "Phone Number is Empty!"
    if problem is None and check and campaign.holds(lead.phone):
        problem = "Number Already Exist"
    if problem is None:
        lead.created = lead.updated = account.stamp()
        campaign.store(lead)
        request.record.applied += 1
    return {
        "Response": "success" if problem is None else "failure",
        "ScheduleTime": lead.scheduled_for,
        "campaign_name": campaign.name,
        "PhoneNumber": lead.phone or None,
        "Name": lead.name or "",
        "AgentID": lead.agent_id or "",
        "skill": lead.skill or "",
        "msg": problem or "Data updated successfully",
        "index": str(index),
    }
