"""Frozen settings, checked when they are made."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Final, Literal, NoReturn, TypeAlias, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from msgspec import Struct, field
from msgspec.structs import force_setattr

from .errors import ConfigurationError

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_DIALER_URL",
    "DEFAULT_TIMEZONE",
    "Auth",
    "Cleaning",
    "ClientConfig",
    "Country",
    "Credentials",
    "Dialect",
    "Limits",
    "NamePolicy",
    "PhoneForm",
    "PhonePolicy",
    "RateLimit",
    "RetryPolicy",
    "TextPolicy",
    "Timeouts",
    "chosen_cleaning",
]

DEFAULT_BASE_URL = "https://in1-ccaas-api.ozonetel.com"
DEFAULT_DIALER_URL = "https://in1-ccaas-bulkupload.ozonetel.com"
DEFAULT_TIMEZONE = "Asia/Kolkata"

Auth: TypeAlias = Literal["basic", "token"]


def _shape(value: object) -> str:
    return f"text of {len(value)} characters" if isinstance(value, str) else type(value).__name__


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)


# Thirty years, and more than memory holds: beyond what a clock or a list can be asked for, nothing would work.
MOST_SECONDS: Final = 1e9
_MOST: Final = 10**9
# No window is shorter than what the clocks of event loops tell apart.
_SHORTEST_WINDOW: Final = 0.001


def told(value: object) -> str:
    """A wrong value in a message; Python refuses to print an integer of thousands of digits."""
    long = isinstance(value, int) and value.bit_length() > 64
    return "a number of more than 64 bits" if long else repr(value)


def _require_seconds(name: str, value: float, *, zero: bool = False) -> None:
    good = 0 <= value <= MOST_SECONDS if zero else 0 < value <= MOST_SECONDS
    least = "zero or more" if zero else "more than zero"
    _require(good, f"{name}: expected {least} seconds, at most {MOST_SECONDS:g}, got {told(value)}")


def _require_count(name: str, value: int, least: int = 1) -> None:
    good = least <= value <= _MOST
    _require(good, f"{name}: expected a whole number of at least {least} and at most {_MOST}, got {told(value)}")


class Credentials:
    """API key and user name of an account; the key never shows in ``repr``, ``str``, a pickle or a log."""

    __slots__ = ("_api_key", "username")

    def __init__(self, api_key: str, username: str) -> None:
        for name, value in (("api_key", api_key), ("username", username)):
            _require(isinstance(value, str), f"{name}: expected text, got {_shape(value)}")
            _require(bool(value.strip()), f"{name} is missing: set OZONETEL_{name.upper()} or pass {name}=")
            _require(
                value == value.strip() and value.isprintable() and value.isascii(),
                f"{name}: expected printable ASCII without blanks at its ends, got {len(value)} characters with others "
                "among them; copy it again from the account page",
            )
        self._api_key = api_key
        self.username: str = username

    def reveal(self) -> str:
        """The API key itself; for building a request, nowhere else."""
        return self._api_key

    def __repr__(self) -> str:
        return f"Credentials(api_key='***', username={self.username!r})"

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError(
            "credentials are not pickled: a pickle would hold the key as plain text; "
            "build the client in each process from OZONETEL_API_KEY and OZONETEL_USERNAME"
        )


class RateLimit(Struct, frozen=True):
    """At most ``requests`` in any ``per`` seconds.

    Attributes:
        requests: requests a window may hold.
        per: the window's length in seconds.
        burst: how many may follow each other without spacing. None means ``requests``: as fast as the window allows;
            1 spaces them evenly.
    """

    requests: int
    per: float = 60.0
    burst: int | None = None

    def __post_init__(self) -> None:
        _require_count("RateLimit.requests", self.requests)
        _require_seconds("RateLimit.per", self.per)
        _require(
            self.per >= _SHORTEST_WINDOW,
            f"RateLimit.per: expected at least {_SHORTEST_WINDOW:g} seconds, got {self.per!r}",
        )
        if self.burst is not None:
            _require_count("RateLimit.burst", self.burst)
            _require(
                self.burst <= self.requests,
                f"RateLimit.burst: expected at most requests={self.requests}, got {self.burst}",
            )


class Limits(Struct, frozen=True, kw_only=True):
    """The rate limits of an account, and the bounds of the queues in front of them.

    Attributes:
        add: 100 a minute (Add Campaign Data). The legacy endpoints share the queue of their successors.
        bulk: 5 a minute (Bulk V4).
        schedule: 100 a minute, as for its family; its own page names no limit.
        dial_status: 10 a minute (Campaign Dial Status).
        token: Generate Token, 10 an hour.
        max_waiting: callers that may wait in one queue; one more gets ``QueueFullError``.
        transit_margin: seconds that a request without an answer (timed out, reset, cancelled) may still be on its way
            after its connection was closed; its place in the window is held that much longer.
    """

    add: RateLimit = RateLimit(100)
    bulk: RateLimit = RateLimit(5)
    schedule: RateLimit = RateLimit(100)
    dial_status: RateLimit = RateLimit(10)
    token: RateLimit = RateLimit(10, 3600.0)
    max_waiting: int = 100_000
    transit_margin: float = 5.0

    def __post_init__(self) -> None:
        _require_count("Limits.max_waiting", self.max_waiting)
        _require_seconds("Limits.transit_margin", self.transit_margin, zero=True)


class Timeouts(Struct, frozen=True):
    """How long one request may take, waiting in the queue not included.

    Attributes:
        total: seconds from the start of connecting to the last byte of the answer. A request that outlives it after
            it was sent is an unknown outcome.
        connect: seconds to get a connection; running out of them means that nothing was sent.
    """

    total: float = 60.0
    connect: float = 10.0

    def __post_init__(self) -> None:
        _require_seconds("Timeouts.total", self.total)
        _require_seconds("Timeouts.connect", self.connect)


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How long a request that is known not to have been applied is tried again.

    Attributes:
        connect_attempts: attempts to reach the service before ``ConnectError``.
        rate_attempts: attempts against refusals for the rate before ``RateLimitedError``.
        backoff: seconds before the second attempt to connect; doubles each time, with jitter.
        max_backoff: the most seconds between two attempts to connect.
        outage: seconds for which an upload, once the service has answered it, goes on trying to reach a service that
            cannot be reached any more; single calls end after ``connect_attempts``.
        max_retry_after: the longest wait in seconds that a refusal may ask for; a longer one ends the call at once
            with ``RateLimitedError``, since coming back earlier would only be refused again.
    """

    connect_attempts: int = 4
    rate_attempts: int = 10
    backoff: float = 0.5
    max_backoff: float = 30.0
    outage: float = 900.0
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        _require_count("RetryPolicy.connect_attempts", self.connect_attempts)
        _require_count("RetryPolicy.rate_attempts", self.rate_attempts)
        _require_seconds("RetryPolicy.backoff", self.backoff, zero=True)
        _require_seconds("RetryPolicy.max_backoff", self.max_backoff, zero=True)
        _require_seconds("RetryPolicy.outage", self.outage, zero=True)
        _require_seconds("RetryPolicy.max_retry_after", self.max_retry_after)


