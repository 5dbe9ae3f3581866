"""The client that a command's arguments ask for, the simulator in the service's place, and the policy for links."""

from __future__ import annotations

import argparse
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ..client.client import OzonetelClient
from ..config import DEFAULT_BASE_URL, DEFAULT_DIALER_URL, Limits, RetryPolicy, Timeouts, check_proxy, environment_proxy
from ..downloads.links import S3_HOST, LinkPolicy
from ..errors import ConfigurationError
from .arguments import limit_of

if TYPE_CHECKING:
    from ..testing import Simulator

__all__ = ["connect", "link_policy", "simulated", "start"]

_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1"})


def link_policy(args: argparse.Namespace) -> LinkPolicy:
    """What may be fetched of the links in callbacks; with ``--simulate``, also what this machine serves."""
    hosts: list[str] = args.link_host
    proxy = args.proxy or environment_proxy(f"https://{S3_HOST}")
    named = tuple(host for host in hosts if host not in _THIS_MACHINE)
    try:
        return LinkPolicy(
            hosts=(S3_HOST, *named),
            loopback=args.simulate or len(named) < len(hosts),
            proxy=None if proxy is None else check_proxy("--proxy or HTTPS_PROXY", proxy),
            ssl=_tls(args),
        )
    except ConfigurationError as error:
        raise ConfigurationError(error.message.replace("LinkPolicy.hosts", "--link-host")) from None


def _tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS that trusts the authorities of ``--ca-file`` too."""
    if args.ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(args.ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"--ca-file: expected certificates in PEM, got another file: {args.ca_file}") from None
    except OSError as error:
        raise ConfigurationError(f"--ca-file: cannot read {args.ca_file}: {error.strerror or error}") from None
    return context


def _proxy(args: argparse.Namespace) -> str | None:
    """The proxy for the endpoint's host."""
    if args.simulate or args.proxy is not None:
        return None if args.simulate else str(args.proxy)
    if args.endpoint == "dial_status":
        url = args.dialer_url or os.environ.get("OZONETEL_DIALER_URL") or DEFAULT_DIALER_URL
    else:
        url = args.base_url or os.environ.get("OZONETEL_BASE_URL") or DEFAULT_BASE_URL
    return environment_proxy(url)


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
        timeouts=Timeouts(total=args.timeout, connect=min(args.timeout, Timeouts().connect)),
        limits=_limits(args),
        retry=RetryPolicy(outage=getattr(args, "outage", RetryPolicy().outage)),
        proxy=_proxy(args),
        ssl=_tls(args),
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


async def start(simulator: Simulator) -> None:
    """Have a simulator listen; a port that is taken is the user's mistake."""
    try:
        await simulator.start()
    except OSError as error:
        where = f"{simulator.settings.host}:{simulator.settings.port}"
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror or error}") from None
