"""The command ``ozonetel``: one row of ``COMMANDS`` for each thing it does.

A command declares its arguments and is a coroutine function that returns an exit code. What it prints goes through a
``Screen``; every error of the library ends as one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import NoReturn

from msgspec import Struct

from . import cli_demo, cli_simulate, cli_upload
from .cli_output import Exit, Screen, streams
from .errors import OzonetelError

__all__ = ["COMMANDS", "Command", "main", "make_parser"]


class Command(Struct, frozen=True):
    """One subcommand.

    Parameters
    ----------
    name: what the user types.
    summary: one line for the list of commands.
    add_arguments: declares its arguments.
    run: does it; returns the exit code. Interruption arrives as ``asyncio.CancelledError``.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Screen], Awaitable[int]]


COMMANDS = (
    Command("upload", "upload a CSV file of leads into a campaign", cli_upload.add_arguments, cli_upload.run),
    Command("demo", "upload a made-up file to a simulator and check the result", cli_demo.add_arguments, cli_demo.run),
    Command("simulate", "run a simulator of the service", cli_simulate.add_arguments, cli_simulate.run),
)

_EPILOG = """\
environment:
  OZONETEL_API_KEY     API key of the account. There is no argument for it: arguments show in the list of processes.
  OZONETEL_USERNAME    user name of the account
  OZONETEL_BASE_URL    host of the API; default: the domestic host

exit codes:
  0    every row was accepted; for demo: every check held; for simulate: ended by Ctrl-C
  1    some rows were not accepted (invalid, refused or unknown); for demo: a check failed
  2    wrong usage or configuration, or an unreadable file; nothing was sent
  3    stopped early: the service would refuse every further request, it cannot be reached, or the input broke off
  130  interrupted by Ctrl-C or SIGTERM; the report tells what was sent
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Complain without repeating values: an unknown argument may be a key that has no argument here."""
        head, found, rest = message.partition("unrecognized arguments: ")
        if found:
            names = [word.partition("=")[0] for word in rest.split() if word.startswith("-")]
            message = f"{head}{found}{' '.join(names) or 'more values than expected'}"
            if any("key" in name for name in names):
                message += "; the API key is read from OZONETEL_API_KEY only"
        super().error(message)


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
            description=command.summary.capitalize() + ".",
            epilog=_EPILOG,
            formatter_class=style,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(command=command, json=False, quiet=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    Parameters
    ----------
    argv: the arguments, by default those of the process.
    """
    args = make_parser().parse_args(argv)
    # What the library would log, the report tells.
    logging.getLogger("ozonetel_async").addHandler(logging.NullHandler())
    screen = Screen(*streams(), as_json=args.json, quiet=args.quiet)
    try:
        return int(asyncio.run(_run(args, screen)))
    except OzonetelError as error:
        screen.fail(error, Exit.USAGE)
        return Exit.USAGE
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.NOT_ALL


async def _run(args: argparse.Namespace, screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Not on Windows, and only the main thread may.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    command: Command = args.command
    return await command.run(args, screen)
