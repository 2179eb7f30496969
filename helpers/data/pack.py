"""Decode once: per split a memory-mapped int16 array at the task's rate, and an index of its clips.

A pack is written under a temporary name and renamed when complete, so one that exists is whole; its digests are
checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers import audio
from helpers.audio import FULL_SCALE
from helpers.data.listing import Item, Listing, Problem
from helpers.files import replacing
from helpers.tasks import Task

SCHEMA = 4  # raise it when the files of a pack change meaning
TEXT = ("names", "groups", "digests")
CHECKED_BYTES = 2**31  # packs up to this size are checked whole when opened, larger ones by a sample of rows


@dataclass(frozen=True)
class Pack:
    """The clips of one split, in memory only as far as they are touched."""

    waves: np.ndarray  # (recordings, samples) int16, a memory map of all recordings of the packed split
    rows: np.ndarray  # (clips,) int64, which recordings belong to this split, in order
    targets: np.ndarray  # (clips,) int64 class index, or (clips, classes) float32 of 0 and 1
    names: np.ndarray  # (clips,) str
    groups: np.ndarray  # (clips,) str, "" where unknown
    digests: np.ndarray  # (clips,) str, of the samples

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, clips: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Waveforms of the clips at these positions, (clips, samples) float32 in [-1, 1]."""
        return np.asarray(self.waves)[self.rows[clips]] * np.float32(1 / FULL_SCALE)

    def select(self, clips: np.ndarray) -> Pack:
        """The same pack with only these clips; `clips` are positions or a mask."""
        return replace(self, **{name: getattr(self, name)[clips] for name in ("rows", "targets", *TEXT)})


def to_targets(labels: Sequence[Sequence[str]], classes: Sequence[str], multi_label: bool) -> np.ndarray:
    """Label names to a target array: (clips,) int64, or (clips, classes) float32 for several labels per clip."""
    if not multi_label:
        return np.array([classes.index(names[0]) if names else -1 for names in labels], dtype=np.int64)
    return np.array([[name in names for name in classes] for names in labels], np.float32).reshape(-1, len(classes))


def read_all(
    items: Iterable[Item], read: Callable[[Item], object], problems: list[Problem]
) -> Iterator[tuple[Item, object]]:
    """Read recordings in parallel, a few ahead of the caller, and yield each with what `read` makes of it, in order.

    Those that raise `audio.BadAudio` are appended to `problems`.
    """
    items, ahead, workers = iter(items), deque(), os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        while True:
            ahead.extend((item, pool.submit(read, item)) for item in islice(items, 2 * workers - len(ahead)))
            if not ahead:
                return
            item, reading = ahead.popleft()
            try:
                found = reading.result()
            except audio.BadAudio as error:
                problems.append(Problem(item.name, str(error)))
            else:
                yield item, found


def read_item(item: Item, task: Task) -> tuple[np.ndarray, str, str]:
    """Decode a recording to `task.clip_samples` int16 samples; their digest, and what was done to it ("" if nothing).

    Raises
    ------
    audio.BadAudio
        If the recording cannot be used.
    """
    slack = task.clip_samples // 100  # coded audio is never exact to the sample
    wave, rate = audio.decode(item.file, task.rate, item.row, task.clip_samples + 2 * slack)
    done = [f"resampled from {rate} Hz"] * (rate != task.rate)
    if abs(len(wave) - task.clip_samples) > slack:
        done.append("padded with silence" if len(wave) < task.clip_samples else "cut at the end")
    wave = audio.fit_length(wave, task.clip_samples)
    if audio.is_silent(wave):
        raise audio.BadAudio(f"silent in its first {task.clip_samples / task.rate:g} s")
    samples = np.rint(wave * FULL_SCALE).astype(np.int16)
    return samples, *digest_rows([samples]), ", ".join(done)


def digest_rows(rows: Iterable[np.ndarray]) -> list[str]:
    """Digest of each row's bytes, 16 hexadecimal digits."""
    return [hashlib.blake2b(row, digest_size=8).hexdigest() for row in rows]


