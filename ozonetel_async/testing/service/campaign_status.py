"""Campaign Status."""

from __future__ import annotations

from collections.abc import Mapping

from .account import Account, ReceivedRequest, first_complaint
from .answers import ALL_MANDATORY, NO_RECORD, Answer, answer
from .authentication import check_json, check_key, check_mode
from .fields import text
from .state import Campaign

__all__ = ["campaign_status"]


def campaign_status(account: Account, request: ReceivedRequest) -> Answer:
    """Campaign Status: a name may be passed, the sample answer lists every campaign all the same."""
    complaint = first_complaint((check_json, check_key), account, request)
    if complaint is not None:
        return complaint
    if not (text(request.get("userName")).strip() and text(request.get("campaignName")).strip()):
        return ALL_MANDATORY
    if text(request.get("userName")) != account.settings.username:
        return NO_RECORD
    complaint = check_mode(account, request)
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
