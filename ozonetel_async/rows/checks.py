"""Checks of single cells and of whole columns of them.

Each check knows two ways to the same verdict. ``one`` looks at a single cell, and says what is wrong with it.
``column`` proves a whole column good at the speed of C (one pass over the joined cells) and calls ``one`` only for the
cells that this pass could not prove, so that it never accepts what ``one`` refuses for speed's sake.

An empty text counts as a missing cell everywhere, as CSV files know no other way to leave one out.

A cell may be any object, and some raise when they are compared or asked for their truth (``pandas.NA``, arrays). So
``one`` looks at a cell's type before anything else, and for ``column`` any exception of the fast pass means that not
all of it is text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from ..models import counted
from .plain_cells import plain_cell

__all__ = [
    "UNSENDABLE",
    "BadCell",
    "CheckedColumn",
    "ColumnCheck",
    "DateCheck",
    "DateLimits",
    "ExtraCheck",
    "Grammar",
    "NameCheck",
    "PhoneCheck",
    "PriorityCheck",
    "RefusedCheck",
    "TextCheck",
    "TimeCheck",
    "Value",
    "is_missing",
    "not_a",
    "shape",
    "unreadable",
]

Value: TypeAlias = str | int | float

# C0, DEL and C1, and the halves of surrogate pairs, which UTF-8 cannot hold.
_UNSENDABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
UNSENDABLE = re.compile(f"[{_UNSENDABLE}]")
# Beyond this, readers that hold numbers as doubles (PHP, JavaScript) lose digits.
_SAFE_INT = 2**53 - 1


class BadCell(Exception):  # noqa: N818 - a verdict passed between functions, never seen by a caller
    """A cell that the service would not take; ``reason`` says its shape and what would be right."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_missing(cell: object) -> bool:
    """Whether a cell counts as left out."""
    return cell is None or (isinstance(cell, str) and not str.__len__(cell))


def _kind_of(character: str) -> str:
    if character in " 0123456789":
        return "a blank" if character == " " else "a digit"
    if not character.isascii():
        return "a letter outside ASCII" if character.isalpha() else "a character outside ASCII"
    if character.isalpha():
        return "a letter"
    return f"a {character!r}" if character.isprintable() else "a control character"


def shape(cell: object, misfit: re.Pattern[str] | None = None) -> str:
    """What a cell looks like, without telling what it says; for texts, where ``misfit`` first finds something."""
    if is_missing(cell):
        return "missing or empty"
    if isinstance(cell, bool):
        return "a truth value"
    if isinstance(cell, int):
        return f"a whole number of {_digits(cell)} digits" if cell >= 0 else "a negative number"
    if isinstance(cell, float):
        return "a number with a decimal point"
    if not isinstance(cell, str):
        return f"a value of type {type(cell).__name__[:40]}"
    found = misfit.search(cell) if misfit else None
    where = f" with {_kind_of(found.group()[0])} at position {found.start() + 1}" if found and found.group() else ""
    return f"{counted(len(cell), 'character')}{where}"


def not_a(expected: str, value: object) -> str:
    """What is wrong with a value of another type than ``expected``, a name that takes "a" before it."""
    return f"expected a {expected}, got {type(value).__name__[:40]}"


def unreadable(error: Exception) -> str:
    """What is wrong with a value whose own code fails when it is looked at; never the error's text."""
    return f"raises {type(error).__name__[:40]} when it is looked at; expected plain texts, numbers and dates"


def _digits(number: int) -> str:
    # Turning a very large int into text is quadratic, and Python refuses it above 4,300 digits.
    return str(len(str(number))) if abs(number) < 10**20 else "more than 20"


class Grammar:
    """The texts a column takes, as a pattern for one cell and as one for all cells joined by line feeds.

    Args:
        cell: pattern of one cell; must be possessive in effect and not match a line feed.
        ascii_set: when any text of these characters fits, the characters.
        blank_start: whether ``ascii_set`` answers for cells that begin with a blank, too.
    """

    def __init__(self, cell: str, ascii_set: bytes | None = None, *, blank_start: bool = True) -> None:
        self.fullmatch: Callable[[str], re.Match[str] | None] = re.compile(cell).fullmatch
        self._all = re.compile(rf"{cell}(?:\n{cell})*+").fullmatch
        self._walk = re.compile(rf"(?:\n{cell})*+").match
        self._ascii_set = ascii_set
        self._blank_start = blank_start

    def misfits(self, cells: Sequence[str]) -> list[int]:
        """Positions of the cells that do not match; TypeError when a cell is not text."""
        joined = "\n".join(cells)
        breaks = len(cells) - 1
        if self._ascii_set is not None:
            if joined.isascii() and (self._blank_start or not (joined.startswith(" ") or "\n " in joined)):
                # Deleting what fits leaves the line feeds of the join, and nothing else.
                left = joined.encode().translate(None, self._ascii_set)
                if len(left) == breaks:
                    return []
        elif self._all(joined) and joined.count("\n") == breaks:
            return []
        if joined.count("\n") == breaks:
            return self._stops("\n" + joined)
        fullmatch = self.fullmatch
        return [i for i, cell in enumerate(cells) if fullmatch(cell) is None]

    def _stops(self, joined: str) -> list[int]:
        found: list[int] = []
        at, seen, end = 0, 0, len(joined)
        while True:
            run = self._walk(joined, at)
            assert run is not None
            stop = run.end()
            if stop == end:
                return found
            # Either in the middle of a cell whose line feed is passed, or before the line feed of a hopeless one.
            seen += joined.count("\n", at, stop + 1)
            found.append(seen - 1)
            at = joined.find("\n", stop + 1)
            if at < 0:
                return found


