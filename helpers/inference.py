"""From waveforms of any length to probabilities per clip. Scores do not depend on the batch size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count

import numpy as np
import torch
from torch import nn

from helpers import audio, features, models
from helpers.data.listing import Item, Problem
from helpers.data.pack import Pack
from helpers.tasks import Task

BATCH = 64  # clips


@torch.no_grad()
def probabilities(model, waves: Iterable[np.ndarray], task: Task, batch: int = BATCH) -> np.ndarray:
    """Predict clips of any lengths.

    Parameters
    ----------
    model : nn.Module or sklearn estimator
        From `weights.load`. A network sees windows of `task.window_samples` and its predictions are averaged; an
        estimator sees pooled features of the whole clip.
    waves : iterable of ndarray, each (samples,) float32
        Amplitude in [-1, 1], at `task.rate`.
    task : Task
    batch : int
        Clips decoded and predicted at a time; bounds the memory.

    Returns
    -------
    ndarray, shape (clips, classes), float32
        For an SVM: its decision values through a softmax or sigmoid; they rank, they are not calibrated.
    """
    found, waves = [], iter(waves)
    while chunk := list(islice(waves, batch)):
        lengths = np.array([len(wave) for wave in chunk])
        out: list = [None] * len(chunk)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for row, values in zip(rows, _predict(model, np.stack([chunk[i] for i in rows]), task), strict=True):
                out[row] = values
        found.append(np.stack(out))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def predict_pack(model, pack: Pack, task: Task, batch: int = BATCH) -> np.ndarray:
    """Probabilities of all clips of a pack, (clips, classes) float32."""
    return probabilities(model, (pack.take([clip])[0] for clip in range(len(pack))), task, batch)


def predict_items(
    model, items: Iterable[Item], task: Task, problems: list[Problem], batch: int = BATCH
) -> Iterator[tuple[Item, np.ndarray]]:
    """Decode recordings of any length in parallel and yield each with its probabilities, (classes,).

    What cannot be used is appended to `problems` and passed over; memory does not grow with the number of items.
    """
    items = iter(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        while chunk := list(islice(items, batch)):
            decoded = pool.map(lambda item: _attempt(item, task), chunk)
            readable = []
            for item, result in zip(chunk, decoded, strict=True):
                if isinstance(result, str):
                    problems.append(Problem(item.name, result))
                else:
                    readable.append((item, result))
            found = probabilities(model, (wave for _, wave in readable), task, batch)
            yield from ((item, values) for (item, _), values in zip(readable, found, strict=True))


def _attempt(item: Item, task: Task) -> np.ndarray | str:
    try:
        return audio.decode(item.path, task.rate, item.row)[0]
    except audio.BadAudio as error:
        return str(error)


def _predict(model, waves: np.ndarray, task: Task) -> np.ndarray:
    if isinstance(model, nn.Module):
        logits = models.window_logits(model.eval(), waves, task)  # (clips, windows, classes)
        return models.to_probabilities(logits, task.multi_label).mean(dim=1).cpu().numpy()
    values = torch.from_numpy(np.asarray(model.decision_function(features.pooled(waves, task)), dtype=np.float32))
    if values.ndim == 1:  # two classes: one margin
        values = torch.stack([-values, values], dim=1)
    return models.to_probabilities(values, task.multi_label).numpy()
