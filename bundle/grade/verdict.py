"""A verdict as verdict.json, as a page of its own, and as a line of a class's table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from bundle.page import render
from helpers.files import replacing

OUTCOMES = {"passed": 0, "failed": 1, "broken submission": 3, "budget exceeded": 4}  # exit codes
SUMMARY = ("reason", "pass", "fail", "not checkable", "measured", "figures off", "seconds", "sha256")
LOG_SHOWN = 4_000  # characters of a log in the page


def write(verdict: dict, folder: Path) -> None:
    """Write verdict.html, then verdict.json, each under its name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    page = render(Path(__file__).with_name("verdict.html.j2"), v=verdict, shown=LOG_SHOWN)
    for name, text in {"verdict.html": page, "verdict.json": json.dumps(verdict, indent=1) + "\n"}.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")


def write_summary(rows: list[dict], path: Path) -> None:
    """One line per submission; a cell that a spreadsheet would take for a formula gets an apostrophe."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for row in rows:
            cells = {key: str(value) for key, value in row.items()}
            table.writerow({key: "'" * cell.startswith(("=", "+", "-", "@")) + cell for key, cell in cells.items()})


def summary(verdict: dict | None) -> dict:
    """A verdict as a line of summary.csv; without one, a line that says so."""
    if verdict is None:
        return {"submission": "", "outcome": "not graded"} | dict.fromkeys(SUMMARY, "")
    states = [row["state"] for row in verdict["rubric"]]
    measured = "; ".join(
        f"{name} {score['value']:.3f}" for name, score in verdict["scores"].items() if name != "calibration_error"
    )
    off = sum(row["state"] == "fail" for row in verdict["figures"])
    counts = (states.count(state) for state in ("pass", "fail", "not checkable"))
    cells = (verdict["reason"], *counts, measured, off, f"{verdict['seconds']:.0f}", verdict["sha256"])
    head = {"submission": verdict["submission"], "outcome": verdict["outcome"]}
    return head | dict(zip(SUMMARY, cells, strict=True))