class CheckedColumn(NamedTuple):
    """The cells of a column after their check.

    Attributes:
        sent: as they are sent; bad ones as they were found.
        bad: the reasons of the bad ones, by position.
        repaired: what was repaired in those that would be bad otherwise, by position.
    """

    sent: Sequence[Value]
    bad: dict[int, str]
    repaired: dict[int, str]


class ColumnCheck:
    """Checks the cells of one column and brings them into the service's form.

    ``width`` is the most characters a good cell can have, or None when only the row's length bounds it.
    """

    width: int | None = None
    _misfit: ClassVar[re.Pattern[str] | None] = None

    def one(self, cell: object) -> Value:
        """The cell as it is sent, ``""`` when it is missing.

        Raises:
            BadCell: the service would not take it.
        """
        raise NotImplementedError

    def repaired(self, cell: object) -> tuple[Value, str]:
        """The cell as it is sent and the kind of repair that it took, ``""`` for none.

        Raises:
            BadCell: the service would not take it, and it cannot be repaired.
        """
        return self.one(cell), ""

    def column(self, cells: Sequence[object]) -> CheckedColumn:
        """``repaired`` for all cells."""
        try:
            return self._texts(cells)  # type: ignore[arg-type]
        except Exception:
            # Not all of it is text. Missing cells are the commonest cause, and cost little.
            cells = ["" if cell is None else cell for cell in cells]
        try:
            return self._texts(cells)  # type: ignore[arg-type]
        except Exception:
            return self._each(cells, range(len(cells)))

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        """``column`` for cells that are all text; raises when one is not."""
        raise NotImplementedError

    def _each(self, cells: Sequence[object], positions: Iterable[int]) -> CheckedColumn:
        out: list[Value] = list(cells)  # type: ignore[arg-type]
        bad: dict[int, str] = {}
        repaired: dict[int, str] = {}
        for i in positions:
            try:
                out[i], kind = self.repaired(cells[i])
            except BadCell as problem:
                bad[i] = problem.reason
            except Exception as error:
                bad[i] = unreadable(error)
            else:
                if kind:
                    repaired[i] = kind
        return CheckedColumn(out, bad, repaired)


class PhoneCheck(ColumnCheck):
    """Phone numbers; cells that fit ``proof`` need no further look."""

    grammar: Grammar = Grammar(r"\+?+[0-9]{3,16}+")
    proof: Grammar = grammar
    _misfit = re.compile(r"[^+0-9]|(?<!^)\+")
    _right = "expected 3 to 16 digits with an optional leading '+'"
    width: int | None = 19

    def __init__(self, plus: str) -> None:
        self._plus = {"keep": "+", "strip": "", "percent": "%2B"}[plus]

    def one(self, cell: object) -> str:
        # Databases keep numbers as integers; a float has already lost the leading plus and maybe digits.
        cell = plain_cell(cell)
        text = str(int(cell)) if type(cell) is int and 0 <= cell < 10**16 else cell
        if isinstance(text, str) and self.grammar.fullmatch(text):
            return text.replace("+", self._plus)
        if isinstance(text, str) and self._misfit.search(text):
            # Imported here: most programs never meet such a cell.
            from .cleaning.cleaners import diagnose_phone

            reason = diagnose_phone(text)
            raise BadCell(reason if ";" in reason or "expected" in reason else f"{reason}; {self._right}")
        if isinstance(text, str) and text:
            digits = len(text.lstrip("+"))
            raise BadCell(f"too {'few' if digits < 3 else 'many'} digits: {self._right}, got {digits}")
        if type(cell) is int and cell > 0:
            raise BadCell(f"too many digits: {self._right}, got {_digits(cell)}")
        more = "; read the column as text" if isinstance(cell, float) else ""
        raise BadCell(f"{shape(cell, self._misfit)}; {self._right}{more}")

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        misfits = self.proof.misfits(cells)
        if self._plus == "+":
            return self._each(cells, misfits) if misfits else CheckedColumn(cells, {}, {})
        sent: list[Value] = [cell.replace("+", self._plus) for cell in cells]
        checked = self._each(cells, misfits)
        for i in misfits:
            sent[i] = checked.sent[i]
        return checked._replace(sent=sent)


