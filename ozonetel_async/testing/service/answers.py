"""The service's words, spelled as the documents spell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, json

__all__ = ["Answer", "answer", "say"]

Kind = Literal["ok", "error", "auth", "rate"]


class Answer(Struct, frozen=True):
    """A body and what it is about; the front decides on the HTTP status.

    Attributes:
        body: encoded text.
        kind: ``"ok"``, ``"error"``, ``"auth"`` (credentials) or ``"rate"``.
        content_type: its label.
        code: HTTP status, or 0 for the one of its kind.
    """

    body: bytes
    kind: Kind = "ok"
    content_type: str = "application/json"
    code: int = 0


def answer(content: object, kind: Kind = "ok") -> Answer:
    """A JSON answer."""
    return Answer(json.encode(content), kind)


def say(status: str, message: str, kind: Kind = "ok", more: Mapping[str, object] | None = None) -> Answer:
    """A JSON answer of ``status`` and ``message``."""
    return Answer(json.encode({"status": status, "message": message, **(more or {})}), kind)


_NO_DATA = {"data": None}
_NO_ID = {"uniqueId": ""}

# Add Campaign Data with basic and token authentication, and its siblings under /ca_apis.
INVALID_JSON = say("false", "Invalid Json Pass Valid Json", "error", _NO_DATA)
KEY_MISSING = say("false", "Api Key Should Not be Null or Empty.", "auth", _NO_DATA)
INVALID_USER = say("false", "Invalid User Details", "auth", _NO_DATA)
USER_MISSING = say("false", "Username Should Not be Null or Empty.", "auth", _NO_DATA)
INVALID_ACTION = say("false", "Invalid action.", "auth", _NO_DATA)
NO_CAMPAIGN_NAME = say("Error", "Please provide campaign details", "error")
UNKNOWN_CAMPAIGN = say("FAIL", "No User Found or Campaign Name is Invalid", "error")
NOT_OUTBOUND = say("Fail", "The selected campaign is not outbound", "error")
BAD_PHONE = say(
    "error", "phone number should be numeric and must be between 3 to 16 digits and allows prefix +", "error"
)
# The parameter skipNameFieldValidation is documented, the words of the refusal are not.
BAD_NAME = say("error", "Name allows only letters, numbers, _ and space ( ) . + $ % - :", "error")
BAD_PRIORITY = say("Error", "The priority value must be numeric and range from 0 to 99.", "error")
BAD_EXPIRY = say("Error", "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd", "error")
PAST_EXPIRY = say("Error", "The expiry date and time must be in the future", "error")
AGENT_MISSING = say("FAIL", "Agent Is Empty!", "error")
AGENT_UNKNOWN = say("FAIL", "Agent is not correctly mapped!", "error")
BAD_SKILL = say("FAIL", "Please provide valid skill", "error")
DND = say("FAIL", "PhoneNumber Added is a DND Number", "error")
OTHER_SKILL = say("Success", "Number Already Existed")

# Generate Token.
TOKEN_USER_MISSING = say("false", "UserName is null", "auth", _NO_DATA)
TOKEN_INVALID_USER = say("false", "Invalid userName or apiKey", "auth", _NO_DATA)

# Legacy Add Campaign Data.
NO_USER = ("FAIL", "No User Found")
PHONE_EMPTY = ("FAIL", "Phone Number is Empty!")

# Bulk V4.
BULK_NO_KEY = say("error", "apiKey should not be empty", "auth")
BULK_NO_USER = say("error", "userName should not be empty", "auth")
BULK_INVALID_USER = say("error", "Invalid userName or apiKey", "auth")
BULK_NO_CAMPAIGN = say("error", "campaignName should not be empty", "error")
BULK_BAD_CAMPAIGN = say("error", "Invalid Campaign Name", "error")
BULK_BAD_DATA = say("failure", "Please provide valid data", "error")
# The limit is documented, the answer to more is not.
BULK_TOO_MANY_ROWS = say("error", "Maximum 500 records are allowed per request", "error")

# Schedule Campaign Data.
SCHEDULE_NOT_FOUND = say("error", "api_key or campaign_name is invalid or not found", "auth")
SCHEDULE_NO_TIME = say("error", "Mandatory parameter ScheduledTime is in bulkData map", "error")
SCHEDULE_BAD_DATE = say("error", "Wrong Date format", "error")
# Documented as errors without their words: missing bulkData, more than 100 rows, a time outside the horizon.
SCHEDULE_NO_DATA = say("error", "Please provide valid data", "error")
SCHEDULE_TOO_MANY_ROWS = say("error", "100 records per request are allowed", "error")
SCHEDULE_HORIZON = say("error", "ScheduledTime is not within the allowed days", "error")

# Campaign Dial Status.
DIAL_KEY_MISSING = say("error", "apiKey is invalid", "auth", _NO_ID)
DIAL_USER_MISSING = say("error", "userName is invalid", "auth", _NO_ID)
DIAL_FAILED = say("error", "Authentication failed", "auth", _NO_ID)
DIAL_BAD_CAMPAIGN = say("error", "campaignName is invalid", "error", _NO_ID)
DIAL_BAD_CALLBACK = say(
    "error",
    "callBackUrl cannot be empty (OR) it should contain \u2018http://test.com/\u2019 or 'https://test.com/",
    "error",
    _NO_ID,
)


def dial_invalid(name: str) -> Answer:
    """The page marks status, dialstatus and dispositions as mandatory and shows no message: by analogy."""
    return say("error", f"{name} is invalid", "error", _NO_ID)


# Delete Campaign Data; Campaign Status; Set Campaign Status.
DELETE_NO_CAMPAIGN = say("Error", "Campaign should not be null are empty", "error")
DELETE_BAD_CAMPAIGN = say("Error", "Passed campaign are invalid", "error")
DELETE_NO_PHONE = say("Error", "PhoneNumber should not be null are empty", "error")
DELETE_NOTHING = say("Error", "No Record Found", "error")
DELETED = say("Success", "Deleted Successfully")
ALL_MANDATORY = say("failure", "All parameters are mandatory", "error")
NO_RECORD = say("failure", "no record found", "error")

_MAX_LIMIT = say("error", "Max limit exceeded", "rate")

# Words of a refusal for the rate. Only Bulk V4's are documented for the endpoint itself; the others are those of a
# sibling: Agent Details for /ca_apis, upload by file for /endpoint/dailer.
REFUSALS: dict[str, Answer] = {
    "bulk": say("error", "too many Requests and failed to add Data to queue", "rate"),
    "dial_status": say("error", "Request limit exhausted", "rate", _NO_ID),
}


def refusal(endpoint: str) -> Answer:
    """The endpoint's refusal of a request too many."""
    return REFUSALS.get(endpoint, _MAX_LIMIT)
