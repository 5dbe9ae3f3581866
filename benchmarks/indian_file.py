"""A file as Indian sales teams have them: what is accepted with and without cleaning, and whether numbers are right.

    python benchmarks/indian_file.py [--rows 50000] [--seed 1] [--keep leads.csv]

All names and numbers are invented. Each row is uploaded to the simulator; with cleaning, each number that the
simulator holds must be the one its cell was made from.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import sys
import tempfile
import time
from pathlib import Path

from ozonetel_async import Cleaning, Limits, OzonetelClient, RateLimit, UploadReport, check_leads, read_csv
from ozonetel_async.testing import Simulator

NAMES = (
    *("आशा शर्मा", "राजेश कुमार", "सुनीता देवी", "मोहम्मद इमरान", "प्रिया सिंह"),
    *("முருகன்", "லட்சுமி", "கார்த்திக் ராஜா", "செல்வி"),
    *("অনির্বাণ সেন", "মৌসুমী দাস", "সুব্রত ঘোষ"),
    *("Asha Sharma", "Rajesh Kumar", "Imran Khan", "Lakshmi N.", "K. Murugan", "Sen (Kolkata)"),
    *("O'Brien", "D'Souza", "M/s Gupta & Sons", "M/s. Rao Traders, Pune", "Renée D\u2019Cruz", "Dr. José"),
    *("راجیش", "Priya @ Home", "Neha #2", ""),
)
# How often each spelling turns up; the digits of the number in their order.
SPELLINGS = (
    (20, "{0}{1}"),
    (15, "{0} {1}"),
    (10, "+91 {0} {1}"),
    (10, "+91-{0}-{1}"),
    (8, "0{0}{1}"),
    (8, "91{0}{1}"),
    (5, "'{0}{1}"),
    (4, '="{0}{1}"'),
    (4, "{0}{1}.0"),
    (3, "Mob: {0} {1}"),
    (2, "\u200e{0}{1}\u00a0"),
    (2, "(+91) {0}{1}"),
)
# What no cleaning may guess at.
WRONG = ("9.8E+09", "{0}{1}/{2}{1}", "{0}{1} ext 12", "98XXXXX{0}", "", "12-05-2024", "-{0}{1}", "N/A")
WRONG_SHARE = 0.03


def make(path: Path, count: int, seed: int) -> dict[str, int]:
    """Write the file; the ten digits of each row's number where it has one, with its row."""
    rng = random.Random(seed)
    numbers: dict[str, int] = {}
    weights = [weight for weight, _ in SPELLINGS]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(("Sr No", "Customer Name", "Mobile", "City"))
        for row in range(1, count + 1):
            number = f"{rng.choice('6789')}{row:05d}{rng.randrange(10_000):04d}"
            halves = (number[:5], number[5:], number[:5][::-1])
            if rng.random() < WRONG_SHARE:
                cell = rng.choice(WRONG).format(*halves)
            else:
                cell = rng.choices(SPELLINGS, weights)[0][1].format(*halves)
                numbers[number] = row
            writer.writerow((row, rng.choice(NAMES), cell, rng.choice(("Pune", "Chennai", "कोलकाता"))))
    return numbers


async def upload(path: Path, clean: Cleaning | None) -> tuple[UploadReport, dict[str, int], float]:
    """The report, how often each number was added, and the seconds it took."""
    limit = RateLimit(1_000, 0.1)
    rows = read_csv(path, {"Sr No": None, "Customer Name": "Name", "Mobile": "PhoneNumber"})
    async with (
        Simulator(api_key="sim-key", username="sim-user", limits={"bulk": 0}, max_log=100) as sim,
        OzonetelClient("sim-key", "sim-user", base_url=sim.base_url, limits=Limits(bulk=limit)) as client,
    ):
        sim.campaign("Diwali", columns=("Name", "City"))
        began = time.perf_counter()
        report = await client.upload("Diwali", rows, clean=clean)
        seconds = time.perf_counter() - began
        await sim.settle()
        return report, dict(sim.campaigns["Diwali"].numbers), seconds


async def main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder, "leads.csv")
        numbers = make(path, options.rows, options.seed)
        wrong = 0
        policies = {"without": None, "with clean": Cleaning(), "with country": Cleaning(country="IN", form="digits")}
        for name, clean in policies.items():
            report, added, seconds = await upload(path, clean)
            strangers = {number for number in added if number.lstrip("+")[-10:] not in numbers}
            twice = sum(count > 1 for count in added.values())
            wrong += len(strangers) + twice + (report.rows_accepted != sum(added.values()))
            print(
                f"{name:12}: {report.rows_accepted:,} of {report.rows_read:,} rows accepted in {seconds:.1f} s, "
                f"{report.rows_repairable:,} of {report.rows_invalid:,} invalid ones repairable; "
                f"{len(strangers)} numbers that are not their cell's, {twice} added twice"
            )
        columns = {"Sr No": None, "Customer Name": "Name", "Mobile": "PhoneNumber"}
        print(f"\n{await check_leads(read_csv(path, columns), clean=Cleaning())}")
        # For comparison: an id column taken for numbers.
        ids = await check_leads(read_csv(path, {"Sr No": "PhoneNumber", "Customer Name": "Name"}), clean=Cleaning())
        print(f"\nthe column of record numbers: {ids.warnings}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where to leave the file")
    sys.exit(asyncio.run(main(parser.parse_args())))
