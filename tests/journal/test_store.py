"""The SQLite thread: order, shared flushes, failures that stay with their cause, and files that are not journals."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ozonetel_async import JournalError
from ozonetel_async.journal import store as store_module
from ozonetel_async.journal import wal
from ozonetel_async.journal.store import Lock, Store, connect, explain

from ..conftest import eventually

Work = Callable[[sqlite3.Connection], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    made = Store(path, exclusive=True)
    await made.run(lambda db: db.execute("CREATE TABLE t (value)"))
    yield made
    await made.close()


def insert(value: object) -> Work:
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


async def values(store: Store) -> list[Any]:
    return [row[0] for row in await store.run(lambda db: db.execute("SELECT value FROM t ORDER BY rowid").fetchall())]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another connection in the middle of a transaction: nobody else can write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def count_transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each transaction had."""
    sizes: list[int] = []
    transact = store_module._transact

    def counting(connection: sqlite3.Connection, jobs: list[Any]) -> None:
        sizes.append(len(jobs))
        transact(connection, jobs)

    monkeypatch.setattr(store_module, "_transact", counting)
    return sizes


# --- order and flushes -----------------------------------------------------------------------------------------------


async def test_work_runs_in_the_order_it_was_asked_for_and_returns_its_result(store: Store) -> None:
    assert await asyncio.gather(*(store.run(insert(n)) for n in range(50))) == [1] * 50
    assert await values(store) == list(range(50))


