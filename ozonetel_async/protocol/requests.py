"""Values to bytes and bytes to values, without a socket: ``build`` a request, ``read`` a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import msgspec
from yarl import URL

from ..config import ClientConfig
from .endpoints import Encoding, Endpoint, EndpointName

__all__ = ["Param", "Params", "Request", "build", "quote_slices"]

Param: TypeAlias = str | int | float | bool | msgspec.Raw
Params: TypeAlias = Mapping[str, Param]

_json = msgspec.json.Encoder()
_JSON_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_SLICE: Final = 65_536
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class Request:
    """One HTTP request, ready to send. Its ``repr`` shows neither key nor rows."""

    __slots__ = ("body", "endpoint", "headers", "kept_alive", "method", "url")

    def __init__(self, endpoint: Endpoint, url: str, headers: dict[str, str], body: bytes | None) -> None:
        self.endpoint: EndpointName = endpoint.name
        self.method: Literal["GET", "POST"] = endpoint.method
        self.kept_alive: bool = endpoint.kept_alive
        self.url: str = url
        self.headers: dict[str, str] = headers
        self.body: bytes | None = body

    def __repr__(self) -> str:
        return f"<Request {self.endpoint}: {self.method}, {len(self.body or b'')} bytes>"


def build(
    endpoint: Endpoint,
    config: ClientConfig,
    params: Params,
    *,
    campaign: str | None = None,
    payload: bytes | None = None,
    bearer: str | None = None,
    quoted: str | None = None,
) -> Request:
    """Build the request for one row of the endpoint table.

    Args:
        endpoint: the row.
        config: credentials, hosts and dialect.
        params: the endpoint's own parameters; credentials and campaign are added here, where the row says.
        campaign: the campaign's name.
        payload: encoded ``{"map":…,"data":…}`` for the endpoints that take ``bulkData``; it is embedded, not encoded
            again.
        bearer: a token, in token authentication.
        quoted: what ``quote_slices`` made of ``payload``, to save doing that here in one go.
    """
    credentials = config.credentials
    headers = dict(_JSON_HEADERS)
    fields: dict[str, Param] = {}
    in_header = endpoint.key_place == "header"
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
        in_header = in_header and config.dialect.token_sends_key
    if in_header:
        headers[endpoint.key_name] = credentials.reveal()
    elif endpoint.key_place == "params":
        fields[endpoint.key_name] = credentials.reveal()
    if endpoint.user_name:
        fields["userName"] = credentials.username
    if campaign is not None:
        fields[endpoint.campaign_name] = campaign
    fields.update(params)
    url = (config.base_url if endpoint.host == "base" else config.dialer_url) + endpoint.path
    encode = _ENCODERS[endpoint.encoding]
    as_text = config.dialect.bulk_data_as == "text"
    content_type, query, body = encode(fields, payload if quoted is None else None, as_text)
    if quoted is not None and body is None:
        query += f"&bulkData={quoted}"
    elif quoted is not None:
        body = b"%s&bulkData=%s" % (body, quoted.encode())
    if content_type is None:
        del headers["Content-Type"]
    elif content_type != "application/json":
        headers["Content-Type"] = content_type
    return Request(endpoint, f"{url}?{query}" if query else url, headers, body)


_Encoded: TypeAlias = tuple[str | None, str, bytes | None]


def _as_json(fields: dict[str, Param], payload: bytes | None, as_text: bool) -> _Encoded:
    if payload is not None:
        fields["bulkData"] = payload.decode() if as_text else msgspec.Raw(payload)
    return "application/json", "", _json.encode(fields)


def _as_query(fields: dict[str, Param], payload: bytes | None, as_text: bool) -> _Encoded:
    # A POST with everything in the query sends an empty body, as the public code for the older bulk API does.
    return None, _urlencode(fields, payload), None


def _as_form(fields: dict[str, Param], payload: bytes | None, as_text: bool) -> _Encoded:
    return _FORM_TYPE, "", _urlencode(fields, payload).encode()


def _as_multipart(fields: dict[str, Param], payload: bytes | None, as_text: bool) -> _Encoded:
    parts = {name: _text(value).encode() for name, value in fields.items()}
    if payload is not None:
        parts["bulkData"] = payload
    # A digest of the content cannot stand inside the content.
    digest = blake2b(digest_size=16)
    for part in parts.values():
        digest.update(part)
    boundary = digest.hexdigest()
    chunks: list[bytes] = []
    for name, part in parts.items():
        quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        chunks += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"\r\n\r\n'.encode(),
            part,
            b"\r\n",
        )
    chunks.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", "", b"".join(chunks)


_ENCODERS: Final[dict[Encoding, Callable[[dict[str, Param], bytes | None, bool], _Encoded]]] = {
    "json": _as_json,
    "form": _as_form,
    "multipart": _as_multipart,
    "query": _as_query,
}


def _urlencode(fields: dict[str, Param], payload: bytes | None) -> str:
    query = {name: _text(value) for name, value in fields.items()}
    if payload is not None:
        query["bulkData"] = payload.decode()
    # yarl drops lone surrogates; no field gets here without having been encoded or checked as UTF-8.
    return URL.build(query=query).raw_query_string


def quote_slices(endpoint: Endpoint, payload: bytes) -> Iterator[str]:
    """``payload`` as a form or a query holds it, in pieces that take a fraction of a millisecond each.

    Nothing for endpoints that take neither.
    """
    if endpoint.encoding in ("form", "query"):
        text = payload.decode()
        for at in range(0, len(text), _SLICE):
            yield URL.build(query={"b": text[at : at + _SLICE]}).raw_query_string[2:]


def _text(value: Param) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
