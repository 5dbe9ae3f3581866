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

PYRIGHT = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
needs_pyright = pytest.mark.skipif(PYRIGHT is None, reason="pyright is not installed: python -m pip install pyright")

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


def run(path: Path, *command: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(path.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=environment, timeout=300)
    return done.stdout + done.stderr


def test_mypy_knows_the_names_and_refuses_misspelt_ones(snippet: Path) -> None:
    cache = f"--cache-dir={snippet.parent / 'cache'}"
    config = "--config-file="
    said = run(
        snippet, sys.executable, "-m", "mypy", "--strict", config, cache, "--follow-imports=silent", snippet.name
    )
    errors = [int(line) for line in re.findall(r"^snippet\.py:(\d+): error", said, re.MULTILINE)]
    assert errors == WRONG_LINES, said
    revealed = re.findall(r'Revealed type is "(.*)"', said)
    assert [
        re.sub(r"[a-z_.]+\.(?=[A-Z])|builtins\.", "", name).replace("None | str", "str | None") for name in revealed
    ] == TYPES


@needs_pyright
def test_pyright_knows_the_names_and_refuses_misspelt_ones(snippet: Path) -> None:
    assert PYRIGHT is not None
    said = json.loads(run(snippet, PYRIGHT, "--outputjson", "--pythonpath", sys.executable, snippet.name))
    found = [item for item in said["generalDiagnostics"] if item["severity"] == "error"]
    assert sorted({item["range"]["start"]["line"] + 1 for item in found}) == WRONG_LINES, found
    revealed = [item["message"] for item in said["generalDiagnostics"] if item["severity"] == "information"]
    assert [re.findall(r'is "(.*)"', message)[0] for message in revealed] == TYPES


@needs_pyright
def test_every_public_name_has_a_type(snippet: Path) -> None:
    assert PYRIGHT is not None
    # Beside the interpreter alone would not do: an editable install is a hint that pyright does not follow here.
    command = (PYRIGHT, "--pythonpath", sys.executable, "--verifytypes", "ozonetel_async", "--ignoreexternal")
    said = run(snippet, *command, "--outputjson")
    completeness = json.loads(said)["typeCompleteness"]
    unknown = [
        symbol["name"] for symbol in completeness["symbols"] if not symbol["isTypeKnown"] and symbol["isExported"]
    ]
    assert (completeness["completenessScore"], unknown) == (1, []), unknown
