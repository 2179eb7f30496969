"""The rows of the bench: the same work done our way and in a user's usual way, in turns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader

import demo
from benchmarks import recipes
from benchmarks.timing import compare, spread, watched
from helpers import audio, data, features, inference, training, weights
from helpers.data import Dataset, pack
from helpers.data.nsynth import read
from helpers.models import build, config_for, window_logits
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
NSYNTH, TAGS, LANGUAGES = (TASKS[name] for name in ("nsynth", "magnatagatune", "languages"))
PREDICT = [sys.executable, "predict.py", "--task", "nsynth"]
BATCH = 64


def row(name: str, against: str, measured: dict, aim: float | None = None, unit: str = "×") -> dict:
    """What was measured, and the aim, if one is set: a lower bound for how many times faster, an upper for seconds."""
    return {"name": name, "against": against, "unit": unit, "aim": aim, **measured}


def all_rows(folder: Path) -> Iterator[dict]:
    """Measure everything, row by row; what is rendered, packed and written goes into `folder`."""
    rendered = demo.ensure("nsynth", folder / "demo", scale=2, seed=1)
    paths = sorted((rendered / "nsynth-train" / "audio").glob("*.wav"))  # about 4,200
    yield from starting(paths[0])
    yield decoding(paths[:512])
    yield from describing(paths[:BATCH])
    yield from predicting(paths, folder)
    yield from small_networks()
    yield packing(paths, folder)
    yield raw_training(data.load(TAGS, "demo", ROOT), folder)
    yield mel_training(data.load(NSYNTH, "demo", ROOT))


def decoded(paths: list[Path]) -> np.ndarray:
    """Notes as waveforms, (clips, samples)."""
    return np.stack([audio.decode(path, NSYNTH.rate)[0] for path in paths])


def starting(path: Path) -> Iterator[dict]:
    """Seconds until the command line explains itself, and until one file is predicted."""
    for name, arguments, aim in (("--help", ["--help"], 0.5), ("one file", ["--data", str(path)], 3.0)):
        took = [watched([*PREDICT, *arguments], cwd=ROOT)["seconds"] for _ in range(6)]
        yield row(f"predict.py, {name}", "a clock", spread(took[1:]), aim, "s")


def decoding(paths: list[Path]) -> dict:
    """(a) Decode and mel per file with librosa in a loop."""
    front = features.MelSpectrogram(NSYNTH.rate, *NSYNTH.mel)

    @torch.no_grad()
    def ours() -> int:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), BATCH):
                waves = pool.map(lambda path: audio.decode(path, NSYNTH.rate)[0], paths[start : start + BATCH])
                front(torch.from_numpy(np.stack([audio.fit_length(wave, NSYNTH.clip_samples) for wave in waves])))
        return len(paths)

    def theirs() -> int:
        return len([recipes.mel_of_file(path, NSYNTH.rate, *NSYNTH.mel) for path in paths[:BATCH]])

    return row("decode and mel", "(a) librosa, file by file", compare(ours, theirs))


def describing(paths: list[Path]) -> Iterator[dict]:
    """The front end, and (d) the features for the SVM, from waveforms in memory."""
    front, waves = features.MelSpectrogram(NSYNTH.rate, *NSYNTH.mel), decoded(paths)
    form = NSYNTH.rate, *NSYNTH.mel

    @torch.no_grad()
    def front_end() -> int:
        return len(front(torch.from_numpy(waves)))

    def pooled() -> int:
        return len(features.pooled(waves, NSYNTH))

    def log_mel() -> int:
        return len([np.log(1e-6 + recipes.mel_power(wave, *form)) for wave in waves])

    def mean_pooled() -> int:
        return len([librosa.power_to_db(recipes.mel_power(wave, *form)).mean(axis=1) for wave in waves])

    def seventy_five() -> int:
        return len([recipes.features_75(wave, NSYNTH.rate) for wave in waves[: BATCH // 4]])

    yield row("front end alone", "librosa, clip by clip", compare(front_end, log_mel), 2)
    yield row("pooled features", "mean-pooled librosa log-mel", compare(pooled, mean_pooled), 2)
    yield row("pooled features", "(d) 75 librosa features", compare(pooled, seventy_five), 20)


def predicting(paths: list[Path], folder: Path) -> Iterator[dict]:
    """(c) The whole process of predict.py, and how near it comes to its network's own speed."""
    command = [*PREDICT, "--data", str(paths[0].parent), "--out", str(folder / "predictions.csv")]
    model = weights.load(ROOT / "weights" / "nsynth-demo", "mel_cnn", NSYNTH)[0].eval()
    usual, waves = recipes.short_chunk(len(NSYNTH.classes)).eval(), decoded(paths[:512])

    def ours() -> int:
        watched(command, cwd=ROOT)
        return len(paths)

    @torch.no_grad()
    def theirs() -> int:
        for path in paths[:BATCH]:
            usual(torch.from_numpy(recipes.mel_of_file(path, NSYNTH.rate, 512, 256, 128))[None])
        return len(paths[:BATCH])

    @torch.no_grad()
    def forward() -> int:
        for start in range(0, len(waves), inference.BATCH):
            window_logits(model, waves[start : start + inference.BATCH], NSYNTH)
        return len(waves)

    name = "predict, whole process"
    yield row(name, "(c) short-chunk CNN on librosa mels, batch 1", compare(ours, theirs, 3), 15)
    yield row(name, "its own network's forward pass", compare(ours, forward, 3), 0.6)


