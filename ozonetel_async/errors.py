"""Every error of the library, by meaning.

::

    OzonetelError                     .outcome  .endpoint  .message  .raw
    ├── ConfigurationError            not_sent  a setting or an argument is wrong
    ├── InputError                    not_sent  a file of leads cannot be read
    ├── InvalidLeadError              not_sent  .field .reason .row   a lead that the service would not take
    ├── QueueFullError                not_sent  .retry_after   too many callers wait already
    ├── QueueTimeoutError             not_sent  .retry_after   the wait for a free slot is longer than max_wait
    │   └── SharedLimitUnavailableError         .retry_after   the store that shares the limit is away, or holds
    ├── ConnectError                  not_sent  the request never left
    │   └── CertificateError          not_sent  the server's certificate is not trusted
    ├── JournalError                  not_sent  the journal is in use, damaged, full, or belongs to another upload
    ├── CallbackError                 not_sent  a callback, or the file it points to, cannot be read
    ├── DownloadError                 not_sent  .state   the file behind a callback's link could not be had
    ├── AuthenticationError           refused   key, user name or token
    ├── AuthModeError                 refused   the account's "API Authentication" setting
    ├── CampaignError                 refused   campaign missing, unknown, busy or not outbound
    ├── LeadRejectedError             refused   .field   the service looked at the lead and refused it
    ├── RequestRejectedError          refused   .field   the request or a parameter of it, or for an unlisted reason
    ├── RateLimitedError              refused   .retry_after   over the limit, and retries are used up
    ├── OutcomeUnknownError           unknown   sent, but no trustworthy answer came back
    └── CallbackTimeoutError          unknown   accepted, but the callback that tells the result never came

``outcome`` answers the one question that matters for a write without idempotency key: is the lead in the
dialler? ``"not_sent"`` and ``"refused"`` mean no, and sending again is safe. ``"unknown"`` means that it cannot be
told from here: sending again may call a person twice.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

__all__ = [
    "AuthModeError",
    "AuthenticationError",
    "CallbackError",
    "CallbackTimeoutError",
    "CampaignError",
    "CertificateError",
    "ConfigurationError",
    "ConnectError",
    "DownloadError",
    "DownloadState",
    "InputError",
    "InvalidLeadError",
    "JournalError",
    "LeadRejectedError",
    "Outcome",
    "OutcomeUnknownError",
    "OzonetelError",
    "QueueFullError",
    "QueueTimeoutError",
    "RateLimitedError",
    "RequestRejectedError",
    "SharedLimitUnavailableError",
]

Outcome: TypeAlias = Literal["not_sent", "refused", "unknown"]
DownloadState: TypeAlias = Literal["expired", "gone", "refused", "too_large", "failed"]


class OzonetelError(Exception):
    """Root of the tree; catch this to catch everything the library raises.

    Args:
        message: what happened and what would be right; never holds a secret or a whole phone number.
        endpoint: short name of the endpoint (``"add"``, ``"bulk"``, …) or None when no endpoint was involved.
        raw: text of the service's reply, secrets and phone numbers masked, at most 2,000 characters.
    """

    outcome: ClassVar[Outcome] = "not_sent"

    def __init__(self, message: str = "", *, endpoint: str | None = None, raw: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.endpoint = endpoint
        self.raw = raw

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.message}" if self.endpoint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle as class(*args); keyword arguments need the instance dictionary carried beside it.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[OzonetelError], args: tuple[object, ...], state: dict[str, object]) -> OzonetelError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(OzonetelError):
    """A setting or an argument is wrong; nothing was sent."""


class InputError(OzonetelError):
    """A file of leads cannot be read: missing, not text, with broken quotes or an unusable header.

    In the middle of an upload or a schedule it is not raised; the report's ``stopped_by`` tells it, with the line.
    """


class InvalidLeadError(OzonetelError):
    """A lead that the service would not take; nothing was sent.

    Args:
        field: the column or argument that is wrong, in the spelling the caller used.
        reason: the value's shape and what would be right.
        row: 1-based number of the row in the caller's input, or None for a single lead.
    """

    def __init__(self, field: str, reason: str, row: int | None = None, *, endpoint: str | None = None) -> None:
        where = "" if row is None else f"row {row}: "
        super().__init__(f"{where}{field}: {reason}", endpoint=endpoint)
        self.field = field
        self.reason = reason
        self.row = row


class QueueFullError(OzonetelError):
    """The endpoint's queue already holds as many waiters as ``Limits.max_waiting`` allows; nothing was sent.

    Args:
        retry_after: seconds, 0 or more, after which a place may be free; fit for the ``Retry-After`` of a 503.
    """

    def __init__(
        self, message: str = "", *, retry_after: float = 0.0, endpoint: str | None = None, raw: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, raw=raw)
        self.retry_after = retry_after


class QueueTimeoutError(OzonetelError):
    """The wait for a free slot is, or would be, longer than ``max_wait``; nothing was sent.

    Args:
        retry_after: seconds, 0 or more, after which a slot may be free; fit for the ``Retry-After`` of a 503.
    """

    def __init__(
        self, message: str = "", *, retry_after: float = 0.0, endpoint: str | None = None, raw: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, raw=raw)
        self.retry_after = retry_after


class SharedLimitUnavailableError(QueueTimeoutError):
    """The store that shares the limit between processes is away, or holds everybody back after it lost its state.

    Nothing was sent: without the store nobody knows how much of the limit is left.
    """


class ConnectError(OzonetelError):
    """No connection to the service; the request never left."""


class CertificateError(ConnectError):
    """The server's certificate is not trusted; the request never left, and is not tried again.

    The message says what is wrong with the certificate. For an authority of your own, such as a proxy's, pass
    ``ssl=`` to the client.
    """


class JournalError(OzonetelError):
    """The journal cannot be used: in use by another process, damaged, on a full disk, or of another upload."""


class CallbackError(OzonetelError):
    """A callback, or a file it points to, that cannot be read as what the service documents.

    The readers raise nothing else, whatever the bytes. The message
    tells the shape of what came, never its text.
    """


class DownloadError(OzonetelError):
    """The file behind a link could not be had; nothing in the dialler has changed, and trying again is safe.

    Args:
        state: ``"expired"`` (links live for 24 hours), ``"gone"`` (no such file any more), ``"refused"`` (the link
            breaks a rule of ``LinkPolicy``), ``"too_large"``, or ``"failed"`` (no connection, too slow, an unexpected
            answer).
    """

    def __init__(self, state: DownloadState, message: str = "") -> None:
        super().__init__(message)
        self.state = state


class AuthenticationError(OzonetelError):
    """The service does not accept the key, the user name or the token.

    Attributes:
        forbidden: whether nothing but HTTP 403 said so, which may as well be a firewall.
    """

    outcome: ClassVar[Outcome] = "refused"
    forbidden: bool = False


class AuthModeError(OzonetelError):
    """The account's admin setting "API Authentication" forbids this kind of credentials."""

    outcome: ClassVar[Outcome] = "refused"


