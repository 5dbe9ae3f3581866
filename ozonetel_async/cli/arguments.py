"""Arguments that several commands share, and the types of all values on the command line."""

from __future__ import annotations

import argparse
import re
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from ..config import DEFAULT_TIMEZONE, Limits, RateLimit, Timeouts
from ..errors import ConfigurationError, InputError
from ..rows.csv_file import CsvRows, read_csv
from ..rows.rejects import is_same_file

__all__ = [
    "Address",
    "add_file_arguments",
    "add_link_arguments",
    "add_network_arguments",
    "add_output_arguments",
    "add_service_arguments",
    "address",
    "check_other_files",
    "latency",
    "limit_of",
    "open_rows",
    "port",
    "row_count",
    "seconds",
]

_Endpoint = Literal["bulk", "schedule", "dial_status"]

_SIMULATED_SECONDS: Final = 2.0
_MOST_ROWS: Final = 10_000_000


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


def _rate_limit(text: str) -> RateLimit:
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


def open_rows(args: argparse.Namespace) -> CsvRows:
    """The rows of the file."""
    try:
        return read_csv(args.file, dict(args.column), encoding=args.encoding, delimiter=args.delimiter)
    except (ConfigurationError, InputError) as error:
        raise type(error)(_as_options(error.message)) from None


_OPTIONS: Final = (
    (re.compile(r"""columns=\{(['"])(.*?)\1: None\}"""), r'--column "\2="'),
    (re.compile(r"""columns=\{(['"])(.*?)\1: '(.*?)'\}"""), r'--column "\2=\3"'),
    (re.compile(r"columns=\{HEADER: '(.*?)'\}"), r'--column "HEADER=\1"'),
    (re.compile(r"encoding='([^']+)'"), r"--encoding \1"),
)


def _as_options(message: str) -> str:
    """A message of ``read_csv`` in terms of the command line."""
    for argument, option in _OPTIONS:
        message = argument.sub(option, message)
    return message


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
        type=_rate_limit,
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
