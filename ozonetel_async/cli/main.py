"""The command ``ozonetel``: one row of ``COMMANDS`` for each thing it does.

A command declares its arguments and is a coroutine function that returns an exit code. What it prints goes through a
``Screen``; every error of the library ends as one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import textwrap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import NoReturn

from msgspec import Struct

from ..errors import ConfigurationError, InputError, InvalidLeadError, JournalError, OzonetelError
from .commands import check, demo, dial_status, failed_rows, receive, resume, schedule, simulate, status, upload
from .screen import Exit, OutputError, Screen, StdoutError, streams
from .signals import cancel_on_signals

__all__ = ["COMMANDS", "Command", "UsageError", "main", "make_parser"]


class Command(Struct, frozen=True):
    """One subcommand.

    Attributes:
        name: what the user types.
        summary: one line for the list of commands.
        add_arguments: declares its arguments.
        run: does it; returns the exit code. Interruption arrives as ``asyncio.CancelledError``.
        keys: of the object that ``--json`` prints, with what they hold.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Screen], Awaitable[int]]
    keys: Mapping[str, str] = {}


COMMANDS = (
    Command(
        "check",
        "tell what an upload would do with a file, without sending anything",
        check.add_arguments,
        check.run,
        check.CHECK_KEYS,
    ),
    Command(
        "upload",
        "upload a file of leads, CSV or Excel, into a campaign",
        upload.add_arguments,
        upload.run,
        upload.JOB_KEYS,
    ),
    Command("resume", "continue the upload of a journal", resume.add_arguments, resume.run, upload.JOB_KEYS),
    Command(
        "status",
        "show what a journal says of its upload, also while it runs",
        status.add_arguments,
        status.run,
        status.STATUS_KEYS,
    ),
    Command(
        "failed-rows",
        "write the rows that the service did not add into a CSV file",
        failed_rows.add_arguments,
        failed_rows.run,
        failed_rows.FAILED_KEYS,
    ),
    Command(
        "receive",
        "receive the callbacks of uploads, until Ctrl-C",
        receive.add_arguments,
        receive.run,
        receive.RECEIVE_KEYS,
    ),
    Command(
        "schedule",
        "have the leads of a file dialled at set times",
        schedule.add_arguments,
        schedule.run,
        schedule.SCHEDULE_KEYS,
    ),
    Command(
        "dial-status",
        "get a campaign's dial status as a file",
        dial_status.add_arguments,
        dial_status.run,
        dial_status.EXPORT_KEYS,
    ),
    Command(
        "demo",
        "upload a made-up file to a simulator and check the result",
        demo.add_arguments,
        demo.run,
        demo.DEMO_KEYS,
    ),
    Command("simulate", "run a simulator of the service", simulate.add_arguments, simulate.run),
)

_EPILOG = """\
environment:
  OZONETEL_API_KEY     API key of the account. There is no argument for it: arguments show in the list of processes.
  OZONETEL_USERNAME    user name of the account
  OZONETEL_BASE_URL    host of the API; default: the domestic host
  OZONETEL_DIALER_URL  host of the dial-status API; default: the domestic host
  HTTPS_PROXY          proxy for requests and downloads, with user name and password where it needs them
  NO_PROXY             hosts to reach without it

exit codes:
  0    all of it: every row accepted (of check: valid) and, if callbacks were waited for, added; every failed row
       found; the export saved; every check of demo held; receive and simulate ended by Ctrl-C
  1    not all of it: see what is printed; also when the input has no rows, and when the result could not be
       written to stdout or --out
  2    wrong usage or configuration, an unreadable file or journal; nothing was sent
  3    stopped early: the service would refuse every further request, it cannot be reached, the input broke off, or
       an awaited callback did not come
  130  interrupted by Ctrl-C or SIGTERM. The first lets uploads and schedules finish the requests under way;
       the second ends them at once. Both print what was done by then
"""


def _epilog(keys: Mapping[str, str]) -> str:
    if not keys:
        return _EPILOG
    keys = {
        **keys,
        "exit_code": "as below",
        "error, message": "in place of most others, when the command failed as a whole or was interrupted",
    }
    width = max(map(len, keys)) + 2
    lines = [
        textwrap.fill(text, 118, initial_indent=f"  {name:<{width}}", subsequent_indent=" " * (width + 2))
        for name, text in keys.items()
    ]
    return "\n".join(["keys of --json:", *lines, "", _EPILOG])


# Found before anything is sent. What the service refuses or leaves open is no mistake of usage.
_MISTAKES = (ConfigurationError, InputError, InvalidLeadError, JournalError)


class UsageError(Exception):
    """The command line cannot be understood."""


class _Parser(argparse.ArgumentParser):
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse all arguments: what a command does not know is its own error, and not one of the whole command line."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` without repeating values: an unknown argument may be a key that has no option here."""
        head, found, rest = message.partition("unrecognized arguments: ")
        if found:
            names = [word.partition("=")[0] for word in rest.split() if word.startswith("-")]
            message = f"{head}{found}{' '.join(names) or 'more values than expected'}"
            if any("key" in name for name in names):
                message += "; the API key is read from OZONETEL_API_KEY only"
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it parses holds the ``command`` to run."""
    style = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="ozonetel",
        description="Leads into Ozonetel CloudAgent campaigns, within the service's rate limits.",
        epilog=_EPILOG,
        formatter_class=style,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('ozonetel-async')}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for command in COMMANDS:
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=_epilog(command.keys),
            formatter_class=style,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(command=command, json=False, quiet=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    Args:
        argv: the arguments, by default those of the process.
    """
    # The report says what the library would log.
    logging.getLogger("ozonetel_async").addHandler(logging.NullHandler())
    out, err = streams()
    try:
        try:
            args = make_parser().parse_args(argv)
        except UsageError as error:
            as_json = "--json" in (sys.argv[1:] if argv is None else argv)
            Screen(out, err, as_json=as_json).fail(error, Exit.USAGE)
            return Exit.USAGE
        journal = getattr(args, "journal", None)
        return _perform(args, Screen(out, err, as_json=args.json, quiet=args.quiet, journal=journal))
    except StdoutError:
        return Exit.NOT_ALL


def _perform(args: argparse.Namespace, screen: Screen) -> int:
    try:
        return int(asyncio.run(_run(args, screen)))
    except OzonetelError as error:
        code = Exit.USAGE if isinstance(error, _MISTAKES) else Exit.STOPPED
        screen.fail(error, code)
    except OutputError as error:
        code = Exit.NOT_ALL
        screen.fail(error, code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = Exit.INTERRUPTED
        screen.interrupted()
    return code


async def _run(args: argparse.Namespace, screen: Screen) -> int:
    cancel_on_signals()
    command: Command = args.command
    return await command.run(args, screen)
