"""What the commands show: results on stdout, progress and complaints on stderr; with rich on a terminal, else plain."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from time import monotonic
from typing import BinaryIO, Final, Protocol, TextIO

from msgspec import Struct, json

from .errors import ConfigurationError, OzonetelError

__all__ = ["Exit", "Facts", "Meter", "Progress", "Screen", "duration", "streams"]

Facts = Sequence[tuple[str, str]]

# Least seconds between two plain lines of progress, when rows have moved and when they have not: enough to follow,
# few enough for the log file of a night.
_PLAIN_EVERY: Final = 5.0
_PLAIN_IDLE: Final = 30.0


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    NOT_ALL = 1
    USAGE = 2
    STOPPED = 3
    INTERRUPTED = 130


class Progress(Struct, frozen=True, kw_only=True):
    """Where a run stands at one moment.

    Parameters
    ----------
    done: rows whose fate is known.
    total: rows in all, or None when nobody knows.
    exact: whether ``total`` was counted rather than estimated.
    states: rows by state, in the order in which they are shown.
    requests: requests whose fate is known.
    next_free_in: seconds until the rate limit lets the next request start.
    seconds_left: seconds until the end, or None when ``total`` is.
    waiting: what is waited for when no request is left to send, shown in place of the pace.
    """

    done: int
    total: int | None
    exact: bool
    states: Sequence[tuple[str, int]]
    requests: int
    next_free_in: float
    seconds_left: float | None
    waiting: str | None = None

    def line(self) -> str:
        """All of it as one line of text."""
        return f"{self.rows()}; {self.pace()}"

    def rows(self) -> str:
        """How many rows are done, and in what states, as text."""
        states = ", ".join(f"{count:,} {state}" for state, count in self.states if count)
        extent = "" if self.total is None else f" of {'' if self.exact else 'about '}{self.total:,}"
        return f"{self.done:,}{extent} rows: {states or 'nothing decided yet'}"

    def pace(self) -> str:
        """The requests, the rate limit and the time left, or what is waited for, as text."""
        if self.waiting is not None:
            return self.waiting
        slot = "next slot free now" if self.next_free_in <= 0 else f"next slot in {self.next_free_in:.1f} s"
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"{self.requests:,} requests, {slot}{left}"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``8 s``, ``3 min 20 s``, ``6 h 39 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


class Meter(Protocol):
    """Shows progress."""

    def show(self, progress: Progress) -> None:
        """Show where the run stands; called several times a second."""


class Screen:
    """The two streams of a command.

    Parameters
    ----------
    out, err: where results, and progress with complaints, go.
    as_json: the result is one JSON object and nothing else is written to ``out``.
    quiet: no progress.
    """

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False, quiet: bool = False) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json
        self._quiet = quiet

    def say(self, text: str = "") -> None:
        """Write one line of the result for people."""
        if not self._as_json:
            self._write(self._out, text)

    def facts(self, title: str, facts: Facts) -> None:
        """Write a table of labels and values for people."""
        if self._as_json:
            return
        if not _rich_wanted(self._out):
            self._write(self._out, title)
            width = max((len(label) for label, _ in facts), default=0)
            for label, value in facts:
                self._write(self._out, f"  {label:<{width}}  {value}".rstrip())
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left", show_header=False)
        for label, value in facts:
            table.add_row(escape(label), escape(value))
        Console(file=self._out).print(table)

    def result(self, value: object) -> None:
        """Write the result for machines."""
        if self._as_json:
            self._write(self._out, json.encode(value).decode())

    def note(self, text: str) -> None:
        """Write one line beside the result, for people who watch."""
        if not self._quiet:
            self._write(self._err, text)

    def complain(self, text: str) -> None:
        """Write one line about what went wrong."""
        self._write(self._err, f"ozonetel: {text}")

    def fail(self, error: OzonetelError, exit_code: int) -> None:
        """Write the error that ended the command."""
        self.complain(f"error: {error}")
        self.result({"error": type(error).__name__, "message": str(error), "exit_code": exit_code})

    @contextlib.contextmanager
    def file(self, path: str) -> Iterator[BinaryIO]:
        """A file to write a result into, ``-`` for stdout; what breaks off leaves no half of a regular file.

        Raises
        ------
        ConfigurationError: it cannot be written.
        """
        try:
            if path == "-":
                yield self._out.buffer
                self._out.flush()
            elif os.path.exists(path) and not os.path.isfile(path):
                with open(path, "wb") as file:
                    yield file
            else:
                with _replacing(path) as file:
                    yield file
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from None

    @contextlib.contextmanager
    def meter(self) -> Iterator[Meter]:
        """Show progress while the context is open."""
        if self._quiet:
            yield _NoMeter()
        elif _rich_wanted(self._err):
            with _rich_meter(self._err) as meter:
                yield meter
        else:
            yield _PlainMeter(lambda text: self._write(self._err, text))

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(f"{text}\n")
        stream.flush()


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    # Through a link, or the link would be replaced by a file.
    path = os.path.realpath(path)
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


class _NoMeter:
    def show(self, progress: Progress) -> None:
        """Show nothing."""


class _PlainMeter:
    """A line now and then: soon when something has changed, else seldom."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = monotonic()
        self._rows = ""

    def show(self, progress: Progress) -> None:
        now, rows = monotonic(), progress.rows()
        if now - self._written >= (_PLAIN_EVERY if rows != self._rows else _PLAIN_IDLE):
            self._written, self._rows = now, rows
            self._write(progress.line())


@contextlib.contextmanager
def _rich_meter(stream: TextIO) -> Iterator[Meter]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    class RichMeter:
        def show(self, progress: Progress) -> None:
            # An estimate may fall short of what has been read already.
            total = None if progress.total is None else max(progress.total, progress.done, 1)
            view = Table.grid()
            for line in (ProgressBar(total=total, completed=progress.done, width=60), progress.rows(), progress.pace()):
                view.add_row(line)
            live.update(view, refresh=True)

    with Live(console=Console(file=stream), auto_refresh=False, transient=True) as live:
        yield RichMeter()


def _rich_wanted(stream: TextIO) -> bool:
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        import rich  # noqa: F401 - looked for, not used
    except ImportError:
        return False
    return True


def streams() -> tuple[TextIO, TextIO]:
    """stdout and stderr, told to escape what their encoding cannot write instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    return sys.stdout, sys.stderr
