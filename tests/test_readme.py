"""README says nothing that does not work: every Python block runs, every command parses, every name exists."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest
from fastapi import FastAPI
from openpyxl import Workbook  # type: ignore[import-untyped]

import ozonetel_async
from ozonetel_async import CallbackError, OzonetelClient, OzonetelError
from ozonetel_async.cli.main import COMMANDS, main, make_parser
from ozonetel_async.cli.screen import Exit
from ozonetel_async.config import DEFAULT_BASE_URL, DEFAULT_DIALER_URL
from ozonetel_async.testing import Simulator

from .contrib.conftest import HOW, RedisServer, find

openpyxl = pytest.importorskip("openpyxl", reason="writes a workbook; pip install openpyxl")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEADS = "Mobile,Name,Priority,Remarks\n" + "".join(f"+91120000{number:04},Asha,5,x\n" for number in range(1_100))


# The files of the section "Your file".
FILES = {
    "crm.csv": b"Id,Customer,Primary No,Alternate No\n10151,Asha,9812300001,9812300002\n",
    "dirty.csv": "PhoneNumber,Name\n+91-98123 00001,O'Brien\n9812300002.0,आशा शर्मा\n9812300003/04,Om\n".encode(),
    "export.csv": "Mobile;Name\r\n9812300001;José\r\n".encode("cp1252"),
    "titled.csv": b"Leads of March\n\nPhoneNumber,Name\n9812300001,Asha\n",
}


USERS_FILES = {
    "crm.csv": "Record ID,Primary No,Work Phone,Mobile,Customer\n17,+919812345678,,,Asha\n",
    "dirty.csv": "PhoneNumber,Name\n+91-98123 45678,O'Brien\n9812345679.0,आशा शर्मा\n9812345678/79,Ravi\n",
    "titled.csv": "Leads of March\n\nPhoneNumber,Name\n+919812345678,Asha\n",
}


def write_users_files(folder: Path) -> None:
    for name, text in USERS_FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "export.csv").write_text("PhoneNumber;Name\n9812345678;José\n", encoding="cp1252")
    book = Workbook()
    sheet = book.create_sheet("March")
    sheet.append(["PhoneNumber", "Name"])
    sheet.append(["919812345678", "Asha"])
    book.save(folder / "leads.xlsx")


def blocks(language: str) -> Iterator[object]:
    for found in _FENCE.finditer(README):
        if found[1] == language:
            line = README[: found.start(2)].count("\n") + 1
            yield pytest.param(found[2], line, id=f"line {line}")


def commands() -> Iterator[list[str]]:
    for found in _FENCE.finditer(README):
        if found[1] == "sh":
            for line in found[2].splitlines():
                for command in line.split(" && "):
                    yield shlex.split(command)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """An empty directory with a leads.csv, and an account in the environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leads.csv").write_text(LEADS, encoding="utf-8")
    (tmp_path / "journals").mkdir()
    write_users_files(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    book = openpyxl.Workbook()
    for sheet in (book.create_sheet("March"), book.create_sheet("April")):
        sheet.append(["Mobile", "Name"])
        sheet.append([919812300001, "Asha"])
    book.save(tmp_path / "leads.xlsx")
    with Simulator.in_thread() as simulator:
        monkeypatch.setenv("OZONETEL_API_KEY", simulator.api_key)
        monkeypatch.setenv("OZONETEL_USERNAME", simulator.username)
        monkeypatch.setenv("OZONETEL_BASE_URL", simulator.base_url)
        monkeypatch.setenv("OZONETEL_DIALER_URL", simulator.dialer_url)
        yield simulator


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Redis of the test's own."""
    if find("redis-server") is None:
        pytest.skip(f"no redis-server here: {HOW}")
    server = RedisServer()
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def test_every_block_is_of_a_known_kind() -> None:
    assert {found[1] for found in _FENCE.finditer(README)} == {"python", "sh"}
    assert README.count("```") == 2 * len(_FENCE.findall(README))


@pytest.mark.parametrize(("code", "line"), list(blocks("python")))
def test_python_blocks_run_as_they_are_pasted(
    code: str, line: int, workplace: Simulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if (address := "redis://localhost:6379/0") in code:
        code = code.replace(address, request.getfixturevalue("redis_url"))
    if "def test_" in code:
        (tmp_path / "test_block.py").write_text(code, encoding="utf-8")
        options = ("-W", "error", "-o", "asyncio_default_fixture_loop_scope=function")
        shown = run_script([sys.executable, "-m", "pytest", *options, "test_block.py"], tmp_path)
        assert "1 passed" in shown
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code = code.replace("8081", str(free.getsockname()[1]))
    (tmp_path / "block.py").write_text(code, encoding="utf-8")
    shown = run_script([sys.executable, "-W", "error", "block.py"], tmp_path)
    assert shown or "print(" not in code
    if "TCPSite" in code:
        assert shown.splitlines()[0] == "1100 0 0"
        assert [callback.status for callback in workplace.callbacks[:3]] == [200] * 3
        assert shown.splitlines()[-1].startswith("True http://127.0.0.1")


async def test_the_receiver_is_mounted_where_the_text_says(workplace: Simulator) -> None:
    (code,) = (found[2] for found in _FENCE.finditer(README) if "receiver.asgi" in found[2])
    scope: dict[str, object] = {}
    exec(code, scope)
    app = scope["app"]
    assert isinstance(app, FastAPI)
    # 404 of ours, for a token that is not known, and not the framework's.
    messages = await ask(app, "/ozonetel/ozcb_00000000000000000000000000000000")
    assert (messages[0]["status"], messages[1]["body"]) == (404, b"not found\n")
    assert (await ask(app, "/elsewhere"))[1]["body"] != b"not found\n"


async def ask(app: FastAPI, path: str) -> list[dict[str, object]]:
    body = b'{"data":{"transactionId":"1","status":"Success"}}'
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    messages: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, object]) -> None:
        messages.append(dict(message))

    await app(scope, receive, send)
    return messages


