"""``ozonetel status``."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

from ozonetel_async import Lead, OzonetelClient
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


def test_status_of_a_lead_buffer_counts_the_leads_that_wait(tmp_path: Path, capsys: Output) -> None:
    async def put_and_crash() -> None:
        async with OzonetelClient("key", "somebody") as client:
            path = tmp_path / "web.journal"
            with suppress(InterruptedError):
                async with client.buffer("Diwali", max_delay=3600, journal=path) as buffer:
                    for phone in ("9812345678", "9812345679", "9812345670"):
                        await buffer.put(Lead(phone))
                    raise InterruptedError

    asyncio.run(put_and_crash())
    assert main(["status", "web.journal"]) == Exit.OK
    assert re.search(r"leads waiting +3 \(in no batch yet\)\n", shown(capsys)[0])
    assert status(capsys, "web.journal")["leads_waiting"] == 3


def test_an_upload_has_no_waiting_leads(half_done: Simulator, capsys: Output) -> None:
    assert status(capsys)["leads_waiting"] is None
    assert main(["status", "x.journal"]) == Exit.OK
    assert "leads waiting" not in shown(capsys)[0]
