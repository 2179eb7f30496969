"""Scores of predictions, each with its interval. Probabilities are (clips, classes), per clip.

Targets are (clips,) int for one label, or (clips, classes) of 0 and 1 for tags: their shape tells which scores there
are. An interval comes from scoring the same clips under other weights: how often each was drawn, with its whole group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Name(NamedTuple):
    """What a score is called: in prose and on axes, in tables, and where there is little room."""

    title: str
    cell: str
    short: str


NAMES = {  # every score there is, by its name in results files
    "top1": Name("top-1 accuracy", "top-1", "top-1"),
    "top3": Name("top-3 accuracy", "top-3", "top-3"),
    "roc_auc": Name("macro ROC-AUC", "macro ROC-AUC", "ROC-AUC"),
    "pr_auc": Name("macro PR-AUC", "macro PR-AUC", "PR-AUC"),
    "balanced_accuracy": Name("balanced accuracy", "balanced accuracy", "balanced"),
    "mean_recall": Name("mean recall", "mean recall", "recall"),
    "macro_f1": Name("macro F1", "macro F1", "F1"),
}

RESAMPLES = 1000
LEVEL = 0.95  # of every interval
BLOCK = 2**19  # weights that are held at a time
BALANCED = ("balanced_accuracy", "mean_recall", "macro_f1")  # scores in which every class or tag counts the same


def top_k(probabilities: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the `k` most probable, (clips,) bool; equal scores count against the model."""
    true = np.take_along_axis(probabilities, targets[:, None], axis=1)
    return ((probabilities >= true).sum(axis=1) <= k) & np.isfinite(true[:, 0])


def scorable(targets: np.ndarray) -> np.ndarray:
    """Columns that hold both a 0 and a 1, (classes,) bool: only they have a ROC curve."""
    return (targets.max(axis=0) > 0) & (targets.min(axis=0) < 1)


def per_tag(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of every tag, each (classes,); NaN where not scorable."""
    from sklearn import metrics  # takes a second to import, which the scores of one label need not wait for

    roc, precision = np.full((2, targets.shape[1]), np.nan)
    if (kept := scorable(targets)).any():
        both = targets[:, kept], probabilities[:, kept]
        roc[kept] = metrics.roc_auc_score(*both, average=None)  # all at once: a third of the time
        precision[kept] = metrics.average_precision_score(*both, average=None)
    return roc, precision


def confusion(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts, (classes, classes): row true class, column predicted class."""
    from sklearn import metrics

    return metrics.confusion_matrix(targets, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1]))


def point_scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Scores without intervals: "top1" and "top3", or "roc_auc" and "pr_auc" (macro over scorable tags).

    Top-3 of three classes or fewer says nothing and is left out.
    """
    if targets.ndim == 1:
        ks = (1, 3) if probabilities.shape[1] > 3 else (1,)
        return {f"top{k}": float(top_k(probabilities, targets, k).mean()) for k in ks}
    if not scorable(targets).any():
        return {"roc_auc": float("nan"), "pr_auc": float("nan")}
    roc, precision = per_tag(probabilities, targets)
    return {"roc_auc": float(np.nanmean(roc)), "pr_auc": float(np.nanmean(precision))}


def scores(
    probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, dict[str, float]]:
    """Scores with 95 % bootstrap intervals, as they stand in a results file.

    Parameters
    ----------
    probabilities : ndarray, shape (clips, classes)
    targets : ndarray, shape (clips,) int or (clips, classes) of 0 and 1
    groups : sequence of str, optional
        One name per clip. Where given, whole groups are drawn, since clips of one speaker or instrument are not
        independent; "" is a group of its own.
    seed : int

    Returns
    -------
    dict
        By name of the score: {"value", "low", "high", "n", "chance"}; empty when no tag can be scored.
    """
    values = point_scores(probabilities, targets)
    if np.isnan(list(values.values())).any():
        return {}
    drawn = bootstrap(probabilities, targets, groups, seed)
    return {name: described(name, value, drawn[name][1:], probabilities, targets) for name, value in values.items()}


def balanced_scores(
    probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores in which every class or tag counts the same, however rare it is; those without a clip are left out.

    Arguments are those of `scores`; a tag is predicted from a probability of 0.5 on. Returns scores like it,
    "balanced_accuracy" (one label) or "mean_recall" (tags), and "macro_f1", {} when no clip has a label; and the recall
    of every class, (classes,), NaN for a class without a clip. Chance is 1 / classes, else what the same predictions
    get when dealt out to the clips at random.
    """
    made, true = decisions(probabilities, targets)
    held = true.sum(axis=0)
    recalls = np.where(held > 0, (made & true).sum(axis=0) / np.maximum(held, 1), np.nan)
    if not held.any():
        return {}, recalls
    found = bootstrap(probabilities, targets, groups, seed, balanced=True)
    return {name: described(name, all_[0], all_[1:], probabilities, targets) for name, all_ in found.items()}, recalls


