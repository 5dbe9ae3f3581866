"""``ozonetel simulate``."""

from __future__ import annotations

import re
import signal

import pytest

from ozonetel_async import Lead, OzonetelClient
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from ..conftest import process


async def test_simulate_serves_until_interrupted() -> None:
    with process("simulate", "--port", "0", "--campaign", "Winter:City,Email") as running:
        assert running.stdout is not None
        assert "Winter" in running.stdout.readline()
        lines = [running.stdout.readline() for _ in range(5)]
        exported = dict(re.findall(r"export OZONETEL_(\w+)=(\S+)", "".join(lines)))
        async with OzonetelClient(
            exported["API_KEY"], exported["USERNAME"], base_url=exported["BASE_URL"], dialer_url=exported["DIALER_URL"]
        ) as client:
            receipt = await client.add_lead("Winter", Lead("9812345678", extra={"City": "Pune"}))
        assert receipt.outcome == "accepted"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == Exit.OK
    assert re.search(r"Total\n +add +1 request, 1 row taken in\n", out)
    assert re.search(r"campaign Winter +1 lead\n", out)
    assert err == "add: 1 request, 1 row taken in\n"


def test_simulate_on_a_port_in_use(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    port = simulator.base_url.rpartition(":")[2]
    assert main(["simulate", "--port", port]) == Exit.USAGE
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
