"""The journal's file: what is written comes back, a crash leaves the truth, callbacks in any order settle once."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ozonetel_async import JournalError
from ozonetel_async.callbacks.results import ExportResult, JobResult, SecretUrl
from ozonetel_async.callbacks.url_tokens import new_token
from ozonetel_async.journal.journal import Header, Journal, JournaledBatch
from ozonetel_async.journal.records import FORMAT
from ozonetel_async.journal.settlement import Settlement
from ozonetel_async.rows.batches import Batch

HEADER = Header(
    campaign="Diwali",
    account="sim-user at https://example.com",
    params={"checkDuplicate": "true"},
    columns=("PhoneNumber", "Name"),
    checked_at="2025-06-01T10:00:00+05:30",
    source={"path": "leads.csv"},
)


def batch(index: int, payload: bytes = b"") -> Batch:
    """A batch of 9 rows and 1 invalid one."""
    first = 10 * index + 1
    return Batch(index, first, first + 9, 9, 10, 1, payload or b'{"map":["PhoneNumber"],"data":[["%d"]]}' % index)


def verdict(transaction_id: str, **more: Any) -> JobResult:
    return JobResult(transaction_id, succeeded=True, total=9, **({"processed": 9, "not_processed": 0} | more))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path, HEADER)
    yield opened
    await opened.close()


async def entry(journal: Journal, index: int = 0) -> JournaledBatch:
    return (await journal.batches())[index]


async def send(journal: Journal, index: int = 0) -> str:
    """Plan a batch and mark it as sent with a callback URL; its token."""
    await journal.plan(batch(index), [])
    await journal.mark(index, "sent", callback=True)
    return await journal.callback_token(index)


async def fails(path: Path, header: Header = HEADER) -> str:
    """What is said when the journal is opened."""
    with pytest.raises(JournalError) as caught:
        await Journal.open(path, header)
    return caught.value.message


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def select(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def edit(path: Path, *statements: str, writable_schema: bool = False) -> None:
    """Change a closed journal behind the library's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        if writable_schema:
            db.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            db.execute(statement)


# --- what is written -------------------------------------------------------------------------------------------------


async def test_all_of_a_header_comes_back_and_resume_goes_by_the_latest(path: Path) -> None:
    journal = await Journal.open(path, HEADER)
    assert await journal.header() == HEADER
    assert journal.path == path
    await journal.plan(batch(0), [])
    await journal.close()
    later = replace(HEADER, checked_at="2025-06-02T10:00:00+05:30", params={"action": "START"}, source=None)
    journal = await Journal.open(path, later)
    kept = await journal.header()
    assert kept.checked_at == HEADER.checked_at, "dates must be judged by the first run's clock"
    assert kept.source == HEADER.source, "rows without a file do not make the file unknown"
    assert kept.params == {"action": "START"}
    await journal.close()


async def test_a_planned_batch_comes_back_with_its_bytes(journal: Journal) -> None:
    for one in (batch(0, b"\x00\xff" * 1000), batch(1)):
        await journal.plan(one, [one.first_row])
    first, second = await journal.batches()
    assert (first.index, first.first_row, first.last_row, first.rows, first.read) == (0, 1, 10, 9, 10)
    assert (first.state, first.transaction_id, first.error) == ("pending", None, None)
    assert first.settlement == Settlement()
    assert await journal.body(0) == b"\x00\xff" * 1000
    assert await journal.body(1) == batch(1).payload
    assert second.index == 1


@pytest.mark.parametrize(
    "change", [{"index": 3}, {"first_row": 2}, {"last_row": 11}, {"rows": 8}, {"read": 11}, {"payload": b"{}"}]
)
async def test_a_journaled_batch_matches_its_batch_and_no_other(journal: Journal, change: dict[str, Any]) -> None:
    await journal.plan(batch(0), [1])
    written = await entry(journal)
    assert written.matches(batch(0))
    assert not written.matches(replace(batch(0), **change))


