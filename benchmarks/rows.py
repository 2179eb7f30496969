"""The rows of the bench: the same work done our way and in a user's usual way, or against what the machine allows."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader

import demo
from benchmarks import recipes
from benchmarks.timing import REPEATS, compare, spread, watched
from helpers import audio, data, features, inference, training, weights
from helpers.data import pack
from helpers.models import build, config_for, window_logits
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
NOTES = 4096  # of four seconds: as many as NSynth's test split has
FEW = 64  # clips per repeat of what is slow


@dataclass(frozen=True)
class Row:
    """What was measured: a ratio (or share, or seconds), and the aim it is held against (None: none is set)."""

    name: str
    against: str
    unit: str  # "times as fast", "share" or "seconds"
    measured: dict
    aim: float | None = None
    below: bool = False  # the aim is not to be exceeded

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the aim."""
        if self.aim is None:
            return None
        median = self.measured["ratio"]["median"]
        return median <= self.aim if self.below else median >= self.aim


def notes(folder: Path) -> list[Path]:
    """4,096 rendered notes as WAVs in one folder, rendered when they are not there."""
    target = folder / "notes"
    if not target.is_dir():
        rendered = demo.ensure("nsynth", folder / "demo", scale=2.2, seed=1)
        paths = sorted(rendered.glob("nsynth-*/audio/*.wav"))[:NOTES]
        fresh = folder / ".notes"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for path in paths:
            os.link(path, fresh / path.name)
        fresh.rename(target)
    return sorted(target.glob("*.wav"))


def decode_and_mel(paths: list[Path]) -> Iterator[Row]:
    """(a) Decode and mel per file with librosa in a loop; and the front end alone."""
    task = TASKS["nsynth"]
    n_fft, hop, mels = task.mel
    front = features.MelSpectrogram(task.rate, n_fft, hop, mels)
    some = paths[: 8 * FEW]

    def ours() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool, torch.no_grad():
            for start in range(0, len(some), FEW):
                waves = pool.map(lambda path: audio.decode(path, task.rate)[0], some[start : start + FEW])
                front(torch.from_numpy(np.stack([audio.fit_length(wave, task.clip_samples) for wave in waves])))
        return len(some)

    def theirs() -> int:
        for path in some[:FEW]:
            recipes.librosa_mel(path, task.rate, n_fft, hop, mels)
        return FEW

    yield Row("decode and mel", "(a) librosa, file by file", "times as fast", compare(ours, theirs))

    waves = np.stack([audio.decode(path, task.rate)[0] for path in paths[:FEW]])

    def front_only() -> int:
        with torch.no_grad():
            front(torch.from_numpy(waves))
        return FEW

    def librosa_only() -> int:
        for wave in waves:
            np.log(features.LOG_FLOOR + librosa_power(wave, task))
        return FEW

    measured = compare(front_only, librosa_only)
    with torch.no_grad():
        power = features.MelSpectrogram(task.rate, n_fft, hop, mels, log=False)(torch.from_numpy(waves)).numpy()
    expected = np.stack([librosa_power(wave, task) for wave in waves])
    measured["largest_relative_difference"] = float(np.abs(power - expected).max() / expected.max())
    yield Row("front end alone", "librosa, clip by clip", "times as fast", measured, 2)
    yield from pooled(waves)


def librosa_power(wave: np.ndarray, task) -> np.ndarray:
    """librosa's mel power with the task's front end, (mels, frames)."""
    n_fft, hop, mels = task.mel
    return librosa.feature.melspectrogram(
        y=wave, sr=task.rate, n_fft=n_fft, hop_length=hop, n_mels=mels, pad_mode="constant"
    )


