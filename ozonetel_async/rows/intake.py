"""Rows from any iterable, sync or async, a slice at a time, none lost between the input and whoever asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol, TypeAlias

from ..errors import ConfigurationError
from ..models import Lead, Row
from .sources import check_kind, cursor_columns, record_reader, row_cells, table_of

__all__ = ["RowSource", "Rows", "prepared"]


class PandasLike(Protocol):
    """A data frame as pandas has them."""

    @property
    def itertuples(self) -> Callable[..., object]:
        """Gives the rows."""


class PolarsLike(Protocol):
    """A data frame as polars has them, or a sheet of openpyxl."""

    @property
    def iter_rows(self) -> Callable[..., object]:
        """Gives the rows."""


class ArrowLike(Protocol):
    """A table as pyarrow has them."""

    @property
    def to_batches(self) -> Callable[..., object]:
        """Gives the rows in batches of columns."""


class CursorLike(Protocol):
    """A cursor of a database, sync or async, whose query was executed."""

    @property
    def description(self) -> object:
        """The columns."""

    @property
    def fetchmany(self) -> Callable[..., object]:
        """Gives rows."""


Rows: TypeAlias = Iterable[Row] | AsyncIterable[Row] | PandasLike | PolarsLike | ArrowLike | CursorLike

_log = logging.getLogger("ozonetel_async")

_SLICE: Final = 250
# Seconds for an input to end after it was cancelled.
_PATIENCE: Final = 1.0


def prepared(leads: Rows, columns: Sequence[str] | None = None) -> Rows:
    """An input of another library, such as a data frame or a cursor, as rows; every other one as it is.

    Args:
        leads: the input.
        columns: the service's names, in the order of its columns.

    Raises:
        ConfigurationError: it cannot be taken as it is.
    """
    if isinstance(leads, AsyncIterable) and (names := cursor_columns(leads, columns)) is not None:
        return _AsyncTable(leads, names)
    table = table_of(leads, columns)
    for note in () if table is None else table.notes:
        _log.info("leads: %s", note)
    return leads if table is None else table


class _AsyncTable:
    """The rows of an asynchronous cursor.

    Args:
        cursor: the cursor.
        columns: the service's names of its columns.
    """

    def __init__(self, cursor: AsyncIterable[object], columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._cursor = cursor

    async def __aiter__(self) -> AsyncIterator[Row]:
        async for row in self._cursor:
            yield row_cells(row)  # type: ignore[misc]


class RowSource:
    """Takes rows from an input.

    Args:
        rows: leads, mappings, sequences or records; any iterable or async iterable, of any length. Records become
            mappings.
        named: whether records that are sequences, too, are read by their names and not by their order.

    Attributes:
        failure: the exception the input itself ended with, or None.

    Raises:
        ConfigurationError: ``rows`` is one row, or nothing that can be iterated.
    """

    def __init__(self, rows: Rows, *, named: bool = True) -> None:
        check_kind(rows)
        self._named = named
        self._readers: dict[type, Callable[[Row], Row] | None] = {}
        self.failure: Exception | None = None
        self._rows = rows
        self._taken: list[Row] = []
        self._ended = False
        self._sync: Iterator[Row] | None = None
        self._async: AsyncIterator[Row] | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._at_most = _SLICE
        self._answer: asyncio.Future[None] | None = None
        self._interrupt: BaseException | None = None
        if isinstance(rows, str | bytes | Mapping | Lead):
            raise ConfigurationError(
                f"leads must be an iterable of rows, got one {type(rows).__name__}; put it into a list"
            )
        if isinstance(rows, AsyncIterable):
            self._async = aiter(rows)
        elif isinstance(rows, Iterable):
            self._sync = iter(rows)
        else:
            raise ConfigurationError(f"leads must be an iterable of rows, got {type(rows).__name__}")

    async def take(self, at_most: int = _SLICE) -> list[Row]:
        """The next rows; empty when the input has ended, in an exception of its own or not.

        Lets other tasks run. Cancelled, it keeps what it has taken for ``rest``; an async input ends, after ``halt``.
        """
        if not self._ended:
            await (self._take_sync(at_most) if self._sync is not None else self._take_async(at_most))
        return self.rest()

    def stop(self) -> None:
        """Take no more rows; a ``take`` that waits for some returns what there is."""
        self._ended = True
        self._hand_over()
        if self._pulling is not None:
            self._pulling.cancel()

    async def halt(self) -> None:
        """Stop, and wait until nothing more can come; not for long, since an input may swallow its cancellation."""
        self.stop()
        if self._pulling is not None:
            await asyncio.wait([self._pulling], timeout=_PATIENCE)

    def rest(self) -> list[Row]:
        """Rows taken from the input and not handed out yet."""
        rows, self._taken = self._taken, []
        kinds = set(map(type, rows))
        for kind in kinds - self._readers.keys():
            self._readers[kind] = record_reader(kind, named=self._named)
        if not any(self._readers[kind] for kind in kinds):
            return rows
        return [row if (read := self._readers[type(row)]) is None else read(row) for row in rows]

    async def _take_sync(self, at_most: int) -> None:
        assert self._sync is not None
        try:
            # extend keeps what it got when the iterator raises: those rows are taken and must be accounted for.
            self._taken.extend(islice(self._sync, at_most))
        except Exception as error:
            self.failure = error
        self._ended = self.failure is not None or not self._taken
        await asyncio.sleep(0)

    async def _take_async(self, at_most: int) -> None:
        self._at_most = at_most
        self._answer = asyncio.get_running_loop().create_future()
        self._wanted.set()
        if self._pulling is None:
            # A task of its own, so that one that does not end when it is cancelled can be left. The same one for all
            # rows: the input may hold timeouts and task groups open from one row to the next.
            self._pulling = asyncio.create_task(self._pull())
            self._pulling.add_done_callback(self._pulled)
        elif self._pulling.done():
            self._pulled(self._pulling)
        try:
            await self._answer
        except asyncio.CancelledError:
            self.stop()
            raise
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
            raise interrupt

    async def _pull(self) -> None:
        assert self._async is not None
        try:
            while not self._ended:
                self._wanted.clear()
                await self._fill(self._async)
                self._hand_over()
                if not self._ended:
                    await self._wanted.wait()
        finally:
            if self._async is not self._rows and (aclose := getattr(self._async, "aclose", None)) is not None:
                await aclose()

    async def _fill(self, source: AsyncIterator[Row]) -> None:
        try:
            while len(self._taken) < self._at_most and not self._ended:
                row = await anext(source)
                self._taken.append(row)  # into the list of now: what was there before may have been handed out
        except StopAsyncIteration:
            self._ended = True
        except Exception as error:
            self.failure, self._ended = error, True
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._interrupt, self._ended = error, True

    def _hand_over(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _pulled(self, _: asyncio.Task[None]) -> None:
        # The input was cancelled by something of its own, and whoever waits for its rows is, too.
        if self._answer is not None:
            self._answer.cancel()

    async def close(self) -> None:
        """Close the iterator if it was made here; one that the caller passed in stays as it is."""
        if self._sync is not None and self._sync is not self._rows and (close := getattr(self._sync, "close", None)):
            close()
        await self.halt()
        pulling = self._pulling
        if pulling is None or pulling.cancelled():
            return
        if pulling.done():
            pulling.result()
        else:
            _log.warning("the input goes on after it was cancelled, and was left running")