BulkEncoding: TypeAlias = Literal["form", "multipart", "json", "query"]
BulkDataForm: TypeAlias = Literal["object", "text"]
DialStatusEncoding: TypeAlias = Literal["json", "form", "multipart"]
LeadPlus: TypeAlias = Literal["keep", "strip"]
SchedulePlus: TypeAlias = Literal["keep", "strip", "percent"]
KeyPlace: TypeAlias = Literal["header", "body"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "bulk_encoding": get_args(BulkEncoding),
    "bulk_data_as": get_args(BulkDataForm),
    "dial_status_encoding": get_args(DialStatusEncoding),
    "dial_status_key": get_args(KeyPlace),
    "plus": get_args(LeadPlus),
    "schedule_plus": get_args(SchedulePlus),
}
# Other keys of Add Campaign Data, which the name must not replace.
_NOT_A_NAME = frozenset(
    (
        *("apiKey", "userName", "campaignName", "action", "checkDuplicate", "skipNameFieldValidation"),
        *("phoneNumber", "priority", "expiryDate", "agentId", "skill"),
    )
)
# What RFC 3986 allows up to the end of the path. urlsplit alone will not do: it drops tabs and line breaks silently,
# and does not tell an empty query from none.
_URL_TEXT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/\[\]-]*").fullmatch


