"""Where the time goes in what the bench measures: shares by kind of work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import watched
from helpers import audio, data, features, inference, training, weights
from helpers.data import pack
from helpers.data.listing import Item
from helpers.models import build, config_for, window_logits
from helpers.tasks import TASKS

KINDS = {  # of PyTorch's operations, by part of their name
    "convolution": "convolutions", "batch_norm": "batch normalisation", "pool": "pooling", "fft": "Fourier transforms",
    "relu": "ReLU", "threshold": "ReLU", "clamp_min": "ReLU", "mm": "matrix products", "copy_": "copies, conversions",
}  # fmt: skip


def of_training(root: Path, task_name: str, kind: str, clips: int) -> dict[str, float]:
    """Shares of an epoch of `training.fit` by kind of operation, forward and backward."""
    task = TASKS[task_name]
    loaded = data.load(task, "demo", root)
    train, few = loaded.train.select(np.arange(clips)), loaded.valid.select(np.arange(2))
    model = build(config_for(task, kind, len(task.classes)))
    settings = training.Settings(epochs=1, batch=32 if kind == "MelCNN" else 8)
    training.fit(model, train, few, task, settings)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        training.fit(model, train, few, task, settings)
    spent: dict[str, float] = {}
    for event in found.key_averages():
        name = next((words for part, words in KINDS.items() if part in event.key), "the rest")
        spent[name] = spent.get(name, 0) + event.self_cpu_time_total
    return shares(spent)


def of_packing(paths: list[Path]) -> dict[str, float]:
    """Shares of packing a recording; reading is what soundfile alone would take."""
    task = TASKS["nsynth"]
    items = [Item(path.name, path, (), "") for path in paths]
    waves = [pack.read_item(item, task)[0] for item in items]
    decoding = seconds(lambda: [audio.decode(path, task.rate) for path in paths])
    return shares({
        "decode and check": decoding,
        "scale to 16 bits": seconds(lambda: [pack.read_item(item, task) for item in items]) - decoding,
        "digest of the samples": seconds(lambda: [pack.digest_rows(wave[None]) for wave in waves]),
    })  # fmt: skip


def of_pooling(paths: list[Path]) -> dict[str, float]:
    """Shares of describing clips by pooled features."""
    task = TASKS["nsynth"]
    waves = np.stack([audio.decode(path, task.rate)[0] for path in paths])
    front = features.MelSpectrogram(task.rate, *task.mel)
    whole = seconds(lambda: features.pooled(waves, task))
    parts = {
        "bring to one level": seconds(lambda: audio.normalise_level(waves)),
        "mel spectrogram": seconds(lambda: front(torch.from_numpy(waves))),
    }
    return shares(parts | {"statistics": max(whole - sum(parts.values()), 0)})


def of_prediction(root: Path, paths: list[Path]) -> dict[str, float]:
    """Shares of the whole of predict.py, on all cores: of its parts, each alone, and what is left."""
    task, few = TASKS["nsynth"], paths[:512]
    model = weights.load(root / "weights" / "nsynth-demo", "mel_cnn", task)[0].eval()
    waves = np.stack([audio.decode(path, task.rate)[0] for path in few])

    def process(*command: str) -> float:
        return min(watched([sys.executable, *command], cwd=root)["seconds"] for _ in range(3))

    def predict(path: Path) -> float:
        return process(
            "predict.py", "--task", "nsynth", "--data", str(path), "--out", str(paths[0].parent.parent / "p")
        )

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, len(waves), inference.BATCH):
            window_logits(model, waves[start : start + inference.BATCH], task)

    with ThreadPoolExecutor() as pool:
        decoding = seconds(lambda: list(pool.map(lambda path: audio.decode(path, task.rate), few)))
    found = {
        "start, weights, first file": predict(paths[0]),
        "decode and check": decoding * len(paths) / len(few),
        "network": seconds(forward) * len(paths) / len(few),
    }
    return shares(found | {"the rest": max(predict(paths[0].parent) - sum(found.values()), 0)})


def seconds(work: Callable, repeats: int = 5) -> float:
    """The shortest of several calls, after one that is not counted."""
    work()
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)


def shares(spent: dict[str, float]) -> dict[str, float]:
    """Of their sum, the largest first."""
    return {name: spent[name] / sum(spent.values()) for name in sorted(spent, key=spent.get, reverse=True)}


def measure(root: Path, paths: list[Path]) -> dict[str, dict[str, float]]:
    """All profiles, by the name of the row that they belong to."""
    found = {"predict, whole process (all cores)": of_prediction(root, paths)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return found | {
            "MelCNN training": of_training(root, "nsynth", "MelCNN", 256),
            "RawCNN 256/256 training": of_training(root, "magnatagatune", "RawCNN", 64),
            "first pack of WAVs": of_packing(paths[:256]),
            "pooled features": of_pooling(paths[:64]),
        }
    finally:
        torch.set_num_threads(threads)
