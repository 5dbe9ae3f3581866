"""Schedule Campaign Data, and its deprecated GET: up to 100 rows, each answered by itself."""

from __future__ import annotations

from urllib.parse import unquote_plus

from .account import Account, ReceivedRequest, first_complaint
from .answers import (
    INVALID_JSON,
    SCHEDULE_BAD_DATE,
    SCHEDULE_HORIZON,
    SCHEDULE_NO_DATA,
    SCHEDULE_NO_TIME,
    SCHEDULE_NOT_FOUND,
    SCHEDULE_TOO_MANY_ROWS,
    Answer,
    answer,
)
from .authentication import check_mode
from .bulk_data import Table, complaint_of, lead_of, read_table
from .fields import flag, moment, text, within
from .state import Campaign

__all__ = ["legacy_schedule", "schedule"]

SCHEDULE_ROWS = 100


def legacy_schedule(account: Account, request: ReceivedRequest) -> Answer:
    """Legacy Schedule Campaign Data."""
    if text(request.get("api_key")) != account.settings.api_key:
        return SCHEDULE_NOT_FOUND
    return _schedule(account, request, text(request.get("campaign_name")), "legacy_schedule")


def schedule(account: Account, request: ReceivedRequest) -> Answer:
    """Schedule Campaign Data with basic or token authentication."""
    if request.params is None:
        return INVALID_JSON
    complaint = first_complaint((_schedule_credentials, check_mode), account, request)
    # One page of three names the campaign like the legacy request.
    name = text(request.get("campaignName", "campaign_name"))
    return complaint or _schedule(account, request, name, "schedule")


def _schedule_credentials(account: Account, request: ReceivedRequest) -> Answer | None:
    settings = account.settings
    key = request.headers.get("apiKey")
    bearer_will_do = settings.auth_mode == "TOKEN_AUTH" and not settings.token_needs_key
    key_good = key == settings.api_key or (key is None and bearer_will_do and "Authorization" in request.headers)
    return None if key_good and text(request.get("userName")) == settings.username else SCHEDULE_NOT_FOUND


def _schedule(account: Account, request: ReceivedRequest, name: str, via: str) -> Answer:
    campaign = account.campaigns.get(name)
    if campaign is None or campaign.direction != "outbound":
        return SCHEDULE_NOT_FOUND
    table = read_table(request.get("bulkData"))
    complaint = SCHEDULE_NO_DATA if table is None else _table_complaint(account, table)
    if complaint is not None or table is None:
        return complaint or SCHEDULE_NO_DATA
    check = flag(request.get("checkDuplicate"))
    rows = [
        _schedule_row(account, request, campaign, via, table.map, row, index, check)
        for index, row in enumerate(table.data[:SCHEDULE_ROWS])
    ]
    return answer(
        {"status": "success", "message": rows} if account.settings.schedule_status_word else {"message": rows}
    )


def _table_complaint(account: Account, table: Table) -> Answer | None:
    """What makes a schedule request fail as a whole."""
    if len(table.data) > SCHEDULE_ROWS and account.settings.over_rows == "reject":
        return SCHEDULE_TOO_MANY_ROWS
    if "ScheduledTime" not in table.map:
        return SCHEDULE_NO_TIME
    now, days = account.now(), account.settings.schedule_horizon_days
    for row in table.data:
        cells = dict(zip(table.map, row, strict=False))
        when = moment(text(cells.get("ScheduledTime")), day_allowed=False)
        expiry = text(cells.get("ExpiryDate"))
        if when is None or (expiry and moment(expiry) is None):
            return SCHEDULE_BAD_DATE
        if not within(when, now, days):
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
    complaint = complaint_of(account, campaign, lead, cells, account.now())
    if complaint is None and check and campaign.holds(lead.phone):
        complaint = "Number Already Exist"
    if complaint is None:
        lead.created = lead.updated = account.stamp()
        campaign.store(lead)
        request.record.applied += 1
    return {
        "Response": "success" if complaint is None else "failure",
        "ScheduleTime": lead.scheduled_for,
        "campaign_name": campaign.name,
        "PhoneNumber": lead.phone or None,
        "Name": lead.name or "",
        "AgentID": lead.agent_id or "",
        "skill": lead.skill or "",
        "msg": complaint or "Data updated successfully",
        "index": str(index),
    }
