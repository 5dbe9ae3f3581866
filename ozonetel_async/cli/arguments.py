"""Arguments that several commands share, and the types of all values on the command line."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final, Literal, get_args
from urllib.parse import urlsplit

from msgspec import Struct

from ..config import (
    DEFAULT_TIMEZONE,
    Cleaning,
    Country,
    Limits,
    NamePolicy,
    PhoneForm,
    RateLimit,
    TextPolicy,
    Timeouts,
)
from ..errors import ConfigurationError
from ..rows.csv_file import read_csv
from ..rows.excel import read_excel
from ..rows.files import FileRows, holds_workbook
from ..rows.output_files import is_same_file
from ..rows.rejects import Rejects

if TYPE_CHECKING:
    from .screen import Screen

__all__ = [
    "Address",
    "add_changes_argument",
    "add_file_arguments",
    "add_link_arguments",
    "add_network_arguments",
    "add_output_arguments",
    "add_rejects_arguments",
    "add_service_arguments",
    "address",
    "check_changes",
    "check_other_files",
    "cleaning_of",
    "latency",
    "limit_of",
    "open_rows",
    "port",
    "rate_limit",
    "rejects_of",
    "row_count",
    "seconds",
]

_Endpoint = Literal["bulk", "schedule", "dial_status"]

_SIMULATED_SECONDS: Final = 2.0
_MOST_ROWS: Final = 10_000_000
_MOST_LINES: Final = 1_000
_CLEANING_OPTIONS: Final = ("country", "form", "names", "text")


# -- types of values; they never repeat what was given, which may be a key in the wrong place ----------------------


def _number_in(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"\d{1,8}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}")
    return int(text)


def port(text: str) -> int:
    """A port to listen on; 0 takes a free one."""
    return _number_in(text, 0, 65_535)


def row_count(text: str) -> int:
    """How many rows a made-up file gets."""
    return _number_in(text, 1, _MOST_ROWS)


def _lines(text: str) -> int:
    return _number_in(text, 0, _MOST_LINES)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}", text) or float(text) == 0:
        raise argparse.ArgumentTypeError("expected a number of seconds above 0, such as 2 or 0.5")
    return float(text)


def latency(text: str) -> tuple[float, float]:
    """``"0.05"`` or ``"0.02,0.08"`` as least and most seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(?:,(\d{1,6}(?:\.\d{1,6})?))?", text)
    if found is None:
        raise argparse.ArgumentTypeError("expected seconds, such as 0.05, or least and most seconds, such as 0.02,0.08")
    least, most = float(found.group(1)), float(found.group(2) or found.group(1))
    if least > most:
        raise argparse.ArgumentTypeError("expected the least seconds first")
    return least, most


class Address(Struct, frozen=True):
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """``"127.0.0.1:8081"`` as an address."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):(\d{1,5})", text)
    if found is None or int(found.group(2)) > 65_535:
        raise argparse.ArgumentTypeError("expected a host or address, a colon and a port, such as 127.0.0.1:8081")
    return Address(found.group(1).strip("[]"), int(found.group(2)))


def _rename(text: str) -> tuple[str, str | None]:
    header, equals, column = text.rpartition("=")
    if not equals or not header:
        raise argparse.ArgumentTypeError('expected "Mobile=PhoneNumber", or "Remarks=" to leave a column out')
    return header, column or None


def rate_limit(text: str) -> RateLimit:
    """``"5/60"`` as 5 requests in any 60 seconds."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,6})?)", text)
    if found is None:
        raise argparse.ArgumentTypeError("expected requests, a slash and seconds, such as 5/60")
    try:
        return RateLimit(int(found.group(1)), float(found.group(2)))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _proxy(text: str) -> str:
    if "@" in urlsplit(text).netloc:
        raise argparse.ArgumentTypeError(
            "expected a URL without user name and password: arguments show in the list of processes; set HTTPS_PROXY"
        )
    return text


# -- the input file and the files beside it ------------------------------------------------------------------------


