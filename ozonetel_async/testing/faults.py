"""Scripted faults: what a network, a proxy or the service itself may do to a request or to a callback."""

from __future__ import annotations

from random import Random
from typing import Literal, get_args

from msgspec import Struct

__all__ = ["CALLBACK_KINDS", "Fault", "FaultKind", "FaultPlan", "FaultRule"]

FaultKind = Literal[
    "reset",
    "stall",
    "status",
    "html",
    "empty",
    "truncated",
    "slow",
    "rate_refusal",
    "prefix",
    "bom",
    "content_type",
    "redirect",
    "oversized",
    "duplicate_callback",
    "lost_callback",
    "early_callback",
    "late_callback",
    "hostile_callback",
]

CALLBACK_KINDS = frozenset(kind for kind in get_args(FaultKind) if kind.endswith("_callback"))

_HTML = "<html><head><title>Error</title></head><body><h1>We'll be back soon</h1></body></html>"


class Fault(Struct, frozen=True, kw_only=True):
    """One kind of fault; make it with a constructor below, script it with ``Simulator.inject``.

    A fault of the answer either applies the request (the row is stored, the batch queued) or does not; constructors
    that leave the choice take ``apply``, by default True. A fault of the callback works
    on the V4 job or dial-status export that its request starts, and may be combined with a fault of the answer.

    Attributes:
        name: what ``LoggedRequest.fault`` shows.
        kind: the behaviour.
        apply: whether the service applies the request.
        code: HTTP status of the answer, or 0 to keep the service's own.
        body: text of the answer or of the callback.
        content_type: Content-Type of the answer or of the callback.
        headers: further headers of the answer.
        seconds: pause per chunk, or delay of a callback.
        amount: chunks, copies or bytes, as the kind needs.
        flavour: ``"length"`` or ``"json"`` for a truncated answer.
    """

    name: str
    kind: FaultKind
    apply: bool = True
    code: int = 0
    body: str = ""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    amount: int = 0
    flavour: Literal["", "length", "json"] = ""

    @property
    def of_callback(self) -> bool:
        """Whether the fault is one of the callback rather than of the answer."""
        return self.kind in CALLBACK_KINDS

    @property
    def refuses(self) -> bool:
        """Whether the fault is a refusal for the rate."""
        return self.kind == "rate_refusal" or self.code == 429

    @classmethod
    def reset_before_apply(cls) -> Fault:
        """The connection is reset (RST) and nothing was applied."""
        return cls(name="reset_before_apply", kind="reset", apply=False)

    @classmethod
    def reset_after_apply(cls) -> Fault:
        """The request is applied, then the connection is reset (RST)."""
        return cls(name="reset_after_apply", kind="reset")

    @classmethod
    def stall_before_apply(cls) -> Fault:
        """No answer until the client goes or the simulator closes; nothing is applied."""
        return cls(name="stall_before_apply", kind="stall", apply=False)

    @classmethod
    def stall_after_apply(cls) -> Fault:
        """The request is applied, then no answer until the client goes or the simulator closes."""
        return cls(name="stall_after_apply", kind="stall")

    @classmethod
    def status(
        cls,
        code: int,
        *,
        apply: bool = True,
        body: str = _HTML,
        content_type: str = "text/html; charset=UTF-8",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Fault:
        """An answer with this HTTP status and body."""
        return cls(
            name=f"status_{code}",
            kind="status",
            apply=apply,
            code=code,
            body=body,
            content_type=content_type,
            headers=headers,
        )

    @classmethod
    def html(cls, apply: bool = True) -> Fault:
        """A web page under HTTP 200."""
        return cls(name="html", kind="html", apply=apply, body=_HTML, content_type="text/html; charset=UTF-8")

    @classmethod
    def empty(cls, apply: bool = True) -> Fault:
        """HTTP 200 without a body."""
        return cls(name="empty", kind="empty", apply=apply)

    @classmethod
    def truncated(cls, apply: bool = True, flavour: Literal["length", "json"] = "length") -> Fault:
        """An answer that breaks off.

        With ``"length"`` it announces more bytes than come before the connection closes; with ``"json"`` it is complete
        for HTTP but holds half a JSON text.
        """
        return cls(name=f"truncated_{flavour}", kind="truncated", apply=apply, flavour=flavour)

    @classmethod
    def slow(cls, seconds_per_chunk: float, apply: bool = True, chunks: int = 8) -> Fault:
        """The service's own answer in ``chunks`` pieces with a pause before each."""
        return cls(name="slow", kind="slow", apply=apply, seconds=seconds_per_chunk, amount=chunks)

    @classmethod
    def rate_refusal(cls) -> Fault:
        """The endpoint's own words for "too many requests"; not applied, logged as refused."""
        return cls(name="rate_refusal", kind="rate_refusal", apply=False)

    @classmethod
    def http_429(cls, retry_after: str | None = None) -> Fault:
        """HTTP 429, with a ``Retry-After`` of this text if given; not applied, logged as refused."""
        headers = () if retry_after is None else (("Retry-After", retry_after),)
        return cls(
            name="http_429",
            kind="status",
            apply=False,
            code=429,
            body='{"message":"Too Many Requests"}',
            content_type="application/json",
            headers=headers,
        )

    @classmethod
    def prefix(cls, text: str = "\nWarning: Undefined index: skill in /var/www/html/api.php on line 52\n") -> Fault:
        """Text, such as a PHP warning, before the service's own answer."""
        return cls(name="prefix", kind="prefix", body=text)

    @classmethod
    def bom(cls) -> Fault:
        """A byte order mark before the service's own answer."""
        return cls(name="bom", kind="bom", body="\ufeff")

    @classmethod
    def wrong_content_type(cls, content_type: str = "application/octet-stream") -> Fault:
        """The service's own answer under another Content-Type."""
        return cls(name="wrong_content_type", kind="content_type", content_type=content_type)

    @classmethod
    def redirect(cls, location: str, code: int = 302, apply: bool = False) -> Fault:
        """A redirection to ``location``."""
        return cls(name="redirect", kind="redirect", apply=apply, code=code, headers=(("Location", location),))

    @classmethod
    def oversized(cls, size: int, apply: bool = True) -> Fault:
        """The service's own answer followed by blanks up to ``size`` bytes, chunked, so that no header announces it."""
        return cls(name="oversized", kind="oversized", apply=apply, amount=size)

    @classmethod
    def duplicate_callback(cls, copies: int = 2) -> Fault:
        """The callback comes ``copies`` times."""
        return cls(name="duplicate_callback", kind="duplicate_callback", amount=copies)

    @classmethod
    def lost_callback(cls) -> Fault:
        """The callback never comes."""
        return cls(name="lost_callback", kind="lost_callback")

    @classmethod
    def early_callback(cls) -> Fault:
        """The job is done, and the callback delivered, before the request is answered."""
        return cls(name="early_callback", kind="early_callback")

    @classmethod
    def late_callback(cls, seconds: float) -> Fault:
        """The callback comes ``seconds`` later than it would."""
        return cls(name="late_callback", kind="late_callback", seconds=seconds)

    @classmethod
    def hostile_callback(cls, body: str | bytes, content_type: str = "application/json") -> Fault:
        """Another body in place of the callback's."""
        if isinstance(body, bytes):
            body = body.decode("utf-8", "surrogateescape")
        return cls(name="hostile_callback", kind="hostile_callback", body=body, content_type=content_type)


class FaultRule(Struct, kw_only=True):
    """A fault with its schedule; ``used`` tells how often it happened.

    Attributes:
        endpoint: short name, or ``"*"`` for every documented endpoint.
        fault: what happens.
        times: how often, or None for ever.
        after: how many matching requests, counted from the injection, pass first.
        probability: chance that it happens to a request, or None for certainty.
    """

    endpoint: str
    fault: Fault
    times: int | None = 1
    after: int = 0
    probability: float | None = None
    used: int = 0

    def applies(self, random: Random, taken: bool) -> bool:
        """Count one matching request; whether the fault applies to it, unless another one has ``taken`` it."""
        if self.after > 0:
            self.after -= 1
            return False
        if taken or (self.times is not None and self.used >= self.times):
            return False
        if self.probability is not None and random.random() >= self.probability:
            return False
        self.used += 1
        return True


class FaultPlan:
    """The rules in the order of their injection.

    A request gets at most one fault of the answer and one of the callback, each from the first rule that is ready.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        """Append a rule."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Drop every rule."""
        self._rules.clear()

    def take(self, endpoint: str, documented: bool) -> tuple[Fault | None, Fault | None]:
        """The faults of the answer and of the callback that apply to the next request of this endpoint."""
        if not self._rules:
            return None, None
        found: dict[bool, Fault] = {}
        for rule in self._rules:
            if rule.endpoint == endpoint or (documented and rule.endpoint == "*"):
                of_callback = rule.fault.of_callback
                if rule.applies(self._random, of_callback in found):
                    found[of_callback] = rule.fault
        self._rules = [rule for rule in self._rules if rule.times is None or rule.used < rule.times]
        return found.get(False), found.get(True)
