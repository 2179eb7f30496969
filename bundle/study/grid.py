"""Executed notebooks as cells: a study whose rows are all combinations of a notebook's parameters."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bundle.results import Run
from bundle.results import load as load_results
from bundle.run import command as notebooks
from bundle.study.cells import Cell, digest_of
from bundle.study.studies import Study
from bundle.study.summary import Found, mean_of, stacked
from bundle.study.trainings import datasets
from helpers.data import name_of
from helpers.models import PUBLISHED_ROWS

LONG = 20 * 24 * 60  # minutes, the most that can be waited for: SLURM keeps the time
GIVEN = {"TASK", "DATA", "MODE", "OUT", "SEED"}  # parameters that the command's own options set


@dataclass(frozen=True)
class Row:
    """A notebook and its parameters, in train mode."""

    notebook: str
    parameters: dict

    def job(self, task: str, out: Path, **more) -> tuple[notebooks.Job | None, list[str]]:
        """What `python -m bundle run` would do, and what is wrong with the parameters."""
        jobs, problems = notebooks.plan([task], [self.notebook], {"MODE": "train"} | self.parameters | more, out)
        return jobs[0] if jobs else None, problems

    def cells(self, title: str, task: str, data: str, seed: int, folds: int, options) -> list[Cell]:
        """The cell of one seed, in a folder named after all that decides it."""
        job, _ = self.job(task, options.out / "grid" / f"{task}-{name_of(data)}" / self.notebook, DATA=data, SEED=seed)
        digest = digest_of(job.parameters | {"DATA": datasets(task, data, folds, True)[0].digest})
        name = f"{title},SEED={seed}"
        job = replace(job, out=job.out.parent / f"{re.sub(r'[^a-zA-Z0-9_.,=-]', '-', name)}-{digest}")
        limit = LONG if options.executor == "slurm" else options.minutes
        return [Cell(f"{task} {name}", job.out / "results" / f"{self.notebook}.json", execute, (job, limit))]

    def read(self, title: str, seeds: list[list[Cell]], scored: str) -> dict[str, Found]:
        """What the cells have left: one model, or several."""
        runs, found = [Run(cell.result, load_results(cell.result)) for (cell,) in seeds], {}
        for model in runs[0].models:
            name = title if len(runs[0].models) == 1 else f"{title} {model}"
            stack, clips = stacked([[run.path.with_suffix(".npz")] for run in runs], model)
            found[name] = Found(stack, clips, describe(runs, model), runs[0].content["environment"])
        return found


def study_of(notebook: str, given: list[tuple[str, str]]) -> Study:
    """The study of all combinations of NAME, "VALUE,VALUE"; of notebook 03, with the published pairs of LENGTH, STRIDE.

    Those are left out where LENGTH, STRIDE or NETWORK is given.
    """
    grid = {name: [notebooks.literal(value) for value in values.split(",")] for name, values in given}
    rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if notebook.startswith("03") and not {"LENGTH", "STRIDE", "NETWORK"} & set(grid):
        rows = [{"LENGTH": length, "STRIDE": stride} | row for length, stride in PUBLISHED_ROWS for row in rows]
    titled = {",".join(f"{name}={value}" for name, value in row.items()) or "as it is": row for row in rows}
    question = f"Notebook {notebook}, trained with {len(rows)} choice(s) of parameters."
    titled = {title: Row(notebook, row) for title, row in titled.items()}
    return Study(question, titled, "", ("magnatagatune",), seeds=5, scored="weights that are kept")


def problems(study: Study) -> list[str]:
    """What is wrong with the parameters of a grid."""
    if any(GIVEN & set(row.parameters) for row in study.rows.values()):
        return ["TASK, DATA and SEED are given with --task, --data and --seeds; MODE and OUT are set."]
    wrong = [row.job("nsynth", Path())[1] for row in study.rows.values()]
    return list(dict.fromkeys(itertools.chain(*wrong)))


def execute(job: notebooks.Job, minutes: float) -> None:
    """Execute one notebook; its training goes on where an earlier attempt had to stop."""
    workers = (os.cpu_count() or 1) // int(os.environ["OMP_NUM_THREADS"])
    outcome = notebooks.run_one(job, max(1, workers), minutes)
    if outcome.error:
        raise RuntimeError(outcome.error)


def describe(runs: list[Run], model: str) -> dict:
    """What is written of a row, beside its scores: an SVM has no epochs."""
    parameters = {name: value for name, value in runs[0].content["parameters"].items() if name != "SEED"}
    curves = [run.curves().get(model) for run in runs]
    return {
        "config": parameters,
        "settings": {"epochs": parameters["EPOCHS"] if all(curves) else None},
        "minutes": float(np.mean([run.content["seconds"] for run in runs])) / 60,
        "valid": mean_of([max(curve["epoch_valid_score"]) for curve in curves]) if all(curves) else None,
    }
