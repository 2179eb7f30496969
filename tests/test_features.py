"""Mel spectrograms agree with librosa; pooled features depend on the clip alone, and on its level only where told."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from helpers import features
from helpers.tasks import TASKS

FRONT_ENDS = [(16_000, 1024, 512, 64), (16_000, 2048, 512, 128), (12_000, 1024, 256, 96), (8_000, 512, 200, 64)]
WITHOUT_LEVEL = [task for task in TASKS.values() if not task.keep_level]
WITH_LEVEL = [task for task in TASKS.values() if task.keep_level]


def noise(*shape, seed=0):
    """Noise whose loudness differs from clip to clip and along each clip."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(shape) * np.linspace(0.2, 1, shape[-1])
    return (0.1 * wave * rng.uniform(0.3, 1, (*shape[:-1], 1))).astype(np.float32)


@pytest.mark.parametrize(("rate", "n_fft", "hop", "mels"), FRONT_ENDS)
@pytest.mark.parametrize("samples", [16_000, 12_345])
def test_mel_power_equals_librosas(rate, n_fft, hop, mels, samples):
    wave = noise(samples)
    expected = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels, center=True, pad_mode="constant", power=2.0
    )
    found = features.MelSpectrogram(rate, n_fft, hop, mels, log=False)(torch.from_numpy(wave)[None])[0].numpy()
    assert found.shape == (mels, 1 + samples // hop)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.median(expected))


@pytest.mark.parametrize("scripted", [False, True])
def test_many_clips_get_the_spectra_they_get_alone(scripted):
    front = features.MelSpectrogram(*FRONT_ENDS[0])
    waves = torch.from_numpy(noise(2 * features.AT_ONCE + 3, 4_000))
    alone = torch.cat([front(wave[None]) for wave in waves])
    torch.testing.assert_close((torch.jit.script(front) if scripted else front)(waves), alone, rtol=1e-5, atol=1e-5)


def test_log_is_the_logarithm_of_the_same_power_above_a_floor():
    wave = torch.from_numpy(noise(2, 8_000))
    front = features.MelSpectrogram(16_000, 1024, 512, 64)
    power = features.MelSpectrogram(16_000, 1024, 512, 64, log=False)(wave)
    torch.testing.assert_close(front(wave), torch.log(power + features.LOG_FLOOR))
    assert set(front.state_dict()) == {"filters", "window"}  # they travel with the weights


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_pooled_features_do_not_change_with_the_batch(task):
    waves = noise(37, 8_000)  # more than the 32 that are described at a time
    together = features.pooled(waves, task)
    assert together.shape == (37, 5 * task.mel[2] + 4 * features.MFCCS + 190)
    assert together.dtype == np.float32
    alone = np.concatenate([features.pooled(wave[None], task) for wave in waves])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features.pooled(waves[::-1], task)[::-1], together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", WITHOUT_LEVEL, ids=lambda task: task.name)
@pytest.mark.parametrize("gain", [0.05, 7.0])
def test_pooled_features_do_not_change_with_the_level(task, gain):
    waves = noise(3, 8_000)
    expected = features.pooled(waves, task)
    np.testing.assert_allclose(features.pooled(waves * np.float32(gain), task), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features.pooled(waves + np.float32(0.05), task), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("task", WITH_LEVEL, ids=lambda task: task.name)
def test_pooled_features_keep_the_level_where_it_is_part_of_the_label(task):
    waves = noise(3, 8_000)
    change = features.pooled(waves * 2, task) - features.pooled(waves, task)
    np.testing.assert_allclose(change[:, 20 : task.mel[2]], np.log(4), atol=0.05)  # mean log-mels rise by 6 dB


def test_pooled_features_are_these_statistics_over_time():
    task = replace(TASKS["magnatagatune"], rate=16_000)
    waves = noise(2, 8_000)
    log_mel = features.MelSpectrogram(16_000, *task.mel)(torch.from_numpy(waves)).numpy()
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=features.MFCCS)  # orthonormal type-II cosine transform
    change = np.diff(mfcc, prepend=mfcc[..., :1])
    skewness = ((log_mel - log_mel.mean(-1, keepdims=True)) ** 3).mean(-1) / (log_mel.std(-1) ** 3 + 1e-3)
    together = np.stack([np.corrcoef(clip)[np.triu_indices(features.MFCCS, 1)] for clip in mfcc])
    parts = [log_mel.mean(-1), log_mel.std(-1), log_mel.max(-1), log_mel.min(-1), skewness, mfcc.mean(-1), mfcc.std(-1)]
    expected = np.concatenate([*parts, together, change.std(-1), np.abs(change).mean(-1)], axis=1)
    np.testing.assert_allclose(features.pooled(waves, task), expected, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 300, 600, 1_100])
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_pooled_features_of_the_shortest_clips_are_finite(task, samples):
    assert np.isfinite(features.pooled(noise(2, samples, seed=1), task)).all()
