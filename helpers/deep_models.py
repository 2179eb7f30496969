"""Deeper networks to compare the small ones with: published designs, at a width of one's choice.

Every one maps windows (batch, samples) float32 of any length to logits (batch, classes).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from helpers.features import Level, MelSpectrogram


class SampleCNN(nn.Module):
    """Deep network on samples with filters of three: Lee, Park, Kim & Nam 2017, section 3, figure 1.

    The paper's layers fit 59,049 samples exactly; here the last frames are averaged, so that any length works. Pooling
    stands before the normalisation instead of after it.

    Input   wave    (batch, samples)  float32, amplitude in [-1, 1]; samples at least 3 ** 8
    Output  logits  (batch, classes)

    Parameters
    ----------
    classes : int
    keep_level : bool
        See `features.Level`.
    width : int
        Channels of the first three convolutions; the next have 2 and 4 times as many. 128 in the paper.
    dropout : float
        Before the last layer; 0.5 in the paper.
    """

    def __init__(self, classes: int, keep_level: bool = False, width: int = 16, dropout: float = 0.3):
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
        self.blocks = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks(self.level(wave)[:, None, None])  # (batch, 4 * width, 1, samples // 3 ** 8)
        return self.head(hidden.mean(dim=(2, 3)))  # (batch, classes)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a way past them (He et al. 2016); the first halves both axes when `stride` is 2.

    Input   (batch, before, mels, frames)
    Output  (batch, after, mels / stride, frames / stride)
    """

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.past = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)
        )  # a 3 x 3 convolution as in the reference
        self.activation = nn.ReLU()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.activation(self.path(hidden) + self.past(hidden))


class ShortChunkCNN(nn.Module):
    """Short-chunk CNN with residual blocks: Won, Ferraro, Bogdanov & Serra 2020, section 3.8, the strongest there.

    Input   wave    (batch, samples)  float32, amplitude in [-1, 1]; at least 128 * hop samples
    Output  logits  (batch, classes)

    Parameters
    ----------
    classes, rate : int
        Rate in Hz.
    n_fft, hop, mels : int
        Front end; 512, 256 and 128 at 16 kHz in the paper.
    keep_level : bool
        See `features.Level`.
    width : int
        Channels of the first blocks; 128 in the paper, the last has four times as many.
    dropout : float
        Before the last layer; 0.5 in the paper.
    """

    def __init__(
        self,
        classes: int,
        rate: int,
        n_fft: int = 512,
        hop: int = 256,
        mels: int = 128,
        keep_level: bool = False,
        width: int = 128,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.level = Level(keep_level)
        self.front = MelSpectrogram(rate, n_fft, hop, mels)
        self.standardise = nn.BatchNorm2d(1)
        widths = [1, width, width, 2 * width, 2 * width, 2 * width, 2 * width, 4 * width]
        blocks = [ResidualBlock(before, after, 2) for before, after in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
        last = widths[-1]
        self.head = nn.Sequential(
            nn.Linear(last, last, bias=False),
            nn.BatchNorm1d(last),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(last, classes),
        )

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        mel = self.standardise(self.front(self.level(wave))[:, None])  # (batch, 1, mels, frames)
        hidden = self.blocks(mel)  # (batch, 4 * width, mels / 128, frames / 128)
        return self.head(hidden.amax(dim=(2, 3)))  # (batch, classes)
