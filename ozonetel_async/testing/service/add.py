"""Add Campaign Data with basic or token authentication: JSON in, JSON out."""

from __future__ import annotations

from .account import Account, Check, ReceivedRequest, first_complaint
from .answers import (
    AGENT_MISSING,
    AGENT_UNKNOWN,
    BAD_EXPIRY,
    BAD_NAME,
    BAD_PHONE,
    BAD_PRIORITY,
    BAD_SKILL,
    DND,
    NO_CAMPAIGN_NAME,
    NOT_OUTBOUND,
    OTHER_SKILL,
    PAST_EXPIRY,
    UNKNOWN_CAMPAIGN,
    Answer,
    say,
)
from .authentication import AUTHENTICATION, check_scalars
from .fields import flag, moment, priority, text
from .state import Campaign, StoredLead

__all__ = ["add"]

_ADD_KEYS = frozenset(
    (
        *("userName", "campaignName", "phoneNumber", "Name", "name", "action", "skill", "agentId", "priority"),
        *("expiryDate", "checkDuplicate", "skipNameFieldValidation"),
    )
)


def _campaign_given(account: Account, request: ReceivedRequest) -> Answer | None:
    return None if text(request.get("campaignName")).strip() else NO_CAMPAIGN_NAME


def _campaign(account: Account, request: ReceivedRequest) -> Answer | None:
    request.campaign = account.campaigns.get(text(request.get("campaignName")))
    return UNKNOWN_CAMPAIGN if request.campaign is None else None


def _outbound(account: Account, request: ReceivedRequest) -> Answer | None:
    return None if _of(request).direction == "outbound" else NOT_OUTBOUND


def _phone(account: Account, request: ReceivedRequest) -> Answer | None:
    phone = text(request.get("phoneNumber"))
    if not account.phone_ok(phone):
        return BAD_PHONE
    request.lead = StoredLead(phone, via="add")
    return None


def _name(account: Account, request: ReceivedRequest) -> Answer | None:
    name = text(request.get("Name", "name"))
    _lead(request).name = name or None
    return None if account.name_ok(name) or flag(request.get("skipNameFieldValidation")) else BAD_NAME


def _priority(account: Account, request: ReceivedRequest) -> Answer | None:
    if "priority" not in (request.params or {}):
        return None
    value = priority(text(request.get("priority")), account.settings.strict_priority)
    if value is None:
        return BAD_PRIORITY
    _lead(request).priority = value
    return None


def _expiry(account: Account, request: ReceivedRequest) -> Answer | None:
    if "expiryDate" not in (request.params or {}):
        return None
    value = text(request.get("expiryDate"))
    when = moment(value, end_of_day=account.settings.expiry_end_of_day)
    if when is None:
        return BAD_EXPIRY
    _lead(request).expiry = value
    return None if when > account.now() else PAST_EXPIRY


def _routing(account: Account, request: ReceivedRequest) -> Answer | None:
    campaign, lead = _of(request), _lead(request)
    lead.agent_id = text(request.get("agentId")).strip() or None
    lead.skill = text(request.get("skill")).strip() or None
    if campaign.routing == "agent":
        if lead.agent_id is None:
            return AGENT_MISSING
        return None if lead.agent_id in campaign.agents else AGENT_UNKNOWN
    return BAD_SKILL if campaign.routing == "skill" and lead.skill not in campaign.skills else None


def _dnd(account: Account, request: ReceivedRequest) -> Answer | None:
    return DND if _lead(request).phone in account.dnd else None


def _duplicate(account: Account, request: ReceivedRequest) -> Answer | None:
    campaign, lead = _of(request), _lead(request)
    # Add Campaign Data names this answer for a skill-wise campaign without a word on checkDuplicate.
    if campaign.routing == "skill" and campaign.holds_for_other_skill(lead.phone, lead.skill):
        return OTHER_SKILL
    if flag(request.get("checkDuplicate")) and campaign.holds(lead.phone):
        return say("SUCCESS", account.settings.duplicate_message)
    return None


_ADD: tuple[Check, ...] = (
    *AUTHENTICATION,
    check_scalars,
    _campaign_given,
    _campaign,
    _outbound,
    _phone,
    _name,
    _priority,
    _expiry,
    _routing,
    _dnd,
    _duplicate,
)


def _of(request: ReceivedRequest) -> Campaign:
    assert request.campaign is not None
    return request.campaign


def _lead(request: ReceivedRequest) -> StoredLead:
    assert request.lead is not None
    return request.lead


def add(account: Account, request: ReceivedRequest) -> Answer:
    """Add Campaign Data with basic or token authentication."""
    complaint = first_complaint(_ADD, account, request)
    if complaint is not None:
        return complaint
    campaign, lead = _of(request), _lead(request)
    params = request.params or {}
    if len(params) > 3:
        lead.extra = {key: params[key] for key in params if key not in _ADD_KEYS and key in campaign.mapping}
    if account.settings.keep_leads:
        lead.created = lead.updated = account.stamp()
    campaign.store(lead)
    request.record.applied = 1
    return _added(account, campaign, lead, text(request.get("action")))


# Status and wording of a successful add; {0} is the campaign's kind or name.
_WORDINGS: dict[str, tuple[str, str]] = {
    "plain": ("SUCCESS", "SuccessFully Updated"),
    "started": ("SUCCESS", "SuccessFully Updated, {0} was started"),
    "running": ("Success", "Campaign {0} Is Already Started"),
    "named": ("Success", "SuccessFully Updated {0} Campaign"),
    "stopped": ("Success", "SuccessFully Updated {0} Campaign Stoped"),
    "ignored": ("Success", "Please pass the valid Campaign action SuccessFully Updated {0} Campaign Data"),
}


def _added(account: Account, campaign: Campaign, lead: StoredLead, action: str) -> Answer:
    was_running = campaign.running
    wanted = account.act(campaign, action)
    wording = account.next_wording()
    if wording == "auto":
        wording = _fitting(campaign, was_running, wanted)
    status, message = _WORDINGS[wording]
    name = campaign.kind if account.settings.message_name == "kind" else campaign.name
    more: dict[str, object] = {}
    if account.settings.add_data:
        more["data"] = {"campaignId": campaign.id, "phoneNumber": lead.phone, "name": lead.name}
    return say(status, message.format(name), more=more)


def _fitting(campaign: Campaign, was_running: bool, wanted: bool | None) -> str:
    if wanted is False:
        return "stopped"
    if wanted is True and not was_running:
        return "started"
    if campaign.routing is not None:
        return "plain"
    return "running" if was_running else "ignored"
