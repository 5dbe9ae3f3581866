"""What the service's answers mean: the order in which one is read, and the errors and receipts that follow.

The service tells errors inside HTTP 200 bodies, spells its status words in a dozen ways, reports skipped leads as a
success and words some successes like errors. `classify` reads an answer in this order; the first step that applies
decides:

1. transport: no answer at all never gets here;
2. a message of `MESSAGES` (or, where a success has no message, the documented shape of the body), if status word and
   HTTP code agree with what it means; where either contradicts it, the outcome is unknown;
3. words of a refusal for the rate, unless the status word is a success;
4. words of a gateway, or HTTP 408, 499 and 5xx: unknown, for a gateway does not know what the service behind it did;
5. a failing status word: refused; HTTP 429, 401 and 403 beside it say why;
6. the HTTP code;
7. unknown.

Step 2 is `_AGREEMENTS`, a row per kind of meaning; steps 3 to 7 are `_RULES`, from the top. A success is believed only
at the endpoints whose pages list it, a refusal everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Struct

from ..errors import (
    AuthenticationError,
    AuthModeError,
    CampaignError,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelError,
    RateLimitedError,
    RequestRejectedError,
)
from ..masking import redact
from ..models import BatchReceipt, CellCounts, ExportReceipt, LeadReceipt
from .answer_bodies import TEXT_LIMIT, as_text, cut, decode
from .endpoints import Endpoint
from .messages import GATEWAY_WORDS, MESSAGES, RATE_WORDS, Meaning, Message

__all__ = [
    "Reply",
    "batch_receipt",
    "bearer_token",
    "classify",
    "classify_row",
    "export_receipt",
    "lead_receipt",
    "read",
]


class Reply(Struct, frozen=True):
    """One answer of the service, read.

    Attributes:
        meaning: what it says about the request.
        field: the argument that is wrong (``"phone_number"``, ``"expiry"``, ``"callback_url"``, …), or None; never
            None for ``Meaning.REJECT``.
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


_M = Meaning
_SUCCESSES: Final = frozenset({_M.ACCEPTED, _M.QUEUED, _M.DUPLICATE})


class _Status(Enum):
    """The status word by its kind."""

    SUCCESS = "success"
    FAILURE = "failure"
    OTHER = "other"  # a word of no page
    NONE = "none"
    UNREADABLE = "unreadable"  # a list or an object in its place


_STATUS_WORDS: Final = {
    **dict.fromkeys(("success", "queued successfully"), _Status.SUCCESS),
    **dict.fromkeys(("fail", "fails", "failure", "error", "false"), _Status.FAILURE),
    "": _Status.NONE,
}
_NOT_SUCCESS: Final = frozenset({_Status.FAILURE, _Status.NONE})

_DONE: Final = frozenset(range(200, 300))
_GATEWAY: Final = frozenset({408, 499, *range(500, 600)})
_REFUSED: Final = frozenset(range(400, 500)) - _GATEWAY
_REDIRECTED: Final = frozenset(range(300, 400))


class _Agreement(NamedTuple):
    """Under which status words and HTTP codes a listed message is believed."""

    statuses: frozenset[_Status]
    codes: frozenset[int]


_SUCCESS_AGREES: Final = _Agreement(frozenset({_Status.SUCCESS, _Status.NONE}), _DONE)
_REFUSAL_AGREES: Final = _Agreement(_NOT_SUCCESS | {_Status.OTHER}, _DONE | _REFUSED)
_AGREEMENTS: Final[dict[Meaning, _Agreement]] = {
    **dict.fromkeys(Meaning, _REFUSAL_AGREES),
    **dict.fromkeys(_SUCCESSES, _SUCCESS_AGREES),
    # Proxies answer 503 as well as 429 for the rate.
    _M.RATE: _Agreement(_NOT_SUCCESS, _DONE | _REFUSED | _GATEWAY),
}


