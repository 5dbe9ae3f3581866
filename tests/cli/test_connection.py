"""How commands reach the service: through proxies, with authorities of one's own, within a time."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ozonetel_async import OzonetelClient
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Fault, Simulator

from ..conftest import Proxy
from .conftest import Output, leads_file, result, shown

HOST = "service.example"


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """A simulator that speaks TLS, as ``https://service.example``, beside the certificate of its authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    leads_file(tmp_path / "leads.csv", 10)
    async with Simulator(ssl=context) as simulator:
        monkeypatch.setenv("OZONETEL_API_KEY", simulator.api_key)
        monkeypatch.setenv("OZONETEL_USERNAME", simulator.username)
        monkeypatch.setenv("OZONETEL_BASE_URL", f"https://{HOST}:{simulator.base_url.rpartition(':')[2]}")
        yield simulator


async def upload(*more: str) -> int:
    """The exit code of an upload, run beside the loop of the test."""
    return await asyncio.to_thread(main, ["upload", "leads.csv", "-c", "Diwali", "-q", "--json", *more])


@pytest.mark.parametrize("how", ["option", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_and_an_authority(
    how: str, service: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    # A password stands in the environment alone.
    async with Proxy(None if how == "option" else "user:password") as proxy:
        if how != "option":
            monkeypatch.setenv(how, proxy.url.replace("//", "//user:password@"))
        options = ("--proxy", proxy.url) if how == "option" else ()
        assert await upload("--ca-file", "ca.pem", *options) == Exit.OK
        assert proxy.asked
    assert result(capsys)["rows_accepted"] == 10
    assert service.rows_applied("bulk") == 10


async def test_no_proxy_for_a_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    leads_file(tmp_path / "leads.csv", 10)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert await upload("--simulate") == Exit.OK
    assert result(capsys)["rows_accepted"] == 10


async def test_a_certificate_that_is_not_trusted_ends_the_command(service: Simulator, capsys: Output) -> None:
    async with Proxy() as proxy:
        assert await upload("--proxy", proxy.url) == Exit.STOPPED
    assert len(proxy.asked) == 1
    out, _ = shown(capsys)
    assert "is not trusted: unable to get local issuer certificate" in str(json.loads(out)["error"])


async def test_a_resumed_upload_keeps_proxy_and_authority(service: Simulator, capsys: Output) -> None:
    async with Proxy() as proxy:
        options = ("--proxy", proxy.url, "--timeout", "30", "--journal", "x.journal")
        assert await upload(*options) == Exit.STOPPED
        expected = f"ozonetel resume x.journal --timeout 30 --proxy {proxy.url}"
        assert result(capsys)["resume"] == expected


async def test_a_request_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    leads_file(tmp_path / "leads.csv", 10)
    async with Simulator() as simulator:
        simulator.inject("bulk", Fault.stall_after_apply())
        monkeypatch.setenv("OZONETEL_API_KEY", simulator.api_key)
        monkeypatch.setenv("OZONETEL_USERNAME", simulator.username)
        assert await upload("--base-url", simulator.base_url, "--timeout", "0.2") == Exit.NOT_ALL
    assert "no answer within 0.2 s" in shown(capsys)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--proxy", "http://user:s3cret@h:1"), "without user name and password"),
        (("--proxy", "h:1"), "expected http://host:port"),
        (("--ca-file", "none.pem"), "--ca-file: cannot read none.pem: No such file"),
        (("--ca-file", "leads.csv"), "--ca-file: expected certificates in PEM"),
    ],
)
def test_mistakes(
    options: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    leads_file(tmp_path / "leads.csv", 10)
    monkeypatch.setenv("OZONETEL_API_KEY", "key")
    monkeypatch.setenv("OZONETEL_USERNAME", "user")
    assert main(["upload", "leads.csv", "-c", "Diwali", "-q", *options]) == Exit.USAGE
    err = shown(capsys)[1]
    assert message in err
    assert "s3cret" not in err


def test_how_long_an_outage_is_sat_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    outages: list[float] = []

    class Recording(OzonetelClient):
        def __init__(self, **options: Any) -> None:
            outages.append(options["retry"].outage)
            super().__init__(**options)

    monkeypatch.setattr("ozonetel_async.cli.connection.OzonetelClient", Recording)
    leads_file(tmp_path / "leads.csv", 1)
    command = ["upload", "leads.csv", "-c", "Winter", "--simulate", "-q", "--journal", "x.journal"]
    assert main([*command, "--outage", "0.5"]) == Exit.OK
    assert main(["resume", "x.journal", "--simulate", "-q"]) == Exit.OK
    assert outages == [0.5, 900.0]