def seed_scores(
    name: str, probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, float]:
    """Mean of a score over models trained with different seeds, and how far they lie apart.

    `probabilities` are (seeds, clips, classes), the rest is as in `scores`; for the interval, groups and seeds are both
    drawn with replacement. Beside what `scores` says there are "deviation" (NaN for one seed) and "seeds".
    """
    values, drawn = over_seeds(name, probabilities, targets, groups, seed)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    more = {"deviation": deviation, "seeds": len(values)}
    return described(name, values.mean(), drawn, probabilities[0], targets) | more


def paired_difference(
    name: str, first: np.ndarray, second: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, float]:
    """Difference `second` - `first` of a score on the same clips, with its 95 % bootstrap interval.

    Both are (clips, classes), or (seeds, clips, classes), paired by their place: then the mean over seeds is compared.
    Both are scored on the same resamples, and the same drawn seeds. The rest is as in `scores`; ValueError if the two
    are not of one shape. Returns "value", "low", "high", "n", and "seeds" where there are some.
    """
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise ValueError(
            f"first and second: found shapes {first.shape} and {second.shape}, expected (clips, classes) or (seeds, "
            "clips, classes), the same for both. Give both models' predictions with the same seeds, in the same order."
        )
    several = first.ndim == 3
    (one, one_drawn), (other, other_drawn) = (
        over_seeds(name, model if several else model[None], targets, groups, seed) for model in (first, second)
    )
    difference = interval((other - one).mean(), other_drawn - one_drawn, len(targets), least=-1.0)
    return difference | ({"seeds": len(first)} if several else {})


def in_words(score: dict[str, float]) -> str:
    """A score of `scores` as text: value, interval, number of clips, chance level."""
    interval = f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
    return f"{interval}, n {score['n']}, chance {score['chance']:.3f}"


def calibration(probabilities: np.ndarray, targets: np.ndarray, bins: int = 10) -> tuple[np.ndarray, float]:
    """Reliability of the stated confidence, and the expected calibration error (Guo et al. 2017, section 2).

    For single-label targets the confidence is that of the predicted class; for tags every (clip, tag) pair counts.
    Returns a table (bins, 3) of mean confidence, share that was right and number of cases (NaN, NaN, 0 for an empty
    bin), and the mean distance of its first two columns, weighted by the third.
    """
    if targets.ndim == 1:
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    else:
        confidence, right = probabilities.ravel(), targets.ravel() > 0
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    table = np.full((bins, 3), np.nan)
    for index in range(bins):
        chosen = place == index
        table[index, 2] = chosen.sum()
        if chosen.any():
            table[index, :2] = confidence[chosen].mean(), right[chosen].mean()
    filled = table[table[:, 2] > 0]
    return table, float(np.average(np.abs(filled[:, 0] - filled[:, 1]), weights=filled[:, 2]))


def described(name, value, drawn, probabilities, targets) -> dict[str, float]:
    """A score with its interval and its chance level: what it is worth without listening."""
    if name.startswith("top"):
        chance = min(1.0, int(name[3:]) / probabilities.shape[1])
    elif name not in BALANCED:
        chance = 0.5 if name == "roc_auc" else float(targets[:, scorable(targets)].mean())
    else:
        made, true = decisions(probabilities, targets)
        said, held = (part.mean(axis=0)[true.any(axis=0)] for part in (made, true))
        chance = float((2 * said * held / (said + held) if name == "macro_f1" else said).mean())
        if name == "balanced_accuracy":
            chance = 1 / len(held)
    return interval(value, drawn, len(targets)) | {"chance": chance}


def interval(value: float, drawn: np.ndarray, clips: int, least: float = 0.0) -> dict[str, float]:
    """A value with percentiles of its resamples, (resamples,), within [`least`, 1]: "value", "low", "high", "n".

    Drawing with replacement biases areas under curves, so the resamples are centred on the value first.
    """
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(np.clip(drawn + (value - np.nanmean(drawn)), least, 1.0), [tail, 100 - tail])
    return {"value": float(value), "low": float(low), "high": float(high), "n": clips}


