"""From waveforms of any length to probabilities per clip. Scores do not depend on the batch size."""

from __future__ import annotations

import io
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
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
HELD = 2**24  # samples: longer recordings are predicted in smaller batches
PIECE = 2**22  # samples of a recording that go through a model together
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can say: equal networks are equal files
CLIPS = 32  # predicted to measure the speed


def probabilities(model, waves: Iterable[np.ndarray], task: Task, batch: int = BATCH) -> np.ndarray:
    """Predict clips of any lengths.

    Parameters
    ----------
    model : nn.Module or models.KernelMachine
        From `weights.load`. A network sees windows of `task.window_samples` and its predictions are averaged; an
        SVM sees pooled features of all windows together.
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

    What cannot be used is appended to `problems` and passed over. Memory grows neither with the number of items nor
    with their length: of a recording of more than PIECE samples, predicted piece by piece, the windows are averaged,
    for an SVM the pieces' probabilities.
    """
    size = max(1, PIECE // task.window_samples) * task.window_samples

    def read(item: Item) -> Iterator[np.ndarray]:
        pieces = audio.Recording(item.file, task.rate, item.row).pieces(size)
        return chain([next(pieces)], pieces)  # the first one tells whether it can be used

    def joined() -> Iterator[tuple[Item, np.ndarray]]:
        for item, pieces in read_all(items, read, problems):
            try:
                first, second = next(pieces), next(pieces, None)
                if second is not None:
                    yield item, _average(model, chain([first, second], pieces), task)
                else:
                    yield item, first
            except audio.BadAudio as error:  # it has changed since
                problems.append(Problem(item.name, str(error)))

    return _in_batches(model, joined(), task, batch)


def _average(model, pieces: Iterable[np.ndarray], task: Task) -> np.ndarray:
    """Probabilities of a recording in pieces, (1, classes): a mean over its windows."""
    values, windows = 0.0, 0
    for piece in pieces:
        if windows and len(piece) < task.window_samples // 2:
            break  # as `audio.split_windows` drops a short rest
        count = len(audio.split_windows(piece, task.window_samples))
        values, windows = values + count * probabilities(model, [piece], task)[0], windows + count
    return (values / windows)[None]


def _in_batches(model, waves: Iterable[tuple], task: Task, batch: int) -> Iterator[tuple]:
    """Pairs of something and a waveform, to pairs of the same and the waveform's probabilities.

    A pair that has a table (1, classes) instead passes through.
    """
    held: list[tuple] = []
    for pair in waves:
        if pair[1].ndim == 2:  # predicted already
            yield from _predict(model, held, task)
            held.clear()
            yield pair[0], pair[1][0]
            continue
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
        learned = work = model.points.size  # every new clip is compared with so many others
        size = sum(array.nbytes for array in model.arrays.values())
    took: list[float] = []
    while len(took) < 2 or sum(took) < seconds:
        started = time.perf_counter()
        probabilities(model, waves, task)
        took.append(time.perf_counter() - started)
    speed = CLIPS / float(np.median(took))
    return {"parameters": learned, "bytes": size, "multiply_adds": work, "clips_per_second": speed}
