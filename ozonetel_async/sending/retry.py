"""When to try again: a pure decision over what failed and how often.

How long a queue waits after a refusal for the rate is decided in ``pace.py``.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..config import RetryPolicy
from ..errors import CertificateError, ConnectError, OzonetelError, RateLimitedError

__all__ = ["retry_after_seconds", "wait_before_retry"]


def wait_before_retry(policy: RetryPolicy, failure: OzonetelError, attempt: int, jitter: float) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Only what is known not to have been applied is tried again: a request that never left, unless the certificate is not
    trusted, and one refused for its rate. The wait after the latter is the queue's business (it
    pauses for everybody), hence 0.

    Args:
        failure: what the last attempt ended with.
        attempt: how many attempts have ended in this kind of failure, from 1.
        jitter: a random number in [0, 1), which spreads clients that failed together.
    """
    if isinstance(failure, CertificateError):
        return None
    if isinstance(failure, ConnectError) and attempt < policy.connect_attempts:
        ceiling = min(policy.max_backoff, policy.backoff * 2.0 ** min(attempt - 1, 60))
        return ceiling * (0.5 + jitter / 2)
    if isinstance(failure, RateLimitedError) and attempt < policy.rate_attempts:
        asked = failure.retry_after
        return 0.0 if asked is None or asked <= policy.max_retry_after else None
    return None


# Not whatever float() takes, which includes "nan", "1_000" and digits of other scripts. Fractions and signs are no
# delay-seconds by the RFC; gateways send them all the same.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?").fullmatch


def retry_after_seconds(header: str | None, date: str | None, now: datetime) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, 10.2.3): seconds or an HTTP date.

    Args:
        header: the header's value.
        date: the ``Date`` header of the same answer: what a date is relative to, whatever the clock here shows.
        now: what it is relative to where there is no ``Date`` that can be read.

    Returns:
        Seconds to wait; None for a missing or unreadable value, 0 for a date in the past.
    """
    if header is None:
        return None
    text = header.strip()
    if _NUMBER(text):
        seconds = float(text)
    else:
        moment = _http_date(text)
        if moment is None:
            return None
        seconds = (moment - (_http_date(date or "") or now)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
