"""Where results go, and what becomes of them when a file or a stream takes no more."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit, OutputError, Progress, Screen, duration
from ozonetel_async.testing import Fault, Simulator

from .conftest import Output, leads_file

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


SCHEDULE = ("schedule", "calls.csv", "-c", "Diwali")


EXPORT = ("dial-status", "-c", "Diwali", "--callback-url", "http://127.0.0.1:9/", "--listen", "127.0.0.1:0")


SIMULATED_EXPORT = ("dial-status", "-c", "Winter", "--simulate")


UPLOAD = ("upload", "leads.csv", "-c", "Diwali", "--journal", "x.journal", "-q")


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    bad = [f"12,x,{soon}"] * 7
    calls = ["PhoneNumber,Name,ScheduledTime", *(f"91120000{number:04},Asha,{soon}" for number in range(3)), *bad]
    (tmp_path / "calls.csv").write_text("\n".join(calls) + "\n")
    leads_file(tmp_path / "leads.csv", 10)


@pytest.mark.parametrize("command", [SCHEDULE, EXPORT], ids=["schedule", "dial-status"])
def test_a_file_that_cannot_be_written_is_found_before_anything_is_sent(
    command: tuple[str, ...], simulator: Simulator, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "folder").mkdir()
    for out in ("missing/result", "folder"):
        assert main([*command, "--out", out, "--json", "-q"]) == Exit.USAGE
        told = capsys.readouterr()
        assert json.loads(told.out)["error"] == "ConfigurationError"
        assert f"cannot write {out}" in told.err
    assert not simulator.log


@FULL
def test_schedule_tells_its_results_when_the_file_turns_out_unwritable(simulator: Simulator, capsys: Output) -> None:
    assert main([*SCHEDULE, "--out", "/dev/full", "--json", "-q"]) == Exit.NOT_ALL
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["accepted"], result["invalid"], result["exit_code"]) == (3, 7, 1)
    assert result["error"] == "cannot write /dev/full: No space left on device"
    assert result["error"] in told.err
    assert simulator.rows_applied("schedule") == 3
    assert main([*SCHEDULE, "--out", "/dev/full", "-q"]) == Exit.NOT_ALL
    shown = capsys.readouterr().out
    assert shown.count(": invalid: ") == 7
    assert "are in /dev/full" not in shown


def test_a_file_whose_folder_vanishes_while_rows_are_sent(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    replace = os.replace

    def vanish(source: str, target: str) -> None:
        os.unlink(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", vanish)
    assert main([*SCHEDULE, "--out", "results.csv", "--json", "-q"]) == Exit.NOT_ALL
    result = json.loads(capsys.readouterr().out)
    assert (result["accepted"], result["exit_code"]) == (3, 1)
    assert "cannot write results.csv" in result["error"]
    assert not list(tmp_path.glob("results*"))


@FULL
def test_an_export_that_cannot_be_written_is_told(capsys: Output) -> None:
    assert main([*SIMULATED_EXPORT, "--out", "/dev/full", "--json", "-q"]) == Exit.NOT_ALL
    result = json.loads(capsys.readouterr().out)
    assert (result["succeeded"], result["out"], result["kind"], result["exit_code"]) == (True, None, None, 1)
    assert result["error"] == "cannot write /dev/full: No space left on device"


@FULL
def test_failed_rows_that_cannot_be_written_are_no_mistake_of_usage(capsys: Output) -> None:
    assert main([*UPLOAD, "--simulate"]) == Exit.OK
    capsys.readouterr()
    assert main(["failed-rows", "x.journal", "--out", "/dev/full", "--json"]) == Exit.NOT_ALL
    result = json.loads(capsys.readouterr().out)
    assert (result["error"], result["exit_code"]) == ("OutputError", 1)


def test_a_result_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    screen = Screen(io.StringIO(), io.StringIO())

    def break_off(name: str) -> None:
        with screen.file(name) as out, out.writing() as file:
            file.write(b"half")
            raise OSError(28, "disk")

    def leave_off(name: str) -> None:
        with screen.file(name):
            raise LookupError

    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "kept").write_bytes(b"before")
    for name in ("kept", "new"):
        with pytest.raises(OutputError, match=rf"cannot write {name}: disk"):
            break_off(name)
        with pytest.raises(LookupError):
            leave_off(name)
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} - before == {"kept"}
    (tmp_path / "link").symlink_to("kept")
    with screen.file("link") as out, out.writing() as file:
        file.write(b"through")
    assert (tmp_path / "kept").read_bytes() == b"through"
    assert (tmp_path / "link").is_symlink()
    with screen.file("/dev/null") as out, out.writing() as file:
        file.write(b"x")
    assert Path("/dev/null").is_char_device()


def test_a_result_keeps_the_mode_of_its_file_and_a_new_one_is_its_owners_alone(tmp_path: Path) -> None:
    screen = Screen(io.StringIO(), io.StringIO())
    for name, mode in (("secret", 0o600), ("shared", 0o664), ("new", None)):
        path = tmp_path / name
        if mode is not None:
            path.touch()
            path.chmod(mode)
        with screen.file(name) as out, out.writing() as file:
            file.write(b"9812345678")
        assert path.read_bytes() == b"9812345678"
        assert path.stat().st_mode & 0o777 == (0o600 if mode is None else mode)


def test_a_link_that_waits_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    screen = Screen(io.StringIO(), io.StringIO())
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "result.part").symlink_to("precious")
    with screen.file("result") as out, out.writing() as file:
        file.write(b"9812345678")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "result").read_bytes() == b"9812345678"


def run_with(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with its streams as a shell redirects them."""
    script = f'exec "$0" -m ozonetel_async "$@" {redirection}'
    return subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [pytest.param(">/dev/full", "No space left on device", marks=FULL, id="full"), (">&-", "it is closed")],
)
@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_a_result_that_stdout_does_not_take(redirection: str, reason: str, form: str, simulator: Simulator) -> None:
    done = run_with(redirection, *UPLOAD, form)
    assert done.stderr == f"ozonetel: cannot write the result to stdout: {reason}\n"
    assert done.returncode == Exit.NOT_ALL
    assert simulator.rows_applied("bulk") == 10


