"""``ozonetel receive``: receive the callbacks of many uploads, in a process of its own, until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from ...callbacks.receiver import CallbackReceiver
from ...config import DEFAULT_TIMEZONE
from ...journal.folder import JournalFolder
from ...models import counted
from ..arguments import add_output_arguments, address
from ..listen import MOST_CONNECTIONS, listening
from ..screen import Exit, Screen
from ..signals import stop_on_signals

__all__ = ["RECEIVE_KEYS", "add_arguments", "run"]

RECEIVE_KEYS: Final[Mapping[str, str]] = {
    "stored": "callbacks stored, repeats included",
    "turned_away": "requests answered otherwise, by HTTP status",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel receive``."""
    parser.add_argument(
        "--listen",
        type=address,
        required=True,
        metavar="HOST:PORT",
        help="plain HTTP: put the web server that has your certificate in front; uploads are given its --callback-url. "
        f"At most {MOST_CONNECTIONS} connections; one more closes the oldest",
    )
    parser.add_argument(
        "--journals", required=True, metavar="FOLDER", help="where the uploads keep their *.journal files"
    )
    parser.add_argument("--timezone", default=DEFAULT_TIMEZONE, help="the platform's zone (default: %(default)s)")
    add_output_arguments(parser)


class _LogOnScreen(logging.Handler):
    """Shows what the receiver logs: which callbacks it refused, and which it could not store."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        self._screen.warn(record.getMessage())


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Serve until stopped; the exit code."""
    seen = Counter[int]()
    log, handler = logging.getLogger("ozonetel_async"), _LogOnScreen(screen)
    log.addHandler(handler)
    try:
        receiver = CallbackReceiver(JournalFolder(args.journals), timezone=args.timezone)
        with stop_on_signals(lambda: None) as stop:
            async with listening(args.listen, receiver, seen) as local:
                screen.note(f"receiving callbacks at {local} for the journals in {args.journals}; Ctrl-C ends it")
                await stop.wait()
    finally:
        log.removeHandler(handler)
    stored = seen.pop(200, 0)
    screen.say(f"{counted(stored, 'callback')} stored, {counted(sum(seen.values()), 'request')} turned away")
    turned_away = {str(status): count for status, count in sorted(seen.items())}
    screen.result({"stored": stored, "turned_away": turned_away, "exit_code": int(Exit.OK)})
    return Exit.OK
