"""Facts and figures that only the slides and the one-page report show: their messages, confusions, errors by group."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bundle.report.facts import METRICS, SECOND, SHORT, Results, listed
from helpers import features, metrics, plots
from helpers.tasks import TASKS

SHOWN = ("svm", "mel_cnn", "mel_cnn_nolog")  # models whose confusion matrices are shown
WIDTH = 4.75  # inches: what a slide of 128 mm leaves; figures are printed at the size they are drawn in
STYLE = plots.STYLE | {"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8.5}


def facts(results: Results) -> dict[str, str]:
    """Words and numbers, as plain text, by the key they are asked for with."""
    found: dict[str, str] = {}
    for name, notebooks in results.notebooks.items():
        if not TASKS[name].multi_label:
            found |= {f"{name}.{key}": text for key, text in _of_task(results, name, notebooks)}
    return found


def files(results: Results) -> dict[str, str | bytes]:
    """Files for report/generated, by name: the slides' figures."""
    drawn = {}
    with matplotlib.rc_context(STYLE):
        for name, notebooks in results.notebooks.items():
            if TASKS[name].multi_label:
                continue
            evaluation, stored = notebooks["05_evaluation"], predictions(results, name)
            for model in [model for model in SHOWN if model in stored]:
                counts = metrics.confusion(stored[model], stored["targets"])
                drawn[f"slide-confusion-{model}-{name}"] = confusion(counts, evaluation["classes"])
            drawn[f"slide-models-{name}"] = models(evaluation)
            if curves := notebooks.get("04_mel_cnn", {}).get("curves"):
                drawn[f"slide-curves-{name}"] = training(curves, name)
        forms = ("pdf",) if shutil.which("latexmk") else ("pdf", "png")  # a page for the browser shows the latter
        return {f"{name}.{form}": _saved(figure, form) for name, figure in drawn.items() for form in forms}


