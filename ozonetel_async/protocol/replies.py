"""What the service's answers mean: one table of documented messages, and the reading of bodies.

The service tells errors inside HTTP 200 bodies, spells its status words in a dozen ways, reports skipped leads as a
success and words some successes like complaints. So the message decides first, and the rest only where the message is
not listed. `classify` reads an answer in this order:

1. a message of `MESSAGES` (or, where a success has no message of its own, the documented shape of the body);
2. HTTP 429, 401 and 403;
3. the status word: an unlisted message under a failing word is a refusal, under a succeeding word it is unknown;
4. the HTTP code;
5. else unknown.

Two rules keep a refusal from being taken for a success. A success is believed only at the endpoints whose pages list
it, a refusal everywhere. And a success that quotes text of the account (a campaign's name, say) is not believed beside
a status word that is not a success: the contradiction is unknown, not accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
from .bodies import TEXT_LIMIT, as_text, cut, decode
from .endpoints import Endpoint
from .messages import MESSAGES, Meaning, Message

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
        field: for ``Meaning.REJECT`` the argument complained about (``"phone_number"``, ``"expiry"``, …), else None.
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


_SUCCESS_WORDS = frozenset({"success", "queued successfully"})
_FAILURE_WORDS = frozenset({"fail", "fails", "failure", "error", "false"})


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


# Literal texts believed everywhere; those believed at one endpoint; patterns by endpoint, "" for everywhere.
_EVERYWHERE: dict[str, Message] = {}
_LOCAL: dict[tuple[str, str], Message] = {}
_WILDCARDS: dict[str, list[_Wildcard]] = {"": []}


def _index(row: Message) -> None:
    pattern = _normal(row.pattern)
    if "xxxx" in pattern:
        prefix, suffix = pattern.split("xxxx")
        for endpoint in row.only_at or ("",):
            _WILDCARDS.setdefault(endpoint, []).append(_Wildcard(prefix, suffix, row))
    elif row.only_at:
        _LOCAL.update({(endpoint, pattern): row for endpoint in row.only_at})
    else:
        _EVERYWHERE[pattern] = row


for _row in MESSAGES:
    _index(_row)


def _find(endpoint: str, message: str, word: str) -> tuple[Message, bool] | None:
    """The row of a listed message, and whether a status ``word`` contradicts it; None if it is not listed."""
    text = _normal(message)
    row = _EVERYWHERE.get(text) or _LOCAL.get((endpoint, text))
    if row is not None:
        return row, False
    for wildcard in _WILDCARDS[""]:
        if wildcard.matches(text):
            return wildcard.row, False
    for wildcard in _WILDCARDS.get(endpoint, ()):
        if wildcard.matches(text):
            # The quoted part may be anybody's text: too little to overrule a status that says otherwise.
            return wildcard.row, bool(word) and word not in _SUCCESS_WORDS
    return None


_IDS = ("transactionid", "uniqueid")
_JAVA_KEYS = frozenset({"timestamp", "error", "path"})
_ROW_KEYS = frozenset({"Response", "msg", "Status"})


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


def _read_schedule(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Schedule Campaign Data: success is a list of rows, each with its own verdict."""
    rows = _rows(data.get("message"))
    if rows is None:
        return None
    data["message"] = rows
    if word in _FAILURE_WORDS and not any(classify_row(row)[0] is Meaning.ACCEPTED for row in rows):
        return None
    return Meaning.ACCEPTED


