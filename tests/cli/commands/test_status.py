"""``ozonetel status``."""

from __future__ import annotations

import re
from pathlib import Path

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from ..conftest import SIMULATED, Output, leads_file, shown, status


def test_status_shows_what_has_no_answer(half_done: Simulator, capsys: Output) -> None:
    assert main(["status", "x.journal"]) == Exit.OK
    out, _ = shown(capsys)
    assert re.search(r"accepted +1,000 rows in 2 batches", out)
    assert re.search(r"rows taken +3,000 of about 3,000", out)
    assert "rows 1001 to 1500: unknown: OutcomeUnknownError" in out


def test_times_are_of_one_zone_and_have_no_microseconds(half_done: Simulator, capsys: Output) -> None:
    known = status(capsys)
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\+05:30", str(known[name])) for name in ("began", "changed"))
    assert main(["status", "x.journal"]) == Exit.OK
    assert len(re.findall(r"(?:began|last change) +[\d-]{10} [\d:]{8}\+05:30\n", shown(capsys)[0])) == 2


def test_status_counts_invalid_rows(tmp_path: Path, capsys: Output) -> None:
    leads_file(tmp_path / "leads.csv", 3, "12,x", "9812345678,x")
    assert main([*SIMULATED, "-q"]) == Exit.NOT_ALL
    capsys.readouterr()
    known = status(capsys)
    assert (known["rows_taken"], known["rows_in_file"]) == (5, 5)
    assert known["rows"] == {"pending": 0, "sent": 0, "accepted": 4, "refused": 0, "unknown": 0, "invalid": 1}