class _Rule(NamedTuple):
    """One step for what no page lists; it applies if all its conditions do.

    Attributes:
        meaning: what the answer means then.
        words: squashed texts of which the message holds one; None for any message.
        statuses: kinds of status word; None for any.
        codes: HTTP codes; None for any.
    """

    meaning: Meaning
    words: tuple[str, ...] | None = None
    statuses: frozenset[_Status] | None = None
    codes: frozenset[int] | None = None

    def applies(self, text: str, status: _Status, code: int) -> bool:
        return (
            (self.statuses is None or status in self.statuses)
            and (self.codes is None or code in self.codes)
            and (self.words is None or any(word in text for word in self.words))
        )


def _squash(text: str) -> str:
    """``text`` by its letters and digits alone."""
    return "".join(filter(str.isalnum, text.lower()))


_RULES: Final = (
    # Under a success the words may be those of a campaign's name, and a request that was applied must not be repeated.
    _Rule(_M.RATE, words=tuple(map(_squash, RATE_WORDS)), statuses=_NOT_SUCCESS),
    _Rule(_M.SERVER, words=tuple(map(_squash, GATEWAY_WORDS))),
    _Rule(_M.SERVER, codes=_GATEWAY),
    _Rule(_M.RATE, codes=frozenset({429})),
    _Rule(_M.UNKNOWN, statuses=frozenset({_Status.SUCCESS})),
    _Rule(_M.AUTH, codes=frozenset({401})),
    _Rule(_M.FORBIDDEN, codes=frozenset({403})),
    _Rule(_M.REQUEST, statuses=frozenset({_Status.FAILURE})),
    _Rule(_M.REQUEST, codes=_REFUSED),
    _Rule(_M.SERVER, codes=_REDIRECTED),
    _Rule(_M.UNKNOWN),
)


def _by_rules(message: str, text: str, status: _Status, code: int) -> Meaning:
    # Without a message its words may stand under another key. Not in what is no failing object: half a success, say.
    squashed = _squash(message or (text if status is _Status.FAILURE else ""))
    return next(rule.meaning for rule in _RULES if rule.applies(squashed, status, code))


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


# Literal texts and patterns by endpoint; "" for those believed everywhere.
_LITERALS: dict[tuple[str, str], Message] = {}
_WILDCARDS: dict[str, list[_Wildcard]] = {}


def _index(row: Message) -> None:
    pattern = _normal(row.pattern)
    for endpoint in row.only_at or ("",):
        if "xxxx" in pattern:
            prefix, suffix = pattern.split("xxxx")
            _WILDCARDS.setdefault(endpoint, []).append(_Wildcard(prefix, suffix, row))
        else:
            _LITERALS[endpoint, pattern] = row


for _row in MESSAGES:
    _index(_row)


def _find(endpoint: str, message: str) -> Message | None:
    """The row of a message that is listed for ``endpoint``, or None."""
    text = _normal(message)
    for place in ("", endpoint):
        if (place, text) in _LITERALS:
            return _LITERALS[place, text]
    for wildcard in _WILDCARDS[""] + _WILDCARDS.get(endpoint, []):
        if wildcard.matches(text):
            return wildcard.row
    return None


def _agrees(row: Message, status: _Status, code: int) -> bool:
    statuses, codes = _AGREEMENTS[row.meaning]
    return code in codes and status in statuses


_IDS = ("transactionid", "uniqueid")
_JAVA_KEYS = frozenset({"timestamp", "error", "path"})
_ROW_KEYS = frozenset({"Response", "msg"})


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


def _read_schedule(data: dict[str, object], status: _Status, code: int) -> Meaning | None:
    """Schedule Campaign Data: success is a list of rows, each with a result of its own."""
    rows = _rows(data.get("message"))
    if rows is None:
        return None
    data["message"] = rows
    accepted = [classify_row(row)[0] is Meaning.ACCEPTED for row in rows]
    if code in _DONE and status in _SUCCESS_AGREES.statuses:
        return Meaning.ACCEPTED
    if not any(accepted):
        return None
    # Some rows may be in under a failing word, which the others have earned; all of them contradict it.
    mixed = code in _DONE and status is _Status.FAILURE and not all(accepted)
    return Meaning.ACCEPTED if mixed else Meaning.UNKNOWN


