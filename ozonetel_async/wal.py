"""Whether SQLite's write-ahead log is whole: SQLite itself forgets what follows a damaged place, without a word.

For a journal that would be fatal: a forgotten "sent" makes a batch go out twice. So the frames in the log are held
against the number that SQLite has recovered ("WAL-mode File Format", sections 1 and 2, at sqlite.org).
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import BinaryIO, Final

from .errors import JournalError

__all__ = ["check_log", "check_recovered"]

_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, sequence, two salts, two checksums
_FRAME: Final = struct.Struct(">6I")  # page, pages after a commit or 0, two salts, two checksums
_MAGIC: Final = {0x377F0682: "<", 0x377F0683: ">"}  # and the byte order of the checksums
_RECOVERED: Final = struct.Struct("=I")  # in the index, in the machine's own byte order
_RECOVERED_AT: Final = 16
# Another process that is at work flushes its frames to the disk before it counts them.
_LOOKS: Final = 20
_BETWEEN_LOOKS: Final = 0.1


def check_log(path: Path) -> bool:
    """Whether the database ``path`` has a log to read.

    Raises
    ------
    JournalError: the log's head is damaged, or what it belongs to is gone; SQLite would throw it away.
    """
    log = _log_of(path)
    if not log.exists() or log.stat().st_size == 0:
        return False
    with log.open("rb") as file:
        _, page_size = _read_header(file)
    if not page_size or path.stat().st_size == 0:
        raise _damaged(path)
    return True


def check_recovered(path: Path) -> None:
    """Hold the log against what SQLite has recovered of it, while a connection that cannot write is open.

    That connection, because one that can write would throw the damaged log away when it is closed.

    Raises
    ------
    JournalError: the log was damaged after it had been written.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS)
        with _log_of(path).open("rb") as file:
            salts, page_size = _read_header(file)
            if page_size and not _forgotten(file, salts, page_size, _recovered_frames(path)):
                return
    raise _damaged(path)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _damaged(path: Path) -> JournalError:
    return JournalError(
        f"journal {path.name}: the file or its log {_log_of(path).name} is damaged, and what was written last cannot "
        "be read; restore both from a backup, or start a new journal after checking in the dialler what was added"
    )


def _read_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
    """Salts and page size; size 0 when the header is damaged."""
    raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size:
        return (0, 0), 0
    magic, _, page_size, _, *salts_and_sums = _HEADER.unpack(raw)
    order = _MAGIC.get(magic)
    whole = order is not None and _checksum(struct.unpack(f"{order}6I", raw[:24])) == tuple(salts_and_sums[2:])
    return (salts_and_sums[0], salts_and_sums[1]), page_size if whole else 0


def _checksum(words: tuple[int, ...]) -> tuple[int, int]:
    first = second = 0
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first, second


def _recovered_frames(path: Path) -> int:
    with path.with_name(f"{path.name}-shm").open("rb") as index:
        index.seek(_RECOVERED_AT)
        return int(_RECOVERED.unpack(index.read(_RECOVERED.size))[0])


def _forgotten(file: BinaryIO, salts: tuple[int, int], page_size: int, recovered: int) -> bool:
    """Whether a transaction of the log's present generation was committed behind what SQLite has recovered.

    Frames without a commit are those of a process that was killed while it wrote.
    """
    step = _FRAME.size + page_size
    file.seek(_HEADER.size + recovered * step)
    while len(raw := file.read(_FRAME.size)) == _FRAME.size:
        _, commit, first, second, _, _ = _FRAME.unpack(raw)
        # Remains of earlier generations have both salts different; one is enough where the other one is damaged.
        if commit and (first == salts[0] or second == salts[1]):
            return True
        file.seek(page_size, 1)
    return False
