"""Make report/walkthrough.mp4 from the executed notebooks, the results and report/script.md: at most five minutes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from bundle.video import film

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 15 * 2**20
# In the frame: left, top, width, height
HEADLINE, CONTENT, CAPTION, PANEL = (24, 24, 1488, 64), (24, 88, 1488, 812), (24, 924, 1488, 132), (1536, 24, 360, 746)
SPEAKER = SimpleNamespace(speaker="en-gb-x-rp", words_per_minute=185, pitch=45, pitch_range=55)  # for --voice espeak


def add_arguments(verbs) -> None:
    """Declare `python -m bundle video`."""
    parser = verbs.add_parser("video", help="make the walkthrough film", description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs/latest", help="executed notebooks (runs/latest)")
    parser.add_argument("--out", type=Path, default=ROOT / "report/walkthrough.mp4", help="(report/walkthrough.mp4)")
    parser.add_argument("--face", type=Path, help="your webcam's film, for the corner; without it, a placeholder")
    parser.add_argument("--voice", help="'espeak' speaks the captions; or a recording of you, sound or film")
    parser.add_argument("--script", type=Path, default=ROOT / "report/script.md", help="(report/script.md)")
    parser.add_argument("--results", type=Path, default=ROOT / "report/results", help="(report/results)")
    parser.add_argument("--sheet", type=Path, help="also write a picture of the film's frames here")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Make the film and print what it is; 0 when done, 1 when something is missing or too long."""
    try:
        script, results = options.script, options.results
        facts = make(
            options.out, options.run, script, results, options.face, options.voice, say=partial(print, flush=True)
        )
        if options.sheet:
            film.contact_sheet(options.out, options.sheet)
    except (OSError, ValueError, RuntimeError, ModuleNotFoundError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.out}\n{facts.in_words()}")
    if options.face is None:
        print("The face is missing: film yourself and give --face webcam.mp4.")
    return 0


def has_face(path: Path) -> bool:
    """Whether a walkthrough was made with --face."""
    return film.read_back(path).comment == film.WITH_FACE


def make(
    out: Path,
    run: Path,
    script: Path,
    results: Path,
    face: Path | None = None,
    voice: str | None = None,
    size: tuple[int, int] = (film.WIDTH, film.HEIGHT),
    say: Callable[[str], None] = lambda line: None,
) -> film.Facts:
    """Make a film, which takes its name only when it is what was promised.

    Parameters
    ----------
    out, run, script, results : Path
        The film; a folder of `python -m bundle run`; what is said; where the numbers come from.
    face : Path, optional
    voice : str, optional
        "espeak", or a file with sound.
    size : (width, height)
        Of the film, in pixels.
    say : callable
        Called with a line at each step.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, ValueError, RuntimeError
        If something that is needed is missing, or the film would be too long or too large.
    """
    from bundle.report import facts as report_facts
    from bundle.video import scenes as video_scenes
    from bundle.video import script as video_script

    recording = Path(voice) if voice and voice != "espeak" else None
    for path in filter(None, (face, recording)):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: found no such file, expected a film or recording of you.")
    found = report_facts.read(results)
    facts = video_script.facts_of(found, ROOT / "report/authors.toml")
    title, scenes = video_script.read(script, facts)
    agree(scenes, run, found)
    waves = {}  # at the film's rate, by the scene's index
    shown = [None] * len(scenes)
    for number, scene in enumerate(scenes):
        if scene.kind == "sound":
            shown[number] = video_scenes.clip_of(scene, ROOT, found)
            waves[number] = video_scenes.for_film(shown[number], video_scenes.rate_of(scene))
    recorded = film.read_sound(recording) if recording else np.zeros(0, np.float32)
    spoken = speak([c.text for scene in scenes for c in scene.captions if not c.plays]) if voice == "espeak" else {}
    lengths = {key: len(wave) / film.RATE for key, wave in (waves | spoken).items()}
    total = video_script.set_times(scenes, lengths, len(recorded) / film.RATE)
    say(f"{script.name}: {len(scenes)} scenes, {total:.0f} s; drawing")
    for number, scene in enumerate(scenes):
        if scene.kind == "cells":
            shown[number] = video_scenes.cells(scene, run)
        elif scene.kind == "curves":
            shown[number] = video_scenes.curves(scene, found)
        elif scene.kind == "sound":
            shown[number] = video_scenes.sound(scene, shown[number], found)
    pictures = draw(title, scenes, shown, [video_scenes.body(scene, facts, run, found) for scene in scenes], facts)
    say("encoding")
    sound, captions, chapters, start = np.zeros(round(total * film.RATE), np.float32), [], [], 0.0
    for number, scene in enumerate(scenes):
        if scene.part == len(chapters):
            chapters.append((start, video_script.PARTS[scene.part]))
        if number in waves:
            add(sound, waves[number], start + video_scenes.playing_from(scene))
        for caption in scene.captions:
            captions.append((start, caption.text))
            add(sound, spoken.get(caption.text, recorded[:0]), start + 0.1)
            start += caption.seconds
    add(sound, recorded, 0.0)
    frames = compose(scenes, pictures, total)
    film.encode(out, frames, np.clip(sound, -1, 1), chapters, captions, face, title, size, check)
    return film.read_back(out)


