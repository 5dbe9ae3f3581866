"""The documented messages of the service, and what each means: one row a message."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["GATEWAY_WORDS", "MESSAGES", "RATE_WORDS", "Meaning", "Message"]


class Meaning(Enum):
    """What an answer says about the request."""

    ACCEPTED = "accepted"
    QUEUED = "queued"  # taken in; a callback tells the result
    DUPLICATE = "duplicate"  # skipped: the number was there already
    REJECT = "reject"  # one field of the lead; Reply.field names it
    AUTH = "auth"
    AUTH_MODE = "auth_mode"  # the account's "API Authentication" setting
    TOKEN = "token"  # noqa: S105 -- a meaning, not a secret
    FORBIDDEN = "forbidden"  # HTTP 403 without one: a firewall's as likely as the service's
    RATE = "rate"
    CAMPAIGN = "campaign"
    REQUEST = "request"  # the request as a whole, or one of its parameters; Reply.field names it then
    SERVER = "server"  # a fault on the way or over there; the outcome is unknown
    UNKNOWN = "unknown"


class Message(NamedTuple):
    """A documented message; a new one is a new row of `MESSAGES`.

    Attributes:
        pattern: the text as the page prints it, misspellings included. Compared without regard to case and to runs of
            blanks; one ``xxxx`` stands for any text that is not empty.
        meaning: what it says.
        source: the page that lists it.
        field: our argument's name: always for ``Meaning.REJECT``, for ``Meaning.REQUEST`` where the text is about one.
        only_at: endpoints at which it is believed; needed for a success. A refusal is believed everywhere.
        needs: key of `Reply.data` without whose value the message proves nothing.
        with_token: what it means instead when the request carried a bearer token.
    """

    pattern: str
    meaning: Meaning
    source: str
    field: str | None = None
    only_at: tuple[str, ...] = ()
    needs: str | None = None
    with_token: Meaning | None = None


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
_S_FILE = "Bulk Upload by file"
_S_AGENTS = "Agent Details"
_S_CDR = "Fetch CDR Details"
_M = Meaning

# Refusals of other endpoints stand here where the same words may well come from ours.
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
    Message("Data updated successfully", _M.ACCEPTED, _S_SCHEDULE, only_at=("schedule_row",)),
    Message("queued successfully", _M.QUEUED, _S_V4, only_at=("bulk",), needs="transactionid"),
    # -- credentials -------------------------------------------------------------------------------------------
    Message("No User Found", _M.AUTH, f"{_S_LEGACY_ADD}; {_S_OLD_BULK} (there for a bad campaign too)"),
    Message("Invalid User Details", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("Api Key Should Not be Null or Empty.", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("Username Should Not be Null or Empty.", _M.AUTH, f"{_S_ADD}; {_S_DELETE}"),
    Message("UserName is null", _M.AUTH, _S_TOKEN),
    Message("Invalid userName or apiKey", _M.AUTH, f"{_S_V4}; {_S_TOKEN}"),
    Message("apiKey should not be empty", _M.AUTH, f"{_S_V4}; {_S_DELETE_OLD}"),
    Message("userName should not be empty", _M.AUTH, f"{_S_V4}; {_S_DELETE_OLD}"),
    Message("userName or apiKey is Invalid", _M.AUTH, f"{_S_DELETE_OLD}; {_S_CDR}"),
    # To a fresh bearer token it says that the account does not take tokens (seen in production in 2026).
    Message("Missing userName or apiKey", _M.AUTH, _S_CDR, with_token=_M.AUTH_MODE),
    Message("Authentication failed", _M.AUTH, f"{_S_DIAL}; {_S_FILE}"),
    Message("apiKey is invalid", _M.AUTH, _S_DIAL),
    Message("userName is invalid", _M.AUTH, _S_DIAL),
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
    # -- fields ------------------------------------------------------------------------------------------------
    Message(
        "phone number should be numeric and must be between 3 to 16 digits and allows prefix +",
        _M.REJECT,
        _S_ADD,
        "phone_number",
    ),
    Message("Phone Number is Empty!", _M.REJECT, f"{_S_LEGACY_ADD}; {_S_OLD_BULK}", "phone_number"),
    Message("PhoneNumber Added is a DND Number", _M.REJECT, f"{_S_LEGACY_ADD}; {_S_OLD_BULK}", "phone_number"),
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
    Message("Please provide valid skill", _M.REJECT, _S_ADD, "skill"),
    Message("Mandatory parameter ScheduledTime is in bulkData map", _M.REJECT, _S_SCHEDULE, "scheduled_time"),
    Message("Wrong Date format", _M.REJECT, _S_SCHEDULE, "scheduled_time"),
    # -- the request as a whole ----------------------------------------------------------------------------------
    # The page quotes the rest with mismatched quotation marks.
    Message("callBackUrl cannot be empty xxxx", _M.REQUEST, _S_DIAL, "callback_url"),
    Message("Please provide valid data", _M.REQUEST, f"{_S_V4}; {_S_OLD_BULK}"),
    Message("Invalid Json Pass Valid Json", _M.REQUEST, _S_DELETE),
    # -- the rate ------------------------------------------------------------------------------------------------
    Message("too many Requests and failed to add Data to queue", _M.RATE, _S_V4),
    Message("Already one process is running please try after some time", _M.RATE, _S_OLD_BULK),
    Message("Max limit exceeded", _M.RATE, f"{_S_AGENTS}; {_S_DELETE_BULK}"),
    Message("Request limit exhausted", _M.RATE, _S_FILE),
)

# What an answer whose message is not listed may say for the service's limit, or for something on the way to it. They
# are looked for in the message without regard to case, blanks and punctuation: "Rate-Limit exceeded.", "timed out".
RATE_WORDS: tuple[str, ...] = (
    "too many requests",
    "limit exceeded",
    "limit exhausted",
    "one process is running please try after some time",
)
GATEWAY_WORDS: tuple[str, ...] = (
    "timed out",
    "timeout",
    "gateway",
    "upstream",
    "unavailable",
    "connection reset",
)
