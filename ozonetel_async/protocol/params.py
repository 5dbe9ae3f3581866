"""The callers' arguments as the service's parameters: names, spellings and checks in one place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ..config import Cleaning, ClientConfig
from ..errors import ConfigurationError, InvalidLeadError
from ..models import CellCounts, Lead
from ..rows.single_lead import check_lead
from .requests import Param

__all__ = [
    "Action",
    "add_params",
    "bulk_params",
    "check_callback_url",
    "check_campaign",
    "dial_status_params",
    "legacy_add_params",
    "schedule_params",
]

Action: TypeAlias = Literal["start", "stop"]

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


@lru_cache(maxsize=16)
def _add_names(name_key: str) -> dict[str, str]:
    return _ADD_NAMES | {"name": name_key}


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
    names = _add_names(config.dialect.name_key)
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
    if not isinstance(lead, Lead):
        raise ConfigurationError(f"lead must be a Lead, got {type(lead).__name__}; write Lead(phone_number, …)")
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
            "check_duplicate and is_delete together: the service would look at is_delete only; pass one of them"
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


_LEAD_STATUSES = ("All", "Fail", "Success", "Pending")
_DIAL_STATUSES = ("All", "ALL", "Fail", "NoAnswer", "user_disconnected", "answered")
_SORTS = (0, 1, 2)


def dial_status_params(
    timezone: ZoneInfo,
    *,
    callback_url: str,
    since: datetime | str | None,
    until: datetime | str | None,
    status: str,
    dial_status: str,
    disposition: str,
    sort_by: int,
) -> dict[str, Param]:
    """Parameters of Campaign Dial Status."""
    _check_choice("status", status, _LEAD_STATUSES)
    _check_choice("dial_status", dial_status, _DIAL_STATUSES)
    _check_choice("sort_by", sort_by, _SORTS)
    params: dict[str, Param] = {
        "callBackUrl": check_callback_url(callback_url),
        "status": status,
        "dialstatus": dial_status,
        "dispositions": _check_text("disposition", disposition),
        "sortby": str(sort_by),
    }
    for name, field, value in (("since", "fromDate", since), ("until", "toDate", until)):
        if value is not None:
            params[field] = _platform_time(name, value, timezone)
    if since is not None and until is not None and str(params["fromDate"]) > str(params["toDate"]):
        raise ConfigurationError("since is later than until")
    return params


def check_campaign(campaign: str) -> str:
    """Return the campaign's name if it can be one."""
    return _check_text("campaign", campaign)


def check_callback_url(url: str) -> str:
    """Return ``url`` if the service could call it: http or https, with a host (Campaign Dial Status, error table)."""
    _check_text("callback_url", url)
    try:
        parts = urlsplit(url)
        # By its letters: the service refuses "HTTP://".
        good = url.startswith(("http://", "https://")) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or " " in url:
        raise ConfigurationError("callback_url must be an absolute http:// or https:// URL in ASCII")
    return url


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        shape = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{name} must be printable text that is not empty, got {shape}")
    return value


def _check_flag(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name} must be True, False or None, got {type(value).__name__}")


def _check_action(action: str) -> str:
    if not isinstance(action, str) or action.lower() not in ("start", "stop"):
        raise ConfigurationError(f"action must be 'start', 'stop' or None, got {action!r}")
    return action.lower()


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # By type as well: True and 1.0 equal 1, and would be sent as what they are.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _platform_time(name: str, value: datetime | str, timezone: ZoneInfo) -> str:
    if isinstance(value, str):
        try:
            value = datetime.strptime(value, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            raise ConfigurationError(f"{name} must be 'YYYY-MM-DD HH:MM:SS' or a datetime") from None
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} must be a datetime or text, got {type(value).__name__}")
    local = value.astimezone(timezone) if value.tzinfo is not None else value
    return local.strftime("%Y-%m-%d %H:%M:%S")
