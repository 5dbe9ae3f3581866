"""Callbacks of the service: bytes in, the result of a job or an export out, or ``CallbackError``.

No input or output happens here: ``bodies`` finds the fields, and this module what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from msgspec import Struct

from ..errors import CallbackError, ConfigurationError
from ..masking import redact
from .bodies import EXPECTED, ID_FIELDS, fold, read_fields, shape_of

__all__ = ["ExportResult", "JobResult", "SecretUrl", "parse_callback", "split_url"]

# Printable ASCII without the four characters that end a URL in logs, mails and HTML: " < > and the backslash.
_URL = re.compile(r"https?://[!#-;=?-\[\]-~]+", re.IGNORECASE)
_URL_LIMIT = 8_192


def split_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL in printable ASCII with a host; None for anything else."""
    if len(text) > _URL_LIMIT or not _URL.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good else None


class SecretUrl:
    """A pre-signed link, kept verbatim; the text gives access to the file, so only ``reveal`` gives it out.

    ``repr`` and ``str`` show host and path. It cannot be pickled; a journal stores ``reveal()``.

    Raises:
        CallbackError: not an http or https URL of printable ASCII, or one with a user name before the host.
    """

    __slots__ = ("_text", "host", "path", "scheme")

    def __init__(self, text: str) -> None:
        parts = split_url(text)
        if parts is None or "@" in parts.netloc:
            raise CallbackError(f"link: expected https://host/path?query in ASCII, got {shape_of(text)}")
        self._text = text
        self.scheme: str = parts.scheme
        self.host: str = parts.hostname or ""
        self.path: str = parts.path

    def reveal(self) -> str:
        """The link itself, byte for byte as it came; for the download and the journal, nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return f"SecretUrl('{self}')"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}" + ("?***" if "?" in self._text else "")

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, SecretUrl) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("a signed link is not pickled: the pickle would hold it as plain text; store reveal()")


class JobResult(Struct, frozen=True):
    """The result of one bulk request (Bulk V4, "Callback Url response").

    Attributes:
        transaction_id: as in the answer to the request, exact text.
        succeeded: whether the job ran. It says nothing of the rows: the documented sample is a success with 4 of 6
            rows failed, so read the counts.
        total: rows in the job; None when the service left the count out or masked it, like the two below.
        processed: rows that it has added.
        not_processed: rows that it has not.
        failed_file: link to the rows that failed, valid for 24 hours; None when there is none.
        message: the service's text, at most 500 characters.
        started: aware, in the platform's zone; None when missing or not a date.
        ended: likewise.
    """

    transaction_id: str
    succeeded: bool
    total: int | None = None
    processed: int | None = None
    not_processed: int | None = None
    failed_file: SecretUrl | None = None
    message: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    def __repr__(self) -> str:
        return (
            f"JobResult({self.transaction_id!r}, succeeded={self.succeeded}, total={self.total}, "
            f"processed={self.processed}, not_processed={self.not_processed}, failed_file={self.failed_file!r}, "
            f"message={redact(self.message)!r}, started={self.started}, ended={self.ended})"
        )

    __str__ = __repr__


class ExportResult(Struct, frozen=True):
    """What came for a dial-status export; its body is not documented, so all of it is kept.

    Attributes:
        unique_id: as in the answer to the request; empty when the body had none (then only the token tells which
            request it belongs to).
        succeeded: by the status word; without one, whether there is a link.
        message: the service's text, at most 500 characters.
        link: the one http or https link in the body; None when there is none, or several and none is named as a file.
        fields: every field as text, by the name it came with; nested values as JSON text.
    """

    unique_id: str
    succeeded: bool
    message: str
    link: SecretUrl | None
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return (
            f"ExportResult({redact(self.unique_id)!r}, succeeded={self.succeeded}, message={redact(self.message)!r}, "
            f"link={self.link!r}, fields=<{len(self.fields)} fields>)"
        )

    __str__ = __repr__


_MESSAGE_LIMIT = 500
_FILE_KEYS = ("failedfilepath", "filepath", "fileurl", "downloadurl", "downloadlink", "file", "link", "url")
_SUCCEEDED = {
    **dict.fromkeys(("success", "successful", "true", "file successfully uploaded"), True),
    **dict.fromkeys(("fail", "fails", "failed", "failure", "error", "false", "file failed to upload"), False),
}
_ABSENT = re.compile(r"(?:x+|null|none|nil|na|n/a|-+)?", re.IGNORECASE)
_COUNT = re.compile(r"(\d{1,9})(?:\.0*)?", re.ASCII)
_ID = re.compile(r"[!-~]{1,100}")
_DATE = re.compile(r"((?:19|20|21)\d\d-\d\d-\d\d)[ T+](\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)", re.ASCII)


class _Fields:
    """The fields, read by type; errors name the field and the shape of what came."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self.folded: dict[str, object] = {}
        for key, value in raw.items():
            name = fold(key)
            if value is not None and self.folded.setdefault(name, value) != value and name in _KNOWN:
                raise CallbackError(f"the callback gives two different values for {name}")

    def text(self, name: str) -> str | None:
        """The field without blanks around it; None when it is missing, empty, null or masked with ``xxxx``."""
        value = self.folded.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise CallbackError(f"{name}: expected text or a number, got {shape_of(value)}")
        value = value.strip()
        return None if _ABSENT.fullmatch(value) else value

    def identifier(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _ID.fullmatch(value):
            raise CallbackError(f"{name}: expected up to 100 printable ASCII characters, got {shape_of(value)}")
        return value

    def count(self, name: str) -> int | None:
        value = self.text(name)
        match = _COUNT.fullmatch(value or "")
        if value is not None and not match:
            raise CallbackError(f"{name}: expected a whole number of zero or more, got {shape_of(value)}")
        return int(match[1]) if match else None

    def message(self) -> str:
        text = _encodable(self.text("message") or "")[:_MESSAGE_LIMIT]
        return "".join(char if char.isprintable() else " " for char in text)

    def moment(self, name: str, timezone: ZoneInfo) -> datetime | None:
        match = _DATE.fullmatch(self.text(name) or "")
        try:
            moment = datetime.fromisoformat(f"{match[1]} {match[2]}") if match else None
            # Two independent time stamps of the page's samples put offset-less times in the platform's zone.
            return moment and (moment.astimezone(timezone) if moment.tzinfo else moment.replace(tzinfo=timezone))
        except ValueError:
            return None

    def link(self, name: str) -> SecretUrl | None:
        value = self.text(name)
        return None if value is None else SecretUrl(value)

    def succeeded(self) -> bool | None:
        """Whether the job ran: by the status word, or by the two documented messages when that word is unlisted."""
        words = (str(self.folded.get(name)).strip().rstrip(".").lower() for name in ("status", "message"))
        return next((_SUCCEEDED[word] for word in words if word in _SUCCEEDED), None)


_COUNTS = ("totalnouploaded", "numbersprocessed", "numbersnotprocessed")
_KNOWN = ID_FIELDS | {*_COUNTS, "failedfilepath", "status", "message"}


def _encodable(value: object) -> str:
    # A lone surrogate passes JSON and then breaks the first file or database that it is written to.
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def parse_callback(
    body: bytes, content_type: str = "", *, timezone: ZoneInfo, max_bytes: int = 65_536
) -> JobResult | ExportResult:
    """Read a callback's body in any of the shapes that the documentation shows or implies.

    These are ``{"data": {…}}``, ``{"data": "<JSON text>"}``, the page's sample with unescaped inner quotes, a form
    field ``data`` (urlencoded or multipart), and the bare object, each with or without a BOM or a text before it.
    The body's content decides; ``content_type`` only helps to find a multipart boundary.

    Args:
        body: as received.
        content_type: the request's header, empty when there was none.
        timezone: the platform's zone, in which times without offset are read.
        max_bytes: a longer body is refused unread.

    Returns:
        A ``JobResult`` when there is a transaction id, else an ``ExportResult``.

    Raises:
        CallbackError: everything else, whatever the bytes.
    """
    try:
        return _result(read_fields(body, content_type, max_bytes), timezone)
    except RecursionError:
        raise CallbackError("the callback is nested too deeply") from None


def _result(raw: dict[str, object], timezone: ZoneInfo) -> JobResult | ExportResult:
    fields = _Fields(raw)
    transaction_id = fields.identifier("transactionid")
    succeeded = fields.succeeded()
    if transaction_id is None:
        if fields.folded.keys() & set(_COUNTS):
            raise CallbackError(f"{EXPECTED}, got counts without transactionId")
        return _export(raw, fields, succeeded)
    if succeeded is None:
        raise CallbackError("status: expected Success or Fail, got none or another word")
    total, processed, not_processed = (fields.count(name) for name in _COUNTS)
    return JobResult(
        transaction_id=transaction_id,
        succeeded=succeeded,
        total=total,
        processed=processed,
        not_processed=not_processed,
        failed_file=fields.link("failedfilepath"),
        message=fields.message(),
        started=fields.moment("startdatetime", timezone),
        ended=fields.moment("enddatetime", timezone),
    )


def _export(raw: dict[str, object], fields: _Fields, succeeded: bool | None) -> ExportResult:
    unique_id = fields.identifier("uniqueid")
    kept = {_encodable(key): _encodable(value) for key, value in raw.items()}
    link = _only_link({fold(key): value.strip() for key, value in kept.items()})
    if unique_id is None and succeeded is None and link is None:
        raise CallbackError(f"{EXPECTED}, got neither transactionId, uniqueId, known status nor link")
    return ExportResult(
        unique_id=unique_id or "",
        succeeded=succeeded if succeeded is not None else link is not None,
        message=fields.message() if isinstance(fields.folded.get("message", ""), str) else "",
        link=link,
        fields=kept,
    )


def _only_link(fields: Mapping[str, str]) -> SecretUrl | None:
    named = [fields[name] for name in _FILE_KEYS if _URL.fullmatch(fields.get(name, ""))]
    # The body may repeat our callback URL; it is no result, and it holds the token.
    found = named or [value for name, value in fields.items() if _URL.fullmatch(value) and "callback" not in name]
    return SecretUrl(found[0]) if len(set(found)) == 1 else None
