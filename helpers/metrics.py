"""Scores of predictions, each with its interval. Probabilities are (clips, classes), per clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import metrics

RESAMPLES = 1000
LEVEL = 0.95  # of every interval


def top_k(probabilities: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the `k` most probable, (clips,) bool; equal scores count against the model.

    Parameters
    ----------
    probabilities : ndarray, shape (clips, classes)
    targets : ndarray, shape (clips,), int
    k : int
    """
    true = np.take_along_axis(probabilities, targets[:, None], axis=1)
    return ((probabilities >= true).sum(axis=1) <= k) & np.isfinite(true[:, 0])


def scorable(targets: np.ndarray) -> np.ndarray:
    """Columns that hold both a 0 and a 1, (classes,) bool: only they have a ROC curve."""
    return (targets.max(axis=0) > 0) & (targets.min(axis=0) < 1)


def per_tag(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of every tag, each (classes,); NaN where not scorable."""
    roc, precision = np.full((2, targets.shape[1]), np.nan)
    for column in np.flatnonzero(scorable(targets)):
        roc[column] = metrics.roc_auc_score(targets[:, column], probabilities[:, column])
        precision[column] = metrics.average_precision_score(targets[:, column], probabilities[:, column])
    return roc, precision


def confusion(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts, (classes, classes): row true class, column predicted class."""
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
    if targets.ndim == 1:
        chance = {name: min(1.0, int(name[3:]) / probabilities.shape[1]) for name in values}
    else:
        chance = {"roc_auc": 0.5, "pr_auc": float(targets[:, scorable(targets)].mean())}
    drawn = _resampled(probabilities, targets, _resampling_weights(len(targets), groups, seed))
    result = {}
    for name, value in values.items():
        low, high = _interval(value, drawn[name], 0.0)
        result[name] = {"value": value, "low": low, "high": high, "n": len(targets), "chance": chance[name]}
    return result


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
    value = point_scores(second, targets)[name] - point_scores(first, targets)[name]
    weights = _resampling_weights(len(targets), groups, seed)
    drawn = _resampled(second, targets, weights)[name] - _resampled(first, targets, weights)[name]
    low, high = _interval(value, drawn, -1.0)
    return {"value": value, "low": low, "high": high, "n": len(targets)}


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


def _interval(value: float, drawn: np.ndarray, least: float) -> tuple[float, float]:
    """Percentiles of the resamples, (low, high) within [`least`, 1].

    Drawing with replacement biases areas under curves, so the resamples are centred on the value first.
    """
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(np.clip(drawn + (value - np.nanmean(drawn)), least, 1.0), [tail, 100 - tail])
    return float(low), float(high)


def _resampled(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every score of `point_scores` under each row of clip weights, by name, (resamples,)."""
    if targets.ndim == 2:
        return dict(zip(("roc_auc", "pr_auc"), _weighted_areas(probabilities, targets, weights), strict=True))
    hits = {f"top{k}": top_k(probabilities, targets, k) for k in (1, 3)}
    return {name: weights @ hit / weights.sum(axis=1) for name, hit in hits.items()}


def _resampling_weights(clips: int, groups: Sequence[str], seed: int) -> np.ndarray:
    """How often each clip is drawn in each resample, (RESAMPLES, clips)."""
    names = [group or f"\0{index}" for index, group in enumerate(groups)] if len(groups) else np.arange(clips)
    _, member = np.unique(names, return_inverse=True)
    count = member.max() + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn[:, member].astype(np.float64)


def _weighted_areas(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Macro ROC-AUC and average precision under clip weights, each (resamples,); equal scores share a threshold."""
    columns = np.flatnonzero(scorable(targets))
    roc, precision = np.full((2, len(columns), len(weights)), np.nan)
    for place, column in enumerate(columns):
        order = np.argsort(-probabilities[:, column], kind="stable")
        score = probabilities[order, column]
        ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # last clip of each run of equal scores
        hit = targets[order, column] > 0
        true = np.cumsum(weights[:, order] * hit, axis=1)[:, ends]  # (resamples, thresholds)
        false = np.cumsum(weights[:, order] * ~hit, axis=1)[:, ends]
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no positive: NaN, left out below
            step_true, step_false = np.diff(true, prepend=0), np.diff(false, prepend=0)
            roc[place] = (step_false * (true - step_true / 2)).sum(1) / (true[:, -1] * false[:, -1])
            share = np.where(true + false > 0, true / (true + false), 0)
            precision[place] = (step_true * share).sum(1) / true[:, -1]
    return np.nanmean(roc, axis=0), np.nanmean(precision, axis=0)
