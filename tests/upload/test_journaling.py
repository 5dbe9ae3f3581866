"""The upload's side of its journal: batches matched or refused, invalid rows filed, sends noted, callbacks waited
for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ozonetel_async import JournalError
from ozonetel_async.callbacks.url_tokens import url_token
from ozonetel_async.config import ClientConfig, Credentials
from ozonetel_async.journal.journal import Header, Journal
from ozonetel_async.rows.batches import Batch
from ozonetel_async.sending.dispatcher import ApiRequest
from ozonetel_async.upload.journaling import UploadJournal, open_upload_journal, upload_header

HEADER = Header(
    campaign="Diwali", account="a at b", params={}, columns=None, checked_at="2025-06-01T10:00:00+05:30", source=None
)
BASE = "https://hooks.example.com/in"


def batch(index: int, invalid: int = 0) -> Batch:
    """Ten rows, of which the first ones are invalid."""
    first = 10 * index + 1
    return Batch(index, first + invalid, first + 9, 10 - invalid, 10, invalid, b'{"data":[[%d]]}' % index)


def again(batch: Batch) -> Batch:
    """The batch as an upload passes it on when it is journaled: without its bytes."""
    return replace(batch, payload=b"")


def call() -> ApiRequest:
    return ApiRequest("bulk", {"checkDuplicate": "true", "callBackUrl": BASE}, payload=b"from the input")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path, HEADER)
    yield opened
    await opened.close()


async def state(journal: Journal, index: int = 0) -> str:
    return (await journal.batches())[index].state


# --- the input, compared ---------------------------------------------------------------------------------------------


def invalid_rows(journal: Journal) -> list[list[int]]:
    with closing(sqlite3.connect(journal.path)) as db:
        return [json.loads(text) for (text,) in db.execute("SELECT invalid FROM batches ORDER BY id")]


async def send(kept: UploadJournal, index: int) -> str | None:
    """Send a batch, and have it accepted; its callback token."""
    given = call()
    await kept.prepare(batch(index), given)
    assert given.before_send is not None
    await given.before_send()
    await kept.conclude(batch(index), "accepted", f"id-{index}")
    return url_token(str(given.params["callBackUrl"]))


async def replaying(journal: Journal, count: int) -> UploadJournal:
    for index in range(count):
        await journal.plan(batch(index), [])
    return UploadJournal(journal, await journal.batches(), None)


async def test_the_same_batches_are_matched_in_their_order(journal: Journal) -> None:
    kept = await replaying(journal, 2)
    seen = [kept.replaying]
    for index in range(2):
        kept.compare(batch(index))
        seen.append(kept.replaying)
    assert seen == [True, True, False]
    kept.check_complete()
    assert [entry.index for entry in kept.matched] == [0, 1]


@pytest.mark.parametrize(
    ("changed", "rows"),
    [
        (replace(batch(1), payload=b'{"data":[[9]]}'), "11 to 20"),
        (replace(batch(1), last_row=25, read=15), "11 to 25"),
        (replace(batch(1), last_row=15, read=5), "11 to 20"),
        (replace(batch(1, invalid=2)), "11 to 20"),
    ],
)
async def test_another_batch_is_refused_with_the_rows_that_it_is_about(
    journal: Journal, changed: Batch, rows: str
) -> None:
    kept = await replaying(journal, 2)
    kept.compare(batch(0))
    with pytest.raises(JournalError, match=rf"a\.journal: the input has changed in rows {rows}, which are journaled"):
        kept.compare(changed)
    assert len(kept.matched) == 1


async def test_an_input_that_ends_too_early_is_refused(journal: Journal) -> None:
    kept = await replaying(journal, 2)
    kept.compare(batch(0))
    with pytest.raises(JournalError, match=r"the input ends before row 20, which is journaled already"):
        kept.check_complete()


async def test_invalid_rows_are_filed_with_the_batch_that_accounts_for_them(journal: Journal) -> None:
    """Rows behind a batch's last one are noted before the batch is written, since rows come in slices."""
    kept = UploadJournal(journal, [], None)
    for row in (1, 2, 11, 12, 23):
        kept.note_invalid(row)
    for index in range(2):
        await kept.prepare(batch(index, invalid=2), call())
    assert invalid_rows(journal) == [[1, 2], [11, 12]]


async def test_invalid_rows_of_matched_batches_are_not_filed_with_new_ones(journal: Journal) -> None:
    kept = await replaying(journal, 1)
    kept.note_invalid(3)
    kept.note_invalid(11)
    kept.compare(batch(0))
    await kept.prepare(batch(1, invalid=1), call())
    assert invalid_rows(journal) == [[], [11]]


