"""The made-up file of the demo."""

from __future__ import annotations

import csv
import re
from datetime import date
from math import gcd
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ozonetel_async.cli.commands.demo_leads import FLAWS, phone_number, write_leads


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "other"))
    day = date(2026, 1, 31)
    known = write_leads(one, 1_000, 3, day)
    assert known == write_leads(two, 1_000, 3, day)
    assert Path(one).read_bytes() == Path(two).read_bytes()
    write_leads(other, 1_000, 4, day)
    assert Path(one).read_bytes() != Path(other).read_bytes()


def test_the_file_holds_every_flaw_repeats_and_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    known = write_leads(str(path), 2_000, 1, date(2026, 1, 31))
    assert set(known.flaws.values()) == set(FLAWS)
    assert known.repeats > 0
    assert 0 < len(known.do_not_disturb) < len(known.numbers)
    assert len(known.flaws) + known.repeats + len(known.numbers) == known.rows == 2_000
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2_001
    assert any("\n" in row[-1] for row in rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


@given(st.sets(st.integers(0, 90_000_000 - 1), min_size=2), st.integers())
def test_made_up_numbers_are_ten_digits_distinct_and_nobodys(indices: set[int], seed: int) -> None:
    numbers = {phone_number(index, seed) for index in indices}
    assert len(numbers) == len(indices)
    assert all(re.fullmatch(r"12\d{8}", number) for number in numbers)


def test_made_up_numbers_come_round_only_after_all_90_million() -> None:
    step = int(phone_number(1)) - int(phone_number(0))
    assert gcd(step, 90_000_000) == 1
