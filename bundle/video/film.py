"""Films by ffmpeg: write one whole or not at all, and read of one what was written. Sound is mono float32 at RATE."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from helpers.files import replacing

WIDTH, HEIGHT = 1920, 1080  # pixels, of the frames that are drawn
CONTENT, FACE = (24, 88, 1488, 812), (1536, 786, 360, 270)  # in the frame, left, top, width, height: scene, speaker
FPS = 25  # frames per second
RATE = 48_000  # Hz, of the sound
QUALITY = 23  # x264's constant rate factor: text stays sharp
MOST_BYTES = 15 * 2**20
WITH_FACE, WITHOUT_FACE = "the speaker's face is in the corner", "no face: a placeholder is in the corner"


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    sound: np.ndarray,
    chapters: Sequence[tuple[float, str]],
    face: Path | None = None,
    title: str = "",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> None:
    """Write an MP4 (H.264, AAC, chapters), complete or not at all; the same input, the same bytes.

    Parameters
    ----------
    path : Path
    frames : iterable of ndarray, each (HEIGHT, WIDTH, 3) uint8
        FPS of them per second.
    sound : ndarray, shape (samples,), float32
        At RATE; its length is the film's.
    chapters : sequence of (start in seconds, title)
        In order; each lasts until the next.
    face : Path, optional
        A film of the speaker for the corner: repeated when it is shorter, cut when it is longer.
    title : str
    size : (width, height)
        Of the film, even numbers.

    Raises
    ------
    RuntimeError
        If ffmpeg fails; the message has its last words.
    ValueError
        If the film is larger than MOST_BYTES.
    """
    import soundfile

    seconds = len(sound) / RATE
    left, top, width, height = FACE
    corner = (
        f"[3:v]fps={FPS},scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height},setsar=1"
    )
    picture = f"{corner}[face];[0:v][face]overlay={left}:{top}," if face else "[0:v]"
    picture += f"scale={size[0]}:{size[1]}:out_color_matrix=bt709:out_range=tv,format=yuv420p,"
    picture += "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709[out]"
    about = f";FFMETADATA1\ntitle={title}\ncomment={WITH_FACE if face else WITHOUT_FACE}\n"
    for (start, name), (end, _) in pairwise([*chapters, (seconds, "")]):
        about += f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start * 1000:.0f}\nEND={end * 1000:.0f}\ntitle={name}\n"
    with tempfile.TemporaryDirectory() as scratch, replacing(path) as temporary:
        wav, metadata = Path(scratch, "sound.wav"), Path(scratch, "about.txt")
        soundfile.write(wav, sound, RATE, subtype="FLOAT")
        metadata.write_text(about, encoding="utf-8")
        inputs = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {FPS} -i -".split()
        inputs += ["-i", wav, "-i", metadata, *(["-stream_loop", "-1", "-i", face] if face else [])]
        coding = f"-c:v libx264 -preset medium -crf {QUALITY} -threads 2 -g {10 * FPS} -c:a aac -b:a 96k "
        coding += f"-map [out] -map 1:a -map_metadata 2 -map_chapters 2 -t {seconds:.3f} -movflags +faststart "
        coding += "-fflags +bitexact -flags:v +bitexact -flags:a +bitexact"
        command = [*program(), "-y", *inputs, "-filter_complex", picture, *coding.split(), temporary]
        with open(Path(scratch, "log.txt"), "w+", encoding="utf-8", errors="replace") as log:
            with suppress(BrokenPipeError), subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as process:
                try:
                    for frame in frames:
                        process.stdin.write(np.ascontiguousarray(frame))
                except BrokenPipeError:
                    raise  # ffmpeg has ended, and its log says why
                except BaseException:
                    process.kill()  # no more frames will come
                    raise
            log.seek(0)
            if process.returncode:
                said = log.read().strip()[-400:]
                raise RuntimeError(f"ffmpeg could not write {path} (exit code {process.returncode}): {said}")
        if (weight := temporary.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{path}: not written: {weight / 2**20:.1f} MiB, at most {MOST_BYTES / 2**20:.0f}.")


def read_sound(path: Path) -> np.ndarray:
    """The sound of any file that ffmpeg reads, mono float32 at RATE."""
    return np.frombuffer(read(path, "-vn", "-f", "f32le", "-ac", "1", "-ar", str(RATE)), "<f4")


def read(path: Path, *options: str) -> bytes:
    """What ffmpeg makes of a film or recording.

    Raises
    ------
    ValueError
        If it cannot, or makes nothing.
    """
    done = subprocess.run([*program(), "-i", path, *options, "-"], capture_output=True)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise ValueError(f"{path}: found nothing that ffmpeg reads, expected a film or recording. {said}")
    return done.stdout


def program() -> list[str]:
    """The ffmpeg that imageio-ffmpeg brings, silent."""
    import imageio_ffmpeg

    return [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error"]
