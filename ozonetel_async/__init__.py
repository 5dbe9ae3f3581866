"""Asyncio client for Ozonetel CloudAgent's campaign APIs, with exact rate-limit queues built in.

Start with ``OzonetelClient``, ``Lead``, ``read_csv``, ``UploadReport`` and ``OzonetelError``, the base of all errors::

    async with OzonetelClient() as client:  # OZONETEL_API_KEY and OZONETEL_USERNAME in the environment
        await client.add_lead("Diwali", Lead("+919812345678", name="Asha"))
        report = await client.upload("Diwali", read_csv("leads.csv"))

What is public are the names in ``__all__`` here, and those in ``ozonetel_async.testing`` for tests. Every other module
is an inner one, whose names may move between releases; ``dir()`` and completion leave them out.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .callbacks.receiver import CallbackReceiver
    from .callbacks.results import ExportResult, JobResult
    from .client.buffer import LeadBuffer
    from .client.client import OzonetelClient, QueueFigures
    from .client.legacy import LegacyClient
    from .config import Cleaning, Dialect, Limits, RateLimit, RetryPolicy, Timeouts
    from .contrib.postgres import PostgresShared
    from .contrib.redis import RedisShared
    from .downloads.links import LinkPolicy
    from .errors import (
        AuthenticationError,
        AuthModeError,
        CallbackError,
        CallbackTimeoutError,
        CampaignError,
        CertificateError,
        ConfigurationError,
        ConnectError,
        DownloadError,
        InputError,
        InvalidLeadError,
        JournalError,
        LeadRejectedError,
        OutcomeUnknownError,
        OzonetelError,
        QueueFullError,
        QueueTimeoutError,
        RateLimitedError,
        RequestRejectedError,
        SharedLimitUnavailableError,
    )
    from .failed_rows.collect import CollectReport, collect_failed_rows
    from .journal.failed_rows import failed_leads
    from .journal.folder import JournalFolder
    from .models import (
        BatchReceipt,
        BatchResult,
        BufferReceipt,
        ExportReceipt,
        FailedLead,
        InvalidRow,
        Lead,
        LeadReceipt,
        ScheduleReport,
        ScheduleResult,
        UploadReport,
    )
    from .rows.csv_file import read_csv
    from .rows.excel import read_excel
    from .rows.rejects import Rejects
    from .sending.shared.store import SharedStore, StoreFigures
    from .upload.check import CheckReport, InvalidRows, check_leads

__version__ = "0.1.0"

# The module of each name below, which is imported with the name's first use: the pytest plugin of this package is
# loaded in every test run of whoever has it installed, and must not bring the client and aiohttp along.
_HOMES = {
    "callbacks.receiver": ("CallbackReceiver",),
    "callbacks.results": ("ExportResult", "JobResult"),
    "client.buffer": ("LeadBuffer",),
    "client.client": ("OzonetelClient", "QueueFigures"),
    "client.legacy": ("LegacyClient",),
    "config": ("Cleaning", "Dialect", "Limits", "RateLimit", "RetryPolicy", "Timeouts"),
    "contrib.postgres": ("PostgresShared",),
    "contrib.redis": ("RedisShared",),
    "downloads.links": ("LinkPolicy",),
    "errors": (
        "AuthModeError",
        "AuthenticationError",
        "CallbackError",
        "CallbackTimeoutError",
        "CampaignError",
        "CertificateError",
        "ConfigurationError",
        "ConnectError",
        "DownloadError",
        "InputError",
        "InvalidLeadError",
        "JournalError",
        "LeadRejectedError",
        "OutcomeUnknownError",
        "OzonetelError",
        "QueueFullError",
        "QueueTimeoutError",
        "RateLimitedError",
        "RequestRejectedError",
        "SharedLimitUnavailableError",
    ),
    "failed_rows.collect": ("CollectReport", "collect_failed_rows"),
    "journal.failed_rows": ("failed_leads",),
    "journal.folder": ("JournalFolder",),
    "models": (
        "BatchReceipt",
        "BatchResult",
        "BufferReceipt",
        "ExportReceipt",
        "FailedLead",
        "InvalidRow",
        "Lead",
        "LeadReceipt",
        "ScheduleReport",
        "ScheduleResult",
        "UploadReport",
    ),
    "rows.csv_file": ("read_csv",),
    "rows.excel": ("read_excel",),
    "rows.rejects": ("Rejects",),
    "sending.shared.store": ("SharedStore", "StoreFigures"),
    "upload.check": ("CheckReport", "InvalidRows", "check_leads"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AuthModeError",
    "AuthenticationError",
    "BatchReceipt",
    "BatchResult",
    "BufferReceipt",
    "CallbackError",
    "CallbackReceiver",
    "CallbackTimeoutError",
    "CampaignError",
    "CertificateError",
    "CheckReport",
    "Cleaning",
    "CollectReport",
    "ConfigurationError",
    "ConnectError",
    "Dialect",
    "DownloadError",
    "ExportReceipt",
    "ExportResult",
    "FailedLead",
    "InputError",
    "InvalidLeadError",
    "InvalidRow",
    "InvalidRows",
    "JobResult",
    "JournalError",
    "JournalFolder",
    "Lead",
    "LeadBuffer",
    "LeadReceipt",
    "LeadRejectedError",
    "LegacyClient",
    "Limits",
    "LinkPolicy",
    "OutcomeUnknownError",
    "OzonetelClient",
    "OzonetelError",
    "PostgresShared",
    "QueueFigures",
    "QueueFullError",
    "QueueTimeoutError",
    "RateLimit",
    "RateLimitedError",
    "RedisShared",
    "Rejects",
    "RequestRejectedError",
    "RetryPolicy",
    "ScheduleReport",
    "ScheduleResult",
    "SharedLimitUnavailableError",
    "SharedStore",
    "StoreFigures",
    "Timeouts",
    "UploadReport",
    "check_leads",
    "collect_failed_rows",
    "failed_leads",
    "read_csv",
    "read_excel",
]

# Hidden from type checkers, to which a module with `__getattr__` has every name, misspelt ones too.
if not TYPE_CHECKING:

    def __getattr__(name):
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(f"{__name__}.{home}"), name))

    def __dir__():
        return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
