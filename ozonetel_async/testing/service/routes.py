"""Which path is which endpoint, how each reads its parameters, and who answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from .account import Account, ReceivedRequest
from .add import add
from .answers import Answer
from .bulk import bulk
from .dial_status import dial_status
from .legacy_add import legacy_add
from .schedule import legacy_schedule, schedule
from .token import generate_token

__all__ = ["HANDLERS", "Route", "find_route", "read_params"]

Reader = Literal["json", "php", "none"]


class Route(Struct, frozen=True):
    """An endpoint: its short name, its methods, how its parameters are read, and whether PHP answers."""

    endpoint: str
    methods: frozenset[str]
    reader: Reader
    php: bool = False
    documented: bool = True


_CCAAS = "/cloudAgentRestAPI/index.php"
_GET, _POST, _BOTH = frozenset({"GET"}), frozenset({"POST"}), frozenset({"GET", "POST"})

# Paths that a page or production code prints, matched as they are.
_ROUTES: dict[str, Route] = {
    "/ca_apis/AddCampaignData": Route("add", _POST, "json"),
    "/ca_apis/CAToken/generateToken": Route("token", _POST, "json"),
    f"{_CCAAS}/AddCampaignBulkDataV4/addBulkData/format/json": Route("bulk", _POST, "php", php=True),
    f"{_CCAAS}/CloudAgent/CloudAgentAPI/addCamapaignData": Route("legacy_add", _BOTH, "php", php=True),
    "/CAServices/scheduleCampaignData/scheduleCampaignData.php": Route("legacy_schedule", _GET, "php", php=True),
}

# Paths known from a page's address only: any letter case.
_GUESSED: dict[str, Route] = {
    "/ca_apis/campaignscheduleddata": Route("schedule", _POST, "json"),
    "/endpoint/dailer/data/preview/download": Route("dial_status", _POST, "php"),
}

_FAILED_FILE = Route("failed_file", _GET, "php", documented=False)
_EXPORT_FILE = Route("export_file", _GET, "php", documented=False)
_UNKNOWN = Route("unknown", frozenset(), "none", documented=False)


def find_route(path: str) -> Route:
    """The endpoint behind a path."""
    route = _ROUTES.get(path) or _GUESSED.get(path.lower())
    if route is not None:
        return route
    if path.startswith("/etl-dataprocessing/"):
        return _FAILED_FILE if path.endswith("_error.csv") else _EXPORT_FILE
    return _UNKNOWN


def read_params(route: Route, query: str, body: bytes, content_type: str) -> Mapping[str, object] | None:
    """The request's parameters, or None when a JSON body is no JSON object."""
    if route.reader == "json":
        return _json_object(body)
    params: dict[str, object] = {}
    if query:
        params.update(parse_qsl(query, keep_blank_values=True))
    if body:
        params.update(_body_fields(body, content_type))
    return params


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        content: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return content if isinstance(content, dict) else None


def _form(body: bytes, content_type: str) -> Mapping[str, object]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _json_fields(body: bytes, content_type: str) -> Mapping[str, object]:
    return _json_object(body) or {}


_PART_NAME = re.compile(rb'name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


def _multipart(body: bytes, content_type: str) -> Mapping[str, object]:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return {}
    fields: dict[str, object] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.group(1).strip().encode())[1:]:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        if blank and name is not None:
            fields[name.group(1).decode("utf-8", "replace")] = content.decode("utf-8", "replace")
    return fields


_BODIES: dict[str, Callable[[bytes, str], Mapping[str, object]]] = {
    "application/x-www-form-urlencoded": _form,
    "multipart/form-data": _multipart,
    "application/json": _json_fields,
}


def _body_fields(body: bytes, content_type: str) -> Mapping[str, object]:
    # What a body says of itself decides, as in PHP: a JSON text under another label yields no field.
    reader = _BODIES.get(content_type.partition(";")[0].strip().lower())
    return reader(body, content_type) if reader is not None else {}


def _file(account: Account, request: ReceivedRequest) -> Answer:
    return account.files.read(request.record.path, request.get("X-Amz-Signature"))


HANDLERS: dict[str, Callable[[Account, ReceivedRequest], Answer]] = {
    "add": add,
    "bulk": bulk,
    "dial_status": dial_status,
    "token": generate_token,
    "schedule": schedule,
    "legacy_schedule": legacy_schedule,
    "legacy_add": legacy_add,
    "failed_file": _file,
    "export_file": _file,
}
