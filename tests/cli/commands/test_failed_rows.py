"""``ozonetel failed-rows``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ozonetel_async import read_csv
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
    header, first = out.decode().splitlines()[:2]
    own = "rejected_row,rejected_line,rejected_column,rejected_reason,rejected_match,rejected_number"
    assert header == f"PhoneNumber,Name,{own}"
    assert first.split(",")[2:4] == ["2901", "2902"]
    assert err == b""
    assert main(["failed-rows", "x.journal", "--out", "-", "--json"]) == Exit.USAGE


def test_failed_rows_have_all_columns_of_a_file_that_has_not_changed(tmp_path: Path, capsys: Output) -> None:
    lines = ["Id,PhoneNumber,reason,Notes", "1,9812345678,x,a", "2,9812345678,y,b"]
    leads = tmp_path / "leads.csv"
    leads.write_text("\n".join(lines))
    assert main([*SIMULATED, "-q", "--column", "Id=", "--column", "Notes="]) == Exit.NOT_ALL
    assert main(["failed-rows", "x.journal", "--out", "failed.csv"]) == Exit.OK
    header, row = (tmp_path / "failed.csv").read_text().splitlines()
    # Of two rows with one number, the second was skipped.
    assert header.startswith("Id,PhoneNumber,reason,Notes,rejected_row,rejected_line,")
    assert row.startswith("2,9812345678,y,b,2,3,")
    again = read_csv(tmp_path / "failed.csv")
    assert (again.columns, list(again)) == (("Id", "PhoneNumber", "reason", "Notes"), [["2", "9812345678", "y", "b"]])
    os.utime(leads, (4_000_000_000, 4_000_000_000))
    assert main(["failed-rows", "x.journal", "--out", "failed.csv"]) == Exit.OK
    assert (tmp_path / "failed.csv").read_text().startswith("PhoneNumber,reason,rejected_row,")


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
    assert "1 list not fetched within the 24 hours" in err