async def test_what_queues_up_during_a_flush_shares_the_next(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_transactions(monkeypatch)
    with writing(path):
        first = asyncio.ensure_future(store.run(insert("first")))
        await eventually(lambda: sizes)
        rest = [asyncio.ensure_future(store.run(insert(n))) for n in range(200)]
        await asyncio.sleep(0)
    await asyncio.gather(first, *rest)
    assert sizes == [1, 200]


async def test_the_loop_runs_on_while_the_thread_waits_for_a_lock(store: Store, path: Path) -> None:
    turns = 0
    with writing(path):
        blocked = asyncio.ensure_future(store.run(insert(1)))
        for _ in range(1000):
            await asyncio.sleep(0)
            turns += 1
        assert not blocked.done()
    assert await blocked == 1
    assert turns == 1000


async def test_the_work_runs_in_one_thread_that_is_not_the_loops(store: Store) -> None:
    names = {await store.run(lambda _: threading.current_thread().name) for _ in range(3)}
    assert names == {"journal a.journal"}


async def test_what_was_reported_is_in_the_file(store: Store, path: Path) -> None:
    await store.run(insert("kept"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT value FROM t").fetchall() == [("kept",)]


async def test_commits_are_flushed_to_the_disk(store: Store) -> None:
    settings = await store.run(
        lambda db: [db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    )
    assert settings == ["wal", 2]


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_failing_job_does_not_hurt_those_it_shared_a_transaction_with(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_transactions(monkeypatch)

    def fail_late(db: sqlite3.Connection) -> None:
        insert("from the failed one")(db)
        raise LookupError("mine alone")

    with writing(path):
        first = asyncio.ensure_future(store.run(insert("first")))
        await eventually(lambda: sizes)
        jobs = [store.run(work) for work in (insert("a"), fail_late, insert("b"))]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0)
    await first
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sizes[1] == 3, "they did not share a transaction"
    assert [type(one) for one in done] == [int, LookupError, int]
    assert await values(store) == ["first", "a", "b"]


async def test_a_job_that_fails_by_itself_runs_once(store: Store) -> None:
    runs: list[int] = []

    def fail(_: sqlite3.Connection) -> None:
        runs.append(1)
        raise LookupError

    with pytest.raises(LookupError):
        await store.run(fail)
    assert runs == [1]


async def test_sqlite_errors_come_as_journal_errors_without_sqlite_in_them(store: Store) -> None:
    with pytest.raises(JournalError, match=r"a\.journal: the file is damaged") as caught:
        await store.run(lambda db: db.execute("SELECT * FROM nowhere"))
    assert caught.value.__cause__ is None
    assert caught.value.outcome == "not_sent"
    assert await store.run(insert(1)) == 1, "the thread must go on"


async def test_a_file_locked_for_too_long_fails_all_who_wait_at_once(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_transactions(monkeypatch)
    await store.run(lambda db: db.execute("PRAGMA busy_timeout = 1"))
    sizes.clear()
    with writing(path):
        tasks = [asyncio.ensure_future(store.run(insert(n))) for n in range(20)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert {str(one) for one in done} == {"journal a.journal: another process has held the file for too long"}
    assert sum(sizes) == 20, "each must wait once"
    assert await values(store) == []


async def test_a_full_disk_is_named_and_leaves_what_was_there(store: Store) -> None:
    await store.run(insert("before"))
    await store.run(lambda db: db.execute("PRAGMA max_page_count = 4").fetchone())
    with pytest.raises(JournalError, match="the disk is full; make room and run the same again"):
        await store.run(insert(b"x" * 100_000))
    assert await values(store) == ["before"]
    await store.run(lambda db: db.execute("PRAGMA max_page_count = 4000").fetchone())
    await store.run(insert("after"))
    assert await values(store) == ["before", "after"]


async def test_a_write_beyond_the_limit_of_the_file_system_is_an_error_of_ours(tmp_path: Path) -> None:
    script = f"""
import asyncio, resource
from pathlib import Path
from ozonetel_async import JournalError
from ozonetel_async.journal.store import Store
async def main():
    store = Store(Path({str(tmp_path / "a.journal")!r}), exclusive=True)
    await store.run(lambda db: db.execute("CREATE TABLE t (value)"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        await store.run(lambda db: db.execute("INSERT INTO t VALUES (zeroblob(200000))") and None)
    except JournalError as error:
        print(error)
    await store.close()
asyncio.run(main())
"""
    output, errors = await run_python(script)
    assert errors == ""
    assert output.startswith("journal a.journal: the disk ")


async def run_python(script: str, **options: Any) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options
    )
    output, errors = await process.communicate()
    return output.decode(), errors.decode()


# --- cancellation and the end ----------------------------------------------------------------------------------------


async def test_cancelling_a_waiter_does_not_undo_its_work(store: Store, path: Path) -> None:
    with writing(path):
        waiter = asyncio.ensure_future(store.run(insert("asked for")))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with asyncio.timeout(5):
        assert await store.run(insert("next")) == 1
    assert await values(store) == ["asked for", "next"]


async def test_close_waits_for_what_was_asked_for(path: Path) -> None:
    store = Store(path, exclusive=True)
    await store.run(lambda db: db.execute("CREATE TABLE t (value)"))
    tasks = [asyncio.ensure_future(store.run(insert(n))) for n in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert all(task.done() for task in tasks)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (100,)


async def test_close_is_idempotent_and_ends_the_thread_and_the_lock(path: Path) -> None:
    store = Store(path, exclusive=True)
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert not store._thread.is_alive()
    Lock(path).close()


async def test_a_cancelled_close_lets_go_of_the_file_all_the_same(path: Path) -> None:
    store = Store(path, exclusive=True)
    await store.run(lambda db: db.execute("CREATE TABLE t (value)"))
    with writing(path):
        work = asyncio.ensure_future(store.run(insert(1)))
        await asyncio.sleep(0)
        closings = [asyncio.ensure_future(store.close()) for _ in range(2)]
        await asyncio.sleep(0)
        for one in closings:
            one.cancel()
        await asyncio.sleep(0)
        closings[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await closings[1]  # cancelled twice, it does not wait
        assert not closings[0].done()
    with pytest.raises(asyncio.CancelledError):
        await closings[0]
    assert await work == 1
    Lock(path).close()
    await eventually(lambda: not store._thread.is_alive())


async def test_after_close_there_is_an_error_and_no_wait(store: Store) -> None:
    await store.close()
    async with asyncio.timeout(5):
        with pytest.raises(JournalError, match=r"a\.journal is closed"):
            await store.run(insert(1))


async def test_another_loop_is_refused(store: Store) -> None:
    def elsewhere() -> list[str]:
        said = []
        for use in (lambda: store.run(insert(1)), store.close):
            try:
                asyncio.run(use())
            except JournalError as error:
                said.append(error.message)
        return said

    said = await asyncio.to_thread(elsewhere)
    assert said == ["journal a.journal belongs to another event loop; open it in this one"] * 2
    assert await values(store) == []


def test_a_loop_that_ends_first_takes_no_work_with_it(path: Path) -> None:
    made: list[Store] = []

    async def leave() -> None:
        store = Store(path, exclusive=True)
        await store.run(lambda db: db.execute("CREATE TABLE t (value)"))
        made.append(store)
        waiter = asyncio.ensure_future(store.run(insert(1)))
        await asyncio.sleep(0)
        waiter.cancel()

    asyncio.run(leave())
    (store,) = made
    store._jobs.put(None)
    store._thread.join()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)


# --- what the file is ------------------------------------------------------------------------------------------------


async def test_the_file_and_all_beside_it_are_the_owners_alone(store: Store, path: Path) -> None:
    await store.run(insert("a phone number"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("a.journal", "a.journal-wal", "a.journal-shm", "a.journal-lock"), 0o600)


async def refused(path: Path) -> str:
    """What is said when ``path`` is opened to be worked on."""
    store = Store(path, exclusive=True)
    try:
        with pytest.raises(JournalError) as caught:
            await store.run(lambda db: db.execute("SELECT 1"))
        with pytest.raises(JournalError):
            await store.run(lambda db: db.execute("SELECT 1"))
        return str(caught.value)
    finally:
        await store.close()


async def test_a_path_that_cannot_be_a_journal_is_named(tmp_path: Path) -> None:
    assert "this is a folder; name a file in it" in await refused(tmp_path)
    assert list(tmp_path.parent.glob(f"{tmp_path.name}-*")) == []
    assert "No such file or directory" in await refused(tmp_path / "nowhere" / "a.journal")
    assert await refused(Path()) == "journal : this is a folder; name a file in it"
    assert "the path cannot be used" in await refused(Path("a\0b"))
    assert "the file is not a journal" in await refused(written(tmp_path / "text", b"PhoneNumber,Name\n" * 100))
    assert [name for name in os.listdir() if "lock" in name] == []


def read(path: Path) -> bytes:
    return path.read_bytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_a_file_that_is_not_a_database_stays_as_it_is(path: Path) -> None:
    content = b"PhoneNumber,Name\n" * 1000
    await refused(written(path, content))
    assert read(path) == content


async def test_another_programs_database_is_not_turned_into_wal_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (value)")
    before = read(path)
    store = Store(path, exclusive=True)
    assert await store.run(lambda db: db.execute("PRAGMA journal_mode").fetchone()[0]) == "delete"
    await store.close()
    assert read(path) == before


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX permissions")
async def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o555)
    script = f"""
import asyncio
from pathlib import Path
from ozonetel_async import JournalError
from ozonetel_async.journal.store import Store
import os
async def main():
    if os.geteuid() == 0:
        os.chdir({str(folder)!r})
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        store = Store(Path("a.journal"), exclusive=True)
    else:
        store = Store(Path({str(folder / "a.journal")!r}), exclusive=True)
    try:
        await store.run(lambda db: 1)
    except JournalError as error:
        print(error)
    await store.close()
asyncio.run(main())
"""
    output, errors = await run_python(script)
    assert "Permission denied" in output, errors
    assert "its folder must exist and be writable" in output
    assert not list(folder.iterdir())


async def test_a_connection_that_cannot_be_set_up_is_closed(path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(sqlite3.DatabaseError):
        connect(written(path, b"no database at all, but long enough to hold a header" * 10))
    import gc

    gc.collect()  # 3.13 warns of connections that nobody closed
    assert not recwarn.list


# --- the log ---------------------------------------------------------------------------------------------------------

FILL = """
import asyncio, os, signal, sys
from pathlib import Path
from ozonetel_async.journal.store import Store
async def main():
    store = Store(Path(sys.argv[1]), exclusive=True)
    await store.run(lambda db: db.execute("CREATE TABLE t (value)") and None)
    for n in range(5):
        await store.run(lambda db: db.execute("INSERT INTO t VALUES (?)", (str(n) * 5000,)) and None)
    if len(sys.argv) > 2:
        def spill(db):
            db.execute("PRAGMA cache_size = 1")
            for n in range(20):
                db.execute("INSERT INTO t VALUES (?)", ("never committed" * 1000,))
            os.kill(os.getpid(), signal.SIGKILL)
        await store.run(spill)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def killed(path: Path, *how: str) -> Path:
    """The log of a store whose process was killed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FILL, str(path), *how)
    assert await process.wait() == -9
    log = path.with_name(f"{path.name}-wal")
    assert log.stat().st_size > 20_000
    return log


async def count(path: Path) -> int:
    store = Store(path, exclusive=True)
    try:
        return int(await store.run(lambda db: db.execute("SELECT count(*) FROM t").fetchone()[0]))
    finally:
        await store.close()


async def test_a_killed_process_leaves_what_it_reported_and_no_lock(path: Path) -> None:
    await killed(path)
    assert await count(path) == 5


async def test_a_transaction_cut_off_by_a_kill_is_no_damage(path: Path) -> None:
    log = await killed(path, "spill")
    assert log.stat().st_size > 200_000, "nothing was spilled into the log"
    assert await count(path) == 5


async def test_a_flipped_byte_before_the_last_transaction_is_noticed_and_the_log_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "_BETWEEN_LOOKS", 0.0)
    log = await killed(path)
    main, whole = read(path), read(log)
    frame = 24 + 4096
    # The header, each field of each frame's header, and a place in each page.
    places = [*range(0, 32, 3)]
    for at in range(32, len(whole), frame):
        places += [*range(at, at + 24, 5), at + 24, at + 2000, at + frame - 1]
    commits = [at for at in range(32, len(whole), frame) if whole[at + 4 : at + 8] != bytes(4)]
    last = commits[-2] + frame  # where the last transaction begins
    said, cut_off = set(), set()
    for place in places:
        damaged = whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]
        written(path, main)
        written(log, damaged)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        if place < last:
            said.add((await refused(path))[:60])
            assert read(log) == damaged
        elif (place - 32) % frame // 4 != 1:  # a commit mark out of nothing would count as one more transaction
            cut_off.add(await count(path))
    assert said == {"journal a.journal: the file or its log a.journal-wal is dama"}
    # Damage to the last transaction looks like a kill in the midst of it.
    assert cut_off == {4}
    written(path, main)
    written(log, whole)
    assert await count(path) == 5


async def test_a_database_cut_to_nothing_beside_its_log_is_not_a_new_one(path: Path) -> None:
    log = await killed(path)
    written(path, b"")
    assert "damaged" in await refused(path)
    assert log.stat().st_size > 20_000


async def test_a_log_that_grows_while_it_is_opened_by_another_is_no_damage(store: Store, path: Path) -> None:
    writer = asyncio.create_task(_write_on(store))
    for _ in range(20):
        other = Store(path)
        assert await other.run(lambda db: db.execute("SELECT 1").fetchone()[0]) == 1
        await other.close()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer


async def _write_on(store: Store) -> None:
    n = 0
    while True:
        await store.run(insert("x" * (n % 7) * 3000))
        n += 1


CUT_OFF = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


async def test_opening_the_file_once_more_leaves_the_locks_of_an_open_transaction(store: Store, path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def write(db: sqlite3.Connection) -> None:
        insert(1)(db)
        inside.set()
        leave.wait()

    writer = asyncio.create_task(store.run(write))
    await asyncio.to_thread(inside.wait)
    other = Store(path)
    await other.close()  # ends when the file has been opened
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CUT_OFF, str(path), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    leave.set()
    await writer
    assert said == b"database is locked\n"


async def test_frames_that_were_written_but_not_yet_counted_are_no_damage(store: Store, path: Path) -> None:
    # As in another process that flushes its commit to a slow disk, or was killed there while a third had the file open.
    await store.run(insert("x" * 10_000))
    index = path.with_name(f"{path.name}-shm")
    counted = read(index)[:96]
    await store.run(insert("y" * 10_000))
    with index.open("r+b") as file:
        file.write(counted)
    other = Store(path)
    assert await values(other) == ["x" * 10_000]
    await other.close()


async def test_a_log_written_anew_after_a_checkpoint_is_whole(path: Path) -> None:
    # The remains of the earlier, longer log behind the new frames have other salts.
    store = Store(path, exclusive=True)
    await store.run(lambda db: db.execute("CREATE TABLE t (value)"))
    for _ in range(10):
        await store.run(insert("x" * 10_000))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    await store.run(insert("short"))
    second = Store(path)
    assert await values(second) == ["x" * 10_000] * 10 + ["short"]
    await second.close()
    await store.close()


# --- the lock --------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from ozonetel_async.journal.store import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_process_is_kept_out_until_it_is_killed(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    assert await refused(path) == "journal a.journal is in use by another process; wait for it or stop it"
    assert os.listdir(path.parent) == ["a.journal-lock"]
    process.kill()
    await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    store = Store(path, exclusive=True)
    assert await store.run(lambda db: db.execute("SELECT 1").fetchone()[0]) == 1
    await store.close()


async def test_the_same_process_is_kept_out_as_well(store: Store, path: Path) -> None:
    assert "in use by another process" in await refused(path)
    assert await store.run(insert(1)) == 1, "and the refusal must not have let go of the first one's lock"
    assert "in use by another process" in await refused(path)


async def test_who_only_attaches_is_not_kept_out(store: Store, path: Path) -> None:
    other = Store(path)
    assert await other.run(insert("theirs")) == 1
    await other.close()
    assert await values(store) == ["theirs"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (sqlite3.OperationalError("no code at all: 9812345678"), "journal a.journal: the file is damaged"),
        (
            OSError(28, "No space left on device"),
            "journal a.journal: the file cannot be opened (No space left on device)",
        ),
        (ValueError("9812345678"), "journal a.journal: the path cannot be used"),
    ],
)
def test_errors_are_explained_without_their_own_texts(path: Path, error: Exception, text: str) -> None:
    said = explain(path, error)
    assert str(said).startswith(text)
    assert "9812345678" not in str(said)


def test_our_own_errors_pass(path: Path) -> None:
    error = JournalError("as it is")
    assert explain(path, error) is error
