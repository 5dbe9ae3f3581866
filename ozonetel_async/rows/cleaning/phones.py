"""Phone numbers as files have them, brought into the spelling that the service takes.

The digits of a cell are kept, all of them and in their order; what is taken away is what stands between and around
them. A cell that may mean two things is refused: two numbers, an extension, a mask, digits that a spreadsheet has lost.
"""

from __future__ import annotations

import re
from typing import Final

from .characters import INVISIBLE, OTHER_DIGIT, fold
from .result import Cleaned, Refused

__all__ = [
    "ARITHMETIC",
    "EXTENSION",
    "LETTERS",
    "LOST_DIGITS",
    "MISSING",
    "NO_NUMBER",
    "OTHER_DIGITS",
    "TWO_NUMBERS",
    "spell",
]

LOST_DIGITS: Final = Refused("the spreadsheet has lost digits; format the column as text")
ARITHMETIC: Final = Refused("the result of arithmetic: a minus sign stands before or after it")
TWO_NUMBERS: Final = Refused("two numbers in one cell; keep one")
EXTENSION: Final = Refused("an extension stands behind the number; take it out")
LETTERS: Final = Refused("letters or a mask instead of digits")
OTHER_DIGITS: Final = Refused("characters that are not decimal digits, such as superscript or circled ones")
MISSING: Final = Refused("missing or empty")
NO_NUMBER: Final = Refused("no phone number")
_TOO_LONG: Final = Refused("no phone number: the text is too long")
_DATE: Final = Refused("no phone number: a date or a time")
_AMOUNT: Final = Refused("no phone number: an amount")
_ADDRESS: Final = Refused("no phone number: an IP address")
_CARD: Final = Refused("no phone number: the number of a card")
_LISTED: Final = Refused("the first digit may be the number of an entry in a list; take it out")
_BRACKETS: Final = Refused("no phone number: brackets that do not match, or a zero in brackets inside the number")
_STRAY: Final = Refused("no phone number: a comma, semicolon, slash or the like beside it")
_CONTROL: Final = Refused("a control character in it")

_LONGEST = 120
_LEAST, _MOST = 7, 15

# A spreadsheet keeps a number as text by '… or ="…"; exports carry these marks along.
_BEFORE, _AFTER = " \t\n\r\v\f='\"`", " \t\n\r\v\f'\"`"
_LABEL = re.compile(
    r"(?:(?:tele(?:phone)?|tel|cell(?:ular)?|mobile|mob|mo|phone|ph|contact|whats ?app|wa|callto|sms)"
    r"(?:[ .]*(?:phone|mobile|number|num|nos?|nr))?(?![a-z])|[mpt](?= ?[.:]))"
    r"[ .:#=\-'\"`]*",
    re.IGNORECASE,
)
# Behind a label: "Phone 1 98123 45678" and "Mob2: +91…"; in front of one digit and a longer group.
_NUMBERED = re.compile(r"[0-9][ .\-]+[0-9]{4}|[0-9][ .:)\-]*\+")

_BODY = r"[0-9 .\-_]"
_SEPARATED = re.compile(rf"\+{{0,2}}+(?:{_BODY}|\([ +]*+[0-9]{_BODY}*+\))++")
_SEPARATORS = str.maketrans("", "", " .-_()")
_DIGITS = re.compile(r"\+{0,2}+([0-9]++)")
# "+44 (0)20 …": the zero is dialled inside the country only.
_BRACKETED_ZERO = re.compile(r"(\(? ?(?:\+{1,2}|00)? ?\(? ?[1-9][0-9]{0,2} ?\)?[ .\-]*)\( ?0 ?\)")

