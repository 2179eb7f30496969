"""What stands on the pages' index: scores, confusion matrices, tags and clips, all from results files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from bundle.results import ROOT
from helpers import data, metrics
from helpers.metrics import NAMES
from helpers.tasks import TASKS, Task

CLIP_SECONDS = 10  # of an example; longer clips are cut there


@dataclass(frozen=True)
class Evaluation:
    """One results file with the predictions it was computed from; `folder` is such as "languages-demo-en-es"."""

    folder: str
    results: dict
    predictions: dict[str, np.ndarray]

    @property
    def task(self) -> Task:
        """Its task."""
        return TASKS[self.results["task"]]

    @property
    def rendered(self) -> bool:
        """Whether the clips are the rendered demo's; a folder of recordings may be called "demo" as well."""
        return self.results["parameters"]["DATA"] == "demo"

    @property
    def title(self) -> str:
        """Such as "Spoken languages: en, es only; rendered demo data"."""
        chosen = self.results["parameters"]["CLASSES"].replace(",", ", ")
        source = "rendered demo data" if self.rendered else f"data '{self.results['data']}'"
        return f"{self.task.title}{f': {chosen} only' if chosen else ''}; {source}"

    @property
    def best(self) -> str:
        """The model whose examples are shown: the one that the notebook's headline score is of."""
        return self.results["headline"].removesuffix(f"_{self.task.headline}")

    def card(self, model: str) -> Path:
        """Where a model's card is in the folder of weights, without its suffix."""
        chosen = "_" + "-".join(self.results["classes"]) if self.results["parameters"]["CLASSES"] else ""
        return Path(f"{self.task.name}-{self.results['data']}", model + chosen)

    def scores(self, model: str) -> list[dict]:
        """A model's scores as in the results file, each with its "name"; the headline score first."""
        found = {name: self.results["metrics"].get(f"{model}_{name}") for name in NAMES}
        return [{"name": NAMES[name].cell} | score for name, score in found.items() if score]


def evaluations(results: Path) -> list[Evaluation]:
    """All comparisons of models under `results`, and trainings on some of the classes.

    Raises
    ------
    FileNotFoundError
        If there are none, or one lacks its predictions.
    """
    found = []
    for path in sorted(results.glob("*/0[45]_*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["notebook"].startswith("04") and not content["parameters"]["CLASSES"]:
            continue  # 05 has these models, beside the others
        if not path.with_suffix(".npz").is_file():
            raise FileNotFoundError(
                f"{path.with_suffix('.npz')}: missing, expected the predictions behind {path.name}. "
                "Run the notebook again with --keep."
            )
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            found.append(Evaluation(path.parent.name, content, dict(stored)))
    if not found:
        raise FileNotFoundError(
            f"{results}: no results, expected <task>-<data>/05_evaluation.json. Run `python -m bundle run --keep`."
        )
    return found


def matrices(evaluation: Evaluation) -> list[dict]:
    """The confusion matrix of every model, one row per true class; none where a clip may have several labels."""
    if evaluation.task.multi_label:
        return []
    classes, targets = evaluation.results["classes"], evaluation.predictions["targets"]
    shown = []
    for model in evaluation.results["weights_digest"]:
        rows = []
        for true, counts in zip(classes, metrics.confusion(evaluation.predictions[model], targets), strict=True):
            clips = int(counts.sum())
            rows.append({"label": true, "clips": clips, "cells": [
                {"count": int(count), "share": count / max(clips, 1), "says": f"true {true}, predicted {predicted}: "
                 + (f"{count} of {clips} ({count / clips:.0%})".replace("%", " %") if clips else "no test clip")}
                for predicted, count in zip(classes, counts, strict=True)
            ]})  # fmt: skip
        shown.append({"model": model, "score": evaluation.scores(model)[0], "rows": rows})
    return shown


def tags(evaluation: Evaluation) -> list[dict]:
    """Every tag with its number of test clips and its ROC-AUC by model (None: not scorable); one label: none."""
    if not evaluation.task.multi_label:
        return []
    targets = evaluation.predictions["targets"]
    areas = [
        metrics.per_tag(evaluation.predictions[model], targets)[0] for model in evaluation.results["weights_digest"]
    ]
    return [
        {
            "label": label,
            "clips": int(targets[:, column].sum()),
            "areas": [None if np.isnan(area[column]) else float(area[column]) for area in areas],
        }
        for column, label in enumerate(evaluation.results["classes"])
    ]


def examples(evaluation: Evaluation, folder: Path, audio: bool) -> tuple[list[dict], str]:
    """Write a class's typical clip (of one label also its hardest) as FLAC files: exactly what the model heard.

    Parameters
    ----------
    evaluation : Evaluation
    folder : Path
        The site; files go to its audio/<task>-<data>.
    audio : bool
        Also when the data are not the rendered demo: recordings of others are not copied unasked.

    Returns
    -------
    rows : list of dict
        "label", "word", "file", "clip", "true" (all its labels), "said" (the three most probable), "probability" of
        the label, "found" (whether it is the most probable).
    reason : str
        Why there are none; "" where there are.
    """
    if not evaluation.results["notebook"].startswith("05"):
        return [], "Its clips are among those of the whole task."
    if not (evaluation.rendered or audio):
        return [], (
            "Not copied: these data are recordings, and whether they may be passed on is for their licence to say. "
            "Where they may, build the pages with --audio."
        )
    task, results, classes = evaluation.task, evaluation.results, evaluation.results["classes"]
    loaded = data.load(task, results["parameters"]["DATA"], ROOT, results["parameters"]["CLASSES"])
    if loaded.digest != results["data_digest"]:
        return [], (
            f"The data here (digest {loaded.digest[:12]}) are not those of the results "
            f"(digest {results['data_digest'][:12]}), so the clips would not fit the predictions."
        )
    probabilities, targets = evaluation.predictions[evaluation.best], evaluation.predictions["targets"]
    member = targets if task.multi_label else np.eye(len(classes))[targets]
    samples, rows = CLIP_SECONDS * task.rate, []
    (folder / "audio" / evaluation.folder).mkdir(parents=True)
    for column, label in enumerate(classes):
        clips = np.flatnonzero(member[:, column])
        ranked = clips[np.argsort(probabilities[clips, column], kind="stable")]
        chosen = {"typical": ranked[len(ranked) // 2], "hardest": ranked[0]} if len(ranked) else {}
        for word in list(chosen)[:1] if task.multi_label else chosen:
            clip = int(chosen[word])
            file = f"audio/{evaluation.folder}/{clip:05}.flac"
            soundfile.write(folder / file, loaded.test.take([clip])[0][:samples], task.rate, subtype="PCM_16")
            said = [int(index) for index in np.argsort(-probabilities[clip], kind="stable")[:3]]
            rows.append({
                "label": label, "word": word, "file": file, "clip": str(evaluation.predictions["names"][clip]),
                "true": [name for name, has in zip(classes, member[clip], strict=True) if has],
                "said": [(classes[index], float(probabilities[clip, index])) for index in said],
                "probability": float(probabilities[clip, column]), "found": said[0] == column,
            })  # fmt: skip
    return rows, ""
