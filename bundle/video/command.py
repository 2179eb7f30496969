"""Make report/walkthrough.mp4 from the executed notebooks, the results and report/script.md: at most five minutes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
        from bundle.video.walkthrough import make

        make(options.out, options.run, options.script, face=options.face, voice=options.voice)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.face is None:
        print("The face is missing: film yourself and give --face webcam.mp4.")
    return 0


def has_face(path: Path) -> bool:
    """Whether a walkthrough was made with --face."""
    from bundle.video import film

    return f"comment={film.WITH_FACE}\n" in film.read(path, "-f", "ffmetadata").decode(errors="replace")
