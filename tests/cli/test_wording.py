"""Messages of the library as the command line tells them."""

from __future__ import annotations

import shlex

import pytest

from ozonetel_async import read_csv
from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.cli.wording import as_options


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("say which: columns={'Mobile': 'PhoneNumber'}", 'say which: --column "Mobile=PhoneNumber"'),
        ("leave both out: columns={'Notes': None}; more", 'leave both out: --column "Notes="; more'),
        ("columns={HEADER: 'PhoneNumber'}", '--column "HEADER=PhoneNumber"'),
        ("line 2 does: skip_lines=1", "line 2 does: --skip-lines 1"),
        ("such as encoding='cp1252' or 'utf-16'", "such as --encoding cp1252 or --encoding utf-16"),
        ("say which one: sheet=, one of 'A', 'B'", "say which one: --sheet NAME, with one of 'A', 'B'"),
        ("rejects: cannot write x", "--rejects: cannot write x"),
        ("timezone: expected an IANA name", "--timezone: expected an IANA name"),
        (
            "Continue it with the same clean=",
            "Continue it with the same --clean, --country, --form, --names and --text",
        ),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_arguments_become_options(text: str, told: str) -> None:
    assert as_options(text) == told


@pytest.mark.parametrize("header", ["Mobile", "It's", 'A "b"', "$HOME", "`x`", "a{b}", "a\\b", "Größe", "x!y"])
def test_a_column_option_is_one_word_of_a_shell(header: str) -> None:
    words = shlex.split(as_options(f"columns={{{header!r}: 'PhoneNumber'}}"))
    assert words == ["--column", f"{header}=PhoneNumber"]


def test_a_journal_is_told_with_its_folder() -> None:
    assert as_options("journal x.db: in use", "/data/x.db") == "journal /data/x.db: in use"


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", "leads.csv", "-c", "x"],
        ["upload", "leads.csv", "-c", "x", "--simulate", "--timezone", "Mars"],
        ["upload", "leads.csv", "-c", "x", "--simulate", "--on-unknown", "resend"],
        ["upload", "leads.csv", "-c", "x", "--simulate", "--rejects", "/missing/x.csv"],
        ["upload", "leads.csv", "-c", "x", "--simulate", "--clean", "--changes", "/missing/x.csv"],
        ["check", "leads.csv", "--encoding", "utf-16"],
        ["check", "leads.csv", "--encoding", "nope"],
        ["check", "leads.csv", "--delimiter", "ab"],
        ["check", "leads.csv", "--column", "Missing=PhoneNumber"],
        ["check", "leads.csv", "--column", "PhoneNumber="],
        ["check", "leads.csv", "--sheet", "x"],
        ["check", "leads.csv", "--form", "digits"],
        ["check", "leads.csv", "--clean", "--rejects-bom"],
        ["check", "leads.json"],
        ["resume", "leads.csv"],
    ],
)
def test_mistakes_are_told_without_names_of_python(
    arguments: list[str], leads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("leads.json", "w", encoding="utf-8") as file:
        file.write('[{"PhoneNumber": "1"}]')
    assert main(arguments) == Exit.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    for name in ("=True", "={", "='", "read_csv", "read_excel", "Cleaning", "None", "api_key=", "_lines", "clean="):
        assert name not in line


def test_what_the_header_is_taken_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with open("x.csv", "w", encoding="utf-8") as file:
        file.write("Mobile,Name\n919812345678,Asha\n")
    (note,) = read_csv("x.csv").notes
    assert main(["upload", "x.csv", "-c", "x", "--simulate"]) == Exit.OK
    assert capsys.readouterr().err.splitlines()[0] == f"x.csv: {note}"
