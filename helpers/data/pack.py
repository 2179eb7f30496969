"""Decode once: per split a memory-mapped int16 array at the task's rate, a table of its clips, and an index.

A pack is written under a temporary name and renamed when complete, so one that exists is whole; its digests are
checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers import audio
from helpers.audio import FULL_SCALE
from helpers.data.listing import Item, Listing, Problem
from helpers.files import replacing
from helpers.tasks import Task

SCHEMA = 3  # raise it when the files of a pack change meaning
TEXT = ("names", "groups", "digests")  # columns of the table: memory-mapped too, there may be hundreds of thousands
CHUNK = 128  # recordings decoded at a time: bounds the memory, whatever the size of the data
CHECKED_BYTES = 2**31  # packs up to this size are checked whole when opened, larger ones by a sample of rows


@dataclass(frozen=True)
class Pack:
    """The clips of one split, in memory only as far as they are touched.

    Attributes
    ----------
    waves : ndarray, shape (recordings, samples), int16
        Memory map of all recordings of the packed split.
    rows : ndarray, shape (clips,), int64
        Which recordings belong to this split, in order.
    targets : ndarray
        (clips,) int64 class index, or (clips, classes) float32 of 0 and 1.
    names, groups, digests : ndarray of str, shape (clips,)
        A recording's name, group ("" where unknown) and digest of its samples.
    """

    waves: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    names: np.ndarray
    groups: np.ndarray
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, clips: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Waveforms of the clips at these positions, (clips, samples) float32 in [-1, 1]."""
        rows, held = self.rows[clips], np.asarray(self.waves)
        waves = np.empty((len(rows), held.shape[1]), np.float32)
        for wave, row in zip(waves, rows, strict=True):  # without a copy of the integers
            wave[:] = held[row]
            wave *= np.float32(1 / FULL_SCALE)
        return waves

    def select(self, clips: np.ndarray) -> Pack:
        """The same pack with only these clips; `clips` are positions or a mask."""
        return replace(self, **{name: getattr(self, name)[clips] for name in ("rows", "targets", *TEXT)})