async def test_each_step_of_a_batch_is_in_the_file_at_once(journal: Journal, path: Path) -> None:
    await journal.plan(batch(0), [1])
    steps: list[tuple[Any, str, str | None, str | None]] = [
        (journal.mark(0, "sent"), "sent", None, None),
        (journal.mark(0, "pending"), "pending", None, None),
        (journal.refused(0, "CampaignError: none"), "refused", None, "CampaignError: none"),
        (journal.mark(0, "sent"), "sent", None, None),
        (journal.unknown(0, "no answer"), "unknown", None, "no answer"),
        (journal.mark(0, "sent"), "sent", None, None),
        (journal.accepted(0, "172"), "accepted", "172", None),
    ]
    for step, state, ticket, error in steps:
        await step
        with closing(sqlite3.connect(path)) as db:
            row = db.execute("SELECT state, transaction_id, error FROM batches").fetchone()
        assert row == (state, ticket, error)


async def test_the_same_batch_is_not_planned_twice(journal: Journal) -> None:
    await journal.plan(batch(0), [])
    with pytest.raises(JournalError):
        await journal.plan(batch(0), [])
    assert len(await journal.batches()) == 1


async def test_batches_are_planned_without_gaps(journal: Journal) -> None:
    await journal.plan(batch(0), [])
    with pytest.raises(JournalError, match="expected batch 1, got batch 2; nothing was written"):
        await journal.plan(batch(2), [])
    await journal.plan(batch(1), [])
    assert [one.state for one in await journal.batches()] == ["pending", "pending"]


async def test_invalid_rows_stand_with_the_batch_that_accounts_for_them(journal: Journal, path: Path) -> None:
    await journal.plan(batch(0), [3, 7])
    assert select(path, "SELECT invalid FROM batches") == [("[3,7]",)]


# --- after a crash ---------------------------------------------------------------------------------------------------


async def test_only_what_was_under_way_becomes_unknown(path: Path) -> None:
    journal = await Journal.open(path, HEADER)
    for index in range(5):
        await journal.plan(batch(index), [])
    await journal.mark(1, "sent")
    await journal.accepted(2, "172")
    await journal.refused(3, "no")
    await journal.unknown(4, "lost")
    await journal.close()
    journal = await Journal.open(path, HEADER)
    entries = await journal.batches()
    assert [one.state for one in entries] == ["pending", "unknown", "accepted", "refused", "unknown"]
    assert entries[1].error == "the process ended before the answer was written down"
    assert entries[1].settlement.phase == "unanswered"
    assert entries[4].error == "lost"
    await journal.close()


async def test_looking_on_does_not_take_what_is_under_way_for_lost(journal: Journal, path: Path) -> None:
    await journal.plan(batch(0), [])
    await journal.mark(0, "sent")
    onlooker = await Journal.attach(path)
    assert (await entry(onlooker)).state == "sent"
    assert await onlooker.header() == HEADER
    await onlooker.close()
    assert (await entry(journal)).state == "sent"


async def test_a_callback_that_came_before_the_crash_settles_the_batch_at_the_next_start(path: Path) -> None:
    journal = await Journal.open(path, HEADER)
    token = await send(journal)
    assert await journal.deliver(token, verdict("172"))
    assert (await entry(journal)).state == "sent"
    await journal.close()
    journal = await Journal.open(path, HEADER)
    after = await entry(journal)
    assert (after.state, after.transaction_id, after.error) == ("accepted", "172", None)
    assert after.settlement.result == verdict("172")
    await journal.close()


# --- half a transaction ----------------------------------------------------------------------------------------------

PAGE = 4096


def torn(before: bytes, after: bytes) -> list[bytes]:
    """What a file is while ``before`` becomes ``after``: SQLite writes the pages of a transaction by their numbers."""
    changed = [at for at in range(0, len(after), PAGE) if before[at : at + PAGE] != after[at : at + PAGE]]
    states = []
    for count in range(1, len(changed)):
        state = bytearray(before)
        for at in changed[:count]:
            state.extend(bytes(max(0, at - len(state))))
            state[at : at + PAGE] = after[at : at + PAGE]
        states.append(bytes(state))
    return states


