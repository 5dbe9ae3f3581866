"""The deprecated Add Campaign Data, by GET: credentials among the parameters, JSON or XML out."""

from __future__ import annotations

from xml.sax.saxutils import escape

from .account import Account, ReceivedRequest
from .answers import Answer, say
from .bulk_data import problem_of
from .fields import flag, priority, text
from .state import Campaign, StoredLead

__all__ = ["legacy_add"]


def legacy_add(account: Account, request: ReceivedRequest) -> Answer:
    """Legacy Add Campaign Data."""
    status, message = _legacy_add(account, request)
    if text(request.get("format")).strip().lower() == "json":
        return say(status, message)
    xml = f"<xml><status>{status}</status><message>{escape(message)}</message></xml>"
    return Answer(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}'.encode(), "application/xml")


_LEGACY_KEYS = frozenset(
    (
        *("api_key", "campaign_name", "PhoneNumber", "Name", "agentId", "skill", "Priority", "checkDuplicate"),
        *("action", "ExpiryDate", "format", "userName"),
    )
)


def _legacy_add(account: Account, request: ReceivedRequest) -> tuple[str, str]:
    if text(request.get("api_key")) != account.settings.api_key:
        return "FAIL", "No User Found"
    campaign = account.campaigns.get(text(request.get("campaign_name")))
    if campaign is None:
        return "FAIL", "No User Found or Campaign Name is Invalid"
    if campaign.direction != "outbound":
        return "Fail", "The selected campaign is not outbound"
    phone = text(request.get("PhoneNumber")).strip()
    if not phone:
        return "FAIL", "Phone Number is Empty!"
    lead = _legacy_lead(campaign, request, phone)
    problem = problem_of(account, campaign, lead)
    if problem is not None:
        return "FAIL", problem
    if flag(request.get("checkDuplicate")) and campaign.holds(phone):
        return "SUCCESS", "Number Already Exist"
    campaign.store(lead)
    request.record.applied = 1
    started = account.act(campaign, text(request.get("action")))
    return "SUCCESS", f"Successfully Updated, {campaign.kind} was started" if started else "SuccessFully Updated"


def _legacy_lead(campaign: Campaign, request: ReceivedRequest, phone: str) -> StoredLead:
    params = request.params or {}
    return StoredLead(
        phone,
        name=text(request.get("Name")) or None,
        priority=priority(text(request.get("Priority"))),
        expiry=text(request.get("ExpiryDate")) or None,
        agent_id=text(request.get("agentId")) or None,
        skill=text(request.get("skill")) or None,
        extra={key: params[key] for key in params if key not in _LEGACY_KEYS and key in campaign.mapping},
        via="legacy_add",
    )
