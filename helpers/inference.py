"""From waveforms of any length to probabilities per clip. Scores do not depend on the batch size."""

from __future__ import annotations

import io
import pickle
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import audio, features, models
from helpers.data.listing import Item, Problem
from helpers.data.pack import Pack, read_all
from helpers.files import replacing
from helpers.tasks import Task

BATCH = 64  # clips
HELD = 2**25  # samples: longer recordings are predicted in smaller batches
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can say: equal networks are equal files
CLIPS = 32  # predicted to measure the speed


def probabilities(model, waves: Iterable[np.ndarray], task: Task, batch: int = BATCH) -> np.ndarray:
    """Predict clips of any lengths.

    Parameters
    ----------
    model : nn.Module or sklearn estimator
        From `weights.load`. A network sees windows of `task.window_samples` and its predictions are averaged; an
        estimator sees pooled features of all windows together.
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
    return np.stack([values for _, values in _in_batches(model, enumerate(waves), task, batch)])


def predict_pack(model, pack: Pack, task: Task) -> np.ndarray:
    """Probabilities of all clips of a pack, (clips, classes) float32."""
    return probabilities(model, (pack.take([clip])[0] for clip in range(len(pack))), task)


def predict_items(
    model, items: Iterable[Item], task: Task, problems: list[Problem], batch: int = BATCH
) -> Iterator[tuple[Item, np.ndarray]]:
    """Decode recordings of any length in parallel and yield each with its probabilities, (classes,).

    What cannot be used is appended to `problems` and passed over; memory grows neither with the number of items nor,
    beyond a few recordings, with their length.
    """
    decoded = read_all(items, lambda item: audio.decode(item.file, task.rate, item.row)[0], problems)
    return _in_batches(model, decoded, task, batch)


def _in_batches(model, waves: Iterable[tuple], task: Task, batch: int) -> Iterator[tuple]:
    """Pairs of something and a waveform, to pairs of the same and the waveform's probabilities."""
    held: list[tuple] = []
    for pair in waves:
        held.append(pair)
        if len(held) == batch or sum(len(wave) for _, wave in held) > HELD:
            yield from _predict(model, held, task)
            held.clear()
    yield from _predict(model, held, task)


@torch.no_grad()
def _predict(model, held: list[tuple], task: Task) -> list[tuple]:
    """What `_in_batches` says, of one batch: clips of equal length go through the model together."""
    lengths, found = np.array([len(wave) for _, wave in held]), {}
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        waves = np.stack([held[row][1] for row in rows])
        if isinstance(model, nn.Module):
            logits = models.window_logits(model.eval(), waves, task)  # (clips, windows, classes)
            values = models.to_probabilities(logits, task.multi_label).mean(dim=1).cpu()
        else:
            whole = audio.split_windows(waves, task.window_samples).reshape(len(waves), -1)
            values = torch.from_numpy(np.float32(model.decision_function(features.pooled(whole, task))))
            if values.ndim == 1:  # two classes: one margin
                values = torch.stack([-values, values], dim=1)
            values = models.to_probabilities(values, task.multi_label)
        found |= zip(rows, values.numpy(), strict=True)
    return [(name, found[row]) for row, (name, _) in enumerate(held)]


def export(model: nn.Module, path: Path, extra: dict[str, str] | None = None) -> Path:
    """Write a network as TorchScript, front end included: `torch.jit.load(path)` runs it without this project.

    It maps windows (batch, samples) float32 in [-1, 1] to logits (batch, classes), as the network does. `extra` are
    texts to store in it, by name.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the course's grader loads this form and no newer one
        torch.jit.save(torch.jit.script(model.cpu().eval()), buffer, _extra_files=extra)
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(temporary, "w") as target,
    ):
        for entry in source.infolist():
            # Debug records tell where the source lay on this machine; the id is a digest of them as well
            if not entry.filename.endswith((".debug_pkl", "serialization_id")):
                target.writestr(zipfile.ZipInfo(entry.filename, FIRST_DATE), source.read(entry))
    return path


def cost(model, task: Task, seconds: float = 1.0) -> dict[str, float]:
    """Measure a model on noise, for about so many seconds; what it costs does not depend on the sound.

    Returns
    -------
    dict
        "parameters": learned numbers (of an SVM: those of its support vectors); "bytes": in memory; "multiply_adds":
        per clip, without Fourier transforms; "clips_per_second": from waveforms to probabilities, median.
    """
    waves = np.random.default_rng(0).normal(0, 0.1, (CLIPS, task.clip_samples)).astype(np.float32)
    if isinstance(model, nn.Module):
        learned = models.count_parameters(model)
        size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            models.window_logits(model.eval(), waves[:1], task)
        work = counter.get_total_flops() / 2  # one multiply-add is two operations
    else:
        steps = [*model[:-1], *getattr(model[-1], "estimators_", [model[-1]])]
        points = [getattr(step, "components_", getattr(step, "support_", ())) for step in steps]
        # Every new clip is compared with so many others
        learned = work = sum(map(len, points)) * features.pooled(waves[:1], task).shape[1]
        size = len(pickle.dumps(model))  # written only to be counted
    took: list[float] = []
    while len(took) < 2 or sum(took) < seconds:
        started = time.perf_counter()
        probabilities(model, waves, task)
        took.append(time.perf_counter() - started)
    speed = CLIPS / float(np.median(took))
    return {"parameters": learned, "bytes": size, "multiply_adds": work, "clips_per_second": speed}
