"""Inputs that other libraries hold: data frames, database cursors, and rows that are records.

All are known by what they can do, never by their class, so that none of their libraries is needed. The order of the
tests matters: several kinds have the methods of others, too.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from ..errors import ConfigurationError, InputError
from ..models import Lead, Row
from .columns import PHONE, label, lead_columns
from .headers import SAMPLE_ROWS, is_phone_header, read_header, service_name
from .plain_cells import plain_cell

__all__ = ["Table", "check_kind", "cursor_columns", "record_reader", "row_cells", "table_of"]

_FETCHED: Final = 500
_Rows: TypeAlias = Callable[[], Iterable[Sequence[object]]]
_FIELDS: Final = lead_columns("bulk")
# Below these, floats of 64 and of 32 bits hold whole numbers exactly.
_SAFE_FLOAT: Final = 2.0**53
_SAFE_SINGLE: Final = 2.0**24
_COLUMNS: Final = re.compile(r"columns=(\{[^{}]*\})")


class Table:
    """A table of another library as rows.

    Args:
        names: its columns, in the order of the cells.
        rows: gives them, as often as the table allows it.
        remedy: how to give a column another name.
        sample: the first rows, to know the column of phone numbers by; None when looking would use them up.

    Attributes:
        columns: the service's names of the columns.
        notes: what was taken for what.
        is_at_hand: whether the rows can be read again and again.

    Raises:
        ConfigurationError: there is no telling which columns to send.
    """

    def __init__(
        self, names: Sequence[object], rows: _Rows, remedy: str, sample: Sequence[Sequence[object]] | None = None
    ) -> None:
        texts = _column_names(names, remedy)
        self.notes: tuple[str, ...] = ()
        if sample is None:
            self.columns: tuple[str, ...] = tuple(map(service_name, texts))
        else:
            try:
                header = read_header(texts, {}, sample)
            except (ConfigurationError, InputError) as error:
                raise ConfigurationError(f"leads: {_in_frame(error.message, remedy)}") from None
            if len(header.columns) != len(texts):
                raise ConfigurationError(f"leads: a column without a name; {remedy}")
            self.columns, self.notes = header.columns, header.notes
        self.is_at_hand = True
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        return iter(cast(Iterable[Row], self._rows()))


_AS = 'name it in the query: SELECT mobile AS "PhoneNumber"'
_RENAME = "rename it in the frame, or select others"


def table_of(leads: object, columns: Sequence[str] | None = None) -> Table | None:
    """A table for an input that is one of another library; None for all others.

    Args:
        leads: the input.
        columns: the service's names, in the order of the table's columns.

    Raises:
        ConfigurationError: it is something that cannot be uploaded as it is; the message says what can be done.
    """
    check_kind(leads)
    for is_kind, reader in _KINDS:
        if is_kind(leads):
            return reader(leads, columns)
    return None


def _has(thing: object, *names: str) -> bool:
    # Of the class: an instance may answer to any name, as mocks and some frames do by their columns.
    return all(hasattr(type(thing), name) for name in names)


def check_kind(leads: object) -> None:
    """Tell what to do with things that look like an input and are none.

    Raises:
        ConfigurationError: it is one of them.
    """
    if isinstance(leads, str | os.PathLike):
        _refuse_text(os.fspath(leads))
    kind = type(leads).__name__
    if _has(leads, "collect", "lazy"):
        raise ConfigurationError("leads: a lazy frame has no rows yet; pass leads.collect()")
    if _has(leads, "to_frame") and not _has(leads, "itertuples", "iter_rows"):
        raise ConfigurationError(f"leads: one column ({kind}) is no table; pass the data frame it comes from")
    if _has(leads, "ndim", "dtype", "tolist") and not _has(leads, "columns"):
        raise ConfigurationError(
            f"leads: an array ({kind}) has no names for its columns; pass leads.tolist() and columns="
        )
    if _has(leads, "groups", "apply", "agg"):
        raise ConfigurationError(f"leads: a grouped frame ({kind}) is no table; pass the data frame itself")


def _refuse_text(path: str | bytes) -> None:
    if isinstance(path, bytes) or "\n" in path:
        raise ConfigurationError("leads must be an iterable of rows, got one text; put it into a list")
    name = re.sub(r"\d{6,}", "…", path[-60:])
    end = path.lower().rpartition(".")[2]
    if end in ("xlsx", "xls", "xlsm", "xlsb", "ods"):
        raise ConfigurationError(f"leads: a path is not read by itself; pass read_excel({name!r})")
    if end in ("csv", "txt", "tsv", "gz") or "/" in path or os.path.exists(path):
        raise ConfigurationError(f"leads: a path is not read by itself; pass read_csv({name!r})")
    raise ConfigurationError("leads must be an iterable of rows, got one str; put it into a list")


# --- data frames -----------------------------------------------------------------------------------------------------


def _is_pandas(leads: object) -> bool:
    return _has(leads, "itertuples", "columns")


def _pandas(frame: Any, columns: Sequence[str] | None) -> Table:
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise ConfigurationError("leads: column names of several levels (MultiIndex); flatten them to text first")
    names = list(frame.columns)
    read = [_pandas_column(frame.iloc[:, i], label(name)) for i, name in enumerate(names)]
    return _framed(names, lambda start, stop: [cells(start, stop) for cells in read], len(frame), columns)


def _pandas_column(series: Any, name: str) -> Callable[[int, int], list[object]]:
    kind = getattr(series.dtype, "kind", "O")
    whole = False
    if kind == "f":
        # One missing cell makes pandas hold whole numbers as floats; decided for the column, not for each chunk.
        present = series.dropna()
        whole = bool(len(present)) and _are_whole(present.astype("float64").tolist(), _itemsize(series.dtype), name)
    return lambda start, stop: _plain(_listed_cells(series.iloc[start:stop]), whole)


def _listed_cells(series: Any) -> list[object]:
    # By column, which keeps whole numbers whole; timestamps come as objects that are datetimes, too.
    return list(series.astype(object)) if getattr(series.dtype, "kind", "O") in "mM" else list(series.tolist())


def _itemsize(dtype: Any) -> int:
    return int(getattr(dtype, "itemsize", 8) or 8)


def _are_whole(cells: Iterable[float], size: int, name: str) -> bool:
    """Whether a column of floats stands for whole numbers."""
    whole = True
    for cell in cells:
        if not cell.is_integer():
            whole = False
        elif abs(cell) >= (_SAFE_FLOAT if size >= 8 else _SAFE_SINGLE):
            if not _is_phone(name):
                return False
            raise ConfigurationError(
                f"leads: column {name!r} holds {size * 8}-bit floats, which have lost digits; read it as text"
            )
    return whole


def _is_phone(name: str) -> bool:
    return service_name(name) == PHONE or is_phone_header(name)


def _is_polars(leads: object) -> bool:
    # openpyxl's sheets have iter_rows and columns too, but no list of names there.
    return _has(leads, "iter_rows") and isinstance(getattr(leads, "columns", None), list)


def _polars(frame: Any, columns: Sequence[str] | None) -> Table:
    names = list(frame.columns)
    whole = [_polars_whole(frame.get_column(name), label(name)) for name in names]

    def read(start: int, stop: int) -> list[list[object]]:
        part = frame.slice(start, stop - start)
        return [_plain(part.get_column(name).to_list(), w) for name, w in zip(names, whole, strict=True)]

    return _framed(names, read, len(frame), columns)


def _polars_whole(series: Any, name: str) -> bool:
    text = str(series.dtype)
    if not text.startswith("Float"):
        return False
    present = [cell for cell in series.to_list() if cell is not None and cell == cell]
    return bool(present) and _are_whole(present, 8 if text == "Float64" else 4, name)


def _is_arrow(leads: object) -> bool:
    return _has(leads, "schema") and (_has(leads, "to_batches") or _has(leads, "to_pydict"))


def _arrow(table: Any, columns: Sequence[str] | None) -> Table:
    names = list(table.schema.names)
    whole = [_arrow_whole(table.column(i), label(name)) for i, name in enumerate(names)]

    def read(start: int, stop: int) -> list[list[object]]:
        part = table.slice(start, stop - start)
        return [_plain(part.column(i).to_pylist(), whole[i]) for i in range(len(names))]

    return _framed(names, read, table.num_rows, columns)


def _arrow_whole(column: Any, name: str) -> bool:
    text = str(column.type)
    if text not in ("double", "float", "halffloat"):
        return False
    present = [cell for cell in column.to_pylist() if cell is not None and cell == cell]
    return bool(present) and _are_whole(present, 8 if text == "double" else 4, name)


def _framed(
    names: list[Any], read: Callable[[int, int], list[list[object]]], length: int, columns: Sequence[str] | None
) -> Table:
    def rows() -> Iterator[Sequence[object]]:
        for start in range(0, length, _FETCHED):
            yield from zip(*read(start, min(length, start + _FETCHED)), strict=True)

    if columns is not None:
        return _named(columns, len(names), rows)
    _check_names(names)
    sample = [["" if cell is None else cell for cell in row] for row in itertools.islice(rows(), SAMPLE_ROWS)]
    return Table(names, rows, _RENAME, sample)


def _named(columns: Sequence[str], width: int, rows: _Rows) -> Table:
    if not isinstance(columns, str) and len(columns) != width:
        raise ConfigurationError(f"columns: expected {width} names, as the table has columns, got {len(columns)}")
    table = Table(tuple(columns), rows, _RENAME)
    table.columns = tuple(columns)
    return table


def _plain(cells: list[object], whole: bool) -> list[object]:
    """Cells as Python's own values, missing ones as None."""
    if whole:
        return [None if cell is None or cell != cell else int(cast(float, cell)) for cell in cells]
    return list(map(plain_cell, cells))


