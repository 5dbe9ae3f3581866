"""Servers that are killed, frozen, emptied, replaced and tampered with; none of it may hand out a token too many."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from redis import Redis

from ozonetel_async import ConfigurationError, PostgresShared, RedisShared, SharedLimitUnavailableError
from ozonetel_async.sending.shared.store import BearerAsk, SharedStore

from ..conftest import eventually
from .conftest import PostgresServer, Process, RedisServer, Server


@asynccontextmanager
async def process(store: SharedStore, key: str, name: str = "one", **settings: Any) -> AsyncIterator[Process]:
    connection = store.connect()
    yield Process(connection, key, name, **settings)
    await connection.close()


# -- both -------------------------------------------------------------------------------------------------------------


async def test_a_server_that_was_killed_is_away_and_then_back(server: Server, key: str) -> None:
    async with process(server.store(), key, hold=10_000_000, go=True) as one:
        await one.turn(2)
        server.kill()
        with pytest.raises(SharedLimitUnavailableError) as caught:
            await one.turn(2)
        assert caught.value.outcome == "not_sent"
        server.start()
        turn = await one.turn(2, first=2, go=False)
    if isinstance(server, RedisServer):
        assert (turn.granted, turn.free) == ((), 5)
        assert turn.hold == 10_000_000
    else:
        # What was committed is on the disk: nothing is lost, so nobody waits.
        assert (turn.granted, turn.free, turn.hold) == ((2, 3), 1, 0)


async def test_a_server_that_lost_its_data_holds(server: Server, key: str) -> None:
    async with process(server.store(), key, hold=10_000_000, go=True) as one:
        before = await one.turn(2)
        server.empty()
        turn = await one.turn(2, first=2, go=False, serial=before.serial)
    assert (turn.granted, turn.hold) == ((), 10_000_000)
    assert turn.epoch != before.epoch
    assert turn.serial > before.serial


async def test_a_restart_between_two_turns_is_not_noticed(server: Server, key: str) -> None:
    async with process(server.store(), key, go=True) as one:
        await one.turn(1)
        server.kill()
        server.start()
        assert (await one.turn()).serial > 0


async def test_a_frozen_server_costs_no_more_than_the_timeout(server: Server, key: str) -> None:
    async with process(server.store(timeout=0.3), key, go=True) as one:
        await one.turn(1)
        server.freeze()
        async with asyncio.timeout(5):
            for _ in range(2):
                with pytest.raises(SharedLimitUnavailableError):
                    await one.turn(1, first=1)
        server.thaw()
    async with process(server.store(), key) as one:
        turn = await one.turn(2, first=1)
    # The asks that it found when it woke up were repeats of this one.
    assert (turn.granted, turn.free) == ((1, 2), 2)


async def test_a_cancelled_turn_leaves_no_wrong_answer_behind(server: Server, key: str) -> None:
    async with process(server.store(), key, go=True) as one:
        await one.turn(1)
        server.freeze()
        for _ in range(3):
            task = asyncio.ensure_future(one.turn(1))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        server.thaw()
        assert (await one.turn(1, first=50)).granted == (50,)


async def test_the_clock_of_the_server_went_back(server: Server, key: str) -> None:
    async with process(server.store(), key, go=True, lease=500_000) as one:
        await one.turn(5)
        await one.turn(concluded=((0, 100_000),), pause=100_000)
        an_hour_ahead(server, key)
        turn = await one.turn(1)
        assert turn.granted == ()
        # Not a moment less, and no hour more, is left than there was at the last turn.
        assert turn.again == turn.pause == 100_000
        assert (await one.turn_until(lambda turn: turn.granted, 1)).now - turn.now >= 100_000
        await one.turn_until(lambda turn: turn.free == 5)


def an_hour_ahead(server: Server, key: str) -> None:
    """Let the state look as if the clock had been an hour ahead when it was written."""
    hour = 3_600_000_000
    if isinstance(server, PostgresServer):
        server.execute(
            "UPDATE ozonetel_held SET back = back + 3600000000",
            "UPDATE ozonetel_line SET due = due + 3600000000",
            "UPDATE ozonetel_queue SET at = at + 3600000000, hold = hold + 3600000000, pause = pause + 3600000000",
        )
        return
    name = f"ozonetel:{{{key}}}:"
    with client_of(server) as client:
        for part in ("held", "due"):
            for member in client.zrange(name + part, 0, -1):
                client.zincrby(name + part, hour, member)
        for field in ("at", "hold", "pause"):
            client.hincrby(name + "state", field, hour)


def client_of(server: Server) -> Redis:
    return Redis(port=server.port, decode_responses=True)


async def test_state_of_another_version_is_left_alone(server: Server, key: str) -> None:
    bearer = BearerAsk(f"{key}:token", "one", "get", fetches=1, per=1)
    async with process(server.store(), key, go=True) as one:
        await one.turn(1)
        await one.connection.bearer(bearer)
        if isinstance(server, PostgresServer):
            server.execute(
                "UPDATE ozonetel_version SET version = 7", "DROP FUNCTION ozonetel_turn_1, ozonetel_bearer_1"
            )
        else:
            with client_of(server) as client:
                client.hset(f"ozonetel:{{{key}}}:state", "version", "7")
                client.hset(f"ozonetel:{{{key}:token}}:bearer", "version", "7")
        with pytest.raises(ConfigurationError, match="version 7"):
            await one.turn(1)
        with pytest.raises(ConfigurationError, match="version 7"):
            await one.connection.bearer(bearer)
    server.empty()


# -- Redis ------------------------------------------------------------------------------------------------------------


async def test_scripts_that_redis_forgets_are_sent_again(redis: RedisServer, key: str) -> None:
    async with process(redis.store(), key, go=True) as one:
        for number in range(3):
            with client_of(redis) as client:
                client.script_flush()
            assert (await one.turn(1)).granted == (number,)


@pytest.mark.parametrize("part", ["held", "state"])
async def test_a_part_of_the_state_that_redis_evicts_counts_as_lost(redis: RedisServer, key: str, part: str) -> None:
    async with process(redis.store(), key, go=True, hold=10_000_000) as one:
        await one.turn(5)
        with client_of(redis) as client:
            client.delete(f"ozonetel:{{{key}}}:{part}")
        turn = await one.turn(5, go=False)
    assert (turn.granted, turn.hold) == ((), 10_000_000)


async def test_a_line_without_its_moments_holds_nobody_up(redis: RedisServer, key: str) -> None:
    async with process(redis.store(), key, go=True) as one, process(redis.store(), key, "other") as other:
        await one.turn(5)
        await other.turn(1, priority=1)
        with client_of(redis) as client:
            client.delete(f"ozonetel:{{{key}}}:due")
        await one.conclude(0, back=0)
        assert (await one.turn(1)).granted == (5,)


@pytest.mark.parametrize("settings", [{"min-replicas-to-write": "3"}, {"replicaof": "127.0.0.1 1"}])
async def test_a_redis_that_takes_no_writes_is_away(redis: RedisServer, key: str, settings: dict[str, str]) -> None:
    async with process(redis.store(), key, go=True) as one:
        await one.turn(1)
        with client_of(redis) as client:
            for name, value in settings.items():
                if name == "replicaof":
                    client.replicaof(*value.split())
                else:
                    client.config_set(name, value)
        with pytest.raises(SharedLimitUnavailableError):
            await one.turn(1)


async def test_a_promoted_replica_that_lacks_the_last_turns_holds(redis: RedisServer, key: str) -> None:
    replica = RedisServer()
    replica.start()
    try:
        with client_of(replica) as client:
            async with process(redis.store(), key, go=True, hold=10_000_000) as one:
                before = await one.turn(1)
                client.replicaof("127.0.0.1", str(redis.port))
                await eventually(lambda: client.exists(f"ozonetel:{{{key}}}:state"))
            client.replicaof("NO", "ONE")
            redis.kill()
        async with process(replica.store(), key, "new", go=True, hold=10_000_000) as new:
            turn = await new.turn(1)
        assert (turn.granted, turn.free, turn.hold) == ((), 4, 10_000_000)
        assert turn.epoch != before.epoch
    finally:
        replica.close()


async def test_a_wrong_password_is_told(redis: RedisServer, key: str) -> None:
    with client_of(redis) as client:
        client.config_set("requirepass", "right-password")
    store = RedisShared(f"redis://:wrong-password@127.0.0.1:{redis.port}/0")
    async with process(store, key) as one:
        with pytest.raises(ConfigurationError, match="refuses access") as caught:
            await one.turn(1)
    assert "wrong-password" not in f"{caught.value}{store!r}{caught.value.__context__}"


async def test_a_redis_that_denies_info_still_shares(redis: RedisServer, key: str) -> None:
    with client_of(redis) as client:
        client.acl_setuser("lean", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-info"])
    async with process(RedisShared(f"redis://lean:pw@127.0.0.1:{redis.port}"), key, go=True) as one:
        assert (await one.turn(2)).granted == (0, 1)


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


async def test_the_schema_is_made_once_however_many_come_first(postgres: PostgresServer, key: str) -> None:
    postgres.empty()
    connections = [postgres.store().connect() for _ in range(8)]
    crowd = [Process(connection, key, str(index), go=True) for index, connection in enumerate(connections)]
    turns = await asyncio.gather(*(one.turn(1) for one in crowd))
    for connection in connections:
        await connection.close()
    assert sum(len(turn.granted) for turn in turns) == 5


async def test_a_row_that_somebody_keeps_locked_piles_up_no_backends(postgres: PostgresServer, key: str) -> None:
    async with process(postgres.store(timeout=0.2), key, go=True) as one:
        await one.turn(1)
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("SELECT FROM ozonetel_queue FOR UPDATE")
            for _ in range(4):
                with pytest.raises(SharedLimitUnavailableError):
                    await one.turn(1, first=1)
            turns = "SELECT FROM pg_stat_activity WHERE query LIKE '%ozonetel_turn%' AND pid <> pg_backend_pid()"
            assert len(stranger.execute(turns).fetchall()) <= 1
    async with process(postgres.store(), key) as one:
        assert (await one.turn(1, first=1)).granted == (1,)


async def test_a_backend_that_is_terminated_is_replaced(postgres: PostgresServer, key: str) -> None:
    async with process(postgres.store(), key, go=True) as one:
        for number in range(3):
            assert (await one.turn(1)).granted == (number,)
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )


async def test_a_promoted_standby_holds(postgres: PostgresServer, key: str) -> None:
    async with process(postgres.store(), key, go=True, hold=10_000_000) as one:
        before = await one.turn(1)
    standby = PostgresServer()
    try:
        standby.copy(postgres)
        standby.start()
        async with process(standby.store(), key, "early") as early:
            with pytest.raises(SharedLimitUnavailableError):
                await early.turn(1)
        standby.execute("SELECT pg_promote()")
        async with process(standby.store(), key, "new", go=True, hold=10_000_000) as new:
            turn = await new.turn(1)
        assert (turn.granted, turn.free, turn.hold) == ((), 4, 10_000_000)
        assert turn.epoch != before.epoch
    finally:
        standby.close()


async def test_a_role_that_may_make_nothing_is_told_what_to_do(postgres: PostgresServer, key: str) -> None:
    postgres.empty()
    postgres.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    guest = PostgresShared(postgres.url.replace("ozonetel@", "guest:secret-word@"))
    async with process(guest, key) as one:
        with pytest.raises(ConfigurationError, match=r"contrib/postgres\.sql") as caught:
            await one.turn(1)
    assert "secret-word" not in f"{caught.value}{guest!r}"


async def test_a_server_that_does_not_wait_for_the_disk_does_for_a_turn(postgres: PostgresServer, key: str) -> None:
    lazy = ("ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'")
    postgres.execute(*lazy, "SELECT pg_reload_conf()")
    async with process(postgres.store(), key, go=True) as one:
        await one.turn(1)
        await one.turn(2)
        postgres.kill()
        postgres.start()
        postgres.execute("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")
        assert (await one.turn()).free == 2


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RedisShared("http://localhost"), "redis://"),
        (lambda: RedisShared("redis://localhost", timeout=0), "timeout"),
        (lambda: RedisShared("redis://localhost", first_use="now"), "first_use"),  # type: ignore[arg-type]
        (lambda: RedisShared("redis://localhost", prefix="{x}"), "prefix"),
        (lambda: RedisShared("redis://:secret-word@localhost/?db=x"), "redis-py"),
        (lambda: PostgresShared(" "), "postgresql://"),
        (lambda: PostgresShared("postgresql://localhost", timeout=float("inf")), "timeout"),
        (lambda: PostgresShared("postgresql://:secret-word@localhost?x=1"), "libpq"),
    ],
)
def test_settings_that_cannot_work_are_told(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make()
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "driver", "url"), [(RedisShared, "redis", "redis://x"), (PostgresShared, "psycopg", "postgresql://x")]
)
def test_a_driver_that_is_missing_is_told_by_the_store(
    kind: type[RedisShared | PostgresShared], driver: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [driver, *(name for name in sys.modules if name.startswith(f"{driver}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"ozonetel-async\[(redis|postgres)\]"):
        kind(url)


def test_a_store_shows_no_password() -> None:
    for store in (RedisShared("redis://me:secret-word@host:1/2"), PostgresShared("postgresql://me:secret-word@host/x")):
        assert "secret-word" not in repr(store)
