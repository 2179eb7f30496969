"""Draw arrays on given axes. No file is written and no global style is set here; `STYLE` is for the caller to apply."""

from __future__ import annotations

from collections.abc import Sequence

import librosa
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

# Colours of Okabe & Ito 2008, told apart by colour-blind readers and in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#7A4C1E", "#5D3A9B",
           "#B2A300")  # fmt: skip
MARKERS = "osD^vP*X<>h"
STYLE = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "figure.labelsize": 9,
    "axes.titlesize": 9,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "image.cmap": "magma",
    "pdf.fonttype": 42,  # whole letters: publishers refuse matplotlib's usual Type 3 fonts
}


def waveform(ax: Axes, wave: np.ndarray, rate: int, title: str = "", limit: float | None = None) -> Axes:
    """Amplitude against time; `wave` (samples,), `rate` in Hz, y-limits ± `limit`."""
    ax.plot(np.arange(len(wave)) / rate, wave, linewidth=0.4, color=COLOURS[0])
    ax.set(title=title, xlabel="Time (s)", ylabel="Amplitude", xlim=(0, len(wave) / rate))
    if limit:
        ax.set_ylim(-limit, limit)
    return ax


def mel_spectrogram(ax: Axes, wave: np.ndarray, rate: int, title: str = "") -> QuadMesh:
    """Mel spectrogram in dB below its loudest point, `wave` (samples,), `rate` in Hz. Returns it, for a colour bar."""
    power = librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=2048, hop_length=512)  # (mels, frames)
    level = librosa.power_to_db(power, ref=np.max)
    image = librosa.display.specshow(
        level, sr=rate, hop_length=512, x_axis="time", y_axis="mel", cmap="magma", vmin=-80, vmax=0, ax=ax
    )
    ax.locator_params(axis="x", nbins=4)
    ax.set(title=title, xlabel="Time (s)", ylabel="Frequency (Hz)")
    return image


def class_counts(ax: Axes, counts: dict[str, np.ndarray], classes: Sequence[str]) -> Axes:
    """Clips per class and split as stacked bars; `counts` by split, each (classes,)."""
    pd.DataFrame(counts, index=classes).plot.barh(stacked=True, ax=ax, width=0.8, color=COLOURS, xlabel="Clips")
    ax.invert_yaxis()
    ax.margins(y=0.02)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def confusion(ax: Axes, counts: np.ndarray, classes: Sequence[str], bar: bool = True) -> Axes:
    """Confusion matrix, `counts` (classes, classes), rows true: as colour the share of the true class, as text counts.

    Beneath a count stands its share in %, everywhere for few classes, else on the diagonal. The row of a class without
    clips says so. `bar` draws the colour bar; see `confusions` for several matrices.
    """
    total = counts.sum(axis=1)
    share = 100 * counts / np.maximum(total, 1)[:, None]
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if share[row, column] > 55 else "black"
        rate = f"\n{share[row, column]:.0f} %" if len(classes) <= 8 or row == column else ""
        size = 7 if len(classes) <= 8 else 6
        ax.text(column, row, f"{counts[row, column]}{rate}", ha="center", va="center", color=colour, fontsize=size,
                linespacing=0.95)  # fmt: skip
    for row in np.flatnonzero(total == 0):
        ax.axhspan(row - 0.5, row + 0.5, facecolor="0.93", edgecolor="0.7", linewidth=0.5)
        ax.text(
            len(classes) / 2 - 0.5, row, "no clips of this class", ha="center", va="center", color="0.3", fontsize=7
        )
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, classes)) > 3 else {}
    ax.set_xticks(range(len(classes)), classes, **slanted)
    ax.set_yticks(range(len(classes)), classes)
    ax.set(xlabel="Predicted class", ylabel="True class")
    if bar:
        ax.figure.colorbar(image, ax=ax, label=SHARE, shrink=0.8)
    return ax


SHARE = "Share of the true class (%)"


def confusions(figure: Figure, counts: dict[str, np.ndarray], classes: Sequence[str]) -> None:
    """Confusion matrices of several models side by side with one colour bar; `counts` by title, see `confusion`."""
    axes = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for ax, (title, matrix) in zip(axes, counts.items(), strict=True):
        confusion(ax, matrix, classes, bar=False).set(title=title, ylabel="")
    axes[0].set_ylabel("True class")
    figure.colorbar(axes[0].images[0], ax=axes, label=SHARE, shrink=0.8)


