"""The commands around a journal, and those that wait for callbacks: interrupted, killed, resumed, tried out."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import shlex
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from ozonetel_async import Limits, OzonetelClient, RateLimit, ScheduleReport, ScheduleResult, UploadReport
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import new_token
from ozonetel_async.cli.commands.schedule import TakenRows
from ozonetel_async.cli.commands.upload_job import resume_command
from ozonetel_async.cli.listen import Address, JournalSink, address
from ozonetel_async.cli.main import COMMANDS, main, make_parser
from ozonetel_async.cli.progress import Watcher
from ozonetel_async.cli.screen import Exit, Meter, OutputError, Progress, Screen
from ozonetel_async.errors import JournalError
from ozonetel_async.journal.journal import Header, Journal
from ozonetel_async.rows.batches import Batch
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.testing import Fault, Simulator

from .test_main import KEY, Queue, account, leads_file, process, serving, wait_until

Output = pytest.CaptureFixture[str]
PHONE = re.compile(r"(?<!\d)\d{12}(?!\d)")
"""A whole number as in these files; transaction ids are longer."""


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "USERNAME", "BASE_URL", "DIALER_URL"):
        monkeypatch.delenv(f"OZONETEL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator without limits, its account in the environment."""
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def leads(tmp_path: Path) -> str:
    """3,000 rows: six batches, the first hundred numbers once more at the end."""
    again = [f"+91120000{number:04},Asha" for number in range(100)]
    leads_file(tmp_path / "leads.csv", 2_900, *again)
    return "leads.csv"


def shown(capsys: Output) -> tuple[str, str]:
    """What a command printed, which never holds a whole number or the key."""
    out, err = capsys.readouterr()
    assert not PHONE.search(out + err)
    assert KEY not in out + err
    assert "Traceback" not in err
    return out, err


def result(capsys: Output) -> dict[str, object]:
    value: dict[str, object] = json.loads(shown(capsys)[0])
    return value


def status(capsys: Output, journal: str = "x.journal") -> dict[str, object]:
    assert main(["status", journal, "--json"]) == Exit.OK
    return result(capsys)


def doubled(simulator: Simulator, campaign: str = "Diwali") -> int:
    return sum(count > 1 for count in simulator.campaigns[campaign].numbers.values())


# -- interrupted and killed -----------------------------------------------------------------------------------------

UPLOAD = ("upload", "leads.csv", "-c", "Diwali", "--journal", "x.journal", "--check-duplicate")
# Two requests at once, and then none for longer than any test takes.
HALTING = (*UPLOAD, "--limit", "2/600")


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
        wait_until(lambda: status(capsys)["rows_in_doubt"] == 500)
        (doubt,) = cast("list[dict[str, object]]", status(capsys)["in_doubt"])
        assert (doubt["state"], doubt["rows"]) == ("sent", 500)
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        assert "finishing what is on its way" in running.stderr.readline()
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


# -- resume ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_done(leads: str, simulator: Simulator, capsys: Output) -> Simulator:
    """An upload without duplicate checks whose third batch is of unknown fate and whose later ones were not sent."""
    simulator.inject("bulk", Fault.html(), times=None, after=2)
    # One request at a time, so that the third is the one that fails.
    assert main([*UPLOAD[:-1], "--limit", "1/0.001", "-q", "--json"]) in (Exit.NOT_ALL, Exit.STOPPED)
    simulator.clear_faults()
    capsys.readouterr()
    return simulator


def test_resume_may_begin_to_check_for_duplicates(half_done: Simulator, capsys: Output) -> None:
    sent = len(half_done.requests("bulk"))
    assert main(["resume", "x.journal", "--on-unknown", "resend"]) == Exit.USAGE
    assert "check_duplicate" in shown(capsys)[1]
    assert len(half_done.requests("bulk")) == sent
    fast = ("--limit", "50/1", "--json", "-q")
    assert main(["resume", "x.journal", "--on-unknown", "resend", "--check-duplicate", *fast]) == Exit.OK
    assert result(capsys)["rows_unknown"] == 0
    again = half_done.requests("bulk")[sent:]
    assert len(again) == 4
    assert {request.params["checkDuplicate"] for request in again} == {"true"}
    wait_until(lambda: not half_done.busy)
    # The hundred repeats of the file were added by the first run, which checked nothing, and nothing by the second.
    assert half_done.campaigns["Diwali"].stored == 3_000


