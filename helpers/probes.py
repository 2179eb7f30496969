"""What can be guessed about a clip without listening to it: from its file name, its place in the list, its level."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from helpers import metrics
from helpers.audio import FULL_SCALE
from helpers.data.pack import Pack

CLIPS = 10_000  # drawn from a larger split
CHUNK = 16  # clips read at a time
TREES, LEAF = 200, 3  # of the forest; clips in a leaf, at least


def levels(pack: Pack) -> np.ndarray:
    """Root-mean-square level and peak of every clip in dB re full scale, (clips, 2), read a few clips at a time."""
    found = []
    for start in range(0, len(pack), CHUNK):
        waves = pack.waves[pack.rows[start : start + CHUNK]].astype(np.float32)  # (clips, samples), in steps of int16
        found.append([np.sqrt(np.square(waves).mean(axis=1)), np.abs(waves).max(axis=1)])
    return 20 * np.log10(np.maximum(np.concatenate(found, axis=1).T / FULL_SCALE, 1e-9))


def without_label(name: str, classes: Sequence[str]) -> str:
    """The last part of a clip's name, without its ending and without the words of any label.

    Published layouts write the label into the name or make it the folder: that is how it is given, not a leak. What
    else the name says may be one.
    """
    stem = re.sub(r"\.[A-Za-z0-9]{1,4}$", "", name.rsplit("/", 1)[-1])
    labels = "|".join(re.escape(label) for label in sorted(classes, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z])({labels})(?![A-Za-z])", "", stem, flags=re.IGNORECASE)


def describe(pack: Pack, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Features that no ear is needed for, each (clips, features).

    Parameters
    ----------
    pack : Pack
    classes : sequence of str
        The labels, to be cut out of the names.

    Returns
    -------
    dict
        "name": length, number of digits, letters and different characters, mean and deviation of the character codes,
        and the last two numbers in it; "order": place in the list, from 0 to 1; "level": see `levels`.
    """
    return {
        "name": np.array([_of_text(without_label(str(name), classes)) for name in pack.names]),
        "order": np.linspace(0, 1, len(pack))[:, None],
        "level": levels(pack),
    }


def metadata(train: Pack, test: Pack, classes: Sequence[str], seed: int = 0) -> dict[str, dict]:
    """Guess the labels of the test split from each kind of feature alone, by a random forest (Breiman 2001).

    Parameters
    ----------
    train, test : Pack
        The forest learns from the first. Of a larger split than `CLIPS` that many are drawn, in order.
    classes : sequence of str
    seed : int

    Returns
    -------
    dict
        By kind of feature: "balanced_accuracy" or, for tags, "roc_auc" as `metrics` gives it, with "score" (which of
        the two), "leaks" (whether the interval lies above chance) and "per_class" (recall or area under the curve).
        Empty when no tag can be scored.
    """
    draw = np.random.default_rng(seed)
    train, test = (
        pack.select(np.sort(draw.permutation(len(pack))[:CLIPS])) if len(pack) > CLIPS else pack
        for pack in (train, test)
    )
    learned, asked = describe(train, classes), describe(test, classes)
    found = {}
    for kind, features in learned.items():
        probabilities = _guess(features, train.targets, asked[kind], len(classes), seed)
        if test.targets.ndim == 1:
            name = "balanced_accuracy"
            scores, per_class = metrics.balanced_scores(probabilities, test.targets, test.groups, seed=seed)
        else:
            name, per_class = "roc_auc", metrics.per_tag(probabilities, test.targets)[0]
            scores = metrics.scores(probabilities, test.targets, test.groups, seed)
        if name in scores:
            score = scores[name]
            values = {label: float(v) for label, v in zip(classes, per_class, strict=True) if np.isfinite(v)}
            leaks = score["low"] > score["chance"] + 1e-9  # always the same guess is at chance, but for rounding
            found[kind] = score | {"score": name, "leaks": leaks, "per_class": values}
    return found


def _of_text(text: str) -> list[float]:
    codes = np.frombuffer(text.encode() or b" ", np.uint8)
    numbers = [0.0, 0.0, *map(float, re.findall(r"\d+", text))]
    letters = sum(map(str.isalpha, text))
    return [len(text), sum(map(str.isdigit, text)), letters, len(set(text)), codes.mean(), codes.std(), *numbers[-2:]]


def _guess(known: np.ndarray, targets: np.ndarray, asked: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Probabilities (clips, classes) for `asked` (clips, features), of a forest that learned `known` -> `targets`."""
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed)
    forest.fit(known, targets)
    if targets.ndim == 1:
        probabilities = np.zeros((len(asked), classes))
        probabilities[:, forest.classes_] = forest.predict_proba(asked)
        return probabilities
    # A tag that no or every training clip has is not guessed: its column is constant
    return np.stack([part[:, -1] for part in forest.predict_proba(asked)], axis=1)