class TextCheck(ColumnCheck):
    """Agent and skill: any text that can be sent, but not blanks only."""

    grammar: Grammar = Grammar(
        rf"(?:[^\S{_UNSENDABLE}]*+[^\s{_UNSENDABLE}][^{_UNSENDABLE}]*+)?+", bytes(range(0x20, 0x7F)), blank_start=False
    )
    _misfit = UNSENDABLE
    _right = "expected text without control characters"

    def one(self, cell: object) -> Value:
        cell = plain_cell(cell)
        if cell is None:
            return ""
        if type(cell) is int and -_SAFE_INT <= cell <= _SAFE_INT:
            return str(cell)
        if not isinstance(cell, str):
            raise BadCell(f"{shape(cell)}; {self._right}")
        if not self.grammar.fullmatch(cell):
            blank = ", all blank" if cell.isspace() else ""
            raise BadCell(f"{shape(cell, self._misfit)}{blank}; {self._right}")
        return str.__str__(cell)

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        misfits = self.grammar.misfits(cells)
        return self._each(cells, misfits) if misfits else CheckedColumn(cells, {}, {})


class NameCheck(TextCheck):
    grammar: Grammar = Grammar(
        r"[A-Za-z0-9_ ().+$%:\-]*+",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_ ().+$%:-",
    )
    _misfit = re.compile(r"[^A-Za-z0-9_ ().+$%:\-]")
    _right = "expected letters A to Z, digits, blanks and _ ( ) . + $ % - :"

    def one(self, cell: object) -> Value:
        if type(cell) is str and self.grammar.fullmatch(cell):
            return cell
        cell = plain_cell(cell)
        if isinstance(cell, int):
            raise BadCell(f"{shape(cell)}; {self._right}, as text")
        return super().one(cell)


class PriorityCheck(ColumnCheck):
    _digits = re.compile(r"[0-9]{1,18}")
    _misfit = re.compile(r"[^0-9]")
    # bool is left out on purpose: True equals 1 and would be found under it.
    _types = frozenset((str, int, type(None)))

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self.width: int | None = len(str(most))
        usual = range(least, min(most, 999) + 1)
        self._by_text: dict[object, Value] = {"": "", None: "", **{str(i): i for i in usual}}
        self._by_any = self._by_text | {i: i for i in usual}

    def one(self, cell: object) -> Value:
        cell = plain_cell(cell)
        if is_missing(cell):
            return ""
        number = -1
        if type(cell) is int:
            number = cell
        elif isinstance(cell, str) and self._digits.fullmatch(cell):
            number = int(cell)
        if self._least <= number <= self._most:
            return number
        where = shape(cell, self._misfit)
        raise BadCell(f"{where}; expected a whole number from {self._least} to {self._most}")

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        try:
            return CheckedColumn(list(map(self._by_text.__getitem__, cells)), {}, {})
        except KeyError:
            if not self._types.issuperset(map(type, cells)):
                raise TypeError from None
        known = list(map(self._by_any.get, cells))
        unknown = [i for i, value in enumerate(known) if value is None]
        checked = self._each(cells, unknown)
        for i in unknown:
            known[i] = checked.sent[i]
        return checked._replace(sent=known)  # type: ignore[arg-type]


class DateLimits:
    """The moments against which dates are held, as the service writes them.

    Args:
        timezone: the platform's zone; aware datetimes are converted to it.
        now: the present moment; naive means in ``timezone``.
    """

    __slots__ = ("now", "now_text", "timezone")

    def __init__(self, timezone: ZoneInfo, now: datetime) -> None:
        self.timezone: ZoneInfo = timezone
        local = now if now.tzinfo is None else now.astimezone(timezone)
        self.now: datetime = local.replace(tzinfo=None)
        self.now_text: str = _stamp(self.now)

    def latest(self, days: int | None) -> str:
        """The moment ``days`` from now; the end of the calendar when there is no such moment, or no limit."""
        try:
            return _LAST if days is None else _stamp(self.now + timedelta(days=days))
        except OverflowError:
            return _LAST


