"""The SQLite thread: order, failures that stay with their cause, other kinds of files, and what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import signal
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
from ozonetel_async.journal.store import Lock, Store, connect, explain

from ..conftest import eventually

Work = Callable[[sqlite3.Connection], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    made = Store(path, exclusive=True)
    await made.write(lambda db: db.execute("CREATE TABLE t (value)"))
    yield made
    await made.close()


def journal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("journal a.journal")]


def insert(value: object) -> Work:
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


async def values(store: Store) -> list[Any]:
    return [row[0] for row in await store.read(lambda db: db.execute("SELECT value FROM t ORDER BY rowid").fetchall())]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another connection in the middle of a transaction: nobody else can write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# --- order and flushes -----------------------------------------------------------------------------------------------


async def test_work_runs_in_the_order_it_was_asked_for_and_returns_its_result(store: Store) -> None:
    assert await asyncio.gather(*(store.write(insert(n)) for n in range(50))) == [1] * 50
    assert await values(store) == list(range(50))


async def test_the_loop_runs_on_while_the_thread_waits_for_a_lock(store: Store, path: Path) -> None:
    turns = 0
    with writing(path):
        blocked = asyncio.ensure_future(store.write(insert(1)))
        for _ in range(1000):
            await asyncio.sleep(0)
            turns += 1
        assert not blocked.done()
    assert await blocked == 1
    assert turns == 1000


async def test_the_work_runs_in_one_thread_that_is_not_the_loops(store: Store) -> None:
    threads = {await run(lambda _: threading.current_thread()) for run in (store.write, store.read, store.write)}
    assert len(threads) == 1
    assert threads != {threading.current_thread()}


async def test_what_was_reported_is_in_the_file(store: Store, path: Path) -> None:
    await store.write(insert("kept"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT value FROM t").fetchall() == [("kept",)]


async def test_commits_are_flushed_to_the_disk(store: Store) -> None:
    settings = await store.write(
        lambda db: [db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    )
    # A commit cuts the rollback journal to nothing, and FULL flushes that cut: it needs no flush of the folder.
    assert settings == ["truncate", 2]


async def test_nothing_of_a_transaction_is_in_the_file_before_its_commit(store: Store, path: Path) -> None:
    """However large: pages that are written early could be there without page 1, which tells how many there are."""
    before = read(path)

    def write(db: sqlite3.Connection) -> bool:
        for _ in range(40):
            db.execute("INSERT INTO t VALUES (zeroblob(200000))")
        return read(path) == before

    assert await store.write(write)
    assert len(read(path)) > 8_000_000


# --- failures --------------------------------------------------------------------------------------------------------


async def test_work_that_fails_is_undone_and_the_next_goes_on(store: Store) -> None:
    def fail(db: sqlite3.Connection) -> None:
        insert("from the failed one")(db)
        raise LookupError("mine alone")

    tasks = [asyncio.ensure_future(store.write(work)) for work in (insert("a"), fail, insert("b"))]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in done] == [int, LookupError, int]
    assert await values(store) == ["a", "b"]


async def test_sqlite_errors_come_as_journal_errors_without_sqlite_in_them(store: Store) -> None:
    with pytest.raises(JournalError, match=r"a\.journal: the file is damaged") as caught:
        await store.write(lambda db: db.execute("SELECT * FROM nowhere"))
    assert caught.value.__cause__ is None
    assert caught.value.outcome == "not_sent"
    assert await store.write(insert(1)) == 1, "the thread must go on"


async def test_a_file_locked_for_too_long_is_named(store: Store, path: Path) -> None:
    await store.write(lambda db: db.execute("PRAGMA busy_timeout = 1"))
    with writing(path), pytest.raises(JournalError) as caught:
        await store.write(insert(1))
    assert caught.value.message == "journal a.journal: another process has held the file for too long"
    assert await values(store) == []


async def test_a_reader_waits_for_no_transaction_that_is_not_being_written_to_the_file(
    store: Store, path: Path
) -> None:
    await store.write(insert("before"))
    with writing(path):
        async with asyncio.timeout(5):
            assert await values(store) == ["before"]


async def test_a_full_disk_is_named_and_leaves_what_was_there(store: Store) -> None:
    await store.write(insert("before"))
    await store.write(lambda db: db.execute("PRAGMA max_page_count = 4").fetchone())
    with pytest.raises(JournalError, match="the disk is full; make room and run the same again"):
        await store.write(insert(b"x" * 100_000))
    assert await values(store) == ["before"]
    await store.write(lambda db: db.execute("PRAGMA max_page_count = 4000").fetchone())
    await store.write(insert("after"))
    assert await values(store) == ["before", "after"]


async def test_a_write_beyond_the_limit_of_the_file_system_is_an_error_of_ours(tmp_path: Path) -> None:
    script = f"""
