"""Rows from any iterable, sync or async, a slice at a time, none lost between the input and whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

from ..errors import ConfigurationError
from ..models import Lead, Row

__all__ = ["RowSource", "Rows"]

Rows: TypeAlias = Iterable[Row] | AsyncIterable[Row]

_SLICE: Final = 250


class RowSource:
    """Takes rows from an input.

    Args:
        rows: leads, mappings or sequences; any iterable or async iterable, of any length.

    Attributes:
        failure: the exception the input itself ended with, or None.

    Raises:
        ConfigurationError: ``rows`` is one row, or nothing that can be iterated.
    """

    def __init__(self, rows: Rows) -> None:
        self.failure: Exception | None = None
        self._rows = rows
        self._taken: list[Row] = []
        self._ended = False
        self._sync: Iterator[Row] | None = None
        self._async: AsyncIterator[Row] | None = None
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

        Lets other tasks run. Cancelled, it keeps what it has taken for ``rest``.
        """
        if not self._ended:
            await (self._take_sync(at_most) if self._sync is not None else self._take_async(at_most))
        return self.rest()

    def rest(self) -> list[Row]:
        """Rows taken from the input and not handed out yet."""
        rows, self._taken = self._taken, []
        return rows

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
        assert self._async is not None
        try:
            while len(self._taken) < at_most:
                self._taken.append(await anext(self._async))
        except StopAsyncIteration:
            self._ended = True
        except Exception as error:
            self.failure, self._ended = error, True
        # An async generator that never waits for anything never lets others run by itself.
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close the iterator if it was made here; one that the caller passed in stays as it is."""
        if self._sync is not self._rows and (close := getattr(self._sync, "close", None)) is not None:
            close()
        if self._async is not self._rows and (aclose := getattr(self._async, "aclose", None)) is not None:
            await aclose()
