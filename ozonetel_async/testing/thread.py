"""Run something asynchronous in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["InThread"]

T = TypeVar("T")


class InThread(Generic[T]):
    """An async context manager entered in a thread, as a plain context manager.

    Args:
        make: makes the async context manager; called in the thread, on its running loop.
        name: of the thread.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._make = make
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._value: T | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> T:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        assert self._value is not None
        return self._value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            # Raised again in the caller's thread, where it is seen.
            self._failure = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        async with self._make() as self._value:
            self._ready.set()
            await self._stopped.wait()
