"""What a model costs: numbers learned, memory, multiply-adds, and clips per second on this machine."""

from __future__ import annotations

import pickle
import time

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import features, inference
from helpers.models import count_parameters, window_logits
from helpers.tasks import Task

CLIPS = 32  # predicted to measure the speed


def cost(model, task: Task, seconds: float = 1.0) -> dict[str, float]:
    """Measure a model on noise; what it costs does not depend on the sound.

    Parameters
    ----------
    model : nn.Module or sklearn estimator
        From `weights.load`.
    task : Task
    seconds : float
        Predict for about this long to measure the speed, at least twice.

    Returns
    -------
    dict
        "parameters": learned numbers (of an SVM: those of its support vectors); "bytes": in memory; "multiply_adds":
        per clip, without Fourier transforms; "clips_per_second": from waveforms to probabilities, median.
    """
    waves = np.random.default_rng(0).normal(0, 0.1, (CLIPS, task.clip_samples)).astype(np.float32)
    if isinstance(model, nn.Module):
        learned = count_parameters(model)
        size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            window_logits(model.eval(), waves[:1], task)
        work = counter.get_total_flops() / 2  # one multiply-add is two operations
    else:
        described = features.pooled(waves[:1], task).shape[1]
        learned = work = _kernel_points(model) * described
        size = len(pickle.dumps(model))  # written only to be counted
    took: list[float] = []
    while len(took) < 2 or sum(took) < seconds:
        started = time.perf_counter()
        inference.probabilities(model, waves, task)
        took.append(time.perf_counter() - started)
    return {
        "parameters": learned,
        "bytes": size,
        "multiply_adds": work,
        "clips_per_second": CLIPS / float(np.median(took)),
    }


def _kernel_points(model) -> int:
    """Clips that every new clip is compared with: support vectors of all SVMs, or the approximation's components."""
    points = [len(step.components_) for step in model if hasattr(step, "components_")]
    last = model[-1]
    each = getattr(last, "estimators_", [last])
    return sum(points) + sum(len(svm.support_) for svm in each if hasattr(svm, "support_"))
