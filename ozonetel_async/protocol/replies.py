"""What the service's answers mean: one table of documented messages, and the reading of bodies.

The service tells errors inside HTTP 200 bodies, spells its status words in a dozen ways, reports skipped leads as a
success and words some successes like complaints. So the message decides first, and the rest only where the message is
not listed. `classify` reads an answer in this order:

1. a message of `MESSAGES` (or, where a success has no message of its own, the documented shape of the body);
2. HTTP 429, 401 and 403;
3. the status word: an unlisted message under a failing word is a refusal, under a succeeding word it is unknown;
4. the HTTP code;
5. else unknown.

Two rules keep a refusal from being taken for a success. A success is believed only at the endpoints whose pages list
it, a refusal everywhere. And a success that quotes text of the account (a campaign's name, say) is not believed beside
a status word that is not a success: the contradiction is unknown, not accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from .bodies import (
    TEXT_LIMIT,
    as_text,
    cut,
    decode,
)

__all__ = ["MESSAGES", "Meaning", "Message", "Reply", "classify", "classify_row"]


class Meaning(Enum):
    """What an answer says about the request."""

    ACCEPTED = "accepted"
    QUEUED = "queued"  # taken in; a callback tells the result
    DUPLICATE = "duplicate"  # skipped: the number was there already
    REJECT = "reject"  # one field of the lead or request; Reply.field names it
    AUTH = "auth"
    AUTH_MODE = "auth_mode"  # the account's "API Authentication" setting
    TOKEN = "token"  # noqa: S105 -- a meaning, not a secret
    RATE = "rate"
    CAMPAIGN = "campaign"
    REQUEST = "request"
    SERVER = "server"  # a fault on the way or over there; the outcome is unknown
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"


class Reply(Struct, frozen=True):
    """One answer of the service, read.

    Parameters
    ----------
    meaning: what it says about the request.
    field: for ``Meaning.REJECT`` the argument complained about (``"phone_number"``, ``"expiry"``, …), else None.
    message: the service's text, at most 2,000 characters; empty when there is none.
    status: the status word as sent; ``"false"`` for the JSON value, None when there is none.
    data: the decoded object with lower-cased keys, empty when there is none. ``transactionid`` and ``uniqueid`` are
        text whatever the JSON type; for schedule, ``message`` is a list of row objects.
    text: the body as text, at most 2,000 characters, not masked; a longer one is cut between two words, so that
        masking never meets half a secret.
    """

    meaning: Meaning
    field: str | None
    message: str
    status: str | None
    data: Mapping[str, object]
    text: str

    def __repr__(self) -> str:
        # A body may echo phone numbers and keys; a repr ends up in logs.
        return f"Reply(meaning={self.meaning.name}, field={self.field!r}, {len(self.text)} characters)"

    __str__ = __repr__


class Message(NamedTuple):
    """A documented message; a new one is a new row of `MESSAGES`.

    Parameters
    ----------
    pattern: the text as the page prints it, misspellings included. Compared without regard to case and to runs of
        blanks; one ``xxxx`` stands for any text that is not empty.
    meaning: what it says.
    source: the page that lists it.
    field: for ``Meaning.REJECT`` our argument's name.
    only_at: endpoints at which it is believed; needed for a success. A refusal is believed everywhere.
    needs: key of `Reply.data` without whose value the message proves nothing.
    """

    pattern: str
    meaning: Meaning
    source: str
    field: str | None = None
    only_at: tuple[str, ...] = ()
    needs: str | None = None


_ADD = ("add",)
_ADDS = ("add", "legacy_add")

_S_ADD = "Add Campaign Data (basic)"
_S_TOKEN_AUTH = "Add Campaign Data (token); Delete Campaign Bulk Data (token)"  # noqa: S105 -- a page name
_S_LEGACY_ADD = "Add Campaign Data (GET, deprecated)"
_S_V4 = "Add Campaign Bulk Data V4"
_S_OLD_BULK = "Add Campaign Bulk Data"
_S_SCHEDULE = "Schedule Campaign Data"
_S_DIAL = "Campaign Dial Status"
_S_TOKEN = "Generate Token"  # noqa: S105 -- a page name
_S_DELETE = "Delete Campaign Data"
_S_DELETE_BULK = "Delete Campaign Bulk Data"
_S_DELETE_OLD = "Delete Campaign Data (GET, deprecated)"
_S_STATUS = "Campaign Status"
_S_SET = "Set Campaign Status"
_S_SCHEDULED = "Get Scheduled Data"
_S_UNSCHEDULE = "Delete Scheduled Data"
_S_FILE = "Bulk Upload by file"
_S_WHATSAPP = "WhatsApp Bulk Upload by file"
_S_AGENTS = "Agent Details"

_M = Meaning

# Endpoints beyond those of endpoints.py are named here too: their messages share the service's vocabulary, and a
# success of theirs must not be believed where it does not belong.
MESSAGES: tuple[Message, ...] = (
    # -- successes ---------------------------------------------------------------------------------------------
    Message("SuccessFully Updated", _M.ACCEPTED, _S_ADD, only_at=_ADDS),
    Message("Successfully Updated, xxxx was started", _M.ACCEPTED, f"{_S_ADD}; {_S_LEGACY_ADD}", only_at=_ADDS),
    Message("SuccessFully Updated xxxx Campaign", _M.ACCEPTED, _S_ADD, only_at=_ADD),
    Message("SuccessFully Updated xxxx Campaign Stoped", _M.ACCEPTED, _S_ADD, only_at=_ADD),
    Message("Campaign xxxx Is Already Started", _M.ACCEPTED, _S_ADD, only_at=_ADD),
    Message(
        "Please pass the valid Campaign action SuccessFully Updated xxxx Campaign Data",
        _M.ACCEPTED,
        _S_ADD,
        only_at=_ADD,
    ),
    Message("Number Already Exist", _M.DUPLICATE, f"{_S_ADD}; {_S_LEGACY_ADD}", only_at=_ADDS),
    Message("Number Already Existed", _M.DUPLICATE, _S_ADD, only_at=_ADD),
    Message("SuccessFully Updated", _M.ACCEPTED, _S_OLD_BULK, only_at=("old_bulk_row",)),
    Message("Data updated successfully", _M.ACCEPTED, _S_SCHEDULE, only_at=("schedule_row",)),
    Message("queued successfully", _M.QUEUED, _S_V4, only_at=("bulk",), needs="transactionid"),
    Message("File Successfully uploaded.", _M.ACCEPTED, _S_V4, only_at=("bulk_callback",)),
    Message("Data processing", _M.QUEUED, _S_FILE, only_at=("file_upload",)),
    Message("Data uploaded successfully", _M.ACCEPTED, _S_FILE, only_at=("file_callback",)),
    Message("Deleted Successfully", _M.ACCEPTED, _S_DELETE, only_at=("delete",)),
    Message("xxxx Records Deleted Successfully", _M.ACCEPTED, _S_DELETE_OLD, only_at=("legacy_delete",)),
    Message("SUCCESSFULLY UPDATED, xxxx was started", _M.ACCEPTED, _S_SET, only_at=("set_campaign",)),
    Message("SUCCESSFULLY UPDATED, xxxx was stopped", _M.ACCEPTED, _S_SET, only_at=("set_campaign",)),
    # -- credentials -------------------------------------------------------------------------------------------
    Message("No User Found", _M.AUTH, f"{_S_LEGACY_ADD}; {_S_OLD_BULK} (there for a bad campaign too)"),
    Message("Invalid User Details", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("Api Key Should Not be Null or Empty.", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("Username Should Not be Null or Empty.", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("UserName is null", _M.AUTH, _S_TOKEN),
    Message("Invalid userName or apiKey", _M.AUTH, f"{_S_V4}; {_S_TOKEN}"),
    Message("apiKey should not be empty", _M.AUTH, f"{_S_V4}; {_S_DELETE_OLD}"),
    Message("userName should not be empty", _M.AUTH, f"{_S_V4}; {_S_DELETE_OLD}"),
    Message("userName or apiKey is Invalid", _M.AUTH, _S_DELETE_OLD),
    Message("Authentication failed", _M.AUTH, f"{_S_DIAL}; {_S_FILE}"),
    Message("apiKey is invalid", _M.AUTH, _S_DIAL),
    Message("userName is invalid", _M.AUTH, _S_DIAL),
    # Get Scheduled Data answers a wrong key with success and this text; elsewhere it would say nothing.
    Message("null", _M.AUTH, _S_SCHEDULED, only_at=("scheduled_data",)),
    # It is about the account's "API Authentication" setting, not about the request's `action`.
    Message("Invalid action.", _M.AUTH_MODE, _S_ADD),
    Message("Token Expired", _M.TOKEN, f"{_S_TOKEN_AUTH}; {_S_TOKEN}"),
    Message("Invalid Token", _M.TOKEN, _S_TOKEN_AUTH),
    Message("Token Should Not be Null or Empty.", _M.REQUEST, _S_TOKEN_AUTH),
    # -- campaigns; the first two may mean the key as well -------------------------------------------------------
    Message("No User Found or Campaign Name is Invalid", _M.CAMPAIGN, _S_ADD),
    Message("api_key or campaign_name is invalid or not found", _M.CAMPAIGN, _S_SCHEDULE),
    Message("Please provide campaign details", _M.CAMPAIGN, f"{_S_ADD}; {_S_OLD_BULK}"),
    Message("campaignName should not be empty", _M.CAMPAIGN, _S_V4),
    Message("Invalid Campaign Name", _M.CAMPAIGN, _S_V4),
    Message("campaignName is invalid", _M.CAMPAIGN, f"{_S_DIAL}; {_S_DELETE_OLD}"),
    Message("The selected campaign is not outbound", _M.CAMPAIGN, _S_ADD),
    Message("Campaign should not be null are empty", _M.CAMPAIGN, f"{_S_DELETE}; {_S_DELETE_BULK}"),
    Message("Passed campaign are invalid", _M.CAMPAIGN, f"{_S_DELETE}; {_S_DELETE_BULK}"),
    Message("Campaign not found", _M.CAMPAIGN, _S_FILE),
    Message("Campaign is running", _M.CAMPAIGN, _S_FILE),
    Message("Campain is running", _M.CAMPAIGN, _S_WHATSAPP),
    Message("Campain under process", _M.CAMPAIGN, _S_WHATSAPP),
    # -- fields ------------------------------------------------------------------------------------------------
    Message(
        "phone number should be numeric and must be between 3 to 16 digits and allows prefix +",
        _M.REJECT,
        _S_ADD,
        "phone_number",
    ),
    Message("Phone Number is Empty!", _M.REJECT, f"{_S_LEGACY_ADD}; {_S_OLD_BULK}", "phone_number"),
    Message("PhoneNumber Added is a DND Number", _M.REJECT, f"{_S_LEGACY_ADD}; {_S_OLD_BULK}", "phone_number"),
    Message("PhoneNumber should not be null are empty", _M.REJECT, _S_DELETE, "phone_number"),
    Message("PhoneNumbers should not be null are empty", _M.REJECT, _S_DELETE_BULK, "phone_number"),
    Message("The priority value must be numeric and range from 0 to 99.", _M.REJECT, _S_ADD, "priority"),
    Message(
        "Priority, supports only numeric value or the value is not passed properly", _M.REJECT, _S_OLD_BULK, "priority"
    ),
    Message(
        "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd", _M.REJECT, _S_ADD, "expiry"
    ),
    Message("The expiry date and time must be in the future", _M.REJECT, _S_ADD, "expiry"),
    Message("ExpiryDate, supports the following format only xxxx", _M.REJECT, _S_OLD_BULK, "expiry"),
    Message("Agent Is Empty!", _M.REJECT, _S_ADD, "agent_id"),
    Message("Agent is not correctly mapped!", _M.REJECT, _S_ADD, "agent_id"),
    Message("please pass valid AgentId", _M.REJECT, _S_DELETE_OLD, "agent_id"),
    Message("Please provide valid skill", _M.REJECT, _S_ADD, "skill"),
    Message("please pass valid skill", _M.REJECT, _S_DELETE_OLD, "skill"),
    Message("Mandatory parameter ScheduledTime is in bulkData map", _M.REJECT, _S_SCHEDULE, "scheduled_time"),
    Message("Wrong Date format", _M.REJECT, _S_SCHEDULE, "scheduled_time"),
    # The page quotes the rest with mismatched quotation marks.
    Message("callBackUrl cannot be empty xxxx", _M.REJECT, _S_DIAL, "callback_url"),
    # -- the request as a whole ----------------------------------------------------------------------------------
    Message("Please provide valid data", _M.REQUEST, f"{_S_V4}; {_S_OLD_BULK}"),
    Message("Invalid Json Pass Valid Json", _M.REQUEST, _S_DELETE),
    Message("File Failed to Upload.", _M.REQUEST, f"{_S_V4}, callback"),
    Message("Data upload failed", _M.REQUEST, f"{_S_FILE}, callback"),
    Message("File is mandatory", _M.REQUEST, _S_FILE),
    Message("Only excel files are allowed", _M.REQUEST, _S_FILE),
    Message("Only excel/csv files are allowed", _M.REQUEST, _S_FILE),
    Message("All parameters are mandatory", _M.REQUEST, f"{_S_STATUS}; {_S_SET}"),
    Message("A maximum of 100 phone numbers or 10xxxx", _M.REQUEST, _S_DELETE_BULK),
    Message("status should be only Success/Fail/Pending", _M.REQUEST, _S_DELETE_OLD),
    Message("Mandatory parameter row_id is missing", _M.REQUEST, _S_UNSCHEDULE),
    # -- the rate ------------------------------------------------------------------------------------------------
    Message("too many Requests and failed to add Data to queue", _M.RATE, _S_V4),
    Message("Already one process is running please try after some time", _M.RATE, _S_OLD_BULK),
    Message("Max limit exceeded", _M.RATE, f"{_S_AGENTS}; {_S_DELETE_BULK}"),
    Message("Request limit exhausted", _M.RATE, _S_FILE),
    # -- nothing there -------------------------------------------------------------------------------------------
    Message("No Record Found", _M.NOT_FOUND, f"{_S_DELETE}; {_S_STATUS}"),
    Message("No data found", _M.NOT_FOUND, f"{_S_SCHEDULED}; {_S_UNSCHEDULE}"),
)


_SUCCESS_WORDS = frozenset({"success", "queued successfully"})
_FAILURE_WORDS = frozenset({"fail", "fails", "failure", "error", "false"})


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


class _Wildcard(NamedTuple):
    prefix: str
    suffix: str
    row: Message

    def matches(self, text: str) -> bool:
        return (
            len(text) > len(self.prefix) + len(self.suffix)
            and text.startswith(self.prefix)
            and text.endswith(self.suffix)
        )


# Literal texts believed everywhere; those believed at one endpoint; patterns by endpoint, "" for everywhere.
_EVERYWHERE: dict[str, Message] = {}
_LOCAL: dict[tuple[str, str], Message] = {}
_WILDCARDS: dict[str, list[_Wildcard]] = {"": []}


def _index(row: Message) -> None:
    pattern = _normal(row.pattern)
    if "xxxx" in pattern:
        prefix, suffix = pattern.split("xxxx")
        for endpoint in row.only_at or ("",):
            _WILDCARDS.setdefault(endpoint, []).append(_Wildcard(prefix, suffix, row))
    elif row.only_at:
        _LOCAL.update({(endpoint, pattern): row for endpoint in row.only_at})
    else:
        _EVERYWHERE[pattern] = row


for _row in MESSAGES:
    _index(_row)


def _find(endpoint: str, message: str, word: str) -> tuple[Message, bool] | None:
    """The row of a listed message, and whether a status ``word`` contradicts it; None if it is not listed."""
    text = _normal(message)
    row = _EVERYWHERE.get(text) or _LOCAL.get((endpoint, text))
    if row is not None:
        return row, False
    for wildcard in _WILDCARDS[""]:
        if wildcard.matches(text):
            return wildcard.row, False
    for wildcard in _WILDCARDS.get(endpoint, ()):
        if wildcard.matches(text):
            # The quoted part may be anybody's text: too little to overrule a status that says otherwise.
            return wildcard.row, bool(word) and word not in _SUCCESS_WORDS
    return None


_IDS = ("transactionid", "uniqueid")
_JAVA_KEYS = frozenset({"timestamp", "error", "path"})
_ROW_KEYS = frozenset({"Response", "msg", "Status"})


def _string(value: object) -> str:
    """``value`` if it is text, without lone surrogates, which no log or terminal can write; else empty."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _scalar(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers beyond a length that its user may lower.
        return str(value) if value.bit_length() <= 512 else None
    return _string(value) if isinstance(value, str) else None


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _http_code(http_status: int, status: str | None, data: Mapping[str, object]) -> int:
    """The HTTP code, or the worse one in the body of a Java service that reports ``status`` as a number."""
    if status is None or len(status) != 3 or not (status.isascii() and status.isdigit()):
        return http_status
    java = len(_JAVA_KEYS & data.keys()) >= 2
    return max(http_status, int(status)) if java else http_status


