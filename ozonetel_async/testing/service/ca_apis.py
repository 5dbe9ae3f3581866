"""The /ca_apis family: JSON in, JSON out, ``apiKey`` header or bearer token."""

from __future__ import annotations

from collections.abc import Mapping

from .account import (
    Account,
    Call,
    Check,
    first_complaint,
)
from .answers import (
    AGENT_MISSING,
    AGENT_UNKNOWN,
    ALL_MANDATORY,
    BAD_EXPIRY,
    BAD_NAME,
    BAD_PHONE,
    BAD_PRIORITY,
    BAD_SKILL,
    DELETE_BAD_CAMPAIGN,
    DELETE_NO_CAMPAIGN,
    DELETE_NO_PHONE,
    DELETE_NOTHING,
    DELETED,
    DND,
    INVALID_ACTION,
    INVALID_JSON,
    INVALID_USER,
    KEY_MISSING,
    NO_CAMPAIGN_NAME,
    NO_RECORD,
    NOT_OUTBOUND,
    OTHER_SKILL,
    PAST_EXPIRY,
    TOKEN_INVALID_USER,
    TOKEN_USER_MISSING,
    UNKNOWN_CAMPAIGN,
    USER_MISSING,
    Answer,
    answer,
    say,
)
from .fields import (
    flag,
    moment,
    priority,
    text,
)
from .state import Campaign, StoredLead

__all__ = [
    "AUTHENTICATION",
    "add",
    "campaign_status",
    "delete",
    "generate_token",
    "mode_complaint",
    "set_campaign_status",
]

_ADD_KEYS = frozenset(
    (
        *("userName", "campaignName", "phoneNumber", "Name", "name", "action", "skill", "agentId", "priority"),
        *("expiryDate", "checkDuplicate", "skipNameFieldValidation"),
    )
)


def _readable(account: Account, call: Call) -> Answer | None:
    if call.params is None:
        return INVALID_JSON
    return None


def _scalars(account: Account, call: Call) -> Answer | None:
    # Delete Campaign Data answers a list of numbers like malformed JSON; its siblings are taken to do the same.
    for value in (call.params or {}).values():
        if isinstance(value, list | dict):
            return INVALID_JSON
    return None


def _key(account: Account, call: Call) -> Answer | None:
    key = call.headers.get("apiKey")
    if key is None:
        bearer_will_do = account.settings.auth_mode == "TOKEN_AUTH" and not account.settings.token_needs_key
        return None if bearer_will_do and "Authorization" in call.headers else KEY_MISSING
    return None if key == account.settings.api_key else INVALID_USER


def _user_given(account: Account, call: Call) -> Answer | None:
    return None if text(call.get("userName")).strip() else USER_MISSING


def _user(account: Account, call: Call) -> Answer | None:
    return None if text(call.get("userName")) == account.settings.username else INVALID_USER


def mode_complaint(account: Account, call: Call) -> Answer | None:
    """Whether the account's setting allows these credentials, and whether the token is good."""
    mode = account.settings.auth_mode
    if mode == "BASIC_AUTH":
        return None
    credentials = call.headers.get("Authorization")
    if mode == "NONE" or credentials is None:
        return INVALID_ACTION
    scheme, _, token = credentials.partition(" ")
    complaint = account.tokens.complaint(token.strip() if scheme.lower() == "bearer" else "")
    return None if complaint is None else say("false", complaint, "auth", {"data": None})


# The order in which several mistakes are found is not documented.
AUTHENTICATION: tuple[Check, ...] = (_readable, _key, _user_given, _user, mode_complaint)


def _campaign_given(account: Account, call: Call) -> Answer | None:
    return None if text(call.get("campaignName")).strip() else NO_CAMPAIGN_NAME


def _campaign(account: Account, call: Call) -> Answer | None:
    call.campaign = account.campaigns.get(text(call.get("campaignName")))
    return UNKNOWN_CAMPAIGN if call.campaign is None else None


def _outbound(account: Account, call: Call) -> Answer | None:
    return None if _of(call).direction == "outbound" else NOT_OUTBOUND


def _phone(account: Account, call: Call) -> Answer | None:
    phone = text(call.get("phoneNumber"))
    if not account.phone_ok(phone):
        return BAD_PHONE
    call.lead = StoredLead(phone, via="add")
    return None


def _name(account: Account, call: Call) -> Answer | None:
    name = text(call.get("Name", "name"))
    _lead(call).name = name or None
    return None if account.name_ok(name) or flag(call.get("skipNameFieldValidation")) else BAD_NAME


def _priority(account: Account, call: Call) -> Answer | None:
    if "priority" not in (call.params or {}):
        return None
    value = priority(text(call.get("priority")), account.settings.strict_priority)
    if value is None:
        return BAD_PRIORITY
    _lead(call).priority = value
    return None


def _expiry(account: Account, call: Call) -> Answer | None:
    if "expiryDate" not in (call.params or {}):
        return None
    value = text(call.get("expiryDate"))
    when = moment(value, end_of_day=account.settings.expiry_end_of_day)
    if when is None:
        return BAD_EXPIRY
    _lead(call).expiry = value
    return None if when > account.now() else PAST_EXPIRY


