"""Unguessable tokens in callback URLs: the only proof of who calls back."""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from urllib.parse import SplitResult, unquote, urlunsplit

from ..errors import ConfigurationError
from .results import split_url

__all__ = ["add_token", "check_base", "new_token", "token_hash", "url_token", "verify"]

# A fixed beginning lets secret scanners and log filters find the token, and us find it under any mount point.
_TOKEN = re.compile(r"ozcb_[A-Za-z0-9_-]{32}")


_SEPARATORS = re.compile(r"[/?&=;]")


_TEXT_LIMIT = 8_192


def new_token() -> str:
    """A fresh token of 192 random bits, safe in every part of a URL."""
    return f"ozcb_{secrets.token_urlsafe(24)}"


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


def token_hash(token: str) -> bytes:
    """What to find a token by: a look-up by the token itself would tell by its time how much of a guess is right."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def verify(expected: str, given: object) -> bool:
    """Whether ``given`` is the expected token, in a time that does not tell how much of it is right.

    Never raises: other types, non-ASCII text and an empty expectation are simply wrong.
    """
    if not (isinstance(expected, str) and isinstance(given, str) and expected):
        return False
    # compare_digest raises on non-ASCII text, so it gets bytes; surrogatepass, since headers may hold any character.
    return hmac.compare_digest(expected.encode("utf-8", "surrogatepass"), given.encode("utf-8", "surrogatepass"))