def _stamp(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")


_LAST = _stamp(datetime.max)
_DAY = r"[0-9]{4}+-[0-9]{2}+-[0-9]{2}+"
_CLOCK = r" (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"


class DateCheck(ColumnCheck):
    """A moment or a day that is not past, and at most ``days`` ahead.

    Texts of this form sort by time, so that a comparison needs no parsing.
    """

    grammar: Grammar = Grammar(f"{_DAY}(?:{_CLOCK})?+")
    _right = "expected YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"
    _required = False
    _dates = True
    width: int | None = 19

    def __init__(self, bounds: DateLimits, days: int | None = None) -> None:
        self._bounds = bounds
        self._latest = bounds.latest(days)

    def one(self, cell: object) -> Value:
        cell = plain_cell(cell)
        if is_missing(cell) and not self._required:
            return ""
        text = self.as_text(cell)
        if text is None or not self.grammar.fullmatch(text):
            raise BadCell(f"{shape(cell)}, not a date of the right form; {self._right}")
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise BadCell("a day that is not in the calendar; expected a real date") from None
        timezone, now = self._bounds.timezone.key, self._bounds.now_text
        # The last valid day of a date without a time counts to its end.
        if text < now[:10] if len(text) == 10 else text <= now:
            raise BadCell(f"in the past; expected later than {now} ({timezone})")
        if text > self._latest:
            raise BadCell(f"too far ahead; expected at the latest {self._latest} ({timezone})")
        return text

    def as_text(self, cell: object) -> str | None:
        """A date or text as the service would write it, unchecked; None when it has no such form."""
        if isinstance(cell, str):
            return str.__str__(cell)
        if not isinstance(cell, date):
            return None
        if not isinstance(cell, datetime):
            return cell.isoformat() if self._dates else None
        try:
            moment = cell if cell.tzinfo is None else cell.astimezone(self._bounds.timezone)
            return _stamp(moment.replace(tzinfo=None))
        except (OverflowError, ValueError):
            # A moment that the calendar of the other zone does not hold, or a "not a time" object of another library.
            return None

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        # Dates in a column mostly repeat; a set pays only where they do.
        texts = list(cells) if len(set(cells[:16])) > 8 else list(set(cells))
        if not self._required and "" in texts:
            texts = [text for text in texts if text != ""]
        unproven = {texts[i] for i in self.grammar.misfits(texts)} if texts else set()
        if texts and not self._bounds.now_text < min(texts) <= max(texts) <= self._latest:
            unproven.update([text for text in texts if not self._bounds.now_text < text <= self._latest])
        unproven |= _unreal([text for text in texts if text not in unproven] if unproven else texts)
        if not unproven:
            return CheckedColumn(cells, {}, {})
        return self._each(cells, [i for i, text in enumerate(cells) if text in unproven])


def _unreal(texts: list[str]) -> set[str]:
    """Those that are well formed but not in the calendar."""
    try:
        deque(map(datetime.fromisoformat, texts), 0)
    except ValueError:
        if len(texts) == 1:
            return set(texts)
        half = len(texts) // 2
        return _unreal(texts[:half]) | _unreal(texts[half:])
    return set()


class TimeCheck(DateCheck):
    grammar: Grammar = Grammar(_DAY + _CLOCK)
    _right = "expected YYYY-MM-DD HH:MM:SS"
    _required = True
    _dates = False


class ExtraCheck(TextCheck):
    """A column of the campaign's own: text, number or date."""

    grammar: Grammar = Grammar(f"[^{_UNSENDABLE}]*+", bytes(range(0x20, 0x7F)))
    _right = "expected text without control characters, a number or a date"

    def __init__(self, bounds: DateLimits) -> None:
        self._dates = DateCheck(bounds)

    def one(self, cell: object) -> Value:
        if type(cell) is str and self.grammar.fullmatch(cell):
            return cell
        cell = plain_cell(cell)
        if isinstance(cell, bool):
            raise BadCell(f"{shape(cell)}; {self._right}")
        if isinstance(cell, int):
            if not -_SAFE_INT <= cell <= _SAFE_INT:
                raise BadCell(f"{shape(cell)}, more than JSON readers keep; expected the same as text")
            return int.__int__(cell)
        if isinstance(cell, float):
            if cell - cell != 0:
                raise BadCell("not a finite number; expected a finite number, or nothing")
            return float.__float__(cell)
        if isinstance(cell, date):
            return self._moment(cell)
        return super().one(cell)

    def _moment(self, cell: date) -> str:
        text = self._dates.as_text(cell)
        if text is None or not self._dates.grammar.fullmatch(text):
            raise BadCell(f"{shape(cell)} outside the calendar; expected a real date")
        return text


class RefusedCheck(ColumnCheck):
    """A lead's scheduled time in a call that does not schedule."""

    width: int | None = 0

    def one(self, cell: object) -> Value:
        if is_missing(plain_cell(cell)):
            return ""
        raise BadCell("given, but only schedule_leads takes it; expected None")

    def _texts(self, cells: Sequence[str]) -> CheckedColumn:
        return self._each(cells, range(len(cells)) if "".join(cells) else [])
