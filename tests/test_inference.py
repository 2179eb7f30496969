"""A clip's score depends on the clip alone, a bad recording does not stop the others, and costs are counted."""

from dataclasses import replace
from os import cpu_count

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from helpers import audio, features, inference, models, svm
from helpers.data.listing import Item
from helpers.data.pack import Pack
from helpers.tasks import TASKS

SHORT = {
    name: replace(task, clip_samples=12_000, window_samples=4_096, mel=(256, 128, 16)) for name, task in TASKS.items()
}
by_task = pytest.mark.parametrize("task", SHORT.values(), ids=lambda task: task.name)


def sound(samples, seed=0):
    """A tone in noise, another for each seed."""
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(0.01, 0.2) * np.arange(samples))
    return (0.2 * tone + 0.05 * rng.standard_normal(samples)).astype(np.float32)


def network(task, kind="MelCNN", classes=None):
    return models.build(models.config_for(task, kind, len(classes or task.classes)), seed=3)


def machine(task):
    """An SVM that compares pooled features with those of six sounds."""
    rows = features.pooled(np.stack([sound(4_000, seed) for seed in range(6)]), task)
    fitted = svm.make(100.0, 1e-7, 6).fit(rows, [0, 1, 2, 0, 1, 2])
    return svm.as_arrays(fitted, len(task.classes))


@by_task
@pytest.mark.parametrize("make", [network, machine])
def test_scores_depend_neither_on_the_batch_nor_on_the_order_nor_on_the_neighbours(task, make):
    model = make(task)
    waves = [sound(length, seed) for seed, length in enumerate([4_000, 12_000, 900, 12_000, 6_500, 4_000, 31_000])]
    alone = np.concatenate([inference.probabilities(model, [wave], task) for wave in waves])
    assert alone.shape == (7, len(task.classes))
    for batch in (1, 2, 5, 64):
        found = inference.probabilities(model, iter(waves), task, batch)
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
    turned = inference.probabilities(model, waves[::-1], task, 3)[::-1]
    np.testing.assert_allclose(turned, alone, rtol=1e-5, atol=1e-5)
    assert np.abs(alone - alone[0])[1:].max(axis=1).min() > 1e-4  # other clips do have other scores


@by_task
def test_a_long_clips_score_is_the_mean_over_its_windows(task):
    model, wave = network(task), sound(3 * task.window_samples)
    windows = inference.probabilities(model, wave.reshape(3, -1), task)
    np.testing.assert_allclose(inference.probabilities(model, [wave], task)[0], windows.mean(axis=0), atol=1e-5)
    assert np.ptp(windows, axis=0).max() > 1e-4
    total = windows.sum(axis=1)
    assert not np.allclose(total, 1) if task.multi_label else np.allclose(total, 1)