def test_resume_finds_a_file_that_has_moved_and_no_other(half_done: Simulator, tmp_path: Path, capsys: Output) -> None:
    sent = len(half_done.requests("bulk"))
    moved = (tmp_path / "leads.csv").rename(tmp_path / "moved.csv")
    assert main(["resume", "x.journal"]) == Exit.USAGE
    assert "cannot read" in shown(capsys)[1]
    other = leads_file(tmp_path / "other.csv", 3_000)
    Path(other).write_text(Path(other).read_text().replace("+911200000003,Asha", "+911200000003,Usha"))
    assert main(["resume", "x.journal", "--file", other]) == Exit.USAGE
    assert "the input has changed in rows 1 to 500" in shown(capsys)[1]
    assert len(half_done.requests("bulk")) == sent
    assert main(["resume", "x.journal", "--file", str(moved), "--json", "-q"]) == Exit.NOT_ALL
    assert result(capsys)["rows_unknown"] == status(capsys)["rows_in_doubt"] != 0


async def make_journal(path: str, *, host: str, source: dict[str, str] | None = None) -> str:
    """A journal with a batch that was sent; its callback token."""
    header = Header(
        campaign="Diwali",
        account=f"somebody at {host}",
        params={},
        columns=None,
        checked_at="2026-01-31T09:00:00+05:30",
        source=source,
    )
    journal = await Journal.open(path, header)
    await journal.plan(Batch(0, 1, 1, 1, 1, 0, b'{"map":["PhoneNumber"],"data":[["9812345678"]]}'), [])
    await journal.mark(0, "sent", callback=True)
    token = await journal.callback_token(0)
    await journal.close()
    return token


async def test_resume_sends_the_key_to_no_host_that_only_a_journal_names(leads: str) -> None:
    await make_journal("x.journal", host="https://elsewhere.example", source=read_csv(leads).source)
    for more, complaint in (((), "of another upload: its account"), (("--simulate",), "to the service itself")):
        done = subprocess_main("resume", "x.journal", *more, OZONETEL_API_KEY=KEY)
        assert done.returncode == Exit.USAGE
        assert complaint in done.stderr
        assert KEY not in done.stderr


async def test_resume_gives_columns_that_the_upload_was_given(leads: str, simulator: Simulator) -> None:
    async with OzonetelClient(limits=Limits(bulk=RateLimit(50, 1.0))) as client:
        await client.upload("Diwali", read_csv(leads), columns=("PhoneNumber", "skill"), journal="x.journal")
    done = subprocess_main("resume", "x.journal", "-q", "--json")
    assert done.returncode == Exit.OK
    assert json.loads(done.stdout)["requests"] == 0


async def test_resume_needs_a_file(leads: str) -> None:
    await make_journal("x.journal", host="https://in1-ccaas-api.ozonetel.com")
    done = subprocess_main("resume", "x.journal", OZONETEL_API_KEY=KEY)
    assert done.returncode == Exit.USAGE
    assert "run the program again that made the upload" in done.stderr