def run_script(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_commands_exist_and_parse(command: list[str], tmp_path: Path) -> None:
    if command[:4] == ["python", "-m", "pip", "install"]:
        check_install(command[4:])
    elif command != ["python", "-m", "pytest"]:
        own = command[1:] if command[0] == "ozonetel" else command[3:]
        assert command[0] == "ozonetel" or command[:3] == ["python", "-m", "ozonetel_async"]
        assert make_parser().parse_args(own).command in COMMANDS


def check_install(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = re.findall(r"^(?:\.|ozonetel-async)\[(\w+)\]$", arguments[-1])
    assert extra in project["optional-dependencies"]
    assert arguments[:-1] in ([], ["-e"])
    assert project["scripts"]["ozonetel"] == "ozonetel_async.__main__:main"


@pytest.mark.parametrize("command", [found for found in commands() if found[1] == "check"], ids=" ".join)
def test_files_are_checked_as_they_are(
    command: list[str], workplace: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """With as many rows to be sent, and as many left over, as in the files above."""
    main([*command[1:], "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["rows_valid"], told["rows_invalid"]) == {"dirty.csv": (2, 1), "leads.csv": (1_100, 0)}.get(
        command[2], (1, 0)
    )


def test_every_command_is_described() -> None:
    described = {command[1] for command in commands() if command[0] == "ozonetel"}
    assert described == {command.name for command in COMMANDS}


def test_every_error_stands_in_the_row_of_its_outcome() -> None:
    rows = re.findall(r"^\| `(not_sent|refused|unknown)` \| (.*?) \|", README, re.MULTILINE)
    told = {name: outcome for outcome, names in rows for name in re.findall(r"`(\w+)`", names)}
    found = {name: getattr(ozonetel_async, name) for name in ozonetel_async.__all__ if name.endswith("Error")}
    # The root has no outcome of its own, and reading a callback sends nothing whose outcome could be in doubt.
    assert told == {name: kind.outcome for name, kind in found.items() if kind not in (OzonetelError, CallbackError)}


def test_every_setting_is_in_the_table() -> None:
    section = README.partition("## Settings")[2].partition("###")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    told = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert told == set(inspect.signature(OzonetelClient).parameters)
    assert f"`{DEFAULT_BASE_URL}`" in section
    assert f"`{DEFAULT_DIALER_URL}`" in section
    assert set(re.findall(r"`(OZONETEL_\w+)`", section)) == {
        f"OZONETEL_{name}" for name in ("API_KEY", "USERNAME", "BASE_URL", "DIALER_URL")
    }


def test_names_in_the_text_exist() -> None:
    dotted = re.findall(r"`(client|report|error)\.(\w+)", README)
    assert dotted
    places = {
        "client": [*dir(OzonetelClient), "queues", "legacy"],
        "report": dir(ozonetel_async.UploadReport),
        "error": vars(OzonetelError("x")),
    }
    for place, name in dotted:
        assert name in places[place], f"{place}.{name}"


def test_exit_codes_are_all_told() -> None:
    section = README.partition("Exit codes:")[2].partition(".")[0]
    assert [int(code) for code in re.findall(r"\b\d+\b", section)] == [code.value for code in Exit]


def test_the_changelog_keeps_its_form() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", changelog, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert all(day for _, day in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
