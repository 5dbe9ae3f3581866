"""What the tests of the command line share: an account, a simulator, files, processes, and what was printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit, Progress
from ozonetel_async.journal.journal import Header, Journal
from ozonetel_async.rows.batches import Batch
from ozonetel_async.testing import Fault, Simulator

KEY = "canary-key-8c1f"


TOKEN = "ozcb_0000000000000000000000000000000000000000"


Output = pytest.CaptureFixture[str]


PHONE = re.compile(r"(?<!\d)\d{12}(?!\d)")
"""A whole number as in these files; transaction ids are longer."""


UPLOAD = ("upload", "leads.csv", "-c", "Diwali", "--journal", "x.journal", "--check-duplicate")


# Two requests at once, and then none for longer than any test takes.
HALTING = (*UPLOAD, "--limit", "2/600")


SIMULATED = (*UPLOAD, "--simulate", "--limit", "50/0.2")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "USERNAME", "BASE_URL", "DIALER_URL"):
        monkeypatch.delenv(f"OZONETEL_{name}", raising=False)
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator without limits, its account in the environment."""
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def leads(tmp_path: Path) -> str:
    """3,000 rows: six batches, the first hundred numbers once more at the end."""
    again = [f"+91120000{number:04},Asha" for number in range(100)]
    leads_file(tmp_path / "leads.csv", 2_900, *again)
    return "leads.csv"


@pytest.fixture
def half_done(leads: str, simulator: Simulator, capsys: Output) -> Simulator:
    """An upload without duplicate checks whose third batch is of unknown fate and whose later ones were not sent."""
    simulator.inject("bulk", Fault.html(), times=None, after=2)
    # One request at a time, so that the third is the one that fails.
    assert main([*UPLOAD[:-1], "--limit", "1/0.001", "-q", "--json"]) in (Exit.NOT_ALL, Exit.STOPPED)
    simulator.clear_faults()
    capsys.readouterr()
    return simulator


@pytest.fixture
def calls(tmp_path: Path) -> str:
    soon = (datetime.now() + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S")
    rows = [f"91120000{number:04},Asha,{soon}" for number in range(250)]
    (tmp_path / "calls.csv").write_text("\n".join(["PhoneNumber,Name,ScheduledTime", *rows, f"12,x,{soon}"]) + "\n")
    return "calls.csv"


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator without limits, its account in the environment."""
    with Simulator.in_thread(limits={"bulk": 0, "dial_status": 0, "schedule": 0}) as running:
        for name, value in {**account(running), "OZONETEL_DIALER_URL": running.dialer_url}.items():
            monkeypatch.setenv(name, value)
        yield running


def account(simulator: Simulator) -> dict[str, str]:
    return {
        "OZONETEL_API_KEY": simulator.api_key,
        "OZONETEL_USERNAME": simulator.username,
        "OZONETEL_BASE_URL": simulator.base_url,
    }


def leads_file(path: Path, rows: int, *bad: str) -> str:
    lines = ["PhoneNumber,Name", *(f"+91120000{number:04},Asha" for number in range(rows)), *bad]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@contextlib.contextmanager
def process(*arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "ozonetel_async", *arguments],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        pause.wait(0.005)


def shown(capsys: Output) -> tuple[str, str]:
    """What a command printed, which never holds a whole number or the key."""
    out, err = capsys.readouterr()
    assert not PHONE.search(out + err)
    assert KEY not in out + err
    assert "Traceback" not in err
    return out, err


def result(capsys: Output) -> dict[str, object]:
    value: dict[str, object] = json.loads(shown(capsys)[0])
    return value


def status(capsys: Output, journal: str = "x.journal") -> dict[str, object]:
    assert main(["status", journal, "--json"]) == Exit.OK
    return result(capsys)


def doubled(simulator: Simulator, campaign: str = "Diwali") -> int:
    return sum(count > 1 for count in simulator.campaigns[campaign].numbers.values())


def subprocess_main(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """For tests that have a loop of their own."""
    with process(*arguments, env=env) as running:
        out, err = running.communicate(timeout=30)
    assert len(err.splitlines()) == (running.returncode != Exit.OK)
    return subprocess.CompletedProcess(arguments, running.returncode, out, err)


async def make_journal(path: str, *, host: str, source: dict[str, str] | None = None) -> str:
    """A journal with a batch that was sent; its callback token."""
    header = Header(
        campaign="Diwali",
        account=f"somebody at {host}",
        params={},
        columns=None,
        checked_at="2026-01-31T09:00:00+05:30",
        source=source,
    )
    journal = await Journal.open(path, header)
    await journal.plan(Batch(0, 1, 1, 1, 1, 0, b'{"map":["PhoneNumber"],"data":[["9812345678"]]}'), [])
    await journal.mark(0, "sent", callback=True)
    token = await journal.callback_token(0)
    await journal.close()
    return token


class Seen:
    def __init__(self) -> None:
        self.all: list[Progress] = []

    def show(self, progress: Progress) -> None:
        self.all.append(progress)


class Queue:
    waiting = refused = worst_window = 0
    store = None

    def __init__(self, free: int, in_flight: int, next_free_in: float) -> None:
        self.free, self.in_flight, self.next_free_in = free, in_flight, next_free_in
