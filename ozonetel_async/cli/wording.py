"""Messages of the library in the words of the command line: options in place of arguments."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Callable
from typing import Final

__all__ = ["as_options"]

_SAFE_IN_DOUBLE_QUOTES = re.compile(r'[^"$`\\!]*')


def _column(found: re.Match[str]) -> str:
    header = found[1] if found[1] == "HEADER" else ast.literal_eval(found[1])
    column: str | None = ast.literal_eval(found[2])
    given = f"{header}={column or ''}"
    return f'--column "{given}"' if _SAFE_IN_DOUBLE_QUOTES.fullmatch(given) else f"--column {shlex.quote(given)}"


_TABLE: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"""columns=\{('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|HEADER): (None|'[^']*')\}""", _column),
        (r"\bskip_lines=(\d+)", r"--skip-lines \1"),
        (r"\bencoding='([\w-]+)'", r"--encoding \1"),
        (
            r"\bencoding ('[^']*') is not known; expected 'utf-8-sig' or",
            r"--encoding \1 is not known; expected",
        ),
        (r"\bdelimiter must be", "--delimiter must be"),
        (r"\bsheet=, one of", "--sheet NAME, with one of"),
        (r"\bno sheet ('[^']*'); right", r"no sheet \1; right for --sheet"),
        (r"such as --encoding cp1252 or 'utf-16'", "such as --encoding cp1252 or --encoding utf-16"),
        (r"(?<!-)\b(rejects|changes|timezone|proxy): ", r"--\1: "),
        (r"\b(base|dialer|callback)_url: ", r"--\1-url: "),
        (r"\bcallback_timeout: ", "--callback-timeout: "),
        (r" or pass api_key=", ""),
        (r"\bcolumns: column", "column"),
        (r"belongs to schedule_leads only", 'is for "ozonetel schedule" only'),
        (r"\bor pass username=", "or pass --username"),
        (r"\bon_unknown='resend' needs check_duplicate=True", "--on-unknown resend needs --check-duplicate"),
        (r"\bLinkPolicy\.hosts\b", "--link-host"),
        (r"; if that is right, name it in LinkPolicy\.networks", ""),
        # These reach people only by standard input: files are told apart before.
        (r"pass it to read_excel", "name the file itself instead of passing it by standard input"),
        (r"an Excel file for read_excel", "an Excel file"),
        (r"read it with json, and pass the list of its leads", "write its leads into a CSV file"),
        (r"read it with pandas, polars or pyarrow, and pass the data frame", "write its table into a CSV file"),
        (r"pass the cursor of a query", "write the result of a query into a CSV file"),
        (r"\bread_excel needs", "reading Excel files needs"),
        (r"since read_csv read it", "since it was first read"),
        (r"\bthe same clean=", "the same --clean, --country, --form, --names and --text"),
    )
)


def as_options(text: str, journal: str | None = None) -> str:
    """A message of the library with options in place of arguments.

    Args:
        text: the message.
        journal: the whole path of the journal, of which messages tell the name only.
    """
    for pattern, words in _TABLE:
        text = pattern.sub(words, text)
    if journal is None:
        return text
    return text.replace(f"journal {os.path.basename(journal)}", f"journal {journal}")
