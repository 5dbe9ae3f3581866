"""The leads of a buffer that wait for their batch, and the batches that are cut from them.

Each function runs inside a transaction of the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..errors import JournalError
from ..rows.batches import Batch
from . import records

__all__ = ["cut", "forget", "keep", "read_waiting"]


def keep(db: sqlite3.Connection, leads: Iterable[bytes]) -> list[int]:
    """Write leads down; their keys, in the same order."""
    return [int(db.execute("INSERT INTO waiting (lead) VALUES (?)", (lead,)).lastrowid or 0) for lead in leads]


def forget(db: sqlite3.Connection, keys: Iterable[int]) -> None:
    """Drop leads whose fate is known."""
    db.executemany("DELETE FROM waiting WHERE id = ?", ((key,) for key in keys))


def read_waiting(db: sqlite3.Connection, path: Path) -> list[tuple[int, bytes]]:
    """Key and bytes of each lead that is in no batch yet, the oldest first."""
    rows = db.execute("SELECT id, lead FROM waiting ORDER BY id").fetchall()
    if not all(isinstance(lead, bytes) for _, lead in rows):
        raise JournalError(f"journal {path.name} is damaged: a lead is not what was written")
    return rows


def cut(db: sqlite3.Connection, path: Path, payload: bytes, rows: int, keys: Iterable[int]) -> int:
    """Make the next batch, in place of the leads with these keys; its index."""
    index, last = db.execute("SELECT coalesce(max(id), -1) + 1, coalesce(max(last_row), 0) FROM batches").fetchone()
    records.insert(db, path, Batch(index, last + 1, last + rows, rows, rows, 0, payload), [])
    forget(db, keys)
    return int(index)
