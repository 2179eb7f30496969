"""What a model costs is counted, not guessed."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers import inference, models, svm
from helpers.tasks import TASKS

TASK = TASKS["languages"]


class OneLayer(nn.Module):
    """A dense layer on a window: its costs are known by heart."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(40_000, 6)

    def forward(self, wave):
        return self.dense(wave)


def test_a_dense_layer_costs_what_it_must():
    price = inference.cost(OneLayer(), TASK, seconds=0)
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
    model = svm.make(1.0, 1e-3, clips).fit(described, np.arange(60) % 6)
    price = inference.cost(model, TASK, seconds=0)
    points = 20 if clips > 60 else sum(len(one.support_) for one in model[-1].estimators_)
    assert price["parameters"] == price["multiply_adds"] == 590 * points
    assert price["bytes"] > 4 * 590
    assert torch.is_grad_enabled()
