"""The simulated account and one request to it: what every endpoint's handler works on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from msgspec import Struct

from ..faults import Fault
from ..log import LoggedRequest
from ..settings import Settings
from .answers import Answer
from .files import Files
from .state import Campaign, DoNotDisturb, StoredLead, TokenIssuer

if TYPE_CHECKING:
    from .jobs import Job

__all__ = ["Account", "Check", "ReceivedRequest", "first_refusal"]

_ACTIONS = {"start": True, "stop": False}


class ReceivedRequest(Struct):
    """One request on its way through the checks, which fill in what they find.

    Attributes:
        record: its entry in the log.
        headers: its headers.
        params: its decoded parameters; None when a JSON body was no JSON object.
        callback_fault: the fault of the callback it leads to.
        campaign: the campaign it is about, once known.
        lead: the lead it is about, once known.
        job: the job that it leads to.
    """

    record: LoggedRequest
    headers: Mapping[str, str]
    params: Mapping[str, object] | None
    callback_fault: Fault | None = None
    campaign: Campaign | None = None
    lead: StoredLead | None = None
    job: Job | None = None

    def get(self, *names: str) -> object:
        """The first of these parameters that is there, else None."""
        params = self.params or {}
        for name in names:
            if name in params:
                return params[name]
        return None


Check = Callable[["Account", ReceivedRequest], Answer | None]


def first_refusal(checks: Sequence[Check], account: Account, request: ReceivedRequest) -> Answer | None:
    """The answer of the first check that has one."""
    for check in checks:
        found = check(account, request)
        if found is not None:
            return found
    return None


class Account:
    """Everything the service knows about its one customer."""

    def __init__(self, settings: Settings, clock: Callable[[], float], random: Random) -> None:
        self.settings = settings
        self.random = random
        self.clock = clock
        self.timezone: ZoneInfo = ZoneInfo(settings.timezone)
        self.campaigns: dict[str, Campaign] = {}
        self.dnd: DoNotDisturb = DoNotDisturb()
        self.tokens: TokenIssuer = TokenIssuer(settings.token_life, settings.replaced_token_message, clock)
        self.files: Files = Files(settings.failed_link_life, clock)
        self._transactions = 0

    def now(self) -> datetime:
        """The platform's time, without its zone."""
        return datetime.now(self.timezone).replace(tzinfo=None)

    def stamp(self) -> str:
        """The platform's time as its own text."""
        return self.now().strftime("%Y-%m-%d %H:%M:%S")

    def transaction_id(self) -> str:
        """24 or 25 digits around the time in milliseconds, as in the samples of Bulk V4."""
        self._transactions += 1
        prefix = "".join(str(self.random.randint(1, 9)) for _ in range(self.random.randint(0, 5)))
        length = 24 + self._transactions % 2
        moment = str(int(time.time() * 1000))
        return f"{prefix}{moment}{self._transactions:0{length - len(prefix) - len(moment)}d}"

    def act(self, campaign: Campaign, action: str) -> bool | None:
        """Start or stop the campaign; True, False, or None when the word means neither."""
        wanted = _ACTIONS.get(action.strip().lower())
        if wanted is not None:
            campaign.running = wanted
        return wanted
