"""The client: one method per thing a user can ask of the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from msgspec.structs import replace

from ..config import (
    DEFAULT_TIMEZONE,
    Auth,
    Cleaning,
    ClientConfig,
    Dialect,
    Limits,
    RetryPolicy,
    Timeouts,
    check_proxy,
    chosen_cleaning,
    environment_proxy,
    from_env,
    timezone_named,
)
from ..errors import ConfigurationError
from ..models import BatchReceipt, CellCounts, ExportReceipt, Lead, LeadReceipt, Row, ScheduleReport, UploadReport
from ..protocol.endpoints import EndpointName, QueueName
from ..protocol.params import (
    Action,
    CallStatus,
    DatedBy,
    LeadStatus,
    add_params,
    bulk_params,
    check_campaign,
    dial_status_params,
    schedule_params,
)
from ..protocol.replies import Reply, batch_receipt, export_receipt, lead_receipt
from ..protocol.requests import Params
from ..rows.batches import Chunker, ChunkerMaker, OnInvalid, chunker_maker, raise_invalid
from ..rows.columns import Layout
from ..rows.intake import Rows, RowSource, prepared
from ..rows.rejects import Rejects
from ..sending.dispatcher import ApiRequest, Dispatcher, check_queue_options
from ..sending.shared.store import SharedStore, StoreFigures
from ..sending.transport import Transport
from ..upload.upload import OnUnknown, UploadOptions
from .buffer import BufferOptions, LeadBuffer, OnBufferResult
from .legacy import LegacyClient
from .schedule import OnResult, schedule_rows

if TYPE_CHECKING:
    from ssl import SSLContext

    import aiohttp

    from ..callbacks.results import ExportResult
    from ..downloads.links import LinkPolicy
    from .dial_status import Expecting

__all__ = ["OzonetelClient", "QueueFigures"]

_log = logging.getLogger("ozonetel_async")


class QueueFigures(Protocol):
    """Live figures of one rate-limit queue.

    Attributes:
        waiting: callers in the queue.
        in_flight: requests under way.
        free: requests that could start now.
        next_free_in: seconds until one could start; 0.0 when one could now.
        refused: refusals for the rate so far.
        worst_window: most requests started in any one window so far.
        store: how the queue stands with the store that shares its limit; None without ``shared=``. With it, ``free``
            and ``next_free_in`` are as of the last word from the store.
    """

    @property
    def waiting(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def free(self) -> int: ...
    @property
    def next_free_in(self) -> float: ...
    @property
    def refused(self) -> int: ...
    @property
    def worst_window(self) -> int: ...
    @property
    def store(self) -> StoreFigures | None: ...


class OzonetelClient:
    """Client of one account, for one event loop; share it between all tasks.

    Use it as ``async with OzonetelClient(…) as client``, or call ``close`` yourself. Connections are opened on first
    use.

    Args:
        api_key, username: credentials; default ``OZONETEL_API_KEY`` and ``OZONETEL_USERNAME``.
        auth: ``"basic"`` or ``"token"``, as the account's admin setting "API Authentication" says.
        base_url: host of the add, bulk and schedule endpoints; default ``OZONETEL_BASE_URL``, else the domestic host.
        dialer_url: host of the dial-status endpoint; default ``OZONETEL_DIALER_URL``, else the domestic host.
        timezone: IANA name of the zone in which the service reads dates.
        timeouts, limits, retry, dialect: see ``config``.
        session: an ``aiohttp.ClientSession`` of your own (connection limits, name lookup); it stays open. The
            deprecated GET endpoints do not use it.
        max_wait: most seconds for which a call with one request may wait for its place in the rate limit, unless the
            call says otherwise; None waits as long as it takes. Uploads and schedules always do.
        proxy: URL of an HTTP proxy for requests and downloads, such as ``"http://proxy.example:3128"``, with user name
            and password where it needs them. The environment's ``HTTPS_PROXY`` is not used, and a warning says so.
        ssl: TLS settings for requests and downloads, such as further authorities.
        link_policy: what may be fetched of the links that callbacks bring; default: the documented host, over https.
        clean: what may be repaired in leads, unless a call says otherwise; None changes nothing.
        shared: a ``RedisShared`` or ``PostgresShared`` through which all processes of the account keep one limit and
            use one bearer token; default: the limit is this client's alone.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    def __init__(
        self,
        api_key: str | None = None,
        username: str | None = None,
        *,
        auth: Auth = "basic",
        base_url: str | None = None,
        dialer_url: str | None = None,
        timezone: str = DEFAULT_TIMEZONE,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        dialect: Dialect | None = None,
        session: aiohttp.ClientSession | None = None,
        max_wait: float | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        link_policy: LinkPolicy | None = None,
        clean: Cleaning | None = None,
        shared: SharedStore | None = None,
    ) -> None:
        credentials, base, dialer = from_env(api_key, username, base_url, dialer_url)
        self._config = ClientConfig(
            credentials=credentials,
            auth=auth,
            base_url=base,
            dialer_url=dialer,
            timezone=timezone_named(timezone),
            timeouts=Timeouts() if timeouts is None else timeouts,
            limits=Limits() if limits is None else limits,
            retry=RetryPolicy() if retry is None else retry,
            dialect=Dialect() if dialect is None else dialect,
            clean=clean,
        )
        check_queue_options(0, max_wait)
        self._max_wait = max_wait
        if proxy is not None:
            proxy = check_proxy("proxy", proxy)
        elif session is None and environment_proxy(base) is not None:
            _log.warning("HTTPS_PROXY is set and not used; pass proxy= to send requests through it")
        self._dispatcher = Dispatcher(
            self._config, Transport(self._config.timeouts, session, proxy=proxy, tls=ssl), shared
        )
        self._link_policy = _link_policy(link_policy, proxy, ssl)
        self.queues: Mapping[QueueName, QueueFigures] = MappingProxyType(self._dispatcher.queues)
        self.legacy: LegacyClient = LegacyClient(self._config, self._dispatcher, max_wait)

    async def __aenter__(self) -> Self:
        self._dispatcher.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<OzonetelClient of {self._config.credentials.username!r} at {self._config.base_url}>"

    async def close(self) -> None:
        """Turn waiting callers away, close the connections; idempotent. A session passed in stays open."""
        await self._dispatcher.close()

    async def add_lead(
        self,
        campaign: str,
        lead: Lead,
        *,
        action: Action | None = None,
        check_duplicate: bool | None = None,
        skip_name_validation: bool | None = None,
        clean: Cleaning | bool | None = None,
        queue_priority: int = 0,
        max_wait: float | None = None,
    ) -> LeadReceipt:
        """Add one lead (page "Add Campaign Data"; 100 a minute).

        Args:
            campaign: an outbound campaign.
            action: ``"start"`` or ``"stop"`` the campaign as well.
            check_duplicate: leave a number alone that the campaign has already.
            skip_name_validation: let the service take any name; it is not cleaned then.
            clean: what may be repaired in the lead's fields; None takes the client's setting, False repairs nothing.
            queue_priority: larger goes first; this is the place in the queue, not the lead's dialling priority.
            max_wait: most seconds to wait for a place in the rate limit, all attempts together; default: the client's.
                ``float("inf")`` waits as long as it takes. ``retry_after`` of the error suits a 503 answer.

        Raises:
            InvalidLeadError, QueueFullError, QueueTimeoutError, ConnectError, ConfigurationError: nothing was sent.
            LeadRejectedError, CampaignError, AuthenticationError, AuthModeError, RequestRejectedError,
                RateLimitedError: the service refused it.
            OutcomeUnknownError: sent, but it is not known whether it was applied; it is not sent again.
        """
        cleaned: CellCounts = {}
        params = add_params(
            self._config,
            lead,
            datetime.now(self._config.timezone),
            action=action,
            check_duplicate=check_duplicate,
            skip_name_validation=skip_name_validation,
            clean=chosen_cleaning(clean, self._config.clean),
            cleaned=cleaned,
        )
        return lead_receipt(await self._request("add", params, campaign, queue_priority, max_wait), cleaned)

    async def add_batch(
        self,
        campaign: str,
        leads: Rows,
        *,
        columns: Sequence[str] | None = None,
        action: Action | None = None,
        check_duplicate: bool | None = None,
        is_delete: bool | None = None,
        callback_url: str | None = None,
        clean: Cleaning | bool | None = None,
        queue_priority: int = 0,
        max_wait: float | None = None,
    ) -> BatchReceipt:
        """Add up to 500 leads in one request (page "Add Campaign Bulk Data (V4)"; 5 a minute).

        The service answers with a ticket and adds the rows later. One bad row fails the call before anything is
        sent; ``upload`` sends the good ones.

        Args:
            leads: leads, mappings with the service's column names, or sequences with ``columns``.
            columns: the service's column names, in the order of the sequences.
            check_duplicate: skip numbers that stand in the campaign, or earlier in the same request.
            is_delete: skip numbers that the campaign has; cannot be combined with ``check_duplicate``.
            callback_url: where the service reports what became of the rows; sent as it stands.
            clean: as for ``add_lead``.
            queue_priority, max_wait: as for ``add_lead``.

        Raises:
            InvalidLeadError: a row is bad; ``.row`` says which, 1-based.
            OzonetelError: as for ``add_lead``.
        """
        params = bulk_params(
            action=action, check_duplicate=check_duplicate, is_delete=is_delete, callback_url=callback_url
        )
        check_campaign(campaign)
        leads = prepared(leads, columns)
        rows = await _take_at_most(leads, self._dispatcher.endpoints["bulk"].rows, named=columns is None)
        chunker = self._chunker("bulk", columns, leads, clean)(raise_invalid)
        (batch,) = chunker.feed(rows) or chunker.flush()
        reply = await self._request("bulk", params, campaign, queue_priority, max_wait, batch.payload)
        return batch_receipt(reply, batch.rows, chunker.cleaned)

    def buffer(
        self,
        campaign: str,
        *,
        max_delay: float = 5.0,
        max_rows: int = 500,
        max_waiting: int = 10_000,
        columns: Sequence[str] = (),
        action: Action | None = None,
        check_duplicate: bool | None = None,
        is_delete: bool | None = None,
        callback_url: str | None = None,
        clean: Cleaning | bool | None = None,
        journal: str | PathLike[str] | None = None,
        on_result: OnBufferResult | None = None,
        queue_priority: int = 0,
    ) -> LeadBuffer:
        """Collect single leads, and send them as batches (page "Bulk Data (V4)"; 5 a minute, 500 leads each).

        Use it as ``async with client.buffer("Diwali") as buffer``, then ``await buffer.add(lead)`` from any task. A
        batch leaves when it is full, or when its oldest lead has waited for ``max_delay`` and the limit has a place;
        while it has none, the batch goes on filling.

        Args:
            campaign: an outbound campaign.
            max_delay: most seconds for which a lead waits for others while the limit has a place.
            max_rows: leads in a batch, 500 at most.
            max_waiting: leads that may wait; a further one waits for room.
            columns: the further columns that the campaign maps, by their service names. A lead with another one is
                refused: the service fails whole batches with a column that it does not know.
            action, check_duplicate, is_delete: as for ``add_batch``.
            clean: as for ``add_lead``.
            callback_url: as for ``add_batch``; with a journal, each batch gets a URL of its own, as in ``upload``.
            journal: path of a file, one per buffer, that holds what ``put`` was given until it is sent. After a crash,
                the next buffer with it sends what had not left; a batch whose answer was cut off stays unknown and is
                not sent again. The service being away, leads wait for it.
            on_result: called with each lead that was ``put`` and its receipt or error; those that an earlier process
                has put into the journal as well.
            queue_priority: place of the batches in the bulk queue; larger goes first.

        Raises:
            ConfigurationError: an argument is wrong.
            JournalError: on entering, as for ``upload``.
        """
        options = BufferOptions(
            max_delay=max_delay,
            max_rows=max_rows,
            max_waiting=max_waiting,
            columns=tuple(columns),
            journal=journal,
            callback_url=callback_url,
            on_result=on_result,
            queue_priority=queue_priority,
        )
        options.check(self._dispatcher.endpoints["bulk"].rows)

        chosen = chosen_cleaning(clean, self._config.clean)

        def new_chunker(on_invalid: OnInvalid, row_limit: int) -> Chunker:
            now = datetime.now(self._config.timezone)
            return chunker_maker(self._config, "bulk", row_limit, None, (), now, chosen)(on_invalid)

        params = bulk_params(
            action=action, check_duplicate=check_duplicate, is_delete=is_delete, callback_url=callback_url
        )
        return LeadBuffer(self._dispatcher, self._config, check_campaign(campaign), params, options, new_chunker)

    async def upload(
        self,
        campaign: str,
        leads: Rows,
        *,
        columns: Sequence[str] | None = None,
        action: Action | None = None,
        check_duplicate: bool | None = None,
        is_delete: bool | None = None,
        callback_url: str | None = None,
        queue_priority: int = -1,
        concurrency: int | None = None,
        journal: str | PathLike[str] | None = None,
        callback_timeout: float | None = None,
        on_progress: Callable[[UploadReport], object] | None = None,
        on_unknown: OnUnknown = "hold",
        rejects: str | PathLike[str] | Rejects | None = None,
        clean: Cleaning | bool | None = None,
        changes: str | PathLike[str] | None = None,
        stop: asyncio.Event | None = None,
    ) -> UploadReport:
        """Add any number of leads, 500 a request, as fast as the limit allows (page "Bulk Data (V4)"; 5 a minute).

        Rows are pulled as they are needed, so memory does not grow with the input. A bad row is reported and left
        out; a request of unknown outcome is reported too. What every further request would meet as well
        (bad credentials, an unknown campaign, no connection) ends the upload early, as does a file that breaks off: see
        ``report.stopped_by``. A service that cannot be reached any more is waited for: ``RetryPolicy.outage``.

        Args:
            leads: leads, mappings with the service's column names, sequences with ``columns``, or ``read_csv(…)``; an
                iterable or async iterable of any length.
            columns: the service's column names, in the order of the sequences; default: ``leads.columns`` if there is
                one, else the first mapping's keys, else the fields that the leads use.
            action, check_duplicate, is_delete, callback_url: as for ``add_batch``.
            queue_priority: place in the bulk queue; below 0, single batches overtake the upload.
            concurrency: requests under way at a time; default: as many as the limit lets start at once.
            journal: path of a file that makes the upload durable: after a crash, the same call with the same input
                continues it. Batches accepted by then are skipped, batches not sent are sent, and those whose answer
                was cut off follow ``on_unknown``. With ``callback_url``, each batch gets a callback URL of its own: a
                secret token is added below it as one more path segment. ``CallbackReceiver`` takes the callbacks in,
                here or in another process.
            callback_timeout: seconds to wait for the callbacks after the last answer, and then fetch the lists of the
                rows that the service did not add: ``report.failed_rows()``. Needs ``journal`` and ``callback_url``.
                None does not wait.
            on_progress: called with the live report before the first row, whenever a batch's fate is known, and when
                the upload has to wait: ``report.waiting_for`` says for what.
            stop: set it to end the upload early: what is on the wire is finished, nothing more is begun, and callbacks
                are waited for no longer.
            on_unknown: ``"hold"`` reports batches without a trustworthy answer and leaves them alone. ``"resend"``
                sends them again, and needs ``check_duplicate=True`` so that nobody is added twice.
            rejects: a CSV that receives every invalid row with its own columns, its number and line, and what is wrong
                with it: its path, or ``Rejects(path, …)`` with more options. Mended, it can be uploaded as it is.
            clean: what may be repaired in cells, counted in ``report.cleaned``; None takes the client's setting, False
                repairs nothing. A journal belongs to one setting.
            changes: path of a CSV that receives every repaired cell: its row, line in the file, column, the kind of
                repair, the cell before and after it.

        Returns:
            The report; each row taken from ``leads`` is counted in it exactly once.

        Raises:
            ConfigurationError: an argument is wrong; nothing was sent.
            JournalError: the journal is in use, damaged, of another upload or of an input that has changed; nothing was
                sent.
            Exception: whatever ``leads`` itself raises, ``InputError`` aside, after the rows taken from it were sent.
            asyncio.CancelledError: the report passed to ``on_progress`` is final then as well.
        """
        options = UploadOptions(
            on_unknown=on_unknown,
            queue_priority=queue_priority,
            concurrency=concurrency,
            on_progress=on_progress,
            rejects=rejects,
            changes=changes,
            journal=journal,
            callback_url=callback_url,
            callback_timeout=callback_timeout,
            stop=stop,
        )
        options.check(check_duplicate=bool(check_duplicate))
        leads = prepared(leads, columns)
        # Imported here: the journal and what reads callbacks are half of the library, and a web app that adds single
        # leads would pay for them at every start.
        from ..upload.run import run_upload

        return await run_upload(
            self._dispatcher,
            self._config,
            check_campaign(campaign),
            leads,
            columns=columns,
            params=bulk_params(
                action=action, check_duplicate=check_duplicate, is_delete=is_delete, callback_url=callback_url
            ),
            options=options,
            clean=chosen_cleaning(clean, self._config.clean),
            link_policy=self._link_policy,
        )

    async def schedule_leads(
        self,
        campaign: str,
        leads: Rows,
        *,
        columns: Sequence[str] | None = None,
        check_duplicate: bool | None = None,
        clean: Cleaning | bool | None = None,
        queue_priority: int = 0,
        on_result: OnResult | None = None,
    ) -> ScheduleReport:
        """Have leads dialled at a set time, 100 rows a request (page "Schedule Campaign Data").

        Args:
            leads: leads with ``scheduled_time``, or rows with the column ``ScheduledTime``.
            columns: the service's column names, in the order of the sequences.
            check_duplicate: leave out numbers that the service has already.
            clean, queue_priority: as for ``add_lead``.
            on_result: called with each row's result once it is known, also when cancelled; rows it never hears of were
                not sent.

        Returns:
            One result per row, in their order; ``stopped_by`` says what ended the run early, such as a file that breaks
            off.
        """
        params = schedule_params(check_duplicate)
        leads = prepared(leads, columns)
        chunker = self._chunker("schedule", columns, leads, clean)
        return await schedule_rows(
            self._dispatcher,
            "schedule",
            check_campaign(campaign),
            leads,
            chunker,
            params,
            on_result,
            queue_priority=queue_priority,
        )

    async def request_dial_status(
        self,
        campaign: str,
        *,
        callback_url: str,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        status: LeadStatus = "All",
        call_status: CallStatus = "All",
        disposition: str = "ALL",
        dated_by: DatedBy | None = None,
        queue_priority: int = 0,
        max_wait: float | None = None,
    ) -> ExportReceipt:
        """Have a campaign's dial status sent to ``callback_url`` (page "Campaign Dial Status"; 10 a minute).

        Args:
            callback_url: http or https URL that the service calls with the result; sent as it stands.
            since, until: bounds; aware datetimes are converted to the platform's zone, naive ones are taken as in it.
            status: which leads, by what became of them.
            call_status: which leads, by the outcome of the last call.
            disposition: which leads, by what the agent noted.
            dated_by: which date of a lead the bounds mean; None takes all data.
            queue_priority, max_wait: as for ``add_lead``.

        Raises:
            RequestRejectedError: the service refused it; ``.field`` is ``"callback_url"`` if that was why.
            OzonetelError: as for ``add_lead``.
        """
        params = dial_status_params(
            self._config.timezone,
            callback_url=callback_url,
            since=since,
            until=until,
            status=status,
            call_status=call_status,
            disposition=disposition,
            dated_by=dated_by,
        )
        return export_receipt(await self._request("dial_status", params, campaign, queue_priority, max_wait))

    async def dial_status(
        self,
        campaign: str,
        *,
        receiver: Expecting,
        callback_url: str,
        timeout: float = 600.0,  # noqa: ASYNC109 - the caller's patience, which begins with the answer
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        status: LeadStatus = "All",
        call_status: CallStatus = "All",
        disposition: str = "ALL",
        dated_by: DatedBy | None = None,
        queue_priority: int = 0,
        max_wait: float | None = None,
    ) -> ExportResult:
        """Ask for the dial status as ``request_dial_status`` does, and wait for the callback that brings it.

        Args:
            receiver: a ``CallbackReceiver`` of this process, mounted under ``callback_url``.
            callback_url: public URL under which the service reaches it; a secret token is added below it as one more
                path segment, by which the callback is known.
            timeout: most seconds from the answer to the callback.

        Returns:
            What came, all of it: no page tells the body.

        Raises:
            CallbackTimeoutError: the request was accepted, and no callback came in time.
            OzonetelError: as for ``request_dial_status``.
        """
        from .dial_status import dial_status as wait_for_export

        async def send(callback_url: str) -> ExportReceipt:
            return await self.request_dial_status(
                campaign,
                callback_url=callback_url,
                since=since,
                until=until,
                status=status,
                call_status=call_status,
                disposition=disposition,
                dated_by=dated_by,
                queue_priority=queue_priority,
                max_wait=max_wait,
            )

        return await wait_for_export(send, receiver=receiver, callback_url=callback_url, timeout=timeout)

    async def _request(
        self,
        endpoint: EndpointName,
        params: Params,
        campaign: str,
        queue_priority: int,
        max_wait: float | None,
        payload: bytes | None = None,
    ) -> Reply:
        call = ApiRequest(
            endpoint,
            params,
            campaign=check_campaign(campaign),
            payload=payload,
            priority=queue_priority,
            max_wait=self._max_wait if max_wait is None else max_wait,
        )
        return await self._dispatcher.call(call)

    def _chunker(
        self, layout: Layout, columns: Sequence[str] | None, leads: Rows, clean: Cleaning | bool | None
    ) -> ChunkerMaker:
        row_limit, now = self._dispatcher.endpoints[layout].rows, datetime.now(self._config.timezone)
        chosen = chosen_cleaning(clean, self._config.clean)
        return chunker_maker(self._config, layout, row_limit, columns, leads, now, chosen)


def _link_policy(given: LinkPolicy | None, proxy: str | None, ssl: SSLContext | None) -> LinkPolicy | None:
    """What downloads need to know, with the client's proxy and TLS settings where the policy has none."""
    if proxy is None and ssl is None:
        return given
    from ..downloads.links import LinkPolicy

    policy = given or LinkPolicy()
    return replace(policy, proxy=policy.proxy or proxy, ssl=policy.ssl or ssl)


async def _take_at_most(leads: Rows, limit: int, *, named: bool) -> list[Row]:
    """All rows of a small input; an endless one is left after one row too many."""
    intake = RowSource(leads, named=named)
    rows: list[Row] = []
    try:
        while len(rows) <= limit and (taken := await intake.take()):
            rows += taken
    finally:
        await intake.close()
    if intake.failure is not None:
        raise intake.failure
    if not 0 < len(rows) <= limit:
        raise ConfigurationError(
            f"leads: expected 1 to {limit} rows, got {'more' if rows else 'none'}; upload() takes any number"
        )
    return rows
