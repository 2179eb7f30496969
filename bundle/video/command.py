"""Make report/walkthrough.mp4 from the executed notebooks, the results and report/script.md: at most five minutes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from bundle import results
from bundle.report import authors
from bundle.report.findings import Findings
from bundle.results import ROOT
from bundle.video import film, pages
from bundle.video.script import PARTS, read, set_times
from bundle.video.sound import clip_of, spoken, track


def add_arguments(verbs) -> None:
    """Declare `python -m bundle video`."""
    parser = verbs.add_parser("video", help="make the walkthrough film", description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs/latest", help="executed notebooks (runs/latest)")
    parser.add_argument("--out", type=Path, default=ROOT / "report/walkthrough.mp4", help="(report/walkthrough.mp4)")
    parser.add_argument("--face", type=Path, help="your webcam's film, for the corner; without it, a placeholder")
    parser.add_argument("--voice", help="'espeak' speaks the captions; or a recording of you, sound or film")
    parser.add_argument("--script", type=Path, default=ROOT / "report/script.md", help="(report/script.md)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Make the film and print what it is; 0 when done, 1 when something is missing or too long."""
    try:
        make(options.out, options.run, options.script, options.face, options.voice)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.face is None:
        print("The face is missing: film yourself and give --face webcam.mp4.")
    return 0


def make(out: Path, run: Path, script: Path, face: Path | None = None, voice: str | None = None) -> None:
    """Make a film, which takes its name only when it is complete, and print what is done; see the options."""
    if face and not face.exists():
        raise FileNotFoundError(f"{face}: found nothing there, expected a film of you.")
    recorded = film.read_sound(Path(voice)) if voice and voice != "espeak" else np.zeros(0, np.float32)
    kept = results.read()
    found = {task: Findings(kept, folder) for task, folder in kept.main().items()}
    author = authors.read(ROOT / "report/authors.toml")["authors"][0]
    title, scenes = read(script, found, author)
    for scene in scenes:
        if voice == "espeak":
            for caption in scene.captions:
                caption.sound = spoken(caption.text)
        if scene.kind == "sound":
            scene.captions[0].sound = clip_of(scene.target, found[scene.task].run)
    seconds = set_times(scenes, len(recorded) / film.RATE)
    for task in {scene.task for scene in scenes if scene.kind in ("cells", "figure", "sound")}:
        check(run / task, found[task])
    print(f"{script}: {len(scenes)} scenes, {seconds:.0f} s; drawing", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        stills, moving = pages.draw(scenes, Path(folder), run, found, heading=title, author=author)
        print("encoding", flush=True)
        starts = {scene.part: scene.start for scene in reversed(scenes)}
        chapters = [(starts[part], name) for part, name in enumerate(PARTS)]
        film.encode(out, stills, moving, track(scenes, recorded, seconds), chapters, face, title)
    print(f"{out}: {seconds:.0f} s, {out.stat().st_size / 2**20:.1f} MiB")


def check(run: Path, found: Findings) -> None:
    """Raise a FileNotFoundError or ValueError unless a run was of the data and weights that the captions quote."""
    for quoted in found.runs.values():
        path = run / "results" / f"{quoted.notebook}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not executed. Make it: python -m bundle run --task {found.task.name}.")
        shown = results.load(path)
        for what in ("data", "weights"):
            if shown[f"{what}_digest"] != quoted.content[f"{what}_digest"]:
                raise ValueError(
                    f"{path}: its {what} are not those of {quoted.path}, which the captions quote. Run the notebooks "
                    "again (python -m bundle run), or keep that run's results (--keep)."
                )
