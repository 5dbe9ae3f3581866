"""Taking keys, tokens and phone numbers out of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["redact"]

_DIGITS = re.compile(r"(?<!\d)\+?\d{7,16}(?!\d)")
# A JSON Web Token, whole or cut off; Generate Token's own answer holds one that is not known yet.
_TOKENS = re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}", re.ASCII)
# The token of a callback URL (``callbacks.url_tokens``), whole or cut off.
_URL_TOKENS = re.compile(r"ozcb_[\w-]*", re.ASCII)
# The same with blanks, hyphens or brackets between its groups; a date is none.
_GROUPS = re.compile(
    r"(?<![\d-])(?!\d{4}-\d\d-\d\d|\d\d-\d\d-\d{4})\+?\(?\d{2,8}(?:[ \u00a0()-]{1,2}\d{2,8}){1,4}(?!\d)"
)
_RAW_LIMIT = 2_000


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask what must not leave as text: each of ``secrets`` in any encoding, and what looks like a phone or a token.

    A run of 7 to 16 digits keeps its last three, as do 10 to 16 digits in groups; longer runs (transaction ids) stay
    whole. The result is cut at 2,000 characters.
    """
    for secret in filter(None, secrets):
        characters = _spellings(secret)
        text = re.sub("".join(characters), "[secret]", text)
        if len(text) >= _RAW_LIMIT // 2:
            text = _mask_cut_end(text, characters)
    text = _URL_TOKENS.sub("[token]", _TOKENS.sub("[token]", text))
    text = _GROUPS.sub(_mask_groups, text)
    # Cut last: half a number does not look like one any more.
    return _DIGITS.sub(lambda match: f"[…{match.group()[-3:]}]", text)[:_RAW_LIMIT]


def _mask_groups(match: re.Match[str]) -> str:
    digits = sum(map(str.isdigit, match.group()))
    return f"[…{match.group()[-3:]}]" if 10 <= digits <= 16 else match.group()


def _spellings(secret: str) -> tuple[str, ...]:
    """A pattern per character of ``secret`` for what JSON, percent-encoding and HTML may make of it.

    Per character, since encoders differ in what they leave alone: PHP's JSON escapes ``/``, yarl's queries quote ``+``
    and not ``/``, and some write ``%2f`` where others write ``%2F``.
    """
    return tuple(map(_spelling, secret))


def _spelling(character: str) -> str:
    plain = re.escape(character)
    if character.isalnum():
        return plain
    code = ord(character)
    ways = [
        # %252F and a doubled backslash: one encoder inside another.
        "(?i:%(?:25)*" + "%(?:25)*".join(f"{octet:02x}" for octet in character.encode("utf-8", "replace")) + ")",
        rf"\\+u(?i:{code:04x})",
        rf"&#(?:0*{code}|(?i:x0*{code:x}));",
        *(f"&{name};" for name in _HTML_NAMES.get(character, ())),
        *((r"\+",) if character == " " else ()),
        rf"\\*{plain}",
    ]
    return f"(?:{'|'.join(ways)})"


_HTML_NAMES = {'"': ("quot",), "&": ("amp",), "<": ("lt",), ">": ("gt",), "'": ("apos",)}


def _mask_cut_end(text: str, characters: tuple[str, ...]) -> str:
    """Mask the first 4 or more characters of a secret at the very end of a text, where a cut may have left them."""
    for start in re.finditer("".join(characters[:4]), text):
        position = start.end()
        for character in characters[4:]:
            match = re.compile(character).match(text, position)
            if match is None:
                break
            position = match.end()
        if position == len(text):
            return text[: start.start()] + "[secret]"
    return text