def small_networks() -> Iterator[dict]:
    """(e) Our mel network against the four-layer MFCC network, forward passes one at a time and in batches."""
    ours = build(config_for(LANGUAGES, "MelCNN", len(LANGUAGES.classes))).eval()
    theirs = recipes.MfccCNN(len(LANGUAGES.classes), LANGUAGES.rate).eval()
    waves = torch.randn(BATCH, LANGUAGES.clip_samples, generator=torch.Generator().manual_seed(0)) * 0.1

    @torch.no_grad()
    def passes(model: torch.nn.Module, batch: int) -> int:
        return sum(len(model(part)) for part in waves.split(batch))

    for batch in (1, BATCH):
        measured = compare(lambda batch=batch: passes(ours, batch), lambda batch=batch: passes(theirs, batch))
        yield row(f"mel network, batch {batch}", "(e) four-layer MFCC network", measured)


def packing(paths: list[Path], folder: Path) -> dict:
    """The first pack of WAVs against merely reading them with soundfile on all cores."""
    cache, listing = folder / "cache", read(paths[0].parent)

    def ours() -> int:
        shutil.rmtree(cache, ignore_errors=True)
        pack.open_packs(listing, NSYNTH, cache)
        return len(paths)

    def theirs() -> int:
        with ThreadPoolExecutor() as pool:
            return len(list(pool.map(lambda path: soundfile.read(path, dtype="float32")[0].sum(), paths)))

    return row("first pack of WAVs", "only reading them with soundfile", compare(ours, theirs, 3), 0.7)


def raw_training(loaded: Dataset, folder: Path) -> dict:
    """(b) An epoch of RawCNN 256/256 from the pack against one .npy per clip through a DataLoader."""
    train, few = loaded.train, loaded.valid.select(np.arange(2))
    config, settings = config_for(TAGS, "RawCNN", len(TAGS.classes)), training.Settings(epochs=1, batch=8)
    files = folder / "npy"
    files.mkdir(parents=True, exist_ok=True)
    paths = [files / f"{clip}.npy" for clip in range(len(train))]
    for clip, path in enumerate(paths):
        np.save(path, train.take([clip])[0])
    loader = DataLoader(recipes.Files(paths, train.targets), 8, shuffle=True, num_workers=os.cpu_count() or 0)

    def ours() -> int:
        training.fit(build(config), train, few, TAGS, settings)
        return len(train)

    def theirs() -> int:
        return recipes.epoch(recipes.raw_network(len(TAGS.classes), TAGS.window_samples), loader, TAGS.window_samples)

    return row("RawCNN 256/256 training", "(b) one .npy per clip, DataLoader, float32", compare(ours, theirs, 3), 2)


def mel_training(loaded: Dataset) -> dict:
    """An epoch of MelCNN as `fit` does it against its plain self: float32, channels first."""
    train, few = loaded.train.select(np.arange(min(512, len(loaded.train)))), loaded.valid.select(np.arange(2))
    config = config_for(NSYNTH, "MelCNN", len(NSYNTH.classes))

    def ours() -> int:
        training.fit(build(config), train, few, NSYNTH, training.Settings(epochs=1))
        return len(train)

    def theirs() -> int:
        order = np.random.default_rng(0).permutation(len(train))
        batches = (order[start : start + 32] for start in range(0, len(order), 32))
        loader = ((torch.from_numpy(train.take(rows)), torch.from_numpy(train.targets[rows])) for rows in batches)
        return recipes.epoch(build(config).to(memory_format=torch.contiguous_format), loader, NSYNTH.window_samples)

    return row("MelCNN training", "the same in plain float32", compare(ours, theirs, 3), 3)
