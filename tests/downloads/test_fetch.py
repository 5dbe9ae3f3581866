"""A link from a callback is fetched by the rules or not at all, and its signed query shows nowhere."""

from __future__ import annotations

import asyncio
import gzip
import logging
import pickle
import socket
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from yarl import URL

from ozonetel_async.callbacks.results import SecretUrl
from ozonetel_async.downloads.fetch import fetch
from ozonetel_async.downloads.links import (
    S3_HOST,
    LinkPolicy,
    check_address,
    check_link,
    expires_at,
    read_refusal,
)
from ozonetel_async.errors import CallbackError, ConfigurationError, DownloadError, OzonetelError
from ozonetel_async.testing import Simulator

from ..conftest import Proxy

SECRET = "5f0c2b7e9a1d"
QUERY = f"X-Amz-Date=20240711T061529Z&X-Amz-Expires=86400&X-Amz-Security-Token=A%2fb%3D&X-Amz-Signature={SECRET}"
GOOD = f"https://{S3_HOST}/1292017_error.csv?{QUERY}"
HERE = LinkPolicy(loopback=True, seconds=5.0)


def state_of(link: str, policy: LinkPolicy | None = None) -> str:
    """What the rules say to a link: "public", "loopback", or the state of the error; "no link" when it is none."""
    try:
        return check_link(SecretUrl(link), policy or LinkPolicy())
    except CallbackError:
        return "no link"
    except DownloadError as error:
        return error.state


# --- which links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [GOOD, f"https://{S3_HOST}:443/x", f"https://{S3_HOST}/", f"https://{S3_HOST}/a//@b?"])
def test_links_to_the_documented_host_pass(link: str) -> None:
    assert state_of(link) == "public"


