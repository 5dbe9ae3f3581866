"""``ozonetel simulate``: the simulator on a port of its own, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import TYPE_CHECKING, Final

from ..connection import start
from ..screen import Exit, Screen

if TYPE_CHECKING:
    pass

__all__ = ["add_arguments", "latency", "run", "seconds"]

_WINDOW_KINDS: Final = ("sliding", "calendar", "first_request", "token_bucket")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel simulate``."""
    parser.add_argument("--port", type=_port, default=8080, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--window", type=seconds, default=60.0, metavar="SECONDS", help="length of the rate windows (default: 60)"
    )
    parser.add_argument(
        "--window-kind", choices=_WINDOW_KINDS, default="sliding", help="how they are counted (default: %(default)s)"
    )
    parser.add_argument(
        "--latency", type=latency, default=(0.0, 0.0), metavar="MIN,MAX", help="seconds each way (default: 0,0)"
    )
    parser.add_argument(
        "-c",
        "--campaign",
        action="append",
        default=[],
        metavar="NAME[:COLUMN,…]",
        help='an outbound campaign with further mapped columns, beside the one named "Diwali"; repeatable',
    )
    parser.add_argument("--auth", choices=("basic", "token"), default="basic", help="what the account accepts")
    parser.add_argument("--seed", type=int, default=0, help="of the random latency (default: 0)")


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}", text) or float(text) == 0:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0, such as 2 or 0.5")
    return float(text)


def latency(text: str) -> tuple[float, float]:
    """``"0.05"`` or ``"0.02,0.08"`` as least and most seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(?:,(\d{1,6}(?:\.\d{1,6})?))?", text)
    if found is None:
        raise argparse.ArgumentTypeError("must be seconds, such as 0.05, or least and most seconds, such as 0.02,0.08")
    least, most = float(found.group(1)), float(found.group(2) or found.group(1))
    if least > most:
        raise argparse.ArgumentTypeError("least must not be above most")
    return least, most


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Serve until cancelled; the exit code."""
    from ...testing import Simulator, serve

    simulator = Simulator(
        host=args.host,
        port=args.port,
        window=args.window,
        window_kind=args.window_kind,
        latency=args.latency,
        auth_mode="TOKEN_AUTH" if args.auth == "token" else "BASIC_AUTH",
        seed=args.seed,
        max_log=1_000,
    )
    for campaign in args.campaign:
        name, _, columns = campaign.partition(":")
        simulator.campaign(name, columns=[column for column in columns.split(",") if column])
    await start(simulator)
    screen.say(f"simulator at {simulator.base_url}, campaigns: {', '.join(simulator.campaigns)}; Ctrl-C ends it")
    screen.say()
    for name, value in (
        ("BASE_URL", simulator.base_url),
        ("DIALER_URL", simulator.dialer_url),
        ("API_KEY", simulator.api_key),
        ("USERNAME", simulator.username),
    ):
        screen.say(f"export OZONETEL_{name}={value}")
    try:
        await serve(simulator)
    except asyncio.CancelledError:
        screen.say()
        screen.say(repr(simulator))
    return Exit.OK
