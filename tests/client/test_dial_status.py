"""An export is one call: its callback is waited for, whether it comes early, late, twice, or for a lost answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, get_args

import pytest
from aiohttp import web

from ozonetel_async import (
    CallbackTimeoutError,
    CampaignError,
    ConfigurationError,
    ExportReceipt,
    Lead,
    OutcomeUnknownError,
    OzonetelClient,
)
from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.callbacks.results import ExportResult
from ozonetel_async.client.dial_status import dial_status
from ozonetel_async.downloads.fetch import fetch
from ozonetel_async.downloads.links import LinkPolicy
from ozonetel_async.testing import Fault, Simulator
from ozonetel_async.testing.settings import CallbackShape

from ..conftest import WINDOW, fast_limits

Ask = Callable[..., Coroutine[Any, Any, ExportResult]]


@pytest.fixture
def receiver() -> CallbackReceiver:
    return CallbackReceiver()


@pytest.fixture
async def base(receiver: CallbackReceiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/ozonetel/{tail:.*}", receiver.aiohttp_handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/ozonetel"
    await runner.cleanup()


@pytest.fixture
def ask(client: OzonetelClient, receiver: CallbackReceiver, base: str) -> Ask:
    async def ask(campaign: str = "Diwali", timeout: float = 10.0) -> ExportResult:  # noqa: ASYNC109
        def send(url: str) -> Awaitable[ExportReceipt]:
            return client.request_dial_status(campaign, callback_url=url)

        return await dial_status(send, receiver=receiver, callback_url=base, timeout=timeout)

    return ask


def nothing_expected(receiver: CallbackReceiver) -> bool:
    return len(receiver._pending) == 0


async def test_the_export_comes_back_with_its_file(ask: Ask, sim: Simulator, client: OzonetelClient) -> None:
    await client.add_lead("Diwali", Lead("9812345678"))
    result = await ask()
    assert result.succeeded
    assert result.unique_id in sim.jobs
    assert result.link is not None
    async with aclosing(fetch(result.link, LinkPolicy(loopback=True))) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    assert content.startswith(b"PhoneNumber,")
    assert b"9812345678" in content


@pytest.mark.parametrize("shape", get_args(CallbackShape))
async def test_in_every_shape(shape: CallbackShape, receiver: CallbackReceiver, base: str) -> None:
    async with (
        Simulator(window=WINDOW, callback_shapes=(shape,), export_result="inline") as sim,
        OzonetelClient(
            sim.api_key, sim.username, base_url=sim.base_url, dialer_url=sim.dialer_url, limits=fast_limits()
        ) as client,
    ):
        result = await dial_status(
            lambda url: client.request_dial_status("Diwali", callback_url=url), receiver=receiver, callback_url=base
        )
    assert result.succeeded
    assert result.fields["campaign"] == "Diwali"


@pytest.mark.parametrize(
    "fault",
    [Fault.early_callback(), Fault.late_callback(0.05), Fault.duplicate_callback(3)],
    ids=lambda fault: fault.name,
)
async def test_whenever_and_however_often_it_comes(
    ask: Ask, sim: Simulator, receiver: CallbackReceiver, fault: Fault
) -> None:
    sim.inject("dial_status", fault)
    assert (await ask()).succeeded
    await sim.settle()
    assert {call.status for call in sim.callbacks} == {200}
    assert nothing_expected(receiver)


async def test_several_at_a_time_get_their_own(ask: Ask, sim: Simulator) -> None:
    for name in ("Holi", "Pongal", "Onam"):
        sim.campaign(name)
    sim.inject("dial_status", Fault.early_callback(), after=1)
    results = await asyncio.gather(*(ask(name) for name in ("Holi", "Pongal", "Onam")))
    assert [result.fields["campaign"] for result in results] == ["Holi", "Pongal", "Onam"]


@pytest.mark.parametrize(
    "fault", [Fault.lost_callback(), Fault.hostile_callback(b"nonsense")], ids=lambda fault: fault.name
)
async def test_a_callback_that_never_comes_ends_in_a_typed_error(
    ask: Ask, sim: Simulator, receiver: CallbackReceiver, fault: Fault
) -> None:
    sim.inject("dial_status", fault)
    with pytest.raises(CallbackTimeoutError) as caught:
        await ask(timeout=0.1)
    assert (caught.value.outcome, caught.value.endpoint) == ("unknown", "dial_status")
    assert caught.value.__context__ is None
    assert "ozcb_" not in str(caught.value)
    assert nothing_expected(receiver)


async def test_a_lost_answer_does_not_lose_the_export(ask: Ask, sim: Simulator, receiver: CallbackReceiver) -> None:
    sim.inject("dial_status", Fault.reset_after_apply())
    assert (await ask()).succeeded
    assert nothing_expected(receiver)


async def test_a_lost_answer_without_callback_stays_what_it_was(ask: Ask, sim: Simulator) -> None:
    sim.inject("dial_status", Fault.reset_before_apply())
    with pytest.raises(OutcomeUnknownError):
        await ask(timeout=0.1)


async def test_a_refusal_is_not_waited_for(ask: Ask, receiver: CallbackReceiver) -> None:
    with pytest.raises(CampaignError):
        await ask("Nowhere", timeout=600.0)
    assert nothing_expected(receiver)


async def test_a_cancelled_wait_expects_nothing_any_more(ask: Ask, sim: Simulator, receiver: CallbackReceiver) -> None:
    sim.inject("dial_status", Fault.lost_callback())
    task = asyncio.create_task(ask(timeout=600.0))
    await sim.wait_for(lambda: sim.writes_applied("dial_status"))
    others = asyncio.all_tasks() - {task}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() <= others
    assert nothing_expected(receiver)


async def answered(receiver: CallbackReceiver, *bodies: dict[str, Any], unique_id: str = "7") -> ExportResult:
    """The result when the service answers with an id and then calls with these bodies."""

    async def send(url: str) -> ExportReceipt:
        statuses = [await receiver.handle(url, "", "", json.dumps(body).encode()) for body in bodies]
        assert set(statuses) == {200}
        return ExportReceipt(unique_id)

    return await dial_status(send, receiver=receiver, callback_url="https://me.example/cb", timeout=0.05)


async def test_a_callback_with_another_id_is_passed_over(receiver: CallbackReceiver) -> None:
    strange, own = {"status": "success", "uniqueId": "8"}, {"status": "error", "uniqueId": "7", "message": "no data"}
    result = await answered(receiver, strange, strange, own)
    assert (result.unique_id, result.succeeded, result.message) == ("7", False, "no data")
    with pytest.raises(CallbackTimeoutError):
        await answered(receiver, strange)


async def test_a_callback_without_an_id_is_believed_by_its_token(receiver: CallbackReceiver) -> None:
    assert (await answered(receiver, {"status": "success", "message": "done"})).message == "done"
    assert (await answered(receiver, {"status": "success", "uniqueId": "8"}, unique_id="")).unique_id == "8"


async def test_an_id_named_as_in_bulk_uploads_is_an_export_s_still(receiver: CallbackReceiver) -> None:
    link = "https://h.example/x.csv?s=1"
    body = {"data": {"transactionId": "7", "status": "Success", "message": "done", "failedFilePath": link}}
    result = await answered(receiver, body)
    assert (result.unique_id, result.succeeded, result.message) == ("7", True, "done")
    assert result.link is not None
    assert result.link.reveal() == link


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": None},
        {"callback_url": "me.example"},
        {"callback_url": "https://me@you.example"},
    ],
)
async def test_wrong_arguments_send_nothing(receiver: CallbackReceiver, arguments: dict[str, Any]) -> None:
    async def send(url: str) -> ExportReceipt:
        raise AssertionError("sent")

    with pytest.raises(ConfigurationError):
        await dial_status(send, **{"receiver": receiver, "callback_url": "https://me.example", **arguments})
    assert nothing_expected(receiver)