@pytest.mark.parametrize(
    "authority",
    [
        f"user@{S3_HOST}",
        f"{S3_HOST}@evil.example",
        f"{S3_HOST}:443@evil.example",
        f"evil.example#@{S3_HOST}",
        f"evil.example?@{S3_HOST}",
        f"evil.example\\@{S3_HOST}",
        f"{S3_HOST}.",
        f"{S3_HOST}.evil.example",
        f"evil.example.{S3_HOST}",
        f"evil-{S3_HOST}",
        S3_HOST.upper(),
        S3_HOST.replace(".", "%2e"),
        S3_HOST.replace(".", "%2E", 1),
        S3_HOST.replace(".", "\u3002"),
        S3_HOST.replace("e", "\uff45", 1),
        S3_HOST.replace("a", "\u0430", 1),
        f"{S3_HOST}\u200b",
        f"{S3_HOST}:",
        f"{S3_HOST}:80",
        f"{S3_HOST}:0443",
        f"{S3_HOST}:+443",
        f"{S3_HOST}:443:443",
        f"{S3_HOST}:8443",
        f"[{S3_HOST}]",
        "",
        "localhost",
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "etl-dataprocessing",
        "s3.ap-south-1.amazonaws.com",
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_every_other_authority_is_refused(scheme: str, authority: str) -> None:
    assert state_of(f"{scheme}://{authority}/1292017_error.csv?{QUERY}") in ("refused", "no link")


@pytest.mark.parametrize(
    "link",
    [
        GOOD.replace("https://", "http://"),
        GOOD.replace("https://", "HTTPS://"),
        GOOD.replace("https://", "ftp://"),
        GOOD.replace("https://", "https:///"),
        GOOD.replace("https://", "https:/"),
        GOOD.replace("https://", "https:\\\\"),
        GOOD.replace("https://", "//"),
        f" {GOOD}",
        f"{GOOD}#fragment",
        f"https://{S3_HOST}",
        f"https://{S3_HOST}?{QUERY}",
        f"https://{S3_HOST}\\x",
        f"https://{S3_HOST}\n/x",
        f"https://{S3_HOST}\t/x",
    ],
)
def test_every_other_form_is_refused(link: str) -> None:
    assert state_of(link) in ("refused", "no link")


_pieces = st.sampled_from(
    [
        *(
            "http://",
            "https://",
            "HTTPS://",
            "//",
            "/",
            "?",
            "#",
            "@",
            ":",
            ":443",
            ":80",
            "\\",
            "%2e",
            "%00",
            ".",
            "..",
            ";",
        ),
        *(
            S3_HOST,
            S3_HOST.upper(),
            "evil.example",
            "127.0.0.1",
            "[::1]",
            "2130706433",
            "0x7f.1",
            "localhost",
            "user:pw@",
        ),
        *("%25eth0", "\u3002", "\uff0f", "\u0430", " ", "\t", "\n", "x"),
    ]
)
_hostile = st.builds(
    lambda head, rest: head + "".join(rest),
    st.sampled_from(["", "https://", f"https://{S3_HOST}", f"https://{S3_HOST}/"]),
    st.lists(_pieces, max_size=8),
)


@given(_hostile)
@example(GOOD)
@example(f"https://{S3_HOST}/x@evil.example/")
def test_whatever_passes_is_the_host_for_every_parser(link: str) -> None:
    if state_of(link) == "public":
        assert link.startswith((f"https://{S3_HOST}/", f"https://{S3_HOST}:443/"))
        parts, url = urlsplit(link), URL(link, encoded=True)
        assert parts.hostname == url.raw_host == S3_HOST
        assert (parts.scheme, url.scheme) == ("https", "https")
        assert {parts.port or 443, url.port} == {443}
        assert not parts.username
        assert not parts.fragment


@given(_hostile)
@example("http://127.0.0.1:8/x")
@example("http://127.9.9.9/x")
@example("http://localhost/x")
@example("http://[::1]:8/x")
@example("http://127.0.0.1.evil.example/x")
@example("http://localhost@evil.example/x")
@example("http://127.0.0.1:8@evil.example/x")
@example("http://127.0.0.1\\@evil.example/x")
def test_what_passes_as_loopback_is_loopback_for_every_parser(link: str) -> None:
    if state_of(link, LinkPolicy(loopback=True)) == "loopback":
        for host in (urlsplit(link).hostname, URL(link, encoded=True).raw_host):
            assert host == "localhost" or ip_address(host or "").is_loopback


def test_loopback_links_pass_only_where_that_is_allowed() -> None:
    links = [f"{scheme}://{host}{port}/f.csv" for scheme in ("http", "https") for port in ("", ":8080")
             for host in ("127.0.0.1", "localhost", "[::1]")]  # fmt: skip
    assert {state_of(link, LinkPolicy(loopback=True)) for link in links} == {"loopback"}
    assert {state_of(link) for link in links} == {"refused"}
    assert state_of("http://10.0.0.1/f.csv", LinkPolicy(loopback=True)) == "refused"


def test_hosts_and_ports_of_ones_own() -> None:
    policy = LinkPolicy(hosts=("files.example.com",), ports=(8443,))
    assert state_of("https://files.example.com:8443/x", policy) == "public"
    assert state_of("https://files.example.com/x", policy) == "refused"
    assert state_of(GOOD, policy) == "refused"


@pytest.mark.parametrize(
    "settings",
    [
        {"hosts": ("*.amazonaws.com",)},
        {"hosts": ("10.0.0.1",)},
        {"hosts": ("[::1]",)},
        {"hosts": ("Example.com",)},
        {"hosts": ("example.com:443",)},
        {"hosts": ("example.com.",)},
        {"hosts": ("localhost",)},
        {"hosts": "example.com"},
        {"ports": (0,)},
        {"ports": (65_536,)},
        {"networks": ("10.0.0.1/8",)},
        {"networks": ("intranet",)},
        {"max_bytes": 0},
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"seconds": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="LinkPolicy"):
        LinkPolicy(**settings)


# --- which addresses -----------------------------------------------------------------------------------------------


def address_passes(address: str, policy: LinkPolicy | None = None, reach: Any = "public") -> bool:
    try:
        check_address(address, reach, policy or LinkPolicy())
    except DownloadError as error:
        return {"refused": False}[error.state]
    return True


@pytest.mark.parametrize("address", ["52.219.62.1", "3.5.208.9", "2406:da1a::1", "2600:1f14::7"])
def test_public_addresses_pass(address: str) -> None:
    assert address_passes(address)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.8.8.8", "169.254.169.254"),
        *(
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "192.0.0.8",
            "192.0.0.9",
            "192.31.196.1",
            "192.52.193.1",
            "192.175.48.1",
        ),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "2406:da1a::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:52.219.62.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::34db:3e01"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "100::1", "4000::1"),
        *("3fff::1", "2620:4f:8000::1", "2001:1::1", "2001:3::1", "2001:20::1", "5f00::1"),
        *("", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "52.219.62.1/32"),
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    assert not address_passes(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "::", "64:ff9b::"]))
def test_no_ipv4_address_is_reached_under_an_ipv6_name(address: IPv4Address, prefix: str) -> None:
    assert not address_passes(f"{prefix}{address}")
    assert not address_passes(str(IPv6Address(0x2002 << 112 | int(address) << 80)))


