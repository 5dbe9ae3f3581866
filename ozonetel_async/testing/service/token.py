"""Generate Token."""

from __future__ import annotations

from msgspec import json

from .account import Account, ReceivedRequest
from .answers import INVALID_ACTION, INVALID_JSON, KEY_MISSING, TOKEN_INVALID_USER, TOKEN_USER_MISSING, Answer
from .fields import text

__all__ = ["generate_token"]


def generate_token(account: Account, request: ReceivedRequest) -> Answer:
    """Generate Token."""
    if request.params is None:
        return INVALID_JSON
    if request.headers.get("apiKey") is None:
        return KEY_MISSING
    username = text(request.get("userName"))
    if not username.strip():
        return TOKEN_USER_MISSING
    if request.headers.get("apiKey") != account.settings.api_key or username != account.settings.username:
        return TOKEN_INVALID_USER
    if account.settings.auth_mode != "TOKEN_AUTH":
        return INVALID_ACTION
    return Answer(json.encode({"token": account.tokens.issue(username), "message": ""}))
