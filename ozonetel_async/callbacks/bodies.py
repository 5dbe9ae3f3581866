"""Bodies of callbacks: from bytes in any of the documented shapes to one flat set of fields."""

from __future__ import annotations

import json
import re
from typing import NoReturn
from urllib.parse import parse_qsl

from ..errors import CallbackError

__all__ = ["EXPECTED", "ID_FIELDS", "fold", "read_fields", "shape_of"]


EXPECTED = 'expected {"data": {"transactionId": …, "status": …}}'
ID_FIELDS = frozenset({"transactionid", "uniqueid"})

_MAX_FIELDS = 256
_MAX_WRAPS = 4
_HEAD_LIMIT = 1_000
_OBJECT_START = re.compile(r'\{\s*"')
_PRINTED_START = re.compile(r'\{\s*"data"\s*:\s*"\s*(?=\{)')
_FORM_START = re.compile(r"[A-Za-z_][\w.-]{0,63}=")
_BOUNDARY = re.compile(r"boundary=\"?([^\";,\s]{1,200})", re.IGNORECASE)
_PART_NAME = re.compile(r"content-disposition:[^\r\n]*\bname=\"?([^\";\r\n]{1,64})", re.IGNORECASE)


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CallbackError("expected each field of the callback once, got one twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise CallbackError(f"the callback holds {name}, which is not JSON")


def _json(text: str) -> object:
    """The decoded value, or None when ``text`` is not JSON; every number stays the text it was."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_constant=_no_constant,
            # A transaction id has more digits than a float keeps, and a hostile one more than int() takes.
            parse_int=str,
            parse_float=str,
        )
    except ValueError:
        return None


def _json_object(text: str) -> dict[str, object] | None:
    """The object in a JSON text, in a JSON text that is itself a JSON string, or behind a text prefix."""
    whole = _json(text)
    for _ in range(_MAX_WRAPS):
        if isinstance(whole, str):
            whole = _json(whole)
    if isinstance(whole, dict):
        return whole
    start, end = _OBJECT_START.search(text), text.rfind("}") + 1
    if start is None or end <= start.start():
        return None
    cut = text[start.start() : end]
    behind_prefix = _json(cut)
    return behind_prefix if isinstance(behind_prefix, dict) else _printed_object(cut)


def _printed_object(text: str) -> dict[str, object] | None:
    # The page's own sample is not JSON: its inner text stands between quotes without being escaped.
    head = _PRINTED_START.match(text)
    body = text[head.end() :].removesuffix("}").rstrip() if head else ""
    inner = _json(body[:-1].rstrip()) if body.endswith('"') else None
    return {"data": inner} if isinstance(inner, dict) else None


def _form_fields(text: str) -> dict[str, object] | None:
    value = text.partition("=")[2]
    if value.lstrip().startswith("{"):
        # Some senders do not encode the value; split at "&", a signed link inside it would be lost.
        inner = _json_object(value)
        if inner is not None:
            return inner
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise CallbackError(f"the form is not UTF-8 or has more than {_MAX_FIELDS} fields") from None
    return _pairs([(key.strip(), value) for key, value in pairs])


def _multipart_fields(text: str, content_type: str) -> dict[str, object] | None:
    declared = _BOUNDARY.search(content_type)
    # A header that does not fit its body is common enough; the body's first line then tells the boundary.
    first_line = text.partition("\n")[0].rstrip()
    marker = f"--{declared[1]}" if declared and f"--{declared[1]}" in text else first_line
    if not marker.startswith("--") or len(marker) < 3:
        return None
    parts = text.split(marker, _MAX_FIELDS + 1)[1:]
    if len(parts) > _MAX_FIELDS:
        raise CallbackError(f"the form has more than {_MAX_FIELDS} fields")
    pairs: list[tuple[str, object]] = []
    for part in parts:
        head, blank, value = part.replace("\r\n", "\n").lstrip("\n").partition("\n\n")
        name = _PART_NAME.search(head[:_HEAD_LIMIT])
        if blank and name:
            pairs.append((name[1].strip(), value.removesuffix("\n")))
    return _pairs(pairs)


def _read_outer(text: str, content_type: str) -> dict[str, object] | None:
    """The outermost fields. By content: nothing documents the content type, and PHP labels JSON as HTML."""
    if text.startswith(("{", '"', "[")):
        return _json_object(text)
    if text.startswith("--"):
        return _multipart_fields(text, content_type)
    if _FORM_START.match(text):
        return _form_fields(text)
    parts = _multipart_fields(text, content_type) if _BOUNDARY.search(content_type) else None
    return parts or _json_object(text)


def _unwrap(fields: dict[str, object]) -> dict[str, object]:
    """Lift what is under ``data``, as an object or as text, level by level; inner fields win, ids must agree."""
    for _ in range(_MAX_WRAPS):
        key = next((key for key in fields if fold(key) == "data"), None)
        inner = fields[key] if key is not None else None
        if isinstance(inner, str):
            inner = _json_object(inner)
        if key is None or not isinstance(inner, dict):
            break
        outer = {name: value for name, value in fields.items() if name != key}
        for name in outer.keys() & inner.keys():
            if fold(name) in ID_FIELDS and outer[name] != inner[name]:
                raise CallbackError(f"the callback gives two different values for {fold(name)}")
        fields = outer | inner
    if len(fields) > _MAX_FIELDS:
        raise CallbackError(f"the callback has {len(fields):,} fields; at most {_MAX_FIELDS} are read")
    return fields


def fold(key: str) -> str:
    """A field's name without case and separators."""
    # One idea has several spellings here: transactionId, uniqueID, unique_id, Status, status.
    return re.sub(r"[\W_]", "", key).lower()


def shape_of(value: object) -> str:
    """Type and length of a value, for messages that must not tell the value."""
    if isinstance(value, str):
        return f"text of {len(value):,} characters"
    return f"a value of type {type(value).__name__}"


def read_fields(body: bytes, content_type: str, max_bytes: int) -> dict[str, object]:
    """The fields of a callback, wrappers removed; each is text, a bool, None, or a nested value that is kept.

    Raises:
        CallbackError: too long, not UTF-8, no object in it, an ambiguous or oversized one.
        RecursionError: nested deeper than the interpreter reads.
    """
    if len(body) > max_bytes:
        raise CallbackError(f"expected at most {max_bytes:,} bytes, got a callback of {len(body):,}")
    try:
        text = body.decode().lstrip("\ufeff").strip()
    except UnicodeDecodeError:
        raise CallbackError(f"the callback's {len(body):,} bytes are not UTF-8") from None
    if "\0" in text:
        raise CallbackError("the callback holds NUL characters")
    fields = _read_outer(text, content_type)
    if not fields:
        raise CallbackError(f"{EXPECTED}, got {shape_of(text)} without an object in it")
    return _unwrap(fields)