@given(st.ip_addresses())
def test_what_passes_is_global_and_plain(address: IPv4Address | IPv6Address) -> None:
    if address_passes(str(address)):
        assert address.is_global
        assert not any((address.is_private, address.is_loopback, address.is_link_local, address.is_multicast))


def test_networks_of_ones_own_pass_and_no_others() -> None:
    policy = LinkPolicy(networks=("10.1.0.0/16", "64:ff9b::/96"))
    assert [address_passes(one, policy) for one in ("10.1.2.3", "64:ff9b::7f00:1", "10.2.0.1", "127.0.0.1", "::1")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_loopback_link_stays_on_this_machine() -> None:
    policy = LinkPolicy(loopback=True)
    assert [address_passes(one, policy, "loopback") for one in ("127.0.0.1", "::1", "52.219.62.1", "10.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]


# --- what a refusal means ------------------------------------------------------------------------------------------

NOW = datetime(2024, 7, 11, 12, tzinfo=UTC)
DENIED = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (403, DENIED % (b"AccessDenied", b"Request has expired"), "expired"),
        (403, DENIED % (b"AccessDenied", b"Access Denied"), "expired"),
        (400, DENIED % (b"ExpiredToken", b"The provided token has expired."), "expired"),
        (403, DENIED % (b"SignatureDoesNotMatch", b"The request signature we calculated does not match"), "failed"),
        (403, b"", "failed"),
        (404, DENIED % (b"NoSuchKey", b"The specified key does not exist."), "gone"),
        (410, b"", "gone"),
        (300, b"", "refused"),
        (301, b"", "refused"),
        (307, b"", "refused"),
        (500, b"oops", "failed"),
        (503, DENIED % (b"SlowDown", b"Please reduce your request rate"), "failed"),
        (204, b"", "failed"),
        (206, b"PhoneNumber", "failed"),
        (403, b"\xff\xfe\x00", "failed"),
    ],
)
def test_each_refusal_has_its_state(status: int, body: bytes, state: str) -> None:
    assert read_refusal(SecretUrl(GOOD), status, body, NOW).state == state


def test_a_403_behind_the_links_own_date_is_an_expired_link() -> None:
    end = datetime(2024, 7, 12, 6, 15, 29, tzinfo=UTC)
    assert expires_at(SecretUrl(GOOD)) == end
    assert read_refusal(SecretUrl(GOOD), 403, b"", end).state == "expired"
    assert read_refusal(SecretUrl(GOOD), 403, b"", end - timedelta(seconds=1)).state == "failed"
    assert read_refusal(SecretUrl(GOOD), 500, b"", end).state == "failed"


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"<>\\'), max_size=20), st.integers()
)
@example("99991231T235959Z", 999_999)
@example("20240230T000000Z", 1)
@example("20240711T061529Z", -1)
def test_hostile_dates_of_a_link_raise_nothing(stamp: str, life: int) -> None:
    link = SecretUrl(f"https://{S3_HOST}/x?X-Amz-Date={stamp}&X-Amz-Expires={life}")
    assert expires_at(link) is None or isinstance(expires_at(link), datetime)


