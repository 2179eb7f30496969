"""Measure the bundle against what a user would otherwise run, and write results.json and README.md beside this file.

python -m benchmarks          all rows: about ten minutes on a quiet machine
python -m benchmarks scale    memory and cost per clip from 2,000 to 50,000 notes: about 15 GB of disk, twenty minutes
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from benchmarks import pages, rows, scale
from helpers.files import replacing
from helpers.weights import environment

WORK = Path(__file__).resolve().parent.parent / "runs" / "bench"


def main() -> None:
    """Measure what was asked for and renew the page, whatever the aims: they are reported, not enforced."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("rows", "scale"), default="rows")
    part = parser.parse_args().part
    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text())
    WORK.mkdir(parents=True, exist_ok=True)
    if part == "rows":
        results["environment"] = environment() | {"load": os.getloadavg()[0]}
        results["rows"] = []
        for row in rows.all_rows(WORK):
            print(*pages.cells(row), sep="  ", flush=True)
            results["rows"].append(row)
    else:
        results |= {"scale_environment": environment(), "scale": scale.measure(WORK)}
    for written, text in (
        (path, json.dumps(results, indent=1) + "\n"),
        (path.with_name("README.md"), pages.page(results)),
    ):
        with replacing(written) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
