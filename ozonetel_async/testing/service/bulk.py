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
)
from .bulk_data import Table, read_table
from .fields import flag, text
from .jobs import Job

__all__ = ["bulk_refusal", "bulk_table", "new_job"]

BULK_ROWS = 500


def bulk_refusal(account: Account, request: ReceivedRequest) -> Answer | None:
    """Why Bulk V4 does not queue a request, apart from its ``bulkData``; sets ``request.campaign``."""
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


def bulk_table(account: Account, request: ReceivedRequest) -> Table | Answer:
    """The rows of ``bulkData``, or why they are not taken."""
    table = read_table(request.get("bulkData"))
    if table is None:
        return BULK_BAD_DATA
    return table if len(table.data) <= BULK_ROWS else BULK_TOO_MANY_ROWS


def new_job(account: Account, request: ReceivedRequest, table: Table) -> Job:
    """The job that a good request becomes."""
    assert request.campaign is not None
    # "If you add both the checkduplicte and isdelete parameters in the payload, then only isdelete considered."
    is_delete = text(request.get("isDelete")).strip()
    duplicates = ("existing" if flag(is_delete) else "none") if is_delete else "all"
    if not is_delete and not flag(request.get("checkDuplicate")):
        duplicates = "none"
    return Job(
        id=account.transaction_id(),
        campaign=request.campaign,
        table=table,
        duplicates=duplicates,
        action=text(request.get("action")),
        callback_url=text(request.get("callBackUrl")).strip(),
        callback_fault=request.callback_fault,
    )
