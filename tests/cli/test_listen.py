"""The web server that commands receive callbacks with: what its clients send stays out of every log."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ozonetel_async.callbacks.receiver import CallbackReceiver
from ozonetel_async.callbacks.results import JobResult
from ozonetel_async.callbacks.url_tokens import new_token
from ozonetel_async.cli.arguments import Address
from ozonetel_async.cli.listen import JournalSink, listening
from ozonetel_async.cli.screen import Exit
from ozonetel_async.errors import JournalError

from .conftest import TOKEN, make_journal, process

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


async def test_a_sink_opens_its_journal_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JournalSink("x.journal")
    with pytest.raises(JournalError, match="no such file"):
        await sink.deliver(new_token(), JobResult("1", True))
    token = await make_journal("x.journal", host="https://elsewhere.example")
    results = await asyncio.gather(*(sink.deliver(one, JobResult("1", True)) for one in (token, token, "another")))
    assert results == [True, True, False]
    assert sum(thread.name.startswith("journal x.journal") for thread in threading.enumerate()) == 1
    await sink.aclose()
    assert not any(thread.name.startswith("journal x.journal") for thread in threading.enumerate())


async def begin(url: str, text: bytes) -> asyncio.Task[bytes]:
    """Open a connection, send the beginning of a request, and read to the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(text)

    async def read() -> bytes:
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.transport.abort()

    return asyncio.create_task(read())


BEGINNINGS = {
    "nothing": b"",
    "half a line": b"POST /x",
    "half a head": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-",
    "half a body": f"POST /{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode(),
    "a whole request": f"POST /{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n0000".encode(),
}


@pytest.mark.parametrize("kind", BEGINNINGS)
async def test_connections_end_by_themselves(kind: str) -> None:
    # Nobody hangs up here, and none of these connections is closed by the client.
    async with (
        listening(Address("127.0.0.1", 0), CallbackReceiver(timeout=0.05), head_seconds=0.05) as url,
        asyncio.timeout(10),
    ):
        answer = await (await begin(url, BEGINNINGS[kind]))
    status = answer.split()[1:2]
    assert status == {"half a body": [b"408"], "a whole request": [b"400"]}.get(kind, [])


async def test_a_callback_comes_through_however_many_connections_are_open() -> None:
    async with listening(Address("127.0.0.1", 0), CallbackReceiver(), most=8, head_seconds=600) as url:
        others = [await begin(url, BEGINNINGS["half a head"]) for _ in range(40)]
        async with asyncio.timeout(10):
            answer = await (await begin(url, BEGINNINGS["a whole request"]))
            while sum(not other.done() for other in others) > 8:
                await asyncio.wait([other for other in others if not other.done()], return_when="FIRST_COMPLETED")
        assert answer.split()[1] == b"400"
        assert not others[-1].done()
    await asyncio.wait(others)