def agree(scenes: list, run: Path, results) -> None:
    """Refuse executed notebooks whose headline score is not the one that the captions quote.

    Raises
    ------
    FileNotFoundError, ValueError
        If the run is missing or shows other scores.
    """
    from bundle.report.facts import load
    from bundle.video.script import named

    if not run.is_dir():
        raise FileNotFoundError(f"{run}: found no run, expected executed notebooks. Make them: python -m bundle run.")
    for name in sorted({scene.target.partition(": ")[0] for scene in scenes if scene.kind == "cells"}):
        task, _, notebook = name.partition("/")
        path = run / task / "results" / f"{notebook}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: found no executed notebook. Make it: python -m bundle run --task {task}.")
        kept = named(named(results.notebooks, task, "task"), notebook, "notebook")
        metric = kept["metrics"][kept["headline"]]
        value = load(path)["metrics"].get(kept["headline"], {"value": np.nan})["value"]
        if not abs(value - metric["value"]) <= metric.get("tolerance", 0.0):
            raise ValueError(
                f"{path}: {kept['headline']} is {value:.3f}, in {results.folder} it is {metric['value']:.3f}: other "
                "weights or data. Run the notebooks again (python -m bundle run), or keep that run's results (--keep)."
            )


def speak(texts: list[str]) -> dict[str, np.ndarray]:
    """Captions spoken by espeak-ng, at the film's rate; what an interval is can be read."""
    from bundle.video.scenes import for_film
    from demo import speech as demo_speech

    aloud = {text: text.replace("95 % interval ", "").replace("–", " to ") for text in texts}
    return {text: for_film(demo_speech.say(SPEAKER, line), demo_speech.SYNTH_RATE) for text, line in aloud.items()}


def add(sound: np.ndarray, wave: np.ndarray, start: float) -> None:
    """Mix a sound in from a moment on; what reaches beyond the end is cut."""
    part = sound[round(start * film.RATE) :][: len(wave)]
    part += wave[: len(part)]


def draw(title: str, scenes: list, shown: list, bodies: list[str], facts: dict[str, str]) -> dict[str, list]:
    """Everything that `compose` puts together: functions of time, headlines, captions, panels by part, the face."""
    from bundle.video.pages import as_html, pieces
    from bundle.video.script import PARTS

    still = [number for number, moving in enumerate(shown) if moving is None]
    for number, picture in zip(
        still, pieces([("body " + scenes[n].kind, bodies[n]) for n in still], *CONTENT[2:]), strict=True
    ):
        shown[number] = lambda moment, picture=picture: picture
    captions = [
        ("caption plays", f"<span>♪ {as_html(caption.text)}</span>")
        if caption.plays
        else ("caption", f"<span>{as_html(caption.text)}</span>")
        for scene in scenes
        for caption in scene.captions
    ]
    panels, who = [], f"{as_html(facts['authors.1.name'])}<br>{as_html(facts['authors.1.number'])}"
    for part in range(len(PARTS)):
        states = ["past"] * part + ["now"] + [""] * len(PARTS)
        listed = "".join(f'<li class="{state}">{name}</li>' for name, state in zip(PARTS, states, strict=False))
        panels.append(("panel", f"<h1>{as_html(title)}</h1><ol>{listed}</ol><p>{who}</p>"))
    return {
        "scenes": shown,
        "headlines": pieces([("headline", as_html(scene.headline)) for scene in scenes], *HEADLINE[2:]),
        "captions": pieces(captions, *CAPTION[2:]),
        "panels": pieces(panels, *PANEL[2:]),
        "face": pieces([("face", "your face here<code>--face webcam.mp4</code>")], *film.FACE[2:]),
    }


def compose(scenes: list, pictures: dict[str, list], total: float) -> Iterator[np.ndarray]:
    """The film's frames, one after the other in the same array; only what changes is pasted anew."""
    frame = np.full((film.HEIGHT, film.WIDTH, 3), 255, np.uint8)

    def paste(picture: np.ndarray, place: tuple[int, int, int, int]) -> None:
        left, top, width, height = place
        frame[top : top + height, left : left + width] = picture

    paste(pictures["face"][0], film.FACE)
    starts = np.cumsum([0.0, *(scene.seconds for scene in scenes)])
    changes = np.cumsum([0.0, *(caption.seconds for scene in scenes for caption in scene.captions)])
    before = (-1, -1, None)
    for moment in np.arange(round(total * film.FPS)) / film.FPS:
        number = min(int(np.searchsorted(starts, moment + 1e-6)), len(scenes)) - 1
        caption = min(int(np.searchsorted(changes, moment + 1e-6)), len(pictures["captions"])) - 1
        picture = pictures["scenes"][number](moment - starts[number])
        if number != before[0]:
            paste(pictures["panels"][scenes[number].part], PANEL)
            paste(pictures["headlines"][number], HEADLINE)
        if caption != before[1]:
            paste(pictures["captions"][caption], CAPTION)
        if picture is not before[2]:
            paste(picture, CONTENT)
        before = (number, caption, picture)
        yield frame


def check(found: film.Facts) -> list[str]:
    """What is wrong with a walkthrough; [] when nothing is."""
    from bundle.video.script import LONGEST, PARTS

    wrong = []
    if (found.video, found.pixels, found.audio) != ("h264", "yuv420p", "aac"):
        wrong.append(f"{found.video} {found.pixels} with {found.audio or 'no sound'}, expected h264 yuv420p with aac")
    if found.seconds > LONGEST + 0.1:
        wrong.append(f"{found.seconds:.1f} s, at most {LONGEST}")
    if found.size > MOST_BYTES:
        wrong.append(f"{found.size / 2**20:.1f} MiB, at most {MOST_BYTES / 2**20:.0f}")
    if [name for _, name in found.chapters] != list(PARTS):
        wrong.append(f"chapters {[name for _, name in found.chapters]}, expected {', '.join(PARTS)}")
    return wrong
