"""Render a stand-in for each task's data in the task's published layout. Rendered demo data, not recordings.

The same seed and scale give the same bytes on every machine; the digest of the default sets is known here.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from secrets import token_hex

from tqdm.auto import tqdm

RENDERERS = {"nsynth": "notes", "magnatagatune": "music", "languages": "speech"}
DIGESTS = {  # of seed 0 at scale 1, by task
    "nsynth": "b9a970e14a30d8e052d7f03038af35ff15571be4e6ed13b1fd500e60d9e00ba1",
    "magnatagatune": "aca01689be7db0dca4fc1a520a23ee54df8018f9bd341cad34ef83888ad731e8",
    "languages": "39b69bfaaf02f389f5e584efa93d41f9be5b202cbdcccd07a0c31ec4776e11f7",
}


def ensure(task: str, folder: Path, scale: float | None = None, seed: int = 0) -> Path:
    """Return the folder with a task's rendered demo data, rendering them first when they are not there.

    Parameters
    ----------
    task : str
        Name of the task.
    folder : Path
        Where demo data live; the task's data are in `folder`/<task>.
    scale : float, optional
        Multiplies the number of files; 1 gives about 3,000 notes, 1,800 speech clips, 360 pieces. None takes what is
        there, whatever its scale, and else 1.
    seed : int
        Of all that is drawn at random.

    Returns
    -------
    Path
        Ready for the task's reader.

    Raises
    ------
    ModuleNotFoundError
        If a renderer is not installed; the message says how to install it.
    ValueError
        If the scale is not positive.
    """
    target, record = folder / task, folder / f"{task}.json"
    if target.is_dir() and record.is_file():
        found = json.loads(record.read_text(encoding="utf-8"))
        if found["seed"] == seed and scale in (None, found["scale"]):
            return target
    scale = 1.0 if scale is None else scale
    if not 0 < scale <= 1000:
        raise ValueError(f"scale: found {scale}, expected a positive number of at most 1000.")
    renderer = importlib.import_module(f"demo.{RENDERERS[task]}")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{task}.{re.sub('[^A-Za-z0-9]+', '-', platform.node())}-{os.getpid()}-{token_hex(4)}"
    fresh.mkdir()
    try:
        with tqdm(total=len(renderer.plan(scale, seed)), desc=f"render {task}", unit="file", disable=None) as progress:
            renderer.render(fresh, scale, seed, lambda finished: progress.update(finished - progress.n))
        digest = digest_folder(fresh)
        if (scale, seed) == (1.0, 0) and digest != DIGESTS[task]:
            warnings.warn(
                f"rendered {task}: digest {digest[:12]}, expected {DIGESTS[task][:12]}. The renderers on this machine "
                "differ from those the committed weights were trained with; figures may differ slightly.",
                stacklevel=2,
            )
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(fresh, target)
        except OSError:  # another run finished first
            if not target.is_dir():
                raise
        temporary = record.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"seed": seed, "scale": scale, "sha256": digest}) + "\n", encoding="utf-8")
        os.replace(temporary, record)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def in_processes(function: Callable, rows: Sequence, chunk: int, progress: Callable[[int], None] | None) -> None:
    """Call `function` on every row over all cores, `chunk` rows at a time; `progress` gets the number finished."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"  # spawn is slower
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context(method), end_with_parent) as pool:
        for finished, _ in enumerate(pool.map(function, rows, chunksize=chunk), 1):
            if progress:
                progress(finished)


def end_with_parent() -> None:
    """Begin a worker that ends when the process that started it is killed, instead of working or waiting on."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: parent.join() or os._exit(1), daemon=True).start()


def digest_folder(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files under `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
