"""``ozonetel simulate``: the simulator on a port of its own, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from ...models import counted
from ..arguments import latency, port, seconds
from ..connection import start
from ..screen import Exit, Screen

if TYPE_CHECKING:
    from ...testing import Simulator

__all__ = ["add_arguments", "run"]

_WINDOW_KINDS: Final = ("sliding", "calendar", "first_request", "token_bucket")
_LOOK_EVERY: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel simulate``."""
    parser.add_argument("--port", type=port, default=8080, help="0 takes a free one (default: %(default)s)")
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
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show what it takes in, only the total")


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Serve until cancelled; the exit code."""
    from ...testing import Simulator

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
    figures: dict[str, str] = {}
    try:
        _show_account(simulator, screen)
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                _show_changes(simulator, figures, screen)
                await asyncio.sleep(_LOOK_EVERY)
    finally:
        await simulator.close()
    _show_changes(simulator, figures, screen)
    stored = [(f"campaign {name}", counted(campaign.stored, "lead")) for name, campaign in simulator.campaigns.items()]
    screen.facts("Total", [*sorted(figures.items()), *stored])
    return Exit.OK


def _show_account(simulator: Simulator, screen: Screen) -> None:
    screen.say(f"simulator at {simulator.base_url}, campaigns: {', '.join(simulator.campaigns)}; Ctrl-C ends it")
    screen.say()
    for name, value in (
        ("BASE_URL", simulator.base_url),
        ("DIALER_URL", simulator.dialer_url),
        ("API_KEY", simulator.api_key),
        ("USERNAME", simulator.username),
    ):
        screen.say(f"export OZONETEL_{name}={value}")


def _show_changes(simulator: Simulator, figures: dict[str, str], screen: Screen) -> None:
    """Bring the figures of each endpoint up to date, and show those that have changed."""
    for endpoint in sorted({*figures, *(request.endpoint for request in simulator.log)}):
        rows, refused = simulator.rows_applied(endpoint), simulator.refusals(endpoint)
        parts = [counted(simulator.arrivals(endpoint), "request")]
        parts += [f"{counted(rows, 'row')} taken in"] if rows else []
        parts += [f"{refused:,} refused for the rate"] if refused else []
        text = ", ".join(parts)
        if figures.get(endpoint) != text:
            figures[endpoint] = text
            screen.note(f"{endpoint}: {text}")
