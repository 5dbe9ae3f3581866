"""One callback on its way in, whatever the web framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

from msgspec import Struct

__all__ = ["ALLOW", "METHODS", "REASONS", "BodyError", "Incoming"]

METHODS: Final = frozenset({"POST", "PUT", "GET"})
ALLOW: Final = ", ".join(sorted(METHODS))

REASONS: Final[Mapping[int, str]] = {
    200: "stored\n",
    400: "unreadable\n",
    404: "not found\n",
    405: "method not allowed\n",
    408: "too slow\n",
    413: "too large\n",
    415: "packed bodies are not read\n",
    503: "not stored, try again\n",
}
"""The text of each answer; it tells no more than the status."""


class BodyError(Exception):
    """The body broke off, or is no body."""


class Incoming(Struct, frozen=True, kw_only=True):
    """A request whose body is still to be read.

    Attributes:
        method, path, query: of the request line; path and query raw or percent-decoded.
        content_type, content_length, encoding: headers, empty when there is none.
        chunks: the body as it arrives; raises ``BodyError`` when it breaks off.
    """

    method: str
    path: str
    query: str
    content_type: str
    content_length: str
    encoding: str
    chunks: AsyncGenerator[bytes]
