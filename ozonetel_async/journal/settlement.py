"""Whose callback it is, and what it settles: tokens in callback URLs, and one small state machine per batch.

The service signs nothing and documents neither repeats nor an order (Bulk V4, "Callback Url response"). So the only
proof of a sender is an unguessable token in the callback URL, and a callback may come before the answer to its
request, twice, out of order, late or never. Use one token per batch: it then also settles a batch whose answer was
lost, which a token shared by an upload cannot.

Everything here is a pure function; the journal stores what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Final, Literal, TypeAlias

from msgspec import Struct, json
from msgspec.structs import replace

from ..callbacks.results import JobResult, SecretUrl

__all__ = [
    "AnswerLost",
    "Answered",
    "Called",
    "Resent",
    "Settlement",
    "SettlementEvent",
    "TimedOut",
    "dump",
    "load",
    "settle",
]


# --- settlement ----------------------------------------------------------------------------------------------------


class Answered(Struct, frozen=True):
    """The service answered the request with this transaction id."""

    transaction_id: str


class AnswerLost(Struct, frozen=True):
    """The request ended without a trustworthy answer and will get none: its id is not known, the token must do."""


class Called(Struct, frozen=True):
    """A callback came that bears the batch's token, or a token of its upload and the batch's transaction id."""

    result: JobResult


class Resent(Struct, frozen=True):
    """The batch goes out again although it may have arrived before: jobs of more than one id may be its own."""


class TimedOut(Struct, frozen=True):
    """Waiting for the callback is over."""


SettlementEvent: TypeAlias = Answered | AnswerLost | Called | Resent | TimedOut
Phase: TypeAlias = Literal["sent", "answered", "unanswered", "settled"]
_HELD_LIMIT: Final = 32


class Settlement(Struct, frozen=True, kw_only=True):
    """Where one batch stands between its sending and the service's last word on it. Made by ``settle`` alone.

    Attributes:
        phase: ``"sent"`` (no answer yet), ``"answered"`` (id known), ``"unanswered"`` (id never to be known) or
            ``"settled"``, which is final.
        transaction_id: the batch's id once it is known.
        result: the callback that settled it; None until then.
        held: callbacks that came before the answer, oldest first; they count for nothing until it is known whose they
            are. With ``resent``, also those of another sending than the one that was answered.
        resent: it was sent more than once, with checkDuplicate. The sending that came first added the rows, and those
            after it found duplicates: so of several ids' results the one that added most rows is the batch's.
        overdue: the wait is over and no callback had settled it by then. A late one still settles the batch, once.
        repeats: callbacks after the first that said the same; ignored.
        conflicts: callbacks, or answers, that contradict the first or bear another id; ignored.
    """

    phase: Phase = "sent"
    transaction_id: str | None = None
    result: JobResult | None = None
    held: tuple[JobResult, ...] = ()
    resent: bool = False
    overdue: bool = False
    repeats: int = 0
    conflicts: int = 0

    @property
    def lost(self) -> bool:
        """Whether the wait ended without a result."""
        return self.overdue and self.result is None


def settle(state: Settlement, event: SettlementEvent) -> Settlement:
    """What becomes of a batch when something happens; never raises, and never changes a result but a resent batch's.

    Whatever the order in which an answer (or its loss), callbacks and a timeout come, the result is the same: of the
    callbacks that bear the batch's id the one that came first, or the first of all when the answer was lost; of a
    resent batch's, whatever their ids, the one that added most rows. The batch has just been settled when ``result``
    was None before and is not None after.
    """
    return _TABLE[state.phase, type(event)](state, event)


_Step: TypeAlias = Callable[[Settlement, SettlementEvent], Settlement]


def _keep(state: Settlement, event: SettlementEvent) -> Settlement:
    return state


def _replay(state: Settlement) -> Settlement:
    return reduce(settle, map(Called, state.held), replace(state, held=()))


def _learn_id(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Answered)
    return _replay(replace(state, phase="answered", transaction_id=event.transaction_id))


def _lose_id(state: Settlement, event: SettlementEvent) -> Settlement:
    return _replay(replace(state, phase="unanswered"))


def _compare_id(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Answered)
    return state if event.transaction_id == state.transaction_id else _conflict(state)


def _hold(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Called)
    if len(state.held) >= _HELD_LIMIT:
        return _conflict(state)
    return replace(state, held=(*state.held, event.result))


def _match(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Called)
    if event.result.transaction_id == state.transaction_id:
        return _accept(state, event)
    return _hold(state, event) if state.resent else _conflict(state)


def _accept(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Called)
    transaction_id = state.transaction_id or event.result.transaction_id
    return _replay(replace(state, phase="settled", result=event.result, transaction_id=transaction_id))


def _repeat(state: Settlement, event: SettlementEvent) -> Settlement:
    assert isinstance(event, Called)
    assert state.result is not None
    if _said(event.result) == _said(state.result):
        return replace(state, repeats=state.repeats + 1)
    if state.resent and event.result.transaction_id != state.result.transaction_id:
        return replace(state, result=max(state.result, event.result, key=_added))
    return _conflict(state)


def _added(result: JobResult) -> int:
    return result.processed or 0


def _conflict(state: Settlement) -> Settlement:
    return replace(state, conflicts=state.conflicts + 1)


def _overdue(state: Settlement, event: SettlementEvent) -> Settlement:
    return replace(state, overdue=True)


def _settle_or_overdue(state: Settlement, event: SettlementEvent) -> Settlement:
    state = _overdue(state, event)
    # Of a resent batch only; the callback of another sending is better than none.
    return _accept(replace(state, held=state.held[1:]), Called(state.held[0])) if state.held else state


def _note_resent(state: Settlement, event: SettlementEvent) -> Settlement:
    return replace(state, resent=True)


def _said(result: JobResult) -> tuple[object, ...]:
    # A repeat may bear a freshly signed link and other times; it contradicts only when the outcome differs.
    return result.transaction_id, result.succeeded, result.total, result.processed, result.not_processed


_TABLE: dict[tuple[Phase, type[SettlementEvent]], _Step] = {
    ("sent", Answered): _learn_id,
    ("sent", AnswerLost): _lose_id,
    ("sent", Called): _hold,
    ("sent", Resent): _note_resent,
    ("sent", TimedOut): _overdue,
    ("answered", Answered): _compare_id,
    ("answered", AnswerLost): _keep,
    ("answered", Called): _match,
    ("answered", Resent): _note_resent,
    ("answered", TimedOut): _settle_or_overdue,
    ("unanswered", Answered): _learn_id,
    ("unanswered", AnswerLost): _keep,
    ("unanswered", Called): _accept,
    ("unanswered", Resent): _note_resent,
    ("unanswered", TimedOut): _overdue,
    ("settled", Answered): _compare_id,
    ("settled", AnswerLost): _keep,
    ("settled", Called): _repeat,
    ("settled", Resent): _note_resent,
    ("settled", TimedOut): _keep,
}


# --- as a journal keeps it ------------------------------------------------------------------------------------------


def dump(state: Settlement) -> str:
    """A settlement as JSON, links included."""
    return json.encode(state, enc_hook=_reveal).decode()


def load(stored: str | None) -> Settlement:
    """The settlement that ``dump`` made the text of; a new one from None.

    Raises:
        msgspec.MsgspecError: it is damaged.
    """
    return Settlement() if stored is None else json.decode(stored, type=Settlement, dec_hook=_secret_again)


def _reveal(value: object) -> str:
    assert isinstance(value, SecretUrl)
    return value.reveal()


def _secret_again(kind: type, value: object) -> object:
    assert kind is SecretUrl
    return SecretUrl(str(value))
