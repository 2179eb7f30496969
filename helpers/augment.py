"""Change a batch of waveforms while training, so that a network meets more rooms and microphones than were recorded.

All of it is random within bounds that `Augment` gives, and drawn from a generator of the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import fft

from helpers.data.pack import Pack

KNOTS = 8  # points of the equaliser's curve, evenly on a logarithmic frequency axis
LOWEST_HZ = 50.0


@dataclass(frozen=True)
class Augment:
    """How strongly a batch is changed; 0 leaves it alone."""

    shift_seconds: float = 0.1  # move a batch in time by up to this, circularly, so that no model counts samples
    level_db: float = 0.0  # gain of a clip, up or down by up to this
    equaliser_db: float = 0.0  # raise or lower parts of a clip's spectrum, smoothly, by up to this
    band_limit: float = 0.0  # share of clips that lose what lies below and above two random corners
    speed: float = 0.0  # play a clip faster or slower by up to this share; its pitch changes with it
    noise: float = 0.0  # share of clips with coloured noise, 5 to 30 dB below them
    mixup: float = 0.0  # lay two clips and their labels over each other: alpha of Zhang et al. 2018, section 2


def distort(waves: np.ndarray, rate: int, augment: Augment, draw: np.random.Generator) -> np.ndarray:
    """Everything but mixup: from `waves` (clips, samples) float32, at `rate` in Hz, to as many as long ones."""
    reach = int(augment.shift_seconds * rate)
    waves = np.roll(waves, draw.integers(-reach, reach + 1), axis=1)
    if augment.speed:
        place = np.arange(waves.shape[1])  # linearly interpolated, from the start again at the end
        factors = 1 + draw.uniform(-augment.speed, augment.speed, len(waves))
        played = (np.interp(place * factors[row], place, wave, period=len(place)) for row, wave in enumerate(waves))
        waves = np.stack(list(played)).astype(np.float32)
    if augment.equaliser_db or augment.band_limit or augment.noise:
        waves = _filter(waves, rate, augment, draw)
    if augment.level_db:
        waves = waves * 10 ** (draw.uniform(-augment.level_db, augment.level_db, (len(waves), 1)) / 20)
    return waves.astype(np.float32, copy=False)


def mixup(clips: int, augment: Augment, draw: np.random.Generator) -> tuple[float, np.ndarray]:
    """Weight of every clip of a batch, and which clip is laid over it with the rest of the weight."""
    if not augment.mixup:
        return 1.0, np.arange(clips)
    return float(draw.beta(augment.mixup, augment.mixup)), draw.permutation(clips)


def _filter(waves: np.ndarray, rate: int, augment: Augment, draw: np.random.Generator) -> np.ndarray:
    """Equaliser, band limits and noise, in one pass through the spectrum."""
    clips, samples = waves.shape
    size = fft.next_fast_len(samples, real=True)
    frequency = np.maximum(fft.rfftfreq(size, 1 / rate), LOWEST_HZ)
    octave = np.log2(frequency / LOWEST_HZ).astype(np.float32)
    gain_db = np.zeros((clips, len(frequency)), np.float32)
    if augment.equaliser_db:
        knots = np.linspace(0, octave[-1], KNOTS)
        for row, heights in zip(gain_db, draw.uniform(-1, 1, (clips, KNOTS)) * augment.equaliser_db, strict=True):
            row += np.interp(octave, knots, heights)
    limited = np.flatnonzero(draw.random(clips) < augment.band_limit)
    for clip in limited:  # corners from 50 to 400 Hz and from the upper octave and a half; 24 dB per octave beyond
        low, high = draw.uniform(0, 3), octave[-1] - draw.uniform(0, 1.5)
        gain_db[clip] -= 24 * (np.maximum(low - octave, 0) + np.maximum(octave - high, 0))
    spectrum = fft.rfft(waves, size, axis=1) * (10 ** (gain_db / 20))
    noisy = np.flatnonzero(draw.random(clips) < augment.noise)
    for clip in noisy:
        noise = frequency ** (-draw.uniform(0, 1)) * np.exp(2j * np.pi * draw.random(len(frequency)))  # white to brown
        power = 2 * np.square(np.abs(noise)).sum() / size**2  # of its waveform, by Parseval's theorem
        level = np.sqrt(np.mean(np.square(waves[clip]))) * 10 ** (-draw.uniform(5, 30) / 20)
        spectrum[clip] += noise * (level / np.sqrt(power))
    return fft.irfft(spectrum, size, axis=1)[:, :samples]


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """What a clip of each class, or a positive of each tag, weighs in the loss, so that all count the same.

    `targets` (clips,) or (clips, classes); a tag's weight is at most 20, and 1 where it has no positives.
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=classes)
        return (len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    positive = targets.sum(axis=0)
    return np.where(positive, np.clip((len(targets) - positive) / np.maximum(positive, 1), 1, 20), 1).astype(np.float32)


def draw_order(train: Pack, balance: str, draw: np.random.Generator) -> np.ndarray:
    """The clips of one epoch, in order: each once, or as many drawn with every class or group equally likely."""
    if balance not in ("", "loss", "classes", "groups"):
        raise ValueError(f"balance: found {balance!r}, expected '', 'loss', 'classes' or 'groups'.")
    if balance in ("", "loss"):
        return draw.permutation(len(train))
    if balance == "classes" and train.targets.ndim == 2:
        chance = (train.targets / np.maximum(train.targets.sum(axis=0), 1)).sum(axis=1)  # rare tags weigh more
    else:
        _, of_clip, counts = np.unique(
            train.targets if balance == "classes" else train.groups, return_inverse=True, return_counts=True
        )
        chance = 1 / counts[of_clip]
    return draw.choice(len(train), len(train), p=chance / chance.sum())


def ahead(items: Iterator) -> Iterator:
    """The same items, each made while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