def subprocess_main(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """For tests that have a loop of their own."""
    with process(*arguments, env=env) as running:
        out, err = running.communicate(timeout=30)
    assert len(err.splitlines()) == (running.returncode != Exit.OK)
    return subprocess.CompletedProcess(arguments, running.returncode, out, err)


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


class Seen:
    def __init__(self) -> None:
        self.all: list[Progress] = []

    def show(self, progress: Progress) -> None:
        self.all.append(progress)


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


def test_a_resumed_upload_begins_where_the_earlier_one_ended(
    half_done: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    begins: list[int] = []

    class Watching(Watcher):
        async def watch(self, upload: Callable[..., object]) -> UploadReport:
            begins.append(self.progress().done)
            return await super().watch(upload)  # type: ignore[arg-type]

    monkeypatch.setattr("ozonetel_async.cli.commands.upload_job.Watcher", Watching)
    held = status(capsys)
    main(["resume", "x.journal", "-q"])
    main(["resume", "x.journal", "-q", "--check-duplicate", "--on-unknown", "resend"])
    capsys.readouterr()
    rows = held["rows"]
    assert isinstance(rows, dict)
    assert begins == [rows["accepted"] + rows["unknown"], 3_000 - rows["unknown"]]


# -- callbacks and failed rows --------------------------------------------------------------------------------------

SIMULATED = (*UPLOAD, "--simulate", "--limit", "50/0.2")


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
    assert [int(row["row"]) for row in rows] == list(range(2_901, 3_001))
    assert rows[7] == {
        "row": "2908",
        "reason": "Number Already Exist",
        "matched": "exact",
        "reported_number": "+911200000007",
        "PhoneNumber": "+911200000007",
        "Name": "Asha",
    }
    assert main(["resume", "x.journal", "--simulate", "-q", "--json"]) == Exit.NOT_ALL
    assert result(capsys)["requests"] == 0


def test_failed_rows_on_stdout_are_nothing_but_the_table(leads: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([*SIMULATED, "-q"]) == Exit.NOT_ALL
    capfdbinary.readouterr()
    assert main(["failed-rows", "x.journal", "--out", "-", "--no-fetch"]) == Exit.OK
    out, err = capfdbinary.readouterr()
    assert out.count(b"\n") == 101
    assert out.startswith(b"row,reason,matched,reported_number,PhoneNumber,Name\n2901,")
    assert err == b""
    assert main(["failed-rows", "x.journal", "--out", "-", "--json"]) == Exit.USAGE


def test_a_column_of_the_leads_keeps_its_name(tmp_path: Path, capsys: Output) -> None:
    lines = ["PhoneNumber,reason", "9812345678,x", "9812345678,y"]
    (tmp_path / "leads.csv").write_text("\n".join(lines))
    assert main([*SIMULATED, "-q"]) == Exit.NOT_ALL
    assert main(["failed-rows", "x.journal", "--out", "failed.csv"]) == Exit.OK
    header, row = (tmp_path / "failed.csv").read_text().splitlines()
    assert header == "row,_reason,matched,reported_number,PhoneNumber,reason"
    # Of two rows with one number, the second was skipped.
    assert row.startswith("2,")
    assert row.endswith(",9812345678,y")


@pytest.mark.parametrize("host", [None, "localhost"])
def test_another_process_takes_callbacks_in(
    host: str | None, leads: str, simulator: Simulator, tmp_path: Path, capsys: Output
) -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".", "--json") as receiving:
        assert receiving.stderr is not None
        found = re.search(r"http://\S+", receiving.stderr.readline())
        assert found is not None
        assert main([*UPLOAD, "--limit", "50/1", "-q", "--callback-url", f"{found[0]}/ozonetel"]) == Exit.OK
        wait_until(lambda: not simulator.busy)
        assert len({callback.url for callback in simulator.callbacks}) == 6
        receiving.send_signal(signal.SIGTERM)
        out, err = receiving.communicate(timeout=30)
    assert (receiving.returncode, err) == (Exit.OK, "")
    assert json.loads(out) == {"stored": 6, "turned_away": {}, "exit_code": 0}
    capsys.readouterr()
    known = status(capsys)
    assert (known["lists"], known["rows_added"], known["failed_rows"]) == ({"open": 6}, 2_900, 0)

    command = ["failed-rows", "x.journal", "--out", "failed.csv", "--json"]
    assert main([*command, "--no-fetch"]) == Exit.NOT_ALL
    assert result(capsys)["rows"] == 0
    code = main([*command, *(["--link-host", host] if host else [])])
    out, err = shown(capsys)
    told = json.loads(out)
    if host is None:
        # The documented host and no other.
        assert (code, told["rows"], told["lists"]) == (Exit.NOT_ALL, 0, {"none": 5, "refused": 1})
        assert "rows 2501 to 3000: list refused: the link to http://127.0.0.1" in err
        assert told["lists_failed"][0]["first_row"] == 2_501
        assert "X-Amz" not in out + err
    else:
        assert (code, told["rows"], told["lists"]) == (Exit.OK, 100, {"none": 5, "done": 1})


def test_a_receiver_tells_what_it_turns_away() -> None:
    token = new_token()
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".", "--json") as receiving:
        assert receiving.stderr is not None
        url = receiving.stderr.readline().split()[4]
        for path, code in ((token, 400), ("nothing", 404)):
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(f"{url}/{path}", b"9812345678901", timeout=30)
            raised.value.close()
            assert raised.value.code == code
        receiving.send_signal(signal.SIGINT)
        out, err = receiving.communicate(timeout=30)
    assert receiving.returncode == Exit.OK
    assert json.loads(out) == {"stored": 0, "turned_away": {"400": 1, "404": 1}, "exit_code": 0}
    assert err.startswith("ozonetel: a callback was refused: ")
    assert len(err.splitlines()) == 1
    assert token not in err
    assert "9812345678901" not in err


def test_lists_that_have_expired_are_missed(leads: str, simulator: Simulator, capsys: Output) -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".") as receiving:
        assert receiving.stderr is not None
        url = receiving.stderr.readline().split()[4]
        assert main([*UPLOAD, "--limit", "50/1", "-q", "--callback-url", url]) == Exit.OK
        wait_until(lambda: not simulator.busy)
    simulator.files.expire()
    capsys.readouterr()
    assert main(["failed-rows", "x.journal", "--out", "failed.csv", "--link-host", "localhost"]) == Exit.NOT_ALL
    out, err = shown(capsys)
    assert "0 of 100 that were not added" in out
    assert "1 lists were not fetched within the 24 hours" in err


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
    assert "6 batches have no callback yet" in shown(capsys)[1]
    assert main(["status", "x.journal"]) == Exit.OK
    assert re.search(r"callbacks +0 settled, 0 waiting, 6 overdue", shown(capsys)[0])


