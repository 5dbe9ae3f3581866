"""Connections: how often a request goes out, over whose session, how much of an answer is read, what stays behind."""

from __future__ import annotations

import asyncio
import gc
import gzip
import ssl
import warnings
from collections.abc import AsyncIterator

import aiohttp
import pytest
import trustme

from ozonetel_async import (
    CertificateError,
    ConfigurationError,
    ConnectError,
    Lead,
    OutcomeUnknownError,
    OzonetelClient,
    RetryPolicy,
    Timeouts,
)
from ozonetel_async.config import ClientConfig, Credentials
from ozonetel_async.protocol.endpoints import endpoint_table
from ozonetel_async.protocol.requests import build
from ozonetel_async.sending.transport import Transport
from ozonetel_async.testing import Fault, Simulator

from ..conftest import (
    ADDED,
    Behaviour,
    Connect,
    RawServer,
    answer,
    answer_and_close,
    drop,
    eventually,
    fast_limits,
    http,
    never,
)

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

LEAD = Lead("919812345678")


# -- a request goes out once --------------------------------------------------------------------------------------


async def test_aiohttp_by_itself_sends_a_get_twice_when_its_connection_breaks() -> None:
    """What the next tests guard against; when this one fails, aiohttp has changed, and the guard may go."""
    async with RawServer(answer, drop, answer) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(server.url) as response:
                await response.read()
        assert len(server.hits) == 3


async def test_aiohttp_by_itself_sends_a_get_twice_over_a_fresh_connection_too() -> None:
    async with RawServer(drop, answer) as server, aiohttp.ClientSession() as session:
        async with session.get(server.url) as response:
            await response.read()
        assert len(server.hits) == 2


async def test_a_legacy_get_after_another_is_sent_once(connect: Connect) -> None:
    async with RawServer(answer, drop, answer) as server:
        client = connect(base_url=server.url)
        assert (await client.legacy.add_lead("Diwali", LEAD)).outcome == "accepted"
        with pytest.raises(OutcomeUnknownError):
            await client.legacy.add_lead("Diwali", LEAD)
        assert (len(server.hits), server.connections) == (2, 2)


async def test_a_legacy_get_over_a_fresh_connection_is_sent_once(connect: Connect) -> None:
    async with RawServer(drop, answer) as server:
        client = connect(base_url=server.url)
        with pytest.raises(OutcomeUnknownError):
            await client.legacy.add_lead("Diwali", LEAD)
        assert len(server.hits) == 1
        assert (await client.legacy.add_lead("Diwali", LEAD)).outcome == "accepted"


async def test_a_post_on_a_kept_connection_that_drops_is_sent_once(connect: Connect) -> None:
    async with RawServer(answer, drop, answer) as server:
        client = connect(base_url=server.url)
        await client.add_lead("Diwali", LEAD)
        with pytest.raises(OutcomeUnknownError):
            await client.add_lead("Diwali", LEAD)
        assert (len(server.hits), server.connections) == (2, 1)


async def test_posts_share_a_connection_and_an_ended_one_is_replaced(connect: Connect) -> None:
    async with RawServer(answer, answer, answer_and_close, answer) as server:
        client = connect(base_url=server.url)
        for _ in range(3):
            await client.add_lead("Diwali", LEAD)
        await eventually(lambda: not server.open)
        for _ in range(3):  # turns of the loop in which this side sees it too
            await asyncio.sleep(0)
        await client.add_lead("Diwali", LEAD)
        assert (len(server.hits), server.connections) == (4, 2)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sim: Simulator, client: OzonetelClient, code: int) -> None:
    sim.inject("*", Fault.redirect("/ca_apis/AddCampaignData", code))
    with pytest.raises(OutcomeUnknownError, match=f"HTTP {code}"):
        await client.add_lead("Diwali", LEAD)
    assert len(sim.log) == 1


# -- answers ------------------------------------------------------------------------------------------------------


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        await writer.drain()
    return False


async def announced(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" " * 65_536)
        await writer.drain()
    return False


