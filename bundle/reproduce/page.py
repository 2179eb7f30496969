"""What came of a reproduction, as reproduction.json and as a page of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bundle.page import render
from bundle.reproduce.claims import FAIL, OPEN, PASS, Claim
from bundle.reproduce.tolerance import SIDES, loss_tolerance
from helpers.files import replacing
from helpers.weights import environment


@dataclass
class Source:
    """A file with claims: its content, what was judged, and after execution curves and what differed."""

    path: Path
    content: dict
    claims: list[Claim]
    told: str = ""
    identical: bool | None = None
    curves: list[dict] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Such as "nsynth-demo/04_mel_cnn"; a README by its name."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.path.suffix == ".json" else self.path.name

    def count(self, state: str) -> int:
        """Claims with a verdict."""
        return sum(claim.state == state for claim in self.claims)


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
            | {"claims": [asdict(claim) | {"verdict": claim.state} for claim in source.claims]}
            for source in sources
        ],
    }
    texts = {"reproduction.html": page(content), "reproduction.json": json.dumps(content, indent=1) + "\n"}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")


def page(content: dict) -> str:
    """The content of reproduction.json as a page."""
    sources = [
        source | {
            "curves": [curve | _drawn(curve) for curve in source["curves"]],
            "claims": [claim | {"failed": claim["verdict"] == FAIL} for claim in source["claims"]],
        }
        for source in content["sources"]
    ]  # fmt: skip
    return render(Path(__file__).with_name("page.html.j2"), **content | {"sources": sources})


def _drawn(curve: dict) -> dict:
    """Two loss curves as points of an SVG, and the band of the reported one's tolerance where it is judged."""
    lines = [curve[side] for side in SIDES]
    most, epochs = max([1e-9, *lines[0], *lines[1]]) * 1.05, max(map(len, lines))

    def points(values: list[float]) -> list[str]:
        return [
            f"{40 + 270 * (place + 0.5) / epochs:.1f},{150 - 140 * value / most:.1f}"
            for place, value in enumerate(values)
        ]

    edges = [[value + sign * loss_tolerance(value) for value in lines[0]] for sign in (1, -1)]
    band = points(edges[0]) + points(edges[1])[::-1] if curve["judged"] else []
    return {"most": most, "epochs": epochs, "lines": [" ".join(points(line)) for line in lines], "band": " ".join(band)}
