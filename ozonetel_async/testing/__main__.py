"""``python -m ozonetel_async.testing``: a simulator of its own process, steered by JSON.

The first line on standard output is a JSON object with ``base_url``, ``dialer_url``, ``api_key`` and ``username``. Then
every line on standard input is answered with the simulator's figures as one line of JSON; the end of standard input
ends the simulator. ``--options`` takes the keywords of ``Simulator`` as a JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence

import msgspec

from .settings import SimulatorOptions
from .simulator import Simulator


async def _run(simulator: Simulator) -> None:
    loop = asyncio.get_running_loop()
    async with simulator:
        hello = {
            "base_url": simulator.base_url,
            "dialer_url": simulator.dialer_url,
            "api_key": simulator.api_key,
            "username": simulator.username,
        }
        _say(hello)
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(simulator.snapshot())


def _say(content: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(prog="python -m ozonetel_async.testing", description=__doc__)
    parser.add_argument(
        "--options", default="{}", metavar="JSON", help='for example {"window": 1.0, "keep_leads": false}'
    )
    options = msgspec.json.decode(parser.parse_args(argv).options, type=SimulatorOptions)
    asyncio.run(_run(Simulator(**options)))


if __name__ == "__main__":
    main()
