"""``ozonetel resume``."""

from __future__ import annotations

import json
from pathlib import Path

from ozonetel_async import Limits, OzonetelClient, RateLimit
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.rows.csv_file import read_csv
from ozonetel_async.testing import Simulator

from ..conftest import KEY, Output, leads_file, make_journal, result, shown, status, subprocess_main, wait_until


def test_resume_may_begin_to_check_for_duplicates(half_done: Simulator, capsys: Output) -> None:
    sent = len(half_done.requests("bulk"))
    assert main(["resume", "x.journal", "--on-unknown", "resend"]) == Exit.USAGE
    assert "--check-duplicate" in shown(capsys)[1]
    assert len(half_done.requests("bulk")) == sent
    fast = ("--limit", "50/1", "--json", "-q")
    assert main(["resume", "x.journal", "--on-unknown", "resend", "--check-duplicate", *fast]) == Exit.OK
    assert result(capsys)["rows_unknown"] == 0
    again = half_done.requests("bulk")[sent:]
    assert len(again) == 4
    assert {request.params["checkDuplicate"] for request in again} == {"true"}
    wait_until(lambda: not half_done.busy)
    # The hundred repeats of the file were added by the first run, which checked nothing, and nothing by the second.
    assert half_done.campaigns["Diwali"].stored == 3_000


def test_resume_finds_a_file_that_has_moved_and_no_other(half_done: Simulator, tmp_path: Path, capsys: Output) -> None:
    sent = len(half_done.requests("bulk"))
    moved = (tmp_path / "leads.csv").rename(tmp_path / "moved.csv")
    assert main(["resume", "x.journal"]) == Exit.USAGE
    assert "cannot read" in shown(capsys)[1]
    other = leads_file(tmp_path / "other.csv", 3_000)
    Path(other).write_text(Path(other).read_text().replace("+911200000003,Asha", "+911200000003,Usha"))
    assert main(["resume", "x.journal", "--file", other]) == Exit.USAGE
    assert "the input has changed in rows 1 to 500" in shown(capsys)[1]
    assert len(half_done.requests("bulk")) == sent
    assert main(["resume", "x.journal", "--file", str(moved), "--json", "-q"]) == Exit.NOT_ALL
    assert result(capsys)["rows_unknown"] == status(capsys)["rows_unanswered"] != 0


async def test_resume_sends_the_key_to_no_host_that_only_a_journal_names(leads: str) -> None:
    await make_journal("x.journal", host="https://elsewhere.example", source=read_csv(leads).source)
    for more, complaint in (((), "of another upload: its account"), (("--simulate",), "to the service itself")):
        done = subprocess_main("resume", "x.journal", *more, OZONETEL_API_KEY=KEY)
        assert done.returncode == Exit.USAGE
        assert complaint in done.stderr
        assert KEY not in done.stderr


async def test_resume_gives_columns_that_the_upload_was_given(leads: str, simulator: Simulator) -> None:
    async with OzonetelClient(limits=Limits(bulk=RateLimit(50, 1.0))) as client:
        await client.upload("Diwali", read_csv(leads), columns=("PhoneNumber", "skill"), journal="x.journal")
    done = subprocess_main("resume", "x.journal", "-q", "--json")
    assert done.returncode == Exit.OK
    assert json.loads(done.stdout)["requests"] == 0


async def test_resume_needs_a_file(leads: str) -> None:
    await make_journal("x.journal", host="https://in1-ccaas-api.ozonetel.com")
    done = subprocess_main("resume", "x.journal", OZONETEL_API_KEY=KEY)
    assert done.returncode == Exit.USAGE
    assert "run the program again that made the upload" in done.stderr