def test_prediction_neither_trains_nor_drops_nor_needs_a_gradient():
    task = SHORT["nsynth"]
    model, clip = network(task).train(), [sound(4_000)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (inference.probabilities(model, clip, task) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pack_is_predicted_like_its_clips():
    task = SHORT["nsynth"]
    waves = np.rint(np.stack([sound(12_000, seed) for seed in range(5)]) * 20_000).astype(np.int16)
    names = np.array(list("abcde"))
    pack = Pack(waves, np.arange(5), np.zeros(5, int), names, names, names).select(np.array([4, 0, 2]))
    expected = inference.probabilities(network(task), waves[[4, 0, 2]].astype(np.float32) / 32_767, task)
    np.testing.assert_allclose(inference.predict_pack(network(task), pack, task), expected, atol=1e-5)


def write(path, wave, rate):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_bad_items_are_listed_and_the_rest_predicted(batch, tmp_path):
    task, model = SHORT["nsynth"], network(SHORT["nsynth"])
    lengths = {"a": 4_000, "c": 12_000, "e": 700, "g": 4_000}
    for seed, (name, length) in enumerate(lengths.items()):
        write(tmp_path / f"{name}.wav", sound(length, seed), task.rate)
    (tmp_path / "b.wav").touch()
    (tmp_path / "d.wav").write_text("no audio")
    write(tmp_path / "f.wav", np.zeros(4_000), task.rate)
    items, problems = [Item(name, tmp_path / f"{name}.wav", (), "") for name in "abcdefgh"], []
    found = dict(inference.predict_items(model, iter(items), task, problems, batch))
    assert [item.name for item in found] == list(lengths)
    reasons = {problem.name: problem.reason for problem in problems}
    assert list(reasons) == ["b", "d", "f", "h"]
    for name, words in (("b", "0 bytes"), ("d", "cannot be decoded"), ("f", "silent"), ("h", "missing")):
        assert words in reasons[name]
    waves = [audio.decode(item.path, task.rate)[0] for item in found]
    np.testing.assert_allclose(
        np.stack(list(found.values())), inference.probabilities(model, waves, task), rtol=1e-5, atol=1e-5
    )


def test_memory_does_not_grow_with_the_length_or_the_number_of_recordings(tmp_path, monkeypatch):
    task, seen, running = SHORT["nsynth"], [], []
    path, model = tmp_path / "long.wav", network(SHORT["nsynth"])
    write(path, sound(50_000), task.rate)
    whole = inference.probabilities(model, [audio.decode(path, task.rate)[0]], task)

    def open_recording(*arguments, real=audio.Recording):
        running.append(1)
        return real(*arguments)

    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(audio, "Recording", open_recording)
    monkeypatch.setattr(inference, "HELD", 120_000)  # samples: three of these recordings exceed it
    monkeypatch.setitem(models.WINDOWS, "cpu", 8)
    items = (Item(str(place), path, (), "") for place in range(100))
    predicted = inference.predict_items(model, items, task, [])
    next(predicted)
    assert len(running) <= 3 + 2 * cpu_count() + 1
    rows = [values for _, values in predicted]
    assert len(rows) == 99
    assert max(seen) <= 8
    assert sum(seen) == 100 * 12  # windows of 4,096 samples
    np.testing.assert_allclose(rows, np.repeat(whole, 99, axis=0), atol=1e-5)


@pytest.mark.parametrize("length", [50_000, 49_152, 46_000, 30_000])
def test_a_recording_in_pieces_gets_the_prediction_of_the_whole(tmp_path, monkeypatch, length):
    task, model = SHORT["nsynth"], network(SHORT["nsynth"])
    write(tmp_path / "long.wav", sound(length), task.rate)
    write(tmp_path / "short.wav", sound(4_000, 1), task.rate)
    items = [Item(name, tmp_path / f"{name}.wav", (), "") for name in ("short", "long", "short")]
    whole = [values for _, values in inference.predict_items(model, items, task, [])]
    monkeypatch.setattr(inference, "PIECE", 3 * task.window_samples + 5)
    monkeypatch.setattr(audio, "AT_ONCE", 16_000)
    found = list(inference.predict_items(model, items, task, problems := []))
    assert [item.name for item, _ in found] == ["short", "long", "short"]
    np.testing.assert_allclose([values for _, values in found], whole, atol=1e-5)
    assert problems == []


class OneLayer(nn.Module):
    """A dense layer on a window: its costs are known by heart."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(40_000, 6)

    def forward(self, wave):
        return self.dense(wave)


def test_a_dense_layer_costs_what_it_must():
    price = inference.cost(OneLayer(), TASKS["languages"], seconds=0)
    assert price["parameters"] == 40_001 * 6
    assert price["bytes"] == 4 * 40_001 * 6
    assert price["multiply_adds"] == 40_000 * 6
    assert price["clips_per_second"] > 0


def test_windows_count_and_a_convolution_too():
    task = TASKS["magnatagatune"]
    model = models.build(models.config_for(task, "RawCNN", 50))
    frames = -(-task.window_samples // 256)  # 137
    window = frames * 32 * 256 + frames * 32 * 32 * 8 + frames // 4 * 32 * 32 * 8 + 32 * (frames // 16) * 100 + 100 * 50
    assert inference.cost(model, task, seconds=0)["multiply_adds"] == 10 * window
    assert not model.training
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("clips", [60, svm.EXACT_UP_TO + 1])
def test_an_svm_costs_its_support_vectors_or_components(clips, monkeypatch):
    described = np.random.default_rng(0).normal(size=(60, 590)).astype(np.float32)
    monkeypatch.setattr(svm, "STEPS", 60 * clips)
    monkeypatch.setattr(svm, "COMPONENTS", 20)
    fitted = svm.make(1.0, 1e-3, clips).fit(described, np.arange(60) % 6)
    model = svm.as_arrays(fitted, 6)
    price = inference.cost(model, TASKS["languages"], seconds=0)
    points = 20 if clips > 60 else len(np.unique(np.concatenate([one.support_ for one in fitted[-1].estimators_])))
    assert price["parameters"] == price["multiply_adds"] == 590 * points
    assert price["bytes"] == 4 * (590 * points + 6 * points + 2 * 590 + 6 + 1)
    assert torch.is_grad_enabled()
