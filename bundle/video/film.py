"""Encode a film with ffmpeg and read one back. Frames are (height, width, 3) uint8 arrays, sound mono float32."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.files import replacing

WIDTH, HEIGHT = 1920, 1080  # pixels, of the frames that are drawn
FPS = 25  # frames per second
RATE = 48_000  # Hz, of the sound
FACE = (1536, 786, 360, 270)  # the speaker's place in the frame: left, top, width, height
WITH_FACE, WITHOUT_FACE = "the speaker's face is in the corner", "no face: a placeholder is in the corner"
QUALITY = 23  # x264's constant rate factor: text stays sharp


@dataclass(frozen=True)
class Facts:
    """What a film file says of itself."""

    video: str  # codec
    pixels: str  # format, such as yuv420p
    width: int
    height: int
    fps: float
    audio: str  # codec, "" without sound
    seconds: float
    chapters: tuple[tuple[float, str], ...]  # start in seconds, title
    comment: str
    size: int  # bytes

    def in_words(self) -> str:
        """Several lines, for the screen."""
        lines = [
            f"video {self.video} {self.pixels}, {self.width} x {self.height}, {self.fps:g} frames/s; "
            f"sound {self.audio or 'none'}; {self.seconds:.1f} s; {self.size / 2**20:.1f} MiB; {self.comment}"
        ]
        return "\n".join(lines + [f"  {int(start) // 60}:{start % 60:04.1f} {title}" for start, title in self.chapters])


def program() -> str:
    """Path of ffmpeg, which imageio-ffmpeg brings.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "imageio-ffmpeg, which encodes films, is missing: python bundle/install.py"
        ) from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    sound: np.ndarray,
    chapters: Sequence[tuple[float, str]],
    captions: Sequence[tuple[float, str]] = (),
    face: Path | None = None,
    title: str = "",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    check: Callable[[Facts], list[str]] = lambda found: [],
) -> None:
    """Write an MP4 (H.264, AAC, chapters, a subtitle track), complete or not at all; the same input, the same bytes.

    Parameters
    ----------
    path : Path
    frames : iterable of ndarray, each (HEIGHT, WIDTH, 3) uint8
        FPS of them per second.
    sound : ndarray, shape (samples,), float32
        At RATE; its length is the film's.
    chapters, captions : sequences of (start in seconds, text)
        In order; each lasts until the next.
    face : Path, optional
        A film of the speaker for the corner: repeated when it is shorter, cut when it is longer.
    size : (width, height)
        Of the film, even numbers.
    check : callable
        Says what is wrong with the written film; nothing is left of one that is wrong.

    Raises
    ------
    RuntimeError
        If ffmpeg fails; the message has its last line.
    ValueError
        If `check` finds something.
    """
    import soundfile

    seconds = len(sound) / RATE
    ends = [start for start, _ in chapters[1:]] + [seconds]
    marks = [f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start * 1000:.0f}\nEND={end * 1000:.0f}\ntitle={name}\n"
             for (start, name), end in zip(chapters, ends, strict=True)]  # fmt: skip
    left, top, width, height = FACE
    picture = f"scale={size[0]}:{size[1]}:out_color_matrix=bt709:out_range=tv,format=yuv420p"
    picture += ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    if face:
        picture = (
            f"[3:v]fps={FPS},scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height},setsar=1"
            f"[face];[0:v][face]overlay={left}:{top},{picture}"
        )
    else:
        picture = f"[0:v]{picture}"
    with tempfile.TemporaryDirectory() as scratch, replacing(path) as temporary:
        scratch = Path(scratch)
        soundfile.write(scratch / "sound.wav", sound, RATE, subtype="FLOAT")
        about = f";FFMETADATA1\ntitle={title}\ncomment={WITH_FACE if face else WITHOUT_FACE}\n"
        (scratch / "about.txt").write_text(about + "".join(marks), encoding="utf-8")
        (scratch / "captions.srt").write_text(subtitles(captions, seconds), encoding="utf-8")
        command = [program(), "-y", "-hide_banner", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-"]
        command += ["-i", str(scratch / "sound.wav"), "-i", str(scratch / "about.txt")]
        command += ["-stream_loop", "-1", "-i", str(face)] if face else []
        command += ["-i", str(scratch / "captions.srt")] if captions else []
        command += ["-filter_complex", f"{picture}[out]", "-map", "[out]", "-map", "1:a"]
        if captions:  # off unless asked for: they are in the picture as well
            command += ["-map", f"{4 if face else 3}:s", "-c:s", "mov_text", "-metadata:s:s:0", "language=eng"]
            command += ["-disposition:s:0", "0"]
        command += ["-map_metadata", "2", "-map_chapters", "2"]
        command += ["-c:v", "libx264", "-preset", "medium", "-crf", str(QUALITY), "-threads", "2", "-g", str(10 * FPS)]
        command += ["-c:a", "aac", "-b:a", "96k", "-t", f"{seconds:.3f}", "-movflags", "+faststart"]
        command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", str(temporary)]
        with open(scratch / "log.txt", "w+b") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
            try:
                for frame in frames:
                    process.stdin.write(np.ascontiguousarray(frame))
                process.stdin.close()
            except BrokenPipeError:
                pass  # its log says why it ended
            except BaseException:
                process.kill()  # the frames could not be drawn to the end
                raise
            finally:
                code = process.wait()
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
        if code:
            raise RuntimeError(f"ffmpeg could not write {path} (exit code {code}): {said[-400:]}")
        if wrong := check(read_back(temporary)):
            raise ValueError(f"{path}: not written: {'; '.join(wrong)}.")


def subtitles(captions: Sequence[tuple[float, str]], seconds: float) -> str:
    """Captions with their starts as SubRip text."""

    def clock(moment: float) -> str:
        whole = round(moment * 1000)
        return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02},{whole % 1000:03}"

    ends = [start for start, _ in captions[1:]] + [seconds]
    rows = enumerate(zip(captions, ends, strict=True), 1) if captions else ()
    return "\n".join(f"{n}\n{clock(start)} --> {clock(end)}\n{text}\n" for n, ((start, text), end) in rows)