def draws(clips: int, groups: Sequence[str], seed: int) -> Iterator[np.ndarray]:
    """How often each clip counts, (1 + RESAMPLES, clips) float64: once, then as often as its group is drawn.

    "" is a group of its own. Few rows at a time: memory does not grow with the number of clips.
    """
    names = [group or f"\0{index}" for index, group in enumerate(groups)] if len(groups) else range(clips)
    place = {name: index for index, name in enumerate(sorted(set(names)))}
    member, count = np.array([place[name] for name in names]), len(place)
    rng, size = np.random.default_rng(seed), max(1, BLOCK // clips)
    for start in range(0, RESAMPLES, size):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(size, RESAMPLES - start))
        rows = drawn.astype(np.float64)[:, member]
        yield rows if start else np.vstack([np.ones(clips), rows])


def bootstrap(probabilities, targets, groups, seed: int, balanced: bool = False) -> dict[str, np.ndarray]:
    """Every score of `scores` or `balanced_scores` on all clips, then on each resample, by name, (1 + RESAMPLES,)."""
    parts = [weighted(probabilities, targets, rows, balanced) for rows in draws(len(targets), groups, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def over_seeds(name, probabilities, targets, groups, seed) -> tuple[np.ndarray, np.ndarray]:
    """A score of each seed, (seeds,), and its mean over drawn seeds on drawn groups, (resamples,)."""
    found = [bootstrap(model, targets, groups, seed, name in BALANCED)[name] for model in probabilities]
    values, drawn = np.split(np.stack(found, axis=1), [1])  # (1, seeds) and (resamples, seeds)
    times = np.concatenate(list(draws(len(found), (), seed + 1)))[1:]
    return values[0], (drawn * times).mean(axis=1)


def weighted(probabilities, targets, weights: np.ndarray, balanced: bool = False) -> dict[str, np.ndarray]:
    """Every score under each row of clip weights, (resamples, clips), by name, (resamples,)."""
    if balanced:  # mean recall and mean F1 of the classes that were drawn
        made, true = decisions(probabilities, targets)
        found, said, held = (weights @ part.astype(np.float64) for part in (made & true, made, true))
        drawn = np.maximum((held > 0).sum(axis=1), 1)
        recall, f1 = found / np.maximum(held, 1), 2 * found / np.maximum(said + held, 1)  # (resamples, classes)
        name = "balanced_accuracy" if targets.ndim == 1 else "mean_recall"
        return {name: recall.sum(axis=1) / drawn, "macro_f1": f1.sum(axis=1) / drawn}
    if targets.ndim == 2:
        kept = scorable(targets)
        roc, precision = weighted_areas(probabilities[:, kept], targets[:, kept], weights)
        return {"roc_auc": roc, "pr_auc": precision}
    return {f"top{k}": weights @ top_k(probabilities, targets, k) / weights.sum(axis=1) for k in (1, 3)}


def decisions(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are predicted (tags: from 0.5 on), and which are true, each (clips, classes) bool."""
    if targets.ndim == 2:
        return probabilities >= 0.5, targets > 0
    classes = np.arange(probabilities.shape[1])
    return probabilities.argmax(axis=1)[:, None] == classes, targets[:, None] == classes


def weighted_areas(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Macro ROC-AUC and average precision under clip weights, each (resamples,); equal scores share a threshold.

    `targets` (clips, tags) holds both a 0 and a 1 in every column.
    """
    roc, precision = np.full((2, targets.shape[1], len(weights)), np.nan)
    for column in range(targets.shape[1]):
        order = np.argsort(-probabilities[:, column], kind="stable")
        score = probabilities[order, column]
        ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # last clip of each run of equal scores
        hit = targets[order, column] > 0
        true = np.cumsum(weights[:, order] * hit, axis=1)[:, ends]  # (resamples, thresholds)
        false = np.cumsum(weights[:, order] * ~hit, axis=1)[:, ends]
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no positive: NaN, left out below
            step_true, step_false = np.diff(true, prepend=0), np.diff(false, prepend=0)
            roc[column] = (step_false * (true - step_true / 2)).sum(1) / (true[:, -1] * false[:, -1])
            share = np.where(true + false > 0, true / (true + false), 0)
            precision[column] = (step_true * share).sum(1) / true[:, -1]
    return np.nanmean(roc, axis=0), np.nanmean(precision, axis=0)
