"""Ctrl-C and SIGTERM: the first asks a command to finish, the second ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

__all__ = ["cancel_on_signals", "stop_on_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cancel_on_signals() -> None:
    """From now on, each signal cancels the running task."""
    task = asyncio.current_task()
    assert task is not None
    _install(task.cancel)


@contextlib.contextmanager
def stop_on_signals(on_first: Callable[[], None]) -> Iterator[asyncio.Event]:
    """While open, the first signal sets the event and calls ``on_first``; each further one cancels the running task."""
    stop = asyncio.Event()

    task = asyncio.current_task()
    assert task is not None

    def first() -> None:
        _install(task.cancel)
        stop.set()
        on_first()

    _install(first)
    try:
        yield stop
    finally:
        _install(task.cancel)


def _install(handler: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    # Not on Windows, and only the main thread may.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        for number in _SIGNALS:
            loop.add_signal_handler(number, handler)
