"""Delete Campaign Data."""

from __future__ import annotations

from .account import Account, ReceivedRequest, first_complaint
from .answers import DELETE_BAD_CAMPAIGN, DELETE_NO_CAMPAIGN, DELETE_NO_PHONE, DELETE_NOTHING, DELETED, Answer
from .authentication import AUTHENTICATION, check_scalars
from .fields import text

__all__ = ["delete"]


def delete(account: Account, request: ReceivedRequest) -> Answer:
    """Delete Campaign Data: every lead with the number, whatever its status."""
    complaint = first_complaint((*AUTHENTICATION, check_scalars), account, request)
    if complaint is not None:
        return complaint
    name, phone = text(request.get("campaignName")).strip(), text(request.get("phoneNumber")).strip()
    if not name:
        return DELETE_NO_CAMPAIGN
    campaign = account.campaigns.get(name)
    if campaign is None:
        return DELETE_BAD_CAMPAIGN
    if not phone:
        return DELETE_NO_PHONE
    request.record.applied = campaign.remove(phone)
    return DELETED if request.record.applied else DELETE_NOTHING
