"""What a type checker says to a user of the library: misspelt names are errors, and every public name has a type."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ozonetel_async

PYRIGHT = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") or ""
needs_pyright = pytest.mark.skipif(not PYRIGHT, reason="pyright is not installed: python -m pip install pyright")

SOURCE = """
import ozonetel_async
from ozonetel_async import {names}
from ozonetel_async import OzonetelCleint  # wrong 1


async def use(client: OzonetelClient, receiver: CallbackReceiver) -> None:
    receipt = await client.add_lead("Diwali", Lead("9812345678"), queue_priority=1, max_wait=2.0)
    reveal_type(receipt)
    reveal_type(await client.dial_status("Diwali", receiver=receiver, callback_url="https://x.example"))
    await client.request_dial_status("Diwali", callback_url="https://x.example", dated_by="created", call_status="All")
    await client.request_dial_status("Diwali", callback_url="https://x.example", sort_by=1)  # wrong 2
    await client.request_dial_status("Diwali", callback_url="https://x.example", dated_by="day")  # wrong 3
    try:
        await client.add_lead("Diwali", Lead("9812345678"))
    except (QueueFullError, QueueTimeoutError) as error:
        reveal_type(error.retry_after)
    except RequestRejectedError as error:
        reveal_type(error.field)
    ozonetel_async.Laed("9812345678")  # wrong 4
"""


@pytest.fixture
def snippet(tmp_path: Path) -> Path:
    path = tmp_path / "snippet.py"
    path.write_text(SOURCE.format(names=", ".join(ozonetel_async.__all__)), encoding="utf-8")
    # The package itself, where a checker finds it however it is installed.
    (tmp_path / "ozonetel_async").symlink_to(Path(ozonetel_async.__file__).parent)
    return path


WRONG_LINES = [number for number, line in enumerate(SOURCE.split("\n"), 1) if "# wrong" in line]
TYPES = ["LeadReceipt", "ExportResult", "float", "str | None"]


def run(folder: Path, *command: str) -> str:
    # Pyright asks the first python of PATH for the installed packages.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "MYPYPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    return done.stdout


def test_mypy_knows_the_names_and_refuses_misspelt_ones(snippet: Path) -> None:
    cache = f"--cache-dir={snippet.parent / 'cache'}"
    config = "--config-file="
    said = run(
        snippet.parent, sys.executable, "-m", "mypy", "--strict", config, cache, "--follow-imports=silent", snippet.name
    )
    errors = [int(line) for line in re.findall(r"^snippet\.py:(\d+): error", said, re.MULTILINE)]
    assert errors == WRONG_LINES, said
    revealed = re.findall(r'Revealed type is "(.*)"', said)
    assert [
        re.sub(r"[a-z_.]+\.(?=[A-Z])|builtins\.", "", name).replace("None | str", "str | None") for name in revealed
    ] == TYPES


@needs_pyright
def test_pyright_knows_the_names_and_refuses_misspelt_ones(snippet: Path) -> None:
    said = json.loads(run(snippet.parent, PYRIGHT, "--outputjson", snippet.name))
    found = [item for item in said["generalDiagnostics"] if item["severity"] == "error"]
    assert sorted({item["range"]["start"]["line"] + 1 for item in found}) == WRONG_LINES, found
    revealed = [item["message"] for item in said["generalDiagnostics"] if item["severity"] == "information"]
    assert [re.findall(r'is "(.*)"', message)[0] for message in revealed] == TYPES


@needs_pyright
def test_every_public_name_has_one_type_for_all_checkers() -> None:
    # From outside the tree, so that what is checked is what was installed.
    said = run(Path(sys.prefix), PYRIGHT, "--verifytypes", "ozonetel_async", "--ignoreexternal", "--outputjson")
    public = tuple(f"{home}.{name}" for name in ozonetel_async.__all__ for home in homes(name))
    symbols = [
        symbol
        for symbol in json.loads(said)["typeCompleteness"]["symbols"]
        if symbol["name"] in public or symbol["name"].startswith(tuple(f"{name}." for name in public))
    ]
    assert len(symbols) > len(public)
    assert [symbol["name"] for symbol in symbols if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]] == []


def homes(name: str) -> tuple[str, str]:
    """Where a checker lists a public name: at the package, and with its members where it is made."""
    return "ozonetel_async", getattr(ozonetel_async, name).__module__
