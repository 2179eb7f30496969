"""What is heard in the film: test clips, a voice, and the film's sound made of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy.signal import resample_poly

from bundle.results import ROOT, Run
from bundle.video.film import RATE
from bundle.video.script import PAUSE, Scene, among
from helpers import data

LEVEL = 0.1  # root mean square of all sounds, of full scale
LONGEST_CLIP = 5  # seconds
SPEAKER = SimpleNamespace(speaker="en-gb-x-rp", words_per_minute=185, pitch=45, pitch_range=55)


def clip_of(example: str, run: Run) -> np.ndarray:
    """The test clip that a [sound] names, at the film's rate, cut to LONGEST_CLIP.

    Raises
    ------
    ValueError
        If there is no such example, or the data here are not those of the results.
    """
    examples = run.content["examples"]
    name = examples[among(examples, example, f"{run.path}: example")]
    loaded = data.load(run.task, run.content["parameters"]["DATA"], ROOT)
    if loaded.digest != run.content["data_digest"]:
        raise ValueError(
            f"{run.path}: made from data with digest {run.content['data_digest'][:12]}, found {loaded.digest[:12]} "
            "here. Run the notebooks on these data with --keep."
        )
    clip = loaded.test.take([list(loaded.test.names).index(name)])[0]
    return for_film(clip[: LONGEST_CLIP * run.task.rate], run.task.rate)


def spoken(text: str) -> np.ndarray:
    """A caption spoken by espeak-ng, at the film's rate; what an interval is can be read."""
    from demo import speech

    aloud = text.replace("95 % interval ", "").replace("–", " to ")
    return for_film(speech.say(SPEAKER, aloud), speech.SYNTH_RATE)


def for_film(wave: np.ndarray, rate: int) -> np.ndarray:
    """A sound at the film's rate and level, its edges faded."""
    wave = resample_poly(wave.astype(np.float64), RATE, rate)
    edge = min(RATE // 20, len(wave) // 2)
    wave[:edge] *= np.linspace(0, 1, edge)
    wave[len(wave) - edge :] *= np.linspace(1, 0, edge)
    gain = LEVEL / max(np.sqrt(np.mean(wave**2)), 1e-9)
    return (wave * min(gain, 0.9 / max(np.abs(wave).max(), 1e-9))).astype(np.float32)


def track(scenes: list[Scene], recorded: np.ndarray, seconds: float) -> np.ndarray:
    """The sounds of all captions at their times, and a recorded voice; what reaches beyond the end is cut."""
    mixed = np.zeros(round(seconds * RATE), np.float32)
    captions = [(caption.start + PAUSE, caption.sound) for scene in scenes for caption in scene.captions]
    for start, wave in [(0.0, recorded), *captions]:
        part = mixed[round(start * RATE) :][: len(wave)]
        part += wave[: len(part)]
    return np.clip(mixed, -1, 1)
