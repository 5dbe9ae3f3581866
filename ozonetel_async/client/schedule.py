"""Leads to be dialled at a set time: cut into the requests the endpoint takes, one result per row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from ..errors import OzonetelError
from ..models import InvalidRow, Row, ScheduleReport, ScheduleResult
from ..protocol.messages import Meaning
from ..protocol.replies import classify_row
from ..protocol.requests import Params
from ..rows.batches import Batch, ChunkerMaker
from ..rows.intake import Rows, RowSource
from ..sending.dispatcher import STOPS_THE_UPLOAD, ApiRequest, Dispatcher

__all__ = ["OnResult", "schedule_rows"]

_WIDTH: Final = 4
_Outcome = Literal["accepted", "refused", "unknown"]
OnResult: TypeAlias = Callable[[ScheduleResult], None]
_ROW_OUTCOMES: Final[dict[Meaning, _Outcome]] = {Meaning.ACCEPTED: "accepted", Meaning.UNKNOWN: "unknown"}


async def schedule_rows(
    dispatcher: Dispatcher,
    endpoint: Literal["schedule", "legacy_schedule"],
    campaign: str,
    rows: Rows,
    make_chunker: ChunkerMaker,
    params: Params,
    on_result: OnResult | None = None,
) -> ScheduleReport:
    """Schedule ``rows``, at most 4 requests at a time; every row ends in the report.

    A request that fails fails its own rows only, unless every further one would meet the same: then no more are sent,
    and the rows left are refused for that reason. An exception of the input is raised after the rows taken from it
    were sent. ``on_result`` is told each row's result as soon as it is known, also of those on their way when the call
    is cancelled; a row that it was told nothing of was not sent. What it raises is raised after what is on its way
    has been finished.
    """
    return await _Schedule(dispatcher, endpoint, campaign, params, on_result).run(rows, make_chunker)


class _Schedule:
    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoint: Literal["schedule", "legacy_schedule"],
        campaign: str,
        params: Params,
        on_result: OnResult | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._campaign = campaign
        self._params = params
        self._on_result = on_result
        self._failure: Exception | None = None
        self._room = asyncio.Semaphore(_WIDTH)
        self._results: dict[int, ScheduleResult] = {}
        self._refused_by: str | None = None

    async def run(self, rows: Rows, make_chunker: ChunkerMaker) -> ScheduleReport:
        chunker = make_chunker(self._note_invalid)
        intake = RowSource(rows)
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
        report = ScheduleReport(tuple(self._results[row] for row in sorted(self._results)), chunker.cleaned)
        failure = self._failure or failure or intake.failure
        if failure is not None:
            failure.add_note(f"of {len(report.results)} rows taken, {report.count('accepted')} were scheduled")
            raise failure
        return report

    async def _start(self, batches: list[Batch], tasks: asyncio.TaskGroup) -> None:
        for batch in batches:
            span = range(batch.last_row - batch.read + 1, batch.last_row + 1)
            numbers = [row for row in span if row not in self._results]
            await self._room.acquire()
            if self._refused_by is None:
                tasks.create_task(self._send(numbers, batch))
            else:
                self._settle(numbers, "refused", self._refused_by)
                self._room.release()

    async def _send(self, numbers: list[int], batch: Batch) -> None:
        call = ApiRequest(self._endpoint, self._params, campaign=self._campaign, payload=batch.payload)
        try:
            reply = await self._dispatcher.call(call)
        except asyncio.CancelledError:
            self._settle(numbers, "unknown" if call.may_be_applied else "refused", "cancelled")
            raise
        except OzonetelError as error:
            text = f"{type(error).__name__}: {error.message}"
            self._settle(numbers, "unknown" if error.outcome == "unknown" else "refused", text)
            if isinstance(error, STOPS_THE_UPLOAD):
                self._refused_by = text
        else:
            self._note(read_rows(numbers, reply.data.get("message")))
        finally:
            self._room.release()

    def _settle(self, numbers: list[int], outcome: _Outcome, text: str) -> None:
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
                    self._refused_by = f"on_result raised {type(error).__name__}"


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
