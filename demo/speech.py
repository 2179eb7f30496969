"""Render the demo speech: synthetic voices, six languages, 8 kHz mono 16-bit WAVs of exactly 5 s.

A clip depends on (seed, split, language, number) alone, never on the worker, the order or the scale.
No voice timbre and no sentence is in both splits, and every language is spoken by the same timbres.
"""

import ctypes
import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo import in_processes

RATE = 8_000  # Hz, of the files
SAMPLES = 40_000  # 5 s
SYNTH_RATE = 22_050  # Hz, of the synthesiser
CLIPS = {"train": 220, "test": 80}  # per language, at scale 1
FEWEST = {"train": 8, "test": 4}  # clips, and so speakers, per language at any scale
SENTENCES = Path(__file__).with_name("sentences.json")
TEST_EVERY = 4  # the first sentence and each fourth after it are heard in test only
ACCENTS = {"de": "de", "en": "en-us en en-gb-x-rp", "es": "es es-419", "fr": "fr fr-be", "nl": "nl", "pt": "pt pt-br"}
# Timbres of espeak-ng. Left out: whispers, robots, and those (caleb, Reed) that draw from the C library's rand().
VARIANTS = {
    "train": "m1 f1 m2 Annie m3 f2 m5 belinda m6 f4 m8 steph max Michael Alex Denis Gene Hugo iven4 marcelo quincy zac",
    "test": "m4 f3 m7 f5 robert linda Mario Alicia",
}
TRACT_UP, TRACT_DOWN = 80, (205, 238)  # resampling 22,050 Hz by 80/220.5 is 8 kHz; other ratios change the vocal tract
CHUNK = 20  # clips a worker takes at a time


@dataclass(frozen=True)
class Clip:
    """One file to render: where it goes, who speaks, what is said."""

    name: str  # path inside the folder: split/language/source__speaker__number.wav
    split: str
    language: str
    speaker: str  # the group: accent and timbre, as espeak-ng names them (en-us+m3)
    pitch: int  # 0 to 99, 50 is the timbre's own
    pitch_range: int  # 0 to 99, 50 is the timbre's own
    words_per_minute: int
    tract: int  # denominator of the resampling ratio, numerator TRACT_UP
    sentences: tuple[str, ...]
    key: tuple[int, ...]  # seeds the clip's own random numbers


def plan(scale: float, seed: int) -> list[Clip]:
    """List the clips of the demo speech, without rendering any.

    Parameters
    ----------
    scale : float
        Multiplies the number of clips (1,800 at scale 1); a smaller scale is a subset of a larger one.
    seed : int
        Decides speakers, sentences and channels. Not negative.

    Returns
    -------
    list of Clip
        By split, language and number.

    Raises
    ------
    ValueError
        If `scale` is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}, expected a positive number such as 1.0 (1,800 clips)")
    written = json.loads(SENTENCES.read_text(encoding="utf-8"))
    clips = []
    for s, split in enumerate(CLIPS):
        for n, language in enumerate(ACCENTS):
            texts = [t for i, t in enumerate(written[language]) if (i % TEST_EVERY == 0) == (split == "test")]
            for number in range(max(FEWEST[split], round(CLIPS[split] * scale))):
                clips.append(_clip(split, language, number, texts, (seed, s, n)))
    return clips


def _clip(split: str, language: str, number: int, texts: list[str], key: tuple[int, ...]) -> Clip:
    variants = VARIANTS[split].split()
    timbre = number % len(variants)
    rng = np.random.default_rng([*key, 0, timbre])  # of the speaker
    speaker = f"{rng.choice(ACCENTS[language].split())}+{variants[timbre]}"
    bounds = (TRACT_DOWN, (30, 70), (25, 75), (140, 200))
    tract, pitch, pitch_range, speed = (int(rng.integers(low, high)) for low, high in bounds)
    rng = np.random.default_rng([*key, 1, number])  # of the clip
    return Clip(
        name=f"{split}/{language}/espeak__{speaker}__{number:04d}.wav",
        split=split,
        language=language,
        speaker=speaker,
        pitch=pitch + int(rng.integers(-6, 7)),
        pitch_range=pitch_range,
        words_per_minute=speed + int(rng.integers(-12, 13)),
        tract=tract,
        sentences=tuple(texts[i] for i in rng.permutation(len(texts))[:6]),
        key=(*key, 2, number),
    )


def render(folder: Path, scale: float = 1.0, seed: int = 0, progress: Callable[[int], None] | None = None) -> None:
    """Write the clips of `plan(scale, seed)` under `folder`, as 16-bit WAVs in a folder per split and language.

    Parameters
    ----------
    folder : Path
        An existing, empty folder.
    scale, seed : float, int
        As for `plan`.
    progress : callable, optional
        Called with the number of files finished so far.

    Raises
    ------
    ModuleNotFoundError
        If the synthesiser is not installed.
    RuntimeError
        If it does not start, or lacks a voice.
    """
    _loader()
    clips = plan(scale, seed)
    for part in sorted({Path(clip.name).parent for clip in clips}):
        (folder / part).mkdir(parents=True)
    in_processes(functools.partial(_write, folder), clips, CHUNK, progress)


def _write(folder: Path, clip: Clip) -> None:
    import soundfile

    rng = np.random.default_rng(clip.key)
    wave = _channel(_speech(clip, rng), rng)
    soundfile.write(folder / clip.name, np.round(wave * 32767).astype(np.int16), RATE)


def _loader():
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        advice = "pip install --no-deps -r requirements-demo.txt"
        raise ModuleNotFoundError(f"espeakng_loader, which renders the demo speech, is missing: {advice}") from error
    return espeakng_loader


def _speech(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Sentences one after the other, entered at a random place, as (SAMPLES,) float64 at RATE."""
    from scipy.signal import resample_poly

    need = SAMPLES * clip.tract // TRACT_UP + 1  # samples at SYNTH_RATE
    parts, start = [], 0
    for text in itertools.cycle(clip.sentences):
        said = say(clip, text)
        if not parts:
            start = int(rng.uniform(0, 0.6) * len(said))
        parts += [said, np.zeros(int(rng.uniform(0.1, 0.4) * SYNTH_RATE))]
        if sum(map(len, parts)) >= start + need:
            break
    wave = np.concatenate(parts)[start : start + need]
    return resample_poly(wave, TRACT_UP, clip.tract)[:SAMPLES]