def curves(
    ax: Axes,
    steps: Sequence[float],
    lines: dict[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    bands: dict[str, Sequence[float]] | None = None,
) -> Axes:
    """Several curves over one x-axis, labelled by their keys; `bands` by the same keys: ± this much is shaded."""
    for colour, (label, values) in zip(COLOURS, lines.items(), strict=False):
        ax.plot(steps, values, color=colour, label=label, linewidth=1.2, marker="o" if len(steps) < 10 else None)
        if bands:
            low, high = np.subtract(values, bands[label]), np.add(values, bands[label])
            ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def interval_curve(ax: Axes, steps: Sequence[float], scores: Sequence[dict]) -> Axes:
    """One curve of scores ("value", "low", "high") with their intervals as a band."""
    value, low, high = np.array([[score["value"], score["low"], score["high"]] for score in scores]).T
    ax.plot(steps, value, "o-", color=COLOURS[0])
    ax.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    return ax


def filter_spectra(ax: Axes, filters: np.ndarray, rate: int):
    """Magnitude spectra of first-layer filters, sorted by the frequency of their maximum (as figure 3 of the paper).

    `filters` (count, length). Returns the image, for a colour bar.
    """
    spectra = np.abs(np.fft.rfft(filters, n=max(512, filters.shape[1]), axis=1))
    spectra /= spectra.max(axis=1, keepdims=True) + 1e-12
    order = spectra.argmax(axis=1).argsort(kind="stable")
    image = ax.imshow(
        spectra[order].T, origin="lower", aspect="auto", extent=(0.5, len(filters) + 0.5, 0, rate / 2), vmin=0, vmax=1,
    )  # fmt: skip
    ax.set(xlabel="Filter, sorted by frequency", ylabel="Frequency (Hz)")
    return image


def scatter_classes(
    ax: Axes, points: np.ndarray, targets: np.ndarray, classes: Sequence[str], regions: bool = False
) -> Axes:
    """Points in the plane, (clips, 2), coloured and marked by class index, (clips,).

    `regions` shades behind the points which class's mean is nearest.
    """
    there = [index for index in range(len(classes)) if (targets == index).any()]
    for index in there:
        ax.scatter(
            *points[targets == index].T, s=12, alpha=0.8, marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)], label=classes[index], linewidths=0,
        )  # fmt: skip
    if regions:
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        across, up = np.meshgrid(np.linspace(left, right, 400), np.linspace(bottom, top, 400))
        means = np.stack([points[targets == index].mean(axis=0) for index in there])
        nearest = np.argmin((across[..., None] - means[:, 0]) ** 2 + (up[..., None] - means[:, 1]) ** 2, axis=-1)
        ax.imshow(
            nearest, cmap=ListedColormap([COLOURS[index % len(COLOURS)] for index in there]), vmin=-0.5,
            vmax=len(there) - 0.5, extent=(left, right, bottom, top), origin="lower", aspect="auto", alpha=0.13,
            interpolation="nearest", zorder=0,
        )  # fmt: skip
    legend = ax.legend(fontsize=8, markerscale=1.7, loc="center left", bbox_to_anchor=(1, 0.5))
    if regions:
        legend.set_title("points: true class\nshaded: nearest\nclass mean", prop={"size": 7})
    return ax


def intervals(ax: Axes, scores: dict[str, dict], reference: float, xlabel: str) -> Axes:
    """Values with their intervals, one row per key of `scores`, and a dotted line at `reference`, such as chance."""
    for row, score in enumerate(scores.values()):
        ax.plot([score["low"], score["high"]], [row, row], color=COLOURS[0], linewidth=2)
        ax.plot(score["value"], row, "o", color=COLOURS[0])
        ax.text(score["high"], row, f"  {score['value']:.3f}", va="center")
    ax.axvline(reference, color="0.6", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.invert_yaxis()
    ax.margins(y=0.2, x=0.15)
    ax.set_xlabel(xlabel)
    return ax


def forest(ax: Axes, differences: dict[str, dict], xlabel: str) -> Axes:
    """Differences from a baseline with their intervals, the largest on top, and a dotted line at zero.

    `differences` by row: "value", "low", "high". An interval that leaves out zero is drawn in full colour, one that
    holds it hollow and grey; the figures stand at the right.
    """
    ranked = sorted(differences.items(), key=lambda item: -item[1]["value"])
    for row, (_, change) in enumerate(ranked):
        clear = change["low"] > 0 or change["high"] < 0
        colour = COLOURS[0] if clear else "0.45"
        ax.plot([change["low"], change["high"]], [row, row], color=colour, linewidth=2)
        ax.plot(change["value"], row, "o", color=colour, markerfacecolor=colour if clear else "white")
        words = f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
        ax.text(1.01, row, words, va="center", fontsize=8, transform=ax.get_yaxis_transform())
    ax.axvline(0, color="0.4", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(ranked)), [label for label, _ in ranked])
    ax.set(ylim=(len(ranked) - 0.5, -0.5), xlabel=xlabel)
    return ax
