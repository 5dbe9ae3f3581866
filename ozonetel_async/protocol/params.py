"""The callers' arguments as the service's parameters: names, spellings and checks in one place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from ..callbacks.results import split_url
from ..config import Cleaning, ClientConfig
from ..errors import ConfigurationError, InvalidLeadError
from ..models import CellCounts, Lead
from ..rows.single_lead import check_lead
from .requests import Param

__all__ = [
    "Action",
    "CallStatus",
    "DatedBy",
    "LeadStatus",
    "add_params",
    "bulk_params",
    "check_callback_url",
    "check_campaign",
    "dial_status_params",
    "legacy_add_params",
    "schedule_params",
]

Action: TypeAlias = Literal["start", "stop"]
LeadStatus: TypeAlias = Literal["All", "Fail", "Success", "Pending"]
CallStatus: TypeAlias = Literal["All", "Fail", "NoAnswer", "user_disconnected", "answered"]
DatedBy: TypeAlias = Literal["created", "updated"]

# The service's spelling of a lead's fields; pages "Add Campaign Data", basic authentication, and its deprecated GET.
_ADD_NAMES = {
    "phone_number": "phoneNumber",
    "priority": "priority",
    "expiry": "expiryDate",
    "agent_id": "agentId",
    "skill": "skill",
}
_LEGACY_NAMES = {
    "phone_number": "PhoneNumber",
    "name": "Name",
    "priority": "Priority",
    "expiry": "ExpiryDate",
    "agent_id": "agentId",
    "skill": "skill",
}
# Extra columns go beside these in the same object; one of the same name would replace a credential or an option.
_RESERVED = frozenset(
    name.casefold()
    for name in (
        *_ADD_NAMES.values(),
        *_LEGACY_NAMES.values(),
        *("apiKey", "api_key", "userName", "campaignName", "campaign_name", "bulkData"),
        *("action", "checkDuplicate", "skipNameFieldValidation", "format"),
    )
)


def add_params(
    config: ClientConfig,
    lead: Lead,
    now: datetime,
    *,
    action: Action | None,
    check_duplicate: bool | None,
    skip_name_validation: bool | None,
    clean: Cleaning | None = None,
    cleaned: CellCounts | None = None,
) -> dict[str, Param]:
    """Parameters of Add Campaign Data. Optional ones that are None are left out, as production code does.

    What ``clean`` has repaired is counted in ``cleaned``, by column and kind.
    """
    names = _ADD_NAMES | {"name": config.dialect.name_key}
    params = _lead_params(config, lead, now, names, skip_name_validation is True, clean, cleaned)
    if "priority" in params:
        params["priority"] = str(params["priority"])
    if action is not None:
        params["action"] = _check_action(action)
    if (flag := _check_flag("check_duplicate", check_duplicate)) is not None:
        params["checkDuplicate"] = "TRUE" if flag else "FALSE"
    if (flag := _check_flag("skip_name_validation", skip_name_validation)) is not None:
        params["skipNameFieldValidation"] = flag
    return params


def legacy_add_params(
    config: ClientConfig,
    lead: Lead,
    now: datetime,
    *,
    action: Action | None,
    check_duplicate: bool | None,
    clean: Cleaning | None = None,
    cleaned: CellCounts | None = None,
) -> dict[str, Param]:
    """Parameters of the deprecated GET; ``format=json``, since without it the answer is probably XML."""
    params = _lead_params(config, lead, now, _LEGACY_NAMES, False, clean, cleaned)
    if action is not None:
        params["action"] = _check_action(action).upper()
    if (flag := _check_flag("check_duplicate", check_duplicate)) is not None:
        params["checkDuplicate"] = "TRUE" if flag else "FALSE"
    params["format"] = "json"
    return params


def _lead_params(
    config: ClientConfig,
    lead: Lead,
    now: datetime,
    names: Mapping[str, str],
    skip_name: bool,
    clean: Cleaning | None,
    cleaned: CellCounts | None,
) -> dict[str, Param]:
    fields = check_lead(
        lead,
        dialect=config.dialect,
        timezone=config.timezone,
        now=now,
        skip_name_validation=skip_name,
        clean=clean,
        cleaned=cleaned,
    )
    params: dict[str, Param] = {names[field]: value for field, value in fields.items() if field in names}  # type: ignore[misc]
    # Not lead.extra: cells that are missing or empty have been left out.
    for column, cell in fields.get("extra", {}).items():
        if column.casefold() in _RESERVED or column in params:
            raise InvalidLeadError(f"extra[{column!r}]", "the service uses this name itself; rename the column")
        params[column] = cell
    return params


def bulk_params(
    *,
    action: Action | None,
    check_duplicate: bool | None,
    is_delete: bool | None,
    callback_url: str | None,
) -> dict[str, Param]:
    """Parameters of Bulk V4 beside bulkData; flags are the texts "true" and "false"."""
    params: dict[str, Param] = {}
    duplicate = _check_flag("check_duplicate", check_duplicate)
    delete = _check_flag("is_delete", is_delete)
    if duplicate and delete:
        raise ConfigurationError(
            "expected check_duplicate or is_delete, got both, of which the service would look at is_delete only"
        )
    if action is not None:
        params["action"] = _check_action(action)
    if duplicate is not None:
        params["checkDuplicate"] = "true" if duplicate else "false"
    if delete is not None:
        params["isDelete"] = "true" if delete else "false"
    if callback_url is not None:
        params["callBackUrl"] = check_callback_url(callback_url)
    return params


def schedule_params(check_duplicate: bool | None) -> dict[str, Param]:
    """Parameters of Schedule Campaign Data beside bulkData; here the flag is a JSON boolean."""
    flag = _check_flag("check_duplicate", check_duplicate)
    return {} if flag is None else {"checkDuplicate": flag}


# Page "Campaign Dial Status", parameter sortby: what fromDate and toDate mean.
_SORT_BY: Final[Mapping[DatedBy | None, str]] = {None: "0", "created": "1", "updated": "2"}


def dial_status_params(
    timezone: ZoneInfo,
    *,
    callback_url: str,
    since: datetime | str | None,
    until: datetime | str | None,
    status: LeadStatus,
    call_status: CallStatus,
    disposition: str,
    dated_by: DatedBy | None,
) -> dict[str, Param]:
    """Parameters of Campaign Dial Status."""
    _check_choice("status", status, get_args(LeadStatus))
    _check_choice("call_status", call_status, get_args(CallStatus))
    _check_choice("dated_by", dated_by, tuple(_SORT_BY))
    params: dict[str, Param] = {
        "callBackUrl": check_callback_url(callback_url),
        "status": status,
        "dialstatus": call_status,
        "dispositions": _check_text("disposition", disposition),
        "sortby": _SORT_BY[dated_by],
    }
    for name, field, value in (("since", "fromDate", since), ("until", "toDate", until)):
        if value is not None:
            params[field] = _platform_time(name, value, timezone)
    if since is not None and until is not None and str(params["fromDate"]) > str(params["toDate"]):
        raise ConfigurationError("expected since before until, got a later one")
    return params


def check_campaign(campaign: str) -> str:
    """Return the campaign's name if it can be one."""
    return _check_text("campaign", campaign)


