"""The command line: what it prints, where it prints it, and what its exit codes say."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from math import gcd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async import Lead, OzonetelClient
from ozonetel_async.cli.commands.demo_leads import FLAWS, phone_number, write_leads
from ozonetel_async.cli.commands.simulate import latency
from ozonetel_async.cli.main import COMMANDS, main
from ozonetel_async.cli.progress import count_rows, seconds_left
from ozonetel_async.cli.screen import Exit, Progress, Screen, duration
from ozonetel_async.config import RateLimit
from ozonetel_async.testing import Campaign, Fault, Simulator, StoredLead

KEY = "canary-key-8c1f"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "USERNAME", "BASE_URL", "DIALER_URL"):
        monkeypatch.delenv(f"OZONETEL_{name}", raising=False)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator.in_thread(window=0.2) as running:
        yield running


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator without limits, its account in the environment."""
    with Simulator.in_thread(limits={"bulk": 0, "dial_status": 0, "schedule": 0}) as running:
        for name, value in {**account(running), "OZONETEL_DIALER_URL": running.dialer_url}.items():
            monkeypatch.setenv(name, value)
        yield running


def account(simulator: Simulator) -> dict[str, str]:
    return {
        "OZONETEL_API_KEY": simulator.api_key,
        "OZONETEL_USERNAME": simulator.username,
        "OZONETEL_BASE_URL": simulator.base_url,
    }


def leads_file(path: Path, rows: int, *bad: str) -> str:
    lines = ["PhoneNumber,Name", *(f"+91120000{number:04},Asha" for number in range(rows)), *bad]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


# -- demo -----------------------------------------------------------------------------------------------------------


def test_the_demo_accounts_for_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rows", "3000", "--window", "0.3", "-q"]) == Exit.OK
    shown = capsys.readouterr()
    assert "Every row is accounted for." in shown.out
    assert shown.out.count("holds:") == 6
    assert "FAILS" not in shown.out
    assert "worst window 5 of 5, 0 refused" in shown.out
    assert all(flaw in shown.out for flaw in FLAWS)
    assert shown.err == ""


def test_the_demo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rows", "600", "--window", "0.2", "--seed", "7", "--json", "-q"]) == Exit.OK
    result = json.loads(capsys.readouterr().out)
    assert result["report"]["rows_read"] == 600
    assert result["exit_code"] == 0
    assert all(check["holds"] for check in result["checks"])


def test_the_demo_keeps_its_files(tmp_path: Path) -> None:
    kept = tmp_path / "new"
    assert main(["demo", "--rows", "600", "--window", "0.2", "-q", "--keep", str(kept)]) == Exit.OK
    assert sorted(os.listdir(kept)) == ["leads.csv", "rejects.csv"]


def lose(store: Callable[[Campaign, StoredLead], None]) -> Callable[[Campaign, StoredLead], None]:
    lost: list[str] = []

    def losing(campaign: Campaign, lead: StoredLead) -> None:
        if campaign.stored == 100 and not lost:
            lost.append(lead.phone)
        if lead.phone not in lost:
            store(campaign, lead)

    return losing


def double(store: Callable[[Campaign, StoredLead], None]) -> Callable[[Campaign, StoredLead], None]:
    def doubling(campaign: Campaign, lead: StoredLead) -> None:
        store(campaign, lead)
        if campaign.stored == 100:
            store(campaign, lead)

    return doubling


@pytest.mark.parametrize("spoil", [lose, double])
def test_the_demo_fails_when_a_lead_is_lost_or_doubled(
    spoil: Callable[..., object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Campaign, "store", spoil(Campaign.store))
    assert main(["demo", "--rows", "600", "--window", "0.2", "-q"]) == Exit.NOT_ALL
    shown = capsys.readouterr().out
    assert "FAILS: 1 lost, 0 doubled" in shown or "FAILS: 0 lost, 1 doubled" in shown
    assert "A check failed" in shown


def test_the_demo_fails_when_the_judge_saw_too_many_requests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Simulator, "worst_window", lambda self, endpoint, per=None: 6)
    assert main(["demo", "--rows", "100", "--window", "0.2", "-q"]) == Exit.NOT_ALL
    assert "FAILS: worst 6 of 5" in capsys.readouterr().out


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "other"))
    day = date(2026, 1, 31)
    known = write_leads(one, 1_000, 3, day)
    assert known == write_leads(two, 1_000, 3, day)
    assert Path(one).read_bytes() == Path(two).read_bytes()
    write_leads(other, 1_000, 4, day)
    assert Path(one).read_bytes() != Path(other).read_bytes()