def test_status_shows_what_is_in_doubt(half_done: Simulator, capsys: Output) -> None:
    assert main(["status", "x.journal"]) == Exit.OK
    out, _ = shown(capsys)
    assert re.search(r"accepted +1,000 rows in 2 batches", out)
    assert re.search(r"rows taken +3,000 of about 3,000", out)
    assert "rows 1001 to 1500: unknown: OutcomeUnknownError" in out


def test_status_counts_invalid_rows(tmp_path: Path, capsys: Output) -> None:
    leads_file(tmp_path / "leads.csv", 3, "12,x", "9812345678,x")
    assert main([*SIMULATED, "-q"]) == Exit.NOT_ALL
    capsys.readouterr()
    known = status(capsys)
    assert (known["rows_taken"], known["rows_in_file"]) == (5, 5)
    assert known["rows"] == {"pending": 0, "sent": 0, "accepted": 4, "refused": 0, "unknown": 0, "invalid": 1}


async def settle_all(result: Callable[[str, int], JobResult]) -> None:
    """Deliver a callback for every batch of the journal: made from its id and its rows."""
    journal = await Journal.attach("x.journal")
    for batch in await journal.batches():
        token = await journal.callback_token(batch.index)
        assert await journal.deliver(token, result(str(batch.transaction_id), batch.rows))
    await journal.close()


