"""The PHP family: credentials among the parameters; Bulk V4, and the legacy add and schedule calls."""

from __future__ import annotations

from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from .account import Account, Call, first_complaint
from .answers import (
    BULK_BAD_CAMPAIGN,
    BULK_BAD_DATA,
    BULK_INVALID_USER,
    BULK_NO_CAMPAIGN,
    BULK_NO_KEY,
    BULK_NO_USER,
    BULK_TOO_MANY_ROWS,
    INVALID_JSON,
    NO_USER,
    PHONE_EMPTY,
    SCHEDULE_BAD_DATE,
    SCHEDULE_HORIZON,
    SCHEDULE_NO_DATA,
    SCHEDULE_NO_TIME,
    SCHEDULE_NOT_FOUND,
    SCHEDULE_TOO_MANY_ROWS,
    Answer,
    Kind,
    answer,
    say,
)
from .bulk_data import (
    Table,
    complaint_of,
    lead_of,
    read_table,
)
from .ca_apis import mode_complaint
from .fields import (
    flag,
    moment,
    text,
    within,
)
from .jobs import Job
from .state import Campaign, StoredLead

__all__ = ["bulk_refusal", "bulk_table", "legacy_add", "legacy_schedule", "new_job", "schedule"]

BULK_ROWS = 500
SCHEDULE_ROWS = 100


def bulk_refusal(account: Account, call: Call) -> Answer | None:
    """Why Bulk V4 does not queue a request, apart from its ``bulkData``; sets ``call.campaign``."""
    key, username = text(call.get("apiKey")).strip(), text(call.get("userName")).strip()
    name = text(call.get("campaignName")).strip()
    settings = account.settings
    if not key:
        return BULK_NO_KEY
    if not username:
        return BULK_NO_USER
    if key != settings.api_key or username != settings.username:
        return BULK_INVALID_USER
    if not name:
        return BULK_NO_CAMPAIGN
    call.campaign = account.campaigns.get(name)
    outbound = call.campaign is not None and call.campaign.direction == "outbound"
    return None if outbound else BULK_BAD_CAMPAIGN


def bulk_table(account: Account, call: Call) -> Table | Answer:
    """The rows of ``bulkData``, or why they are not taken."""
    table = read_table(call.get("bulkData"))
    if table is None:
        return BULK_BAD_DATA
    if len(table.data) <= BULK_ROWS:
        return table
    return Table(table.map, table.data[:BULK_ROWS]) if account.settings.over_rows == "truncate" else BULK_TOO_MANY_ROWS


def new_job(account: Account, call: Call, table: Table) -> Job:
    """The job that a good request becomes."""
    assert call.campaign is not None
    # "If you add both the checkduplicte and isdelete parameters in the payload, then only isdelete considered."
    is_delete = text(call.get("isDelete")).strip()
    duplicates = ("existing" if flag(is_delete) else "none") if is_delete else "all"
    if not is_delete and not flag(call.get("checkDuplicate")):
        duplicates = "none"
    return Job(
        id=account.transaction_id(),
        campaign=call.campaign,
        table=table,
        duplicates=duplicates,
        action=text(call.get("action")),
        callback_url=text(call.get("callBackUrl")).strip(),
        callback_fault=call.callback_fault,
    )


def legacy_add(account: Account, call: Call) -> Answer:
    """Legacy Add Campaign Data."""
    status, message, kind = _legacy_add(account, call)
    if text(call.get("format")).strip().lower() == "json":
        return say(status, message, kind)
    xml = f"<xml><status>{status}</status><message>{escape(message)}</message></xml>"
    return Answer(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}'.encode(), kind, "application/xml")


_LEGACY_KEYS = frozenset(
    (
        *("api_key", "campaign_name", "PhoneNumber", "Name", "agentId", "skill", "Priority", "checkDuplicate"),
        *("action", "ExpiryDate", "format", "userName"),
    )
)


