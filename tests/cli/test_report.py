"""How the report of an upload is shown to people."""

from __future__ import annotations

import io

from ozonetel_async import BatchResult, UploadReport
from ozonetel_async.cli.report import show_failures, show_invalid
from ozonetel_async.cli.screen import Screen


def lines(report: UploadReport) -> list[str]:
    out = io.StringIO()
    show_failures(Screen(out, io.StringIO()), report)
    return out.getvalue().splitlines()


def test_batches_that_were_not_sent_are_no_failed_requests() -> None:
    report = UploadReport(campaign="x", stopped_by="asked to stop")
    report.batches = [
        BatchResult(0, 1, 500, 500, "unknown", error="OutcomeUnknownError: no answer"),
        *(BatchResult(i, 500 * i + 1, 500 * i + 500, 500, "not_sent", error="asked to stop") for i in range(1, 31)),
    ]
    assert lines(report) == [
        "rows 1 to 500: unknown: OutcomeUnknownError: no answer",
        "15,000 rows read and not sent: asked to stop",
    ]


def test_of_many_failed_requests_some_are_shown() -> None:
    report = UploadReport(campaign="x")
    report.batches = [BatchResult(i, i + 1, i + 1, 1, "refused", error="E: no") for i in range(7)]
    assert lines(report) == [
        *(f"row {row}: refused: E: no" for row in range(1, 6)),
        "2 more requests failed; --json lists all of them",
    ]


def test_what_callbacks_said_is_shown() -> None:
    report = UploadReport(campaign="x")
    report.batches = [BatchResult(0, 1, 5, 5, "accepted", callback_text="Fail: no")]
    assert lines(report) == ["rows 1 to 5: the callback said: Fail: no"]


def test_one_of_each_is_in_the_singular() -> None:
    report = UploadReport(campaign="x", rows_read=2, rows_invalid=1, stopped_by="asked to stop")
    report.batches = [
        BatchResult(0, 1, 1, 1, "accepted", callback_text="Fail: no"),
        BatchResult(1, 2, 2, 1, "not_sent"),
    ]
    out = io.StringIO()
    show_invalid(Screen(out, io.StringIO()), report, lambda row: None, None)
    assert [*out.getvalue().splitlines(), *lines(report)] == [
        "1 invalid row not sent; --rejects FILE writes all of them",
        "1 row read and not sent: asked to stop",
        "row 1: the callback said: Fail: no",
    ]
