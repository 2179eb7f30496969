"""The bench as one reads it: tables in Markdown, out of results.json."""

from __future__ import annotations

from collections.abc import Iterable

NSYNTH, MAGNATAGATUNE = 289_205, 16_963  # training clips: Engel et al. 2017; the Bristol coursework
FLAT = 0.1  # how far memory may move with the number of recordings
PAGE = """# How fast

Written by `python -m benchmarks` from `results.json`. In every row our way and the other were run in turns, on one
machine by one process: how many times faster ours is, or how long it takes, as the median and, in brackets, the lowest
and highest of the repeats. The aims were set before measuring; where one is missed, that is said.

{cores} cores, {threads} threads, torch {torch}, GPU: {gpu}.

{rows}

## Memory and cost over size

Rendered notes of 4 s; each step is a process of its own (`python -m benchmarks scale`). "Anonymous" memory is what only
the process can give back; resident memory also counts pages of the memory-mapped pack, which the system takes back when
it needs room. Training and predicting open or read all clips first; that is in their time.

{scale}

Anonymous memory from the smallest size to the largest (aim: within {flat:.0%}): {growth}. Each step was run once at
each size, and the same step again takes some tens of MiB more or less.

## On paper: the published sets

From the rates above, not measured on those data; no GPU and no cluster was measured. On a cluster every row and seed is
a job of its own, so that a study takes as long as its longest training. On {cores} cores:

- NSynth's {nsynth:,} notes: packed once in {pack:.0f} minutes; 20 epochs of MelCNN in {mel:.1f} hours.
- MagnaTagATune's {magnatagatune:,} clips: 30 epochs of RawCNN 256/256 in {raw:.1f} hours; its five rows with five seeds
  in {rows25:.0f} hours at that speed.
"""


def page(results: dict) -> str:
    """README.md."""
    made, last = results["environment"], results["scale"][-1]["steps"]
    sizes = [(size["notes"], name, step) for size in results["scale"] for name, step in size["steps"].items()]
    raw = next(row for row in results["rows"] if row["name"].startswith("RawCNN"))
    hours = MAGNATAGATUNE * raw["ours_ms_per_clip"] / 3.6e6 * 30
    return PAGE.format(
        cores=made["cores"], threads=made["threads"], torch=made["torch"],
        gpu=made["gpu"] or "none, so nothing was measured on one",
        rows=table(("what", "against", "measured", "aim", "ms per clip: ours, theirs", "repeats"),
                   map(cells, results["rows"])),
        scale=table(("notes", "step", "clips", "ms per clip", "anonymous, MiB", "resident, MiB"), (
            (f"{notes:,}", name, f"{step['clips']:,}", f"{1e3 * step['seconds'] / step['clips']:.2f}",
             f"{step['anonymous_mib']:.0f}", f"{step['resident_mib']:.0f}") for notes, name, step in sizes)),
        flat=FLAT, growth="; ".join(growth(results["scale"], name) for name in ("pack", "train", "predict")),
        nsynth=NSYNTH, pack=NSYNTH * last["pack"]["seconds"] / last["pack"]["clips"] / 60,
        mel=20 * NSYNTH * (last["train"]["seconds"] - last["open"]["seconds"]) / last["train"]["clips"] / 3600,
        magnatagatune=MAGNATAGATUNE, raw=hours, rows25=25 * hours,
    )  # fmt: skip


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * (lines[0].count("|") - 1), *lines[1:]])


def cells(row: dict) -> tuple[str, ...]:
    """A row of the bench: what, against, measured, aim, speeds and repeats."""
    value = f"{row['median']:.3g} {row['unit']} ({row['low']:.3g} to {row['high']:.3g})"
    aim, speeds = "–", "–"
    if row["aim"] is not None:
        slow = row["unit"] == "s"
        met = row["median"] <= row["aim"] if slow else row["median"] >= row["aim"]
        aim = f"at {'most' if slow else 'least'} {row['aim']:g} {row['unit']}: {'reached' if met else 'missed'}"
    if "ours_ms_per_clip" in row:
        speeds = f"{row['ours_ms_per_clip']:.3g}, {row['theirs_ms_per_clip']:.3g}"
    return row["name"], row["against"], value, aim, speeds, str(row["repeats"])


def growth(scale: list[dict], name: str) -> str:
    """How much a step's memory grew from the smallest size to the largest, and whether that is within the aim."""
    first, last = (size["steps"][name]["anonymous_mib"] for size in (scale[0], scale[-1]))
    return f"{name} {last / first - 1:+.0%}, {'reached' if abs(last / first - 1) <= FLAT else 'missed'}"
