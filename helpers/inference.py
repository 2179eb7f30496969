"""From waveforms of any length to probabilities per clip. Scores do not depend on the batch size."""

from __future__ import annotations

import io
import pickle
import time
import warnings
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import audio, features, models
from helpers.data.listing import Item, Problem
from helpers.data.pack import Pack
from helpers.files import replacing
from helpers.models import count_parameters, window_logits
from helpers.tasks import Task

BATCH = 64  # clips
HELD = 2**25  # samples: longer recordings are predicted in smaller batches
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can say: equal networks are equal files


@torch.no_grad()
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

    What cannot be used is appended to `problems` and passed over; memory grows neither with the number of items nor,
    beyond a few recordings, with their length.
    """
    items, ahead, held = iter(items), deque(), []
    workers = cpu_count() or 1

    def predicted() -> Iterator[tuple[Item, np.ndarray]]:
        found = probabilities(model, (wave for _, wave in held), task, batch)
        yield from zip([item for item, _ in held], found, strict=True)
        held.clear()

    with ThreadPoolExecutor(workers) as pool:
        while True:
            for item in islice(items, 2 * workers - len(ahead)):
                ahead.append((item, pool.submit(_attempt, item, task)))
            if not ahead:
                break
            item, decoding = ahead.popleft()
            result = decoding.result()
            if isinstance(result, str):
                problems.append(Problem(item.name, result))
                continue
            held.append((item, result))
            if len(held) == batch or sum(len(wave) for _, wave in held) > HELD:
                yield from predicted()
        yield from predicted()


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


def _attempt(item: Item, task: Task) -> np.ndarray | str:
    try:
        return audio.decode(item.path, task.rate, item.row)[0]
    except audio.BadAudio as error:
        return str(error)


def _predict(model, waves: np.ndarray, task: Task) -> np.ndarray:
    if isinstance(model, nn.Module):
        logits = models.window_logits(model.eval(), waves, task)  # (clips, windows, classes)
        return models.to_probabilities(logits, task.multi_label).mean(dim=1).cpu().numpy()
    whole = audio.split_windows(waves, task.window_samples).reshape(len(waves), -1)
    values = torch.from_numpy(np.asarray(model.decision_function(features.pooled(whole, task)), dtype=np.float32))
    if values.ndim == 1:  # two classes: one margin
        values = torch.stack([-values, values], dim=1)
    return models.to_probabilities(values, task.multi_label).numpy()


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
        probabilities(model, waves, task)
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
