"""Proxies and certificates of requests, with a real proxy and a real authority on this machine."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from ozonetel_async import (
    CertificateError,
    ConfigurationError,
    ConnectError,
    Lead,
    LinkPolicy,
    OzonetelClient,
    RetryPolicy,
)
from ozonetel_async.testing import Simulator

from ..conftest import EAGER, Proxy, fast_limits

HOST = "service.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def service(authority: trustme.CA) -> AsyncIterator[Simulator]:
    """A simulator that speaks TLS, as ``https://service.example``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    async with Simulator(ssl=context) as simulator:
        yield simulator


def client_of(
    simulator: Simulator,
    *,
    proxy: str | None = None,
    ssl: ssl.SSLContext | None = None,
    host: str = HOST,
    link_policy: LinkPolicy | None = None,
    retry: RetryPolicy = EAGER,
) -> OzonetelClient:
    url = f"https://{host}:{simulator.base_url.rpartition(':')[2]}"
    return OzonetelClient(
        simulator.api_key,
        simulator.username,
        base_url=url,
        dialer_url=url,
        limits=fast_limits(),
        retry=retry,
        proxy=proxy,
        ssl=ssl,
        link_policy=link_policy,
    )


async def test_requests_go_through_the_proxy(service: Simulator, trust: ssl.SSLContext) -> None:
    async with Proxy("user:pass word") as proxy:
        url = proxy.url.replace("//", "//user:pass%20word@")
        async with client_of(service, proxy=url, ssl=trust) as client:
            await client.add_lead("Diwali", Lead("9812345678"))
            assert (await client.upload("Diwali", [Lead("9812345679")])).rows_accepted == 1
            # The deprecated requests have a session of their own.
            with pytest.warns(DeprecationWarning, match="GET endpoints"):
                await client.legacy.add_lead("Diwali", Lead("9812345670"))
    assert set(proxy.asked) == {f"CONNECT {HOST}:{service.base_url.rpartition(':')[2]}"}
    assert service.campaigns["Diwali"].stored == 3


async def test_a_plain_proxy_forwards_to_a_simulator() -> None:
    async with (
        Simulator() as simulator,
        Proxy() as proxy,
        OzonetelClient(simulator.api_key, simulator.username, base_url=simulator.base_url, proxy=proxy.url) as client,
    ):
        await client.add_lead("Diwali", Lead("9812345678"))
    assert proxy.asked == [f"POST {simulator.base_url.removeprefix('http://')}"]


async def test_a_certificate_that_is_not_trusted_is_told_and_not_tried_again(service: Simulator) -> None:
    async with Proxy() as proxy, client_of(service, proxy=proxy.url) as client:
        with pytest.raises(CertificateError) as raised:
            await client.add_lead("Diwali", Lead("9812345678"))
        assert raised.value.outcome == "not_sent"
        assert raised.value.message == (
            f"the certificate of {HOST} is not trusted: unable to get local issuer certificate"
        )
        report = await client.upload("Diwali", [Lead("9812345679")])
        assert "CertificateError" in str(report.stopped_by)
    assert len(proxy.asked) == 2
    assert not service.log


async def test_a_certificate_of_another_host_is_told(service: Simulator, trust: ssl.SSLContext) -> None:
    async with Proxy() as proxy, client_of(service, proxy=proxy.url, ssl=trust, host="other.example") as client:
        with pytest.raises(CertificateError, match=r"other\.example is not trusted: Hostname mismatch"):
            await client.add_lead("Diwali", Lead("9812345678"))
    assert len(proxy.asked) == 1


async def test_a_proxy_that_refuses_is_told_without_its_password(service: Simulator, trust: ssl.SSLContext) -> None:
    async with Proxy("user:right") as proxy:
        client = client_of(service, proxy=proxy.url.replace("//", "//user:wr0ng@"), ssl=trust)
        with pytest.raises(ConnectError) as raised:
            await client.add_lead("Diwali", Lead("9812345678"))
        await client.close()
    assert raised.value.message == "no connection: the proxy answered HTTP 407"
    assert not service.log


@pytest.mark.parametrize("url", ["proxy.example:3128", "socks5://user:s3cret@h:1", "http://", "http://u:s3cret@h:x"])
def test_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy: expected http://host:port") as raised:
        OzonetelClient("key", "user", proxy=url)
    assert "s3cret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match=r"LinkPolicy\.proxy: expected http://host:port"):
        LinkPolicy(proxy=url)


@pytest.mark.parametrize(
    ("environment", "options", "warned"),
    [
        ({"HTTPS_PROXY": "http://u:s3cret@h:1"}, {}, True),
        ({"https_proxy": "http://u:s3cret@h:1"}, {}, True),
        ({"HTTPS_PROXY": "http://u:s3cret@h:1", "NO_PROXY": ".ozonetel.com"}, {}, False),
        ({"HTTPS_PROXY": "http://u:s3cret@h:1"}, {"proxy": "http://other.example:1"}, False),
        ({"HTTPS_PROXY": "http://u:s3cret@h:1"}, {"base_url": "http://127.0.0.1:1"}, False),
        ({}, {}, False),
    ],
)
def test_a_proxy_of_the_environment_that_is_not_used_is_told_once(
    environment: dict[str, str],
    options: dict[str, str],
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING):
        OzonetelClient("key", "user", **options)  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert "s3cret" not in caplog.text
