"""The networks. Every one maps windows (batch, samples) float32 to logits (batch, classes)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from helpers.audio import split_windows
from helpers.features import Level, MelSpectrogram, stripes
from helpers.tasks import Task


class SampleCNN(nn.Module):
    """Deep network on samples with filters of three: Lee, Park, Kim & Nam 2017, section 3, figure 1.

    The paper's layers fit 59,049 samples exactly; here the last frames are averaged, so that any length works. Pooling
    stands before the normalisation instead of after it.

    Input   wave    (batch, samples)  float32, amplitude in [-1, 1]; samples at least 3 ** 8
    Output  logits  (batch, classes)
    """

    def __init__(
        self,
        classes: int,
        keep_level: bool = False,  # see `features.Level`
        width: int = 16,  # channels of the first convolutions, 128 in the paper; the last have four times as many
        dropout: float = 0.3,  # before the last layer; 0.5 in the paper
    ):
        super().__init__()
        self.level = Level(keep_level)
        widths = [width, width, width, 2 * width, 2 * width, 2 * width, 4 * width, 4 * width]
        # Convolutions over time, written as pictures of height one: channels last is then twice as fast on a CPU
        layers = [nn.Conv2d(1, width, (1, 3), stride=(1, 3), bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for before, after in pairwise(widths):
            conv = nn.Conv2d(before, after, (1, 3), padding=(0, 1), bias=False)
            layers += [conv, nn.MaxPool2d((1, 3)), nn.BatchNorm2d(after), nn.ReLU()]
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # He et al. 2015
        layers.append(nn.AdaptiveAvgPool2d(1))
        self.blocks = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks(self.level(wave)[:, None, None])  # (batch, 4 * width, 1, 1)
        return self.head(hidden.flatten(1))  # (batch, classes)


@dataclass(frozen=True)
class KernelMachine:
    """A fitted SVM as plain arrays: standardised features against stored points, summed up for each class.

    Every version of every library can read it, and nothing in it is code. `svm.as_arrays` makes one.
    """

    mean: np.ndarray  # (features,)
    scale: np.ndarray  # (features,), the deviations
    points: np.ndarray  # (points, features), standardised: support vectors, or those of the approximated kernel
    weights: np.ndarray  # (points, classes)
    bias: np.ndarray  # (classes,)
    gamma: np.ndarray  # (), of the kernel exp(-gamma d²)

    def __post_init__(self):
        shapes = {name: value.shape for name, value in self.arrays.items()}
        (points, classes), features = self.weights.shape, self.mean.shape
        wanted = {"mean": features, "scale": features, "points": (points, *features), "weights": (points, classes),
                  "bias": (classes,), "gamma": ()}  # fmt: skip
        if shapes != wanted or len(features) != 1:
            raise ValueError(f"arrays of the shapes {shapes}")
        if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in self.arrays.values()):
            raise ValueError("arrays that are not float32 or not finite")

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name."""
        return vars(self)

    def decision_function(self, described: np.ndarray) -> np.ndarray:
        """Decision values, (clips, classes), of pooled features, (clips, features)."""
        found = (described.astype(np.float64) - self.mean) / self.scale
        points = self.points.astype(np.float64)
        distances = (found**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * found @ points.T
        return np.exp(-self.gamma * distances) @ self.weights + self.bias


# (length, stride) in samples, and the macro ROC-AUC on raw audio that Dieleman & Schrauwen 2014, table 1, give for it
PUBLISHED_ROWS = {
    (1024, 1024): 0.8366,
    (1024, 512): 0.8365,
    (512, 512): 0.8386,
    (512, 256): 0.8408,
    (256, 256): 0.8487,
}
# Windows that go through a network at a time, at most, when it does not learn: a CPU's cache holds few
WINDOWS = {"cpu": 32, "cuda": 640}


class RawCNN(nn.Module):
    """End-to-end network on samples: Dieleman & Schrauwen 2014, section 3 and figure 1(b).

    A sequence is written as a picture of height one: with channels last that is the fastest on a CPU.

    Input   wave    (batch, window_samples)  float32, amplitude in [-1, 1]
    Output  logits  (batch, classes)
    """

    def __init__(
        self,
        classes: int,
        window_samples: int,
        length: int = 256,  # of the first convolution's filters, in samples
        stride: int = 256,  # of the first convolution, in samples
        keep_level: bool = False,  # see `features.Level`
        batch_norm: bool = False,  # after each convolution; the paper has none
        dropout: float = 0.0,  # before the dense layers; the paper has none
        dense: int = 100,  # units of the dense layer
    ):
        super().__init__()
        frames, before, after = same_padding(window_samples, length, stride)
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.level = Level(keep_level)
        self.same = nn.ZeroPad2d((before, after, 0, 0))
        self.filters = nn.Conv2d(1, 32, (1, length), (1, stride))
        self.blocks = nn.Sequential(
            norm(32), nn.ReLU(),
            nn.ZeroPad2d((3, 4, 0, 0)), nn.Conv2d(32, 32, (1, 8)), norm(32), nn.ReLU(), nn.MaxPool2d((1, 4)),
            nn.ZeroPad2d((3, 4, 0, 0)), nn.Conv2d(32, 32, (1, 8)), norm(32), nn.ReLU(), nn.MaxPool2d((1, 4)),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(32 * (frames // 16), dense), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(dense, classes),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)
        self.register_load_state_dict_pre_hook(give_filters_a_height)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        hidden = self.filters(self.same(self.level(wave)[:, None, None]))  # (batch, 32, 1, frames)
        return self.head(self.blocks(hidden))  # (batch, classes)


def same_padding(samples: int, length: int, stride: int) -> tuple[int, int, int]:
    """Frames of a first convolution, one per stride, and the zeros that it needs before and after the samples."""
    if length < 1 or stride < 1 or samples < 16 * stride:
        raise ValueError(
            f"LENGTH {length}, STRIDE {stride}: expected positive numbers of samples, STRIDE at most "
            f"{samples // 16}, so that two poolings by 4 leave something of {samples} samples."
        )
    frames = -(-samples // stride)
    missing = max((frames - 1) * stride + length - samples, 0)
    return frames, missing // 2, missing - missing // 2


def give_filters_a_height(module: nn.Module, state: dict, prefix: str, *_) -> None:
    """Take weights that were kept as (channels, channels, length), too, without the height of one."""
    for name, value in state.items():
        if name.startswith(prefix) and value.dim() == 3:
            state[name] = value.unsqueeze(2)


class MeanAndMaximum(nn.Module):
    """Pool (batch, channels, bands, frames) over bands by mean, over frames by mean and maximum: 2 * channels."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.mean(dim=2)  # (batch, channels, frames)
        return torch.cat([hidden.mean(dim=2), hidden.amax(dim=2)], dim=1)


class MelCNN(nn.Module):
    """Small convolutional network on mel spectrograms, with the front end inside.

    Each band is standardised by its own mean and deviation, learned from the training split (a batch normalisation
    without scale), with the logarithm and without, so that only the logarithm differs.

    Input   wave    (batch, samples)  float32, amplitude in [-1, 1]; any length
    Output  logits  (batch, classes)
    """

    def __init__(
        self,
        classes: int,
        rate: int,  # in Hz
        n_fft: int = 1024,  # samples of a frame
        hop: int = 512,  # samples from frame to frame
        mels: int = 64,
        log: bool = True,  # take the logarithm of the mel power
        keep_level: bool = False,  # see `features.Level`
        width: int = 16,  # channels of the first block; the others have 2, 4 and 7 times as many
        batch_norm: bool = True,  # after each convolution
        dropout: float = 0.3,  # before the last layer
        mask: float = 0.0,  # while training, hide a stripe of bands and one of frames, each up to this share
        remove_mean: bool = False,  # of each band over the window: a microphone's colour (Atal 1974), a steady timbre
    ):
        super().__init__()
        self.mask, self.remove_mean = mask, remove_mean
        self.level = Level(keep_level)
        self.front = MelSpectrogram(rate, n_fft, hop, mels, log)
        self.standardise = nn.BatchNorm1d(mels, affine=False)
        widths = [1, width, 2 * width, 4 * width, 7 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # He et al. 2015
            layers += [conv, *[nn.BatchNorm2d(after)] * batch_norm, nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        layers[-1] = MeanAndMaximum()
        # Channels last: the same figures, nearly twice as fast on a CPU
        self.blocks = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], classes))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        mel = self.front(self.level(wave))  # (batch, mels, frames)
        if self.remove_mean:
            mel = mel - mel.mean(dim=2, keepdim=True)
        mel = self.standardise(mel)
        if self.training and self.mask > 0:
            mel = mel * stripes(mel, 1, self.mask) * stripes(mel, 2, self.mask)
        return self.head(self.blocks(mel[:, None]))  # (batch, 14 * width) -> (batch, classes)

    def extra_repr(self) -> str:
        return f"mask={self.mask}, remove_mean={self.remove_mean}"


KINDS = {"RawCNN": RawCNN, "MelCNN": MelCNN, "SampleCNN": SampleCNN}


class Range(NamedTuple):
    """One dimension of a search: its default, its ends, and whether it is searched on a logarithmic scale."""

    default: float
    low: float
    high: float
    log: bool = True


class Network(NamedTuple):
    """A model that is trained, kept and reported; the SVM stands among them, without a network of its own."""

    kind: str  # key of KINDS
    options: dict  # that differ from what the kind has by itself
    title: str  # in prose and tables
    short: str  # on axes and in narrow tables
    search: str = ""  # whose best settings it is trained with, as in tuning_NAME.json; "": not searched
    space: dict[str, Range] | None = None  # what is tried, where the search is its own: settings or options


def around(learning_rate: float, dropout: float) -> dict[str, Range]:
    """The space that is searched for every network, with these defaults."""
    return {
        "learning_rate": Range(learning_rate, 3e-4, 3e-2),
        "weight_decay": Range(1e-2, 1e-4, 1e-1),
        "dropout": Range(dropout, 0.0, 0.6, log=False),
    }


MARGIN = {"cost": Range(10, 0.1, 1000), "gamma": Range(1e-3, 1e-5, 3e-2)}  # see `svm.make`
# All of them, by the name of their weights, in the order of the tables
NETWORKS = {
    "svm": Network("", {}, "SVM on pooled features", "SVM", "svm", MARGIN),
    "raw_cnn_256_256": Network(
        "RawCNN", {"length": 256, "stride": 256}, "CNN on samples, 256/256", "CNN, samples", "raw_cnn",
        around(2e-3, 0.0),
    ),
    "sample_cnn": Network("SampleCNN", {}, "SampleCNN on samples", "SampleCNN"),
    "mel_cnn_nolog": Network("MelCNN", {"log": False}, "mel CNN, no logarithm", "mel, no log", "mel_cnn"),
    "mel_cnn_plain": Network(
        "MelCNN", {"batch_norm": False, "dropout": 0.0}, "mel CNN, no batch norm or dropout", "mel, plain", "mel_cnn"
    ),
    "mel_cnn": Network("MelCNN", {}, "mel CNN", "mel CNN", "mel_cnn", around(5e-3, 0.3)),
}  # fmt: skip


def config_for(task: Task, kind: str, classes: int, **options) -> dict:
    """What `build` needs for a network of `kind` (a key of `KINDS`), and what the weights' JSON keeps of it.

    `classes` is the number of labels, after a choice of CLASSES; `options` are those of the network.
    """
    config = {"kind": kind, "classes": classes, "keep_level": task.keep_level}
    if kind == "RawCNN":
        config["window_samples"] = task.window_samples
    elif kind == "MelCNN":
        config |= {"rate": task.rate} | dict(zip(("n_fft", "hop", "mels"), task.mel, strict=True))
    return config | options


def build(config: dict, seed: int = 0) -> nn.Module:
    """Make a network with fresh weights drawn from `seed`; the caller's random state is left alone.

    Raises ValueError for an unknown network, or an option it does not have.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"model kind: found {kind!r}, expected one of {', '.join(KINDS)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return KINDS[kind](**options)
        except TypeError as error:
            raise ValueError(f"configuration of {kind}: {error}") from error


def count_parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def to_probabilities(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Logits to probabilities, last axis classes: sigmoid for several labels per clip, softmax for one."""
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=-1)


def window_logits(model: nn.Module, waves: np.ndarray, task: Task) -> torch.Tensor:
    """Logits (clips, windows, classes) float32, on the model's device, of all windows of `waves` (clips, samples).

    Where nothing is learned from them (`torch.no_grad`), a few windows at a time go through the network.
    """
    cut = split_windows(waves, task.window_samples)  # (clips, windows, window)
    windows = torch.from_numpy(np.ascontiguousarray(cut)).flatten(0, 1)
    device = next(model.parameters()).device
    windows = windows.pin_memory() if device.type == "cuda" else windows  # then the copy does not wait
    few = len(windows) if torch.is_grad_enabled() else WINDOWS.get(device.type, WINDOWS["cuda"])
    parts = windows.tensor_split(-(-len(windows) // few))  # equal parts: very few are computed in another way
    logits = torch.cat([model(part.to(device, non_blocking=True)) for part in parts])  # (clips * windows, classes)
    return logits.reshape(*cut.shape[:2], -1).float()
