"""Bootstrap: draw the clips of a split again and again, whole groups at a time, and score each draw (Efron 1979).

A resample is a row of weights: how often each clip is drawn. Scores are computed under the weights, no clip is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95  # of every interval
BLOCK = 2**19  # weights that are held at a time
BALANCED = ("balanced_accuracy", "mean_recall", "macro_f1")  # names of `metrics.balanced_scores`


def blocks(clips: int, groups: Sequence[str], seed: int) -> Iterator[np.ndarray]:
    """`draws`, few resamples at a time: memory does not grow with the number of clips."""
    names = [group or f"\0{index}" for index, group in enumerate(groups)] if len(groups) else range(clips)
    place = {name: index for index, name in enumerate(sorted(set(names)))}
    member, count = np.array([place[name] for name in names]), len(place)
    rng, size = np.random.default_rng(seed), max(1, BLOCK // clips)
    for start in range(0, RESAMPLES, size):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(size, RESAMPLES - start))
        yield drawn.astype(np.float64)[:, member]


def draws(clips: int, groups: Sequence[str], seed: int) -> np.ndarray:
    """How often each clip is drawn in each resample, (RESAMPLES, clips) float64; "" is a group of its own."""
    return np.concatenate(list(blocks(clips, groups, seed)))


def bootstrap(probabilities, targets, groups, seed: int, balanced: bool = False) -> dict[str, np.ndarray]:
    """`resampled` under all of `draws`, by name, (RESAMPLES,)."""
    parts = [resampled(probabilities, targets, weights, balanced) for weights in blocks(len(targets), groups, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(value: float, drawn: np.ndarray, clips: int, least: float = 0.0) -> dict[str, float]:
    """A value with percentiles of its resamples, (resamples,), within [`least`, 1]: "value", "low", "high", "n".

    Drawing with replacement biases areas under curves, so the resamples are centred on the value first.
    """
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(np.clip(drawn + (value - np.nanmean(drawn)), least, 1.0), [tail, 100 - tail])
    return {"value": float(value), "low": float(low), "high": float(high), "n": clips}


def over_seeds(name, probabilities, targets, groups, seed) -> tuple[np.ndarray, np.ndarray]:
    """A score of each seed, (seeds,), and its mean over drawn seeds on drawn groups, (resamples,)."""
    weights = np.vstack([np.ones(len(targets)), draws(len(targets), groups, seed)])
    found = [resampled(model, targets, weights, name in BALANCED)[name] for model in probabilities]
    values, drawn = np.split(np.stack(found, axis=1), [1])  # (1, seeds) and (resamples, seeds)
    return values[0], (drawn * draws(len(found), (), seed + 1)).mean(axis=1)


def resampled(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, balanced: bool = False
) -> dict[str, np.ndarray]:
    """Every score of `point_scores` or `balanced_scores` under each row of clip weights, by name, (resamples,)."""
    if balanced:
        names = ("balanced_accuracy" if targets.ndim == 1 else "mean_recall", "macro_f1")
        return dict(zip(names, weighted_balanced(*decisions(probabilities, targets), weights), strict=True))
    if targets.ndim == 2:
        kept = scorable(targets)
        areas = weighted_areas(probabilities[:, kept], targets[:, kept], weights)
        return dict(zip(("roc_auc", "pr_auc"), areas, strict=True))
    hits = {f"top{k}": top_k(probabilities, targets, k) for k in (1, 3)}
    return {name: weights @ hit / weights.sum(axis=1) for name, hit in hits.items()}


def decisions(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are predicted (tags: from 0.5 on), and which are true, each (clips, classes) bool."""
    if targets.ndim == 2:
        return probabilities >= 0.5, targets > 0
    classes = np.arange(probabilities.shape[1])
    return probabilities.argmax(axis=1)[:, None] == classes, targets[:, None] == classes


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


def weighted_balanced(made: np.ndarray, true: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean recall and mean F1 of the classes that were drawn, each (resamples,).

    `made` and `true`, (clips, classes) bool: which classes are predicted, which are true.
    """
    found, said, held = (weights @ part.astype(np.float64) for part in (made & true, made, true))
    drawn = np.maximum((held > 0).sum(axis=1), 1)
    recall, f1 = found / np.maximum(held, 1), 2 * found / np.maximum(said + held, 1)  # (resamples, classes)
    return recall.sum(axis=1) / drawn, f1.sum(axis=1) / drawn