class CampaignError(OzonetelError):
    """The campaign is missing, unknown, busy, or not an outbound one."""

    outcome: ClassVar[Outcome] = "refused"


class LeadRejectedError(OzonetelError):
    """The service looked at the lead and refused it.

    Args:
        field: the argument that the service refuses: ``"phone_number"``, ``"priority"``, ``"expiry"``, ….
    """

    outcome: ClassVar[Outcome] = "refused"

    def __init__(self, field: str, message: str = "", *, endpoint: str | None = None, raw: str | None = None) -> None:
        super().__init__(message, endpoint=endpoint, raw=raw)
        self.field = field


class RequestRejectedError(OzonetelError):
    """The service refused the request: its shape, one of its parameters, or for a reason that no page lists.

    Args:
        field: the argument that the service refuses, such as ``"callback_url"``, or None when it named none.
    """

    outcome: ClassVar[Outcome] = "refused"

    def __init__(
        self, message: str = "", *, field: str | None = None, endpoint: str | None = None, raw: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, raw=raw)
        self.field = field


class RateLimitedError(OzonetelError):
    """The service refused the request for its rate, and the retries are used up.

    Args:
        retry_after: seconds the service asked to wait, or None when it did not say.
    """

    outcome: ClassVar[Outcome] = "refused"

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        endpoint: str | None = None,
        raw: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, raw=raw)
        self.retry_after = retry_after


class OutcomeUnknownError(OzonetelError):
    """The request was sent, and no trustworthy answer came back: the lead may or may not be in the dialler.

    Timeouts and resets after sending, 5xx, HTML, empty or truncated bodies and unlisted messages end here. The
    library never repeats such a request by itself. To find out, look the number up in the campaign; to repeat it
    at the smallest risk, use ``check_duplicate=True``.
    """

    outcome: ClassVar[Outcome] = "unknown"


class CallbackTimeoutError(OzonetelError):
    """The service took the request, and its callback did not come in time.

    The outcome is ``"unknown"``: the job may have failed, may still run, or may be done and its callback lost on the
    way. Asking for an export again is harmless, adding leads again is not.
    """

    outcome: ClassVar[Outcome] = "unknown"
