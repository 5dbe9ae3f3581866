"""Token authentication end to end: fetched once, renewed ahead of expiry, replaced when the service says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ozonetel_async import (
    AuthenticationError,
    AuthModeError,
    ConfigurationError,
    ConnectError,
    Dialect,
    Lead,
    LeadReceipt,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    QueueTimeoutError,
    RateLimit,
    RateLimitedError,
    Timeouts,
)
from ozonetel_async.testing import Fault, Simulator

from ..conftest import EAGER, WINDOW, Connect, eventually, fast_limits

pytestmark = pytest.mark.usefixtures("no_tasks_left")

LEAD = Lead("919812345678")
TOMORROW = datetime.now(UTC) + timedelta(days=1)
EXPIRED = Fault.status(
    200, apply=False, body='{"status":"false","message":"Token Expired"}', content_type="application/json"
)


@pytest.fixture
def sim_options() -> dict[str, Any]:
    return {"auth_mode": "TOKEN_AUTH"}


@pytest.fixture
def client(connect: Connect) -> OzonetelClient:
    return connect(auth="token")


async def add(client: OzonetelClient) -> LeadReceipt:
    return await client.add_lead("Diwali", LEAD)


async def test_a_hundred_first_calls_fetch_one_token(sim: Simulator, client: OzonetelClient) -> None:
    receipts = await asyncio.gather(*(add(client) for _ in range(100)))
    assert {receipt.outcome for receipt in receipts} == {"accepted"}
    assert (sim.arrivals("token"), sim.tokens.issued, sim.arrivals("add")) == (1, 1, 100)


async def test_what_travels_where(sim: Simulator, connect: Connect) -> None:
    client = connect(auth="token")
    await add(client)
    await client.schedule_leads("Diwali", [Lead("919812345678", scheduled_time=TOMORROW)])
    await client.add_batch("Diwali", [LEAD])
    for endpoint in ("add", "schedule"):
        (request,) = sim.requests(endpoint)
        assert request.headers["Authorization"].startswith("Bearer ey")
        assert request.headers["apiKey"] == sim.api_key
    for endpoint in ("token", "bulk"):
        assert "Authorization" not in sim.requests(endpoint)[0].headers
    lean = connect(auth="token", dialect=Dialect(token_sends_key=False))
    await add(lean)
    assert "apiKey" not in sim.requests("add")[-1].headers
    assert sim.requests("token")[-1].headers["apiKey"] == sim.api_key


@pytest.mark.parametrize("sim_options", [{"auth_mode": "TOKEN_AUTH", "token_life": 2.0}])
async def test_a_token_is_renewed_before_it_expires(
    sim: Simulator, client: OzonetelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ozonetel_async.sending.bearer_tokens.RENEW_AT", 0.2)
    calls = 0
    while sim.tokens.issued < 3:
        await add(client)
        calls += 1
    assert (sim.arrivals("add"), sim.writes_applied("add")) == (calls, calls)


@pytest.mark.parametrize("fault", [Fault.reset_before_apply(), Fault.status(500, apply=False), Fault.http_429("3600")])
async def test_a_renewal_that_fails_leaves_the_token_in_use_while_it_lives(
    sim: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("ozonetel_async.sending.bearer_tokens.RENEW_AT", 0.0)
    client = connect(auth="token")
    sim.inject("token", fault, after=1, times=1)
    while sim.arrivals("token") < 2:
        assert (await add(client)).outcome == "accepted"
    assert (await add(client)).outcome == "accepted"
    assert sim.arrivals("add") == sim.writes_applied("add")


async def test_an_expired_token_is_replaced_once_for_everybody(sim: Simulator, client: OzonetelClient) -> None:
    await add(client)
    sim.tokens.expire()
    await asyncio.gather(*(add(client) for _ in range(40)))
    assert sim.tokens.issued == 2
    assert sim.writes_applied("add") == 41
    assert 42 <= sim.arrivals("add") <= 81


async def test_a_single_call_costs_one_refresh_and_one_repetition(sim: Simulator, client: OzonetelClient) -> None:
    await add(client)
    sim.tokens.expire()
    await add(client)
    assert (sim.tokens.issued, sim.arrivals("add"), sim.writes_applied("add")) == (2, 3, 2)


async def test_a_token_that_never_pleases_ends_after_one_refresh(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", EXPIRED, times=None)
    with pytest.raises(AuthenticationError, match="another program takes tokens") as caught:
        await add(client)
    assert caught.value.outcome == "refused"
    assert (sim.tokens.issued, sim.arrivals("add")) == (2, 2)


@pytest.mark.parametrize("code", [401, 403])
async def test_a_firewalls_refusals_do_not_use_up_the_tokens(sim: Simulator, connect: Connect, code: int) -> None:
    """Each 401 and 403 took a new token: five such leads used up the hour."""
    client = connect(auth="token", limits=fast_limits(token=RateLimit(10, 3600.0)))
    await add(client)
    sim.inject("add", Fault.status(code, apply=False), times=None)
    for _ in range(6):
        with pytest.raises(AuthenticationError, match=f"HTTP {code}") as caught:
            await add(client)
        assert (caught.value.outcome, caught.value.forbidden) == ("refused", code == 403)
    assert sim.tokens.issued == (2 if code == 401 else 1)
    sim.clear_faults()
    assert (await add(client)).outcome == "accepted"


async def test_one_401_is_tried_again_with_the_same_token(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("add", Fault.status(401, apply=False))
    await add(client)
    assert (sim.tokens.issued, sim.arrivals("add"), sim.writes_applied("add")) == (1, 2, 1)


async def test_a_token_that_is_refused_without_its_name_twice_is_replaced(
    sim: Simulator, client: OzonetelClient
) -> None:
    sim.inject("add", Fault.status(401, apply=False), times=2)
    await add(client)
    assert (sim.tokens.issued, sim.arrivals("add"), sim.writes_applied("add")) == (2, 3, 1)


@pytest.mark.parametrize(
    "sim_options",
    [
        {"auth_mode": "TOKEN_AUTH", "replaced_token_message": "Token Expired"},
        {"auth_mode": "TOKEN_AUTH", "replaced_token_message": "Invalid Token"},
    ],
)
async def test_processes_that_take_each_others_token_go_on_working(sim: Simulator, connect: Connect) -> None:
    one, other = connect(auth="token"), connect(auth="token")
    for client in (one, other, one, other):
        assert (await add(client)).outcome == "accepted"
    assert sim.tokens.issued == 4
    assert sim.writes_applied("add") == 4


@pytest.mark.parametrize("sim_options", [{"auth_mode": "TOKEN_AUTH", "limits": {"token": 2}}])
async def test_the_limit_of_new_tokens_is_kept(
    sim: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ozonetel_async.sending.bearer_tokens._CONTEST", 0.0)
    client = connect(auth="token", limits=fast_limits(token=RateLimit(2, WINDOW)))
    for _ in range(5):
        await add(client)
        sim.tokens.expire()
    assert (sim.tokens.issued, sim.refusals("token"), sim.worst_window("token")) == (5, 0, 2)


async def test_no_new_token_within_max_wait_means_not_sent(sim: Simulator, connect: Connect) -> None:
    client = connect(auth="token", limits=fast_limits(token=RateLimit(1, 3600.0)))
    await add(client)
    sim.tokens.expire()
    with pytest.raises(QueueTimeoutError) as caught:
        await client.add_lead("Diwali", LEAD, max_wait=30.0)
    assert (caught.value.outcome, caught.value.endpoint) == ("not_sent", "token")
    assert (sim.arrivals("token"), sim.arrivals("add")) == (1, 2)


async def test_max_wait_holds_while_a_token_is_fetched(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("token", Fault.stall_before_apply())
    with pytest.raises(QueueTimeoutError) as caught:
        await client.add_lead("Diwali", LEAD, max_wait=0.05)
    assert (caught.value.outcome, sim.arrivals("add"), client.queues["add"].free) == ("not_sent", 0, 100)


async def test_two_clients_of_one_account_are_damped(sim: Simulator, connect: Connect) -> None:
    one, other = connect(auth="token"), connect(auth="token")
    errors: list[LeadReceipt | BaseException] = []
    for _ in range(20):
        for client in (one, other):
            errors += await asyncio.gather(add(client), return_exceptions=True)
    refused = [error for error in errors if isinstance(error, AuthenticationError)]
    assert refused
    assert all("another program takes tokens for this account" in str(error) for error in refused)
    assert sim.tokens.issued <= 5


FAILING = [
    (Fault.reset_before_apply(), ConnectError),
    (Fault.reset_after_apply(), ConnectError),
    (Fault.stall_after_apply(), ConnectError),
    (Fault.status(502), ConnectError),
    (Fault.html(), ConnectError),
    (Fault.empty(), ConnectError),
    (Fault.truncated(), ConnectError),
    (Fault.truncated(flavour="json"), ConnectError),
    (Fault.status(200, body='{"token":"two words"}', content_type="application/json"), ConnectError),
    (Fault.status(200, body='{"token":""}', content_type="application/json"), ConnectError),
    (Fault.http_429("3600"), RateLimitedError),
]


@pytest.mark.parametrize(("fault", "kind"), FAILING, ids=lambda value: getattr(value, "name", None))
async def test_without_a_token_nothing_is_sent(
    sim: Simulator, connect: Connect, fault: Fault, kind: type[OzonetelError]
) -> None:
    client = connect(auth="token", timeouts=Timeouts(total=0.2 if fault.kind == "stall" else 5.0))
    sim.inject("token", fault, times=None)
    answers = await asyncio.gather(*(add(client) for _ in range(10)), return_exceptions=True)
    assert {type(error) for error in answers} == {kind}
    assert all(isinstance(error, OzonetelError) and error.outcome != "unknown" for error in answers)
    fetches = 1 if kind is RateLimitedError else EAGER.connect_attempts
    assert (sim.arrivals("token"), sim.arrivals("add"), client.queues["add"].free) == (fetches, 0, 100)


async def test_a_call_outlives_a_token_endpoint_that_fails_for_a_moment(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("token", Fault.status(502, apply=False), times=2)
    receipts = await asyncio.gather(*(add(client) for _ in range(20)))
    assert {receipt.outcome for receipt in receipts} == {"accepted"}
    assert (sim.arrivals("token"), sim.tokens.issued) == (3, 1)


async def test_a_wrong_key_is_told_by_the_token_endpoint(sim: Simulator, connect: Connect) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await add(connect(auth="token", api_key="not-the-key"))
    assert (caught.value.outcome, caught.value.endpoint) == ("refused", "token")
    assert sim.arrivals("add") == 0


async def test_a_refused_token_request_is_repeated(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("token", Fault.rate_refusal())
    assert (await add(client)).outcome == "accepted"
    assert sim.arrivals("token") == 2


async def test_the_key_alone_does_not_do_on_a_token_account(sim: Simulator, connect: Connect) -> None:
    with pytest.raises(AuthModeError, match="API Authentication") as caught:
        await add(connect())
    assert caught.value.outcome == "refused"
    assert sim.arrivals("add") == 1


@pytest.mark.parametrize("sim_options", [{"auth_mode": "NONE"}])
@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_an_account_without_api_access_says_so(connect: Connect, auth: str) -> None:
    with pytest.raises(AuthModeError):
        await add(connect(auth=auth))


async def test_a_cancelled_caller_does_not_take_the_token_from_the_others(
    sim: Simulator, client: OzonetelClient
) -> None:
    sim.inject("token", Fault.slow(0.01))
    first = asyncio.create_task(add(client))
    await sim.wait_for(lambda: sim.arrivals("token"))
    others = [asyncio.create_task(add(client)) for _ in range(5)]
    first.cancel()
    receipts = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(receipts[0], asyncio.CancelledError)
    assert [receipt.outcome for receipt in receipts[1:] if isinstance(receipt, LeadReceipt)] == ["accepted"] * 5
    assert sim.tokens.issued == 1


async def test_with_every_caller_cancelled_the_fetch_ends_by_itself(
    sim: Simulator, client: OzonetelClient, caplog: pytest.LogCaptureFixture
) -> None:
    sim.inject("token", Fault.reset_after_apply())
    callers = [asyncio.create_task(add(client)) for _ in range(5)]
    await sim.wait_for(lambda: client.queues["add"].in_flight == 5)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await eventually(lambda: sim.arrivals("token") and not client.queues["token"].in_flight)
    await asyncio.sleep(0)
    assert (await add(client)).outcome == "accepted"
    # Of tasks: aiohttp before 3.13 leaves a future of its own behind when a connection is reset.
    assert not [record for record in caplog.records if "Task exception was never retrieved" in record.getMessage()]


async def test_close_while_a_token_is_fetched_turns_the_callers_away(sim: Simulator, client: OzonetelClient) -> None:
    sim.inject("token", Fault.stall_before_apply())
    callers = [asyncio.create_task(add(client)) for _ in range(5)]
    await sim.wait_for(lambda: sim.arrivals("token"))
    await client.close()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(error) for error in answers} == {ConfigurationError}
    assert sim.arrivals("add") == 0


async def test_an_unknown_outcome_after_a_refresh_is_not_repeated(sim: Simulator, client: OzonetelClient) -> None:
    await add(client)
    sim.tokens.expire()
    sim.inject("add", Fault.reset_after_apply(), after=1)
    with pytest.raises(OutcomeUnknownError):
        await add(client)
    assert (sim.arrivals("add"), sim.writes_applied("add"), sim.tokens.issued) == (3, 2, 2)
