"""Read the film's script: six parts of scenes with captions, whose figures and words come from the results."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bundle.report.findings import Findings
from bundle.report.templates import printed, render
from bundle.video.film import RATE

PARTS = ("Introduction", "Walkthrough", "Model explanation", "Training revelation", "Test and evaluation", "Conclusion")
KINDS = ("card", "cells", "figure", "sound", "table")
LONGEST = 300  # seconds, of the film
READING = 15  # characters a viewer reads in a second
SHORTEST = 2.0  # seconds a caption stays
PAUSE = 0.2  # seconds between a caption's sound and the next's


@dataclass
class Caption:
    """One caption, what is heard meanwhile (at the film's rate), and when it appears and how long it stands."""

    text: str
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    start: float = 0.0  # seconds
    seconds: float = 0.0


@dataclass
class Scene:
    """What is on the screen while its captions stand."""

    part: int  # index in PARTS
    kind: str  # one of KINDS
    task: str  # "" on a card
    target: str  # what the line names beside the task
    headline: str
    points: list[str] = field(default_factory=list)  # shown on a card
    captions: list[Caption] = field(default_factory=list)

    @property
    def start(self) -> float:
        """When it begins."""
        return self.captions[0].start

    @property
    def seconds(self) -> float:
        """Its length."""
        return sum(caption.seconds for caption in self.captions)


def read(path: Path, found: dict[str, Findings], author: dict) -> tuple[str, list[Scene]]:
    """The film's title and scenes; text before the first part is for whoever writes it.

    Parameters
    ----------
    path : Path
        A jinja2 template of Markdown: `# title`, `## part`, and scenes. A scene is a line `[kind task/target]
        headline`, lines `- point` for the screen, and one line per caption.
    found : dict
        By task, as its expressions name them.
    author : dict
        Who speaks, in the same way.

    Raises
    ------
    FileNotFoundError, ValueError
        If the script is missing, or a line is not what is expected; the message has its number.
    """
    title, parts, scenes = "", [], []
    for number, line in enumerate(render(path, printed, {}, **found, author=author).splitlines(), 1):
        line = line.strip()
        if line.startswith("# "):
            title = line[2:]
        elif line.startswith("## "):
            parts.append(line[3:])
        elif not parts or not line:
            continue
        elif scene := re.fullmatch(r"\[(\w+) ?([^\]/]*)/?([^\]]*)\] ?(.*)", line):
            among(KINDS, scene[1], f"{path}, line {number}: scene")
            among(("", *found), scene[2], f"{path}, line {number}: task")
            scenes.append(Scene(len(parts) - 1, *scene.groups()))
        elif not scenes or scenes[-1].part != len(parts) - 1:
            raise ValueError(f"{path}, line {number}: found {line[:40]!r} before any scene, expected such as [card].")
        elif line.startswith("- "):
            scenes[-1].points.append(line[2:])
        else:
            scenes[-1].captions.append(Caption(line))
    if tuple(parts) != PARTS or {scene.part for scene in scenes} != set(range(len(PARTS))):
        raise ValueError(
            f"{path}: found the parts {', '.join(parts)} with {len(scenes)} scenes; expected {', '.join(PARTS)}, in "
            "this order, each with a scene."
        )
    for scene in scenes:
        if not scene.captions:
            raise ValueError(f"{path}: scene {scene.headline!r} has no caption: write a line beneath it.")
    return title, scenes


def among(known: Collection[str], name: str, what: str) -> str:
    """A name that the script gives; a ValueError that lists what is known when it is not."""
    if name not in known:
        raise ValueError(f"{what} {name!r}: not found, expected one of {', '.join(filter(None, known))}.")
    return name


def set_times(scenes: list[Scene], least: float) -> float:
    """Give every caption its seconds, for reading and for its sound, and return the film's.

    `least` are the seconds of a recorded voice, which may need more than the captions do.

    Raises
    ------
    ValueError
        If the film gets too long; the message says by which part.
    """
    captions = [caption for scene in scenes for caption in scene.captions]
    for caption in captions:
        heard = len(caption.sound) / RATE + 2 * PAUSE
        caption.seconds = max(SHORTEST, len(caption.text) / READING, heard)
    slower, moment = max(least / sum(scene.seconds for scene in scenes), 1.0), 0.0
    for caption in captions:
        caption.start, caption.seconds = moment, caption.seconds * slower
        moment += caption.seconds
    if moment > LONGEST:
        parts = [sum(scene.seconds for scene in scenes if scene.part == index) for index in range(len(PARTS))]
        raise ValueError(
            f"The film would last {moment:.0f} s, at most {LONGEST} s are allowed. The longest part is "
            f"'{PARTS[int(np.argmax(parts))]}', {max(parts):.0f} s: shorten its captions in the script."
        )
    return moment
