"""Films by ffmpeg: write one whole or not at all, and read of one what was written. Sound is mono float32 at RATE."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from helpers.files import replacing

WIDTH, HEIGHT = 1920, 1080  # pixels
CONTENT, FACE = (24, 88, 1488, 812), (1536, 786, 360, 270)  # in the frame, left, top, width, height: scene, speaker
FPS = 25  # frames per second
RATE = 48_000  # Hz, of the sound
READ = 0.8  # of a scene's time; what is read last stays for the rest of it
QUALITY = 23  # x264's constant rate factor: text stays sharp
WITH_FACE, WITHOUT_FACE = "the speaker's face is in the corner", "no face: a placeholder is in the corner"


@dataclass(frozen=True)
class Page:
    """A tall picture that is read evenly, from top to bottom; its boxes are white until reading gets there."""

    picture: Path  # as wide as CONTENT, at least as high
    boxes: list[tuple[int, int, int, int]]  # pixels: left, top, width, height
    start: float  # seconds, in the film
    seconds: float

    def filters(self) -> str:
        """What ffmpeg does to the picture: when READ of the time is over, its last line is the lowest in CONTENT."""
        reading = READ * self.seconds
        steps = ["loop=-1:1", f"trim=duration={self.seconds}"]
        for left, top, width, height in self.boxes:
            steps.append(f"drawbox={left}:{top}:{width}:{height}:white:fill:enable='lt(t,{reading}*{top}/h)'")
        steps.append(f"crop={CONTENT[2]}:{CONTENT[3]}:0:'(ih-oh)*min(t/{reading},1)'")
        return ",".join([*steps, f"setpts=PTS+{self.start}/TB"])


def encode(
    path: Path,
    stills: Sequence[tuple[Path, float]],
    pages: Sequence[Page],
    sound: np.ndarray,
    chapters: Sequence[tuple[float, str]],
    face: Path | None = None,
    title: str = "",
) -> None:
    """Write an MP4 (H.264, AAC, chapters), complete or not at all; a RuntimeError when ffmpeg fails.

    Parameters
    ----------
    path : Path
    stills : sequence of (picture, seconds)
        What is seen, one after the other; pictures of WIDTH x HEIGHT.
    pages : sequence of Page
        What moves over them.
    sound : ndarray, shape (samples,), float32
        At RATE; its length is the film's.
    chapters : sequence of (start in seconds, title)
        In order; each lasts until the next.
    face : Path, optional
        A film of the speaker for the corner: repeated when it is shorter, cut when it is longer.
    title : str
    """
    import soundfile

    seconds = len(sound) / RATE
    marks = ";FFMETADATA1\n"
    for (start, name), (end, _) in pairwise([*chapters, (seconds, "")]):
        marks += f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start * 1000:.0f}\nEND={end * 1000:.0f}\ntitle={name}\n"
    shown = "".join(f"file '{still.resolve()}'\nduration {lasts}\n" for still, lasts in [*stills, stills[-1]])
    over = [(page.filters(), CONTENT) for page in pages]
    inputs = [part for page in pages for part in ("-framerate", str(FPS), "-i", page.picture)]
    if face:
        left, top, width, height = FACE
        fitted = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height},setsar=1"
        over.append((f"fps={FPS},{fitted}", FACE))
        inputs += ["-stream_loop", "-1", "-i", face]
    graph = f"[0]fps={FPS}[seen0]"
    for number, (filters, (left, top, *_)) in enumerate(over):
        graph += f";[{number + 3}:v]{filters}[over{number}]"
        graph += f";[seen{number}][over{number}]overlay={left}:{top}:eof_action=pass:format=rgb[seen{number + 1}]"
    graph += f";[seen{len(over)}]scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
    graph += "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709[out]"
    coding = f"-map [out] -map 1 -map_chapters 2 -t {seconds:.3f} -movflags +faststart "
    coding += f"-c:v libx264 -crf {QUALITY} -c:a aac -b:a 96k"
    about = ["-metadata", f"title={title}", "-metadata", f"comment={WITH_FACE if face else WITHOUT_FACE}"]
    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        wav, chapter_list, still_list = (Path(folder, name) for name in ("sound.wav", "chapters.txt", "stills.txt"))
        soundfile.write(wav, sound, RATE, subtype="FLOAT")
        chapter_list.write_text(marks, encoding="utf-8")
        still_list.write_text(shown, encoding="utf-8")
        inputs = ["-f", "concat", "-safe", "0", "-i", still_list, "-i", wav, "-i", chapter_list, *inputs]
        ffmpeg(*inputs, "-filter_complex", graph, *coding.split(), *about, temporary)


def read_sound(path: Path) -> np.ndarray:
    """The sound of any file that ffmpeg reads, mono float32 at RATE."""
    return np.frombuffer(ffmpeg("-i", path, "-vn", "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"), "<f4")


def has_face(path: Path) -> bool:
    """Whether a walkthrough was made with --face."""
    return f"comment={WITH_FACE}\n" in ffmpeg("-i", path, "-f", "ffmetadata", "-").decode(errors="replace")


def ffmpeg(*options) -> bytes:
    """Run the ffmpeg that imageio-ffmpeg brings; what it prints, or a RuntimeError with its last words."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-400:]
        raise RuntimeError(f"ffmpeg failed (exit code {done.returncode}): {said}")
    return done.stdout
