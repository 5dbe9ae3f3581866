"""A web process finds each callback's journal in its folder, whatever else lies there and whoever writes to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ozonetel_async import ConfigurationError, JournalError
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import new_token
from ozonetel_async.journal.folder import JournalFolder
from ozonetel_async.journal.journal import Header, Journal, JournaledBatch
from ozonetel_async.rows.batches import Batch


def header(campaign: str = "Diwali") -> Header:
    return Header(
        campaign=campaign,
        account="me at here",
        params={},
        columns=("PhoneNumber",),
        checked_at="2024-07-11T12:00:00+05:30",
    )


def result(transaction_id: str) -> JobResult:
    return JobResult(transaction_id, True, 1, 1, 0)


async def begin(path: Path, tokens: Sequence[str]) -> Journal:
    """A journal with one accepted batch per token, held as by an upload that is under way."""
    journal = await Journal.open(path, header())
    for index, token in enumerate(tokens):
        payload = json.dumps({"map": ["PhoneNumber"], "data": [[f"98123{index:05}"]]}).encode()
        await journal.plan(Batch(index, index + 1, index + 1, 1, 1, 0, payload), [], token)
        await journal.mark(index, "sent")
        await journal.accepted(index, f"{path.stem}-{index}")
    return journal


async def entries(path: Path) -> list[JournaledBatch]:
    journal = await Journal.attach(path)
    try:
        return await journal.entries()
    finally:
        await journal.close()


def threads() -> int:
    return sum(thread.name.startswith("journal ") for thread in threading.enumerate())


def replace_journal(path: Path, by: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.rename(path.parent / f"old-{leftover.name}.bak")
    os.replace(by, path)


async def test_each_callback_goes_into_its_own_journal_while_the_uploads_run(tmp_path: Path) -> None:
    tokens = {name: [new_token() for _ in range(3)] for name in ("a", "b", "c")}
    uploads = [await begin(tmp_path / f"{name}.journal", own) for name, own in tokens.items()]
    async with JournalFolder(tmp_path) as folder:
        for name, own in tokens.items():
            for index in (2, 0, 1):
                assert await folder.deliver(own[index], result(f"{name}-{index}"))
        assert not await folder.deliver(new_token(), result("a-0"))
        assert not await folder.deliver("", result("a-0"))
        assert not await folder.deliver("\ud800", result("a-0"))
    for upload in uploads:
        assert await upload.unsettled() == 0
        assert [entry.settlement.conflicts for entry in await upload.entries()] == [0, 0, 0]
        await upload.close()


async def test_a_journal_that_is_begun_later_is_found(tmp_path: Path) -> None:
    async with JournalFolder(tmp_path) as folder:
        token = new_token()
        assert not await folder.deliver(token, result("late-0"))
        upload = await begin(tmp_path / "late.journal", [token])
        assert await folder.deliver(token, result("late-0"))
        assert await folder.deliver(token, result("late-0"))
        await upload.close()
        # The upload is over; its callbacks may still come.
        assert await folder.deliver(token, result("late-0"))
    (entry,) = await entries(tmp_path / "late.journal")
    assert entry.settlement.repeats == 2


async def test_a_journal_put_in_the_place_of_another_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    old, new = new_token(), new_token()
    await (await begin(path, [old])).close()
    async with JournalFolder(tmp_path) as folder:
        assert await folder.deliver(old, result("x-0"))
        other = tmp_path / "other"
        other.mkdir()
        await (await begin(other / "x.journal", [new])).close()
        replace_journal(path, other / "x.journal")
        assert await folder.deliver(new, result("x-0"))
    (entry,) = await entries(path)
    assert entry.settlement.result is not None


async def test_few_journals_are_open_at_a_time_and_none_at_the_end(tmp_path: Path) -> None:
    before = threads()
    tokens = [new_token() for _ in range(6)]
    for number, token in enumerate(tokens):
        await (await begin(tmp_path / f"{number}.journal", [token])).close()
    async with JournalFolder(tmp_path, max_open=2) as folder:
        for number in (0, 1, 2, 3, 4, 5, 0, 5, 1):
            assert await folder.deliver(tokens[number], result(f"{number}-0"))
            assert 1 <= threads() - before <= 2
        # More at a time than may stay open: all get through, and the number falls again.
        many = [folder.deliver(token, result(f"{number}-0")) for number, token in enumerate(tokens)]
        assert await asyncio.gather(*many) == [True] * 6
        assert await folder.deliver(tokens[0], result("0-0"))
        assert threads() - before <= 2
    assert threads() == before
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("*-lock-journal")))


async def test_a_closed_folder_stores_nothing(tmp_path: Path) -> None:
    token = new_token()
    await (await begin(tmp_path / "x.journal", [token])).close()
    folder = JournalFolder(tmp_path)
    assert await folder.deliver(token, result("x-0"))
    await folder.close()
    await folder.close()
    with pytest.raises(JournalError, match="closed"):
        await folder.deliver(token, result("x-0"))


async def test_other_files_do_not_matter(tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "empty.journal").write_bytes(b"")
    (tmp_path / "notes.journal").write_text("not a database, " * 200)
    (tmp_path / "folder.journal").mkdir()
    (tmp_path / "gone.journal").symlink_to(tmp_path / "nowhere")
    with sqlite3.connect(tmp_path / "other.journal") as other:
        other.execute("CREATE TABLE batches_of_something (x)")
    other.close()
    await (await begin(tmp_path / "x.journal", [token])).close()
    shutil.copy(tmp_path / "x.journal", tmp_path / "x.backup")
    async with JournalFolder(tmp_path) as folder:
        assert await folder.deliver(token, result("x-0"))
        assert not await folder.deliver(new_token(), result("x-0"))


async def test_a_journal_that_cannot_be_read_is_a_reason_to_repeat_and_not_to_forget(tmp_path: Path) -> None:
    known, hidden = new_token(), new_token()
    path = tmp_path / "damaged.journal"
    await (await begin(path, [hidden])).close()
    await (await begin(tmp_path / "x.journal", [known])).close()
    content = bytearray(path.read_bytes())
    content[100:] = b"\xaa" * (len(content) - 100)
    path.write_bytes(content)
    async with JournalFolder(tmp_path) as folder:
        with pytest.raises(JournalError, match=r"damaged\.journal"):
            await folder.deliver(hidden, result("damaged-0"))
        assert await folder.deliver(known, result("x-0"))


async def test_the_folder_itself_may_go(tmp_path: Path) -> None:
    path = tmp_path / "journals"
    path.mkdir()
    async with JournalFolder(path) as folder:
        path.rmdir()
        with pytest.raises(JournalError, match="journals"):
            await folder.deliver(new_token(), result("x"))


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    for arguments in ((tmp_path / "none", 1), (__file__, 1), (tmp_path, 0), (tmp_path, "1")):
        with pytest.raises(ConfigurationError):
            JournalFolder(arguments[0], max_open=arguments[1])  # type: ignore[arg-type]


async def test_a_cancelled_delivery_leaves_the_folder_usable(tmp_path: Path) -> None:
    token = new_token()
    await (await begin(tmp_path / "x.journal", [token])).close()
    async with JournalFolder(tmp_path, max_open=1) as folder:
        for steps in range(12):
            task = asyncio.create_task(folder.deliver(token, result("x-0")))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await folder.deliver(token, result("x-0"))
