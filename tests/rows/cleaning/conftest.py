"""The tables of right answers that the tests of cleaning share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

Table: TypeAlias = Callable[[str], list[dict[str, str]]]

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([tnr\\]))")
_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: _LETTERS[m[3]] if m[3] else chr(int(m[1] or m[2], 16)), text)


@pytest.fixture(scope="session")
def table() -> Table:
    """Reads a ``.tsv`` of this folder: one dictionary per line, its ``input`` with escapes resolved."""

    def read(name: str) -> list[dict[str, str]]:
        lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
        header, *rows = [line.split("\t") for line in lines]
        found = [dict(zip(header, row, strict=True)) for row in rows]
        return [row | {"input": _unescaped(row["input"])} for row in found]

    return read
