"""``ozonetel demo``."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ozonetel_async.cli.commands.demo_leads import FLAWS
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Campaign, Simulator, StoredLead

from ..conftest import process


def test_the_demo_accounts_for_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rows", "3000", "--window", "0.3", "-q"]) == Exit.OK
    shown = capsys.readouterr()
    assert "Every row is accounted for." in shown.out
    assert shown.out.count("holds:") == 6
    assert "FAILS" not in shown.out
    assert "worst window 5 of 5, 0 refused" in shown.out
    assert all(flaw in shown.out for flaw in FLAWS)
    assert shown.err == ""


def test_the_demo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rows", "600", "--window", "0.2", "--seed", "7", "--json", "-q"]) == Exit.OK
    result = json.loads(capsys.readouterr().out)
    assert result["report"]["rows_read"] == 600
    assert result["exit_code"] == 0
    assert all(check["holds"] for check in result["checks"])


def test_the_demo_keeps_its_files(tmp_path: Path) -> None:
    kept = tmp_path / "new"
    assert main(["demo", "--rows", "600", "--window", "0.2", "-q", "--keep", str(kept)]) == Exit.OK
    assert sorted(os.listdir(kept)) == ["leads.csv", "rejects.csv"]


def lose(store: Callable[[Campaign, StoredLead], None]) -> Callable[[Campaign, StoredLead], None]:
    lost: list[str] = []

    def losing(campaign: Campaign, lead: StoredLead) -> None:
        if campaign.stored == 100 and not lost:
            lost.append(lead.phone)
        if lead.phone not in lost:
            store(campaign, lead)

    return losing


def double(store: Callable[[Campaign, StoredLead], None]) -> Callable[[Campaign, StoredLead], None]:
    def doubling(campaign: Campaign, lead: StoredLead) -> None:
        store(campaign, lead)
        if campaign.stored == 100:
            store(campaign, lead)

    return doubling


@pytest.mark.parametrize("spoil", [lose, double])
def test_the_demo_fails_when_a_lead_is_lost_or_doubled(
    spoil: Callable[..., object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Campaign, "store", spoil(Campaign.store))
    assert main(["demo", "--rows", "600", "--window", "0.2", "-q"]) == Exit.NOT_ALL
    shown = capsys.readouterr().out
    assert "FAILS: 1 lost, 0 doubled" in shown or "FAILS: 0 lost, 1 doubled" in shown
    assert "A check failed" in shown


def test_the_demo_fails_when_the_judge_saw_too_many_requests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Simulator, "worst_window", lambda self, endpoint, per=None: 6)
    assert main(["demo", "--rows", "100", "--window", "0.2", "-q"]) == Exit.NOT_ALL
    assert "FAILS: worst 6 of 5" in capsys.readouterr().out


def test_an_interrupted_demo_ends_quietly() -> None:
    with process("demo", "--rows", "20000", "--window", "30") as running:
        assert running.stdout is not None
        assert "made-up rows" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    assert err == "ozonetel: interrupted\n"
