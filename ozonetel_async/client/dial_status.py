"""A dial-status export as one call: the request goes out, and its callback is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from ..callbacks.results import ExportResult, JobResult
from ..callbacks.url_tokens import add_token, new_token
from ..callbacks.waiting import PendingCallback
from ..config import MOST_SECONDS, told
from ..errors import CallbackTimeoutError, ConfigurationError, OutcomeUnknownError
from ..models import ExportReceipt

__all__ = ["Expecting", "dial_status"]


class Expecting(Protocol):
    """What takes callbacks in within this process: a ``CallbackReceiver``."""

    def expect(self, token: str) -> PendingCallback:
        """Begin to keep callbacks that bear ``token``."""
        ...


async def dial_status(
    send: Callable[[str], Awaitable[ExportReceipt]],
    *,
    receiver: Expecting,
    callback_url: str,
    timeout: float = 600.0,  # noqa: ASYNC109 - the caller's patience, which begins with the answer
) -> ExportResult:
    """Send a request for an export and wait for its callback (page "Campaign Dial Status").

    A callback that comes before the answer is kept until the answer tells its id; one that bears another id is not
    ours and is passed over. When the answer is lost, the callback may still come and is waited for all the same.

    Args:
        send: sends the request with the callback URL it is given.
        receiver: mounted under ``callback_url``, in this process.
        callback_url: public URL under which the service reaches the receiver; a secret token is added below it as one
            more path segment.
        timeout: most seconds from the answer to the callback.

    Returns:
        What came; ``succeeded`` tells whether the service could make the export.

    Raises:
        ConfigurationError: an argument is wrong; nothing was sent.
        CallbackTimeoutError: the request was accepted, and no callback came in time.
        OutcomeUnknownError: the answer was lost, and no callback came in time either.
        OzonetelError: whatever ``send`` raises.
    """
    if not (isinstance(timeout, int | float) and 0 < timeout <= MOST_SECONDS):
        raise ConfigurationError(f"timeout: expected more than zero seconds, got {told(timeout)}")
    token = new_token()
    url = add_token(callback_url, token)
    failure: CallbackTimeoutError | OutcomeUnknownError
    with receiver.expect(token) as pending:
        unique_id = ""
        try:
            unique_id = (await send(url)).unique_id
        except OutcomeUnknownError as error:
            failure = error
        else:
            failure = CallbackTimeoutError(
                f"the export was accepted, and no callback came within {timeout:g} s; see that the service can reach "
                "callback_url, or ask again",
                endpoint="dial_status",
            )
        with suppress(TimeoutError):  # told by the failure prepared above
            async with asyncio.timeout(timeout):
                return await _own_result(pending, unique_id)
    raise failure


async def _own_result(pending: PendingCallback, unique_id: str) -> ExportResult:
    while True:
        result = _as_export(await pending.get())
        if not (unique_id and result.unique_id) or result.unique_id == unique_id:
            return result


def _as_export(result: ExportResult | JobResult) -> ExportResult:
    if isinstance(result, ExportResult):
        return result
    # No page shows this callback. With an id named as in bulk uploads it reads as a job's, and is the export's still.
    return ExportResult(
        unique_id=result.transaction_id,
        succeeded=result.succeeded,
        message=result.message,
        link=result.failed_file,
        fields={},
    )
