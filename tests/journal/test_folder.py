"""A web process finds each callback's journal in its folder, whatever else lies there and whoever writes to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import ConfigurationError, JournalError
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import batch_token, new_secret, new_token
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


async def begin(path: Path, batches: int = 1) -> tuple[Journal, list[str]]:
    """A journal with accepted batches, held as by an upload that is under way; and their tokens."""
    journal = await Journal.open(path, header())
    for index in range(batches):
        payload = json.dumps({"map": ["PhoneNumber"], "data": [[f"98123{index:05}"]]}).encode()
        await journal.plan(Batch(index, index + 1, index + 1, 1, 1, 0, payload), [])
        await journal.mark(index, "sent", callback=True)
        await journal.accepted(index, f"{path.stem}-{index}")
    return journal, [await journal.callback_token(index) for index in range(batches)]


async def make(path: Path) -> str:
    """A journal of an upload that is over, with one batch; its token."""
    journal, (token,) = await begin(path)
    await journal.close()
    return token


async def batches(path: Path) -> list[JournaledBatch]:
    journal = await Journal.attach(path)
    try:
        return await journal.batches()
    finally:
        await journal.close()


def copies(path: Path, count: int) -> list[str]:
    """Journals of other uploads, beside ``path``, which is one; their tokens."""
    tokens = []
    for number in range(count):
        copy = path.with_name(f"{number}.journal")
        shutil.copy(path, copy)
        secret = new_secret()
        with closing(sqlite3.connect(copy)) as db:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("UPDATE header SET secret = ?", (secret,))
            db.commit()
        tokens.append(batch_token(secret, 0))
    return tokens


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the databases opened from now on."""
    names: list[str] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def counting(name: str | Path, **options: Any) -> sqlite3.Connection:
        names.append(Path(str(name).partition("?")[0]).name)
        return connect(name, **options)

    monkeypatch.setattr(sqlite3, "connect", counting)
    return names


def settle_dates(folder: Path) -> None:
    """Make a folder one that has not changed for a while."""
    os.utime(folder, (1_700_000_000, 1_700_000_000))


