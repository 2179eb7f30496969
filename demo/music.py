"""Rendered demo data in MagnaTagATune's original layout. Every clip is mono, 16 kHz, 29.16 s."""

import csv
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import lfilter

from demo import in_processes
from demo.pieces import CHORDS, DRUMS, LINES, LOWEST, RHYTHMS, SCALES, TAGS, TOGETHER, VOICES, Piece, plan

RATE = 16_000  # Hz, as the published mp3 files
SAMPLES = 466_560  # per clip: 405 mp3 frames of 1,152, a little more than ten windows of 2.9125 s
REST = 0.25  # probability that a part other than the first is silent for two bars
COLOURS, HISS = 4, (0.0, 0.02, 0.06, 0.2)  # filters per recording; levels of background noise relative to the music
VOICE_LIMIT = 48  # of the synthesizer at a time
MP3 = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}  # about 32 kbit/s; constant rates take a fifth longer


def _events(piece: Piece, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """The whole piece as (sample, channel, MIDI key, velocity) in order of time; velocity 0 ends a note."""
    beat, bars, steps = 60 * RATE / piece.bpm, int(SAMPLES / RATE * piece.bpm / 240) + 1, SCALES[piece.scale]
    chords, shift, events = CHORDS[rng.integers(len(CHORDS))], int(rng.integers(-5, 6)), []
    for channel, (role, program) in enumerate(piece.parts):
        for line in ("lead", "arp") if role == "solo" else (role,):
            low = LOWEST.get(line, 52) + shift - 19 * (program in (42, 60, 66))  # cello, horn and tenor saxophone
            if role in VOICES:
                low = (64 if piece.female else 45) + shift // 2  # the register is what tells the singers apart
            rhythm = RHYTHMS[line][rng.integers(len(RHYTHMS[line]))]
            shape, walk, rests = rng.integers(0, 5, 16), 4, rng.random(bars) < REST
            for bar, k in ((bar, k) for bar in range(bars) for k in range(len(rhythm))):
                root = chords[bar % 4]
                walk = int(np.clip(walk + rng.integers(-2, 3), 0, 9))
                if line in ("lead", "sing", "chant"):
                    degrees = (walk if k else root % 7 + 2 * int(rng.integers(-1, 2)),)
                elif line in LINES:
                    degrees = (root + LINES[line][shape[k]],)
                else:
                    degrees = [root + degree for degree in TOGETHER.get(line, (0, 2, 4))]
                for degree in degrees if channel == 0 or not rests[bar // 2] else ():
                    key = low + 12 * (degree // len(steps)) + steps[degree % len(steps)]
                    at = int(beat * (4 * bar + rhythm[k]) + rng.integers(0, 160))  # up to 10 ms late, as hands are
                    end = at + int(beat * 0.9 * ((*rhythm, 4)[k + 1] - rhythm[k]))
                    events += [(at, channel, key, int(rng.integers(70, 110))), (end, channel, key, 0)]
    for key, line in DRUMS.get(piece.drums, {}).items():
        hits = [k for k in range(bars * len(line)) if line[k % len(line)] == "x" and rng.random() < 0.93]
        events += [(int(beat * 4 * k / len(line)), 9, key, int(rng.integers(80, 120))) for k in hits]
    return sorted(event for event in events if event[0] < SAMPLES)


@functools.cache
def _synth() -> tuple:
    """This process's synthesizer and the number of its SoundFont."""
    if not (importlib.util.find_spec("tinysoundfont") and importlib.util.find_spec("pretty_midi")):
        raise ModuleNotFoundError(
            "Rendering the demo data needs tinysoundfont and the SoundFont in pretty_midi, and one of them is missing: "
            "pip install --no-deps -r requirements-demo.txt"
        )
    import tinysoundfont

    font = Path(importlib.util.find_spec("pretty_midi").submodule_search_locations[0]) / "TimGM6mb.sf2"
    synth = tinysoundfont.Synth(samplerate=RATE)
    return synth, synth.sfload(str(font), max_voices=VOICE_LIMIT)


def _wave(piece: Piece, seed: int) -> np.ndarray:
    """One piece as int16, shape (SAMPLES,)."""
    rng, (synth, font) = np.random.default_rng([seed, 4, piece.clip_id]), _synth()
    synth.sounds_off()
    synth.generate_simple(RATE // 10)  # the piece before this one dies away: nothing of it may be heard
    synth.program_select(9, font, 0, 0, True)
    tuning = rng.uniform(-0.5, 0.5)  # semitones
    for channel, (_, program) in enumerate(piece.parts):
        synth.program_select(channel, font, 0, program)
        synth.set_tuning(channel, tuning)
    stereo, now = np.zeros((SAMPLES, 2), np.float32), 0
    for at, channel, key, velocity in [*_events(piece, rng), (SAMPLES, 0, 0, 0)]:
        if at > now:
            synth.generate_simple(at - now, memoryview(stereo[now:at]).cast("B"))
            now = at
        (synth.noteon(channel, key, velocity) if velocity else synth.noteoff(channel, key))
    wave = stereo[:, 0].astype(np.float64) + stereo[:, 1]
    for _ in range(COLOURS):  # each recording has its own colour: broad peaks and dips of up to 16 dB
        cosine, pole, zero = rng.uniform(-0.5, 0.98), *rng.uniform(0.5, 0.92, 2)
        wave = lfilter([1, -2 * zero * cosine, zero**2], [1, -2 * pole * cosine, pole**2], wave)
    loudness = float(np.sqrt(np.mean(wave**2)))
    hiss = loudness * float(rng.choice(HISS))
    wave += rng.uniform(-hiss, hiss, SAMPLES)
    wave *= round(10 ** (piece.level_db / 20) / loudness, 6)  # rounded: a mean's last bit differs between processors
    wave = np.clip(wave, -3, 3)
    wave *= (27 + wave**2) / (27 + 9 * wave**2)  # a smooth limiter of plain arithmetic, which is exact everywhere
    return np.round(wave * 32767).astype(np.int16)


def _write(folder: Path, seed: int, piece: Piece) -> None:
    path = folder / piece.mp3_path
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, _wave(piece, seed), RATE, format="MP3", subtype="MPEG_LAYER_III", **MP3)


def render(folder: Path, scale: float = 1.0, seed: int = 0, progress: Callable[[int], None] | None = None) -> None:
    """Write annotations_final.csv and the mp3 files of all parts, over all cores.

    Parameters
    ----------
    folder : Path
        Exists and is empty.
    scale, seed : float, int
        As for `plan`.
    progress : callable, optional
        Called with the number of files finished so far.

    Raises
    ------
    ModuleNotFoundError
        If tinysoundfont or the SoundFont is not installed.
    """
    pieces = plan(scale, seed)
    _synth()  # a missing renderer is reported from here, not from a worker; forked workers inherit the SoundFont
    in_processes(functools.partial(_write, folder, seed), pieces, 4, progress)
    with open(folder / "annotations_final.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        rows.writerow(["clip_id", *TAGS, "mp3_path"])
        rows.writerows([p.clip_id, *(int(tag in p.tags) for tag in TAGS), p.mp3_path] for p in pieces)