def read_back(path: Path) -> Facts:
    """What ffmpeg finds in a film.

    Raises
    ------
    ValueError
        If it is no film.
    """
    done = subprocess.run(
        [program(), "-hide_banner", "-i", str(path)], capture_output=True, text=True, errors="replace"
    )
    said = done.stderr
    video = re.search(r"Video: (\w+).*?, (yuv\w+|rgb\w+|gray\w*).*?, (\d+)x(\d+).*?([\d.]+) fps", said)
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    if not video or not length:
        raise ValueError(f"{path}: found no film that ffmpeg reads ({said.strip()[-120:]!r}), expected an MP4.")
    audio = re.search(r"Audio: (\w+)", said)
    comment = re.search(r"^ *comment *: (.*)$", said, re.MULTILINE)
    marks = re.findall(r"Chapter #\S+ start ([\d.]+), end \S+\s+Metadata:\s+title *: (.*)", said)
    hours, minutes, seconds = (float(part) for part in length.groups())
    return Facts(
        video=video[1], pixels=video[2], width=int(video[3]), height=int(video[4]), fps=float(video[5]),
        audio=audio[1] if audio else "", seconds=3600 * hours + 60 * minutes + seconds,
        chapters=tuple((float(start), name.strip()) for start, name in marks),
        comment=comment[1].strip() if comment else "", size=path.stat().st_size,
    )  # fmt: skip


def read_sound(path: Path) -> np.ndarray:
    """The sound of any file that ffmpeg reads, mono float32 at RATE.

    Raises
    ------
    ValueError
        If there is none.
    """
    command = [program(), "-hide_banner", "-loglevel", "error", "-i", str(path), "-vn", "-f", "f32le", "-ac", "1"]
    done = subprocess.run([*command, "-ar", str(RATE), "-"], capture_output=True)
    if done.returncode or not done.stdout:
        raise ValueError(f"{path}: found no sound ({done.stderr.decode(errors='replace').strip()[-120:]}).")
    return np.frombuffer(done.stdout, "<f4").copy()


def contact_sheet(path: Path, target: Path, seconds: float = 6.0, columns: int = 6) -> None:
    """A picture of the film's frames, one every `seconds`."""
    rows = int(-(-read_back(path).seconds // (seconds * columns)))
    picture = f"fps=1/{seconds},scale=480:-2,tile={columns}x{rows}"
    command = [program(), "-y", "-loglevel", "error", "-i", str(path), "-vf", picture, "-frames:v", "1", str(target)]
    subprocess.run(command, check=True)
