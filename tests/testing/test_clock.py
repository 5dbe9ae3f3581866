from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from aiolimiter import AsyncLimiter

from ozonetel_async.testing.clock import VirtualDeadlockError, VirtualTimeLoop, run_virtual


def test_a_day_of_sleep_takes_a_day_of_virtual_time() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400 * 3)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(86_400 * 3, abs=1e-3)


def test_timers_fire_in_order_and_at_their_time() -> None:
    async def main() -> list[tuple[int, float]]:
        loop, seen = asyncio.get_running_loop(), list[tuple[int, float]]()

        async def at(moment: int) -> None:
            await asyncio.sleep(moment)
            seen.append((moment, loop.time()))

        await asyncio.gather(*(at(moment) for moment in (7, 3, 11, 5)))
        return seen

    seen = run_virtual(main())
    assert [moment for moment, _ in seen] == [3, 5, 7, 11]
    assert all(0 <= time - moment < 1e-4 for moment, time in seen)


def test_timeouts_run_on_the_virtual_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(31)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(30, abs=1e-3)


def test_a_deadlock_is_an_error_that_names_the_task() -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="stuck-one")

    with pytest.raises(VirtualDeadlockError, match=r"stuck-one.*nothing is ready"):
        run_virtual(main())
    gc.collect()


def test_a_deadlock_still_runs_the_cleanup_of_the_tasks() -> None:
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    with pytest.raises(VirtualDeadlockError):
        run_virtual(main())
    assert cleaned == [True]


@pytest.mark.parametrize("rate", [5, 10, 100])
def test_aiolimiter_does_not_spin(rate: int) -> None:
    """With a clock that stands still between steps, AsyncLimiter(100, 60) waits zero seconds for ever at t = 129.0."""

    async def main() -> float:
        limiter = AsyncLimiter(rate, 60)
        await asyncio.gather(*(limiter.acquire() for _ in range(4 * rate + 3)))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx((3 * rate + 3) * 60 / rate, abs=0.1)


def test_the_clock_stands_still_while_a_thread_works() -> None:
    release = threading.Event()

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        loop.call_soon(release.set)
        work = asyncio.to_thread(lambda: "done" if release.wait(10) else "never")
        result = await asyncio.wait_for(work, timeout=0.5)
        return result, loop.time()

    result, time = run_virtual(main())
    assert result == "done"
    assert time < 0.001


def test_sockets_are_refused() -> None:
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with pytest.raises(RuntimeError, match="real sockets"):
        run_virtual(main())


def test_debug_mode_and_results_pass_through() -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run_virtual(main(), debug=True) is True
    assert run_virtual(main(), debug=False) is False


def test_the_loop_itself_serves_as_a_factory() -> None:
    async def main() -> float:
        await asyncio.sleep(60)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == pytest.approx(60, abs=1e-3)
        assert runner.run(main()) == pytest.approx(120, abs=1e-3)
