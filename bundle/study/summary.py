"""What came of a study: per row mean and deviation over seeds, interval, and the difference from the baseline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers import metrics
from helpers.data import name_of
from helpers.files import replacing
from helpers.tasks import TASKS, Task
from helpers.training import EPOCH_CURVES

SCHEMA = 1
CORRECTED = "corrected afterwards"


def gather(paths: list[list[Path]], which: str) -> tuple[np.ndarray, dict, list[dict]]:
    """The trainings of one row together.

    Parameters
    ----------
    paths : list of list of Path
        By seed and fold.
    which : str
        "best" or "final" epoch.

    Returns
    -------
    probabilities : ndarray, shape (seeds, clips, classes), float16
        Of every test clip, ordered by name.
    clips : dict of str to ndarray
        "names", "groups", "targets" in the same order.
    infos : list of dict
        Of every training.
    """
    stacked, infos, clips = [], [], {}
    for folds in paths:
        parts = [np.load(path, allow_pickle=False) for path in folds]
        infos += [json.loads(str(part["info"])) for part in parts]
        clips = {name: np.concatenate([part[name] for part in parts]) for name in ("names", "groups", "targets")}
        order = np.argsort(clips["names"], kind="stable")
        clips = {name: values[order] for name, values in clips.items()}
        stacked.append(np.concatenate([part[which] for part in parts])[order].astype(np.float16))
    return np.stack(stacked), clips, infos


def summarise(name: str, study, rows: dict, task: str, data: str, found: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Results of a study for one task, and the predictions they can be recomputed from."""
    which = "final" if study.final else "best"
    gathered = {row: gather(paths, which) for row, paths in found.items()}
    clips = gathered[study.baseline][1]
    for row, (_, other, _) in gathered.items():
        if not np.array_equal(other["names"], clips["names"]):
            raise ValueError(f"{name}, row {row}: other test clips than {study.baseline}, expected the same.")
    stacks = {row: stack for row, (stack, _, _) in gathered.items()}
    described = {row: describe(gathered[row][2], rows[row]) for row in rows}
    if study.balanced:
        stacks[CORRECTED] = corrected(found[study.baseline], which)
        described[CORRECTED] = described[study.baseline]
    summary = {
        "schema": SCHEMA,
        "study": name,
        "question": study.question,
        "task": task,
        "data": name_of(data),
        "baseline": study.baseline,
        "scored": f"{which} epoch",
        "folds": study.folds,
        "rows": described,
        "environment": gathered[study.baseline][2][0]["environment"],
    }
    for row, scored in score_rows(stacks, clips, TASKS[task], study.baseline, study.balanced).items():
        summary["rows"][row] = summary["rows"][row] | scored
    return summary, clips | {f"row {row}": stack for row, stack in stacks.items()}


def describe(infos: list[dict], row) -> dict:
    """What is the same in all trainings of a row, and the means of what is not."""
    valid = [info["valid_score"] for info in infos]
    curves = {curve: [info["curves"][curve] for info in infos] for curve in EPOCH_CURVES}
    return {
        "config": infos[0]["config"],
        "settings": {key: value for key, value in infos[0]["settings"].items() if key != "seed"},
        "precision": infos[0]["precision"],
        "share": row.share,
        "parameters": infos[0]["parameters"],
        "train_clips": [info["clips"]["train"] for info in infos],
        "minutes": float(np.mean([info["minutes"] for info in infos])),
        "valid": {
            "value": float(np.mean(valid)),
            "deviation": float(np.std(valid, ddof=1)) if len(valid) > 1 else None,
        },
        "best_epochs": [info["best_epoch"] for info in infos],
        "curves": {curve: np.mean(values, axis=0).tolist() for curve, values in curves.items()},
        "curves_deviation": {curve: np.std(values, axis=0, ddof=1).tolist() for curve, values in curves.items()}
        if len(infos) > 1
        else None,
    }


def corrected(paths: list[list[Path]], which: str) -> np.ndarray:
    """A row's predictions with every tag's threshold moved to 0.5, or with the training split's priors taken out.

    Thresholds are tuned on the validation split, priors counted on the training split; (seeds, clips, classes).
    """
    stacked, _, infos = gather(paths, which)
    for seed, (path,) in enumerate(paths):
        stored, values = np.load(path, allow_pickle=False), stacked[seed].astype(np.float32)
        if stored["targets"].ndim == 2:
            thresholds = metrics.tuned_thresholds(stored["valid"].astype(np.float32), stored["valid_targets"])
            stacked[seed] = np.where(values >= thresholds, 0.5 + values / 2, values / 2)  # the order within a tag stays
        else:
            stacked[seed] = metrics.adjust(values, np.array(infos[seed]["train_counts"]))
    return stacked


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
            scored[row]["difference"] = metrics.seed_difference(task.headline, first, values, targets, groups)
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


def in_words(summary: dict) -> str:
    """The rows of a study as a table for the terminal."""
    headline = TASKS[summary["task"]].headline
    lines = [f"\n{summary['task']} ({summary['data']}): {summary['question']}"]
    for name, row in summary["rows"].items():
        score, other = row["metrics"][headline], row.get("difference")
        spread = "" if score["deviation"] is None else f" ± {score['deviation']:.3f} over {score['seeds']} seeds"
        lines.append(
            f"  {name:24} {headline} {score['value']:.3f}{spread} "
            f"({score['low']:.3f} – {score['high']:.3f}), n {score['n']}, chance {score['chance']:.3f}"
            + (f"; {other['value']:+.3f} ({other['low']:+.3f} – {other['high']:+.3f})" if other else "")
        )
    return "\n".join(lines)
