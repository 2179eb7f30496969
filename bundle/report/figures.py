"""Figures that are drawn from results alone, at the size they are printed in; a document asks for them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundle.report.findings import Findings
from bundle.results import Score, Study, network
from helpers import plots
from helpers.metrics import NAMES

COLUMN, PAGE, SLIDE = 3.45, 5.5, 4.75  # inches: a column of IEEE's two, the lines of a NeurIPS paper, a slide
SMALL = plots.STYLE | {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}
SMALL |= {"xtick.labelsize": 7, "ytick.labelsize": 7}
LARGE = plots.STYLE | {"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8.5}
PARTS = {"train": "training", "valid": "validation"}


@dataclass(frozen=True)
class Gallery:
    """Puts the figures that a document asks for into its folder, and says what they are called there.

    Attributes
    ----------
    folder : Path
        Where the document is built.
    figures : Path
        The bundle's figures/, with those of the notebooks.
    """

    folder: Path
    figures: Path

    def drawn(self, kind: str, of: Findings | Study, *options: str) -> Markup:
        """Draw one of the figures of this module.

        Raises
        ------
        ValueError
            If the results lack what it shows.
        """
        draw: Callable[..., Figure] = KINDS[kind]
        with matplotlib.rc_context(LARGE if kind.startswith("slide") else SMALL):
            figure = draw(of, *options)
            name = "-".join((kind, of.task.name, *options)) + ".pdf"
            # No date: the same bytes for the same figure
            figure.savefig(self.folder / name, dpi=200, metadata={"CreationDate": None})
        return Markup(name)

    def notebook(self, of: Findings, name: str) -> Markup:
        """Take one that a notebook has drawn, such as "04_architecture".

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        path = self.figures / of.folder / f"{name}.pdf"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing. Make it: python -m bundle run --task {of.task.name} --notebook {name[:2]} --keep"
            )
        (self.folder / path.name).write_bytes(path.read_bytes())
        return Markup(path.name)


def study_curves(study: Study) -> Figure:
    """Loss and score of the baseline row by epoch: training and validation, mean over seeds, deviation as a band."""
    row = study.baseline.content
    curves, bands = row["curves"], row.get("curves_deviation")
    figure = Figure(figsize=(COLUMN, 1.75))
    axes = figure.subplots(1, 2)
    for ax, kind, label in zip(axes, ("loss", "score"), ("Loss", axis(study.task.headline)), strict=True):
        names = {word: f"epoch_{part}_{kind}" for part, word in PARTS.items()}
        lines = {word: curves[name] for word, name in names.items()}
        around = {word: bands[name] for word, name in names.items()} if bands else None
        plots.curves(ax, curves["epoch"], lines, "Epoch", label, around)
        dash_training(ax)
    axes[1].get_legend().remove()
    return figure


def dash_training(ax: Axes) -> None:
    """Training dashed, validation solid, and the legend above the axes: told apart in grey print too."""
    for line in ax.lines:
        line.set_linestyle("--" if "training" in line.get_label() else "-")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.2, handlelength=1.6)


def axis(metric: str) -> str:
    """A score on an axis."""
    title = NAMES[metric].title
    return title[0].upper() + title[1:]


def curves_of(found: Findings) -> dict[str, dict]:
    """Curves of the mel network with and without logarithm, by their short names."""
    curves = found.runs["04_mel_cnn"].curves() if "04_mel_cnn" in found.runs else {}
    missing = [model for model in ("mel_cnn", "mel_cnn_nolog") if model not in curves]
    if missing:
        raise ValueError(
            f"{found.folder}: no training curves of {', '.join(missing)}. Make them: python -m bundle run "
            f"--task {found.task.name} --notebook 04 --keep"
        )
    return {network(model).short: curves[model] for model in ("mel_cnn", "mel_cnn_nolog")}


def training_curves(found: Findings) -> Figure:
    """Loss by step of the mel network, and score by epoch of it and of the one without logarithm."""
    curves = curves_of(found)
    figure = Figure(figsize=(PAGE, 2.0))
    left, right = figure.subplots(1, 2)
    lines = next(iter(curves.values()))
    both = {word: lines[f"{part}_loss"] for part, word in PARTS.items()}
    plots.curves(left, lines["step"], both, "Iteration", "Loss")
    shown = {
        f"{short}, {word}": one[f"epoch_{part}_score"] for short, one in curves.items() for part, word in PARTS.items()
    }
    plots.curves(right, lines["epoch"], shown, "Epoch", axis(found.task.headline))
    dash_training(left)
    dash_training(right)
    return figure


