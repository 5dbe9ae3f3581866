"""What the commands that speak to the service share: their arguments, the client, and the simulator in its place."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace

from ..client.client import OzonetelClient
from ..config import Limits, RateLimit
from ..downloads.links import S3_HOST, LinkPolicy
from ..errors import ConfigurationError
from .commands.simulate import start

if TYPE_CHECKING:
    from ..testing import Simulator

__all__ = [
    "add_link_arguments",
    "add_output_arguments",
    "add_service_arguments",
    "connect",
    "limit_of",
    "link_policy",
    "simulated",
]

_Endpoint = Literal["bulk", "schedule", "dial_status"]
_TIMEZONE: Final = "Asia/Kolkata"
_SIMULATED_SECONDS: Final = 2.0
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1"})


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
    service.add_argument("--timezone", default=_TIMEZONE, help="the platform's zone (default: %(default)s)")
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


def link_policy(args: argparse.Namespace) -> LinkPolicy:
    """What may be fetched of the links in callbacks; with ``--simulate``, also what this machine serves."""
    hosts: list[str] = args.link_host
    named = tuple(host for host in hosts if host not in _THIS_MACHINE)
    try:
        return LinkPolicy(hosts=(S3_HOST, *named), loopback=args.simulate or len(named) < len(hosts))
    except ConfigurationError as error:
        raise ConfigurationError(f"--link-host: {error.message}") from None


def _limits(args: argparse.Namespace) -> Limits:
    defaults, limit = Limits(), limit_of(args)
    return {
        "bulk": replace(defaults, bulk=limit),
        "schedule": replace(defaults, schedule=limit),
        "dial_status": replace(defaults, dial_status=limit),
    }[args.endpoint]


@contextlib.asynccontextmanager
async def connect(
    args: argparse.Namespace, simulator: Simulator | None, policy: LinkPolicy | None = None
) -> AsyncIterator[OzonetelClient]:
    """The client that the arguments ask for; of ``simulator`` if there is one."""
    client = OzonetelClient(
        api_key=simulator.api_key if simulator else None,
        username=simulator.username if simulator else args.username,
        base_url=simulator.base_url if simulator else args.base_url,
        dialer_url=simulator.dialer_url if simulator else getattr(args, "dialer_url", None),
        auth=args.auth,
        timezone=args.timezone,
        limits=_limits(args),
        link_policy=policy,
    )
    async with client:
        yield client


@contextlib.asynccontextmanager
async def simulated(
    args: argparse.Namespace, campaign: str, columns: Sequence[str] = (), port: int = 0
) -> AsyncIterator[Simulator | None]:
    """A simulator with one campaign more, or None without ``--simulate``."""
    if not args.simulate:
        yield None
        return
    # Imported here, so that a command that speaks to the service loads no web server.
    from ..testing import Simulator

    limit = limit_of(args)
    simulator = Simulator(
        window=limit.per,
        limits={args.endpoint: limit.requests},
        auth_mode="TOKEN_AUTH" if args.auth == "token" else "BASIC_AUTH",
        port=port,
        max_log=100,
    )
    simulator.campaign(campaign, columns=columns)
    await start(simulator)
    try:
        yield simulator
    finally:
        await simulator.close()
