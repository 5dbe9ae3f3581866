"""Credentials of the /ca_apis family: an apiKey header, or a bearer token, and the user name."""

from __future__ import annotations

from .account import Account, Check, ReceivedRequest
from .answers import INVALID_ACTION, INVALID_JSON, INVALID_USER, KEY_MISSING, USER_MISSING, Answer, say
from .fields import text

__all__ = ["AUTHENTICATION", "check_mode", "check_scalars"]


def _check_json(account: Account, request: ReceivedRequest) -> Answer | None:
    """Whether the body is a JSON object."""
    if request.params is None:
        return INVALID_JSON
    return None


def check_scalars(account: Account, request: ReceivedRequest) -> Answer | None:
    """Whether no parameter is a list or an object."""
    # Delete Campaign Data answers a list of numbers like malformed JSON; Add is taken to do the same.
    for value in (request.params or {}).values():
        if isinstance(value, list | dict):
            return INVALID_JSON
    return None


def _check_key(account: Account, request: ReceivedRequest) -> Answer | None:
    """Whether the key is the account's, or may be left out."""
    key = request.headers.get("apiKey")
    if key is None:
        bearer = account.settings.auth_mode == "TOKEN_AUTH" and "Authorization" in request.headers
        return None if bearer else KEY_MISSING
    return None if key == account.settings.api_key else INVALID_USER


def _check_user_given(account: Account, request: ReceivedRequest) -> Answer | None:
    return None if text(request.get("userName")).strip() else USER_MISSING


def _check_user(account: Account, request: ReceivedRequest) -> Answer | None:
    return None if text(request.get("userName")) == account.settings.username else INVALID_USER


def check_mode(account: Account, request: ReceivedRequest) -> Answer | None:
    """Whether the account's setting allows these credentials, and whether the token is good."""
    mode = account.settings.auth_mode
    if mode == "BASIC_AUTH":
        return None
    credentials = request.headers.get("Authorization")
    if mode == "NONE" or credentials is None:
        return INVALID_ACTION
    scheme, _, token = credentials.partition(" ")
    problem = account.tokens.problem(token.strip() if scheme.lower() == "bearer" else "")
    return None if problem is None else say("false", problem, data=None)


# The order in which several mistakes are found is not documented.
AUTHENTICATION: tuple[Check, ...] = (_check_json, _check_key, _check_user_given, _check_user, check_mode)
