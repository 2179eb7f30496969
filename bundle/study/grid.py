"""A grid of notebook runs: every combination of parameters, several seeds each, and one table with deviations."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from bundle.run.command import NOTEBOOKS, Job, execute, literal, plan, prepare, run_one
from bundle.study import cluster
from bundle.study.summary import score_rows
from helpers.data import load, name_of
from helpers.files import replacing
from helpers.metrics import NAMES
from helpers.models import PUBLISHED_ROWS
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 5
LONG = 20 * 24 * 60  # minutes, the most that can be waited for: SLURM keeps the time


def command(options: argparse.Namespace) -> int:
    """Run the cells that are missing; 0 when the table is complete, 1 when a cell failed, 2 for a wrong command."""
    names = [name for name in NOTEBOOKS[1:] if name.startswith(options.notebook)]
    tasks = options.task or ["magnatagatune"]
    grid, problems = parse(options.grid or [])
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    if len(names) != 1 or len(tasks) != 1:
        problems.append(f"--notebook takes one of {', '.join(NOTEBOOKS[1:])}, and --task one task.")
    if {"TASK", "DATA", "MODE", "OUT", "SEED"} & set(grid):
        problems.append("TASK, DATA and SEED are given with --task, --data and --seeds; MODE and OUT are set.")
    if options.keep or options.row:
        problems.append("--keep and --row are for studies; the study of this grid is first_layer.")
    folder = (options.out / "grid" / f"{tasks[0]}-{name_of(data)}" / (names or [""])[0]).resolve()
    cells: dict[str, list[Job]] = {}
    rows = [] if problems else rows_of(names[0], grid)
    for row in rows:
        title = label(
            {name: value for name, value in row.items() if any(other[name] != value for other in rows)} or row
        )
        cells[title] = []
        for seed in range(options.seeds or SEEDS):
            given = {"MODE": "train", "DATA": data} | row | {"SEED": seed}
            jobs, found = plan(tasks, names, given, folder)
            problems += found
            cell = re.sub(r"[^\w.,=-]", "-", label(row | {"SEED": seed}))
            cells[title].append(replace(jobs[0], out=folder / cell))
    if problems:
        print("\n".join(dict.fromkeys(problems)), file=sys.stderr)
        return 2
    if data == "demo":
        prepare(tasks, 1.0)
    wanted = [job for row in cells.values() for job in row]
    missing = [job for job in wanted if not finished(job, data)]
    print(f"{len(wanted)} cells, {len(wanted) - len(missing)} finished before")
    errors = complete(missing, folder, options)
    for error in errors:
        print(f"FAILED {error}")
    if errors:
        print(f"{len(errors)} of {len(wanted)} cells failed; the same command runs only these again.")
        return 1
    summary = summarise(cells, tasks[0], data)
    with replacing(folder / "grid.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")
    with replacing(folder / "grid.md") as temporary:
        temporary.write_text(table(summary))
    print(f"\n{table(summary)}\n{folder / 'grid.json'}, grid.md")
    return 0


def parse(grid: list[str]) -> tuple[dict[str, list], list[str]]:
    """Values by parameter of "LENGTH=512,256", and what is wrong with them."""
    parted = [text.partition("=") for text in grid]
    problems = [f"--grid: found {''.join(parts)!r}, expected NAME=VALUE,VALUE." for parts in parted if not all(parts)]
    return {name: [literal(value) for value in values.split(",")] for name, _, values in parted}, problems


def rows_of(notebook: str, grid: dict[str, list]) -> list[dict]:
    """Parameters of every row: all combinations; of notebook 03, the published pairs unless it says other ones."""
    rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if notebook.startswith("03") and not {"LENGTH", "STRIDE", "NETWORK"} & set(grid):
        rows = [{"LENGTH": length, "STRIDE": stride} | row for length, stride in PUBLISHED_ROWS for row in rows]
    return rows


def label(parameters: dict) -> str:
    """Such as "LENGTH=512,STRIDE=256"."""
    return ",".join(f"{name}={value}" for name, value in parameters.items()) or "as it is"


def result_of(job: Job) -> Path:
    """The file that a cell leaves when all went well."""
    return job.out / "results" / f"{job.notebook}.json"


@cache
def digest_of(task: str, data: str, classes: str) -> str:
    """Of the data, as a results file states it."""
    return load(TASKS[task], data, ROOT, classes).digest


def finished(job: Job, data: str) -> bool:
    """Whether a cell's results are there, of these parameters and of the data as they are now."""
    if not result_of(job).is_file():
        return False
    results = json.loads(result_of(job).read_text())
    same = all(results["parameters"].get(name) == value for name, value in job.parameters.items())
    task, classes = job.parameters["TASK"], results["parameters"]["CLASSES"]
    return same and results["data_digest"] == digest_of(task, data, classes)