def test_the_file_holds_every_flaw_repeats_and_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    known = write_leads(str(path), 2_000, 1, date(2026, 1, 31))
    assert set(known.flaws.values()) == set(FLAWS)
    assert known.repeats > 0
    assert 0 < len(known.do_not_disturb) < len(known.numbers)
    assert len(known.flaws) + known.repeats + len(known.numbers) == known.rows == 2_000
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2_001
    assert any("\n" in row[-1] for row in rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


@given(st.sets(st.integers(0, 90_000_000 - 1), min_size=2), st.integers())
def test_made_up_numbers_are_ten_digits_distinct_and_nobodys(indices: set[int], seed: int) -> None:
    numbers = {phone_number(index, seed) for index in indices}
    assert len(numbers) == len(indices)
    assert all(re.fullmatch(r"12\d{8}", number) for number in numbers)


def test_made_up_numbers_come_round_only_after_all_90_million() -> None:
    step = int(phone_number(1)) - int(phone_number(0))
    assert gcd(step, 90_000_000) == 1


# -- upload ---------------------------------------------------------------------------------------------------------


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
    assert "row 4: PhoneNumber:" in shown
    assert "2 more invalid rows; all of them are in" in shown
    assert len(rejects.read_text().splitlines()) == 8


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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.csv", "-c", "x"], "cannot read"),
        (["leads.csv", "-c", "x"], "OZONETEL_API_KEY"),
        (["leads.csv", "-c", "x", "--simulate", "--rejects", "./leads.csv"], "overwritten"),
        (["leads.csv", "-c", "x", "--simulate", "--on-unknown", "resend"], "check_duplicate"),
        (["leads.csv", "-c", "x", "--simulate", "--callback-url", "nonsense"], "callback_url"),
        (["leads.csv", "-c", " ", "--simulate"], "campaign"),
        (["other.csv", "-c", "x", "--simulate"], "--column HEADER=COLUMN"),
    ],
)
def test_wrong_settings_end_in_one_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = Path(leads_file(tmp_path / "leads.csv", 3)).read_text()
    (tmp_path / "other.csv").write_text("Mobile\n9812345678\n")
    assert main(["upload", *arguments, "--json"]) == Exit.USAGE
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert len(shown.err.splitlines()) == 1
    assert json.loads(shown.out)["exit_code"] == 2
    assert (tmp_path / "leads.csv").read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["upload", "leads.csv"],
        ["upload", "leads.csv", "-c", "x", "--column", "PhoneNumber"],
        ["upload", "leads.csv", "-c", "x", "--limit", "0/60"],
        ["upload", "leads.csv", "-c", "x", "--limit", "5"],
        ["upload", "leads.csv", "-c", "x", "--check-duplicate", "--is-delete"],
        ["demo", "--rows", "0"],
        ["demo", "--window", "nan"],
        ["simulate", "--port", "65536"],
        ["simulate", "--latency", "2,1"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == Exit.USAGE
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[f"--api-key={KEY}"], ["--api-key", KEY], [KEY]])
def test_a_key_in_the_arguments_is_not_repeated(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["upload", "leads.csv", "-c", "x", *arguments])
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err
    assert ("OZONETEL_API_KEY only" in shown.err) is (len(arguments) > 1 or "=" in arguments[0])


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], *([command.name] for command in COMMANDS)):
        with pytest.raises(SystemExit) as raised:
            main([*arguments, "--help"])
        assert raised.value.code == 0
        shown = capsys.readouterr().out
        assert all(re.search(rf"^  {code.value} +\w", shown, re.MULTILINE) for code in Exit)
        assert "OZONETEL_API_KEY" in shown


