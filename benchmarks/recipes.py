"""What a user would otherwise run, written from the published recipes: per file, per clip, plain PyTorch."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import torch
from scipy.fft import dct
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from helpers.features import MelSpectrogram


def mel_power(wave: np.ndarray, rate: int, n_fft: int, hop: int, mels: int) -> np.ndarray:
    """librosa's mel spectrogram of a waveform, (mels, frames)."""
    return librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels)


def mel_of_file(path: Path, rate: int, n_fft: int, hop: int, mels: int) -> np.ndarray:
    """Decode a file and take its mel spectrogram in dB, (mels, frames)."""
    wave, _ = librosa.load(path, sr=rate)
    return librosa.power_to_db(mel_power(wave, rate, n_fft, hop, mels))


def features_75(wave: np.ndarray, rate: int) -> np.ndarray:
    """The 75 features of many SVM baselines: MFCCs, chroma, contrast, shape of the spectrum, level; (75,)."""
    both = [
        librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=20),
        librosa.feature.spectral_contrast(y=wave, sr=rate, fmin=100.0),
        librosa.feature.spectral_centroid(y=wave, sr=rate),
        librosa.feature.spectral_bandwidth(y=wave, sr=rate),
        librosa.feature.spectral_rolloff(y=wave, sr=rate),
        librosa.feature.zero_crossing_rate(wave),
    ]
    means = [librosa.feature.chroma_stft(y=wave, sr=rate), librosa.feature.rms(y=wave)]
    parts = [rows.mean(axis=1) for rows in both + means] + [rows.std(axis=1) for rows in both]
    return np.concatenate(parts)


def convolutions(*channels: int) -> nn.Sequential:
    """Blocks of a 3 × 3 convolution, batch norm, ReLU and max-pooling by two."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def short_chunk(classes: int) -> nn.Module:
    """Seven convolutions without residuals, 3.7 million parameters, as commonly handed in for instrument families.

    Input   mel     (batch, 128, frames)  dB, at least 128 frames
    Output  logits  (batch, classes)
    """
    return nn.Sequential(
        nn.Unflatten(1, (1, 128)), nn.BatchNorm2d(1), convolutions(1, 128, 128, 256, 256, 256, 256, 512),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, classes),
    )  # fmt: skip


class MfccCNN(nn.Module):
    """Four convolutions on MFCCs, about 131 thousand parameters, as handed in for spoken languages.

    Input   wave    (batch, samples)  float32
    Output  logits  (batch, classes)
    """

    def __init__(self, classes: int, rate: int):
        super().__init__()
        self.front = MelSpectrogram(rate, 1024, 256, 64)
        cosines = dct(np.eye(64, dtype=np.float32), norm="ortho", axis=0)[:20]
        self.register_buffer("cosines", torch.from_numpy(cosines.copy()))  # (20, bands)
        self.blocks, self.head = convolutions(1, 32, 64, 64, 128), nn.Linear(128, classes)

    def mfcc(self, wave: torch.Tensor) -> torch.Tensor:
        return torch.matmul(self.cosines, self.front(wave))  # (batch, 20, frames)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.mfcc(wave)[:, None]).mean(dim=(2, 3)))


def raw_network(classes: int, window: int) -> nn.Module:
    """Dieleman & Schrauwen's network with 256/256 as one writes it down, (batch, window) -> (batch, classes)."""
    same, frames = nn.ConstantPad1d((3, 4), 0.0), -(-window // 256)
    missing = frames * 256 - window
    return nn.Sequential(
        nn.Unflatten(1, (1, window)), nn.ConstantPad1d((missing // 2, missing - missing // 2), 0.0),
        nn.Conv1d(1, 32, 256, 256), nn.ReLU(),
        same, nn.Conv1d(32, 32, 8), nn.ReLU(), nn.MaxPool1d(4),
        same, nn.Conv1d(32, 32, 8), nn.ReLU(), nn.MaxPool1d(4),
        nn.Flatten(), nn.Linear(32 * (frames // 4 // 4), 100), nn.ReLU(), nn.Linear(100, classes),
    )  # fmt: skip


class Files(Dataset):
    """One .npy file per clip, (samples,) float32, and its tags."""

    def __init__(self, paths: list[Path], targets: np.ndarray):
        self.paths, self.targets = paths, targets

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return torch.from_numpy(np.load(self.paths[index])), torch.from_numpy(self.targets[index])


def epoch(model: nn.Module, loader: DataLoader, window: int, learning_rate: float = 2e-3) -> None:
    """One epoch of plain float32 training on batches of clips cut into windows."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    for waves, targets in loader:
        windows = waves.reshape(len(waves), -1, window)  # (clips, windows, window)
        logits = model(windows.flatten(0, 1))
        repeated = targets.repeat_interleave(windows.shape[1], dim=0)
        if targets.ndim == 1:
            loss = functional.cross_entropy(logits, repeated)
        else:
            loss = functional.binary_cross_entropy_with_logits(logits, repeated)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
