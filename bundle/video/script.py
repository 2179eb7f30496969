"""Read the film's script: six parts of scenes with captions, whose figures and words come from the results."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np

from bundle.report.findings import Findings
from bundle.report.templates import FILTERS, KNOWN
from bundle.video.film import RATE

PARTS = ("Introduction", "Walkthrough", "Model explanation", "Training revelation", "Test and evaluation", "Conclusion")
KINDS = ("card", "cells", "figure", "sound", "table")
LONGEST = 300  # seconds, of the film
READING = 15  # characters a viewer reads in a second
SHORTEST = 2.0  # seconds a caption stays
PLAYS = "♪"  # begins a caption during which the scene's clip is heard


@dataclass
class Caption:
    """One caption, when it appears in the film, and how long it stands."""

    text: str
    plays: bool = False  # the scene's clip is heard, no voice
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # at the film's rate
    start: float = 0.0  # seconds
    seconds: float = 0.0

    @property
    def end(self) -> float:
        """When the next one appears."""
        return self.start + self.seconds

    @property
    def heard_from(self) -> float:
        """When its sound begins."""
        return self.start + (0.3 if self.plays else 0.1)


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
    clip: np.ndarray | None = None  # of a [sound]: (samples,) at the task's rate

    @property
    def start(self) -> float:
        """When it begins."""
        return self.captions[0].start

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.captions[-1].end - self.start


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
    for number, line in enumerate(fill(path, {**found, "author": author}).splitlines(), 1):
        where, line = f"{path}, line {number}", line.strip()
        if line.startswith("# "):
            title = line[2:]
        elif line.startswith("## "):
            parts.append(line[3:])
        elif not parts or not line:
            continue
        elif scene := re.fullmatch(r"\[(\w+) ?([^\]/]*)/?([^\]]*)\] ?(.*)", line):
            kind, task, *_ = scene.groups()
            among(KINDS, kind, f"{where}: scene")
            among(("", *found), task, f"{where}: task")
            scenes.append(Scene(len(parts) - 1, *scene.groups()))
        elif not scenes or scenes[-1].part != len(parts) - 1:
            raise ValueError(f"{where}: found {line[:40]!r} before any scene, expected a line such as [card].")
        elif line.startswith("- "):
            scenes[-1].points.append(line[2:])
        else:
            scenes[-1].captions.append(Caption(line.removeprefix(PLAYS).strip(), line.startswith(PLAYS)))
    if tuple(parts) != PARTS or {scene.part for scene in scenes} != set(range(len(PARTS))):
        raise ValueError(
            f"{path}: found the parts {', '.join(parts)} with {len(scenes)} scenes; expected {', '.join(PARTS)}, in "
            "this order, each with a scene."
        )
    for scene in scenes:
        heard = sum(caption.plays for caption in scene.captions)
        if not scene.captions or heard != (scene.kind == "sound"):
            raise ValueError(
                f"{path}: {scene.headline!r} has {len(scene.captions)} captions, {heard} of them with {PLAYS}; "
                f"expected at least one, and one {PLAYS} in a [sound], none elsewhere."
            )
    return title, scenes


def fill(path: Path, known: dict) -> str:
    """The script's text with its expressions evaluated; its lines keep their numbers.

    Raises
    ------
    ValueError
        If an expression is wrong, or names what is not there.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=printed)
    environment.filters |= FILTERS
    environment.globals |= KNOWN
    try:
        return environment.from_string(path.read_text(encoding="utf-8")).render(known)
    except jinja2.TemplateSyntaxError as error:
        line, wrong = error.lineno, error
    except (jinja2.UndefinedError, KeyError) as error:
        steps = traceback.extract_tb(error.__traceback__)
        line, wrong = [step.lineno for step in steps if step.filename == "<template>"][-1], error
    raise ValueError(f"{path}, line {line}: {wrong}. Mend the script, or make these results.") from wrong


def printed(value):
    """What stands in the script for a value: a fraction has three decimals, and there must be one."""
    if value is None:
        raise jinja2.UndefinedError("None is to be printed")
    return f"{value:.3f}" if isinstance(value, float) else value


def among(known, name: str, what: str) -> str:
    """A name that the script gives.

    Raises
    ------
    ValueError
        If it is not known; the message says what is.
    """
    if name not in known:
        raise ValueError(f"{what} {name!r}: not found, expected one of {', '.join(filter(None, known))}.")
    return name


def set_times(scenes: list[Scene], least: float = 0.0) -> float:
    """Give every caption its seconds, for reading and for its sound, and return the film's.

    `least` are the seconds of a recorded voice, which may need more than the captions do.

    Raises
    ------
    ValueError
        If the film gets too long; the message says by which part.
    """
    captions = [caption for scene in scenes for caption in scene.captions]
    for caption in captions:
        sound = len(caption.sound) / RATE + (0.8 if caption.plays else 0.4)
        caption.seconds = max(SHORTEST, len(caption.text) / READING, sound)
    slower, moment = max(least / sum(caption.seconds for caption in captions), 1.0), 0.0
    for caption in captions:
        caption.start, caption.seconds = moment, caption.seconds * slower
        moment = caption.end
    if moment > LONGEST:
        parts = [sum(scene.seconds for scene in scenes if scene.part == index) for index in range(len(PARTS))]
        raise ValueError(
            f"The film would last {moment:.0f} s, at most {LONGEST} s are allowed. The longest part is "
            f"'{PARTS[int(np.argmax(parts))]}', {max(parts):.0f} s: shorten its captions in the script."
        )
    return moment
