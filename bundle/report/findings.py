"""What documents say of one task's results beyond its scores. Nothing is worked out before a document asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from bundle.results import Results, Row, Run, Score, Study, named
from helpers import features, metrics
from helpers.models import NETWORKS
from helpers.tasks import Task

SHOWN = 3  # labels of an example and worst classes that are named
NEAR = 0.05  # a score within this of chance has not begun to rise
OVERFITS, EVEN = 1.05, 1.01  # final validation loss over its lowest: above the first it has risen, below it has not


class Class(NamedTuple):
    """A class or tag, its score in the results file, and its test clips."""

    name: str
    value: float
    clips: int


class Cell(NamedTuple):
    """Of a confusion matrix: how many of the clips of a class were taken for which."""

    true: str
    said: str
    count: int
    clips: int


class Example(NamedTuple):
    """A test clip: what it is, what the mel network says, and how many of as many labels as are true are right."""

    name: str
    truth: str
    said: str
    true: int
    hits: int


@dataclass(frozen=True)
class Training:
    """The curves of one training, and what its scores are worth without listening."""

    lines: dict[str, list[float]]
    chance: float

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self.lines["epoch_valid_loss"])

    @property
    def best_epoch(self) -> int:
        """With the best validation score."""
        return 1 + int(np.argmax(self.lines["epoch_valid_score"]))

    @property
    def lowest_epoch(self) -> int:
        """With the lowest validation loss."""
        return 1 + int(np.argmin(self.lines["epoch_valid_loss"]))

    @property
    def lowest_loss(self) -> float:
        """The lowest validation loss."""
        return min(self.lines["epoch_valid_loss"])

    def last(self, name: str) -> float:
        """Where a curve ends: "train_loss", "valid_score"."""
        return self.lines[f"epoch_{name}"][-1]

    @property
    def slow(self) -> int | None:
        """Epochs that the validation score stays near chance; None where it is no more than two."""
        scores = self.lines["epoch_valid_score"]
        first = next((epoch for epoch, score in enumerate(scores) if score > self.chance + NEAR), len(scores))
        return first if first > 2 else None

    @property
    def sign(self) -> str:
        """Whether the validation loss has risen again at the end: "more"; "less" where it has not, else "unclear"."""
        rise = self.last("valid_loss") / self.lowest_loss
        return "more" if rise > OVERFITS else "less" if rise < EVEN else "unclear"


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of one model, and what is read off it."""

    counts: np.ndarray
    labels: list[str]

    @property
    def wrong(self) -> int:
        """Clips that were taken for something else."""
        return int(self.counts.sum() - self.counts.trace())

    @property
    def mistakes(self) -> list[Cell]:
        """The most frequent first."""
        wrong = self.counts - np.diag(self.counts.diagonal())
        places = (np.unravel_index(flat, wrong.shape) for flat in np.argsort(-wrong, axis=None, kind="stable"))
        return [
            Cell(self.labels[true], self.labels[said], int(wrong[true, said]), int(self.counts[true].sum()))
            for true, said in places
            if wrong[true, said]
        ]

    @property
    def recalls(self) -> list[Cell]:
        """How many clips of each class were rightly taken for it; classes without clips are left out."""
        found = zip(
            self.labels, self.labels, self.counts.diagonal().tolist(), self.counts.sum(axis=1).tolist(), strict=True
        )
        return [Cell(*one) for one in found if one[3]]

    @property
    def hardest(self) -> Cell:
        """The class with the lowest recall."""
        return min(self.recalls, key=lambda one: one.count / one.clips)

    @property
    def easiest(self) -> Cell:
        """The class with the highest recall."""
        return max(self.recalls, key=lambda one: one.count / one.clips)


