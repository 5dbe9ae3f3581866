"""Counting rows, the time left, and where a resumed upload begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ozonetel_async import RateLimit, UploadReport
from ozonetel_async.cli.main import main
from ozonetel_async.cli.progress import Watcher, count_rows, seconds_left
from ozonetel_async.cli.screen import Meter
from ozonetel_async.testing import Simulator

from .conftest import Output, Queue, Seen, status


@pytest.mark.parametrize(
    ("requests", "free", "next_free_in", "left"),
    [(0, 0, 9.0, 0.0), (5, 5, 0.0, 0.0), (6, 5, 0.0, 0.0), (1, 0, 9.0, 9.0), (5, 0, 9.0, 9.0), (6, 0, 9.0, 69.0)],
)
def test_the_time_left_knows_the_limit(requests: int, free: int, next_free_in: float, left: float) -> None:
    assert seconds_left(requests, Queue(free, 0, next_free_in), RateLimit(5, 60.0)) == left


@pytest.mark.parametrize(
    ("content", "rows"),
    [(b"", 0), (b"h\n", 0), (b"h", 0), (b"h\na\nb\n", 2), (b"h\na\nb", 2), (b"h\r\na\r\nb\r\n", 2), (b"h\ra\rb\r", 2)],
)
def test_rows_are_counted_cheaply(content: bytes, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leads.csv"
    path.write_bytes(content)
    assert count_rows(str(path)) == rows


def test_a_large_file_is_estimated_and_a_pipe_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ozonetel_async.cli.progress._COUNTED_BYTES", 1_000)
    monkeypatch.setattr("ozonetel_async.cli.progress._SAMPLE_BYTES", 100)
    path, pipe = tmp_path / "leads.csv", tmp_path / "pipe"
    path.write_bytes(b"123456789\n" * 500)
    os.mkfifo(pipe)
    assert count_rows(str(path)) == 499
    assert count_rows(str(pipe)) is None
    assert count_rows(str(tmp_path / "missing")) is None


async def test_progress_and_the_time_left_know_what_earlier_runs_did() -> None:
    earlier = UploadReport(campaign="x", rows_read=4_000, rows_accepted=3_900, rows_invalid=100)
    meter: Meter = Seen()
    watcher = Watcher(meter, Queue(0, 0, 30.0), RateLimit(5, 60.0), 10_000, earlier=earlier)
    before = watcher.progress()
    assert (before.done, dict(before.states)["accepted"]) == (4_000, 3_900)
    # 6,000 rows of which 2.5 % are bad: 12 requests, five now and five a minute later.
    assert before.seconds_left == 30.0 + 2 * 60.0

    async def upload(on_progress: Callable[[UploadReport], None]) -> UploadReport:
        report = UploadReport(campaign="x", rows_in_flight=100)
        on_progress(report)
        assert watcher.progress().done == 4_000
        report.rows_read = report.rows_accepted = 4_500
        assert (watcher.progress().done, watcher.progress().seconds_left) == (4_500, 150.0)
        return report

    await watcher.watch(upload)


def test_progress_says_what_is_waited_for() -> None:
    watcher = Watcher(Seen(), Queue(0, 0, 30.0), RateLimit(5, 60.0), 1_000)
    report = UploadReport(campaign="x", rows_read=500, rows_accepted=500, waiting_for="the service (no connection)")
    watcher.report = report
    assert watcher.progress().line().endswith("; waiting for the service (no connection)")
    report.waiting_for = None
    assert "next slot in 30.0 s" in watcher.progress().line()


def test_a_resumed_upload_begins_where_the_earlier_one_ended(
    half_done: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    begins: list[int] = []

    class Watching(Watcher):
        async def watch(self, upload: Callable[..., object]) -> UploadReport:
            begins.append(self.progress().done)
            return await super().watch(upload)  # type: ignore[arg-type]

    monkeypatch.setattr("ozonetel_async.cli.commands.upload.Watcher", Watching)
    held = status(capsys)
    main(["resume", "x.journal", "-q"])
    main(["resume", "x.journal", "-q", "--check-duplicate", "--on-unknown", "resend"])
    capsys.readouterr()
    rows = held["rows"]
    assert isinstance(rows, dict)
    assert begins == [rows["accepted"] + rows["unknown"], 3_000 - rows["unknown"]]