def pooled(waves: np.ndarray) -> Iterator[Row]:
    """(d) Features for the SVM, from waveforms in memory."""
    task = TASKS["nsynth"]

    def ours() -> int:
        return len(features.pooled(waves, task))

    def mean_pooled() -> int:
        return len([recipes.mean_pooled(wave, task.rate, *task.mel) for wave in waves])

    def seventy_five() -> int:
        return len([recipes.features_75(wave, task.rate) for wave in waves[: FEW // 4]])

    yield Row("pooled features", "mean-pooled librosa log-mel", "times as fast", compare(ours, mean_pooled), 2)
    yield Row("pooled features", "(d) 75 librosa features", "times as fast", compare(ours, seventy_five), 20)


def prediction(paths: list[Path]) -> Iterator[Row]:
    """(c) The whole process of predict.py on 4,096 WAVs, and how near it comes to the network's own speed."""
    task = TASKS["nsynth"]
    out = paths[0].parent.parent / "predictions.csv"
    command = [sys.executable, "predict.py", "--task", "nsynth", "--data", str(paths[0].parent), "--out", str(out)]
    usual = recipes.ShortChunk(len(task.classes)).eval()
    model, _ = weights.load(ROOT / "weights" / "nsynth-demo", "mel_cnn", task)
    waves = np.stack([audio.decode(path, task.rate)[0] for path in paths[: 8 * FEW]])

    def ours() -> int:
        watched(command, cwd=ROOT)
        return len(paths)

    @torch.no_grad()
    def theirs() -> int:
        for path in paths[:FEW]:
            mel = recipes.librosa_mel(path, task.rate, 512, 256, 128)
            usual(torch.from_numpy(mel)[None])
        return FEW

    @torch.no_grad()
    def forward() -> int:
        for start in range(0, len(waves), inference.BATCH):
            window_logits(model, waves[start : start + inference.BATCH], task)
        return len(waves)

    repeats = 3
    slow = compare(ours, theirs, repeats)
    yield Row("predict, whole process", "(c) short-chunk CNN on librosa mels, batch 1", "times as fast", slow, 15)
    yield Row("predict, whole process", "its own network's forward pass", "share", compare(ours, forward, repeats), 0.6)
    yield from small_networks()
    yield from floor(paths, forward)


def small_networks() -> Iterator[Row]:
    """(e) Our mel network against the four-layer MFCC network, forward passes one at a time and in batches."""
    task = TASKS["languages"]
    ours = build(config_for(task, "MelCNN", len(task.classes))).eval()
    theirs = recipes.MfccCNN(len(task.classes), task.rate).eval()
    waves = torch.randn(FEW, task.clip_samples, generator=torch.Generator().manual_seed(0)) * 0.1

    @torch.no_grad()
    def passes(model, batch: int) -> int:
        for part in waves.split(batch):
            model(part)
        return len(waves)

    for batch in (1, 64):
        measured = compare(lambda batch=batch: passes(ours, batch), lambda batch=batch: passes(theirs, batch))
        yield Row(f"mel network, batch {batch}", "(e) four-layer MFCC network", "times as fast", measured)


def floor(paths: list[Path], forward: Callable[[], int]) -> Iterator[Row]:
    """What the machine allows: reading the files' bytes, and multiplying matrices."""
    task = TASKS["nsynth"]
    some = paths[: 8 * FEW]

    def decode() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return len(list(pool.map(lambda path: audio.decode(path, task.rate), some)))

    def read_bytes() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return len(list(pool.map(lambda path: path.read_bytes(), some)))

    yield Row("decoding", "reading the files' bytes (cached by the system)", "share", compare(decode, read_bytes))
    model = build(config_for(task, "MelCNN", len(task.classes)))
    from helpers.inference import cost

    multiply_adds, size = cost(model, task, seconds=0)["multiply_adds"], 1024
    left, right = torch.randn(size, size), torch.randn(size, size)

    def product() -> int:  # in clips: as many as the same multiply-adds would be
        for _ in range(8):
            left @ right
        return round(8 * size**3 / multiply_adds)

    yield Row("network's forward pass", "as many multiply-adds in matrix products", "share", compare(forward, product))


def packing(paths: list[Path], folder: Path) -> Iterator[Row]:
    """The first pack of WAVs against merely reading them with soundfile on all cores."""
    from helpers.data.nsynth import read

    task, cache = TASKS["nsynth"], folder / "cache"
    listing = read(paths[0].parent)

    def ours() -> int:
        shutil.rmtree(cache, ignore_errors=True)
        pack.open_packs(listing, task, cache)
        return len(paths)

    def theirs() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return len(list(pool.map(lambda path: soundfile.read(path, dtype="float32")[0].sum(), paths)))

    yield Row("first pack of WAVs", "only reading them with soundfile", "share", compare(ours, theirs, 3), 0.7)


def raw_training(folder: Path) -> Iterator[Row]:
    """(b) RawCNN 256/256 from the pack against one .npy per clip through a DataLoader; and the input's share."""
    task = TASKS["magnatagatune"]
    loaded = data.load(task, "demo", ROOT)
    train, few = loaded.train, loaded.valid.select(np.arange(2))
    files = folder / "npy"
    files.mkdir(exist_ok=True)
    for clip in range(len(train)):
        np.save(files / f"{clip}.npy", train.take([clip])[0])
    paths = [files / f"{clip}.npy" for clip in range(len(train))]
    loader = DataLoader(recipes.Files(paths, train.targets), 8, shuffle=True, num_workers=os.cpu_count() or 0)
    config = config_for(task, "RawCNN", len(task.classes))
    settings = training.Settings(epochs=1, batch=8)

    def ours() -> int:
        training.fit(build(config), train, few, task, settings)
        return len(train)

    def theirs() -> int:
        return recipes.epoch(recipes.raw_network(len(task.classes), task.window_samples), loader, task.window_samples)

    measured = compare(ours, theirs, 3)
    yield Row("RawCNN 256/256 training", "(b) one .npy per clip, DataLoader, float32", "times as fast", measured, 2)

    def reading() -> int:
        order = np.random.default_rng(0).permutation(len(train))
        for start in range(0, len(order), settings.batch):
            train.take(np.sort(order[start : start + settings.batch]))
        return len(order)

    found = compare(reading, ours, 3)
    ratio = found["ratio"]
    found["ratio"] = {"median": 1 / ratio["median"], "low": 1 / ratio["high"], "high": 1 / ratio["low"]}
    yield Row("input's part of a training step", "the whole step", "share", found, 0.1, below=True)


def mel_training() -> Iterator[Row]:
    """MelCNN training as `fit` does it against its plain self: float32, channels first."""
    task = TASKS["nsynth"]
    loaded = data.load(task, "demo", ROOT)
    train, few = loaded.train.select(np.arange(512)), loaded.valid.select(np.arange(2))
    config = config_for(task, "MelCNN", len(task.classes))

    def ours() -> int:
        training.fit(build(config), train, few, task, training.Settings(epochs=1))
        return len(train)

    def theirs() -> int:
        model = build(config)
        model.blocks = model.blocks.to(memory_format=torch.contiguous_format)
        order = np.random.default_rng(0).permutation(len(train))
        batches = (order[start : start + 32] for start in range(0, len(order), 32))
        loader = ((torch.from_numpy(train.take(rows)), torch.from_numpy(train.targets[rows])) for rows in batches)
        return recipes.epoch(model, loader, task.window_samples)

    yield Row("MelCNN training", "the same in plain float32", "times as fast", compare(ours, theirs, 3), 3)


def starting(paths: list[Path]) -> Iterator[Row]:
    """Seconds until the command line explains itself, and until one file is predicted."""
    script = [sys.executable, str(ROOT / "predict.py")]
    for name, command, aim in (
        ("predict.py --help", [*script, "--help"], 0.5),
        ("predict.py, one file", [*script, "--task", "nsynth", "--data", str(paths[0])], 3.0),
    ):
        took = []
        for _ in range(REPEATS + 1):
            started = time.perf_counter()
            watched(command, cwd=ROOT)
            took.append(time.perf_counter() - started)
        yield Row(name, "a clock", "seconds", {"ratio": spread(took[1:]), "repeats": REPEATS}, aim, below=True)


PARTS = {
    "predict.py": lambda paths, folder: starting(paths),
    "decode, front end, pooled features": lambda paths, folder: decode_and_mel(paths),
    "predict, mel network, forward pass, decoding": lambda paths, folder: prediction(paths),
    "first pack": packing,
    "RawCNN, input": lambda paths, folder: raw_training(folder),
    "MelCNN": lambda paths, folder: mel_training(),
}


def all_rows(folder: Path, only: str = "") -> Iterator[Row]:
    """Measure everything, row by row, or the parts of PARTS whose name holds `only`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = notes(folder)
    for name, part in PARTS.items():
        if only in name:
            yield from part(paths, folder)
