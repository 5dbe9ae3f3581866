"""Fetches the file behind a link of a callback, over a session of its own: no cookies, no credentials, no redirects."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..callbacks.results import SecretUrl
from ..errors import DownloadError
from .links import LinkPolicy, Reach, check_address, check_link, read_refusal

__all__ = ["fetch"]

_T = TypeVar("_T")
_PIECE: Final = 65_536
_REFUSAL_LIMIT: Final = 4_096
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


async def fetch(
    link: SecretUrl,
    policy: LinkPolicy | None = None,
    *,
    resolver: AbstractResolver | None = None,
) -> AsyncGenerator[bytes]:
    """Stream the file behind ``link``, unpacked, in pieces of at most 64 KiB or little more.

    The link is used byte for byte. Its host is looked up once, and the connection goes to an address that was
    checked, so a name that changes its address in between gains nothing; a proxy looks it up by itself. Close the
    generator when leaving it early (``contextlib.aclosing``).

    Args:
        link: where the file is.
        policy: what may be fetched; default ``LinkPolicy()``.
        resolver: looks up the host; default: the system's.

    Raises:
        DownloadError: ``.state`` tells what is wrong. Neither the error nor its context holds the link's query.
    """
    policy = policy or LinkPolicy()
    download = _Download(link, policy, check_link(link, policy), resolver)
    try:
        await download.open()
        unpack = download.unpacker()
        while chunk := await download.read():
            for piece in unpack.feed(chunk):
                yield piece
        unpack.check_end()
    finally:
        await download.close()


class _Resolver(AbstractResolver):
    """Looks a host up and gives out what was checked; aiohttp connects to nothing else."""

    def __init__(self, inner: AbstractResolver, reach: Reach, policy: LinkPolicy) -> None:
        self._inner = inner
        self._reach: Reach = reach
        self._policy = policy
        self.refusal: DownloadError | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results: list[ResolveResult] = []
        for found in await self._inner.resolve(host, port, family):
            try:
                # One bad address is enough to refuse the host.
                check_address(found["host"], self._reach, self._policy)
            except DownloadError as refusal:
                self.refusal = refusal.with_traceback(None)
                raise OSError("refused") from None
            results.append({**found, "port": port, "flags": _NUMERIC})
        return results

    async def close(self) -> None:
        await self._inner.close()


class _Download:
    """One download. Texts with the whole link stay inside, so that no traceback or ``repr`` shows them."""

    def __init__(
        self,
        link: SecretUrl,
        policy: LinkPolicy,
        reach: Reach,
        resolver: AbstractResolver | None,
    ) -> None:
        self._link = link
        self._policy = policy
        self._proxy = policy.proxy if reach == "public" else None
        self._resolver = _Resolver(resolver or aiohttp.ThreadedResolver(), reach, policy)
        self._deadline = asyncio.get_running_loop().time() + policy.seconds
        self._size = 0
        self._response: aiohttp.ClientResponse | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # With a proxy, only its own name is looked up here, and it may be anywhere.
                resolver=resolver if self._proxy is not None else self._resolver,
                use_dns_cache=False,
                force_close=True,
                ssl=True if policy.ssl is None else policy.ssl,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def open(self) -> None:
        """Ask for the file and check the answer's head."""
        url = _verbatim(self._link)
        if url is None:
            raise DownloadError("refused", "the link is not in a form that can be sent byte for byte")
        # The request's coroutine takes the URL along; a local name would show it to anyone who prints this frame.
        request = self._session.get(
            url, allow_redirects=False, headers={"Accept-Encoding": "identity"}, proxy=self._proxy
        )
        del url
        self._response = await self._guard(request)
        if self._response.status != 200:
            raise await self._refusal(self._response)
        if (self._response.content_length or 0) > self._policy.max_bytes:
            raise self._too_large()

    async def _refusal(self, response: aiohttp.ClientResponse) -> DownloadError:
        beginning = b""
        with suppress(DownloadError):  # the status is enough
            while len(beginning) < _REFUSAL_LIMIT and (chunk := await self._guard(response.content.readany())):
                beginning += chunk
        return read_refusal(self._link, response.status, beginning[:_REFUSAL_LIMIT], datetime.now(UTC))

    def unpacker(self) -> _Unpacker:
        """The reader of the answer's encoding; none was asked for, but files may be stored packed."""
        assert self._response is not None
        name = self._response.headers.get("Content-Encoding", "identity").strip().lower()
        window = _WINDOW_BITS.get(name)
        if window is None:
            raise DownloadError("failed", "expected no packing or gzip, got another Content-Encoding")
        return _Unpacker(window, self._policy.max_bytes, self._too_large)

    async def read(self) -> bytes:
        """The next bytes as transferred; none at the end."""
        assert self._response is not None
        chunk = await self._guard(self._response.content.readany())
        if asyncio.get_running_loop().time() > self._deadline:  # what is buffered already never waits
            raise self._too_slow()
        self._size += len(chunk)
        if self._size > self._policy.max_bytes:
            raise self._too_large()
        return chunk

    async def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
        await self._session.close()

    def _too_large(self) -> DownloadError:
        return DownloadError("too_large", f"the file has more than {self._policy.max_bytes:,} bytes")

    def _too_slow(self) -> DownloadError:
        return DownloadError("failed", f"the file did not arrive within {self._policy.seconds:g} s")

    async def _guard(self, step: Awaitable[_T]) -> _T:
        failure: DownloadError
        try:
            async with asyncio.timeout_at(self._deadline):
                return await step
        except TimeoutError:
            failure = self._too_slow()
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            failure = DownloadError("failed", f"the certificate of {error.host} is not trusted: {reason}")
        except (aiohttp.ClientError, OSError) as error:
            failure = self._resolver.refusal or DownloadError("failed", f"no file: {type(error).__name__}")
        # Raised out here so that the error carries no __context__: aiohttp's texts hold the whole link.
        raise failure


def _verbatim(link: SecretUrl) -> URL | None:
    """The link as aiohttp takes it; None when that would not be the same text with the same host."""
    try:
        url = URL(link.reveal(), encoded=True)
        return url if str(url) == link.reveal() and url.raw_host == link.host else None
    except ValueError:
        return None


_WINDOW_BITS: Final = {"identity": 0, "": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}


class _Unpacker:
    """Bytes as transferred to bytes of the file, a bounded piece at a time."""

    def __init__(self, window_bits: int, limit: int, too_large: Callable[[], DownloadError]) -> None:
        self._bits = window_bits
        self._left = limit
        self._too_large = too_large
        self._inflater = zlib.decompressobj(window_bits) if window_bits else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        for piece in self._inflate(chunk) if self._inflater is not None else (chunk,):
            self._left -= len(piece)
            if self._left < 0:
                raise self._too_large()
            yield piece

    def check_end(self) -> None:
        """Raise ``DownloadError`` when a packed file breaks off."""
        if self._inflater is not None and not self._inflater.eof:
            raise DownloadError("failed", "the file breaks off in the middle")

    def _inflate(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            assert self._inflater is not None
            if self._inflater.eof:  # gzip files may follow each other
                self._inflater = zlib.decompressobj(self._bits)
            damaged = False
            try:
                piece = self._inflater.decompress(chunk, _PIECE)
            except zlib.error:
                damaged = True
            if damaged:
                raise DownloadError("failed", "the file is packed, and damaged")
            chunk = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece:
                yield piece
