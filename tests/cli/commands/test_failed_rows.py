"""``ozonetel failed-rows``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from ..conftest import SIMULATED, UPLOAD, Output, process, shown, wait_until


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


def test_lists_that_have_expired_are_missed(leads: str, simulator: Simulator, capsys: Output) -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".") as receiving:
        assert receiving.stderr is not None
        url = receiving.stderr.readline().split()[3]
        assert main([*UPLOAD, "--limit", "50/1", "-q", "--callback-url", url]) == Exit.OK
        wait_until(lambda: not simulator.busy)
    simulator.files.expire()
    capsys.readouterr()
    assert main(["failed-rows", "x.journal", "--out", "failed.csv", "--link-host", "localhost"]) == Exit.NOT_ALL
    out, err = shown(capsys)
    assert "0 of 100 that were not added" in out
    assert "1 lists were not fetched within the 24 hours" in err
