"""What came of a reproduction, as reproduction.json and as a page of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from bundle.page import render
from bundle.reproduce.claims import FAIL, OPEN, PASS, Source
from helpers.files import replacing
from helpers.weights import environment


def write(out: Path, verdict: str, sources: list[Source], executed: bool, seconds: float) -> None:
    """Write reproduction.html, then reproduction.json, each under its name only when complete."""
    content = {
        "schema": 1,
        "verdict": verdict,
        "executed": executed,
        "seconds": round(seconds, 1),
        "environment": environment(),
        "counts": {state: sum(source.count(state) for source in sources) for state in (PASS, FAIL, OPEN)},
        "sources": [
            {"source": source.name, "told": source.told, "identical": source.identical, "curves": source.curves}
            | {"claims": sorted(map(asdict, source.claims), key=lambda claim: claim["verdict"] != FAIL)}
            for source in sources
        ],
    }
    page = render(Path(__file__).with_name("page.html.j2"), points=points, **content)
    for name, text in {"reproduction.html": page, "reproduction.json": json.dumps(content, indent=1) + "\n"}.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")


def points(values: list[float], most: float, epochs: int) -> str:
    """A loss curve as points of the page's SVG."""
    return " ".join(
        f"{40 + 270 * (place + 0.5) / epochs:.1f},{150 - 140 * value / most:.1f}" for place, value in enumerate(values)
    )