class Dialect(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Every choice that the documentation leaves open, each with its best-supported default.

    Attributes:
        bulk_encoding: body of Bulk V4. ``"form"``: its older sibling is proven to take urlencoded fields.
        bulk_data_as: with ``bulk_encoding="json"``, bulkData nested as an ``"object"``, as in schedule, or as
            ``"text"``.
        schedule_path: letter case of the schedule path; no page prints it, Pascal case follows AddCampaignData.
        dial_status_path: taken from the page's address, by analogy with its sibling's.
        dial_status_encoding: ``"json"`` as the newer families; the page does not say.
        dial_status_key: ``"header"``: the key is not in the page's parameter table.
        name_key: spelling of the name in Add Campaign Data; pages print ``Name``, production code sends ``name``.
        plus: a leading ``+`` of phone numbers in every request but schedule: ``"keep"`` or ``"strip"``.
        schedule_plus: the same for schedule; ``"percent"`` writes ``%2B``, as its 2024 samples do. ``"strip"``: the
            service replays scheduled rows through a query, where a bare plus turns into a blank.
        token_sends_key: send the ``apiKey`` header beside the bearer token; one page of two demands it.
        priority_min: the page's table says 1 to 99, its error text 0 to 99; the error text is the program's.
        priority_max: the largest priority.
        schedule_horizon_days: how far ahead a call may be scheduled; the newest page says 30, older ones 365.
        row_characters: most characters in a bulk row including its headers.
    """

    bulk_encoding: BulkEncoding = "form"
    bulk_data_as: BulkDataForm = "object"
    schedule_path: str = "/ca_apis/CampaignScheduledData"
    dial_status_path: str = "/endpoint/dailer/data/preview/download"
    dial_status_encoding: DialStatusEncoding = "json"
    dial_status_key: KeyPlace = "header"
    name_key: str = "Name"
    plus: LeadPlus = "keep"
    schedule_plus: SchedulePlus = "strip"
    token_sends_key: bool = True
    priority_min: int = 0
    priority_max: int = 99
    schedule_horizon_days: int = 30
    row_characters: int = 2_000

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, f"Dialect.{name}: expected one of {', '.join(choices)}, got {told(value)}")
        for name in ("schedule_path", "dial_status_path"):
            value = getattr(self, name)
            _require(
                value.startswith("/") and _URL_TEXT(value) is not None,
                f"Dialect.{name}: expected a path that begins with '/', without '?', '#' and blanks, got {value!r}",
            )
        _require(
            self.name_key.isidentifier() and self.name_key not in _NOT_A_NAME,
            f"Dialect.name_key: expected a key that no other parameter has, got {self.name_key!r}",
        )
        _require_count("Dialect.priority_min", self.priority_min, 0)
        _require_count("Dialect.priority_max", self.priority_max, self.priority_min)
        _require_count("Dialect.schedule_horizon_days", self.schedule_horizon_days)
        _require_count("Dialect.row_characters", self.row_characters)


PhonePolicy: TypeAlias = Literal["refuse", "spelling"]
Country: TypeAlias = Literal["IN", "US", "GB", "AE"]
PhoneForm: TypeAlias = Literal["given", "international", "digits", "national"]
NamePolicy: TypeAlias = Literal["refuse", "punctuation", "latin", "drop"]
TextPolicy: TypeAlias = Literal["keep", "one_line"]

_CLEANING_CHOICES: Final[dict[str, tuple[str | None, ...]]] = {
    "phones": ("refuse", "spelling"),
    "country": (None, "IN", "US", "GB", "AE"),
    "form": ("given", "international", "digits", "national"),
    "names": ("refuse", "punctuation", "latin", "drop"),
    "text": ("keep", "one_line"),
}
# The settings under which nothing is changed; they are left out of the policy's text.
_CLEANING_OFF: Final = {"phones": "refuse", "country": None, "form": "given", "names": "refuse", "text": "keep"}
# Raise a version whenever the same cell would come out as another text: a journal compares them.
_RULE_VERSIONS: Final = {"phones": 1, "country": 1, "form": 1, "names": 1, "text": 1}


class Cleaning(Struct, frozen=True, kw_only=True, cache_hash=True):
    """What may be repaired in cells that the service would not take.

    Nothing is guessed: a cell that may mean two things stays invalid.

    Attributes:
        phones: ``"spelling"`` takes separators, marks of spreadsheets, labels and digits of other scripts out of phone
            numbers; ``"refuse"`` leaves them as they are. Without ``country``, what passes the strict check is never
            refused.
        country: the country whose numbering plan every phone number is checked against, good ones too; None for no
            plan. Numbers of other countries need a leading ``+`` or the international prefix. Needs
            ``phones="spelling"``.
        form: how numbers of ``country`` are written: ``"given"`` as the caller has them (with or without code or trunk
            zero), ``"international"`` (+919812345678), ``"digits"`` (919812345678) or ``"national"`` (9812345678,
            without trunk zero). Numbers of other countries keep or get a leading ``+`` in the last three, so that they
            cannot be taken for numbers of this one.
        names: ``"punctuation"`` replaces punctuation; ``"latin"`` writes accented letters and nine Indic scripts in
            letters A to Z as well, and leaves out a name in any other script; ``"drop"`` leaves out every name that the
            service would not take; ``"refuse"`` changes nothing.
        text: ``"one_line"`` turns line breaks and tabs of the campaign's own columns into blanks.

    Raises:
        ConfigurationError: a setting is none of its choices, or ``country`` or ``form`` lack what they need.
    """

    phones: PhonePolicy = "spelling"
    country: Country | None = None
    form: PhoneForm = "given"
    names: NamePolicy = "latin"
    text: TextPolicy = "keep"

    def __post_init__(self) -> None:
        for name, choices in _CLEANING_CHOICES.items():
            value = getattr(self, name)
            # A list or dictionary is unhashable, and comparing unknown objects may raise: only texts are compared.
            if not (value is None or isinstance(value, str)) or value not in choices:
                expected = ", ".join(map(repr, choices))
                got = repr(value[:40]) if isinstance(value, str) else type(value).__name__
                raise ConfigurationError(f"Cleaning.{name}: expected one of {expected}, got {got}")
        if self.country is not None and self.phones != "spelling":
            raise ConfigurationError("Cleaning.country: expected phones='spelling' beside it, got phones='refuse'")
        if self.form != "given" and self.country is None:
            raise ConfigurationError(f"Cleaning.form: expected a country beside form={self.form!r}, got country=None")

    @classmethod
    def from_policy(cls, policy: str) -> Cleaning:
        """The settings of a ``policy``.

        Raises:
            ConfigurationError: it is no policy, or one of other versions of the rules.
        """
        parts = [part.partition("=") for part in policy.split(";") if part]
        values = {**_CLEANING_OFF, **{name: value.partition("/")[0] for name, _, value in parts}}
        cleaning = cls(**values) if values.keys() == _CLEANING_OFF.keys() else cls()  # type: ignore[arg-type]
        if cleaning.policy != policy:
            raise ConfigurationError(
                f"cleaning: expected a policy such as {cls().policy!r}, got another text, or one of another release"
            )
        return cleaning

    @property
    def policy(self) -> str:
        """The settings with the versions of their rules, such as ``phones=spelling/1;country=IN/1;names=latin/1``.

        Two runs with the same text make the same bytes of the same rows. Empty when nothing is changed.
        """
        values = {name: getattr(self, name) for name in _CLEANING_CHOICES}
        return ";".join(
            f"{name}={values[name]}/{_RULE_VERSIONS[name]}"
            for name in _CLEANING_CHOICES
            if values[name] != _CLEANING_OFF[name]
        )


def check_url(name: str, url: str) -> str:
    """Return ``url`` without a trailing slash; plain http passes for loopback addresses only."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        # What a name lookup does first: an empty label, or one of over 63 characters, would fail there as UnicodeError.
        host.encode("idna")
    except ValueError:
        raise ConfigurationError(
            f"{name}: expected https://host or https://host:port, got {len(url)} characters that are no URL"
        ) from None
    _require(
        parts.scheme in ("http", "https") and bool(host),
        f"{name}: expected https://host, got a text with scheme {parts.scheme!r}",
    )
    _require(
        "@" not in parts.netloc and _URL_TEXT(url) is not None,
        f"{name}: expected scheme, host and path in ASCII, got one with credentials, query, fragment or blanks",
    )
    _require(
        parts.scheme == "https" or is_loopback(host),
        f"{name}: expected https, got plain http to {host!r}; the API key would travel in clear text",
    )
    return url.rstrip("/")


def check_proxy(name: str, url: str) -> str:
    """Return the URL of a proxy as it came; it may hold a password, so no message repeats it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    _require(good, f"{name}: expected http://host:port, got {len(url)} characters of another form")
    return url


def environment_proxy(url: str) -> str | None:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for a URL.

    In lower case as well. None for a loopback address.
    """
    # Loads an HTTP client, which only those who make a client of ours need; aiohttp loads it as well.
    from urllib.request import getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies_environment()
    return proxies.get(parts.scheme) or proxies.get("all")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def chosen_cleaning(clean: Cleaning | bool | None, default: Cleaning | None) -> Cleaning | None:
    """The cleaning of one call; None when nothing is to be changed.

    Args:
        clean: the call's own; None takes the default, False turns it off, True is ``Cleaning()``.
        default: the client's.

    Raises:
        ConfigurationError: ``clean`` is none of these.
    """
    if clean is None:
        return default
    if isinstance(clean, bool):
        return Cleaning() if clean else None
    _require(
        isinstance(clean, Cleaning), f"clean: expected Cleaning(…), True, False or None, got {type(clean).__name__}"
    )
    return clean


class ClientConfig(Struct, frozen=True, kw_only=True):
    """Everything a client needs to know; ``from_env`` fills what is not passed.

    Attributes:
        credentials: API key and user name.
        auth: ``"basic"`` sends the key, ``"token"`` exchanges it for hourly bearer tokens. Must match the account's
            admin setting "API Authentication".
        base_url: host of the add, bulk and schedule endpoints.
        dialer_url: host of the dial-status endpoint; never derived from ``base_url``.
        timezone: the platform's, in which the service reads dates.
        clean: what is repaired in rows, unless a call says otherwise; None changes nothing.
    """

    credentials: Credentials
    auth: Auth = "basic"
    base_url: str = DEFAULT_BASE_URL
    dialer_url: str = DEFAULT_DIALER_URL
    timezone: ZoneInfo = field(default_factory=lambda: timezone_named(DEFAULT_TIMEZONE))
    timeouts: Timeouts = Timeouts()
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = RetryPolicy()
    dialect: Dialect = Dialect()
    clean: Cleaning | None = None

    def __post_init__(self) -> None:
        _require(self.auth in ("basic", "token"), f"auth: expected 'basic' or 'token', got {_shape(self.auth)}")
        for name in ("base_url", "dialer_url"):
            force_setattr(self, name, check_url(name, getattr(self, name)))


def timezone_named(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        ConfigurationError: there is no such zone, or this machine has no database of zones.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        # OSError: a directory of the zone database, such as "Asia".
        raise ConfigurationError(
            f"timezone: expected an IANA name such as 'Asia/Kolkata', got {name!r}"
            if available_timezones()
            else "this machine has no time zone database; python -m pip install tzdata brings one"
        ) from None


def from_env(
    api_key: str | None = None,
    username: str | None = None,
    base_url: str | None = None,
    dialer_url: str | None = None,
    env: Mapping[str, str] = os.environ,
) -> tuple[Credentials, str, str]:
    """Credentials and the two hosts, from the arguments or the environment.

    What is not passed comes from ``OZONETEL_API_KEY``, ``OZONETEL_USERNAME``, ``OZONETEL_BASE_URL`` and
    ``OZONETEL_DIALER_URL``; hosts that are not there either are the domestic ones.
    """
    credentials = Credentials(
        env.get("OZONETEL_API_KEY", "") if api_key is None else api_key,
        env.get("OZONETEL_USERNAME", "") if username is None else username,
    )
    base = base_url or env.get("OZONETEL_BASE_URL") or DEFAULT_BASE_URL
    dialer = dialer_url or env.get("OZONETEL_DIALER_URL") or DEFAULT_DIALER_URL
    return credentials, check_url("base_url", base), check_url("dialer_url", dialer)
