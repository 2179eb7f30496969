"""What came of a sweep: per row mean and deviation over seeds, interval, and the difference from the baseline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle.results import CLIPS
from bundle.study.studies import Study
from helpers import metrics
from helpers.data import name_of
from helpers.files import together
from helpers.tasks import TASKS, Task
from helpers.training import EPOCH_CURVES

SAME = ("config", "precision", "parameters", "environment")  # in all trainings of a row
CORRECTED = "corrected afterwards"  # row of the baseline, of a study that is balanced


def summarise(
    name: str, study: Study, task: str, data: str, rows: dict[str, list[list[Path]]]
) -> tuple[dict, dict[str, np.ndarray]]:
    """Content of a study's results file, and the predictions it can be recomputed from.

    `rows` are files that `trainings.train` has left, by row, seed and fold.
    """
    predictions, content, digests = {}, {}, set()
    for row, seeds in rows.items():
        stack, infos = [], []
        for folds in seeds:
            parts = [np.load(path, allow_pickle=False) for path in folds]
            infos += [json.loads(str(part["info"])) for part in parts]
            clips = {name: np.concatenate([part[name] for part in parts]) for name in CLIPS}
            order = np.argsort(clips["names"], kind="stable")
            stack.append(np.concatenate([part[study.scored.split()[0]] for part in parts])[order])
        predictions |= {name: values[order] for name, values in clips.items()}
        predictions[f"row {row}"] = np.stack(stack).astype(np.float16)
        content[row] = describe(infos)
        digests |= {info["data_digest"] for info in infos}
    if study.balanced:
        predictions[f"row {CORRECTED}"] = corrected(predictions[f"row {study.baseline}"], rows[study.baseline])
        content[CORRECTED] = content[study.baseline]
    scored = score_rows(predictions, TASKS[task], study.baseline, study.balanced)
    return {
        "schema": 1,
        "study": name,
        "question": study.question,
        "task": task,
        "data": name_of(data),
        "data_digest": min(digests)
        if len(digests) == 1
        else hashlib.sha256(repr(sorted(digests)).encode()).hexdigest(),
        "baseline": study.baseline,
        "scored": study.scored,
        "folds": study.folds,
        "rows": {row: one | scored[row] for row, one in content.items()},
    }, predictions


def describe(infos: list[dict]) -> dict:
    """What is SAME in all trainings of a row, from what they say of themselves, and the means of what is not."""
    curves = {name: [info["curves"][name] for info in infos] for name in EPOCH_CURVES}
    return {name: infos[0][name] for name in SAME} | {
        "settings": {name: value for name, value in infos[0]["settings"].items() if name != "seed"},
        "train_clips": [info["clips"]["train"] for info in infos],
        "minutes": float(np.mean([info["minutes"] for info in infos])),
        "valid": {"value": float(np.mean([max(scores) for scores in curves["epoch_valid_score"]]))},
        "curves": {name: np.mean(values, axis=0).tolist() for name, values in curves.items()},
        "curves_deviation": {name: np.std(values, axis=0, ddof=1).tolist() for name, values in curves.items()}
        if len(infos) > 1
        else None,
    }


def corrected(stack: np.ndarray, seeds: list[list[Path]]) -> np.ndarray:
    """Predictions with every tag's threshold moved to 0.5, or with the training split's priors taken out, afterwards.

    Thresholds are tuned on the validation split, priors counted on the training split.
    """
    found = []
    for values, (path,) in zip(stack.astype(np.float32), seeds, strict=True):
        stored = np.load(path, allow_pickle=False)
        if stored["targets"].ndim == 2:
            thresholds = tuned_thresholds(stored["valid"].astype(np.float32), stored["valid_targets"])
            found.append(np.where(values >= thresholds, 0.5 + values / 2, values / 2))  # order within a tag stays
        else:
            found.append(adjust(values, np.array(json.loads(str(stored["info"]))["train_counts"])))
    return np.stack(found).astype(np.float16)


def score_rows(predictions: Mapping, task: Task, baseline: str, balanced: bool = False) -> dict[str, dict]:
    """Scores and differences by row, from a study's predictions alone: what a reader recomputes to check it."""
    targets, groups = predictions["targets"], predictions["groups"]
    names = list(metrics.point_scores(predictions[f"row {baseline}"][0], targets))
    if balanced:
        names += ["macro_f1", "mean_recall" if task.multi_label else "balanced_accuracy"]
    scored = {}
    for row in (name.removeprefix("row ") for name in predictions if name.startswith("row ")):
        first, values = (predictions[f"row {one}"].astype(np.float32) for one in (baseline, row))
        scored[row] = {"metrics": {name: metrics.seed_scores(name, values, targets, groups) for name in names}}
        for score in scored[row]["metrics"].values():
            if score["seeds"] == 1:
                score["deviation"] = None  # one seed has none
        if row != baseline:
            scored[row]["difference"] = metrics.paired_difference(task.headline, first, values, targets, groups)
    return scored


def write(folder: Path, name: str, summary: dict, predictions: dict[str, np.ndarray]) -> Path:
    """Write `study_<name>.json` and `.npz` into a folder; returns the JSON file's path."""
    with together(folder) as staged:
        path = staged / f"study_{name}.json"
        np.savez_compressed(path.with_suffix(".npz"), **predictions)
        path.write_text(json.dumps(summary, indent=1, default=float) + "\n", encoding="utf-8")
    return folder / path.name


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
