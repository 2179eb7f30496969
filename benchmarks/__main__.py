"""Measure the bundle against what a user would otherwise run, and write results.json, README.md and the figure.

python -m benchmarks          all rows: about ten minutes on a quiet machine
python -m benchmarks scale    memory and cost per clip from 2,000 to 50,000 notes: about 15 GB of disk, twenty minutes
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from helpers.files import replacing

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "runs" / "bench"


def main() -> int:
    """Measure what was asked for and renew the pages; 0 whatever the aims: they are reported, not enforced."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("rows", "scale"), default="rows")
    parser.add_argument("--only", help="parts whose name holds this, such as MelCNN; other rows stay")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10000, 50000], help="notes (%(default)s)")
    options = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    from benchmarks import pages
    from helpers.weights import environment

    if options.part == "rows":
        from benchmarks import profiles
        from benchmarks.rows import ROOT, all_rows, notes

        kept = {(row["name"], row["against"]): row for row in results.get("rows", []) if options.only}
        for row in all_rows(WORK, options.only or ""):
            found = {
                name: getattr(row, name) for name in ("name", "against", "unit", "measured", "aim", "below", "met")
            }
            kept[row.name, row.against] = found
            print(pages.in_words(found), flush=True)
        results |= {"rows": list(kept.values()), "profiles": profiles.measure(ROOT, notes(WORK))}
        results["environment"] = environment() | {"load": os.getloadavg()[0]}
    else:
        from benchmarks.scale import measure

        results |= {"scale": measure(WORK, options.sizes), "scale_environment": environment()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    pages.write(results, HERE)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