def _routing(account: Account, call: Call) -> Answer | None:
    campaign, lead = _of(call), _lead(call)
    lead.agent_id = text(call.get("agentId")).strip() or None
    lead.skill = text(call.get("skill")).strip() or None
    if campaign.routing == "agent":
        if lead.agent_id is None:
            return AGENT_MISSING
        return None if lead.agent_id in campaign.agents else AGENT_UNKNOWN
    return BAD_SKILL if campaign.routing == "skill" and lead.skill not in campaign.skills else None


def _dnd(account: Account, call: Call) -> Answer | None:
    return DND if _lead(call).phone in account.dnd else None


def _duplicate(account: Account, call: Call) -> Answer | None:
    campaign, lead = _of(call), _lead(call)
    # Add Campaign Data names this answer for a skill-wise campaign without a word on checkDuplicate.
    if campaign.routing == "skill" and campaign.holds_for_other_skill(lead.phone, lead.skill):
        return OTHER_SKILL
    if flag(call.get("checkDuplicate")) and campaign.holds(lead.phone):
        return say("SUCCESS", account.settings.duplicate_message)
    return None


_ADD: tuple[Check, ...] = (
    *AUTHENTICATION,
    _scalars,
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


def _of(call: Call) -> Campaign:
    assert call.campaign is not None
    return call.campaign


def _lead(call: Call) -> StoredLead:
    assert call.lead is not None
    return call.lead


def add(account: Account, call: Call) -> Answer:
    """Add Campaign Data with basic or token authentication."""
    complaint = first_complaint(_ADD, account, call)
    if complaint is not None:
        return complaint
    campaign, lead = _of(call), _lead(call)
    params = call.params or {}
    if len(params) > 3:
        lead.extra = {key: params[key] for key in params if key not in _ADD_KEYS and key in campaign.mapping}
    if account.settings.keep_leads:
        lead.created = lead.updated = account.stamp()
    campaign.store(lead)
    call.record.applied = 1
    return _added(account, campaign, lead, text(call.get("action")))


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


def generate_token(account: Account, call: Call) -> Answer:
    """Generate Token."""
    if call.params is None:
        return INVALID_JSON
    if call.headers.get("apiKey") is None:
        return KEY_MISSING
    username = text(call.get("userName"))
    if not username.strip():
        return TOKEN_USER_MISSING
    if call.headers.get("apiKey") != account.settings.api_key or username != account.settings.username:
        return TOKEN_INVALID_USER
    if account.settings.auth_mode != "TOKEN_AUTH":
        return INVALID_ACTION
    return answer({"token": account.tokens.issue(username), "message": ""})


def delete(account: Account, call: Call) -> Answer:
    """Delete Campaign Data: every lead with the number, whatever its status."""
    complaint = first_complaint((*AUTHENTICATION, _scalars), account, call)
    if complaint is not None:
        return complaint
    name, phone = text(call.get("campaignName")).strip(), text(call.get("phoneNumber")).strip()
    if not name:
        return DELETE_NO_CAMPAIGN
    campaign = account.campaigns.get(name)
    if campaign is None:
        return DELETE_BAD_CAMPAIGN
    if not phone:
        return DELETE_NO_PHONE
    call.record.applied = campaign.remove(phone)
    return DELETED if call.record.applied else DELETE_NOTHING


def campaign_status(account: Account, call: Call) -> Answer:
    """Campaign Status: a name may be passed, the sample answer lists every campaign all the same."""
    complaint = first_complaint((_readable, _key), account, call)
    if complaint is not None:
        return complaint
    if not (text(call.get("userName")).strip() and text(call.get("campaignName")).strip()):
        return ALL_MANDATORY
    if text(call.get("userName")) != account.settings.username:
        return NO_RECORD
    complaint = mode_complaint(account, call)
    return complaint or answer({"status": "success", "message": [_position(account, c) for c in _all(account)]})


def _all(account: Account) -> list[Campaign]:
    return list(account.campaigns.values())


def _position(account: Account, campaign: Campaign) -> Mapping[str, str]:
    # READY and COMPLETED are documented; the word for a running campaign is not.
    position = "RUNNING" if campaign.running else "READY"
    return {
        "CampaignID": campaign.id,
        "CampaignName": campaign.name,
        "UserName": account.settings.username,
        "Position": position,
    }


def set_campaign_status(account: Account, call: Call) -> Answer:
    """Set Campaign Status: ``action`` Start or Stop, with ``process`` true."""
    complaint = first_complaint(AUTHENTICATION, account, call)
    if complaint is not None:
        return complaint
    campaign = account.campaigns.get(text(call.get("campaignName")))
    action = text(call.get("action")).strip().lower()
    if not text(call.get("campaignName")).strip() or action not in ("start", "stop") or not flag(call.get("process")):
        return ALL_MANDATORY
    if campaign is None:
        return NO_RECORD
    word = "started" if account.act(campaign, action) else "stopped"
    call.record.applied = 1
    return say("SUCCESS", f"SUCCESSFULLY UPDATED, {campaign.kind} was {word}")
