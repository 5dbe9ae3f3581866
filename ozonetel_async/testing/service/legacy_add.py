"""The deprecated Add Campaign Data, by GET: credentials among the parameters, JSON or XML out."""

from __future__ import annotations

from xml.sax.saxutils import escape

from .account import Account, ReceivedRequest
from .answers import NO_USER, PHONE_EMPTY, Answer, Kind, say
from .bulk_data import complaint_of
from .fields import flag, text
from .state import Campaign, StoredLead

__all__ = ["legacy_add"]


def legacy_add(account: Account, request: ReceivedRequest) -> Answer:
    """Legacy Add Campaign Data."""
    status, message, kind = _legacy_add(account, request)
    if text(request.get("format")).strip().lower() == "json":
        return say(status, message, kind)
    xml = f"<xml><status>{status}</status><message>{escape(message)}</message></xml>"
    return Answer(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}'.encode(), kind, "application/xml")


_LEGACY_KEYS = frozenset(
    (
        *("api_key", "campaign_name", "PhoneNumber", "Name", "agentId", "skill", "Priority", "checkDuplicate"),
        *("action", "ExpiryDate", "format", "userName"),
    )
)


def _legacy_add(account: Account, request: ReceivedRequest) -> tuple[str, str, Kind]:
    if text(request.get("api_key")) != account.settings.api_key:
        return (*NO_USER, "auth")
    campaign = account.campaigns.get(text(request.get("campaign_name")))
    if campaign is None:
        return "FAIL", "No User Found or Campaign Name is Invalid", "error"
    if campaign.direction != "outbound":
        return "Fail", "The selected campaign is not outbound", "error"
    phone = text(request.get("PhoneNumber")).strip()
    if not phone:
        return (*PHONE_EMPTY, "error")
    lead = _legacy_lead(campaign, request, phone)
    complaint = complaint_of(account, campaign, lead, {"Priority": request.get("Priority")}, account.now())
    if complaint is not None:
        return "FAIL", complaint, "error"
    if flag(request.get("checkDuplicate")) and campaign.holds(phone):
        return "SUCCESS", "Number Already Exist", "ok"
    campaign.store(lead)
    request.record.applied = 1
    started = account.act(campaign, text(request.get("action")))
    return "SUCCESS", f"Successfully Updated, {campaign.kind} was started" if started else "SuccessFully Updated", "ok"


def _legacy_lead(campaign: Campaign, request: ReceivedRequest, phone: str) -> StoredLead:
    params = request.params or {}
    priority = text(request.get("Priority")).strip()
    return StoredLead(
        phone,
        name=text(request.get("Name")) or None,
        priority=int(priority) if priority.isdigit() else 1,
        expiry=text(request.get("ExpiryDate")) or None,
        agent_id=text(request.get("agentId")) or None,
        skill=text(request.get("skill")) or None,
        extra={key: params[key] for key in params if key not in _LEGACY_KEYS and key in campaign.mapping},
        via="legacy_add",
    )
