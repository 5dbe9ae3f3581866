"""What one client shares with other processes of its account: its queues' tokens and its bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ...config import ClientConfig
from ...errors import OutcomeUnknownError
from ...protocol.endpoints import QueueName
from ..window import LocalWindow
from .store import SharedStore, account_key
from .tokens import SharedTokenStore
from .window import SharedWindow, StoreWatch

__all__ = ["SharedAccount"]

Fetch: TypeAlias = Callable[[Callable[[bool], None]], Awaitable[str]]


class SharedAccount:
    """Makes the shared parts of one client and closes them.

    Args:
        config: the client's settings.
        store: where the parts live.
    """

    def __init__(self, config: ClientConfig, store: SharedStore) -> None:
        self._config = config
        self._store = store
        self._key = account_key(config.credentials.username, config.base_url)
        self._watch = StoreWatch()
        self._windows: list[SharedWindow] = []
        self._tokens: SharedTokenStore | None = None

    def window(self, name: QueueName) -> SharedWindow:
        """The tokens of one endpoint."""
        limits = self._config.limits
        limit = getattr(limits, name)
        window = SharedWindow(
            name,
            limit,
            LocalWindow(limit, limits.transit_margin, name),
            store=self._store,
            key=f"{self._key}:{name}",
            transit_margin=limits.transit_margin,
            timeout=self._config.timeouts.total,
            watch=self._watch,
        )
        self._windows.append(window)
        return window

    def token_store(self) -> SharedTokenStore:
        """Where the account's bearer token lives."""
        config = self._config
        self._tokens = SharedTokenStore(
            store=self._store,
            key=f"{self._key}:token",
            secret=config.credentials.reveal(),
            limit=config.limits.token,
            lease=config.timeouts.total + config.limits.transit_margin,
            watch=self._watch,
        )
        return self._tokens

    def bounded(self, fetch: Fetch) -> Fetch:
        """A fetch of a token that ends before the store lets another process fetch one."""
        seconds = self._config.timeouts.total

        async def bounded_fetch(leaving: Callable[[bool], None]) -> str:
            try:
                async with asyncio.timeout(seconds):
                    return await fetch(leaving)
            except TimeoutError:
                raise OutcomeUnknownError(f"no token within {seconds:g} s", endpoint="token") from None

        return bounded_fetch

    async def close(self) -> None:
        """Give back what is in hand, and close the connections; the queues are closed already."""
        await asyncio.gather(*(window.finish() for window in self._windows))
        if self._tokens is not None:
            await self._tokens.close()
