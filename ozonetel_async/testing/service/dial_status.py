"""The /endpoint/dailer family: Campaign Dial Status, answered at once and delivered by callback."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import datetime

from .account import Account, ReceivedRequest
from .answers import (
    DIAL_BAD_CALLBACK,
    DIAL_BAD_CAMPAIGN,
    DIAL_FAILED,
    DIAL_KEY_MISSING,
    DIAL_USER_MISSING,
    Answer,
    dial_invalid,
    say,
)
from .fields import moment, text
from .jobs import Job
from .state import Campaign, StoredLead

__all__ = ["dial_status"]

_STATUS = frozenset({"all", "fail", "success", "pending"})
_DIAL_STATUS = frozenset({"all", "fail", "noanswer", "user_disconnected", "answered"})
_COLUMNS = ("PhoneNumber", "Name", "Status", "DialStatus", "Disposition", "CreatedDate", "UpdatedDate")


def dial_status(account: Account, request: ReceivedRequest) -> Answer:
    """Campaign Dial Status: queue the export as a job."""
    refused = _refusal(account, request)
    if refused is not None:
        return refused
    campaign = request.campaign
    assert campaign is not None
    params = dict(request.params or {})

    def export(unique_id: str) -> Mapping[str, object]:
        return _result(account, campaign, unique_id, [_cells(lead) for lead in _selected(campaign, params)])

    request.job = Job(
        id=account.transaction_id(),
        campaign=campaign,
        export=export,
        callback_url=text(params.get("callBackUrl")).strip(),
        callback_fault=request.callback_fault,
    )
    request.record.applied = 1
    # Every documented error carries an empty uniqueId; the words of success are not documented.
    return say("success", "Request queued successfully", uniqueId=request.job.id)


def _refusal(account: Account, request: ReceivedRequest) -> Answer | None:
    # The page's error table speaks of an apiKey that its parameter table does not list: header or parameter.
    key = (request.headers.get("apiKey") or text(request.get("apiKey"))).strip()
    username = text(request.get("userName")).strip()
    if not key:
        return DIAL_KEY_MISSING
    if not username:
        return DIAL_USER_MISSING
    if key != account.settings.api_key or username != account.settings.username:
        return DIAL_FAILED
    request.campaign = account.campaigns.get(text(request.get("campaignName")))
    if request.campaign is None:
        return DIAL_BAD_CAMPAIGN
    if not text(request.get("callBackUrl")).strip().startswith(("http://", "https://")):
        return DIAL_BAD_CALLBACK
    return _filter_refusal(request)


def _filter_refusal(request: ReceivedRequest) -> Answer | None:
    if text(request.get("status")).strip().lower() not in _STATUS:
        return dial_invalid("status")
    if text(request.get("dialstatus")).strip().lower() not in _DIAL_STATUS:
        return dial_invalid("dialstatus")
    if not text(request.get("dispositions")).strip():
        return dial_invalid("dispositions")
    if text(request.get("sortby")).strip() not in ("", "0", "1", "2"):
        return dial_invalid("sortby")
    for name in ("fromDate", "toDate"):
        value = text(request.get(name)).strip()
        if value and moment(value, day_allowed=False) is None:
            return dial_invalid(name)
    return None


def _selected(campaign: Campaign, params: Mapping[str, object]) -> list[StoredLead]:
    wanted = {
        "status": text(params.get("status")).strip().lower(),
        "dial_status": text(params.get("dialstatus")).strip().lower(),
        "disposition": text(params.get("dispositions")).strip().lower(),
    }
    # sortby: "0" all data, "1" by created date, "2" by updated date.
    dated = {"1": "created", "2": "updated"}.get(text(params.get("sortby")).strip())
    since = moment(text(params.get("fromDate")).strip(), day_allowed=False) or datetime.min
    until = moment(text(params.get("toDate")).strip(), day_allowed=False) or datetime.max

    def chosen(lead: StoredLead) -> bool:
        if any(value != "all" and getattr(lead, name).lower() != value for name, value in wanted.items()):
            return False
        when = moment(getattr(lead, dated), day_allowed=False) if dated else None
        return when is None or since <= when <= until

    return [lead for lead in campaign.leads if chosen(lead)]


def _cells(lead: StoredLead) -> tuple[str, ...]:
    return (lead.phone, lead.name or "", lead.status, lead.dial_status, lead.disposition, lead.created, lead.updated)


def _result(account: Account, campaign: Campaign, unique_id: str, rows: list[tuple[str, ...]]) -> Mapping[str, object]:
    """The callback's content: no document shows one; ``uniqueId`` comes from the error answers, the rest is a guess."""
    result: dict[str, object] = {
        "status": "success",
        "message": "Data downloaded successfully",
        "uniqueId": unique_id,
        "campaign": campaign.name,
        "username": account.settings.username,
    }
    if account.settings.export_result == "inline":
        result["data"] = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        return result
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_COLUMNS, *rows])
    result["filePath"] = account.files.publish(f"/etl-dataprocessing/{unique_id}_preview.csv", out.getvalue().encode())
    return result
