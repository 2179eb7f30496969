"""What came of a sweep: per row mean and deviation over seeds, interval, and the difference from the baseline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.results import CLIPS
from helpers import metrics
from helpers.data import name_of
from helpers.files import replacing
from helpers.tasks import TASKS, Task

SCHEMA = 1


class Found(NamedTuple):
    """What the finished cells of a row have left."""

    stack: np.ndarray  # probabilities (seeds, clips, classes), float16
    clips: dict[str, np.ndarray]  # CLIPS of the test split
    content: dict  # what is written of the row, beside its scores
    environment: dict


def stacked(paths: list[list[Path]], key: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions called `key` of files by seed and fold, and the clips they are of; ordered by the clips' names."""
    stack, clips = [], {}
    for folds in paths:
        parts = [np.load(path, allow_pickle=False) for path in folds]
        clips = {name: np.concatenate([part[name] for part in parts]) for name in CLIPS}
        order = np.argsort(clips["names"], kind="stable")
        clips = {name: values[order] for name, values in clips.items()}
        stack.append(np.concatenate([part[key] for part in parts])[order].astype(np.float16))
    return np.stack(stack), clips


def mean_of(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and deviation where there are several."""
    return {"value": float(np.mean(values)), "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def summarise(name: str, study, task: str, data: str, found: dict[str, Found]) -> tuple[dict, dict[str, np.ndarray]]:
    """Content of the results file of a `studies.Study`, and the predictions it can be recomputed from.

    Raises
    ------
    ValueError
        If a row was tested on other clips than the baseline.
    """
    baseline = study.baseline or next(iter(found))
    clips, stacks = found[baseline].clips, {row: one.stack for row, one in found.items()}
    for row, one in found.items():
        if not np.array_equal(one.clips["names"], clips["names"]):
            raise ValueError(f"{name}, row {row}: other test clips than {baseline}, expected the same.")
    scored = score_rows(stacks, clips, TASKS[task], baseline, study.balanced)
    content = {
        "schema": SCHEMA,
        "study": name,
        "question": study.question,
        "task": task,
        "data": name_of(data),
        "baseline": baseline,
        "scored": study.scored,
        "folds": study.folds,
        "rows": {row: one.content | scored[row] for row, one in found.items()},
        "environment": found[baseline].environment,
    }
    return content, clips | {f"row {row}": stack for row, stack in stacks.items()}


def score_rows(
    stacks: dict[str, np.ndarray], clips: dict, task: Task, baseline: str, balanced: bool = False
) -> dict[str, dict]:
    """Scores and differences by row, from predictions alone: what a reader recomputes to check a study."""
    targets, groups = clips["targets"], clips["groups"]
    scored = {}
    for row, stack in stacks.items():
        values = stack.astype(np.float32)
        names = list(metrics.point_scores(values[0], targets))
        if balanced:
            names += ["macro_f1", "mean_recall" if task.multi_label else "balanced_accuracy"]
        scored[row] = {"metrics": {name: metrics.seed_scores(name, values, targets, groups) for name in names}}
        for score in scored[row]["metrics"].values():
            if score["seeds"] == 1:
                score["deviation"] = None  # one seed has none
        if row != baseline:
            first = stacks[baseline].astype(np.float32)
            scored[row]["difference"] = metrics.paired_difference(task.headline, first, values, targets, groups)
    return scored


def write(folder: Path, name: str, summary: dict, predictions: dict[str, np.ndarray]) -> Path:
    """Write `study_<name>.json` and `.npz` into a folder; returns the JSON file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"study_{name}.json"
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **predictions)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, default=float) + "\n")
    return path


def tuned_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The probability from which on to predict each tag, (classes,), such that its F1 on these clips is highest.

    Both (clips, classes), of validation clips. A tag that all or none of them have keeps 0.5.
    """
    from sklearn.metrics import precision_recall_curve  # takes a second, which other studies need not wait for

    thresholds = np.full(targets.shape[1], 0.5)
    for column in np.flatnonzero(metrics.scorable(targets)):
        precision, recall, steps = precision_recall_curve(targets[:, column], probabilities[:, column])
        f1 = precision * recall / np.maximum(precision + recall, 1e-12)
        thresholds[column] = steps[f1[:-1].argmax()]
    return thresholds


def adjust(probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Probabilities (clips, classes) of one label as if all classes had been equally frequent in training.

    Each is divided by `counts` (classes,), the training clips of its class: the logit adjustment of Menon et al. 2021
    (section 4.1, tau 1). A class without clips counts as if it had one.
    """
    raised = probabilities / np.maximum(counts, 1)
    return raised / raised.sum(axis=1, keepdims=True)
