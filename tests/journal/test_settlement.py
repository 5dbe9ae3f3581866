"""Each batch settles exactly once, whatever the order of events."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ozonetel_async.callbacks.results import JobResult, SecretUrl
from ozonetel_async.journal.settlement import (
    Answered,
    AnswerLost,
    Called,
    Resent,
    Settlement,
    SettlementEvent,
    TimedOut,
    dump,
    load,
    settle,
)

MINE = JobResult("111", True, 6, 2, 4, SecretUrl("https://h/f?sig=1"), "ok")
SIGNED_AGAIN = replace(MINE, failed_file=SecretUrl("https://h/f?sig=2"), message="again")
CONFLICTING = replace(MINE, succeeded=False)
STRANGER = replace(MINE, transaction_id="999")


def run(*events: SettlementEvent) -> Settlement:
    state = Settlement()
    verdicts = 0
    for event in events:
        before, state = state, settle(state, event)
        verdicts += before.result is None and state.result is not None
        assert before.result is None or state.result == before.result, "a verdict never changes"
        assert (state.phase == "settled") == (state.result is not None)
    assert verdicts <= 1
    return state


def test_the_usual_course() -> None:
    state = run(Answered("111"))
    assert (state.phase, state.transaction_id, state.result, state.lost) == ("answered", "111", None, False)
    state = settle(state, Called(MINE))
    assert (state.phase, state.result, state.repeats, state.conflicts) == ("settled", MINE, 0, 0)
    assert settle(state, TimedOut()) == state


def test_an_early_callback_is_held_until_the_answer() -> None:
    early = run(Called(MINE))
    assert (early.phase, early.result, early.held) == ("sent", None, (MINE,))
    assert settle(early, Answered("111")) == run(Answered("111"), Called(MINE))


def test_an_early_stranger_does_not_settle() -> None:
    state = run(Called(STRANGER), Answered("111"))
    assert (state.phase, state.result, state.conflicts) == ("answered", None, 1)


def test_a_doubled_callback_counts_as_repeat_and_another_verdict_as_conflict() -> None:
    state = run(Answered("111"), Called(MINE), Called(SIGNED_AGAIN), Called(CONFLICTING), Called(STRANGER))
    assert (state.result, state.repeats, state.conflicts) == (MINE, 1, 2)


def test_a_lost_callback_ends_in_a_state_of_its_own_and_a_late_one_still_settles() -> None:
    lost = run(Answered("111"), TimedOut())
    assert (lost.phase, lost.lost) == ("answered", True)
    late = settle(lost, Called(MINE))
    assert (late.phase, late.result, late.overdue, late.lost) == ("settled", MINE, True, False)
    assert settle(late, TimedOut()) == late


def test_the_token_settles_a_batch_whose_answer_was_lost() -> None:
    assert run(AnswerLost()).phase == "unanswered"
    for events in (
        (AnswerLost(), Called(MINE)),
        (Called(MINE), AnswerLost()),
        (AnswerLost(), TimedOut(), Called(MINE)),
    ):
        state = run(*events)
        assert (state.phase, state.result, state.transaction_id) == ("settled", MINE, "111")


def test_a_timeout_alone_settles_nothing_that_is_held() -> None:
    state = run(Called(MINE), TimedOut())
    assert (state.result, state.lost) == (None, True)
    assert settle(state, Answered("111")).result == MINE


def test_an_answer_after_all() -> None:
    assert run(AnswerLost(), Answered("111"), Called(STRANGER), Called(MINE)).result == MINE
    assert run(Answered("111"), AnswerLost(), Called(STRANGER), Called(MINE)).result == MINE
    assert run(Answered("111"), Answered("111")) == run(Answered("111"))
    assert run(Answered("111"), Answered("222")).conflicts == 1
    assert run(AnswerLost(), Called(MINE), Answered("222")).conflicts == 1


def test_what_is_held_is_bounded() -> None:
    flood = run(*[Called(STRANGER)] * 1_000)
    assert len(flood.held) == 32
    assert flood.conflicts == 968


EVENT_SETS = [
    (Answered("111"), Called(MINE), Called(SIGNED_AGAIN), TimedOut(), Called(STRANGER)),
    (AnswerLost(), Called(MINE), Called(SIGNED_AGAIN), TimedOut()),
    (Answered("111"), TimedOut(), TimedOut(), Called(STRANGER)),
    (Answered("111"), AnswerLost(), Called(MINE), TimedOut()),
]


def agreed(events: tuple[SettlementEvent, ...]) -> tuple[object, ...]:
    state = run(*events)
    verdict = state.result and (state.result.transaction_id, state.result.succeeded, state.result.not_processed)
    return state.phase, state.transaction_id, verdict, state.repeats + state.conflicts, state.lost


@pytest.mark.parametrize("events", EVENT_SETS[:3])
def test_every_order_gives_the_same_settlement(events: tuple[SettlementEvent, ...]) -> None:
    assert len({agreed(order) for order in permutations(events)}) == 1


def test_every_order_gives_the_same_verdict_when_the_answer_came_after_it_was_given_up() -> None:
    assert {run(*order).result for order in permutations(EVENT_SETS[3])} == {MINE}


# A batch sent three times: the first sending added the rows, its answer was lost; the last was answered "111".
FIRST = JobResult("333", True, 6, 4, 2, SecretUrl("https://h/first"))
SECOND = JobResult("222", True, 6, 0, 6, SecretUrl("https://h/second"))
LAST = JobResult("111", True, 6, 0, 6, SecretUrl("https://h/last"))


def told(*events: SettlementEvent) -> Settlement:
    return reduce(settle, events, Settlement())


@pytest.mark.parametrize("end", [Answered("111"), AnswerLost()])
def test_of_a_resent_batchs_verdicts_the_one_that_added_rows_counts(end: SettlementEvent) -> None:
    for order in permutations((end, Called(FIRST), Called(SECOND), Called(LAST), TimedOut())):
        for place in range(len(order)):
            events = [*order[:place], Resent(), *order[place:]]
            if events.index(end) < place and isinstance(end, Answered):
                continue  # what was answered is not sent again
            if any(isinstance(event, TimedOut | Called) for event in events[:place]):
                continue  # while it is sent, nobody stops waiting; callbacks of the first sending: see below
            state = told(*events)
            assert state.result == FIRST, events
            assert (state.phase, state.held, state.conflicts, state.lost) == ("settled", (), 0, False)


def test_a_callback_of_the_first_sending_may_come_before_the_second() -> None:
    last: tuple[SettlementEvent, ...] = (Answered("111"), Called(LAST))
    for later in permutations(last):
        assert told(Called(FIRST), Resent(), *later).result == FIRST
        assert told(AnswerLost(), Resent(), Called(FIRST), *later).result == FIRST


def test_the_callback_of_another_sending_is_better_than_none() -> None:
    waiting = told(Resent(), Answered("111"), Called(FIRST))
    assert (waiting.phase, waiting.result, waiting.held) == ("answered", None, (FIRST,))
    over = settle(waiting, TimedOut())
    assert (over.phase, over.result, over.lost) == ("settled", FIRST, False)
    assert settle(over, Called(LAST)).result == FIRST


def test_a_settlement_comes_back_from_its_text() -> None:
    for state in (Settlement(), told(Resent(), Called(FIRST), Answered("111"), Called(LAST))):
        assert load(dump(state)) == state
    assert load(None) == Settlement()


callbacks = st.lists(st.sampled_from([MINE, SIGNED_AGAIN, CONFLICTING, STRANGER]), max_size=8)


@settings(max_examples=300)
@given(
    results=callbacks,
    answer=st.sampled_from([Answered("111"), AnswerLost()]),
    place=st.integers(0, 8),
    timeouts=st.lists(st.integers(0, 9), max_size=3),
)
def test_only_the_order_of_the_callbacks_themselves_matters(
    results: list[JobResult], answer: SettlementEvent, place: int, timeouts: list[int]
) -> None:
    events: list[SettlementEvent] = [Called(result) for result in results]
    events.insert(place, answer)
    for moment in timeouts:
        events.insert(moment, TimedOut())
    state = run(*events)
    fitting = [result for result in results if isinstance(answer, AnswerLost) or result.transaction_id == "111"]
    assert state.result == next(iter(fitting), None)
    assert state.repeats + state.conflicts + bool(fitting) == len(results)
    assert state.held == ()
    assert replace(state, overdue=False) == told(answer, *map(Called, results))
    assert state.lost == (not fitting and bool(timeouts))