def replace_journal(path: Path, by: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.rename(path.parent / f"old-{leftover.name}.bak")
    os.replace(by, path)


async def test_each_callback_goes_into_its_own_journal_while_the_uploads_run(tmp_path: Path) -> None:
    uploads = {name: await begin(tmp_path / f"{name}.journal", 3) for name in ("a", "b", "c")}
    folder = JournalFolder(tmp_path)
    for name, (_, tokens) in uploads.items():
        for index in (2, 0, 1):
            assert await folder.deliver(tokens[index], result(f"{name}-{index}"))
    for stranger in (new_token(), "", "ozcb_", "\ud800"):
        assert not await folder.deliver(stranger, result("a-0"))
    for upload, _ in uploads.values():
        assert await upload.unsettled() == 0
        assert [batch.settlement.conflicts for batch in await upload.batches()] == [0, 0, 0]
        await upload.close()


async def test_a_journal_that_is_begun_later_is_found(tmp_path: Path) -> None:
    folder = JournalFolder(tmp_path)
    assert not await folder.deliver(new_token(), result("late-0"))
    upload, (token,) = await begin(tmp_path / "late.journal")
    assert await folder.deliver(token, result("late-0"))
    assert await folder.deliver(token, result("late-0"))
    await upload.close()
    # The upload is over; its callbacks may still come.
    assert await folder.deliver(token, result("late-0"))
    (batch,) = await batches(tmp_path / "late.journal")
    assert batch.settlement.repeats == 2


async def test_a_journal_that_was_seen_before_it_was_begun_is_found(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    token = await make(elsewhere / "x.journal")
    (tmp_path / "x.journal").touch()
    folder = JournalFolder(tmp_path)
    settle_dates(tmp_path)
    assert not await folder.deliver(token, result("x-0"))
    (tmp_path / "x.journal").write_bytes((elsewhere / "x.journal").read_bytes())
    settle_dates(tmp_path)  # the folder has not changed, only the file
    assert await folder.deliver(token, result("x-0"))


async def test_a_journal_put_in_the_place_of_another_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    old = await make(path)
    folder = JournalFolder(tmp_path)
    assert await folder.deliver(old, result("x-0"))
    other = tmp_path / "other"
    other.mkdir()
    new = await make(other / "x.journal")
    replace_journal(path, other / "x.journal")
    assert await folder.deliver(new, result("x-0"))
    (batch,) = await batches(path)
    assert batch.settlement.result is not None
    assert not await folder.deliver(old, result("x-0"))


def remove(path: Path) -> None:
    """Delete a journal, and what lies beside it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


async def test_a_journal_begun_anew_under_its_old_name_is_another(tmp_path: Path) -> None:
    """A file system may give the new file the number of the old one."""
    path = tmp_path / "x.journal"
    folder = JournalFolder(tmp_path)
    tokens = []
    for _ in range(4):
        tokens.append(await make(path))
        assert [await folder.deliver(token, result("x-0")) for token in tokens] == [False] * (len(tokens) - 1) + [True]
        remove(path)


async def test_a_journal_and_its_copy_both_get_the_callback(tmp_path: Path) -> None:
    token = await make(tmp_path / "x.journal")
    shutil.copy(tmp_path / "x.journal", tmp_path / "y.journal")
    assert await JournalFolder(tmp_path).deliver(token, result("x-0"))
    for name in ("x", "y"):
        (batch,) = await batches(tmp_path / f"{name}.journal")
        assert batch.settlement.result is not None


async def test_of_many_journals_a_callback_opens_its_own_and_a_strangers_none(
    tmp_path: Path, opened: list[str]
) -> None:
    path = tmp_path / "x.journal"
    token = await make(path)
    tokens = [token, *copies(path, 100)]
    folder = JournalFolder(tmp_path)
    settle_dates(tmp_path)
    opened.clear()
    assert not await folder.deliver(new_token(), result("x-0"))
    assert len(opened) == 101, "each is looked at once"
    opened.clear()
    for _ in range(50):
        assert not await folder.deliver(new_token(), result("x-0"))
        # One of the right journal, and no proof.
        assert not await folder.deliver(token[:-8] + "AAAAAAAA", result("x-0"))
    assert opened == ["x.journal"] * 50
    opened.clear()
    for known in tokens[::10]:
        assert await folder.deliver(known, result("x-0"))
    assert opened == ["x.journal", *(f"{number}.journal" for number in range(9, 100, 10))]


async def test_writing_into_a_journal_is_no_reason_to_read_the_folder_again(tmp_path: Path) -> None:
    upload, (token,) = await begin(tmp_path / "x.journal")
    settle_dates(tmp_path)
    await upload.refused(0, "no")
    await upload.accepted(0, "x-0")
    assert await JournalFolder(tmp_path).deliver(token, result("x-0"))
    await upload.close()
    assert os.stat(tmp_path).st_mtime == 1_700_000_000


async def test_many_callbacks_at_a_time_are_all_stored(tmp_path: Path) -> None:
    tokens = [await make(tmp_path / f"{number}.journal") for number in range(6)]
    folder = JournalFolder(tmp_path)
    many = [folder.deliver(token, result(f"{number}-0")) for number, token in enumerate(tokens) for _ in range(3)]
    assert await asyncio.gather(*many) == [True] * 18
    for number in range(6):
        (batch,) = await batches(tmp_path / f"{number}.journal")
        assert batch.settlement.repeats == 2


async def test_other_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "empty.journal").write_bytes(b"")
    (tmp_path / "notes.journal").write_text("not a database, " * 200)
    (tmp_path / "short.journal").write_text("no")
    (tmp_path / "folder.journal").mkdir()
    (tmp_path / "gone.journal").symlink_to(tmp_path / "nowhere")
    with sqlite3.connect(tmp_path / "other.journal") as other:
        other.execute("CREATE TABLE batches_of_something (x)")
    other.close()
    token = await make(tmp_path / "x.journal")
    shutil.copy(tmp_path / "x.journal", tmp_path / "x.backup")
    folder = JournalFolder(tmp_path)
    assert await folder.deliver(token, result("x-0"))
    assert not await folder.deliver(new_token(), result("x-0"))


async def test_a_journal_that_cannot_be_read_is_a_reason_to_repeat_and_not_to_forget(tmp_path: Path) -> None:
    path = tmp_path / "damaged.journal"
    hidden = await make(path)
    known = await make(tmp_path / "x.journal")
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xaa" * (len(whole) - 100))
    folder = JournalFolder(tmp_path)
    with pytest.raises(JournalError, match=r"damaged\.journal"):
        await folder.deliver(hidden, result("damaged-0"))
    assert await folder.deliver(known, result("x-0"))
    path.write_bytes(whole)
    assert await folder.deliver(hidden, result("damaged-0"))


async def test_the_folder_itself_may_go(tmp_path: Path) -> None:
    path = tmp_path / "journals"
    path.mkdir()
    folder = JournalFolder(path)
    path.rmdir()
    with pytest.raises(JournalError, match="journals"):
        await folder.deliver(new_token(), result("x"))


@pytest.mark.parametrize("name", ["none", "a file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ConfigurationError, match=f"expected an existing folder of journals, got '{name}'"):
        JournalFolder(tmp_path / name)


async def test_a_cancelled_delivery_leaves_the_folder_usable(tmp_path: Path) -> None:
    token = await make(tmp_path / "x.journal")
    folder = JournalFolder(tmp_path)
    for steps in range(12):
        task = asyncio.create_task(folder.deliver(token, result("x-0")))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await folder.deliver(token, result("x-0"))
