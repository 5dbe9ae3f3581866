"""Unguessable tokens in callback URLs: the only proof of who calls back.

A token is 30 bytes. Those of a journal's batches are computed from a secret that the journal holds: 8 bytes tell the
journal, so that a folder of many opens one, 4 bytes tell the batch, and 18 bytes (144 bits) are the proof.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from urllib.parse import SplitResult, unquote, urlunsplit

from ..errors import ConfigurationError
from .results import split_url

__all__ = [
    "add_token",
    "batch_token",
    "check_base",
    "journal_id",
    "new_secret",
    "new_token",
    "token_batch",
    "token_journal",
    "url_token",
    "verify",
]

# A fixed beginning lets secret scanners and log filters find the token, and us find it under any mount point.
_BEGINNING: Final = "ozcb_"
_TOKEN: Final = re.compile(rf"{_BEGINNING}[A-Za-z0-9_-]{{40}}")
_JOURNAL: Final = slice(0, 8)
_BATCH: Final = slice(8, 12)
_BYTES: Final = 30
_SEPARATORS: Final = re.compile(r"[/?&=;]")
_TEXT_LIMIT: Final = 8_192


def new_token() -> str:
    """A fresh token of 240 random bits, safe in every part of a URL."""
    return _text(secrets.token_bytes(_BYTES))


def new_secret() -> bytes:
    """256 random bits, from which the tokens of one journal are computed."""
    return secrets.token_bytes(32)


def journal_id(secret: bytes) -> bytes:
    """What the tokens of one journal have in common, and those of others have not; it is no secret."""
    return hmac.digest(secret, b"journal", "sha256")[_JOURNAL]


def batch_token(secret: bytes, index: int) -> str:
    """The token of the batch ``index`` of the journal that holds ``secret``."""
    batch = index.to_bytes(_BATCH.stop - _BATCH.start, "big")
    proof = hmac.digest(secret, batch, "sha256")[: _BYTES - _BATCH.stop]
    return _text(journal_id(secret) + batch + proof)


def token_journal(token: str) -> bytes | None:
    """The ``journal_id`` in a token, which proves nothing; None when it is no token at all."""
    return urlsafe_b64decode(token.removeprefix(_BEGINNING))[_JOURNAL] if _TOKEN.fullmatch(token) else None


def token_batch(secret: bytes, token: str) -> int | None:
    """The batch that a token of the journal with ``secret`` belongs to; None for every other text."""
    if not _TOKEN.fullmatch(token):
        return None
    index = int.from_bytes(urlsafe_b64decode(token.removeprefix(_BEGINNING))[_BATCH], "big")
    return index if verify(batch_token(secret, index), token) else None


def _text(token: bytes) -> str:
    return _BEGINNING + urlsafe_b64encode(token).decode()


def add_token(base: str, token: str) -> str:
    """``base`` with the token as last segment of its path; a query of the caller's own stays as it is.

    The path, because the service hands the URL on by means nobody documents, and a query is what such means lose
    first: replayed inside another query, everything behind its ``&`` is gone. The token will stand in access logs of
    proxies on the way, which is why a result is believed but never obeyed: links are checked before the download.

    Args:
        base: public ``http`` or ``https`` URL of the receiver, without user name and fragment.
        token: from ``new_token``.

    Raises:
        ConfigurationError: one of them is not that.
    """
    parts = check_base(base)
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise ConfigurationError("the token of a callback URL must come from new_token()")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{token}"))


def check_base(base: str) -> SplitResult:
    """The parts of a receiver's public URL; raises ``ConfigurationError`` when no token could be added to it."""
    parts = split_url(base)
    if parts is None:
        raise ConfigurationError("callback_url is not a URL; right would be https://host/path in ASCII")
    if "@" in parts.netloc or parts.fragment:
        raise ConfigurationError("callback_url must have no user name, password or fragment: they would not reach us")
    return parts


def url_token(path: object, query: object = "") -> str | None:
    """The token in a request's path, else in its query; None when there is none, or more than one.

    Takes raw or percent-decoded text, whatever the framework gives; never raises.
    """
    for text in (path, query):
        if isinstance(text, str) and len(text) <= _TEXT_LIMIT:
            found = {part for part in _SEPARATORS.split(unquote(text)) if _TOKEN.fullmatch(part)}
            if found:
                return found.pop() if len(found) == 1 else None
    return None


def verify(expected: str, given: object) -> bool:
    """Whether ``given`` is the expected token, in a time that does not tell how much of it is right.

    Never raises: other types, non-ASCII text and an empty expectation are simply wrong.
    """
    if not (isinstance(expected, str) and isinstance(given, str) and expected):
        return False
    # compare_digest raises on non-ASCII text, so it gets bytes; surrogatepass, since headers may hold any character.
    return hmac.compare_digest(expected.encode("utf-8", "surrogatepass"), given.encode("utf-8", "surrogatepass"))
