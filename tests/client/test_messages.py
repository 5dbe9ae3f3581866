"""Every documented reply through the public client: the right receipt, or the right error with the right outcome.

The replies are the files below ``samples``, named ``<case>.<HTTP code>.<meaning>[-<field>].<ending>``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aioresponses import aioresponses

from ozonetel_async import (
    AuthenticationError,
    AuthModeError,
    BatchReceipt,
    CampaignError,
    ConnectError,
    ExportReceipt,
    Lead,
    LeadReceipt,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelClient,
    OzonetelError,
    RateLimitedError,
    RequestRejectedError,
    RetryPolicy,
)

from ..conftest import ADDED, fast_limits

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.filterwarnings("ignore:the service has announced:DeprecationWarning"),
]

SAMPLES = sorted(path for path in (Path(__file__).parent.parent / "samples").glob("*/*") if path.is_file())
KEY = "key-that-must-not-show"
TOMORROW = datetime.now(UTC) + timedelta(days=1)

ERRORS: dict[str, tuple[type[OzonetelError], str]] = {
    "reject": (LeadRejectedError, "refused"),
    "auth": (AuthenticationError, "refused"),
    "auth_mode": (AuthModeError, "refused"),
    "token": (AuthenticationError, "refused"),
    "rate": (RateLimitedError, "refused"),
    "campaign": (CampaignError, "refused"),
    "forbidden": (AuthenticationError, "refused"),
    "request": (RequestRejectedError, "refused"),
    "not_found": (RequestRejectedError, "refused"),
    "server": (OutcomeUnknownError, "unknown"),
    "unknown": (OutcomeUnknownError, "unknown"),
}

CALLS: dict[str, Callable[[OzonetelClient], Awaitable[Any]]] = {
    "add": lambda client: client.add_lead("Diwali", Lead("9812345678")),
    "bulk": lambda client: client.add_batch("Diwali", [Lead("9812345678")]),
    "dial_status": lambda client: client.request_dial_status("Diwali", callback_url="https://example.org/x"),
    "legacy_add": lambda client: client.legacy.add_lead("Diwali", Lead("9812345678")),
    "token": lambda client: client.add_lead("Diwali", Lead("9812345678")),
}
ONE_ATTEMPT = RetryPolicy(connect_attempts=1, rate_attempts=1)


def samples(*endpoints: str) -> pytest.MarkDecorator:
    chosen = [path for path in SAMPLES if path.parent.name in endpoints]
    return pytest.mark.parametrize("path", chosen, ids=lambda path: f"{path.parent.name}/{path.name}")


def meaning_of(path: Path) -> tuple[int, str, str]:
    _, code, expected, _ = path.name.rsplit(".", 3)
    meaning, _, field = expected.partition("-")
    return int(code), meaning, field


def client_for(replies: aioresponses, path: Path, **options: Any) -> OzonetelClient:
    replies.add(re.compile("https://.*"), "POST", int(meaning_of(path)[0]), body=path.read_bytes(), repeat=True)
    replies.add(re.compile("https://.*"), "GET", int(meaning_of(path)[0]), body=path.read_bytes(), repeat=True)
    return OzonetelClient(KEY, "user", limits=fast_limits(), retry=ONE_ATTEMPT, **options)


def check_error(error: OzonetelError, endpoint: str, path: Path) -> None:
    _, meaning, field = meaning_of(path)
    kind, outcome = ERRORS[meaning]
    assert (type(error), error.outcome, error.endpoint) == (kind, outcome, endpoint)
    assert (getattr(error, "field", None) or "") == field
    assert error.raw is not None
    assert KEY not in f"{error!r}{error}{error.raw}"
    assert error.__cause__ is None


def check_receipt(receipt: object, endpoint: str, meaning: str) -> None:
    if isinstance(receipt, LeadReceipt):
        assert (endpoint in ("add", "legacy_add"), receipt.outcome) == (True, meaning)
    elif isinstance(receipt, BatchReceipt):
        assert (endpoint, meaning, receipt.rows) == ("bulk", "queued", 1)
        assert re.fullmatch(r"\d{24,25}", receipt.transaction_id)
    else:
        assert isinstance(receipt, ExportReceipt)
        assert (endpoint, meaning) == ("dial_status", "queued")
        assert receipt.unique_id.strip()


@samples("add", "bulk", "dial_status", "legacy_add")
async def test_a_reply_through_the_client(replies: aioresponses, path: Path) -> None:
    endpoint, (_, meaning, _) = path.parent.name, meaning_of(path)
    async with client_for(replies, path) as client:
        if meaning in ERRORS:
            with pytest.raises(OzonetelError) as caught:
                await CALLS[endpoint](client)
            check_error(caught.value, endpoint, path)
        else:
            check_receipt(await CALLS[endpoint](client), endpoint, meaning)
    assert sum(map(len, replies.requests.values())) == 1


@samples("schedule", "legacy_schedule")
async def test_a_schedule_reply_through_the_client(replies: aioresponses, path: Path) -> None:
    _, meaning, _ = meaning_of(path)
    async with client_for(replies, path) as client:
        verbs = client.legacy if path.parent.name == "legacy_schedule" else client
        report = await verbs.schedule_leads("Diwali", [Lead("9812345678", scheduled_time=TOMORROW)])
    (result,) = report.results
    if meaning == "accepted":
        assert (result.outcome, result.message) == ("accepted", "Data updated successfully")
    else:
        kind, outcome = ERRORS[meaning]
        assert (result.outcome, result.message.partition(":")[0]) == (outcome, kind.__name__)


@samples("token")
async def test_a_token_reply_through_the_client(replies: aioresponses, path: Path) -> None:
    _, meaning, _ = meaning_of(path)
    replies.post(re.compile(".*/AddCampaignData"), body=ADDED, repeat=True)
    async with client_for(replies, path, auth="token") as client:
        if meaning == "accepted":
            assert (await CALLS["token"](client)).outcome == "accepted"
        else:
            with pytest.raises(OzonetelError) as caught:
                await CALLS["token"](client)
            kind = ConnectError if ERRORS[meaning][1] == "unknown" else ERRORS[meaning][0]
            assert (type(caught.value), caught.value.endpoint) == (kind, "token")
            assert caught.value.outcome != "unknown"
    asked = [str(url) for _, url in replies.requests]
    assert any(url.endswith("AddCampaignData") for url in asked) is (meaning == "accepted")


async def test_a_receipt_keeps_the_reply(replies: aioresponses) -> None:
    body = '{"status":"Success","message":"Campaign Diwali Is Already Started","data":{"id":"7"}}'
    replies.post(re.compile(".*"), body=body)
    async with OzonetelClient(KEY, "user") as client:
        receipt = await client.add_lead("Diwali", Lead("9812345678"))
    assert (receipt.message, receipt.raw) == ("Campaign Diwali Is Already Started", body)


async def test_an_echo_of_the_request_is_masked(replies: aioresponses) -> None:
    body = f'{{"status":"error","message":"what is {KEY} and 919812345678?"}}'
    replies.post(re.compile(".*"), body=body)
    async with OzonetelClient(KEY, "user") as client:
        with pytest.raises(RequestRejectedError) as caught:
            await client.add_lead("Diwali", Lead("919812345678"))
    told = f"{caught.value!r} {caught.value} {caught.value.raw}"
    assert KEY not in told
    assert "919812345678" not in told
    assert "678" in told


def test_every_meaning_of_a_sample_is_checked() -> None:
    meanings = {meaning_of(path)[1] for path in SAMPLES}
    assert meanings <= {*ERRORS, "accepted", "duplicate", "queued"}
