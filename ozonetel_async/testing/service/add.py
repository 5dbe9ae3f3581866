"""Add Campaign Data with basic or token authentication: JSON in, JSON out."""

from __future__ import annotations

from .account import Account, Check, ReceivedRequest, first_refusal
from .answers import (
    BAD_PRIORITY,
    LEAD_STATUS,
    NO_CAMPAIGN_NAME,
    NOT_OUTBOUND,
    OTHER_SKILL,
    UNKNOWN_CAMPAIGN,
    Answer,
    say,
)
from .authentication import AUTHENTICATION, check_scalars
from .bulk_data import problem_of
from .fields import flag, priority, text
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


def _lead(account: Account, request: ReceivedRequest) -> Answer | None:
    params = request.params or {}
    lead = request.lead = StoredLead(
        text(request.get("phoneNumber")),
        name=text(request.get("Name", "name")) or None,
        priority=priority(text(request.get("priority"))),
        expiry=text(request.get("expiryDate")) if "expiryDate" in params else None,
        agent_id=text(request.get("agentId")).strip() or None,
        skill=text(request.get("skill")).strip() or None,
        via="add",
    )
    problem = problem_of(account, _of(request), lead, any_name=flag(request.get("skipNameFieldValidation")))
    # The error table refuses an empty priority only.
    if problem is None and "priority" in params and not text(params["priority"]).strip():
        problem = BAD_PRIORITY
    return None if problem is None else say(LEAD_STATUS[problem], problem)


def _duplicate(account: Account, request: ReceivedRequest) -> Answer | None:
    campaign, lead = _of(request), request.lead
    assert lead is not None
    # Add Campaign Data names this answer for a skill-wise campaign without a word on checkDuplicate.
    if campaign.routing == "skill" and campaign.holds_for_other_skill(lead.phone, lead.skill):
        return OTHER_SKILL
    if flag(request.get("checkDuplicate")) and campaign.holds(lead.phone):
        return say("SUCCESS", "Number Already Exist")
    return None


_ADD: tuple[Check, ...] = (
    *AUTHENTICATION,
    check_scalars,
    _campaign_given,
    _campaign,
    _outbound,
    _lead,
    _duplicate,
)


def _of(request: ReceivedRequest) -> Campaign:
    assert request.campaign is not None
    return request.campaign


def add(account: Account, request: ReceivedRequest) -> Answer:
    """Add Campaign Data with basic or token authentication."""
    refused = first_refusal(_ADD, account, request)
    if refused is not None:
        return refused
    campaign, lead = _of(request), request.lead
    assert lead is not None
    params = request.params or {}
    if len(params) > 3:
        lead.extra = {key: params[key] for key in params if key not in _ADD_KEYS and key in campaign.mapping}
    if account.settings.keep_leads:
        lead.created = lead.updated = account.stamp()
    campaign.store(lead)
    request.record.applied = 1
    was_running = campaign.running
    wanted = account.act(campaign, text(request.get("action")))
    status, message = _WORDINGS[_wording(campaign, was_running, wanted)]
    return say(status, message.format(campaign.kind))


# Status and wording of a successful add; {0} is the campaign's kind.
_WORDINGS: dict[str, tuple[str, str]] = {
    "plain": ("SUCCESS", "SuccessFully Updated"),
    "started": ("SUCCESS", "SuccessFully Updated, {0} was started"),
    "running": ("Success", "Campaign {0} Is Already Started"),
    "stopped": ("Success", "SuccessFully Updated {0} Campaign Stoped"),
    "ignored": ("Success", "Please pass the valid Campaign action SuccessFully Updated {0} Campaign Data"),
}


def _wording(campaign: Campaign, was_running: bool, wanted: bool | None) -> str:
    if wanted is False:
        return "stopped"
    if wanted is True and not was_running:
        return "started"
    if campaign.routing is not None:
        return "plain"
    return "running" if was_running else "ignored"