def complete(missing: list[Job], folder: Path, options: argparse.Namespace) -> list[str]:
    """Execute cells here or on the cluster; what went wrong."""
    if options.executor == "local":
        outcomes = execute(missing, options.jobs or os.cpu_count() or 1, options.minutes, ordered=False)
        return [f"{outcome.job.title}: {outcome.error}" for outcome in outcomes if outcome.results is None]
    for job in missing:
        result_of(job).unlink(missing_ok=True)
    calls = [cluster.Call(job.title, result_of(job), execute_cell, (job, options.cpus)) for job in missing]
    return cluster.run(calls, folder / "slurm", options)


def execute_cell(job: Job, cpus: int) -> None:
    """One cell inside a job of its own; training goes on where an earlier attempt had to stop."""
    outcome = run_one(job, max(1, (os.cpu_count() or 1) // cpus), LONG)
    if outcome.error:
        raise RuntimeError(outcome.error)


def summarise(cells: dict[str, list[Job]], task: str, data: str) -> dict:
    """Mean and deviation over seeds of every row and model, with interval, chance and the difference from the first."""
    headline, stacks, rows, clips = TASKS[task].headline, {}, {}, {}
    for name, jobs in cells.items():
        results = [json.loads(result_of(job).read_text()) for job in jobs]
        arrays = [np.load(result_of(job).with_suffix(".npz"), allow_pickle=False) for job in jobs]
        clips = clips or {key: arrays[0][key] for key in ("names", "groups", "targets")}
        if any(not np.array_equal(one["names"], clips["names"]) for one in arrays):
            raise ValueError(f"{name}: other test clips than in the first row, expected the same for all.")
        final = [one["metrics"].get(f"final_epoch_{headline}", {}).get("value") for one in results]
        models = list(results[0]["weights_digest"])
        for model in models:
            row = name if len(models) == 1 else f"{name} {model}"
            stacks[row] = np.stack([one[model] for one in arrays])
            rows[row] = {"parameters": jobs[0].parameters | {"SEED": len(jobs)}, "model": model}
            rows[row]["minutes"] = float(np.mean([one["seconds"] for one in results])) / 60
            if None not in final and len(models) == 1:
                deviation = float(np.std(final, ddof=1)) if len(final) > 1 else None
                rows[row]["final_epoch"] = {"value": float(np.mean(final)), "deviation": deviation, "values": final}
    for row, scored in score_rows(stacks, clips, TASKS[task], next(iter(stacks))).items():
        rows[row] |= scored
    first = {"schema": 1, "notebook": results[0]["notebook"], "task": task, "data": name_of(data)}
    return first | {"baseline": next(iter(stacks)), "rows": rows, "environment": results[0]["environment"]}


def table(summary: dict) -> str:
    """Markdown: a line per row."""
    headline = TASKS[summary["task"]].headline
    data = "rendered demo data" if summary["data"] == "demo" else f"data '{summary['data']}'"
    lines = [
        f"{summary['notebook']}, {summary['task']}, {data}: {NAMES[headline].cell} on the test split, mean ± standard "
        "deviation over seeds; 95 % intervals over groups of clips and seeds; the difference is from the first row.\n",
        "| row | best epoch by validation | final epoch | seeds | n | chance | difference | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in summary["rows"].items():
        score, final, change = row["metrics"][headline], row.get("final_epoch"), row.get("difference")
        lines.append(
            f"| {name} | {spread(score)} ({score['low']:.3f} – {score['high']:.3f}) "
            f"| {spread(final) if final else '–'} | {score['seeds']} | {score['n']} | {score['chance']:.3f} | "
            + (f"{change['value']:+.3f} ({change['low']:+.3f} – {change['high']:+.3f})" if change else "–")
            + f" | {row['minutes']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def spread(score: dict) -> str:
    """Mean, and deviation where there are several seeds."""
    return f"{score['value']:.3f}" + (f" ± {score['deviation']:.3f}" if score["deviation"] is not None else "")
