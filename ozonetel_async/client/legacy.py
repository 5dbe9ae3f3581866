"""The deprecated GET endpoints."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ..config import Cleaning, ClientConfig, chosen_cleaning
from ..models import CellCounts, Lead, LeadReceipt, ScheduleReport
from ..protocol.params import Action, check_campaign, legacy_add_params
from ..protocol.replies import lead_receipt
from ..rows.batches import chunker_maker
from ..rows.intake import Rows
from ..sending.dispatcher import ApiRequest, Dispatcher
from .schedule import schedule_rows

__all__ = ["LegacyClient"]

_DEPRECATED: Final = "the service has announced the end of its GET endpoints for 2024; use the client's own methods"


class LegacyClient:
    """The deprecated GET endpoints, for accounts that have nothing else; reached as ``client.legacy``.

    Each request goes out once, on a connection of its own: by itself aiohttp sends a GET again when its connection
    drops.
    """

    def __init__(self, config: ClientConfig, dispatcher: Dispatcher, max_wait: float | None = None) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._max_wait = max_wait

    async def add_lead(
        self,
        campaign: str,
        lead: Lead,
        *,
        action: Action | None = None,
        check_duplicate: bool | None = None,
        clean: Cleaning | bool | None = None,
        queue_priority: int = 0,
        max_wait: float | None = None,
    ) -> LeadReceipt:
        """Add one lead by the deprecated GET; parameters and errors as for ``OzonetelClient.add_lead``."""
        warnings.warn(_DEPRECATED, DeprecationWarning, stacklevel=2)
        now = datetime.now(self._config.timezone)
        cleaned: CellCounts = {}
        params = legacy_add_params(
            self._config,
            lead,
            now,
            action=action,
            check_duplicate=check_duplicate,
            clean=chosen_cleaning(clean, self._config.clean),
            cleaned=cleaned,
        )
        call = ApiRequest(
            "legacy_add",
            params,
            campaign=check_campaign(campaign),
            priority=queue_priority,
            max_wait=self._max_wait if max_wait is None else max_wait,
        )
        return lead_receipt(await self._dispatcher.call(call), cleaned)

    async def schedule_leads(
        self,
        campaign: str,
        leads: Rows,
        *,
        columns: Sequence[str] | None = None,
        clean: Cleaning | bool | None = None,
        queue_priority: int = 0,
    ) -> ScheduleReport:
        """Schedule leads by the deprecated GET; parameters and results as for ``OzonetelClient.schedule_leads``."""
        warnings.warn(_DEPRECATED, DeprecationWarning, stacklevel=2)
        endpoint = self._dispatcher.endpoints["legacy_schedule"]
        now, chosen = datetime.now(self._config.timezone), chosen_cleaning(clean, self._config.clean)
        chunker = chunker_maker(self._config, "schedule", endpoint.rows, columns, leads, now, chosen)
        return await schedule_rows(
            self._dispatcher,
            "legacy_schedule",
            check_campaign(campaign),
            leads,
            chunker,
            {},
            queue_priority=queue_priority,
        )