def say(clip: Clip, text: str) -> np.ndarray:
    """One sentence, (samples,) float64 at SYNTH_RATE, silence at both ends cut off.

    The synthesiser keeps state between sentences (flutter, cycle count, gain control), which no call resets. A library
    loaded afresh (0.3 ms) starts from nothing, so a sentence sounds the same wherever and whenever it is rendered.
    """
    import _ctypes

    loader = _loader()
    speak = ctypes.CDLL(loader.get_library_path())
    heard = []
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    @callback
    def hear(samples, count, _events):
        if samples and count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float64))
        return 0

    encoded = text.encode()
    try:
        found_rate = speak.espeak_Initialize(2, 0, str(loader.get_data_path()).encode(), 0)  # 2: retrieve, synchronous
        if found_rate != SYNTH_RATE:
            raise RuntimeError(f"espeak-ng answers {found_rate} to the start-up call, expected {SYNTH_RATE} Hz")
        speak.espeak_SetSynthCallback(hear)
        speak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if speak.espeak_SetVoiceByName(clip.speaker.encode()):
            raise RuntimeError(f"espeak-ng has no voice {clip.speaker!r}; install the version in requirements-demo.txt")
        for parameter, value in ((1, clip.words_per_minute), (3, clip.pitch), (4, clip.pitch_range)):
            speak.espeak_SetParameter(parameter, value, 0)
        speak.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, 1, None, None)  # the last 1: UTF-8
        speak.espeak_Terminate()
    finally:
        getattr(_ctypes, "dlclose", getattr(_ctypes, "FreeLibrary", None))(speak._handle)
    wave = np.concatenate(heard)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1]


def _channel(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Room, equaliser, band limits, noise and level of one recording, (SAMPLES,) float64 in [-1, 1]."""
    size = 48_000  # room for the longest echo behind the clip, and fast to transform
    frequency = np.fft.rfftfreq(size, 1 / RATE)  # Hz
    octaves = np.log2(np.maximum(frequency, 50.0) / 1_000)

    def shape(low: float, high: float, tilt_db: float, bump_db: float, bump_octave: float) -> np.ndarray:
        bump = bump_db * np.exp(-0.5 * ((octaves - bump_octave) / 0.5) ** 2)
        edges = np.hypot(1, (low / np.maximum(frequency, 1.0)) ** 3) * np.hypot(1, (frequency / high) ** 6)
        return 10 ** ((tilt_db * octaves + bump) / 20) / edges

    seconds = np.arange(size - SAMPLES) / RATE
    echo = rng.standard_normal(len(seconds)) * np.exp(-6.9 * seconds / rng.uniform(0.03, 0.3))  # 60 dB down at its end
    echo *= rng.uniform(0.0, 0.45) / np.linalg.norm(echo)
    echo[0] += 1
    low, high = rng.uniform(60, 300), rng.uniform(2_600, 3_900)  # Hz
    colour = shape(low, high, rng.uniform(-4, 4), rng.uniform(-6, 6), rng.uniform(-2, 1.5))
    wave = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(echo, size) * colour, size)[:SAMPLES]
    noise_colour = shape(60, 3_900, rng.uniform(-6, 1), rng.uniform(-9, 9), rng.uniform(-2, 1.5))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * noise_colour, size)[:SAMPLES]
    wave /= np.sqrt(np.mean(wave**2))
    wave += noise * 10 ** (-rng.uniform(10, 35) / 20) / np.sqrt(np.mean(noise**2))
    gain = 10 ** (rng.uniform(-42, -12) / 20) / np.sqrt(np.mean(wave**2))
    return wave * min(gain, 0.99 / np.abs(wave).max())
