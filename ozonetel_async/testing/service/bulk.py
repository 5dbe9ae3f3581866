"""Bulk V4: why a request is refused, and the job that a good one becomes."""

from __future__ import annotations

from .account import Account, ReceivedRequest
from .answers import (
    BULK_BAD_CAMPAIGN,
    BULK_BAD_DATA,
    BULK_INVALID_USER,
    BULK_NO_CAMPAIGN,
    BULK_NO_KEY,
    BULK_NO_USER,
    BULK_TOO_MANY_ROWS,
    Answer,
    say,
)
from .bulk_data import read_table
from .fields import flag, text
from .jobs import Job

__all__ = ["bulk"]

BULK_ROWS = 500


def bulk(account: Account, request: ReceivedRequest) -> Answer:
    """Bulk V4: queue the rows as a job."""
    refused = _refusal(account, request)
    if refused is not None:
        return refused
    table = read_table(request.get("bulkData"))
    if table is None:
        return BULK_BAD_DATA
    if len(table.data) > BULK_ROWS:
        return BULK_TOO_MANY_ROWS
    assert request.campaign is not None
    request.job = Job(
        id=account.transaction_id(),
        campaign=request.campaign,
        table=table,
        duplicates=_duplicates(request),
        action=text(request.get("action")),
        callback_url=text(request.get("callBackUrl")).strip(),
        callback_fault=request.callback_fault,
    )
    request.record.applied = len(table.data)
    return say("success", "queued successfully", transactionId=request.job.id)


def _refusal(account: Account, request: ReceivedRequest) -> Answer | None:
    key, username = text(request.get("apiKey")).strip(), text(request.get("userName")).strip()
    name = text(request.get("campaignName")).strip()
    settings = account.settings
    if not key:
        return BULK_NO_KEY
    if not username:
        return BULK_NO_USER
    if key != settings.api_key or username != settings.username:
        return BULK_INVALID_USER
    if not name:
        return BULK_NO_CAMPAIGN
    request.campaign = account.campaigns.get(name)
    outbound = request.campaign is not None and request.campaign.direction == "outbound"
    return None if outbound else BULK_BAD_CAMPAIGN


def _duplicates(request: ReceivedRequest) -> str:
    # "If you add both the checkduplicte and isdelete parameters in the payload, then only isdelete considered."
    is_delete = text(request.get("isDelete")).strip()
    if is_delete:
        return "existing" if flag(is_delete) else "none"
    return "all" if flag(request.get("checkDuplicate")) else "none"