async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(http(gzip.compress(b" " * 2**25 + ADDED), "Content-Encoding: gzip"))
    return True


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"\x16\x03\x01\x02\x00 what is this\r\n\r\n")
    return False


async def long_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(http(ADDED, "X: " + "x" * 100_000))
    return True


@pytest.mark.parametrize("behaviour", [endless, announced, bomb, garbage, long_header])
async def test_what_is_no_answer_is_not_read_to_its_end(connect: Connect, behaviour: Behaviour) -> None:
    async with RawServer(behaviour) as server:
        client = connect(base_url=server.url)
        async with asyncio.timeout(5):
            with pytest.raises(OutcomeUnknownError, match="no answer: "):
                await client.add_lead("Diwali", LEAD)
            await eventually(lambda: not server.open)


async def compressed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(http(gzip.compress(ADDED), "Content-Encoding: gzip"))
    return True


async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for byte in ADDED:
        writer.write(b"1\r\n" + bytes([byte]) + b"\r\n")
    writer.write(b"0\r\n\r\n")
    return True


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + ADDED)
    return False


@pytest.mark.parametrize("behaviour", [compressed, chunked, until_closed])
async def test_an_answer_is_read_however_it_is_framed(connect: Connect, behaviour: Behaviour) -> None:
    async with RawServer(behaviour) as server:
        assert (await connect(base_url=server.url).add_lead("Diwali", LEAD)).message == "SuccessFully Updated"


@pytest.mark.parametrize(
    "fault",
    [
        Fault.prefix(),
        Fault.bom(),
        Fault.wrong_content_type(),
        Fault.wrong_content_type("text/html; charset=utf-16"),
        Fault.slow(0.001),
    ],
    ids=lambda fault: f"{fault.name}-{fault.content_type[:9]}",
)
@pytest.mark.parametrize("endpoint", ["add", "bulk"])
async def test_an_answer_is_read_by_its_content(
    sim: Simulator, client: OzonetelClient, fault: Fault, endpoint: str
) -> None:
    sim.inject(endpoint, fault)
    if endpoint == "add":
        assert (await client.add_lead("Diwali", LEAD)).outcome == "accepted"
    else:
        assert (await client.add_batch("Diwali", [LEAD])).transaction_id in sim.jobs


# -- before anything is sent --------------------------------------------------------------------------------------


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """An address that takes connections and never says a word, so that TLS never gets ready."""
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("timeouts", [Timeouts(5.0, 0.02), Timeouts(0.2, 5.0), Timeouts(0.2, 0.2)])
@pytest.mark.parametrize("legacy", [False, True])
async def test_no_connection_in_time_means_not_sent(
    connect: Connect, silent_url: str, timeouts: Timeouts, legacy: bool
) -> None:
    client = connect(base_url=silent_url, timeouts=timeouts, retry=RetryPolicy(connect_attempts=1))
    with pytest.raises(ConnectError) as caught:
        await (client.legacy if legacy else client).add_lead("Diwali", LEAD)
    assert caught.value.outcome == "not_sent"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