def test_the_message_does_not_repeat_the_hosts_answer() -> None:
    body = DENIED % (b"SignatureDoesNotMatch", f"GET /x {QUERY}".encode())
    error = read_refusal(SecretUrl(GOOD), 403, body, NOW)
    assert SECRET not in str(error)
    assert "SignatureDoesNotMatch" in str(error)


def test_the_error_pickles_with_its_state() -> None:
    error = pickle.loads(pickle.dumps(DownloadError("gone", "no file")))
    assert (error.state, str(error), error.outcome) == ("gone", "no file", "not_sent")
    assert isinstance(error, OzonetelError)


# --- the download itself -------------------------------------------------------------------------------------------

Answer = bytes | list[bytes | float]


class Host:
    """A raw HTTP server that records requests and answers with scripted bytes, numbers being pauses."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answer: Answer = b""
        self.port = 0
        self.asked = asyncio.Event()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._over.set()
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            self.asked.set()
            for piece in [self.answer] if isinstance(self.answer, bytes) else self.answer:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await self._pause(piece)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            return

    def link(self, path: str = "/1292017_error.csv", query: str = QUERY) -> SecretUrl:
        return SecretUrl(f"http://127.0.0.1:{self.port}{path}?{query}")


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    one = Host()
    await one.start()
    yield one
    await one.close()


def response(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(*pieces: bytes, headers: str = "") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{headers}\r\n".encode() + body + b"0\r\n\r\n"


async def download(
    link: SecretUrl, policy: LinkPolicy = HERE, tls: ssl.SSLContext | None = None, **options: Any
) -> bytes:
    async with aclosing(fetch(link, replace(policy, ssl=tls), **options)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def failure(link: SecretUrl, policy: LinkPolicy = HERE, **options: Any) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        await download(link, policy, **options)
    return caught.value


async def test_a_file_arrives_whole(host: Host) -> None:
    host.answer = response(b"PhoneNumber,Reason\n" * 20_000)
    assert await download(host.link()) == b"PhoneNumber,Reason\n" * 20_000
    host.answer = chunked(b"Phone", b"Number")
    assert await download(host.link()) == b"PhoneNumber"
    host.answer = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
    assert await download(host.link()) == b"until the end"
    host.answer = response(b"")
    assert await download(host.link()) == b""


@pytest.mark.parametrize("query", ["a=%2f%2F+%20~'(x)|b&&=c=", "%41%zz?/?=[]{}", QUERY])
async def test_the_link_goes_out_byte_for_byte(host: Host, query: str) -> None:
    host.answer = response(b"x")
    await download(host.link("/%7e/a%2Fb/..;/*_error.csv", query))
    assert host.requests[0].partition(b"\r\n")[0] == f"GET /%7e/a%2Fb/..;/*_error.csv?{query} HTTP/1.1".encode()


async def test_no_credentials_or_cookies_are_sent(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    host.answer = response(b"x", "Set-Cookie: id=7")
    await download(host.link())
    await download(host.link())
    for request in host.requests:
        names = {line.partition(b":")[0].lower() for line in request.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"accept", b"accept-encoding", b"user-agent", b"connection"}
        assert b"accept-encoding: identity" in request.lower()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(host: Host, status: str) -> None:
    host.answer = response(b"", f"Location: http://127.0.0.1:{host.port}/elsewhere", status=status)
    assert (await failure(host.link())).state == "refused"
    assert len(host.requests) == 1


async def test_an_expired_link_and_a_missing_file_have_their_states() -> None:
    async with Simulator() as sim:
        link = SecretUrl(sim.files.publish("/etl-dataprocessing/7_error.csv", b"PhoneNumber\n9812345670\n"))
        assert await download(link) == b"PhoneNumber\n9812345670\n"
        sim.files.expire()
        assert (await failure(link)).state == "expired"
        assert (await failure(SecretUrl(f"{sim.base_url}/nothing?x=1"))).state == "gone"


async def test_an_announced_length_above_the_cap_is_not_even_read(host: Host) -> None:
    host.answer = [response(b"", length=11), 30.0]
    error = await failure(host.link(), LinkPolicy(loopback=True, max_bytes=10, seconds=30.0))
    assert error.state == "too_large"


async def test_a_file_without_length_is_cut_at_the_cap(host: Host) -> None:
    host.answer = chunked(b"x" * 10)
    assert await download(host.link(), LinkPolicy(loopback=True, max_bytes=10)) == b"x" * 10
    host.answer = chunked(b"x" * 10, b"x")
    assert (await failure(host.link(), LinkPolicy(loopback=True, max_bytes=10))).state == "too_large"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
async def test_packed_files_are_unpacked(host: Host, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    content = b"PhoneNumber,Reason\n" * 50_000
    host.answer = response(pack(content), f"Content-Encoding: {encoding}")
    assert await download(host.link()) == content


async def test_gzip_files_may_follow_each_other(host: Host) -> None:
    host.answer = response(gzip.compress(b"a" * 100_000) + gzip.compress(b"b"), "Content-Encoding: gzip")
    assert await download(host.link()) == b"a" * 100_000 + b"b"
    host.answer = response(gzip.compress(b"a") + gzip.compress(b"b"), "Content-Encoding: gzip")
    assert await download(host.link()) == b"ab"


async def test_an_endless_packed_file_ends_at_max_bytes(host: Host) -> None:
    host.answer = chunked(*[gzip.compress(b"")] * 1_000, headers="Content-Encoding: gzip\r\n")
    assert (await failure(host.link(), LinkPolicy(loopback=True, max_bytes=10_000))).state == "too_large"


async def test_a_bomb_is_unpacked_to_the_cap_and_no_further(host: Host) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    host.answer = response(bomb, "Content-Encoding: gzip")
    sizes: list[int] = []

    async def take() -> None:
        async with aclosing(fetch(host.link(), LinkPolicy(loopback=True, max_bytes=1_000_000))) as chunks:
            async for chunk in chunks:
                sizes.append(len(chunk))  # noqa: PERF401 - the loop raises, and what came before counts

    with pytest.raises(DownloadError) as caught:
        await take()
    assert caught.value.state == "too_large"
    assert max(sizes) <= 65_536
    assert 900_000 < sum(sizes) <= 1_000_000


@pytest.mark.parametrize(
    "answer",
    [
        response(b"PhoneNumber", length=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nPhone\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nPhone\r\n",
        response(gzip.compress(b"PhoneNumber" * 100, mtime=0)[:-9], "Content-Encoding: gzip"),
        response(b"no gzip at all", "Content-Encoding: gzip"),
        response(b"x", "Content-Encoding: br"),
        response(b"x", "Content-Encoding: gzip, gzip"),
        response(b"x", status="500 Oops"),
        b"",
        b"HTTP/1.1 2",
        b"\x16\x03\x01",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_broken_answers_fail_in_one_way(host: Host, answer: bytes) -> None:
    host.answer = answer
    assert (await failure(host.link())).state == "failed"


@pytest.mark.parametrize(
    "answer",
    [
        [60.0],
        [b"HTTP/1.1 200 OK\r\n", 60.0],
        [response(b"Phone", length=100), 60.0],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n", 0.02] * 1_000],
    ],
)
async def test_the_time_for_a_file_is_limited_as_a_whole(host: Host, answer: Answer) -> None:
    host.answer = answer
    error = await failure(host.link(), LinkPolicy(loopback=True, seconds=0.2))
    assert error.state == "failed"
    assert "0.2 s" in str(error)


async def test_a_slow_refusal_is_one_all_the_same(host: Host) -> None:
    host.answer = [response(b"<Err", status="404 Not Found", length=100), 60.0]
    assert (await failure(host.link(), LinkPolicy(loopback=True, seconds=0.2))).state == "gone"


async def test_a_closed_port_is_a_failed_download() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        link = SecretUrl(f"http://127.0.0.1:{unused.getsockname()[1]}/x?{QUERY}")
        assert (await failure(link)).state == "failed"


async def test_leaving_early_closes_the_connection(no_tasks_left: None, host: Host) -> None:
    host.answer = [response(b"x" * 100_000, length=10**7), 60.0]
    async with aclosing(fetch(host.link(), HERE)) as chunks:
        async for _ in chunks:
            break


async def test_a_cancelled_download_closes_the_connection(no_tasks_left: None, host: Host) -> None:
    host.answer = [response(b"", length=10), 60.0]
    task = asyncio.create_task(download(host.link(), LinkPolicy(loopback=True, seconds=60.0)))
    await host.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- names, addresses, certificates --------------------------------------------------------------------------------


class Names(AbstractResolver):
    """A name server that gives the first answer first, and the last one ever after."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=_family(one), proto=0, flags=0) for one in answer
        ]

    async def close(self) -> None:
        pass


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def store(authority: trustme.CA) -> AsyncIterator[Host]:
    """A host with a certificate for the documented name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(S3_HOST).configure_cert(context)
    one = Host()
    await one.start(context)
    one.answer = response(b"PhoneNumber")
    yield one
    await one.close()


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def private(port: int) -> LinkPolicy:
    return LinkPolicy(ports=(port,), networks=("127.0.0.0/8",), seconds=5.0)


def store_link(port: int, host: str = S3_HOST) -> SecretUrl:
    return SecretUrl(f"https://{host}:{port}/1292017_error.csv?{QUERY}")


async def test_a_proxy_looks_the_host_up(store: Host, trust: ssl.SSLContext, host: Host) -> None:
    host.answer = response(b"local")
    async with Proxy("user:secret", {f"{S3_HOST}:443": store.port}) as proxy:
        policy = LinkPolicy(proxy=proxy.url.replace("//", "//user:secret@"), ssl=trust, loopback=True)
        assert "secret" not in repr(policy)
        link = SecretUrl(f"https://{S3_HOST}/1292017_error.csv?{QUERY}")
        assert await download(link, policy, trust) == b"PhoneNumber"
        assert proxy.asked == [f"CONNECT {S3_HOST}:443"]
        # Not for links to this machine, nor for those that may not be fetched.
        assert await download(host.link(), policy, trust) == b"local"
        assert (await failure(SecretUrl(f"https://other.example/x?{QUERY}"), policy)).state == "refused"
        assert len(proxy.asked) == 1
        error = await failure(link, replace(policy, proxy=proxy.url), tls=trust)
    assert (error.state, str(error)) == ("failed", "no file: ClientHttpProxyError")


async def test_a_certificate_that_is_not_trusted_is_told(store: Host) -> None:
    error = await failure(store_link(store.port), private(store.port), resolver=Names(["127.0.0.1"]))
    assert str(error) == f"the certificate of {S3_HOST} is not trusted: unable to get local issuer certificate"


async def test_the_connection_goes_to_the_address_that_was_checked(
    store: Host, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rebinding: what a second look-up would give is another machine's.
    names = Names(["127.0.0.1"], ["10.255.255.1"])
    looked_up: list[str] = []

    async def look_up(name: str, *_: object, **__: object) -> list[object]:
        looked_up.append(name)
        raise socket.gaierror

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    assert await download(store_link(store.port), private(store.port), tls=trust, resolver=names) == b"PhoneNumber"
    assert names.asked == [S3_HOST]
    assert looked_up == []
    assert f"Host: {S3_HOST}:{store.port}".encode() in store.requests[0]


@pytest.mark.parametrize("answer", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"]])
async def test_a_name_with_a_forbidden_address_is_not_connected_to(
    store: Host, trust: ssl.SSLContext, answer: list[str]
) -> None:
    error = await failure(store_link(store.port), private(store.port), tls=trust, resolver=Names(answer))
    assert error.state == "refused"
    assert store.requests == []


async def test_this_machine_is_refused_by_default(store: Host, trust: ssl.SSLContext) -> None:
    policy = LinkPolicy(ports=(store.port,))
    error = await failure(store_link(store.port), policy, tls=trust, resolver=Names(["127.0.0.1"]))
    assert error.state == "refused"
    assert "LinkPolicy.networks" in str(error)
    assert store.requests == []


async def test_localhost_that_is_elsewhere_is_refused(host: Host) -> None:
    link = SecretUrl(f"http://localhost:{host.port}/x?{QUERY}")
    assert (await failure(link, HERE, resolver=Names(["52.219.62.1"]))).state == "refused"
    host.answer = response(b"x")
    assert await download(link, HERE, resolver=Names(["127.0.0.1"])) == b"x"


async def test_a_name_that_is_not_found_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    assert (await failure(SecretUrl(GOOD), LinkPolicy())).state == "failed"


async def test_certificates_are_checked(store: Host, trust: ssl.SSLContext) -> None:
    names = Names(["127.0.0.1"])
    assert (await failure(store_link(store.port), private(store.port), resolver=names)).state == "failed"
    policy = LinkPolicy(hosts=("files.example.com",), ports=(store.port,), networks=("127.0.0.0/8",))
    link = store_link(store.port, "files.example.com")
    assert (await failure(link, policy, tls=trust, resolver=names)).state == "failed"
    assert store.requests == []


# --- secrets -------------------------------------------------------------------------------------------------------


def everything_about(error: BaseException) -> Iterator[str]:
    """What a log, a crash reporter or a debugger would show of an error."""
    yield from traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        yield repr(seen)
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if "/test_" not in frame.f_code.co_filename:
                yield from map(repr, frame.f_locals.values())
        seen = seen.__cause__ or seen.__context__


@pytest.mark.parametrize(
    "answer",
    [
        response(b"", "Location: /x", status="302 Found"),
        response(DENIED % (b"SignatureDoesNotMatch", QUERY.encode()), status="403 Forbidden"),
        response(b"x", length=100),
        response(b"x", "Content-Encoding: gzip"),
        response(b"", length=10**12),
        b"",
        b"nonsense\r\n\r\n",
        [response(b"", length=10), 60.0],
        [60.0],
    ],
)
async def test_the_signed_query_shows_nowhere(host: Host, caplog: pytest.LogCaptureFixture, answer: Answer) -> None:
    caplog.set_level(logging.DEBUG)
    host.answer = answer
    error = await failure(host.link(), LinkPolicy(loopback=True, seconds=0.3))
    assert host.requests
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not [text for text in everything_about(error) if SECRET in text]
    assert SECRET not in caplog.text


@pytest.mark.parametrize("link", [f"https://evil.example/x?{QUERY}", f"http://127.0.0.1:1/x?{QUERY}", f"{GOOD}#"])
async def test_the_signed_query_shows_nowhere_when_no_request_is_sent(link: str) -> None:
    error = await failure(SecretUrl(link))
    assert error.__context__ is None
    assert not [text for text in everything_about(error) if SECRET in text]


async def test_the_signed_query_shows_nowhere_when_a_certificate_or_an_address_is_wrong(
    store: Host, trust: ssl.SSLContext
) -> None:
    errors = [
        await failure(store_link(store.port), private(store.port), resolver=Names(["127.0.0.1"])),
        await failure(store_link(store.port), private(store.port), tls=trust, resolver=Names(["10.0.0.1"])),
    ]
    for error in errors:
        assert error.__context__ is None
        assert not [text for text in everything_about(error) if SECRET in text]


async def test_a_session_of_ones_own_is_not_needed_and_none_is_left(no_tasks_left: None, host: Host) -> None:
    host.answer = response(b"x")
    before = len([one for one in _sessions() if not one.closed])
    for _ in range(3):
        await download(host.link())
    assert len([one for one in _sessions() if not one.closed]) == before


def _sessions() -> list[aiohttp.ClientSession]:
    import gc

    return [one for one in gc.get_objects() if isinstance(one, aiohttp.ClientSession)]
