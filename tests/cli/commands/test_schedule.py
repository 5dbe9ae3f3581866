"""``ozonetel schedule``."""

from __future__ import annotations

import csv
import json
import re
import signal
from pathlib import Path

import pytest

from ozonetel_async import OzonetelClient, ScheduleReport, ScheduleResult
from ozonetel_async.cli.commands.schedule import TakenRows
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Output, account, process, result, shown, wait_until


def test_schedule_tells_of_every_row(calls: str, simulator: Simulator, tmp_path: Path, capsys: Output) -> None:
    assert main(["schedule", calls, "-c", "Diwali", "--out", "results.csv"]) == Exit.NOT_ALL
    out, _ = shown(capsys)
    assert re.search(r"accepted +250$", out, re.MULTILINE)
    assert "row 251: invalid: PhoneNumber: too few digits" in out
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert (len(lines), lines[0], lines[250][:13]) == (252, "row,outcome,message", "250,accepted,")
    assert lines[251].startswith("251,invalid,")
    assert simulator.rows_applied("schedule") == 250


def test_a_file_with_nothing_but_a_header_is_not_all_of_it(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "calls.csv").write_text("PhoneNumber,ScheduledTime\n")
    assert main(["schedule", "calls.csv", "-c", "Winter", "--simulate", "-q", "--json"]) == Exit.NOT_ALL
    assert result(capsys)["rows"] == 0


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
        assert "waiting for the rows that were read" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        outcomes = [(row["outcome"], row["message"]) for row in csv.DictReader(file)]
    assert len(outcomes) == 251
    unknown = outcomes.count(("unknown", "cancelled"))
    # Of the three requests two are never answered; the third one's answer may not have been read yet.
    assert unknown in (150, 200, 250)
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