# -- processes ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(*arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "ozonetel_async", *arguments],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        pause.wait(0.005)


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


def test_an_interrupted_demo_ends_quietly() -> None:
    with process("demo", "--rows", "20000", "--window", "30") as running:
        assert running.stdout is not None
        assert "made-up rows" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    assert err == "ozonetel: interrupted\n"


async def test_simulate_serves_until_interrupted() -> None:
    with process("simulate", "--port", "0", "--campaign", "Winter:City,Email") as running:
        assert running.stdout is not None
        assert "Winter" in running.stdout.readline()
        lines = [running.stdout.readline() for _ in range(5)]
        exported = dict(re.findall(r"export OZONETEL_(\w+)=(\S+)", "".join(lines)))
        async with OzonetelClient(
            exported["API_KEY"], exported["USERNAME"], base_url=exported["BASE_URL"], dialer_url=exported["DIALER_URL"]
        ) as client:
            receipt = await client.add_lead("Winter", Lead("9812345678", extra={"City": "Pune"}))
        assert receipt.outcome == "accepted"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == Exit.OK
    assert "add: 1 requests" in out
    assert err == ""


def test_simulate_on_a_port_in_use(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    port = simulator.base_url.rpartition(":")[2]
    assert main(["simulate", "--port", port]) == Exit.USAGE
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_a_reader_that_goes_away_leaves_no_traceback(tmp_path: Path) -> None:
    file = leads_file(tmp_path / "leads.csv", 10)
    with process("upload", file, "-c", "Winter", "--simulate", "-q") as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        err = running.stderr.read()
        running.wait(timeout=30)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


# -- what is shown --------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(**changes: object) -> Progress:
    values: dict[str, object] = {
        "done": 1_500,
        "total": 12_000,
        "exact": False,
        "states": (("accepted", 1_490), ("invalid", 10), ("unknown", 0)),
        "requests": 3,
        "next_free_in": 12.34,
        "seconds_left": 200.0,
    }
    return Progress(**{**values, **changes})  # type: ignore[arg-type]


def test_progress_as_one_line() -> None:
    assert progress().line() == (
        "1,500 of about 12,000 rows: 1,490 accepted, 10 invalid; 3 requests, next slot in 12.3 s, about 3 min 20 s left"
    )
    assert progress(total=None, seconds_left=None, next_free_in=0.0, states=()).line() == (
        "1,500 rows: nothing decided yet; 3 requests, next slot free now"
    )


def test_a_terminal_gets_a_bar_and_a_table_others_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, plain = Terminal(), io.StringIO()
    for stream in (terminal, plain):
        screen = Screen(stream, stream)
        with screen.meter() as meter:
            meter.show(progress())
        screen.facts("Title", [("label", "[bold]value"), ("longer label", "2")])
    assert "━" in terminal.getvalue()
    assert "[bold]value" in terminal.getvalue()
    assert plain.getvalue() == "Title\n  label         [bold]value\n  longer label  2\n"


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    terminal = Terminal()
    Screen(terminal, terminal).facts("Title", [("label", "value")])
    assert terminal.getvalue() == "Title\n  label  value\n"


def test_plain_progress_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("ozonetel_async.cli.screen.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Screen(io.StringIO(), stream).meter() as meter:
        for moment, done in ((1.0, 1), (5.0, 2), (9.0, 3), (10.0, 3), (39.0, 3), (40.0, 3)):
            clock[0] = moment
            meter.show(progress(done=done))
    # Changes every 5 seconds, silence every 30.
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["2", "3", "3"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3_599, "59 min 59 s"), (23_940, "6 h 39 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Queue:
    waiting = refused = worst_window = 0

    def __init__(self, free: int, in_flight: int, next_free_in: float) -> None:
        self.free, self.in_flight, self.next_free_in = free, in_flight, next_free_in


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


def test_latency_of_one_or_two_numbers() -> None:
    assert latency("0.5") == (0.5, 0.5)
    assert latency("0,2") == (0.0, 2.0)
