"""Data frames, cursors and records give the bytes that tuples give."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from ozonetel_async.config import Dialect
from ozonetel_async.errors import ConfigurationError
from ozonetel_async.models import InvalidRow
from ozonetel_async.rows.batches import Chunker
from ozonetel_async.rows.intake import RowSource, prepared

COLUMNS = ("PhoneNumber", "Name", "Priority", "City")
ROWS = [("919812300001", "Asha", 3, 7.5), ("919812300002", None, None, None)]
DATA: dict[str, list[Any]] = {
    "mobile": [919812300001, 919812300002],
    "Name": ["Asha", None],
    "priority": [3, None],
    "City": [7.5, None],
}


async def encoded(leads: Any, columns: Sequence[str] | None = None) -> tuple[list[bytes], list[InvalidRow]]:
    leads = prepared(leads, columns)
    names = columns if columns is not None else getattr(leads, "columns", None)
    invalid: list[InvalidRow] = []
    chunker = Chunker(
        columns=names,
        dialect=Dialect(),
        timezone=ZoneInfo("Asia/Kolkata"),
        now=datetime(2026, 1, 1),
        on_invalid=lambda bad, row: invalid.append(bad),
    )
    source = RowSource(leads, named=names is None)
    batches = []
    while taken := await source.take():
        batches += chunker.feed(taken)
    await source.close()
    if source.failure is not None:
        raise source.failure
    return [batch.payload for batch in (*batches, *chunker.flush())], invalid


@pytest.fixture(scope="module")
def pandas() -> Any:
    return pytest.importorskip("pandas", reason="pip install pandas")


@pytest.fixture(scope="module")
def polars() -> Any:
    return pytest.importorskip("polars", reason="pip install polars")


# --- data frames -----------------------------------------------------------------------------------------------------


async def test_pandas(pandas: Any) -> None:
    frame = pandas.DataFrame(DATA)
    assert str(frame["priority"].dtype) == "float64"
    assert await encoded(frame) == await encoded(frame, COLUMNS) == await encoded(ROWS, COLUMNS)


async def test_pandas_missing_cells_and_dates(pandas: Any) -> None:
    frame = pandas.DataFrame(
        {
            "PhoneNumber": pandas.array([919812300001, 919812300002], dtype="Int64"),
            "ExpiryDate": pandas.to_datetime(["2027-01-02 10:00", None]),
            "Age": pandas.array([5, None], dtype="Int64"),
        }
    )
    want = [("919812300001", datetime(2027, 1, 2, 10), 5), ("919812300002", None, None)]
    assert await encoded(frame) == await encoded(want, ("PhoneNumber", "ExpiryDate", "Age"))


async def test_a_frame_decides_for_its_columns_not_for_each_chunk(pandas: Any) -> None:
    scores: list[float | None] = [*map(float, range(1_000)), 0.5, None]
    frame = pandas.DataFrame({"PhoneNumber": [f"98{i:08}" for i in range(1_002)], "Score": scores})
    payloads, _ = await encoded(frame)
    first = msgspec.json.decode(payloads[0])["data"][:2]
    assert [repr(row[1]) for row in first] == ["0.0", "1.0"]


async def test_polars(polars: Any) -> None:
    frame = polars.DataFrame(DATA)
    assert await encoded(frame) == await encoded(frame, COLUMNS) == await encoded(ROWS, COLUMNS)


async def test_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    assert await encoded(pyarrow.table(DATA)) == await encoded(ROWS, COLUMNS)


async def test_phone_numbers_in_single_precision_are_refused(pandas: Any, polars: Any) -> None:
    frames = [
        pandas.DataFrame({"mobile": pandas.Series([919812300001], dtype="float32")}),
        polars.DataFrame({"mobile": [919812300001.0]}, schema={"mobile": polars.Float32}),
    ]
    for frame in frames:
        with pytest.raises(ConfigurationError, match="32-bit floats, which have lost digits; read it as text"):
            prepared(frame)


def odd_frames(pandas: Any, polars: Any) -> Iterator[tuple[Any, str]]:
    frame = pandas.DataFrame(DATA)
    yield frame["mobile"], r"one column \(Series\) is no table"
    yield polars.Series([1]), r"one column \(Series\) is no table"
    yield polars.DataFrame(DATA).lazy(), r"pass leads\.collect\(\)"
    yield frame.to_numpy(), r"pass leads\.tolist\(\) and columns="
    yield frame.groupby("Name"), "pass the data frame itself"
    yield pandas.DataFrame([[919812300001]]), r"a column's name is int.*columns=\(…\)"
    yield pandas.DataFrame([[1, 2]], columns=["a", "a"]), "'a' stands there twice"
    yield pandas.DataFrame({("a", "b"): [1]}), "MultiIndex"
    yield pandas.DataFrame({"x": [1]}), r"no column PhoneNumber among 'x'; .*rename it in the frame"
    yield pandas.DataFrame({"mobile": ["9812300001"], "phone": ["9812300001"]}), "'mobile' and 'phone' both"


def test_things_that_are_no_frames_get_the_remedy(pandas: Any, polars: Any) -> None:
    for thing, says in odd_frames(pandas, polars):
        with pytest.raises(ConfigurationError, match=says):
            prepared(thing)


async def test_nameless_columns_of_a_frame_take_the_given_names(pandas: Any) -> None:
    assert await encoded(pandas.DataFrame(ROWS), COLUMNS) == await encoded(ROWS, COLUMNS)
    with pytest.raises(ConfigurationError, match="expected 4 names, as the table has columns, got 1"):
        prepared(pandas.DataFrame(ROWS), ("PhoneNumber",))


@pytest.mark.parametrize(
    ("leads", "says"),
    [
        ("leads.csv", r"pass read_csv\('leads.csv'\)"),
        (Path("/data/leads.csv"), r"pass read_csv\('/data/leads.csv'\)"),
        ("March.XLSX", r"pass read_excel\('March.XLSX'\)"),
        ("9812345678", "got one str; put it into a list"),
    ],
)
def test_a_path_or_a_text_gets_the_remedy(leads: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        RowSource(leads)
    assert "98123" not in str(caught.value)


# --- cursors and records ---------------------------------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE leads (PhoneNumber, name, Priority, City)")
        connection.executemany("INSERT INTO leads VALUES (?, ?, ?, ?)", ROWS)
        yield connection


async def test_a_cursor_and_its_rows(database: sqlite3.Connection) -> None:
    query = "SELECT * FROM leads"
    want = await encoded(ROWS, COLUMNS)
    assert await encoded(database.execute(query)) == want
    database.row_factory = sqlite3.Row
    assert await encoded(database.execute(query)) == want
    assert await encoded(database.execute(query).fetchall()) == want
    assert await encoded(database.execute(query).fetchall(), COLUMNS) == want
    with pytest.raises(ConfigurationError, match="execute the query before"):
        prepared(database.cursor())


async def test_an_asynchronous_cursor() -> None:
    class Cursor:
        description = tuple((name, None) for name in COLUMNS)

        async def fetchmany(self, size: int) -> list[tuple[object, ...]]:
            raise NotImplementedError

        async def __aiter__(self) -> AsyncIterator[object]:
            yield ROWS[0]
            yield dict(zip(COLUMNS, ROWS[1], strict=True))

    assert await encoded(Cursor()) == await encoded(ROWS, COLUMNS)


class Named(NamedTuple):
    phone_number: str
    name: str | None
    priority: int | None
    City: float | None


@dataclasses.dataclass
class Data:
    PhoneNumber: str
    name: str | None
    priority: int | None
    City: float | None


class Structure(msgspec.Struct):
    phone_number: str
    Name: str | None
    Priority: int | None
    City: float | None


class Record:
    """As asyncpg's: keys and items, and no sequence."""

    def __init__(self, *cells: object) -> None:
        self._cells = dict(zip(COLUMNS, cells, strict=True))

    def keys(self) -> Iterator[str]:
        return iter(self._cells)

    def __getitem__(self, name: str) -> object:
        return self._cells[name]