async def test_a_transaction_of_which_a_part_was_written_is_noticed_or_harmless(path: Path) -> None:
    """As after a kill within a commit when the rollback journal is gone."""
    journal = await Journal.open(path, HEADER)
    cases: list[tuple[list[JournaledBatch], bytes]] = []

    async def step(work: Awaitable[object]) -> None:
        known, before = await journal.batches(), read(path)
        await work
        states = torn(before, read(path))
        # All of the large ones, which move rows about; of the small ones, a sample.
        cases.extend((known, state) for state in (states if len(states) > 2 or len(known) % 9 == 0 else ()))

    for index in range(24):
        await step(journal.plan(batch(index, b"%d" % index * 3000), list(range(index * 20))))
        await step(journal.mark(index, "sent", callback=True))
        if index % 3 == 2:
            for other in (index - 1, index):
                result = verdict(f"id-{other}", message="what the service says of it " * 12)
                await step(journal.deliver(await journal.callback_token(other), result))
        await step(journal.unknown(index, "lost") if index % 5 == 4 else journal.accepted(index, f"id-{index}"))
    await journal.close()
    noticed = 0
    for number, (known, state) in enumerate(cases):
        cut = path.with_name(f"{number}.journal")
        write(cut, state)
        try:
            opened = await Journal.open(cut, HEADER)
        except JournalError:
            noticed += 1
            continue
        found = await opened.batches()
        await opened.close()
        for old in known:
            if old.state in ("sent", "accepted", "unknown"):
                assert found[old.index].state in ("accepted", "unknown"), (number, old.index)
                assert found[old.index].digest == old.digest
    assert 0 < noticed < len(cases)


# --- a journal that was being begun ----------------------------------------------------------------------------------