def differences(found: Findings) -> Figure:
    """What every studied change does to the score of the row it is compared with."""
    changes = {
        f"{study.name}: {row.short} − {study.baseline.short}": vars(row.difference)
        for study in found.studies.values()
        for row in study.rows.values()
        if row.difference and study.name != "first_layer"
    }
    figure = Figure(figsize=(PAGE, 0.5 + 0.17 * len(changes)))
    label = f"Difference of test {NAMES[found.task.headline].title}, mean over seeds"
    plots.forest(figure.subplots(), changes, label)
    return figure


def ranked(found: Findings, metric: str) -> dict[str, Score]:
    """A score of all models that have it, by their short names, the best by headline score first."""
    order = sorted(found.run.models, key=lambda model: -found.run.headline(model).value)
    scores = {network(model).short: found.run.score(model, metric) for model in order}
    return {short: score for short, score in scores.items() if score}


def scores(found: Findings) -> Figure:
    """All models of a task with their intervals and chance, the best on top."""
    shown = ranked(found, found.task.headline)
    figure = Figure(figsize=(COLUMN, 0.45 + 0.21 * len(shown)))
    label = f"Test {NAMES[found.task.headline].title} (dotted: chance)"
    plots.intervals(figure.subplots(), {short: vars(score) for short, score in shown.items()}, found.chance, label)
    return figure


def slide_scores(found: Findings) -> Figure:
    """Both scores of all models with their intervals, the best on top."""
    figure = Figure(figsize=(SLIDE, 1.6))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric in zip(axes, (found.task.headline, found.task.second), strict=True):
        shown = ranked(found, metric)
        chance = next(iter(shown.values())).chance
        plots.intervals(ax, {short: vars(score) for short, score in shown.items()}, chance, NAMES[metric].title)
        ax.set_xlim(0, 1.3)
        ax.set_xticks([0, 0.5, 1])
    axes[1].invert_yaxis()  # shared: the second call has turned it back
    return figure


def confusion(found: Findings) -> Figure:
    """Confusion matrix of the mel network."""
    matrix = found.confusion("mel_cnn")
    figure = Figure(figsize=(4.2, 3.4))
    plots.confusion(figure.subplots(), matrix.counts, matrix.labels)
    return figure


def slide_confusion(found: Findings, model: str) -> Figure:
    """A confusion matrix that is read from the back of a room: counts only, short names below."""
    matrix = found.confusion(model)
    figure = Figure(figsize=(2.9, 2.3))
    ax = plots.confusion(figure.subplots(), matrix.counts, matrix.labels, bar=False)
    for text in ax.texts:
        text.set(text=text.get_text().split("\n")[0], fontsize=8)
    upright = {"rotation": 90, "ha": "center", "va": "top", "rotation_mode": "default"}
    long = max(map(len, matrix.labels)) > 3
    ax.set_xticks(range(len(matrix.labels)), [label[:3] for label in matrix.labels], **(upright if long else {}))
    ax.tick_params(length=0)
    ax.set(xlabel="Predicted", ylabel="True")
    return figure


def slide_curves(found: Findings) -> Figure:
    """Loss and score by epoch of the mel network with and without logarithm, training dashed."""
    figure = Figure(figsize=(SLIDE, 1.95))
    loss, score = figure.subplots(1, 2)
    for colour, (short, lines) in zip(plots.COLOURS, curves_of(found).items(), strict=False):
        for (part, word), style in zip(PARTS.items(), ("--", "-"), strict=True):
            loss.plot(lines["epoch"], lines[f"epoch_{part}_loss"], style, color=colour)
            label = f"{short}, {word}"
            score.plot(lines["epoch"], lines[f"epoch_{part}_score"], style, color=colour, label=label)
    loss.set(xlabel="Epoch", ylabel="Loss")
    score.set(xlabel="Epoch", ylabel=NAMES[found.task.headline].title)
    figure.legend(*score.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


KINDS = {
    draw.__name__: draw
    for draw in (
        study_curves, training_curves, differences, scores, confusion, slide_scores, slide_confusion, slide_curves
    )
}  # fmt: skip
