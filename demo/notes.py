"""Rendered demo data for the note task. Every note is 4 s of mono PCM16 at SAMPLE_RATE, its group an instrument."""

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
from scipy import signal

from demo import in_processes

SAMPLE_RATE = 16_000  # Hz
RENDER_RATE = 32_000  # Hz; the renderer interpolates linearly, so it plays at twice the rate and we decimate
STEP_SAMPLES, HELD_STEPS, RELEASE_STEPS = 320, 300, 100  # steps of 10 ms at RENDER_RATE; key down 3 s, then up 1 s
VELOCITIES = (25, 50, 75, 100, 127)  # MIDI
MIDDLE, AUDIBLE = 60, 1e-3  # the key that most sounds have a sample near; a peak below which a key is silent
SOURCES = {"a": "acoustic", "e": "electronic", "s": "synthetic"}  # in the order of the published source numbers
QUALITIES = "bright dark distortion fast_decay long_release multiphonic nonlinear_env percussive reverb tempo-synced"
NOTES_PER_INSTRUMENT = {"train": 5, "valid": 4, "test": 8}  # valid and test play the same instruments

# In the published order of the families: General MIDI programs with the letter of their source ("*": never in train),
# lowest and highest MIDI key, instruments in train and in valid + test at scale 1.
FAMILIES = {
    "bass": ("32a 33e 34e 35e* 36e 37e 38s 39s", 24, 60, 59, 11),
    "brass": ("56a 57a 58a 59a 60a 61a 62s 63s*", 36, 80, 34, 6),
    "flute": ("72a 73a* 74a 75a 76a 77a 79a", 48, 96, 30, 6),
    "guitar": ("24a 25a 26e 27e* 28e 29e 30e 31e", 36, 84, 42, 8),
    "keyboard": ("0a 1a 2a* 3a 4e 5e 6a 7e", 24, 103, 59, 11),
    "mallet": ("8a 9a 10a 11a 12a* 13a 14a 114a", 45, 100, 39, 7),
    "organ": ("16e 17e* 18e 19a 20a", 28, 96, 42, 7),
    "reed": ("64a 65a 66a 67a 68a* 69a 70a 71a 111a", 36, 84, 35, 7),
    "string": ("40a 41a* 42a 43a 44a 48a 49a 50s 51s 110a", 30, 93, 38, 7),
    "synth_lead": ("80s 81s 82s 83s 84s 86s 87s 90s", 36, 96, 14, 0),
    "vocal": ("52a 53a 54s* 85s 91s", 40, 84, 28, 5),
}


@dataclass(frozen=True)
class Note:
    """One file to be rendered: its split, its label, its instrument (the group) and how it is played."""

    split: str  # "train", "valid" or "test"
    name: str  # the published note_str, for example "brass_acoustic_003-060-075"
    family: str
    source: str
    instrument: int  # unique over all splits; decides the variant
    program: int  # General MIDI program, 0-based
    partner: int  # a program of the same family and side, for variants with a second layer
    pitch: int  # MIDI key
    velocity: int  # MIDI, one of VELOCITIES