BEGIN = """
import asyncio, resource, signal, sys
from ozonetel_async import JournalError
from ozonetel_async.journal.journal import Header, Journal
import msgspec
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
# Writing beyond this size fails, as on a full disk; or kills, as a kill in the midst of a write would.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL if sys.argv[1] == "kill" else signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
header = msgspec.json.decode(sys.argv[4], type=Header)
try:
    asyncio.run(Journal.open(sys.argv[3], header))
except JournalError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["kill", "full"])
@pytest.mark.parametrize("limit", [0, 100, 512, 1000, 4096, 8000, 12_000, 24_000])
async def test_a_journal_whose_beginning_was_interrupted_works_once_there_is_room(
    path: Path, how: str, limit: int
) -> None:
    arguments = (how, str(limit), str(path), msgspec.json.encode(HEADER).decode())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BEGIN, *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if how == "kill":
        assert process.returncode == -signal.SIGXFSZ
    else:
        assert said.startswith(b"journal a.journal: the disk ")
    journal = await Journal.open(path, HEADER)
    await journal.plan(batch(0), [])
    await journal.close()
    assert await journal_states(path) == ["pending"]


@pytest.mark.parametrize("how", ["emptied", "missing", "another database"])
async def test_a_journal_that_was_emptied_is_not_begun_anew(path: Path, how: str) -> None:
    journal = await Journal.open(path, HEADER)
    await journal.plan(batch(0), [])
    await journal.close()
    remove(path)
    if how == "emptied":
        write(path, b"")
    elif how == "another database":
        edit(path, "CREATE TABLE t (value)", "DROP TABLE t")
    for _ in range(2):
        assert await fails(path) == (
            "journal a.journal: expected the journal that a.journal-lock says was begun, got an empty or missing file; "
            "restore it from a backup, or, after checking in the dialler what was added, delete a.journal, "
            "a.journal-journal and a.journal-lock to begin anew"
        )
    assert (path in listed(path)) == (how != "missing")
    for file in listed(path):
        remove(file)
    await (await Journal.open(path, HEADER)).close()
    assert await journal_states(path) == []


async def test_a_journal_without_the_note_gets_it_when_it_is_opened(path: Path) -> None:
    await (await Journal.open(path, HEADER)).close()
    remove(path.with_name("a.journal-lock"))
    await (await Journal.open(path, HEADER)).close()
    write(path, b"")
    assert "got an empty or missing file" in await fails(path)


def listed(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}*"))


async def journal_states(path: Path) -> list[str]:
    journal = await Journal.attach(path)
    try:
        return [one.state for one in await journal.batches()]
    finally:
        await journal.close()


# --- whose journal it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"campaign": "Holi"}, "its campaign is 'Diwali', not 'Holi'"),
        ({"account": "other at https://example.com"}, "its account is "),
        ({"columns": ("PhoneNumber",)}, "its columns is "),
        ({"columns": None}, "its columns is "),
    ],
)
async def test_another_uploads_journal_is_refused(path: Path, change: dict[str, Any], text: str) -> None:
    journal = await Journal.open(path, HEADER)
    await journal.plan(batch(0), [])
    await journal.close()
    said = await fails(path, replace(HEADER, **change))
    assert "a.journal is of another upload: " in said
    assert text in said
    assert said.endswith("use one journal per upload")


async def test_a_journal_without_batches_binds_nobody(path: Path) -> None:
    await (await Journal.open(path, HEADER)).close()
    other = replace(HEADER, campaign="Holi", columns=None, checked_at="2026-01-01T00:00:00+05:30")
    journal = await Journal.open(path, other)
    assert await journal.header() == other
    await journal.close()


async def test_an_empty_file_is_a_new_journal(path: Path) -> None:
    write(path, b"")
    with pytest.raises(JournalError, match=r"a\.journal is empty: no upload has begun it yet"):
        await Journal.attach(path)
    journal = await Journal.open(path, HEADER)
    assert await journal.batches() == []
    await journal.close()


async def test_a_missing_file_is_not_made_by_looking(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no such file"):
        await Journal.attach(path)
    assert list(path.parent.iterdir()) == []


async def test_other_databases_and_other_formats_are_refused_by_both_doors(path: Path) -> None:
    edit(path, "CREATE TABLE theirs (value)")
    for door in (fails(path), _attach_fails(path)):
        assert "a database, but not a journal; name another one" in await door
    remove(path)
    await (await Journal.open(path, HEADER)).close()
    edit(path, f"PRAGMA user_version = {FORMAT + 1}")
    for door in (fails(path), _attach_fails(path)):
        assert f"has format {FORMAT + 1}, this release knows {FORMAT}; use the release that wrote it" in await door


async def _attach_fails(path: Path) -> str:
    with pytest.raises(JournalError) as caught:
        await Journal.attach(path)
    return caught.value.message


async def test_the_format_is_written_down(path: Path) -> None:
    await (await Journal.open(path, HEADER)).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x4F5A4A31,)
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_second_worker_is_refused_and_changes_nothing(journal: Journal, path: Path) -> None:
    await journal.plan(batch(0), [])
    await journal.mark(0, "sent")
    assert "in use by another process" in await fails(path)
    assert (await entry(journal)).state == "sent", "the second one took the first one's batch for lost"


async def test_another_name_of_the_file_is_no_other_journal(journal: Journal, path: Path) -> None:
    link = path.with_name("link.journal")
    link.symlink_to(path)
    assert await fails(link) == "journal a.journal is in use by another process; wait for it or stop it"
    beside = await Journal.attach(link)
    assert beside.path == path
    await beside.close()


async def test_the_file_alone_is_a_whole_journal(journal: Journal, path: Path) -> None:
    await journal.plan(batch(0), [])
    await journal.mark(0, "sent")
    copied = path.with_name("copied.journal")
    write(copied, read(path))
    copy = await Journal.open(copied, HEADER)
    assert (await entry(copy)).state == "unknown"
    assert await copy.callback_token(0) == await journal.callback_token(0)
    await copy.close()


async def test_after_close_the_next_one_may_work(path: Path) -> None:
    for _ in range(3):
        await (await Journal.open(path, HEADER)).close()


async def test_a_cancelled_opening_lets_go(path: Path) -> None:
    for turns in range(12):
        opening = asyncio.ensure_future(Journal.open(path, HEADER))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await (await opening).close()
        await (await Journal.open(path, HEADER)).close()


# --- damage ----------------------------------------------------------------------------------------------------------


async def filled(path: Path) -> bytes:
    """A journal with batches in every state; its bytes."""
    journal = await Journal.open(path, HEADER)
    for index in range(5):
        await journal.plan(batch(index, b'{"data":"%s"}' % (b"%d" % index * 9000)), [1, 2])
    await journal.accepted(0, "172067852912917131638630")
    await journal.mark(1, "sent")
    await journal.unknown(2, "lost")
    await journal.refused(3, "no")
    await journal.close()
    return read(path)


async def test_a_truncated_journal_is_refused(path: Path) -> None:
    whole = await filled(path)
    for size in (1, 10, 50, 100, 4095, 4096, 4097, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        write(path, whole[:size])
        assert ("not a journal" if size < 20 else "damaged") in await fails(path), size
        assert len(read(path)) == size, "nothing may be built upon what is left"


async def test_a_flipped_byte_is_refused_or_harmless(path: Path) -> None:
    """No damage of one byte makes a batch look sendable that was not, or changes what would be sent."""
    whole = await filled(path)
    journal = await Journal.open(path, HEADER)
    before = [replace(one, error=None) for one in await journal.batches()]
    bodies = [await journal.body(index) for index in range(5)]
    await journal.close()
    rng = random.Random(7)
    # All of the first page's head, and a sample of the rest.
    places = [*range(100), *rng.sample(range(100, len(whole)), 500)]
    refused = 0
    for place in places:
        write(path, whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        try:
            journal = await Journal.open(path, HEADER)
        except JournalError:
            refused += 1
            continue
        try:
            after = {one.index: one for one in await journal.batches()}
            for old in before:
                new = after.get(old.index)
                # A batch without its entry, or with an other one, will not match the input.
                if new is not None and (new.digest, new.first_row, new.rows) == (old.digest, old.first_row, old.rows):
                    assert new.state == old.state, place
                    if new.state != "accepted":
                        assert await journal.body(new.index) == bodies[new.index], place
        except JournalError:
            refused += 1
        finally:
            await journal.close()
    assert refused > len(places) // 3


async def test_a_body_that_is_not_what_was_written_is_never_handed_out(path: Path) -> None:
    whole = await filled(path)
    at = whole.index(b"4444") + 1000
    write(path, whole[:at] + b"5" + whole[at + 1 :])
    assert "is damaged (the body of batch 4 is not what was written)" in await fails(path)
    looking = await Journal.attach(path)
    with pytest.raises(JournalError, match="the body of batch 4"):
        await looking.body(4)
    await looking.close()


async def test_a_damaged_body_that_will_not_be_sent_again_does_no_harm(path: Path) -> None:
    whole = await filled(path)
    at = whole.index(b"0000") + 1000
    write(path, whole[:at] + b"5" + whole[at + 1 :])
    await (await Journal.open(path, HEADER)).close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE batches SET state = 'bccepted' WHERE id = 0",
        "UPDATE bodies SET body = 'text' WHERE id = 4",
        "UPDATE header SET value = '{\"campaign\": 5}'",
        "UPDATE header SET value = x'ff00'",
        "DELETE FROM header",
        "DELETE FROM batches WHERE id = 1",
        "DELETE FROM bodies WHERE id = 4",
        "DROP TABLE batches",
        "UPDATE batches SET settlement = '{' WHERE id = 1",
    ],
)
async def test_contents_that_nobody_wrote_are_damage(path: Path, statement: str) -> None:
    await filled(path)
    edit(path, statement, writable_schema=True)
    said = await fails(path)
    assert "damaged" in said
    assert "in the dialler what was added" in said


@pytest.mark.parametrize("column", ["first_row", "last_row", "rows", "read", "digest"])
async def test_a_text_in_the_place_of_a_number_is_damage(path: Path, column: str) -> None:
    await filled(path)
    edit(path, f"UPDATE batches SET {column} = 'text' WHERE id = 1")
    journal = await Journal.attach(path)
    with pytest.raises(JournalError, match="damaged"):
        await journal.batches()
    if column in ("last_row", "read"):
        with pytest.raises(JournalError, match="damaged"):
            await journal.sent_rows(1)
    await journal.close()


async def test_a_batch_that_vanishes_under_way_is_damage(path: Path) -> None:
    await filled(path)
    journal = await Journal.attach(path)
    edit(path, "DELETE FROM batches WHERE id = 1")
    for failing in (journal.accepted(1, "9"), journal.sent_rows(1)):
        with pytest.raises(JournalError, match="damaged"):
            await failing
    await journal.close()


# --- callbacks -------------------------------------------------------------------------------------------------------


async def test_a_callback_settles_an_accepted_batch_once(journal: Journal) -> None:
    token = await send(journal)
    await journal.accepted(0, "172")
    assert await journal.unsettled() == 1
    link = SecretUrl("https://s3.example.com/failed.csv?X-Amz-Signature=abc")
    result = verdict("172", processed=5, not_processed=4, failed_file=link, message="File Successfully uploaded.")
    assert await journal.deliver(token, result)
    assert await journal.unsettled() == 0
    assert await journal.deliver(token, result)
    assert await journal.deliver(token, verdict("172", processed=1))
    assert await journal.deliver(token, verdict("999"))
    after = (await entry(journal)).settlement
    assert after.result == result
    assert after.result.failed_file is not None
    assert after.result.failed_file.reveal() == link.reveal()
    assert (after.phase, after.repeats, after.conflicts) == ("settled", 1, 2)


async def test_early_callbacks_wait_for_the_answer(journal: Journal) -> None:
    token = await send(journal)
    assert await journal.deliver(token, verdict("a stranger's"))
    assert await journal.deliver(token, verdict("172"))
    assert (await entry(journal)).settlement.result is None
    assert await journal.unsettled() == 1
    await journal.accepted(0, "172")
    after = await entry(journal)
    assert (after.state, after.transaction_id) == ("accepted", "172")
    assert after.settlement.result == verdict("172")
    assert after.settlement.conflicts == 1
    assert await journal.unsettled() == 0


async def test_a_callback_proves_a_batch_of_unknown_fate_accepted(journal: Journal) -> None:
    token = await send(journal)
    await journal.unknown(0, "TimeoutError")
    assert await journal.unsettled() == 1
    assert await journal.deliver(token, verdict("172"))
    after = await entry(journal)
    assert (after.state, after.transaction_id, after.error) == ("accepted", "172", None)


EVENTS: dict[str, Callable[[Journal, str], Any]] = {
    "answer": lambda journal, _: journal.accepted(0, "172"),
    "callback": lambda journal, token: journal.deliver(token, verdict("172")),
    "again": lambda journal, token: journal.deliver(token, verdict("172", message="again")),
    "timeout": lambda journal, _: journal.give_up_waiting(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(EVENTS)), ids="-".join)
@pytest.mark.parametrize("answer", ["comes", "is lost"])
async def test_in_every_order_a_batch_settles_once_on_the_first_callback(
    journal: Journal, order: tuple[str, ...], answer: str
) -> None:
    token = await send(journal)
    for name in order:
        if name == "answer" and answer == "is lost":
            await journal.unknown(0, "lost")
        else:
            await EVENTS[name](journal, token)
    after = await entry(journal)
    assert (after.state, after.transaction_id) == ("accepted", "172")
    first = next(name for name in order if name in ("callback", "again"))
    assert after.settlement.result == verdict("172", message="again" if first == "again" else "")
    assert after.settlement.repeats == 1
    assert await journal.unsettled() == 0


async def test_giving_up_is_noted_and_a_late_callback_still_counts(journal: Journal) -> None:
    token = await send(journal)
    await send(journal, 1)
    await journal.plan(batch(2), [])
    await journal.accepted(0, "172")
    await journal.give_up_waiting()
    entries = await journal.batches()
    assert [one.settlement.overdue for one in entries] == [True, True, False], "a batch not sent waits for nothing"
    assert entries[0].settlement.lost
    assert await journal.deliver(token, verdict("172"))
    late = (await entry(journal)).settlement
    assert (late.result, late.overdue, late.lost) == (verdict("172"), True, False)


async def test_batches_that_asked_for_no_callback_are_not_waited_for(journal: Journal) -> None:
    await journal.plan(batch(0), [])
    await journal.mark(0, "sent")
    await journal.accepted(0, "172")
    assert await journal.unsettled() == 0


@pytest.mark.parametrize("called_first", [False, True])
@pytest.mark.parametrize(("succeeded", "state"), [(True, "accepted"), (False, "refused")])
async def test_a_callback_for_a_refused_batch_is_believed_when_the_job_ran(
    journal: Journal, called_first: bool, succeeded: bool, state: str
) -> None:
    token = await send(journal)
    steps = [
        lambda: journal.refused(0, "RequestRejectedError: no"),
        lambda: journal.deliver(token, JobResult("172", succeeded)),
    ]
    for step in reversed(steps) if called_first else steps:
        await step()
    assert (await entry(journal)).state == state
    assert ((await entry(journal)).settlement.result is None) is (state == "refused")
    await journal.accepted(0, "173" if state == "refused" else "172")
    await journal.deliver(token, verdict("173" if state == "refused" else "172"))
    result = (await entry(journal)).settlement.result
    assert result is not None
    assert (result.succeeded, result.transaction_id) == (True, "173" if state == "refused" else "172")


async def test_a_batch_that_is_sent_again_with_a_callback_url_is_waited_for(journal: Journal) -> None:
    await journal.plan(batch(0), [])
    for callback in (False, True, False):
        await journal.mark(0, "sent", callback=callback)
        await journal.refused(0, "no")
    await journal.mark(0, "sent")
    assert await journal.unsettled() == 1
    assert await journal.deliver(await journal.callback_token(0), verdict("172"))


async def test_tokens_are_told_apart_and_stay_the_same(path: Path) -> None:
    seen = set()
    for _ in range(2):
        journal = await Journal.open(path, HEADER)
        seen.update([await journal.callback_token(index) for index in range(5)])
        await journal.close()
    assert len(seen) == 5
    other = await Journal.open(path.with_name("other.journal"), HEADER)
    assert await other.callback_token(0) not in seen
    await other.close()


async def test_strangers_tokens_and_exports_change_nothing(journal: Journal, path: Path) -> None:
    token = await send(journal)
    await journal.plan(batch(1), [])
    await journal.accepted(0, "172")
    before = await journal.batches()
    other = await Journal.open(path.with_name("other.journal"), HEADER)
    strangers = await send(other)
    await other.close()
    not_sent_yet = await journal.callback_token(7)
    for stranger in (new_token(), "", "ozcb_", token.lower(), token + "x", "\udcff", "None", strangers, not_sent_yet):
        assert not await journal.deliver(stranger, verdict("172")), stranger
    assert not await journal.deliver(token, ExportResult("172", True, "", None, {}))
    assert await journal.batches() == before


WEB = """
import asyncio, json, sys
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.journal.journal import Journal
async def main():
    tokens = json.loads(sys.argv[2])
    journal = await Journal.attach(sys.argv[1])
    print("ready", flush=True)
    for index, token in enumerate(tokens):
        assert await journal.deliver(token, JobResult(f"id-{index}", True, 9, 9, 0))
    await journal.close()
asyncio.run(main())
"""


async def test_another_process_may_write_callbacks_while_the_worker_writes(journal: Journal, path: Path) -> None:
    tokens = [await send(journal, index) for index in range(60)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WEB, str(path), json.dumps(tokens), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    for index in range(60):
        await (journal.unknown(index, "lost") if index % 3 else journal.accepted(index, f"id-{index}"))
    assert await process.wait() == 0
    entries = await journal.batches()
    assert [(one.state, one.transaction_id) for one in entries] == [("accepted", f"id-{n}") for n in range(60)]
    assert all(one.settlement.result is not None for one in entries)
    assert await journal.unsettled() == 0


async def test_changes_bear_the_time(journal: Journal) -> None:
    assert await journal.changed() is None
    before = time.time()
    await journal.plan(batch(0), [])
    await journal.accepted(0, "172")
    changed = await journal.changed()
    assert changed is not None
    assert before <= changed <= time.time()
