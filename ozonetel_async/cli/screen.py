"""What the commands show: results on stdout, progress and errors on stderr; with rich on a terminal, else plain."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from time import monotonic
from typing import BinaryIO, Final, Protocol, TextIO

from msgspec import Struct, json

from ..errors import ConfigurationError
from ..models import counted
from ..rows.output_files import private_beside
from .wording import as_options

__all__ = [
    "Exit",
    "Facts",
    "Meter",
    "OutputError",
    "Progress",
    "ResultFile",
    "Screen",
    "StdoutError",
    "duration",
    "streams",
]

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


class OutputError(Exception):
    """The file for a result cannot be written, and the work for it has been done."""


class StdoutError(Exception):
    """Stdout takes no more of the result; stderr says why, unless its reader has closed it."""


class Progress(Struct, frozen=True, kw_only=True):
    """Where a run stands at one moment.

    Attributes:
        done: rows whose outcome is known.
        total: rows in all, or None when it is not known.
        exact: whether ``total`` was counted rather than estimated.
        states: rows by state, in the order in which they are shown.
        requests: requests whose outcome is known.
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
        rows = "row" if (self.done if self.total is None else self.total) == 1 else "rows"
        return f"{self.done:,}{extent} {rows}: {states or 'nothing decided yet'}"

    def pace(self) -> str:
        """The requests, the rate limit and the time left, or what is waited for, as text."""
        if self.waiting is not None:
            return self.waiting
        slot = "next slot free now" if self.next_free_in <= 0 else f"next slot in {self.next_free_in:.1f} s"
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"{counted(self.requests, 'request')}, {slot}{left}"


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

    Args:
        out, err: where results, and progress with warnings and errors, go.
        as_json: the result is one JSON object and nothing else is written to ``out``.
        quiet: no progress.
        journal: the path of the journal that messages speak of.
    """

    def __init__(
        self, out: TextIO, err: TextIO, *, as_json: bool = False, quiet: bool = False, journal: str | None = None
    ) -> None:
        self._journal = journal
        self._out = out
        self._err = err
        self._as_json = as_json
        self._quiet = quiet
        self._answered = False

    def say(self, text: str = "") -> None:
        """Write one line of the result for people."""
        if not self._as_json:
            self._print(self.worded(text))

    def worded(self, text: str) -> str:
        """A message of the library in the words of the command line."""
        return as_options(text, self._journal)

    def facts(self, title: str, facts: Facts) -> None:
        """Write a table of labels and values for people."""
        if self._as_json:
            return
        facts = [(label, self.worded(value)) for label, value in facts]
        if not _rich_wanted(self._out):
            width = max((len(label) for label, _ in facts), default=0)
            self._print("\n".join([title, *(f"  {label:<{width}}  {value}".rstrip() for label, value in facts)]))
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left", show_header=False)
        for label, value in facts:
            table.add_row(escape(label), escape(value))
        with self._stdout():
            Console(file=self._out).print(table)

    def result(self, value: object) -> None:
        """Write the result for machines: one object, so that a second one is none."""
        if self._as_json and not self._answered:
            self._answered = True
            self._print(json.encode(value).decode())

    def note(self, text: str) -> None:
        """Write one line beside the result, for people who watch."""
        if not self._quiet:
            self._tell(self.worded(text))

    def warn(self, text: str) -> None:
        """Write one line about what went wrong."""
        self._tell(f"ozonetel: {self.worded(text)}")

    def fail(self, error: Exception, exit_code: int) -> None:
        """Write the error that ended the command."""
        self.warn(f"error: {error}")
        self.result({"error": type(error).__name__, "message": self.worded(str(error)), "exit_code": exit_code})

    def interrupted(self) -> None:
        """Write that the command was ended before it had a result."""
        self.warn("interrupted")
        message = "ended by Ctrl-C or SIGTERM, without a result"
        self.result({"error": "interrupted", "message": message, "exit_code": int(Exit.INTERRUPTED)})

    @contextlib.contextmanager
    def file(self, path: str) -> Iterator[ResultFile]:
        """Open a file for a result, ``-`` for stdout, before the work is begun that cannot be done twice.

        A regular file is replaced once its result has been written, and stays as it was otherwise.

        Raises:
            ConfigurationError: it cannot be written.
        """
        if path == "-":
            yield ResultFile(path, self._out.buffer, self._stdout)
            return
        # Through a link that the user names, or the link would be replaced by a file.
        target = os.path.realpath(path)
        part: str | None = None
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                stream: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed below, and sooner once written
            else:
                number, part = private_beside(target)
                stream = os.fdopen(number, "wb")
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from None
        file = ResultFile(path, stream, lambda: _into(path, stream, part, target))
        try:
            yield file
        finally:
            # What could not be written would be tried once more, and is known to be missing.
            with contextlib.suppress(OSError):
                stream.close()
            if part is not None and not file.written:
                with contextlib.suppress(OSError):
                    os.unlink(part)

    @contextlib.contextmanager
    def meter(self) -> Iterator[Meter]:
        """Show progress while the context is open."""
        if self._quiet:
            yield _NoMeter()
        elif _rich_wanted(self._err):
            with _rich_meter(self._err) as meter:
                yield meter
        else:
            yield _PlainMeter(self._tell)

    def _print(self, text: str) -> None:
        with self._stdout():
            self._out.write(f"{text}\n")

    def _tell(self, text: str) -> None:
        try:
            self._err.write(f"{text}\n")
            self._err.flush()
        except OSError:
            # A closed stderr must not end the work, or keep its result back.
            _discard(self._err)

    @contextlib.contextmanager
    def _stdout(self) -> Iterator[None]:
        try:
            yield
            self._out.flush()
        except OSError as error:
            _discard(self._out)
            if not isinstance(error, BrokenPipeError):
                self.warn(f"cannot write the result to stdout: {error.strerror or 'it is closed'}")
            raise StdoutError from None


class ResultFile:
    """A file that is open for a result which is still to come; see ``Screen.file``.

    Attributes:
        written: whether the result is in it.
    """

    def __init__(
        self, path: str, stream: BinaryIO, keeping: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self.path = path
        self.written: bool = False
        self._stream = stream
        self._keeping = keeping

    @contextlib.contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Write the result, once and as a whole.

        Raises:
            OutputError: it cannot be written.
            StdoutError: it cannot be written, and was for stdout.
        """
        with self._keeping():
            yield self._stream
        self.written = True


@contextlib.contextmanager
def _into(path: str, stream: BinaryIO, part: str | None, target: str) -> Iterator[None]:
    try:
        yield
        stream.close()
        if part is not None:
            os.replace(part, target)
    except OSError as error:
        # Closed here: a text wrapper around it that could not be flushed would try again later, and warn.
        with contextlib.suppress(OSError):
            stream.close()
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _discard(stream: TextIO) -> None:
    """Discard what is left in a stream's buffer, which the interpreter would write at exit, with an error."""
    # A stream that is no file, as in tests, has none to redirect.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


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
            # rich's own colour is a red, which looks like a failure.
            bar = ProgressBar(total=total, completed=progress.done, width=60, complete_style="green")
            for line in (bar, progress.rows(), progress.pace()):
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
    """Standard output and error, which escape what their encoding cannot write instead of failing.

    In place of one that was closed when the process was started: for stdout, a stream that cannot be written; for
    stderr, one that goes nowhere.
    """
    out: TextIO | None = sys.stdout
    err: TextIO | None = sys.stderr
    for stream in (out, err):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    # Open until the process ends, as the ones they stand for would be.
    return out or open(os.devnull), err or open(os.devnull, "w")
