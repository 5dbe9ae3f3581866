"""The simulator's rate windows are exact judges."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.testing import RateWindow, worst_window
from ozonetel_async.testing.window import WindowKind

KINDS: tuple[WindowKind, ...] = ("sliding", "calendar", "first_request", "token_bucket")

# Quarters of a second are exact in binary, so that arrivals on an edge are really on it.
gaps = st.lists(st.integers(0, 20).map(lambda quarter: quarter / 4), max_size=60)


def run(window: RateWindow, times: list[float]) -> list[bool]:
    answers = []
    for now in times:
        answers.append(window.admits(now))
        if answers[-1]:
            window.count(now)
    return answers


def moments(steps: list[float]) -> list[float]:
    times, now = [], 100.0
    for step in steps:
        now += step
        times.append(now)
    return times


@given(gaps, st.integers(1, 6), st.integers(1, 10))
def test_sliding_admits_exactly_what_leaves_every_window_within_the_limit(
    steps: list[float], requests: int, per: int
) -> None:
    times = moments(steps)
    admitted: list[float] = []
    answers = run(RateWindow(requests, per), times)
    for now, answer in zip(times, answers, strict=True):
        recent = [then for then in admitted if then > now - per]
        assert answer == (len(recent) < requests)
        if answer:
            admitted.append(now)


@given(gaps, st.integers(1, 6), st.integers(1, 10))
def test_calendar_admits_the_limit_per_aligned_window(steps: list[float], requests: int, per: int) -> None:
    used: dict[int, int] = {}
    times = moments(steps)
    for now, answer in zip(times, run(RateWindow(requests, per, "calendar"), times), strict=True):
        number = floor(now / per)
        assert answer == (used.get(number, 0) < requests)
        used[number] = used.get(number, 0) + answer


@given(gaps, st.integers(1, 6), st.integers(1, 10))
def test_a_window_from_the_first_request_ends_a_period_after_it(steps: list[float], requests: int, per: int) -> None:
    times = moments(steps)
    start, used = float("-inf"), 0
    for now, answer in zip(times, run(RateWindow(requests, per, "first_request"), times), strict=True):
        if now - start >= per:
            start, used = now, 0
        assert answer == (used < requests)
        used += answer


@given(gaps, st.integers(1, 6))
def test_a_token_bucket_is_as_full_as_arithmetic_says(steps: list[float], requests: int) -> None:
    times = moments(steps)
    level, filled = Fraction(requests), Fraction(times[0] if times else 0)
    for now, answer in zip(times, run(RateWindow(requests, 4.0, "token_bucket"), times), strict=True):
        level = min(Fraction(requests), level + (Fraction(now) - filled) * requests / 4)
        filled = Fraction(now)
        assert answer == (level >= 1)
        level -= answer


def test_a_token_bucket_gives_its_burst_and_then_its_rate() -> None:
    times = [quarter / 4 for quarter in range(4 * 600 + 1)]
    assert sum(run(RateWindow(5, 60.0, "token_bucket"), times)) == 5 + 50


def test_an_edge_belongs_to_the_next_window() -> None:
    window = RateWindow(2, 1.0)
    assert run(window, [0.0, 0.5, 0.999, 1.0, 1.25, 1.5]) == [True, True, False, True, False, True]


def test_first_full_window_of_a_token_bucket_exceeds_the_limit() -> None:
    # That is what makes it another kind: burst and refill together reach 2N - 1.
    times = [0.0] * 5 + [12.0, 24.0, 36.0, 48.0]
    assert run(RateWindow(5, 60.0, "token_bucket"), times) == [True] * 9


@pytest.mark.parametrize("kind", KINDS)
def test_counted_refusals_prolong_the_wait(kind: WindowKind) -> None:
    window = RateWindow(1, 10.0, kind)
    for now in (20.0, 25.0):
        window.count(now)
    assert not window.admits(29.0)
    assert window.admits(31.0) == (kind in ("calendar", "first_request"))


@given(gaps, st.integers(1, 10))
def test_worst_window_is_the_brute_force_maximum(steps: list[float], per: int) -> None:
    times = moments(steps)
    brute = max((sum(start <= t < start + per for t in times) for start in times), default=0)
    assert worst_window(times, per) == brute


@pytest.mark.parametrize(("requests", "per", "kind"), [(0, 1.0, "sliding"), (1, 0.0, "sliding")])
def test_windows_out_of_range_are_refused(requests: int, per: float, kind: WindowKind) -> None:
    with pytest.raises(ValueError, match="expected at least 1 request"):
        RateWindow(requests, per, kind)
