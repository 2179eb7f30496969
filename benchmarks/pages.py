"""The bench as one reads it: a line in the terminal, README.md with tables, and the figure."""

from __future__ import annotations

from pathlib import Path

from helpers.files import replacing

PUBLISHED = {"nsynth": 289_205, "magnatagatune": 16_963}  # training clips: Engel et al. 2017; the Bristol coursework
EPOCHS = {"nsynth": 20, "magnatagatune": 30}
HEAD = """# How fast

Written by `python -m benchmarks` from `results.json`. In every row our way and the other were run in turns, on one
machine by one process; a ratio has its median and, in brackets, the lowest and highest of the repeats. The aims were
set before measuring; where one is missed, that is said. `python -m benchmarks scale` adds memory and cost over size.
"""
FLAT = 0.1  # how far memory may move with the number of recordings
FIGURE = "bench.png"


def value(row: dict) -> str:
    """The measured value with its spread: "3.1 x (2.9 to 3.3)", "71 % (…)" or "0.21 s (…)"."""
    ratio = row["measured"]["ratio"]
    low, median, high = (ratio[name] for name in ("low", "median", "high"))
    if row["unit"] == "seconds":
        return f"{median:.2f} s ({low:.2f} to {high:.2f})"
    if row["unit"] == "share":
        return f"{median:.0%} ({low:.0%} to {high:.0%})"
    return f"{median:.1f} × ({low:.1f} to {high:.1f})"


def aim(row: dict) -> str:
    """What was aimed at, and whether it was reached."""
    if row["aim"] is None:
        return "–"
    sign = "at most" if row["below"] else "at least"
    wanted = {"seconds": f"{row['aim']:g} s", "share": f"{row['aim']:.0%}"}.get(row["unit"], f"{row['aim']:g} ×")
    return f"{sign} {wanted}: {'reached' if row['met'] else 'missed'}"


def in_words(row: dict) -> str:
    """One row for the terminal."""
    return f"{row['name']:34}{row['against']:48}{value(row):26}{aim(row)}"