def _read_export(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Campaign Dial Status prints no success; all its errors carry an empty ``uniqueId``, so a filled one is it."""
    return Meaning.QUEUED if word in _SUCCESS_WORDS and code < 300 and _filled(data.get("uniqueid")) else None


def _read_token(data: dict[str, object], word: str, code: int) -> Meaning | None:
    """Generate Token: success has a token and no status."""
    good = not word or word in _SUCCESS_WORDS
    return Meaning.ACCEPTED if good and code < 300 and _filled(data.get("token")) else None


# Successes that have a shape instead of a message.
_SHAPES: dict[str, Callable[[dict[str, object], str, int], Meaning | None]] = {
    "schedule": _read_schedule,
    "legacy_schedule": _read_schedule,
    "dial_status": _read_export,
    "token": _read_token,
}


def _without_message(word: str, code: int, token_used: bool) -> Meaning:
    """The rest of the order: three telling HTTP codes, the status word, the HTTP code."""
    if code == 429:
        return Meaning.RATE
    if code in (401, 403):
        return Meaning.TOKEN if token_used else Meaning.AUTH
    if word in _FAILURE_WORDS and code < 500:
        # Beside a 5xx the word may be a gateway's, which knows nothing of what the service behind it has done.
        return Meaning.REQUEST
    if word in _SUCCESS_WORDS:
        return Meaning.UNKNOWN
    if 400 <= code < 500 and code != 408:
        return Meaning.REQUEST
    return Meaning.SERVER if 300 <= code < 600 else Meaning.UNKNOWN


def classify(endpoint: str, http_status: int, body: bytes, *, token_used: bool = False) -> Reply:
    """Read one answer; never raises, whatever the bytes.

    Args:
        endpoint: short name (``"add"``, ``"bulk"``, ``"schedule"``, ``"dial_status"``, ``"legacy_add"``,
            ``"legacy_schedule"``, ``"token"``); at any other name refusals are still known.
        http_status: the HTTP code.
        body: the body as received. Read by content, never by Content-Type, which no page states.
        token_used: whether the request carried a bearer token, so that HTTP 401 and 403 ask for a new one.
    """
    # Add Campaign Data answers thousands of leads in a handful of texts; the other endpoints' answers hold ids.
    read = _classify_again if endpoint == "add" and len(body) <= _OFTEN else _classify
    return read(endpoint, http_status, body, token_used)


def _classify(endpoint: str, http_status: int, body: bytes, token_used: bool) -> Reply:
    data = decode(body, xml=endpoint.startswith("legacy_"))
    text = cut(as_text(body[: 4 * TEXT_LIMIT + 4]))
    status = _scalar(data.get("status"))
    message = _string(data.get("message"))
    word = _normal(status) if status else ""
    for key in _IDS:
        if type(data.get(key)) is int:
            data[key] = _scalar(data[key])
    found = _find(endpoint, message, word) if message else None
    field = None
    if found is not None:
        row, contradicted = found
        proven = row.needs is None or _filled(data.get(row.needs))
        meaning = row.meaning if proven and not contradicted else Meaning.UNKNOWN
        field = row.field
    else:
        code = _http_code(http_status, status, data)
        read = _SHAPES.get(endpoint)
        shaped = read(data, word, code) if read else None
        meaning = shaped or _without_message(word, code, token_used)
    return Reply(meaning, field, cut(message), status if status is None else cut(status), data, text)


_OFTEN = 256
_classify_again = lru_cache(maxsize=64)(_classify)


def classify_row(row: Mapping[str, object]) -> tuple[Meaning, str]:
    """Meaning and text of one row object of a schedule answer.

    Rows hold ``Response`` and ``msg`` beside the lead's own columns (Schedule Campaign Data); those of the older bulk
    page hold ``Status`` alone. A row whose two parts contradict each other is unknown; an unlisted text under a
    failing ``Response`` is a refusal.
    """
    if "msg" in row or "Response" in row:
        kind, message, word = "schedule_row", _string(row.get("msg")), _normal(_scalar(row.get("Response")) or "")
    else:
        kind, message, word = "old_bulk_row", _string(row.get("Status") or row.get("status")), ""
    found = _find(kind, message, word)
    if found is None:
        return (Meaning.REQUEST if word in _FAILURE_WORDS else Meaning.UNKNOWN), cut(message)
    meaning = found[0].meaning
    contradicted = meaning is Meaning.ACCEPTED and bool(word) and word not in _SUCCESS_WORDS
    return (Meaning.UNKNOWN if contradicted else meaning), cut(message)


_REFUSALS: Final[dict[Meaning, type[OzonetelError]]] = {
    Meaning.AUTH: AuthenticationError,
    Meaning.AUTH_MODE: AuthModeError,
    Meaning.TOKEN: AuthenticationError,
    Meaning.CAMPAIGN: CampaignError,
    Meaning.REQUEST: RequestRejectedError,
    Meaning.RATE: RateLimitedError,
    Meaning.NOT_FOUND: RequestRejectedError,
}


_SUCCESSES: Final = frozenset({Meaning.ACCEPTED, Meaning.QUEUED, Meaning.DUPLICATE})


_HINTS: Final[dict[Meaning, str]] = {
    Meaning.AUTH_MODE: " (the account's admin setting 'API Authentication' does not allow this; see auth=)",
    Meaning.TOKEN: " (another process may have taken a new token, which kills this one)",
}


def read(
    endpoint: Endpoint, http_status: int, body: bytes, secrets: tuple[str, ...] = (), *, token_used: bool = False
) -> tuple[Reply, OzonetelError | None]:
    """Read one reply: what it means, and the error to raise when it is not a success.

    Args:
        http_status, body: as they came.
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
    kind = _REFUSALS.get(reply.meaning)
    if kind is not None:
        text = (message or f"HTTP {http_status}") + _HINTS.get(reply.meaning, "")
        return kind(text, endpoint=endpoint.name, raw=raw)
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
