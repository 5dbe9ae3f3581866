"""Cells of other libraries as Python's own values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

__all__ = ["plain_cell"]


def plain_cell(cell: object) -> object:
    """A cell of another library as one of Python's own: None for what is missing, int for a whole Decimal."""
    kind = type(cell)
    if kind is str or kind is int or cell is None:
        return cell
    if kind is float:
        return cell if cell == cell else None
    if kind is Decimal:
        return _decimal(cast(Decimal, cell))
    if kind.__name__ in ("NAType", "NaTType"):
        return None
    if kind.__module__ == "numpy" and getattr(cell, "shape", None) == ():
        return _scalar(cast(Any, cell))
    return cell


def _decimal(cell: Decimal) -> object:
    if cell.is_nan():
        return None
    # A positive exponent is E notation, whose last digits nobody knows.
    exponent = cell.as_tuple().exponent
    return int(cell) if isinstance(exponent, int) and -20 < exponent <= 0 and cell == cell.to_integral_value() else cell


def _scalar(cell: Any) -> object:
    kind = cell.dtype.kind
    if kind in "mM":
        # item() of nanoseconds is a whole number.
        return None if str(cell) == "NaT" else cell.astype(f"{kind}8[us]").item()
    if kind == "f":
        return None if cell != cell else (cell.item() if cell.dtype.itemsize >= 8 else cell)
    return cell.item() if kind in "iuUSb" else cell