def _rows(message: object) -> list[Mapping[str, object]] | None:
    """Row objects of a schedule answer: a list, one row alone, or a list that PHP has turned into an object."""
    if isinstance(message, dict):
        if _ROW_KEYS & message.keys():
            return [message]
        # The keys are the places then; kept, since PHP makes an object of a list just when places are missing.
        message = [{"index": key, **row} if isinstance(row, dict) else row for key, row in message.items()]
    if isinstance(message, list) and message and all(isinstance(row, dict) for row in message):
        return message
    return None


def _read_schedule(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Schedule Campaign Data: success is a list of rows, each with its own verdict."""
    rows = _rows(data.get("message"))
    if rows is None:
        return None
    data["message"] = rows
    if word in _FAILURE_WORDS and not any(classify_row(row)[0] is Meaning.ACCEPTED for row in rows):
        return None
    return Meaning.ACCEPTED


def _read_export(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Campaign Dial Status prints no success; all its errors carry an empty ``uniqueId``, so a filled one is it."""
    return Meaning.QUEUED if word in _SUCCESS_WORDS and code < 300 and _filled(data.get("uniqueid")) else None


def _read_token(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Generate Token: success has a token and no status."""
    good = not word or word in _SUCCESS_WORDS
    return Meaning.ACCEPTED if good and code < 300 and _filled(data.get("token")) else None


# Successes that have a shape instead of a message.
_SHAPES: dict[str, Callable[[dict[str, object], str, int], Meaning | None]] = {
    "schedule": _read_schedule,
    "legacy_schedule": _read_schedule,
    "dial_status": _read_export,
    "token": _read_token,
}


def _without_message(word: str, code: int, token_used: bool) -> Meaning:
    """The rest of the order: three telling HTTP codes, the status word, the HTTP code."""
    if code == 429:
        return Meaning.RATE
    if code in (401, 403):
        return Meaning.TOKEN if token_used else Meaning.AUTH
    if word in _FAILURE_WORDS and code < 500:
        # Beside a 5xx the word may be a gateway's, which knows nothing of what the service behind it has done.
        return Meaning.REQUEST
    if word in _SUCCESS_WORDS:
        return Meaning.UNKNOWN
    if 400 <= code < 500 and code != 408:
        return Meaning.REQUEST
    return Meaning.SERVER if 300 <= code < 600 else Meaning.UNKNOWN


def classify(endpoint: str, http_status: int, body: bytes, *, token_used: bool = False) -> Reply:
    """Read one answer; never raises, whatever the bytes.

    Parameters
    ----------
    endpoint: short name (``"add"``, ``"bulk"``, ``"schedule"``, ``"dial_status"``, ``"legacy_add"``,
        ``"legacy_schedule"``, ``"token"``); at any other name refusals are still known.
    http_status: the HTTP code.
    body: the body as received. Read by content, never by Content-Type, which no page states.
    token_used: whether the request carried a bearer token, so that HTTP 401 and 403 ask for a new one.
    """
    # Add Campaign Data answers thousands of leads in a handful of texts; the other endpoints' answers hold ids.
    read = _classify_again if endpoint == "add" and len(body) <= _OFTEN else _classify
    return read(endpoint, http_status, body, token_used)


def _classify(endpoint: str, http_status: int, body: bytes, token_used: bool) -> Reply:
    data = decode(body, xml=endpoint.startswith("legacy_"))
    text = cut(as_text(body[: 4 * TEXT_LIMIT + 4]))
    status = _scalar(data.get("status"))
    message = _string(data.get("message"))
    word = _normal(status) if status else ""
    for key in _IDS:
        if type(data.get(key)) is int:
            data[key] = _scalar(data[key])
    found = _find(endpoint, message, word) if message else None
    field = None
    if found is not None:
        row, contradicted = found
        proven = row.needs is None or _filled(data.get(row.needs))
        meaning = row.meaning if proven and not contradicted else Meaning.UNKNOWN
        field = row.field
    else:
        code = _http_code(http_status, status, data)
        read = _SHAPES.get(endpoint)
        shaped = read(data, word, code) if read else None
        meaning = shaped or _without_message(word, code, token_used)
    return Reply(meaning, field, cut(message), status if status is None else cut(status), data, text)


_OFTEN = 256
_classify_again = lru_cache(maxsize=64)(_classify)


def classify_row(row: Mapping[str, object]) -> tuple[Meaning, str]:
    """Meaning and text of one row object of a schedule answer.

    Rows hold ``Response`` and ``msg`` beside the lead's own columns (Schedule Campaign Data); those of the older bulk
    page hold ``Status`` alone. A row whose two parts contradict each other is unknown; an unlisted text under a
    failing ``Response`` is a refusal.
    """
    if "msg" in row or "Response" in row:
        kind, message, word = "schedule_row", _string(row.get("msg")), _normal(_scalar(row.get("Response")) or "")
    else:
        kind, message, word = "old_bulk_row", _string(row.get("Status") or row.get("status")), ""
    found = _find(kind, message, word)
    if found is None:
        return (Meaning.REQUEST if word in _FAILURE_WORDS else Meaning.UNKNOWN), cut(message)
    meaning = found[0].meaning
    contradicted = meaning is Meaning.ACCEPTED and bool(word) and word not in _SUCCESS_WORDS
    return (Meaning.UNKNOWN if contradicted else meaning), cut(message)