def _legacy_add(account: Account, call: Call) -> tuple[str, str, Kind]:
    if text(call.get("api_key")) != account.settings.api_key:
        return (*NO_USER, "auth")
    campaign = account.campaigns.get(text(call.get("campaign_name")))
    if campaign is None:
        return "FAIL", "No User Found or Campaign Name is Invalid", "error"
    if campaign.direction != "outbound":
        return "Fail", "The selected campaign is not outbound", "error"
    phone = text(call.get("PhoneNumber")).strip()
    if not phone:
        return (*PHONE_EMPTY, "error")
    lead = _legacy_lead(campaign, call, phone)
    complaint = complaint_of(account, campaign, lead, {"Priority": call.get("Priority")}, account.now())
    if complaint is not None:
        return "FAIL", complaint, "error"
    if flag(call.get("checkDuplicate")) and campaign.holds(phone):
        return "SUCCESS", "Number Already Exist", "ok"
    campaign.store(lead)
    call.record.applied = 1
    started = account.act(campaign, text(call.get("action")))
    return "SUCCESS", f"Successfully Updated, {campaign.kind} was started" if started else "SuccessFully Updated", "ok"


def _legacy_lead(campaign: Campaign, call: Call, phone: str) -> StoredLead:
    params = call.params or {}
    priority = text(call.get("Priority")).strip()
    return StoredLead(
        phone,
        name=text(call.get("Name")) or None,
        priority=int(priority) if priority.isdigit() else 1,
        expiry=text(call.get("ExpiryDate")) or None,
        agent_id=text(call.get("agentId")) or None,
        skill=text(call.get("skill")) or None,
        extra={key: params[key] for key in params if key not in _LEGACY_KEYS and key in campaign.mapping},
        via="legacy_add",
    )


def legacy_schedule(account: Account, call: Call) -> Answer:
    """Legacy Schedule Campaign Data."""
    if text(call.get("api_key")) != account.settings.api_key:
        return SCHEDULE_NOT_FOUND
    return _schedule(account, call, text(call.get("campaign_name")), "legacy_schedule")


def schedule(account: Account, call: Call) -> Answer:
    """Schedule Campaign Data with basic or token authentication."""
    if call.params is None:
        return INVALID_JSON
    complaint = first_complaint((_schedule_credentials, mode_complaint), account, call)
    # One page of three names the campaign like the legacy call.
    name = text(call.get("campaignName", "campaign_name"))
    return complaint or _schedule(account, call, name, "schedule")


def _schedule_credentials(account: Account, call: Call) -> Answer | None:
    settings = account.settings
    key = call.headers.get("apiKey")
    bearer_will_do = settings.auth_mode == "TOKEN_AUTH" and not settings.token_needs_key
    key_good = key == settings.api_key or (key is None and bearer_will_do and "Authorization" in call.headers)
    return None if key_good and text(call.get("userName")) == settings.username else SCHEDULE_NOT_FOUND


def _schedule(account: Account, call: Call, name: str, via: str) -> Answer:
    campaign = account.campaigns.get(name)
    if campaign is None or campaign.direction != "outbound":
        return SCHEDULE_NOT_FOUND
    table = read_table(call.get("bulkData"))
    complaint = SCHEDULE_NO_DATA if table is None else _table_complaint(account, table)
    if complaint is not None or table is None:
        return complaint or SCHEDULE_NO_DATA
    check = flag(call.get("checkDuplicate"))
    rows = [
        _schedule_row(account, call, campaign, via, table.map, row, index, check)
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
    call: Call,
    campaign: Campaign,
    via: str,
    columns: list[str],
    row: list[object],
    index: int,
    check: bool,
) -> dict[str, object]:
    cells = dict(zip(columns, row, strict=False))
    lead = lead_of(cells, via)
    # Scheduled rows are kept as a query for the legacy call: a raw plus comes back as a blank, "%2B" as a plus.
    lead.phone = unquote_plus(lead.phone).strip()
    complaint = complaint_of(account, campaign, lead, cells, account.now())
    if complaint is None and check and campaign.holds(lead.phone):
        complaint = "Number Already Exist"
    if complaint is None:
        lead.created = lead.updated = account.stamp()
        campaign.store(lead)
        call.record.applied += 1
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
