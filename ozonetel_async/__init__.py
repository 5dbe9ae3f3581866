"""Asyncio client for Ozonetel CloudAgent's campaign APIs, with exact rate-limit queues built in."""

from .client import LegacyClient, OzonetelClient, QueueFigures
from .config import Dialect, Limits, RateLimit, RetryPolicy, Timeouts
from .errors import (
    AuthenticationError,
    AuthModeError,
    CallbackError,
    CampaignError,
    ConfigurationError,
    ConnectError,
    InvalidLeadError,
    JournalError,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitedError,
    RequestRejectedError,
)
from .models import (
    BatchReceipt,
    BatchResult,
    ExportReceipt,
    InvalidRow,
    Lead,
    LeadReceipt,
    ScheduleReport,
    ScheduleResult,
    UploadReport,
)
from .sources import read_csv

__version__ = "0.1.0"

__all__ = [
    "AuthModeError",
    "AuthenticationError",
    "BatchReceipt",
    "BatchResult",
    "CallbackError",
    "CampaignError",
    "ConfigurationError",
    "ConnectError",
    "Dialect",
    "ExportReceipt",
    "InvalidLeadError",
    "InvalidRow",
    "JournalError",
    "Lead",
    "LeadReceipt",
    "LeadRejectedError",
    "LegacyClient",
    "Limits",
    "OutcomeUnknownError",
    "OzonetelClient",
    "OzonetelError",
    "QueueFigures",
    "QueueFullError",
    "QueueTimeoutError",
    "RateLimit",
    "RateLimitedError",
    "RequestRejectedError",
    "RetryPolicy",
    "ScheduleReport",
    "ScheduleResult",
    "Timeouts",
    "UploadReport",
    "read_csv",
]
