"""What a simulator can be told, and what it does when told nothing."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext
from typing import Literal, TypeAlias, TypedDict, get_args
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from .window import WindowKind

__all__ = ["LIMITS", "AddMessage", "AuthMode", "CallbackShape", "FailedFile", "Settings", "SimulatorOptions"]

AuthMode = Literal["BASIC_AUTH", "TOKEN_AUTH", "NONE"]
CallbackShape = Literal["object", "string", "printed", "form", "multipart", "bare", "prefixed"]
AddMessage = Literal["auto", "plain", "started", "running", "named", "stopped", "ignored"]
NumberFormat = Literal["keep", "no_plus", "national", "scientific", "rounded", "float", "text"]
_Range: TypeAlias = tuple[float, float]

# Requests per window. The legacy endpoints share the window of their successors unless they get a limit of their own.
LIMITS: dict[str, int] = {
    "add": 100,
    "bulk": 5,
    "schedule": 100,
    "dial_status": 10,
    "token": 10,
    "delete": 100,
    "campaign_status": 100,
    "set_campaign_status": 100,
}
SHARED = {"legacy_add": "add", "legacy_schedule": "schedule"}


class FailedFile(Struct, frozen=True, kw_only=True):
    """How the CSV of failed rows looks; no document shows one.

    Attributes:
        columns: its columns, or None for those of the request's ``map``. Unknown ones stay empty.
        reason: header of the trailing column with the reason, or None for no such column.
        number: what becomes of the phone number: ``"keep"``, ``"no_plus"``, ``"national"`` (last ten digits),
            ``"scientific"`` (9.19812345678E+11), ``"rounded"`` (9.19812E+11, as a spreadsheet shows it), ``"float"``
            (919812345678.0), ``"text"`` (with a leading apostrophe).
        bom, crlf: byte order mark in front; CRLF line ends.
    """

    columns: tuple[str, ...] | None = None
    reason: str | None = "Reason"
    number: NumberFormat = "keep"
    bom: bool = False
    crlf: bool = False


class SimulatorOptions(TypedDict, total=False):
    """The keywords of ``Simulator``; ``Settings`` explains them and holds their defaults."""

    api_key: str
    username: str
    auth_mode: AuthMode
    window: float
    window_kind: WindowKind
    window_phase: float
    token_window: float
    limits: Mapping[str, int] | None
    count_refused: bool
    refusal_status: int
    refusal_retry_after: bool
    latency: _Range
    queue_delay: _Range
    processing: _Range
    callback_shapes: tuple[CallbackShape, ...]
    callback_retries: int
    callback_retry_delay: float
    callback_timeout: float
    token_life: float
    replaced_token_message: str
    token_needs_key: bool
    failed_link_life: float
    failed_file: FailedFile
    no_failed_path: Literal["empty", "null", "missing"]
    list_duplicates: bool
    seed: int
    host: str
    port: int
    ssl: SSLContext | None
    timezone: str
    max_log: int | None
    keep_leads: bool
    add_messages: tuple[AddMessage, ...]
    message_name: Literal["kind", "name"]
    duplicate_message: str
    add_data: bool
    same_number: Literal["digits", "national", "exact"]
    strict_priority: bool
    expiry_end_of_day: bool
    schedule_horizon_days: int
    schedule_status_word: bool
    over_rows: Literal["reject", "truncate"]
    export_result: Literal["link", "inline"]
    error_status: int
    auth_status: int
    php_content_type: str
    url_limit: int | None


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a simulator. Where the documents are silent, a setting chooses between the readings.

    Attributes:
        api_key, username: the one account.
        auth_mode: the account's admin setting "API Authentication".
        window, window_kind, window_phase: length in seconds and kind of every rate window but the token's; see
            ``RateWindow``.
        token_window: length in seconds of the window of Generate Token.
        limits: requests per window by endpoint, over the defaults; 0 or less lifts the limit.
        count_refused: whether refused requests count against the window.
        refusal_status, refusal_retry_after: HTTP status of a refusal for the rate, and whether it carries
            ``Retry-After``.
        latency: least and most seconds each way, uniform.
        queue_delay, processing: least and most seconds a V4 job or an export waits and works.
        callback_shapes: bodies of the callbacks, in turn: JSON object, JSON string, the page's sample with unescaped
            inner quotes, urlencoded or multipart field, bare object, and text before the object.
        callback_retries, callback_retry_delay, callback_timeout: further attempts when a receiver does not answer with
            2xx, seconds before each, and seconds given to the receiver.
        token_life: seconds a bearer token lives; a new one ends all earlier ones.
        replaced_token_message: what a replaced token is told: ``"Token Expired"`` or ``"Invalid Token"``.
        token_needs_key: whether token calls need the ``apiKey`` header as well.
        failed_link_life: seconds for which the link to the failed rows works.
        failed_file: how that file looks.
        no_failed_path: ``failedFilePath`` of a job without failed rows: an empty text, null, or no such key.
        list_duplicates: whether skipped duplicates count as not processed and stand in the file.
        seed: of everything random.
        host, port, ssl: where to listen; port 0 takes a free one.
        timezone: IANA name of the platform's zone.
        max_log: how many requests the log keeps, None for all.
        keep_leads: False only counts: no leads, numbers or request parameters are kept, and duplicates are recognised
            within one request only.
        add_messages: wordings of a successful add, in turn; ``"auto"`` picks the one that fits.
        message_name: whether the messages name the campaign's kind or its name.
        duplicate_message: wording for a skipped duplicate.
        add_data: a ``data`` object in the answer of a successful add.
        same_number: when two numbers are the same one: equal digits, equal last ten digits, equal text.
        strict_priority: refuse a priority that is no number from 0 to 99; otherwise only an empty one is refused.
        expiry_end_of_day: whether a date without time is valid through its day.
        schedule_horizon_days: how far ahead a call may be scheduled.
        schedule_status_word: whether a successful schedule has a ``status``; the newest token page begins with
            ``message``.
        over_rows: what happens to a request with too many rows.
        export_result: whether a dial-status callback carries a link to a CSV or the rows.
        error_status, auth_status: HTTP status of documented errors, and of those about credentials.
        php_content_type: Content-Type of the PHP services.
        url_limit: longest request target in characters, None for no bound.
    """

    api_key: str = "sim-key-3f9a6c1e5b7d"
    username: str = "sim-user"
    auth_mode: AuthMode = "BASIC_AUTH"
    window: float = 60.0
    window_kind: WindowKind = "sliding"
    window_phase: float = 0.0
    token_window: float = 3600.0
    limits: Mapping[str, int] | None = None
    count_refused: bool = False
    refusal_status: int = 200
    refusal_retry_after: bool = False
    latency: _Range = (0.0, 0.0)
    queue_delay: _Range = (0.0, 0.0)
    processing: _Range = (0.0, 0.0)
    callback_shapes: tuple[CallbackShape, ...] = ("object",)
    callback_retries: int = 0
    callback_retry_delay: float = 0.05
    callback_timeout: float = 10.0
    token_life: float = 3600.0
    replaced_token_message: str = "Token Expired"  # noqa: S105 - a message
    token_needs_key: bool = False
    failed_link_life: float = 86_400.0
    failed_file: FailedFile = field(default_factory=FailedFile)
    no_failed_path: Literal["empty", "null", "missing"] = "empty"
    list_duplicates: bool = True
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    ssl: SSLContext | None = None
    timezone: str = "Asia/Kolkata"
    max_log: int | None = None
    keep_leads: bool = True
    add_messages: tuple[AddMessage, ...] = ("auto",)
    message_name: Literal["kind", "name"] = "kind"
    duplicate_message: str = "Number Already Exist"
    add_data: bool = False
    same_number: Literal["digits", "national", "exact"] = "digits"
    strict_priority: bool = False
    expiry_end_of_day: bool = True
    schedule_horizon_days: int = 30
    schedule_status_word: bool = True
    over_rows: Literal["reject", "truncate"] = "reject"
    export_result: Literal["link", "inline"] = "link"
    error_status: int = 200
    auth_status: int = 200
    php_content_type: str = "text/html; charset=UTF-8"
    url_limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("latency", "queue_delay", "processing"):
            least, most = getattr(self, name)
            if not 0 <= least <= most:
                raise ValueError(f"{name} must be (least, most) seconds, got {(least, most)}")
        choices = (("callback_shapes", CallbackShape), ("add_messages", AddMessage))
        for name, allowed in choices:
            unknown = set(getattr(self, name)) - set(get_args(allowed))
            if unknown or not getattr(self, name):
                raise ValueError(f"{name} takes one or more of {', '.join(get_args(allowed))}, got {sorted(unknown)}")
        if self.auth_mode not in get_args(AuthMode):
            raise ValueError(f"auth_mode must be one of {', '.join(get_args(AuthMode))}, got {self.auth_mode!r}")
        unknown = set(self.limits or ()) - set(LIMITS) - set(SHARED)
        if unknown:
            raise ValueError(f"limits names endpoints that do not exist: {', '.join(sorted(unknown))}")
        ZoneInfo(self.timezone)
