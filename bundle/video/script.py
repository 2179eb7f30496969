"""Read the film's script: six parts of scenes with captions, whose numbers and words come from the results."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("Introduction", "Walkthrough", "Model explanation", "Training revelation", "Test and evaluation", "Conclusion")
KINDS = ("card", "cells", "figure", "curves", "sound", "table")
LONGEST = 300  # seconds, of the film
READING = 15  # characters a viewer reads in a second
SHORTEST = 2.0  # seconds a caption stays
PLAYS = "♪"  # begins a caption during which the scene's clip is heard
PLACE = re.compile(r"\{([^{}|]+)((?:\|[^{}|]*)*)\}")


@dataclass
class Caption:
    """One caption and how long it stands."""

    text: str
    plays: bool = False
    seconds: float = 0.0


@dataclass
class Scene:
    """What is on the screen while its captions stand."""

    part: int  # index in PARTS
    kind: str  # one of KINDS
    target: str  # what the directive names
    headline: str
    points: list[str] = field(default_factory=list)  # shown on a card
    captions: list[Caption] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Its length, once the captions are timed."""
        return sum(caption.seconds for caption in self.captions)


def read(path: Path, facts: dict[str, str]) -> tuple[str, list[Scene]]:
    """The film's title and scenes; text before the first part is for whoever writes it.

    Parameters
    ----------
    path : Path
        Markdown: `# title`, `## part`, and scenes. A scene is a line `[kind target] headline`, lines `- point` for the
        screen, and one line per caption.
    facts : dict
        What `{key}` stands for.

    Raises
    ------
    FileNotFoundError, ValueError
        If the script is missing, or a line is not what is expected; the message has its number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no script, expected Markdown with the parts {', '.join(PARTS)}.")
    title, parts, scenes = "", [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where, line = f"{path.name}, line {number}", line.strip()
        if line.startswith("# "):
            title = fill(line[2:], facts, where)
        elif line.startswith("## "):
            parts.append(line[3:])
        elif not parts or not line:
            continue
        elif scene := re.fullmatch(r"\[(\w+) ?([^\]]*)\] ?(.*)", line):
            kind, target, headline = scene.groups()
            if kind not in KINDS:
                raise ValueError(f"{where}: found a scene [{kind}], expected one of {', '.join(KINDS)}.")
            scenes.append(Scene(len(parts) - 1, kind, fill(target, facts, where), fill(headline, facts, where)))
        elif not scenes or scenes[-1].part != len(parts) - 1:
            raise ValueError(f"{where}: found {line[:40]!r} before any scene, expected a line such as [card].")
        elif line.startswith("- "):
            scenes[-1].points.append(fill(line[2:], facts, where))
        else:
            text = fill(line.removeprefix(PLAYS).strip(), facts, where)
            scenes[-1].captions.append(Caption(text, line.startswith(PLAYS)))
    if tuple(parts) != PARTS:
        raise ValueError(
            f"{path}: found the parts {', '.join(parts) or 'none'}; expected {', '.join(PARTS)}, in order."
        )
    for scene in scenes:
        heard = sum(caption.plays for caption in scene.captions)
        if not scene.captions or heard != (scene.kind == "sound"):
            raise ValueError(
                f"{path}: [{scene.kind} {scene.target}] in '{PARTS[scene.part]}' has {len(scene.captions)} captions, "
                f"{heard} of them with {PLAYS}; expected one or more, and one {PLAYS} in a [sound], none elsewhere."
            )
    empty = [name for index, name in enumerate(PARTS) if index not in {scene.part for scene in scenes}]
    if empty:
        raise ValueError(f"{path}: found no scene in {', '.join(empty)}, expected at least one in each part.")
    return title, scenes


def facts_of(results, authors: Path) -> dict[str, str]:
    """Everything the script may quote: what the reports quote, who hands in, and the mel networks' front end."""
    from bundle.report import authors as report_authors
    from bundle.report import facts as report_facts
    from helpers.tasks import TASKS

    found = report_facts.facts(results) | report_authors.facts(report_authors.read(authors))
    for name, task in TASKS.items():
        found |= {
            f"{name}.mel.{word}": str(value) for word, value in zip(("frame", "hop", "bands"), task.mel, strict=True)
        }
    return found


def named(content: dict, name: str, what: str):
    """What the script names out of `content`.

    Raises
    ------
    ValueError
        If there is no such thing; the message says what there is.
    """
    if name not in content:
        raise ValueError(f"The film's script names {what} {name!r}; the results have {', '.join(content) or 'none'}.")
    return content[name]


def fill(text: str, facts: dict[str, str], where: str) -> str:
    """Replace {key} by its fact, and {key|more|less|unclear} by the word that the difference's interval allows.

    Raises
    ------
    ValueError
        If a key is unknown, or a choice has not three words.
    """

    def replace(place: re.Match) -> str:
        key, words = place[1].strip(), place[2].split("|")[1:]
        wanted = f"{key}.sign" if words else key
        if wanted not in facts:
            near = ", ".join(difflib.get_close_matches(wanted, facts, 3, 0.5)) or "none"
            raise ValueError(f"{where}: {{{key}}}: there is no fact '{wanted}' in the results. Alike: {near}.")
        if not words:
            return facts[key]
        if len(words) != 3 or facts[wanted] not in ("more", "less", "unclear"):
            raise ValueError(
                f"{where}: found {place[0]!r} with {wanted} = {facts[wanted]!r}, expected a difference and three "
                "words: {difference|when more|when less|when unclear}."
            )
        return words[("more", "less", "unclear").index(facts[wanted])].strip()

    return PLACE.sub(replace, text)


def set_times(scenes: list[Scene], heard: dict[int | str, float], least: float = 0.0) -> float:
    """Give every caption its seconds, for reading and for what is heard, and return the film's.

    Parameters
    ----------
    scenes : list of Scene
    heard : dict
        Seconds of the clip of a [sound], by the scene's index, and of spoken captions, by their text.
    least : float
        Seconds of the whole film, where a recorded voice needs more than the captions do.

    Raises
    ------
    ValueError
        If the film gets too long; the message says by which part.
    """
    for index, scene in enumerate(scenes):
        for caption in scene.captions:
            sound = heard[index] + 0.8 if caption.plays else heard.get(caption.text, 0.0) + 0.4
            caption.seconds = max(SHORTEST, len(caption.text) / READING, sound)
    total = sum(scene.seconds for scene in scenes)
    slower = max(least / total, 1.0)
    for caption in (caption for scene in scenes for caption in scene.captions):
        caption.seconds *= slower
    if total * slower > LONGEST:
        parts = [sum(scene.seconds for scene in scenes if scene.part == index) for index in range(len(PARTS))]
        listed = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in zip(PARTS, parts, strict=True))
        raise ValueError(
            f"The film would last {total * slower:.0f} s, at most {LONGEST} s are allowed: {listed}. The longest part "
            f"is '{PARTS[parts.index(max(parts))]}': shorten its captions in the script."
        )
    return total * slower
