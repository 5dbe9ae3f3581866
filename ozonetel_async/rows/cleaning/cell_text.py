"""Cells that are no text, as databases, data frames and spreadsheets have them, and the text that each stands for."""

from __future__ import annotations

import operator
from decimal import Decimal

from .phones import LOST_DIGITS
from .result import Refused

__all__ = ["cell_text", "is_missing"]

# Excel keeps 15 digits; what is behind them is made up.
_MOST_DIGITS = 15
_MISSING_TYPES = frozenset(("NAType", "NaTType"))


def is_missing(cell: object) -> bool:
    """Whether a cell stands for nothing: None, an empty text, NaN, and pandas' NaT and NA.

    Neither compares cells nor asks for their truth, which other libraries' objects answer in ways of their own.
    """
    if cell is None:
        return True
    if isinstance(cell, str):
        return len(cell) == 0
    if isinstance(cell, float):
        return float.__ne__(cell, cell)
    if isinstance(cell, Decimal):
        return cell.is_nan()
    kind = _scalar_kind(cell)
    if kind in ("m", "M"):
        return str(cell) == "NaT"
    if kind == "f":
        return str(cell) == "nan"
    return type(cell).__name__ in _MISSING_TYPES


def cell_text(cell: object) -> str | Refused:
    """The text of a phone number's or a name's cell, as a spreadsheet would show it.

    Args:
        cell: whatever a reader has put into the row.

    Returns:
        The text; ``""`` for a missing cell; or why the cell stands for no text.
    """
    if isinstance(cell, str):
        return str.__str__(cell)
    if is_missing(cell):
        return ""
    if isinstance(cell, bool):
        return Refused("a truth value; expected text")
    if isinstance(cell, int):
        return _whole(int.__int__(cell))
    if isinstance(cell, float):
        return _double(float.__float__(cell))
    if isinstance(cell, Decimal):
        return _decimal(cell)
    kind = _scalar_kind(cell)
    if kind in ("i", "u"):
        return _whole(operator.index(cell))  # type: ignore[arg-type]
    # Single and half precision hold 7 and 3 digits; a phone number in them is another one.
    return LOST_DIGITS if kind == "f" else Refused(f"a value of type {type(cell).__name__[:40]}; expected text")


def _scalar_kind(cell: object) -> str:
    """The kind of a numpy scalar (``"i"``, ``"u"``, ``"f"``, ``"m"``, ``"M"``, …), or ``""``."""
    if type(cell).__module__ != "numpy" or getattr(cell, "shape", None) != ():
        return ""
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    return kind if isinstance(kind, str) else ""


def _whole(number: int) -> str | Refused:
    # Above this, Python takes quadratic time to write a number, or refuses to.
    return str(number) if -(10**20) < number < 10**20 else Refused("a number of more than 20 digits; expected text")


def _double(number: float) -> str | Refused:
    if number - number != 0:
        return Refused("not a finite number; expected text")
    if not number.is_integer():
        return repr(number)
    return LOST_DIGITS if abs(number) >= 10**_MOST_DIGITS else str(int(number))


def _decimal(number: Decimal) -> str | Refused:
    if not number.is_finite():
        return Refused("not a finite number; expected text")
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    # A positive exponent is E notation: the digits behind the mantissa are unknown.
    if exponent > 0 or exponent < -20 or len(digits) > 40:
        return LOST_DIGITS
    return str(int(number)) if number == number.to_integral_value() else str(number)
