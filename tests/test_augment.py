"""Augmentation changes what it says, as much as it says, and nothing else."""

from dataclasses import fields, replace

import numpy as np
import pytest

from helpers.augment import Augment, distort, mixup

STILL = Augment(shift_seconds=0.0)
RATE = 8_000
CHANGES = {"shift_seconds": 0.1, "level_db": 10, "equaliser_db": 10, "band_limit": 1, "speed": 0.1, "noise": 1}


def noise(clips=6, samples=8_000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (clips, samples)).astype(np.float32)


def change(waves, seed=0, **strengths):
    return distort(waves, RATE, replace(STILL, **strengths), np.random.default_rng(seed))


def decibels(ratio):
    return 20 * np.log10(np.abs(ratio))


def test_nothing_is_changed_unless_asked_for():
    waves = noise()
    np.testing.assert_array_equal(change(waves), waves)
    share, other = mixup(6, STILL, np.random.default_rng(0))
    assert share == 1
    assert other.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_drawn_from_the_generator_alone(name):
    waves = noise()
    first, again, other = (change(waves, seed, **{name: CHANGES[name]}) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, waves)
    assert (first.shape, first.dtype) == (waves.shape, np.float32)
    assert np.isfinite(first).all()
    assert {field.name for field in fields(Augment)} == {*CHANGES, "mixup"}


def test_silence_stays_silence():
    silence = np.zeros((3, 8_000), np.float32)
    assert not change(silence, level_db=10, equaliser_db=10, band_limit=1, speed=0.1, noise=1).any()


def test_a_shift_moves_all_clips_alike_and_loses_nothing():
    waves = noise()
    moved = change(waves, shift_seconds=0.1)
    steps = int(np.flatnonzero(moved[0] == waves[0, 0])[0])
    assert 0 < steps <= 800 or 7_200 <= steps < 8_000
    np.testing.assert_array_equal(moved, np.roll(waves, steps, axis=1))


def test_a_level_is_a_gain_within_the_bound_that_differs_between_clips():
    gains = decibels(change(noise(50), level_db=6) / noise(50))
    assert np.ptp(gains, axis=1).max() < 1e-3
    assert 3 < np.abs(gains).max() <= 6.001
    assert gains[:, 0].min() < 0 < gains[:, 0].max()


def test_an_equaliser_stays_within_its_bound_and_is_smooth():
    waves = noise()
    response = decibels(np.fft.rfft(change(waves, equaliser_db=9)) / np.fft.rfft(waves))[:, 50:]
    assert np.abs(response).max() < 9.01
    assert np.ptp(response, axis=1).min() > 3
    assert np.abs(np.diff(response, axis=1)).max() < 0.5


def test_a_band_limit_takes_low_and_high_frequencies_and_leaves_the_middle():
    waves = noise(200)
    response = decibels(np.fft.rfft(change(waves, band_limit=1)) / np.fft.rfft(waves)).mean(axis=0)
    assert np.abs(response[450:1_000]).max() < 0.1  # 450 to 1,000 Hz
    assert response[60] < -10
    assert response[3_900] < -10


def test_speed_moves_pitch_within_the_bound():
    seconds = np.arange(8_000) / RATE
    tone = np.sin(2 * np.pi * 500 * seconds).astype(np.float32)[None].repeat(20, axis=0)
    pitch = np.abs(np.fft.rfft(change(tone, speed=0.1) * np.hanning(8_000))).argmax(axis=1)
    assert pitch.min() >= 449
    assert pitch.max() <= 551
    assert np.ptp(pitch) > 40


def test_noise_lies_5_to_30_db_below_the_clip():
    waves = noise(100) * np.linspace(0.1, 3, 100, dtype=np.float32)[:, None]
    added = change(waves, noise=1) - waves
    distance = decibels(waves.std(axis=1) / added.std(axis=1))
    assert 4.5 < distance.min() < 8
    assert 27 < distance.max() < 30.5


def test_a_share_of_the_clips_is_changed():
    waves = noise(400, 1_000)
    for name in ("noise", "band_limit"):
        touched = np.abs(change(waves, **{name: 0.25}) - waves).max(axis=1) > 1e-4
        assert 0.15 < touched.mean() < 0.35


def test_mixup_gives_a_weight_and_a_permutation():
    draw = np.random.default_rng(0)
    pairs = [mixup(8, Augment(mixup=0.3), draw) for _ in range(200)]
    shares = np.array([share for share, _ in pairs])
    assert 0 < shares.min() < 0.05
    assert 0.95 < shares.max() <= 1
    assert np.mean((shares < 0.1) | (shares > 0.9)) > 0.5  # a small alpha mixes little, most of the time
    assert all(sorted(other) == list(range(8)) for _, other in pairs)
