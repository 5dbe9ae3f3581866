"""The service as one table: a row per endpoint, so that a new endpoint is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from ..config import Dialect

__all__ = ["Encoding", "Endpoint", "EndpointName", "endpoint_table"]

EndpointName = Literal["add", "bulk", "schedule", "dial_status", "legacy_add", "legacy_schedule", "token"]
QueueName = Literal["add", "bulk", "schedule", "dial_status", "token"]
Encoding = Literal["json", "form", "multipart", "query"]


class Endpoint(Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        name: short name, as in errors, queues and the documentation.
        method: HTTP method.
        path: path on the host, in the vendor's spelling ("addCamapaignData", "dailer").
        host: ``"base"`` or ``"dialer"``: which of the two host settings.
        encoding: how the parameters travel.
        key_name: the vendor's spelling of the API key's name.
        key_place: ``"header"`` or ``"params"``: beside the other parameters.
        user_name: whether ``userName`` is a parameter.
        campaign_name: the vendor's spelling of the campaign parameter.
        bearer: whether the endpoint takes part in token authentication.
        queue: the rate-limit queue it goes through.
        rows: most rows a request may hold.
        kept_alive: whether the request may go out on a connection that was used before. aiohttp silently sends a GET
            again when its connection drops, which would dial a person twice; a used one drops easily.
    """

    name: EndpointName
    method: Literal["GET", "POST"]
    path: str
    host: Literal["base", "dialer"] = "base"
    encoding: Encoding
    key_name: Literal["apiKey", "api_key"]
    key_place: Literal["header", "params"]
    user_name: bool
    campaign_name: Literal["campaignName", "campaign_name", ""]
    bearer: bool = False
    queue: QueueName
    rows: int = 1
    kept_alive: bool = True


def endpoint_table(dialect: Dialect) -> Mapping[EndpointName, Endpoint]:
    """The endpoints by name, with the open points filled in from ``dialect``."""
    rows = (
        Endpoint(  # page "Add Campaign Data", basic and token authentication
            name="add",
            method="POST",
            path="/ca_apis/AddCampaignData",
            encoding="json",
            key_name="apiKey",
            key_place="header",
            user_name=True,
            campaign_name="campaignName",
            bearer=True,
            queue="add",
        ),
        Endpoint(  # page "Add Campaign Bulk Data (V4)"
            name="bulk",
            method="POST",
            path="/cloudAgentRestAPI/index.php/AddCampaignBulkDataV4/addBulkData/format/json",
            encoding=dialect.bulk_encoding,
            key_name="apiKey",
            key_place="params",
            user_name=True,
            campaign_name="campaignName",
            queue="bulk",
            rows=500,
        ),
        Endpoint(  # page "Schedule Campaign Data", basic and token authentication
            name="schedule",
            method="POST",
            path=dialect.schedule_path,
            encoding="json",
            key_name="apiKey",
            key_place="header",
            user_name=True,
            campaign_name="campaignName",
            bearer=True,
            queue="schedule",
            rows=100,
        ),
        Endpoint(  # page "Campaign Dial Status"
            name="dial_status",
            method="POST",
            path=dialect.dial_status_path,
            host="dialer",
            encoding=dialect.dial_status_encoding,
            key_name="apiKey",
            key_place="header" if dialect.dial_status_key == "header" else "params",
            user_name=True,
            campaign_name="campaignName",
            queue="dial_status",
        ),
        Endpoint(  # page "Add Campaign Data", deprecated GET
            name="legacy_add",
            method="GET",
            path="/cloudAgentRestAPI/index.php/CloudAgent/CloudAgentAPI/addCamapaignData",
            encoding="query",
            key_name="api_key",
            key_place="params",
            user_name=False,
            campaign_name="campaign_name",
            queue="add",
            kept_alive=False,
        ),
        Endpoint(  # page "Schedule Campaign Data", deprecated GET
            name="legacy_schedule",
            method="GET",
            path="/CAServices/scheduleCampaignData/scheduleCampaignData.php",
            encoding="query",
            key_name="api_key",
            key_place="params",
            user_name=False,
            campaign_name="campaign_name",
            queue="schedule",
            rows=100,
            kept_alive=False,
        ),
        Endpoint(  # page "Generate Token"
            name="token",
            method="POST",
            path="/ca_apis/CAToken/generateToken",
            encoding="json",
            key_name="apiKey",
            key_place="header",
            user_name=True,
            campaign_name="",
            queue="token",
        ),
    )
    return {row.name: row for row in rows}