def plan(scale: float, seed: int) -> list[Note]:
    """Decide every file of the rendered demo data, without rendering one.

    Parameters
    ----------
    scale : float
        Multiplies the number of instruments; 1 gives 2,100 + 300 + 600 notes. Must be positive.
    seed : int
        Not negative; another seed gives other variants, keys and velocities.

    Returns
    -------
    notes : list of Note
        By split, family, instrument. Each family has an instrument in each split, but synth_lead in train only.

    Raises
    ------
    ValueError
        If scale is not positive or seed is negative.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}, expected a positive number: 1 gives 3,000 notes")
    notes = {split: [] for split in NOTES_PER_INSTRUMENT}
    for index, (family, (text, low, high, *counts)) in enumerate(FAMILIES.items()):
        for side, splits in enumerate((("train",), ("valid", "test"))):
            rng = np.random.default_rng([seed, 0, index, side])
            words = rng.permutation(text.split()).tolist()
            shared = [word for word in words if "*" not in word]
            # Held-out programs come second, so that a small test split is not made of them alone.
            pool = shared[:1] + [word for word in words if "*" in word and "test" in splits] + shared[1:]
            for i in range(max(1, round(counts[side] * scale)) if counts[side] else 0):
                word, partner = pool[i % len(pool)], pool[rng.integers(len(pool))]
                source, programs = SOURCES[word.strip("*")[-1]], [int(w.strip("aes*")) for w in (word, partner)]
                number, keys = 2 * i + side, iter(rng.permutation(np.arange(low, high + 1)).tolist())
                for split in [name for name in splits for _ in range(NOTES_PER_INSTRUMENT[name])]:
                    pitch, velocity = next(keys), VELOCITIES[rng.integers(len(VELOCITIES))]
                    name = f"{family}_{source}_{number:03d}-{pitch:03d}-{velocity:03d}"
                    instrument = 10_000 * index + number
                    notes[split].append(Note(split, name, family, source, instrument, *programs, pitch, velocity))
    return [note for split in NOTES_PER_INSTRUMENT for note in notes[split]]


def render(folder: Path, scale: float = 1.0, seed: int = 0, progress: Callable[[int], None] | None = None) -> None:
    """Write the rendered demo data in the published layout: nsynth-<split>/{examples.json,audio/*.wav}.

    Parameters
    ----------
    folder : Path
        An existing, empty folder. What is written does not depend on the number of cores.
    scale, seed : float, int
        As in `plan`.
    progress : callable, optional
        Called after every note with the number of files finished so far.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If the renderer or its SoundFont is not installed; if scale is not positive or seed is negative.
    """
    notes = plan(scale, seed)
    _sound_font()  # a missing renderer fails here, with its words, and not in a worker
    for split in NOTES_PER_INSTRUMENT:
        (folder / f"nsynth-{split}" / "audio").mkdir(parents=True)
        rows = {note.name: _example(i, note, seed) for i, note in enumerate(notes) if note.split == split}
        (folder / f"nsynth-{split}" / "examples.json").write_text(
            json.dumps(rows, indent=1) + "\n", encoding="utf-8", newline="\n"
        )
    in_processes(functools.partial(_write_note, folder, seed), notes, 24, progress)


def _write_note(folder: Path, seed: int, note: Note) -> None:
    soundfile.write(folder / f"nsynth-{note.split}/audio/{note.name}.wav", _wave(note, seed), SAMPLE_RATE, "PCM_16")


def _example(index: int, note: Note, seed: int) -> dict:
    """One entry of examples.json, with the published fields."""
    variant = _variant(seed, note.instrument)
    has = {"bright": variant.low_pass_hz > 8000, "dark": variant.low_pass_hz < 2000, "fast_decay": variant.decay > 1}
    has |= {"distortion": variant.drive > 0, "reverb": variant.room[1] > 0}
    return {
        "note": index,
        "note_str": note.name,
        "instrument": note.instrument,
        "instrument_str": note.name.rsplit("-", 2)[0],
        "instrument_family": list(FAMILIES).index(note.family),
        "instrument_family_str": note.family,
        "instrument_source": list(SOURCES.values()).index(note.source),
        "instrument_source_str": note.source,
        "pitch": note.pitch,
        "velocity": note.velocity,
        "sample_rate": SAMPLE_RATE,
        "qualities": [int(has.get(quality, False)) for quality in QUALITIES.split()],
        "qualities_str": [quality for quality in QUALITIES.split() if has.get(quality)],
    }


def _variant(seed: int, instrument: int) -> SimpleNamespace:
    """Draw how an instrument differs from its plain program: continuous, so no two are alike. 0 is "not at all"."""
    rng = np.random.default_rng([seed, 1, instrument])

    def some(chance: float, low: float, high: float) -> float:  # even on a logarithmic scale, or 0
        return low * (high / low) ** rng.random() * (rng.random() < chance)

    # A voice: the partner's program?, semitones, MIDI channel volume.
    detuned = (False, some(1, 0.04, 0.25), int(some(0.35, 80, 127)))  # partner's program?, semitones, MIDI volume
    octave = (False, (-12.0, 12.0)[rng.integers(2)], int(some(0.2, 60, 100)))
    layer = (True, 0.0, int(some(0.35, 75, 120)))
    return SimpleNamespace(
        voices=[(False, 0.0, 127), *(voice for voice in (detuned, octave, layer) if voice[2])],
        key_shift=int(rng.integers(-6, 7)),  # semitones; another key's sample tuned back, which moves the formants
        vibrato=(some(1, 4, 7), some(0.35, 0.08, 0.5)),  # Hz, semitones
        tremolo=(some(1, 3, 8), some(0.25, 0.1, 0.6)),  # Hz, depth from 0 to 1
        attack=max(0.001, some(0.35, 0.01, 0.15)),  # s
        decay=some(0.3, 0.3, 2),  # nepers per second
        peaks=[(some(1, 120, 6000), 24 * rng.random() - 12, some(1, 0.5, 2.5)) for _ in range(4)],  # Hz, dB, Q
        low_pass_hz=some(1, 1000, 16_000),
        drive=some(0.25, 2, 10),  # gain into tanh at full velocity
        room=(some(1, 0.15, 0.9), some(0.5, 0.1, 0.8)),  # reverberation time in s, level of the tail against the note
        level=some(1, 0.5, 0.93),  # peak amplitude at full velocity
    )


@functools.cache
def _sound_font() -> tuple:
    """The renderer and the number of the SoundFont loaded into it; one per process."""
    missing = [name for name in ("tinysoundfont", "pretty_midi") if importlib.util.find_spec(name) is None]
    if missing:
        words = f"{' and '.join(missing)} not installed: the rendered demo data need the renderer and its SoundFont. "
        raise ModuleNotFoundError(words + "Run `pip install --no-deps -r requirements-demo.txt`.")
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=RENDER_RATE)
    return synth, synth.sfload(str(Path(importlib.util.find_spec("pretty_midi").origin).with_name("TimGM6mb.sf2")))


def _play(note: Note, variant: SimpleNamespace, key: int) -> np.ndarray:
    """The bare voices of a note, played with the sample of `key`: (samples,) float64, mono at SAMPLE_RATE."""
    synth, font = _sound_font()
    (rate_hz, depth), parts = variant.vibrato, []
    for step in range(HELD_STEPS):
        bend = depth * np.sin(2 * np.pi * rate_hz * step * STEP_SAMPLES / RENDER_RATE)
        for channel, (is_partner, semitones, volume) in enumerate(variant.voices):
            if step == 0:
                synth.program_select(channel, font, 0, note.partner if is_partner else note.program)
                synth.control_change(channel, 7, volume)
                synth.noteon(channel, key, note.velocity)
            synth.set_tuning(channel, float(note.pitch - key + semitones + bend))
        parts.append(bytes(synth.generate(STEP_SAMPLES)))
    synth.notes_off()
    parts.append(bytes(synth.generate(RELEASE_STEPS * STEP_SAMPLES)))
    synth.sounds_off()
    synth.generate(RENDER_RATE // 5)  # lets the last voice die: a note must not depend on the one before
    left, right = np.frombuffer(b"".join(parts), np.float32).astype(np.float64).reshape(-1, 2).T
    return signal.resample_poly(left + right, 1, RENDER_RATE // SAMPLE_RATE)


def _sounding(note: Note, variant: SimpleNamespace) -> np.ndarray:
    """The bare voices, played with the nearest key that has a sample: towards the middle first, then away from it."""
    first = min(max(note.pitch + variant.key_shift, 0), 127)
    inwards = range(first, MIDDLE, 1 if first < MIDDLE else -1)
    outwards = sorted(set(range(128)) - set(inwards), key=lambda key: (abs(key - MIDDLE), key))
    for key in (*inwards, *outwards):
        if np.abs(wave := _play(note, variant, key)).max() >= AUDIBLE:
            return wave
    raise ValueError(f"Program {note.program} of the SoundFont: no key from 0 to 127 sounds. Use another SoundFont.")


def _wave(note: Note, seed: int) -> np.ndarray:
    """Render one note: (samples,) int16."""
    variant, loudness = _variant(seed, note.instrument), note.velocity / VELOCITIES[-1]
    wave = _sounding(note, variant)
    wave = wave / np.abs(wave).max()
    if variant.drive:
        wave = np.tanh(variant.drive * loudness * wave)
    # Softer is darker, as on real instruments; the renderer only turns the volume down.
    filters = [signal.butter(2, min(7500, variant.low_pass_hz * loudness**0.5), fs=SAMPLE_RATE, output="sos")]
    for centre_hz, gain_db, q in variant.peaks:  # the peaking equaliser of Bristow-Johnson's cookbook
        angle, gain = 2 * np.pi * centre_hz / SAMPLE_RATE, 10 ** (gain_db / 40)
        cos, up, down = np.cos(angle), np.sin(angle) / (2 * q) * gain, np.sin(angle) / (2 * q) / gain
        filters.append(np.array([[1 + up, -2 * cos, 1 - up, 1 + down, -2 * cos, 1 - down]]) / (1 + down))
    wave = signal.sosfilt(np.concatenate(filters), wave)
    seconds = np.arange(wave.size) / SAMPLE_RATE
    wave *= 1 - variant.tremolo[1] * (0.5 + 0.5 * np.sin(2 * np.pi * variant.tremolo[0] * seconds))
    wave *= np.minimum(1, seconds / variant.attack) * np.exp(-variant.decay * seconds)
    reverb_seconds, wet = variant.room
    if wet:
        tail = 2 * np.random.default_rng([seed, 2, note.instrument]).random(int(reverb_seconds * SAMPLE_RATE)) - 1
        tail *= 10 ** (-3 * seconds[: tail.size] / reverb_seconds)  # -60 dB at the end
        wave += signal.fftconvolve(wave, tail * wet / np.sqrt(np.sum(tail**2)))[: wave.size]
    wave[-320:] *= np.linspace(1, 0, 320)  # 20 ms, so that no file ends in a click
    return np.round(wave * (32767 * variant.level * loudness / np.abs(wave).max())).astype(np.int16)
