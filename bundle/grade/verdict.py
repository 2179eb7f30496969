"""A verdict as verdict.json and as a page of its own: no script, no font, no picture from elsewhere, light and dark.

Everything a submission said is escaped; a page that carried a stranger's markup would be the stranger's page.
"""

from __future__ import annotations

import csv
import json
import os
from html import escape
from pathlib import Path

MARKS = {"pass": "✓", "fail": "✗", "not checkable": "?"}
OUTCOMES = {"passed": 0, "failed": 1, "broken submission": 3, "budget exceeded": 4}  # exit codes
SUMMARY = ("reason", "pass", "fail", "not checkable", "measured", "figures off", "seconds", "sha256")
LOG_SHOWN = 4_000  # characters of a log in the page
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --box: #f6f8fa;
  --pass: #116329; --fail: #a40e26; --open: #7a5200; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa4af; --line: #3d444d; --back: #0d1117;
  --box: #161b22; --pass: #56d364; --fail: #ff8182; --open: #e3b341; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 68rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin-top: 2rem }
p.lead { font-size: 1.1rem; margin: .3rem 0 } .soft { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 } td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums } td.state { white-space: nowrap; font-weight: 600 }
.pass { color: var(--pass) } .fail { color: var(--fail) } .open { color: var(--open) }
pre { background: var(--box); border: 1px solid var(--line); padding: .7rem; overflow-x: auto; font-size: .82rem;
  white-space: pre-wrap } summary { cursor: pointer } dl { display: grid; grid-template-columns: max-content 1fr;
  gap: .2rem 1rem } dt { color: var(--soft) } dd { margin: 0 }
"""


def write(verdict: dict, folder: Path) -> None:
    """Write verdict.html, then verdict.json, each under its name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "verdict.html", page(verdict))
    _replace(folder / "verdict.json", json.dumps(verdict, indent=1, ensure_ascii=True) + "\n")


def write_summary(rows: list[dict], path: Path) -> None:
    """One line per submission; a cell that a spreadsheet would take for a formula gets an apostrophe."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for row in rows:
            cells = {key: str(value) for key, value in row.items()}
            table.writerow({key: "'" * cell.startswith(("=", "+", "-", "@")) + cell for key, cell in cells.items()})
    os.replace(temporary, path)


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


def page(verdict: dict) -> str:
    """The verdict as one HTML page."""
    states = [row["state"] for row in verdict["rubric"]]
    kind = {"passed": "pass", "failed": "fail"}.get(verdict["outcome"], "open")
    passed, failed = states.count("pass"), states.count("fail")
    counts = f"{passed} passed, {failed} failed, {states.count('not checkable')} not checkable"
    facts = {
        "Brief and task": f"{verdict['brief']}, {verdict['task']}",
        "Test data": f"{verdict['data']} ({verdict['recordings']} recordings)",
        "Submission": f"{verdict['files']} files, SHA-256 {verdict['sha256']}",
        "Graded": f"{verdict['graded']}, {verdict['seconds']:.0f} s, at most {verdict['budget']}",
        "In force": ", ".join(name for name, on in verdict["guards"].items() if on) or "no guard",
        "Not in force": ", ".join(name for name, on in verdict["guards"].items() if not on) or "–",
    }
    rubric = [
        (_state(row["state"]), escape(row["asked"]), escape(row["evidence"]), _soft(row["source"]))
        for row in sorted(verdict["rubric"], key=lambda row: row["state"] != "fail")
    ]
    parts = [
        f'<h1>{escape(verdict["submission"])}: <span class="{kind}">{escape(verdict["outcome"])}</span></h1>',
        f'<p class="lead">{escape(verdict["reason"])}</p><p class="soft">{counts}</p>',
        "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()) + "</dl>",
        "<h2>Rubric</h2>" + _table(("state", "requirement", "evidence", "source"), rubric),
        _figures(verdict["figures"]),
        _scores(verdict["scores"]),
        _per_class(verdict["per_class"]),
        *(_log(run) for run in verdict["runs"]),
    ]
    guard = "default-src 'none'; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{guard}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    title = f"<title>{escape(verdict['submission'])}: {escape(verdict['outcome'])}</title>"
    body = "\n".join(part for part in parts if part)
    head = f"<head>{head}{title}<style>{STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body>{body}</body></html>\n'


def _figures(figures: list[dict]) -> str:
    rows = [
        (_state(row["state"]), _code(row["name"]), _figure(row["value"]), _figure(row["measured"]),
         f"{_figure(row['least'])} – {_figure(row['most'])}" if row["least"] is not None else "–",
         escape(row["note"]) or "within the tolerance", _soft(row["file"]))
        for row in sorted(figures, key=lambda row: row["state"] != "fail")
    ]  # fmt: skip
    names = ("state", "figure", "claimed", "measured", "tolerance", "note", "where it is claimed")
    none = '<p class="soft">None: no results file of this task was read.</p>'
    return f"<h2>Figures: claimed and measured</h2>{_table(names, rows, {2, 3, 4}) if rows else none}"


def _scores(scores: dict) -> str:
    rows = [
        (escape(name), _figure(score["value"]), f"{_figure(score['low'])} – {_figure(score['high'])}",
         _figure(score.get("chance")), str(score["n"]))
        for name, score in scores.items()
    ]  # fmt: skip
    names = ("score", "value", "95 % interval", "chance", "recordings")
    return "<h2>Measured</h2>" + _table(names, rows, {1, 2, 3, 4}) if rows else ""


def _per_class(rows: list[dict]) -> str:
    if not rows:
        return ""
    shown = [
        [escape(str(value)) if isinstance(value, str | int) else _figure(value) for value in row.values()]
        for row in rows
    ]
    return "<h2>Per class</h2>" + _table(tuple(rows[0]), shown, set(range(1, len(rows[0]))))


def _log(run: dict) -> str:
    told = f"exit code {run['code']}" + f", exceeded its budget of {run['ended']}" * bool(run["ended"])
    told += f", {run['seconds']:.1f} s, {run['peak'] / 2**20:.0f} MiB"
    text = escape(run["log"][-LOG_SHOWN:].strip()) or "printed nothing"
    shown = " open" if run["code"] and run["what"] == "predict.py" else ""
    return f"<details{shown}><summary>{escape(run['what'])}: {told}</summary><pre>{text}</pre></details>"


def _table(names: tuple[str, ...], rows: list, numbers: frozenset | set = frozenset()) -> str:
    def cell(tag: str, place: int, text: str) -> str:
        kind = ' class="number"' if place in numbers else ' class="state"' if text.startswith("<span class=") else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    head = "".join(cell("th", place, escape(name)) for place, name in enumerate(names))
    body = "".join("<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _state(state: str) -> str:
    kind = {"pass": "pass", "fail": "fail"}.get(state, "open")
    return f'<span class="{kind}">{MARKS[state]} {state}</span>'


def _soft(text: str) -> str:
    return f'<small class="soft">{escape(text)}</small>'


def _code(text: str) -> str:
    return f"<code>{escape(str(text))}</code>"


def _figure(value: float | None) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else escape(str(value)) if value is not None else "–"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
