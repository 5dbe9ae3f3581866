"""The input file of a command, and the files beside it."""

from __future__ import annotations

import argparse

from ..errors import ConfigurationError
from ..rows.csv_file import CsvRows, read_csv
from ..rows.rejects import is_same_file

__all__ = ["add_file_arguments", "check_other_files", "open_rows"]


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file, its format, and the campaign it is for."""
    parser.add_argument("file", help="CSV file with a header, UTF-8 unless --encoding says otherwise")
    parser.add_argument("-c", "--campaign", required=True, help="an outbound campaign")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_rename,
        metavar="HEADER=COLUMN",
        help='the service\'s column for a header, such as "Mobile=PhoneNumber"; "Remarks=" leaves one out; repeatable',
    )
    parser.add_argument("--encoding", default="utf-8-sig", help="the file's encoding, such as cp1252")
    parser.add_argument("--delimiter", help="one character; found from the header by default")


def _rename(text: str) -> tuple[str, str | None]:
    header, equals, column = text.rpartition("=")
    if not equals or not header:
        raise argparse.ArgumentTypeError('must look like "Mobile=PhoneNumber", or "Remarks=" to leave a column out')
    return header, column or None


def open_rows(args: argparse.Namespace) -> CsvRows:
    """The rows of the file."""
    try:
        return read_csv(args.file, dict(args.column), encoding=args.encoding, delimiter=args.delimiter)
    except ConfigurationError as error:
        if "columns={" not in error.message:
            raise
        raise ConfigurationError(f"{error.message}; on the command line: --column HEADER=COLUMN") from None


def check_other_files(option: str, path: str | None, precious: dict[str, str | None]) -> None:
    """Raise ``ConfigurationError`` when ``path``, to be written, is one of the ``precious`` files, by what they are."""
    for name, other in precious.items():
        if path is not None and other is not None and is_same_file(path, other):
            raise ConfigurationError(f"{option} names the {name}, which would be overwritten; name another one")
