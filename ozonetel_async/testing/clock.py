"""Virtual time: an event loop on which an hour of waiting takes as long as its work does.

The loop never sleeps. When nothing is ready its clock jumps to the next timer, so code that waits minutes for a rate
limit is tested in milliseconds, with exact and repeatable times::

    from ozonetel_async.testing.clock import run_virtual

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) >= 3600

Sockets live in real time, so they are refused here: put a fake in the transport's place, or use real time. Threads
(``asyncio.to_thread``, ``run_in_executor``) are fine: the clock stands still until they are done.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["VirtualDeadlockError", "VirtualTimeLoop", "run_virtual"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Every step of the loop takes this much virtual time. With none at all, code that computes a timer's moment in floating
# point and finds itself a rounding error too early would wait for zero seconds for ever (aiolimiter does).
STEP = 1e-7


class VirtualDeadlockError(RuntimeError):
    """Nothing is ready, no timer is set, no thread is at work: every task waits for something that cannot happen."""


class _VirtualSelector(selectors.SelectSelector):
    """Reports no event but the loop's own wake-up, and passes each timeout to the clock instead of sleeping."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        self.sealed = False
        self.describe: Callable[[], str] = str

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.sealed:
            raise RuntimeError("virtual time and real sockets do not mix: run this test on an ordinary event loop")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += STEP
        if self.threads:
            # Real work is under way and its end is not a matter of virtual time.
            return super().select(0 if timeout == 0 else None)
        if timeout is None:
            raise VirtualDeadlockError(self.describe())
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time()`` starts at 0 and jumps from timer to timer; ready for ``loop_factory=``."""

    def __init__(self) -> None:
        self._clock = _VirtualSelector()
        super().__init__(self._clock)
        self._clock.describe = self._describe
        self._clock.sealed = True

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._clock.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As usual; the clock stands still until ``func`` is done."""
        future = super().run_in_executor(executor, func, *args)
        self._clock.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        """As usual; joins the threads in real time."""
        self._clock.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._clock.threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._clock.threads -= 1

    def _describe(self) -> str:
        names = sorted(task.get_name() for task in asyncio.all_tasks(self))
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return (
            f"deadlock at virtual time {self._clock.now:.6f} s: {len(names)} tasks wait ({shown}), "
            "but nothing is ready and no timer is set"
        )


def run_virtual(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run ``main`` to its end on a fresh ``VirtualTimeLoop``, as ``asyncio.run`` would, and return its result.

    Raises:
        VirtualDeadlockError: ``main`` waits for something that cannot happen any more.
    """
    with asyncio.Runner(debug=debug, loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
