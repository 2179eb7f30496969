"""Figures that are drawn from the results files alone, at the size they are printed in."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bundle.report.facts import METRICS, MODELS, ROWS, SHORT, Results
from helpers import metrics, plots
from helpers.tasks import TASKS

COLUMN, PAGE = 3.45, 5.5  # inches: a column of IEEE's two, the lines of a NeurIPS paper
STYLE = plots.STYLE | {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}
STYLE |= {"xtick.labelsize": 7, "ytick.labelsize": 7}


def files(results: Results, forms: tuple[str, ...] = ("pdf",)) -> dict[str, bytes]:
    """Every figure that the results allow, by file name, in each of the forms ("pdf", "png")."""
    with matplotlib.rc_context(STYLE):
        drawn = {}
        if study := results.studies.get("magnatagatune.study.first_layer"):
            drawn["curves-first_layer"] = study_curves(study)
        for task, notebooks in results.notebooks.items():
            drawn[f"scores-{task}"] = scores(notebooks["05_evaluation"])
            if curves := notebooks.get("04_mel_cnn", {}).get("curves"):
                drawn[f"curves-{task}"] = training_curves(curves, task)
            if changes := differences(results, task):
                drawn[f"differences-{task}"] = changes
            if not TASKS[task].multi_label:
                drawn[f"confusion-{task}"] = confusion(results, task)
        return {f"{name}.{form}": _saved(figure, form) for name, figure in drawn.items() for form in forms}


def _saved(figure: Figure, form: str) -> bytes:
    content = io.BytesIO()
    dated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[form]  # the same bytes for the same figure
    figure.savefig(content, format=form, dpi=200, metadata=dated)
    return content.getvalue()


def study_curves(study: dict) -> Figure:
    """Loss and score of the baseline row by epoch: training and validation, mean over seeds, deviation as a band."""
    row = study["rows"][study["baseline"]]
    curves, bands = row["curves"], row.get("curves_deviation")
    figure = Figure(figsize=(COLUMN, 1.75))
    axes = figure.subplots(1, 2)
    for ax, kind, label in zip(axes, ("loss", "score"), ("Loss", METRICS[TASKS[study["task"]].headline]), strict=True):
        names = {"training": f"epoch_train_{kind}", "validation": f"epoch_valid_{kind}"}
        lines = {word: curves[name] for word, name in names.items()}
        around = {word: bands[name] for word, name in names.items()} if bands else None
        plots.curves(ax, curves["epoch"], lines, "Epoch", first_upper(label), around)
        dash_training(ax)
    axes[1].get_legend().remove()
    return figure


def dash_training(ax) -> None:
    """Training dashed, validation solid, and the legend above the axes: told apart in grey print too."""
    for line in ax.lines:
        line.set_linestyle("--" if "training" in line.get_label() else "-")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.2, handlelength=1.6)


def first_upper(label: str) -> str:
    """The label of an axis."""
    return label[0].upper() + label[1:]


def training_curves(curves: dict[str, dict], task: str) -> Figure:
    """Loss by step of the mel network, and score by epoch of it and of the one without logarithm."""
    figure = Figure(figsize=(PAGE, 2.0))
    left, right = figure.subplots(1, 2)
    lines = curves["mel_cnn"]
    both = {"training": lines["train_loss"], "validation": lines["valid_loss"]}
    plots.curves(left, lines["step"], both, "Iteration", "Loss")
    shown = {}
    for model in [name for name in ("mel_cnn", "mel_cnn_nolog") if name in curves]:
        for word, name in {"training": "epoch_train_score", "validation": "epoch_valid_score"}.items():
            shown[f"{SHORT[model]}, {word}"] = curves[model][name]
    plots.curves(right, lines["epoch"], shown, "Epoch", first_upper(METRICS[TASKS[task].headline]))
    dash_training(left)
    dash_training(right)
    return figure


def differences(results: Results, task: str) -> Figure | None:
    """What every studied change does to the mel network's, or a baseline's, score; None where no study was run."""
    found = {}
    for key, study in results.studies.items():
        if key.startswith(f"{task}.") and study["study"] != "first_layer":
            for name, row in study["rows"].items():
                if "difference" in row:
                    found[f"{study['study']}: {short(name)} − {short(study['baseline'])}"] = row["difference"]
    if not found:
        return None
    figure = Figure(figsize=(PAGE, 0.5 + 0.17 * len(found)))
    plots.forest(figure.subplots(), found, f"Difference of test {METRICS[TASKS[task].headline]}, mean over seeds")
    return figure


def short(row: str) -> str:
    """A study's row on an axis."""
    return SHORT.get(ROWS.get(row, row), row.replace("_", " "))


def scores(evaluation: dict) -> Figure:
    """All models of a task with their intervals and chance, the best on top."""
    headline = TASKS[evaluation["task"]].headline
    found = {model: evaluation["metrics"][f"{model}_{headline}"] for model in evaluation["weights_digest"]}
    ranked = dict(sorted(found.items(), key=lambda item: -item[1]["value"]))
    figure = Figure(figsize=(COLUMN, 0.45 + 0.21 * len(ranked)))
    label = f"Test {METRICS[headline]} (dotted: chance)"
    named = {SHORT.get(model, MODELS.get(model, model)): score for model, score in ranked.items()}
    plots.intervals(figure.subplots(), named, found["mel_cnn"]["chance"], label)
    return figure


def confusion(results: Results, task: str) -> Figure:
    """Confusion matrix of the mel network."""
    with np.load(results.folder_of(task) / "05_evaluation.npz", allow_pickle=False) as stored:
        counts = metrics.confusion(stored["mel_cnn"], stored["targets"])
    labels = [name.replace("_", " ") for name in results.notebooks[task]["05_evaluation"]["classes"]]
    figure = Figure(figsize=(4.2, 3.4))
    plots.confusion(figure.subplots(), counts, labels)
    return figure
