"""Where results go when their file, stdout or the user's patience gives out: the work done is told all the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ozonetel_async.callbacks.results import JobResult, SecretUrl
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit, Screen
from ozonetel_async.journal.journal import Journal
from ozonetel_async.testing import Fault, Simulator

from .test_main import leads_file, process, serving, wait_until
from .test_upload import make_journal

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "USERNAME", "BASE_URL", "DIALER_URL"):
        monkeypatch.delenv(f"OZONETEL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    bad = [f"12,x,{soon}"] * 7
    calls = ["PhoneNumber,Name,ScheduledTime", *(f"91120000{number:04},Asha,{soon}" for number in range(3)), *bad]
    (tmp_path / "calls.csv").write_text("\n".join(calls) + "\n")
    leads_file(tmp_path / "leads.csv", 10)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with serving(monkeypatch) as running:
        yield running


SCHEDULE = ("schedule", "calls.csv", "-c", "Diwali")
EXPORT = ("dial-status", "-c", "Diwali", "--callback-url", "http://127.0.0.1:9/", "--listen", "127.0.0.1:0")
SIMULATED_EXPORT = ("dial-status", "-c", "Winter", "--simulate")
UPLOAD = ("upload", "leads.csv", "-c", "Diwali", "--journal", "x.journal", "-q")

# -- --out ----------------------------------------------------------------------------------------------------------


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


# -- stdout ---------------------------------------------------------------------------------------------------------


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


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------

INTERRUPTED = {
    "error": "interrupted",
    "message": "ended by Ctrl-C or SIGTERM, without a result",
    "exit_code": 130,
}


def test_an_interrupted_export_prints_one_object(simulator: Simulator, tmp_path: Path) -> None:
    with process(*EXPORT, "--out", "export", "--json", "-q") as running:
        wait_until(lambda: simulator.requests("dial_status"))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    assert json.loads(out) == INTERRUPTED
    assert not list(tmp_path.glob("export*"))


async def make_journal_with_a_list(link: str) -> None:
    token = await make_journal("x.journal", host="https://elsewhere.example")
    journal = await Journal.attach("x.journal")
    await journal.accepted(0, "1")
    assert await journal.deliver(token, JobResult("1", True, 1, 0, 1, failed_file=SecretUrl(link)))
    await journal.close()


def test_interrupted_failed_rows_print_one_object(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        asyncio.run(make_journal_with_a_list(f"http://localhost:{server.getsockname()[1]}/list.csv?signature=1"))
        command = ("failed-rows", "x.journal", "--out", "failed.csv", "--link-host", "localhost", "--json")
        with process(*command) as running:
            # Taken, and never answered.
            connection, _ = server.accept()
            with connection:
                running.send_signal(signal.SIGINT)
                out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    assert json.loads(out) == INTERRUPTED
    assert not list(tmp_path.glob("failed*"))


def test_only_one_object_is_printed_whatever_comes_after_it(capsys: Output) -> None:
    screen = Screen(sys.stdout, sys.stderr, as_json=True)
    screen.result({"exit_code": 0})
    screen.interrupted()
    assert json.loads(capsys.readouterr().out) == {"exit_code": 0}


def test_ctrl_c_while_modules_load_ends_quietly() -> None:
    script = """
import importlib.abc, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "ozonetel_async.cli.main":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from ozonetel_async.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "")
