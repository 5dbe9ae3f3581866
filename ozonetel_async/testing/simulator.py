"""A stateful stand-in for the service, for tests, demonstrations and benchmarks: real HTTP over loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Literal, Self, Unpack

from .faults import Fault, FaultPlan, FaultRule
from .log import EndpointFigures, LoggedCallback, LoggedRequest
from .service.account import Account
from .service.callbacks import CallbackSender
from .service.files import Files
from .service.http import HttpServer
from .service.jobs import Job, Jobs
from .service.state import Campaign, DoNotDisturb, Routing, TokenIssuer
from .settings import Settings, SimulatorOptions
from .window import RateWindow, worst_window

__all__ = ["Simulator", "serve"]

DEFAULT_CAMPAIGN = "Diwali"
# The further columns that Add Campaign Data names as examples.
DEFAULT_COLUMNS = ("Email", "City", "Service", "OrderNumber")

# Seconds between two looks at a condition.
_GLANCE = 0.002


class Simulator:
    """The service on a local port, as an async context manager.

    It holds one account with an outbound campaign "Diwali"; ``campaign()`` makes more. Every endpoint checks, stores
    and answers as the documents say; where they are silent, a setting chooses.

    Args:
        **options: see ``Settings``, which lists every keyword with its default.

    Examples:
        ::

        async with Simulator(window=1.0, limits={"bulk": 5}) as sim:
            sim.inject("bulk", Fault.reset_after_apply())
            ...
            await sim.settle()
            assert sim.refusals("bulk") == 0
            assert sim.campaigns["Diwali"].numbers["919812345678"] == 1
    """

    def __init__(self, **options: Unpack[SimulatorOptions]) -> None:
        self.settings: Settings = Settings(**options)
        self.base_url: str = ""
        self._random = Random(self.settings.seed)  # noqa: S311 - reproducible latency, no secrets
        self._account = Account(self.settings, self._clock, self._random)
        self._callbacks = CallbackSender(self.settings, self._clock)
        self._jobs = Jobs(self._account, self._callbacks)
        self._plan = FaultPlan(self._random)
        self._server = HttpServer(self._account, self._jobs, self._plan)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.campaign(DEFAULT_CAMPAIGN, columns=DEFAULT_COLUMNS)

    @property
    def api_key(self) -> str:
        """The account's key."""
        return self.settings.api_key

    @property
    def username(self) -> str:
        """The account's user name."""
        return self.settings.username

    @property
    def dialer_url(self) -> str:
        """Host of the dial-status endpoint; the same server."""
        return self.base_url

    @property
    def campaigns(self) -> dict[str, Campaign]:
        """The campaigns by name."""
        return self._account.campaigns

    @property
    def dnd(self) -> DoNotDisturb:
        """Numbers that must not be called."""
        return self._account.dnd

    @property
    def tokens(self) -> TokenIssuer:
        """The bearer tokens: ``tokens.issued`` counts them, ``tokens.expire()`` ends the current one."""
        return self._account.tokens

    @property
    def files(self) -> Files:
        """The files behind links: ``files.expire()`` ends every link."""
        return self._account.files

    @property
    def jobs(self) -> dict[str, Job]:
        """V4 jobs and exports by their id."""
        return self._jobs.all

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests in the order of their arrival."""
        return self._server.log

    @property
    def callbacks(self) -> list[LoggedCallback]:
        """The attempts to deliver a callback, in order."""
        return self._callbacks.log

    @property
    def windows(self) -> dict[str, RateWindow]:
        """The rate windows by endpoint."""
        return self._server.windows

    def campaign(
        self,
        name: str,
        kind: str = "Progressive",
        *,
        routing: Routing | None = None,
        direction: Literal["outbound", "inbound"] = "outbound",
        columns: Sequence[str] = (),
        running: bool = True,
        agents: Sequence[str] = (),
        skills: Sequence[str] = (),
    ) -> Campaign:
        """Make a campaign, in place of one of the same name; see ``Campaign``."""
        made = self.campaigns[name] = Campaign(
            name,
            kind,
            routing=routing,
            direction=direction,
            columns=columns,
            running=running,
            agents=agents,
            skills=skills,
            keep_leads=self.settings.keep_leads,
        )
        return made

    def inject(
        self,
        endpoint: str,
        fault: Fault,
        *,
        times: int | None = 1,
        after: int = 0,
        probability: float | None = None,
    ) -> FaultRule:
        """Script a fault.

        Args:
            endpoint: short name, or ``"*"`` for every documented endpoint.
            fault: what happens.
            times: how often it happens; None repeats it without end.
            after: how many requests of the endpoint, counted from now, pass first.
            probability: chance that it happens to a request; None for certainty.

        Returns:
            The rule; its ``used`` tells how often it happened. Rules are tried in the order of their injection.
        """
        rule = FaultRule(endpoint=endpoint, fault=fault, times=times, after=after, probability=probability)
        self._plan.add(rule)
        return rule

    def clear_faults(self) -> None:
        """Forget every scripted fault."""
        self._plan.clear()

    def requests(self, endpoint: str) -> list[LoggedRequest]:
        """The logged requests of an endpoint."""
        return [record for record in self.log if record.endpoint == endpoint]

    def arrivals(self, endpoint: str) -> int:
        """How many requests of an endpoint arrived, whatever the log still holds."""
        return self._figures(endpoint).requests

    def refusals(self, endpoint: str) -> int:
        """How many requests of an endpoint were refused for the rate, scripted refusals included."""
        return self._figures(endpoint).refused

    def writes_applied(self, endpoint: str) -> int:
        """How many requests of an endpoint changed something: stored leads, or queued rows."""
        return self._figures(endpoint).writes

    def rows_applied(self, endpoint: str) -> int:
        """How many rows those requests brought; for bulk, rows queued."""
        return self._figures(endpoint).rows

    def worst_window(self, endpoint: str, per: float | None = None) -> int:
        """Most requests that were admitted within any ``per`` seconds, by default the endpoint's own window."""
        window = self.windows.get(endpoint)
        length = per if per is not None else window.per if window is not None else self.settings.window
        return worst_window(self._figures(endpoint).admitted, length)

    @property
    def busy(self) -> bool:
        """Whether a V4 job, an export or a callback is under way."""
        return self._jobs.busy or self._callbacks.busy

    @property
    def in_flight(self) -> int:
        """Requests that have reached the machine and are not answered yet, latency included."""
        return self._server.in_flight

    async def settle(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - as in asyncio.wait_for
        """Wait until no V4 job, export or callback is under way.

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """
        await self.wait_for(lambda: not self.busy, timeout)

    async def wait_for(self, condition: Callable[[], object], timeout: float = 10.0) -> None:  # noqa: ASYNC109
        """Wait until ``condition()`` is true; it is looked at every 2 ms, so a state that passes sooner may be missed.

        Raises:
            TimeoutError: after ``timeout`` seconds, with the state of the simulator.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not condition():
            if loop.time() >= deadline:
                raise TimeoutError(f"condition not met within {timeout} s; {self!r}")
            await asyncio.sleep(_GLANCE)

    async def start(self) -> None:
        """Begin to listen."""
        if self._loop is not None:
            raise RuntimeError("a simulator is started once; make a new one")
        self._loop = asyncio.get_running_loop()
        host, port = await self._server.start()
        scheme = "http" if self.settings.ssl is None else "https"
        self.base_url = f"{scheme}://{host}:{port}"
        self._account.files.base_url = self.base_url

    async def close(self) -> None:
        """Stop; no task and no socket stays behind."""
        await self._server.close()
        await self._jobs.close()
        await self._callbacks.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        figures = ", ".join(
            f"{name}: {one.requests} requests, {one.refused} refused, {one.writes} applied"
            for name, one in self._server.figures.items()
        )
        return f"<Simulator {self.base_url or 'not started'} {figures or 'no requests'}{', busy' if self.busy else ''}>"

    @classmethod
    @contextmanager
    def in_thread(cls, **options: Unpack[SimulatorOptions]) -> Iterator[Simulator]:
        """A plain context manager that runs a simulator in a thread with a loop of its own.

        What it counts and stores may be read from the caller's thread, and faults, campaigns and numbers set there;
        ``settle`` and ``wait_for`` work from the caller's loop too.
        """
        simulator = cls(**options)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(simulator.start(), loop).result()
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _clock(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _figures(self, endpoint: str) -> EndpointFigures:
        return self._server.figures.get(endpoint) or EndpointFigures()


async def serve(simulator: Simulator) -> None:
    """Run a simulator until the caller is cancelled; starts it if it is not running."""
    if not simulator.base_url:
        await simulator.start()
    try:
        await asyncio.Event().wait()
    finally:
        await simulator.close()