_SCIENTIFIC = re.compile(r"(\+?)([0-9]+)(?:[.,]([0-9]*))? ?e ?\+?0*([0-9]{1,2})", re.IGNORECASE)
_GROUPED = re.compile(r"\+?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?:\.00?)?")
_LEAST_GROUPED = 9
_WHOLE = re.compile(r"\+?[0-9]{7,15}\.00?")
# Of a text with one dot: a fraction rather than a separator.
_FRACTION = re.compile(r"\+?(?:[0-9]{1,6}\.[0-9]{1,3}|[0-9]{7,}\.[0-9]+|[0-9]\.[0-9]+|.*\.[0-9]{1,2})")
_YEAR, _DAY = r"(?:19|20)[0-9]{2}", r"(?:0?[1-9]|[12][0-9]|3[01])"
_CALENDAR = re.compile(
    rf"(?:{_DAY} ?(?P<sep>[ ./\-]) ?{_DAY} ?(?P=sep) ?{_YEAR}"
    rf"|{_YEAR} ?(?P<mark>[ ./\-]) ?{_DAY} ?(?P=mark) ?{_DAY})(?:[ ,T].*)?"
)
# Traps in a text of digits, separators and pluses, each with what it may be instead.
_TRAPS: Final = (
    (re.compile(r"[+( ]*-|.*-[ )]*$"), ARITHMETIC),
    (re.compile(r"\+*\."), LOST_DIGITS),
    (re.compile(r"[+(]*_|.*(?:_$|[._] ?[._]|- ?- ?-)"), LETTERS),
    # Two whole numbers, or a whole one with the last digits of another: 9812300013-14.
    (re.compile(r".*(?:[0-9]{7,}[^0-9]+[0-9]{7,}|[0-9]{10,}[^0-9]+[0-9]|[0-9]{7,}[^0-9]+[0-9]{1,2}$)"), TWO_NUMBERS),
    (re.compile(r"[0-9]\. "), _LISTED),
    (_CALENDAR, _DATE),
)
_SOME_DIGIT = re.compile("[0-9]")
_DOTTED_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?:\.(?!$)|$)){4}")
_CARD_GROUPS = re.compile(r"[0-9]{4}([ \-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[47][0-9]{2}([ \-])[0-9]{6}\2[0-9]{5}")
_LAST_BRACKETS = re.compile(r"[0-9)][ .\-_]*\((?:[ .\-_]*[0-9]){1,6}[ .\-_]*\)[ .\-]*$")
_INNER_ZERO = re.compile(r"[0-9)][ .\-_]*\( ?0 ?\)")


def spell(cell: str) -> Cleaned | Refused:
    """A phone number in the spelling of the service: digits, with a plus in front when the cell has one.

    Leading zeros stay, as only a country's numbering plan tells what they mean.

    Args:
        cell: a text that does not pass the strict check as it is.

    Returns:
        The number and what was changed, or why the cell is not one whole number.
    """
    if len(cell) > _LONGEST:
        return _explain_long(cell)
    folded = fold(cell)
    # Inside, line breaks and tabs are left standing: they divide two numbers.
    text = folded.lstrip(_BEFORE).rstrip(_AFTER)
    kind = "separators"
    if text[:3] in ("%2B", "%2b"):
        text = "+" + text[3:]
        kind = "spreadsheet mark"
    elif text[:1].isalpha() and (label := _LABEL.match(text)):
        text = text[label.end() :]
        kind = "label"
        if _NUMBERED.match(text):
            return _LISTED
    if not _SEPARATED.fullmatch(text):
        return _spreadsheet_number(text) or _explain(text)
    if "." in text and text.count(".") == 1 and _FRACTION.fullmatch(text):
        return Cleaned(text[: text.index(".")], "spreadsheet number") if _WHOLE.fullmatch(text) else LOST_DIGITS
    trap = _trap(text)
    if trap is not None:
        return trap
    if "(" in text:
        text = _BRACKETED_ZERO.sub(r"\1", text, count=1) if _BRACKETED_ZERO.match(text) else text
        if _INNER_ZERO.search(text):
            return _BRACKETS
    return _counted(text, kind if kind != "separators" else _kind(cell, folded))


def _counted(text: str, kind: str) -> Cleaned | Refused:
    """The digits of a text that holds nothing but them, separators and pluses."""
    bare = text.translate(_SEPARATORS)
    found = _DIGITS.fullmatch(bare)
    if found is None:
        return TWO_NUMBERS if re.search(r"[0-9]\+[0-9]", bare) else NO_NUMBER
    count = len(found[1])
    if not _LEAST <= count <= _MOST:
        few = count < _LEAST
        return Refused(f"too {'few' if few else 'many'} digits: expected {_LEAST} to {_MOST} digits, got {count}")
    return Cleaned(bare.replace("++", "+"), kind) if found[1].strip("0") else NO_NUMBER


def _trap(text: str) -> Refused | None:
    if "(" in text and _LAST_BRACKETS.search(text):
        return EXTENSION
    for pattern, problem in _TRAPS:
        if pattern.match(text):
            return problem if _SOME_DIGIT.search(text) else _explain(text)
    if "." in text and _DOTTED_QUAD.fullmatch(text):
        return _ADDRESS
    return _CARD if _CARD_GROUPS.fullmatch(text) else None


def _kind(cell: str, folded: str) -> str:
    if cell is not folded:
        if OTHER_DIGIT.search(cell):
            return "digits of another script"
        if INVISIBLE.search(cell):
            return "invisible characters"
    if folded.strip()[:1] in "='\"`":
        return "spreadsheet mark"
    return "separators"