MESSAGE = "File Failed to Upload."
BAD_VERDICTS: dict[str, tuple[Callable[[str, int], JobResult], tuple[int, int, int, int], str]] = {
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


@pytest.mark.parametrize("kind", BAD_VERDICTS)
def test_a_failed_job_or_counts_that_do_not_add_up_are_no_success(
    kind: str, simulator: Simulator, tmp_path: Path, capsys: Output
) -> None:
    make, expected, said = BAD_VERDICTS[kind]
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


async def test_a_sink_opens_its_journal_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JournalSink("x.journal")
    with pytest.raises(JournalError, match="no such file"):
        await sink.deliver(new_token(), JobResult("1", True))
    token = await make_journal("x.journal", host="https://elsewhere.example")
    results = await asyncio.gather(*(sink.deliver(one, JobResult("1", True)) for one in (token, token, "another")))
    assert results == [True, True, False]
    assert sum(thread.name.startswith("journal x.journal") for thread in threading.enumerate()) == 1
    await sink.aclose()
    assert not any(thread.name.startswith("journal x.journal") for thread in threading.enumerate())


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


# -- schedule -------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path: Path) -> str:
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    rows = [f"91120000{number:04},Asha,{soon}" for number in range(250)]
    (tmp_path / "calls.csv").write_text("\n".join(["PhoneNumber,Name,ScheduledTime", *rows, f"12,x,{soon}"]) + "\n")
    return "calls.csv"


def test_schedule_tells_of_every_row(calls: str, simulator: Simulator, tmp_path: Path, capsys: Output) -> None:
    assert main(["schedule", calls, "-c", "Diwali", "--out", "results.csv"]) == Exit.NOT_ALL
    out, _ = shown(capsys)
    assert re.search(r"accepted +250$", out, re.MULTILINE)
    assert "row 251: invalid: PhoneNumber: 2 characters" in out
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert (len(lines), lines[0], lines[250][:13]) == (252, "row,outcome,message", "250,accepted,")
    assert lines[251].startswith("251,invalid,")
    assert simulator.rows_applied("schedule") == 250


def test_schedule_as_json(calls: str, capsys: Output) -> None:
    command = ["schedule", calls, "-c", "Winter", "--simulate", "--json", "-q"]
    assert main(command) == Exit.NOT_ALL
    told = result(capsys)
    assert (told["rows"], told["accepted"], told["invalid"], told["error"]) == (251, 250, 1, None)
    assert main([*command, "--out", "-"]) == Exit.USAGE


def test_what_the_service_says_of_a_row_shows_no_number(
    calls: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    async def schedule_leads(*_: object, **__: object) -> ScheduleReport:
        return ScheduleReport((ScheduleResult(1, "refused", "919812345678 is on a list"),))

    monkeypatch.setattr(OzonetelClient, "schedule_leads", schedule_leads)
    for more in ((), ("--json",)):
        assert main(["schedule", calls, "-c", "Winter", "--simulate", "-q", *more]) == Exit.NOT_ALL
        assert "[…678] is on a list" in shown(capsys)[0]


def test_a_file_of_calls_that_breaks_off(calls: str, simulator: Simulator, tmp_path: Path, capsys: Output) -> None:
    with open(tmp_path / calls, "a") as file:
        file.write('9812345678,"Asha"x')
    assert main(["schedule", calls, "-c", "Diwali", "-q", "--out", "-"]) == Exit.STOPPED
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 252
    assert "line 253" in err
    (tmp_path / calls).write_text('PhoneNumber,ScheduledTime\n9812345678,"x"x\n')
    assert main(["schedule", calls, "-c", "Diwali", "-q"]) == Exit.USAGE


def test_scheduling_takes_no_more_rows_once_stopped(calls: str) -> None:
    stopped = [False, False, True]
    taken = TakenRows(read_csv(calls), lambda: stopped.pop(0))
    assert len(list(taken)) == taken.count == 2
    assert taken.error == "interrupted"


def test_an_interrupted_schedule_takes_no_more_rows(
    calls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = (tmp_path / calls).read_text().splitlines()[1]
    (tmp_path / calls).write_text("\n".join(["PhoneNumber,Name,ScheduledTime", *[row] * 20_000]))
    with Simulator.in_thread(limits={"schedule": 0}, latency=(0.3, 0.3)) as simulator:
        for name, value in account(simulator).items():
            monkeypatch.setenv(name, value)
        with process("schedule", calls, "-c", "Diwali", "--json", "--limit", "100/1") as running:
            wait_until(lambda: simulator.in_flight == 4)
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=30)
        assert running.returncode == Exit.INTERRUPTED
        told = json.loads(out)
        assert told["error"] == "interrupted"
        assert told["accepted"] == told["rows"] == simulator.rows_applied("schedule") < 20_000


@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_a_schedule_that_is_interrupted_twice_tells_what_was_answered(
    form: str, calls: str, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.inject("schedule", Fault.stall_after_apply(), times=2)
    with process("schedule", calls, "-c", "Diwali", "--out", "results.csv", form) as running:
        wait_until(lambda: simulator.rows_applied("schedule") == 250 and simulator.in_flight == 2)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert "finishing the rows that were taken" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        outcomes = [(row["outcome"], row["message"]) for row in csv.DictReader(file)]
    assert len(outcomes) == 251
    unknown = outcomes.count(("unknown", "cancelled"))
    assert unknown in (150, 200)
    assert sum(outcome == "accepted" for outcome, _ in outcomes) == 250 - unknown
    assert outcomes[250][0] == "invalid"
    if form == "--json":
        told = json.loads(out)
        assert (told["rows"], told["accepted"], told["unknown"], told["invalid"]) == (251, 250 - unknown, unknown, 1)
        assert (told["error"], told["exit_code"]) == ("interrupted", 130)
    else:
        assert re.search(rf"unknown +{unknown}$", out, re.MULTILINE)


def test_rows_that_were_taken_and_not_sent_are_told_so(calls: str) -> None:
    taken = TakenRows(read_csv(calls), lambda: False)
    rows = iter(taken)
    for _ in range(3):
        next(rows)
    taken.results.append(ScheduleResult(2, "unknown", "cancelled"))
    assert [(told.row, told.outcome) for told in taken.report().results] == [
        (1, "not_sent"),
        (2, "unknown"),
        (3, "not_sent"),
    ]


# -- dial status ----------------------------------------------------------------------------------------------------

EXPORT = ("dial-status", "-c", "Winter", "--simulate", "--out", "export")


def simulate_with(monkeypatch: pytest.MonkeyPatch, *faults: Fault, **options: object) -> None:
    def make(**others: object) -> Simulator:
        simulator = Simulator(**{**others, **options})  # type: ignore[arg-type]
        for fault in faults:
            simulator.inject("dial_status", fault)
        return simulator

    monkeypatch.setattr("ozonetel_async.testing.Simulator", make)


def test_an_export_is_saved(tmp_path: Path, capsys: Output) -> None:
    assert main([*EXPORT, "--json"]) == Exit.OK
    told = result(capsys)
    content = (tmp_path / "export").read_bytes()
    assert (told["kind"], told["bytes"], told["out"]) == ("file", len(content), "export")
    assert content.splitlines()[1].startswith(b"+911200000000,Made up,Pending")
    assert main([*EXPORT[:-1], "-", "-q"]) == Exit.OK
    assert capsys.readouterr().out.count("Made up") == 3


def test_an_export_without_a_link_is_saved_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    simulate_with(monkeypatch, export_result="inline")
    assert main([*EXPORT, "-q"]) == Exit.OK
    shown(capsys)
    fields = json.loads((tmp_path / "export").read_bytes())
    assert "Made up" in fields["data"]


@pytest.mark.parametrize(
    ("fault", "options", "code", "complaint"),
    [
        (Fault.lost_callback(), {}, Exit.STOPPED, "no callback came within 0.05 s"),
        (None, {"failed_link_life": 0.0}, Exit.NOT_ALL, "expired: the link has expired"),
        (
            Fault.hostile_callback('{"data":{"status":"failed","message":"no data"}}'),
            {},
            Exit.NOT_ALL,
            "could not make the export",
        ),
    ],
)
def test_an_export_that_cannot_be_had(
    fault: Fault | None,
    options: dict[str, object],
    code: Exit,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    simulate_with(monkeypatch, *([fault] if fault else []), **options)
    patience = "0.05" if code == Exit.STOPPED else "20"
    assert main([*EXPORT, "-q", "--json", "--timeout", patience]) == code
    out, err = shown(capsys)
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert json.loads(out)["exit_code"] == code
    assert not list(tmp_path.glob("export*"))


def test_a_refused_export_is_no_mistake_of_usage(simulator: Simulator, capsys: Output) -> None:
    base = ("--callback-url", "http://127.0.0.1:9/", "--listen", "127.0.0.1:0")
    assert main(["dial-status", "-c", "Nowhere", "--out", "export", "-q", *base]) == Exit.STOPPED
    assert "error: " in shown(capsys)[1]
    assert main(["dial-status", "-c", "Diwali", "--out", "export", "--since", "yesterday", *base]) == Exit.USAGE
    assert "since" in shown(capsys)[1]


# -- usage and output -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["upload", "leads.csv", "-c", "x", "--callback-timeout", "1"], "need --journal"),
        (["upload", "leads.csv", "-c", "x", "--simulate", "--listen", "127.0.0.1:0"], "need --journal"),
        (["upload", "leads.csv", "-c", "x", "--journal", "j", "--listen", "127.0.0.1:0"], "need --callback-url"),
        (["upload", "leads.csv", "-c", "x", "--simulate", "--journal", "leads.csv"], "not a journal"),
        (["upload", "leads.csv", "-c", "x", "--simulate", "--journal", "no/j"], "folder must exist"),
        (["upload", "leads.csv", "-c", "x", "--simulate", "--link-host", "10.0.0.1"], "--link-host: "),
        (["resume", "none.journal"], "there is no such file"),
        (["status", "none.journal"], "there is no such file"),
        (["status", "leads.csv"], "not a journal"),
        (["failed-rows", "none.journal", "--out", "x"], "there is no such file"),
        (["receive", "--listen", "127.0.0.1:0", "--journals", "none"], "expected an existing folder"),
        (["schedule", "leads.csv", "-c", "x", "--simulate", "--out", "leads.csv"], "overwritten"),
        (["dial-status", "-c", "x", "--out", "x"], "--callback-url and --listen"),
        (["dial-status", "-c", "x", "--simulate", "--out", "no/x"], "cannot write no/x"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], complaint: str, leads: str, capsys: Output) -> None:
    more = () if "--out" in arguments and arguments[0] == "failed-rows" else ("--json",)
    quiet = () if arguments[0] == "status" or arguments[0] == "failed-rows" else ("-q",)
    assert main([*arguments, *more, *quiet]) == Exit.USAGE
    out, err = shown(capsys)
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not out or json.loads(out)["exit_code"] == 2


def test_a_port_that_is_taken(leads: str, simulator: Simulator, capsys: Output) -> None:
    where = ("--listen", simulator.base_url.rpartition("/")[2])
    assert main(["receive", "--journals", ".", *where]) == Exit.USAGE
    assert main([*UPLOAD, "--callback-url", "http://127.0.0.1:9/", *where]) == Exit.USAGE
    assert shown(capsys)[1].count("cannot listen on 127.0.0.1") == 2
    assert not simulator.requests("bulk")


@pytest.mark.parametrize("text", ["", "8080", ":8080", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "a b:80"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["receive", "--journals", ".", "--listen", text])
    assert raised.value.code == Exit.USAGE


def test_addresses() -> None:
    assert address("example.com:0") == Address("example.com", 0)
    assert address("[::1]:8080") == Address("::1", 8080)
    assert str(address("[::1]:8080")) == "[::1]:8080"


JSON_OF = {
    "upload": [*SIMULATED],
    "resume": ["resume", "x.journal", "--simulate"],
    "status": ["status", "x.journal"],
    "failed-rows": ["failed-rows", "x.journal", "--out", "failed.csv"],
    "schedule": ["schedule", "calls.csv", "-c", "x", "--simulate"],
    "dial-status": [*EXPORT],
    "demo": ["demo", "--rows", "10", "--window", "0.1"],
}


def test_the_keys_of_json_are_those_that_help_tells(leads: str, calls: str, capsys: Output) -> None:
    # receive has a test of its own, and simulate prints no result.
    assert JSON_OF.keys() | {"receive", "simulate"} == {command.name for command in COMMANDS}
    for command in COMMANDS:
        if command.name in JSON_OF:
            main([*JSON_OF[command.name], "--json"])
            out, _ = capsys.readouterr()
            assert json.loads(out).keys() == {*command.keys, "exit_code"}
        with pytest.raises(SystemExit):
            main([command.name, "--help"])
        help_ = capsys.readouterr().out
        assert all(f"  {key} " in help_ for key in command.keys)
        assert f"\n{command.summary[0].upper()}{command.summary[1:]}.\n" in help_


def test_a_result_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    screen = Screen(io.StringIO(), io.StringIO())

    def break_off(name: str) -> None:
        with screen.file(name) as out, out.writing() as file:
            file.write(b"half")
            raise OSError(28, "disk")

    def leave_off(name: str) -> None:
        with screen.file(name):
            raise LookupError

    (tmp_path / "kept").write_bytes(b"before")
    for name in ("kept", "new"):
        with pytest.raises(OutputError, match=rf"cannot write {name}: disk"):
            break_off(name)
        with pytest.raises(LookupError):
            leave_off(name)
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    (tmp_path / "link").symlink_to("kept")
    with screen.file("link") as out, out.writing() as file:
        file.write(b"through")
    assert (tmp_path / "kept").read_bytes() == b"through"
    assert (tmp_path / "link").is_symlink()
    with screen.file("/dev/null") as out, out.writing() as file:
        file.write(b"x")
    assert Path("/dev/null").is_char_device()


async def test_the_library_continues_what_the_command_began(half_done: Simulator) -> None:
    limits = Limits(bulk=RateLimit(50, 1.0))
    async with OzonetelClient(limits=limits) as client:
        report = await client.upload("Diwali", read_csv("leads.csv"), journal="x.journal")
    assert report.rows_read == 3_000
    assert report.requests == 0
