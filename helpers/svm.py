"""The baseline: pooled features, standardised, and a support vector machine per class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from helpers import features, metrics
from helpers.data.pack import Pack
from helpers.models import KernelMachine
from helpers.tasks import Task

EXACT_UP_TO = 20_000  # training clips; time and memory of the exact kernel grow with their square
COMPONENTS = 1_000  # training clips that stand in for all of them in the approximated kernel
STEPS = 5_000_000  # of gradient descent on it, whatever the number of clips
LESSON_CLIPS = 3_000  # at most so many for training and as many for testing in `leak_lesson`
BATCH = 64  # clips described at a time
NEVER = 100.0  # decision value, below zero, of a class without a training clip


class Table(NamedTuple):
    """Clips as numbers: features (clips, features) float32, targets as in `Pack`, groups (clips,) of str."""

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray


def describe(pack: Pack, task: Task, limit: int | None = None, seed: int = 0) -> Table:
    """Pooled features of a pack's clips, or of `limit` clips drawn from it where it has more."""
    if limit and len(pack) > limit:
        pack = pack.select(np.sort(np.random.default_rng(seed).permutation(len(pack))[:limit]))
    parts = [features.pooled(pack.take(slice(start, start + BATCH)), task) for start in range(0, len(pack), BATCH)]
    return Table(np.concatenate(parts), pack.targets, pack.groups)


def make(cost: float, gamma: float, clips: int, seed: int = 0) -> Pipeline:
    """An unfitted classifier: standardisation, and one SVM for each class or tag against all others.

    One against the rest also where a clip has exactly one label: on these features that beats scikit-learn's votes
    of all pairs of classes. Positive and negative clips of a class count equally in all, however many they are.

    Parameters
    ----------
    cost : float
        What a misplaced training clip costs, the C of Cortes & Vapnik 1995.
    gamma : float
        Of the kernel exp(-gamma d²), d the distance of two clips in standardised features.
    clips : int
        Training clips. Beyond `EXACT_UP_TO` the kernel is approximated by Nyström's method (Williams & Seeger 2001),
        and a linear SVM with the same cost learns on that by averaged stochastic gradient descent (Bottou 2010).
    seed : int
        Of the approximation; the exact SVM draws nothing.
    """
    if clips <= EXACT_UP_TO:
        return make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(C=cost, gamma=gamma, class_weight="balanced")))
    kernel = Nystroem(kernel="rbf", gamma=gamma, n_components=min(COMPONENTS, clips), random_state=seed)
    linear = SGDClassifier(
        loss="hinge", alpha=1 / (cost * clips), average=True, class_weight="balanced", max_iter=-(-STEPS // clips),
        tol=None, random_state=seed,
    )  # fmt: skip
    return make_pipeline(StandardScaler(), kernel, OneVsRestClassifier(linear))


def as_arrays(model: Pipeline, classes: int) -> KernelMachine:
    """A fitted `make` as plain arrays, to be stored; a class of `classes` without a training clip comes last."""
    scaler, *between, against = model.named_steps.values()
    known = against.classes_
    columns = [*known] if len(known) > 2 or against.multilabel_ else [known[1]]
    weights, bias = np.zeros((0, classes)), np.full(classes, -NEVER)
    if between:  # approximated: a linear machine on the kernel's values at a few points
        (kernel,) = between
        points, gamma = kernel.components_, kernel.gamma
        weights = np.zeros((len(points), classes))
        for column, one in zip(columns, against.estimators_, strict=True):
            constant = not hasattr(one, "coef_")
            bias[column] = one.y_[0] if constant else one.intercept_[0]
            weights[:, column] = 0 if constant else kernel.normalization_.T @ one.coef_[0]
    else:
        machines = {column: one for column, one in zip(columns, against.estimators_, strict=True)}
        held = [one for one in machines.values() if hasattr(one, "support_")]
        rows = np.unique(np.concatenate([one.support_ for one in held]))
        weights, points = np.zeros((len(rows), classes)), np.zeros((len(rows), scaler.n_features_in_))
        gamma = held[0].gamma
        for column, one in machines.items():
            if one in held:
                places = np.searchsorted(rows, one.support_)
                points[places], bias[column] = one.support_vectors_, one.intercept_[0]
                weights[places, column] = one.dual_coef_[0]
            else:  # all training clips have the tag, or none
                bias[column] = one.y_[0]
    if len(columns) == 1:  # two classes: one margin, for the second
        weights[:, known[0]], bias[known[0]] = -weights[:, columns[0]], -bias[columns[0]]
    found = scaler.mean_, scaler.scale_, points, weights, bias, np.array(gamma)
    return KernelMachine(*(np.array(array, dtype=np.float32, order="C") for array in found))


def decisions(model: Pipeline, described: np.ndarray, classes: int) -> np.ndarray:
    """Decision values of a fitted `make`, (clips, classes), also for two classes.

    `described` (clips, features); a class without a training clip comes last.
    """
    values = np.asarray(model.decision_function(described))
    if values.ndim == 1:  # two classes: one margin
        values = np.stack([-values, values], axis=1)
    if values.shape[1] == classes:
        return values
    complete = np.full((len(values), classes), values.min() - 1)
    complete[:, model.classes_] = values
    return complete


def validation_score(settings: dict[str, float], train: Table, valid: Table, task: Task, seed: int = 0) -> float:
    """The task's headline metric on `valid` after fitting `train`; `settings` are the "cost" and "gamma" of `make`."""
    values = _learned(settings, train, valid, seed)
    return metrics.point_scores(values, valid.targets)[task.headline]


def leak_lesson(
    settings: dict[str, float], train: Table, valid: Table, test: Table, task: Task, seed: int = 0
) -> dict[str, dict]:
    """Score the same settings on two splits of the same clips: groups kept apart as given, and drawn at random.

    Both train on as many clips and test on as many, at most `LESSON_CLIPS` each; the random split draws both from all
    clips together. Returns by "groups apart" and "random split" the headline score as in `metrics.scores`, with
    "shared", the share of test clips whose group was trained on; {} where no group is known, or no tag can be scored.
    """
    clips = Table(*(np.concatenate(parts) for parts in zip(train, valid, test, strict=True)))
    if not (clips.groups != "").any():
        return {}
    draw, total = np.random.default_rng(seed), len(clips.groups)
    sizes = [min(len(part.groups), LESSON_CLIPS) for part in (train, test)]
    apart = draw.permutation(len(train.groups)), total - 1 - draw.permutation(len(test.groups))
    mixed = draw.permutation(total)
    found = {}
    for title, *rows in (("groups apart", *apart), ("random split", mixed, mixed[::-1])):
        known, asked = (Table(*(part[row[:size]] for part in clips)) for row, size in zip(rows, sizes, strict=True))
        scores = metrics.scores(_learned(settings, known, asked, seed), asked.targets, asked.groups)
        if task.headline not in scores:
            return {}
        named = asked.groups != ""
        shared = np.isin(asked.groups, known.groups) & named
        found[title] = scores[task.headline] | {"shared": float(shared.sum() / max(named.sum(), 1))}
    return found


def _learned(settings: dict[str, float], train: Table, test: Table, seed: int) -> np.ndarray:
    """Decision values on `test` of an SVM that was fitted to `train`, a column for each class of either."""
    model = make(**settings, clips=len(train.features), seed=seed).fit(train.features, train.targets)
    known = np.concatenate([train.targets, test.targets])
    return decisions(model, test.features, known.shape[1] if known.ndim == 2 else int(known.max()) + 1)
