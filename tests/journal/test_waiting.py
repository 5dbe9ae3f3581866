"""The leads of a buffer in a journal: kept in their order, gone with their batch or by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ozonetel_async import JournalError
from ozonetel_async.journal.journal import Header, Journal

HEADER = Header(
    campaign="Diwali",
    account="sim-user at https://example.com",
    params={},
    columns=None,
    checked_at="2025-06-01T10:00:00+05:30",
    kind="buffer",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path, HEADER)
    yield opened
    await opened.close()


async def test_leads_come_back_in_their_order_under_their_keys(journal: Journal) -> None:
    keys = [*await journal.keep([b"a", b"b"]), *await journal.keep([b"c"])]
    assert await journal.waiting() == list(zip(keys, [b"a", b"b", b"c"], strict=True))
    await journal.forget([keys[1]])
    assert [lead for _, lead in await journal.waiting()] == [b"a", b"c"]


async def test_a_batch_takes_the_place_of_its_leads(journal: Journal) -> None:
    keys = await journal.keep([b"a", b"b", b"c"])
    assert await journal.cut(b"first", 3, keys[:2]) == 0
    assert await journal.cut(b"second", 2, []) == 1
    assert await journal.waiting() == [(keys[2], b"c")]
    assert [await journal.body(index) for index in (0, 1)] == [b"first", b"second"]
    batches = await journal.batches()
    assert [(one.first_row, one.last_row, one.rows, one.read, one.state) for one in batches] == [
        (1, 3, 3, 3, "pending"),
        (4, 5, 2, 2, "pending"),
    ]


async def test_a_journal_with_nothing_but_waiting_leads_belongs_to_its_buffer(journal: Journal, path: Path) -> None:
    await journal.keep([b"a"])
    await journal.close()
    for change in ({"kind": "upload"}, {"campaign": "Holi"}):
        with pytest.raises(JournalError, match="another upload"):
            await Journal.open(path, replace(HEADER, **change))
