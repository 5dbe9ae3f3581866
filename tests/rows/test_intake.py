from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import cast

import pytest

from ozonetel_async.errors import ConfigurationError
from ozonetel_async.models import Lead, Row
from ozonetel_async.rows.intake import Rows, RowSource


def leads(count: int, start: int = 0) -> list[Row]:
    return [Lead(f"98{number:08}") for number in range(start, start + count)]


def gen(rows: Iterable[Row], end: BaseException | None = None) -> Iterator[Row]:
    yield from rows
    if end is not None:
        raise end


async def agen(rows: Iterable[Row], end: BaseException | None = None) -> AsyncIterator[Row]:
    for row in rows:
        yield row
    if end is not None:
        raise end


async def all_of(intake: RowSource) -> list[Row]:
    rows: list[Row] = []
    while taken := await intake.take():
        rows += taken
    return rows


FORMS: dict[str, Callable[[list[Row]], Rows]] = {
    "list": list,
    "tuple": tuple,
    "generator": gen,
    "async generator": agen,
    "dict values": lambda rows: dict(enumerate(rows)).values(),
}


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 600])
@pytest.mark.parametrize("form", FORMS)
async def test_every_row_comes_once_and_in_order(form: str, count: int) -> None:
    rows = leads(count)
    intake = RowSource(FORMS[form](rows))
    assert await all_of(intake) == rows
    assert intake.failure is None
    assert await intake.take() == []
    assert intake.rest() == []


async def test_rows_come_in_slices() -> None:
    for rows in (gen(leads(600)), agen(leads(600))):
        intake = RowSource(rows)
        assert [len(await intake.take()) for _ in range(4)] == [250, 250, 100, 0]


async def test_an_endless_input_is_taken_a_slice_at_a_time() -> None:
    taken = 0

    def endless() -> Iterator[Row]:
        nonlocal taken
        while True:
            taken += 1
            yield Lead("9812345678")

    intake = RowSource(endless())
    await intake.take()
    assert taken <= 251


@pytest.mark.parametrize(
    "rows",
    [
        "9812345678",
        b"9812345678",
        {"PhoneNumber": "9812345678"},
        Lead("9812345678"),
        None,
        5,
        object(),
        list,
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_one_row_or_none_is_a_mistake(rows: object) -> None:
    with pytest.raises(ConfigurationError, match=f"iterable of rows, got .*{type(rows).__name__}") as caught:
        RowSource(cast(Rows, rows))
    assert "98123" not in str(caught.value)
    assert ("put it into a list" in str(caught.value)) is isinstance(rows, str | bytes | dict | Lead)


@pytest.mark.parametrize("make", [gen, agen])
@pytest.mark.parametrize("before", [0, 1, 250, 300, 500])
async def test_rows_before_the_inputs_own_failure_are_kept(make: object, before: int) -> None:
    error = ValueError("line 7 is broken")
    intake = RowSource(cast(Rows, make(leads(before), error)))  # type: ignore[operator]
    assert await all_of(intake) == leads(before)
    assert intake.failure is error
    assert await intake.take() == []


async def test_a_failing_input_is_not_asked_again() -> None:
    class Resuming:
        """An iterator that would go on after its exception."""

        def __init__(self) -> None:
            self.calls = 0

        def __iter__(self) -> Iterator[Row]:
            return self

        def __next__(self) -> Row:
            self.calls += 1
            if self.calls == 3:
                raise OSError("disk")
            return Lead("9812345678")

    source = Resuming()
    intake = RowSource(source)
    assert len(await all_of(intake)) == 2
    assert source.calls == 3
    assert isinstance(intake.failure, OSError)


async def test_an_interrupt_passes_and_loses_no_row() -> None:
    intake = RowSource(gen(leads(3), KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        await intake.take()
    assert intake.rest() == leads(3)


@pytest.mark.parametrize("rows", [leads(2_500), gen(leads(2_500)), agen(leads(2_500))], ids=["list", "gen", "agen"])
async def test_taking_lets_other_tasks_run(rows: Rows) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    intake = RowSource(rows)
    await all_of(intake)
    ticker.cancel()
    assert ticks >= 10


async def cancelled_take(intake: RowSource, ready: asyncio.Event | None = None) -> None:
    taking = asyncio.create_task(intake.take())
    if ready is None:
        await asyncio.sleep(0)
    else:
        await ready.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking


async def test_cancellation_keeps_the_rows_of_a_sync_input() -> None:
    intake = RowSource(gen(leads(400)))
    await cancelled_take(intake)
    assert intake.rest() == leads(250)
    assert intake.rest() == []
    assert await intake.take() == leads(150, 250)


async def test_cancellation_keeps_the_rows_of_an_async_input() -> None:
    waiting = asyncio.Event()

    async def slow() -> AsyncIterator[Row]:
        for row in leads(7):
            yield row
        waiting.set()
        await asyncio.Event().wait()

    intake = RowSource(slow())
    await cancelled_take(intake, waiting)
    assert intake.rest() == leads(7)
    assert await intake.take() == []


async def test_rows_kept_by_a_cancellation_come_with_the_next_take() -> None:
    intake = RowSource(gen(leads(400)))
    await cancelled_take(intake)
    assert await all_of(intake) == leads(400)


class Closable:
    """Iterables whose iterators tell when they are closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[Row]:
        try:
            yield from leads(500)
        finally:
            self.closed += 1


class AsyncClosable:
    def __init__(self) -> None:
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Row]:
        try:
            for row in leads(500):
                yield row
        finally:
            await asyncio.sleep(0)
            self.closed += 1


@pytest.mark.parametrize("source", [Closable(), AsyncClosable()], ids=["sync", "async"])
async def test_an_iterator_made_here_is_closed(source: Closable | AsyncClosable) -> None:
    intake = RowSource(cast(Rows, source))
    await intake.take()
    assert source.closed == 0
    await intake.close()
    assert source.closed == 1
    await intake.close()
    assert source.closed == 1


async def test_an_iterator_that_was_passed_in_goes_on_elsewhere() -> None:
    sync_rows, async_rows = gen(leads(400)), agen(leads(400))
    for rows in (sync_rows, async_rows):
        intake = RowSource(cast(Rows, rows))
        assert len(await intake.take()) == 250
        await intake.close()
    assert list(sync_rows) == leads(150, 250)
    assert [row async for row in async_rows] == leads(150, 250)


async def test_closing_copes_with_iterators_that_cannot_be_closed() -> None:
    intake = RowSource(leads(3))
    await intake.close()

    class Plain:
        def __aiter__(self) -> AsyncIterator[Row]:
            return PlainIterator()

    class PlainIterator:
        def __aiter__(self) -> AsyncIterator[Row]:
            return self

        async def __anext__(self) -> Row:
            raise StopAsyncIteration

        async def close(self) -> None:
            raise AssertionError("a coroutine function: calling it without waiting would do nothing but warn")

    intake = RowSource(Plain())
    assert await intake.take() == []
    await intake.close()
