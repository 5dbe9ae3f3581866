"""The service's messages, spelled as in its documents."""

from __future__ import annotations

from msgspec import Struct, json

__all__ = ["Answer", "dial_invalid", "refusal", "say"]


class Answer(Struct, frozen=True):
    """The answer to one request.

    Attributes:
        body: encoded text.
        content_type: its label.
        code: HTTP status; the service's own errors have 200 as well.
    """

    body: bytes
    content_type: str = "application/json"
    code: int = 200


def say(status: str, message: str, **more: object) -> Answer:
    """A JSON answer of ``status`` and ``message``, and of further keys."""
    return Answer(json.encode({"status": status, "message": message, **more}))


# Add Campaign Data with basic and token authentication, and its siblings under /ca_apis.
INVALID_JSON = say("false", "Invalid Json Pass Valid Json", data=None)
KEY_MISSING = say("false", "Api Key Should Not be Null or Empty.", data=None)
INVALID_USER = say("false", "Invalid User Details", data=None)
USER_MISSING = say("false", "Username Should Not be Null or Empty.", data=None)
INVALID_ACTION = say("false", "Invalid action.", data=None)
NO_CAMPAIGN_NAME = say("Error", "Please provide campaign details")
UNKNOWN_CAMPAIGN = say("FAIL", "No User Found or Campaign Name is Invalid")
NOT_OUTBOUND = say("Fail", "The selected campaign is not outbound")

# What is wrong with one lead, with the status word of Add Campaign Data.
BAD_PHONE = "phone number should be numeric and must be between 3 to 16 digits and allows prefix +"
# The parameter skipNameFieldValidation is documented, the words of the refusal are not.
BAD_NAME = "Name allows only letters, numbers, _ and space ( ) . + $ % - :"
BAD_PRIORITY = "The priority value must be numeric and range from 0 to 99."
BAD_EXPIRY = "Invalid date format. Please pass date in format yyyy-MM-dd HH:mm:ss or yyyy-MM-dd"
PAST_EXPIRY = "The expiry date and time must be in the future"
AGENT_MISSING = "Agent Is Empty!"
AGENT_UNKNOWN = "Agent is not correctly mapped!"
BAD_SKILL = "Please provide valid skill"
DND = "PhoneNumber Added is a DND Number"
LEAD_STATUS: dict[str, str] = {
    **dict.fromkeys((BAD_PHONE, BAD_NAME), "error"),
    **dict.fromkeys((BAD_PRIORITY, BAD_EXPIRY, PAST_EXPIRY), "Error"),
    **dict.fromkeys((AGENT_MISSING, AGENT_UNKNOWN, BAD_SKILL, DND), "FAIL"),
}
OTHER_SKILL = say("Success", "Number Already Existed")

# Generate Token.
TOKEN_USER_MISSING = say("false", "UserName is null", data=None)
TOKEN_INVALID_USER = say("false", "Invalid userName or apiKey", data=None)

# Bulk V4.
BULK_NO_KEY = say("error", "apiKey should not be empty")
BULK_NO_USER = say("error", "userName should not be empty")
BULK_INVALID_USER = say("error", "Invalid userName or apiKey")
BULK_NO_CAMPAIGN = say("error", "campaignName should not be empty")
BULK_BAD_CAMPAIGN = say("error", "Invalid Campaign Name")
BULK_BAD_DATA = say("failure", "Please provide valid data")
# The limit is documented, the answer to more is not.
BULK_TOO_MANY_ROWS = say("error", "Maximum 500 records are allowed per request")

# Schedule Campaign Data.
SCHEDULE_NOT_FOUND = say("error", "api_key or campaign_name is invalid or not found")
SCHEDULE_NO_TIME = say("error", "Mandatory parameter ScheduledTime is in bulkData map")
SCHEDULE_BAD_DATE = say("error", "Wrong Date format")
# Documented as errors without their words: missing bulkData, more than 100 rows, a time outside the horizon.
SCHEDULE_NO_DATA = say("error", "Please provide valid data")
SCHEDULE_TOO_MANY_ROWS = say("error", "100 records per request are allowed")
SCHEDULE_HORIZON = say("error", "ScheduledTime is not within the allowed days")

# Campaign Dial Status.
DIAL_KEY_MISSING = say("error", "apiKey is invalid", uniqueId="")
DIAL_USER_MISSING = say("error", "userName is invalid", uniqueId="")
DIAL_FAILED = say("error", "Authentication failed", uniqueId="")
DIAL_BAD_CAMPAIGN = say("error", "campaignName is invalid", uniqueId="")
DIAL_BAD_CALLBACK = say(
    "error",
    "callBackUrl cannot be empty (OR) it should contain \u2018http://test.com/\u2019 or 'https://test.com/",
    uniqueId="",
)


def dial_invalid(name: str) -> Answer:
    """The page marks status, dialstatus and dispositions as mandatory and shows no message: by analogy."""
    return say("error", f"{name} is invalid", uniqueId="")


_MAX_LIMIT = say("error", "Max limit exceeded")

# Words of a refusal for the rate. Only Bulk V4's are documented for the endpoint itself; the others are those of a
# sibling: Agent Details for /ca_apis, upload by file for /endpoint/dailer.
REFUSALS: dict[str, Answer] = {
    "bulk": say("error", "too many Requests and failed to add Data to queue"),
    "dial_status": say("error", "Request limit exhausted", uniqueId=""),
}


def refusal(endpoint: str) -> Answer:
    """The endpoint's refusal of a request too many."""
    return REFUSALS.get(endpoint, _MAX_LIMIT)
