"""The endpoint table against the documented facts, each written out here a second time."""

from __future__ import annotations

import itertools

import pytest

from ozonetel_async.config import ClientConfig, Credentials, Dialect, Limits
from ozonetel_async.protocol.endpoints import Endpoint, EndpointName, endpoint_table

TABLE = endpoint_table(Dialect())

# name: method, path, host, encoding, key's name, key's place, userName, campaign's name, bearer, queue, rows
DOCUMENTED: dict[EndpointName, tuple[object, ...]] = {
    "add": (
        *("POST", "/ca_apis/AddCampaignData", "base", "json"),
        *("apiKey", "header", True, "campaignName", True, "add", 1),
    ),
    "bulk": (
        *("POST", "/cloudAgentRestAPI/index.php/AddCampaignBulkDataV4/addBulkData/format/json", "base", "form"),
        *("apiKey", "params", True, "campaignName", False, "bulk", 500),
    ),
    "schedule": (
        *("POST", "/ca_apis/CampaignScheduledData", "base", "json"),
        *("apiKey", "header", True, "campaignName", True, "schedule", 100),
    ),
    "dial_status": (
        *("POST", "/endpoint/dailer/data/preview/download", "dialer", "json"),
        *("apiKey", "header", True, "campaignName", False, "dial_status", 1),
    ),
    "legacy_add": (
        *("GET", "/cloudAgentRestAPI/index.php/CloudAgent/CloudAgentAPI/addCamapaignData", "base", "query"),
        *("api_key", "params", False, "campaign_name", False, "add", 1),
    ),
    "legacy_schedule": (
        *("GET", "/CAServices/scheduleCampaignData/scheduleCampaignData.php", "base", "query"),
        *("api_key", "params", False, "campaign_name", False, "schedule", 100),
    ),
    "token": (
        *("POST", "/ca_apis/CAToken/generateToken", "base", "json"),
        *("apiKey", "header", True, "", False, "token", 1),
    ),
}
FIELDS = (
    *("method", "path", "host", "encoding", "key_name", "key_place"),
    *("user_name", "campaign_name", "bearer", "queue", "rows"),
)


def row(endpoint: Endpoint, *but: str) -> dict[str, object]:
    return {field: getattr(endpoint, field) for field in FIELDS if field not in but}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_each_row_is_as_documented(name: EndpointName) -> None:
    assert tuple(row(TABLE[name]).values()) == DOCUMENTED[name]
    assert TABLE[name].name == name


def test_the_table_is_complete_and_stays_so_in_every_dialect() -> None:
    assert set(TABLE) == set(DOCUMENTED)
    assert set(endpoint_table(Dialect(bulk_encoding="json", dial_status_key="body"))) == set(DOCUMENTED)


def test_every_row_says_all_there_is_to_say() -> None:
    assert set(FIELDS) | {"name", "kept_alive"} == set(Endpoint.__struct_fields__)


def test_a_get_never_uses_a_kept_connection() -> None:
    assert {name: endpoint.kept_alive for name, endpoint in TABLE.items()} == {
        name: documented[0] != "GET" for name, documented in DOCUMENTED.items()
    }


def test_each_queue_has_a_limit_and_the_legacy_endpoints_share_it() -> None:
    assert {endpoint.queue for endpoint in TABLE.values()} <= set(Limits.__struct_fields__)
    assert TABLE["legacy_add"].queue == TABLE["add"].queue
    assert TABLE["legacy_schedule"].queue == TABLE["schedule"].queue


def test_the_dialect_changes_the_open_points_only() -> None:
    moved: dict[EndpointName, tuple[Dialect, dict[str, object]]] = {
        "bulk": (Dialect(bulk_encoding="multipart"), {"encoding": "multipart"}),
        "schedule": (
            Dialect(schedule_path="/ca_apis/campaignScheduledData"),
            {"path": "/ca_apis/campaignScheduledData"},
        ),
        "dial_status": (
            Dialect(dial_status_path="/d", dial_status_encoding="form", dial_status_key="body"),
            {"path": "/d", "encoding": "form", "key_place": "params"},
        ),
    }
    for (changed, (dialect, values)), name in itertools.product(moved.items(), DOCUMENTED):
        expected = row(TABLE[name]) | (values if name == changed else {})
        assert row(endpoint_table(dialect)[name]) == expected


def test_rows_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TABLE["add"].path = "/other"  # type: ignore[misc]


def test_hosts_are_two_settings() -> None:
    config = ClientConfig(credentials=Credentials("key-1", "acme"), base_url="https://partner.example")
    assert config.dialer_url == "https://in1-ccaas-bulkupload.ozonetel.com"
