"""Read and cut waveforms. Every waveform here is mono float32, amplitude in [-1, 1], in the steps of 16 bits."""

from __future__ import annotations

import os
import sys
import types
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".npy")
RATES = 1_000, 384_000  # Hz that a recording may have: more is a damaged header, and resampling would fill the memory
LARGEST = 2.0**31  # samples of 32 bits that were not scaled
SILENCE_PEAK = 1e-4  # -80 dB re full scale: below it a clip holds nothing to classify
FULL_SCALE = 32767  # steps of 16 bits from 0 to 1


class BadAudio(ValueError):
    """A recording that cannot be used; the message is the reason, without the file's name."""


def import_torchaudio() -> types.ModuleType:
    """Import torchaudio, also where its compiled part does not match the installed torch.

    A torchaudio built for CUDA cannot load its extension beside a CPU-only torch. The mel filters that we use
    are Python and do not need it, so a stub takes its place, only when the plain import fails.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stub = types.ModuleType("torchaudio._extension")
        stub._IS_TORCHAUDIO_EXT_AVAILABLE = stub._IS_ALIGN_AVAILABLE = False
        stub.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = stub
        import torchaudio
    return torchaudio


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Change the sampling rate by polyphase filtering; `wave` (samples,) float32, rates in Hz."""
    if rate == new_rate:
        return wave
    from scipy.signal import resample_poly  # takes a second to import, which one file need not wait for

    common = gcd(rate, new_rate)
    return resample_poly(wave, new_rate // common, rate // common).astype(np.float32)


def decode(path: str | Path, rate: int, row: int | None = None) -> tuple[np.ndarray, int]:
    """Read a whole recording as mono float32 at `rate`, scaled to peak 1 where it exceeds it, rounded to 16 bits.

    So a waveform is the same whether it comes from its file or from a pack, which holds 16 bits.

    Parameters
    ----------
    path : str or Path
        WAV, FLAC, OGG or MP3; or a NumPy array: flat, or clips × samples with `row` saying which. Arrays carry no
        sampling rate: they are taken to be at `rate` already, as the published ones are.
    rate : int
        Wanted sampling rate, in Hz.
    row : int, optional

    Returns
    -------
    wave : ndarray, shape (samples,), float32
    found_rate : int
        Rate of the file before resampling, in Hz.

    Raises
    ------
    BadAudio
        If the file is missing, empty, not audio, silent, or has samples that are not finite or an impossible rate.
    """
    if not os.path.isfile(path):
        raise BadAudio("file is missing")
    if os.path.getsize(path) == 0:
        raise BadAudio("empty file (0 bytes)")
    try:
        if Path(path).suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            wave, found_rate = np.asarray(array if row is None else array[row], dtype=np.float32).reshape(-1), rate
        else:
            name = os.fsencode(path) if os.name == "posix" else path  # a name that is no UTF-8 is refused as text
            wave, found_rate = soundfile.read(name, dtype="float32", always_2d=True)
            wave = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)  # downmix
    except Exception as error:  # a damaged file may raise anything; it is listed with the reason and passed over
        reason = " ".join(str(error).replace(str(path), "file").split())[-120:]
        raise BadAudio(f"cannot be decoded ({type(error).__name__}: {reason})") from error
    if wave.size == 0:
        raise BadAudio("holds no samples")
    if not np.isfinite(peak := peak_of(wave)):
        raise BadAudio("holds NaN or infinite samples")
    if peak > LARGEST:
        raise BadAudio(f"holds samples of {peak:.0e}, expected [-1, 1]")
    if not RATES[0] <= found_rate <= RATES[1]:
        raise BadAudio(f"sampling rate is {found_rate} Hz, expected {RATES[0]} to {RATES[1]} Hz")
    wave = resample(wave, found_rate, rate)
    wave = wave * (FULL_SCALE / max(peak_of(wave), 1.0))
    wave = np.rint(wave, out=wave) * np.float32(1 / FULL_SCALE)
    if peak_of(wave) < SILENCE_PEAK:
        raise BadAudio(f"silent (peak below {SILENCE_PEAK})")
    return wave, found_rate


def peak_of(wave: np.ndarray) -> np.floating:
    """The largest amplitude; NaN where a sample is."""
    return max(wave.max(), -wave.min())


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """Cut the end off, or pad it with zeros, so that the last axis has `samples`."""
    missing = samples - wave.shape[-1]
    return wave[..., :samples] if missing <= 0 else np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, missing)])


def split_windows(wave: np.ndarray, window: int) -> np.ndarray:
    """Cut waveforms of any length into windows, (…, samples) -> (…, windows, window).

    A rest shorter than half a window is dropped, a longer one is padded with zeros; there is always one window.
    """
    count = max(1, (wave.shape[-1] + window // 2) // window)
    return fit_length(wave, count * window).reshape(*wave.shape[:-1], count, window)
