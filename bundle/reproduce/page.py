"""What came of a reproduction, as reproduction.json and as a page of its own, light and dark."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from bundle.grade.verdict import MARKS, STYLE
from bundle.reproduce.claims import FAIL, OPEN, PASS, Claim
from bundle.reproduce.tolerance import LOSS_SHARE, LOSS_STEP

LOOK = """
:root { --reported: #0b5cad; --measured: #b34700; --band: #0b5cad22 }
@media (prefers-color-scheme: dark) { :root { --reported: #6cb6ff; --measured: #ffab70; --band: #6cb6ff22 } }
th { white-space: nowrap } .curves { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: .8rem 0 }
svg { width: 20rem; max-width: 100% }
svg text { fill: var(--soft); font-size: 11px } svg path { fill: none; stroke: var(--line) }
svg polygon { fill: var(--band) } polyline { fill: none; stroke-width: 1.6; stroke: var(--reported) }
polyline.measured { stroke: var(--measured); stroke-dasharray: 4 3 } .reported { color: var(--reported) }
circle { fill: var(--measured) } b.measured { color: var(--measured) } figcaption { font-size: .85rem }
"""


@dataclass
class Source:
    """A file with claims: its name, content, what was judged, and after execution curves and what differed."""

    name: str
    content: dict
    claims: list[Claim]
    told: str = ""
    identical: bool | None = None
    curves: list[dict] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Claims with a verdict."""
        return sum(claim.state == state for claim in self.claims)


def write(out: Path, verdict: str, sources: list[Source], executed: bool, seconds: float) -> None:
    """Write reproduction.html, then reproduction.json, each under its name only when complete."""
    from helpers.weights import environment

    content = {
        "schema": 1,
        "verdict": verdict,
        "executed": executed,
        "seconds": round(seconds, 1),
        "environment": environment(),
        "counts": {state: sum(source.count(state) for source in sources) for state in (PASS, FAIL, OPEN)},
        "sources": [
            {"source": source.name, "told": source.told, "identical": source.identical, "curves": source.curves}
            | {"claims": [asdict(claim) | {"verdict": claim.state} for claim in source.claims]}
            for source in sources
        ],
    }
    texts = {"reproduction.html": page(content), "reproduction.json": json.dumps(content, indent=1) + "\n"}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        temporary = out / f".{name}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, out / name)


def page(content: dict) -> str:
    """The content of reproduction.json as one page: no script, no font, no picture from elsewhere, light and dark."""
    kind = {"holds": "pass", "does not hold": "fail"}.get(content["verdict"], "open")
    counts = ", ".join(f"{count} {state}" for state, count in content["counts"].items())
    how = "notebooks executed again" if content["executed"] else "nothing executed, saved predictions only"
    versions = ", ".join(f"{key} {value}" for key, value in content["environment"].items())
    body = [
        f'<h1>What is reported <span class="{kind}">{escape(content["verdict"])}</span></h1>',
        f'<p class="lead">{counts}; {how}, {content["seconds"]:.0f} s</p><p class="soft">Here: {escape(versions)}</p>',
        '<p class="soft">“Recomputed” is from the saved predictions and agrees to 1e-6, interval and count included; '
        "“executed” comes from the notebook, executed again with the recorded parameters and seed.</p>",
    ]
    failed = [
        f"<li>{escape(source['source'])}: <b>{escape(claim['figure'])}</b></li>"
        for source in content["sources"]
        for claim in source["claims"]
        if claim["verdict"] == FAIL
    ]
    body += [f'<ul class="fail">{"".join(failed)}</ul>'] * bool(failed)
    for source in content["sources"]:
        same = {True: "The same to the last bit.", False: "Not the same to the last bit.", None: ""}[
            source["identical"]
        ]
        body.append(f"<h2>{escape(source['source'])}</h2><p class='soft'>{escape(source['told'])} {same}</p>")
        body.append(_table(source["claims"]))
        drawn = [_picture(curve) for curve in source["curves"] if curve["reported"] or curve["measured"]]
        body += ['<div class="curves">', *drawn, "</div>"] if drawn else []
    guard = "default-src 'none'; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{guard}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Reproduction</title>'
    head += f"<style>{STYLE}{LOOK}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>' + "\n".join(body) + "</body></html>\n"


def _table(claims: list[dict]) -> str:
    names = ("verdict", "figure", "reported", "recomputed", "executed", "difference", "tolerance", "note")
    kinds = ("state", "", *["number"] * 5, "")
    head = "".join(f'<th class="{kind}">{name}</th>' for kind, name in zip(kinds, names, strict=True))
    rows = []
    for claim in sorted(claims, key=lambda claim: claim["verdict"] != FAIL):
        state = claim["verdict"]
        kind = {PASS: "pass", FAIL: "fail"}.get(state, "open")
        values = [in_figures(claim[key]) for key in ("reported", "recomputed", "measured", "difference", "tolerance")]
        note = "; ".join(part for part in (claim["note"], claim["tolerance_from"]) if part)
        rows.append(
            f'<tr><td class="state"><span class="{kind}">{MARKS[state]} {state}</span></td>'
            f"<td>{escape(claim['figure'])}</td>"
            + "".join(f'<td class="number">{escape(value)}</td>' for value in values)
            + f'<td><small class="soft">{escape(note)}</small></td></tr>'
        )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _picture(curve: dict) -> str:
    """Two loss curves over each other, with the tolerance of the reported one where it is judged."""
    reported, measured = curve["reported"], curve["measured"]
    most, epochs = max([1e-9, *reported, *measured]) * 1.05, max(len(reported), len(measured))

    def points(values: list[float]) -> str:
        return " ".join(
            f"{40 + 270 * (place + 0.5) / epochs:.1f},{150 - 140 * value / most:.1f}"
            for place, value in enumerate(values)
        )

    band = ""
    if curve["judged"]:
        sides = [[v + sign * max(LOSS_STEP, LOSS_SHARE * v) for v in reported] for sign in (1, -1)]
        edge = points(sides[0]).split() + points(sides[1]).split()[::-1]
        band = f'<polygon points="{" ".join(edge)}"/>'
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in (point.split(",") for point in points(measured).split())
    )
    title = escape(f"{curve['model']}: {curve['name'].replace('_', ' ')}")
    return (
        f'<figure><svg viewBox="0 0 320 175" role="img" aria-label="{title}"><path d="M40 10V150H310"/>'
        f'<text x="36" y="18" text-anchor="end">{most:.2f}</text><text x="36" y="153" text-anchor="end">0</text>'
        f'<text x="40" y="168">epoch 1</text><text x="310" y="168" text-anchor="end">epoch {epochs}</text>'
        f'{band}<polyline points="{points(reported)}"/><polyline class="measured" points="{points(measured)}"/>{dots}'
        f'</svg><figcaption>{title}: <b class="reported">reported</b>, <b class="measured">executed again</b>'
        f"{', band: tolerance' if band else ''}</figcaption></figure>"
    )


def in_figures(value: float | str | None) -> str:
    """A figure with four decimals; text as it is."""
    return f"{value:.4f}" if isinstance(value, float) else "–" if value is None else str(value)