# --- cursors and sheets ----------------------------------------------------------------------------------------------


def _is_cursor(leads: object) -> bool:
    return _has(leads, "description", "fetchmany") and not _has(leads, "__aiter__")


def cursor_columns(cursor: object, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """The service's names of the columns of an executed query; None for what is no cursor.

    Args:
        cursor: anything.
        columns: the names, when they are given.

    Raises:
        ConfigurationError: there is no query, or its columns are not named.
    """
    if not _has(cursor, "description", "fetchmany"):
        return None
    described: Sequence[Sequence[object]] | None = getattr(cursor, "description", None)
    if described is None:
        raise ConfigurationError("leads: the cursor has no result; execute the query before")
    names = [column[0] for column in described]
    if columns is None:
        return tuple(map(service_name, _column_names(names, _AS)))
    if len(columns) != len(names):
        raise ConfigurationError(f"columns: expected {len(names)} names, as the query has columns, got {len(columns)}")
    return tuple(columns)


def _cursor(cursor: Any, columns: Sequence[str] | None) -> Table:
    def rows() -> Iterator[Sequence[object]]:
        while fetched := cursor.fetchmany(_FETCHED):
            yield from map(row_cells, fetched)

    table = Table(cursor_columns(cursor, columns) or (), rows, _AS)
    table.is_at_hand = False
    return table


def row_cells(row: object) -> Sequence[object]:
    """A row of a query as its cells; psycopg's ``dict_row`` makes mappings."""
    if isinstance(row, Mapping):
        return tuple(row.values())
    return row if isinstance(row, tuple) else tuple(cast(Iterable[object], row))


def _is_sheet(leads: object) -> bool:
    return _has(leads, "iter_rows") and not isinstance(getattr(leads, "columns", None), list)


def _sheet(sheet: Any, columns: Sequence[str] | None) -> Table:
    def rows() -> Iterator[Sequence[object]]:
        below = itertools.islice(sheet.iter_rows(values_only=True), 1, None)
        return (tuple(map(plain_cell, row)) for row in below if any(cell is not None for cell in row))

    header = next(iter(sheet.iter_rows(values_only=True)), ())
    if columns is not None:
        return _named(columns, len(header), rows)
    sample = [["" if cell is None else cell for cell in row] for row in itertools.islice(rows(), SAMPLE_ROWS)]
    return Table(list(header), rows, "name it in the first row of the sheet", sample)


_KINDS: Final[tuple[tuple[Callable[[object], bool], Callable[[Any, Sequence[str] | None], Table]], ...]] = (
    (_is_pandas, _pandas),
    (_is_polars, _polars),
    (_is_arrow, _arrow),
    (_is_cursor, _cursor),
    (_is_sheet, _sheet),
)


# --- records ---------------------------------------------------------------------------------------------------------


def record_reader(kind: type, *, named: bool = True) -> Callable[[Row], Row] | None:
    """How rows of a class become mappings by the service's names; None for those that are rows as they stand.

    Known are named tuples, rows of databases (``keys`` and ``[]``), dataclasses, msgspec Structs and pydantic models.

    Args:
        kind: the class.
        named: whether rows that are sequences, too, are read by their names.
    """
    if issubclass(kind, Lead | list | Mapping) or (not named and issubclass(kind, Sequence)):
        return None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _reader(kind._fields, getattr)
    if callable(getattr(kind, "keys", None)) and hasattr(kind, "__getitem__"):
        return _from_keys
    for attribute in ("__dataclass_fields__", "__struct_fields__", "model_fields"):
        fields = getattr(kind, attribute, None)
        if fields is not None:
            return _reader(fields, getattr)
    return None


def _column(field: str) -> str:
    return _FIELDS.get(field) or service_name(field)


def _reader(names: Iterable[str], get: Callable[[Any, str], object]) -> Callable[[Any], Row]:
    fields = [(name, _column(name)) for name in names]

    def read(row: Any) -> Row:
        try:
            return cast(Row, {column: plain_cell(get(row, name)) for name, column in fields})
        except Exception:
            return cast(Row, row)  # its own code fails; the check of the row says so

    return read


def _from_keys(row: Any) -> Row:
    return _reader(row.keys(), lambda row, name: row[name])(row)


# --- names -----------------------------------------------------------------------------------------------------------


def _check_names(names: Sequence[object]) -> None:
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise ConfigurationError(
            f"leads: a column's name is {type(odd).__name__}, not text; name the columns, or pass columns=(…)"
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ConfigurationError(f"leads: column {label(twice)!r} stands there twice; rename one, or leave one out")


def _column_names(names: Sequence[object], remedy: str) -> list[str]:
    _check_names(names)
    if not names:
        raise ConfigurationError(f"leads: a table without columns; {remedy}")
    return [str(name) for name in names]


def _in_frame(message: str, remedy: str) -> str:
    """A message about a header with the remedy of a frame."""
    return f"{_COLUMNS.sub(lambda found: found[1], message)} ({remedy})"