import asyncio, resource
from pathlib import Path
from ozonetel_async import JournalError
from ozonetel_async.journal.store import Store
async def main():
    store = Store(Path({str(tmp_path / "a.journal")!r}), exclusive=True)
    await store.write(lambda db: db.execute("CREATE TABLE t (value)"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        await store.write(lambda db: db.execute("INSERT INTO t VALUES (zeroblob(200000))") and None)
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
        waiter = asyncio.ensure_future(store.write(insert("asked for")))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with asyncio.timeout(5):
        assert await store.write(insert("next")) == 1
    assert await values(store) == ["asked for", "next"]


async def test_close_waits_for_what_was_asked_for(path: Path) -> None:
    store = Store(path, exclusive=True)
    await store.write(lambda db: db.execute("CREATE TABLE t (value)"))
    tasks = [asyncio.ensure_future(store.write(insert(n))) for n in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert all(task.done() for task in tasks)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (100,)


async def test_close_is_idempotent_and_ends_the_thread_and_the_lock(path: Path) -> None:
    store = Store(path, exclusive=True)
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert not journal_threads()
    Lock(path).close()


async def test_a_cancelled_close_lets_go_of_the_file_all_the_same(path: Path) -> None:
    store = Store(path, exclusive=True)
    await store.write(lambda db: db.execute("CREATE TABLE t (value)"))
    with writing(path):
        work = asyncio.ensure_future(store.write(insert(1)))
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
    await eventually(lambda: not journal_threads())


async def test_after_close_there_is_an_error_and_no_wait(store: Store) -> None:
    await store.close()
    async with asyncio.timeout(5):
        with pytest.raises(JournalError, match=r"a\.journal is closed"):
            await store.write(insert(1))


def test_a_loop_that_ends_first_takes_no_work_with_it(path: Path) -> None:
    async def leave() -> Store:
        store = Store(path, exclusive=True)
        await store.write(lambda db: db.execute("CREATE TABLE t (value)"))
        waiter = asyncio.ensure_future(store.write(insert(1)))
        await asyncio.sleep(0)
        waiter.cancel()
        return store

    store = asyncio.run(leave())
    asyncio.run(store.close())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)


# --- what the file is ------------------------------------------------------------------------------------------------


async def test_the_file_and_all_beside_it_are_the_owners_alone(store: Store, path: Path) -> None:
    await store.write(insert("a phone number"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("a.journal", "a.journal-journal", "a.journal-lock"), 0o600)


async def refused(path: Path) -> str:
    """What is said when ``path`` is opened to be worked on."""
    store = Store(path, exclusive=True)
    try:
        with pytest.raises(JournalError) as caught:
            await store.write(lambda db: db.execute("SELECT 1"))
        with pytest.raises(JournalError):
            await store.write(lambda db: db.execute("SELECT 1"))
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


@pytest.mark.parametrize("log", ["there", "missing"])
async def test_a_database_with_a_write_ahead_log_is_refused_and_left_alone(
    path: Path, tmp_path: Path, log: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE theirs (value)")
        written(path, read(tmp_path / "theirs"))
        if log == "there":
            written(path.with_name("a.journal-wal"), read(tmp_path / "theirs-wal"))
    before = read(path)
    assert "expected a database with a rollback journal, got one with a write-ahead log" in await refused(path)
    if log == "missing":
        assert read(path) == before


async def test_a_database_without_a_log_stays_in_its_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (value)")
    before = read(path)
    store = Store(path, exclusive=True)
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM theirs").fetchone()[0]) == 0
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
        await store.write(lambda db: 1)
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


# --- what a kill leaves ----------------------------------------------------------------------------------------------

FILL = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from ozonetel_async.journal.store import Store
# Writing beyond this size kills, as a kill in the midst of a write would.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
async def main():
    store = Store(Path(sys.argv[1]), exclusive=True)
    await store.write(lambda db: db.execute("CREATE TABLE t (value)") and None)
    for n in range(5):
        await store.write(lambda db: db.execute("INSERT INTO t VALUES (?)", (str(n) * 5000,)) and None)
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        def grow(db):
            db.execute("UPDATE t SET value = value || 'changed'")
            for n in range(9):
                db.execute("INSERT INTO t VALUES (?)", (str(n) * 9000,))
        await store.write(grow)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def killed(path: Path, *limit: str) -> int:
    """A store whose process was killed; the size of its rollback journal."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FILL, str(path), *limit)
    assert await process.wait() == (-signal.SIGXFSZ if limit else -signal.SIGKILL)
    return rollback(path).stat().st_size


def rollback(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


async def kept(path: Path) -> list[str]:
    """What the rows in the store are, by their beginnings and ends."""
    store = Store(path)
    try:
        return [value[0] + value[-1] for value in await values(store)]
    finally:
        await store.close()


async def test_a_killed_process_leaves_what_it_reported_and_no_lock(path: Path) -> None:
    assert await killed(path) == 0
    assert await kept(path) == ["00", "11", "22", "33", "44"]
    Lock(path).close()


@pytest.mark.parametrize("limit", [16_000, 50_000, 100_000])
async def test_a_transaction_cut_off_by_a_kill_is_undone_by_whoever_comes_next(path: Path, limit: int) -> None:
    held = await killed(path, str(limit))
    assert held > 4096, "nothing was to be undone"
    assert await kept(path) == ["00", "11", "22", "33", "44"]


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

    writer = asyncio.create_task(store.write(write))
    await asyncio.to_thread(inside.wait)
    assert await kept(path) == []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CUT_OFF, str(path), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    leave.set()
    await writer
    assert said == b"database is locked\n"


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
    assert await store.write(lambda db: db.execute("SELECT 1").fetchone()[0]) == 1
    await store.close()


async def test_the_same_process_is_kept_out_as_well(store: Store, path: Path) -> None:
    assert "in use by another process" in await refused(path)
    assert await store.write(insert(1)) == 1, "and the refusal must not have let go of the first one's lock"
    assert "in use by another process" in await refused(path)


async def test_who_only_attaches_is_not_kept_out(store: Store, path: Path) -> None:
    other = Store(path)
    assert await other.write(insert("theirs")) == 1
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
