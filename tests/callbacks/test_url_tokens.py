"""Unguessable tokens in callback URLs: only the right one verifies, and it tells its journal and its batch."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urlsplit

import pytest

from ozonetel_async.callbacks.url_tokens import (
    add_token,
    batch_token,
    journal_id,
    new_secret,
    new_token,
    token_batch,
    token_journal,
    url_token,
)
from ozonetel_async.errors import ConfigurationError

TOKEN = "ozcb_" + "aB3-_" * 8
OTHER = "ozcb_" + "_-3Ba" * 8


def test_tokens_are_long_fresh_and_url_safe() -> None:
    tokens = {new_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    # 40 characters of 6 bits behind the fixed beginning: 240 bits.
    assert {len(token) for token in tokens} == {45}
    assert all(url_token(f"/{token}") == token for token in tokens)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://me.example", f"https://me.example/{TOKEN}"),
        ("https://me.example/hooks/ozonetel/", f"https://me.example/hooks/ozonetel/{TOKEN}"),
        ("http://me.example:8080/cb?tenant=a%2Fb&x=", f"http://me.example:8080/cb/{TOKEN}?tenant=a%2Fb&x="),
        ("https://[2001:db8::1]/cb", f"https://[2001:db8::1]/cb/{TOKEN}"),
        ("HTTPS://me.example/cb", f"https://me.example/cb/{TOKEN}"),
    ],
)
def test_the_token_is_the_last_segment_of_the_path(base: str, expected: str) -> None:
    url = add_token(base, TOKEN)
    assert url == expected
    assert url_token(urlsplit(url).path, urlsplit(url).query) == TOKEN


@pytest.mark.parametrize(
    "base",
    [
        "",
        "me.example",
        "ftp://me.example",
        "https://",
        "https:///cb",
        "https://me.example:x/",
        "https://[::1",
        "https://u:p@me.example",
        "https://me.example/#f",
        "https://me example/",
        "https://é.example/",
        "//me/cb",
    ],
)
def test_other_callback_urls_are_refused(base: str) -> None:
    with pytest.raises(ConfigurationError, match="callback_url"):
        add_token(base, TOKEN)


@pytest.mark.parametrize("token", ["", "secret", TOKEN[:-1], TOKEN + "x", TOKEN + "\n", "ozcb_" + "é" * 40])
def test_other_tokens_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        add_token("https://me.example", token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"/cb/{TOKEN}", ""),
        (f"/cb/{TOKEN}/", "a=b"),
        (f"/cb/{TOKEN.replace('_', '%5F').replace('-', '%2d')}", ""),
        (f"/{TOKEN}/{TOKEN}", ""),
        ("/cb", f"tenant=a&token={TOKEN}"),
        ("/cb", TOKEN),
        (f"/cb/{TOKEN}", f"t={OTHER}"),
    ],
)
def test_the_token_is_found(path: str, query: str) -> None:
    assert url_token(path, query) == TOKEN


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/cb", ""),
        (f"/cb/{TOKEN[:-1]}", ""),
        (f"/cb/{TOKEN}x", ""),
        (f"/cb/x{TOKEN}", ""),
        (f"/cb/{TOKEN.upper()}", ""),
        (f"/cb/{TOKEN}.json", ""),
        (f"/{TOKEN}/{OTHER}", ""),
        ("/" * 9_000 + TOKEN, ""),
        ("/\ud800%ff%", "\0=\udfff"),
    ],
)
def test_no_token_or_more_than_one_is_none(path: str, query: str) -> None:
    assert url_token(path, query) is None


# --- a journal's tokens ----------------------------------------------------------------------------------------------


def test_a_batch_token_names_its_journal_and_its_batch() -> None:
    secrets = [new_secret() for _ in range(20)]
    assert len({journal_id(secret) for secret in secrets}) == 20
    for secret in secrets:
        tokens = {batch_token(secret, index): index for index in (0, 1, 2, 700, 2**32 - 1)}
        assert len(tokens) == 5
        for token, index in tokens.items():
            assert url_token(f"/cb/{token}") == token
            assert token_journal(token) == journal_id(secret)
            assert token_batch(secret, token) == index
            assert all(token_batch(other, token) is None for other in secrets if other != secret)


def test_a_token_is_a_proof_of_144_bits_that_each_of_them_counts_in() -> None:
    secret = new_secret()
    token = batch_token(secret, 5)
    content = urlsafe_b64decode(token.removeprefix("ozcb_"))
    proofs = {urlsafe_b64decode(batch_token(secret, index).removeprefix("ozcb_"))[12:] for index in range(100)}
    assert len(proofs) == 100
    assert {len(proof) for proof in proofs} == {18}
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        assert token_batch(secret, f"ozcb_{urlsafe_b64encode(changed).decode()}") is None, bit


@pytest.mark.parametrize("text", ["", "ozcb_", TOKEN[:-1], TOKEN + "A", TOKEN + "\n", "ozcb_" + "é" * 40, "\ud800"])
def test_other_texts_tell_neither_journal_nor_batch(text: str) -> None:
    assert token_journal(text) is None
    assert token_batch(new_secret(), text) is None


def test_a_fresh_token_is_of_no_journal() -> None:
    secret = new_secret()
    assert all(token_batch(secret, new_token()) is None for _ in range(100))