# --- a batch on its way ----------------------------------------------------------------------------------------------


async def test_a_new_batch_is_written_ahead_and_marked_when_it_leaves(journal: Journal) -> None:
    kept, given = UploadJournal(journal, [], None), call()
    await kept.prepare(batch(0), given)
    assert given.payload == b"from the input"
    assert given.params == {"checkDuplicate": "true", "callBackUrl": BASE}
    assert await journal.body(0) == batch(0).payload
    assert await state(journal) == "pending"
    assert given.before_send is not None
    assert given.not_applied is not None
    for _ in range(2):
        await given.before_send()
        assert await state(journal) == "sent"
        await given.not_applied()
        assert await state(journal) == "pending"


async def test_a_journaled_batch_brings_its_own_bytes_and_token(journal: Journal) -> None:
    first, given = UploadJournal(journal, [], BASE), call()
    await first.prepare(batch(0), given)
    url = str(given.params["callBackUrl"])
    second, given = UploadJournal(journal, await journal.batches(), f"{BASE}/v2"), call()
    await second.prepare(again(batch(0)), given)
    assert given.payload == batch(0).payload
    assert given.params == {"checkDuplicate": "true", "callBackUrl": url.replace("/in/", "/in/v2/")}
    assert await state(journal) == "pending", "what is journaled is marked when it leaves, not before"
    assert given.before_send is not None
    await given.before_send()
    assert await state(journal) == "sent"


async def test_tokens_are_fresh_for_each_batch_and_only_there_with_a_base(journal: Journal) -> None:
    kept, tokens = UploadJournal(journal, [], BASE), set()
    for index in range(20):
        given = call()
        await kept.prepare(batch(index), given)
        tokens.add(url_token(str(given.params["callBackUrl"])))
    assert len(tokens) == 20
    assert None not in tokens
    given = call()
    await UploadJournal(journal, [], None).prepare(batch(20), given)
    assert given.params == call().params


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        ("accepted", ("accepted", "172", None)),
        ("refused", ("refused", None, "172")),
        ("unknown", ("unknown", None, "172")),
        ("not_sent", ("pending", None, None)),
    ],
)
async def test_each_fate_is_written_down(journal: Journal, outcome: Any, kept: tuple[Any, ...]) -> None:
    await journal.plan(batch(0), [])
    await journal.mark(0, "sent")
    await UploadJournal(journal, [], None).conclude(batch(0), outcome, "172")
    (entry,) = await journal.batches()
    assert (entry.state, entry.transaction_id, entry.error) == kept


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_opening_gives_the_first_runs_moment_and_closes_in_the_end(path: Path) -> None:
    for checked_at in (HEADER.checked_at, "2030-01-01T00:00:00+05:30"):
        async with open_upload_journal(path, replace(HEADER, checked_at=checked_at), None) as (kept, moment):
            assert moment == datetime.fromisoformat(HEADER.checked_at)
            assert moment.utcoffset() is not None
            if not kept.replaying:
                await kept.journal.plan(batch(0), [])
    with pytest.raises(LookupError):
        async with open_upload_journal(path, HEADER, None):
            raise LookupError
    await (await Journal.open(path, HEADER)).close()


async def test_a_time_that_is_none_is_damage(path: Path) -> None:
    async with open_upload_journal(path, HEADER, None) as (kept, _):
        await kept.journal.plan(batch(0), [])
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE header SET value = replace(value, '2025-06-01', '2025-99-01')")
        db.commit()
    with pytest.raises(JournalError, match="is damaged"):
        async with open_upload_journal(path, HEADER, None):
            pass
    await (await Journal.open(path, HEADER)).close()


def test_a_header_tells_an_upload_from_others_and_holds_no_secret() -> None:
    config = ClientConfig(credentials=Credentials("very-secret-key", "me"), base_url="https://api.example.com")
    now = datetime(2025, 6, 1, tzinfo=UTC)

    class Source(list[Any]):
        source = {"path": "leads.csv"}  # noqa: RUF012 - stands for CsvRows.source

    header = upload_header(config, "Diwali", {"checkDuplicate": True}, ["PhoneNumber"], Source(), now)
    assert header == Header(
        campaign="Diwali",
        account="me at https://api.example.com",
        params={"checkDuplicate": "True"},
        columns=("PhoneNumber",),
        checked_at="2025-06-01T00:00:00+00:00",
        source={"path": "leads.csv"},
    )
    assert "secret" not in str(header)
    assert upload_header(config, "Diwali", {}, None, [], now).source is None
