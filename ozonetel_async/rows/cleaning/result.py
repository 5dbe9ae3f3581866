"""What the cleaning of one cell comes to: another text, or the reason why there is none."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Cleaned", "Refused"]


class Cleaned(NamedTuple):
    """A cell as it may be sent.

    Attributes:
        text: the cell's text; ``""`` leaves the cell out.
        kind: what was changed, for counting; ``""`` when nothing was.
    """

    text: str
    kind: str


class Refused(NamedTuple):
    """A cell that cannot be repaired without guessing.

    Attributes:
        reason: why, in words for the person who owns the file; holds no part of the cell.
    """

    reason: str
