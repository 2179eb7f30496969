"""The walkthrough film: its script, its pictures and its sound put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bundle import results as reader
from bundle.report import authors
from bundle.report.findings import Findings
from bundle.video import film, pages, scenes
from bundle.video.script import PARTS, Scene, read, set_times
from bundle.video.sound import clip_of, for_film, spoken, track


def make(
    out: Path,
    run: Path,
    script: Path,
    results: Path = reader.RESULTS,
    face: Path | None = None,
    voice: str | None = None,
    size: tuple[int, int] = (film.WIDTH, film.HEIGHT),
) -> None:
    """Make a film, which takes its name only when it is complete, and print what is done.

    Parameters
    ----------
    out, run, script, results : Path
        The film; a folder of `python -m bundle run`; what is said; where the numbers come from.
    face : Path, optional
        A film of the speaker.
    voice : str, optional
        "espeak", or a file with sound.
    size : (width, height)
        Of the film, in pixels.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, ValueError, RuntimeError
        If something that is needed is missing, or the film would be too long or too large.
    """
    for path, what in ((run, "executed notebooks: python -m bundle run"), (face, "a film of you")):
        if path and not path.exists():
            raise FileNotFoundError(f"{path}: found nothing there, expected {what}.")
    recorded = film.read_sound(Path(voice)) if voice and voice != "espeak" else np.zeros(0, np.float32)
    kept = reader.read(results)
    found = {task: Findings(kept, folder) for task, folder in kept.main().items()}
    author = authors.read(reader.ROOT / "report/authors.toml")["authors"][0]
    title, told = read(script, found, author)
    captions = [caption for scene in told for caption in scene.captions]
    for scene in told:
        if scene.kind == "sound":
            scene.clip = clip_of(scene.target, found[scene.task].run)
        for caption in scene.captions:
            if caption.plays:
                caption.sound = for_film(scene.clip, found[scene.task].task.rate)
            elif voice == "espeak":
                caption.sound = spoken(caption.text)
    seconds = set_times(told, len(recorded) / film.RATE)
    print(f"{script}: {len(told)} scenes, {seconds:.0f} s; drawing", flush=True)
    stills, moving = [], []
    with pages.chromium() as browser:
        for scene in told:
            of_task = found.get(scene.task)
            picture = scenes.figure(scene, run, of_task) if scene.kind == "figure" else None
            stills += pages.stills(browser, scene, found=of_task, figure=picture, heading=title, author=author)
            if scene.kind == "cells":
                moving.append(scenes.cells(scene, browser, run, of_task))
            else:
                moving.append(scenes.sound(scene, of_task) if scene.kind == "sound" else None)
    print("encoding", flush=True)
    starts = {scene.part: scene.start for scene in reversed(told)}
    chapters = [(starts[part], name) for part, name in enumerate(PARTS)]
    frames, sound = compose(told, stills, moving), track(captions, recorded, seconds)
    film.encode(out, frames, sound, chapters, face, title, size)
    print(f"{out}: {seconds:.0f} s, {out.stat().st_size / 2**20:.1f} MiB")


def compose(told: Sequence[Scene], stills: Sequence[bytes], moving: Sequence) -> Iterator[np.ndarray]:
    """The film's frames: for each caption its still, with what moves pasted into it."""
    left, top, width, height = film.CONTENT
    pictures = iter(stills)
    for scene, frame_at in zip(told, moving, strict=True):
        for caption in scene.captions:
            frame = pages.pixels(next(pictures))
            for count in range(round(caption.start * film.FPS), round(caption.end * film.FPS)):
                if frame_at:
                    moment = max(count / film.FPS - scene.start, 0.0)
                    frame[top : top + height, left : left + width] = frame_at(moment)
                yield frame