@pytest.mark.parametrize("kind", [Named, Data, Structure, Record])
async def test_records_are_read_by_their_names(kind: Any) -> None:
    assert await encoded([kind(*row) for row in ROWS]) == await encoded(ROWS, COLUMNS)


async def test_named_tuples_with_columns_are_read_by_their_order() -> None:
    assert await encoded([Named(*row) for row in ROWS], COLUMNS) == await encoded(ROWS, COLUMNS)


async def test_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pip install pydantic")
    fields: dict[str, Any] = {"PhoneNumber": str, "Name": str | None, "priority": int | None, "City": float | None}
    model = pydantic.create_model("Model", **{name: (kind, ...) for name, kind in fields.items()})
    models = [model(**dict(zip(fields, row, strict=True))) for row in ROWS]
    assert await encoded(models) == await encoded(ROWS, COLUMNS)


async def test_cells_of_numpy_and_decimals(pandas: Any) -> None:
    import numpy

    rows = [
        (numpy.int64(919812300001), numpy.str_("Asha"), Decimal("3.0"), numpy.float64(7.5)),
        (Decimal(919812300002), pandas.NA, pandas.NaT, math.nan),
    ]
    assert await encoded(rows, COLUMNS) == await encoded(ROWS, COLUMNS)


async def test_decimals_that_are_not_whole_numbers_are_no_phone_numbers() -> None:
    cells = [Decimal("9812300001.5"), Decimal("9.8E+9"), True]
    payloads, invalid = await encoded([(cell,) for cell in cells], ("PhoneNumber",))
    assert (payloads, [bad.row for bad in invalid]) == ([], [1, 2, 3])


async def test_a_later_mapping_with_a_further_key_is_told_why() -> None:
    _, invalid = await encoded([{"PhoneNumber": "919812300001"}, {"PhoneNumber": "919812300002", "City": "Pune"}])
    assert [(bad.row, bad.field) for bad in invalid] == [(2, "City")]
    assert "the first row decides" in invalid[0].reason