def write(results: dict, folder: Path) -> None:
    """Renew README.md and the figure from the results."""
    parts = [HEAD]
    if rows := results.get("rows"):
        made = results["environment"]
        parts.append(
            f"## Rows\n\n{made['cores']} cores, {made['threads']} threads, torch {made['torch']}, GPU: "
            f"{made['gpu'] or 'none, so nothing was measured on one'}.\n\n"
            "| what | against | measured | aim | ms per clip: ours, theirs | repeats |\n|---|---|---|---|---|---|"
        )
        for row in rows:
            measured = row["measured"]
            speeds = [measured.get(f"{who}_ms_per_clip") for who in ("ours", "theirs")]
            cell = ", ".join(f"{speed:.2g}" for speed in speeds) if all(speeds) else "–"
            cells = (row["name"], row["against"], value(row), aim(row), cell, str(measured["repeats"]))
            parts[-1] += "\n| " + " | ".join(cells) + " |"
        parts += extra(rows)
    if profiles := results.get("profiles"):
        lines = [f"| {name} | {', '.join(f'{part} {share:.0%}' for part, share in of.items())} |"
                 for name, of in profiles.items()]  # fmt: skip
        head = "## Where the time goes\n\nOn one thread unless said.\n\n| what | shares |\n|---|---|\n"
        parts.append(head + "\n".join(lines))
    if scale := results.get("scale"):
        parts.append(_scale_table(scale))
        parts.append(_full_cost(results))
    with replacing(folder / "README.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    figure(results, folder / FIGURE)


def extra(rows: list[dict]) -> list[str]:
    """What a row measured beside its ratio."""
    found = [row["measured"].get("largest_relative_difference") for row in rows]
    return [
        f"The front end differs from librosa's by at most {value:.1e} of the largest power." for value in found if value
    ]


def _scale_table(scale: list[dict]) -> str:
    lines = [
        "## Memory and cost over size\n",
        "Rendered notes of 4 s; each step is a process of its own. \"Anonymous\" memory is what only the process can "
        "give back; resident memory also counts pages of the memory-mapped pack, which the system takes back when it "
        "needs room. Training and predicting open or read all clips first; that is in their time.\n",
        "| notes | step | clips | ms per clip | anonymous, MiB | resident, MiB |\n|---|---|---|---|---|---|",
    ]  # fmt: skip
    for size in scale:
        for name, step in size["steps"].items():
            clips = clips_of(size, name)
            lines.append(
                f"| {size['notes']:,} | {name} | {clips:,} | {1e3 * step['seconds'] / clips:.2f} "
                f"| {step['anonymous_mib']:.0f} | {step['resident_mib']:.0f} |"
            )
    grown = "; ".join(f"{name} {_growth(scale, name)}" for name in ("pack", "train", "predict"))
    aim = (
        f"\nAnonymous memory from the smallest size to the largest (aim: within {FLAT:.0%}): {grown}. Each step was "
        "run once at each size, and the same step again takes some tens of MiB more or less."
    )
    return "\n".join([lines[0], lines[1], "\n".join(lines[2:]), aim, f"\n![bench]({FIGURE})"])


def _growth(scale: list[dict], step: str) -> str:
    """How much a step's memory grew, in all and for each recording more: names, labels and groups are in memory."""
    memory = [size["steps"][step]["anonymous_mib"] for size in scale]
    recordings = [size["predicted"] if step == "predict" else size["notes"] for size in scale]
    share, more = memory[-1] / memory[0] - 1, recordings[-1] - recordings[0]
    each = (memory[-1] - memory[0]) * 2**20 / more if more else 0
    return f"{share:+.0%}, {each:,.0f} bytes a recording, {'reached' if abs(share) <= FLAT else 'missed'}"


def clips_of(size: dict, step: str) -> int:
    """How many clips a step went through."""
    return {"train": size["clips"]["train"], "predict": size["predicted"]}.get(step, size["notes"])


def _full_cost(results: dict) -> str:
    """On paper: what the published sets would cost at the rates measured here."""
    largest = results["scale"][-1]
    per = {name: step["seconds"] / clips_of(largest, name) for name, step in largest["steps"].items()}
    pack_minutes = PUBLISHED["nsynth"] * per["pack"] / 60
    epoch = PUBLISHED["nsynth"] * max(per["train"] - per["open"] * largest["notes"] / largest["clips"]["train"], 0)
    raw = next((row for row in results.get("rows", []) if row["name"].startswith("RawCNN")), None)
    lines = [
        "## On paper: the published sets\n",
        "From the rates above, not measured on those data; no GPU and no cluster was measured. On a cluster every row "
        "and seed is a job of its own, so that a study takes as long as its longest training.\n",
        "| | two cores |\n|---|---|",
        f"| NSynth, {PUBLISHED['nsynth']:,} notes: pack once | {pack_minutes:.0f} minutes |",
        f"| NSynth: MelCNN, {EPOCHS['nsynth']} epochs | {EPOCHS['nsynth'] * epoch / 3600:.1f} hours |",
    ]
    if raw:
        seconds = PUBLISHED["magnatagatune"] * raw["measured"]["ours_ms_per_clip"] / 1e3 * EPOCHS["magnatagatune"]
        lines += [
            f"| MagnaTagATune, {PUBLISHED['magnatagatune']:,} clips: RawCNN 256/256, {EPOCHS['magnatagatune']} epochs "
            f"| {seconds / 3600:.1f} hours |",
            f"| its five rows with five seeds, at the speed of 256/256 | {25 * seconds / 3600:.0f} hours |",
            f"| the same as 25 jobs on a cluster, all at once, each on two such cores | {seconds / 3600:.1f} hours |",
        ]
    return "\n".join([lines[0], lines[1], "\n".join(lines[2:])])


def figure(results: dict, path: Path) -> None:
    """Ratios with their aims, and memory and cost over size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from helpers.plots import COLOURS, STYLE

    with pyplot.rc_context(STYLE):
        shown = [row for row in results.get("rows", []) if row["unit"] != "seconds"]
        scale, height = results.get("scale", []), 0.3 * len(shown) + 1.5
        made, axes = pyplot.subplots(
            1, 3 if scale else 1, figsize=(13 if scale else 8, height), width_ratios=[2, 1, 1] if scale else None,
            squeeze=False,
        )  # fmt: skip
        axes = axes[0]
        for place, row in enumerate(shown):
            ratio = row["measured"]["ratio"]
            axes[0].plot([ratio["low"], ratio["high"]], [place, place], color=COLOURS[0], linewidth=2)
            axes[0].plot(ratio["median"], place, "o", color=COLOURS[0])
            if row["aim"]:
                axes[0].plot(row["aim"], place, "|", color=COLOURS[1], markersize=14, markeredgewidth=2)
        axes[0].set_yticks(range(len(shown)), [f"{row['name']} against {row['against']}" for row in shown], fontsize=7)
        axes[0].axvline(1, color="0.6", linestyle=":")
        axes[0].invert_yaxis()
        axes[0].set(xscale="log", xlabel="Speed as a multiple of the other's (orange: aim)")
        sizes = [size["notes"] for size in scale]
        for name in ("pack", "train", "predict") if scale else ():
            steps = [(size["steps"][name], clips_of(size, name)) for size in scale]
            axes[1].plot(sizes, [1e3 * step["seconds"] / clips for step, clips in steps], marker="o", label=name)
            axes[2].plot(sizes, [step["anonymous_mib"] for step, _ in steps], marker="o", label=name)
        for ax, label in zip(axes[1:], ("Cost (ms per clip)", "Anonymous memory (MiB)"), strict=False):
            ax.set(xscale="log", xlabel="Notes", ylabel=label)
            ax.set_xticks(sizes, [f"{size / 1000:.0f},000" for size in sizes])
            ax.minorticks_off()
            ax.set_ylim(bottom=0)
            ax.legend()
        with replacing(path) as temporary:
            made.savefig(temporary, dpi=110, metadata={"Software": None})
        pyplot.close(made)
