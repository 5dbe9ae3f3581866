"""What the simulated account holds: campaigns with their leads, numbers that must not be called, tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct, field

__all__ = ["Campaign", "DoNotDisturb", "Routing", "StoredLead", "TokenIssuer", "bare"]

Routing = Literal["skill", "agent"]

# Columns that every mapping has (Bulk V4, sample of bulkData; Schedule Campaign Data, note on AgentID).
BASE_COLUMNS = ("PhoneNumber", "Name", "Priority", "ExpiryDate", "AgentId", "AgentID", "skill", "ScheduledTime")


def bare(phone: str) -> str:
    """The number without its plus, by which numbers are compared."""
    return phone.lstrip("+")


class StoredLead(Struct):
    """A lead in a campaign, as the service took it.

    Attributes:
        phone: as it was sent, like the name, expiry, agent_id and skill.
        name: None when there is none, like expiry, agent_id and skill.
        priority: as it was sent; 1 is the default.
        expiry: last moment of the lead.
        agent_id: the agent.
        skill: the skill.
        extra: cells of the further mapped columns.
        scheduled_for: when a scheduled lead is to be dialled, else None.
        via: short name of the endpoint it came through.
        transaction_id: of the V4 job it came with, else None.
        status: what a dial-status export tells, like the fields below; tests may set them.
        dial_status: how the last call ended.
        disposition: what the agent noted.
        created: when the lead was stored.
        updated: when it was last changed.
    """

    phone: str
    name: str | None = None
    priority: int = 1
    expiry: str | None = None
    agent_id: str | None = None
    skill: str | None = None
    extra: dict[str, object] = field(default_factory=dict)
    scheduled_for: str | None = None
    via: str = ""
    transaction_id: str | None = None
    status: str = "Pending"
    dial_status: str = ""
    disposition: str = ""
    created: str = ""
    updated: str = ""


class Campaign:
    """A campaign: its settings, its leads and their numbers.

    Args:
        name: how requests name it.
        kind: dialling mode, such as ``"Progressive"`` or ``"IVR"``; stands in the messages.
        routing: None, ``"skill"`` or ``"agent"``: what every lead must name.
        direction: ``"outbound"``, or ``"inbound"`` for one that takes no leads.
        columns: mapped columns besides PhoneNumber, Name, Priority, ExpiryDate, AgentId, AgentID, skill, ScheduledTime.
        running: whether it dials.
        agents: the agents it knows.
        skills: the skills it knows.
        keep_leads: whether leads are kept, and not only counted.

    Attributes:
        leads: the stored leads in the order of their arrival; empty when the simulator only counts.
        numbers: how many leads each number has; the keys are without a leading plus.
        stored: how many leads were stored.
    """

    def __init__(
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
        keep_leads: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.routing = routing
        self.direction = direction
        self.mapping: frozenset[str] = frozenset((*BASE_COLUMNS, *columns))
        self.running = running
        self.agents: frozenset[str] = frozenset(agents)
        self.skills: frozenset[str] = frozenset(skills)
        self.leads: list[StoredLead] = []
        self.numbers: Counter[str] = Counter()
        self.stored: int = 0
        self._skills_of: dict[str, set[str | None]] = {}
        self._keep = keep_leads

    def holds(self, phone: str) -> bool:
        """Whether the campaign has a lead with this number."""
        return self.numbers[bare(phone)] > 0

    def holds_for_other_skill(self, phone: str, skill: str | None) -> bool:
        """Whether the campaign has this number, and only for skills other than this one."""
        known = self._skills_of.get(bare(phone))
        return bool(known) and skill not in (known or ())

    def store(self, lead: StoredLead) -> None:
        """Take a lead in."""
        self.stored += 1
        if not self._keep:
            return
        key = bare(lead.phone)
        self.leads.append(lead)
        self.numbers[key] += 1
        if self.routing == "skill":
            self._skills_of.setdefault(key, set()).add(lead.skill)

    def __repr__(self) -> str:
        return f"Campaign({self.name!r}, kind={self.kind!r}, stored={self.stored}, running={self.running})"


class DoNotDisturb(set[str]):
    """Numbers that must not be called; with or without a leading plus is the same number."""

    def __contains__(self, phone: object) -> bool:
        if not len(self) or not isinstance(phone, str):
            return False
        digits = bare(phone)
        return super().__contains__(digits) or super().__contains__("+" + digits)


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenIssuer:
    """Bearer tokens as Generate Token gives them out: HS512 JWTs with ``sub``, ``exp`` and ``iat``.

    Only the newest one works, for ``life`` seconds.

    Args:
        life: seconds.
        replaced_message: what a replaced token is told.
        clock: the loop's clock, which decides on expiry.
    """

    def __init__(self, life: float, replaced_message: str, clock: Callable[[], float]) -> None:
        self.issued: int = 0
        self._life = life
        self._replaced_message = replaced_message
        self._clock = clock
        self._secret = b"simulator-only"
        self._current = ""
        self._expires = 0.0
        self._former: set[str] = set()

    def issue(self, username: str) -> str:
        """A new token; every earlier one ends."""
        if self._current:
            self._former.add(self._current)
        self.issued += 1
        issued_at = int(time.time())
        life = int(self._life) if self._life == int(self._life) else self._life
        # Two tokens of one second would be one text without the number.
        claims = {"sub": username, "exp": issued_at + life, "iat": issued_at, "jti": str(self.issued)}
        parts = ({"alg": "HS512"}, claims)
        signed = ".".join(_segment(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        signature = hmac.new(self._secret, signed.encode(), hashlib.sha512).digest()
        self._current = f"{signed}.{_segment(signature)}"
        self._expires = self._clock() + self._life
        return self._current

    def expire(self) -> None:
        """End the current token now, as if its life were over."""
        self._expires = self._clock()

    def problem(self, token: str) -> str | None:
        """The service's message about this token, or None if it is good."""
        if not token:
            return "Token Should Not be Null or Empty."
        if token in self._former:
            return self._replaced_message
        if token != self._current:
            return "Invalid Token"
        return "Token Expired" if self._clock() >= self._expires else None
