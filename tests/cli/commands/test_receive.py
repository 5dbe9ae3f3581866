"""``ozonetel receive``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ozonetel_async.cli.main import main
from ozonetel_async.cli.screen import Exit
from ozonetel_async.testing import Simulator

from ..conftest import TOKEN, UPLOAD, Output, process, result, shown, status, wait_until


@pytest.mark.parametrize("host", [None, "localhost"])
def test_another_process_takes_callbacks_in(
    host: str | None, leads: str, simulator: Simulator, tmp_path: Path, capsys: Output
) -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".", "--json") as receiving:
        assert receiving.stderr is not None
        found = re.search(r"http://\S+", receiving.stderr.readline())
        assert found is not None
        assert main([*UPLOAD, "--limit", "50/1", "-q", "--callback-url", f"{found[0]}/ozonetel"]) == Exit.OK
        wait_until(lambda: not simulator.busy)
        assert len({callback.url for callback in simulator.callbacks}) == 6
        receiving.send_signal(signal.SIGTERM)
        out, err = receiving.communicate(timeout=30)
    assert (receiving.returncode, err) == (Exit.OK, "")
    assert json.loads(out) == {"stored": 6, "turned_away": {}, "exit_code": 0}
    capsys.readouterr()
    known = status(capsys)
    assert (known["lists"], known["rows_added"], known["failed_rows"]) == ({"open": 6}, 2_900, 0)

    command = ["failed-rows", "x.journal", "--out", "failed.csv", "--json"]
    assert main([*command, "--no-fetch"]) == Exit.NOT_ALL
    assert result(capsys)["rows"] == 0
    code = main([*command, *(["--link-host", host] if host else [])])
    out, err = shown(capsys)
    told = json.loads(out)
    if host is None:
        # The documented host and no other.
        assert (code, told["rows"], told["lists"]) == (Exit.NOT_ALL, 0, {"none": 5, "refused": 1})
        assert "rows 2501 to 3000: list refused: the link to http://127.0.0.1" in err
        assert told["lists_failed"][0]["first_row"] == 2_501
        assert "X-Amz" not in out + err
    else:
        assert (code, told["rows"], told["lists"]) == (Exit.OK, 100, {"none": 5, "done": 1})


def test_a_receiver_tells_what_it_turns_away() -> None:
    with process("receive", "--listen", "127.0.0.1:0", "--journals", ".", "--json") as receiving:
        assert receiving.stderr is not None
        url = receiving.stderr.readline().split()[3]
        for path, code in ((TOKEN, 400), ("nothing", 404)):
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(f"{url}/{path}", b"9812345678901", timeout=30)
            raised.value.close()
            assert raised.value.code == code
        receiving.send_signal(signal.SIGINT)
        out, err = receiving.communicate(timeout=30)
    assert receiving.returncode == Exit.OK
    assert json.loads(out) == {"stored": 0, "turned_away": {"400": 1, "404": 1}, "exit_code": 0}
    assert err.startswith("ozonetel: a callback was refused: ")
    assert len(err.splitlines()) == 1
    assert TOKEN not in err
    assert "9812345678901" not in err


def test_many_open_connections_at_a_low_file_limit_keep_no_callback_out() -> None:
    script = 'ulimit -n 100 && exec "$0" -m ozonetel_async receive --listen 127.0.0.1:0 --journals . --json'
    with (
        subprocess.Popen(
            ["/bin/sh", "-c", script, sys.executable], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as receiving,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(receiving.kill)
        assert receiving.stderr is not None
        url = receiving.stderr.readline().split()[3]
        for _ in range(160):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=30))
            connection.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{url}/{TOKEN}", b"{}", timeout=30)
        raised.value.close()
        assert raised.value.code == 400
        receiving.send_signal(signal.SIGINT)
        out, err = receiving.communicate(timeout=30)
    assert json.loads(out) == {"stored": 0, "turned_away": {"400": 1}, "exit_code": 0}
    assert "Traceback" not in err
