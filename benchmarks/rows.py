"""The rows of the bench: the same work done our way and in a user's usual way, in turns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from helpers.data import Dataset, Pack, pack
from helpers.data.nsynth import read
from helpers.models import build, config_for, window_logits
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
NSYNTH, TAGS, LANGUAGES = (TASKS[name] for name in ("nsynth", "magnatagatune", "languages"))
PREDICT = [sys.executable, "predict.py", "--task", "nsynth"]
BATCH = 64


def row(name: str, against: str, aim: float | None, measured: dict, unit: str = "×") -> dict:
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
        yield row(f"predict.py, {name}", "a clock", aim, spread(took[1:]), "s")


@torch.no_grad()
def decoding(paths: list[Path]) -> dict:
    """(a) Decode and mel per file with librosa in a loop."""
    front = features.MelSpectrogram(NSYNTH.rate, *NSYNTH.mel)

    def ours() -> list[Path]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), BATCH):
                waves = pool.map(lambda path: audio.decode(path, NSYNTH.rate)[0], paths[start : start + BATCH])
                front(torch.from_numpy(np.stack([audio.fit_length(wave, NSYNTH.clip_samples) for wave in waves])))
        return paths

    measured = compare(ours, lambda: [recipes.mel_of_file(path, NSYNTH.rate, *NSYNTH.mel) for path in paths[:BATCH]])
    return row("decode and mel", "(a) librosa, file by file", None, measured)


@torch.no_grad()
def describing(paths: list[Path]) -> list[dict]:
    """The front end, and (d) the features for the SVM, from waveforms in memory."""
    front, waves, mel = features.MelSpectrogram(NSYNTH.rate, *NSYNTH.mel), decoded(paths), (NSYNTH.rate, *NSYNTH.mel)
    front_end = compare(
        lambda: front(torch.from_numpy(waves)),
        lambda: [np.log(1e-6 + recipes.mel_power(wave, *mel)) for wave in waves],
    )
    mean_pooled = compare(
        lambda: features.pooled(waves, NSYNTH),
        lambda: [librosa.power_to_db(recipes.mel_power(wave, *mel)).mean(axis=1) for wave in waves],
    )
    seventy_five = compare(
        lambda: features.pooled(waves, NSYNTH),
        lambda: [recipes.features_75(wave, NSYNTH.rate) for wave in waves[: BATCH // 4]],
    )
    return [
        row("front end alone", "librosa, clip by clip", 2, front_end),
        row("pooled features", "mean-pooled librosa log-mel", 2, mean_pooled),
        row("pooled features", "(d) 75 librosa features", 20, seventy_five),
    ]


@torch.no_grad()
def predicting(paths: list[Path], folder: Path) -> list[dict]:
    """(c) The whole process of predict.py, and how near it comes to its network's own speed."""
    command = [*PREDICT, "--data", str(paths[0].parent), "--out", str(folder / "predictions.csv")]
    model = weights.load(ROOT / "weights" / "nsynth-demo", "mel_cnn", NSYNTH)[0].eval()
    usual, waves = recipes.short_chunk(len(NSYNTH.classes)).eval(), decoded(paths[:512])

    def ours() -> list[Path]:
        watched(command, cwd=ROOT)
        return paths

    def theirs() -> list[torch.Tensor]:
        mels = (recipes.mel_of_file(path, NSYNTH.rate, 512, 256, 128) for path in paths[:BATCH])
        return [usual(torch.from_numpy(mel)[None]) for mel in mels]

    def forward() -> torch.Tensor:
        starts = range(0, len(waves), inference.BATCH)
        return torch.cat([window_logits(model, waves[start : start + inference.BATCH], NSYNTH) for start in starts])

    name = "predict, whole process"
    return [
        row(name, "(c) short-chunk CNN on librosa mels, batch 1", 15, compare(ours, theirs, 3)),
        row(name, "its own network's forward pass", 0.6, compare(ours, forward, 3)),
    ]


@torch.no_grad()
def small_networks() -> list[dict]:
    """(e) Our mel network against the four-layer MFCC network, forward passes one at a time and in batches."""
    ours = build(config_for(LANGUAGES, "MelCNN", len(LANGUAGES.classes))).eval()
    theirs = recipes.MfccCNN(len(LANGUAGES.classes), LANGUAGES.rate).eval()
    waves = torch.randn(BATCH, LANGUAGES.clip_samples, generator=torch.Generator().manual_seed(0)) * 0.1

    def passes(model: torch.nn.Module, batch: int) -> torch.Tensor:
        return torch.cat([model(part) for part in waves.split(batch)])

    measured = {batch: compare(partial(passes, ours, batch), partial(passes, theirs, batch)) for batch in (1, BATCH)}
    return [
        row(f"mel network, batch {batch}", "(e) four-layer MFCC network", None, measured[batch]) for batch in measured
    ]


def packing(paths: list[Path], folder: Path) -> dict:
    """The first pack of WAVs against merely reading them with soundfile on all cores."""
    cache, listing = folder / "cache", read(paths[0].parent)

    def ours() -> list[Path]:
        shutil.rmtree(cache, ignore_errors=True)
        pack.open_packs(listing, NSYNTH, cache)
        return paths

    def theirs() -> list[float]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda path: soundfile.read(path, dtype="float32")[0].sum(), paths))

    return row("first pack of WAVs", "only reading them with soundfile", 0.7, compare(ours, theirs, 3))


def raw_training(loaded: Dataset, folder: Path) -> dict:
    """(b) An epoch of RawCNN 256/256 from the pack against one .npy per clip through a DataLoader."""
    train, files = loaded.train, [folder / "npy" / f"{clip}.npy" for clip in range(len(loaded.train))]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for clip, path in enumerate(files):
        np.save(path, train.take([clip])[0])
    loader = DataLoader(recipes.Files(files, train.targets), 8, shuffle=True, num_workers=os.cpu_count() or 0)

    def theirs() -> Pack:
        recipes.epoch(recipes.raw_network(len(TAGS.classes), TAGS.window_samples), loader, TAGS.window_samples)
        return train

    measured = epochs(loaded, train, "RawCNN", 8, theirs)
    return row("RawCNN 256/256 training", "(b) one .npy per clip, DataLoader, float32", 2, measured)


def mel_training(loaded: Dataset) -> dict:
    """An epoch of MelCNN as `fit` does it against its plain self: float32, channels first."""
    train = loaded.train.select(np.arange(min(512, len(loaded.train))))

    def theirs() -> Pack:
        order = np.random.default_rng(0).permutation(len(train))
        batches = (order[start : start + 32] for start in range(0, len(order), 32))
        loader = ((torch.from_numpy(train.take(rows)), torch.from_numpy(train.targets[rows])) for rows in batches)
        model = build(config_for(NSYNTH, "MelCNN", len(NSYNTH.classes))).to(memory_format=torch.contiguous_format)
        recipes.epoch(model, loader, NSYNTH.window_samples)
        return train

    return row("MelCNN training", "the same in plain float32", 3, epochs(loaded, train, "MelCNN", 32, theirs))


def epochs(loaded: Dataset, train: Pack, network: str, batch: int, theirs: Callable[[], Pack]) -> dict:
    """Time a network's epoch on `train` as the notebooks do it, next to no validation with it, against a plain one."""
    config, few = config_for(loaded.task, network, len(loaded.classes)), loaded.valid.select(np.arange(2))

    def ours() -> Pack:
        training.fit(build(config), train, few, loaded.task, training.Settings(epochs=1, batch=batch))
        return train

    return compare(ours, theirs, 3)
