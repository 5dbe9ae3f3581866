"""README's job queue, one job one file: a worker is killed in the middle of a file, and the other one finishes it.

``python benchmarks/workers.py [--rows 20000] [--runs 3]``

Two taskiq workers with README's module, a private Redis, and a simulator that takes 5 bulk requests in 2 s (30 times
the documented rate). Jobs are offered again after 3 s in place of 60. The worker that has the file is killed with
SIGKILL after a few batches. Per run: when the other one sent its first batch, when the file was done, rows that were
lost or added twice, and refusals. The exit status is 1 when there was one. taskiq comes with the extra ``dev``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ozonetel_async.testing import Simulator
from tests.contrib.conftest import RedisServer

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 2.0
# What README's module has for the documented limits, and what it is measured with.
CHANGES = {
    "idle_timeout=60_000": "idle_timeout=3_000",
    "import OzonetelClient": "import Limits, OzonetelClient, RateLimit",
    "OzonetelClient(shared": f"OzonetelClient(limits=Limits(bulk=RateLimit(5, {WINDOW}), transit_margin=0.5), shared",
}
SEND = """
import asyncio, sys, jobs

async def main():
    await jobs.broker.startup()
    await (jobs.upload_file.kiq(sys.argv[1]) if sys.argv[1:] else jobs.wake.kiq())
    await jobs.broker.shutdown()

asyncio.run(main())
"""


def module() -> str:
    """README's module, with the changes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
    (text,) = (block for block in blocks if "from taskiq" in block)
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Workers:
    """Two workers of one queue."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment
        self.processes = [self._start(folder / f"worker-{number}.log") for number in range(2)]

    def _start(self, path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "taskiq", "worker", "jobs:broker", "--workers", "1"]
        with path.open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    async def send(self, *path: str) -> None:
        """Hand in a file, or wake the workers as README's scheduler does."""
        command = [sys.executable, "-c", SEND, *path]
        await asyncio.to_thread(subprocess.run, command, cwd=self.folder, env=self.environment, check=True)

    def kill_the_busy_one(self) -> None:
        logs = [(self.folder / f"worker-{number}.log").read_text() for number in range(2)]
        (busy,) = (number for number, log in enumerate(logs) if "jobs:upload_file" in log)
        os.killpg(self.processes[busy].pid, signal.SIGKILL)
        self.processes[busy].wait()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def run(rows: int) -> bool:
    redis = RedisServer()
    redis.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobs.py").write_text(module(), encoding="utf-8")
        file = folder / "leads.csv"
        lines = (f"+9198{number:08},Asha,5,x\n" for number in range(rows))
        file.write_text("Mobile,Name,Priority,Remarks\n" + "".join(lines), encoding="utf-8")
        async with Simulator(window=WINDOW, latency=(0.02, 0.06)) as sim:
            environment = {
                "OZONETEL_API_KEY": sim.api_key,
                "OZONETEL_USERNAME": sim.username,
                "OZONETEL_BASE_URL": sim.base_url,
                "OZONETEL_DIALER_URL": sim.dialer_url,
                "REDIS_URL": redis.url,
                "PYTHONPATH": f"{ROOT}:{folder}",
            }
            workers = Workers(folder, environment)
            try:
                return await kill_and_watch(workers, sim, str(file), rows)
            finally:
                workers.close()
                redis.close()


async def kill_and_watch(workers: Workers, sim: Simulator, file: str, rows: int) -> bool:
    await workers.send(file)
    await sim.wait_for(lambda: sim.arrivals("bulk") >= 7, 60)
    await asyncio.sleep(random.uniform(0, WINDOW))
    workers.kill_the_busy_one()
    killed = time.monotonic()
    await asyncio.sleep(0.2)  # what it had sent has arrived
    sent = sim.arrivals("bulk")
    done = asyncio.Event()

    async def wake() -> None:
        while not done.is_set():
            await asyncio.sleep(2)
            await workers.send()

    waking = asyncio.create_task(wake())
    try:
        await sim.wait_for(lambda: sim.arrivals("bulk") > sent, 60)
        resumed = time.monotonic() - killed
        await sim.wait_for(lambda: len(sim.campaigns["Diwali"].numbers) == rows, 120)
    finally:
        took = time.monotonic() - killed
        done.set()
        await waking
    await sim.settle()
    times = sim.campaigns["Diwali"].numbers.values()
    lost, doubled = rows - len(times), sum(count > 1 for count in times)
    print(
        f"killed after {sent} batches; the next one {resumed:.1f} s later, all of {rows} rows after {took:.1f} s; "
        f"{lost} rows lost, {doubled} doubled; {sim.refusals('bulk')} requests refused, worst window "
        f"{sim.worst_window('bulk')}",
        flush=True,
    )
    return not (lost or doubled or sim.refusals("bulk"))


async def main(rows: int, runs: int) -> bool:
    return all([await run(rows) for _ in range(runs)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a worker killed in the middle of a file")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sys.exit(not asyncio.run(main(options.rows, options.runs)))