def check_callback_url(url: str) -> str:
    """Return ``url`` if the service could call it: http or https, with a host (Campaign Dial Status, error table)."""
    # By its letters: the service refuses "HTTP://".
    if split_url(url) is None or not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"callback_url: expected an absolute http:// or https:// URL in ASCII, got {len(url)} characters"
        )
    return url


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        shape = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{name}: expected printable text that is not empty, got {shape}")
    return value


def _check_flag(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}: expected True, False or None, got {type(value).__name__}")


def _check_action(action: str) -> str:
    if not isinstance(action, str) or action.lower() not in ("start", "stop"):
        raise ConfigurationError(f"action: expected 'start', 'stop' or None, got {action!r}")
    return action.lower()


def _check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")


def _platform_time(name: str, moment: datetime | str, timezone: ZoneInfo) -> str:
    value = moment
    if isinstance(moment, str):
        try:
            value = datetime.strptime(moment, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            raise ConfigurationError(
                f"{name}: expected 'YYYY-MM-DD HH:MM:SS' or a datetime, got text of {len(moment)} characters"
            ) from None
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name}: expected a datetime or text, got {type(value).__name__}")
    local = value.astimezone(timezone) if value.tzinfo is not None else value
    return local.strftime("%Y-%m-%d %H:%M:%S")
