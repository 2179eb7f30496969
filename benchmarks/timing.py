"""Time two ways of doing the same in turns, on one machine in one run, and watch what a process needs."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sized
from contextlib import suppress

import psutil

PAUSE = 0.3  # seconds before a turn: OpenBLAS's threads spin on for a tenth after librosa, and would slow what follows


def seconds_per_clip(work: Callable[[], Sized]) -> float:
    """Wall-clock seconds of one call after a pause, divided by the number of clips in what it returns."""
    time.sleep(PAUSE)
    started = time.perf_counter()
    made = work()
    return (time.perf_counter() - started) / len(made)


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest, and of how many."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "repeats": len(values)}


def compare(ours: Callable[[], Sized], theirs: Callable[[], Sized], repeats: int = 5) -> dict[str, float]:
    """How many times faster `ours` is: after one call of each, the two run in turns, so that a busy moment meets both.

    Both return something as long as the clips they have done.
    """
    ours(), theirs()
    pairs = [(seconds_per_clip(ours), seconds_per_clip(theirs)) for _ in range(repeats)]
    return spread([slow / fast for fast, slow in pairs]) | {
        "ours_ms_per_clip": 1e3 * statistics.median(fast for fast, _ in pairs),
        "theirs_ms_per_clip": 1e3 * statistics.median(slow for _, slow in pairs),
    }


def watched(command: list[str], **options) -> dict[str, float]:
    """Run a process to its end: seconds, and its peak memory in MiB, with and without pages of files.

    Pages of a memory-mapped file count as resident, yet the system takes them back when it needs room; what only the
    process itself can give back is "anonymous".
    """
    started, resident, anonymous = time.perf_counter(), 0, 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, **options)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # it may have ended
            memory = process.memory_info()
            resident, anonymous = max(resident, memory.rss), max(anonymous, memory.rss - memory.shared)
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": seconds, "resident_mib": resident / 2**20, "anonymous_mib": anonymous / 2**20}
