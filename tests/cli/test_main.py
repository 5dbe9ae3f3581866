"""The command line as a whole: usage, mistakes, help, the keys of JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ozonetel_async.cli.main import COMMANDS, main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from .conftest import KEY, SIMULATED, UPLOAD, Output, leads_file, process, shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.csv", "-c", "x"], "cannot read"),
        (["leads.csv", "-c", "x"], "api_key is missing: set OZONETEL_API_KEY"),
        (["leads.csv", "-c", "x", "--simulate", "--rejects", "./leads.csv"], "overwritten"),
        (["leads.csv", "-c", "x", "--simulate", "--on-unknown", "resend"], "--check-duplicate"),
        (["leads.csv", "-c", "x", "--simulate", "--callback-url", "nonsense"], "--callback-url"),
        (["leads.csv", "-c", " ", "--simulate"], "campaign"),
        (["other.csv", "-c", "x", "--simulate"], '--column "Tel=PhoneNumber"'),
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
    (tmp_path / "other.csv").write_text("Mobile,Tel\n9812345678,9812345678\n")
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
    assert main(arguments) == Exit.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    # One line, and not ten of usage above it.
    assert re.fullmatch(r"ozonetel: error: .+; see ozonetel[a-z -]* --help\n", told.err)
    assert main([*arguments, "--json"]) == Exit.USAGE
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["error"], result["exit_code"]) == ("UsageError", 2)
    assert f"ozonetel: error: {result['message']}\n" == told.err


@pytest.mark.parametrize(
    ("arguments", "parser"),
    [
        (["status", "x.journal", "-q"], "ozonetel status"),
        (["status", "x.journal", "more"], "ozonetel status"),
        (["--frobnicate", "status", "x.journal"], "ozonetel"),
    ],
)
def test_wrong_usage_of_a_command_points_to_its_own_help(
    arguments: list[str], parser: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == Exit.USAGE
    assert capsys.readouterr().err.endswith(f"; see {parser} --help\n")


@pytest.mark.parametrize("arguments", [[f"--api-key={KEY}"], ["--api-key", KEY], [KEY]])
def test_a_key_in_the_arguments_is_not_repeated(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", "leads.csv", "-c", "x", *arguments]) == Exit.USAGE
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


JSON_OF = {
    "check": ["check", "leads.csv"],
    "upload": [*SIMULATED],
    "resume": ["resume", "x.journal", "--simulate"],
    "status": ["status", "x.journal"],
    "failed-rows": ["failed-rows", "x.journal", "--out", "failed.csv"],
    "schedule": ["schedule", "calls.csv", "-c", "x", "--simulate"],
    "dial-status": ["dial-status", "-c", "Winter", "--simulate", "--out", "export"],
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


def test_a_port_that_is_taken(leads: str, simulator: Simulator, capsys: Output) -> None:
    where = ("--listen", simulator.base_url.rpartition("/")[2])
    assert main(["receive", "--journals", ".", *where]) == Exit.USAGE
    assert main([*UPLOAD, "--callback-url", "http://127.0.0.1:9/", *where]) == Exit.USAGE
    assert shown(capsys)[1].count("cannot listen on 127.0.0.1") == 2
    assert not simulator.requests("bulk")
