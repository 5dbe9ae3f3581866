"""What a simulator can be told, and what it does when told nothing."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext
from typing import Literal, TypeAlias, TypedDict

from msgspec import Struct, field

from .window import WindowKind

__all__ = ["LIMITS", "AuthMode", "CallbackShape", "FailedFile", "Settings", "SimulatorOptions"]

AuthMode = Literal["BASIC_AUTH", "TOKEN_AUTH", "NONE"]
CallbackShape = Literal["object", "string", "printed", "form", "multipart", "bare", "prefixed"]
NumberFormat = Literal["keep", "no_plus", "national", "scientific", "rounded", "float", "text"]
_Range: TypeAlias = tuple[float, float]

# Requests per window. The legacy endpoints share the window of their successors unless they get a limit of their own.
LIMITS: dict[str, int] = {
    "add": 100,
    "bulk": 5,
    "schedule": 100,
    "dial_status": 10,
    "token": 10,
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
        bom: whether a byte order mark stands in front.
        crlf: whether lines end with CRLF.
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
    token_window: float
    limits: Mapping[str, int] | None
    latency: _Range
    queue_delay: _Range
    callback_shapes: tuple[CallbackShape, ...]
    callback_retries: int
    token_life: float
    replaced_token_message: str
    failed_link_life: float
    failed_file: FailedFile
    seed: int
    host: str
    port: int
    ssl: SSLContext | None
    timezone: str
    max_log: int | None
    keep_leads: bool
    export_result: Literal["link", "inline"]


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a simulator. Where the documents are silent, a setting chooses between the readings.

    Attributes:
        api_key: the account's key.
        username: the account's user name.
        auth_mode: the account's admin setting "API Authentication".
        window: length in seconds of every rate window but the token's.
        window_kind: how requests are counted; see ``RateWindow``.
        token_window: length in seconds of the window of Generate Token.
        limits: requests per window by endpoint, over the defaults; 0 or less lifts the limit.
        latency: least and most seconds each way, uniform.
        queue_delay: least and most seconds that a V4 job or an export takes.
        callback_shapes: bodies of the callbacks, in turn: JSON object, JSON string, the page's sample with unescaped
            inner quotes, urlencoded or multipart field, bare object, and text before the object.
        callback_retries: further attempts when a receiver does not answer with 2xx.
        token_life: seconds a bearer token lives; a new one ends all earlier ones.
        replaced_token_message: what a replaced token is told: ``"Token Expired"`` or ``"Invalid Token"``.
        failed_link_life: seconds for which the link to the failed rows works.
        failed_file: how that file looks.
        seed: of everything random.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        ssl: certificate to answer https with; None for http.
        timezone: IANA name of the platform's zone.
        max_log: how many requests the log keeps, None for all.
        keep_leads: False only counts: no leads, numbers or request parameters are kept, and duplicates are recognised
            within one request only.
        export_result: whether a dial-status callback carries a link to a CSV or the rows.
    """

    api_key: str = "sim-key-3f9a6c1e5b7d"
    username: str = "sim-user"
    auth_mode: AuthMode = "BASIC_AUTH"
    window: float = 60.0
    window_kind: WindowKind = "sliding"
    token_window: float = 3600.0
    limits: Mapping[str, int] | None = None
    latency: _Range = (0.0, 0.0)
    queue_delay: _Range = (0.0, 0.0)
    callback_shapes: tuple[CallbackShape, ...] = ("object",)
    callback_retries: int = 0
    token_life: float = 3600.0
    replaced_token_message: str = "Token Expired"  # noqa: S105 - a message
    failed_link_life: float = 86_400.0
    failed_file: FailedFile = field(default_factory=FailedFile)
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    ssl: SSLContext | None = None
    timezone: str = "Asia/Kolkata"
    max_log: int | None = None
    keep_leads: bool = True
    export_result: Literal["link", "inline"] = "link"

    def __post_init__(self) -> None:
        unknown = set(self.limits or ()) - set(LIMITS) - set(SHARED)
        if unknown:
            raise ValueError(f"limits: expected names of endpoints, got {', '.join(sorted(unknown))}")
