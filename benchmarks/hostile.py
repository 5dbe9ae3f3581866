"""Generated hostile callbacks against the parser and the token check.

``python benchmarks/hostile.py --count 50000 [--seed 1]``: every request has a generated body, content type, path and
query. Prints the undeclared exceptions, the requests accepted without their token, and the slowest body. The exit
code is 0 only when the first two are 0 and every request with its token and an intact body was accepted.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from ozonetel_async.callbacks.results import parse_callback
from ozonetel_async.callbacks.url_tokens import add_token, new_token, url_token
from ozonetel_async.errors import CallbackError

ZONE = ZoneInfo("Asia/Kolkata")
GOOD = {
    "totalNoUploaded": "6",
    "numbersProcessed": "2",
    "numbersNotProcessed": "4",
    "failedFilePath": "https://etl-dataprocessing.s3.ap-south-1.amazonaws.com/1_error.csv?X-Amz-Signature=c0ffee&x=%2F",
    "transactionId": "172067852912917131638630",
    "status": "Success",
    "message": "File Successfully uploaded.",
    "startDateTime": "2024-07-11 11:45:29",
    "endDateTime": "2024-07-11 11:45:54",
}
ODD_VALUES: list[object] = [
    *(None, True, False, -1, 10**40, -(10**400), 1e308, float("nan"), float("inf"), "", " ", "xxxx", "null", "NaN"),
    *("\x00", "\ud800", "é" * 50, "٣", "1" * 5_000, "a\r\nSet-Cookie: x", "../../etc/passwd", "' OR 1=1 --", "<b>"),
    *("file:///etc/passwd", "https://[::1", "https://u@h/", "http://169.254.169.254/", "https://h:99999/", "//h"),
    *([], {}, [[[]]], {"data": {"data": "{}"}}, ["x"] * 500, "9.9E+99", "-0", "0x10", "1_000", "\uff12", "2024-99-99"),
]
CONTENT_TYPES = [
    *("", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=XyZ", "text/html"),
    *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="', "a" * 9_000),
    *(
        "multipart/form-data; boundary=" + "x" * 5_000,
        "application/json; charset=utf-7",
        ";;;===",
        "\x00",
        "é",
        "\ud800",
    ),
]


def multipart(text: str) -> str:
    return f'--XyZ\r\nContent-Disposition: form-data; name="data"\r\n\r\n{text}\r\n--XyZ--\r\n'


SHAPES: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: f'{{"data":{text}}}',
    lambda text: json.dumps({"data": text}),
    lambda text: f'{{"data":"{text}"}}',
    lambda text: urlencode({"data": text}, errors="replace"),
    lambda text: f"data={text}",
    multipart,
    lambda text: f"CallBack response : {text}",
]


def odd_fields(rng: random.Random) -> str:
    fields: dict[str, object] = dict(GOOD)
    for name in rng.sample([*GOOD, "uniqueId", "data", "Status", "DATA", "extra"], rng.randint(1, 4)):
        fields[name] = rng.choice(ODD_VALUES)
    for name in rng.sample([*GOOD], rng.choice((0, 0, 1, 4))):
        fields.pop(name, None)
    return json.dumps(fields, ensure_ascii=rng.random() < 0.5)


def nested(rng: random.Random) -> str:
    opening, closing = rng.choice(
        [("[", "]"), ('{"data":', "}"), ('{"a":', "}"), ('"', '"'), ('{"', '"}'), ("{ ", "}")]
    )
    depth = rng.choice((5, 100, 900, 1_100, 8_000))
    return opening * depth + rng.choice(("", "1", json.dumps(GOOD))) + closing * rng.choice((0, depth))


def many(rng: random.Random) -> str:
    count = rng.choice((10, 300, 4_000))
    kind = rng.randrange(4)
    if kind == 0:
        return "&".join(f"f{number}=x" for number in range(count))
    if kind == 1:
        return json.dumps({f"f{number}": "x" for number in range(count)} | GOOD)
    if kind == 2:
        return '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n' * count
    return '{"status":"Success",' * count


def noise(rng: random.Random) -> str:
    alphabet = rng.choice(['{}[]":,data=&%-\\ \n', "0123456789.-+eE", "".join(map(chr, range(300))), " ", "-", '{"'])
    return "".join(rng.choices(alphabet, k=rng.choice((1, 20, 400))))


def mutate(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(body))
        stop = min(len(body), start + rng.choice((0, 1, 1, 5, 50)))
        body = body[:start] + rng.randbytes(rng.choice((0, 1, 1, 3))) + body[stop:]
    return body


def make_body(rng: random.Random) -> tuple[bytes, bool]:
    """A body, and whether it is an intact callback in a documented shape."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(SHAPES)(json.dumps(GOOD)).encode(), True
    text = rng.choices([odd_fields, nested, many, noise], (6, 1, 0.5, 1.5))[0](rng)
    if rng.random() < 0.8:
        text = rng.choice(SHAPES)(text)
    body = rng.choice(("", "", "", "\ufeff", "<br />\n", "API Response: ")).encode() + text.encode(
        "utf-8", "surrogatepass"
    )
    if rng.random() < 0.3:
        body = mutate(rng, body)
    if rng.random() < 0.01:
        body *= 70_000 // (len(body) + 1) + 1
    return body, False


