"""Draw a network as blocks. What stands in them is recorded while a real clip passes through, never typed by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torchinfo
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from helpers.features import Level, MelSpectrogram
from helpers.models import MeanAndMaximum, count_parameters

BEFORE = (nn.Flatten, nn.Dropout)  # stand in the box after them, other small layers in the one before
WORDS = {nn.BatchNorm2d: "batch norm", nn.Flatten: "flatten"}
COLUMNS = 5  # blocks in a row at most
# Light tints of the figures' colours: black letters stay readable, in grey print too
TINTS = {"input": "#FFFFFF", "front end": "#FBE3B0", "convolution": "#BFDDF2", "pooling": "#E3E3E3", "dense": "#BFE6D9"}


@dataclass
class Block:
    """One box: a layer that computes, and the small ones (normalisation, activation, pooling) that go with it."""

    kind: str  # a key of TINTS
    title: str
    details: list[str]
    shape: tuple[int, ...] = ()  # of one clip after the block
    parameters: int = 0  # trained ones, of all its layers


def blocks(network: nn.Module, wave: torch.Tensor) -> list[Block]:
    """The blocks of a network, in the order in which `wave` (samples,) passes them; the network is left as it was."""
    found, waiting = [Block("input", "waveform", ["samples"], tuple(wave.shape))], []
    for layer in torchinfo.summary(network, input_data=wave[None], verbose=0).summary_list:
        if not layer.is_leaf_layer or isinstance(layer.module, (nn.Identity, nn.ZeroPad2d)):
            continue
        kind, title, details = describe(layer.module)
        if isinstance(layer.module, BEFORE):
            waiting += details
            continue
        if kind:
            found.append(Block(kind, title, waiting + details))
            waiting = []
        else:
            found[-1].details += details
        channels, *size = layer.output_size[1:]
        flat = len(size) == 2 and size[0] == 1  # a sequence written as a picture of height one, or pooled to a point
        found[-1].shape = (channels, *(axis for axis in size if axis > 1 or not flat))
        found[-1].parameters += layer.trainable_params
    found[-1].details.append("classes")
    return found


def describe(layer: nn.Module) -> tuple[str, str, list[str]]:
    """Kind and title of a layer's box, and what stands in it; small layers have no box of their own, and neither."""
    match layer:
        case Level():
            return "front end", "level", ["fixed gain" if layer.keep else "to unit RMS"]
        case MelSpectrogram():
            title = "log mel" if layer.log else "mel power"
            return "front end", title, [f"FFT {layer.n_fft}", f"hop {layer.hop}", "samples"]
        case nn.BatchNorm1d(affine=False):
            return "front end", "standardise", ["each band"]
        case nn.Conv2d():
            size = layer.kernel_size[1:] if layer.kernel_size[0] == 1 else layer.kernel_size
            stride = [f"stride {layer.stride[-1]}"] * (layer.stride[-1] > 1)
            return "convolution", "conv " + " × ".join(map(str, size)), stride
        case nn.AdaptiveAvgPool2d():
            return "pooling", "pooling", ["global", "mean"]
        case MeanAndMaximum():
            return "pooling", "pooling", ["bands: mean", "frames: mean", "and maximum"]
        case nn.Linear():
            return "dense", "dense", []
        case nn.MaxPool2d():
            return "", "", [f"max-pool {np.max(layer.kernel_size)}"]  # one number: along every axis
        case nn.Dropout():
            return "", "", [f"dropout {layer.p:.2g}"] if layer.p >= 0.005 else []
    return "", "", [WORDS.get(type(layer), type(layer).__name__)]


def architecture(network: nn.Module, wave: torch.Tensor) -> Figure:
    """Draw `blocks` in rows from left to right, letters of 8 points at a width of 4.8 inches.

    Beneath each block stands the size it hands on: channels × mel bands × frames, channels × frames, or values.
    """
    found = blocks(network, wave)
    rows = math.ceil(len(found) / COLUMNS)
    columns = math.ceil(len(found) / rows)
    figure = Figure(figsize=(0.94 * columns + 0.1, 0.92 * rows + 0.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0, h_pad=0)
    ax = figure.add_subplot(xlim=(-0.14, columns), ylim=(rows + 0.22, 0))
    ax.axis("off")
    for place, block in enumerate(found):
        row, column = divmod(place, columns)
        box = FancyBboxPatch(
            (column + 0.02, row + 0.04), 0.86, 0.92, boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=TINTS[block.kind], edgecolor="0.25", linewidth=0.7,
        )  # fmt: skip
        ax.add_patch(box)
        middle = {"x": column + 0.45, "ha": "center", "va": "center"}
        ax.text(y=row + 0.15, s=block.title, fontsize=8, fontweight="bold", **middle)
        ax.text(y=row + 0.5, s="\n".join(block.details), fontsize=7.5, linespacing=1.15, **middle)
        size = " × ".join(f"{size:,}" for size in block.shape)
        ax.text(y=row + 0.85, s=size, fontsize=8 if len(size) < 12 else 7, color="#003E66", **middle)
        if place:
            arrow = {"arrowstyle": "-|>", "color": "0.25", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (column + 0.02, row + 0.5), (column - 0.12, row + 0.5), arrowprops=arrow)
    words = f"{type(network).__name__}: {count_parameters(network):,} trained parameters; blue: output size"
    ax.text(0.02, rows + 0.11, words, va="center", fontsize=8)
    return figure
