"""The web server that commands take callbacks in with: what strangers send it stays out of every log."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
from collections import Counter
from urllib.parse import urlsplit

import pytest

from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.cli.listen import Address, listening
from ozonetel_async.cli.screen import Exit

from .test_main import process

TOKEN = "ozcb_0000000000000000000000000000000000000000"
PHONE = "919812345678"
MALFORMED = {
    "line too long": f"GET /{TOKEN}?data={PHONE}{'a' * 9_000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "header too long": f"GET /{TOKEN} HTTP/1.1\r\nHost: x\r\nX-Number: {PHONE}{'a' * 9_000}\r\n\r\n",
    "no version": f"GET /{TOKEN}?data={PHONE} HTTP/x\r\nHost: x\r\n\r\n",
    "bad header": f"GET /{TOKEN} HTTP/1.1\r\nHost: x\r\nBad {PHONE}\r\n\r\n",
    "bad method": f"{PHONE}{TOKEN} / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad chunk size": f"POST /{TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{PHONE}zz\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_requests_show_neither_token_nor_number(
    kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = Counter[int]()
    async with listening(Address("127.0.0.1", 0), CallbackReceiver(), seen) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(MALFORMED[kind].encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b" 400 " in answer.splitlines()[0]
    assert seen == {400: 1}
    out, err = capsys.readouterr()
    everything = caplog.text + out + err + "".join(repr(vars(record)) for record in caplog.records)
    assert PHONE not in everything
    assert TOKEN not in everything
    assert "Traceback" not in everything


def test_a_receiver_tells_of_a_malformed_request_in_one_line() -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".", "--json") as receiving:
        assert receiving.stderr is not None
        found = re.search(r"http://127.0.0.1:(\d+)", receiving.stderr.readline())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=30) as connection:
            connection.sendall(MALFORMED["line too long"].encode())
            while connection.recv(65_536):
                pass
        receiving.send_signal(signal.SIGTERM)
        out, err = receiving.communicate(timeout=30)
    assert receiving.returncode == Exit.OK
    assert '"turned_away":{"400":1}' in out
    assert re.fullmatch(r"ozonetel: a request could not be read: \w+\n", err)
