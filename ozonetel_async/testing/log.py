"""What the simulator logs of each request and each callback, for assertions."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field

__all__ = ["EndpointFigures", "LoggedCallback", "LoggedRequest"]

_NOTHING: Mapping[str, object] = MappingProxyType({})
_SECRET_KEYS = frozenset({"apikey", "api_key", "authorization"})


def _masked(values: Mapping[str, object]) -> str:
    shown = (f"{key!r}: {'***' if key.lower() in _SECRET_KEYS else repr(value)}" for key, value in values.items())
    return f"{{{', '.join(shown)}}}"


class LoggedRequest(Struct):
    """One request.

    Attributes:
        endpoint: short name: ``"add"``, ``"bulk"``, ``"schedule"``, ``"dial_status"``, ``"token"``, ``"legacy_add"``,
            ``"legacy_schedule"``, ``"failed_file"``, ``"export_file"``, or ``"unknown"`` for any other path.
        at: arrival on the loop's clock.
        method: of the request line.
        path: of the request line, without the query.
        status: HTTP status of the answer; 0 while there is none, and for good when the connection broke.
        refused: whether it was refused for the rate.
        applied: rows the service took on; for bulk, rows queued.
        fault: name of the fault of its answer, or None.
        callback_fault: name of the fault of the callback it led to, or None.
        params: the decoded parameters: query, form fields, or members of the JSON body.
        headers: the request's headers.
        body: the request's body.
        message: the service's text, before a fault changed it.
    """

    endpoint: str
    at: float
    method: str
    path: str
    status: int = 0
    refused: bool = False
    applied: int = 0
    fault: str | None = None
    callback_fault: str | None = None
    params: Mapping[str, object] = _NOTHING
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    message: bytes = b""

    def __repr__(self) -> str:
        return (
            f"LoggedRequest({self.endpoint!r}, at={self.at:.6f}, {self.method} {self.path}, status={self.status}, "
            f"refused={self.refused}, applied={self.applied}, fault={self.fault!r}, params={_masked(self.params)})"
        )


class LoggedCallback(Struct):
    """One attempt to deliver a callback.

    Attributes:
        id: transaction id of the V4 job, or unique id of the export.
        at: start of the attempt on the loop's clock.
        url: where it went.
        shape: name of the body's shape, or ``"hostile"``.
        status: HTTP status of the receiver's answer, or 0 when there was none.
    """

    id: str
    at: float
    url: str
    shape: str
    status: int = 0


class EndpointFigures:
    """Counters of one endpoint; they go on when the log is cut."""

    __slots__ = ("admitted", "refused", "requests", "rows", "writes")

    def __init__(self) -> None:
        self.requests: int = 0
        self.refused: int = 0
        self.writes: int = 0
        self.rows: int = 0
        self.admitted: array[float] = array("d")
