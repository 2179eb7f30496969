"""Scores of predictions, each with its interval. Probabilities are (clips, classes), per clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers import resampling
from helpers.resampling import BALANCED, scorable, top_k


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

    The shape of `targets` tells which: (clips,) int or (clips, classes) of 0 and 1. Top-3 of three classes or fewer
    says nothing and is left out.
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
    return _with_intervals(values, probabilities, targets, groups, seed)


def balanced_scores(
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str] = (),
    thresholds: np.ndarray | float = 0.5,
    seed: int = 0,
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores in which every class or tag counts the same, however rare it is; those without a clip are left out.

    Parameters
    ----------
    probabilities, targets, groups, seed
        As in `scores`. Of one label the most probable class is predicted.
    thresholds : ndarray, shape (classes,), or float
        A tag is predicted from here on; see `tuned_thresholds`.

    Returns
    -------
    scores : dict
        "balanced_accuracy" (one label) or "mean_recall" (tags), and "macro_f1", as in `scores`. The first has the
        chance 1 / classes; that of the others is what the same predictions get when dealt out to the clips at random.
        Empty when no clip has a label.
    recalls : ndarray, shape (classes,)
        Share of each class's clips that were found; NaN for a class without any.
    """
    if targets.ndim == 2:
        probabilities = (probabilities >= thresholds).astype(np.float32)
    made, true = resampling.decisions(probabilities, targets)
    held = true.sum(axis=0)
    recalls = np.where(held > 0, (made & true).sum(axis=0) / np.maximum(held, 1), np.nan)
    if not held.any():
        return {}, recalls
    once = resampling.resampled(probabilities, targets, np.ones((1, len(targets))), balanced=True)
    values = {name: value[0] for name, value in once.items()}
    return _with_intervals(values, probabilities, targets, groups, seed), recalls


def tuned_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The probability from which on to predict each tag, (classes,), such that its F1 on these clips is highest.

    Both (clips, classes), of validation clips. A tag that all or none of them have keeps 0.5.
    """
    from sklearn import metrics

    thresholds = np.full(targets.shape[1], 0.5)
    for column in np.flatnonzero(scorable(targets)):
        precision, recall, steps = metrics.precision_recall_curve(targets[:, column], probabilities[:, column])
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


def in_words(score: dict[str, float]) -> str:
    """A score of `scores` as text: value, interval, number of clips, chance level."""
    interval = f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
    return f"{interval}, n {score['n']}, chance {score['chance']:.3f}"


def paired_difference(
    name: str, first: np.ndarray, second: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, float]:
    """Difference `second` - `first` of a score on the same clips, with its 95 % bootstrap interval.

    Parameters
    ----------
    name : str
        A key of `scores`.
    first, second : ndarray, shape (clips, classes)
        Probabilities of two models.
    targets, groups, seed
        As in `scores`; both models are scored on the same resamples.
    """
    found = seed_difference(name, first[None], second[None], targets, groups, seed)
    return {key: found[key] for key in ("value", "low", "high", "n")}


def seed_scores(
    name: str, probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, float]:
    """Mean of a score over models trained with different seeds, and how far they lie apart.

    Parameters
    ----------
    name : str
        A key of `scores` or `balanced_scores` (tags: threshold 0.5).
    probabilities : ndarray, shape (seeds, clips, classes)
    targets, groups, seed
        As in `scores`; for the interval, groups and seeds are both drawn with replacement.

    Returns
    -------
    dict
        "value" (the mean), "deviation" (over seeds, NaN for one), "low", "high", "n" (clips), "seeds", "chance".
    """
    values, drawn = resampling.over_seeds(name, probabilities, targets, groups, seed)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    more = {"deviation": deviation, "seeds": len(values), "chance": _chance(name, probabilities[0], targets)}
    return resampling.interval(values.mean(), drawn, len(targets)) | more


def seed_difference(
    name: str, first: np.ndarray, second: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), seed: int = 0
) -> dict[str, float]:
    """Difference `second` - `first` of `seed_scores` on the same clips; seeds are paired by their place.

    Returns "value", "low", "high" (groups and seeds drawn), "n" and "seeds".

    Raises
    ------
    ValueError
        If the two are not both (seeds, clips, classes).
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(
            f"first and second: found shapes {first.shape} and {second.shape}, expected (seeds, clips, classes), the "
            "same for both. Give both models' predictions with the same seeds, in the same order."
        )
    one, one_drawn = resampling.over_seeds(name, first, targets, groups, seed)
    other, other_drawn = resampling.over_seeds(name, second, targets, groups, seed)
    difference = resampling.interval((other - one).mean(), other_drawn - one_drawn, len(targets), -1.0)
    return difference | {"seeds": len(first)}


def calibration(probabilities: np.ndarray, targets: np.ndarray, bins: int = 10) -> tuple[np.ndarray, float]:
    """Reliability of the stated confidence, and the expected calibration error (Guo et al. 2017, section 2).

    For single-label targets the confidence is that of the predicted class; for tags every (clip, tag) pair counts.

    Returns
    -------
    table : ndarray, shape (bins, 3)
        Mean confidence, share that was right, number of cases; NaN, NaN, 0 for an empty bin.
    error : float
        Mean distance of the first two columns, weighted by the third.
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


def _with_intervals(values, probabilities, targets, groups, seed) -> dict[str, dict[str, float]]:
    drawn = resampling.bootstrap(probabilities, targets, groups, seed, balanced="macro_f1" in values)
    return {
        name: resampling.interval(value, drawn[name], len(targets)) | {"chance": _chance(name, probabilities, targets)}
        for name, value in values.items()
    }


def _chance(name: str, probabilities: np.ndarray, targets: np.ndarray) -> float:
    """What a score is worth without listening."""
    if name.startswith("top"):
        return min(1.0, int(name[3:]) / probabilities.shape[1])
    if name not in BALANCED:
        return 0.5 if name == "roc_auc" else float(targets[:, scorable(targets)].mean())
    made, true = resampling.decisions(probabilities, targets)
    said, held = (part.mean(axis=0)[true.any(axis=0)] for part in (made, true))
    if name == "balanced_accuracy":
        return 1 / len(held)
    return float((2 * said * held / (said + held) if name == "macro_f1" else said).mean())
