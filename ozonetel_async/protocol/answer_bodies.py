"""From a body's bytes to the object in it, by content and without trust.

No page of the service states a Content-Type, PHP may print warnings in front of its JSON, proxies answer in HTML, and
connections break in the middle. What is read here is a complete object that is the body or ends it; anything else is
no object. Nothing raises, and everything is linear in the size of the body.
"""

from __future__ import annotations

import html
import json
import re
from itertools import islice

import msgspec

__all__ = ["TEXT_LIMIT", "as_text", "cut", "decode"]

# Floats stay text: a transaction id that a server sent as a number must not go through a double.
_DECODER = msgspec.json.Decoder(dict[str, object], float_hook=str)


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= 40 else digits


# For what msgspec rightly refuses but hand-made PHP emits: raw line breaks in strings, lone surrogates, NaN.
_LENIENT = json.JSONDecoder(strict=False, parse_float=str, parse_int=_int, parse_constant=str)

TEXT_LIMIT = 2_000
# The largest documented answer (100 schedule rows) is a tenth of it; nothing beyond is searched for an object.
_SEARCH_LIMIT = 1 << 20
_ATTEMPTS = 8
_BLANKS = " \t\r\n\0\ufeff"
_OBJECT_START = re.compile(r'\{\s*["}]')
_WORD = re.compile(r"""[^\s"'<>&,;{}\[\]()=:]*""")


def as_text(body: bytes) -> str:
    """``body`` as text: UTF-8, or UTF-16 behind its mark; what does not decode becomes U+FFFD."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace")
    return body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def cut(text: str) -> str:
    """The first 2,000 characters of ``text``, cut between two words so that masking never meets half a key."""
    if len(text) <= TEXT_LIMIT:
        return text
    text = text[:TEXT_LIMIT]
    tail = _WORD.match(text[::-1])
    return text[: len(text) - tail.end()] if tail else text


def _lenient(text: str) -> object:
    try:
        return _LENIENT.decode(text)
    except (ValueError, RecursionError):
        return None


def _inside(before: str) -> bool:
    """Whether what stands in front of an object shows that it is part of a larger, broken one."""
    before = before.rstrip()
    if before.endswith(":"):
        return before[:-1].rstrip().endswith('"')
    return before.endswith((",", "[", "{", "}", '"', "\\"))


def _object_in(text: str) -> dict[str, object] | None:
    """The JSON object that is the text or, behind PHP warnings and the like, ends it.

    An object inside a truncated one, or one of several in a row, is not an answer.
    """
    if not text.endswith("}"):
        return None
    if text.startswith(("{", "[")):
        found = _lenient(text)
        return found if isinstance(found, dict) else None
    for match in islice(_OBJECT_START.finditer(text), _ATTEMPTS):
        start = match.start()
        if not _inside(text[:start]):
            found = _lenient(text[start:])
            if isinstance(found, dict):
                return found
    return None


_XML = re.compile(r"(?:<\?xml[^<>]*\?>\s*)?<(xml|response)>(.*)</\1>", re.DOTALL)
_XML_ELEMENT = re.compile(r"\s*<(\w+)(?:\s*/>|>([^<]*)</\1>)\s*")


def _xml(text: str) -> dict[str, object] | None:
    """The flat elements of ``<xml>…</xml>`` or ``<response>…</response>``.

    The legacy pages offer XML and never show it. No parser, hence no entities but the predefined ones; anything nested,
    repeated or left over is not this shape.
    """
    whole = _XML.fullmatch(text)
    if whole is None:
        return None
    found: dict[str, object] = {}
    inner, position = whole[2], 0
    while position < len(inner):
        element = _XML_ELEMENT.match(inner, position)
        if element is None or element[1].lower() in found:
            return None
        found[element[1].lower()] = html.unescape(element[2] or "")
        position = element.end()
    return found


def _search(body: bytes, xml: bool) -> dict[str, object]:
    if len(body) > _SEARCH_LIMIT:
        return {}
    text = as_text(body).strip(_BLANKS)
    if text.startswith('"') and text.endswith('"'):
        inner = _lenient(text)
        text = inner.strip(_BLANKS) if isinstance(inner, str) else ""
    if xml and text.startswith("<"):
        found = _xml(text)
        if found is not None:
            return found
    return _object_in(text) or {}


def decode(body: bytes, *, xml: bool = False) -> dict[str, object]:
    """The object a body holds, its keys lower-cased, or an empty one; never an exception.

    Args:
        body: the body as received.
        xml: whether an XML answer is possible too, as on the legacy pages.
    """
    try:
        found = _DECODER.decode(body)
    except (ValueError, RecursionError):
        found = _search(body, xml)
    return {key.lower(): value for key, value in found.items()}