def _read_export(data: dict[str, object], status: _Status, code: int) -> Meaning | None:
    """Campaign Dial Status prints no success; all its errors carry an empty ``uniqueId``, so a filled one is it."""
    good = status is _Status.SUCCESS and code in _DONE
    return Meaning.QUEUED if good and _filled(data.get("uniqueid")) else None


def _read_token(data: dict[str, object], status: _Status, code: int) -> Meaning | None:
    """Generate Token: success has a token and no status."""
    good = status in _SUCCESS_AGREES.statuses and code in _DONE
    return Meaning.ACCEPTED if good and _filled(data.get("token")) else None


# Successes that have a shape instead of a message.
_SHAPES: dict[str, Callable[[dict[str, object], _Status, int], Meaning | None]] = {
    "schedule": _read_schedule,
    "legacy_schedule": _read_schedule,
    "dial_status": _read_export,
    "token": _read_token,
}


def classify(endpoint: str, http_status: int, body: bytes, *, token_used: bool = False) -> Reply:
    """Read one answer; never raises, whatever the bytes.

    Args:
        endpoint: short name (``"add"``, ``"bulk"``, ``"schedule"``, ``"dial_status"``, ``"legacy_add"``,
            ``"legacy_schedule"``, ``"token"``); at any other name refusals are still known.
        http_status: the HTTP code.
        body: the body as received. Read by content, never by Content-Type, which no page states.
        token_used: whether the request carried a bearer token.
    """
    # Add Campaign Data answers thousands of leads in a handful of texts, and reading one costs 7 % of a call
    # (benchmarks/call.py); the other endpoints' answers hold ids.
    read = _classify_again if endpoint == "add" and len(body) <= _OFTEN else _classify
    return read(endpoint, http_status, body, token_used)


def _classify(endpoint: str, http_status: int, body: bytes, token_used: bool) -> Reply:
    data = decode(body, xml=endpoint.startswith("legacy_"))
    text = cut(as_text(body[: 4 * TEXT_LIMIT + 4]))
    word = _scalar(data.get("status"))
    status = _status(data.get("status"))
    message = _string(data.get("message"))
    code = _http_code(http_status, word, data)
    for key in _IDS:
        if type(data.get(key)) is int:
            data[key] = _scalar(data[key])
    row = _find(endpoint, message) if message else None
    if row is None:
        shape = _SHAPES.get(endpoint)
        meaning = (shape and shape(data, status, code)) or _by_rules(message, text, status, code)
    elif not _agrees(row, status, code) or (row.needs is not None and not _filled(data.get(row.needs))):
        row, meaning = None, Meaning.UNKNOWN
    else:
        meaning = (token_used and row.with_token) or row.meaning
    return Reply(meaning, row and row.field, cut(message), word if word is None else cut(word), data, text)


_OFTEN: Final = 256
_classify_again = lru_cache(maxsize=64)(_classify)


def _status(value: object) -> _Status:
    if value is None:
        return _Status.NONE
    if not isinstance(value, bool | int | str):
        return _Status.UNREADABLE
    return _STATUS_WORDS.get(_normal(_scalar(value) or "?"), _Status.OTHER)


def classify_row(row: Mapping[str, object]) -> tuple[Meaning, str]:
    """Meaning and text of one row object of a schedule answer.

    Rows hold ``Response`` and ``msg`` beside the lead's own columns (Schedule Campaign Data). They are read as whole
    answers are; there is one meaning for all that is unknown.
    """
    message, status = _string(row.get("msg")), _status(row.get("Response"))
    found = _find("schedule_row", message)
    if found is None:
        meaning = _by_rules(message, "", status, 200)
    else:
        meaning = found.meaning if _agrees(found, status, 200) else Meaning.UNKNOWN
    return (Meaning.UNKNOWN if meaning is Meaning.SERVER else meaning), cut(message)


