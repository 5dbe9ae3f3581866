"""The types of values on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ozonetel_async.cli.arguments import Address, address, latency
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit


def test_latency_of_one_or_two_numbers() -> None:
    assert latency("0.5") == (0.5, 0.5)
    assert latency("0,2") == (0.0, 2.0)


@pytest.mark.parametrize("text", ["", "8080", ":8080", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "a b:80"])
def test_addresses_that_are_none(text: str) -> None:
    assert main(["receive", "--journals", ".", "--listen", text]) == Exit.USAGE


def test_addresses() -> None:
    assert address("example.com:0") == Address("example.com", 0)
    assert address("[::1]:8080") == Address("::1", 8080)
    assert str(address("[::1]:8080")) == "[::1]:8080"


def test_mistakes_of_a_header_are_told_with_the_options_that_mend_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "leads.csv"
    file.write_text("Serial,Notes,Notes\n1,a,b\n")
    assert main(["upload", str(file), "-c", "Diwali", "--simulate"]) == Exit.USAGE
    told = capsys.readouterr().err
    assert '--column "HEADER=PhoneNumber"' in told
    assert '--column "Notes="' in told
    assert "columns={" not in told