def make_target(rng: random.Random, token: str) -> tuple[str, str, bool]:
    """Path and query of a request, and whether they hold the token."""
    path = add_token("https://me.example/cb", token).removeprefix("https://me.example")
    if rng.random() < 0.3:
        return rng.choice((path, path + "/", quote(path))), rng.choice(("", "a=b", "\x00")), True
    wrong = [
        *("", "/", "/cb", "/cb/", path[:-1], path + "x", path.upper(), path.swapcase()),
        *(path.replace("ozcb_", ""), f"/cb/{new_token()}", f"{path}é", f"/{token}/{new_token()}", "/" * 9_000 + token),
        *("/cb/\ud800", "/%ff%00%", "".join(map(chr, rng.choices(range(0x3000), k=40)))),
        path[:-5] + "".join(rng.choices("abc-_ é", k=5)) + "?",
    ]
    return rng.choice(wrong), rng.choice(("", "token=", f"t={token[:-1]}", "a=" * 2_000)), False


def run(count: int, seed: int) -> int:
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    undeclared: Counter[str] = Counter()
    slowest = (0.0, 0)
    for _ in range(count):
        token = new_token()
        (body, intact), (path, query, genuine) = make_body(rng), make_target(rng, token)
        content_type = rng.choice(CONTENT_TYPES)
        try:
            known = url_token(path, query) == token
        except Exception as error:  # noqa: BLE001, RUF100 - what must not happen is what is counted
            undeclared[f"token: {type(error).__name__}"] += 1
            known = False
        tally["accepted without token"] += known and not genuine
        tally["refused with token"] += genuine and not known
        started = time.perf_counter()
        try:
            parse_callback(body, content_type, timezone=ZONE)
            tally["read"] += 1
        except CallbackError:
            tally["CallbackError"] += 1
            tally["intact but refused"] += intact
        except Exception as error:  # noqa: BLE001, RUF100
            undeclared[f"body: {type(error).__name__}"] += 1
        slowest = max(slowest, (time.perf_counter() - started, len(body)))
    return report(count, seed, tally, undeclared, slowest)


def report(count: int, seed: int, tally: Counter[str], undeclared: Counter[str], slowest: tuple[float, int]) -> int:
    print(f"{count:,} requests, seed {seed}, Python {platform.python_version()}")
    print(f"  bodies read                 {tally['read']:>8,}")
    print(f"  bodies refused, declared    {tally['CallbackError']:>8,}")
    print(f"  undeclared exceptions       {undeclared.total():>8,}  {dict(undeclared) or ''}")
    for name in ("accepted without token", "refused with token", "intact but refused"):
        print(f"  {name:<27} {tally[name]:>8,}")
    print(f"  slowest body                {slowest[0] * 1e3:>8.1f} ms for {slowest[1]:,} bytes")
    bad = (
        undeclared.total() + tally["accepted without token"] + tally["refused with token"] + tally["intact but refused"]
    )
    return 1 if bad or not tally["read"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(options.count, options.seed)


if __name__ == "__main__":
    raise SystemExit(main())
