"""Set Campaign Status."""

from __future__ import annotations

from .account import Account, ReceivedRequest, first_complaint
from .answers import ALL_MANDATORY, NO_RECORD, Answer, say
from .authentication import AUTHENTICATION
from .fields import flag, text

__all__ = ["set_campaign_status"]


def set_campaign_status(account: Account, request: ReceivedRequest) -> Answer:
    """Set Campaign Status: ``action`` Start or Stop, with ``process`` true."""
    complaint = first_complaint(AUTHENTICATION, account, request)
    if complaint is not None:
        return complaint
    campaign = account.campaigns.get(text(request.get("campaignName")))
    action = text(request.get("action")).strip().lower()
    if (
        not text(request.get("campaignName")).strip()
        or action not in ("start", "stop")
        or not flag(request.get("process"))
    ):
        return ALL_MANDATORY
    if campaign is None:
        return NO_RECORD
    word = "started" if account.act(campaign, action) else "stopped"
    request.record.applied = 1
    return say("SUCCESS", f"SUCCESSFULLY UPDATED, {campaign.kind} was {word}")
