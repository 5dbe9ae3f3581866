"""Limits and bearer token shared through PostgreSQL 14 or later: ``shared=PostgresShared("postgresql://…")``.

The schema, ``postgres.sql`` beside this file, is made on first use: tables and functions whose names begin with
``ozonetel_``, in the first schema of the role's search path. A role without the right to create them needs somebody to
run that file.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from ..errors import ConfigurationError, OzonetelError, SharedLimitUnavailableError
from ..masking import redact
from ..sending.shared.store import (
    Ask,
    BearerAsk,
    BearerTurn,
    FirstUse,
    Turn,
    check_store,
    other_version,
    read_bearer,
    read_turn,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

__all__ = ["PostgresShared"]

_T = TypeVar("_T")

_VERSION: Final = 1
# Any number that no other program locks.
_INSTALL_LOCK: Final = 6_815_407_931


class PostgresShared:
    """A PostgreSQL database in which processes share the limits of their accounts.

    It holds no connection: give one to as many clients as you like. Each client opens a connection per endpoint in use
    and one for the bearer token.

    Args:
        url: ``postgresql://…`` or any other connection string of libpq.
        timeout: Most seconds for an operation, connecting included.
        first_use: ``"hold"`` sends nothing for one window and the transit margin when an account's queue is not in the
            store, which may have lost it. ``"go"`` does not wait; only for when nobody has sent for that long.

    Raises:
        ConfigurationError: An argument is wrong, or psycopg is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, first_use: FirstUse = "hold") -> None:
        if not isinstance(url, str) or not url.strip():
            raise ConfigurationError("url must be postgresql://user@host:port/database")
        check_store(first_use, timeout)
        self._secrets = _secrets(url)
        self._url = url
        self.timeout: float = float(timeout)
        self.first_use: FirstUse = first_use

    def __repr__(self) -> str:
        # Nothing of the URL: a connection string can hold a password in many places.
        return "PostgresShared(…)"

    def connect(self) -> PostgresConnection:
        """A connection that is not opened yet."""
        return PostgresConnection(self._url, self._secrets, self.timeout)


class PostgresConnection:
    """A connection to PostgreSQL, for one task at a time."""

    def __init__(self, url: str, secrets: tuple[str, ...], timeout: float) -> None:
        self._secrets = secrets
        self._url = url
        self._timeout = timeout
        self._connection: AsyncConnection[TupleRow] | None = None

    async def turn(self, ask: Ask) -> Turn:
        """Make a turn of the rate limit."""
        (numbers,) = await self._call("SELECT ozonetel_turn_1(%s::text::jsonb, %s)", ask)
        return read_turn(ask, numbers)

    async def bearer(self, ask: BearerAsk) -> BearerTurn:
        """Make an operation on the bearer token."""
        return read_bearer(await self._call("SELECT * FROM ozonetel_bearer_1(%s::text::jsonb, %s)", ask))

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _call(self, statement: str, ask: Ask | BearerAsk) -> TupleRow:
        """The row that a function of ours returns; the functions are made when they do not exist."""
        import psycopg
        from psycopg import errors

        # A row that somebody else keeps locked is given up a little before the caller gives up.
        arguments = (msgspec.json.encode(ask).decode(), max(1, int(self._timeout * 900)))

        async def call(connection: AsyncConnection[TupleRow]) -> TupleRow | None:
            return await (await connection.execute(statement, arguments)).fetchone()

        failure: OzonetelError
        try:
            try:
                row = await self._run(call)
            except errors.UndefinedFunction:
                await self._run(_install)
                row = await self._run(call)
        except (errors.InsufficientPrivilege, errors.InvalidSchemaName, errors.UndefinedFunction) as error:
            failure = ConfigurationError(
                f"PostgreSQL does not let this role use or make what PostgresShared needs ({self._say(error)}); let "
                "an owner run ozonetel_async/contrib/postgres.sql in a schema of the role's search path and grant the "
                "use of it"
            )
        except psycopg.InterfaceError as error:
            failure = ConfigurationError(f"psycopg cannot work here: {self._say(error)}")
        except (psycopg.Error, OSError) as error:
            failure = SharedLimitUnavailableError(f"PostgreSQL: {self._say(error)}")
        else:
            assert row is not None
            return row
        await self.close()
        raise failure

    async def _run(self, operation: Callable[[AsyncConnection[TupleRow]], Awaitable[_T]]) -> _T:
        """Make an operation within the timeout, on a new connection when the one in hand turns out to be dead."""
        import psycopg

        if self._connection is not None:
            try:
                return await self._run_on(self._connection, operation)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
        async with asyncio.timeout(self._timeout):
            # Autocommit and nothing prepared: works through PgBouncer as well.
            self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=None)
        return await self._run_on(self._connection, operation)

    async def _run_on(
        self,
        connection: AsyncConnection[TupleRow],
        operation: Callable[[AsyncConnection[TupleRow]], Awaitable[_T]],
    ) -> _T:
        task = asyncio.ensure_future(operation(connection))
        try:
            await asyncio.wait({task}, timeout=self._timeout)
        finally:
            if not task.done():
                # Cancelling would have psycopg ask the server to cancel, and wait ten seconds for one that is frozen.
                _hang_up(connection)
                await asyncio.wait({task})
                task.exception()
        return task.result()

    def _say(self, error: BaseException) -> str:
        """What a driver's error says, on one line and without the password."""
        text = str(error).strip().partition("\n")[0]
        return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__, self._secrets)


async def _install(connection: AsyncConnection[TupleRow]) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_INSTALL_LOCK,))
        row = await (await connection.execute("SELECT to_regclass('ozonetel_version') IS NOT NULL")).fetchone()
        if row == (True,):
            row = await (await connection.execute("SELECT version FROM ozonetel_version")).fetchone()
            if row != (_VERSION,):
                raise other_version(row[0] if row else 0)
        else:
            await connection.execute((files(__package__) / "postgres.sql").read_bytes())


def _hang_up(connection: AsyncConnection[TupleRow]) -> None:
    """Shut the socket down, whose descriptor stays libpq's: what waits for an answer learns that none will come."""
    with socket.socket(fileno=os.dup(connection.fileno())) as copy, suppress(OSError):
        copy.shutdown(socket.SHUT_RDWR)


def _secrets(url: str) -> tuple[str, ...]:
    # Loaded here and not with the module: it takes a tenth of a second, which only those should pay who share a limit.
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ConfigurationError(
            "PostgresShared needs psycopg 3: python -m pip install 'ozonetel-async[postgres]'"
        ) from None
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        # Without the driver's words, which repeat a part of the URL.
        raise ConfigurationError("url is not a connection string that libpq can read") from None
    return tuple(str(parts[name]) for name in ("password", "sslpassword") if parts.get(name))