def to_targets(labels: Sequence[Sequence[str]], classes: Sequence[str], multi_label: bool) -> np.ndarray:
    """Label names to a target array: (clips,) int64, or (clips, classes) float32 for several labels per clip."""
    place = {name: index for index, name in enumerate(classes)}
    if not multi_label:
        return np.array([place[names[0]] if names else -1 for names in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, names in enumerate(labels):
        targets[row, [place[name] for name in names]] = 1
    return targets


def read_item(item: Item, task: Task) -> tuple[np.ndarray, str]:
    """Decode one recording to `task.clip_samples` int16 samples, with a word on what was done to it ("" if nothing).

    Raises
    ------
    audio.BadAudio
        If the recording cannot be used.
    """
    wave, rate = audio.decode(item.path, task.rate, item.row)
    done = []
    if rate != task.rate:
        done.append(f"resampled from {rate} Hz")
    if abs(len(wave) - task.clip_samples) > 0.01 * task.clip_samples:  # coded audio is never exact to the sample
        done.append("padded with silence" if len(wave) < task.clip_samples else "cut at the end")
    wave = audio.fit_length(wave, task.clip_samples)
    if audio.peak_of(wave) < audio.SILENCE_PEAK:
        raise audio.BadAudio(f"silent in its first {task.clip_samples / task.rate:g} s")
    return np.rint(wave * FULL_SCALE).astype(np.int16), ", ".join(done)


def digest_rows(rows: np.ndarray) -> list[str]:
    """Digest of each row's bytes, 16 hexadecimal digits."""
    return [hashlib.blake2b(np.ascontiguousarray(row), digest_size=8).hexdigest() for row in rows]


def open_packs(listing: Listing, task: Task, cache: Path) -> tuple[dict[str, Pack], list[Problem], dict[str, int]]:
    """Open the packs of a listing, writing them first where they are missing or damaged.

    Parameters
    ----------
    listing : Listing
    task : Task
    cache : Path
        Folder that holds packs; made when missing.

    Returns
    -------
    packs : dict of str to Pack
        One per split of the listing.
    problems : list of Problem
        Recordings that could not be used.
    changes : dict of str to int
        How many recordings were resampled, padded or cut.
    """
    folder = cache / f"{task.name}-{_key(listing, task)}"
    damaged = folder.is_dir()
    opened = _open(folder, listing, task)
    if opened is None:
        if damaged:  # now, not after writing: by then it may be the whole pack of another run
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
        opened = _open(folder, listing, task, check=False)  # its digests were taken a moment ago
        if opened is None:
            raise OSError(f"{folder}: the pack just written cannot be read back. Check the disk.")
    return opened


def _key(listing: Listing, task: Task) -> str:
    """Name of a pack: changes with the task's form, the files, their sizes and times, and the labels."""
    digest = hashlib.blake2b(f"{SCHEMA} {task.rate} {task.clip_samples} {listing.classes}".encode(), digest_size=8)
    file, state = None, ""
    for split, items in listing.splits.items():
        for item in items:
            if item.file != file:  # the rows of an array share theirs
                file, status = item.file, item.path.stat() if item.path.is_file() else None
                state = f"{status.st_size} {status.st_mtime_ns}" if status else "missing"
            row = f"{split} {item.file} {item.row} {state} {item.labels} {item.group}\n"
            digest.update(row.encode(errors="surrogateescape"))  # a file's name may be no UTF-8
    return digest.hexdigest()


def _write(folder: Path, listing: Listing, task: Task) -> None:
    total = sum(map(len, listing.splits.values()))

    def attempt(item: Item) -> tuple[np.ndarray, str, str] | str:
        try:
            wave, change = read_item(item, task)
        except audio.BadAudio as error:
            return str(error)
        return wave, change, *digest_rows(wave[None])

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc=f"pack {task.name}", unit="clip", disable=None) as progress,
    ):
        for split, items in listing.splits.items():
            index: dict = {"labels": [], "problems": [], "changes": Counter()}
            clips: list[tuple[str, ...]] = []
            with (folder / f"{split}.i16").open("wb") as file:
                for start in range(0, len(items), CHUNK):
                    chunk = items[start : start + CHUNK]
                    for item, result in zip(chunk, pool.map(attempt, chunk), strict=True):
                        progress.update()
                        if isinstance(result, str):
                            index["problems"].append([item.name, result])
                            continue
                        wave, change, digest = result
                        file.write(wave)
                        clips.append((item.name, item.group, digest))
                        index["labels"].append(item.labels)
                        index["changes"].update([change] * bool(change))
            form = [(name, f"U{max([1, *(len(clip[place]) for clip in clips)])}") for place, name in enumerate(TEXT)]
            np.save(folder / f"{split}.npy", np.array(clips, dtype=form))
            text = json.dumps(index)
            digest = _sha256(folder / f"{split}.npy", text)
            (folder / f"{split}.json").write_text(json.dumps({"sha256": digest, "index": text}))


def _sha256(table: Path, text: str) -> str:
    digest = hashlib.sha256(np.memmap(table, mode="r"))
    digest.update(text.encode())
    return digest.hexdigest()


def _open(
    folder: Path, listing: Listing, task: Task, check: bool = True
) -> tuple[dict[str, Pack], list[Problem], dict[str, int]] | None:
    packs, problems, changes = {}, [], Counter()
    for split in listing.splits:
        try:
            stored = json.loads((folder / f"{split}.json").read_text())
            if _sha256(folder / f"{split}.npy", stored["index"]) != stored["sha256"]:
                return None
            index, table = json.loads(stored["index"]), np.load(folder / f"{split}.npy", mmap_mode="r")
            shape = (len(table), task.clip_samples)
            path = folder / f"{split}.i16"  # ValueError when it is shorter or longer
            waves = np.memmap(path, np.int16, "r").reshape(shape) if shape[0] else np.zeros(shape, np.int16)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # missing or damaged: write it again
        rows = np.arange(shape[0] if check else 0)
        if check and waves.nbytes > CHECKED_BYTES:
            rows = np.random.default_rng(0).choice(rows, size=CHECKED_BYTES // waves[0].nbytes, replace=False)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(
                lambda part, waves=waves: digest_rows(waves[part]), np.array_split(rows, 1 + len(rows) // 64)
            )
        if [digest for part in found for digest in part] != table["digests"][rows].tolist():
            return None
        targets = to_targets(index["labels"], listing.classes, task.multi_label)
        packs[split] = Pack(waves, np.arange(shape[0]), targets, *(np.asarray(table[name]) for name in TEXT))
        problems += [Problem(*row) for row in index["problems"]]
        changes.update(index["changes"])
    return packs, problems, changes