def _spreadsheet_number(text: str) -> Cleaned | Refused | None:
    """A number in a spreadsheet's own notation; None when it is no such notation."""
    if _GROUPED.fullmatch(text):
        whole = text.partition(".")[0].replace(",", "")
        return _counted(whole, "spreadsheet number") if len(whole.lstrip("+")) >= _LEAST_GROUPED else _AMOUNT
    if (found := _SCIENTIFIC.fullmatch(text)) is None:
        return None
    plus, first, fraction, exponent = found[1], found[2], found[3] or "", int(found[4])
    digits = first + fraction
    length = len(first) + exponent
    # Digits behind the decimal point of the whole number must be zeros; leading zeros of the mantissa are no digits.
    if first[0] == "0" or len(digits) < length or digits[length:].strip("0"):
        return LOST_DIGITS
    return _counted(plus + digits[:length], "spreadsheet number")


_FILLERS = re.compile(
    r"[ #\-./\\!?_'\"<\[]*(?:(?:n\.?/?a\.?|null|none|nil|nan|nat|missing|unknown|blank)[ !?'\">\].\-]*)?", re.IGNORECASE
)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DIVIDED = re.compile(
    r"[0-9][^0-9a-z]*(?:[/,;|&\\\n\t\r\v\f]|:::|\b(?:or|and)\b)[^0-9a-z]*[0-9]|[0-9][^0-9a-z]*\+[^0-9a-z]*[0-9]",
    re.IGNORECASE | re.ASCII,
)
# What a text that is no number looks like, the likeliest first.
_LOOKS: Final = (
    (re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"), _CONTROL),
    (re.compile(r"^[+\-]?[0-9]*[.,]?[0-9]+ ?e ?[+\-]? ?[0-9]{1,3}$", re.IGNORECASE), LOST_DIGITS),
    (re.compile(r"^[+( ]*-"), ARITHMETIC),
    (re.compile(r"^[0-9.]{4,},00?$|^[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+$"), LOST_DIGITS),
    (re.compile(rf"^{_CALENDAR.pattern}$", re.IGNORECASE), _DATE),
    (re.compile(rf"^(?:[0-9]{{1,2}}/[0-9]{{1,2}}/[0-9]{{2}}$|(?:{_MONTHS})[a-z]*[ .\-/]*[0-9])", re.IGNORECASE), _DATE),
    (re.compile(rf"^[0-9]{{1,2}}[ \-/]*(?:{_MONTHS})[a-z]*[ ,\-/]*[0-9]{{2,4}}", re.IGNORECASE), _DATE),
    (re.compile(r"(?<![0-9])[0-2]?[0-9]:[0-5][0-9](?![0-9])"), _DATE),
    (re.compile("[$%\xa2-\xa5\u20a0-\u20c0]|^rs[. 0-9]", re.IGNORECASE), _AMOUNT),
    (re.compile(r"[0-9][ ()]*(?:[,;]* *e?xt|,,|;ext|[#*xpw] ?[0-9]{1,6}$)", re.IGNORECASE), EXTENSION),
    (_DIVIDED, TWO_NUMBERS),
    (re.compile(r"^[0-9]{1,2}\).*[0-9]{5}.*[0-9]\)"), TWO_NUMBERS),
    (re.compile(r"^[0-9]{1,2}\).*[0-9]{5}"), _LISTED),
    (
        re.compile("[\xb2\xb3\xb9\xbc-\xbe\u2070-\u2089\u20e3\u2150-\u218b\u2460-\u249b\u24ea-\u24ff\u2776-\u2793]"),
        OTHER_DIGITS,
    ),
    (re.compile("[\u3007\u4e00\u4e03\u4e09\u4e5d\u4e8c\u4e94\u516b\u516d\u5341\u56db]"), OTHER_DIGITS),
    (re.compile(r"^[ /,;|&\\]+[0-9 +()\-]+$|^[0-9 +()\-]+[ /,;|&\\]+$"), _STRAY),
    (re.compile(r"[/,;|&\\]"), NO_NUMBER),
    (re.compile("[A-Za-z*?#~\x80-\U0010ffff]"), LETTERS),
)


def _explain(text: str) -> Refused:
    if _FILLERS.fullmatch(text) and len(text) < 20:
        return MISSING
    return next((problem for pattern, problem in _LOOKS if pattern.search(text)), NO_NUMBER)


def _explain_long(cell: str) -> Refused:
    return MISSING if cell.isspace() else _TOO_LONG
