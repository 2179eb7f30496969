"""The three tasks, each said in one place. Nothing else in the code branches on a task's name."""

from __future__ import annotations

from dataclasses import dataclass

NSYNTH_FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
LANGUAGES = ("de", "en", "es", "fr", "nl", "pt")
TAGS = (
    "ambient", "baroque", "bass", "beat", "cello", "chant", "choir", "classical", "country", "dance",
    "drum", "eastern", "electro", "fast", "female", "flute", "folk", "foreign", "guitar", "hard",
    "harp", "harpsichord", "heavy", "india", "jazz", "loud", "male", "modern", "new age", "no beat",
    "no piano", "no singer", "opera", "orchestra", "piano", "pop", "quiet", "rock", "singer", "sitar",
    "slow", "soft", "solo", "strange", "string", "synth", "techno", "trance", "violin", "vocal",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What a task is: its labels, its clips, and how it is scored."""

    name: str  # also of the reader module, `helpers.data.<name>`
    title: str  # for headings and axes
    classes: tuple[str, ...]  # in the order of the logits
    rate: int  # of every waveform, in Hz
    clip_samples: int  # length of one clip
    window_samples: int  # of what a model sees at once; a clip's prediction is the mean over its windows
    multi_label: bool  # True: any number of labels per clip (sigmoid, binary cross-entropy); False: one (softmax)
    headline: str  # the metric that the results table shows, a key of `metrics.scores`
    keep_level: bool  # a clip's level says something about its label ("loud", "quiet"); else models remove it
    mel: tuple[int, int, int]  # FFT length and hop in samples, number of mel bands of the models' front end
    batch: int  # clips per training step; a clip of many windows is many examples

    @property
    def second(self) -> str:
        """The metric beside the headline."""
        return {"top1": "top3", "roc_auc": "pr_auc"}[self.headline]


TASKS = {
    task.name: task
    for task in (
        Task("nsynth", "Instrument families (NSynth)", NSYNTH_FAMILIES, 16_000, 64_000, 64_000, False, "top1", False,
             (1024, 512, 64), 32),
        Task("magnatagatune", "Music tags (MagnaTagATune)", TAGS, 12_000, 349_500, 34_950, True, "roc_auc", True,
             (1024, 512, 64), 8),
        Task("languages", "Spoken languages", LANGUAGES, 8_000, 40_000, 40_000, False, "top1", False,
             (512, 200, 64), 16),
    )
}  # fmt: skip


def get_task(name: str) -> Task:
    """The task called `name`; ValueError if there is none."""
    if name not in TASKS:
        raise ValueError(f"TASK: found {name!r}, expected one of {', '.join(TASKS)}.")
    return TASKS[name]


def subset(classes: tuple[str, ...], wanted: str) -> tuple[str, ...]:
    """The classes named in `wanted`, such as "en,es", in the order given there; "" keeps all.

    Raises
    ------
    ValueError
        If a name is not among `classes`, is given twice, or fewer than two are left.
    """
    names = tuple(part.strip() for part in wanted.split(",") if part.strip()) or classes
    if len(names) < 2 or len(set(names) & set(classes)) < len(names):
        raise ValueError(
            f"CLASSES: found {wanted!r}, expected two or more different names out of {', '.join(classes)}, "
            "separated by commas."
        )
    return names