@FULL
@pytest.mark.parametrize("command", [SCHEDULE, SIMULATED_EXPORT], ids=["schedule", "dial-status"])
def test_a_table_that_stdout_does_not_take(command: tuple[str, ...], simulator: Simulator) -> None:
    done = run_with(">/dev/full", *command, "--out", "-", "-q")
    assert done.stderr == "ozonetel: cannot write the result to stdout: No space left on device\n"
    assert done.returncode == Exit.NOT_ALL


@FULL
def test_an_error_that_stdout_does_not_take() -> None:
    done = run_with(">/dev/full", "upload", "missing.csv", "-c", "x", "--json")
    assert done.returncode == Exit.NOT_ALL
    assert done.stderr.splitlines()[0].startswith("ozonetel: error: ")
    assert done.stderr.splitlines()[1:] == ["ozonetel: cannot write the result to stdout: No space left on device"]


@pytest.mark.parametrize("redirection", [pytest.param("2>/dev/full", marks=FULL), "2>&-"])
def test_complaints_that_nobody_can_read_end_nothing(redirection: str, simulator: Simulator) -> None:
    # The callback that does not come is complained about on stderr.
    simulator.inject("bulk", Fault.lost_callback())
    waiting = ("--callback-url", "http://127.0.0.1:9/", "--callback-timeout", "0.01")
    done = run_with(redirection, *UPLOAD, *waiting, "--json")
    assert done.returncode == Exit.STOPPED
    assert json.loads(done.stdout)["rows_accepted"] == 10


def test_only_one_object_is_printed_whatever_comes_after_it(capsys: Output) -> None:
    screen = Screen(sys.stdout, sys.stderr, as_json=True)
    screen.result({"exit_code": 0})
    screen.interrupted()
    assert json.loads(capsys.readouterr().out) == {"exit_code": 0}


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


def test_the_bar_is_not_the_colour_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    with Screen(terminal, terminal).meter() as meter:
        meter.show(progress())
    colours = re.findall(r"\x1b\[([\d;]+)m━", terminal.getvalue())
    assert colours
    assert colours[0] == "32"


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
