"""Draw a network as blocks. What stands in them is recorded while a real clip passes through, never typed by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from helpers.features import Level, MelSpectrogram
from helpers.models import count_parameters

WHOLE = (Level, MelSpectrogram)  # drawn as one block each, whatever they consist of
BEFORE = (nn.Flatten, nn.Dropout, nn.ZeroPad2d)  # belong to the block after them
COLUMNS = 5  # blocks in a row at most
# Light tints of the figures' colours: black letters stay readable, in grey print too
TINTS = {"input": "#FFFFFF", "front end": "#FBE3B0", "convolution": "#BFDDF2", "pooling": "#E3E3E3", "dense": "#BFE6D9"}


@dataclass
class Block:
    """One box: a layer that computes, and the small ones (normalisation, activation, pooling) that go with it.

    Attributes
    ----------
    kind : str
        A key of `TINTS`.
    title : str
    details : list of str
    shape : tuple of int
        Of one clip after the block.
    parameters : int
        Trained ones, of all its layers.
    """

    kind: str
    title: str
    details: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    parameters: int = 0


def blocks(network: nn.Module, wave: torch.Tensor) -> list[Block]:
    """The blocks of a network, in the order in which a clip passes them.

    Parameters
    ----------
    network : nn.Module
        From `models.build` or `weights.load`; it is left as it was.
    wave : Tensor, shape (samples,), float32
        A clip or window that the network can take.
    """
    calls: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, out: calls.append((layer, given[0], out)))
        for layer in units(network)
    ]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(wave[None])
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    found, waiting, before = [Block("input", "waveform", ["samples"], tuple(wave.shape))], [], wave[None]
    for layer, given, out in calls:
        if given.dim() == 2 and before.dim() > 2:  # between two layers, time was pooled away
            found.append(Block("pooling", "pooling", pooling(before, given), tuple(given.shape[1:])))
        before = out
        if isinstance(layer, BEFORE):
            waiting += remark(layer)
            continue
        if main(layer):
            kind, title, details = main(layer)
            found.append(Block(kind, title, waiting + details))
            waiting = []
        else:
            found[-1].details += remark(layer)
        found[-1].shape = tuple(size for place, size in enumerate(out.shape[1:]) if place == 0 or size > 1 or wide(out))
        found[-1].parameters += count_parameters(layer)
    found[-1].details.append("classes")
    return found


def units(module: nn.Module) -> list[nn.Module]:
    """Layers that are recorded: those without children, and those drawn whole."""
    children = [child for child in module.children() if not isinstance(child, nn.Identity)]
    if isinstance(module, WHOLE) or not children:
        return [module]
    return [unit for child in children for unit in units(child)]


def wide(out: torch.Tensor) -> bool:
    """Whether all axes of a picture say something: not when it is a sequence written as a picture of height one."""
    return out.dim() < 4 or out.shape[2] > 1


def main(layer: nn.Module) -> tuple[str, str, list[str]] | None:
    """Kind, title and details of a layer that has a box of its own, else None."""
    match layer:
        case Level():
            return "front end", "level", ["fixed gain" if layer.keep else "to unit RMS"]
        case MelSpectrogram():
            title = "log mel" if layer.log else "mel power"
            return "front end", title, [f"FFT {layer.n_fft}", f"hop {layer.hop}", "samples"]
        case nn.BatchNorm1d(affine=False) | nn.BatchNorm2d(num_features=1):
            return "front end", "standardise", ["each band" if layer.num_features > 1 else "all bands"]
        case nn.Conv1d() | nn.Conv2d():
            size = layer.kernel_size[1:] if layer.kernel_size[0] == 1 else layer.kernel_size
            stride = [f"stride {layer.stride[-1]}"] * (layer.stride[-1] > 1)
            return "convolution", "conv " + " × ".join(map(str, size)), stride
        case nn.Linear():
            return "dense", "dense", []
    return None


def remark(layer: nn.Module) -> list[str]:
    """What a small layer is called in the box that it belongs to."""
    match layer:
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return ["batch norm"]
        case nn.MaxPool1d() | nn.MaxPool2d():
            size = layer.kernel_size  # one number: along every axis
            return [f"max-pool {max(size) if isinstance(size, tuple) else size}"]
        case nn.Dropout():
            return [f"dropout {layer.p:.2g}"] if layer.p >= 0.005 else []
        case nn.ZeroPad2d():
            return []
    return [{"ReLU": "ReLU", "Flatten": "flatten"}.get(type(layer).__name__, type(layer).__name__)]


def pooling(before: torch.Tensor, after: torch.Tensor) -> list[str]:
    """Which pooling over all axes but the channels leads from one to the other, in lines; found by trying."""
    mean = before.flatten(2).mean(dim=2)
    tried = {"global\nmean": mean}
    if before.dim() == 4:
        tried["bands: mean\nframes: mean\nand maximum"] = torch.cat([mean, before.mean(dim=2).amax(dim=2)], dim=1)
    for words, values in tried.items():
        if values.shape == after.shape and torch.allclose(values, after, rtol=1e-4, atol=1e-5):
            return words.split("\n")
    return ["over time"]


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
