"""Rules for fetching a link found in a callback: which links, which addresses, and what a refusal means. No I/O.

A callback is trusted by its token alone, and tokens appear in access logs. So its link is untrusted input: without
these rules anyone with a token could make this machine send requests into its own network.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from ssl import SSLContext
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from msgspec import Struct

from ..callbacks.results import SecretUrl
from ..config import check_proxy, is_loopback
from ..errors import ConfigurationError, DownloadError

__all__ = [
    "S3_HOST",
    "LinkPolicy",
    "Reach",
    "check_address",
    "check_link",
    "expires_at",
    "read_refusal",
]

S3_HOST: Final = "etl-dataprocessing.s3.ap-south-1.amazonaws.com"
"""Where the service keeps its files (Bulk V4, the sample of "Callback Url response")."""

Reach: TypeAlias = Literal["public", "loopback"]

_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_LOOPBACK = re.compile(r"https?://(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?/")
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_LIFE = re.compile(r"[0-9]{1,6}")
_CODE = re.compile(r"<Code>\s*([A-Za-z]{1,40})\s*</Code>")

_UNICAST: Final = IPv6Network("2000::/3")
# What the IANA registries of special-purpose addresses list and no host of a bucket has, by a table of our own: which
# of them `is_global` knows differs between releases of Python.
_SPECIAL: Final = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # IETF protocol assignments
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # the old relays of 6to4
            "192.175.48.0/24",  # AS112
            "2001::/23",  # IETF protocol assignments, Teredo and ORCHID among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which reaches an IPv4 address under an IPv6 name
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
_EXPIRED_CODES: Final = frozenset({"AccessDenied", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"})
_GONE_CODES: Final = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion"})


class LinkPolicy(Struct, frozen=True, kw_only=True):
    """What may be fetched.

    Attributes:
        hosts: names of hosts, exactly as links spell them: no addresses, no wildcards.
        ports: ports of these hosts.
        networks: address ranges that are allowed though they are not public, such as ``"10.0.0.0/8"`` where the bucket
            is reached through a private endpoint, or ``"64:ff9b::/96"`` in a network with nothing but IPv6.
        loopback: also allow ``http`` and ``https`` links to this machine on any port; for the simulator.
        max_bytes: most bytes of a file, as transferred and as unpacked. A full batch's failed rows take about 2 MB.
        seconds: most seconds for one file, from the first look-up of its host to the last byte taken by the caller.
        proxy: URL of an HTTP proxy for ``https`` links to ``hosts``. It looks the host up, so the rules for addresses
            are then its own; ``repr`` does not show it.
        ssl: TLS settings, such as further authorities; default: the system's.

    Raises:
        ConfigurationError: one of them is not that.
    """

    hosts: tuple[str, ...] = (S3_HOST,)
    ports: tuple[int, ...] = (443,)
    networks: tuple[str, ...] = ()
    loopback: bool = False
    max_bytes: int = 67_108_864
    seconds: float = 120.0
    proxy: str | None = None
    ssl: SSLContext | None = None

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise ConfigurationError(
                    f"LinkPolicy.hosts: expected lower-case names such as 'bucket.s3.amazonaws.com', got {host!r}"
                )
        for port in self.ports:
            if not 0 < port < 65_536:
                raise ConfigurationError(f"LinkPolicy.ports: expected whole numbers from 1 to 65535, got {port!r}")
        for network in self.networks:
            try:
                ip_network(network)
            except ValueError:
                raise ConfigurationError(
                    f"LinkPolicy.networks: expected ranges such as '10.0.0.0/8', got {network!r}"
                ) from None
        for name in ("max_bytes", "seconds"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"LinkPolicy.{name}: expected a number above zero, got {value!r}")
        if self.proxy is not None:
            check_proxy("LinkPolicy.proxy", self.proxy)

    def __repr__(self) -> str:
        # Without the proxy, whose URL may hold a password.
        names = (name for name in self.__struct_fields__ if name != "proxy")
        return f"LinkPolicy({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def check_link(link: SecretUrl, policy: LinkPolicy) -> Reach:
    """Whether ``link`` may be fetched at all, and in which part of the network its host must then be found.

    The text between ``https://`` and the first slash must be one of the allowed hosts, alone or with an allowed port,
    letter by letter. Nothing is parsed that another parser could take otherwise, so user names, escapes, trailing
    dots, numbers in other bases and look-alike letters all fail the same way.

    Raises:
        DownloadError: ``"refused"``.
    """
    reach = _reach(link, policy)
    if reach is None:
        raise DownloadError(
            "refused",
            f"the link to {link.scheme}://{link.host[:100]} is not to an allowed host and port over https; "
            "name its host in LinkPolicy.hosts if it is the service's",
        )
    return reach


def _reach(link: SecretUrl, policy: LinkPolicy) -> Reach | None:
    # Apart from the raising, since crash reporters show a raising function's local names.
    text = link.reveal()
    if "#" in text:
        return None
    authority, slash, _ = text.removeprefix("https://").partition("/")
    if slash and text.startswith("https://") and authority in _authorities(policy):
        return "public"
    return "loopback" if policy.loopback and _LOOPBACK.match(text) else None


def _authorities(policy: LinkPolicy) -> set[str]:
    bare = policy.hosts if 443 in policy.ports else ()
    return {*bare, *(f"{host}:{port}" for host in policy.hosts for port in policy.ports)}


def check_address(address: str, reach: Reach, policy: LinkPolicy) -> None:
    """Whether a connection may be made to ``address``, the numeric address that the link's host was found at.

    Private, loopback, link-local, multicast and reserved addresses are refused, and IPv6 ones that stand for an IPv4
    address (mapped, NAT64, 6to4, Teredo), since they reach it past every rule for IPv4.

    Raises:
        DownloadError: ``"refused"``.
    """
    try:
        found = ip_address(address)
    except ValueError:
        raise DownloadError("refused", "the link's host has an address that is no IP address") from None
    if getattr(found, "scope_id", None) is None:
        if reach == "loopback" and is_loopback(address):
            return
        if reach == "public" and (_is_public(found) or any(found in ip_network(net) for net in policy.networks)):
            return
    where = "outside this machine" if reach == "loopback" else "in a network that is not public"
    raise DownloadError("refused", f"the link's host is {where}; if that is right, name it in LinkPolicy.networks")


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return not any(address in network for network in _SPECIAL)


def expires_at(link: SecretUrl) -> datetime | None:
    """When the link's signature ends by its own dates; None when it has none that can be read."""
    values = dict(parse_qsl(link.reveal().partition("?")[2]))
    stamp, life = values.get("X-Amz-Date", ""), values.get("X-Amz-Expires", "")
    if not (_STAMP.fullmatch(stamp) and _LIFE.fullmatch(life)):
        return None
    try:
        begin = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return begin + timedelta(seconds=int(life))
    except (ValueError, OverflowError):
        return None


def read_refusal(link: SecretUrl, status: int, body: bytes, now: datetime) -> DownloadError:
    """What it means that the host answered with ``status``, which is not 200, and ``body`` (or its beginning).

    Of the body only its error code gets into the message: S3's refusals may repeat the signed query.
    """
    text = body.decode("utf-8", "replace")
    match = _CODE.search(text)
    code = match[1] if match else ""
    said = f"HTTP {status}{f', {code}' if code else ''}"
    if 300 <= status < 400:
        return DownloadError("refused", f"the link redirects ({said}); redirects are not followed")
    if status in (404, 410) or code in _GONE_CODES:
        return DownloadError("gone", f"there is no file behind the link any more ({said})")
    end = expires_at(link)
    if status in (400, 401, 403) and (
        code in _EXPIRED_CODES or "has expired" in text or (end is not None and end <= now)
    ):
        return DownloadError("expired", f"the link has expired or was withdrawn ({said}); it works for 24 hours")
    return DownloadError("failed", f"expected HTTP 200 from the link's host, got {said}")
