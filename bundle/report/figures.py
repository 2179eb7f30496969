"""Figures that are drawn from results alone, at the size they are printed in; a document asks for them by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundle.report.findings import Findings
from bundle.results import Study, short
from helpers import metrics, plots
from helpers.metrics import NAMES

COLUMN, PAGE, SLIDE = 3.45, 5.5, 4.75  # inches: a column of IEEE's two, the lines of a NeurIPS paper, a slide
SMALL = plots.STYLE | {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}
SMALL |= {"xtick.labelsize": 7, "ytick.labelsize": 7}
LARGE = plots.STYLE | {"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8.5}
PARTS = {"train": "training", "valid": "validation"}


@dataclass(frozen=True)
class Gallery:
    """Puts the figures that a document asks for into its `folder`, and says what they are called there."""

    folder: Path
    figures: Path  # the bundle's, with those of the notebooks

    def drawn(self, kind: str, of: Findings | Study, *options: str) -> Markup:
        """Draw one of KINDS."""
        with matplotlib.rc_context(LARGE if kind.startswith("slide") else SMALL):
            figure = KINDS[kind](of, *options)
            name = "-".join((kind, of.task.name, *options)) + ".pdf"
            # No date: the same bytes for the same figure
            figure.savefig(self.folder / name, dpi=200, metadata={"CreationDate": None})
        return Markup(name)

    def notebook(self, of: Findings, name: str) -> Markup:
        """Take one that a notebook has drawn, such as "04_architecture"; a FileNotFoundError where there is none."""
        path = self.figures / of.folder / f"{name}.pdf"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing. Make it: python -m bundle run --task {of.task.name} --notebook {name[:2]} --keep"
            )
        (self.folder / path.name).write_bytes(path.read_bytes())
        return Markup(path.name)


def parts(curves: dict, name: str, of: str = "") -> dict[str, list[float]]:
    """The curves called `name` ("epoch_{}_loss") of training and validation, with labels."""
    return {of + word: curves[name.format(part)] for part, word in PARTS.items()}


def dash_training(ax: Axes) -> None:
    """Training dashed, validation solid, and the legend above the axes: told apart in grey print too."""
    for line in ax.lines:
        line.set_linestyle("--" if "training" in line.get_label() else "-")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.2, handlelength=1.6)


def axis(metric: str) -> str:
    """A score on an axis."""
    title = NAMES[metric].title
    return title[0].upper() + title[1:]


def study_curves(study: Study) -> Figure:
    """Loss and score of the baseline row by epoch: training and validation, mean over seeds, deviation as a band."""
    curves, bands = (study.baseline.content.get(name) for name in ("curves", "curves_deviation"))
    figure = Figure(figsize=(COLUMN, 1.75))
    axes = figure.subplots(1, 2)
    for ax, kind, label in zip(axes, ("loss", "score"), ("Loss", axis(study.task.headline)), strict=True):
        name = f"epoch_{{}}_{kind}"
        plots.curves(ax, curves["epoch"], parts(curves, name), "Epoch", label, bands and parts(bands, name))
        dash_training(ax)
    axes[1].get_legend().remove()
    return figure


def both_networks(found: Findings) -> dict[str, dict]:
    """Curves of the mel network with and without logarithm, by their short names."""
    curves = found.runs["04_mel_cnn"].curves()
    return {short(model): curves[model] for model in ("mel_cnn", "mel_cnn_nolog")}


def training_curves(found: Findings) -> Figure:
    """Loss by step of the mel network, and score by epoch of it and of the one without logarithm."""
    curves = both_networks(found)
    figure = Figure(figsize=(PAGE, 2.0))
    left, right = figure.subplots(1, 2)
    lines = next(iter(curves.values()))
    plots.curves(left, lines["step"], parts(lines, "{}_loss"), "Iteration", "Loss")
    shown = {}
    for name, one in curves.items():
        shown |= parts(one, "epoch_{}_score", f"{name}, ")
    plots.curves(right, lines["epoch"], shown, "Epoch", axis(found.task.headline))
    dash_training(left)
    dash_training(right)
    return figure


def slide_curves(found: Findings) -> Figure:
    """Loss and score by epoch of the mel network with and without logarithm, training dashed."""
    figure = Figure(figsize=(SLIDE, 1.95))
    labels = ("Loss", NAMES[found.task.headline].title)
    for ax, kind, label in zip(figure.subplots(1, 2), ("loss", "score"), labels, strict=True):
        for colour, (name, lines) in zip(plots.COLOURS, both_networks(found).items(), strict=False):
            for (word, values), style in zip(parts(lines, f"epoch_{{}}_{kind}").items(), ("--", "-"), strict=True):
                ax.plot(lines["epoch"], values, style, color=colour, label=f"{name}, {word}")
        ax.set(xlabel="Epoch", ylabel=label)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def differences(found: Findings) -> Figure:
    """What every studied change does to the score of the row it is compared with."""
    changes = {
        f"{study.name}: {short(row.name)} − {short(study.baseline.name)}": vars(row.difference)
        for study in found.studies.values()
        for row in study.rows.values()
        if row.difference
    }
    figure = Figure(figsize=(PAGE, 0.5 + 0.17 * len(changes)))
    label = f"Difference of test {NAMES[found.task.headline].title}, mean over seeds"
    plots.forest(figure.subplots(), changes, label)
    return figure


def ranking(ax: Axes, found: Findings, metric: str, label: str) -> None:
    """A score of all models that have it, with intervals and chance, the best by headline score on top."""
    shown = {short(model): found.run.score(model, metric) for model in found.run.ranked}
    shown = {name: vars(score) for name, score in shown.items() if score}
    plots.intervals(ax, shown, next(iter(shown.values()))["chance"], label)


def scores(found: Findings) -> Figure:
    """The headline score of all models."""
    figure = Figure(figsize=(COLUMN, 0.45 + 0.21 * len(found.run.models)))
    ranking(figure.subplots(), found, found.task.headline, f"Test {NAMES[found.task.headline].title} (dotted: chance)")
    return figure


def slide_scores(found: Findings) -> Figure:
    """Both scores of all models."""
    figure = Figure(figsize=(SLIDE, 1.6))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric in zip(axes, (found.task.headline, found.task.second), strict=True):
        ranking(ax, found, metric, NAMES[metric].title)
        ax.set_xlim(0, 1.3)
        ax.set_xticks([0, 0.5, 1])
    axes[1].invert_yaxis()  # shared: the second call has turned it back
    return figure


def confusion(found: Findings, model: str = "mel_cnn", size: tuple = (4.2, 3.4), bar: bool = True) -> Figure:
    """Confusion matrix of one model."""
    stored, figure = found.run.predictions, Figure(figsize=size)
    counts = metrics.confusion(stored[model], stored["targets"])
    plots.confusion(figure.subplots(), counts, found.run.labels, bar)
    return figure


def slide_confusion(found: Findings, model: str) -> Figure:
    """A confusion matrix that is read from the back of a room: counts only, short names below."""
    figure, labels = confusion(found, model, (2.9, 2.3), bar=False), found.run.labels
    ax = figure.axes[0]
    for text in ax.texts:
        text.set(text=text.get_text().split("\n")[0], fontsize=8)
    upright = {"rotation": 90, "ha": "center", "va": "top", "rotation_mode": "default"}
    long = max(map(len, labels)) > 3
    ax.set_xticks(range(len(labels)), [label[:3] for label in labels], **(upright if long else {}))
    ax.tick_params(length=0)
    ax.set(xlabel="Predicted", ylabel="True")
    return figure


KINDS = {
    draw.__name__: draw
    for draw in (
        study_curves, training_curves, differences, scores, confusion, slide_scores, slide_confusion, slide_curves
    )
}  # fmt: skip
