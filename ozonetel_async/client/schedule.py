"""Leads to be dialled at a set time: cut into the requests the endpoint takes, one result per row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from typing import Final, Literal, TypeAlias

from ..errors import ConfigurationError, InputError, OzonetelError
from ..models import InvalidRow, Row, ScheduleOutcome, ScheduleReport, ScheduleResult
from ..protocol.messages import Meaning
from ..protocol.replies import classify_row
from ..protocol.requests import Params
from ..rows.batches import Batch, ChunkerMaker
from ..rows.intake import Rows, RowSource
from ..sending.dispatcher import STOPS_THE_UPLOAD, ApiRequest, Dispatcher, check_queue_options

__all__ = ["OnResult", "schedule_rows"]

_CONCURRENCY: Final = 4
OnResult: TypeAlias = Callable[[ScheduleResult], None]
_ROW_OUTCOMES: Final[dict[Meaning, ScheduleOutcome]] = {Meaning.ACCEPTED: "accepted", Meaning.UNKNOWN: "unknown"}


async def schedule_rows(
    dispatcher: Dispatcher,
    endpoint: Literal["schedule", "legacy_schedule"],
    campaign: str,
    rows: Rows,
    make_chunker: ChunkerMaker,
    params: Params,
    on_result: OnResult | None = None,
    *,
    queue_priority: int = 0,
) -> ScheduleReport:
    """Schedule ``rows``, at most 4 requests at a time; every row ends in the report.

    A request that fails fails its own rows only, unless every further one would meet the same: then no more are sent,
    and the report's ``stopped_by`` says why. A file that breaks off ends the run in the same way, after the rows before
    that were sent; any other exception of the input is raised then. ``on_result`` is told each row's result as soon as
    it is known, also of those on their way when the call is cancelled; a row that it was told nothing of was not sent.
    What it raises is raised after what is on its way has been finished.
    """
    check_queue_options(queue_priority, None)
    if iscoroutinefunction(on_result):
        raise ConfigurationError("on_result: expected a plain function, got a coroutine function, never awaited")
    return await _Schedule(dispatcher, endpoint, campaign, params, on_result, queue_priority).run(rows, make_chunker)


class _Schedule:
    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoint: Literal["schedule", "legacy_schedule"],
        campaign: str,
        params: Params,
        on_result: OnResult | None,
        queue_priority: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._campaign = campaign
        self._params = params
        self._on_result = on_result
        self._priority = queue_priority
        self._failure: Exception | None = None
        self._room = asyncio.Semaphore(_CONCURRENCY)
        self._results: dict[int, ScheduleResult] = {}
        self._stopped_by: str | None = None

    async def run(self, rows: Rows, make_chunker: ChunkerMaker) -> ScheduleReport:
        chunker = make_chunker(self._note_invalid)
        intake = RowSource(rows, named=chunker.columns is None)
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    while taken := await intake.take(chunker.stride):
                        await self._start(chunker.feed(taken), tasks)
                    await self._start(chunker.flush(), tasks)
                except OzonetelError as error:
                    # Out of the group it would come wrapped in an ExceptionGroup.
                    failure = error
        finally:
            await intake.close()
        failure = self._failure or failure
        if isinstance(intake.failure, InputError):
            self._stopped_by = self._stopped_by or _text(intake.failure)
        else:
            failure = failure or intake.failure
        results = tuple(self._results[row] for row in sorted(self._results))
        report = ScheduleReport(results, self._stopped_by, chunker.cleaned)
        if failure is not None:
            failure.add_note(f"of {len(report.results)} rows taken, {report.count('accepted')} were scheduled")
            raise failure
        return report

    async def _start(self, batches: list[Batch], tasks: asyncio.TaskGroup) -> None:
        for batch in batches:
            span = range(batch.last_row - batch.read + 1, batch.last_row + 1)
            numbers = [row for row in span if row not in self._results]
            await self._room.acquire()
            if self._stopped_by is None:
                tasks.create_task(self._send(numbers, batch))
            else:
                self._settle(numbers, "not_sent", self._stopped_by)
                self._room.release()

    async def _send(self, numbers: list[int], batch: Batch) -> None:
        call = ApiRequest(
            self._endpoint,
            self._params,
            campaign=self._campaign,
            payload=batch.payload,
            priority=self._priority,
        )
        try:
            reply = await self._dispatcher.call(call)
        except asyncio.CancelledError:
            self._settle(numbers, "unknown" if call.may_be_applied else "not_sent", "cancelled")
            raise
        except OzonetelError as error:
            text = _text(error)
            self._settle(numbers, error.outcome, text)
            if isinstance(error, STOPS_THE_UPLOAD):
                self._stopped_by = text
        else:
            self._note(read_rows(numbers, reply.data.get("message")))
        finally:
            self._room.release()

    def _settle(self, numbers: list[int], outcome: ScheduleOutcome, text: str) -> None:
        self._note(ScheduleResult(row, outcome, text) for row in numbers)

    def _note_invalid(self, invalid: InvalidRow, _: Row) -> None:
        self._note([ScheduleResult(invalid.row, "invalid", f"{invalid.field}: {invalid.reason}")])

    def _note(self, results: Iterable[ScheduleResult]) -> None:
        for result in results:
            self._results[result.row] = result
            if self._on_result is not None:
                try:
                    self._on_result(result)
                except Exception as error:
                    # The caller's own error ends the run, but takes no other request's answer with it.
                    self._on_result, self._failure = None, error
                    self._stopped_by = f"on_result raised {type(error).__name__}"


def _text(error: OzonetelError) -> str:
    return f"{type(error).__name__}: {error.message}"


def read_rows(numbers: list[int], answers: object) -> list[ScheduleResult]:
    """Match the reply's row objects to row numbers, by their ``index`` or else by place.

    A row the reply does not speak of is unknown: the page shows no partial answer (Schedule Campaign Data). Places
    tell the rows only when there is an answer for each.
    """
    results = {row: ScheduleResult(row, "unknown", "the answer does not speak of this row") for row in numbers}
    listed = answers if isinstance(answers, list | tuple) else ()
    complete = len(listed) == len(numbers)
    for place, answer in enumerate(listed):
        if not isinstance(answer, Mapping):
            continue
        index = _index(answer, place if complete else -1)
        if 0 <= index < len(numbers):
            meaning, message = classify_row(answer)
            row = numbers[index]
            results[row] = ScheduleResult(row, _ROW_OUTCOMES.get(meaning, "refused"), message)
    return list(results.values())


def _index(answer: Mapping[str, object], place: int) -> int:
    text = str(answer.get("index", ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else place
