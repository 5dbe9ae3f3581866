"""The input file of a command, and the files beside it."""

from __future__ import annotations

import argparse
import re
from typing import Final, Literal

from ..config import DEFAULT_TIMEZONE, Limits, RateLimit
from ..errors import ConfigurationError, InputError
from ..rows.csv_file import CsvRows, read_csv
from ..rows.rejects import is_same_file

__all__ = [
    "add_file_arguments",
    "add_link_arguments",
    "add_output_arguments",
    "add_service_arguments",
    "check_other_files",
    "limit_of",
    "open_rows",
]


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
    except (ConfigurationError, InputError) as error:
        if "columns={" not in error.message:
            raise
        raise type(error)(f"{error.message}; on the command line: --column HEADER=COLUMN") from None


def check_other_files(option: str, path: str | None, precious: dict[str, str | None]) -> None:
    """Raise ``ConfigurationError`` when ``path``, to be written, is one of the ``precious`` files, by what they are."""
    for name, other in precious.items():
        if path is not None and other is not None and is_same_file(path, other):
            raise ConfigurationError(f"{option} names the {name}, which would be overwritten; name another one")


_Endpoint = Literal["bulk", "schedule", "dial_status"]


_SIMULATED_SECONDS: Final = 2.0


def add_output_arguments(parser: argparse.ArgumentParser, *, progress: bool = True) -> None:
    """Declare ``--json`` and ``--quiet``."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    if progress:
        parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def add_service_arguments(parser: argparse.ArgumentParser, endpoint: _Endpoint) -> None:
    """Declare how to reach the service, and the limit of ``endpoint``."""
    limit: RateLimit = getattr(Limits(), endpoint)
    service = parser.add_argument_group("the service")
    service.add_argument("--simulate", action="store_true", help="use a simulator instead; needs no account")
    service.add_argument("--base-url", help="host of the API; default: OZONETEL_BASE_URL, else the domestic host")
    service.add_argument("--username", help="user name of the account; default: OZONETEL_USERNAME")
    service.add_argument(
        "--auth", choices=("basic", "token"), default="basic", help='as the account\'s setting "API Authentication"'
    )
    service.add_argument("--timezone", default=DEFAULT_TIMEZONE, help="the platform's zone (default: %(default)s)")
    service.add_argument(
        "--limit",
        type=_rate_limit,
        metavar="N/SECONDS",
        help=f"requests in any so many seconds (default: {limit.requests}/{limit.per:g}; "
        f"{limit.requests}/{_SIMULATED_SECONDS:g} with --simulate)",
    )
    parser.set_defaults(endpoint=endpoint)


def add_link_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare from where files may be fetched."""
    parser.add_argument(
        "--link-host",
        action="append",
        default=[],
        metavar="HOST",
        help="fetch files from this host too, beside the one the service documents; "
        '"localhost" for those of "ozonetel simulate"; repeatable',
    )


def _rate_limit(text: str) -> RateLimit:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,6})?)", text)
    if found is None:
        raise argparse.ArgumentTypeError("must look like 5/60: requests, a slash, seconds")
    try:
        return RateLimit(int(found.group(1)), float(found.group(2)))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def limit_of(args: argparse.Namespace) -> RateLimit:
    """The limit of the command's endpoint."""
    given: RateLimit | None = args.limit
    default: RateLimit = getattr(Limits(), args.endpoint)
    return given or (RateLimit(default.requests, _SIMULATED_SECONDS) if args.simulate else default)
