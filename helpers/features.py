"""Mel spectrograms and pooled features. Input is always float32 waveforms, last axis time."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import nn

from helpers.audio import import_torchaudio
from helpers.tasks import Task

LOG_FLOOR = 1e-6  # added before the logarithm: -60 dB below a band of unit power
MFCCS = 20
AT_ONCE = 16  # clips whose spectra are held: more do not stay in the cache


class Level(nn.Module):
    """Bring a window to unit root-mean-square, or by a fixed gain where the level is part of the label.

    Input and output  wave  (batch, samples)  float32

    Silence stays silence: `floor` is added to the root-mean-square, which lets it grow no further.
    """

    def __init__(self, keep: bool, floor: float = 1e-5):
        super().__init__()
        self.keep, self.floor = keep, floor
        self.register_buffer("gain", torch.tensor(10.0))  # 1 / 0.1, a usual level of music at full scale

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        if self.keep:
            return wave * self.gain
        wave = wave - wave.mean(dim=-1, keepdim=True)
        return wave / (wave.square().mean(dim=-1, keepdim=True).sqrt() + self.floor)


class MelSpectrogram(nn.Module):
    """Power of a waveform in mel bands (Slaney's scale and normalisation, as in librosa), centred Hann frames.

    Input   wave  (batch, samples)       float32
    Output  mel   (batch, mels, frames)  float32, frames = 1 + samples // hop; natural logarithm of it when `log`
    """

    def __init__(self, rate: int, n_fft: int, hop: int, mels: int, log: bool = True):
        super().__init__()
        self.n_fft, self.hop, self.log, self.floor, self.at_once = n_fft, hop, log, LOG_FLOOR, AT_ONCE
        filters = import_torchaudio().functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters.T.contiguous())  # (mels, bins)
        self.register_buffer("window", torch.hann_window(n_fft))

    def extra_repr(self) -> str:
        return f"{self.n_fft}, {self.hop}, log={self.log}"

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        if wave.is_cuda or len(wave) <= self.at_once:
            return self.of_few(wave)
        return torch.cat([self.of_few(part) for part in wave.split(self.at_once)])

    def of_few(self, wave: torch.Tensor) -> torch.Tensor:
        """`forward` for as many clips as the cache holds."""
        spectrum = torch.stft(
            wave, self.n_fft, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        )  # (batch, bins, frames)
        squares = torch.view_as_real(spectrum).square()  # (batch, bins, frames, 2)
        power = squares[..., 0] + squares[..., 1]
        if torch.jit.is_scripting():
            mel = torch.matmul(self.filters, power)  # (batch, mels, frames)
        else:
            with torch.autocast(power.device.type, enabled=False):  # quiet bands would drown in bfloat16's rounding
                mel = torch.matmul(self.filters, power)
        return torch.log(mel + self.floor) if self.log else mel


def stripes(mel: torch.Tensor, axis: int, share: float) -> torch.Tensor:
    """Zeros for one random stripe of a clip's bands (axis 1) or frames (axis 2), ones elsewhere, to multiply by.

    SpecAugment: Park et al. 2019, section 2. `mel` is (batch, mels, frames); a stripe is up to `share` wide.
    """
    size = mel.shape[axis]
    width = torch.rand(len(mel), 1, device=mel.device) * share * size
    start = torch.rand(len(mel), 1, device=mel.device) * (size - width)
    place = torch.arange(size, device=mel.device)[None]
    keep = (place < start) | (place >= start + width)  # (batch, size)
    return keep.to(mel.dtype).unsqueeze(3 - axis)


def pooled(waves: np.ndarray, task: Task) -> np.ndarray:
    """Describe each clip by statistics over time: of log-mels, MFCCs, their changes, and how MFCCs move together.

    `waves` (clips, samples) float32, of any length; the task gives rate, mel front end, and whether the level is kept.
    Returns (clips, 5 * mels + 4 * 20 + 190) float32.
    """
    n_fft, hop, mels = task.mel
    level, front = Level(task.keep_level, floor=1e-9), MelSpectrogram(task.rate, n_fft, hop, mels)
    cosines = torch.from_numpy(dct(np.eye(mels), axis=0, norm="ortho")[:MFCCS].astype(np.float32))  # (20, mels)
    with torch.no_grad():
        log_mel = front(level(torch.from_numpy(np.ascontiguousarray(waves))) / level.gain)  # (clips, mels, frames)
        mfcc = torch.matmul(cosines, log_mel)  # (clips, 20, frames)
        change = mfcc.diff(dim=-1, prepend=mfcc[..., :1])
        parts = [
            log_mel.mean(-1),
            _deviation(log_mel),
            log_mel.amax(-1),
            log_mel.amin(-1),
            _skewness(log_mel),
            mfcc.mean(-1),
            _deviation(mfcc),
            _correlations(mfcc),
            _deviation(change),
            change.abs().mean(-1),
        ]
    return torch.cat(parts, dim=1).numpy()


def _deviation(frames: torch.Tensor) -> torch.Tensor:
    """Standard deviation over time, zero for a single frame."""
    return (frames - frames.mean(dim=-1, keepdim=True)).square_().mean(dim=-1).sqrt()  # Tensor.std is slower


def _skewness(frames: torch.Tensor) -> torch.Tensor:
    """Whether a band is loud for short (positive) or soft for short (negative); zero for a single frame."""
    centred = frames - frames.mean(dim=-1, keepdim=True)
    square = centred.square()
    return (square * centred).mean(-1) / (square.mean(-1).sqrt().pow(3) + 1e-3)


def _correlations(frames: torch.Tensor) -> torch.Tensor:
    """How rows move together over time, (batch, rows * (rows - 1) / 2)."""
    scaled = (frames - frames.mean(dim=-1, keepdim=True)) / (_deviation(frames)[..., None] + 1e-3)
    matrix = torch.matmul(scaled, scaled.transpose(1, 2)) / frames.shape[-1]  # (batch, rows, rows)
    row, column = torch.triu_indices(frames.shape[1], frames.shape[1], offset=1)
    return matrix[:, row, column]
