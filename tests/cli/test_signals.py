"""Ctrl-C and SIGTERM at commands that have no result yet."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ozonetel_async.callbacks.results import JobResult, SecretUrl
from ozonetel_async.cli.screen import Exit
from ozonetel_async.journal.journal import Journal
from ozonetel_async.testing import Simulator

from .conftest import make_journal, process, wait_until

EXPORT = ("dial-status", "-c", "Diwali", "--callback-url", "http://127.0.0.1:9/", "--listen", "127.0.0.1:0")


INTERRUPTED = {"error": "interrupted", "message": "ended by Ctrl-C or SIGTERM, without a result", "exit_code": 130}


def test_an_interrupted_export_prints_one_object(simulator: Simulator, tmp_path: Path) -> None:
    with process(*EXPORT, "--out", "export", "--json", "-q") as running:
        wait_until(lambda: simulator.requests("dial_status"))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    assert json.loads(out) == INTERRUPTED
    assert not list(tmp_path.glob("export*"))


async def make_journal_with_a_list(link: str) -> None:
    token = await make_journal("x.journal", host="https://elsewhere.example")
    journal = await Journal.attach("x.journal")
    await journal.accepted(0, "1")
    assert await journal.deliver(token, JobResult("1", True, 1, 0, 1, failed_file=SecretUrl(link)))
    await journal.close()


def test_interrupted_failed_rows_print_one_object(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        asyncio.run(make_journal_with_a_list(f"http://localhost:{server.getsockname()[1]}/list.csv?signature=1"))
        command = ("failed-rows", "x.journal", "--out", "failed.csv", "--link-host", "localhost", "--json")
        with process(*command) as running:
            # Taken, and never answered.
            connection, _ = server.accept()
            with connection:
                running.send_signal(signal.SIGINT)
                out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.INTERRUPTED, "ozonetel: interrupted\n")
    assert json.loads(out) == INTERRUPTED
    assert not list(tmp_path.glob("failed*"))


def test_ctrl_c_while_modules_load_ends_quietly() -> None:
    script = """
import importlib.abc, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "ozonetel_async.cli.main":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from ozonetel_async.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "")
