from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.config import RetryPolicy
from ozonetel_async.errors import (
    AuthenticationError,
    AuthModeError,
    CampaignError,
    ConfigurationError,
    ConnectError,
    InvalidLeadError,
    LeadRejectedError,
    OutcomeUnknownError,
    OzonetelError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitedError,
    RequestRejectedError,
)
from ozonetel_async.sending.retry import retry_after_seconds, wait_before_retry

POLICY = RetryPolicy(connect_attempts=4, rate_attempts=3, backoff=0.5, max_backoff=3.0, max_retry_after=120.0)
NEVER: list[OzonetelError] = [
    OzonetelError("x"),
    AuthenticationError("x"),
    AuthModeError("x"),
    CampaignError("x"),
    ConfigurationError("x"),
    InvalidLeadError("name", "x"),
    LeadRejectedError("name", "x"),
    OutcomeUnknownError("x"),
    QueueFullError("x"),
    QueueTimeoutError("x"),
    RequestRejectedError("x"),
]


@pytest.mark.parametrize("failure", NEVER, ids=lambda failure: type(failure).__name__)
def test_nothing_else_is_ever_tried_again(failure: OzonetelError) -> None:
    assert wait_before_retry(POLICY, failure, 1, 0.0) is None


def test_connecting_backs_off_twofold_up_to_the_ceiling_and_gives_up() -> None:
    failure = ConnectError("x")
    waits = [wait_before_retry(POLICY, failure, attempt, 0.0) for attempt in range(1, 6)]
    assert waits == [0.25, 0.5, 1.0, None, None]
    patient = RetryPolicy(connect_attempts=10_000, backoff=0.5, max_backoff=3.0)
    assert [wait_before_retry(patient, failure, attempt, 0.0) for attempt in (3, 4, 5, 70, 9_999)] == [
        *(1.0, 1.5, 1.5, 1.5, 1.5)
    ]
    assert wait_before_retry(patient, failure, 10_000, 0.0) is None


@given(attempt=st.integers(1, 3), jitter=st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_over_the_upper_half(attempt: int, jitter: float) -> None:
    ceiling = 0.5 * 2 ** (attempt - 1)
    wait = wait_before_retry(POLICY, ConnectError("x"), attempt, jitter)
    assert wait is not None
    assert ceiling / 2 <= wait <= ceiling
    assert wait == pytest.approx(ceiling / 2 * (1 + jitter))


def test_without_backoff_there_is_no_wait_but_still_an_end() -> None:
    policy = RetryPolicy(connect_attempts=2, backoff=0)
    assert wait_before_retry(policy, ConnectError("x"), 1, 0.9) == 0
    assert wait_before_retry(policy, ConnectError("x"), 2, 0.9) is None
    assert wait_before_retry(RetryPolicy(connect_attempts=1), ConnectError("x"), 1, 0.0) is None


def test_a_refusal_for_the_rate_goes_back_to_the_queue_at_once() -> None:
    waits = [wait_before_retry(POLICY, RateLimitedError("x"), attempt, 0.9) for attempt in range(1, 5)]
    assert waits == [0.0, 0.0, None, None]


@pytest.mark.parametrize(
    ("asked", "wait"), [(None, 0.0), (0.0, 0.0), (60.0, 0.0), (120.0, 0.0), (120.001, None), (math.inf, None)]
)
def test_a_refusal_that_asks_for_too_long_ends_the_call(asked: float | None, wait: float | None) -> None:
    assert wait_before_retry(POLICY, RateLimitedError("x", retry_after=asked), 1, 0.0) == wait


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("+30", 30.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("99999999999", 99999999999.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60.0),
        ("Sun Mar  1 12:01:00 2026", 60.0),
        ("Sun, 01 Mar 2026 17:30:30 +0530", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, None, NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [None, "", " ", "soon", "nan", "NaN", "inf", "-inf", "Infinity", "1e3", "1_000", "0x10", "٣٠", "30s", "1,5", "5 6",
     "9" * 400, "Sun, 99 Mar 2026 12:00:00 GMT", "Sun, 01 Mar 99999 12:00:00 GMT", "Sun, 01 Mar", "\0", ","],
)  # fmt: skip
def test_retry_after_that_says_nothing(header: str | None) -> None:
    assert retry_after_seconds(header, None, NOW) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{2,5} [0-9:]{3,9} [+-]?[A-Z0-9]{3,9}"))
def test_any_header_is_read_without_an_exception(header: str) -> None:
    seconds = retry_after_seconds(header, None, NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(st.integers(-(10**8), 10**8))
def test_dates_and_seconds_agree(delay: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=delay), usegmt=True)
    assert retry_after_seconds(date, None, NOW) == retry_after_seconds(str(delay), None, NOW) == max(0, delay)


def test_a_date_is_relative_to_the_date_of_the_answer_whatever_the_clock_here_shows() -> None:
    asked = "Sun, 01 Mar 2026 12:03:05 GMT"
    assert retry_after_seconds(asked, "Sun, 01 Mar 2026 12:03:00 GMT", NOW) == 5.0
    assert retry_after_seconds("7", "Sun, 01 Mar 2026 12:03:00 GMT", NOW) == 7.0
    assert retry_after_seconds(asked, "yesterday", NOW) == retry_after_seconds(asked, None, NOW) == 185.0
