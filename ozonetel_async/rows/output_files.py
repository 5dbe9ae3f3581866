"""Files that hold phone numbers: written beside their place under a fresh name, readable by their owner only."""

from __future__ import annotations

import csv
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from typing import TextIO

from ..errors import ConfigurationError

__all__ = ["OutputFile", "is_same_file", "private_beside"]


class OutputFile:
    """A file that takes its place when it is closed; a new one is its owner's alone, one that is there keeps its mode.

    It is written under a name of its own beside it, so that no link is followed and an old file stays until then.
    """

    def __init__(self, option: str, path: str | PathLike[str], leads: object, *, bom: bool = False) -> None:
        _check_output(option, path, leads)
        self._path = os.fspath(path)
        self._encoding = "utf-8-sig" if bom else "utf-8"
        self._part: str | None = None
        try:
            self.text = self._opened()
        except OSError as error:
            raise ConfigurationError(f"{option}: cannot write {self._path}: {error.strerror}") from None

    def _opened(self) -> TextIO:
        if _is_special(self._path):
            opened: int | str = self._path
        else:
            opened, self._part = private_beside(self._path)
        # backslashreplace: half a surrogate pair is a common reason for being in here, and UTF-8 cannot hold it.
        return open(opened, "w+" if self._part else "w", encoding=self._encoding, errors="backslashreplace", newline="")

    def rewritten(self) -> Iterator[list[str]]:
        """Begin the file anew; the rows that it has had, below their header."""
        if self._part is None:
            return iter(())
        self.text.flush()
        with open(self._part, encoding=self._encoding, newline="") as old:
            rows = list(csv.reader(old))
        self.text.seek(0)
        self.text.truncate()
        return iter(rows[1:])

    def close(self) -> None:
        """Write out what is buffered and put the file in its place; raises ``OSError``."""
        try:
            self.text.close()
            if self._part is not None:
                os.replace(self._part, self._path)
                self._part = None
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave what stood in its place as it was."""
        # What could not be written would be tried once more, and is known to be missing.
        with suppress(OSError):
            self.text.close()
        if self._part is not None:
            with suppress(OSError):
                os.unlink(self._part)
            self._part = None


def private_beside(target: str) -> tuple[int, str]:
    """A new file in the folder of ``target``, to take its place: no link is followed, and a mode that is there is kept.

    A file that is not there yet will be its owner's alone, since these files hold phone numbers.

    Returns:
        Its descriptor and its path.

    Raises:
        OSError: it cannot be made.
    """
    mode = 0o600
    if os.path.isfile(target) and not os.path.islink(target):
        mode = stat.S_IMODE(os.stat(target).st_mode)
    folder, name = os.path.split(os.path.abspath(target))
    number, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
    try:
        os.chmod(number if os.chmod in os.supports_fd else part, mode)
    except OSError:
        os.close(number)
        os.unlink(part)
        raise
    return number, part


def _check_output(option: str, path: object, leads: object) -> None:
    # open() would take a number, True too, for an open file of the process, and close it in the end.
    if not isinstance(path, str | PathLike):
        raise ConfigurationError(f"{option} must be the path of a file, got {type(path).__name__}")
    source = getattr(leads, "path", None)
    if isinstance(source, str | PathLike) and is_same_file(source, path):
        raise ConfigurationError(f"{option}: this is the input itself; name another file")


def _is_special(path: str) -> bool:
    """Whether there is something that is no regular file, such as a device or a pipe."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode)


def is_same_file(source: str | PathLike[str], path: str | PathLike[str]) -> bool:
    """Whether two names are one file's, or would be if it were there."""
    try:
        return os.path.samefile(source, path)  # whatever it is called
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(source) == os.path.realpath(path)
