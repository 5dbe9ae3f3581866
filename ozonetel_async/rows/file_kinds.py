"""Files that are no CSV, known by their first bytes."""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["FIRST_BYTES", "encoding_of", "is_gzip", "is_workbook", "not_csv"]

FIRST_BYTES: Final = 512

_EXCEL = "pass it to read_excel"
_WORKBOOKS: Final = (".xlsx", ".xlsm", ".xlsb", ".ods")
_EXPORT = "save its table as CSV, or as an Excel file for read_excel"
_UNPACK = "unpack it first, and pass the file in it"
_KINDS: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls) or another Office document", _EXCEL),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"{\\rtf", "a text document (.rtf)", _EXPORT),
    (b"\x89PNG", "a picture", _EXPORT),
    (b"\xff\xd8\xff", "a picture", _EXPORT),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"PAR1", "a Parquet file", "read it with pandas, polars or pyarrow, and pass the data frame"),
    (b"ARROW1", "an Arrow file", "read it with pandas, polars or pyarrow, and pass the data frame"),
    (b"SQLite format 3\0", "an SQLite database", "pass the cursor of a query"),
    (b'{"', "JSON", "read it with json, and pass the list of its leads"),
    (b"[{", "JSON", "read it with json, and pass the list of its leads"),
)
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml", b"<table", b"<head", b"<meta")


def is_gzip(start: bytes) -> bool:
    """Whether a file that begins so is compressed with gzip."""
    return start.startswith(b"\x1f\x8b")


def is_workbook(start: bytes, name: str) -> bool:
    """Whether a file that begins so is for ``read_excel``.

    Args:
        start: its first bytes.
        name: its name, whose suffix tells workbooks from other zip archives.
    """
    if start.startswith(b"PK\x03\x04") and name.lower().endswith(_WORKBOOKS):
        return True
    return (not_csv(start) or "").endswith(_EXCEL)


def encoding_of(start: bytes) -> str | None:
    """The encoding that a file's byte order mark tells, when it is another than UTF-8."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def not_csv(start: bytes) -> str | None:
    """What a file is that begins so, and what to do with it; None when it may be CSV."""
    if start.startswith(b"PK\x03\x04"):
        return _zipped(start)
    for mark, kind, remedy in _KINDS:
        if start.startswith(mark):
            return f"{kind}, not CSV; {remedy}"
    if start.lstrip().removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(_MARKUP):
        return f"a page of HTML or XML, not CSV; {_EXPORT}"
    return None


def _zipped(start: bytes) -> str:
    """Office documents are zip archives, too."""
    if b"opendocument.spreadsheet" in start:
        return f"an OpenDocument spreadsheet (.ods), not CSV; {_EXCEL}"
    if any(name in start for name in (b"[Content_Types].xml", b"xl/", b"_rels/", b"docProps/")):
        return f"an Excel workbook (.xlsx) or another Office document, not CSV; {_EXCEL}"
    return f"a zip archive, not CSV; {_UNPACK}"