@dataclass(frozen=True)
class Findings:
    """Results of one task on one data set.

    Attributes
    ----------
    results : Results
    folder : str
        Of the results and of the figures: "nsynth-demo".
    """

    results: Results
    folder: str

    @property
    def runs(self) -> dict[str, Run]:
        """By notebook."""
        return self.results.runs[self.folder]

    @property
    def run(self) -> Run:
        """The evaluation of all saved weights."""
        return self.runs["05_evaluation"]

    @property
    def task(self) -> Task:
        """What was learned."""
        return self.run.task

    @property
    def data(self) -> str:
        """The data set in prose."""
        return named(self.run.data)

    @property
    def demo(self) -> bool:
        """Whether the data are rendered."""
        return self.run.data == "demo"

    @property
    def seconds(self) -> float:
        """Length of a clip."""
        return self.task.clip_samples / self.task.rate

    @property
    def khz(self) -> float:
        """Sampling rate."""
        return self.task.rate / 1000

    @property
    def clips(self) -> dict[str, int]:
        """By split."""
        return self.run.content["clips"]

    @property
    def models(self) -> list[str]:
        """Those that were evaluated, in the order of tables."""
        return [model for model in NETWORKS if model in self.run.models]

    @property
    def costs(self) -> dict[str, dict]:
        """By model."""
        return self.run.content["costs"]

    @property
    def studies(self) -> dict[str, Study]:
        """By name; one that was not run is not there."""
        return self.results.studies.get(self.folder, {})

    @property
    def searches(self) -> dict[str, dict]:
        """By kind of model."""
        return self.results.searches.get(self.folder, {})

    @property
    def chance(self) -> float:
        """What the headline score is worth without listening."""
        return self.run.headline("mel_cnn").chance

    def second(self, model: str) -> Score | None:
        """A model's score beside the headline."""
        return self.run.score(model, self.task.second)

    def gain(self, model: str, over: str) -> Score | None:
        """Difference of the headline score from another model's, on the same clips."""
        for notebook in ("05_evaluation", "04_mel_cnn"):
            if notebook in self.runs and (found := self.runs[notebook].differences().get((over, model))):
                return found
        return None

    def training(self, model: str) -> Training | None:
        """The training of a network of notebook 04."""
        lines = self.runs["04_mel_cnn"].curves().get(model) if "04_mel_cnn" in self.runs else None
        return Training(lines, self.chance) if lines else None

    def baseline(self, split: str) -> Score | None:
        """The SVM's score in notebook 02, by how clips were dealt: "random_split", "groups_apart"."""
        return self.runs["02_baseline_svm"].score(split, self.task.headline) if "02_baseline_svm" in self.runs else None

    @property
    def pair(self) -> Run | None:
        """The networks for two classes alone."""
        runs = (
            runs.get("04_mel_cnn") for name, runs in self.results.runs.items() if name.startswith(f"{self.folder}-")
        )
        return next((run for run in runs if run and len(run.labels) == 2), None)

    @property
    def lengths(self) -> dict[float, float]:
        """The mel network's score on clips cut or repeated to so many seconds."""
        return {float(seconds): value for seconds, value in self.run.content["clip_length"].items()}

    @property
    def pooled_features(self) -> int:
        """Features of a clip that the SVM is given."""
        return features.pooled(np.zeros((1, self.task.clip_samples), dtype=np.float32), self.task).shape[1]

    @property
    def classes(self) -> list[Class]:
        """From the worst to the best for the mel network, those with test clips; of equal ones, the larger first."""
        found = [Class(name.replace("_", " "), *values) for name, values in self.run.content["per_class"].items()]
        return sorted(found, key=lambda one: (one.value, -one.clips))

    @property
    def best_classes(self) -> list[Class]:
        """From the best to the worst; of equal ones, the larger first."""
        return sorted(self.classes, key=lambda one: -one.value)

    @property
    def absent(self) -> list[str]:
        """Of the worst classes, tags for what is not there, in quotes."""
        return [f"‘{one.name}’" for one in self.classes[:SHOWN] if one.name.startswith("no ")]

    @property
    def untested(self) -> list[str]:
        """Classes without test clips."""
        known = {one.name for one in self.classes}
        return [label for label in self.run.labels if label not in known]

    def confusion(self, model: str) -> Confusion:
        """Of the test clips, where each has one label."""
        stored = self.run.predictions
        return Confusion(metrics.confusion(stored[model], stored["targets"]), self.run.labels)

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
    def examples(self) -> dict[str, Example]:
        """The clips that the evaluation shows, "good", "bad 1" and "bad 2"."""
        stored, labels, found = self.run.predictions, self.run.labels, {}
        names, many = list(stored["names"]), self.task.multi_label
        for word, name in self.run.content["examples"].items():
            clip = names.index(name)
            target, probability = stored["targets"][clip], stored["mel_cnn"][clip]
            true = np.flatnonzero(target) if many else [target]
            top = np.argsort(-probability, kind="stable")[: max(SHOWN, len(true))]
            truth = ", ".join(labels[index] for index in true)
            said = ", ".join(f"{labels[index]} {probability[index]:.2f}" for index in top)
            found[word] = Example(name, truth, said, len(true), len(set(top[: len(true)]) & set(true)))
        return found


def training(row: Row) -> Training:
    """The mean of a study's trainings of one row."""
    return Training(row.content["curves"], row.headline.chance)


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
