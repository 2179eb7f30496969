"""Draw arrays on given axes. No file is written and no global style is set here; `STYLE` is for the caller to apply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

# Colours of Okabe & Ito 2008, told apart by colour-blind readers and in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#7A4C1E", "#5D3A9B",
           "#B2A300")  # fmt: skip
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "image.cmap": "magma",
}


def waveform(ax: Axes, wave: np.ndarray, rate: int, title: str = "", limit: float | None = None) -> Axes:
    """Amplitude against time; `wave` (samples,), `rate` in Hz, y-limits ± `limit`."""
    ax.plot(np.arange(len(wave)) / rate, wave, linewidth=0.4, color=COLOURS[0])
    ax.set(title=title, xlabel="Time (s)", ylabel="Amplitude", xlim=(0, len(wave) / rate))
    if limit:
        ax.set_ylim(-limit, limit)
    return ax


def mel_spectrogram(ax: Axes, level: np.ndarray, rate: int, hop: int, title: str = ""):
    """Level in dB, (mels, frames); the y-axis is labelled in Hz. Returns the image, for a colour bar."""
    mels, frames = level.shape
    image = ax.imshow(
        level, origin="lower", aspect="auto", vmin=-80, vmax=0, extent=(0, frames * hop / rate, 0, mels),
        interpolation="nearest",
    )  # fmt: skip
    ticks = np.linspace(0, mels, 5)
    ax.set_yticks(ticks, [f"{frequency:.0f}" for frequency in slaney_hz(ticks / mels, rate)])
    ax.set(title=title, xlabel="Time (s)", ylabel="Frequency (Hz)")
    return image


def slaney_hz(share: np.ndarray, rate: int) -> np.ndarray:
    """Frequency, in Hz, at a share of the way from 0 to half the rate on Slaney's mel scale (Auditory Toolbox 1998)."""
    step = np.log(6.4) / 27  # of the logarithmic part, above 1 kHz = 15 mel
    top = 15 + np.log(rate / 2 / 1000) / step
    mel = np.asarray(share) * top
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (np.maximum(mel, 15) - 15)))


def class_counts(ax: Axes, counts: dict[str, np.ndarray], classes: Sequence[str]) -> Axes:
    """Clips per class and split as stacked bars; `counts` by split, each (classes,)."""
    left = np.zeros(len(classes))
    for colour, (split, count) in zip(COLOURS, counts.items(), strict=False):
        ax.barh(classes, count, left=left, color=colour, label=split)
        left = left + count
    ax.invert_yaxis()
    ax.set(xlabel="Clips", xlim=(0, left.max() * 1.02))
    ax.margins(y=0.02)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def confusion(ax: Axes, counts: np.ndarray, classes: Sequence[str]) -> Axes:
    """Confusion matrix: rate per true class as colour, counts as text; `counts` (classes, classes), rows true."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if share[row, column] > 0.55 else "black"
        ax.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=7)
    ax.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    ax.set_yticks(range(len(classes)), classes)
    ax.set(xlabel="Predicted", ylabel="True")
    return ax


def curves(ax: Axes, steps: Sequence[float], lines: dict[str, Sequence[float]], xlabel: str, ylabel: str) -> Axes:
    """Several curves over one x-axis, labelled by their keys."""
    for colour, (label, values) in zip(COLOURS, lines.items(), strict=False):
        ax.plot(steps, values, color=colour, label=label, marker="o" if len(steps) < 3 else None)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
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


def roc(ax: Axes, false_rate: Sequence[np.ndarray], true_rate: Sequence[np.ndarray], labels: Sequence[str]) -> Axes:
    """ROC curves, one per label, with the diagonal of chance."""
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    for index, (false, true, label) in enumerate(zip(false_rate, true_rate, labels, strict=True)):
        ax.plot(false, true, color=COLOURS[index % len(COLOURS)], label=label, linewidth=1.2)
    ax.set(xlabel="False positive rate", ylabel="True positive rate", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(fontsize=7, loc="lower right")
    return ax


def scatter_classes(ax: Axes, points: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> Axes:
    """Points in the plane, (clips, 2), coloured and marked by class index, (clips,)."""
    for index, label in enumerate(classes):
        chosen = targets == index
        if chosen.any():
            marker, colour = "osD^vP*X<>h"[index % 11], COLOURS[index % len(COLOURS)]
            ax.scatter(*points[chosen].T, s=12, alpha=0.7, marker=marker, color=colour, label=label, linewidths=0)
    ax.legend(fontsize=7, markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def reliability(ax: Axes, table: np.ndarray, error: float) -> Axes:
    """Reliability curve from `metrics.calibration`, with the expected calibration error in the title."""
    filled = table[table[:, 2] > 0]
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    ax.plot(filled[:, 0], filled[:, 1], marker="o", color=COLOURS[0])
    ax.set(xlabel="Stated probability", ylabel="Share that was right", xlim=(0, 1), ylim=(0, 1))
    ax.set_title(f"expected calibration error {error:.3f}")
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