def predictions(results: Results, task: str) -> dict[str, np.ndarray]:
    """The saved test predictions by model, with names, groups and targets."""
    with np.load(results.folder_of(task) / "05_evaluation.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _of_task(results: Results, name: str, notebooks: dict) -> Iterator[tuple[str, str]]:
    task, evaluation, stored = TASKS[name], notebooks["05_evaluation"], predictions(results, name)
    labels = [label.replace("_", " ") for label in evaluation["classes"]]
    silence = np.zeros((1, task.clip_samples), dtype=np.float32)
    yield "features", str(features.pooled(silence, task).shape[1])
    yield "mfccs", str(features.MFCCS)
    yield "labels", listed(labels)
    for model in [model for model in evaluation["weights_digest"] if model in stored]:
        counts = metrics.confusion(stored[model], stored["targets"])
        yield from ((f"{model}.{key}", text) for key, text in _of_confusion(counts, labels))
        for metric in [metric for metric in METRICS if f"{model}_{metric}" in evaluation["metrics"]]:
            yield f"{model}.{metric}.percent", f"{100 * evaluation['metrics'][f'{model}_{metric}']['value']:.0f} %"
    for key, value in evaluation["metrics"].items():
        if key.startswith("difference: ") and key.endswith(" - svm"):
            yield f"{key.removeprefix('difference: ').removesuffix(' - svm')}-svm.points", _points(value)
    for key, value in notebooks.get("04_mel_cnn", {}).get("metrics", {}).items():
        if key == "difference: log - no log":
            yield "log.points", _points(value)
    empty = [label for label, count in zip(labels, np.bincount(stored["targets"], minlength=len(labels)), strict=True)
             if not count]  # fmt: skip
    if empty:
        yield "without.clips", listed(empty)
    yield from _of_groups(stored)
    yield from _of_lengths(evaluation, task)
    yield from _of_pair(results, name)


def _points(value: dict) -> str:
    """A difference as points in a hundred, without its sign."""
    return f"{100 * abs(value['value']):.0f}"


def _of_confusion(counts: np.ndarray, labels: list[str]) -> Iterator[tuple[str, str]]:
    """The most frequent mistakes, as "keyboard taken for mallet (30 of 56)", and the best and the worst class."""
    wrong = counts - np.diag(counts.diagonal())
    total = counts.sum(axis=1)
    for place, flat in enumerate(np.argsort(-wrong, axis=None, kind="stable")[:3], 1):
        row, column = np.unravel_index(flat, counts.shape)
        if wrong[row, column]:
            yield f"mistake.{place}", f"{labels[row]} taken for {labels[column]} ({wrong[row, column]} of {total[row]})"
            yield f"mistake.{place}.true", labels[row]
            yield f"mistake.{place}.said", labels[column]
    there = np.flatnonzero(total)
    recall = counts.diagonal()[there] / total[there]
    for word, place in (("easiest", there[recall.argmax()]), ("hardest", there[recall.argmin()])):
        yield word, labels[place]
        yield f"{word}.recall", f"{counts[place, place]} of {total[place]}"
    yield "wrong", str(wrong.sum())


def _of_groups(stored: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """How the best network's errors are spread over instruments, voices or albums, and how near the truth was."""
    right = stored["mel_cnn"].argmax(axis=1) == stored["targets"]
    groups, which = np.unique(stored["groups"], return_inverse=True)
    if len(groups) < 2:
        return
    share = np.bincount(which, right) / np.bincount(which)
    yield "groups", str(len(groups))
    for word, place in (("lowest", share.argmin()), ("highest", share.argmax())):
        yield f"groups.{word}", f"{100 * share[place]:.0f} %"
        yield f"groups.{word}.name", str(groups[place]).replace("__", " ")
    yield "groups.half", str(int((share < 0.5).sum()))
    yield "groups.perfect", str(int((share == 1).sum()))
    order = np.argsort(-stored["mel_cnn"][~right], axis=1, kind="stable")
    if len(order):
        second = order[:, 1] == stored["targets"][~right]
        yield "second.guess", f"{100 * second.mean():.0f} %"


def _of_lengths(evaluation: dict, task) -> Iterator[tuple[str, str]]:
    """The score on the shortest and the longest clips that were tried, and on those of the length trained with."""
    lengths = {float(seconds): value for seconds, value in evaluation["clip_length"].items()}
    trained = min(lengths, key=lambda seconds: abs(seconds - task.clip_samples / task.rate))
    for word, seconds in (("shortest", min(lengths)), ("trained", trained), ("longest", max(lengths))):
        yield f"length.{word}", f"{lengths[seconds]:.3f}"
        yield f"length.{word}.seconds", f"{seconds:g}"


def _of_pair(results: Results, name: str) -> Iterator[tuple[str, str]]:
    """Scores of the networks for two classes only, where there are results of them."""
    for path in sorted(results.folder.glob(f"{results.folder_of(name).name}-*/04_mel_cnn.json")):
        found = json.loads(path.read_text())
        if len(found["classes"]) == 2:
            for model in found["weights_digest"]:
                score = found["metrics"][f"{model}_top1"]
                yield f"pair.{model}", f"{score['value']:.3f}"
                yield f"pair.{model}.interval", f"{score['low']:.3f}–{score['high']:.3f}"
            yield "pair", " and ".join(found["classes"])
            yield "pair.n", str(score["n"])
            yield "pair.chance", f"{score['chance']:.3f}"
            return


def confusion(counts: np.ndarray, classes: list[str]) -> Figure:
    """A confusion matrix that is read from the back of a room: counts only, short names below."""
    labels = [label.replace("_", " ") for label in classes]
    figure = Figure(figsize=(2.9, 2.3))
    ax = plots.confusion(figure.subplots(), counts, labels, bar=False)
    for text in ax.texts:
        text.set(text=text.get_text().split("\n")[0], fontsize=8)
    short = [label[:3] for label in labels]
    upright = {"rotation": 90, "ha": "center", "va": "top", "rotation_mode": "default"}
    ax.set_xticks(range(len(labels)), short, **(upright if max(map(len, labels)) > 3 else {}))
    ax.tick_params(length=0)
    ax.set(xlabel="Predicted", ylabel="True")
    return figure


def models(evaluation: dict) -> Figure:
    """Both scores of all models with their intervals, the best on top."""
    headline = TASKS[evaluation["task"]].headline
    order = sorted(
        evaluation["weights_digest"], key=lambda model: -evaluation["metrics"][f"{model}_{headline}"]["value"]
    )
    figure = Figure(figsize=(WIDTH, 1.6))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric in zip(axes, (headline, SECOND[headline]), strict=True):
        found = {SHORT.get(model, model): evaluation["metrics"].get(f"{model}_{metric}") for model in order}
        shown = {model: score for model, score in found.items() if score}
        if shown:
            plots.intervals(ax, shown, next(iter(shown.values()))["chance"], METRICS[metric])
            ax.set_xlim(0, 1.3)
            ax.set_xticks([0, 0.5, 1])
    axes[1].invert_yaxis()  # shared: the second call has turned it back
    return figure


def training(curves: dict[str, dict], task: str) -> Figure:
    """Loss and score by epoch of the mel network with and without logarithm, training dashed."""
    figure = Figure(figsize=(WIDTH, 1.95))
    loss, score = figure.subplots(1, 2)
    for colour, model in zip(plots.COLOURS, ("mel_cnn", "mel_cnn_nolog"), strict=False):
        for part, style in (("train", "--"), ("valid", "-")):
            lines = curves[model]
            loss.plot(lines["epoch"], lines[f"epoch_{part}_loss"], style, color=colour)
            words = {"train": "training", "valid": "validation"}[part]
            label = f"{SHORT[model]}, {words}"
            score.plot(lines["epoch"], lines[f"epoch_{part}_score"], style, color=colour, label=label)
    loss.set(xlabel="Epoch", ylabel="Loss")
    score.set(xlabel="Epoch", ylabel=METRICS[TASKS[task].headline])
    figure.legend(*score.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _saved(figure: Figure, form: str) -> bytes:
    content = io.BytesIO()
    dated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[form]  # the same bytes for the same figure
    figure.savefig(content, format=form, dpi=200, metadata=dated)
    return content.getvalue()
