"""Whether SQLite's write-ahead log is whole: SQLite itself forgets what follows a damaged place, without a word.

For a journal that would be fatal: a forgotten "sent" makes a batch go out twice. So the frames in the log are checked
here as SQLite checks them ("WAL-mode File Format", sections 1 and 2, at sqlite.org). Never by opening the database or
its index: closing any file of theirs drops the locks of every connection this process has ("How To Corrupt An SQLite
Database File", section 2.2). The log itself bears no locks. Damage to the very last transaction looks like one that
was cut off by a kill, and passes for it.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import JournalError

__all__ = ["check_log", "log_of"]

_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, sequence, two salts, two checksums
_FRAME: Final = struct.Struct(">6I")  # page, pages after a commit or 0, two salts, two checksums
_MAGIC: Final = {0x377F0682: "<", 0x377F0683: ">"}  # and the byte order of the checksums
# Another process may be at work: what looks damaged may be half written.
_LOOKS: Final = 20
_BETWEEN_LOOKS: Final = 0.1


def check_log(path: Path) -> None:
    """Look for damage in the log of the database ``path``; a missing or empty log is whole.

    Raises:
        JournalError: the log was damaged after it had been written, or what it belongs to is gone.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS)
        try:
            with log_of(path).open("rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0
                if empty or (path.stat().st_size > 0 and _is_whole(file)):
                    return
        except FileNotFoundError:
            return  # its last user has closed the journal, and taken all of the log into the file
    raise _damaged(path)


def log_of(path: Path) -> Path:
    """The log of the database ``path``."""
    return path.with_name(f"{path.name}-wal")


def _damaged(path: Path) -> JournalError:
    return JournalError(
        f"journal {path.name}: the file or its log {log_of(path).name} is damaged, and what was written last cannot "
        "be read; restore both from a backup, or start a new journal after checking in the dialler what was added"
    )


def _is_whole(file: BinaryIO) -> bool:
    raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size:
        return False
    magic, _, page_size, _, first_salt, second_salt, *sums = _HEADER.unpack(raw)
    order = _MAGIC.get(magic)
    if order is None or _checksum(order, raw[:24], (0, 0)) != tuple(sums):
        return False
    salts = first_salt, second_salt
    state = sums[0], sums[1]
    whole = True
    behind = 0  # transactions behind the first break
    while len(frame := file.read(_FRAME.size + page_size)) == _FRAME.size + page_size:
        _, commit, *salts_and_sums = _FRAME.unpack_from(frame)
        first, second, *sums = salts_and_sums
        if whole:
            state = _checksum(order, frame[:8] + frame[_FRAME.size :], state)
            whole = (first, second) == salts and state == tuple(sums)
        # Remains of earlier generations have both salts different; one is enough where the other one is damaged. Frames
        # without a commit are those of a process that was killed while it wrote.
        if not whole and commit and (first == salts[0] or second == salts[1]):
            behind += 1
    # One is no proof: a process that is killed while it flushes a transaction leaves it, and another one, which was
    # there before and goes on, writes shorter ones over its beginning.
    return behind < 2


def _checksum(order: str, data: bytes, state: tuple[int, int]) -> tuple[int, int]:
    first, second = state
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