def add_file_arguments(parser: argparse.ArgumentParser, *, sends: bool = True) -> None:
    """Declare the file, its format, the campaign it is for, and what is repaired in it.

    Args:
        parser: of the command.
        sends: whether rows are sent, for which the campaign must be known.
    """
    parser.add_argument("file", help='CSV (also .gz) or Excel file with a header; "-" reads CSV from standard input')
    told = "an outbound campaign" if sends else "not needed; taken so that an upload can be checked by its own options"
    parser.add_argument("-c", "--campaign", required=sends, help=told)
    table = parser.add_argument_group("the file")
    table.add_argument(
        "--column",
        action="append",
        default=[],
        type=_rename,
        metavar="HEADER=COLUMN",
        help='the service\'s column for a header, such as "Mobile=PhoneNumber"; "Remarks=" leaves one out; repeatable',
    )
    table.add_argument(
        "--only", action="store_true", help="send the service's columns and those of --column, no others"
    )
    table.add_argument(
        "--skip-lines", type=_lines, default=0, metavar="N", help="lines above the header, such as a title"
    )
    table.add_argument("--sheet", metavar="NAME", help="sheet of an Excel file; default: the only one with cells")
    table.add_argument("--encoding", help="of a CSV file, such as cp1252; default: UTF-8, or what its first bytes tell")
    table.add_argument("--delimiter", help="of a CSV file, one character; found from the header by default")
    _add_cleaning_arguments(parser)


def open_rows(args: argparse.Namespace, screen: Screen | None = None) -> FileRows:
    """The rows of the file; ``screen`` tells what was taken for what in its header."""
    columns: dict[str, str | None] = dict(args.column)
    if args.file != "-" and holds_workbook(args.file):
        for option in ("encoding", "delimiter"):
            if getattr(args, option) is not None:
                raise ConfigurationError(f"--{option}: expected a CSV file beside it, got an Excel file: {args.file}")
        rows: FileRows = read_excel(args.file, args.sheet, columns, skip_lines=args.skip_lines, only=args.only)
    elif args.sheet is not None:
        raise ConfigurationError(f"--sheet: expected an Excel file beside it, got another file: {args.file}")
    else:
        rows = read_csv(
            args.file,
            columns,
            encoding=args.encoding or "utf-8-sig",
            delimiter=args.delimiter,
            skip_lines=args.skip_lines,
            only=args.only,
        )
    if screen is not None:
        for note in rows.notes:
            screen.note(f"{args.file}: {note}")
    return rows


def _add_cleaning_arguments(parser: argparse.ArgumentParser) -> None:
    cleaning = parser.add_argument_group(
        "cleaning", "Nothing is guessed: a cell that may mean two things stays invalid."
    )
    cleaning.add_argument(
        "--clean", action="store_true", help="repair what can be repaired; the next four choose how, and switch it on"
    )
    cleaning.add_argument(
        "--country", choices=get_args(Country), help="check every number against this country's numbering plan"
    )
    cleaning.add_argument(
        "--form",
        choices=get_args(PhoneForm),
        help="how numbers of --country are written: as given (the default), +919812345678, 919812345678 or 9812345678",
    )
    cleaning.add_argument(
        "--names",
        choices=get_args(NamePolicy),
        help="names: letters A to Z in place of others (latin, the default), punctuation only, left out (drop), or "
        "as they are (refuse)",
    )
    cleaning.add_argument(
        "--text", choices=get_args(TextPolicy), help="line breaks in further columns: keep (the default) or one_line"
    )
    add_changes_argument(cleaning)


