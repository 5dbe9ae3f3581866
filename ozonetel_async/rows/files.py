"""Files of either kind, CSV or workbook: which one it is, and reading it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias

from msgspec import json

from .csv_file import CsvRows
from .excel import ExcelRows
from .file_kinds import FIRST_BYTES, is_workbook

__all__ = ["FileRows", "holds_workbook", "reopen"]

FileRows: TypeAlias = CsvRows | ExcelRows


def holds_workbook(path: str) -> bool:
    """Whether a file is for ``read_excel``, told by its first bytes, and by its suffix where they leave it open."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return is_workbook(file.read(FIRST_BYTES), path)
    except OSError:
        return False  # told when it is opened to be read


def reopen(source: Mapping[str, str]) -> FileRows:
    """Open the file of earlier rows in the same way, from their ``source``."""
    columns = json.decode(source["columns"], type=dict[str, str | None])
    skip_lines, only = int(source.get("skip_lines", "0")), source.get("only") == "true"
    if "sheet" in source:
        return ExcelRows(source["path"], source["sheet"], columns, skip_lines=skip_lines, only=only)
    return CsvRows(
        source["path"],
        columns,
        encoding=source["encoding"],
        delimiter=source["delimiter"],
        skip_lines=skip_lines,
        only=only,
    )
