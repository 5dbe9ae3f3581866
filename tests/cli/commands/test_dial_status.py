"""``ozonetel dial-status``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Output, result, shown

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
    wait = "0.05" if code == Exit.STOPPED else "20"
    assert main([*EXPORT, "-q", "--json", "--callback-timeout", wait]) == code
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
