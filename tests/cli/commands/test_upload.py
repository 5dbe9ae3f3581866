"""``ozonetel upload``: files in, exit codes and reports out, also when interrupted or killed."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from ozonetel_async import Limits, OzonetelClient, RateLimit
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.cli.commands.upload import resume_command
from ozonetel_async.cli.main import main, make_parser
from ozonetel_async.cli.screen import Exit
from ozonetel_async.journal.journal import Journal
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.testing import Fault, Simulator

from ..conftest import (
    HALTING,
    KEY,
    SIMULATED,
    UPLOAD,
    Output,
    account,
    doubled,
    leads_file,
    process,
    result,
    shown,
    status,
    wait_until,
)


def test_upload_to_a_simulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = leads_file(tmp_path / "leads.csv", 1_200)
    assert main(["upload", file, "-c", "Winter", "--simulate", "--limit", "5/0.2", "-q"]) == Exit.OK
    shown = capsys.readouterr()
    assert re.search(r"rows read +1,200\n", shown.out)
    assert re.search(r"in the simulator +1,200 leads", shown.out)
    assert shown.err == ""


def test_rows_that_were_not_accepted_have_their_own_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = leads_file(tmp_path / "leads.csv", 3, *(f"bad-{number},Asha" for number in range(7)))
    rejects = tmp_path / "rejects.csv"
    command = ["upload", file, "-c", "Winter", "--simulate", "--auth", "token", "-q"]
    assert main([*command, "--rejects", str(rejects)]) == Exit.NOT_ALL
    shown = capsys.readouterr().out
    assert re.search(r"invalid: 7 x PhoneNumber: .*; first in row 4 \(line 5\)", shown)
    assert "7 invalid rows not sent; all of them are in" in shown
    assert len(rejects.read_text().splitlines()) == 8


def test_a_file_with_nothing_but_a_header_is_not_all_of_it(tmp_path: Path, capsys: Output) -> None:
    leads_file(tmp_path / "leads.csv", 0)
    assert main(["upload", "leads.csv", "-c", "Winter", "--simulate", "-q", "--json"]) == Exit.NOT_ALL
    told = result(capsys)
    assert (told["rows_read"], told["error"]) == (0, None)


def test_rejects_keep_the_mode_of_their_file_and_a_new_one_is_its_owners_alone(tmp_path: Path) -> None:
    leads_file(tmp_path / "leads.csv", 1, "bad,Asha")
    for name, mode in (("old.csv", 0o640), ("new.csv", None)):
        path = tmp_path / name
        if mode is not None:
            path.touch()
            path.chmod(mode)
        command = ["upload", "leads.csv", "-c", "Winter", "--simulate", "-q", "--rejects", name]
        assert main(command) == Exit.NOT_ALL
        assert "bad" in path.read_text()
        assert path.stat().st_mode & 0o777 == (0o600 if mode is None else mode)


def test_headers_are_renamed_and_left_out(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in account(simulator).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "leads.csv"
    file.write_text("Mobile;Note;City\n9812345678;x;Pune\n", encoding="utf-16")
    command = ["upload", str(file), "-c", "Diwali", "--encoding", "utf-16", "-q"]
    assert main([*command, "--column", "Mobile=PhoneNumber", "--column", "Note=", "--check-duplicate"]) == Exit.OK
    (request,) = simulator.requests("bulk")
    assert json.loads(str(request.params["bulkData"])) == {
        "map": ["PhoneNumber", "City"],
        "data": [["9812345678", "Pune"]],
    }
    assert request.params["checkDuplicate"] == "true"


def test_upload_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = leads_file(tmp_path / "leads.csv", 3, "12,x")
    assert main(["upload", file, "-c", "Winter", "--simulate", "-q", "--json"]) == Exit.NOT_ALL
    result = json.loads(capsys.readouterr().out)
    assert (result["rows_read"], result["rows_accepted"], result["rows_invalid"]) == (4, 3, 1)
    assert result["batches"][0]["outcome"] == "accepted"
    assert (result["error"], result["exit_code"]) == (None, 1)


def test_a_service_that_refuses_everything_stops_the_upload(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**account(simulator), "OZONETEL_API_KEY": KEY}.items():
        monkeypatch.setenv(name, value)
    file = leads_file(tmp_path / "leads.csv", 10)
    assert main(["upload", file, "-c", "Diwali"]) == Exit.STOPPED
    shown = capsys.readouterr()
    assert re.search(r"stopped early by +AuthenticationError", shown.out)
    assert "rows 1 to 10: refused: AuthenticationError" in shown.out
    assert KEY not in shown.out + shown.err
    assert "+91120000" not in shown.out + shown.err


def test_unknown_outcomes_are_shown(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in account(simulator).items():
        monkeypatch.setenv(name, value)
    simulator.inject("bulk", Fault.html())
    file = leads_file(tmp_path / "leads.csv", 10)
    assert main(["upload", file, "-c", "Diwali", "-q"]) == Exit.NOT_ALL
    assert "rows 1 to 10: unknown: OutcomeUnknownError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "code"),
    [pytest.param(1_200, Exit.STOPPED, id="after requests"), pytest.param(0, Exit.USAGE, id="before any request")],
)
def test_a_file_that_breaks_off(rows: int, code: Exit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = leads_file(tmp_path / "leads.csv", rows, '9812345678,"Asha"x')
    assert main(["upload", file, "-c", "Winter", "--simulate", "-q"]) == code
    shown = capsys.readouterr()
    assert f"line {rows + 2}" in shown.err
    assert ("rows read" in shown.out) is (code == Exit.STOPPED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_upload_reports_what_was_sent(number: signal.Signals, tmp_path: Path) -> None:
    file = leads_file(tmp_path / "leads.csv", 3_000)
    with (
        Simulator.in_thread(limits={"bulk": 2}) as simulator,
        process("upload", file, "-c", "Diwali", "--limit", "2/60", "--json", env=account(simulator)) as running,
    ):
        wait_until(lambda: simulator.writes_applied("bulk") == 2 and not simulator.in_flight)
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    assert "interrupted" in err
    assert "Traceback" not in err
    result = json.loads(out)
    assert result["rows_accepted"] + result["rows_unknown"] == 1_000
    assert result["rows_read"] == 1_000 + result["rows_not_sent"]
    assert result["rows_in_flight"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_upload_tells_how_to_resume(
    number: signal.Signals, leads: str, simulator: Simulator, capsys: Output
) -> None:
    with process(*HALTING, "--timezone", "Asia/Kolkata", "--json") as running:
        wait_until(lambda: simulator.writes_applied("bulk") == 2 and not simulator.in_flight)
        wait_until(lambda: status(capsys)["batches"] == dict.fromkeys(("sent", "refused", "unknown"), 0) | ACCEPTED_2)
        assert main([*UPLOAD, "-q"]) == Exit.USAGE
        assert "in use by another process" in shown(capsys)[1]
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    assert "interrupted" in err
    assert "Traceback" not in err
    told = json.loads(out)
    assert (told["rows_accepted"], told["rows_unknown"], told["exit_code"]) == (1_000, 0, 130)
    assert told["rows_read"] == 1_000 + told["rows_not_sent"]
    assert told["resume"] == "ozonetel resume x.journal --limit 2/600"
    assert main([*shlex.split(told["resume"])[1:], "--limit", "50/1", "--json", "-q"]) == Exit.OK
    resumed = result(capsys)
    assert (resumed["rows_read"], resumed["rows_accepted"], resumed["requests"]) == (3_000, 3_000, 4)
    assert simulator.rows_applied("bulk") == 3_000
    assert doubled(simulator) == 0


ACCEPTED_2 = {"accepted": 2, "pending": 2}


def test_what_is_on_its_way_is_finished_at_the_first_signal_and_left_at_the_second(
    leads: str, simulator: Simulator, capsys: Output
) -> None:
    simulator.inject("bulk", Fault.stall_after_apply())
    with process(*HALTING, "--json", "-q") as running:
        # One answer has come, and the other never does.
        wait_until(lambda: simulator.writes_applied("bulk") == 2)
        wait_until(lambda: status(capsys)["rows_unanswered"] == 500)
        (batch,) = cast("list[dict[str, object]]", status(capsys)["unanswered"])
        assert (batch["state"], batch["rows"]) == ("sent", 500)
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        assert "waiting for requests under way" in running.stderr.readline()
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    told = json.loads(out)
    assert (told["rows_accepted"], told["rows_unknown"]) == (500, 500)


def test_a_slow_answer_is_waited_for(leads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator.in_thread(limits={"bulk": 0}, latency=(0.3, 0.3)) as simulator:
        for name, value in account(simulator).items():
            monkeypatch.setenv(name, value)
        with process(*HALTING, "--json", "-q") as running:
            wait_until(lambda: simulator.in_flight == 2)
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=30)
        assert running.returncode == Exit.INTERRUPTED
        told = json.loads(out)
        assert (told["rows_accepted"], told["rows_unknown"]) == (1_000, 0)
        assert simulator.rows_applied("bulk") == 1_000


def test_after_kill_9_nothing_is_lost_or_doubled(leads: str, simulator: Simulator, capsys: Output) -> None:
    with process(*HALTING) as running:
        wait_until(lambda: simulator.writes_applied("bulk") == 2)
        running.kill()
        running.communicate(timeout=30)
    # Whether the answers were written down in time is chance.
    assert main(["resume", "x.journal", "--on-unknown", "resend", "--limit", "50/1", "--json", "-q"]) == Exit.OK
    resumed = result(capsys)
    assert (resumed["rows_read"], resumed["rows_accepted"], resumed["rows_unknown"]) == (3_000, 3_000, 0)
    wait_until(lambda: not simulator.busy)
    assert len(simulator.campaigns["Diwali"].numbers) == 2_900
    assert doubled(simulator) == 0


def test_the_same_command_again_sends_nothing_again(leads: str, simulator: Simulator, capsys: Output) -> None:
    for requests in (6, 0):
        assert main([*UPLOAD, "--limit", "50/1", "--json", "-q"]) == Exit.OK
        assert result(capsys)["requests"] == requests
    assert len(simulator.requests("bulk")) == 6


def test_waiting_for_callbacks_can_be_interrupted(leads: str, simulator: Simulator, capsys: Output) -> None:
    simulator.inject("bulk", Fault.lost_callback(), times=None)
    callbacks = ("--callback-url", "http://127.0.0.1:9/", "--callback-timeout", "600")
    with process(*UPLOAD, "--limit", "50/1", *callbacks, "--json") as running:
        wait_until(lambda: simulator.writes_applied("bulk") == 6)
        wait_until(lambda: status(capsys)["callbacks"] == {"settled": 0, "waiting": 6, "overdue": 0})
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    told = json.loads(out)
    assert (told["rows_accepted"], told["batches_overdue"]) == (3_000, 6)
    assert told["resume"] == "ozonetel resume x.journal --callback-timeout 600 --limit 50/1"
    assert main(["resume", "x.journal", "--callback-timeout", "0.01", "--json", "-q"]) == Exit.STOPPED
    out, err = shown(capsys)
    told = json.loads(out)
    assert (told["requests"], told["error"]) == (0, "6 awaited callbacks did not come")
    assert told["resume"] == "ozonetel resume x.journal --callback-timeout 0.01"
    assert err == "ozonetel: 6 awaited callbacks did not come\n"
    assert status(capsys)["callbacks"] == {"settled": 0, "waiting": 0, "overdue": 6}


def test_a_resume_repeats_what_the_journal_does_not_hold() -> None:
    given = "--on-unknown resend --auth token --limit 3/1.5 --rejects 're jects.csv' --listen 127.0.0.1:80"
    args = make_parser().parse_args(shlex.split(f"upload a.csv -c x --journal 'my j' --link-host a.example {given}"))
    words = shlex.split(resume_command(args, ["--file", "b"]) or "")
    assert words[:5] == ["ozonetel", "resume", "my j", "--file", "b"]
    again = make_parser().parse_args(words[1:])
    for name in ("on_unknown", "auth", "limit", "rejects", "listen", "link_host", "timezone", "simulate"):
        assert getattr(again, name) == getattr(args, name)
    args = make_parser().parse_args(["upload", "a.csv", "-c", "x", "--journal", "j"])
    assert resume_command(args) == "ozonetel resume j"
    args = make_parser().parse_args(["upload", "a.csv", "-c", "x"])
    assert resume_command(args) is None


def test_a_simulated_upload_is_called_back(leads: str, tmp_path: Path, capsys: Output) -> None:
    assert main([*SIMULATED, "-q", "--json"]) == Exit.NOT_ALL
    told = result(capsys)
    assert (told["rows_accepted"], told["rows_added"], told["rows_not_added"]) == (3_000, 2_900, 100)
    assert (told["batches_settled"], told["batches_overdue"]) == (6, 0)
    # The simulator is gone; its lists have been fetched before.
    assert main(["failed-rows", "x.journal", "--out", "failed.csv", "--json"]) == Exit.OK
    assert result(capsys)["lists"] == {"none": 5, "done": 1}
    with open(tmp_path / "failed.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rejected_row"]) for row in rows] == list(range(2_901, 3_001))
    assert rows[7] == {
        "PhoneNumber": "+911200000007",
        "Name": "Asha",
        "rejected_row": "2908",
        "rejected_line": "2909",
        "rejected_column": "",
        "rejected_reason": "Number Already Exist",
        "rejected_match": "exact",
        "rejected_number": "+911200000007",
    }
    assert main(["resume", "x.journal", "--simulate", "-q", "--json"]) == Exit.NOT_ALL
    assert result(capsys)["requests"] == 0


def test_callbacks_that_do_not_come(leads: str, simulator: Simulator, capsys: Output) -> None:
    simulator.inject("bulk", Fault.lost_callback(), times=None)
    waiting = ("--callback-url", "http://127.0.0.1:9/x", "--callback-timeout", "0.05", "--listen", "127.0.0.1:0")
    assert main([*UPLOAD, "--limit", "50/1", "-q", *waiting]) == Exit.STOPPED
    # The public URL, and not the local address behind it.
    urls = {str(request.params["callBackUrl"]) for request in simulator.requests("bulk")}
    assert len(urls) == 6
    assert all(url.startswith("http://127.0.0.1:9/x/ozcb_") for url in urls)
    assert re.search(r"callbacks +0 came, 6 did not yet", shown(capsys)[0])
    assert main(["failed-rows", "x.journal", "--out", "failed.csv"]) == Exit.NOT_ALL
    assert "6 batches without a callback yet" in shown(capsys)[1]
    assert main(["status", "x.journal"]) == Exit.OK
    assert re.search(r"callbacks +0 settled, 0 waiting, 6 overdue", shown(capsys)[0])


async def settle_all(result: Callable[[str, int], JobResult]) -> None:
    """Deliver a callback for every batch of the journal: made from its id and its rows."""
    journal = await Journal.attach("x.journal")
    for batch in await journal.batches():
        token = await journal.callback_token(batch.index)
        assert await journal.deliver(token, result(str(batch.transaction_id), batch.rows))
    await journal.close()


MESSAGE = "File Failed to Upload."


BAD_CALLBACKS: dict[str, tuple[Callable[[str, int], JobResult], tuple[int, int, int, int], str]] = {
    "failed": (
        lambda id_, rows: JobResult(id_, False, message=f"{MESSAGE} 919812345678"),
        (0, 700, 0, 2),
        f"rows 501 to 700: the callback said: Fail: {MESSAGE} […678]",
    ),
    "no counts": (lambda id_, rows: JobResult(id_, True), (0, 0, 700, 0), "Success: no message; uploaded ?"),
    "six": (lambda id_, rows: JobResult(id_, True, 6, 2, 0), (0, 0, 700, 0), "uploaded 6, processed 2"),
    "huge": (lambda id_, rows: JobResult(id_, True, 1, 999_999_999, 0), (0, 0, 700, 0), "processed 999,999,999"),
    "half": (
        lambda id_, rows: JobResult(id_, True, rows, rows if rows == 500 else 1, 0),
        (500, 0, 200, 0),
        "uploaded 200, processed 1",
    ),
}


@pytest.mark.parametrize("kind", BAD_CALLBACKS)
def test_a_failed_job_or_counts_that_do_not_add_up_are_no_success(
    kind: str, simulator: Simulator, tmp_path: Path, capsys: Output
) -> None:
    make, expected, said = BAD_CALLBACKS[kind]
    leads_file(tmp_path / "leads.csv", 700)
    simulator.inject("bulk", Fault.lost_callback(), times=None)
    assert main([*UPLOAD, "--limit", "50/1", "-q", "--callback-url", "http://127.0.0.1:9/x"]) == Exit.OK
    wait_until(lambda: not simulator.busy)
    asyncio.run(settle_all(make))
    capsys.readouterr()
    resume = ["resume", "x.journal", "--callback-timeout", "2", "-q"]
    failed = ["failed-rows", "x.journal", "--out", "failed.csv"]
    for command, code in ((resume, Exit.NOT_ALL), (failed, Exit.NOT_ALL), (["status", "x.journal"], Exit.OK)):
        assert main(command) == code
        assert said in "".join(shown(capsys))
        assert main([*command, "--json"]) == code
        told = result(capsys)
        assert (told["rows_not_added"], told["rows_unreported"], told["batches_failed"]) == expected[1:]
        if command is failed:
            continue
        assert told["rows_added"] == expected[0]
        assert said.rpartition("said: ")[2] in json.dumps(told, ensure_ascii=False)


def test_a_start_that_fails_leaves_no_lock_behind(leads: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "notes.txt").write_text("no journal\n" * 1_000)
    before = {path.name for path in tmp_path.iterdir()}
    for name in ("notes.txt", leads):
        assert main(["upload", leads, "-c", "x", "--simulate", "--journal", name, "-q"]) == Exit.USAGE
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_journal_is_not_overwritten(leads: str, simulator: Simulator, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "x.journal")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "leads.csv")
    assert main([*UPLOAD, "--limit", "50/1", "-q"]) == Exit.OK
    before = (tmp_path / "x.journal").read_bytes()
    for command in (
        [*UPLOAD, "--rejects", "./x.journal"],
        ["resume", "x.journal", "--rejects", "link.csv"],
        ["resume", "x.journal", "--rejects", "leads.csv"],
        ["failed-rows", "x.journal", "--out", "link.csv"],
        ["failed-rows", "x.journal", "--out", "leads.csv"],
        ["failed-rows", "x.journal", "--out", "hard.csv"],
    ):
        assert main(command) == Exit.USAGE
    assert shown(capsys)[1].count("would be overwritten") == 6
    assert (tmp_path / "x.journal").read_bytes() == before
    assert len((tmp_path / "leads.csv").read_text().splitlines()) == 3_001


async def test_the_library_continues_what_the_command_began(half_done: Simulator) -> None:
    limits = Limits(bulk=RateLimit(50, 1.0))
    async with OzonetelClient(limits=limits) as client:
        report = await client.upload("Diwali", read_csv("leads.csv"), journal="x.journal")
    assert report.rows_read == 3_000
    assert report.requests == 0