async def test_a_certificate_that_is_not_trusted_ends_the_call_before_anything_is_sent(
    connect: Connect, authority: trustme.CA
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Simulator(ssl=context) as secure:
        client = connect(base_url=secure.base_url)
        with pytest.raises(CertificateError, match="is not trusted: unable to get local issuer certificate"):
            await client.add_lead("Diwali", LEAD)
        assert not secure.log


async def test_the_settings_of_the_callers_session_hold(connect: Connect, authority: trustme.CA) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        Simulator(ssl=context) as secure,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        client = connect(base_url=secure.base_url, session=session)
        assert (await client.add_lead("Diwali", LEAD)).outcome == "accepted"


# -- whose session ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session", [5, "https://example.com", aiohttp.ClientSession])
async def test_what_is_no_session_is_refused_at_once(connect: Connect, session: object) -> None:
    with pytest.raises(ConfigurationError, match=r"session must be an aiohttp\.ClientSession, got (int|str|type)$"):
        connect(session=session)


async def test_the_callers_session_is_used_and_stays_open(sim: Simulator, connect: Connect) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        client = connect(session=session)
        await client.add_lead("Diwali", LEAD)
        await client.close()
        assert not session.closed
        async with session.get(sim.base_url) as response:
            assert response.status == 404
    assert sim.log[0].headers["X-Mine"] == "yes"


async def test_the_callers_session_does_not_carry_the_deprecated_gets(sim: Simulator, connect: Connect) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        await connect(session=session).legacy.add_lead("Diwali", LEAD)
    assert "X-Mine" not in sim.log[0].headers


async def test_a_session_that_raises_for_status_changes_nothing(sim: Simulator, connect: Connect) -> None:
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        client = connect(session=session)
        sim.inject("add", Fault.http_429())
        assert (await client.add_lead("Diwali", LEAD)).outcome == "accepted"
        sim.inject("add", Fault.status(502))
        with pytest.raises(OutcomeUnknownError, match="502"):
            await client.add_lead("Diwali", LEAD)


async def test_a_session_with_its_own_time_limit_changes_nothing(connect: Connect) -> None:
    async with (
        RawServer(never) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.001)) as session,
    ):
        client = connect(base_url=server.url, session=session, timeouts=Timeouts(total=0.4))
        with pytest.raises(OutcomeUnknownError, match=r"within 0\.4 s"):
            await client.add_lead("Diwali", LEAD)


async def test_a_closed_session_is_a_mistake_of_the_caller_and_costs_no_place(connect: Connect) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    client = connect(session=session)
    with pytest.raises(ConfigurationError, match="session passed to the client is closed"):
        await client.add_lead("Diwali", LEAD)
    assert client.queues["add"].free == 100


@pytest.mark.filterwarnings("ignore:.*auth:DeprecationWarning")
async def test_a_session_with_a_login_of_its_own_does_not_go_with_tokens(connect: Connect) -> None:
    async with (
        Simulator(auth_mode="TOKEN_AUTH") as sim,
        aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "password")) as session,
    ):
        client = connect(base_url=sim.base_url, session=session, auth="token")
        with pytest.raises(ConfigurationError, match="auth= of its own"):
            await client.add_lead("Diwali", LEAD)
        assert (client.queues["add"].free, sim.arrivals("add")) == (100, 0)


async def test_nothing_is_opened_after_close(sim: Simulator) -> None:
    transport = Transport(Timeouts())
    config = ClientConfig(credentials=Credentials("key", "user"), base_url=sim.base_url)
    request = build(endpoint_table(config.dialect)["add"], config, {})
    await transport.send(request)
    await transport.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await transport.send(request)
    assert len(sim.log) == 1


# -- what stays behind --------------------------------------------------------------------------------------------


async def test_close_leaves_no_connection(connect: Connect) -> None:
    async with RawServer(answer) as server:
        client = connect(base_url=server.url)
        await asyncio.gather(*(client.add_lead("Diwali", LEAD) for _ in range(20)))
        assert server.open > 1
        await client.close()
        await eventually(lambda: not server.open)


async def _use_and_close(close: bool) -> None:
    async with Simulator() as sim, RawServer(answer, never) as server:
        client = OzonetelClient(sim.api_key, sim.username, base_url=sim.base_url, limits=fast_limits())
        await client.add_lead("Diwali", LEAD)
        await client.upload("Diwali", [LEAD] * 600)
        other = OzonetelClient(sim.api_key, sim.username, base_url=server.url, limits=fast_limits())
        await other.legacy.add_lead("Diwali", LEAD)
        stuck = asyncio.create_task(other.add_lead("Diwali", LEAD))
        await eventually(lambda: len(server.hits) == 2)
        if close:
            await client.close()
            await other.close()
            with pytest.raises(OutcomeUnknownError):
                await stuck
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


@pytest.mark.parametrize("close", [True, False])
def test_a_closed_client_leaves_no_warning_where_a_forgotten_one_does(close: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        asyncio.run(_use_and_close(close), debug=True)
        gc.collect()
    told = [str(warning.message) for warning in caught]
    assert bool(told) is not close, told
