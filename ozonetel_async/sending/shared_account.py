"""What one client shares with other processes of its account: its queues' tokens and its bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..config import ClientConfig
from ..protocol.endpoints import QueueName
from .shared import SharedStore, account_key
from .shared_tokens import SharedTokens
from .shared_window import SharedWindow, StoreWatch
from .window import LocalWindow

__all__ = ["SharedAccount"]


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

    def tokens(self, fetch: Callable[[], Awaitable[str]]) -> SharedTokens:
        """The account's bearer token."""
        return SharedTokens(
            fetch,
            store=self._store,
            key=f"{self._key}:token",
            secret=self._config.credentials.reveal(),
            limit=self._config.limits.token,
            timeout=self._config.timeouts.total,
            transit_margin=self._config.limits.transit_margin,
            watch=self._watch,
        )

    async def close(self) -> None:
        """Give back what is in hand, and close the connections; the queues are closed already."""
        await asyncio.gather(*(window.finish() for window in self._windows))
