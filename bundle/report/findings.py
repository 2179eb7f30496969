"""What documents say of one task's results beyond its scores."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from bundle.results import Results, Score, Study, named
from helpers import features, metrics

SHOWN = 3  # labels of an example and worst classes that are named
NEAR = 0.05  # a score within this of chance has not begun to rise
OVERFITS, EVEN = 1.05, 1.01  # final validation loss over its lowest: above the first it has risen, below it has not


class Cell(NamedTuple):
    """Of a confusion matrix: how many of the clips of a class were taken for which."""

    true: str
    said: str
    count: int
    clips: int


class Findings:
    """Results of one task on one data set, in the folder of that name ("nsynth-demo").

    `runs` by notebook, `studies` by name and `searches` by kind of model are those of the folder; `run` is the
    evaluation of all saved weights. Nothing is worked out before a document asks for it.
    """

    def __init__(self, results: Results, folder: str):
        self.folder = folder
        self.runs = results.runs[folder]
        self.studies, self.searches = results.studies.get(folder, {}), results.searches.get(folder, {})
        self.run = self.runs["05_evaluation"]
        self.task, self.data, self.demo = self.run.task, named(self.run.data), self.run.data == "demo"
        self.seconds, self.khz = self.task.clip_samples / self.task.rate, self.task.rate / 1000
        self.clips, self.costs = self.run.content["clips"], self.run.content["costs"]  # by split; by model

    @property
    def chance(self) -> float:
        """What the headline score is worth without listening."""
        return self.run.headline("mel_cnn").chance

    def gain(self, model: str, over: str) -> Score | None:
        """Difference of the headline score from another model's, on the same clips."""
        runs = [self.runs[notebook] for notebook in ("05_evaluation", "04_mel_cnn") if notebook in self.runs]
        return next((found for run in runs if (found := run.difference(model, over))), None)

    def training(self, model: str) -> dict:
        """What the curves of a network of notebook 04 say, see `training`."""
        return training(self.runs["04_mel_cnn"].curves()[model], self.chance)

    @property
    def lengths(self) -> dict[float, float]:
        """The mel network's score on clips cut or repeated to so many seconds."""
        return {float(seconds): value for seconds, value in self.run.content["clip_length"].items()}

    @property
    def pooled_features(self) -> int:
        """Features of a clip that the SVM is given."""
        return features.pooled(np.zeros((1, self.task.clip_samples), dtype=np.float32), self.task).shape[1]

    @property
    def classes(self) -> list[dict]:
        """Those with test clips, from the worst to the best for the mel network; of equal ones, the larger first."""
        found = [
            {"name": name.replace("_", " "), "value": value, "clips": clips}
            for name, (value, clips) in self.run.content["per_class"].items()
        ]
        return sorted(found, key=lambda one: (one["value"], -one["clips"]))

    @property
    def absent(self) -> list[str]:
        """Of the worst classes, tags for what is not there, in quotes."""
        return [f"‘{one['name']}’" for one in self.classes[:SHOWN] if one["name"].startswith("no ")]

    @property
    def untested(self) -> list[str]:
        """Classes without test clips."""
        known = {one["name"] for one in self.classes}
        return [label for label in self.run.labels if label not in known]

    def confusion(self, model: str) -> dict:
        """How many clips are "wrong", the most frequent "mistakes", and the class that is "easiest" and "hardest"."""
        labels, stored = self.run.labels, self.run.predictions
        cells = [
            Cell(true, said, int(count), int(row.sum()))
            for true, row in zip(labels, metrics.confusion(stored[model], stored["targets"]), strict=True)
            for said, count in zip(labels, row, strict=True)
        ]
        mistakes = [one for one in cells if one.true != one.said and one.count]
        recalls = [one for one in cells if one.true == one.said and one.clips]
        return {
            "wrong": sum(one.count for one in mistakes),
            "mistakes": sorted(mistakes, key=lambda one: -one.count),
            "easiest": max(recalls, key=lambda one: one.count / one.clips),
            "hardest": min(recalls, key=lambda one: one.count / one.clips),
        }

    @cached_property
    def right(self) -> np.ndarray:
        """Share of each group's clips that the mel network gets right; empty where groups are not known."""
        stored = self.run.predictions
        right = stored["mel_cnn"].argmax(axis=1) == stored["targets"]
        groups, which = np.unique(stored["groups"], return_inverse=True)
        return np.bincount(which, right) / np.bincount(which) if len(groups) > 1 else np.zeros(0)

    @property
    def second_guess(self) -> float | None:
        """In which share of the mel network's errors the truth is its second guess; None where there is no error."""
        stored = self.run.predictions
        order = np.argsort(-stored["mel_cnn"], axis=1, kind="stable")
        wrong = order[:, 0] != stored["targets"]
        return (order[wrong, 1] == stored["targets"][wrong]).mean() if wrong.any() else None

    @cached_property
    def examples(self) -> dict[str, dict]:
        """The clips that the evaluation shows: "good", "bad 1" and "bad 2".

        Each has its "name", its "truth" and what the mel network "said"; and of as many of the likeliest labels as are
        "true", how many are "hits".
        """
        stored, labels, found = self.run.predictions, self.run.labels, {}
        for word, name in self.run.content["examples"].items():
            clip = list(stored["names"]).index(name)
            target, probability = stored["targets"][clip], stored["mel_cnn"][clip]
            true = np.flatnonzero(target) if self.task.multi_label else [target]
            top = np.argsort(-probability, kind="stable")[: max(SHOWN, len(true))]
            found[word] = {
                "name": name,
                "truth": ", ".join(labels[index] for index in true),
                "said": ", ".join(f"{labels[index]} {probability[index]:.2f}" for index in top),
                "true": len(true),
                "hits": len(set(top[: len(true)]) & set(true)),
            }
        return found


def training(curves: dict[str, list[float]], chance: float) -> dict:
    """What the curves of a training say.

    Returns
    -------
    dict
        "epochs", and those of the "best_epoch" and "lowest_epoch" (validation score and loss); "lowest_loss"; "last":
        where each curve ends ("train_loss"); "slow": epochs that the validation score stays near `chance`, 0 where they
        are no more than two; "sign": whether the validation loss has risen again ("more", "less", "unclear").
    """
    losses, scores = curves["epoch_valid_loss"], curves["epoch_valid_score"]
    slow = next((epoch for epoch, score in enumerate(scores) if score > chance + NEAR), len(scores))
    rise = losses[-1] / min(losses)
    return {
        "epochs": len(losses),
        "best_epoch": 1 + int(np.argmax(scores)),
        "lowest_epoch": 1 + int(np.argmin(losses)),
        "lowest_loss": min(losses),
        "last": {name.removeprefix("epoch_"): values[-1] for name, values in curves.items()},
        "slow": slow if slow > 2 else 0,
        "sign": "more" if rise > OVERFITS else "less" if rise < EVEN else "unclear",
    }


def settings(search: dict) -> str:
    """The best settings that a search found, in prose."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in search["best"].items())


def noise(study: Study) -> str:
    """How the deviation over several seeds lies to the intervals' half widths: "more", "less" or "unclear"."""
    scores = [row.headline for row in study.rows.values()]
    half = [(score.high - score.low) / 2 for score in scores]
    deviations = [score.deviation for score in scores]
    small, large = max(deviations) < min(half) / 2, min(deviations) > max(half) / 2
    return "less" if small else "more" if large else "unclear"