def open_packs(listing: Listing, task: Task, cache: Path) -> tuple[dict[str, Pack], list[Problem], dict[str, int]]:
    """Open the packs of a listing in a folder `cache`, writing them first where they are missing or damaged.

    Returns the packs by split, the recordings that could not be used, and how many were resampled, padded or cut.
    """
    folder = cache / f"{task.name}-{_key(listing, task)}"
    there = folder.is_dir()
    if (opened := _open(folder, listing, task)) is not None:
        return opened
    if there:  # damaged; removed now, for after writing it may be the whole pack of another run
        shutil.rmtree(folder, ignore_errors=True)
    try:
        with replacing(folder) as fresh:
            fresh.mkdir()
            _write(fresh, listing, task)
    except OSError as error:
        size = 2 * task.clip_samples * sum(map(len, listing.splits.values())) / 2**20
        raise OSError(
            error.errno,
            f"{cache}: the decoded recordings cannot be kept ({error.strerror}), expected a folder with room for "
            f"{size:,.0f} MiB. Make room, or use a copy of the bundle in a place that can be written",
        ) from error
    if (opened := _open(folder, listing, task, check=False)) is None:  # its digests were taken a moment ago
        raise OSError(f"{folder}: the pack just written cannot be read back. Check the disk.")
    return opened


def _key(listing: Listing, task: Task) -> str:
    """Name of a pack: changes with the task's form, the files, their sizes and times, and the labels."""
    digest = hashlib.blake2b(f"{SCHEMA} {task.rate} {task.clip_samples} {listing.classes}".encode(), digest_size=8)
    file, state = None, ""
    for split, items in listing.splits.items():
        for item in items:
            if item.file != file:  # the rows of an array share theirs
                file, status = item.file, os.stat(item.file) if os.path.isfile(item.file) else None
                state = f"{status.st_size} {status.st_mtime_ns}" if status else "missing"
            row = f"{split} {item.file} {item.row} {state} {item.labels} {item.group}\n"
            digest.update(row.encode(errors="surrogateescape"))  # a file's name may be no UTF-8
    return digest.hexdigest()


def _write(folder: Path, listing: Listing, task: Task) -> None:
    for split, items in listing.splits.items():
        clips, changes, problems = [], Counter(), []
        shown = tqdm(items, f"pack {task.name}", unit="clip", disable=None)
        with (folder / f"{split}.i16").open("wb") as file:
            for item, (samples, digest, change) in read_all(shown, lambda item: read_item(item, task), problems):
                file.write(samples)
                clips.append((item.name, item.group, digest, item.labels))
                changes.update([change] * bool(change))
        left = [(problem.name, problem.reason) for problem in problems]
        text = json.dumps({"clips": clips, "problems": left, "changes": changes})
        (folder / f"{split}.json").write_text(hashlib.sha256(text.encode()).hexdigest() + "\n" + text, encoding="utf-8")


def _open(
    folder: Path, listing: Listing, task: Task, check: bool = True
) -> tuple[dict[str, Pack], list[Problem], dict[str, int]] | None:
    packs, problems, changes = {}, [], Counter()
    for split in listing.splits:
        try:
            digest, text = (folder / f"{split}.json").read_text(encoding="utf-8").split("\n", 1)
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                return None
            index = json.loads(text)
            names, groups, digests, labels = zip(*index["clips"], strict=True) if index["clips"] else [()] * 4
            shape = (len(names), task.clip_samples)  # ValueError below when the file is shorter or longer
            waves = np.memmap(folder / f"{split}.i16", np.int16, "r").reshape(shape) if names else np.zeros(shape, "i2")
        except (OSError, ValueError):
            return None  # missing or damaged: write it again
        rows = np.arange(len(names) if check else 0)
        if check and waves.nbytes > CHECKED_BYTES:
            rows = np.random.default_rng(0).choice(rows, size=CHECKED_BYTES // waves[0].nbytes, replace=False)
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda row, waves=waves: digest_rows(waves[row : row + 1])[0], rows)
            if list(found) != [digests[row] for row in rows]:
                return None
        texts = (np.array(column, dtype=str) for column in (names, groups, digests))
        targets = to_targets(labels, listing.classes, task.multi_label)
        packs[split] = Pack(waves, np.arange(len(names)), targets, *texts)
        problems += [Problem(*row) for row in index["problems"]]
        changes.update(index["changes"])
    return packs, problems, changes