def add_changes_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--changes``."""
    parser.add_argument("--changes", metavar="FILE", help="CSV for the cells that were cleaned, before and after")


def cleaning_of(args: argparse.Namespace) -> Cleaning | None:
    """What is to be repaired; None changes nothing.

    Raises:
        ConfigurationError: an option lacks the one it needs.
    """
    chosen = {name: getattr(args, name) for name in _CLEANING_OPTIONS if getattr(args, name) is not None}
    if args.form not in (None, "given") and args.country is None:
        raise ConfigurationError(f"--form {args.form} needs --country, whose numbers are to be written so")
    cleaning = Cleaning(**chosen) if args.clean or chosen else None
    check_changes(args, cleaning)
    return cleaning


def check_changes(args: argparse.Namespace, cleaning: Cleaning | None) -> None:
    """Check that ``--changes`` is given only where something is changed.

    Raises:
        ConfigurationError: it is given without.
    """
    if args.changes is not None and cleaning is None:
        raise ConfigurationError("--changes needs --clean: nothing is changed without it")


def add_rejects_arguments(parser: argparse._ActionsContainer, *, sends: bool = True) -> None:
    """Declare the file of rejects.

    Args:
        parser: of the command.
        sends: whether rows are sent, which the service may refuse.
    """
    parser.add_argument(
        "--rejects", metavar="FILE", help="CSV for the invalid rows and their reasons, to be mended and sent again"
    )
    if sends:
        parser.add_argument(
            "--rejects-refused",
            action="store_true",
            help="write rows there as well that the service refused or that were not sent",
        )
    parser.add_argument(
        "--rejects-bom", action="store_true", help="begin it with the byte order mark by which Excel knows UTF-8"
    )
    parser.add_argument(
        "--rejects-escape",
        action="store_true",
        help="put an apostrophe before cells there that a spreadsheet would compute; taken away when it is sent again",
    )


def rejects_of(args: argparse.Namespace) -> Rejects | None:
    """Where rejects are to be written, if at all.

    Raises:
        ConfigurationError: an option lacks ``--rejects``.
    """
    given = {name: bool(getattr(args, f"rejects_{name}", False)) for name in ("refused", "bom", "escape")}
    if args.rejects is not None:
        return Rejects(args.rejects, **given)
    for name, value in given.items():
        if value:
            raise ConfigurationError(f"--rejects-{name} needs --rejects FILE")
    return None


def check_other_files(option: str, path: str | None, inputs: dict[str, str | None]) -> None:
    """Check that a file to be written is none of the files that are read.

    Args:
        option: the option that names ``path``.
        path: the file to be written.
        inputs: the files that are read, by what they are.

    Raises:
        ConfigurationError: it is one of them.
    """
    for name, other in inputs.items():
        if path is not None and other is not None and is_same_file(path, other):
            raise ConfigurationError(f"{option} names the {name}, which would be overwritten; name another file")


def add_output_arguments(parser: argparse.ArgumentParser, *, progress: bool = True) -> None:
    """Declare ``--json`` and ``--quiet``."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    if progress:
        parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


# -- the service ---------------------------------------------------------------------------------------------------


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
        type=rate_limit,
        metavar="N/SECONDS",
        help=f"requests in any so many seconds (default: {limit.requests}/{limit.per:g}; "
        f"{limit.requests}/{_SIMULATED_SECONDS:g} with --simulate)",
    )
    service.add_argument(
        "--timeout",
        type=seconds,
        default=Timeouts().total,
        metavar="SECONDS",
        help="most seconds for one request (default: %(default)g)",
    )
    add_network_arguments(service)
    parser.set_defaults(endpoint=endpoint)


def add_network_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the proxy and the authorities for requests and downloads."""
    parser.add_argument(
        "--proxy",
        type=_proxy,
        metavar="URL",
        help="send requests and fetch files through this proxy; default: HTTPS_PROXY, but for hosts in NO_PROXY",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", help="certificates (PEM) of further authorities to trust, such as a proxy's"
    )


def limit_of(args: argparse.Namespace) -> RateLimit:
    """The limit of the command's endpoint."""
    given: RateLimit | None = args.limit
    default: RateLimit = getattr(Limits(), args.endpoint)
    return given or (RateLimit(default.requests, _SIMULATED_SECONDS) if args.simulate else default)


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