_REFUSALS: Final[dict[Meaning, type[OzonetelError]]] = {
    Meaning.AUTH: AuthenticationError,
    Meaning.AUTH_MODE: AuthModeError,
    Meaning.TOKEN: AuthenticationError,
    Meaning.FORBIDDEN: AuthenticationError,
    Meaning.CAMPAIGN: CampaignError,
    Meaning.REQUEST: RequestRejectedError,
    Meaning.RATE: RateLimitedError,
}


_HINTS: Final[dict[Meaning, str]] = {
    Meaning.AUTH_MODE: " (the account's admin setting 'API Authentication' does not allow this; see auth=)",
    Meaning.TOKEN: " (another process may have taken a new token, which kills this one)",
    Meaning.FORBIDDEN: " (no documented text: a firewall may have refused this one request)",
}


def read(
    endpoint: Endpoint, http_status: int, body: bytes, secrets: tuple[str, ...] = (), *, token_used: bool = False
) -> tuple[Reply, OzonetelError | None]:
    """Read one reply: what it means, and the error to raise when it is not a success.

    Args:
        endpoint: the endpoint that answered.
        http_status: the HTTP code.
        body: the body as received.
        secrets: texts to mask in the error.
        token_used: whether the request carried a bearer token.
    """
    reply = classify(endpoint.name, http_status, body, token_used=token_used)
    return reply, None if reply.meaning in _SUCCESSES else _error(endpoint, http_status, reply, secrets)


def _error(endpoint: Endpoint, http_status: int, reply: Reply, secrets: tuple[str, ...]) -> OzonetelError:
    raw = redact(reply.text, secrets)
    message = redact(reply.message, secrets)
    if reply.meaning is Meaning.REJECT:
        return LeadRejectedError(reply.field or "lead", message, endpoint=endpoint.name, raw=raw)
    if reply.field is not None:
        return RequestRejectedError(message, field=reply.field, endpoint=endpoint.name, raw=raw)
    kind = _REFUSALS.get(reply.meaning)
    if kind is not None:
        text = (message or f"HTTP {http_status}") + _HINTS.get(reply.meaning, "")
        error = kind(text, endpoint=endpoint.name, raw=raw)
        if isinstance(error, AuthenticationError):
            error.forbidden = reply.meaning is Meaning.FORBIDDEN
        return error
    return OutcomeUnknownError(
        f"sent, but the answer (HTTP {http_status}, {len(reply.text)} characters{_quoted(message)}) does not tell "
        "whether it was applied",
        endpoint=endpoint.name,
        raw=raw,
    )


def _quoted(message: str) -> str:
    return f", {message[:200]!r}" if message else ""


def lead_receipt(reply: Reply, cleaned: CellCounts | None = None) -> LeadReceipt:
    """The receipt of an add, from a reply without error, and what was repaired in the lead."""
    outcome = "duplicate" if reply.meaning is Meaning.DUPLICATE else "accepted"
    return LeadReceipt(outcome, reply.message, reply.text, cleaned or {})  # type: ignore[arg-type]


def batch_receipt(reply: Reply, rows: int, cleaned: CellCounts | None = None) -> BatchReceipt:
    """The receipt of a bulk request, from a reply without error, and what was repaired in its rows."""
    return BatchReceipt(str(reply.data["transactionid"]), rows, cleaned or {})


def export_receipt(reply: Reply) -> ExportReceipt:
    """The receipt of a dial-status request, from a reply without error."""
    return ExportReceipt(str(reply.data["uniqueid"]))


def bearer_token(reply: Reply) -> str:
    """The token in a reply of Generate Token without error.

    Raises:
        OutcomeUnknownError: it has characters that a header cannot carry.
    """
    token = str(reply.data["token"]).strip()
    if not _TOKEN(token):
        raise OutcomeUnknownError(
            f"the token has {len(token)} characters with blanks, control or non-ASCII ones among them", endpoint="token"
        )
    return token


_TOKEN: Final = re.compile(r"[!-~]+").fullmatch
