"""Unguessable tokens in callback URLs: the only proof that a callback is the service's.

A token is 30 bytes. Those of a journal's batches are computed from a secret that the journal holds: 8 bytes tell the
journal, so that a folder of many opens one, 4 bytes tell the batch, and 18 bytes (144 bits) are the proof.
Tokens of callbacks that this process waits for are matched in ``waiting.py``.
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
    # In a time that does not tell how much of a guess is right.
    return index if hmac.compare_digest(batch_token(secret, index), token) else None


def _text(token: bytes) -> str:
    return _BEGINNING + urlsafe_b64encode(token).decode()


def add_token(base: str, token: str) -> str:
    """``base`` with the token as last segment of its path; a query of the caller's own stays as it is.

    In the path, because no page says how the service passes the URL on, and a query may get lost: inside another
    query, everything behind its ``&`` is cut off. The token appears in the access logs of proxies on the way, which is
    why links in a result are checked before the download.

    Args:
        base: public ``http`` or ``https`` URL of the receiver, without user name and fragment.
        token: from ``new_token``.

    Raises:
        ConfigurationError: one of them is not that.
    """
    parts = check_base(base)
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError("token: expected one from new_token()")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{token}"))


def check_base(base: str) -> SplitResult:
    """The parts of a receiver's public URL; raises ``ConfigurationError`` when no token could be added to it."""
    parts = split_url(base)
    if parts is None:
        raise ConfigurationError("callback_url: expected https://host/path in ASCII, got a text that is no URL")
    if "@" in parts.netloc or parts.fragment:
        raise ConfigurationError("callback_url: expected no user name, password and fragment, got one of them")
    return parts


def url_token(path: str, query: str = "") -> str | None:
    """The token in a request's path, else in its query; None when there is none, or more than one.

    Takes raw or percent-decoded text.
    """
    for text in (path, query):
        if len(text) <= _TEXT_LIMIT:
            found = {part for part in _SEPARATORS.split(unquote(text)) if _TOKEN.fullmatch(part)}
            if found:
                return found.pop() if len(found) == 1 else None
    return None
